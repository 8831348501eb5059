//! What is done to containers. A client that goes away does not undo it.

use crate::call::Call;
use crate::failure::Failure;
use crate::reply::{Answer, Reply};
use crate::routes::exec::size;
use crate::versions;
use api::container::{Config, CreateRequest, UpdateRequest};
use bytes::Bytes;
use engine::containers::{RemoveOptions, StopOptions, WaitCondition};
use hyper::StatusCode;
use hyper::body::Body as _;
use std::sync::Arc;

/// A body shorter than this is what clients of old send where they mean none (`null`, `{}`).
const EMPTY_BODY_MAX: u64 = 7;

pub(crate) async fn create(mut call: Call) -> Answer {
    let body: Option<CreateRequest> = call.json_required().await?;
    let mut body = body.unwrap_or_default();
    if body.config == Config::default() {
        return Err(Failure::invalid("config cannot be empty in order to create a container"));
    }
    versions::upgrade_create(call.version, &mut body);
    let name = call.query.text("name").map(str::to_owned);
    let platform = call.query.text("platform").filter(|_| call.version.from(41)).map(str::to_owned);
    let engine = Arc::clone(&call.engine);
    let created = call
        .keep(async move { engine.containers().create(name.as_deref(), platform.as_deref(), body).await })
        .await?;
    Reply::json_with(StatusCode::CREATED, &created)
}

pub(crate) async fn start(call: Call, id: &str) -> Answer {
    if call.body.size_hint().exact().is_none_or(|length| length > EMPTY_BODY_MAX) {
        return Err(Failure::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    if call.query.text("checkpoint").is_some() || call.query.text("checkpoint-dir").is_some() {
        return Err(Failure::absent("starting from a checkpoint"));
    }
    crate::attach::keys(call.query.get("detachKeys"))?;
    let (engine, id) = (Arc::clone(&call.engine), id.to_owned());
    call.keep(async move { engine.containers().start(&id).await }).await?;
    Reply::no_content()
}

/// How to stop.
fn stop_options(call: &Call) -> Result<StopOptions, Failure> {
    let signal = call.query.text("signal").filter(|_| call.version.from(42)).map(str::to_owned);
    Ok(StopOptions { signal, timeout_s: call.query.number("t")? })
}

pub(crate) async fn stop(call: Call, id: &str) -> Answer {
    let options = stop_options(&call)?;
    let (engine, id) = (Arc::clone(&call.engine), id.to_owned());
    call.keep(async move { engine.containers().stop(&id, options).await }).await?;
    Reply::no_content()
}

pub(crate) async fn restart(call: Call, id: &str) -> Answer {
    let options = stop_options(&call)?;
    let (engine, id) = (Arc::clone(&call.engine), id.to_owned());
    call.keep(async move { engine.containers().restart(&id, options).await }).await?;
    Reply::no_content()
}

pub(crate) async fn kill(call: Call, id: &str) -> Answer {
    let signal = call.query.text("signal").map(str::to_owned);
    let (engine, id) = (Arc::clone(&call.engine), id.to_owned());
    call.keep(async move { engine.containers().kill(&id, signal.as_deref()).await }).await?;
    Reply::no_content()
}

pub(crate) async fn pause(call: Call, id: &str) -> Answer {
    let (engine, id) = (Arc::clone(&call.engine), id.to_owned());
    call.keep(async move { engine.containers().pause(&id).await }).await?;
    Reply::no_content()
}

pub(crate) async fn unpause(call: Call, id: &str) -> Answer {
    let (engine, id) = (Arc::clone(&call.engine), id.to_owned());
    call.keep(async move { engine.containers().unpause(&id).await }).await?;
    Reply::no_content()
}

pub(crate) async fn resize(call: Call, id: &str) -> Answer {
    let (height, width) = size(&call)?;
    call.engine.containers().resize(id, height, width).await?;
    Reply::ok()
}

pub(crate) async fn rename(call: Call, id: &str) -> Answer {
    let name = call.query.get("name").to_owned();
    let (engine, id) = (Arc::clone(&call.engine), id.to_owned());
    call.keep(async move { engine.containers().rename(&id, &name).await }).await?;
    Reply::no_content()
}

pub(crate) async fn update(mut call: Call, id: &str) -> Answer {
    let body: UpdateRequest = call.json_required().await?;
    let (engine, id) = (Arc::clone(&call.engine), id.to_owned());
    Reply::json(&call.keep(async move { engine.containers().update(&id, body).await }).await?)
}

pub(crate) async fn remove(call: Call, id: &str) -> Answer {
    let options = RemoveOptions {
        force: call.query.flag("force"),
        volumes: call.query.flag("v"),
        link: call.query.flag("link"),
    };
    let (engine, id) = (Arc::clone(&call.engine), id.to_owned());
    call.keep(async move { engine.containers().remove(&id, options).await }).await?;
    Reply::no_content()
}

/// The headers are sent when the wait is registered, so that a client that waits before it starts misses nothing.
pub(crate) async fn wait(call: Call, id: &str) -> Answer {
    let condition = if call.version.from(30) { call.query.get("condition") } else { "" };
    let waiting = call.engine.containers().wait(id, WaitCondition::parse(condition)?).await?;
    let shutdown = call.shutdown.clone();
    Reply::stream(
        "application/json",
        futures_util::stream::once(async move {
            tokio::select! {
                response = waiting.done() => Ok(Bytes::from(Reply::encode(&response))),
                // The container goes on; its end is not to be told by this daemon.
                () = shutdown.cancelled() => Err(std::io::Error::other("the daemon is ending")),
            }
        }),
    )
}
