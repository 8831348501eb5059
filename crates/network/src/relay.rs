//! Published ports that netd holds, and those that it serves: what packet filters cannot lead to a container, and what the host's own
//! rules for what comes in are to decide on.
//!
//! All sockets are made by the daemon. One that nobody serves only keeps others from the port.

mod outgoing;
mod tcp;
mod udp;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use ipnet::IpNet;
use rustix::net::{AddressFamily, SocketType, sockopt};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::firewall::Protocol;

/// How many connections there are at most, whatever the limit of descriptors: each may hold 600 KiB of what is on its way.
const CONNECTIONS_MAX: usize = 16 * 1024;
/// Each connection has two sockets and two pipes of two ends.
const CONNECTION_DESCRIPTORS: usize = 6;
/// How many clients that send datagrams are remembered at most.
const FLOWS_MAX: usize = 16 * 1024;
/// Of the descriptors this part is for connections, and this for datagrams; the rest is for listeners and names.
const CONNECTIONS_PART: usize = 2;
const FLOWS_PART: usize = 8;
/// Where the limit of descriptors cannot be read.
const DESCRIPTORS_LEAST: u64 = 1024;

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Port {
    /// Of which protocol.
    pub protocol: Protocol,
    /// Where on the host; an unspecified address is all of its version.
    pub at: SocketAddr,
    /// Where it leads. Nowhere if the port is only held: then packet filters lead to the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<SocketAddr>,
    /// Whether the container is spoken to by the client's address, where that has the same version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub as_client: bool,
}

impl Port {
    /// Whether both are the same port of the host.
    pub fn is_at(&self, other: &Self) -> bool {
        (self.protocol, self.at) == (other.protocol, other.at)
    }

    /// Whether there can be such a port, and netd can serve it.
    pub fn is_possible(&self) -> bool {
        let to = self
            .to
            .is_none_or(|to| to.port() > 0 && !to.ip().is_unspecified() && self.protocol != Protocol::Sctp);
        self.at.port() > 0 && to
    }
}

/// A client's address, if a container can be spoken to by it at `to`.
fn speaker(client: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
    let beyond = match client.ip() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    };
    (!beyond && client.is_ipv4() == to.is_ipv4()).then_some(client)
}

/// Published ports, by the ids of containers. Everything happens in the thread that it is made in, within a
/// [`LocalSet`](tokio::task::LocalSet).
#[derive(Debug)]
pub struct Relays {
    shared: Rc<Shared>,
    containers: HashMap<String, Vec<Open>>,
}

/// What all ports have in common.
#[derive(Debug)]
struct Shared {
    connections: Arc<Semaphore>,
    connections_each: usize,
    flows: Arc<Semaphore>,
    /// Clients there are not served.
    refused: RefCell<Vec<IpNet>>,
    /// Those beyond these devices neither, whatever addresses they have.
    refused_devices: RefCell<Vec<String>>,
    /// Nobody is spoken for who says to be there.
    own: RefCell<Vec<IpNet>>,
    pipes: tcp::Pipes,
    buffer: udp::Buffer,
    /// What served ports that are closed, which have their sockets until they are next run.
    ending: RefCell<Vec<JoinHandle<()>>>,
}

/// So many ports are served at least, whatever is done to the others.
const PORTS_AT_LEAST: usize = 8;

/// A port, and what holds it.
#[derive(Debug)]
struct Open {
    port: Port,
    socket: OwnedFd,
    _serving: Option<Serving>,
}

/// A port is served as long as this is there.
#[derive(Debug)]
struct Serving {
    shared: Rc<Shared>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            self.shared.ending.borrow_mut().push(task);
        }
    }
}

impl Shared {
    /// Where a client is led to: what comes from outside and says to be a container is not taken for one by the others.
    fn target(&self, target: outgoing::Target, client: SocketAddr) -> outgoing::Target {
        let client = client.ip().to_canonical();
        let forged = self.own.borrow().iter().any(|subnet| subnet.contains(&client));
        outgoing::Target { as_client: target.as_client && !forged, ..target }
    }

    /// Whether a client is not served that `socket` has heard of, by the device with the number `device` if it is known.
    fn refuses(&self, socket: impl AsFd, client: SocketAddr, device: u32) -> bool {
        let scope = match client {
            SocketAddr::V6(v6) => v6.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        let number = if scope > 0 { scope } else { device };
        let devices = self.refused_devices.borrow();
        if number > 0 && !devices.is_empty() {
            // One that is gone has nobody beyond it.
            let name = rustix::net::netdevice::index_to_name(socket, number);
            if name.is_ok_and(|name| devices.contains(&name)) {
                return true;
            }
        }
        let client = client.ip().to_canonical();
        self.refused.borrow().iter().any(|subnet| subnet.contains(&client))
    }
}

impl Default for Relays {
    fn default() -> Self {
        let limit = sys::rlimit::number("RLIMIT_NOFILE").and_then(|number| sys::rlimit::get(number).ok());
        let limit = limit.map_or(DESCRIPTORS_LEAST, |(soft, _)| soft.max(DESCRIPTORS_LEAST));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let connections = (limit / CONNECTIONS_PART / CONNECTION_DESCRIPTORS).min(CONNECTIONS_MAX);
        let flows = (limit / FLOWS_PART).min(FLOWS_MAX);
        let shared = Shared {
            connections: Arc::new(Semaphore::new(connections)),
            // However many one port has, others can be connected with.
            connections_each: connections / PORTS_AT_LEAST,
            flows: Arc::new(Semaphore::new(flows)),
            refused: RefCell::default(),
            refused_devices: RefCell::default(),
            own: RefCell::default(),
            pipes: tcp::Pipes::default(),
            buffer: udp::Buffer::default(),
            ending: RefCell::default(),
        };
        Self { shared: Rc::new(shared), containers: HashMap::new() }
    }
}

impl Relays {
    /// Takes ports of a container with their sockets; those it has at the same places are replaced. With `anew` it has no others.
    pub fn open(&mut self, id: &str, anew: bool, ports: Vec<(Port, OwnedFd)>) -> io::Result<()> {
        if anew {
            self.containers.remove(id);
        }
        for (port, socket) in &ports {
            check(port, socket)?;
        }
        for (port, socket) in ports {
            let open = begin(&self.shared, port, socket)?;
            let known = self.containers.entry(id.to_owned()).or_default();
            known.retain(|known| !known.port.is_at(&open.port));
            known.push(open);
        }
        Ok(())
    }

    /// Has ports of a container that are open served in another way.
    pub fn change(&mut self, id: &str, ports: Vec<Port>) -> io::Result<()> {
        let known = self.containers.get_mut(id).map(Vec::as_mut_slice).unwrap_or_default();
        for port in ports {
            let open = known.iter_mut().find(|open| open.port.is_at(&port)).ok_or_else(|| {
                let text = format!("container {id} has no socket here for port {}", port.at);
                io::Error::new(io::ErrorKind::NotFound, text)
            })?;
            if open.port != port {
                *open = begin(&self.shared, port, open.socket.try_clone()?)?;
            }
        }
        Ok(())
    }

    /// Closes ports of a container. What is not there is no error.
    pub fn close(&mut self, id: &str, ports: &[Port]) {
        let Some(known) = self.containers.get_mut(id) else { return };
        known.retain(|open| !ports.iter().any(|port| port.is_at(&open.port)));
        if known.is_empty() {
            self.containers.remove(id);
        }
    }

    /// Closes all ports of a container; `false` if it had none.
    pub fn forget(&mut self, id: &str) -> bool {
        self.containers.remove(id).is_some()
    }

    /// Waits until what is closed is free for others.
    pub async fn closed(&self) {
        let ending = self.shared.ending.take();
        for task in ending {
            // It is aborted, or has ended otherwise.
            let _ = task.await;
        }
    }

    /// Serves no clients in these subnets or beyond these devices from now on, and all others.
    pub fn refuse(&mut self, subnets: Vec<IpNet>, devices: Vec<String>, own: Vec<IpNet>) {
        self.shared.own.replace(own);
        self.shared.refused.replace(subnets);
        self.shared.refused_devices.replace(devices);
    }

    /// Whether a container has ports here.
    pub fn has(&self, id: &str) -> bool {
        self.containers.contains_key(id)
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty()
    }

    /// How many ports there are.
    pub fn count(&self) -> usize {
        self.containers.values().map(Vec::len).sum()
    }

    /// The containers, with their ports.
    pub fn containers(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &Port>)> {
        self.containers.iter().map(|(id, ports)| (id.as_str(), ports.iter().map(|open| &open.port)))
    }
}

/// That a socket is what it is said to be.
fn check(port: &Port, socket: &OwnedFd) -> io::Result<()> {
    let family = if port.at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if port.protocol == Protocol::Udp { SocketType::DGRAM } else { SocketType::STREAM };
    let at = SocketAddr::try_from(rustix::net::getsockname(socket)?);
    let same = at.is_ok_and(|at| at.ip() == port.at.ip() && at.port() == port.at.port())
        && sockopt::socket_domain(socket)? == family
        && sockopt::socket_type(socket)? == kind;
    if same { Ok(()) } else { Err(io::Error::other(format!("this is no socket for port {}", port.at))) }
}

/// Begins to serve a port, or only to hold it.
fn begin(shared: &Rc<Shared>, port: Port, socket: OwnedFd) -> io::Result<Open> {
    let Some(to) = port.to else { return Ok(Open { port, socket, _serving: None }) };
    rustix::io::ioctl_fionbio(socket.as_fd(), true)?;
    let (all, served) = (shared.clone(), socket.try_clone()?);
    let target = outgoing::Target { to, as_client: port.as_client };
    let task = match port.protocol {
        Protocol::Tcp => tokio::task::spawn_local(tcp::serve(all, tcp::listener(served)?, target)),
        Protocol::Udp => tokio::task::spawn_local(udp::serve(all, udp::listener(served)?, target)),
        Protocol::Sctp => return Err(io::Error::other("SCTP is not served here")),
    };
    let serving = Serving { shared: shared.clone(), task: Some(task) };
    Ok(Open { port, socket, _serving: Some(serving) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_can_speak_for_a_client() {
        let speaks = |client: &str, to: &str| speaker(of(client), of(to)).is_some();
        assert!(speaks("192.0.2.1:5", "10.0.0.2:80"));
        assert!(speaks("[2001:db8::1]:5", "[fd00::2]:80"));
        assert!(!speaks("[2001:db8::1]:5", "10.0.0.2:80"));
        assert!(!speaks("[::1]:5", "[fd00::2]:80"));
        assert!(!speaks("[fe80::1]:5", "[fd00::2]:80"));
        assert!(!speaks("127.0.0.1:5", "10.0.0.2:80"));
    }

    #[test]
    fn what_no_port_can_be() {
        let port = |protocol, at: &str, to: Option<&str>| Port {
            protocol,
            at: of(at),
            to: to.map(of),
            as_client: false,
        };
        assert!(port(Protocol::Tcp, "0.0.0.0:80", Some("10.0.0.2:80")).is_possible());
        assert!(port(Protocol::Sctp, "0.0.0.0:80", None).is_possible());
        assert!(!port(Protocol::Sctp, "0.0.0.0:80", Some("10.0.0.2:80")).is_possible());
        assert!(!port(Protocol::Tcp, "0.0.0.0:0", None).is_possible());
        assert!(!port(Protocol::Udp, "0.0.0.0:80", Some("10.0.0.2:0")).is_possible());
        assert!(!port(Protocol::Udp, "0.0.0.0:80", Some("0.0.0.0:80")).is_possible());
    }
}
