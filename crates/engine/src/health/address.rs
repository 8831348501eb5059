//! Where a probe of the engine's own goes: an address in the container's network, and a page there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::error::{Error, Result};

/// The longest address: what a line of a request may hold is bounded by those who read it too.
const TEXT_BYTES_MAX: usize = 4096;
/// Where nothing is said.
const HTTP_PORT: u16 = 80;

/// Where a probe goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The addresses, in the order in which they are tried.
    pub sockets: Vec<SocketAddr>,
    /// The host as it was written, with its port if that was written.
    pub host: String,
    /// The page, with its query.
    pub page: String,
}

impl Address {
    /// Reads `http://host[:port][/page]`.
    pub fn of_url(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::invalid(format!("invalid health check address {text:?}: {why}"));
        check(text)?;
        let rest = text.strip_prefix("http://").ok_or_else(|| wrong("it does not begin with http://"))?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, page) = rest.split_at(end);
        if host.contains('@') {
            return Err(wrong("names and passwords are not sent"));
        }
        let page = page.split('#').next().unwrap_or_default();
        let page = if page.starts_with('/') { page.to_owned() } else { format!("/{page}") };
        let (name, port) = split(host).ok_or_else(|| wrong("the port is not a number"))?;
        let sockets = sockets(name, port.unwrap_or(HTTP_PORT)).ok_or_else(|| wrong(NOT_HERE))?;
        Ok(Self { sockets, host: host.to_owned(), page })
    }

    /// Reads `[tcp://]host:port`; without a host it is the container itself.
    pub fn of_socket(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::invalid(format!("invalid health check address {text:?}: {why}"));
        check(text)?;
        let host = text.strip_prefix("tcp://").unwrap_or(text);
        let (name, port) = split(host).ok_or_else(|| wrong("the port is not a number"))?;
        let port = port.ok_or_else(|| wrong("it has no port"))?;
        let name = if name.is_empty() { "localhost" } else { name };
        let sockets = sockets(name, port).ok_or_else(|| wrong(NOT_HERE))?;
        Ok(Self { sockets, host: host.to_owned(), page: String::new() })
    }
}

/// Why a name is not taken.
const NOT_HERE: &str = "only localhost and numeric addresses are looked up, in the container's network";

/// A line of a request cannot hold everything.
fn check(text: &str) -> Result<()> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Error::invalid(format!("a health check address is longer than {TEXT_BYTES_MAX} bytes")));
    }
    if text.bytes().any(|byte| !(0x21..0x7f).contains(&byte)) {
        return Err(Error::invalid(format!(
            "invalid health check address {text:?}: only printable ASCII without spaces can be in it"
        )));
    }
    Ok(())
}

/// Host and port; an address of version 6 is in brackets. `None` where the port makes no sense.
fn split(text: &str) -> Option<(&str, Option<u16>)> {
    let at = match text.strip_prefix('[') {
        Some(_) => text.find(']').map(|end| end + 1)?,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(at);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some((host, None)),
        None => None,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            port.parse().ok().filter(|port| *port != 0).map(|port| (host, Some(port)))
        }
        Some(_) => None,
    }
}

fn sockets(host: &str, port: u16) -> Option<Vec<SocketAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Some(both.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    let ip: IpAddr = host.parse().ok()?;
    Some(vec![SocketAddr::new(ip, port)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Option<(String, String, String)> {
        let address = Address::of_url(text).ok()?;
        Some((address.sockets[0].to_string(), address.host, address.page))
    }

    #[test]
    fn urls() {
        let some = |a: &str, b: &str, c: &str| Some((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(url("http://localhost"), some("127.0.0.1:80", "localhost", "/"));
        assert_eq!(url("http://127.0.0.1:8080/a?b=c#d"), some("127.0.0.1:8080", "127.0.0.1:8080", "/a?b=c"));
        assert_eq!(url("http://[::1]:81?x"), some("[::1]:81", "[::1]:81", "/?x"));
        for wrong in [
            "https://localhost",
            "localhost:80",
            "http://web/",
            "http://u:p@localhost/",
            "http://localhost:x/",
            "http://localhost:0/",
            "http://localhost:70000/",
            "http://localhost/a b",
            "http://localhost/\r\nX: y",
            "http://",
            "http://[::1",
            "http://[::1]x",
        ] {
            assert_eq!(url(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sockets_of_the_container() {
        let first = |text: &str| Address::of_socket(text).ok().map(|a| a.sockets[0].to_string());
        assert_eq!(first("tcp://localhost:5432").as_deref(), Some("127.0.0.1:5432"));
        assert_eq!(first(":6379").as_deref(), Some("127.0.0.1:6379"));
        assert_eq!(first("[::1]:1").as_deref(), Some("[::1]:1"));
        for wrong in ["localhost", "db:1", "", ":", "::1:5", "tcp://localhost:1/x"] {
            assert_eq!(first(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_address_or_refused(text in "(http://|tcp://)?[a-z0-9:.\\[\\]/?#@ ]{0,20}") {
            let _ = (Address::of_url(&text), Address::of_socket(&text));
        }
    }
}
