//! 1.49 brought the firewall to `info`, and took away which commits were expected and which artifacts were not to be
//! distributed.

use super::{Object, Resource, fill, object};
use serde_json::json;

pub(super) fn answer(resource: Resource, answer: &mut Object) {
    if resource != Resource::Info {
        return;
    }
    answer.remove("FirewallBackend");
    for name in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
        if let Some(commit) = object(answer, name) {
            let id = commit.get("ID").cloned().unwrap_or_else(|| json!(""));
            fill(commit, [("Expected", id)]);
        }
    }
    if let Some(registry) = object(answer, "RegistryConfig") {
        fill(
            registry,
            [
                ("AllowNondistributableArtifactsCIDRs", json!(null)),
                ("AllowNondistributableArtifactsHostnames", json!(null)),
            ],
        );
    }
}
