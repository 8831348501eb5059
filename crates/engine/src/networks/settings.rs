//! What the daemon is told of networks: how the default network is, where subnets come from, what containers ask by default.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use network::bridge;
use network::ipam::{self, Defaults, Pool};

use super::options::{
    BRIDGE_NAME, DEFAULT_BRIDGE, ENABLE_ICC, ENABLE_MASQUERADE, HOST_BINDING, MTU, options_of_default,
};
use super::record::{DEFAULT_DEVICE, Record, invalid};
use super::{join, options};
use crate::error::{Error, Result};

/// By what name a subnet's second gateway is known, the way out of containers: Docker's.
pub(super) const OTHER_GATEWAY: [&str; 2] = ["DefaultGatewayIPv4", "DefaultGatewayIPv6"];
/// The largest packet of the default network where nobody says.
const DEFAULT_MTU: u32 = 1500;

/// What the daemon is told of networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// A bridge that is there already, for the default network.
    pub bridge: Option<String>,
    /// The default bridge's own addresses, with the prefix of its subnets (`bip`, `bip6`).
    pub addresses: [Option<IpNet>; 2],
    /// The part of its subnets that is given out (`fixed-cidr`, `fixed-cidr-v6`).
    pub ranges: [Option<IpNet>; 2],
    /// The way out of its containers, if it is not the bridge (`default-gateway`, `default-gateway-v6`).
    pub gateways: [Option<IpAddr>; 2],
    /// Whether it has IPv6.
    pub ipv6: bool,
    /// Whether its containers cannot speak to each other (`icc=false`).
    pub no_icc: bool,
    /// Whether what leaves it keeps its address (`ip-masq=false`).
    pub no_masquerade: bool,
    /// Its largest packet.
    pub mtu: Option<u32>,
    /// Where its ports are published that name no address (`ip`).
    pub publish: Option<IpAddr>,
    /// Where subnets come from that nobody names, and the bits of their prefixes.
    pub pools: Vec<(IpNet, u8)>,
    /// Options of networks that do not say otherwise, by driver.
    pub options: BTreeMap<String, BTreeMap<String, String>>,
    /// Who is asked for names by containers that do not say otherwise.
    pub dns: Vec<IpAddr>,
    /// Options of their resolvers.
    pub dns_options: Vec<String>,
    /// Where they look for names.
    pub dns_search: Vec<String>,
    /// What `host-gateway` stands for.
    pub host_gateways: Vec<IpAddr>,
    /// Whether there are no packet filters (`iptables=false`).
    pub no_filters: bool,
    /// Whether the host is not told to pass packets on (`ip-forward=false`).
    pub no_forward: bool,
}

impl Settings {
    /// Where subnets come from.
    pub(super) fn defaults(&self, host: [u8; 5]) -> Result<Defaults> {
        let mut defaults = Defaults::of_host(host);
        let mut v4: Vec<(Ipv4Net, u8)> = Vec::new();
        let mut v6: Vec<(Ipv6Net, u8)> = Vec::new();
        for (base, bits) in &self.pools {
            match base {
                IpNet::V4(base) => v4.push((base.trunc(), *bits)),
                IpNet::V6(base) => v6.push((base.trunc(), *bits)),
            }
        }
        if !v4.is_empty() {
            defaults.v4 = v4;
        }
        if !v6.is_empty() {
            defaults.v6 = v6;
        }
        defaults.check().map_err(invalid)?;
        for (driver, own) in &self.options {
            options::check(driver, own, true)?;
        }
        Ok(defaults)
    }

    /// The default network as it is to be; `before` is as it was.
    pub(super) fn default_network(
        &self,
        before: Option<&Record>,
        id: String,
        defaults: &Defaults,
        taken: &[IpNet],
    ) -> Result<Record> {
        // What belonged to another bridge stays there.
        let device = self.bridge.as_deref().unwrap_or(DEFAULT_DEVICE);
        let same = before.filter(|record| record.device() == device);
        let old = |v6: bool| {
            same.and_then(|record| record.pools.iter().find(|pool| pool.subnet.addr().is_ipv6() == v6))
        };
        let mut pools = vec![self.pool(false, old(false), defaults, taken)?];
        if self.ipv6 {
            pools.push(self.pool(true, old(true), defaults, taken)?);
        }
        let mut record = Record::default_bridge(id, pools)?;
        record.options = self.default_options();
        if let Some(before) = before {
            record.id.clone_from(&before.id);
            record.created = before.created;
        }
        Ok(record)
    }

    fn default_options(&self) -> BTreeMap<String, String> {
        let truth = |yes: bool| if yes { "true" } else { "false" }.to_owned();
        let binding = self.publish.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
        let device = self.bridge.clone().unwrap_or_else(|| DEFAULT_DEVICE.to_owned());
        let all = [
            (DEFAULT_BRIDGE, truth(true)),
            (ENABLE_ICC, truth(!self.no_icc)),
            (ENABLE_MASQUERADE, truth(!self.no_masquerade)),
            (HOST_BINDING, binding),
            (BRIDGE_NAME, device),
            (MTU, self.mtu.unwrap_or(DEFAULT_MTU).to_string()),
        ];
        options_of_default(all)
    }

    /// One of its subnets.
    fn pool(&self, v6: bool, before: Option<&Pool>, defaults: &Defaults, taken: &[IpNet]) -> Result<Pool> {
        let number = usize::from(v6);
        let own = match (&self.bridge, self.addresses[number]) {
            (Some(name), _) => Some(address_of(name, v6)?),
            (None, own) => own,
        };
        let range = self.ranges[number];
        let mut pool = match (own, range, before) {
            (Some(own), ..) => Pool { gateway: Some(own.addr()), ..Pool::of(own.trunc()) },
            (None, Some(range), _) => Pool::of(range.trunc()),
            // Only what was chosen by itself is kept: what was named is named no more.
            (None, None, Some(before)) if before.range.is_none() && before.auxiliary.is_empty() => {
                before.clone()
            }
            _ if v6 => Pool::of(defaults.v6(taken).map_err(invalid)?),
            _ => Pool::of(defaults.v4(taken).map_err(invalid)?),
        };
        pool.range = range.map(|range| range.trunc()).filter(|range| *range != pool.subnet);
        if let Some(gateway) = self.gateways[number] {
            pool.auxiliary.insert(OTHER_GATEWAY[number].to_owned(), gateway);
        }
        Ok(ipam::Addresses::of(pool).map_err(invalid)?.pool().clone())
    }
}

/// The address of a bridge that is there.
fn address_of(bridge: &str, v6: bool) -> Result<IpNet> {
    let host = join::route()?;
    let device = bridge::device(&host, bridge).map_err(join::kernel)?.ok_or_else(|| {
        Error::invalid(format!("bridge device with non default name {bridge} must be created manually"))
    })?;
    let all = bridge::addresses(&host).map_err(join::kernel)?;
    let own = |net: &IpNet| match net.addr() {
        IpAddr::V4(_) => !v6,
        IpAddr::V6(ip) => v6 && !ip.is_unicast_link_local(),
    };
    let mut found = all.into_iter().filter(|(index, net)| *index == device.index && own(net));
    found.next().map(|(_, net)| net).ok_or_else(|| {
        let family = if v6 { "IPv6" } else { "IPv4" };
        Error::invalid(format!(
            "bridge {bridge} has no {family} address: give it that of its containers' gateway"
        ))
    })
}
