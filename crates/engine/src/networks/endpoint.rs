//! What a container asks of its place on a network beside addresses: the driver's options of an endpoint, and link-local addresses.

use std::net::IpAddr;

use api::network::EndpointSettings;
use ipnet::IpNet;

use super::live::Endpoint;
use super::record::Record;
use crate::error::{Error, Result};

const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
const IFNAME: &str = "com.docker.network.endpoint.ifname";
/// What Docker's own options begin with: of these none is kept that has nothing behind it.
const DOCKERS: &str = "com.docker.network.";
/// Stands for the device's name in a sysctl's.
const PLACEHOLDER: &str = "IFNAME";
/// So many are never meant.
const SYSCTLS_MAX: usize = 64;
/// The subnets of link-local addresses.
const LOCAL_BITS: [u8; 2] = [16, 64];

/// Checks what can be checked before there is a device.
pub(super) fn check(record: &Record, settings: &EndpointSettings) -> Result<()> {
    for key in settings.driver_opts.keys() {
        if key.starts_with(DOCKERS) && ![SYSCTLS, IFNAME].contains(&key.as_str()) {
            return Err(Error::not_implemented(format!(
                "the option {key} of endpoints is not available (network {})",
                record.name
            )));
        }
    }
    if let Some(name) = settings.driver_opts.get(IFNAME)
        && (!sys::netlink::route::is_plain_device_name(name) || name == "lo")
    {
        return Err(Error::invalid(format!("invalid interface name {name:?} ({IFNAME})")));
    }
    sysctls(settings)?;
    local(settings)?;
    Ok(())
}

/// Its link-local addresses.
pub(super) fn local(settings: &EndpointSettings) -> Result<Vec<IpNet>> {
    let texts = settings.ipam_config.iter().flat_map(|config| &config.link_local_ips);
    texts
        .map(|text| {
            let wrong = || Error::invalid(format!("invalid link-local IP address: {text}"));
            let address: IpAddr = text.parse().map_err(|_| wrong())?;
            let (right, bits) = match address {
                IpAddr::V4(ip) => (ip.is_link_local(), LOCAL_BITS[0]),
                IpAddr::V6(ip) => (ip.is_unicast_link_local(), LOCAL_BITS[1]),
            };
            if !right {
                return Err(wrong());
            }
            Ok(IpNet::new_assert(address, bits))
        })
        .collect()
}

/// Parameters of the kernel about its device, with their values.
pub(super) fn sysctls(settings: &EndpointSettings) -> Result<Vec<(String, String)>> {
    let Some(text) = settings.driver_opts.get(SYSCTLS) else { return Ok(Vec::new()) };
    let all: Vec<&str> = text.split(',').filter(|one| !one.is_empty()).collect();
    if all.len() > SYSCTLS_MAX {
        return Err(Error::invalid(format!("more than {SYSCTLS_MAX} sysctls of one endpoint")));
    }
    let one = |text: &&str| {
        let wrong = || {
            Error::invalid(format!(
                "invalid sysctl {text:?} of an endpoint: it has to be net.FAMILY.GROUP.IFNAME.NAME=VALUE"
            ))
        };
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        let name = name.trim().replace('/', ".");
        // Docker's command makes it small.
        let name = name.replace(&format!(".{}.", PLACEHOLDER.to_lowercase()), &format!(".{PLACEHOLDER}."));
        let parts: Vec<&str> = name.split('.').collect();
        let plain = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        };
        let right = parts.len() == 5 && parts[0] == "net" && parts[3] == PLACEHOLDER;
        if !right || !parts.iter().all(plain) || value.contains(char::is_control) {
            return Err(wrong());
        }
        Ok((name, value.trim().to_owned()))
    };
    all.iter().map(one).collect()
}

/// What its device is called: as is asked for, or the network's prefix and the lowest number that none of its others has.
pub(super) fn interface(record: &Record, settings: &EndpointSettings, others: &[Endpoint]) -> Result<String> {
    let has = |name: &str| others.iter().any(|endpoint| endpoint.interface == name);
    if let Some(name) = settings.driver_opts.get(IFNAME) {
        if has(name) {
            return Err(Error::invalid(format!(
                "interface name {name} is already used by another network of the container"
            )));
        }
        return Ok(name.clone());
    }
    let prefix = record.prefix();
    Ok((0..).map(|number| format!("{prefix}{number}")).find(|name| !has(name)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use api::network::EndpointIpamConfig;

    use super::*;

    fn options(key: &str, value: &str) -> EndpointSettings {
        EndpointSettings {
            driver_opts: [(key.to_owned(), value.to_owned())].into(),
            ..EndpointSettings::default()
        }
    }

    #[test]
    fn sysctls_are_those_of_the_device_alone() {
        let two = "net.ipv4.conf.IFNAME.log_martians=1,net/ipv6/conf/IFNAME/accept_ra=2";
        let all = sysctls(&options(SYSCTLS, two)).unwrap();
        assert_eq!(all[1], ("net.ipv6.conf.IFNAME.accept_ra".to_owned(), "2".to_owned()));
        for odd in [
            "net.ipv4.conf.all.log_martians=1",
            "net.ipv4.conf.IFNAME.x",
            "kernel.a.b.IFNAME.x=1",
            "net.ipv4...IFNAME=1",
            "net.ipv4.conf.IFNAME.x/../../y=1",
        ] {
            let error = sysctls(&options(SYSCTLS, odd)).unwrap_err().to_string();
            assert!(error.contains("invalid sysctl"), "{error}");
        }
    }

    #[test]
    fn link_local_addresses_are_link_local() {
        let of = |ip: &str| {
            let config = EndpointIpamConfig { link_local_ips: vec![ip.to_owned()], ..Default::default() };
            local(&EndpointSettings { ipam_config: Some(config), ..Default::default() })
        };
        assert_eq!(of("169.254.1.2").unwrap()[0].to_string(), "169.254.1.2/16");
        assert_eq!(of("fe80::9").unwrap()[0].to_string(), "fe80::9/64");
        assert!(of("10.0.0.1").unwrap_err().to_string().contains("invalid link-local IP address: 10.0.0.1"));
    }
}
