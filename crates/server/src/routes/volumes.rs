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

/// The name of what is made, as the query has it.
fn new_name(call: &Call) -> String {
    call.query.get("name").to_owned()
}

pub(crate) async fn clone(call: Call, name: &str) -> Answer {
    let (engine, from, to) = (Arc::clone(&call.engine), name.to_owned(), new_name(&call));
    let volume = call.keep(async move { engine.volumes().clone_to(&from, &to).await }).await?;
    Reply::json_with(StatusCode::CREATED, &volume)
}

pub(crate) async fn snapshot(call: Call, name: &str) -> Answer {
    let (engine, from, to) = (Arc::clone(&call.engine), name.to_owned(), new_name(&call));
    let volume = call.keep(async move { engine.volumes().snapshot(&from, &to).await }).await?;
    Reply::json_with(StatusCode::CREATED, &volume)
}

pub(crate) async fn rename(call: Call, name: &str) -> Answer {
    let (engine, from, to) = (Arc::clone(&call.engine), name.to_owned(), new_name(&call));
    call.keep(async move { engine.volumes().rename(&from, &to).await }).await?;
    Reply::no_content()
}

pub(crate) async fn export(call: Call, name: &str) -> Answer {
    super::archives::archive(super::archives::TAR, call.engine.export_volume(name).await?)
}

pub(crate) async fn import(call: Call, name: &str) -> Answer {
    let (sender, inlet) = super::archives::Sender::new(&call.tasks, call.body);
    let imported = call.engine.volumes().import(name, inlet).await;
    sender.done().await;
    Reply::json_with(StatusCode::CREATED, &imported?)
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
