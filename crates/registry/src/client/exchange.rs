//! One request and its answer: redirects, retries, and Go's words for what went wrong below HTTP.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, LOCATION, RANGE, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use url::Url;

use super::endpoint::Endpoint;
use super::names::LookupError;
use super::options::Limits;
use crate::error::{Error, Result, chain};

/// As many redirects as Go's client follows.
const REDIRECTS_MAX: usize = 10;
/// An error's text is read no further than this.
const COMPLAINT_BYTES_MAX: u64 = 64 << 10;
/// A registry's words in an error are cut after this many characters.
const COMPLAINT_CHARS_MAX: usize = 1000;

/// A request that can be sent again.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<String>,
}

/// `Get`, `Head`, `Post` …, as Go's client begins its errors.
pub(crate) fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "HEAD" => "Head",
        "POST" => "Post",
        "PUT" => "Put",
        "PATCH" => "Patch",
        "DELETE" => "Delete",
        _ => "Get",
    }
}

/// A URL as it is shown: without its query, which may hold signatures.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// Sends a request and follows redirects; `Authorization` goes to the first host alone.
pub(crate) async fn send(endpoint: &Endpoint, request: &Request) -> std::result::Result<Response, Failure> {
    let mut url = request.url.clone();
    let mut headers = request.headers.clone();
    for _ in 0..=REDIRECTS_MAX {
        let mut call = endpoint.http.request(request.method.clone(), url.clone()).headers(headers.clone());
        if let Some(body) = &request.body {
            call = call.body(body.clone());
        }
        let answer = call.send().await.map_err(|error| Failure::of(&error, &url))?;
        let redirect = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
        let Some(location) = answer.headers().get(LOCATION).filter(|_| redirect) else {
            return Ok(answer);
        };
        let bad = |why: &str| Failure::fatal(why);
        if request.body.is_some() {
            // A refresh token must not be carried anywhere else.
            return Err(bad("the token server redirects"));
        }
        let next = location.to_str().ok().and_then(|text| url.join(text).ok());
        let next = next.ok_or_else(|| bad("the redirect's location is no URL"))?;
        match next.scheme() {
            "https" => {}
            "http" if url.scheme() == "http" || endpoint.is_plain() => {}
            other => return Err(bad(&format!("refusing to follow a redirect to {other}"))),
        }
        let same = next.scheme() == url.scheme()
            && next.host_str() == url.host_str()
            && next.port_or_known_default() == url.port_or_known_default();
        if !same {
            // What is said to one host, by us or by its settings, is not for another.
            let known = [ACCEPT, CONTENT_TYPE, RANGE].map(|name| (name.clone(), headers.get(name).cloned()));
            headers = known.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        }
        url = next;
    }
    Err(Failure::fatal(&format!("stopped after {REDIRECTS_MAX} redirects")))
}

/// Sends a request, and again after a broken connection or a server's passing weakness. A registry that cannot
/// be reached at all is reported at once.
pub(crate) async fn persist(endpoint: &Endpoint, request: &Request) -> Result<Response> {
    let mut tries = 1;
    loop {
        let pause = match send(endpoint, request).await {
            Ok(answer) if passing(answer.status()) && tries < endpoint.limits.tries_max => {
                match retry_after(&answer) {
                    // Asking before it is wanted makes things worse; nobody waits here for hours.
                    Some(asked) if asked > endpoint.limits.retry_after_max => return Ok(answer),
                    Some(asked) => {
                        let (registry, seconds) = (endpoint.host(), asked.as_secs());
                        tracing::info!(registry, seconds, status = %answer.status(), "waiting as the registry asks");
                        asked
                    }
                    None => pause_after(&endpoint.limits, tries),
                }
            }
            Ok(answer) => return Ok(answer),
            Err(failure) if failure.transient && tries < endpoint.limits.tries_max => {
                pause_after(&endpoint.limits, tries)
            }
            Err(failure) => return Err(failure.into_error(&request.method, &request.url, tries)),
        };
        tries += 1;
        tokio::time::sleep(pause).await;
    }
}

/// Statuses after which the same request may succeed.
pub(crate) fn passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// How long a registry asks us to wait, in seconds or until a date (RFC 9110, section 10.2.3).
pub(crate) fn retry_after(answer: &Response) -> Option<Duration> {
    let text = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(until.duration_since(jiff::Timestamp::now())).unwrap_or_default())
}

/// How long to wait before the next try: doubling, with some spread so that clients do not march in step.
pub(crate) fn pause_after(limits: &Limits, tries: u32) -> Duration {
    let doubled = limits.pause_first.saturating_mul(1 << tries.saturating_sub(1).min(16));
    let spread = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos() % 256);
    let spread = limits.pause_first.saturating_mul(spread) / 512;
    (doubled + spread).min(limits.pause_max)
}

/// Why there was no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    /// In Go's words where it has some.
    pub(crate) words: String,
    /// Whether a conversation had begun (or may have): worth trying again.
    pub(crate) transient: bool,
    /// Whether no further try can come out otherwise: what answers speaks no TLS, or is not trusted.
    pub(crate) settled: bool,
}

impl Failure {
    pub(crate) fn fatal(words: &str) -> Self {
        Self { words: words.to_owned(), transient: false, settled: false }
    }

    /// Reads the layers of an HTTP client's error.
    pub(crate) fn of(error: &reqwest::Error, url: &Url) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = error.source();
        let mut last = String::new();
        let dialing = error.is_connect();
        while let Some(next) = cause {
            if let Some(lookup) = next.downcast_ref::<LookupError>() {
                return Self::fatal(&format!("dial tcp: {lookup}"));
            }
            if let Some(tls) = below(next) {
                return Self::in_tls(tls);
            }
            if let Some(words) = next.downcast_ref::<std::io::Error>().and_then(dial_words)
                && dialing
            {
                return Self::fatal(&format!("dial tcp {}: connect: {words}", address(url)));
            }
            last = next.to_string();
            cause = next.source();
        }
        let words = match (error.is_timeout(), dialing) {
            (true, true) => format!("dial tcp {}: i/o timeout", address(url)),
            (true, false) => "i/o timeout".into(),
            (false, _) if last == "tls handshake eof" => "EOF".into(),
            (false, _) if last.is_empty() => chain(error),
            (false, _) => last,
        };
        Self { words, transient: !dialing && !error.is_builder(), settled: false }
    }

    fn in_tls(error: &rustls::Error) -> Self {
        use rustls::{CertificateError as C, Error as E};
        let x509 = |words: &str| format!("tls: failed to verify certificate: x509: {words}");
        let words = match error {
            E::InvalidMessage(_) => "http: server gave HTTP response to HTTPS client".to_owned(),
            E::InvalidCertificate(C::UnknownIssuer) => x509("certificate signed by unknown authority"),
            E::InvalidCertificate(
                C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. },
            ) => x509("certificate has expired or is not yet valid"),
            E::InvalidCertificate(other) => x509(&other.to_string()),
            E::AlertReceived(alert) => format!("remote error: tls: {alert:?}"),
            other => format!("tls: {other}"),
        };
        let settled = matches!(error, E::InvalidMessage(_) | E::InvalidCertificate(_));
        Self { words, transient: false, settled }
    }

    pub(crate) fn into_error(self, method: &Method, url: &Url, tries: u32) -> Error {
        let (method, url) = (verb(method), shown(url));
        if self.transient {
            return Error::Broken { method, url, tries, detail: self.words };
        }
        Error::Unreachable { method, url, detail: self.words }
    }
}

/// The TLS library's error, however deep I/O errors are nested around it.
fn below<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref::<rustls::Error>() {
        return Some(found);
    }
    below(error.downcast_ref::<std::io::Error>()?.get_ref()?)
}

fn address(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

fn dial_words(error: &std::io::Error) -> Option<&'static str> {
    use std::io::ErrorKind as K;
    Some(match error.kind() {
        K::ConnectionRefused => "connection refused",
        K::HostUnreachable => "no route to host",
        K::NetworkUnreachable => "network is unreachable",
        K::TimedOut => "connection timed out",
        K::AddrNotAvailable => "cannot assign requested address",
        K::PermissionDenied => "permission denied",
        _ => return None,
    })
}

/// One entry of a registry's error document.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Complaint {
    #[serde(default)]
    pub(crate) code: String,
    #[serde(default)]
    message: String,
}

impl fmt::Display for Complaint {
    /// `manifest unknown: manifest unknown`: the code in words, then the message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.to_lowercase().replace('_', " ");
        match (code.is_empty(), self.message.is_empty()) {
            (true, _) => write!(f, "{}", plain(&self.message)),
            (false, true) => write!(f, "{}", plain(&code)),
            (false, false) => write!(f, "{}: {}", plain(&code), plain(&self.message)),
        }
    }
}

/// A stranger's text for a terminal: one line, no control characters, not too long.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(COMPLAINT_CHARS_MAX)
        .collect::<String>()
        .trim()
        .to_owned()
}

#[derive(Deserialize)]
struct Complaints {
    #[serde(default)]
    errors: Vec<Complaint>,
    details: Option<String>,
    message: Option<String>,
}

/// What a registry says went wrong, as far as it says so.
pub(crate) async fn complaint(answer: &mut Response) -> Vec<Complaint> {
    let Ok(bytes) = body(answer, COMPLAINT_BYTES_MAX, "the error").await else { return Vec::new() };
    match serde_json::from_slice::<Complaints>(&bytes) {
        Ok(said) if !said.errors.is_empty() => said.errors,
        Ok(said) => {
            let message = said.details.or(said.message).unwrap_or_default();
            if message.is_empty() { Vec::new() } else { vec![Complaint { code: String::new(), message }] }
        }
        Err(_) => Vec::new(),
    }
}

/// The whole body, up to a limit.
pub(crate) async fn body(answer: &mut Response, limit: u64, what: &str) -> Result<Vec<u8>> {
    let too_large = || Error::TooLarge { what: what.to_owned(), limit: format!("{limit} bytes") };
    if answer.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    loop {
        let chunk = answer.chunk().await.map_err(|error| Error::Broken {
            method: "Get",
            url: shown(answer.url()),
            tries: 1,
            detail: Failure::of(&error, answer.url()).words,
        })?;
        let Some(chunk) = chunk else { return Ok(bytes) };
        if bytes.len() as u64 + chunk.len() as u64 > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
}
