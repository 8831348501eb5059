//! BuildKit's API: connections that go on in HTTP/2.

use crate::call::Call;
use crate::connection::hijack::Client;
use crate::failure::Failure;
use crate::reply::Answer;
use buildkit::Introduction;
use hyper::header;
use std::sync::Arc;

/// HTTP/2 without TLS of its own, as HTTP calls it.
const PROTOCOL: &str = "h2c";

/// Refuses who does not ask to go on in HTTP/2.
fn check(call: &Call) -> Result<(), Failure> {
    match call.header(header::UPGRADE.as_str()) {
        PROTOCOL => Ok(()),
        "" => Err(Failure::invalid("no upgrade proto in request")),
        other => Err(Failure::invalid(format!("protocol {other} not supported"))),
    }
}

/// The client calls us.
pub(crate) async fn grpc(call: Call) -> Answer {
    check(&call)?;
    let (service, hijack) = (Arc::clone(&call.buildkit), call.hijack.clone());
    drop(call);
    let work = async move |client| {
        if let Err(error) = buildkit::serve(client, service).await {
            tracing::debug!(error = %error.chain(), "a client of BuildKit's API has ended");
        }
    };
    hijack.upgrade(PROTOCOL, move |client| Box::pin(work(client))).await
}

/// We call the client.
pub(crate) async fn session(call: Call) -> Answer {
    check(&call)?;
    let mut introduction =
        Introduction::read(&call.parts.headers).map_err(|error| Failure::invalid(error.chain()))?;
    let (service, hijack, shutdown) =
        (Arc::clone(&call.buildkit), call.hijack.clone(), call.shutdown.clone());
    drop(call);
    let work = async move |client: Client| {
        if introduction.offers_directories() {
            match client.process() {
                Ok(process) => introduction.take_directories(process),
                Err(error) => {
                    tracing::debug!(%error, "no directories are taken of a client that is not known");
                }
            }
        }
        if let Err(error) = service.sessions().serve(client, introduction, &shutdown).await {
            tracing::debug!(error = %error.chain(), "a session has ended");
        }
    };
    hijack.upgrade(PROTOCOL, move |client| Box::pin(work(client))).await
}
