//! The host's ports, for an engine of an ordinary user: it is in a network namespace of its own, and pasta opens on the host what is published
//! there. pasta says nothing where it cannot, so that it is looked at before.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ports::Published;
use crate::config::Outside;
use crate::error::{Error, Result};

/// The state of a socket for TCP that listens, and of any for UDP that is bound.
const OPEN: [(&str, &str); 2] = [("tcp", "0A"), ("udp", "07")];

/// Refuses a port that cannot be opened on the host.
pub(super) fn check(outside: &Outside, port: &Published) -> Result<()> {
    let failed =
        |text: String| Error::system(format!("driver failed programming external connectivity: {text}"));
    if port.host < outside.first_port {
        return Err(failed(format!(
            "cannot expose privileged port {}, you can add 'net.ipv4.ip_unprivileged_port_start={}' to \
             /etc/sysctl.conf (currently {}), or set a larger port number (>= {})",
            port.host, port.host, outside.first_port, outside.first_port
        )));
    }
    let Some((name, state)) = OPEN.iter().find(|(name, _)| *name == port.protocol) else {
        return Err(failed(format!("{} cannot be published by a daemon without root", port.protocol)));
    };
    let own = sockets(outside.pid);
    for table in [(*name).to_owned(), format!("{name}6")] {
        let path = format!("/proc/{}/net/{table}", outside.pid);
        let text = fs::read_to_string(&path)
            .map_err(|e| Error::io("look at the host's ports in", std::path::Path::new(&path), e))?;
        if text.lines().skip(1).any(|line| is_taken(line, state, port, &own)) {
            return Err(failed(format!(
                "failed to bind host port for {}:{}:{}/{}: address already in use",
                port.address, port.host, port.container, port.protocol
            )));
        }
    }
    Ok(())
}

/// The numbers of the sockets that a process has open: what pasta has is what we publish, or did a second ago.
fn sockets(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    let number = |link: std::path::PathBuf| {
        Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
    };
    links.filter_map(number).collect()
}

/// Whether a line of `/proc/net/tcp` (proc(5)) is of somebody who has the port.
fn is_taken(line: &str, state: &str, port: &Published, own: &[String]) -> bool {
    let mut fields = line.split_whitespace();
    let (Some(local), Some(found)) = (fields.nth(1), fields.nth(1)) else { return false };
    let Some(number_of_socket) = fields.nth(5) else { return false };
    let Some((address, number)) = local.split_once(':') else { return false };
    let Some(address) = parse(address) else { return false };
    let overlap = address == port.address || address.is_unspecified() || port.address.is_unspecified();
    found == state
        && !own.iter().any(|own| own == number_of_socket)
        && u16::from_str_radix(number, 16) == Ok(port.host)
        && overlap
}

/// An address as the kernel writes it: words of four bytes, each in this machine's order.
fn parse(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at * 8)?);
            }
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_at_an_address_that_overlaps_has_the_port() {
        let published = |address: &str, host| Published {
            protocol: "tcp".into(),
            address: address.parse().unwrap(),
            host,
            container: 80,
            ..serde_json::from_str(r#"{"protocol":"tcp","address":"::","host":1,"container":1}"#).unwrap()
        };
        let line = |socket| {
            format!(
                "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1000        0 {socket} 1"
            )
        };
        for (address, host, taken) in [
            ("127.0.0.1", 8080, true),
            ("0.0.0.0", 8080, true),
            ("192.0.2.1", 8080, false),
            ("127.0.0.1", 8081, false),
        ] {
            assert_eq!(
                is_taken(&line("77"), "0A", &published(address, host), &["78".into()]),
                taken,
                "{address}"
            );
        }
        assert!(!is_taken(&line("77"), "0A", &published("127.0.0.1", 8080), &["77".into()]));
        let six = "0: 00000000000000000000000000000000:1F90 0:0 0A 0:0 0:0 0 0 0 1 1";
        assert!(is_taken(six, "0A", &published("::1", 8080), &[]));
        assert_eq!(parse("0000000000000000FFFF00000100007F"), Some("127.0.0.1".parse().unwrap()));
    }
}
