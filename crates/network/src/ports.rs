//! Ports of the host that are to lead to containers: found, and held, so that nothing else on the host takes them.

pub mod outside;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::firewall::Protocol;

/// Where ports are taken from that nobody names: what the kernel gives out by itself, as Docker does.
const RANDOM: RangeInclusive<u16> = 32768..=60999;
const RANDOM_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// A port of a container that is to be reached from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Of which protocol.
    pub protocol: Protocol,
    /// The container's.
    pub container: u16,
    /// At which address of the host; without, at all of them.
    pub address: Option<IpAddr>,
    /// One of these of the host; without, any.
    pub host: Option<RangeInclusive<u16>>,
}

/// Ports of the host that are held: one number, at one or several addresses.
#[derive(Debug)]
pub struct Held {
    /// The number.
    pub port: u16,
    /// At which addresses.
    pub addresses: Vec<IpAddr>,
    /// What holds them, each with its address: none for a protocol that the kernel does not know.
    pub sockets: Vec<(IpAddr, OwnedFd)>,
}

/// Why a port cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something on the host has it.
    #[error("failed to bind host port {0}/{1}: address already in use")]
    InUse(SocketAddr, &'static str),
    /// None of a range is free.
    #[error("all ports are allocated: none of {first}-{last} is free")]
    NoneFree {
        /// The first.
        first: u16,
        /// The last.
        last: u16,
    },
    /// It is root's alone.
    #[error(
        "cannot expose privileged port {0}, you can add 'net.ipv4.ip_unprivileged_port_start={0}' to /etc/sysctl.conf, or set a larger port number"
    )]
    Privileged(u16),
    /// The kernel does not give it.
    #[error("failed to bind host port {0}/{1}")]
    Bind(SocketAddr, &'static str, #[source] io::Error),
}

/// The protocol's name.
pub fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// Finds a port as it is wished for, and holds it, in the network namespace that the caller is in. `v4` and `v6` say which kinds of address
/// can lead to the container.
pub fn hold(wish: &Wish, v4: bool, v6: bool) -> Result<Held, Error> {
    let all = [(v4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)), (v6, IpAddr::V6(Ipv6Addr::UNSPECIFIED))];
    let addresses: Vec<IpAddr> = match wish.address {
        Some(address) => vec![address],
        None => all.into_iter().filter(|(can, _)| *can).map(|(_, address)| address).collect(),
    };
    let (range, start) = match &wish.host {
        Some(range) if range.start() == range.end() => {
            return hold_at(wish.protocol, &addresses, *range.start());
        }
        Some(range) => (range.clone(), *range.start()),
        None => {
            let range = random_range();
            let start = range.start() + random() % (range.end() - range.start() + 1);
            (range, start)
        }
    };
    let candidates = (start..=*range.end()).chain(*range.start()..start);
    for port in candidates {
        match hold_at(wish.protocol, &addresses, port) {
            Err(Error::InUse(..)) => {}
            other => return other,
        }
    }
    Err(Error::NoneFree { first: *range.start(), last: *range.end() })
}

fn hold_at(protocol: Protocol, addresses: &[IpAddr], port: u16) -> Result<Held, Error> {
    let mut sockets = Vec::with_capacity(addresses.len());
    for address in addresses {
        let at = SocketAddr::new(*address, port);
        match bind(protocol, at) {
            Ok(socket) => sockets.push((*address, socket)),
            Err(Errno::ADDRINUSE) => return Err(Error::InUse(at, name(protocol))),
            // A kernel without this protocol has nothing that could have the port.
            Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) => {}
            Err(Errno::ACCESS) => return Err(Error::Privileged(port)),
            Err(error) => return Err(Error::Bind(at, name(protocol), error.into())),
        }
    }
    Ok(Held { port, addresses: addresses.to_vec(), sockets })
}

/// A socket that has the port, from where this process's ports are.
fn bind(protocol: Protocol, at: SocketAddr) -> Result<OwnedFd, Errno> {
    outside::bind(protocol, at).unwrap_or_else(|| bind_here(protocol, at))
}

/// A socket that has the port. Nobody speaks to it where packets are led to the container before they come to it; else netd listens.
fn bind_here(protocol: Protocol, at: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(number))?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol != Protocol::Udp {
        // Old conversations are no hindrance; whoever listens is.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &at)?;
    if protocol != Protocol::Udp {
        rustix::net::listen(&socket, 1)?;
    }
    Ok(socket)
}

/// Whether this host speaks version 6: it has its own loopback address.
pub fn has_v6() -> bool {
    std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn random_range() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string(RANDOM_RANGE).unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse::<u16>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) if first > 0 && first < last => first..=last,
        _ => RANDOM,
    }
}

fn random() -> u16 {
    let mut bytes = [0; 2];
    // Without chance the search begins at the first.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u16::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    fn wish(protocol: Protocol, host: Option<RangeInclusive<u16>>) -> Wish {
        Wish { protocol, container: 80, address: Some(Ipv4Addr::LOCALHOST.into()), host }
    }

    #[test]
    fn a_port_is_held_until_it_is_let_go() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let held = hold(&wish(protocol, None), true, true).unwrap();
            let at = (Ipv4Addr::LOCALHOST, held.port);
            let bound = |protocol| match protocol {
                Protocol::Udp => UdpSocket::bind(at).is_ok(),
                _ => TcpListener::bind(at).is_ok(),
            };
            assert!(!bound(protocol));
            let again = hold(&wish(protocol, Some(held.port..=held.port)), true, true).unwrap_err();
            assert!(again.to_string().contains("address already in use"), "{again}");
            drop(held);
            assert!(bound(protocol));
        }
    }

    #[test]
    fn one_of_a_range_is_taken_that_is_free() {
        let first = hold(&wish(Protocol::Tcp, None), true, true).unwrap();
        let range = first.port..=first.port.saturating_add(20);
        let second = hold(&wish(Protocol::Tcp, Some(range.clone())), true, true).unwrap();
        assert!(range.contains(&second.port) && second.port != first.port);
    }

    #[test]
    fn both_families_get_one_number() {
        let any = Wish { address: None, ..wish(Protocol::Udp, None) };
        let held = hold(&any, true, true).unwrap();
        assert_eq!((held.addresses.len(), held.sockets.len()), (2, 2));
    }
}
