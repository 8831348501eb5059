//! `--publish` and `--expose`.

use api::container::{PortBinding, Unit};
use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::flags::Parsed;

/// What the flags come to.
pub(super) struct Ports {
    pub(super) exposed: BTreeMap<String, Unit>,
    pub(super) bindings: BTreeMap<String, Option<Vec<PortBinding>>>,
}

/// Reads `--publish` and `--expose`.
pub(super) fn collect(parsed: &Parsed) -> Result<Ports> {
    let mut ports = Ports { exposed: BTreeMap::new(), bindings: BTreeMap::new() };
    for text in parsed.list("publish") {
        for (port, binding) in pairs(text).map_err(Error::Message)? {
            ports.exposed.insert(port.clone(), Unit {});
            ports.bindings.entry(port).or_default().get_or_insert_default().push(binding);
        }
    }
    for text in parsed.list("expose") {
        let invalid = |why: &str| Error::Message(format!("invalid {why} for --expose: {text}"));
        if text.contains(':') {
            return Err(invalid("port format"));
        }
        let (range, protocol) = protocol(text).map_err(Error::Message)?;
        let (from, to) = self::range(range).map_err(|why| {
            Error::Message(format!("invalid range format for --expose: {text}, error: {why}"))
        })?;
        for port in from..=to {
            ports.exposed.insert(format!("{port}/{protocol}"), Unit {});
        }
    }
    Ok(ports)
}

/// Ports of the container, each with its place on the host.
pub(super) type Pairs = std::result::Result<Vec<(String, PortBinding)>, String>;

/// Reads a value of `--publish`, in either form.
pub(super) fn pairs(text: &str) -> Pairs {
    if text.contains('=') { long(text) } else { short(text) }
}

fn protocol(text: &str) -> std::result::Result<(&str, String), String> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_lowercase() };
    match protocol.as_str() {
        "tcp" | "udp" | "sctp" => Ok((range, protocol)),
        _ => Err(format!("invalid proto: {protocol}")),
    }
}

fn range(text: &str) -> std::result::Result<(u16, u16), String> {
    if text.is_empty() {
        return Err("empty string specified for ports".into());
    }
    let number = |text: &str| {
        text.parse::<u16>().map_err(|_| format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))
    };
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (number(from)?, number(to)?);
    if to < from {
        return Err(format!("invalid range specified for port: {text}"));
    }
    Ok((from, to))
}

/// `[[ip:]host:]container[/protocol]`.
fn short(text: &str) -> Pairs {
    let (ip, rest) = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, rest) = rest.split_once("]:").ok_or_else(|| format!("invalid IP address: {text}"))?;
            (ip, rest)
        }
        None => {
            let colons = text.matches(':').count();
            if colons >= 2 {
                let container = text.rfind(':').unwrap_or(0);
                let host = text[..container].rfind(':').unwrap_or(0);
                (&text[..host], &text[host + 1..])
            } else {
                ("", text)
            }
        }
    };
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {ip}"));
    }
    let (host, container) = rest.split_once(':').unwrap_or(("", rest));
    if container.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    let (container, protocol) = protocol(container)?;
    let (from, to) = range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    let hosts = if host.is_empty() {
        None
    } else {
        Some(range(host).map_err(|_| format!("invalid hostPort: {host}"))?)
    };
    let one = |port: u16, host_port: String| {
        (format!("{port}/{protocol}"), PortBinding { host_ip: ip.to_owned(), host_port })
    };
    match hosts {
        None => Ok((from..=to).map(|port| one(port, String::new())).collect()),
        Some((first, last)) if last - first == to - from => {
            Ok((from..=to).zip(first..=last).map(|(port, host)| one(port, host.to_string())).collect())
        }
        // A range of the host for one port: the daemon takes a free one.
        Some(_) if from == to => Ok(vec![one(from, host.to_owned())]),
        Some(_) => {
            Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"))
        }
    }
}

/// `target=80,published=8080,protocol=tcp,mode=host`.
fn long(text: &str) -> Pairs {
    let (mut target, mut published, mut protocol) = (None, None, "tcp".to_owned());
    for field in super::mount::fields(text)? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(format!("invalid field: {field}"));
        };
        let number =
            || value.parse::<u16>().map_err(|_| format!("invalid {key} ({value}): value must be an integer"));
        match key.to_lowercase().as_str() {
            "target" => target = Some(number()?),
            "published" => published = Some(number()?),
            "protocol" => protocol = value.to_lowercase(),
            "mode" if matches!(value, "host" | "ingress") => {}
            _ => return Err(format!("invalid publish opts format (should be name=value but got '{field}')")),
        }
    }
    let Some(target) = target else { return Err("missing mandatory field \"target\"".into()) };
    let host_port = published.map_or_else(String::new, |port| port.to_string());
    Ok(vec![(format!("{target}/{protocol}"), PortBinding { host_ip: String::new(), host_port })])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match short(text) {
            Ok(pairs) => pairs
                .iter()
                .map(|(port, binding)| format!("{}|{}>{port}", binding.host_ip, binding.host_port))
                .collect::<Vec<_>>()
                .join(" "),
            Err(why) => why,
        }
    }

    #[test]
    fn ports() {
        for (text, want) in [
            ("80", "|>80/tcp"),
            ("8080:80", "|8080>80/tcp"),
            ("127.0.0.1:8080:80/udp", "127.0.0.1|8080>80/udp"),
            ("127.0.0.1::80", "127.0.0.1|>80/tcp"),
            ("[::1]:8080:80", "::1|8080>80/tcp"),
            ("8080-8081:80-81", "|8080>80/tcp |8081>81/tcp"),
            ("8080-8090:80", "|8080-8090>80/tcp"),
            ("8080-8081:80-82", "invalid ranges specified for container and host Ports: 80-82 and 8080-8081"),
            ("x:80", "invalid hostPort: x"),
            ("80:x", "invalid containerPort: x"),
            ("80:", "no port specified: 80:<empty>"),
            ("80/xyz", "invalid proto: xyz"),
            ("a.b:1:2", "invalid IP address: a.b"),
        ] {
            assert_eq!(shown(text), want, "{text}");
        }
    }
}
