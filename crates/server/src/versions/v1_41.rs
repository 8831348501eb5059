//! 1.41 brought cgroup namespaces.

use api::container::CreateRequest;

pub(super) fn create(body: &mut CreateRequest) {
    if let Some(host) = &mut body.host_config
        && host.cgroupns_mode.is_empty()
    {
        host.cgroupns_mode = "host".to_owned();
    }
}
