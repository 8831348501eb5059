//! Commands in running containers.

use crate::attach;
use crate::call::Call;
use crate::failure::Failure;
use crate::reply::{Answer, Reply};
use api::exec::{CreateRequest, StartRequest};
use engine::execs::Started;
use hyper::StatusCode;
use std::sync::Arc;

pub(crate) async fn create(mut call: Call, container: &str) -> Answer {
    let mut body: CreateRequest = call.json_required().await?;
    if body.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(Failure::invalid("No exec command specified"));
    }
    attach::keys(&body.detach_keys)?;
    if call.version.before(42) {
        body.console_size = None;
    }
    let (engine, container) = (Arc::clone(&call.engine), container.to_owned());
    let created = call.keep(async move { engine.execs().create(&container, body).await }).await?;
    Reply::json_with(StatusCode::CREATED, &created)
}

pub(crate) async fn start(mut call: Call, id: &str) -> Answer {
    let mut body: StartRequest = call.json().await?;
    if call.version.before(42) {
        body.console_size = None;
    }
    let known = call.engine.execs().inspect(id).await?;
    let (engine, id) = (Arc::clone(&call.engine), id.to_owned());
    match call.keep(async move { engine.execs().start(&id, body).await }).await? {
        Started::Detached => Reply::ok(),
        Started::Attached(attachment) => {
            let keys = if known.detach_keys.is_empty() { attach::keys("")? } else { known.detach_keys };
            attach::hijack(call, attachment, known.open_stdin, keys).await
        }
    }
}

pub(crate) async fn resize(call: Call, id: &str) -> Answer {
    let (height, width) = size(&call)?;
    call.engine.execs().resize(id, height, width).await?;
    Reply::ok()
}

/// A terminal's size.
pub(crate) fn size(call: &Call) -> Result<(u32, u32), Failure> {
    let read = |name: &str, what: &str| {
        let text = call.query.get(name);
        text.parse().map_err(|_| Failure::invalid(format!("invalid resize {what} {text:?}: invalid syntax")))
    };
    Ok((read("h", "height")?, read("w", "width")?))
}

pub(crate) async fn inspect(call: Call, id: &str) -> Answer {
    Reply::json(&call.engine.execs().inspect(id).await?)
}
