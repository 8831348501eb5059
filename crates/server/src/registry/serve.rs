//! The registry's listeners: tcp, with TLS or without, and a socket for the administrator of this machine.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use registry::server::{Body, Peer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::patience::Patient;
use super::{Error, Features};
use crate::connection::Transport;
use crate::tls::{self, Acceptor};

/// Connections at a time; others wait until one ends. Each may hold a megabyte.
const CONNECTIONS_MAX: usize = 512;
/// Connections of the administrator at a time: they have places of their own, which nobody else can take.
const LOCAL_CONNECTIONS_MAX: usize = 32;
/// How long a client may take until its first request is there: who connects and says nothing takes a place from others.
const FIRST_TIME: Duration = Duration::from_secs(10);
/// How long a client may take for the headers of later requests, and leave a connection idle: longer than Go's clients keep
/// idle connections, so that none is closed under a request. Where places are short, idle connections are closed sooner.
const HEADERS_TIME: Duration = Duration::from_secs(180);
/// How long to leave a listener alone that has no descriptors left to accept with.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The administrator's socket, in the data root.
pub const SOCKET: &str = "registry.sock";

/// A registry that listens.
pub struct Listening {
    registry: registry::Server,
    tcp: TcpListener,
    acceptor: Option<Acceptor>,
    local: UnixListener,
    socket: PathBuf,
}

impl Listening {
    /// Listens for a registry.
    pub fn bind(
        registry: registry::Server,
        address: &str,
        features: &Features,
        data_root: &Path,
    ) -> Result<Self, Error> {
        let acceptor = match (&features.tls_cert, &features.tls_key) {
            (Some(certificate), Some(key)) => {
                Some(tls::acceptor(certificate, key, features.tls_client_ca.as_deref()).map_err(Error::Tls)?)
            }
            (None, None) => None,
            _ => return Err(Error::Usage("TLS needs a certificate and a key".to_owned())),
        };
        let fail = |source| Error::Bind { address: address.to_owned(), source };
        let parsed: SocketAddr = parse(address)
            .ok_or_else(|| Error::Usage(format!("invalid address {address:?}: want ADDRESS:PORT")))?;
        let tcp = std::net::TcpListener::bind(parsed).map_err(fail)?;
        if features.is_open() && !parsed.ip().is_loopback() {
            tracing::warn!("everybody who reaches {parsed} may push: see --htpasswd and --token-realm");
        }
        tcp.set_nonblocking(true).map_err(fail)?;
        let tcp = TcpListener::from_std(tcp).map_err(fail)?;
        // Whoever had it before is gone: the data root's lock is ours.
        let socket = data_root.join(SOCKET);
        let fail = |source| Error::Bind { address: socket.display().to_string(), source };
        let _ = std::fs::remove_file(&socket);
        let local = UnixListener::bind(&socket).map_err(fail)?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
        Ok(Self { registry, tcp, acceptor, local, socket })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until the shutdown; connections are among `tasks`.
    pub async fn serve(self, tasks: TaskTracker, shutdown: CancellationToken) {
        let upkeep = {
            let registry = self.registry.clone();
            tokio::spawn(async move { registry.keep_up().await })
        };
        tokio::join!(
            self.accept(Door::Tcp(&self.tcp), CONNECTIONS_MAX, &tasks, &shutdown),
            self.accept(Door::Local(&self.local), LOCAL_CONNECTIONS_MAX, &tasks, &shutdown),
        );
        upkeep.abort();
        let _ = std::fs::remove_file(&self.socket);
    }

    /// Serves who comes by a door, so many connections at a time, until the shutdown.
    async fn accept(&self, door: Door<'_>, places: usize, tasks: &TaskTracker, shutdown: &CancellationToken) {
        let (places, crowded) = (Arc::new(Semaphore::new(places)), Arc::new(Notify::new()));
        // Behind TLS no page of another host gets that far: it has no certificate for its name.
        let own = self.acceptor.is_none() && self.address().is_ok_and(|address| address.ip().is_loopback());
        loop {
            if places.available_permits() == 0 {
                crowded.notify_waiters();
            }
            let place = tokio::select! {
                () = shutdown.cancelled() => break,
                place = Arc::clone(&places).acquire_owned() => place,
            };
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = door.accept() => accepted,
            };
            let accepted = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the registry");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let ends = Ends { shutdown: shutdown.clone(), crowded: Arc::clone(&crowded) };
            let (registry, acceptor) = (self.registry.clone(), self.acceptor.clone());
            tasks.spawn(async move {
                accepted.serve(registry, acceptor, own, ends).await;
                drop(place);
            });
        }
    }
}

/// Why a connection ends though its client would go on.
pub struct Ends {
    shutdown: CancellationToken,
    /// Others wait for its place.
    crowded: Arc<Notify>,
}

impl Ends {
    /// Never.
    pub fn never() -> Self {
        Self { shutdown: CancellationToken::new(), crowded: Arc::default() }
    }
}

/// Who is at the other end.
pub struct Client {
    /// For the log.
    pub name: String,
    /// Whether it is the administrator of this machine.
    pub trusted: bool,
    /// Whether only this machine reaches the registry.
    pub own: bool,
}

impl Client {
    /// The administrator of this machine.
    pub fn local() -> Self {
        Self { name: "local".to_owned(), trusted: true, own: false }
    }
}

/// `ADDRESS:PORT`, `:PORT` for all addresses, `localhost:PORT`.
fn parse(address: &str) -> Option<SocketAddr> {
    match address.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}").parse().ok(),
        None => address.replace("localhost", "127.0.0.1").parse().ok(),
    }
}

/// Where connections come in.
enum Door<'a> {
    Tcp(&'a TcpListener),
    Local(&'a UnixListener),
}

impl Door<'_> {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(Accepted::Tcp),
            Self::Local(listener) => listener.accept().await.map(|(stream, _)| Accepted::Local(stream)),
        }
    }
}

enum Accepted {
    Tcp((tokio::net::TcpStream, SocketAddr)),
    Local(tokio::net::UnixStream),
}

impl Accepted {
    async fn serve(self, registry: registry::Server, acceptor: Option<Acceptor>, own: bool, ends: Ends) {
        match self {
            Self::Local(stream) => converse(stream, registry, Client::local(), ends).await,
            Self::Tcp((stream, from)) => {
                if let Err(error) = stream.prepare() {
                    tracing::debug!(%error, "the client's socket keeps its defaults");
                }
                let peer = Client { name: from.to_string(), trusted: false, own };
                match acceptor {
                    None => converse(stream, registry, peer, ends).await,
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) => converse(stream, registry, peer, ends).await,
                        Err(error) => tracing::debug!(%error, %from, "no TLS connection"),
                    },
                }
            }
        }
    }
}

/// Answers what comes by one connection, until the client leaves or, where there is a reason, until its request is answered.
pub async fn converse<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: T,
    registry: registry::Server,
    from: Client,
    ends: Ends,
) {
    let (from, begun) = (Arc::new(from), Arc::new(AtomicBool::new(false)));
    let seen = Arc::clone(&begun);
    let service = service_fn(move |request: Request<Incoming>| {
        seen.store(true, Ordering::Relaxed);
        let (registry, from) = (registry.clone(), Arc::clone(&from));
        let answer: Pin<Box<dyn Future<Output = Result<Response<Body>, std::convert::Infallible>> + Send>> =
            Box::pin(async move {
                let peer = Peer { name: &from.name, trusted: from.trusted, own: from.own };
                Ok(registry.answer(request, peer).await)
            });
        answer
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIME)
        .serve_connection(TokioIo::new(Patient::new(stream)), service);
    let (mut ending, mut waiting) = (false, true);
    let first = tokio::time::sleep(FIRST_TIME);
    tokio::pin!(first);
    loop {
        let crowded = ends.crowded.notified();
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection to the registry ended");
                }
                return;
            }
            () = &mut first, if waiting => {
                waiting = false;
                if !begun.load(Ordering::Relaxed) {
                    tracing::debug!("a connection to the registry brought no request");
                    return;
                }
            }
            () = crowded, if !ending && begun.load(Ordering::Relaxed) => {
                ending = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            () = ends.shutdown.cancelled(), if !ending => {
                ending = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    }
}
