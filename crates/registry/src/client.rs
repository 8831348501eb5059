//! The client's side of the distribution protocol.
//!
//! A [`Client`] lives as long as the daemon and remembers what it learned: connections, which scheme a registry
//! speaks, tokens. A [`Repository`] is one repository in the eyes of one user, and is asked for manifests and blobs.
//!
//! ```text
//! repository.resolve("12") --> GET v2/<path>/manifests/12       401, WWW-Authenticate: Bearer realm=…
//!                              GET <realm>?service=…&scope=…     {"token": …}
//!                              GET v2/<path>/manifests/12        200, an index or a manifest
//! repository.blob(layer, n) -> GET v2/<path>/blobs/sha256:…      307, Location: some other host (no token goes there)
//!                              GET <location>, Range: bytes=n-   206
//! ```

mod auth;
mod blob;
mod challenge;
mod endpoint;
mod exchange;
mod fetch;
mod hosts;
mod login;
mod names;
mod options;
mod search;
mod tls;
mod upload;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use oci::image::{Descriptor, Document, media_type};
use oci::{Algorithm, Digest, Reference};
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LINK, RANGE, WWW_AUTHENTICATE,
};
use reqwest::{Method, Response};
use sha2::{Digest as _, Sha256};
use url::Url;

pub use auth::Credentials;
pub use blob::Blob;
use challenge::Challenge;
#[doc(hidden)]
pub use challenge::fuzz as fuzz_challenge;
use endpoint::Endpoint;
use exchange::{Complaint, Request};
pub use fetch::{Fetch, shown_url};
pub(crate) use hosts::canonical;
#[doc(hidden)]
pub use hosts::fuzz_settings;
use hosts::{Base, Hosts, Place};
use names::Names;
pub(crate) use options::host_of;
pub use options::{Limits, Options, Proxies};
pub use search::Found;
pub use upload::{Content, Session, Started};

use crate::error::{Error, Result};
use crate::policy::Policy;

/// What answers for names in `docker.io`.
const HUB: &str = "registry-1.docker.io";
/// What we can read, newest first. Schema 1 is named so that it can be refused by name.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1";
/// How many tags are asked for at a time, and how many a repository may have.
const TAGS_A_PAGE: usize = 1000;
const TAGS_MAX: usize = 100_000;
/// HTTP clients that are kept; when there are more, the lot is made anew.
const HTTPS_MAX: usize = 256;
/// The header in which a registry says what it is sending.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// Speaks to registries. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    insecure: options::Insecure,
    hosts: Hosts,
    names: Arc<Names>,
    roots: OnceLock<rustls::RootCertStore>,
    /// HTTP clients by registry, with the state of its certificates' folders when it was made.
    https: Mutex<HashMap<HttpKey, (Folders, reqwest::Client)>>,
    /// Of registries that may be spoken to in plain text: the base that answered last.
    schemes: Mutex<HashMap<String, Url>>,
    grants: auth::Grants,
}

/// A registry, how it is trusted, and how long its connections may take.
type HttpKey = (String, hosts::Trust, Option<std::time::Duration>);
type Folders = Vec<Option<SystemTime>>;

impl Client {
    /// A client with these options; they are checked here, once.
    pub fn new(options: Options) -> Result<Self> {
        let inner = Inner {
            insecure: options::Insecure::parse(&options.insecure)?,
            hosts: Hosts {
                mirrors: options::mirrors(&options.mirrors)?,
                directories: options.certificates.clone(),
                registries: options.registries.clone(),
            },
            names: Arc::default(),
            roots: OnceLock::new(),
            https: Mutex::default(),
            schemes: Mutex::default(),
            grants: auth::Grants::default(),
            options,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The limits it was given.
    pub fn limits(&self) -> &Limits {
        &self.inner.options.limits
    }

    /// Who must have signed what is pulled, where the administrator cares.
    pub(crate) fn policy(&self) -> Result<Option<Policy>> {
        self.inner.options.policy.as_deref().map(Policy::load).transpose()
    }

    /// The repository of a reference, as one user sees it.
    pub async fn repository(&self, reference: &Reference, credentials: Credentials) -> Result<Repository> {
        let places = self.inner.hosts.places(reference)?;
        let host = match reference.domain() {
            oci::reference::DEFAULT_DOMAIN => HUB,
            domain => domain,
        };
        let mut endpoints = Vec::new();
        for place in places {
            self.endpoints(place, &mut endpoints).await?;
        }
        Ok(Repository {
            client: self.clone(),
            host: host.to_owned(),
            name: reference.familiar_name(),
            writes: false,
            endpoints,
            chosen: AtomicUsize::new(0),
            reached: AtomicBool::new(false),
            credentials,
        })
    }

    /// The ways in which a place can be spoken to, the best first.
    async fn endpoints(&self, mut place: Place, endpoints: &mut Vec<Endpoint>) -> Result<()> {
        let base = |scheme: &str, host: &str| {
            Url::parse(&format!("{scheme}://{host}/"))
                .map_err(|error| Error::Option { option: format!("registry {host}"), why: error.to_string() })
        };
        let bases = match &place.base {
            Base::Url(url) => {
                let registry = authority(url);
                place.trust.skip_verify |= self.inner.insecure.covers(&registry, &self.inner.names).await;
                vec![url.clone()]
            }
            Base::Host(host) => {
                place.trust.skip_verify |= self.inner.insecure.covers(host, &self.inner.names).await;
                let known = locked(&self.inner.schemes).get(host).cloned();
                match known.filter(|_| place.trust.skip_verify) {
                    Some(known) => vec![known],
                    None if place.trust.skip_verify => vec![base("https", host)?, base("http", host)?],
                    None => vec![base("https", host)?],
                }
            }
        };
        for base in bases {
            let registry = match &place.base {
                Base::Host(host) => host.clone(),
                Base::Url(url) => authority(url),
            };
            endpoints.push(Endpoint {
                http: self.http(&registry, &place)?,
                known_as: matches!(place.base, Base::Host(_)).then(|| registry.clone()),
                base,
                whole_path: place.whole_path,
                repository: place.repository.clone(),
                namespace: place.namespace.clone(),
                mirror: place.mirror,
                capabilities: place.capabilities,
                headers: place.headers.clone(),
                limits: self.inner.options.limits.clone(),
            });
        }
        Ok(())
    }

    /// The HTTP client for a registry, made again when its certificates changed.
    fn http(&self, registry: &str, place: &Place) -> Result<reqwest::Client> {
        let options = &self.inner.options;
        let own =
            place.trust.roots.iter().chain(place.trust.pairs.iter().flat_map(|(one, other)| [one, other]));
        let folders: Folders = options
            .certificates
            .iter()
            .map(|dir| changed(&dir.join(registry)))
            .chain(own.map(|file| changed(file)))
            .collect();
        let key = (registry.to_owned(), place.trust.clone(), place.dial_timeout);
        if let Some((made, http)) = locked(&self.inner.https).get(&key)
            && *made == folders
        {
            return Ok(http.clone());
        }
        let roots = self.inner.roots.get_or_init(tls::system_roots);
        let tls = tls::config(&options.certificates, registry, &place.trust, roots)?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(names::SharedNames(self.inner.names.clone())))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .user_agent(&options.user_agent)
            .connect_timeout(place.dial_timeout.unwrap_or(options.limits.connect_timeout))
            .read_timeout(options.limits.idle_timeout);
        let host = host_of(registry);
        let loopback = |host: &str| host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if names::is_localhost(host) || loopback(host.trim_matches(['[', ']'])) {
            // As Go does: a proxy cannot know what is on this machine.
            builder = builder.no_proxy();
        } else {
            for rule in options.proxies.rules()? {
                builder = builder.proxy(rule);
            }
        }
        let http = builder.build().map_err(|error| Error::Option {
            option: format!("settings for {registry}"),
            why: crate::error::chain(&error),
        })?;
        let mut https = locked(&self.inner.https);
        if https.len() >= HTTPS_MAX {
            https.clear();
        }
        https.insert(key, (folders, http.clone()));
        Ok(http)
    }
}

/// `host[:port]` of a URL.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}

fn changed(dir: &Path) -> Option<SystemTime> {
    std::fs::metadata(dir).and_then(|dir| dir.modified()).ok()
}

/// A manifest or an index as a registry sent it: its bytes are verified and stay as they are.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Media type, digest and size.
    pub descriptor: Descriptor,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// A reading of them.
    pub document: Document,
}

/// One repository in the eyes of one user.
pub struct Repository {
    client: Client,
    host: String,
    name: String,
    /// Whether tokens are asked for that allow to write.
    writes: bool,
    endpoints: Vec<Endpoint>,
    /// The endpoint that answered last; others are asked only when it fails.
    chosen: AtomicUsize,
    /// Whether one has answered.
    reached: AtomicBool,
    credentials: Credentials,
}

impl Repository {
    /// The repository as users write it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All tags, in the registry's order (distribution spec, "Listing Tags").
    pub async fn tags(&self) -> Result<Vec<String>> {
        let mut tags = Vec::new();
        loop {
            let last = tags.last().map(|last| format!("&last={last}")).unwrap_or_default();
            let path = format!("tags/list?n={TAGS_A_PAGE}{last}");
            let (at, mut answer) = self.first(Method::GET, &path, "").await.map_err(|error| match error {
                Error::ManifestNotFound { detail, .. } => {
                    Error::RepositoryNotFound { repository: self.name.clone(), detail }
                }
                other => other,
            })?;
            let more = answer.headers().contains_key(LINK);
            let what = format!("list of the tags of {}", self.name);
            let bytes = exchange::body(&mut answer, self.client.limits().manifest_bytes_max, &what).await?;
            let page = self.tags_of(&bytes)?;
            self.remember(at);
            // A registry that does not get on would keep us for ever.
            let stuck = page.is_empty() || page.last() == tags.last();
            tags.extend(page);
            if tags.len() > TAGS_MAX {
                return Err(Error::TooLarge { what, limit: format!("{TAGS_MAX} tags") });
            }
            if !more || stuck {
                return Ok(tags);
            }
        }
    }

    fn tags_of(&self, bytes: &[u8]) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let wrong = |what: String| Error::Protocol { host: self.host.clone(), what };
        let page: Page = serde_json::from_slice(bytes).map_err(|e| wrong(format!("list of tags: {e}")))?;
        let tags = page.tags.unwrap_or_default();
        match tags.iter().find(|tag| !oci::reference::is_tag(tag)) {
            Some(tag) => Err(wrong(format!("{tag:?} is not a tag"))),
            None => Ok(tags),
        }
    }

    /// What a tag or digest names, without its content; `None` if the registry will not say. It costs a user
    /// nothing of what registries allow to be pulled.
    pub async fn head(&self, target: &str) -> Result<Option<Descriptor>> {
        let path = format!("manifests/{target}");
        let (_, answer) = self.first(Method::HEAD, &path, target).await?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let Some(Ok(digest)) = header(CONTENT_DIGEST).map(Digest::parse) else { return Ok(None) };
        let size = header("content-length").and_then(|length| length.parse().ok());
        let Some(size) = size.filter(|size| *size > 0) else { return Ok(None) };
        if Digest::parse(target).is_ok_and(|wanted| wanted != digest) {
            return Err(mismatch("manifest", target, digest.as_str()));
        }
        Ok(Some(Descriptor::new(header("content-type").unwrap_or_default(), digest, size)))
    }

    /// The manifest or index that a tag or digest names.
    pub async fn resolve(&self, target: &str) -> Result<Resolved> {
        let wanted = Digest::parse(target).ok();
        if let Some(wanted) = &wanted {
            supported(wanted)?;
        }
        let path = format!("manifests/{target}");
        let (at, mut answer) = self.first(Method::GET, &path, target).await?;
        let limit = self.client.limits().manifest_bytes_max;
        let sent_as = header(&answer, CONTENT_TYPE.as_str());
        let claimed = header(&answer, CONTENT_DIGEST);
        let what = format!("manifest for {}", self.reference(target));
        let bytes = exchange::body(&mut answer, limit, &what).await?;
        let digest = Digest::from_sha256(Sha256::digest(&bytes).into());
        if let Some(wanted) = &wanted
            && digest != *wanted
        {
            return Err(mismatch(&what, target, digest.as_str()));
        }
        if let Some(claimed) = claimed.and_then(|claimed| Digest::parse(&claimed).ok())
            && claimed.algorithm() == Algorithm::Sha256
            && claimed != digest
        {
            return Err(mismatch(&what, claimed.as_str(), digest.as_str()));
        }
        self.remember(at);
        read(bytes, digest, sent_as.as_deref())
    }

    /// The manifest or index that a descriptor names; size and digest must be as it says.
    pub async fn manifest(&self, descriptor: &Descriptor) -> Result<Resolved> {
        let resolved = self.resolve(descriptor.digest.as_str()).await?;
        if resolved.descriptor.size != descriptor.size {
            return Err(mismatch(
                &format!("manifest {}", descriptor.digest),
                &format!("{} bytes", descriptor.size),
                &format!("{} bytes", resolved.descriptor.size),
            ));
        }
        let document = Document::parse(&resolved.bytes, Some(&descriptor.media_type))?;
        Ok(Resolved { document, ..resolved })
    }

    /// A small blob (an image's configuration) as a whole, verified.
    pub async fn small_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let limit = self.client.limits().config_bytes_max;
        if descriptor.size > limit {
            return Err(Error::TooLarge {
                what: format!("blob {}", descriptor.digest),
                limit: format!("{limit} bytes"),
            });
        }
        let mut blob = self.blob(descriptor, 0)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = blob.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        let digest = Digest::from_sha256(Sha256::digest(&bytes).into());
        if digest != descriptor.digest {
            return Err(mismatch("blob", descriptor.digest.as_str(), digest.as_str()));
        }
        Ok(bytes)
    }

    /// The bytes of a blob from `offset` on. Nothing is asked for until the first chunk is.
    pub fn blob(self: &Repository, descriptor: &Descriptor, offset: u64) -> Result<Blob<'_>> {
        supported(&descriptor.digest)?;
        Ok(Blob::new(self, descriptor.clone(), offset))
    }

    fn reference(&self, target: &str) -> String {
        let separator = if target.contains(':') { '@' } else { ':' };
        format!("{}{separator}{target}", self.name)
    }

    fn remember(&self, at: usize) {
        self.chosen.store(at, Ordering::Relaxed);
        self.reached.store(true, Ordering::Relaxed);
        let endpoint = &self.endpoints[at];
        if let Some(host) = &endpoint.known_as {
            locked(&self.client.inner.schemes).insert(host.clone(), endpoint.base.clone());
        }
    }

    /// Asks the endpoints in turn that may be asked for such a target, beginning with the one that answered last.
    async fn first(&self, method: Method, path: &str, target: &str) -> Result<(usize, Response)> {
        let by_digest = target.contains(':');
        let start = self.chosen.load(Ordering::Relaxed);
        let mut failed = None;
        for (at, endpoint) in self.endpoints.iter().enumerate().skip(start) {
            let can = endpoint.capabilities;
            if !(if by_digest { can.digests } else { can.tags }) {
                continue;
            }
            let error = match self.ask(endpoint, method.clone(), path, None).await {
                Ok(answer) if answer.status().is_success() => return Ok((at, answer)),
                Ok(answer) => self.translate(answer, &method, target).await,
                Err(error) => error,
            };
            let unreachable = matches!(error, Error::Unreachable { .. });
            if let Some(host) = endpoint.known_as.as_ref().filter(|_| unreachable) {
                // What answered last time does not any more: begin anew next time.
                locked(&self.client.inner.schemes).remove(host);
            }
            if !(endpoint.mirror || unreachable) {
                return Err(error);
            }
            tracing::info!(registry = endpoint.host(), %error, "asking the next endpoint");
            failed = Some(error);
        }
        Err(failed.unwrap_or_else(|| Error::Option {
            option: format!("settings of registry {}", self.host),
            why: "no place may be asked for images".into(),
        }))
    }

    /// Asks one endpoint, and shows it who we are if it wants to know.
    async fn ask(
        &self,
        endpoint: &Endpoint,
        method: Method,
        path: &str,
        range: Option<u64>,
    ) -> Result<Response> {
        self.ask_for(&self.scope(endpoint), endpoint, method, path, range).await
    }

    /// What tokens are asked for.
    fn scope(&self, endpoint: &Endpoint) -> String {
        let actions = if self.writes { "pull,push" } else { "pull" };
        format!("repository:{}:{actions}", endpoint.repository)
    }

    /// The same with a token for another scope than the repository's own.
    async fn ask_for(
        &self,
        scope: &str,
        endpoint: &Endpoint,
        method: Method,
        path: &str,
        range: Option<u64>,
    ) -> Result<Response> {
        let credentials = if endpoint.mirror { Credentials::Anonymous } else { self.credentials.clone() };
        let key = (endpoint.base.to_string(), scope.to_owned(), credentials);
        let grants = &self.client.inner.grants;
        let mut grant = grants.get(&key);
        let mut answered = false;
        loop {
            let mut headers = endpoint.headers.clone();
            if range.is_none() {
                headers.insert(ACCEPT, HeaderValue::from_static(MANIFEST_TYPES));
            }
            if !matches!(method, Method::GET | Method::HEAD) {
                // Some servers want to be told that nothing comes.
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
            if let Some(offset) = range.filter(|offset| *offset > 0)
                && let Ok(value) = HeaderValue::from_str(&format!("bytes={offset}-"))
            {
                headers.insert(RANGE, value);
            }
            if let Some(grant) = &grant {
                headers.insert(AUTHORIZATION, grant.clone());
            }
            let request = Request { method: method.clone(), url: endpoint.url(path), headers, body: None };
            let mut answer = exchange::persist(endpoint, &request).await.map_err(|error| match error {
                // Nothing of the repository was asked yet: Docker's first question is for `/v2/`.
                Error::Unreachable { detail, .. } => {
                    Error::Unreachable { method: "Get", url: endpoint.root().into(), detail }
                }
                other => other,
            })?;
            if answer.status().as_u16() != 401 {
                return Ok(answer);
            }
            if let Some(grant) = &grant {
                grants.refused(&key, grant);
            }
            let challenges = challenges(&answer);
            let said = exchange::complaint(&mut answer).await;
            if !answered {
                answered = true;
                grant = grants.answer(endpoint, key.clone(), &challenges).await?;
                if grant.is_some() {
                    continue;
                }
            }
            return Err(self.refusal(&request, &challenges, &said, grant.is_some()));
        }
    }

    /// What a 401 means to the user.
    fn refusal(&self, request: &Request, challenges: &[Challenge], said: &[Complaint], shown: bool) -> Error {
        let scope = challenges.iter().any(|challenge| challenge.get("error") == Some("insufficient_scope"));
        let denied = said.iter().find(|complaint| complaint.code == "DENIED");
        if scope || denied.is_some() {
            let detail = denied.map_or_else(
                || "denied: requested access to the resource is denied".into(),
                ToString::to_string,
            );
            return Error::AccessDenied { repository: self.name.clone(), detail };
        }
        let detail = match said.first() {
            _ if !shown => "no basic auth credentials".to_owned(),
            Some(complaint) => complaint.to_string(),
            None => "unauthorized: authentication required".to_owned(),
        };
        Error::Unauthorized {
            method: exchange::verb(&request.method),
            url: exchange::shown(&request.url),
            detail,
        }
    }

    /// What a status other than success means to the user.
    async fn translate(&self, mut answer: Response, method: &Method, target: &str) -> Error {
        let status = answer.status();
        let said = exchange::complaint(&mut answer).await;
        let first = said.first();
        let words = |fallback: &str| first.map_or_else(|| fallback.to_owned(), ToString::to_string);
        let code = first.map_or("", |complaint| complaint.code.as_str());
        match (status.as_u16(), code) {
            (_, "DENIED") | (403, _) => Error::AccessDenied {
                repository: self.name.clone(),
                detail: words("denied: requested access to the resource is denied"),
            },
            (_, "NAME_UNKNOWN") => {
                Error::RepositoryNotFound { repository: self.name.clone(), detail: words("name unknown") }
            }
            (404, _) => Error::ManifestNotFound {
                reference: self.reference(target),
                detail: words("manifest unknown: manifest unknown"),
            },
            (429, _) => {
                let said = words("the registry asks to try again later");
                let detail = exchange::retry_after(&answer).map_or_else(
                    || said.clone(),
                    |after| format!("{said} (try again in {} s)", after.as_secs()),
                );
                Error::TooManyRequests { detail }
            }
            _ => Error::Status {
                method: exchange::verb(method),
                url: exchange::shown(answer.url()),
                status: status.as_u16(),
                detail: words(status.canonical_reason().unwrap_or("unknown")),
            },
        }
    }
}

fn header(answer: &Response, name: &str) -> Option<String> {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn challenges(answer: &Response) -> Vec<Challenge> {
    answer
        .headers()
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(challenge::parse)
        .collect()
}

fn mismatch(what: &str, expected: &str, found: &str) -> Error {
    Error::Mismatch { what: what.to_owned(), expected: expected.to_owned(), found: found.to_owned() }
}

/// The store names content by SHA-256.
fn supported(digest: &Digest) -> Result<()> {
    if digest.algorithm() == Algorithm::Sha256 {
        return Ok(());
    }
    Err(Error::Unsupported { what: format!("digest algorithm {}", digest.algorithm()) })
}

/// Reads verified bytes as a manifest or an index.
fn read(bytes: Vec<u8>, digest: Digest, sent_as: Option<&str>) -> Result<Resolved> {
    let document = Document::parse(&bytes, sent_as)?;
    let own = document.media_type().to_owned();
    let sent_as = sent_as
        .map(media_type::essence)
        .filter(|sent| media_type::is_manifest(sent) || media_type::is_index(sent));
    let descriptor = Descriptor::new(sent_as.unwrap_or(&own), digest, bytes.len() as u64);
    Ok(Resolved { descriptor, bytes, document })
}
