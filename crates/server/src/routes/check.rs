//! `POST /corten/check`: our own.

use bytes::Bytes;

use crate::call::Call;
use crate::failure::Failure;
use crate::reply::{Answer, Reply};
use engine::check::Options;

/// Checks the store, telling how far it is. A client that goes away ends it.
pub(crate) async fn check(call: Call) -> Answer {
    let options = Options { quick: call.query.flag("quick"), repair: call.query.flag("repair") };
    if let Some(unknown) = call.query.names().find(|name| !["quick", "repair"].contains(name)) {
        return Err(Failure::invalid(format!("unknown option of a check: {unknown}")));
    }
    let lines = call.engine.system().check(options);
    let state = (lines, call.shutdown.clone());
    Reply::stream(
        "application/x-ndjson",
        futures_util::stream::unfold(state, |(mut lines, shutdown)| async move {
            let line = tokio::select! {
                line = lines.recv() => line?,
                () = shutdown.cancelled() => return None,
            };
            Some((Ok(Bytes::from(Reply::encode(&line))), (lines, shutdown)))
        }),
    )
}
