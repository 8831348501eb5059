//! What a container that starts is told of others: its links on the default network (`--link`), and where its host is (`host-gateway`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::containers::create::merge::environment;
use crate::containers::files;
use crate::containers::index::Index;
use crate::containers::record::{Paths, Record};
use crate::context::Context;
use crate::error::{Error, Result};

/// The network on which links are lines of a file and variables.
const DEFAULT_NETWORK: &str = "bridge";
/// What stands for the host's own address in `--add-host`.
pub(crate) const HOST_GATEWAY: &str = "host-gateway";
/// Variables of the linked container that say nothing about what it offers.
const PRIVATE: [&str; 2] = ["HOME", "PATH"];

/// Reads `container:alias`; alone a name is its own alias.
pub(crate) fn parse(text: &str) -> Result<(&str, &str)> {
    let wrong = || Error::invalid(format!("bad format for links: {text}"));
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    // As Docker shows them: `/name:/own/alias`.
    let alias = alias.rsplit('/').next().unwrap_or(alias);
    let name = name.strip_prefix('/').unwrap_or(name);
    let odd = |part: &str| {
        part.is_empty() || part.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':')
    };
    if odd(name) || odd(alias) {
        return Err(wrong());
    }
    Ok((name, alias))
}

/// The links of a container that is being made, by the full ids of the others.
pub(crate) fn resolve(index: &Index, mode: &str, links: &[String]) -> Result<Vec<String>> {
    if mode != DEFAULT_NETWORK {
        return Ok(Vec::new());
    }
    let one = |text: &String| {
        let (name, alias) = parse(text)?;
        let found = index
            .find(name)
            .map_err(|error| Error::invalid(format!("could not get container for {name}: {error}")))?;
        if found.record().host.network_mode == "host" {
            return Err(Error::invalid(
                "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
            ));
        }
        Ok(format!("{}:{alias}", found.id))
    };
    links.iter().map(one).collect()
}

/// The links as Docker shows them, of those that are still there.
pub(crate) fn shown(index: &Index, record: &Record) -> Vec<String> {
    let one = |text: &String| {
        let (id, alias) = text.split_once(':')?;
        let other = index.find(id).ok()?;
        Some(format!("/{}:/{}/{alias}", other.record().name, record.name))
    };
    record.host.links.iter().filter_map(one).collect()
}

/// Why a link, named as `container/alias`, is not taken away.
pub(crate) fn not_removed(index: &Index, name: &str) -> Error {
    let Some((parent, alias)) = name.trim_start_matches('/').rsplit_once('/') else {
        return index.find(name).err().unwrap_or_else(|| {
            Error::conflict("Conflict, cannot remove the default link name of the container")
        });
    };
    let is_there = index.find(parent).is_ok_and(|handle| {
        handle.record().host.links.iter().any(|link| link.rsplit(':').next() == Some(alias))
    });
    if is_there {
        Error::not_implemented("removing links (link=1, --link) is not available yet")
    } else {
        Error::not_found(format!("No such container: {name}"))
    }
}

/// The record as the container starts with it: its links are variables and lines of its `/etc/hosts`, and so is its host.
pub(crate) fn starting(context: &Context, record: &Record) -> Result<Record> {
    let mut starting = context.networks.completed(record);
    starting.host.extra_hosts = extra_hosts(context, record)?;
    for text in &record.host.links {
        let Some(link) = Link::find(&context.index, record, text) else { continue };
        if link.other.life.pid().is_none() {
            return Err(Error::conflict(format!(
                "Cannot link to a non running container: /{} AS /{}/{}",
                link.other.name, record.name, link.alias
            )));
        }
        let lines =
            link.addresses().iter().map(|address| format!("{}={address}", link.names())).collect::<Vec<_>>();
        starting.host.extra_hosts.extend(lines);
    }
    starting.config.env = with_links(&context.index, record);
    Ok(starting)
}

/// The variables of a container, with those that tell of its links.
pub(crate) fn with_links(index: &Index, record: &Record) -> Vec<String> {
    let links = record.host.links.iter().filter_map(|text| Link::find(index, record, text));
    let told: Vec<String> = links.flat_map(|link| link.variables(record)).collect();
    environment(&told, &record.config.env)
}

fn extra_hosts(context: &Context, record: &Record) -> Result<Vec<String>> {
    let mut all = Vec::with_capacity(record.host.extra_hosts.len());
    for entry in &record.host.extra_hosts {
        match entry.split_once([':', '=']) {
            Some((name, HOST_GATEWAY)) => {
                let addresses = context.networks.host_gateways();
                if addresses.is_empty() {
                    return Err(Error::invalid("unable to derive the IP value for host-gateway"));
                }
                all.extend(addresses.iter().map(|address| format!("{name}={address}")));
            }
            _ => all.push(entry.clone()),
        }
    }
    Ok(all)
}

/// Writes a container's new address into the files of those that have links to it and run.
pub(crate) fn tell(context: &Context, record: &Record) {
    for handle in context.index.all() {
        let parent = handle.record();
        if parent.life.pid().is_none() {
            continue;
        }
        for alias in
            parent.host.links.iter().filter_map(|text| text.strip_prefix(&record.id)?.strip_prefix(':'))
        {
            let link = Link { other: Arc::new(record.clone()), alias: alias.to_owned() };
            if let Err(error) = rewrite(&context.paths(&parent.id), &link) {
                tracing::warn!(id = %parent.id, error = %error.chain(), "a link leads to an older address");
            }
        }
    }
}

/// The file is mounted inside, so that it is changed where it is.
fn rewrite(paths: &Paths, link: &Link) -> Result<()> {
    let path = paths.hosts();
    let (names, addresses) = (link.names(), link.addresses());
    let text = files::content(&path)?;
    let kept = text.lines().filter(|line| line.split_once('\t').is_none_or(|(_, rest)| rest != names));
    let mut text: String = kept.map(|line| format!("{line}\n")).collect();
    for address in addresses {
        text.push_str(&format!("{address}\t{names}\n"));
    }
    files::change(&path, &text)
}

/// Another container, as one knows it.
struct Link {
    other: Arc<Record>,
    alias: String,
}

impl Link {
    fn find(index: &Index, record: &Record, text: &str) -> Option<Self> {
        if record.host.network_mode != DEFAULT_NETWORK {
            return None;
        }
        let (id, alias) = text.split_once(':')?;
        Some(Self { other: index.find(id).ok()?.record(), alias: alias.to_owned() })
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let endpoints =
            self.other.places.endpoints.iter().filter(|endpoint| endpoint.name == DEFAULT_NETWORK);
        endpoints.flat_map(|endpoint| &endpoint.addresses).map(ipnet::IpNet::addr).collect()
    }

    /// As they stand in `/etc/hosts`.
    fn names(&self) -> String {
        let mut names = vec![self.alias.as_str()];
        for name in [self.other.hostname(), &self.other.name] {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.join(" ")
    }

    /// As Docker has told of links before there were names.
    fn variables(&self, record: &Record) -> Vec<String> {
        let Some(address) = self.addresses().into_iter().find(IpAddr::is_ipv4) else { return Vec::new() };
        let name = self.alias.to_uppercase().replace('-', "_");
        let mut ports: BTreeMap<(u16, &str), ()> = BTreeMap::new();
        for key in self.other.config.exposed_ports.keys() {
            let (number, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
            if let Ok(number) = number.parse() {
                ports.insert((number, protocol), ());
            }
        }
        let mut all = Vec::new();
        for (at, (number, protocol)) in ports.keys().enumerate() {
            let url = format!("{protocol}://{address}:{number}");
            if at == 0 {
                all.push(format!("{name}_PORT={url}"));
            }
            let port = format!("{name}_PORT_{number}_{}", protocol.to_uppercase());
            all.push(format!("{port}={url}"));
            all.push(format!("{port}_ADDR={address}"));
            all.push(format!("{port}_PORT={number}"));
            all.push(format!("{port}_PROTO={protocol}"));
        }
        all.push(format!("{name}_NAME=/{}/{}", record.name, self.alias));
        for entry in &self.other.config.env {
            if let Some((key, value)) = entry.split_once('=').filter(|(key, _)| !PRIVATE.contains(key)) {
                all.push(format!("{name}_ENV_{key}={value}"));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::record::tests::record;

    #[test]
    fn links_are_read() {
        assert_eq!(parse("db").unwrap(), ("db", "db"));
        assert_eq!(parse("db:data").unwrap(), ("db", "data"));
        assert_eq!(parse("/db:/web/data").unwrap(), ("db", "data"));
        for odd in ["", ":", "a:", ":b", "a:b:c", "a b"] {
            assert!(parse(odd).unwrap_err().to_string().contains("bad format for links"), "{odd}");
        }
    }

    #[test]
    fn a_link_is_told_as_docker_does() {
        let mut other = record();
        other.name = "db".into();
        other.config.env = vec!["PATH=/bin".into(), "VERSION=1".into()];
        other.config.exposed_ports = serde_json::from_str(r#"{"5432/tcp":{},"53/udp":{}}"#).unwrap();
        other.places = serde_json::from_str(
            r#"{"endpoints":[{"id":"","network":"n","name":"bridge","interface":"eth0","port":"v","mac":[2,0,0,0,0,1],
                "addresses":["172.17.0.5/16"],"gateways":[]}]}"#,
        )
        .unwrap();
        let link = Link { other: Arc::new(other), alias: "my-db".into() };
        assert_eq!(link.names(), "my-db 0123456789ab db");
        let told = link.variables(&record());
        assert_eq!(
            told,
            [
                "MY_DB_PORT=udp://172.17.0.5:53",
                "MY_DB_PORT_53_UDP=udp://172.17.0.5:53",
                "MY_DB_PORT_53_UDP_ADDR=172.17.0.5",
                "MY_DB_PORT_53_UDP_PORT=53",
                "MY_DB_PORT_53_UDP_PROTO=udp",
                "MY_DB_PORT_5432_TCP=tcp://172.17.0.5:5432",
                "MY_DB_PORT_5432_TCP_ADDR=172.17.0.5",
                "MY_DB_PORT_5432_TCP_PORT=5432",
                "MY_DB_PORT_5432_TCP_PROTO=tcp",
                "MY_DB_NAME=/web/my-db",
                "MY_DB_ENV_VERSION=1",
            ]
        );
    }
}
