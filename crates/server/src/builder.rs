//! The engine as who builds behind BuildKit's API.

use build::progress::Teller;
use build::request::{Outcome, Request, SharedSources, Task};
use buildkit::{Builder, Failure, Kept, Service, Worker};
use engine::{Engine, Error};
use oci::Platform;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Where the contexts are that clients have sent, in the engine's root.
const CONTEXTS: &str = "contexts";

/// BuildKit's API over an engine.
///
/// # Errors
/// There is no place for contexts.
pub(crate) async fn service(
    engine: &Arc<Engine>,
    data_root: &Path,
    shutdown: CancellationToken,
) -> Result<Arc<Service>, Error> {
    let place = data_root.join(CONTEXTS);
    let kept = engine::blocking::run("open the place for build contexts", move || {
        let opened = Kept::open(&place);
        opened.map_err(|error| Error::system(format!("cannot use {}: {}", place.display(), error.chain())))
    });
    let builder = EngineBuilder { engine: Arc::clone(engine) };
    Ok(Service::new(Arc::new(builder), kept.await?, shutdown))
}

/// An engine that builds.
#[derive(Debug)]
struct EngineBuilder {
    engine: Arc<Engine>,
}

impl Builder for EngineBuilder {
    fn build(
        &self,
        request: Request,
        sources: SharedSources,
        teller: Teller,
    ) -> Task<'_, Result<Outcome, Failure>> {
        Box::pin(async move {
            let built = self.engine.builds().build(request, sources, teller).await;
            built.map_err(|failed| Failure { message: failed.error.chain(), place: failed.place })
        })
    }

    fn worker(&self) -> Task<'_, Result<Worker, Failure>> {
        Box::pin(async move {
            let info = self.engine.system().info().await;
            let info = info.map_err(|error| Failure { message: error.chain(), place: None })?;
            Ok(Worker {
                id: info.id,
                hostname: info.name,
                platforms: vec![Platform::host()],
                host_gateway: self.engine.networks().host_gateways().first().copied(),
            })
        })
    }
}
