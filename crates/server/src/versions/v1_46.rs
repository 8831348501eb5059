//! 1.46 brought containerd to `info`, and annotations to the list of containers.

use super::{Object, Resource, object};

pub(super) fn answer(resource: Resource, answer: &mut Object) {
    match resource {
        Resource::Info => drop(answer.remove("Containerd")),
        Resource::ContainerSummary => {
            if let Some(host) = object(answer, "HostConfig") {
                host.remove("Annotations");
            }
        }
        _ => {}
    }
}
