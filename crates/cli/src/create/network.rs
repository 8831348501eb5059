//! `--network` and what belongs to it.

use api::container::NetworkingConfig;
use api::network::{EndpointIpamConfig, EndpointSettings};
use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::flags::Parsed;

/// What the flags come to.
pub(super) struct Network {
    pub(super) mode: String,
    pub(super) config: NetworkingConfig,
}

/// A name server's address.
pub(super) fn check_address(text: &str) -> std::result::Result<(), String> {
    text.trim()
        .parse::<IpAddr>()
        .map(drop)
        .map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

/// `name:address` or `name=address`.
pub(super) fn check_host(text: &str) -> std::result::Result<(), String> {
    let split = text.split_once('=').or_else(|| text.split_once(':'));
    let Some((name, address)) = split.filter(|(name, _)| !name.is_empty()) else {
        return Err(format!("bad format for add-host: {text:?}"));
    };
    let _ = name;
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if address != "host-gateway" && address.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(())
}

/// `--add-host` as the API wants it.
pub(super) fn extra_hosts(parsed: &Parsed) -> Vec<String> {
    parsed
        .list("add-host")
        .map(|text| {
            let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).unwrap_or((text, ""));
            let address =
                address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
            format!("{name}:{address}")
        })
        .collect()
}

fn user_defined(name: &str) -> bool {
    !matches!(name, "" | "default" | "bridge" | "host" | "none" | "nat") && !name.starts_with("container:")
}

/// Reads the networks: a name, or `name=…,alias=…,ip=…`.
pub(super) fn collect(parsed: &Parsed) -> Result<Network> {
    let mut config = NetworkingConfig::default();
    let mut mode = "default".to_owned();
    let mut kinds = (false, false);
    let mut given = parsed.owned("network");
    if given.is_empty() {
        given.push(mode.clone());
    }
    for (index, text) in given.iter().enumerate() {
        let (name, mut endpoint) = one(text)?;
        if index == 0 {
            common(parsed, &mut endpoint, &name)?;
            mode.clone_from(&name);
        }
        match user_defined(&name) {
            true => kinds.0 = true,
            false => kinds.1 = true,
        }
        if config.endpoints_config.insert(name.clone(), endpoint).is_some() {
            return Err(Error::Message(format!("network {name:?} is specified multiple times")));
        }
    }
    if kinds == (true, true) {
        let text = "conflicting options: cannot attach both user-defined and non-user-defined network-modes";
        return Err(Error::say(text));
    }
    // Networks that are no networks have no endpoints to say anything of.
    config.endpoints_config.retain(|name, endpoint| {
        user_defined(name) || name == "default" || *endpoint != EndpointSettings::default()
    });
    Ok(Network { mode, config })
}

/// The flags that belong to the first network.
fn common(parsed: &Parsed, endpoint: &mut EndpointSettings, name: &str) -> Result<()> {
    let conflict = |flag: &str, what: &str| {
        Error::Message(format!("conflicting options: cannot specify both --{flag} and per-network {what}"))
    };
    let aliases = parsed.owned("network-alias");
    if !aliases.is_empty() {
        if !endpoint.aliases.is_empty() {
            return Err(conflict("network-alias", "alias"));
        }
        endpoint.aliases = aliases;
    }
    let links = parsed.owned("link");
    if !links.is_empty() && user_defined(name) {
        endpoint.links = links;
    }
    let (ip, ip6, local) = (parsed.or_empty("ip"), parsed.or_empty("ip6"), parsed.owned("link-local-ip"));
    if !(ip.is_empty() && ip6.is_empty() && local.is_empty()) {
        let ipam = endpoint.ipam_config.get_or_insert_with(EndpointIpamConfig::default);
        for (flag, what, value, slot) in [
            ("ip", "IPv4 address", ip, &mut ipam.ipv4_address),
            ("ip6", "IPv6 address", ip6, &mut ipam.ipv6_address),
        ] {
            if !value.is_empty() && !slot.is_empty() {
                return Err(conflict(flag, what));
            }
            if !value.is_empty() {
                *slot = value;
            }
        }
        ipam.link_local_ips.extend(local);
    }
    let mac = parsed.or_empty("mac-address");
    if !mac.is_empty() {
        check_mac(&mac)?;
        if !endpoint.mac_address.is_empty() {
            return Err(conflict("mac-address", "MAC address"));
        }
        endpoint.mac_address = mac;
    }
    Ok(())
}

fn check_mac(text: &str) -> Result<()> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let hex = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    if parts.len() == 6 && parts.iter().all(hex) {
        return Ok(());
    }
    Err(Error::Message(format!("{text} is not a valid mac address")))
}

/// What a value of `update --network` changes: a network's rates.
pub(super) fn change(text: &str) -> Result<(String, BTreeMap<String, String>)> {
    let (name, endpoint) = one(text)?;
    let options = endpoint.driver_opts.clone();
    if options.is_empty()
        || endpoint != (EndpointSettings { driver_opts: options.clone(), ..Default::default() })
    {
        return Err(Error::Message(format!(
            "invalid network {text}: what can be changed are rates (name=NETWORK,rate-in=10mbit,rate-out=1gbit)"
        )));
    }
    Ok((name, options))
}

fn one(text: &str) -> Result<(String, EndpointSettings)> {
    let mut endpoint = EndpointSettings::default();
    let first = text.split(',').next().unwrap_or_default();
    if !first.contains('=') {
        return Ok((text.to_owned(), endpoint));
    }
    let mut name = String::new();
    for field in super::mount::fields(text).map_err(Error::Message)? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(Error::Message(format!("invalid field {field}")));
        };
        let ipam = |endpoint: &mut EndpointSettings, set: &dyn Fn(&mut EndpointIpamConfig)| {
            set(endpoint.ipam_config.get_or_insert_with(EndpointIpamConfig::default));
        };
        match key.trim().to_lowercase().as_str() {
            "name" => value.clone_into(&mut name),
            "alias" => endpoint.aliases.push(value.to_owned()),
            "driver-opt" => {
                let (option, value) = value
                    .split_once('=')
                    .ok_or_else(|| Error::say("invalid key value pair format in driver options"))?;
                endpoint.driver_opts.insert(option.to_owned(), value.to_owned());
            }
            "rate-in" | "rate-out" => {
                endpoint
                    .driver_opts
                    .insert(format!("corten.{}", key.trim().to_lowercase()), value.to_owned());
            }
            "ip" => ipam(&mut endpoint, &|ipam| value.clone_into(&mut ipam.ipv4_address)),
            "ip6" => ipam(&mut endpoint, &|ipam| value.clone_into(&mut ipam.ipv6_address)),
            "link-local-ip" => ipam(&mut endpoint, &|ipam| ipam.link_local_ips.push(value.to_owned())),
            "mac-address" => {
                check_mac(value)?;
                value.clone_into(&mut endpoint.mac_address);
            }
            "gw-priority" => {
                endpoint.gw_priority = value
                    .parse()
                    .map_err(|_| Error::Message(format!("invalid gw-priority: invalid syntax: {value}")))?;
            }
            key => return Err(Error::Message(format!("invalid field key {key}"))),
        }
    }
    if name.is_empty() {
        return Err(Error::say("network name/id is not specified"));
    }
    Ok((name, endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_with_options() {
        let (name, endpoint) = one("name=n,alias=a,ip=1.2.3.4,driver-opt=k=v").unwrap();
        assert_eq!(name, "n");
        assert_eq!(endpoint.aliases, ["a"]);
        assert_eq!(endpoint.ipam_config.unwrap().ipv4_address, "1.2.3.4");
        assert_eq!(one("host").unwrap().0, "host");
        let limited = one("name=n,rate-in=10mbit,rate-out=1gbit").unwrap().1.driver_opts;
        assert_eq!(limited["corten.rate-in"], "10mbit");
        assert_eq!(change("name=n,rate-out=").unwrap().1["corten.rate-out"], "");
        assert!(change("n").is_err() && change("name=n,ip=1.2.3.4,rate-in=1mbit").is_err());
        assert!(one("alias=a").is_err() && one("name=n,foo=x").is_err());
    }

    #[test]
    fn hosts_are_checked() {
        check_host("a:1.2.3.4").unwrap();
        check_host("a=::1").unwrap();
        check_host("a:[::1]").unwrap();
        check_host("a:host-gateway").unwrap();
        assert_eq!(check_host("a").unwrap_err(), "bad format for add-host: \"a\"");
        assert_eq!(check_host("a:x").unwrap_err(), "invalid IP address in add-host: \"x\"");
    }
}
