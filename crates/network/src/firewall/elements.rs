//! From networks and ports to elements of sets.

use std::net::IpAddr;

use super::nft::batch::Batch;
use super::nft::{Element, Set, Value};
use super::table::{BRIDGES, INTERNAL, Sets, WITHIN};
use super::{Error, Inward, Network, Outward, Port};

/// Elements, by the sets that they are of.
#[derive(Debug, Default)]
pub struct Changes {
    sets: Vec<(&'static Set, Vec<Element>)>,
}

impl Changes {
    /// What ports are.
    pub fn of_ports(ports: &[Port]) -> Result<Self, Error> {
        let mut changes = Self::default();
        for port in ports {
            changes.port(port)?;
        }
        Ok(changes)
    }

    /// What a network is.
    pub fn network(&mut self, network: &Network) {
        let bridge = Value::Name(&network.bridge);
        self.put(&BRIDGES, &[bridge], &[]);
        if network.internal {
            self.put(&INTERNAL, &[bridge], &[]);
        }
        if network.icc {
            self.put(&WITHIN, &[bridge, bridge], &[]);
        }
        for subnet in &network.subnets {
            let net = Value::Net(subnet.net);
            let sets = Sets::of(subnet.net.addr());
            self.put(&sets.subnets, &[bridge, net], &[]);
            match subnet.inward {
                Inward::Published => {}
                Inward::Unprotected => self.put(&sets.unprotected, &[net], &[]),
                Inward::Routed => self.put(&sets.routed, &[net], &[]),
            }
            match subnet.outward {
                Outward::Own => {}
                Outward::Masquerade => self.put(&sets.masquerade, &[net], &[]),
                Outward::As(address) => self.put(&sets.outward, &[net], &[Value::Address(address)]),
            }
        }
    }

    /// What a container's ports are: one element for all, where each is published under its own number, or else one for each.
    pub fn port(&mut self, port: &Port) -> Result<(), Error> {
        let last = |first: u16| {
            let more = port.count.checked_sub(1).and_then(|more| first.checked_add(more));
            more.ok_or(Error::Range { first, count: port.count })
        };
        let sets = Sets::of(port.container);
        let protocol = Value::Protocol(port.protocol as u8);
        let container = Value::Address(port.container);
        let inside = Value::Ports(port.first, last(port.first)?);
        let Some(host) = port.host else {
            self.put(&sets.open, &[container, protocol, inside], &[]);
            return Ok(());
        };
        if host.address.is_ipv4() != port.container.is_ipv4() {
            return Err(Error::Versions { host: host.address, container: port.container });
        }
        last(host.first)?;
        if host.first == port.first && port.count > 1 {
            let net =
                if host.address.is_unspecified() { everywhere(host.address) } else { host.address.into() };
            self.put(&sets.ranges, &[Value::Net(net), protocol, inside], &[container]);
            return Ok(());
        }
        for offset in 0..port.count {
            let outside = Value::Port(host.first + offset);
            let to = [container, Value::Port(port.first + offset)];
            if host.address.is_unspecified() {
                self.put(&sets.ports, &[protocol, outside], &to);
            } else {
                self.put(&sets.ports_at, &[Value::Address(host.address), protocol, outside], &to);
            }
        }
        Ok(())
    }

    fn put(&mut self, set: &'static Set, key: &[Value<'_>], data: &[Value<'_>]) {
        let elements = Element::new(set, key, data);
        match self.sets.iter_mut().find(|(known, _)| known.name == set.name) {
            Some((_, known)) => known.extend(elements),
            None => self.sets.push((set, elements)),
        }
    }

    /// Has a batch add them.
    pub fn add(&self, batch: &mut Batch) {
        for (set, elements) in &self.sets {
            batch.add(set, elements);
        }
    }

    /// Has a batch remove them.
    pub fn remove(&self, batch: &mut Batch) {
        for (set, elements) in &self.sets {
            batch.remove(set, elements);
        }
    }
}

/// All addresses of a version.
fn everywhere(unspecified: IpAddr) -> ipnet::IpNet {
    match unspecified {
        IpAddr::V4(address) => ipnet::Ipv4Net::new_assert(address, 0).into(),
        IpAddr::V6(address) => ipnet::Ipv6Net::new_assert(address, 0).into(),
    }
}
