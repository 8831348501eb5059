//! Networks that are bridges of this host: a bridge for each, and a cable from it to every container.

use std::fmt;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use sys::netlink::{Message, Refusal, Socket};

use crate::link::{self, Device, Inside, Mac};
use crate::namespace::Namespace;

const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
/// Of the fallback devices that some kernels have in every namespace.
const EOPNOTSUPP: i32 = 95;
/// What every device that speaks IPv6 has to pass on (RFC 8200).
const V6_MTU_MIN: u32 = 1280;
/// It is there if the kernel speaks IPv6.
const V6: &str = "/proc/sys/net/ipv6";
/// The loopback device has this number in every namespace.
const LOOPBACK: u32 = 1;

/// What could not be done, in one line with the kernel's own words.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct Error {
    what: String,
    source: Cause,
}

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The kernel refuses it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What else went wrong.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// The kernel's number, if it is the kernel that refuses.
    pub fn errno(&self) -> Option<i32> {
        match &self.source {
            Cause::Refused(refusal) => refusal.errno(),
            Cause::Io(error) => error.raw_os_error(),
        }
    }
}

/// Says what could not be done.
pub(crate) trait Context<T> {
    /// What was tried.
    fn on(self, what: impl fmt::Display) -> Result<T, Error>;
}

impl<T, E: Into<Cause>> Context<T> for Result<T, E> {
    fn on(self, what: impl fmt::Display) -> Result<T, Error> {
        self.map_err(|source| Error { what: what.to_string(), source: source.into() })
    }
}

/// A bridge of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The device's name.
    pub name: String,
    /// Its hardware address, if it is made.
    pub mac: Mac,
    /// Its largest packet; the kernel's choice if none is named.
    pub mtu: Option<u32>,
    /// Its own addresses: its containers' gateways.
    pub addresses: Vec<IpNet>,
}

/// A container's place on a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// What the container's end of the cable is called.
    pub interface: String,
    /// What the host's end is called.
    pub port: String,
    /// The hardware address.
    pub mac: Mac,
    /// Its addresses, with the prefix of their subnets.
    pub addresses: Vec<IpNet>,
    /// The ways out that go by this network, of one of each family; an unspecified address is the device itself, without a gateway.
    pub gateways: Vec<IpAddr>,
    /// Parameters of the kernel below `/proc/sys`, with their values; `IFNAME` in one stands for the interface.
    pub sysctls: Vec<(String, String)>,
    /// Its largest packet.
    pub mtu: Option<u32>,
    /// Whether it sends nothing to others on the bridge that are isolated as well.
    pub isolated: bool,
}

/// The device `name` of the namespace that `socket` is about; `None` if there is none.
pub fn device(socket: &Socket, name: &str) -> Result<Option<Device>, Error> {
    let mut found = None;
    let asked = socket.ask(link::find(name), |kind, message| {
        found = link::read_device(kind, message);
        Ok(())
    });
    match asked {
        Err(error) if error.raw_os_error() == Some(ENODEV) => Ok(None),
        other => other.on(format_args!("find network device {name}")).map(|()| found),
    }
}

/// All addresses that `socket`'s namespace has, with the numbers of their devices.
pub fn addresses(socket: &Socket) -> Result<Vec<(u32, IpNet)>, Error> {
    let mut found = Vec::new();
    socket
        .ask(link::list_addresses(), |kind, message| {
            found.extend(link::read_address(kind, message));
            Ok(())
        })
        .on("list network addresses")?;
    Ok(found)
}

/// Where the host has routes to: no subnet of a container network should share an address with them.
pub fn routes(socket: &Socket) -> Result<Vec<IpNet>, Error> {
    let mut found = Vec::new();
    socket
        .ask(link::list_routes(), |kind, message| {
            found.extend(link::read_route(kind, message));
            Ok(())
        })
        .on("list routes")?;
    Ok(found)
}

/// Makes the bridge, or completes one that is there; returns its number. Can be repeated.
pub fn ensure(host: &Socket, bridge: &Bridge) -> Result<u32, Error> {
    let name = &bridge.name;
    let found = match host.tell(link::bridge(name, bridge.mac, bridge.mtu)) {
        Err(refusal) if refusal.errno() == Some(EEXIST) => device(host, name)?,
        other => {
            other.on(format_args!("create bridge {name}"))?;
            device(host, name)?
        }
    };
    let device = found.ok_or_else(|| gone(name))?;
    if device.kind.as_deref() != Some("bridge") {
        let kind = device.kind.as_deref().unwrap_or("device of the machine");
        return Err(Error {
            what: format!("use {name} as a bridge"),
            source: Cause::Io(io::Error::other(format!("it is a {kind}"))),
        });
    }
    let has: Vec<IpNet> = addresses(host)?
        .into_iter()
        .filter(|(index, _)| *index == device.index)
        .map(|(_, net)| net)
        .collect();
    let missing = bridge.addresses.iter().filter(|address| !has.contains(address));
    let mut messages: Vec<Message> = missing.map(|net| link::address(device.index, *net)).collect();
    if !device.up {
        messages.push(link::up(device.index));
    }
    if !messages.is_empty() {
        host.tell_all(messages).on(format_args!("give bridge {name} its addresses"))?;
    }
    Ok(device.index)
}

/// Removes the device `name`; one that is not there is not an error.
pub fn remove(host: &Socket, name: &str) -> Result<(), Error> {
    let Some(device) = device(host, name)? else { return Ok(()) };
    match host.tell(link::remove(device.index)) {
        Err(refusal) if refusal.errno() == Some(ENODEV) => Ok(()),
        other => other.on(format_args!("remove bridge {name}")),
    }
}

/// Takes all devices out of a namespace but its loopback, and those that cannot be removed.
pub fn clear(inside: &Namespace) -> Result<(), Error> {
    let mut found = Vec::new();
    let asked = inside.route().ask(link::list(), |kind, message| {
        found.extend(link::read_device(kind, message));
        Ok(())
    });
    asked.on("list network devices")?;
    for device in found.iter().filter(|device| device.index != LOOPBACK && device.kind.is_some()) {
        match inside.route().tell(link::remove(device.index)) {
            Err(refusal) if matches!(refusal.errno(), Some(ENODEV | EOPNOTSUPP)) => {}
            other => other.on(format_args!("remove network device {}", device.name))?,
        }
    }
    Ok(())
}

/// Switches on what every namespace has.
pub fn loopback(inside: &Namespace) -> Result<(), Error> {
    inside.route().tell(link::up(LOOPBACK)).on("switch on the loopback device")
}

/// Connects a namespace with the bridge that has the number `bridge`. If it fails nothing of the connection is left.
pub fn connect(host: &Socket, bridge: u32, inside: &Namespace, endpoint: &Endpoint) -> Result<(), Error> {
    let end = Inside { name: &endpoint.interface, mac: endpoint.mac };
    let port = &endpoint.port;
    host.tell(link::veth(port, bridge, endpoint.mtu, end, inside))
        .on(format_args!("connect the container by {port}"))?;
    let settled = settle(inside, endpoint).and_then(|()| set_port(host, endpoint));
    if settled.is_err() {
        // The first error is the one that explains.
        let _ = remove(host, port);
    }
    settled
}

fn gone(name: &str) -> Error {
    Error {
        what: format!("find network device {name}"),
        source: Cause::Io(io::Error::from_raw_os_error(ENODEV)),
    }
}

/// The device `name`, which has to be there.
pub(crate) fn existing(socket: &Socket, name: &str) -> Result<Device, Error> {
    device(socket, name)?.ok_or_else(|| gone(name))
}

fn set_port(host: &Socket, endpoint: &Endpoint) -> Result<(), Error> {
    let port = existing(host, &endpoint.port)?;
    host.tell(link::port(port.index, endpoint.isolated)).on(format_args!("set up {}", endpoint.port))
}

/// Sets the parameters of a device that is in the namespace and not switched on.
fn set_sysctls(inside: &Namespace, endpoint: &Endpoint) -> Result<(), Error> {
    if endpoint.sysctls.is_empty() {
        return Ok(());
    }
    let mut failed = String::new();
    let set = inside.run(|| {
        endpoint.sysctls.iter().try_for_each(|(name, value)| {
            let path = name.replace('.', "/").replace("IFNAME", &endpoint.interface);
            std::fs::write(format!("/proc/sys/{path}"), value).inspect_err(|_| failed.clone_from(name))
        })
    });
    set.on(format_args!("set sysctl {failed} of {}", endpoint.interface))
}

/// Whether the kernel has IPv6 on a device at all: not if its packets are too small, and not if it was told so when it started.
fn speaks_v6(mtu: Option<u32>) -> bool {
    mtu.is_none_or(|mtu| mtu >= V6_MTU_MIN) && std::path::Path::new(V6).exists()
}

/// Gives the device that is in the namespace its addresses and routes, and switches it on.
pub(crate) fn settle(inside: &Namespace, endpoint: &Endpoint) -> Result<(), Error> {
    let name = &endpoint.interface;
    let own = existing(inside.route(), name)?;
    set_sysctls(inside, endpoint)?;
    let mut messages = Vec::new();
    if !endpoint.addresses.iter().any(|net| net.addr().is_ipv6()) && speaks_v6(own.mtu) {
        messages.push(link::without_own_v6(own.index));
    }
    messages.push(link::up(own.index));
    messages.extend(endpoint.addresses.iter().map(|net| link::address(own.index, *net)));
    messages.extend(ways(&endpoint.gateways, own.index));
    inside.route().tell_all(messages).on(format_args!("give {name} its addresses"))
}

/// Default routes.
fn ways(gateways: &[IpAddr], index: u32) -> impl Iterator<Item = Message> {
    gateways.iter().map(move |gateway| {
        let by = (!gateway.is_unspecified()).then_some(*gateway);
        link::route(everything(*gateway), by, index, None)
    })
}

/// Sends what has no other way by these gateways.
pub fn send_by(inside: &Namespace, interface: &str, gateways: &[IpAddr]) -> Result<(), Error> {
    let own = existing(inside.route(), interface)?;
    inside
        .route()
        .tell_all(ways(gateways, own.index).collect())
        .on(format_args!("send everything by {interface}"))
}

/// The same in the place of the default routes that there are.
pub fn turn_to(inside: &Namespace, interface: &str, gateways: &[IpAddr]) -> Result<(), Error> {
    let own = existing(inside.route(), interface)?;
    let routes = gateways.iter().map(|gateway| {
        let by = (!gateway.is_unspecified()).then_some(*gateway);
        link::route_instead(everything(*gateway), by, own.index)
    });
    inside.route().tell_all(routes.collect()).on(format_args!("send everything by {interface}"))
}

/// All addresses of the same family.
fn everything(address: IpAddr) -> IpNet {
    let none: IpAddr = match address {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    IpNet::new_assert(none, 0)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn bridge() -> Bridge {
        Bridge {
            name: "br0".into(),
            mac: [2, 0, 0, 0, 0, 1],
            mtu: None,
            addresses: vec![net("10.9.0.1/24"), net("fd00:9::1/64")],
        }
    }

    fn endpoint(number: u8) -> Endpoint {
        Endpoint {
            interface: "eth0".into(),
            port: format!("v{number}"),
            mac: [2, 0, 0, 0, 0, number],
            addresses: vec![net(&format!("10.9.0.{number}/24")), net(&format!("fd00:9::{number}/64"))],
            gateways: vec!["10.9.0.1".parse().unwrap(), "fd00:9::1".parse().unwrap()],
            sysctls: Vec::new(),
            mtu: None,
            isolated: false,
        }
    }

    /// A host with nothing else on it.
    fn host() -> Option<Namespace> {
        let made = Namespace::create();
        if let Err(error) = &made {
            println!("skipped: a network namespace ({error})");
        }
        made.ok()
    }

    #[test]
    fn two_containers_reach_each_other_and_the_bridge_by_both_families() {
        let Some(host) = host() else { return };
        let index = ensure(host.route(), &bridge()).unwrap();
        // Again: it completes what is there.
        assert_eq!(ensure(host.route(), &bridge()).unwrap(), index);
        let containers: Vec<Namespace> = (2..4)
            .map(|number| {
                let inside = Namespace::create().unwrap();
                loopback(&inside).unwrap();
                connect(host.route(), index, &inside, &endpoint(number)).unwrap();
                inside
            })
            .collect();
        for (from, to) in [("10.9.0.3:80", &containers[1]), ("[fd00:9::1]:80", &host)] {
            let listener = to.run(|| TcpListener::bind(from)).unwrap();
            let mut stream = containers[0].run(|| TcpStream::connect(from)).unwrap();
            let (mut other, _) = listener.accept().unwrap();
            other.write_all(b"x").unwrap();
            stream.read_exact(&mut [0]).unwrap();
        }
        // With the namespace its cable goes.
        drop(containers);
        let started = std::time::Instant::now();
        while device(host.route(), "v2").unwrap().is_some() {
            assert!(started.elapsed().as_secs() < 20, "the cable is still there");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        remove(host.route(), "br0").unwrap();
        remove(host.route(), "br0").unwrap();
    }

    #[test]
    fn what_fails_half_way_leaves_no_cable() {
        let Some(host) = host() else { return };
        let index = ensure(host.route(), &bridge()).unwrap();
        let inside = Namespace::create().unwrap();
        // A gateway that is on none of its subnets.
        let wrong = Endpoint { gateways: vec!["10.99.0.1".parse().unwrap()], ..endpoint(2) };
        let error = connect(host.route(), index, &inside, &wrong).unwrap_err();
        assert!(error.to_string().contains("eth0"), "{error}");
        assert_eq!(device(host.route(), "v2").unwrap(), None);
        connect(host.route(), index, &inside, &endpoint(2)).unwrap();
        let taken = connect(host.route(), index, &inside, &endpoint(2)).unwrap_err();
        assert_eq!(taken.errno(), Some(EEXIST));
    }

    #[test]
    fn a_device_that_is_no_bridge_is_not_taken_for_one() {
        let Some(host) = host() else { return };
        let index = ensure(host.route(), &bridge()).unwrap();
        let inside = Namespace::create().unwrap();
        connect(host.route(), index, &inside, &Endpoint { port: "cable".into(), ..endpoint(2) }).unwrap();
        let error = ensure(host.route(), &Bridge { name: "cable".into(), ..bridge() }).unwrap_err();
        assert_eq!(error.to_string(), "cannot use cable as a bridge");
        assert_eq!(routes(host.route()).unwrap().iter().filter(|r| **r == net("10.9.0.0/24")).count(), 1);
    }
}
