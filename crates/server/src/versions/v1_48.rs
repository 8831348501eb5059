//! 1.48 brought descriptors of images' content, and networks without IPv4.

use super::{Object, Resource, object, objects};

pub(super) fn answer(resource: Resource, answer: &mut Object) {
    match resource {
        Resource::ImageSummary => drop(answer.remove("Descriptor")),
        Resource::ImageInspect => {
            answer.remove("Descriptor");
            answer.remove("Manifests");
        }
        Resource::ContainerSummary | Resource::ContainerInspect => {
            answer.remove("ImageManifestDescriptor");
            if let Some(network) = object(answer, "NetworkSettings") {
                for endpoint in objects(network, "Networks") {
                    endpoint.remove("GwPriority");
                }
            }
        }
        Resource::Network => drop(answer.remove("EnableIPv4")),
        _ => {}
    }
}
