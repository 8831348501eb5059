//! A network as it is remembered, and as it is asked for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::network::{ConfigReference, CreateRequest, Ipam, IpamConfig, Network};
use ipnet::IpNet;
use jiff::Timestamp;
use network::ipam::{self, Defaults, Pool};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The driver of networks that nobody says otherwise of.
pub(super) const BRIDGE: &str = "bridge";
/// Options of the driver, by Docker's names.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const ENABLE_ICC: &str = "com.docker.network.bridge.enable_icc";
const ENABLE_MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const MTU: &str = "com.docker.network.driver.mtu";
const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
/// Each with what it may be.
const OPTIONS: &[(&str, Value)] = &[
    (BRIDGE_NAME, Value::Device),
    (ENABLE_ICC, Value::Truth),
    (ENABLE_MASQUERADE, Value::Truth),
    (HOST_BINDING, Value::Address),
    (MTU, Value::Number),
    (DEFAULT_BRIDGE, Value::Truth),
];
/// The device of the network that every engine has. Not Docker's `docker0`: both may run on one host.
pub(super) const DEFAULT_DEVICE: &str = "corten0";
/// The longest name of a network: it is a host name's suffix, and a line in tables.
const NAME_BYTES_MAX: usize = 255;
/// Subnets of one network: as many as its families.
const POOLS_MAX: usize = 2;
/// Smaller ones cannot carry the protocols, and larger ones do not exist.
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65535;

#[derive(Clone, Copy)]
enum Value {
    Truth,
    Number,
    Address,
    Device,
}

/// A network as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// 64 hexadecimal digits.
    pub id: String,
    /// As people call it.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Who makes it.
    pub driver: String,
    /// Whether there is no way out.
    #[serde(default)]
    pub internal: bool,
    /// Whether a swarm's services could join.
    #[serde(default)]
    pub attachable: bool,
    /// Its subnets, each with its gateway: at most one of each family.
    pub pools: Vec<Pool>,
    /// Whether somebody named the subnets: only then containers may ask for addresses.
    #[serde(default)]
    pub chosen: bool,
    /// The driver's options.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl Record {
    /// The network that every engine has.
    pub(super) fn default_bridge(id: String, pool: IpNet) -> Result<Self> {
        let options = [
            (DEFAULT_BRIDGE, "true"),
            (ENABLE_ICC, "true"),
            (ENABLE_MASQUERADE, "true"),
            (HOST_BINDING, "0.0.0.0"),
            (BRIDGE_NAME, DEFAULT_DEVICE),
            (MTU, "1500"),
        ];
        Ok(Self {
            id,
            name: BRIDGE.to_owned(),
            created: Timestamp::now(),
            driver: BRIDGE.to_owned(),
            internal: false,
            attachable: false,
            pools: vec![with_gateway(Pool::of(pool))?],
            chosen: false,
            options: options.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            labels: BTreeMap::new(),
        })
    }

    /// Makes a record of what is asked for; `taken` are the subnets that are in use.
    pub(super) fn of_request(
        id: String,
        request: CreateRequest,
        defaults: &Defaults,
        taken: &[IpNet],
    ) -> Result<Self> {
        check_name(&request.name)?;
        refuse(&request)?;
        let options = check_options(request.options)?;
        let ipam = request.ipam.unwrap_or_default();
        let (v4, v6) = (request.enable_ipv4.unwrap_or(true), request.enable_ipv6.unwrap_or(false));
        let chosen = ipam.config.iter().any(|config| !config.subnet.is_empty());
        let pools = pools(ipam, (v4, v6), defaults, taken)?;
        Ok(Self {
            id,
            name: request.name,
            created: Timestamp::now(),
            driver: BRIDGE.to_owned(),
            internal: request.internal,
            attachable: request.attachable,
            pools,
            chosen,
            options,
            labels: request.labels,
        })
    }

    /// As the API shows it.
    pub(super) fn shown(&self) -> Network {
        let text = |net: &Option<IpNet>| net.map(|net| net.to_string()).unwrap_or_default();
        let config = |pool: &Pool| IpamConfig {
            subnet: pool.subnet.to_string(),
            ip_range: text(&pool.range),
            gateway: pool.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
            auxiliary_addresses: pool.auxiliary.iter().map(|(k, v)| (k.clone(), v.to_string())).collect(),
        };
        Network {
            name: self.name.clone(),
            id: self.id.clone(),
            created: self.created.to_string(),
            scope: "local".to_owned(),
            driver: self.driver.clone(),
            enable_ipv4: self.pools.iter().any(|pool| pool.subnet.addr().is_ipv4()),
            enable_ipv6: self.pools.iter().any(|pool| pool.subnet.addr().is_ipv6()),
            ipam: Ipam {
                driver: "default".to_owned(),
                config: self.pools.iter().map(config).collect(),
                ..Ipam::default()
            },
            internal: self.internal,
            attachable: self.attachable,
            ingress: false,
            config_from: ConfigReference::default(),
            config_only: false,
            options: self.options.clone(),
            labels: self.labels.clone(),
        }
    }

    /// Whether it is the one that every engine has.
    pub(crate) fn is_default(&self) -> bool {
        self.options.get(DEFAULT_BRIDGE).is_some_and(|value| value == "true")
    }

    /// The bridge's name on the host.
    pub(super) fn device(&self) -> String {
        let own = || format!("br-{}", self.id.get(..12).unwrap_or(&self.id));
        self.options.get(BRIDGE_NAME).cloned().unwrap_or_else(own)
    }

    /// Whether its containers speak to each other.
    pub(super) fn lets_speak(&self) -> bool {
        self.options.get(ENABLE_ICC).is_none_or(|value| value == "true")
    }

    /// Whether what leaves it has the host's address.
    pub(super) fn masquerades(&self) -> bool {
        self.options.get(ENABLE_MASQUERADE).is_none_or(|value| value == "true")
    }

    /// The largest packet, if it is not the kernel's choice.
    pub(super) fn mtu(&self) -> Option<u32> {
        self.options.get(MTU).and_then(|text| text.parse().ok())
    }
}

/// Chooses the gateway where none is named.
fn with_gateway(pool: Pool) -> Result<Pool> {
    Ok(ipam::Addresses::of(pool).map_err(invalid)?.pool().clone())
}

pub(super) fn invalid(error: ipam::Error) -> Error {
    Error::invalid(error.to_string())
}

fn check_name(name: &str) -> Result<()> {
    let bad = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '/' | ':');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(bad) {
        return Err(Error::invalid(format!("invalid network name: {name:?}")));
    }
    if matches!(name, BRIDGE | "host" | "none" | "default") || name.starts_with("container:") {
        return Err(Error::forbidden(format!("operation is not permitted on predefined {name} network")));
    }
    Ok(())
}

/// What is not there yet is refused by its name.
fn refuse(request: &CreateRequest) -> Result<()> {
    match request.driver.as_str() {
        "" | BRIDGE => {}
        driver @ ("macvlan" | "ipvlan" | "overlay") => {
            return Err(Error::not_implemented(format!(
                "networks of the driver {driver} are not available yet"
            )));
        }
        driver @ ("host" | "null" | "none") => {
            return Err(Error::forbidden(format!("only one instance of \"{driver}\" network is allowed")));
        }
        driver => return Err(Error::not_found(format!("plugin \"{driver}\" not found"))),
    }
    if !matches!(request.scope.as_str(), "" | "local") {
        return Err(Error::invalid(format!("invalid network scope: {}", request.scope)));
    }
    let other = request.ipam.as_ref().map(|ipam| ipam.driver.as_str());
    if let Some(driver) = other.filter(|driver| !matches!(*driver, "" | "default")) {
        return Err(Error::not_found(format!("could not find IPAM driver: plugin \"{driver}\" not found")));
    }
    let asked = [
        (request.ingress, "ingress networks (--ingress) belong to swarms, which"),
        (request.config_only, "configurations alone (--config-only)"),
        (request.config_from.as_ref().is_some_and(|from| !from.network.is_empty()), "--config-from"),
        (request.ipam.as_ref().is_some_and(|ipam| !ipam.options.is_empty()), "options of IPAM (--ipam-opt)"),
    ];
    match asked.iter().find(|(set, _)| *set) {
        Some((_, what)) => Err(Error::not_implemented(format!("{what} are not available yet"))),
        None => Ok(()),
    }
}

fn check_options(options: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    for (key, value) in &options {
        let wrong = || Error::invalid(format!("invalid value {value:?} of network option {key}"));
        let known = OPTIONS.iter().find(|(name, _)| name == key);
        let (_, kind) = known.ok_or_else(|| {
            Error::not_implemented(format!("the network option {key} is not available yet"))
        })?;
        let right = match kind {
            Value::Truth => value.parse::<bool>().is_ok(),
            Value::Number => value.parse().is_ok_and(|mtu: u32| MTU_RANGE.contains(&mtu)),
            Value::Address => value.parse::<IpAddr>().is_ok(),
            Value::Device => sys::netlink::route::is_device_name(value),
        };
        if !right {
            return Err(wrong());
        }
    }
    Ok(options)
}

fn pools(ipam: Ipam, (v4, v6): (bool, bool), defaults: &Defaults, taken: &[IpNet]) -> Result<Vec<Pool>> {
    let mut pools: Vec<Pool> = Vec::new();
    for config in ipam.config {
        if config.subnet.is_empty() {
            if config == IpamConfig::default() {
                continue;
            }
            return Err(Error::invalid("invalid IPAM configuration: a gateway or a range needs a subnet"));
        }
        let pool = parse(config)?;
        if pools.iter().any(|other| other.subnet.addr().is_ipv4() == pool.subnet.addr().is_ipv4()) {
            return Err(Error::invalid(format!(
                "invalid subnet {}: a network has one subnet of each family",
                pool.subnet
            )));
        }
        ipam::check_apart(pool.subnet, taken).map_err(|error| Error::forbidden(error.to_string()))?;
        pools.push(with_gateway(pool)?);
    }
    let has = |pools: &[Pool], four: bool| pools.iter().any(|pool| pool.subnet.addr().is_ipv4() == four);
    // A subnet of the other kind asks for it by itself, as in Docker.
    if v4 && !has(&pools, true) {
        let subnet = defaults.v4(taken).map_err(|error| Error::invalid(error.to_string()))?;
        pools.insert(0, with_gateway(Pool::of(subnet))?);
    }
    if v6 && !has(&pools, false) {
        let subnet = defaults.v6(taken).map_err(|error| Error::invalid(error.to_string()))?;
        pools.push(with_gateway(Pool::of(subnet))?);
    }
    if !v6 && has(&pools, false) {
        return Err(Error::invalid("invalid IPv6 subnet: the network has no IPv6 (--ipv6)"));
    }
    debug_assert!(pools.len() <= POOLS_MAX);
    if pools.is_empty() {
        return Err(Error::invalid("IPv4 or IPv6 must be enabled"));
    }
    Ok(pools)
}

fn parse(config: IpamConfig) -> Result<Pool> {
    let net = |what: &str, text: &str| {
        text.parse::<IpNet>()
            .map_err(|_| Error::invalid(format!("invalid {what} {text}: invalid CIDR address")))
    };
    let ip = |what: &str, text: &str| {
        text.parse::<IpAddr>().map_err(|_| Error::invalid(format!("invalid {what} {text}: invalid address")))
    };
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let pool = Pool {
        subnet: net("subnet", &config.subnet)?,
        range: some(&config.ip_range).map(|text| net("ip-range", &text)).transpose()?,
        gateway: some(&config.gateway).map(|text| ip("gateway", &text)).transpose()?,
        auxiliary: config
            .auxiliary_addresses
            .into_iter()
            .map(|(name, text)| Ok((name, ip("auxiliary address", &text)?)))
            .collect::<Result<_>>()?,
    };
    pool.check().map_err(invalid)?;
    Ok(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str, taken: &[&str]) -> Result<Record> {
        let request: CreateRequest = serde_json::from_str(json).unwrap();
        let taken: Vec<IpNet> = taken.iter().map(|net| net.parse().unwrap()).collect();
        Record::of_request("ab".repeat(32), request, &Defaults::of_host([1, 2, 3, 4, 5]), &taken)
    }

    fn refused(json: &str) -> String {
        of(json, &["10.0.0.0/8"]).unwrap_err().to_string()
    }

    #[test]
    fn a_network_that_asks_for_nothing_gets_the_next_subnet() {
        let record = of(r#"{"Name":"web"}"#, &["172.17.0.0/16"]).unwrap();
        let shown = record.shown();
        assert_eq!(shown.ipam.config[0].subnet, "172.18.0.0/16");
        assert_eq!(shown.ipam.config[0].gateway, "172.18.0.1");
        assert!(shown.enable_ipv4 && !shown.enable_ipv6 && !record.chosen);
        assert_eq!(record.device(), "br-abababababab");
        let dual = of(r#"{"Name":"web","EnableIPv6":true}"#, &[]).unwrap();
        assert_eq!(dual.shown().ipam.config[1].subnet, "fd01:203:405::/64");
        let six = of(r#"{"Name":"web","EnableIPv6":true,"EnableIPv4":false}"#, &[]).unwrap();
        assert_eq!(six.pools.len(), 1);
    }

    #[test]
    fn what_is_asked_for_is_taken() {
        let json = r#"{"Name":"web","Internal":true,"Options":{"com.docker.network.driver.mtu":"1400",
            "com.docker.network.bridge.name":"web0"},"Labels":{"a":"b"},
            "IPAM":{"Config":[{"Subnet":"10.9.0.0/24","IPRange":"10.9.0.128/25","Gateway":"10.9.0.254",
            "AuxiliaryAddresses":{"router":"10.9.0.9"}}]}}"#;
        let record = of(json, &[]).unwrap();
        assert!(record.internal && record.chosen);
        assert_eq!((record.device().as_str(), record.mtu()), ("web0", Some(1400)));
        let again: Record = serde_json::from_slice(&serde_json::to_vec(&record).unwrap()).unwrap();
        assert_eq!(again, record);
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_name() {
        for (json, word) in [
            (r#"{"Name":""}"#, "invalid network name"),
            (r#"{"Name":"a b"}"#, "invalid network name"),
            (r#"{"Name":"host"}"#, "operation is not permitted on predefined host network"),
            (r#"{"Name":"x","Driver":"weave"}"#, "plugin \"weave\" not found"),
            (r#"{"Name":"x","Driver":"macvlan"}"#, "macvlan"),
            (r#"{"Name":"x","ConfigOnly":true}"#, "--config-only"),
            (r#"{"Name":"x","Options":{"com.example.x":"1"}}"#, "com.example.x"),
            (r#"{"Name":"x","Options":{"com.docker.network.driver.mtu":"1"}}"#, "driver.mtu"),
            (r#"{"Name":"x","Options":{"com.docker.network.bridge.name":"a/b"}}"#, "bridge.name"),
            (r#"{"Name":"x","EnableIPv4":false}"#, "IPv4 or IPv6"),
            (r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"10.1.0.0/16"}]}}"#, "Pool overlaps"),
            (r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"nonsense"}]}}"#, "invalid subnet nonsense"),
            (r#"{"Name":"x","IPAM":{"Config":[{"Gateway":"1.2.3.4"}]}}"#, "needs a subnet"),
            (r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"fd00::/64"}]}}"#, "--ipv6"),
            (r#"{"Name":"x","IPAM":{"Driver":"odd"}}"#, "odd"),
        ] {
            let text = refused(json);
            assert!(text.contains(word), "{json}: {text}");
        }
    }
}
