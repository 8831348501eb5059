//! 1.45 took the container that an image was built in away, and the short id from an endpoint's aliases; it brought
//! paths inside volumes.

use super::{Object, Resource, fill, object, objects};
use api::container::CreateRequest;
use serde_json::{Value, json};

/// Digits of a short id.
const SHORT: usize = 12;

pub(super) fn answer(resource: Resource, answer: &mut Object) {
    match resource {
        Resource::ImageInspect => {
            fill(answer, [("Container", json!("")), ("ContainerConfig", api_config())]);
        }
        Resource::ContainerInspect => {
            let short: String =
                answer.get("Id").and_then(Value::as_str).unwrap_or("").chars().take(SHORT).collect();
            let Some(network) = object(answer, "NetworkSettings") else { return };
            for endpoint in objects(network, "Networks") {
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
    serde_json::to_value(api::container::Config::default()).unwrap_or_default()
}

pub(super) fn create(body: &mut CreateRequest) {
    let Some(host) = &mut body.host_config else { return };
    for volume in host.mounts.iter_mut().filter_map(|mount| mount.volume_options.as_mut()) {
        volume.subpath.clear();
    }
}
