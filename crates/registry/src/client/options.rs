//! What a client is told about registries, once.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::names::{Names, is_localhost};
use crate::error::{Error, Result};

/// What a client is told about registries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Registries that may be spoken to without a known certificate or without TLS: `host`, `host:port`
    /// or a network as `192.0.2.0/24`. Loopback always may.
    pub insecure: Vec<String>,
    /// URLs tried before Docker Hub itself, in order, without Docker Hub's credentials.
    pub mirrors: Vec<String>,
    /// Folders that hold certificates as `<host>/{*.crt,*.cert,*.key}`, and containerd's `<host>/hosts.toml`.
    pub certificates: Vec<PathBuf>,
    /// Files in the format of Podman's `registries.conf`, each with those in `<file>.d`; a later one counts more.
    pub registries: Vec<PathBuf>,
    /// By way of whom registries are asked.
    pub proxies: Proxies,
    /// Who must have signed what is pulled, as containers-policy.json(5) says it; read anew for each pull.
    pub policy: Option<PathBuf>,
    /// Who we say we are.
    pub user_agent: String,
    /// The limits.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            mirrors: Vec::new(),
            certificates: ["corten", "docker", "containerd", "containers"]
                .map(|engine| format!("/etc/{engine}/certs.d").into())
                .to_vec(),
            registries: vec!["/etc/containers/registries.conf".into()],
            proxies: Proxies::default(),
            policy: None,
            user_agent: concat!("corten/", env!("CARGO_PKG_VERSION")).into(),
            limits: Limits::default(),
        }
    }
}

/// Proxies, in place of those in the environment (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`). What is on this machine is asked without.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxies {
    /// For registries by HTTP.
    pub http: Option<String>,
    /// For registries by HTTPS.
    pub https: Option<String>,
    /// Hosts, domains and networks that are asked without, separated by commas.
    pub except: Option<String>,
}

impl Proxies {
    /// Those that are said here, else the environment's.
    pub fn of_environment(&self) -> Self {
        let known = |said: &Option<String>, name: &str| {
            let found = || std::env::var(name).or_else(|_| std::env::var(name.to_lowercase())).ok();
            said.clone().or_else(found).filter(|text| !text.is_empty())
        };
        Self {
            http: known(&self.http, "HTTP_PROXY"),
            https: known(&self.https, "HTTPS_PROXY"),
            except: known(&self.except, "NO_PROXY"),
        }
    }

    /// As the HTTP client takes them.
    pub(crate) fn rules(&self) -> Result<Vec<reqwest::Proxy>> {
        let said = self.of_environment();
        let except = said.except.as_deref().and_then(reqwest::NoProxy::from_string);
        let rule = |url: &String, make: fn(String) -> reqwest::Result<reqwest::Proxy>| {
            // As Go reads it: a host alone is spoken to by HTTP.
            let whole = if url.contains("://") { url.clone() } else { format!("http://{url}") };
            let proxy = make(whole).map_err(|error| Error::Option {
                option: "proxy".to_owned(),
                why: crate::error::chain(&error),
            })?;
            Ok(proxy.no_proxy(except.clone()))
        };
        let http = said.http.iter().map(|url| rule(url, reqwest::Proxy::http));
        http.chain(said.https.iter().map(|url| rule(url, reqwest::Proxy::https))).collect()
    }
}

/// What a registry may use of this machine and of the user's patience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest manifest or index, in bytes. Docker's own is 4 MiB.
    pub manifest_bytes_max: u64,
    /// Longest image configuration, in bytes: it is parsed in memory.
    pub config_bytes_max: u64,
    /// A blob up to this size is sent with the request that ends its upload: a round trip less, and little to send again.
    pub monolith_bytes_max: u64,
    /// A larger one is sent in pieces of this size: what a registry that forgets a broken request loses at most.
    pub chunk_bytes: u64,
    /// Longest wait for a connection: Go's default dialer waits as long.
    pub connect_timeout: Duration,
    /// Longest silence in the middle of an answer before it counts as broken.
    pub idle_timeout: Duration,
    /// How often something is tried without any progress.
    pub tries_max: u32,
    /// The first pause between tries; each one doubles it.
    pub pause_first: Duration,
    /// The longest pause where the registry names none.
    pub pause_max: Duration,
    /// The longest pause that a registry may ask for (`Retry-After`); where it asks for more it is not asked again.
    pub retry_after_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes_max: 4 << 20,
            config_bytes_max: 8 << 20,
            monolith_bytes_max: 4 << 20,
            chunk_bytes: 64 << 20,
            connect_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            tries_max: 6,
            pause_first: Duration::from_millis(250),
            pause_max: Duration::from_secs(10),
            retry_after_max: Duration::from_secs(60),
        }
    }
}

/// The insecure registries, parsed.
#[derive(Debug, Default)]
pub(crate) struct Insecure {
    hosts: Vec<String>,
    networks: Vec<(IpAddr, u8)>,
}

impl Insecure {
    pub(crate) fn parse(list: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for entry in list {
            let wrong = |why: &str| Error::Option {
                option: format!("insecure registry {entry}"),
                why: why.to_owned(),
            };
            if let Some((address, bits)) = entry.split_once('/') {
                let address: IpAddr =
                    address.parse().map_err(|_| wrong("it is neither a host nor a network"))?;
                let bits: u8 = bits.parse().map_err(|_| wrong("its prefix is not a number"))?;
                if bits > width(address) {
                    return Err(wrong("its prefix is too long"));
                }
                parsed.networks.push((address, bits));
            } else {
                let host = entry.to_ascii_lowercase();
                let valid = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
                if host.is_empty() || !host.chars().all(valid) {
                    return Err(wrong("it should be host, host:port or a network"));
                }
                parsed.hosts.push(host);
            }
        }
        Ok(parsed)
    }

    /// Whether a registry (`host` or `host:port`) may be spoken to without a known certificate.
    pub(crate) async fn covers(&self, registry: &str, names: &Names) -> bool {
        let registry = registry.to_ascii_lowercase();
        let host = host_of(&registry);
        if is_localhost(host) || self.hosts.iter().any(|known| *known == registry || known == host) {
            return true;
        }
        let literal: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        match literal {
            Some(address) => address.is_loopback() || self.contains(address),
            None if self.networks.is_empty() => false,
            None => match names.lookup(host).await {
                Ok(addresses) => addresses.into_iter().any(|address| self.contains(address)),
                Err(_) => false,
            },
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|&(network, bits)| {
            let shift = u32::from(width(network) - bits);
            match (network, address) {
                (IpAddr::V4(a), IpAddr::V4(b)) => {
                    a.to_bits().checked_shr(shift) == b.to_bits().checked_shr(shift)
                }
                (IpAddr::V6(a), IpAddr::V6(b)) => {
                    a.to_bits().checked_shr(shift) == b.to_bits().checked_shr(shift)
                }
                _ => false,
            }
        })
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The host of `host`, `host:port`, `[v6]` or `[v6]:port`, brackets kept.
pub(crate) fn host_of(registry: &str) -> &str {
    if let Some(end) = registry.find(']') {
        return &registry[..=end];
    }
    registry.split_once(':').map_or(registry, |(host, _)| host)
}

/// The mirrors, parsed.
pub(crate) fn mirrors(list: &[String]) -> Result<Vec<Url>> {
    list.iter()
        .map(|entry| {
            let wrong = |why: String| Error::Option { option: format!("mirror {entry}"), why };
            let mut url = Url::parse(entry).map_err(|error| wrong(error.to_string()))?;
            if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
                return Err(wrong("it should begin with https:// or http:// and name a host".into()));
            }
            if url.query().is_some() || url.fragment().is_some() {
                return Err(wrong("a query or fragment has no meaning".into()));
            }
            if !url.username().is_empty() || url.password().is_some() {
                return Err(wrong("it must not hold credentials".into()));
            }
            if !url.path().ends_with('/') {
                let path = format!("{}/", url.path());
                url.set_path(&path);
            }
            Ok(url)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn loopback_and_named_registries_are_insecure() {
        let names = Names::default();
        let list: Vec<String> =
            ["Example.org:5000", "plain.example", "192.0.2.0/24", "2001:db8::/32", "10.9.9.9/0"]
                .map(String::from)
                .to_vec();
        let insecure = Insecure::parse(&list[..4]).unwrap();
        let covers = |registry: &str| block_on(insecure.covers(registry, &names));
        for yes in [
            "localhost",
            "localhost:5000",
            "a.localhost",
            "127.0.0.1:5000",
            "127.9.0.1",
            "[::1]:5000",
            "example.org:5000",
            "plain.example",
            "plain.example:81",
            "192.0.2.7:5000",
            "[2001:db8::7]:1",
        ] {
            assert!(covers(yes), "{yes}");
        }
        for no in ["192.0.3.7", "[2001:db9::7]:1", "8.8.8.8:443"] {
            assert!(!covers(no), "{no}");
        }
        let all = Insecure::parse(&list[4..]).unwrap();
        assert!(block_on(all.covers("8.8.8.8", &names)));
    }

    #[test]
    fn wrong_options_are_refused() {
        for wrong in ["", "http://x", "1.2.3.4/33", "x/8", "::/129", "a b"] {
            assert!(Insecure::parse(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
        for wrong in ["", "x", "ftp://x", "https://u:p@x", "https://x/?q", "https://"] {
            assert!(mirrors(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
        assert_eq!(mirrors(&["https://x/y".into()]).unwrap()[0].as_str(), "https://x/y/");
    }

    #[test]
    fn hosts_are_split_from_ports() {
        assert_eq!(host_of("a:1"), "a");
        assert_eq!(host_of("a"), "a");
        assert_eq!(host_of("[::1]:5"), "[::1]");
    }
}
