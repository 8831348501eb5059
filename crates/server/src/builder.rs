//! The engine as who builds behind BuildKit's API.

use build::output::Export;
use build::progress::Teller;
use build::request::{Request, SharedSources, Task};
use buildkit::{Builder, Built, Cached, Failure, Kept, Look, Prune, Service, SharedBuilt, Told, Worker};
use engine::builds::{CacheEntry, PruneOptions};
use engine::{Engine, Error};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use tokio_util::sync::CancellationToken;

/// Where the contexts are that clients have sent, in the engine's root.
const CONTEXTS: &str = "contexts";

/// BuildKit's API over an engine.
///
/// # Errors
/// The thread that prepares the place for contexts has panicked.
pub(crate) async fn service(
    engine: &Arc<Engine>,
    data_root: &Path,
    shutdown: CancellationToken,
) -> Result<Arc<Service>, Error> {
    let place = data_root.join(CONTEXTS);
    let kept = engine::blocking::run("open the place for build contexts", move || Ok(Kept::open(&place)));
    let builder = EngineBuilder { engine: Arc::clone(engine) };
    Ok(Service::new(Arc::new(builder), kept.await?, shutdown))
}

/// What an engine has built.
#[derive(Debug)]
struct EngineBuilt(Arc<engine::builds::Built>);

impl Built for EngineBuilt {
    fn export<'a>(&'a self, export: &'a Export, teller: Teller) -> Task<'a, Result<Told, Failure>> {
        Box::pin(async move {
            let told = self.0.export(export, teller).await;
            told.map_err(|error| Failure { message: error.chain(), place: None })
        })
    }

    fn look(&self, look: Look) -> Task<'_, Result<(), Failure>> {
        Box::pin(async move {
            let looked = self.0.look(look).await;
            looked.map_err(|error| Failure { message: error.chain(), place: None })
        })
    }
}

/// An engine that builds.
#[derive(Debug)]
struct EngineBuilder {
    engine: Arc<Engine>,
}

impl Builder for EngineBuilder {
    fn gather(
        &self,
        request: Request,
        sources: SharedSources,
        teller: Teller,
    ) -> Task<'_, Result<(Request, SharedSources), Failure>> {
        Box::pin(async move {
            let gathered = self.engine.builds().gather(request, sources, &teller).await;
            gathered
                .map_err(|failed| Failure { message: failed.error.chain_with_hint(), place: failed.place })
        })
    }

    fn build(
        &self,
        request: Request,
        sources: SharedSources,
        teller: Teller,
    ) -> Task<'_, Result<SharedBuilt, Failure>> {
        Box::pin(async move {
            let built = self.engine.builds().solve(request, sources, teller).await;
            let built = built
                .map_err(|failed| Failure { message: failed.error.chain_with_hint(), place: failed.place })?;
            Ok(Arc::new(EngineBuilt(built)) as SharedBuilt)
        })
    }

    fn cached(&self) -> Task<'_, Result<Vec<Cached>, Failure>> {
        Box::pin(async move {
            let entries = self.engine.builds().cache().await;
            let entries = entries.map_err(|error| Failure { message: error.chain(), place: None })?;
            Ok(entries.into_iter().map(cached).collect())
        })
    }

    fn prune(&self, prune: Prune) -> Task<'_, Result<Vec<Cached>, Failure>> {
        Box::pin(async move {
            let mut before = self.cached().await?;
            let unused_s = i64::try_from(prune.keep_for.as_secs()).ok().filter(|seconds| *seconds > 0);
            let options = PruneOptions {
                all: prune.all,
                keep_bytes: prune.keep_bytes,
                unused_s,
                only: prune.only,
                ..PruneOptions::default()
            };
            let pruned = self.engine.builds().prune(options).await;
            let (gone, _) = pruned.map_err(|error| Failure { message: error.chain(), place: None })?;
            before.retain(|entry| gone.contains(&entry.id));
            Ok(before)
        })
    }

    fn worker(&self) -> Task<'_, Result<Worker, Failure>> {
        Box::pin(async move {
            let info = self.engine.system().info().await;
            let info = info.map_err(|error| Failure { message: error.chain(), place: None })?;
            Ok(Worker {
                id: info.id,
                hostname: info.name,
                platforms: engine::builds::platforms(),
                host_gateway: self.engine.networks().host_gateways().first().copied(),
            })
        })
    }
}

/// An entry of the build cache, as BuildKit's clients are told of it.
pub(crate) fn cached(entry: CacheEntry) -> Cached {
    Cached {
        created: entry.created.parse::<jiff::Timestamp>().ok().map(SystemTime::from),
        used: jiff::Timestamp::from_second(entry.used_s).ok().map(SystemTime::from),
        kind: entry.kind.name(),
        id: entry.id,
        description: entry.description,
        bytes: entry.bytes,
        shared: entry.shared,
        in_use: entry.in_use,
        uses: entry.uses,
    }
}
