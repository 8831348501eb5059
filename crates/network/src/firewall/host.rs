//! What the kernel is told outside packet filters, for the table to work: settings of the network namespace that the caller is in.

use std::io;
use std::path::PathBuf;

/// Sets `net.ipv4.conf.<bridge>.route_localnet`: what the host sends from 127.0.0.1 to a port of its own that is published leaves by the
/// bridge, and the answer comes back. What containers send from or to such an address is dropped by the table.
///
/// IPv6 has nothing like it: a port published at `[::1]` is not for packet filters.
pub fn allow_loopback(bridge: &str) -> io::Result<()> {
    // A name of a device has neither slashes nor is it `.` or `..`, but this need not be one.
    if bridge.is_empty() || bridge.contains('/') || bridge.starts_with('.') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let path: PathBuf = ["/proc/sys/net/ipv4/conf", bridge, "route_localnet"].iter().collect();
    std::fs::write(path, "1")
}

/// Has the host pass packets on. Returns whether it did not before: then it also passes on what has nothing to do with us, unless
/// [`super::Model::closed`] is set.
pub fn forward_v4() -> io::Result<bool> {
    switch_on("/proc/sys/net/ipv4/ip_forward")
}

/// As [`forward_v4`]. A host that passes IPv6 on no longer takes its own addresses and routes from routers' advertisements, unless
/// `accept_ra` of the device is 2.
pub fn forward_v6() -> io::Result<bool> {
    let before = switch_on("/proc/sys/net/ipv6/conf/default/forwarding")?;
    Ok(switch_on("/proc/sys/net/ipv6/conf/all/forwarding")? || before)
}

fn switch_on(path: &str) -> io::Result<bool> {
    if std::fs::read_to_string(path)?.trim() != "0" {
        return Ok(false);
    }
    std::fs::write(path, "1")?;
    Ok(true)
}
