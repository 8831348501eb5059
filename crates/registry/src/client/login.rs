//! Whether a registry knows a user, asked before the credentials are kept.

use oci::Reference;
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};

use super::auth::{self, Credentials};
use super::endpoint::Endpoint;
use super::exchange::{self, Request};
use super::{Client, challenges};
use crate::error::{Error, Result};

impl Client {
    /// Shows credentials to a registry (`host[:port]`). Where it has a token server, that may give a token to be kept in
    /// place of the password.
    pub async fn login(&self, registry: &str, credentials: &Credentials) -> Result<Option<String>> {
        let mut failed = None;
        for endpoint in self.of_registry(registry).await? {
            match greet(&endpoint, credentials).await {
                Err(error @ Error::Unreachable { .. }) => failed = Some(error),
                other => return other,
            }
        }
        Err(failed.unwrap_or(Error::Cancelled))
    }

    /// The ways to ask a registry itself, whatever the repository.
    pub(super) async fn of_registry(&self, registry: &str) -> Result<Vec<Endpoint>> {
        // Places are those of repositories, of which any will do.
        let reference = Reference::parse_named(&format!("{registry}/any"))?;
        let repository = self.repository(&reference, Credentials::Anonymous).await?;
        Ok(repository.endpoints.into_iter().filter(|endpoint| !endpoint.mirror).collect())
    }
}

async fn greet(endpoint: &Endpoint, credentials: &Credentials) -> Result<Option<String>> {
    let mut request =
        Request { method: Method::GET, url: endpoint.root(), headers: endpoint.headers.clone(), body: None };
    request.headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    let mut answer = exchange::persist(endpoint, &request).await?;
    let mut kept = None;
    if answer.status().as_u16() == 401 {
        let challenges = challenges(&answer);
        let shown: HeaderMap = match challenges.iter().find(|challenge| challenge.scheme == "bearer") {
            Some(bearer) => {
                let token = auth::fetch_token(endpoint, bearer, "", credentials, true).await?;
                kept = token.refresh;
                [(AUTHORIZATION, auth::secret(&format!("Bearer {}", token.access))?)].into_iter().collect()
            }
            None => match credentials {
                Credentials::Basic { username, password } => {
                    [(AUTHORIZATION, auth::basic(username, password)?)].into_iter().collect()
                }
                _ => HeaderMap::new(),
            },
        };
        request.headers.extend(shown);
        answer = exchange::persist(endpoint, &request).await?;
    }
    if answer.status().is_success()
        && !request.headers.contains_key(AUTHORIZATION)
        && let Credentials::Basic { username, password } = credentials
    {
        // Whoever asks nobody may still know who is who: a wrong password is better told now than at the first push.
        request.headers.insert(AUTHORIZATION, auth::basic(username, password)?);
        answer = exchange::persist(endpoint, &request).await?;
    }
    let status = answer.status();
    if status.is_success() {
        return Ok(kept);
    }
    let said = exchange::complaint(&mut answer).await;
    let url = exchange::shown(&request.url);
    let words = |fallback: &str| said.first().map_or_else(|| fallback.to_owned(), ToString::to_string);
    Err(match status.as_u16() {
        401 => {
            Error::Unauthorized { method: "Get", url, detail: words("unauthorized: authentication required") }
        }
        429 => Error::TooManyRequests { detail: words("the registry asks to try again later") },
        number => Error::Status {
            method: "Get",
            url,
            status: number,
            detail: words(status.canonical_reason().unwrap_or("unknown")),
        },
    })
}
