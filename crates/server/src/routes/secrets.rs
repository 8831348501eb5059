//! Secrets.

use crate::call::Call;
use crate::failure::Failure;
use crate::reply::{Answer, Reply};
use api::Filters;
use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) async fn list(call: Call) -> Answer {
    let filters: Filters = call.query.filters()?;
    Reply::json(&call.engine.secrets().list(filters).await?)
}

pub(crate) async fn inspect(call: Call, name: &str) -> Answer {
    Reply::json(&call.engine.secrets().inspect(name).await?)
}

/// The body is the secret, and nothing else: no copy of it is made in JSON.
pub(crate) async fn create(call: Call) -> Answer {
    let name = call.query.get("name").to_owned();
    let labels: BTreeMap<String, String> = call
        .query
        .all("label")
        .map(|label| label.split_once('=').unwrap_or((label, "")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let engine = Arc::clone(&call.engine);
    let body = Limited::new(call.body, engine::secrets::BYTES_MAX + 1).collect().await;
    let data = body.map_err(|error| Failure::invalid(format!("cannot read the secret: {error}")))?;
    let data = data.to_bytes().to_vec();
    let secret = engine.secrets().create(&name, labels, data).await?;
    Reply::json_with(StatusCode::CREATED, &secret)
}

pub(crate) async fn remove(call: Call, name: &str) -> Answer {
    call.engine.secrets().remove(name).await?;
    Reply::no_content()
}
