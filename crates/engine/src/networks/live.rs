//! What networks give out while containers run: addresses, and who has which. In memory alone: after a start of the daemon those that
//! run tell what they have.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use api::network::{EndpointIpamConfig, EndpointSettings, IpamStatus, Status, SubnetStatus};
use ipnet::IpNet;
use network::ipam::{self, Addresses};
use serde::{Deserialize, Serialize};

use super::endpoint;
use super::record::{Record, invalid};
use super::settings::OTHER_GATEWAY;
use crate::error::{Error, Result};

/// A container's place on a network while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The network's id.
    pub network: String,
    /// The network's name.
    pub name: String,
    /// What its device is called in the container.
    pub interface: String,
    /// What the other end is called on the host; empty if there is none.
    pub port: String,
    /// The hardware address.
    pub mac: [u8; 6],
    /// Its addresses, with the prefix of their subnets.
    pub addresses: Vec<IpNet>,
    /// The subnets' gateways, be they used or not.
    pub gateways: Vec<IpAddr>,
}

impl Endpoint {
    /// The address of one family.
    pub(crate) fn address(&self, v6: bool) -> Option<IpNet> {
        self.addresses.iter().copied().find(|net| net.addr().is_ipv6() == v6)
    }

    /// The gateway of one family.
    pub(crate) fn gateway(&self, v6: bool) -> Option<IpAddr> {
        self.gateways.iter().copied().find(|gateway| gateway.is_ipv6() == v6 && !gateway.is_unspecified())
    }

    /// The hardware address as people write it.
    pub(crate) fn mac_text(&self) -> String {
        // It has that of the device below.
        if self.mac == [0; 6] {
            return String::new();
        }
        let [a, b, c, d, e, f] = self.mac;
        format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// A network and those that are on it.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) record: Arc<Record>,
    pools: Vec<Addresses>,
    /// By the container's id.
    pub(super) endpoints: BTreeMap<String, Endpoint>,
}

impl Live {
    pub(super) fn of(record: Record) -> Result<Self> {
        let pools =
            record.pools.iter().cloned().map(Addresses::plain).collect::<Result<_, _>>().map_err(invalid)?;
        Ok(Self { record: Arc::new(record), pools, endpoints: BTreeMap::new() })
    }

    /// Gives a container a place.
    pub(super) fn take(
        &mut self,
        container: &str,
        id: String,
        interface: String,
        settings: &EndpointSettings,
    ) -> Result<Endpoint> {
        if self.endpoints.contains_key(container) {
            let name = &self.record.name;
            return Err(Error::forbidden(format!(
                "endpoint of container {container} already exists in network {name}"
            )));
        }
        if self.record.is_taken_whole() && !self.endpoints.is_empty() {
            return Err(Error::forbidden(format!(
                "network {} is in mode passthru: another container has taken over {}",
                self.record.name,
                self.record.device()
            )));
        }
        let wished = wished(settings)?;
        check(&self.record, &wished)?;
        let mut addresses: Vec<IpNet> = Vec::new();
        let taken = self.pools.iter_mut().try_for_each(|pool| {
            let subnet = pool.pool().subnet;
            let wish = wished.iter().copied().find(|ip| ip.is_ipv6() == subnet.addr().is_ipv6());
            let address = match wish {
                Some(wish) => pool.take(wish).map(|()| wish),
                None => pool.take_any(),
            };
            address.map(|address| addresses.push(IpNet::new_assert(address, subnet.prefix_len())))
        });
        if let Err(error) = taken {
            self.give_back(&addresses);
            return Err(match error {
                ipam::Error::Taken => Error::forbidden(error.to_string()),
                ipam::Error::NoAddress { family, .. } => Error::forbidden(format!(
                    "no available {family} addresses on this network's address pools: {} ({})",
                    self.record.name, self.record.id
                )),
                error => invalid(error),
            });
        }
        let endpoint = Endpoint {
            network: self.record.id.clone(),
            name: self.record.name.clone(),
            port: match self.record.is_bridge() {
                true => format!("veth{}", id.get(..7).unwrap_or(&id)),
                false => String::new(),
            },
            mac: if self.record.shares_mac() { [0; 6] } else { mac(settings, &id, &addresses)? },
            gateways: self.gateways(),
            id,
            interface,
            addresses,
        };
        self.endpoints.insert(container.to_owned(), endpoint.clone());
        Ok(endpoint)
    }

    /// The ways out; where everything goes by the device itself an address that is none.
    fn gateways(&self) -> Vec<IpAddr> {
        if self.record.is_routed_by_device() {
            let none = |pool: &ipam::Pool| match pool.subnet {
                IpNet::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
                IpNet::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            return self.record.pools.iter().map(none).collect();
        }
        let way = |pool: &ipam::Pool| {
            let other = OTHER_GATEWAY[usize::from(pool.subnet.addr().is_ipv6())];
            pool.auxiliary.get(other).copied().or(pool.gateway)
        };
        self.record.pools.iter().filter_map(way).collect()
    }

    /// How many of its addresses are in use.
    pub(super) fn status(&self) -> Status {
        let of = |pool: &Addresses| {
            let (ips_in_use, dynamic_ips_available) = pool.used_and_free();
            (pool.pool().subnet.to_string(), SubnetStatus { ips_in_use, dynamic_ips_available })
        };
        Status { ipam: IpamStatus { subnets: self.pools.iter().map(of).collect() } }
    }

    /// Takes a container's place back.
    pub(super) fn release(&mut self, container: &str) -> Option<Endpoint> {
        let endpoint = self.endpoints.remove(container)?;
        self.give_back(&endpoint.addresses);
        Some(endpoint)
    }

    /// A container that runs has this place already.
    pub(super) fn adopt(&mut self, container: &str, endpoint: Endpoint) {
        for net in &endpoint.addresses {
            for pool in self.pools.iter_mut().filter(|pool| pool.pool().subnet.contains(&net.addr())) {
                if pool.take(net.addr()).is_err() {
                    tracing::error!(container, address = %net, "two containers have one address");
                }
            }
        }
        self.endpoints.insert(container.to_owned(), endpoint);
    }

    fn give_back(&mut self, addresses: &[IpNet]) {
        for net in addresses {
            for pool in self.pools.iter_mut().filter(|pool| pool.pool().subnet.contains(&net.addr())) {
                pool.release(net.addr());
            }
        }
    }
}

/// The addresses that a container asks for.
fn wished(settings: &EndpointSettings) -> Result<Vec<IpAddr>> {
    let none = EndpointIpamConfig::default();
    let config = settings.ipam_config.as_ref().unwrap_or(&none);
    let both = [(&config.ipv4_address, false), (&config.ipv6_address, true)];
    let asked = both.into_iter().filter(|(text, _)| !text.is_empty());
    asked
        .map(|(text, v6)| {
            let family = if v6 { "IPv6" } else { "IPv4" };
            let wrong = || Error::invalid(format!("invalid {family} address: {text}"));
            text.parse::<IpAddr>().ok().filter(|ip| ip.is_ipv6() == v6).ok_or_else(wrong)
        })
        .collect()
}

/// Refuses addresses that the network cannot have, in Docker's words: also before the container is started.
fn check(record: &Record, wished: &[IpAddr]) -> Result<()> {
    if !wished.is_empty() && !record.chosen {
        return Err(Error::invalid(
            "user specified IP address is supported only when connecting to networks with user configured subnets",
        ));
    }
    let outside = |ip: &&IpAddr| !record.pools.iter().any(|pool| pool.subnet.contains(*ip));
    match wished.iter().find(outside) {
        Some(ip) => Err(invalid(ipam::Error::Outside(*ip))),
        None => Ok(()),
    }
}

/// Checks what a container asks of a network.
pub(super) fn check_settings(record: &Record, settings: &EndpointSettings) -> Result<()> {
    check(record, &wished(settings)?)?;
    if record.config_only {
        return Err(Error::forbidden("cannot create endpoint on configuration-only network"));
    }
    if record.shares_mac() && !settings.mac_address.is_empty() {
        return Err(Error::invalid("ipvlan interfaces do not support custom mac address assignment"));
    }
    endpoint::check(record, settings)?;
    parse_mac(&settings.mac_address).map(drop)
}

fn parse_mac(text: &str) -> Result<Option<[u8; 6]>> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || Error::invalid(format!("invalid MAC address: {text}"));
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    // The lowest bit of the first byte means many receivers.
    if parts.next().is_some() || mac[0] & 1 != 0 {
        return Err(wrong());
    }
    Ok(Some(mac))
}

/// The one that is asked for, or one that follows from the IPv4 address, or from the endpoint's id.
fn mac(settings: &EndpointSettings, id: &str, addresses: &[IpNet]) -> Result<[u8; 6]> {
    if let Some(mac) = parse_mac(&settings.mac_address)? {
        return Ok(mac);
    }
    let v4 = addresses.iter().find_map(|net| match net.addr() {
        IpAddr::V4(address) => Some(ipam::hardware_address(address)),
        IpAddr::V6(_) => None,
    });
    Ok(v4.unwrap_or_else(|| local_mac(id)))
}

/// A hardware address of our own making, from an id.
pub(super) fn local_mac(id: &str) -> [u8; 6] {
    let digits = |at: usize| u8::from_str_radix(id.get(at..at + 2).unwrap_or("0"), 16).unwrap_or_default();
    [0x02, 0x42, digits(0), digits(2), digits(4), digits(6)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use network::ipam::Pool;

    fn live(chosen: bool) -> Live {
        let mut record =
            Record::default_bridge("ab".repeat(32), vec![Pool::of("10.9.0.0/29".parse().unwrap())]).unwrap();
        record.pools.push(Pool {
            gateway: Some("fd00::1".parse().unwrap()),
            ..Pool::of("fd00::/64".parse().unwrap())
        });
        record.chosen = chosen;
        Live::of(record).unwrap()
    }

    fn asking(v4: &str) -> EndpointSettings {
        let config = EndpointIpamConfig { ipv4_address: v4.to_owned(), ..EndpointIpamConfig::default() };
        EndpointSettings { ipam_config: Some(config), ..EndpointSettings::default() }
    }

    #[test]
    fn a_place_has_an_address_of_each_family_and_is_given_back_whole() {
        let mut live = live(true);
        let id = "0123456789abcdef".repeat(4);
        let none = EndpointSettings::default();
        let first = live.take("a", id.clone(), "eth0".into(), &none).unwrap();
        assert_eq!(first.address(false).unwrap().to_string(), "10.9.0.2/29");
        assert_eq!(first.address(true).unwrap().to_string(), "fd00::2/64");
        assert_eq!((first.mac_text().as_str(), first.port.as_str()), ("02:42:0a:09:00:02", "veth0123456"));
        live.take("a", id.clone(), "eth0".into(), &none).unwrap_err();
        let asked = live.take("b", id.clone(), "eth0".into(), &asking("10.9.0.5")).unwrap();
        assert_eq!(asked.address(false).unwrap().addr().to_string(), "10.9.0.5");
        let taken = live.take("c", id.clone(), "eth0".into(), &asking("10.9.0.5")).unwrap_err();
        assert_eq!(taken.to_string(), "Address already in use");
        // What failed has kept nothing: of the other family neither.
        let second = live.take("c", id.clone(), "eth0".into(), &none).unwrap();
        assert_eq!(second.address(true).unwrap().addr().to_string(), "fd00::4");
        live.release("a").unwrap();
        let again = live.take("d", id.clone(), "eth0".into(), &none).unwrap();
        assert_eq!(again.addresses, first.addresses);
        for name in ["e", "f"] {
            live.take(name, id.clone(), "eth0".into(), &none).unwrap();
        }
        let full = live.take("g", id, "eth0".into(), &none).unwrap_err().to_string();
        assert!(full.starts_with("no available IPv4 addresses"), "{full}");
    }

    #[test]
    fn what_runs_keeps_what_it_has() {
        let mut before = live(true);
        let id = "cd".repeat(32);
        let endpoint = before.take("a", id.clone(), "eth0".into(), &EndpointSettings::default()).unwrap();
        let mut after = live(true);
        after.adopt("a", endpoint.clone());
        let next = after.take("b", id, "eth0".into(), &EndpointSettings::default()).unwrap();
        assert_ne!(next.addresses, endpoint.addresses);
    }

    #[test]
    fn wishes_that_cannot_be_had_are_refused() {
        let refused = |chosen, settings: &EndpointSettings| {
            check_settings(&live(chosen).record, settings).unwrap_err().to_string()
        };
        assert!(refused(false, &asking("10.9.0.3")).contains("user configured subnets"));
        assert!(
            refused(true, &asking("10.8.0.3")).contains("no configured subnet contains IP address 10.8.0.3")
        );
        assert!(refused(true, &asking("fd00::7")).contains("invalid IPv4 address"));
        for mac in ["02:42", "03:00:00:00:00:01", "zz:00:00:00:00:01", "02:00:00:00:00:01:02"] {
            let settings = EndpointSettings { mac_address: mac.into(), ..EndpointSettings::default() };
            assert!(refused(true, &settings).contains("invalid MAC address"), "{mac}");
        }
    }
}
