//! One HTTP/1.1 exchange after the other.

use bytes::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE, USER_AGENT,
};
use hyper::upgrade::Upgraded;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use tokio::io::AsyncWriteExt;

use crate::body::{Streaming, describe};
use crate::error::{Error, Result};
use crate::negotiate::{NEWEST_API, Version, downgrade};
use crate::query::Query;
use crate::target::{Endpoint, Target};
use crate::transport::{self, Stream};
use crate::upload::{Outgoing, Upload, whole};

/// An error's body is read up to this; its message is one line.
const ERROR_BYTES_MAX: usize = 1 << 20;
/// A daemon may lower the version this often before it is given up.
const DOWNGRADES_MAX: usize = 2;

/// Called when nobody listens on the default socket; true when it is worth another try.
pub type Starter = Box<dyn Fn(&Target) -> Result<bool> + Send + Sync>;

/// How a client behaves.
#[derive(Default)]
pub struct Options {
    /// The `User-Agent`.
    pub user_agent: String,
    /// Headers of every request (`HttpHeaders` of the configuration).
    pub headers: Vec<(String, String)>,
    /// Sockets tried when nobody listens on the default one.
    pub fallbacks: Vec<PathBuf>,
    /// Starts a daemon on the default socket.
    pub starter: Option<Starter>,
}

/// What is sent along.
#[derive(Debug, Clone, Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// JSON text.
    Json(Bytes),
    /// An archive, as it is read. Settle the version of the API before it is sent: it can be sent once.
    Archive(Upload),
}

impl Body {
    /// `value` as JSON.
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self> {
        serde_json::to_vec(value)
            .map(|text| Self::Json(text.into()))
            .map_err(|err| Error::Protocol(format!("encoding the request: {err}")))
    }
}

/// A request, without the version's prefix.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path, which begins with `/`.
    pub path: String,
    /// The query.
    pub query: Query,
    /// More headers. One that is said several times has several values.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Body,
}

impl Request {
    /// A request without a query or body.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: Query::new(), headers: Vec::new(), body: Body::Empty }
    }

    /// The same with a query.
    #[must_use]
    pub fn query(mut self, query: Query) -> Self {
        self.query = query;
        self
    }

    /// The same with a body.
    #[must_use]
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// An answer whose body has not been read.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Streaming,
    connection: SendRequest<Outgoing>,
}

/// A connection that has left HTTP: what is written goes to the process, what is read comes from it.
pub struct Hijacked {
    /// Whether the daemon says that the output is framed (`application/vnd.docker.multiplexed-stream`);
    /// none when it does not say.
    pub framed: Option<bool>,
    /// The connection. Shutting it down closes the writing half only.
    pub stream: TokioIo<Upgraded>,
}

impl fmt::Debug for Hijacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hijacked").field("framed", &self.framed).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy)]
struct Spoken {
    version: Version,
    /// Whether the daemon has answered in it.
    agreed: bool,
}

/// A client of one daemon.
pub struct Client {
    target: Target,
    options: Options,
    spoken: Mutex<Spoken>,
    daemon: Mutex<Option<Version>>,
    idle: Mutex<Vec<SendRequest<Outgoing>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("target", &self.target).finish_non_exhaustive()
    }
}

fn held<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// A client that has not connected yet.
    #[must_use]
    pub fn new(target: Target, options: Options) -> Self {
        let spoken = Spoken { version: target.version.unwrap_or(NEWEST_API), agreed: false };
        Self {
            target,
            options,
            spoken: Mutex::new(spoken),
            daemon: Mutex::new(None),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// The daemon it speaks with.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The version in use as far as it is known.
    #[must_use]
    pub fn spoken(&self) -> Version {
        held(&self.spoken).version
    }

    /// The version both sides speak; asks the daemon when it has not answered anything yet.
    pub async fn version(&self) -> Result<Version> {
        if !held(&self.spoken).agreed {
            self.ping().await?;
        }
        Ok(self.spoken())
    }

    /// Fails when the daemon's API is older than `needs`.
    pub async fn require(&self, feature: &str, needs: Version) -> Result<()> {
        let has = self.version().await?;
        if has < needs {
            return Err(Error::TooOld {
                feature: feature.to_owned(),
                needs: needs.to_string(),
                has: has.to_string(),
            });
        }
        Ok(())
    }

    /// Asks the daemon for a sign of life, and settles the version.
    pub async fn ping(&self) -> Result<HeaderMap> {
        let mut connection = self.connection().await?;
        let request = self.build(&Request::new(Method::HEAD, "/_ping"), None, false)?;
        let answer = connection.send_request(request).await.map_err(|err| self.broken(&err))?;
        let headers = answer.headers().clone();
        if answer.status().is_server_error() {
            return Err(Error::Status { status: answer.status().as_u16(), message: "ping failed".into() });
        }
        self.learn(&headers);
        held(&self.idle).push(connection);
        Ok(headers)
    }

    /// Sends a request. An answer of 400 and above is an error.
    pub async fn send(&self, request: &Request) -> Result<Response> {
        for _ in 0..=DOWNGRADES_MAX {
            let version = self.spoken();
            let built = self.build(request, Some(version), false)?;
            let mut connection = self.connection().await?;
            let answer = connection.send_request(built).await.map_err(|err| self.broken(&err))?;
            let (parts, incoming) = answer.into_parts();
            let response = Response {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body: Streaming::new(incoming),
                connection,
            };
            if !(parts.status.is_client_error() || parts.status.is_server_error()) {
                held(&self.spoken).agreed = true;
                *held(&self.daemon) = header_version(&response.headers);
                return Ok(response);
            }
            if let Some(err) = self.refused(response, version).await? {
                return Err(err);
            }
        }
        Err(Error::Protocol("the daemon does not settle on a version of the API".into()))
    }

    /// Sends a request that takes the connection over.
    pub async fn hijack(&self, request: &Request) -> Result<Hijacked> {
        for _ in 0..=DOWNGRADES_MAX {
            let version = self.spoken();
            let built = self.build(request, Some(version), true)?;
            let mut connection = self.connection().await?;
            let mut answer = connection.send_request(built).await.map_err(|err| self.broken(&err))?;
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                held(&self.spoken).agreed = true;
                let framed =
                    answer.headers().get(CONTENT_TYPE).and_then(|kind| match kind.to_str().ok()? {
                        "application/vnd.docker.multiplexed-stream" => Some(true),
                        "application/vnd.docker.raw-stream" => None,
                        _ => None,
                    });
                let upgraded = hyper::upgrade::on(&mut answer).await.map_err(|err| self.broken(&err))?;
                return Ok(Hijacked { framed, stream: TokioIo::new(upgraded) });
            }
            let status = answer.status();
            let (parts, incoming) = answer.into_parts();
            if !(status.is_client_error() || status.is_server_error()) {
                return Err(Error::Protocol(format!(
                    "unable to upgrade to tcp, received {}",
                    status.as_u16()
                )));
            }
            let body = Streaming::new(incoming);
            let response = Response { status: status.as_u16(), headers: parts.headers, body, connection };
            if let Some(err) = self.refused(response, version).await? {
                return Err(err);
            }
        }
        Err(Error::Protocol("the daemon does not settle on a version of the API".into()))
    }

    /// A raw connection to the daemon, for `system dial-stdio`.
    pub async fn dial(&self) -> Result<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + use<>> {
        self.open().await
    }

    /// Reads an answer to its end and keeps the connection for the next request.
    pub(crate) async fn finish(&self, response: Response, bytes_max: usize) -> Result<Bytes> {
        let bytes = response.body.collect(bytes_max).await?;
        let mut connection = response.connection;
        if !connection.is_closed() && connection.ready().await.is_ok() {
            held(&self.idle).push(connection);
        }
        Ok(bytes)
    }

    /// The error that an answer of 400 and above is; none when another version is to be tried.
    async fn refused(&self, response: Response, tried: Version) -> Result<Option<Error>> {
        let status = response.status;
        let header = header_version(&response.headers);
        let text = self.finish(response, ERROR_BYTES_MAX).await.unwrap_or_default();
        let message = error_message(&text, status);
        if self.target.version.is_none()
            && let Some(next) = downgrade(tried, status, header, &message)
        {
            held(&self.spoken).version = next;
            return Ok(None);
        }
        held(&self.spoken).agreed = true;
        Ok(Some(Error::Status { status, message }))
    }

    fn learn(&self, headers: &HeaderMap) {
        let Some(theirs) = header_version(headers) else { return };
        *held(&self.daemon) = Some(theirs);
        let mut spoken = held(&self.spoken);
        if self.target.version.is_none() {
            spoken.version = spoken.version.min(theirs);
        }
        spoken.agreed = true;
    }

    fn build(
        &self,
        request: &Request,
        version: Option<Version>,
        upgrade: bool,
    ) -> Result<hyper::Request<Outgoing>> {
        let prefix = version.map(|v| format!("/v{v}")).unwrap_or_default();
        let uri = format!("{prefix}{}{}", request.path, request.query.as_str());
        let body = match &request.body {
            Body::Empty => whole(Bytes::new()),
            Body::Json(text) => whole(text.clone()),
            Body::Archive(upload) => upload.body()?,
        };
        let mut builder = hyper::Request::builder().method(&request.method).uri(uri);
        let Some(headers) = builder.headers_mut() else {
            return Err(Error::Protocol(format!("{:?} cannot be sent as a path", request.path)));
        };
        for (name, value) in &self.options.headers {
            insert(headers, name, value)?;
        }
        insert(headers, HOST.as_str(), &self.host())?;
        insert(headers, USER_AGENT.as_str(), &self.options.user_agent)?;
        match request.body {
            Body::Empty => {}
            Body::Json(_) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            Body::Archive(_) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
            }
        }
        for (at, (name, value)) in request.headers.iter().enumerate() {
            let is_more = request.headers[..at].iter().any(|(earlier, _)| earlier.eq_ignore_ascii_case(name));
            let put = if is_more { append } else { insert };
            put(headers, name, value)?;
        }
        if upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.entry(UPGRADE).or_insert(HeaderValue::from_static("tcp"));
        }
        builder.body(body).map_err(|err| Error::Protocol(err.to_string()))
    }

    fn host(&self) -> String {
        match &self.target.endpoint {
            Endpoint::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Endpoint::Tcp { host, port } => format!("{host}:{port}"),
            _ => "localhost".into(),
        }
    }

    async fn connection(&self) -> Result<SendRequest<Outgoing>> {
        loop {
            let Some(idle) = held(&self.idle).pop() else { break };
            if idle.is_ready() {
                return Ok(idle);
            }
        }
        let stream = self.open().await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|err| self.broken(&err))?;
        tokio::spawn(async move {
            // Whoever waits for an answer on this connection is told of the error.
            let _ = connection.with_upgrades().await;
        });
        Ok(sender)
    }

    async fn open(&self) -> Result<Stream> {
        let refused = match transport::connect(&self.target).await {
            Err(err @ Error::Unreachable { .. }) => err,
            other => return other,
        };
        if self.target.origin != crate::target::Origin::Default {
            return Err(refused);
        }
        for path in &self.options.fallbacks {
            let other = Target { endpoint: Endpoint::Unix(path.clone()), ..self.target.clone() };
            if let Ok(stream) = transport::connect(&other).await {
                return Ok(stream);
            }
        }
        match &self.options.starter {
            Some(start) if start(&self.target)? => transport::connect(&self.target).await,
            _ => Err(refused),
        }
    }

    fn broken(&self, err: &hyper::Error) -> Error {
        let detail = describe(err);
        if err.is_incomplete_message() || err.is_closed() {
            return Error::Connect { host: self.target.to_string(), detail: "EOF".into() };
        }
        Error::Connect { host: self.target.to_string(), detail }
    }
}

impl Hijacked {
    /// Tells the other side that no more input comes; its output goes on.
    pub async fn close_write(&mut self) -> std::io::Result<()> {
        self.stream.shutdown().await
    }
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Result<()> {
    let (name, value) = header(name, value)?;
    headers.insert(name, value);
    Ok(())
}

/// One more value of a header that was said before.
fn append(headers: &mut HeaderMap, name: &str, value: &str) -> Result<()> {
    let (name, value) = header(name, value)?;
    headers.append(name, value);
    Ok(())
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    let bad = || Error::Protocol(format!("{name}: {value:?} cannot be sent as a header"));
    Ok((HeaderName::try_from(name).map_err(|_| bad())?, HeaderValue::try_from(value).map_err(|_| bad())?))
}

fn header_version(headers: &HeaderMap) -> Option<Version> {
    headers.get("api-version")?.to_str().ok()?.parse().ok()
}

/// The message of an error's body: `{"message": …}`, or plain text from what is not a daemon.
fn error_message(body: &[u8], status: u16) -> String {
    #[derive(serde::Deserialize)]
    struct Message {
        message: String,
    }
    if let Ok(Message { message }) = serde_json::from_slice(body) {
        return message.trim().to_owned();
    }
    let text = String::from_utf8_lossy(body);
    match text.trim() {
        "" => format!(
            "request returned {} with an empty body",
            StatusCode::from_u16(status).map_or_else(|_| status.to_string(), |s| s.to_string())
        ),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errors_message_is_found_in_json_and_in_text() {
        assert_eq!(error_message(br#"{"message":"No such container: x"}"#, 404), "No such container: x");
        assert_eq!(error_message(b"page not found\n", 404), "page not found");
        assert_eq!(error_message(b"", 502), "request returned 502 Bad Gateway with an empty body");
    }
}
