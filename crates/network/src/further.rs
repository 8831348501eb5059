//! Networks on a device of the host's: a further device on it for each container, which lives in the container's namespace and dies with it
//! (`macvlan`, `ipvlan`).

use std::io;
use std::time::{Duration, Instant};

use sys::netlink::Socket;

use crate::bridge::{self, Context as _, Endpoint, Error};
use crate::link::{self, Further, Inside, IpvlanFlag, IpvlanMode, MacvlanMode};
use crate::namespace::Namespace;

const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const EOPNOTSUPP: i32 = 95;
const EADDRINUSE: i32 = 98;
/// The kernel takes namespaces apart in tens of milliseconds, many at a time.
const LINGERING: Duration = Duration::from_secs(5);
/// How long to leave it alone in between: it does not tell when it is done.
const AGAIN: Duration = Duration::from_millis(5);
/// The loopback device has this number in every namespace.
const LOOPBACK: u32 = 1;

/// The device below those of the containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parent {
    /// One that somebody else has made.
    Of(String),
    /// A part of another device's packets, which is made for the network.
    Vlan {
        /// What it is called.
        name: String,
        /// The device whose packets they are.
        on: String,
        /// The number that they carry.
        number: u16,
    },
    /// One without a cable, which is made for the network.
    Nowhere(String),
}

impl Parent {
    /// What it is called.
    pub fn name(&self) -> &str {
        match self {
            Self::Of(name) | Self::Vlan { name, .. } | Self::Nowhere(name) => name,
        }
    }
}

/// Whether the kernel has devices of this kind. It is asked in a namespace of its own, where nothing is left.
pub fn is_known(kind: Further) -> io::Result<bool> {
    let apart = Namespace::create()?;
    let inside = Inside { name: "further0", mac: [0x02, 0, 0, 0, 0, 1] };
    match apart.route().tell(link::further(kind, LOOPBACK, None, inside, &apart)) {
        Err(refusal) => Ok(refusal.errno() != Some(EOPNOTSUPP)),
        Ok(()) => Ok(true),
    }
}

/// Any device of the kind that `name` says.
pub fn any(name: &str) -> Further {
    match name {
        "ipvlan" => Further::Ipvlan(IpvlanMode::L2, IpvlanFlag::Bridge),
        _ => Further::Macvlan(MacvlanMode::Bridge),
    }
}

/// Makes the parent if it is one that is made, or finds it; returns its number. Can be repeated.
pub fn ensure(host: &Socket, parent: &Parent) -> Result<u32, Error> {
    let made = match parent {
        Parent::Of(_) => None,
        Parent::Vlan { name, on, number } => {
            let below = bridge::existing(host, on)?;
            Some(host.tell(link::vlan(name, below.index, *number)))
        }
        Parent::Nowhere(name) => Some(host.tell(link::dummy(name))),
    };
    match made {
        None | Some(Ok(())) => {}
        Some(Err(refusal)) if refusal.errno() == Some(EEXIST) => {}
        Some(failed) => failed.on(format_args!("create network device {}", parent.name()))?,
    }
    Ok(bridge::existing(host, parent.name())?.index)
}

/// Connects a namespace with the device that has the number `parent`. If it fails nothing of the connection is left.
///
/// The kernel takes a namespace apart some time after the last process in it: until then nobody else can have the addresses of the device
/// in it, and nobody can have a device that one has taken over whole, or take over one that others are on. That is waited for.
pub fn connect(
    host: &Socket,
    parent: u32,
    kind: Further,
    inside: &Namespace,
    endpoint: &Endpoint,
) -> Result<(), Error> {
    let shares = matches!(kind, Further::Macvlan(_));
    let started = Instant::now();
    loop {
        match try_connect(host, parent, kind, inside, endpoint) {
            Err(error)
                if started.elapsed() < LINGERING
                    && (error.errno() == Some(EADDRINUSE)
                        || shares && matches!(error.errno(), Some(EINVAL | EBUSY))) =>
            {
                std::thread::sleep(AGAIN);
            }
            other => return other,
        }
    }
}

fn try_connect(
    host: &Socket,
    parent: u32,
    kind: Further,
    inside: &Namespace,
    endpoint: &Endpoint,
) -> Result<(), Error> {
    let name = &endpoint.interface;
    let end = Inside { name, mac: endpoint.mac };
    host.tell(link::further(kind, parent, endpoint.mtu, end, inside))
        .on(format_args!("connect the container by {name}"))?;
    let settled = bridge::settle(inside, endpoint);
    if settled.is_err() {
        // The first error is the one that explains.
        let _ = bridge::remove(inside.route(), name);
    }
    settled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Device;

    /// A host with one end of a cable, and the LAN with the other.
    fn host_and_lan() -> Option<(Namespace, Namespace)> {
        let made = Namespace::create().and_then(|host| Ok((host, Namespace::create()?)));
        let (host, lan) = match made {
            Ok(made) => made,
            Err(error) => {
                println!("skipped: a network namespace ({error})");
                return None;
            }
        };
        let index = bridge::ensure(
            host.route(),
            &bridge::Bridge { name: "switch".into(), mac: [2, 0, 0, 0, 1, 1], mtu: None, addresses: vec![] },
        );
        let peer = Endpoint {
            interface: "peer".into(),
            port: "uplink".into(),
            mac: [2, 0, 0, 0, 1, 2],
            addresses: vec!["10.9.0.1/24".parse().unwrap()],
            gateways: vec![],
            sysctls: vec![],
            mtu: None,
            isolated: false,
        };
        bridge::connect(host.route(), index.unwrap(), &lan, &peer).unwrap();
        Some((host, lan))
    }

    fn endpoint(number: u8) -> Endpoint {
        Endpoint {
            interface: "eth0".into(),
            port: String::new(),
            mac: [2, 0, 0, 0, 2, number],
            addresses: vec![format!("10.9.0.{number}/24").parse().unwrap()],
            gateways: vec!["10.9.0.1".parse().unwrap()],
            sysctls: vec![("net.ipv4.conf.IFNAME.log_martians".into(), "1".into())],
            mtu: None,
            isolated: false,
        }
    }

    fn devices(namespace: &Namespace) -> Vec<Device> {
        let mut found = Vec::new();
        let asked = namespace.route().ask(link::list(), |kind, message| {
            found.extend(link::read_device(kind, message));
            Ok(())
        });
        asked.unwrap();
        found
    }

    #[test]
    fn a_container_on_the_lan() {
        let Some((host, lan)) = host_and_lan() else { return };
        assert!(is_known(any("macvlan")).unwrap());
        let parent = ensure(host.route(), &Parent::Of("switch".into())).unwrap();
        let kind = Further::Macvlan(MacvlanMode::Bridge);
        let inside = Namespace::create().unwrap();
        connect(host.route(), parent, kind, &inside, &endpoint(2)).unwrap();
        let martians = || std::fs::read_to_string("/proc/sys/net/ipv4/conf/eth0/log_martians");
        assert_eq!(inside.run(martians).unwrap(), "1\n");
        let listener = lan.run(|| std::net::TcpListener::bind("10.9.0.1:80")).unwrap();
        inside.run(|| std::net::TcpStream::connect("10.9.0.1:80")).unwrap();
        listener.accept().unwrap();
        // What fails half-way leaves no device.
        let other = Namespace::create().unwrap();
        let wrong = Endpoint { gateways: vec!["10.8.0.1".parse().unwrap()], ..endpoint(3) };
        connect(host.route(), parent, kind, &other, &wrong).unwrap_err();
        assert_eq!(devices(&other).iter().filter(|device| device.name == "eth0").count(), 0);
        let error = connect(host.route(), 99, kind, &other, &endpoint(3)).unwrap_err();
        assert!(error.to_string().contains("eth0"), "{error}");
        // Without a gateway everything goes by the device itself.
        let direct = Endpoint { gateways: vec!["0.0.0.0".parse().unwrap()], ..endpoint(4) };
        connect(host.route(), parent, kind, &other, &direct).unwrap();
        bridge::clear(&other).unwrap();
        assert_eq!(devices(&other).iter().filter(|device| device.name == "eth0").count(), 0);
    }

    #[test]
    fn parents_that_are_made() {
        let Some((host, _lan)) = host_and_lan() else { return };
        assert!(ensure(host.route(), &Parent::Of("nowhere".into())).is_err());
        let vlan = Parent::Vlan { name: "switch.10".into(), on: "switch".into(), number: 10 };
        for parent in [vlan, Parent::Nowhere("dm-0".into())] {
            match ensure(host.route(), &parent) {
                Ok(index) => {
                    assert_eq!(ensure(host.route(), &parent).unwrap(), index);
                    bridge::remove(host.route(), parent.name()).unwrap();
                }
                // Not every kernel has them.
                Err(error) => assert_eq!(error.errno(), Some(EOPNOTSUPP), "{error}"),
            }
        }
    }
}
