//! One client's connection: HTTP until a call takes the bare stream over.

pub(crate) mod hangup;
pub(crate) mod hijack;
mod typed;

use self::typed::Typed;
use crate::call::Call;
use crate::failure::Failure;
use crate::query::{self, Query};
use crate::reply::Reply;
use crate::router;
use api::ApiVersion;
use axum::body::Body;
use engine::Engine;
use futures_util::FutureExt as _;
use hijack::{Client, Hijack};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a client may take for a request's headers, and leave a connection idle. Clients that keep connections open
/// make new ones when they find one closed.
const IDLE_MAX: Duration = Duration::from_secs(15 * 60);

/// How often a client's machine is asked whether it is still there, as Go's servers do.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often it may fail to answer.
const KEEP_ALIVE_MISSED: u32 = 9;

/// What a client can be connected by.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// The socket, on which it is seen that the client has gone even while nothing is sent.
    fn socket(&self) -> Option<BorrowedFd<'_>>;

    /// Whether the socket becomes writable anew each time the client has read.
    fn tells_of_reads(&self) -> bool {
        false
    }

    /// Whether a browser on this machine can send calls by it.
    fn is_open_to_browsers(&self) -> bool {
        false
    }

    /// The process that has made the connection, which was there at `begun`, since boot: known where it is on this machine.
    ///
    /// # Errors
    /// It is not known.
    fn process(&self, _begun: Duration) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes the socket fit for its use.
    ///
    /// # Errors
    /// When the socket does not take it.
    fn prepare(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for tokio::net::UnixStream {
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }

    fn tells_of_reads(&self) -> bool {
        true
    }

    fn process(&self, begun: Duration) -> io::Result<OwnedFd> {
        sys::socket::peer_process(self, begun)
    }
}

impl Transport for tokio::net::TcpStream {
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }

    fn is_open_to_browsers(&self) -> bool {
        self.local_addr().is_ok_and(|address| address.ip().is_loopback())
    }

    fn prepare(&self) -> io::Result<()> {
        // What is typed is not collected, and a machine that is gone is noticed while nothing is sent.
        self.set_nodelay(true)?;
        sockopt::set_socket_keepalive(self, true)?;
        sockopt::set_tcp_keepidle(self, KEEP_ALIVE)?;
        sockopt::set_tcp_keepintvl(self, KEEP_ALIVE)?;
        sockopt::set_tcp_keepcnt(self, KEEP_ALIVE_MISSED)?;
        Ok(())
    }
}

impl<T: Transport> Transport for tokio_rustls::server::TlsStream<T> {
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.get_ref().0.socket()
    }

    fn prepare(&self) -> io::Result<()> {
        self.get_ref().0.prepare()
    }
}

/// Serves one client until it leaves or, after `shutdown`, until its call is answered. Returns when all work begun
/// for it has ended too.
pub async fn serve<T: Transport>(stream: T, served: Served, shutdown: CancellationToken) {
    let begun = sys::timer::since_boot();
    if let Err(error) = stream.prepare() {
        tracing::debug!(%error, "the client's socket keeps its defaults");
    }
    let tasks = TaskTracker::new();
    let hijack = Hijack::default();
    let browsers = stream.is_open_to_browsers();
    let service = {
        let (tasks, hijack, shutdown) = (tasks.clone(), hijack.clone(), shutdown.clone());
        service_fn(move |request: Request<Incoming>| {
            let context = Context {
                served: served.clone(),
                tasks: tasks.clone(),
                hijack: hijack.clone(),
                shutdown: shutdown.clone(),
                browsers,
            };
            let answer: Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>> =
                Box::pin(async move { Ok(context.answer(request).await) });
            answer
        })
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_MAX)
        .serve_connection(TokioIo::new(Typed::new(stream)), service)
        .with_upgrades();
    let mut ending = false;
    let job = loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
                break None;
            }
            job = hijack.wanted() => break Some(job),
            () = shutdown.cancelled(), if !ending => {
                ending = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    match job {
        None => drop(connection),
        Some(job) => {
            if let Some(parts) = connection.into_parts() {
                job.run(Client::new(parts.io.into_inner(), parts.read_buf, begun)).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// What clients reach.
#[derive(Clone, Debug)]
pub struct Served {
    /// The engine.
    pub engine: Arc<Engine>,
    /// BuildKit's API over it.
    pub buildkit: Arc<buildkit::Service>,
}

/// What all calls on a connection share.
struct Context {
    served: Served,
    tasks: TaskTracker,
    hijack: Hijack,
    shutdown: CancellationToken,
    /// Whether a browser on this machine can send calls here.
    browsers: bool,
}

impl Context {
    /// Answers one request, whatever happens.
    async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let answer = match self.call(request) {
            Err(failure) => Err(failure),
            Ok(call) => AssertUnwindSafe(router::route(call)).catch_unwind().await.unwrap_or_else(|_| {
                Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the call failed unexpectedly"))
            }),
        };
        let mut response = answer.unwrap_or_else(|failure| failure.response());
        Reply::introduce(&mut response);
        tracing::debug!(%method, path = uri.path(), status = response.status().as_u16(), "answered");
        response
    }

    /// Takes a request apart.
    fn call(self, request: Request<Incoming>) -> Result<Call, Failure> {
        let (parts, body) = request.into_parts();
        check_origin(&parts.headers)?;
        if self.browsers {
            check_host(&parts.headers)?;
        }
        let path = query::decode(parts.uri.path(), false)?;
        let query = Query::parse(parts.uri.query().unwrap_or(""))?;
        let (version, path) = split_version(&path)?;
        Ok(Call {
            engine: self.served.engine,
            buildkit: self.served.buildkit,
            version,
            path: path.to_owned(),
            query,
            parts,
            body,
            hijack: self.hijack,
            shutdown: self.shutdown,
            tasks: self.tasks,
        })
    }
}

/// Refuses what a browser sends for a page of another host: whoever reaches the engine commands the machine, and a page
/// that somebody looks at must not reach it through their browser.
fn check_origin(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let Some(origin) = text(header::ORIGIN) else { return Ok(()) };
    let named = origin.split_once("://").map(|(_, host)| host);
    if named.is_some() && named == text(header::HOST) {
        return Ok(());
    }
    Err(Failure::new(
        StatusCode::FORBIDDEN,
        format!("calls from pages of another host ({origin}) are not allowed"),
    ))
}

/// Refuses calls to this machine's loopback by a name that is not its own: the name of a page's host may lead here as well, and
/// then the page counts as ours (DNS rebinding).
fn check_host(headers: &HeaderMap) -> Result<(), Failure> {
    let Some(host) = headers.get(header::HOST).map(|value| value.to_str().unwrap_or("?")) else {
        return Ok(());
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let is_address =
        |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().is_ok();
    let is_local = name == "localhost" || name.ends_with(".localhost");
    if name.is_empty() || is_local || is_address(name) || is_address(host) {
        return Ok(());
    }
    Err(Failure::new(
        StatusCode::FORBIDDEN,
        format!("calls to {host} are not allowed here: use localhost or an address"),
    ))
}

/// Takes the prefix `/v1.47` off a path. Without one the newest version is meant.
fn split_version(path: &str) -> Result<(ApiVersion, &str), Failure> {
    let Some(rest) = path.strip_prefix("/v") else { return Ok((api::version::MAX, path)) };
    let (first, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // `/volumes` and `/version` begin with a v too.
    if first.is_empty() || !first.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Ok((api::version::MAX, path));
    }
    let version: ApiVersion = first.parse()?;
    Ok((version.supported()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tcp_clients_are_asked_whether_they_are_there() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        server.prepare().unwrap();
        assert!(sockopt::socket_keepalive(&server).unwrap() && server.nodelay().unwrap());
        assert_eq!(sockopt::tcp_keepidle(&server).unwrap(), KEEP_ALIVE);
        assert!(!client.nodelay().unwrap());
    }

    #[test]
    fn pages_of_other_hosts_are_kept_out() {
        let allowed = |origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, header::HeaderValue::from_static("localhost:2375"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, header::HeaderValue::from_static(origin));
            }
            check_origin(&headers).is_ok()
        };
        assert!(allowed(None) && allowed(Some("http://localhost:2375")));
        for wrong in
            ["http://evil.example", "null", "", "http://localhost", "http://localhost:2375.evil.example"]
        {
            assert!(!allowed(Some(wrong)), "{wrong}");
        }
    }

    #[test]
    fn names_that_lead_here_are_not_ours() {
        let allowed = |host| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, header::HeaderValue::from_static(host));
            check_host(&headers).is_ok()
        };
        for own in
            ["localhost", "localhost:2375", "127.0.0.1:2375", "[::1]:2375", "::1", "api.moby.localhost", ""]
        {
            assert!(allowed(own), "{own}");
        }
        for wrong in
            ["evil.example", "evil.example:2375", "127.0.0.1.evil.example:2375", "localhost.evil.example"]
        {
            assert!(!allowed(wrong), "{wrong}");
        }
    }

    #[test]
    fn versions_are_taken_off_paths() {
        let split = |path| split_version(path).map(|(version, rest)| (version.to_string(), rest));
        assert_eq!(split("/v1.24/info").unwrap(), ("1.24".into(), "/info"));
        assert_eq!(split("/v1.47").unwrap(), ("1.47".into(), ""));
        assert_eq!(split("/volumes").unwrap(), ("1.56".into(), "/volumes"));
        assert_eq!(split("/version").unwrap(), ("1.56".into(), "/version"));
        assert_eq!(split("/vx/info").unwrap(), ("1.56".into(), "/vx/info"));
        assert_eq!(
            split("/v1.99/info").unwrap_err().message,
            "client version 1.99 is too new. Maximum supported API version is 1.56"
        );
        assert_eq!(split("/v1.2.3/info").unwrap_err().status, 400);
        assert_eq!(split("/v1./info").unwrap_err().status, 400);
    }
}
