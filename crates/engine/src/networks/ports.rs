//! Published ports: what is wished for, what was found, and how it is shown.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use api::container::{Config, HostConfig, PortBinding, PortMap, PortSummary};
use network::firewall::{HostPort, Port, Protocol};
use network::ports::{self, Wish};
use network::relay;
use serde::{Deserialize, Serialize};

use super::live::Endpoint;
use crate::error::{Error, Result};

/// Published ports of one container: more than anyone writes down, and few enough to be one batch for the kernel.
const PORTS_MAX: usize = 16 * 1024;

/// A port of the host that leads to a port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// At which address of the host; an unspecified one is all of its family.
    pub address: IpAddr,
    /// The host's; 0 if the container is reached at its own address (`routed`).
    pub host: u16,
    /// The container's.
    pub container: u16,
    /// The container's address that it leads to.
    #[serde(default)]
    pub to: Option<IpAddr>,
}

impl Published {
    fn protocol(&self) -> Option<Protocol> {
        protocol(&self.protocol)
    }

    /// Whether packet filters can lead to the container: not from one version to the other, nor what the host sends to `::1`.
    fn is_for_filters(&self) -> bool {
        let loopback = self.address.is_ipv6() && self.address.is_loopback();
        !loopback && self.to.is_some_and(|to| to.is_ipv4() == self.address.is_ipv4())
    }

    /// Whether packet filters lead to the container, but for `::1`; otherwise netd serves it, and the host's rules for what comes in decide
    /// who gets there.
    pub(super) fn is_led(&self, how: How) -> bool {
        self.is_for_filters() && !how.alone && (!how.respect || self.address.is_loopback())
    }

    /// As netd knows it: held there, and served where packet filters cannot do it or, with `respect`, are not to.
    pub(super) fn relay(&self, how: How) -> Option<relay::Port> {
        let (protocol, to) = (self.protocol()?, self.to?);
        if self.host == 0 {
            return None;
        }
        let left = how.respect && !self.address.is_loopback();
        // All addresses of version 6 have `::1` among them.
        let served = how.alone
            || left
            || !self.is_for_filters()
            || (self.address.is_ipv6() && self.address.is_unspecified());
        Some(relay::Port {
            protocol,
            at: SocketAddr::new(self.address, self.host),
            to: (served && protocol != Protocol::Sctp).then(|| SocketAddr::new(to, self.container)),
            as_client: left && self.is_for_filters(),
        })
    }
}

/// Who serves published ports.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// netd, as far as it can, so that the host's own rules decide.
    pub respect: bool,
    /// netd alone: there are no packet filters.
    pub alone: bool,
}

pub(super) fn protocol(text: &str) -> Option<Protocol> {
    match text {
        "" | "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// `80/tcp`, as the API has it.
pub(super) fn parse(key: &str) -> Result<(Protocol, u16)> {
    let (number, name) = key.split_once('/').unwrap_or((key, "tcp"));
    let wrong = || Error::invalid(format!("invalid port specification: {key:?}"));
    let number = number.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
    let protocol = protocol(&name.to_lowercase())
        .ok_or_else(|| Error::invalid(format!("invalid port specification: {key:?}: unknown protocol")))?;
    Ok((protocol, number))
}

/// What a container wishes.
pub(crate) fn wishes(host: &HostConfig, config: &Config) -> Result<Vec<Wish>> {
    let mut wishes = Vec::new();
    for (key, bindings) in &host.port_bindings {
        let (protocol, container) = parse(key)?;
        let none = [PortBinding::default()];
        // An empty list is a port at any number, as in Docker.
        let bindings = match bindings.as_deref() {
            Some([]) | None => &none[..],
            Some(bindings) => bindings,
        };
        for binding in bindings {
            wishes.push(Wish {
                protocol,
                container,
                address: address(&binding.host_ip)?,
                host: range(&binding.host_port)?,
            });
        }
    }
    if host.publish_all_ports {
        for key in config.exposed_ports.keys() {
            let (protocol, container) = parse(key)?;
            if !wishes.iter().any(|wish| wish.protocol == protocol && wish.container == container) {
                wishes.push(Wish { protocol, container, address: None, host: None });
            }
        }
    }
    if wishes.len() > PORTS_MAX {
        return Err(Error::invalid(format!("more than {PORTS_MAX} published ports")));
    }
    Ok(wishes)
}

pub(super) fn address(text: &str) -> Result<Option<IpAddr>> {
    let text = text.trim_start_matches('[').trim_end_matches(']');
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Error::invalid(format!("invalid IP address: {text}")))
}

pub(super) fn range(text: &str) -> Result<Option<std::ops::RangeInclusive<u16>>> {
    if matches!(text, "" | "0") {
        return Ok(None);
    }
    let wrong = || Error::invalid(format!("invalid hostPort: {text}"));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
    if first == 0 || first > last {
        return Err(wrong());
    }
    Ok(Some(first..=last))
}

/// Where the network says at which address those ports are published that name none (`host_binding_ipv4`).
pub(super) fn bound(wishes: &[Wish], binding: Option<IpAddr>) -> Vec<Wish> {
    wishes.iter().map(|wish| Wish { address: wish.address.or(binding), ..wish.clone() }).collect()
}

/// Opens the ports of one wish at the container's own addresses, of those families that are routed.
fn open(wish: &Wish, endpoint: &Endpoint, routed: [bool; 2]) -> Vec<Published> {
    let of = |v6: bool| {
        let meant = wish.address.is_none_or(|address| address.is_ipv6() == v6);
        let own = endpoint.address(v6).filter(|_| meant && routed[usize::from(v6)])?;
        let address: IpAddr =
            if own.addr().is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let protocol = ports::name(wish.protocol).to_owned();
        Some(Published { protocol, address, host: 0, container: wish.container, to: Some(own.addr()) })
    };
    [false, true].into_iter().filter_map(of).collect()
}

/// Finds and holds the ports, for a container that is reached at the addresses of `endpoint`: each with what holds it.
pub(super) fn hold(
    wishes: &[Wish],
    endpoint: &Endpoint,
    how: How,
    routed: [bool; 2],
) -> Result<Vec<(Published, Option<OwnedFd>)>, Refused> {
    let has = |v6: bool| endpoint.address(v6).is_some();
    let v6_here = ports::has_v6();
    let mut all = Vec::new();
    let [open4, open6] = [false, true].map(|v6| routed[usize::from(v6)] && has(v6));
    for wish in wishes {
        let sctp = wish.protocol == Protocol::Sctp;
        let opened = open(wish, endpoint, routed);
        let all_open = wish.address.is_some() && !opened.is_empty();
        all.extend(opened.into_iter().map(|port| (port, None)));
        if all_open {
            continue;
        }
        let text =
            |address: IpAddr| format!("port {}/{} at {address}", wish.container, ports::name(wish.protocol));
        if let Some(address) = wish.address.filter(|address| {
            sctp && (!has(address.is_ipv6()) || (address.is_ipv6() && address.is_loopback()))
        }) {
            return Err(Refused::Invalid(format!(
                "cannot publish {}: only TCP and UDP are passed on to a container without an address of that family, and from ::1",
                text(address)
            )));
        }
        if sctp && (how.respect || how.alone) {
            let option = if how.alone { "iptables=false" } else { "firewall=respect" };
            return Err(Refused::Invalid(format!(
                "cannot publish port {}/sctp with {option}: only TCP and UDP are served without packet filters",
                wish.container
            )));
        }
        // Without an address named, what the container cannot have itself is passed on by netd.
        let v4 = if has(false) { !open4 } else { !sctp && !open6 };
        let v6 = if has(true) { !open6 } else { !sctp && v6_here && !open4 };
        if !v4 && !v6 && wish.address.is_none() {
            continue;
        }
        let held = ports::hold(wish, v4, v6).map_err(Refused::Port)?;
        let mut sockets = held.sockets;
        for address in held.addresses {
            let socket = sockets.iter().position(|(at, _)| *at == address).map(|at| sockets.remove(at).1);
            let to = endpoint.address(address.is_ipv6()).or_else(|| endpoint.address(!address.is_ipv6()));
            let published = Published {
                protocol: ports::name(wish.protocol).to_owned(),
                address,
                host: held.port,
                container: wish.container,
                to: to.map(|net| net.addr()),
            };
            all.push((published, socket));
        }
    }
    Ok(all)
}

/// Why ports cannot be had.
#[derive(Debug)]
pub(super) enum Refused {
    /// Nobody could.
    Invalid(String),
    /// By the host.
    Port(ports::Error),
}

/// Holds a port again that netd has lost, or another netd is to have.
pub(super) fn hold_again(port: &relay::Port) -> Result<OwnedFd> {
    let wish = Wish {
        protocol: port.protocol,
        container: port.at.port(),
        address: Some(port.at.ip()),
        host: Some(port.at.port()..=port.at.port()),
    };
    let held = ports::hold(&wish, true, true)
        .map_err(|e| Error::system(format!("cannot have port {} again", port.at)).with_source(e))?;
    let mut sockets = held.sockets.into_iter();
    sockets.next().map(|(_, socket)| socket).ok_or_else(|| {
        Error::system(format!("cannot hold port {}: the kernel does not know its protocol", port.at))
    })
}

/// Where ports lead that were written down before it was said with each.
pub(super) fn complete(published: &mut [Published], endpoint: &Endpoint) {
    for port in published.iter_mut().filter(|port| port.to.is_none()) {
        let v6 = port.address.is_ipv6();
        port.to = endpoint.address(v6).or_else(|| endpoint.address(!v6)).map(|net| net.addr());
    }
}

/// As the packet filters know them: those that they can lead to a container.
pub(super) fn rules<'a>(published: impl IntoIterator<Item = &'a Published>) -> Vec<Port> {
    let rule = |port: &Published| {
        Some(Port {
            protocol: port.protocol()?,
            host: (port.host != 0).then_some(HostPort { address: port.address, first: port.host }),
            container: port.to?,
            first: port.container,
            count: 1,
        })
    };
    published.into_iter().filter(|port| port.is_for_filters()).filter_map(rule).collect()
}

/// `NetworkSettings.Ports`: exposed ports, and where the published ones are.
pub(crate) fn map(config: &Config, published: &[Published]) -> PortMap {
    let mut map: PortMap = config.exposed_ports.keys().map(|key| (key.clone(), None)).collect();
    for port in published {
        let key = format!("{}/{}", port.container, port.protocol);
        if port.host == 0 {
            map.entry(key).or_default();
            continue;
        }
        let binding = PortBinding { host_ip: port.address.to_string(), host_port: port.host.to_string() };
        map.entry(key).or_default().get_or_insert_default().push(binding);
    }
    map
}

/// The same in lists of containers.
pub(crate) fn summary(config: &Config, published: &[Published]) -> Vec<PortSummary> {
    let mut all: BTreeMap<(u16, String), Vec<PortSummary>> = BTreeMap::new();
    for key in config.exposed_ports.keys() {
        let (number, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
        if let Ok(number) = number.parse() {
            all.insert((number, protocol.to_owned()), Vec::new());
        }
    }
    for port in published {
        let found = all.entry((port.container, port.protocol.clone())).or_default();
        if port.host == 0 {
            continue;
        }
        found.push(PortSummary {
            ip: port.address.to_string(),
            private_port: port.container,
            public_port: port.host,
            protocol: port.protocol.clone(),
        });
    }
    let plain = |(number, protocol): (u16, String)| PortSummary {
        private_port: number,
        protocol,
        ..PortSummary::default()
    };
    all.into_iter().flat_map(|(key, found)| if found.is_empty() { vec![plain(key)] } else { found }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes_of(json: &str) -> Result<Vec<Wish>> {
        let host = HostConfig { port_bindings: serde_json::from_str(json).unwrap(), ..HostConfig::default() };
        wishes(&host, &Config::default())
    }

    #[test]
    fn every_form_of_a_binding_is_read() {
        let all = wishes_of(
            r#"{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080"},{"HostIp":"","HostPort":"9000-9010"}],
                "53/udp":null,"90":[{"HostIp":"[::]","HostPort":"0"}]}"#,
        );
        let all = all.unwrap();
        assert_eq!(all.len(), 4);
        assert_eq!((all[0].protocol, all[0].host.clone()), (Protocol::Udp, None));
        assert_eq!((all[1].container, all[1].host.clone()), (80, Some(8080..=8080)));
        assert_eq!((all[2].address, all[2].host.clone()), (None, Some(9000..=9010)));
        assert_eq!((all[3].protocol, all[3].address), (Protocol::Tcp, Some("::".parse().unwrap())));
        for wrong in [
            r#"{"0/tcp":null}"#,
            r#"{"80/icmp":null}"#,
            r#"{"80":[{"HostIp":"x"}]}"#,
            r#"{"80":[{"HostPort":"9-8"}]}"#,
            r#"{"80":[{"HostPort":"70000"}]}"#,
        ] {
            wishes_of(wrong).unwrap_err();
        }
    }

    #[test]
    fn who_leads_to_a_container() {
        let of = |protocol: &str, address: &str, to: &str, respect: bool| {
            let port = Published {
                protocol: protocol.into(),
                address: address.parse().unwrap(),
                host: 8080,
                container: 80,
                to: Some(to.parse().unwrap()),
            };
            let relay = port.relay(How { respect, alone: false }).unwrap();
            (!rules([&port]).is_empty(), relay.to.is_some(), relay.as_client)
        };
        let (four, six) = ("10.0.0.2", "fd00::2");
        // Packet filters, netd, netd by the client's address.
        for (protocol, address, to, bypass, respect) in [
            ("tcp", "0.0.0.0", four, (true, false, false), (true, true, true)),
            ("udp", "192.0.2.1", four, (true, false, false), (true, true, true)),
            ("tcp", "127.0.0.1", four, (true, false, false), (true, false, false)),
            ("tcp", "::", six, (true, true, false), (true, true, true)),
            ("udp", "2001:db8::1", six, (true, false, false), (true, true, true)),
            ("tcp", "::1", six, (false, true, false), (false, true, false)),
            ("tcp", "::", four, (false, true, false), (false, true, false)),
            ("udp", "::1", four, (false, true, false), (false, true, false)),
            ("tcp", "0.0.0.0", six, (false, true, false), (false, true, false)),
            ("sctp", "0.0.0.0", four, (true, false, false), (true, false, true)),
        ] {
            assert_eq!(of(protocol, address, to, false), bypass, "{protocol} {address} {to}");
            assert_eq!(of(protocol, address, to, true), respect, "{protocol} {address} {to}");
        }
    }

    #[test]
    fn ports_that_were_noted_before_lead_where_they_did() {
        let mut published: Vec<Published> =
            serde_json::from_str(r#"[{"protocol":"tcp","address":"::","host":8080,"container":80}]"#)
                .unwrap();
        let how = How { respect: false, alone: false };
        assert_eq!(published[0].relay(how), None);
        let endpoint = Endpoint {
            id: String::new(),
            network: String::new(),
            name: String::new(),
            interface: "eth0".into(),
            port: String::new(),
            mac: [0; 6],
            addresses: vec!["10.0.0.2/24".parse().unwrap()],
            gateways: Vec::new(),
        };
        complete(&mut published, &endpoint);
        assert_eq!(published[0].relay(how).unwrap().to, Some("10.0.0.2:80".parse().unwrap()));
    }

    #[test]
    fn exposed_ports_are_published_where_all_are() {
        let config: Config = serde_json::from_str(r#"{"ExposedPorts":{"80/tcp":{},"53/udp":{}}}"#).unwrap();
        let host = HostConfig { publish_all_ports: true, ..HostConfig::default() };
        assert_eq!(wishes(&host, &config).unwrap().len(), 2);
        let published = [Published {
            protocol: "tcp".into(),
            address: "0.0.0.0".parse().unwrap(),
            host: 8080,
            container: 80,
            to: None,
        }];
        let map = map(&config, &published);
        assert_eq!(map["53/udp"], None);
        assert_eq!(map["80/tcp"].as_ref().unwrap()[0].host_port, "8080");
        let summary = summary(&config, &published);
        assert_eq!(summary.len(), 2);
        assert_eq!((summary[0].private_port, summary[0].public_port), (53, 0));
    }
}
