//! Networks: those that every engine has.

use crate::call::Call;
use crate::failure::Failure;
use crate::reply::{Answer, Reply};
use crate::versions::{self, Resource};
use api::network::PruneReport;
use hyper::StatusCode;

pub(crate) async fn list(call: Call) -> Answer {
    let filters = call.query.filters()?;
    versions::json_list(call.version, Resource::Network, &call.engine.networks().list(&filters).await?)
}

pub(crate) async fn inspect(call: Call, id: &str) -> Answer {
    versions::json(call.version, Resource::Network, &call.engine.networks().inspect(id).await?)
}

pub(crate) async fn remove(call: Call, id: &str) -> Answer {
    let name = call.engine.networks().inspect(id).await?.network.name;
    Err(Failure::new(StatusCode::FORBIDDEN, format!("{name} is a pre-defined network and cannot be removed")))
}

/// Those that every engine has are never pruned.
pub(crate) fn prune(call: &Call) -> Answer {
    call.query.filters()?.validate(&["label", "label!", "until"])?;
    Reply::json(&PruneReport::default())
}
