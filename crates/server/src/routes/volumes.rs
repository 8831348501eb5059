//! Volumes.

use crate::call::Call;
use crate::failure::Failure;
use crate::reply::{Answer, Reply};
use api::volume::CreateRequest;
use hyper::StatusCode;
use std::sync::Arc;

pub(crate) async fn list(call: Call) -> Answer {
    let filters = call.query.filters()?;
    Reply::json(&call.engine.volumes().list(filters).await?)
}

pub(crate) async fn inspect(call: Call, name: &str) -> Answer {
    Reply::json(&call.engine.volumes().inspect(name).await?)
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let body: CreateRequest = call.json().await?;
    if body.cluster_volume_spec.is_some() {
        return Err(Failure::absent("cluster volumes (ClusterVolumeSpec)"));
    }
    let engine = Arc::clone(&call.engine);
    let volume = call.keep(async move { engine.volumes().create(body).await }).await?;
    Reply::json_with(StatusCode::CREATED, &volume)
}

pub(crate) async fn remove(call: Call, name: &str) -> Answer {
    let force = call.query.flag("force");
    let (engine, name) = (Arc::clone(&call.engine), name.to_owned());
    call.keep(async move { engine.volumes().remove(&name, force).await }).await?;
    Reply::no_content()
}

pub(crate) async fn prune(call: Call) -> Answer {
    let mut filters = call.query.filters()?;
    if call.version.before(42) {
        // Named volumes were pruned too.
        filters.add("all", "true");
    }
    let engine = Arc::clone(&call.engine);
    Reply::json(&call.keep(async move { engine.volumes().prune(filters).await }).await?)
}
