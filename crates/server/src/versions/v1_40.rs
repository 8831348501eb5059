//! 1.40 made a container's IPC private by default, and brought bind mounts that leave out what is mounted below.

use api::container::CreateRequest;

pub(super) fn create(body: &mut CreateRequest) {
    let Some(host) = &mut body.host_config else { return };
    if host.ipc_mode.is_empty() {
        host.ipc_mode = "shareable".to_owned();
    }
    for bind in host.mounts.iter_mut().filter_map(|mount| mount.bind_options.as_mut()) {
        bind.non_recursive = false;
    }
}
