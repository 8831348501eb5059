//! Where the daemon listens: unix sockets, tcp with or without TLS, and sockets handed over by a service manager.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::settings::Settings;
use crate::tls;

/// `/etc/group` is read whole; a machine with more groups than fit here names the group by number.
const GROUP_FILE_BYTES_MAX: usize = 4 << 20;
/// Tried first when no group was named: the one whose members may use Docker.
const GROUPS_BY_DEFAULT: &[&str] = &["docker", "corten"];
/// Where tools made for Docker look when nothing is configured.
const DOCKER_SOCKET: &str = "/run/docker.sock";

/// A socket that clients connect to.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket at a path that is removed when the daemon ends.
    Unix(tokio::net::UnixListener, Option<PathBuf>),
    /// Plain tcp.
    Tcp(tokio::net::TcpListener),
    /// Tcp with TLS.
    Tls(tokio::net::TcpListener, tls::Acceptor),
}

/// Why the daemon cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one we understand, or must not be used so.
    #[error("{0}")]
    Address(String),
    /// The socket could not be made.
    #[error("cannot listen on {address}")]
    Bind {
        /// Where.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The certificates are not usable.
    #[error("cannot set up TLS")]
    Tls(#[source] tls::Error),
    /// The group does not exist.
    #[error("group {0} not found in /etc/group")]
    Group(String),
}

/// Makes all listeners that `settings` ask for; none is left behind if one fails.
///
/// # Errors
/// The first address that cannot be listened on.
pub fn bind(settings: &Settings) -> Result<Vec<Listener>, Error> {
    let mut listeners = Vec::new();
    match bind_all(settings, &mut listeners) {
        Ok(()) => Ok(listeners),
        Err(error) => {
            let sockets = listeners.iter().filter_map(|listener| match listener {
                Listener::Unix(_, path) => path.as_deref(),
                Listener::Tcp(_) | Listener::Tls(..) => None,
            });
            for path in sockets {
                let _ = std::fs::remove_file(path);
            }
            Err(error)
        }
    }
}

fn bind_all(settings: &Settings, listeners: &mut Vec<Listener>) -> Result<(), Error> {
    let group = group_id(settings.group.as_deref())?;
    let default_socket = settings.exec_root.join("corten.sock");
    if settings.hosts.is_empty() {
        listeners.push(bind_unix(&default_socket, group)?);
        // A courtesy, not a need: whoever already answers there, or forbids it, is left alone.
        if settings.exec_root == Path::new("/run/corten") {
            match bind_unix(Path::new(DOCKER_SOCKET), group) {
                Ok(listener) => listeners.push(listener),
                Err(error) => tracing::info!(reason = %error, "not listening on {DOCKER_SOCKET}"),
            }
        }
    }
    for host in &settings.hosts {
        match host.split_once("://") {
            Some(("unix", "")) => listeners.push(bind_unix(&default_socket, group)?),
            Some(("unix", path)) => listeners.push(bind_unix(Path::new(path), group)?),
            Some(("tcp", address)) => listeners.push(bind_tcp(address, settings)?),
            Some(("fd", _)) => listeners.extend(inherited()?),
            _ => {
                return Err(Error::Address(format!(
                    "invalid bind address {host}: use unix://PATH, tcp://ADDRESS:PORT or fd://"
                )));
            }
        }
    }
    Ok(())
}

/// Makes a unix socket that only root and `group` can use.
///
/// It is bound under another name and renamed when its owner and mode are right, so nobody can connect before.
fn bind_unix(path: &Path, group: Option<u32>) -> Result<Listener, Error> {
    let fail = |source| Error::Bind { address: format!("unix://{}", path.display()), source };
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        use std::os::unix::fs::FileTypeExt as _;
        if !metadata.file_type().is_socket() {
            return Err(fail(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something that is no socket is there",
            )));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(fail(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers there")));
        }
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(name);
    let _ = std::fs::remove_file(&temporary);
    let listener = UnixListener::bind(&temporary).map_err(fail)?;
    let publish = || {
        std::os::unix::fs::chown(&temporary, None, group)?;
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o660))?;
        listener.set_nonblocking(true)?;
        std::fs::rename(&temporary, path)
    };
    if let Err(source) = publish() {
        let _ = std::fs::remove_file(&temporary);
        return Err(fail(source));
    }
    let listener = tokio::net::UnixListener::from_std(listener).map_err(fail)?;
    Ok(Listener::Unix(listener, Some(path.to_path_buf())))
}

/// Listens on a tcp address, with TLS if there is a certificate.
fn bind_tcp(address: &str, settings: &Settings) -> Result<Listener, Error> {
    let fail = |source| Error::Bind { address: format!("tcp://{address}"), source };
    let socket_address = parse_tcp(address, settings.tls.is_some())?;
    let authenticated = settings.tls.as_ref().is_some_and(|tls| tls.client_authority.is_some());
    if !authenticated && !socket_address.ip().is_loopback() && !settings.allow_unauthenticated_tcp {
        return Err(Error::Address(format!(
            "refusing to listen on tcp://{socket_address} without verifying clients: whoever reaches it is root on this \
             machine; use --tlsverify with --tlscacert, --tlscert and --tlskey, or say --allow-unauthenticated-tcp"
        )));
    }
    let listener = std::net::TcpListener::bind(socket_address).map_err(fail)?;
    listener.set_nonblocking(true).map_err(fail)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(fail)?;
    match &settings.tls {
        None => Ok(Listener::Tcp(listener)),
        Some(files) => {
            let acceptor = tls::acceptor(&files.certificate, &files.key, files.client_authority.as_deref());
            Ok(Listener::Tls(listener, acceptor.map_err(Error::Tls)?))
        }
    }
}

/// Reads `ADDRESS[:PORT]`; Docker's ports are 2376 with TLS and 2375 without. Names are not looked up.
fn parse_tcp(address: &str, with_tls: bool) -> Result<SocketAddr, Error> {
    let port = if with_tls { 2376 } else { 2375 };
    let address = address.trim_end_matches('/').replace("localhost", "127.0.0.1");
    let address =
        if let Some(rest) = address.strip_prefix(':') { format!("0.0.0.0:{rest}") } else { address };
    let parsed = address.parse::<SocketAddr>().ok();
    let alone = || address.trim_matches(['[', ']']).parse().ok().map(|ip| SocketAddr::new(ip, port));
    parsed.or_else(alone).ok_or_else(|| {
        Error::Address(format!("invalid bind address tcp://{address}: want an IP address and a port"))
    })
}

/// Takes over the sockets that a service manager made (`sd_listen_fds(3)`).
fn inherited() -> Result<Vec<Listener>, Error> {
    let fail = |source| Error::Bind { address: "fd://".to_owned(), source };
    let mut listeners = Vec::new();
    for descriptor in sys::activation::sockets().map_err(fail)? {
        if !sys::activation::is_unix(&descriptor).map_err(fail)? {
            let listener = std::net::TcpListener::from(descriptor);
            let address = listener.local_addr().map_err(fail)?;
            drop(listener);
            return Err(Error::Address(format!(
                "refusing the inherited tcp socket {address}: only unix sockets are taken over, use -H tcp:// for tcp"
            )));
        }
        let listener = UnixListener::from(descriptor);
        listener.set_nonblocking(true).map_err(fail)?;
        listeners.push(Listener::Unix(tokio::net::UnixListener::from_std(listener).map_err(fail)?, None));
    }
    if listeners.is_empty() {
        return Err(Error::Address("no sockets were handed over: fd:// needs socket activation".to_owned()));
    }
    Ok(listeners)
}

/// Finds the group that is to own the unix sockets: a name, a number, or the first of the usual ones that exists.
fn group_id(named: Option<&str>) -> Result<Option<u32>, Error> {
    let file = std::fs::read("/etc/group").unwrap_or_default();
    let file = String::from_utf8_lossy(&file[..file.len().min(GROUP_FILE_BYTES_MAX)]).into_owned();
    let find = |name: &str| {
        file.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then(|| fields.nth(1)?.parse::<u32>().ok()).flatten()
        })
    };
    match named {
        None => Ok(GROUPS_BY_DEFAULT.iter().find_map(|name| find(name))),
        Some(name) => match find(name).or_else(|| name.parse().ok()) {
            Some(gid) => Ok(Some(gid)),
            None => Err(Error::Group(name.to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_addresses() {
        let ok = |text, tls| parse_tcp(text, tls).unwrap().to_string();
        assert_eq!(ok("127.0.0.1:9000", false), "127.0.0.1:9000");
        assert_eq!(ok("0.0.0.0", true), "0.0.0.0:2376");
        assert_eq!(ok("localhost", false), "127.0.0.1:2375");
        assert_eq!(ok(":2375", false), "0.0.0.0:2375");
        assert_eq!(ok("[::1]:5", false), "[::1]:5");
        assert_eq!(ok("[::1]", false), "[::1]:2375");
        assert!(parse_tcp("example.com:1", false).is_err());
    }

    #[test]
    fn groups() {
        assert_eq!(group_id(Some("root")).unwrap(), Some(0));
        assert_eq!(group_id(Some("12345")).unwrap(), Some(12345));
        assert!(group_id(Some("no-such-group")).is_err());
    }
}
