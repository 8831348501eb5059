//! 1.43 brought annotations, and calls an image without a name nothing, where it was `<none>:<none>`.

use super::{Object, Resource};
use api::container::CreateRequest;
use serde_json::{Value, json};

pub(super) fn answer(resource: Resource, answer: &mut Object) {
    let is_empty = |name: &str| answer.get(name).and_then(Value::as_array).is_none_or(Vec::is_empty);
    if resource == Resource::ImageSummary && is_empty("RepoTags") && is_empty("RepoDigests") {
        answer.insert("RepoTags".to_owned(), json!(["<none>:<none>"]));
        answer.insert("RepoDigests".to_owned(), json!(["<none>@<none>"]));
    }
}

pub(super) fn create(body: &mut CreateRequest) {
    if let Some(host) = &mut body.host_config {
        host.annotations.clear();
    }
}
