//! Commands in running containers.

use crate::attach;
use crate::call::Call;
use crate::failure::Failure;
use crate::reply::{Answer, Reply};
use api::exec::{CreateRequest, StartRequest};
use api::stream::{Stream, frame};
use engine::Kind;
use engine::execs::Started;
use hyper::StatusCode;
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;

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
    let (detach, tty) = (body.detach, known.process_config.tty);
    let (engine, owned) = (Arc::clone(&call.engine), id.to_owned());
    let started = call.tasks.spawn(async move { engine.execs().start(&owned, body).await }).await;
    let started = started
        .map_err(|_| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the operation ended unexpectedly"))?;
    match started {
        Ok(Started::Detached) => Reply::ok(),
        Ok(Started::Attached(attachment)) => {
            let keys = if known.detach_keys.is_empty() { attach::keys("")? } else { known.detach_keys };
            attach::hijack(call, attachment, known.open_stdin, keys).await
        }
        Err(error) if detach || matches!(error.kind(), Kind::NotFound | Kind::Conflict) => Err(error.into()),
        // A command that cannot be run is told of in its own stream; its exit code is found by inspecting it.
        Err(error) => {
            let text = format!("{}\r\n", error.chain()).into_bytes();
            let mut told = Vec::new();
            if tty {
                told = text;
            } else {
                frame(&mut told, Stream::Stdout, &text);
            }
            let (upgrade, content_type) = (attach::wants_upgrade(&call), attach::content_type(&call, tty));
            let hijack = call.hijack.clone();
            drop(call);
            hijack
                .take(upgrade, content_type, move |mut client| {
                    Box::pin(async move {
                        if client.write_all(&told).await.is_ok() {
                            let _ = client.shutdown().await;
                        }
                    })
                })
                .await
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
