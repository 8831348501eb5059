//! Networks.

use std::sync::Arc;

use crate::call::Call;
use crate::reply::{Answer, Reply};
use crate::versions::{self, Resource};
use api::network::{ConnectRequest, CreateRequest, DisconnectRequest};
use hyper::StatusCode;

pub(crate) async fn list(call: Call) -> Answer {
    let filters = call.query.filters()?;
    versions::json_list(call.version, Resource::Network, &call.engine.networks().list(&filters).await?)
}

/// Of this engine alone.
pub(crate) async fn ports(call: Call) -> Answer {
    let filters = call.query.filters()?;
    Reply::json(&call.engine.networks().ports(&filters).await?)
}

pub(crate) async fn inspect(call: Call, id: &str) -> Answer {
    versions::json(call.version, Resource::Network, &call.engine.networks().inspect(id).await?)
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let body: CreateRequest = call.json().await?;
    let engine = Arc::clone(&call.engine);
    let created = call.keep(async move { engine.networks().create(body).await }).await?;
    Reply::json_with(StatusCode::CREATED, &created)
}

pub(crate) async fn remove(call: Call, id: &str) -> Answer {
    let (engine, id) = (Arc::clone(&call.engine), id.to_owned());
    call.keep(async move { engine.networks().remove(&id).await }).await?;
    Reply::no_content()
}

pub(crate) async fn prune(call: Call) -> Answer {
    let filters = call.query.filters()?;
    let engine = Arc::clone(&call.engine);
    Reply::json(&call.keep(async move { engine.networks().prune(&filters).await }).await?)
}

pub(crate) async fn connect(mut call: Call, id: &str) -> Answer {
    let body: ConnectRequest = call.json().await?;
    let (engine, id) = (Arc::clone(&call.engine), id.to_owned());
    call.keep(async move {
        let settings = body.endpoint_config.unwrap_or_default();
        engine.containers().connect(&body.container, &id, &settings).await
    })
    .await?;
    Reply::ok()
}

pub(crate) async fn disconnect(mut call: Call, id: &str) -> Answer {
    let body: DisconnectRequest = call.json().await?;
    let (engine, id) = (Arc::clone(&call.engine), id.to_owned());
    call.keep(async move {
        match engine.containers().disconnect(&body.container, &id).await {
            // Nothing is left of it that could be cut off.
            Err(engine::Error::NotFound(_)) if body.force => Ok(()),
            other => other,
        }
    })
    .await?;
    Reply::ok()
}
