//! Sockets by which netd speaks to containers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::speaker;
use crate::firewall::Protocol;

/// Where a port leads.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The container.
    pub to: SocketAddr,
    /// Whether it is spoken to by the client's address.
    pub as_client: bool,
}

/// A socket for what `client` says: on its way to be connected, if it is a stream's, and never waiting. If it speaks for the client, by
/// the client's own port where it can be had (some servers trust low ones), and else by another.
pub fn connect(protocol: Protocol, target: Target, client: SocketAddr) -> io::Result<OwnedFd> {
    let Some(client) = speaker(client, target.to).filter(|_| target.as_client) else {
        let socket = open(protocol, target.to)?;
        return Ok(begin(&socket, target.to).map(|()| socket)?);
    };
    match connect_by(protocol, target.to, client) {
        // The port is somebody's on this host, or the same conversation has only just ended.
        Err(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL) => {
            Ok(connect_by(protocol, target.to, SocketAddr::new(client.ip(), 0))?)
        }
        other => Ok(other?),
    }
}

fn connect_by(protocol: Protocol, to: SocketAddr, client: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = open(protocol, to)?;
    sys::inet::set_transparent(&socket, to.is_ipv6())
        .map_err(|error| error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))?;
    if protocol == Protocol::Tcp {
        // Conversations of the same client with others are no hindrance.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &client)?;
    begin(&socket, to)?;
    Ok(socket)
}

fn open(protocol: Protocol, to: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if protocol == Protocol::Udp { SocketType::DGRAM } else { SocketType::STREAM };
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

fn begin(socket: &OwnedFd, to: SocketAddr) -> Result<(), Errno> {
    match rustix::net::connect(socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(()),
        Err(error) => Err(error),
    }
}
