//! Host names to addresses, without the C library: static binaries have no `getaddrinfo`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Mutex;
use std::time::SystemTime;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A name that could not be turned into an address, in the words of Go's resolver.
#[derive(Debug, thiserror::Error)]
#[error("lookup {host}: {why}")]
pub(crate) struct LookupError {
    pub(crate) host: String,
    pub(crate) why: String,
}

/// The system's resolver: `/etc/hosts`, then the servers of `/etc/resolv.conf`.
#[derive(Default)]
pub(crate) struct Names {
    /// Read again when one of the files has changed: a laptop that changes networks keeps its daemon.
    current: Mutex<Option<(Stamp, TokioResolver)>>,
}

type Stamp = [Option<SystemTime>; 2];

fn stamp() -> Stamp {
    ["/etc/resolv.conf", "/etc/hosts"]
        .map(|path| std::fs::metadata(path).and_then(|file| file.modified()).ok())
}

impl Names {
    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let stamp = stamp();
        let mut current = match self.current.lock() {
            Ok(current) => current,
            Err(poisoned) => poisoned.into_inner(),
        };
        if let Some((read, resolver)) = &*current
            && *read == stamp
        {
            return Ok(resolver.clone());
        }
        // Without a readable resolv.conf the C library and Go ask a server on this machine.
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
            let servers = vec![NameServerConfig::udp_and_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST))];
            TokioResolver::builder_with_config(
                ResolverConfig::from_parts(None, Vec::new(), servers),
                TokioRuntimeProvider::default(),
            )
        });
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        let resolver = builder.build()?;
        *current = Some((stamp, resolver.clone()));
        Ok(resolver)
    }

    /// The addresses of a host, IPv4 first: few registries' hosts have a working IPv6 route.
    pub(crate) async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(vec![address]);
        }
        if is_localhost(host) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let failed = |error: &NetError| LookupError { host: host.to_owned(), why: reason(error) };
        let resolver = self.resolver().map_err(|error| failed(&error))?;
        let answer = resolver.lookup_ip(host).await.map_err(|error| failed(&error))?;
        let mut addresses: Vec<IpAddr> = answer.iter().collect();
        addresses.sort_by_key(IpAddr::is_ipv6);
        if addresses.is_empty() {
            return Err(LookupError { host: host.to_owned(), why: "no such host".into() });
        }
        Ok(addresses)
    }
}

/// `localhost` and names below it are this machine by definition (RFC 6761).
pub(crate) fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

fn reason(error: &NetError) -> String {
    match error {
        NetError::Timeout => "i/o timeout".into(),
        _ if error.is_nx_domain() || error.is_no_records_found() => "no such host".into(),
        other => other.to_string(),
    }
}

/// What the HTTP client is given.
pub(crate) struct SharedNames(pub(crate) std::sync::Arc<Names>);

impl Resolve for SharedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.0.clone();
        Box::pin(async move {
            let addresses = names.lookup(name.as_str()).await?;
            let sockets: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(sockets)
        })
    }
}
