//! Receivers' names to addresses. A static binary has no `getaddrinfo`: `/etc/hosts`, then the resolver of `/etc/resolv.conf`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::blocking;
use crate::error::Error;

/// The addresses of a host.
pub(super) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    if host == "localhost" {
        return Ok(vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)]);
    }
    let hosts = tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default();
    let listed: Vec<SocketAddr> =
        in_hosts(&hosts, host).map(|address| SocketAddr::new(address, port)).collect();
    if !listed.is_empty() {
        return Ok(listed);
    }
    let failed = |error: &dyn std::fmt::Display| io::Error::other(format!("lookup {host}: {error}"));
    // It reads the resolvers of the host.
    let builder = blocking::run("read the host's resolvers", || {
        let builder = hickory_resolver::TokioResolver::builder_tokio();
        builder.map_err(|error| Error::system(error.to_string()))
    });
    let resolver = builder.await.map_err(|error| failed(&error))?.build().map_err(|error| failed(&error))?;
    let answer = resolver.lookup_ip(host).await.map_err(|error| failed(&error))?;
    Ok(answer.iter().map(|address| SocketAddr::new(address, port)).collect())
}

fn in_hosts<'a>(hosts: &'a str, name: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
    hosts.lines().filter_map(move |line| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn numbers_and_this_host_need_nobody() {
        assert_eq!(resolve("::1", 5).await.unwrap(), ["[::1]:5".parse().unwrap()]);
        assert_eq!(resolve("localhost", 5).await.unwrap(), ["127.0.0.1:5".parse().unwrap()]);
        let found: Vec<_> = in_hosts("10.0.0.1 a B # c\nbad b\n", "b").collect();
        assert_eq!(found, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    }
}
