//! 1.45 took the container that an image was built in away, and the short id from an endpoint's aliases; it brought
//! paths inside volumes.

use super::{Object, Resource, fill, object};
use api::container::CreateRequest;
use serde_json::{Value, json};

/// Digits of a short id.
const SHORT: usize = 12;
/// Networks on which nobody is found by a name.
const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

pub(super) fn answer(resource: Resource, answer: &mut Object) {
    match resource {
        Resource::ImageInspect => {
            fill(answer, [("Container", json!("")), ("ContainerConfig", api_config())]);
        }
        Resource::ContainerInspect => {
            let short: String =
                answer.get("Id").and_then(Value::as_str).unwrap_or("").chars().take(SHORT).collect();
            let Some(network) = object(answer, "NetworkSettings") else { return };
            let Some(networks) = object(network, "Networks") else { return };
            for (_, endpoint) in networks.iter_mut().filter(|(name, _)| !PREDEFINED.contains(&name.as_str()))
            {
                let Some(endpoint) = endpoint.as_object_mut() else { continue };
                match endpoint.get_mut("Aliases") {
                    Some(Value::Array(aliases)) => aliases.push(json!(short)),
                    _ => drop(endpoint.insert("Aliases".to_owned(), json!([short]))),
                }
            }
        }
        _ => {}
    }
}

/// The configuration of a container that never was.
fn api_config() -> Value {
    let mut config = serde_json::to_value(api::container::Config::default()).unwrap_or_default();
    for name in ["Env", "OnBuild", "Labels"] {
        config[name] = Value::Null;
    }
    config
}

pub(super) fn create(body: &mut CreateRequest) {
    let Some(host) = &mut body.host_config else { return };
    for volume in host.mounts.iter_mut().filter_map(|mount| mount.volume_options.as_mut()) {
        volume.subpath.clear();
    }
}
