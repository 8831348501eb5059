//! What is to be known of containers.

use crate::call::Call;
use crate::reply::{Answer, Reply};
use crate::versions::{self, Resource};
use engine::containers::ListOptions;
use std::sync::Arc;

/// What `top` shows where nothing else was asked for.
const PS_ARGS: &str = "-ef";

pub(crate) async fn list(call: Call) -> Answer {
    let mut filters = call.query.filters()?;
    for name in ["since", "before"] {
        // Filters of their own once.
        if let Some(value) = call.query.text(name) {
            filters.add(name, value);
        }
    }
    let limit: Option<i64> = call.query.number("limit")?;
    let options = ListOptions {
        all: call.query.flag("all"),
        limit: limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0),
        size: call.query.flag("size"),
        filters,
    };
    let containers = call.engine.containers().list(options).await?;
    versions::json_list(call.version, Resource::ContainerSummary, &containers)
}

pub(crate) async fn inspect(call: Call, id: &str) -> Answer {
    let container = call.engine.containers().inspect(id, call.query.flag("size")).await?;
    versions::json(call.version, Resource::ContainerInspect, &container)
}

pub(crate) async fn top(call: Call, id: &str) -> Answer {
    let ps_args = call.query.text("ps_args").unwrap_or(PS_ARGS);
    Reply::json(&call.engine.containers().top(id, ps_args).await?)
}

pub(crate) async fn prune(call: Call) -> Answer {
    let filters = call.query.filters()?;
    let engine = Arc::clone(&call.engine);
    Reply::json(&call.keep(async move { engine.containers().prune(&filters).await }).await?)
}
