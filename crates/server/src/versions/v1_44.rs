//! 1.44 took `VirtualSize` away; brought the names of endpoints, the interval of health checks at the start, and
//! read-only mounts that are so all the way down.

use super::{Object, Resource, fill, object, objects};
use api::container::CreateRequest;
use serde_json::json;

pub(super) fn answer(resource: Resource, answer: &mut Object) {
    match resource {
        Resource::ImageSummary | Resource::ImageInspect => {
            virtual_size(answer);
            if resource == Resource::ImageInspect {
                fill(answer, [("Created", json!(api::timestamp::ZERO))]);
            }
        }
        Resource::DiskUsage => objects(answer, "Images").for_each(virtual_size),
        Resource::ContainerSummary | Resource::ContainerInspect => {
            if let Some(network) = object(answer, "NetworkSettings") {
                for endpoint in objects(network, "Networks") {
                    endpoint.remove("DNSNames");
                }
            }
            if let Some(host) = object(answer, "HostConfig") {
                for mount in objects(host, "Mounts") {
                    if let Some(bind) = object(mount, "BindOptions") {
                        bind.remove("ReadOnlyNonRecursive");
                        bind.remove("ReadOnlyForceRecursive");
                    }
                }
            }
            if let Some(check) = object(answer, "Config").and_then(|config| object(config, "Healthcheck")) {
                check.remove("StartInterval");
            }
        }
        Resource::Info => {
            answer.remove("CDISpecDirs");
            for runtime in objects(answer, "Runtimes") {
                runtime.remove("status");
            }
        }
        _ => {}
    }
}

/// The size had a second name.
fn virtual_size(image: &mut Object) {
    if let Some(size) = image.get("Size").cloned() {
        image.insert("VirtualSize".to_owned(), size);
    }
}

pub(super) fn create(body: &mut CreateRequest) {
    if let Some(check) = &mut body.config.healthcheck {
        check.start_interval = 0;
    }
    let Some(host) = &mut body.host_config else { return };
    for mount in host.mounts.iter_mut().filter(|mount| mount.kind == "bind") {
        if let Some(bind) = &mut mount.bind_options {
            bind.read_only_non_recursive = false;
            bind.read_only_force_recursive = false;
        }
        if mount.read_only {
            mount.bind_options.get_or_insert_default().read_only_non_recursive = true;
        }
    }
}
