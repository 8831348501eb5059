//! Options of networks, by Docker's names, and what they come to.

use std::collections::BTreeMap;
use std::net::IpAddr;

use network::firewall::Inward;
use network::further::Parent;
use network::link::{Further, IpvlanFlag, IpvlanMode, MacvlanMode};

use super::record::Record;
use crate::error::{Error, Result};

/// The driver of networks that nobody says otherwise of.
pub(crate) const BRIDGE: &str = "bridge";
/// A device with a hardware address of its own for each container, on one of the host's.
pub(super) const MACVLAN: &str = "macvlan";
/// The same with the hardware address of the device below.
pub(super) const IPVLAN: &str = "ipvlan";

pub(super) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
pub(super) const ENABLE_ICC: &str = "com.docker.network.bridge.enable_icc";
pub(super) const ENABLE_MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(super) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
pub(super) const MTU: &str = "com.docker.network.driver.mtu";
pub(super) const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
const INHIBIT: &str = "com.docker.network.bridge.inhibit_ipv4";
const GATEWAY_MODE: [&str; 2] =
    ["com.docker.network.bridge.gateway_mode_ipv4", "com.docker.network.bridge.gateway_mode_ipv6"];
const HOST_ADDRESS: [&str; 2] = ["com.docker.network.host_ipv4", "com.docker.network.host_ipv6"];
const PREFIX: &str = "com.docker.network.container_iface_prefix";
const PARENT: &str = "parent";
const MACVLAN_MODE: &str = "macvlan_mode";
const IPVLAN_MODE: &str = "ipvlan_mode";
const IPVLAN_FLAG: &str = "ipvlan_flag";

/// What Docker's own options begin with: of these none is kept that has nothing behind it. Others are whoever's, and kept as Docker does.
const DOCKERS: &str = "com.docker.network.";
/// Each with what it may be, for networks that are bridges.
const OF_BRIDGES: &[(&str, Value)] = &[
    (BRIDGE_NAME, Value::Device),
    (ENABLE_ICC, Value::Truth),
    (ENABLE_MASQUERADE, Value::Truth),
    (HOST_BINDING, Value::Address),
    (DEFAULT_BRIDGE, Value::Truth),
    (INHIBIT, Value::Truth),
    (GATEWAY_MODE[0], Value::Mode),
    (GATEWAY_MODE[1], Value::Mode),
    (HOST_ADDRESS[0], Value::Address),
    (HOST_ADDRESS[1], Value::Address),
    (PREFIX, Value::Prefix),
    (MTU, Value::Number),
];
/// For those on a device of the host's.
const OF_FURTHER: &[(&str, Value)] = &[(MTU, Value::Number), (PREFIX, Value::Prefix)];
/// Smaller ones cannot carry the protocols, and larger ones do not exist.
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65535;
/// A device's name has at most 15 bytes, and a number at its end.
const PREFIX_BYTES_MAX: usize = 12;
/// The numbers that a frame can carry.
const VLANS: std::ops::RangeInclusive<u32> = 1..=4094;
/// How containers' devices are called.
const ETH: &str = "eth";

#[derive(Clone, Copy)]
enum Value {
    Truth,
    Number,
    Address,
    Device,
    Mode,
    Prefix,
}

/// How what is outside and the containers of a bridge reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GatewayMode {
    /// By addresses of the host's.
    Nat,
    /// The same, and containers by their own.
    Unprotected,
    /// By their own addresses.
    Routed,
    /// Not at all: the host has no address there.
    Isolated,
}

impl GatewayMode {
    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "nat" => Self::Nat,
            "nat-unprotected" => Self::Unprotected,
            "routed" => Self::Routed,
            "isolated" => Self::Isolated,
            _ => return None,
        })
    }

    /// Who gets in.
    pub(super) fn inward(self) -> Inward {
        match self {
            Self::Nat | Self::Isolated => Inward::Published,
            Self::Unprotected => Inward::Unprotected,
            Self::Routed => Inward::Routed,
        }
    }
}

/// The options of the default network.
pub(super) fn options_of_default<const N: usize>(all: [(&str, String); N]) -> BTreeMap<String, String> {
    all.map(|(key, value)| (key.to_owned(), value)).into()
}

/// As Go reads one.
fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// What is wrong with a value.
fn wrong(kind: Value, key: &str, value: &str) -> Option<&'static str> {
    let known = |right: bool, why| (!right).then_some(why);
    match kind {
        Value::Truth => known(truth(value).is_some(), "invalid syntax"),
        Value::Number => {
            known(value.parse().is_ok_and(|mtu: u32| MTU_RANGE.contains(&mtu)), "no size of a packet")
        }
        Value::Address => {
            let v6 = HOST_ADDRESS[1] == key;
            known(value.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == v6), "nil ip")
        }
        Value::Device => known(sys::netlink::route::is_plain_device_name(value), "no name of a device"),
        Value::Mode => known(GatewayMode::of(value).is_some(), "unknown gateway mode"),
        Value::Prefix => known(
            value.len() <= PREFIX_BYTES_MAX && sys::netlink::route::is_plain_device_name(value),
            "no name of a device",
        ),
    }
}

/// Checks the options of a network of this driver.
pub(super) fn check(driver: &str, options: &BTreeMap<String, String>, internal: bool) -> Result<()> {
    let own = if driver == BRIDGE { OF_BRIDGES } else { OF_FURTHER };
    for (key, value) in options {
        match own.iter().find(|(name, _)| name == key) {
            Some((_, kind)) => {
                if let Some(why) = wrong(*kind, key, value) {
                    return Err(Error::invalid(format!("failed to parse {key} value: {value} ({why})")));
                }
            }
            None if key.starts_with(DOCKERS) => {
                return Err(Error::not_implemented(format!(
                    "the option {key} of networks of the driver {driver} is not available"
                )));
            }
            None => {}
        }
    }
    if options.get(DEFAULT_BRIDGE).and_then(|text| truth(text)) == Some(true) {
        return Err(Error::forbidden(format!(
            "cannot create another default network: {DEFAULT_BRIDGE} is the daemon's own network's alone"
        )));
    }
    let isolated = |key: &&str| options.get(*key).is_some_and(|mode| mode == "isolated");
    if GATEWAY_MODE.iter().any(isolated) && !internal {
        return Err(Error::invalid("gateway mode 'isolated' can only be used for an internal network"));
    }
    if driver == BRIDGE { Ok(()) } else { further(driver, options).map(drop) }
}

/// What devices of a network on one of the host's are.
fn further(driver: &str, options: &BTreeMap<String, String>) -> Result<Further> {
    let text = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
    let invalid = |what: &str, given: &str, default: &str| {
        Error::invalid(format!(
            "requested {driver} {what} '{given}' is not valid, {default} is the {driver} driver default"
        ))
    };
    if text(PARENT) == "lo" {
        return Err(Error::invalid(format!("loopback interface is not a valid {driver} parent link")));
    }
    if driver == MACVLAN {
        return Ok(Further::Macvlan(match text(MACVLAN_MODE) {
            "" | "bridge" => MacvlanMode::Bridge,
            "private" => MacvlanMode::Private,
            "vepa" => MacvlanMode::Vepa,
            "passthru" => MacvlanMode::Passthru,
            other => return Err(invalid("mode", other, "'bridge' mode")),
        }));
    }
    let mode = match text(IPVLAN_MODE) {
        "" | "l2" => IpvlanMode::L2,
        "l3" => IpvlanMode::L3,
        "l3s" => IpvlanMode::L3s,
        other => return Err(invalid("mode", other, "'l2' mode")),
    };
    let flag = match text(IPVLAN_FLAG) {
        "" | "bridge" => IpvlanFlag::Bridge,
        "private" => IpvlanFlag::Private,
        "vepa" => IpvlanFlag::Vepa,
        other => return Err(invalid("flag", other, "'bridge'")),
    };
    Ok(Further::Ipvlan(mode, flag))
}

/// The device and the number that the name of a part of a device's packets says (`eth0.10`).
pub(super) fn vlan(name: &str) -> Result<(String, u16)> {
    let shape = || {
        Error::invalid(format!(
            "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received {name}"
        ))
    };
    if !name.contains('.') {
        return Err(Error::invalid(format!(
            "invalid subinterface vlan name {name}, example formatting is eth0.10"
        )));
    }
    let (parent, number) =
        name.split_once('.').filter(|(_, number)| !number.contains('.')).ok_or_else(shape)?;
    let wrong = || {
        Error::invalid(format!("unable to parse a valid vlan id from: {number} (ex. eth0.10 for vlan 10)"))
    };
    let id: u32 = number.parse().map_err(|_| wrong())?;
    if !VLANS.contains(&id) {
        return Err(Error::invalid(format!("vlan id must be between 1-4094, received: {id}")));
    }
    Ok((parent.to_owned(), u16::try_from(id).map_err(|_| wrong())?))
}

impl Record {
    fn option(&self, key: &str) -> Option<&str> {
        self.options.get(key).map(String::as_str)
    }

    fn is(&self, key: &str, default: bool) -> bool {
        self.option(key).and_then(truth).unwrap_or(default)
    }

    /// Whether it is the one that every engine has.
    pub(crate) fn is_default(&self) -> bool {
        self.name == BRIDGE && self.is(DEFAULT_BRIDGE, false)
    }

    /// Whether it is a bridge of the host.
    pub(crate) fn is_bridge(&self) -> bool {
        self.driver == BRIDGE && !self.config_only
    }

    /// The name of the host's device that it is on: its bridge, or the one below its containers' devices.
    pub(super) fn device(&self) -> String {
        let own = |prefix: &str| format!("{prefix}{}", self.id.get(..12).unwrap_or(&self.id));
        let (key, prefix) = if self.driver == BRIDGE { (BRIDGE_NAME, "br-") } else { (PARENT, "dm-") };
        self.option(key).filter(|name| !name.is_empty()).map_or_else(|| own(prefix), str::to_owned)
    }

    /// Whether there is a device below its containers' that leads anywhere.
    pub(super) fn has_parent(&self) -> bool {
        self.option(PARENT).is_some_and(|name| !name.is_empty())
    }

    /// What its containers' devices are, unless they are cables to a bridge.
    pub(super) fn further(&self) -> Option<Further> {
        if self.is_bridge() { None } else { further(&self.driver, &self.options).ok() }
    }

    /// The device below them.
    pub(super) fn parent(&self) -> Result<Parent> {
        let name = self.device();
        Ok(match (self.has_parent(), self.made) {
            (false, _) => Parent::Nowhere(name),
            (true, false) => Parent::Of(name),
            (true, true) => {
                let (on, number) = vlan(&name)?;
                Parent::Vlan { name, on, number }
            }
        })
    }

    /// Whether a container takes over the whole device below.
    pub(super) fn is_taken_whole(&self) -> bool {
        self.further() == Some(Further::Macvlan(MacvlanMode::Passthru))
    }

    /// Whether containers can send by it what has no other way.
    pub(crate) fn leads_out(&self) -> bool {
        !self.internal && !self.config_only && (self.is_bridge() || self.has_parent())
    }

    /// Whether its containers have the hardware address of the device below.
    pub(super) fn shares_mac(&self) -> bool {
        matches!(self.further(), Some(Further::Ipvlan(..)))
    }

    /// Whether what has no other way goes by the device itself.
    pub(super) fn is_routed_by_device(&self) -> bool {
        matches!(self.further(), Some(Further::Ipvlan(IpvlanMode::L3 | IpvlanMode::L3s, _)))
    }

    /// Whether its containers speak to each other.
    pub(super) fn lets_speak(&self) -> bool {
        self.is(ENABLE_ICC, true)
    }

    /// Whether what leaves it has the host's address.
    pub(super) fn masquerades(&self) -> bool {
        self.is(ENABLE_MASQUERADE, true)
    }

    /// Whether the bridge has no IPv4 address, although containers' gateway is there.
    pub(super) fn has_no_v4_itself(&self) -> bool {
        self.is(INHIBIT, false)
    }

    /// How the subnets of a family are reached.
    pub(super) fn gateway_mode(&self, v6: bool) -> GatewayMode {
        self.option(GATEWAY_MODE[usize::from(v6)]).and_then(GatewayMode::of).unwrap_or(GatewayMode::Nat)
    }

    /// The host's address that what leaves has, if it is a certain one.
    pub(super) fn host_address(&self, v6: bool) -> Option<IpAddr> {
        self.option(HOST_ADDRESS[usize::from(v6)])?.parse().ok()
    }

    /// Where ports are published that name no address; none is everywhere.
    pub(super) fn binding(&self) -> Option<IpAddr> {
        self.option(HOST_BINDING)?.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified())
    }

    /// What the names of its containers' devices begin with.
    pub(super) fn prefix(&self) -> &str {
        self.option(PREFIX).unwrap_or(ETH)
    }

    /// The largest packet, if it is not the kernel's choice.
    pub(super) fn mtu(&self) -> Option<u32> {
        self.option(MTU).and_then(|text| text.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_are_read_as_docker_does() {
        check(BRIDGE, &options(&[(ENABLE_ICC, "F"), (MTU, "1400"), ("com.example.x", "1")]), false).unwrap();
        check(MACVLAN, &options(&[(PARENT, "eth0"), (MACVLAN_MODE, "vepa"), ("odd", "1")]), false).unwrap();
        let refused =
            |driver, pairs: &[(&str, &str)]| check(driver, &options(pairs), false).unwrap_err().to_string();
        assert_eq!(
            refused(BRIDGE, &[(ENABLE_ICC, "yes")]),
            format!("failed to parse {ENABLE_ICC} value: yes (invalid syntax)")
        );
        assert!(refused(BRIDGE, &[(GATEWAY_MODE[0], "x")]).contains("unknown gateway mode"));
        assert!(refused(BRIDGE, &[(GATEWAY_MODE[1], "isolated")]).contains("internal network"));
        assert!(refused(BRIDGE, &[(HOST_BINDING, "::1")]).contains("nil ip"));
        assert!(refused(BRIDGE, &[("com.docker.network.bridge.odd", "1")]).contains("bridge.odd"));
        assert_eq!(
            refused(MACVLAN, &[(MACVLAN_MODE, "x")]),
            "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default"
        );
        assert_eq!(
            refused(IPVLAN, &[(IPVLAN_FLAG, "x")]),
            "requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default"
        );
        assert!(refused(IPVLAN, &[(PARENT, "lo")]).contains("loopback interface"));
    }

    #[test]
    fn parts_of_devices_are_read() {
        assert_eq!(vlan("eth0.10").unwrap(), ("eth0".to_owned(), 10));
        for (name, why) in [
            ("eth0", "invalid subinterface"),
            ("a.b.c", "required interface name format"),
            ("eth0.x", "unable to parse"),
            ("eth0.4095", "between 1-4094"),
        ] {
            assert!(vlan(name).unwrap_err().to_string().contains(why), "{name}");
        }
    }
}
