//! Paths of what this engine does not have: refused by name, never by silence.

use crate::failure::Failure;
use crate::reply::{Answer, Reply};
use hyper::{Method, StatusCode};
use serde_json::json;

/// Swarm's own refusal, that clients know.
pub(crate) fn not_a_manager() -> Failure {
    Failure::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to \
         swarm and try again.",
    )
}

/// Answers what no other route does.
pub(crate) fn route(method: &Method, segments: &[&str]) -> Answer {
    let absent = |what| Err(Failure::absent(what));
    match (method.as_str(), segments) {
        ("POST", ["build", "cancel"]) => absent("cancelling a build by its id"),
        ("GET", ["plugins"]) => Reply::json(&json!([])),
        ("GET", ["plugins", name @ .., "json"]) if !name.is_empty() => {
            Err(Failure::new(StatusCode::NOT_FOUND, format!("plugin {:?} not found", name.join("/"))))
        }
        (_, ["plugins", ..]) => absent("plugins"),
        ("POST", ["swarm", "init"]) => absent("swarm init"),
        ("POST", ["swarm", "join"]) => absent("swarm join"),
        ("POST", ["swarm", "leave"]) => {
            Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "This node is not part of a swarm"))
        }
        (_, ["swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs", ..]) => Err(not_a_manager()),
        _ => Err(Failure::page_not_found()),
    }
}
