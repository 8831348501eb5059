//! Devices, addresses and routes: the messages of rtnetlink(7) that make them. Each function returns a message, so that many go to the
//! kernel at once.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd as _};

use ipnet::IpNet;
use sys::netlink::{ACK, CREATE, DUMP, EXCLUSIVE, Message, NESTED, REPLACE, attributes, u32_at};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
/// What a port of a bridge is told.
const IFLA_PROTINFO: u16 = 12;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
/// The other end of a veth pair.
const VETH_INFO_PEER: u16 = 1;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
/// No address of its own making.
const ADDR_GEN_MODE_NONE: u8 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
/// No duplicates are looked for: who gives the addresses out knows.
const IFA_F_NODAD: u32 = 0x02;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const AF_BRIDGE: u8 = 7;

const IFF_UP: u32 = 1;

const LINK_BYTES: usize = 16;

/// A hardware address.
pub type Mac = [u8; 6];

/// What is at the head of a message about a device.
fn link(family: u8, index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![family, 0, 0, 0];
    for field in [index, flags, change] {
        body.extend(field.to_ne_bytes());
    }
    body
}

fn new_link(flags: u32) -> Message {
    Message::new(RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &link(0, 0, flags, flags))
}

/// A bridge that is switched on. With a hardware address of its own it does not change that when ports come and go.
pub fn bridge(name: &str, mac: Mac, mtu: Option<u32>) -> Message {
    let mut message = new_link(IFF_UP).with(IFLA_ADDRESS, &mac);
    message.put_text(IFLA_IFNAME, name);
    if let Some(mtu) = mtu {
        message.put(IFLA_MTU, &mtu.to_ne_bytes());
    }
    message.nest(IFLA_LINKINFO, |m| m.put_text(IFLA_INFO_KIND, "bridge"));
    message
}

/// One end of a cable, in another network namespace.
#[derive(Debug, Clone, Copy)]
pub struct Inside<'a> {
    /// What it is called there.
    pub name: &'a str,
    /// Its hardware address.
    pub mac: Mac,
}

/// A pair of devices: `name` here, switched on, a port of the bridge with the number `bridge`; and the other end inside, which cannot be
/// switched on before they are a pair.
pub fn veth(name: &str, bridge: u32, mtu: Option<u32>, inside: Inside<'_>, namespace: impl AsFd) -> Message {
    let mut message = new_link(IFF_UP).with(IFLA_MASTER, &bridge.to_ne_bytes());
    message.put_text(IFLA_IFNAME, name);
    let put_mtu = |m: &mut Message| {
        if let Some(mtu) = mtu {
            m.put(IFLA_MTU, &mtu.to_ne_bytes());
        }
    };
    put_mtu(&mut message);
    let namespace = namespace.as_fd().as_raw_fd().to_ne_bytes();
    message.nest(IFLA_LINKINFO, |m| {
        m.put_text(IFLA_INFO_KIND, "veth");
        m.nest(IFLA_INFO_DATA, |m| {
            m.nest(VETH_INFO_PEER, |m| {
                m.raw(&link(0, 0, 0, 0));
                m.put_text(IFLA_IFNAME, inside.name);
                m.put(IFLA_ADDRESS, &inside.mac);
                m.put(IFLA_NET_NS_FD, &namespace);
                put_mtu(m);
            });
        });
    });
    message
}

/// What a further device on a device of the host's is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Further {
    /// With a hardware address of its own.
    Macvlan(MacvlanMode),
    /// With the hardware address of the device below.
    Ipvlan(IpvlanMode, IpvlanFlag),
}

/// Whom a macvlan device can speak to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacvlanMode {
    /// Nobody else on the same device.
    Private = 1,
    /// Those, by way of the switch outside.
    Vepa = 2,
    /// Those, directly.
    Bridge = 4,
    /// It takes over the whole device.
    Passthru = 8,
}

/// At which layer an ipvlan device works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpvlanMode {
    /// As a switch.
    L2 = 0,
    /// As a router.
    L3 = 1,
    /// As a router whose packets the host's filters see.
    L3s = 2,
}

/// Whom an ipvlan device can speak to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpvlanFlag {
    /// Those on the same device, directly.
    Bridge = 0,
    /// Nobody else on the same device.
    Private = 1,
    /// Those, by way of the switch outside.
    Vepa = 2,
}

/// A device that has a part of another's packets: those that carry this number.
pub fn vlan(name: &str, parent: u32, number: u16) -> Message {
    let mut message = new_link(IFF_UP).with(IFLA_LINK, &parent.to_ne_bytes());
    message.put_text(IFLA_IFNAME, name);
    message.nest(IFLA_LINKINFO, |m| {
        m.put_text(IFLA_INFO_KIND, "vlan");
        m.nest(IFLA_INFO_DATA, |m| m.put(IFLA_VLAN_ID, &number.to_ne_bytes()));
    });
    message
}

/// A further device on the one with the number `parent`, in another network namespace.
pub fn further(
    kind: Further,
    parent: u32,
    mtu: Option<u32>,
    inside: Inside<'_>,
    namespace: impl AsFd,
) -> Message {
    let mut message = new_link(0).with(IFLA_LINK, &parent.to_ne_bytes());
    message.put_text(IFLA_IFNAME, inside.name);
    message.put(IFLA_NET_NS_FD, &namespace.as_fd().as_raw_fd().to_ne_bytes());
    if let Some(mtu) = mtu {
        message.put(IFLA_MTU, &mtu.to_ne_bytes());
    }
    if matches!(kind, Further::Macvlan(_)) {
        message.put(IFLA_ADDRESS, &inside.mac);
    }
    message.nest(IFLA_LINKINFO, |m| match kind {
        Further::Macvlan(mode) => {
            m.put_text(IFLA_INFO_KIND, "macvlan");
            m.nest(IFLA_INFO_DATA, |m| m.put(IFLA_MACVLAN_MODE, &(mode as u32).to_ne_bytes()));
        }
        Further::Ipvlan(mode, flag) => {
            m.put_text(IFLA_INFO_KIND, "ipvlan");
            m.nest(IFLA_INFO_DATA, |m| {
                m.put(IFLA_IPVLAN_MODE, &(mode as u16).to_ne_bytes());
                m.put(IFLA_IPVLAN_FLAGS, &(flag as u16).to_ne_bytes());
            });
        }
    });
    message
}

/// A device with no cable: where a network has no device of the host's to be on.
pub fn dummy(name: &str) -> Message {
    let mut message = new_link(IFF_UP);
    message.put_text(IFLA_IFNAME, name);
    message.nest(IFLA_LINKINFO, |m| m.put_text(IFLA_INFO_KIND, "dummy"));
    message
}

/// A device that only sends on what is led to it, switched on: what waits in front of it waits in a place of its own.
pub fn ifb(name: &str) -> Message {
    let mut message = new_link(IFF_UP);
    message.put_text(IFLA_IFNAME, name);
    message.nest(IFLA_LINKINFO, |m| m.put_text(IFLA_INFO_KIND, "ifb"));
    message
}

/// Switches a device on.
pub fn up(index: u32) -> Message {
    Message::new(RTM_NEWLINK, ACK, &link(0, index, IFF_UP, IFF_UP))
}

/// Lets a port of a bridge send back what comes from it: a container that speaks to a port of the host which leads to itself. If it is
/// `isolated` it sends nothing to other ports that are.
pub fn port(port: u32, isolated: bool) -> Message {
    let mut message = Message::new(RTM_SETLINK, ACK, &link(AF_BRIDGE, port, 0, 0));
    message.nest(IFLA_PROTINFO | NESTED, |m| {
        m.put(IFLA_BRPORT_MODE, &[1]);
        if isolated {
            m.put(IFLA_BRPORT_ISOLATED, &[1]);
        }
    });
    message
}

/// Keeps a device from giving itself an IPv6 address.
pub fn without_own_v6(index: u32) -> Message {
    let mut message = Message::new(RTM_NEWLINK, ACK, &link(0, index, 0, 0));
    message.nest(IFLA_AF_SPEC, |m| {
        m.nest(AF_INET6.into(), |m| m.put(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE]));
    });
    message
}

/// Removes a device.
pub fn remove(index: u32) -> Message {
    Message::new(RTM_DELLINK, ACK, &link(0, index, 0, 0))
}

/// Asks for the device `name`.
pub fn find(name: &str) -> Message {
    let mut message = Message::new(RTM_GETLINK, ACK, &[0; LINK_BYTES]);
    message.put_text(IFLA_IFNAME, name);
    message
}

/// Asks for all devices.
pub fn list() -> Message {
    Message::new(RTM_GETLINK, DUMP, &[0; LINK_BYTES])
}

/// A device as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The bridge whose port it is.
    pub master: Option<u32>,
    /// What it is, if it is made by software: `bridge`, `veth`, …
    pub kind: Option<String>,
    /// Its largest packet.
    pub mtu: Option<u32>,
    /// Whether it is switched on.
    pub up: bool,
}

/// Reads the description of a device from a message; `None` if it is about something else.
pub fn read_device(kind: u16, message: &[u8]) -> Option<Device> {
    if kind != RTM_NEWLINK {
        return None;
    }
    let text = |value: &[u8]| String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
    let mut device = Device {
        index: u32_at(message, 4)?,
        name: String::new(),
        master: None,
        kind: None,
        mtu: None,
        up: u32_at(message, 8)? & IFF_UP != 0,
    };
    for (kind, value) in attributes(message.get(LINK_BYTES..)?) {
        match kind {
            IFLA_IFNAME => device.name = text(value),
            IFLA_MASTER => device.master = u32_at(value, 0),
            IFLA_MTU => device.mtu = u32_at(value, 0),
            IFLA_LINKINFO => {
                device.kind = attributes(value).find(|(k, _)| *k == IFLA_INFO_KIND).map(|(_, v)| text(v));
            }
            _ => {}
        }
    }
    Some(device)
}

fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AF_INET6, address.octets().to_vec()),
    }
}

/// Gives a device an address, with the prefix of its subnet.
pub fn address(index: u32, address: IpNet) -> Message {
    let (family, bytes) = octets(address.addr());
    let mut body = vec![family, address.prefix_len(), 0, SCOPE_UNIVERSE];
    body.extend(index.to_ne_bytes());
    let mut message = Message::new(RTM_NEWADDR, ACK | CREATE | EXCLUSIVE, &body);
    message.put(IFA_LOCAL, &bytes);
    message.put(IFA_ADDRESS, &bytes);
    if let IpNet::V4(net) = address {
        message.put(IFA_BROADCAST, &net.broadcast().octets());
    } else {
        message.put(IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes());
    }
    message
}

/// Asks for all addresses.
pub fn list_addresses() -> Message {
    Message::new(RTM_GETADDR, DUMP, &[0; 8])
}

/// Reads an address from a message: the device's number, and the address with the prefix of its subnet.
pub fn read_address(kind: u16, message: &[u8]) -> Option<(u32, IpNet)> {
    if kind != RTM_NEWADDR {
        return None;
    }
    let (prefix, index) = (*message.get(1)?, u32_at(message, 4)?);
    let all: Vec<(u16, &[u8])> = attributes(message.get(8..)?).collect();
    let find = |wanted| all.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| *value);
    let address = read_ip(find(IFA_LOCAL).or_else(|| find(IFA_ADDRESS))?)?;
    Some((index, IpNet::new(address, prefix).ok()?))
}

fn read_ip(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// Packets to `to` go through a device, by way of `gateway` if there is one.
pub fn route(to: IpNet, gateway: Option<IpAddr>, index: u32, priority: Option<u32>) -> Message {
    put_route(EXCLUSIVE, to, gateway, index, priority)
}

/// The same in the place of a route that there is.
pub fn route_instead(to: IpNet, gateway: Option<IpAddr>, index: u32) -> Message {
    put_route(REPLACE, to, gateway, index, None)
}

fn put_route(how: u16, to: IpNet, gateway: Option<IpAddr>, index: u32, priority: Option<u32>) -> Message {
    let (family, bytes) = octets(to.addr());
    // What has no gateway is on the device's own link.
    let scope = if gateway.is_none() && family == AF_INET { SCOPE_LINK } else { SCOPE_UNIVERSE };
    // rtm_family, dst_len, src_len, tos, table, protocol, scope, type, flags
    let head = [family, to.prefix_len(), 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST];
    let mut message = Message::new(RTM_NEWROUTE, ACK | CREATE | how, &[&head[..], &[0; 4]].concat());
    if to.prefix_len() > 0 {
        message.put(RTA_DST, &bytes);
    }
    if let Some(gateway) = gateway {
        message.put(RTA_GATEWAY, &octets(gateway).1);
    }
    message.put(RTA_OIF, &index.to_ne_bytes());
    if let Some(priority) = priority {
        message.put(RTA_PRIORITY, &priority.to_ne_bytes());
    }
    message
}

/// Asks for all routes.
pub fn list_routes() -> Message {
    Message::new(RTM_GETROUTE, DUMP, &[0; 12])
}

/// Reads from a message where a route of the main table leads; `None` for a default route, and for anything else.
pub fn read_route(kind: u16, message: &[u8]) -> Option<IpNet> {
    let (prefix, table) = (*message.get(1)?, *message.get(4)?);
    if kind != RTM_NEWROUTE || table != RT_TABLE_MAIN || prefix == 0 {
        return None;
    }
    let (_, to) = attributes(message.get(12..)?).find(|(kind, _)| *kind == RTA_DST)?;
    IpNet::new(read_ip(to)?, prefix).ok()
}

#[cfg(test)]
mod tests {
    use sys::netlink::{Family, Socket};

    use super::*;

    fn devices(socket: &Socket) -> Vec<Device> {
        let mut found = Vec::new();
        socket
            .ask(list(), |kind, message| {
                found.extend(read_device(kind, message));
                Ok(())
            })
            .unwrap();
        found
    }

    /// A thread in a network namespace of its own, where a test may do what it likes.
    fn apart(test: impl FnOnce() + Send + 'static) {
        std::thread::spawn(|| match sys::namespace::unshare(sys::namespace::NETWORK) {
            Ok(()) => test(),
            Err(error) => println!("skipped: a network namespace ({error})"),
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_bridge_and_a_cable_into_another_namespace() {
        apart(|| {
            let socket = Socket::open(Family::Route).unwrap();
            let (sender, receiver) = std::sync::mpsc::channel();
            let (done, wait) = std::sync::mpsc::channel::<()>();
            let inside = std::thread::spawn(move || {
                sys::namespace::unshare(sys::namespace::NETWORK).unwrap();
                sender.send(std::fs::File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
                let socket = Socket::open(Family::Route).unwrap();
                wait.recv().unwrap();
                let eth0 = devices(&socket).into_iter().find(|d| d.name == "eth0").unwrap();
                assert_eq!(eth0.mtu, Some(1400));
                let net = |text: &str| text.parse::<IpNet>().unwrap();
                socket
                    .tell_all(vec![
                        up(1),
                        up(eth0.index),
                        without_own_v6(eth0.index),
                        address(eth0.index, net("10.9.0.2/24")),
                        address(eth0.index, net("fd00::2/64")),
                        route(net("0.0.0.0/0"), Some("10.9.0.1".parse().unwrap()), eth0.index, None),
                    ])
                    .unwrap();
                let mut found = Vec::new();
                let mut routes = Vec::new();
                socket
                    .ask(list_addresses(), |kind, message| {
                        found.extend(read_address(kind, message));
                        Ok(())
                    })
                    .unwrap();
                socket
                    .ask(list_routes(), |kind, message| {
                        routes.extend(read_route(kind, message));
                        Ok(())
                    })
                    .unwrap();
                assert!(found.contains(&(eth0.index, net("10.9.0.2/24"))), "{found:?}");
                assert!(found.contains(&(eth0.index, net("fd00::2/64"))), "{found:?}");
                assert!(routes.contains(&net("10.9.0.0/24")), "{routes:?}");
            });
            let namespace = receiver.recv().unwrap();
            socket.tell(bridge("br0", [2, 0, 0, 0, 0, 1], Some(1400))).unwrap();
            let index = devices(&socket).into_iter().find(|d| d.name == "br0").unwrap().index;
            let end = Inside { name: "eth0", mac: [2, 0, 0, 0, 0, 2] };
            socket.tell(veth("v0", index, Some(1400), end, &namespace)).unwrap();
            let port = devices(&socket).into_iter().find(|d| d.name == "v0").unwrap();
            assert_eq!((port.master, port.kind.as_deref(), port.up), (Some(index), Some("veth"), true));
            socket
                .tell_all(vec![
                    super::port(port.index, false),
                    address(index, "10.9.0.1/24".parse().unwrap()),
                ])
                .unwrap();
            done.send(()).unwrap();
            inside.join().unwrap();
            let taken = socket.tell(bridge("br0", [2, 0, 0, 0, 0, 1], None)).unwrap_err();
            assert_eq!(taken.errno(), Some(17), "{taken}");
            socket.tell(remove(index)).unwrap();
        });
    }

    #[test]
    fn further_devices_on_one() {
        apart(|| {
            let socket = Socket::open(Family::Route).unwrap();
            // Not every kernel has the one without a cable; a bridge does as well.
            if let Err(refusal) = socket.tell(dummy("d0")) {
                assert_eq!(refusal.said.as_deref(), Some("Unknown device type"));
                socket.tell(bridge("d0", [2, 0, 0, 0, 0, 9], None)).unwrap();
            }
            let parent = devices(&socket).into_iter().find(|d| d.name == "d0").unwrap().index;
            let here = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
            let end = |name| Inside { name, mac: [2, 0, 0, 0, 0, 3] };
            let made =
                socket.tell(further(Further::Macvlan(MacvlanMode::Bridge), parent, None, end("m0"), &here));
            made.unwrap();
            let kinds: Vec<_> = devices(&socket).into_iter().filter_map(|d| d.kind).collect();
            assert!(kinds.iter().any(|kind| kind == "macvlan"), "{kinds:?}");
            let made = socket.tell(further(
                Further::Ipvlan(IpvlanMode::L2, IpvlanFlag::Bridge),
                parent,
                None,
                end("i0"),
                &here,
            ));
            // A kernel without it says so by this number.
            assert!(made.is_ok() || made.unwrap_err().errno().is_some());
        });
    }

    #[test]
    fn damaged_messages_are_nothing() {
        assert_eq!(read_device(RTM_NEWLINK, &[0; 7]), None);
        assert_eq!(read_address(RTM_NEWADDR, &[2, 24, 0, 0, 1, 0, 0, 0, 5, 0, 2, 0, 1]), None);
        assert_eq!(read_route(RTM_NEWROUTE, &[2, 24, 0, 0, 254]), None);
    }
}
