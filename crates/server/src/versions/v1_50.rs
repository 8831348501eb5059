//! 1.50 took away from an image's configuration what belongs to containers, and from `info` the bridge's netfilter.

use super::{Object, Resource, fill, object};
use serde_json::json;

pub(super) fn answer(resource: Resource, answer: &mut Object) {
    match resource {
        Resource::Info => {
            answer.remove("DiscoveredDevices");
            fill(answer, [("BridgeNfIptables", json!(false)), ("BridgeNfIp6tables", json!(false))]);
        }
        Resource::ImageInspect => {
            if let Some(config) = object(answer, "Config") {
                fill(
                    config,
                    [
                        ("Hostname", json!("")),
                        ("Domainname", json!("")),
                        ("AttachStdin", json!(false)),
                        ("AttachStdout", json!(false)),
                        ("AttachStderr", json!(false)),
                        ("Tty", json!(false)),
                        ("OpenStdin", json!(false)),
                        ("StdinOnce", json!(false)),
                        ("Image", json!("")),
                    ],
                );
            }
        }
        _ => {}
    }
}
