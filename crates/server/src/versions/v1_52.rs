//! 1.52 took away what had been deprecated for years: an event's second names, the default network's addresses beside the
//! networks, empty fields of images; and it tells of snapshots instead of storage drivers.

use super::{Object, Resource, fill, object};
use api::container::CreateRequest;
use serde_json::{Value, json};

/// The storage driver's name where a snapshot has none.
const SNAPSHOTTER: &str = "overlayfs";

pub(super) fn answer(resource: Resource, answer: &mut Object) {
    match resource {
        Resource::Event => event(answer),
        Resource::ContainerInspect => container(answer),
        Resource::ContainerSummary => drop(answer.remove("Health")),
        Resource::Network => {
            answer.remove("Status");
            // Lists had the field, and never anybody in it.
            fill(answer, [("Containers", json!({}))]);
        }
        Resource::ImageInspect => image(answer),
        Resource::Info => fill(answer, [("KernelMemoryTCP", json!(false))]),
        Resource::DiskUsage => {
            for name in ["ImageUsage", "ContainerUsage", "VolumeUsage", "BuildCacheUsage"] {
                answer.remove(name);
            }
        }
        _ => {}
    }
}

fn event(answer: &mut Object) {
    let kind = answer.get("Type").and_then(Value::as_str).unwrap_or("");
    if !matches!(kind, "container" | "image") {
        return;
    }
    let from = if kind == "container" {
        answer.get("Actor").and_then(|actor| actor.pointer("/Attributes/image"))
    } else {
        None
    };
    let id = answer.get("Actor").and_then(|actor| actor.get("ID"));
    let second = [("status", answer.get("Action").cloned()), ("id", id.cloned()), ("from", from.cloned())];
    for (name, value) in second {
        if let Some(value) = value {
            answer.insert(name.to_owned(), value);
        }
    }
}

fn container(answer: &mut Object) {
    if let Some(mut storage) = answer.remove("Storage") {
        let name =
            storage.pointer_mut("/RootFS/Snapshot/Name").map_or_else(|| json!(SNAPSHOTTER), Value::take);
        fill(answer, [("GraphDriver", json!({"Data": null, "Name": name}))]);
    }
    if let Some(config) = object(answer, "Config") {
        let place = config.keys().position(|name| name == "Labels").unwrap_or(config.len());
        if !config.contains_key("OnBuild") {
            config.shift_insert(place, "OnBuild".to_owned(), json!(null));
        }
    }
    if let Some(host) = object(answer, "HostConfig") {
        fill(host, [("KernelMemoryTCP", json!(0))]);
    }
    let Some(network) = object(answer, "NetworkSettings") else { return };
    // Of the default network alone: of others never more was told than in their own entries.
    let bridge = object(network, "Networks").and_then(|networks| object(networks, "bridge"));
    let bridge = bridge.map(|endpoint| endpoint.clone()).unwrap_or_default();
    let text = |name: &str| bridge.get(name).cloned().unwrap_or_else(|| json!(""));
    let number = |name: &str| bridge.get(name).cloned().unwrap_or_else(|| json!(0));
    fill(
        network,
        [
            ("Bridge", json!("")),
            ("HairpinMode", json!(false)),
            ("LinkLocalIPv6Address", json!("")),
            ("LinkLocalIPv6PrefixLen", json!(0)),
            ("SecondaryIPAddresses", json!(null)),
            ("SecondaryIPv6Addresses", json!(null)),
            ("EndpointID", text("EndpointID")),
            ("Gateway", text("Gateway")),
            ("GlobalIPv6Address", text("GlobalIPv6Address")),
            ("GlobalIPv6PrefixLen", number("GlobalIPv6PrefixLen")),
            ("IPAddress", text("IPAddress")),
            ("IPPrefixLen", number("IPPrefixLen")),
            ("IPv6Gateway", text("IPv6Gateway")),
            ("MacAddress", text("MacAddress")),
        ],
    );
}

fn image(answer: &mut Object) {
    fill(
        answer,
        [
            ("Parent", json!("")),
            ("Comment", json!("")),
            ("DockerVersion", json!("")),
            ("Author", json!("")),
            ("GraphDriver", json!({"Data": null, "Name": SNAPSHOTTER})),
        ],
    );
    if let Some(config) = object(answer, "Config") {
        fill(
            config,
            [
                ("Cmd", json!(null)),
                ("Entrypoint", json!(null)),
                ("Env", json!(null)),
                ("Labels", json!(null)),
                ("OnBuild", json!(null)),
                ("User", json!("")),
                ("Volumes", json!(null)),
                ("WorkingDir", json!("")),
            ],
        );
    }
}

/// From this version on it means nothing.
pub(super) fn forget(body: &mut CreateRequest) {
    body.config.mac_address.clear();
    if let Some(host) = &mut body.host_config {
        host.resources.kernel_memory_tcp = 0;
    }
}
