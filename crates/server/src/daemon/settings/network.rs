//! What the daemon is told of networks, by dockerd's names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use clap::Args;
use ipnet::IpNet;
use serde::Deserialize;

use super::Error;

/// The keys in `daemon.json`.
pub(super) const KEYS: &[&str] = &[
    "bridge",
    "firewall",
    "bip",
    "bip6",
    "fixed-cidr",
    "fixed-cidr-v6",
    "default-gateway",
    "default-gateway-v6",
    "ipv6",
    "icc",
    "ip-masq",
    "mtu",
    "ip",
    "default-address-pools",
    "default-network-opts",
    "dns",
    "dns-opts",
    "dns-search",
    "host-gateway-ips",
    "iptables",
    "ip6tables",
    "ip-forward",
    "userland-proxy",
];
/// The name of the default network's own bridge: naming it is naming none.
const OWN_BRIDGE: &str = "corten0";

/// The flags.
#[derive(Args, Debug, Default, Clone)]
pub struct NetworkFlags {
    /// Bridge of the host for the default network, or `none`: containers that name no network have none
    #[arg(short = 'b', long, value_name = "NAME")]
    pub bridge: Option<String>,
    /// What decides on connections from outside to published ports: `bypass` (they go to containers, as with Docker) or `respect`
    /// (the host's own rules for what comes in: ufw, firewalld, nft)
    #[arg(long, value_name = "bypass|respect")]
    pub firewall: Option<String>,
    /// The default bridge's IPv4 address, with the prefix of its subnet
    #[arg(long, value_name = "CIDR")]
    pub bip: Option<String>,
    /// The default bridge's IPv6 address, with the prefix of its subnet
    #[arg(long, value_name = "CIDR")]
    pub bip6: Option<String>,
    /// Part of the default bridge's IPv4 subnet that is given out
    #[arg(long, value_name = "CIDR")]
    pub fixed_cidr: Option<String>,
    /// Part of the default bridge's IPv6 subnet that is given out
    #[arg(long, value_name = "CIDR")]
    pub fixed_cidr_v6: Option<String>,
    /// Way out of containers on the default bridge, if not the bridge
    #[arg(long, value_name = "ADDRESS")]
    pub default_gateway: Option<String>,
    /// The same for IPv6
    #[arg(long, value_name = "ADDRESS")]
    pub default_gateway_v6: Option<String>,
    /// Give the default bridge IPv6
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ipv6: Option<bool>,
    /// Let containers on the default bridge speak to each other (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub icc: Option<bool>,
    /// Give what leaves the default bridge the host's address (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ip_masq: Option<bool>,
    /// Largest packet on the default bridge
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<u32>,
    /// Address that ports of containers on the default bridge are published at
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// Pool that subnets are taken from: base=CIDR,size=BITS; may be repeated
    #[arg(long = "default-address-pool", value_name = "POOL")]
    pub default_address_pools: Vec<String>,
    /// Option of networks that do not say otherwise: DRIVER=OPTION=VALUE; may be repeated
    #[arg(long = "default-network-opt", value_name = "OPTION")]
    pub default_network_opts: Vec<String>,
    /// Name server of containers that name none; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<String>,
    /// Option of containers' resolvers; may be repeated
    #[arg(long = "dns-opt", value_name = "OPTION")]
    pub dns_opts: Vec<String>,
    /// Domain in which containers look for names; may be repeated
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Address that host-gateway stands for; may be repeated
    #[arg(long = "host-gateway-ip", value_name = "ADDRESS")]
    pub host_gateway_ips: Vec<String>,
    /// Set up packet filters (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub iptables: Option<bool>,
    /// Accepted as --iptables has it: one table is for both
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ip6tables: Option<bool>,
    /// Have the host pass packets on (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ip_forward: Option<bool>,
    /// Accepted: published ports need no process here
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub userland_proxy: Option<bool>,
}

/// A pool in `daemon.json`.
#[derive(Deserialize, Debug, Clone)]
#[serde(deny_unknown_fields)]
struct Pool {
    base: String,
    size: u8,
}

/// What `daemon.json` says.
#[derive(Deserialize, Debug, Default, Clone)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct NetworkFile {
    bridge: Option<String>,
    firewall: Option<String>,
    bip: Option<String>,
    bip6: Option<String>,
    fixed_cidr: Option<String>,
    fixed_cidr_v6: Option<String>,
    default_gateway: Option<String>,
    default_gateway_v6: Option<String>,
    ipv6: Option<bool>,
    icc: Option<bool>,
    ip_masq: Option<bool>,
    mtu: Option<u32>,
    ip: Option<String>,
    default_address_pools: Vec<Pool>,
    default_network_opts: BTreeMap<String, BTreeMap<String, String>>,
    dns: Vec<String>,
    dns_opts: Vec<String>,
    dns_search: Vec<String>,
    host_gateway_ips: Vec<String>,
    iptables: Option<bool>,
    ip6tables: Option<bool>,
    ip_forward: Option<bool>,
    userland_proxy: Option<bool>,
}

impl NetworkFlags {
    /// The file's key and the value of each option that was given.
    pub(super) fn given(&self) -> Vec<(&'static str, String)> {
        fn one<T: std::fmt::Debug>(value: Option<&T>) -> Option<String> {
            value.map(|value| format!("{value:?}"))
        }
        fn list(values: &[String]) -> Option<String> {
            (!values.is_empty()).then(|| format!("{values:?}"))
        }
        let given = [
            ("bridge", one(self.bridge.as_ref())),
            ("firewall", one(self.firewall.as_ref())),
            ("bip", one(self.bip.as_ref())),
            ("bip6", one(self.bip6.as_ref())),
            ("fixed-cidr", one(self.fixed_cidr.as_ref())),
            ("fixed-cidr-v6", one(self.fixed_cidr_v6.as_ref())),
            ("default-gateway", one(self.default_gateway.as_ref())),
            ("default-gateway-v6", one(self.default_gateway_v6.as_ref())),
            ("ipv6", one(self.ipv6.as_ref())),
            ("icc", one(self.icc.as_ref())),
            ("ip-masq", one(self.ip_masq.as_ref())),
            ("mtu", one(self.mtu.as_ref())),
            ("ip", one(self.ip.as_ref())),
            ("default-address-pools", list(&self.default_address_pools)),
            ("default-network-opts", list(&self.default_network_opts)),
            ("dns", list(&self.dns)),
            ("dns-opts", list(&self.dns_opts)),
            ("dns-search", list(&self.dns_search)),
            ("host-gateway-ips", list(&self.host_gateway_ips)),
            ("iptables", one(self.iptables.as_ref())),
            ("ip6tables", one(self.ip6tables.as_ref())),
            ("ip-forward", one(self.ip_forward.as_ref())),
            ("userland-proxy", one(self.userland_proxy.as_ref())),
        ];
        given.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

/// What networks are to be, whether there is no default one, and whether published ports are left to the host's own rules.
pub(super) fn merge(
    flags: NetworkFlags,
    file: NetworkFile,
) -> Result<(engine::networks::Settings, bool, bool), Error> {
    let respect = respects(flags.firewall.or(file.firewall))?;
    let lists = |flag: Vec<String>, file: Vec<String>| if flag.is_empty() { file } else { flag };
    let filters = flags.iptables.or(file.iptables).unwrap_or(true);
    let bridge = flags.bridge.or(file.bridge).filter(|name| !name.is_empty());
    let no_bridge = bridge.as_deref() == Some("none");
    let bridge = bridge.filter(|name| !matches!(name.as_str(), "none" | OWN_BRIDGE));
    let (bip, bip6) = (flags.bip.or(file.bip), flags.bip6.or(file.bip6));
    let icc = flags.icc.or(file.icc).unwrap_or(true);
    check(&[
        (
            bridge.is_some() && (bip.is_some() || bip6.is_some()),
            "You specified -b & --bip, mutually exclusive options. Please specify only one",
        ),
        (
            !filters && !icc,
            "You specified --iptables=false with --icc=false. ICC=false uses iptables to function. Please set --icc or --iptables to true",
        ),
        (!filters && respect, "--firewall=respect needs packet filters: not with --iptables=false"),
        (
            filters && flags.ip6tables.or(file.ip6tables) == Some(false),
            "--ip6tables=false without --iptables=false is not supported: one table of packet filters is for both",
        ),
    ])?;
    if let Some(name) = bridge.as_deref().filter(|name| !sys::netlink::route::is_plain_device_name(name)) {
        return Err(Error::Usage(format!("invalid bridge name: {name}")));
    }
    let pools = match flags.default_address_pools.is_empty() {
        true => file.default_address_pools,
        false => flags.default_address_pools.iter().map(|text| pool(text)).collect::<Result<_, _>>()?,
    };
    let options = match flags.default_network_opts.is_empty() {
        true => file.default_network_opts,
        false => network_options(&flags.default_network_opts)?,
    };
    let settings = engine::networks::Settings {
        bridge,
        addresses: [net("bip", bip, false)?, net("bip6", bip6, true)?],
        ranges: [
            net("fixed-cidr", flags.fixed_cidr.or(file.fixed_cidr), false)?,
            net("fixed-cidr-v6", flags.fixed_cidr_v6.or(file.fixed_cidr_v6), true)?,
        ],
        gateways: [
            gateway("default-gateway", flags.default_gateway.or(file.default_gateway), false)?,
            gateway("default-gateway-v6", flags.default_gateway_v6.or(file.default_gateway_v6), true)?,
        ],
        ipv6: flags.ipv6.or(file.ipv6).unwrap_or(false),
        no_icc: !icc,
        no_masquerade: flags.ip_masq.or(file.ip_masq) == Some(false),
        // Docker's 0 is its default.
        mtu: flags.mtu.or(file.mtu).filter(|mtu| *mtu > 0),
        publish: gateway("ip", flags.ip.or(file.ip), false)?,
        pools: pools
            .iter()
            .map(|pool| Ok((net_of("default-address-pool", &pool.base)?, pool.size)))
            .collect::<Result<_, _>>()?,
        options,
        dns: addresses("dns", lists(flags.dns, file.dns))?,
        dns_options: lists(flags.dns_opts, file.dns_opts),
        dns_search: lists(flags.dns_search, file.dns_search),
        host_gateways: addresses("host-gateway-ip", lists(flags.host_gateway_ips, file.host_gateway_ips))?,
        no_filters: !filters,
        no_forward: flags.ip_forward.or(file.ip_forward) == Some(false),
    };
    Ok((settings, no_bridge, respect))
}

/// What decides on connections from outside.
fn respects(firewall: Option<String>) -> Result<bool, Error> {
    match firewall.as_deref() {
        None | Some("bypass") => Ok(false),
        Some("respect") => Ok(true),
        Some(other) => Err(Error::Usage(format!("invalid firewall: {other} (bypass or respect)"))),
    }
}

fn check(conflicts: &[(bool, &str)]) -> Result<(), Error> {
    match conflicts.iter().find(|(wrong, _)| *wrong) {
        Some((_, text)) => Err(Error::Usage((*text).to_owned())),
        None => Ok(()),
    }
}

fn net_of(flag: &str, text: &str) -> Result<IpNet, Error> {
    text.parse().map_err(|_| Error::Usage(format!("invalid --{flag} {text}: invalid CIDR address")))
}

fn net(flag: &str, text: Option<String>, v6: bool) -> Result<Option<IpNet>, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let net = net_of(flag, &text)?;
    if net.addr().is_ipv6() != v6 {
        return Err(Error::Usage(format!("invalid --{flag} {text}: an address of the other family")));
    }
    Ok(Some(net))
}

fn address_of(flag: &str, text: &str) -> Result<IpAddr, Error> {
    text.trim().parse().map_err(|_| Error::Usage(format!("invalid --{flag} {text}: invalid IP address")))
}

fn gateway(flag: &str, text: Option<String>, v6: bool) -> Result<Option<IpAddr>, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let address = address_of(flag, &text)?;
    if address.is_ipv6() != v6 {
        return Err(Error::Usage(format!("invalid --{flag} {text}: an address of the other family")));
    }
    Ok(Some(address))
}

fn addresses(flag: &str, texts: Vec<String>) -> Result<Vec<IpAddr>, Error> {
    let all = texts.iter().flat_map(|text| text.split(','));
    all.map(|text| address_of(flag, text)).collect()
}

/// Reads `base=CIDR,size=BITS`.
fn pool(text: &str) -> Result<Pool, Error> {
    let wrong =
        || Error::Usage(format!("invalid --default-address-pool {text}: it has to be base=CIDR,size=BITS"));
    let (mut base, mut size) = (None, None);
    for field in text.split(',') {
        match field.trim().split_once('=') {
            Some(("base", value)) => base = Some(value.to_owned()),
            Some(("size", value)) => size = value.parse().ok(),
            _ => return Err(wrong()),
        }
    }
    Ok(Pool { base: base.ok_or_else(wrong)?, size: size.ok_or_else(wrong)? })
}

/// Reads `DRIVER=OPTION=VALUE`.
fn network_options(texts: &[String]) -> Result<BTreeMap<String, BTreeMap<String, String>>, Error> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for text in texts {
        let mut parts = text.splitn(3, '=');
        let (Some(driver), Some(key), Some(value)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Error::Usage(format!(
                "invalid --default-network-opt {text}: it has to be DRIVER=OPTION=VALUE"
            )));
        };
        all.entry(driver.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
    }
    Ok(all)
}

#[cfg(test)]
impl NetworkFlags {
    /// With every flag given.
    pub(super) fn of_everything() -> Self {
        Self {
            bridge: Some("none".into()),
            firewall: Some("respect".into()),
            bip: Some("a".into()),
            bip6: Some("a".into()),
            fixed_cidr: Some("a".into()),
            fixed_cidr_v6: Some("a".into()),
            default_gateway: Some("a".into()),
            default_gateway_v6: Some("a".into()),
            ipv6: Some(true),
            icc: Some(true),
            ip_masq: Some(true),
            mtu: Some(1),
            ip: Some("a".into()),
            default_address_pools: vec!["a".into()],
            default_network_opts: vec!["a".into()],
            dns: vec!["a".into()],
            dns_opts: vec!["a".into()],
            dns_search: vec!["a".into()],
            host_gateway_ips: vec!["a".into()],
            iptables: Some(true),
            ip6tables: Some(true),
            ip_forward: Some(true),
            userland_proxy: Some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(flags: NetworkFlags) -> Result<(engine::networks::Settings, bool), Error> {
        merge(flags, NetworkFile::default()).map(|(settings, no_bridge, _)| (settings, no_bridge))
    }

    #[test]
    fn what_is_said_of_networks_is_read() {
        let flags = NetworkFlags {
            bip: Some("10.9.0.1/24".into()),
            default_address_pools: vec!["base=10.0.0.0/8,size=24".into()],
            default_network_opts: vec!["bridge=com.docker.network.driver.mtu=1400".into()],
            mtu: Some(0),
            ip_masq: Some(false),
            ..NetworkFlags::default()
        };
        let (settings, no_bridge) = of(flags).unwrap();
        assert!(!no_bridge && settings.no_masquerade && !settings.no_icc);
        assert_eq!(settings.addresses[0].unwrap().to_string(), "10.9.0.1/24");
        assert_eq!(settings.pools, [("10.0.0.0/8".parse().unwrap(), 24)]);
        assert_eq!(settings.options["bridge"]["com.docker.network.driver.mtu"], "1400");
        assert_eq!(settings.mtu, None);
        let none = NetworkFlags { bridge: Some("none".into()), ..NetworkFlags::default() };
        let (settings, no_bridge) = of(none).unwrap();
        assert!(no_bridge && settings.bridge.is_none());
    }

    #[test]
    fn what_cannot_be_is_refused_by_the_flag() {
        let some = |text: &str| Some(text.to_owned());
        let none = NetworkFlags::default;
        for (flags, why) in [
            (NetworkFlags { bip: some("10.0.0.1"), ..none() }, "--bip 10.0.0.1"),
            (NetworkFlags { bip: some("fd00::1/64"), ..none() }, "other family"),
            (NetworkFlags { bip: some("10.0.0.1/8"), bridge: some("br0"), ..none() }, "mutually exclusive"),
            (NetworkFlags { bridge: some("a/b"), ..none() }, "invalid bridge name"),
            (NetworkFlags { default_address_pools: vec!["x".into()], ..none() }, "base=CIDR,size=BITS"),
            (NetworkFlags { default_network_opts: vec!["a=b".into()], ..none() }, "DRIVER=OPTION=VALUE"),
            (NetworkFlags { iptables: Some(false), icc: Some(false), ..none() }, "--icc=false"),
            (NetworkFlags { ip6tables: Some(false), ..none() }, "--ip6tables=false"),
            (NetworkFlags { dns: vec!["x".into()], ..none() }, "--dns x"),
        ] {
            let text = of(flags).unwrap_err().to_string();
            assert!(text.contains(why), "{why}: {text}");
        }
    }
}
