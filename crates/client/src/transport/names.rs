//! Host names to addresses. A static binary has no `getaddrinfo`: `/etc/hosts`, then the resolver
//! that `/etc/resolv.conf` names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The addresses of `host`, or what is wrong with it.
pub(crate) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    if host == "localhost" {
        let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Ok(both.map(|address| SocketAddr::new(address, port)).to_vec());
    }
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let listed: Vec<_> = in_hosts(&hosts, host).map(|address| SocketAddr::new(address, port)).collect();
    if !listed.is_empty() {
        return Ok(listed);
    }
    let failed = |err: &dyn std::fmt::Display| format!("lookup {host}: {err}");
    let resolver = hickory_resolver::TokioResolver::builder_tokio()
        .map_err(|err| failed(&err))?
        .build()
        .map_err(|err| failed(&err))?;
    let answer = resolver.lookup_ip(host).await.map_err(|err| {
        // In Go's words, without the question that was asked of the server.
        if err.is_nx_domain() || err.is_no_records_found() { failed(&"no such host") } else { failed(&err) }
    })?;
    Ok(answer.iter().map(|address| SocketAddr::new(address, port)).collect())
}

fn in_hosts<'a>(hosts: &'a str, name: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
    hosts.lines().filter_map(move |line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lines_name_several_names() {
        let hosts = "# x\n10.0.0.1 a b # c\nbad d\n::1 B\n";
        let found = |name| in_hosts(hosts, name).collect::<Vec<_>>();
        assert_eq!(found("b"), ["10.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert!(found("c").is_empty() && found("d").is_empty());
    }
}
