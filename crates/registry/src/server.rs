//! The registry's side of the distribution protocol, over a store.
//!
//! ```text
//! POST  v2/<name>/blobs/uploads/          begin          202, Location
//! PATCH <location>                        more           202, Range          bytes go to content/uploads
//! PUT   <location>?digest=sha256:…        that was all   201                 a blob of the store, linked to <name>
//! PUT   v2/<name>/manifests/<tag>                        201                 everything it needs has to be there
//! ```
//!
//! A [`Server`] answers requests; who listens, with TLS or without, is somebody else's concern. Blobs are not unpacked
//! here: an engine over the same store makes layers of them when it pulls.

pub mod access;
mod blobs;
mod body;
mod lists;
mod manifests;
pub mod range;
mod refusal;
pub mod route;
mod upkeep;
mod uploads;
mod upstream;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{ALLOW, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use hyper::{Method, Request, Response, StatusCode};
pub use storage::Store;
use tokio::sync::Notify;

pub use access::Access;
pub use body::Body;
pub use upstream::{Upstream, UpstreamOptions};

use access::{Action, Identity};
use body::Payload;
use refusal::Refusal;
use route::Route;
use uploads::Idle;

/// Says which protocol this is; Docker's clients look for it.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The longest query that has a meaning: two repositories' names and a digest are a fifth of it.
const QUERY_BYTES_MAX: usize = 4096;

/// What a registry does and does not.
#[derive(Debug, Clone)]
pub struct Options {
    /// Refuses everything that changes something.
    pub read_only: bool,
    /// Whether clients may delete.
    pub delete: bool,
    /// Whether manifests that no tag leads to go in time.
    pub delete_untagged: bool,
    /// Whether who shows nothing may pull, where others show who they are.
    pub anonymous_pull: bool,
    /// How long what nobody needs stays: as long as the longest push takes.
    pub grace: Duration,
    /// How long a client may take for 64 KiB of what it sends.
    pub pace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            read_only: false,
            delete: true,
            delete_untagged: false,
            anonymous_pull: false,
            grace: Duration::from_secs(24 * 60 * 60),
            // A kilobyte a second is slower than any line.
            pace: Duration::from_secs(60),
        }
    }
}

/// A registry. Cheap to clone; all clones are the same registry.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    access: Access,
    options: Options,
    upstream: Option<Upstream>,
    /// Uploads between two requests, with what is known of their bytes.
    idle: Mutex<HashMap<String, Idle>>,
    /// Something was deleted.
    deleted: Notify,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Server").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

/// Who sends a request.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// For the log: an address.
    pub name: &'a str,
    /// Whether it may do everything without showing anything: it is the administrator of this machine.
    pub trusted: bool,
    /// Whether it came to where only this machine reaches the registry.
    pub own: bool,
}

impl Server {
    /// A registry over a store. With an upstream it is a cache of that, and takes nothing from clients.
    pub fn new(store: Store, access: Access, upstream: Option<Upstream>, options: Options) -> Self {
        let (idle, deleted) = (Mutex::default(), Notify::new());
        Self { inner: Arc::new(Inner { store, access, options, upstream, idle, deleted }) }
    }

    /// Opens the store of a registry that has a data root of its own.
    pub fn open_store(root: &std::path::Path) -> crate::Result<Store> {
        Ok(Store::open(root)?)
    }

    /// Writes everything to the disk; worth it when the registry ends.
    pub async fn flush(&self) -> crate::Result<()> {
        self.inner.idle().clear();
        Ok(self.inner.blocking(Store::flush).await?)
    }

    /// Answers one request, whatever it is.
    pub async fn answer(&self, request: Request<Incoming>, peer: Peer<'_>) -> Response<Body> {
        let began = Instant::now();
        let (parts, body) = request.into_parts();
        let mut payload = Payload::new(body, self.inner.options.pace);
        let mut user = None;
        let call = Call { server: &self.inner, method: parts.method, headers: parts.headers };
        let outcome = call.answer(&parts.uri, &mut payload, peer, &mut user).await;
        if outcome.is_err() {
            // Else the connection is reset under a client that has not read the refusal yet.
            payload.drain().await;
        }
        let mut response = outcome.unwrap_or_else(Refusal::response);
        response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        if call.method == Method::HEAD {
            *response.body_mut() = body::empty();
        }
        let length = response.headers().get("content-length").and_then(|value| value.to_str().ok());
        tracing::info!(
            target: "access",
            peer = peer.name,
            user = user.as_deref().unwrap_or("-"),
            method = %call.method,
            path = parts.uri.path(),
            status = response.status().as_u16(),
            received = payload.received(),
            sent = length.unwrap_or("-"),
            ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        );
        response
    }
}

/// One request.
struct Call<'a> {
    server: &'a Arc<Inner>,
    method: Method,
    headers: HeaderMap,
}

type Answer = Result<Response<Body>, Refusal>;

impl Call<'_> {
    async fn answer(
        &self,
        uri: &hyper::Uri,
        payload: &mut Payload,
        peer: Peer<'_>,
        user: &mut Option<String>,
    ) -> Answer {
        if peer.own && !peer.trusted {
            self.check_host()?;
        }
        let route = route::parse(uri.path())?;
        let query = Query::parse(uri.query().unwrap_or(""))?;
        let allowed = route.methods();
        if !allowed.contains(&self.method) {
            let list = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
            return Err(Refusal::unsupported("the operation is unsupported").with(ALLOW, &list));
        }
        self.check_origin()?;
        let mut wanted = self.wanted(&route);
        if let (Route::Uploads(_), Some(from)) = (&route, query.get("from"))
            && route::is_name(from)
        {
            wanted.push((from, Action::Pull));
        }
        let identity = if peer.trusted {
            Identity::administrator()
        } else {
            let anonymous = self.server.options.anonymous_pull;
            let shown = self.server.access.identify(&self.headers, anonymous).await;
            shown.map_err(|failure| self.server.access.challenge(&wanted, Some(failure)))?
        };
        *user = identity.name().map(str::to_owned);
        if let Route::Base = route {
            return self.base(&identity);
        }
        // A mount from where one may not read is an upload like others, so only the first counts.
        if let Some((repository, action)) = wanted.first()
            && !identity.may(repository, *action)
        {
            return Err(self.server.access.challenge(&wanted, identity.shortcoming()));
        }
        self.check_writable(&route, peer.trusted)?;
        self.dispatch(route, &query, payload, &identity).await
    }

    /// Refuses what a browser sends for a page of another host: a registry on loopback that asks nobody who they are must not be
    /// written to by whatever page somebody looks at.
    fn check_origin(&self) -> Result<(), Refusal> {
        let Some(origin) = self.headers.get(ORIGIN).map(|value| value.to_str().unwrap_or("?")) else {
            return Ok(());
        };
        let reads = matches!(self.method, Method::GET | Method::HEAD);
        let own = origin.split_once("://").map(|(_, host)| host);
        if reads || (own.is_some() && own == self.header(HOST)) {
            return Ok(());
        }
        let words = "pages of other hosts may not write to this registry";
        Err(Refusal::new(StatusCode::FORBIDDEN, "DENIED", words))
    }

    /// Refuses requests for another host where everybody may do everything and only this machine gets here: a page whose name
    /// has come to mean loopback sends them, in the browser of somebody who looks at it.
    fn check_host(&self) -> Result<(), Refusal> {
        let open = matches!(self.server.access, Access::Open);
        let own = |value: &HeaderValue| value.to_str().is_ok_and(is_loopback);
        if !open || self.headers.get_all(HOST).iter().all(own) {
            return Ok(());
        }
        let words = "this registry answers only by the names of loopback";
        Err(Refusal::new(StatusCode::FORBIDDEN, "DENIED", words))
    }

    /// What the request needs: of which repository, and to do what.
    fn wanted<'r>(&self, route: &'r Route) -> Vec<(&'r str, Action)> {
        let action = match self.method {
            Method::GET | Method::HEAD => Action::Pull,
            Method::DELETE => Action::Delete,
            _ => Action::Push,
        };
        match route {
            Route::Base | Route::Prune => Vec::new(),
            Route::Catalog => vec![("", Action::Catalog)],
            // Looking after one's own upload, or giving it up, is part of pushing.
            Route::Upload(name, _) | Route::Uploads(name) => vec![(name, Action::Push)],
            Route::Tags(name)
            | Route::Manifest(name, _)
            | Route::Blob(name, _)
            | Route::Referrers(name, _) => vec![(name, action)],
        }
    }

    fn base(&self, identity: &Identity) -> Answer {
        let mut response = body::json(StatusCode::OK, b"{}".to_vec());
        if identity.name().is_none() && !identity.is_administrator() {
            self.server.access.invite(response.headers_mut(), self.server.options.anonymous_pull)?;
        }
        Ok(response)
    }

    fn check_writable(&self, route: &Route, trusted: bool) -> Result<(), Refusal> {
        if trusted || matches!(self.method, Method::GET | Method::HEAD) {
            return Ok(());
        }
        let options = &self.server.options;
        let giving_up = matches!(route, Route::Upload(..));
        if options.read_only {
            return Err(Refusal::unsupported("this registry is read-only"));
        }
        if self.server.upstream.is_some() {
            return Err(Refusal::unsupported("this registry is a cache of another: push there"));
        }
        if self.method == Method::DELETE && !options.delete && !giving_up {
            return Err(Refusal::unsupported("deleting is disabled in this registry"));
        }
        Ok(())
    }

    async fn dispatch(
        &self,
        route: Route,
        query: &Query,
        payload: &mut Payload,
        identity: &Identity,
    ) -> Answer {
        match (&self.method, route) {
            (_, Route::Base) => self.base(identity),
            (_, Route::Prune) if identity.is_administrator() => self.prune_now(query).await,
            (_, Route::Prune) => Err(Refusal::not_found()),
            (_, Route::Catalog) => self.catalog(query).await,
            (_, Route::Tags(name)) => self.tags(name, query).await,
            (_, Route::Referrers(name, digest)) => self.referrers(name, &digest, query).await,
            (&Method::PUT, Route::Manifest(name, reference)) => {
                self.put_manifest(name, &reference, payload).await
            }
            (&Method::DELETE, Route::Manifest(name, reference)) => {
                self.delete_manifest(name, &reference).await
            }
            (_, Route::Manifest(name, reference)) => self.get_manifest(name, &reference).await,
            (&Method::DELETE, Route::Blob(name, digest)) => self.delete_blob(name, &digest).await,
            (_, Route::Blob(name, digest)) => self.get_blob(name, &digest).await,
            (_, Route::Uploads(name)) => self.begin(name, query, payload, identity).await,
            (&Method::PATCH, Route::Upload(name, id)) => self.append(name, &id, payload).await,
            (&Method::PUT, Route::Upload(name, id)) => self.finish(name, &id, query, payload).await,
            (&Method::DELETE, Route::Upload(name, id)) => self.cancel(name, &id).await,
            (_, Route::Upload(name, id)) => self.progress(name, &id).await,
        }
    }

    fn header(&self, name: impl hyper::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Inner {
    /// Runs work of the store, which blocks.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> storage::Result<T> + Send + 'static,
    ) -> storage::Result<T> {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(result) => result,
            // Only the runtime's end or a panic, which was reported where it happened.
            Err(_) => Err(storage::Error::Interrupted),
        }
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<String, Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this is what loopback is called, with any port.
fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<hyper::http::uri::Authority>() else { return false };
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// The parameters after the question mark; of several of one name the first counts.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Result<Self, Refusal> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(Refusal::bad("UNSUPPORTED", "the query is too long"));
        }
        Ok(Self(url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}
