//! Commands in running containers.

use crate::attach;
use crate::call::Call;
use crate::connection::hijack::Client;
use crate::failure::Failure;
use crate::relay::{self, Terms};
use crate::reply::{Answer, Reply};
use api::exec::{CreateRequest, StartRequest};
use api::stream::{Stream, frame};
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
    let twice = |how: &str| Failure::new(StatusCode::CONFLICT, format!("exec command {} {how}", known.id));
    if known.running {
        return Err(twice("is already running"));
    }
    if known.exit_code.is_some() {
        return Err(twice("has already run"));
    }
    let (engine, id) = (Arc::clone(&call.engine), id.to_owned());
    if body.detach {
        call.keep(async move { engine.execs().start(&id, body).await }).await?;
        return Reply::ok();
    }
    // As in Docker the stream begins first: a client is ready for the output before there is any.
    let tty = known.process_config.tty;
    let keys = if known.detach_keys.is_empty() { attach::keys("")? } else { known.detach_keys };
    let terms =
        Terms { stdin: known.open_stdin, detach_keys: tty.then_some(keys), shutdown: call.shutdown.clone() };
    let (upgrade, content_type) = (attach::wants_upgrade(&call), attach::content_type(&call, tty));
    let hijack = call.hijack.clone();
    drop(call);
    let work = async move |client| match engine.execs().start(&id, body).await {
        Ok(Started::Attached(attachment)) => relay::attach(client, attachment, terms).await,
        Ok(Started::Detached) => {}
        Err(error) => tell(client, &error.chain(), tty).await,
    };
    hijack.take(upgrade, content_type, move |client| Box::pin(work(client))).await
}

/// Tells in the stream why there is none.
async fn tell(mut client: Client, text: &str, tty: bool) {
    let text = format!("{text}\r\n").into_bytes();
    let mut told = Vec::new();
    if tty {
        told = text;
    } else {
        frame(&mut told, Stream::Stdout, &text);
    }
    if client.write_all(&told).await.is_ok() {
        let _ = client.shutdown().await;
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
