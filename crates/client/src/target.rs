//! Which daemon: flags, environment, contexts, in Docker's order.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::ConfigFile;
use crate::context::{self, Store};
use crate::error::{Error, Result};
use crate::negotiate::Version;

/// The port of a daemon on TCP without TLS.
const PLAIN_PORT: u16 = 2375;
/// And with it.
const TLS_PORT: u16 = 2376;

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// TCP, with TLS when the target says so.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// Through the `ssh` program.
    Ssh(SshDestination),
}

/// The other end of an `ssh://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshDestination {
    /// The user, where named.
    pub user: Option<String>,
    /// The host, as ssh's own configuration knows it.
    pub host: String,
    /// The port, where named.
    pub port: Option<u16>,
    /// The daemon's socket over there, where named.
    pub socket: Option<String>,
}

/// Whether the daemon's certificate is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// It must be signed by the given authority, or one the system trusts.
    Verified,
    /// Anything goes.
    Unverified,
}

/// The files TLS needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Whether the daemon is verified.
    pub mode: TlsMode,
    /// The authority; the system's when none.
    pub ca: Option<PathBuf>,
    /// The client's certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// Who named the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: it is the default local one.
    Default,
    /// A flag or the environment.
    Named,
    /// A context of the store.
    Context,
}

/// The global flags that say which daemon.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `-H`, as often as it was given.
    pub hosts: Vec<String>,
    /// `-c`.
    pub context: Option<String>,
    /// `--tls`.
    pub tls: bool,
    /// `--tlsverify`, when given.
    pub tls_verify: Option<bool>,
    /// `--tlscacert`.
    pub ca: Option<PathBuf>,
    /// `--tlscert`.
    pub cert: Option<PathBuf>,
    /// `--tlskey`.
    pub key: Option<PathBuf>,
    /// The socket used when nobody names one.
    pub default_host: String,
}

/// A daemon, and how to speak with it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// TLS, for TCP.
    pub tls: Option<TlsFiles>,
    /// Who named it.
    pub origin: Origin,
    /// The address as it was named.
    pub address: String,
    /// The context's name: `default` unless one was chosen.
    pub context: String,
    /// `DOCKER_API_VERSION`: speak this and do not negotiate.
    pub version: Option<Version>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

impl Target {
    /// Finds the daemon: `-H` or `-c`, `DOCKER_HOST`, `DOCKER_CONTEXT`, the current context, the default.
    pub fn resolve(settings: &Settings, config: &ConfigFile, store: &Store) -> Result<Self> {
        let version = match environment("DOCKER_API_VERSION") {
            None => None,
            Some(text) => Some(text.parse().map_err(|()| {
                Error::Address(format!("invalid API version {text:?} in DOCKER_API_VERSION"))
            })?),
        };
        let name = context_name(settings, config)?;
        let mut target = if name == context::DEFAULT {
            Self::default_context(settings, config)?
        } else {
            Self::from_context(&name, store)?
        };
        target.version = version;
        Ok(target)
    }

    fn default_context(settings: &Settings, config: &ConfigFile) -> Result<Self> {
        let named = settings.hosts.first().cloned().or_else(|| environment("DOCKER_HOST"));
        let origin = if named.is_some() { Origin::Named } else { Origin::Default };
        let tls = tls_files(settings, config);
        let address = named.unwrap_or_else(|| settings.default_host.clone());
        let (endpoint, address) = parse_address(&address, tls.is_some())?;
        let tls = tls.filter(|_| matches!(endpoint, Endpoint::Tcp { .. }));
        Ok(Self { endpoint, tls, origin, address, context: context::DEFAULT.into(), version: None })
    }

    fn from_context(name: &str, store: &Store) -> Result<Self> {
        let meta = store.load(name)?;
        let docker = meta
            .docker()
            .ok_or_else(|| Error::Context(format!("cannot find docker endpoint in context {name:?}")))?;
        let [ca, cert, key] = store.tls_files(name);
        let has_tls = ca.is_some() || cert.is_some() || key.is_some() || docker.skip_tls_verify;
        let (endpoint, address) = parse_address(&docker.host, has_tls)?;
        let mode = if docker.skip_tls_verify { TlsMode::Unverified } else { TlsMode::Verified };
        let tls =
            (has_tls && matches!(endpoint, Endpoint::Tcp { .. })).then_some(TlsFiles { mode, ca, cert, key });
        Ok(Self { endpoint, tls, origin: Origin::Context, address, context: name.into(), version: None })
    }
}

/// The name of the context in force, checked for what cannot be said together.
pub fn context_name(settings: &Settings, config: &ConfigFile) -> Result<String> {
    if settings.hosts.len() > 1 {
        return Err(Error::Address("Specify only one -H".into()));
    }
    if let Some(name) = &settings.context {
        if !settings.hosts.is_empty() {
            return Err(Error::Address(
                "conflicting options: cannot specify both --host and --context".into(),
            ));
        }
        return Ok(name.clone());
    }
    if !settings.hosts.is_empty() || environment("DOCKER_HOST").is_some() {
        return Ok(context::DEFAULT.into());
    }
    Ok(environment("DOCKER_CONTEXT")
        .or_else(|| config.text("currentContext").map(str::to_owned))
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| context::DEFAULT.into()))
}

/// What `--tls`, `--tlsverify`, the file flags and the environment come to.
fn tls_files(settings: &Settings, config: &ConfigFile) -> Option<TlsFiles> {
    let verify = settings.tls_verify.unwrap_or_else(|| environment("DOCKER_TLS_VERIFY").is_some());
    let tls = settings.tls || verify || environment("DOCKER_TLS").is_some();
    if !tls && settings.tls_verify.is_none() {
        return None;
    }
    let folder = environment("DOCKER_CERT_PATH").map_or_else(|| config.folder().to_owned(), PathBuf::from);
    let pick = |given: &Option<PathBuf>, name: &str| match given {
        Some(path) => Some(path.clone()),
        None => Some(folder.join(name)).filter(|path| path.exists()),
    };
    let mode = if verify { TlsMode::Verified } else { TlsMode::Unverified };
    let ca = if verify {
        // A missing authority is an error when it is read, not a reason to trust the system's.
        Some(settings.ca.clone().unwrap_or_else(|| folder.join("ca.pem")))
    } else {
        None
    };
    Some(TlsFiles { mode, ca, cert: pick(&settings.cert, "cert.pem"), key: pick(&settings.key, "key.pem") })
}

/// A variable of the environment, when set to something.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Splits an address of the form `scheme://rest`, and spells it out as Docker does.
pub fn parse_address(address: &str, tls: bool) -> Result<(Endpoint, String)> {
    let invalid = || Error::Address(format!("invalid bind address format: {address}"));
    let address = address.trim();
    if let Some(path) = address.strip_prefix("unix://") {
        let path = if path.is_empty() { "/var/run/docker.sock" } else { path };
        return Ok((Endpoint::Unix(PathBuf::from(path)), format!("unix://{path}")));
    }
    if let Some(rest) = address.strip_prefix("ssh://") {
        return Ok((Endpoint::Ssh(parse_ssh(rest, address)?), address.to_owned()));
    }
    let rest = match address.split_once("://") {
        Some(("tcp" | "http" | "https", rest)) => rest,
        Some(_) => return Err(invalid()),
        None if address.starts_with('/') => return Err(invalid()),
        None => address,
    };
    let rest = rest.trim_end_matches('/');
    if rest.contains('/') {
        return Err(invalid());
    }
    let standard = if tls { TLS_PORT } else { PLAIN_PORT };
    let (host, port) = split_port(rest).ok_or_else(invalid)?;
    let host = if host.is_empty() { "localhost" } else { host };
    let port = port.unwrap_or(standard);
    let shown =
        if host.contains(':') { format!("tcp://[{host}]:{port}") } else { format!("tcp://{host}:{port}") };
    Ok((Endpoint::Tcp { host: host.to_owned(), port }, shown))
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            None if rest.is_empty() => Some((host, None)),
            None => None,
            Some(port) => Some((host, Some(port.parse().ok()?))),
        };
    }
    match text.split_once(':') {
        None => Some((text, None)),
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
    }
}

fn parse_ssh(rest: &str, address: &str) -> Result<SshDestination> {
    let invalid = |why: &str| Error::Address(format!("invalid SSH URL {address:?}: {why}"));
    if rest.contains(['?', '#']) {
        return Err(invalid("query and fragment are not allowed"));
    }
    let (authority, path) = match rest.find('/') {
        None => (rest, ""),
        Some(at) => rest.split_at(at),
    };
    let (user, place) = match authority.rsplit_once('@') {
        None => (None, authority),
        Some((user, _)) if user.contains(':') => return Err(invalid("plain-text password is not supported")),
        Some((user, place)) => (Some(user.to_owned()).filter(|u| !u.is_empty()), place),
    };
    let (host, port) = split_port(place).ok_or_else(|| invalid("no valid host and port"))?;
    if host.is_empty() {
        return Err(invalid("no host specified"));
    }
    let socket = Some(path).filter(|p| !matches!(*p, "" | "/")).map(str::to_owned);
    Ok(SshDestination { user, host: host.to_owned(), port, socket })
}

impl Settings {
    /// The path of the default socket.
    #[must_use]
    pub fn default_socket(&self) -> &Path {
        Path::new(self.default_host.strip_prefix("unix://").unwrap_or(&self.default_host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(address: &str, tls: bool) -> String {
        match parse_address(address, tls) {
            Ok((_, shown)) => shown,
            Err(err) => err.to_string(),
        }
    }

    #[test]
    fn addresses_are_spelled_out() {
        assert_eq!(shown("unix:///a/b", false), "unix:///a/b");
        assert_eq!(shown("unix://", false), "unix:///var/run/docker.sock");
        assert_eq!(shown("tcp://h", false), "tcp://h:2375");
        assert_eq!(shown("tcp://h", true), "tcp://h:2376");
        assert_eq!(shown("h:1", true), "tcp://h:1");
        assert_eq!(shown("tcp://[::1]:5", false), "tcp://[::1]:5");
        for bad in ["foo://x", "/run/x", "tcp://h:x", "tcp://h/p", "tcp://[::1", "tcp://a:1:2", "h:99999"] {
            assert_eq!(shown(bad, false), format!("invalid bind address format: {bad}"));
        }
    }

    #[test]
    fn ssh_addresses() {
        let parse = |s: &str| parse_ssh(s.strip_prefix("ssh://").unwrap(), s);
        let full = parse("ssh://me@h:22/run/x.sock").unwrap();
        assert_eq!(
            full,
            SshDestination {
                user: Some("me".into()),
                host: "h".into(),
                port: Some(22),
                socket: Some("/run/x.sock".into()),
            }
        );
        assert_eq!(parse("ssh://h").unwrap().user, None);
        for bad in ["ssh://", "ssh://me:pw@h", "ssh://h?x", "ssh://h:x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn host_and_context_exclude_each_other() {
        let config = ConfigFile::empty(Path::new("/nowhere"));
        let mut settings =
            Settings { hosts: vec!["a".into()], context: Some("c".into()), ..Settings::default() };
        let both = context_name(&settings, &config).unwrap_err().to_string();
        assert_eq!(both, "conflicting options: cannot specify both --host and --context");
        settings.context = None;
        settings.hosts.push("b".into());
        assert_eq!(context_name(&settings, &config).unwrap_err().to_string(), "Specify only one -H");
    }
}
