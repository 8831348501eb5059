//! Where what is shipped goes.

use std::fmt;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// How a receiver is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Datagrams.
    Udp(String, u16),
    /// A connection.
    Tcp(String, u16),
    /// A connection that is encrypted.
    Tls(String, u16),
    /// A connection to a socket in the file system.
    Unix(PathBuf),
    /// Datagrams to one.
    Unixgram(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(host, port) => write!(f, "udp {host}:{port}"),
            Self::Tcp(host, port) | Self::Tls(host, port) => write!(f, "tcp {host}:{port}"),
            Self::Unix(path) => write!(f, "unix {}", path.display()),
            Self::Unixgram(path) => write!(f, "unixgram {}", path.display()),
        }
    }
}

impl Address {
    /// Reads `SCHEME://REST`, where the scheme is one of `schemes`. `option` is whose value it is.
    pub fn parse(option: &str, text: &str, schemes: &[&str], port: u16) -> Result<Self> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| {
            Error::invalid(format!("{option} should be in form proto://address, got {text}"))
        })?;
        if !schemes.contains(&scheme) {
            return Err(Error::invalid(format!("{option}: unsupported scheme: '{scheme}'")));
        }
        if text.contains(['\0', '\n']) || text.len() > 1024 {
            return Err(Error::invalid(format!("{option} is no address")));
        }
        if matches!(scheme, "unix" | "unixgram") {
            if !rest.starts_with('/') {
                return Err(Error::invalid(format!("{option}: path is not absolute: {rest}")));
            }
            let path = PathBuf::from(rest);
            return Ok(if scheme == "unix" { Self::Unix(path) } else { Self::Unixgram(path) });
        }
        let (host, port) = host_and_port(rest.trim_end_matches('/'), port)
            .ok_or_else(|| Error::invalid(format!("{option}: invalid address: {text}")))?;
        Ok(match scheme {
            "udp" => Self::Udp(host, port),
            "tcp" => Self::Tcp(host, port),
            _ => Self::Tls(host, port),
        })
    }
}

fn host_and_port(text: &str, port: u16) -> Option<(String, u16)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        (host, if rest.is_empty() { port } else { rest.strip_prefix(':')?.parse().ok()? })
    } else {
        match text.rsplit_once(':') {
            Some((host, number)) => (host, number.parse().ok()?),
            None => (text, port),
        }
    };
    let odd = host.is_empty() || host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '@' | '?'));
    (!odd && port != 0).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let parse = |text| Address::parse("x-address", text, &["udp", "tcp", "tcp+tls", "unix"], 514);
        assert_eq!(parse("udp://127.0.0.1").unwrap(), Address::Udp("127.0.0.1".into(), 514));
        assert_eq!(parse("tcp://[::1]:99").unwrap(), Address::Tcp("::1".into(), 99));
        assert_eq!(parse("tcp+tls://h:1/").unwrap(), Address::Tls("h".into(), 1));
        assert_eq!(parse("unix:///x").unwrap(), Address::Unix("/x".into()));
        for (text, word) in [
            ("127.0.0.1", "should be in form proto://address"),
            ("http://x", "unsupported scheme: 'http'"),
            ("unix://x", "path is not absolute"),
            ("tcp://a:b", "invalid address"),
            ("tcp://", "invalid address"),
            ("tcp://a b:1", "invalid address"),
            ("tcp://a:0", "invalid address"),
        ] {
            assert!(parse(text).unwrap_err().to_string().contains(word), "{text}");
        }
    }
}
