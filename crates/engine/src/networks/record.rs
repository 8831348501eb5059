//! A network as it is remembered, and as it is asked for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::network::{ConfigReference, CreateRequest, Ipam, IpamConfig, Network};
use ipnet::IpNet;
use jiff::Timestamp;
use network::ipam::{self, Defaults, Pool};
use serde::{Deserialize, Serialize};

use super::options::{self, BRIDGE, DEFAULT_BRIDGE, GatewayMode, IPVLAN, MACVLAN, options_of_default};
use crate::error::{Error, Result};

/// The device of the network that every engine has. Not Docker's `docker0`: both may run on one host.
pub(super) const DEFAULT_DEVICE: &str = "corten0";
/// The longest name of a network: it is a host name's suffix, and a line in tables.
const NAME_BYTES_MAX: usize = 255;
/// Who gives out addresses where nobody says, and who gives out none.
const DEFAULT_IPAM: &str = "default";
const NULL: &str = "null";
/// Subnets of one network: as many as its families.
const POOLS_MAX: usize = 2;
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
    /// Whether the device below its containers' was made for it.
    #[serde(default)]
    pub made: bool,
    /// If it is no network and nothing but a configuration for others: which families these are to have.
    #[serde(default)]
    pub config_only: bool,
    /// The families that are asked for, IPv4 and IPv6.
    #[serde(default = "v4_alone")]
    pub families: [bool; 2],
    /// The network whose configuration it has, by its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub config_from: String,
    /// Who gives out addresses.
    #[serde(default = "default_ipam")]
    pub ipam: String,
    /// What they were told: kept, and shown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ipam_options: BTreeMap<String, String>,
}

fn v4_alone() -> [bool; 2] {
    [true, false]
}

fn default_ipam() -> String {
    DEFAULT_IPAM.to_owned()
}

impl Record {
    /// The network that every engine has.
    pub(super) fn default_bridge(id: String, pools: Vec<Pool>) -> Result<Self> {
        Ok(Self {
            id,
            name: BRIDGE.to_owned(),
            created: Timestamp::now(),
            driver: BRIDGE.to_owned(),
            internal: false,
            attachable: false,
            families: [false, true].map(|v6| pools.iter().any(|pool| pool.subnet.addr().is_ipv6() == v6)),
            pools: pools.into_iter().map(with_gateway).collect::<Result<_>>()?,
            chosen: false,
            options: options_of_default([(DEFAULT_BRIDGE, "true".to_owned())]),
            labels: BTreeMap::new(),
            made: false,
            config_only: false,
            config_from: String::new(),
            ipam: default_ipam(),
            ipam_options: BTreeMap::new(),
        })
    }

    /// Makes a record of what is asked for; `taken` are the subnets that are in use.
    pub(super) fn of_request(
        id: String,
        request: CreateRequest,
        defaults: &Defaults,
        taken: &Taken,
    ) -> Result<Self> {
        check_name(&request.name)?;
        refuse(&request)?;
        let driver = match request.driver.as_str() {
            _ if request.config_only => NULL.to_owned(),
            "" => BRIDGE.to_owned(),
            driver => driver.to_owned(),
        };
        if !request.config_only {
            options::check(&driver, &request.options, request.internal)?;
        }
        let mut ipam = request.ipam.unwrap_or_default();
        let families = [request.enable_ipv4.unwrap_or(true), request.enable_ipv6.unwrap_or(false)];
        let chosen = ipam.config.iter().any(|config| !config.subnet.is_empty());
        let ipam_options = std::mem::take(&mut ipam.options);
        let ipam_driver = std::mem::take(&mut ipam.driver);
        let config_from = request.config_from.map(|from| from.network).unwrap_or_default();
        let mut record = Self {
            id,
            name: request.name,
            created: Timestamp::now(),
            driver,
            internal: request.internal,
            attachable: request.attachable,
            pools: Vec::new(),
            chosen,
            options: request.options,
            labels: request.labels,
            made: false,
            config_only: request.config_only,
            families,
            config_from,
            ipam: if ipam_driver.is_empty() { default_ipam() } else { ipam_driver },
            ipam_options,
        };
        record.pools = record.choose(ipam, defaults, taken)?;
        Ok(record)
    }

    /// Its subnets.
    fn choose(&self, ipam: Ipam, defaults: &Defaults, taken: &Taken) -> Result<Vec<Pool>> {
        if self.config_only {
            return ipam.config.into_iter().filter(|config| !config.subnet.is_empty()).map(parse).collect();
        }
        let gateway = if self.is_bridge() { Gateway::Chosen } else { Gateway::Asked };
        let gateways = [false, true].map(|v6| match self.gateway_mode(v6) {
            GatewayMode::Isolated => Gateway::Asked,
            _ => gateway,
        });
        if self.ipam != NULL {
            return pools(ipam, self.families, gateways, defaults, taken);
        }
        match self.families {
            [true, _] => Err(Error::invalid("ipv4 pool is empty")),
            [_, true] => Err(Error::invalid("ipv6 pool is empty")),
            _ if self.is_bridge() => Err(Error::invalid("IPv4 or IPv6 must be enabled")),
            _ => Ok(Vec::new()),
        }
    }

    /// What is asked for, with the configuration that is asked for.
    pub(super) fn configure(&self, mut request: CreateRequest) -> Result<CreateRequest> {
        let ipam = request.ipam.take().unwrap_or_default();
        let own = !ipam.config.is_empty()
            || !ipam.options.is_empty()
            || !matches!(ipam.driver.as_str(), "" | DEFAULT_IPAM)
            || request.enable_ipv6 == Some(true)
            || request.enable_ipv4 == Some(false);
        if own || !request.options.is_empty() {
            let what = if own { "user specified configurations" } else { "network driver options" };
            return Err(Error::forbidden(format!(
                "{what} are not supported if the network depends on a configuration network"
            )));
        }
        for (key, value) in &self.labels {
            request.labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        request.options.clone_from(&self.options);
        let [v4, v6] = self.families;
        (request.enable_ipv4, request.enable_ipv6) = (Some(v4), Some(v6));
        request.ipam = Some(self.shown().ipam);
        Ok(request)
    }

    fn has(&self, v6: bool) -> bool {
        if self.config_only {
            return self.families[usize::from(v6)];
        }
        self.pools.iter().any(|pool| pool.subnet.addr().is_ipv6() == v6)
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
            enable_ipv4: self.has(false),
            enable_ipv6: self.has(true),
            ipam: Ipam {
                driver: self.ipam.clone(),
                config: self.pools.iter().map(config).collect(),
                options: self.ipam_options.clone(),
            },
            internal: self.internal,
            attachable: self.attachable,
            ingress: false,
            config_from: ConfigReference { network: self.config_from.clone() },
            config_only: self.config_only,
            options: self.options.clone(),
            labels: self.labels.clone(),
        }
    }
}

/// Subnets that others have.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    /// Those of networks.
    pub networks: Vec<IpNet>,
    /// What the host has routes to: not for a network whose subnet nobody names.
    pub routes: Vec<IpNet>,
}

/// Which gateways a network has.
#[derive(Debug, Clone, Copy)]
enum Gateway {
    /// One of each subnet: that of the bridge itself.
    Chosen,
    /// Those that are named.
    Asked,
}

impl Gateway {
    fn of(self, pool: Pool) -> Result<Pool> {
        match self {
            Self::Chosen => with_gateway(pool),
            Self::Asked => Ok(ipam::Addresses::plain(pool).map_err(invalid)?.pool().clone()),
        }
    }
}

/// Chooses the gateway where none is named.
fn with_gateway(pool: Pool) -> Result<Pool> {
    Ok(ipam::Addresses::of(pool).map_err(invalid)?.pool().clone())
}

pub(super) fn invalid(error: ipam::Error) -> Error {
    Error::invalid(error.to_string())
}

/// Refuses names that are not for networks, and those of networks that are always there.
pub(super) fn check_name(name: &str) -> Result<()> {
    let bad = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '/' | ':');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(bad) {
        return Err(Error::invalid(format!("invalid network name: {name:?}")));
    }
    if matches!(name, BRIDGE | "host" | "none" | "default") || name.starts_with("container:") {
        return Err(Error::forbidden(format!("operation is not permitted on predefined {name} network ")));
    }
    Ok(())
}

/// What is not there yet is refused by its name.
fn refuse(request: &CreateRequest) -> Result<()> {
    match request.driver.as_str() {
        "" | BRIDGE | MACVLAN | IPVLAN => {}
        driver @ "overlay" => {
            return Err(Error::not_implemented(format!(
                "networks of the driver {driver} are not available yet"
            )));
        }
        driver @ ("host" | "null" | "none") => {
            return Err(Error::forbidden(format!("only one instance of \"{driver}\" network is allowed")));
        }
        driver => return Err(Error::not_found(format!("plugin \"{driver}\" not found"))),
    }
    match request.scope.as_str() {
        "" | "local" => {}
        scope @ ("swarm" | "global") => {
            return Err(Error::not_implemented(format!(
                "networks of the scope {scope} (--scope) belong to swarms, which are not available yet"
            )));
        }
        scope => return Err(Error::invalid(format!("invalid network scope: {scope}"))),
    }
    let other = request.ipam.as_ref().map(|ipam| ipam.driver.as_str());
    if let Some(driver) = other.filter(|driver| !matches!(*driver, "" | DEFAULT_IPAM | NULL)) {
        return Err(Error::not_found(format!("could not find IPAM driver: plugin \"{driver}\" not found")));
    }
    if request.ingress {
        return Err(Error::not_implemented(
            "ingress networks (--ingress) belong to swarms, which are not available yet",
        ));
    }
    if !request.config_only {
        return Ok(());
    }
    if request.config_from.as_ref().is_some_and(|from| !from.network.is_empty()) {
        return Err(Error::forbidden(
            "a configuration network cannot depend on another configuration network",
        ));
    }
    if request.internal || request.attachable || !request.scope.is_empty() {
        return Err(Error::forbidden(
            "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.",
        ));
    }
    Ok(())
}

fn pools(
    ipam: Ipam,
    [v4, v6]: [bool; 2],
    gateways: [Gateway; 2],
    defaults: &Defaults,
    taken: &Taken,
) -> Result<Vec<Pool>> {
    let [gateway4, gateway6] = gateways;
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
        ipam::check_apart(pool.subnet, &taken.networks)
            .map_err(|error| Error::forbidden(error.to_string()))?;
        let gateway = if pool.subnet.addr().is_ipv6() { gateway6 } else { gateway4 };
        pools.push(gateway.of(pool)?);
    }
    let anyones = [&taken.networks[..], &taken.routes].concat();
    let has = |pools: &[Pool], four: bool| pools.iter().any(|pool| pool.subnet.addr().is_ipv4() == four);
    // A subnet of the other kind asks for it by itself, as in Docker.
    if v4 && !has(&pools, true) {
        let subnet = defaults.v4(&anyones).map_err(|error| Error::invalid(error.to_string()))?;
        pools.insert(0, gateway4.of(Pool::of(subnet))?);
    }
    if v6 && !has(&pools, false) {
        let subnet = defaults.v6(&anyones).map_err(|error| Error::invalid(error.to_string()))?;
        pools.push(gateway6.of(Pool::of(subnet))?);
    }
    if !v4 && has(&pools, true) {
        return Err(Error::invalid("invalid IPv4 subnet: the network has no IPv4 (--ipv4)"));
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
        let networks: Vec<IpNet> = taken.iter().map(|net| net.parse().unwrap()).collect();
        let taken = Taken { networks, routes: Vec::new() };
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
            (r#"{"Name":"host"}"#, "operation is not permitted on predefined host network "),
            (r#"{"Name":"x","Driver":"weave"}"#, "plugin \"weave\" not found"),
            (r#"{"Name":"x","Driver":"overlay"}"#, "overlay"),
            (r#"{"Name":"x","Scope":"swarm"}"#, "--scope"),
            (r#"{"Name":"x","ConfigOnly":true,"Internal":true}"#, "network specific fields"),
            (r#"{"Name":"x","ConfigOnly":true,"ConfigFrom":{"Network":"y"}}"#, "cannot depend on another"),
            (r#"{"Name":"x","IPAM":{"Driver":"null"}}"#, "ipv4 pool is empty"),
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
