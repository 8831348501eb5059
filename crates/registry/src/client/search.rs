//! Looking for repositories: by the first protocol's search, which Docker Hub and others have, else in the catalogue of the
//! distribution protocol.

use oci::Reference;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, LINK};
use reqwest::{Method, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::auth::{self, Credentials};
use super::endpoint::Endpoint;
use super::exchange::{self, Request};
use super::hosts::Place;
use super::{Client, challenges};
use crate::error::{Error, Result};

/// Where Docker Hub is searched.
const HUB_INDEX: &str = "index.docker.io";
/// An answer with more than this is no list of a hundred repositories.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// Repositories asked for at a time, and pages of them that are looked through.
const CATALOG_PAGE: usize = 1000;
const CATALOG_PAGES_MAX: usize = 100;

/// A repository that was found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Found {
    /// Its name, as it is pulled.
    pub name: String,
    /// What it says of itself.
    #[serde(default)]
    pub description: String,
    /// How many users like it.
    #[serde(default)]
    pub star_count: i64,
    /// Whether the registry's owner vouches for it.
    #[serde(default)]
    pub is_official: bool,
    /// Whether the registry has built it.
    #[serde(default)]
    pub is_automated: bool,
}

#[derive(Deserialize)]
struct Results {
    #[serde(default)]
    results: Vec<Found>,
}

#[derive(Deserialize)]
struct Catalog {
    repositories: Option<Vec<String>>,
}

impl Client {
    /// Repositories whose name or description has to do with `term`, at most `limit`. The term may begin with a registry
    /// (`registry.example:5000/term`).
    pub async fn search(&self, term: &str, limit: usize, credentials: &Credentials) -> Result<Vec<Found>> {
        let (registry, term) = split(term)?;
        let endpoints = match registry {
            Some(registry) => self.of_registry(registry).await?,
            None => {
                // Images come from elsewhere, and from mirrors, none of which can be searched.
                let mut endpoints = Vec::new();
                self.endpoints(Place::origin(HUB_INDEX, "any"), &mut endpoints).await?;
                endpoints
            }
        };
        let mut failed = None;
        for endpoint in endpoints {
            match search(&endpoint, registry, term, limit, credentials).await {
                Err(error @ Error::Unreachable { .. }) => failed = Some(error),
                other => return other,
            }
        }
        Err(failed.unwrap_or(Error::Cancelled))
    }
}

/// A registry, if one is named, and what is looked for.
fn split(term: &str) -> Result<(Option<&str>, &str)> {
    let (first, rest) = match term.split_once('/') {
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => (Some(first), rest),
        _ => (None, term),
    };
    if let Some(first) = first {
        Reference::parse_named(&format!("{first}/any"))?;
    }
    let first = first.filter(|first| !matches!(*first, "docker.io" | HUB_INDEX));
    Ok((first, if first.is_none() { rest.strip_prefix("library/").unwrap_or(rest) } else { rest }))
}

async fn search(
    endpoint: &Endpoint,
    registry: Option<&str>,
    term: &str,
    limit: usize,
    credentials: &Credentials,
) -> Result<Vec<Found>> {
    let mut url = endpoint.base.clone();
    url.set_path("/v1/search");
    url.query_pairs_mut().append_pair("q", term).append_pair("n", &limit.to_string());
    let mut answer = ask(endpoint, url.clone(), credentials).await?;
    if answer.status().is_success() {
        let results: Results = read(endpoint, &mut answer).await?;
        let full = |name: String| registry.map_or(name.clone(), |registry| format!("{registry}/{name}"));
        let found = results.results.into_iter().take(limit);
        return Ok(found
            .map(|found| Found {
                name: full(plain(&found.name)),
                description: plain(&found.description),
                ..found
            })
            .collect());
    }
    match (answer.status().as_u16(), registry) {
        (404 | 405, Some(registry)) => in_catalog(endpoint, registry, term, limit, credentials).await,
        _ => Err(refused(&url, answer).await),
    }
}

/// A stranger's words, in one line.
fn plain(text: &str) -> String {
    exchange::plain(text)
}

/// The names in the catalogue that contain the term (distribution protocol, `_catalog`).
async fn in_catalog(
    endpoint: &Endpoint,
    registry: &str,
    term: &str,
    limit: usize,
    credentials: &Credentials,
) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut last = String::new();
    for _ in 0..CATALOG_PAGES_MAX {
        let mut url = endpoint.root();
        url.set_path(&format!("{}_catalog", url.path()));
        url.query_pairs_mut().append_pair("n", &CATALOG_PAGE.to_string());
        if !last.is_empty() {
            url.query_pairs_mut().append_pair("last", &last);
        }
        let mut answer = ask(endpoint, url.clone(), credentials).await?;
        if !answer.status().is_success() {
            return Err(refused(&url, answer).await);
        }
        let more = answer.headers().contains_key(LINK);
        let page: Catalog = read(endpoint, &mut answer).await?;
        let names = page.repositories.unwrap_or_default();
        let next = names.last().cloned().unwrap_or_default();
        found.extend(names.iter().filter(|name| name.contains(term)).map(|name| Found {
            name: format!("{registry}/{}", plain(name)),
            description: String::new(),
            star_count: 0,
            is_official: false,
            is_automated: false,
        }));
        if !more || found.len() >= limit || next.is_empty() || next == last {
            break;
        }
        last = next;
    }
    found.truncate(limit);
    Ok(found)
}

/// Asks, and shows who asks if that is wanted.
async fn ask(endpoint: &Endpoint, url: Url, credentials: &Credentials) -> Result<Response> {
    let mut request = Request { method: Method::GET, url, headers: endpoint.headers.clone(), body: None };
    request.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let answer = exchange::persist(endpoint, &request).await?;
    if answer.status().as_u16() != 401 {
        return Ok(answer);
    }
    let challenges = challenges(&answer);
    let header = match (challenges.iter().find(|challenge| challenge.scheme == "bearer"), credentials) {
        (Some(bearer), _) => {
            let token = auth::fetch_token(endpoint, bearer, "registry:catalog:*", credentials, false).await?;
            auth::secret(&format!("Bearer {}", token.access))?
        }
        (None, Credentials::Basic { username, password }) => auth::basic(username, password)?,
        _ => return Ok(answer),
    };
    request.headers.insert(AUTHORIZATION, header);
    exchange::persist(endpoint, &request).await
}

async fn read<T: DeserializeOwned>(endpoint: &Endpoint, answer: &mut Response) -> Result<T> {
    let bytes = exchange::body(answer, ANSWER_BYTES_MAX, "list of repositories").await?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Protocol {
        host: endpoint.host().to_owned(),
        what: format!("list of repositories: {error}"),
    })
}

async fn refused(url: &Url, mut answer: Response) -> Error {
    let status = answer.status();
    let said = exchange::complaint(&mut answer).await;
    let detail = said
        .first()
        .map_or_else(|| status.canonical_reason().unwrap_or("unknown").to_owned(), ToString::to_string);
    match status.as_u16() {
        401 | 403 => Error::Unauthorized { method: "Get", url: exchange::shown(url), detail },
        429 => Error::TooManyRequests { detail },
        number => Error::Status { method: "Get", url: exchange::shown(url), status: number, detail },
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn terms_may_name_a_registry() {
        assert_eq!(split("busybox").unwrap(), (None, "busybox"));
        assert_eq!(split("team/app").unwrap(), (None, "team/app"));
        assert_eq!(split("docker.io/library/busybox").unwrap(), (None, "busybox"));
        assert_eq!(split("r.example/app").unwrap(), (Some("r.example"), "app"));
        assert_eq!(split("localhost:5000/team/app").unwrap(), (Some("localhost:5000"), "team/app"));
        assert!(split("r.example:x/app").is_err());
    }
}
