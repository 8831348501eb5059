//! Addresses: which subnet a network gets, and which address of it a container. Pure: what is taken is told, what is given is returned.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// The largest number of subnets of one pool that are looked at for a free one.
const CANDIDATES_MAX: u32 = 1 << 16;

/// Bits of the prefix of an IPv6 subnet that is given out: what hosts configure themselves in.
const V6_SUBNET_BITS: u8 = 64;

/// What is wrong with a wish for addresses, in Docker's words where scripts match on them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Two subnets share addresses.
    #[error(
        "invalid pool request: Pool overlaps with other one on this address space ({subnet} with {other})"
    )]
    Overlap {
        /// The one that was wished for.
        subnet: IpNet,
        /// The one that is there.
        other: IpNet,
    },
    /// No pool has a subnet left.
    #[error(
        "all predefined address pools have been fully subnetted (remove networks that are not used, or give one with --subnet)"
    )]
    NoSubnet,
    /// No address is left.
    #[error("no available {family} addresses on this network's address pools: {pool}")]
    NoAddress {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// Where they are given from.
        pool: IpNet,
    },
    /// Somebody has it.
    #[error("Address already in use")]
    Taken,
    /// It cannot be had there.
    #[error("no configured subnet contains IP address {0}")]
    Outside(IpAddr),
    /// What else is wrong.
    #[error("{0}")]
    Invalid(String),
}

/// A subnet, and how its addresses are given out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// All of its addresses.
    pub subnet: IpNet,
    /// Those that are given out, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<IpNet>,
    /// The way out: the bridge's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Addresses that somebody else has, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub auxiliary: BTreeMap<String, IpAddr>,
}

impl Pool {
    /// All of a subnet.
    pub fn of(subnet: IpNet) -> Self {
        Self { subnet, range: None, gateway: None, auxiliary: BTreeMap::new() }
    }

    /// Checks what was wished for by itself.
    pub fn check(&self) -> Result<(), Error> {
        let subnet = self.subnet;
        if subnet != subnet.trunc() {
            return Err(Error::Invalid(format!("invalid subnet {subnet}: it should be {}", subnet.trunc())));
        }
        // Network and broadcast address, the bridge, and a container.
        if subnet.max_prefix_len() - subnet.prefix_len() < 2 {
            return Err(Error::Invalid(format!("invalid subnet {subnet}: it is too small for a container")));
        }
        if let Some(range) = self.range
            && !subnet.contains(&range)
        {
            return Err(Error::Invalid(format!(
                "invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"
            )));
        }
        let named =
            self.auxiliary.iter().map(|(name, address)| (format!("auxiliary address {name}"), *address));
        for (what, address) in named.chain(self.gateway.map(|gateway| ("gateway".to_owned(), gateway))) {
            if !subnet.contains(&address) {
                return Err(Error::Invalid(format!(
                    "invalid {what} {address}: parent subnet {subnet} doesn't contain this address"
                )));
            }
        }
        Ok(())
    }
}

/// Where subnets come from that nobody names (`default-address-pools`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defaults {
    /// In the order in which they are used: a network, and the bits of the prefix of the subnets it is cut into.
    pub v4: Vec<(Ipv4Net, u8)>,
    /// The same; unique local addresses (RFC 4193) of this host.
    pub v6: Vec<(Ipv6Net, u8)>,
}

impl Defaults {
    /// Docker's, and for IPv6 those that belong to `host`, 40 bits that no other host is likely to have.
    pub fn of_host(host: [u8; 5]) -> Self {
        let v4 = |a, b, bits, subnet| (net4(a, b, bits), subnet);
        let mut pools: Vec<(Ipv4Net, u8)> = (17..=31).map(|b| v4(172, b, 16, 16)).collect();
        pools.push(v4(192, 168, 16, 20));
        let mut bytes = [0; 16];
        bytes[0] = 0xfd;
        bytes[1..6].copy_from_slice(&host);
        let local = Ipv6Net::new_assert(Ipv6Addr::from(bytes), 48);
        Self { v4: pools, v6: vec![(local, V6_SUBNET_BITS)] }
    }

    /// Checks what the daemon's configuration says.
    pub fn check(&self) -> Result<(), Error> {
        let v4 = self.v4.iter().map(|(base, bits)| (IpNet::V4(*base), *bits));
        let v6 = self.v6.iter().map(|(base, bits)| (IpNet::V6(*base), *bits));
        for (base, bits) in v4.chain(v6) {
            if bits < base.prefix_len() || bits > base.max_prefix_len() - 2 {
                return Err(Error::Invalid(format!(
                    "invalid default-address-pools: size {bits} of the pool {base}"
                )));
            }
        }
        Ok(())
    }

    /// The first IPv4 subnet that shares no address with any of `taken`.
    pub fn v4(&self, taken: &[IpNet]) -> Result<IpNet, Error> {
        let cut = |(base, bits): &(Ipv4Net, u8)| base.subnets(*bits).into_iter().flatten().map(IpNet::V4);
        first_free(self.v4.iter().flat_map(cut), taken)
    }

    /// The same for IPv6.
    pub fn v6(&self, taken: &[IpNet]) -> Result<IpNet, Error> {
        let cut = |(base, bits): &(Ipv6Net, u8)| base.subnets(*bits).into_iter().flatten().map(IpNet::V6);
        first_free(self.v6.iter().flat_map(cut), taken)
    }
}

fn net4(a: u8, b: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), bits)
}

fn first_free(candidates: impl Iterator<Item = IpNet>, taken: &[IpNet]) -> Result<IpNet, Error> {
    let mut candidates = candidates.take(CANDIDATES_MAX as usize);
    candidates.find(|candidate| overlap(*candidate, taken).is_none()).ok_or(Error::NoSubnet)
}

/// The first of `taken` that shares addresses with `subnet`.
fn overlap(subnet: IpNet, taken: &[IpNet]) -> Option<IpNet> {
    taken.iter().copied().find(|other| subnet.contains(other) || other.contains(&subnet))
}

/// Refuses a subnet that shares addresses with one of `taken`.
pub fn check_apart(subnet: IpNet, taken: &[IpNet]) -> Result<(), Error> {
    overlap(subnet, taken).map_or(Ok(()), |other| Err(Error::Overlap { subnet, other }))
}

/// The addresses of a pool, and which of them are taken.
#[derive(Debug, Clone)]
pub struct Addresses {
    pool: Pool,
    taken: BTreeSet<IpAddr>,
}

impl Addresses {
    /// Those of a pool of which nobody has one yet. The gateway is chosen if none is named.
    pub fn of(pool: Pool) -> Result<Self, Error> {
        let mut addresses = Self::plain(pool)?;
        if addresses.pool.gateway.is_none() {
            addresses.pool.gateway = Some(addresses.take_any()?);
        }
        Ok(addresses)
    }

    /// The same without a gateway, if none is named.
    pub fn plain(pool: Pool) -> Result<Self, Error> {
        pool.check()?;
        let named = pool.auxiliary.values().copied().chain(pool.gateway);
        let taken: BTreeSet<IpAddr> = named.clone().collect();
        if taken.len() < named.count() {
            return Err(Error::Taken);
        }
        Ok(Self { pool, taken })
    }

    /// The pool, with its gateway.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Gives the lowest address that is free.
    pub fn take_any(&mut self) -> Result<IpAddr, Error> {
        let range = self.pool.range.unwrap_or(self.pool.subnet);
        let found = match range {
            IpNet::V4(range) => {
                let all = u32::from(range.network())..=u32::from(range.broadcast());
                self.lowest(all.map(|n| IpAddr::V4(n.into())))
            }
            IpNet::V6(range) => {
                let all = u128::from(range.network())..=u128::from(range.broadcast());
                self.lowest(all.map(|n| IpAddr::V6(n.into())))
            }
        };
        let family = if range.addr().is_ipv4() { "IPv4" } else { "IPv6" };
        let address = found.ok_or(Error::NoAddress { family, pool: range })?;
        self.taken.insert(address);
        Ok(address)
    }

    /// The first of `all` that can be given. As many are looked at as are taken, and a few.
    fn lowest(&self, mut all: impl Iterator<Item = IpAddr>) -> Option<IpAddr> {
        all.find(|address| !self.taken.contains(address) && !self.is_special(*address))
    }

    /// Gives the one that is asked for; it may lie outside the range.
    pub fn take(&mut self, address: IpAddr) -> Result<(), Error> {
        if !self.pool.subnet.contains(&address) {
            return Err(Error::Outside(address));
        }
        if self.is_special(address) || !self.taken.insert(address) {
            return Err(Error::Taken);
        }
        Ok(())
    }

    /// Takes one back.
    pub fn release(&mut self, address: IpAddr) {
        let kept = Some(address) == self.pool.gateway || self.pool.auxiliary.values().any(|a| *a == address);
        if !kept {
            self.taken.remove(&address);
        }
    }

    /// How many of the subnet's addresses somebody has, or nobody can have; and how many are left to be given out.
    pub fn used_and_free(&self) -> (u64, u64) {
        let subnet = self.pool.subnet;
        let range = self.pool.range.unwrap_or(subnet);
        let mut special = vec![subnet.network()];
        if subnet.addr().is_ipv4() {
            special.push(subnet.broadcast());
        }
        let used: BTreeSet<IpAddr> = self.taken.iter().copied().chain(special).collect();
        let all = match u32::from(range.max_prefix_len() - range.prefix_len()) {
            bits @ 0..64 => 1_u64 << bits,
            _ => u64::MAX,
        };
        let inside = used.iter().filter(|address| range.contains(*address)).count() as u64;
        (used.len() as u64, all.saturating_sub(inside))
    }

    /// The addresses that mean the subnet and, in IPv4, all in it.
    fn is_special(&self, address: IpAddr) -> bool {
        let subnet = self.pool.subnet;
        address == subnet.network() || (address.is_ipv4() && address == subnet.broadcast())
    }
}

/// The hardware address that belongs to an IPv4 address, as Docker makes it: whoever takes over an address answers for it at once,
/// whatever its peers remember.
pub fn hardware_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_nobody_names_are_dockers_in_its_order() {
        let defaults = Defaults::of_host([1, 2, 3, 4, 5]);
        let mut taken = Vec::new();
        let mut given = Vec::new();
        for _ in 0..17 {
            let subnet = defaults.v4(&taken).unwrap();
            taken.push(subnet);
            given.push(subnet.to_string());
        }
        assert_eq!(given[0], "172.17.0.0/16");
        assert_eq!(given[14..], ["172.31.0.0/16", "192.168.0.0/20", "192.168.16.0/20"]);
        assert_eq!(defaults.v6(&[]).unwrap(), net("fd01:203:405::/64"));
        assert_eq!(defaults.v6(&[net("fd01:203:405::/64")]).unwrap(), net("fd01:203:405:1::/64"));
        // What the host is in is left out, be it larger or smaller.
        assert_eq!(defaults.v4(&[net("172.16.0.0/14")]).unwrap(), net("172.20.0.0/16"));
        assert_eq!(defaults.v4(&[net("172.17.5.0/24")]).unwrap(), net("172.18.0.0/16"));
        assert_eq!(defaults.v4(&[net("0.0.0.0/0")]), Err(Error::NoSubnet));
        let odd = Defaults { v4: vec![("10.0.0.0/24".parse().unwrap(), 16)], v6: Vec::new() };
        odd.check().unwrap_err();
    }

    #[test]
    fn addresses_are_given_from_below_and_again_once_they_are_free() {
        let mut addresses = Addresses::of(Pool::of(net("172.17.0.0/16"))).unwrap();
        assert_eq!(addresses.pool().gateway, Some(ip("172.17.0.1")));
        assert_eq!(addresses.take_any().unwrap(), ip("172.17.0.2"));
        assert_eq!(addresses.take_any().unwrap(), ip("172.17.0.3"));
        addresses.release(ip("172.17.0.2"));
        assert_eq!(addresses.take_any().unwrap(), ip("172.17.0.2"));
        assert_eq!(addresses.take(ip("172.17.0.3")), Err(Error::Taken));
        assert_eq!(addresses.take(ip("172.17.255.255")), Err(Error::Taken));
        assert_eq!(addresses.take(ip("172.18.0.9")), Err(Error::Outside(ip("172.18.0.9"))));
        // The gateway's is nobody else's to give back.
        addresses.release(ip("172.17.0.1"));
        assert_eq!(addresses.take(ip("172.17.0.1")), Err(Error::Taken));
        let mut v6 = Addresses::of(Pool::of(net("fd00::/64"))).unwrap();
        assert_eq!((v6.pool().gateway, v6.take_any().unwrap()), (Some(ip("fd00::1")), ip("fd00::2")));
    }

    #[test]
    fn a_range_bounds_what_is_given_and_not_what_is_asked_for() {
        let pool = Pool {
            range: Some(net("10.0.0.128/30")),
            gateway: Some(ip("10.0.0.254")),
            auxiliary: [("router".to_owned(), ip("10.0.0.129"))].into(),
            ..Pool::of(net("10.0.0.0/24"))
        };
        let mut addresses = Addresses::of(pool).unwrap();
        assert_eq!(addresses.take_any().unwrap(), ip("10.0.0.128"));
        assert_eq!(addresses.take_any().unwrap(), ip("10.0.0.130"));
        assert_eq!(addresses.take_any().unwrap(), ip("10.0.0.131"));
        let error = addresses.take_any().unwrap_err();
        assert!(error.to_string().starts_with("no available IPv4 addresses"), "{error}");
        addresses.take(ip("10.0.0.7")).unwrap();
        // Three and the router of the range, one beside it, the gateway, and the two that nobody can have.
        assert_eq!(addresses.used_and_free(), (8, 0));
        let six = Addresses::of(Pool::of(net("fd00::/64"))).unwrap();
        assert_eq!(six.used_and_free(), (2, u64::MAX - 2));
    }

    #[test]
    fn a_pool_that_cannot_be_is_refused_by_the_field() {
        for (pool, word) in [
            (Pool::of(net("10.0.0.1/24")), "it should be 10.0.0.0/24"),
            (Pool::of(net("10.0.0.0/31")), "too small"),
            (Pool { range: Some(net("10.1.0.0/24")), ..Pool::of(net("10.0.0.0/24")) }, "ip-range"),
            (Pool { gateway: Some(ip("10.1.0.1")), ..Pool::of(net("10.0.0.0/24")) }, "gateway"),
            (Pool { gateway: Some(ip("fd00::1")), ..Pool::of(net("10.0.0.0/24")) }, "gateway"),
        ] {
            let error = pool.check().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let error = check_apart(net("10.0.0.0/8"), &[net("10.9.0.0/16")]).unwrap_err().to_string();
        assert!(error.contains("Pool overlaps with other one on this address space"), "{error}");
    }

    #[test]
    fn a_hardware_address_follows_from_the_address() {
        assert_eq!(hardware_address(Ipv4Addr::new(172, 17, 0, 2)), [2, 0x42, 172, 17, 0, 2]);
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice(steps in proptest::collection::vec((any::<bool>(), 0u8..32), 1..200)) {
            let mut addresses = Addresses::of(Pool::of(net("10.0.0.0/27"))).unwrap();
            let mut held: BTreeSet<IpAddr> = [ip("10.0.0.1")].into();
            for (take, last) in steps {
                let wished = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
                if take {
                    match addresses.take_any() {
                        Ok(address) => prop_assert!(held.insert(address)),
                        Err(_) => prop_assert_eq!(held.len(), 30),
                    }
                } else if wished != ip("10.0.0.1") && held.remove(&wished) {
                    addresses.release(wished);
                } else if addresses.take(wished).is_ok() {
                    prop_assert!(held.insert(wished));
                }
            }
        }
    }
}
