//! 1.43 brought annotations.

use api::container::CreateRequest;

pub(super) fn create(body: &mut CreateRequest) {
    if let Some(host) = &mut body.host_config {
        host.annotations.clear();
    }
}
