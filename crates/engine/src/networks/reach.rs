//! Who can reach what is published.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::Filters;
use api::reach::{Reach, ReachedPort};
use ipnet::IpNet;
use network::bridge;
use network::firewall::{Fate, Foreign, Packet};

use super::ports::{self, Published};
use super::{Networks, join};
use crate::containers::record::Record as Container;
use crate::error::{Error, Result};

/// What the list can be filtered by.
const FILTERS: &[&str] = &["container", "network", "protocol", "publish", "reach"];

/// Who can reach a port, as it is filtered by.
const KINDS: &[&str] = &["host", "subnets", "anyone", "nobody", "blocked"];

/// What decides about a port that netd serves.
const INPUT: &str = "the host's input rules";

impl Networks {
    /// Lists the published ports of all containers that run, with who can reach them; blocks.
    pub(super) fn reached_ports(&self, filters: &Filters) -> Result<Vec<ReachedPort>> {
        filters.validate(FILTERS).map_err(|e| Error::invalid(e.to_string()))?;
        if let Some(kind) = filters.get("reach").find(|kind| !KINDS.contains(kind)) {
            return Err(Error::invalid(format!("invalid filter 'reach={kind}'")));
        }
        let addresses = self.host_addresses()?;
        let foreign = self
            .foreign()
            .map_err(|e| Error::system("cannot read the packet filters of others").with_source(e))?;
        let bridges = self.bridges();
        let mut all = Vec::new();
        for handle in self.index.all() {
            let container = handle.record();
            if container.life.pid().is_none() {
                continue;
            }
            let way_in = self.door(&container);
            for port in &container.places.published {
                let (network, device) = way_in.clone().unwrap_or_default();
                let mut reach = by_address(port.address, &addresses);
                if !matches!(reach.kind.as_str(), "subnets" | "anyone") {
                    // Nobody from outside gets as far as that.
                } else if !port.is_led(self.how()) {
                    reach.chain = INPUT.to_owned();
                } else {
                    by_foreign(&mut reach, &foreign, port, &device, &bridges);
                }
                all.push(shown(&container, network, port, reach));
            }
        }
        all.retain(|port| matches(filters, port));
        all.sort_by(|a, b| {
            (&a.container, a.container_port, &a.protocol, a.host_port, &a.host_ip).cmp(&(
                &b.container,
                b.container_port,
                &b.protocol,
                b.host_port,
                &b.host_ip,
            ))
        });
        Ok(all)
    }

    /// The network that a container's ports lead to it by, and its bridge.
    fn door(&self, container: &Container) -> Option<(String, String)> {
        let attachment = container.attachments.get(self.way_in(&container.attachments)?)?;
        let state = self.state();
        let record = &state.get(&attachment.network)?.record;
        Some((record.name.clone(), record.device()))
    }

    /// The host's addresses, but for those on its bridges of ours.
    fn host_addresses(&self) -> Result<Vec<IpNet>> {
        let socket = join::route()?;
        let own: Vec<u32> = self
            .bridges()
            .iter()
            .filter_map(|name| bridge::device(&socket, name).ok().flatten())
            .map(|device| device.index)
            .collect();
        let all = bridge::addresses(&socket).map_err(join::kernel)?;
        Ok(all.into_iter().filter(|(index, _)| !own.contains(index)).map(|(_, net)| net).collect())
    }
}

fn shown(container: &Container, network: String, port: &Published, reach: Reach) -> ReachedPort {
    ReachedPort {
        container_id: container.id.clone(),
        container: container.name.clone(),
        network,
        protocol: port.protocol.clone(),
        host_ip: port.address.to_string(),
        host_port: port.host,
        container_port: port.container,
        reach,
    }
}

fn matches(filters: &Filters, port: &ReachedPort) -> bool {
    let among = |key: &str, test: &dyn Fn(&str) -> bool| {
        filters.get(key).next().is_none() || filters.get(key).any(test)
    };
    let published = |wanted: &str| {
        let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
        number.parse() == Ok(port.host_port) && protocol == port.protocol
    };
    among("container", &|v| port.container == v || (!v.is_empty() && port.container_id.starts_with(v)))
        && among("network", &|v| port.network == v)
        && among("protocol", &|v| port.protocol == v)
        && among("publish", &published)
        && among("reach", &|v| port.reach.kind == v)
}

fn reach(kind: &str) -> Reach {
    Reach { kind: kind.to_owned(), ..Reach::default() }
}

/// Who gets to an address of the host's at all.
fn by_address(address: IpAddr, host: &[IpNet]) -> Reach {
    if address.is_loopback() {
        return reach("host");
    }
    let here: Vec<&IpNet> = host
        .iter()
        .filter(|net| net.addr().is_ipv4() == address.is_ipv4() && !net.addr().is_loopback())
        .filter(|net| address.is_unspecified() || net.addr() == address)
        .collect();
    if here.is_empty() {
        return reach(if address.is_unspecified() { "host" } else { "nobody" });
    }
    if here.iter().any(|net| is_public(net.addr())) {
        return reach("anyone");
    }
    let mut subnets: Vec<IpNet> = here.into_iter().map(IpNet::trunc).collect();
    subnets.sort();
    subnets.dedup();
    // Every device has one, and the machines there have another as well.
    let on_link = |net: &IpNet| matches!(net.addr(), IpAddr::V6(v6) if v6.is_unicast_link_local());
    if !subnets.iter().all(on_link) {
        subnets.retain(|net| !on_link(net));
    }
    Reach { subnets: subnets.iter().map(ToString::to_string).collect(), ..reach("subnets") }
}

/// Whether packets from anywhere in the world can be for an address.
fn is_public(address: IpAddr) -> bool {
    /// Shared by the customers of a provider (RFC 6598).
    const SHARED: (Ipv4Addr, u8) = (Ipv4Addr::new(100, 64, 0, 0), 10);
    /// All that is given out (RFC 4291), and of it what is for examples (RFC 3849).
    const UNICAST: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
    const EXAMPLES: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32);
    let within =
        |(net, prefix): (IpAddr, u8)| IpNet::new(net, prefix).is_ok_and(|net| net.contains(&address));
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_documentation()
                || within((SHARED.0.into(), SHARED.1)))
        }
        IpAddr::V6(_) => within((UNICAST.0.into(), UNICAST.1)) && !within((EXAMPLES.0.into(), EXAMPLES.1)),
    }
}

/// What chains of others make of it.
fn by_foreign(reach: &mut Reach, foreign: &Foreign, port: &Published, device: &str, bridges: &[String]) {
    let Some(protocol) = ports::protocol(&port.protocol) else { return };
    let into = Packet {
        v6: port.address.is_ipv6(),
        from: None,
        to: Some(device),
        new: true,
        dnat: true,
        port: Some((protocol as u8, port.container)),
        ours: bridges,
    };
    let back = Packet { from: Some(device), to: None, new: false, port: None, ..into };
    let fates = [foreign.fate(&into), foreign.fate(&back)];
    let of = |wanted: Fate| fates.iter().flatten().find(|(fate, _)| *fate == wanted).map(|(_, chain)| chain);
    if let Some(chain) = of(Fate::Drops) {
        reach.kind = "blocked".to_owned();
        reach.subnets.clear();
        reach.chain = format!("{chain} ({})", chain.why());
        reach.commands = chain.allow(device).into();
    } else if let Some(chain) = of(Fate::Depends) {
        reach.chain = chain.to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(address: &str, host: &[&str]) -> String {
        let host: Vec<IpNet> = host.iter().map(|net| net.parse().unwrap()).collect();
        let reach = by_address(address.parse().unwrap(), &host);
        format!("{} {}", reach.kind, reach.subnets.join(" "))
    }

    #[test]
    fn an_address_says_who_gets_to_it() {
        let home = ["127.0.0.1/8", "192.168.1.7/24", "10.0.0.1/8", "::1/128", "fd00::1/64"];
        assert_eq!(by("127.0.0.1", &home), "host ");
        assert_eq!(by("0.0.0.0", &home), "subnets 10.0.0.0/8 192.168.1.0/24");
        assert_eq!(by("192.168.1.7", &home), "subnets 192.168.1.0/24");
        assert_eq!(by("192.168.1.8", &home), "nobody ");
        assert_eq!(by("::", &home), "subnets fd00::/64");
        assert_eq!(by("0.0.0.0", &["127.0.0.1/8"]), "host ");
        assert_eq!(by("0.0.0.0", &["10.0.0.1/8", "8.8.8.8/24"]), "anyone ");
        assert_eq!(by("10.0.0.1", &["10.0.0.1/8", "8.8.8.8/24"]), "subnets 10.0.0.0/8");
        assert_eq!(by("::", &["2a00::1/64", "fe80::1/64"]), "anyone ");
        assert_eq!(by("0.0.0.0", &["100.100.0.1/24"]), "subnets 100.100.0.0/24");
    }
}
