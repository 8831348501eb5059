//! 1.42 took the limit of kernel memory and the sum of the build cache away, and brought the making of bind mounts' sources and the terminal's size at
//! creation.

use super::{Object, Resource, fill, object};
use api::container::CreateRequest;
use serde_json::json;

pub(super) fn answer(resource: Resource, answer: &mut Object) {
    match resource {
        Resource::ContainerInspect => {
            if let Some(host) = object(answer, "HostConfig") {
                fill(host, [("KernelMemory", json!(0))]);
            }
        }
        Resource::Info => fill(answer, [("KernelMemory", json!(false))]),
        Resource::DiskUsage => fill(answer, [("BuilderSize", json!(0))]),
        _ => {}
    }
}

pub(super) fn create(body: &mut CreateRequest) {
    let Some(host) = &mut body.host_config else { return };
    host.console_size = [0, 0];
    for bind in host.mounts.iter_mut().filter_map(|mount| mount.bind_options.as_mut()) {
        bind.create_mountpoint = false;
    }
}

/// From this version on it means nothing.
pub(super) fn forget(body: &mut CreateRequest) {
    if let Some(host) = &mut body.host_config {
        host.resources.kernel_memory = 0;
    }
}
