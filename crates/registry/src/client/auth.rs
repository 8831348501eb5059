//! Who we are, and how a registry is told: basic and bearer tokens.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine as _;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use url::Url;

use super::challenge::Challenge;
use super::endpoint::Endpoint;
use super::exchange::{self, Request};
use crate::error::{Error, Result};

/// A token server's answer is a few kilobytes at most.
const TOKEN_ANSWER_BYTES_MAX: u64 = 1 << 20;
/// The lifetime of a token that does not say: the distribution specification's 60 seconds.
const TOKEN_LIFETIME_DEFAULT: Duration = Duration::from_secs(60);
/// Tokens are given up a little early, so that they do not expire on their way.
const TOKEN_LIFETIME_MARGIN: Duration = Duration::from_secs(10);
/// Answers to challenges that are kept; when there are more, the lot is forgotten and asked for anew.
const GRANTS_MAX: usize = 512;
/// What we call ourselves to a token server.
const CLIENT_ID: &str = "corten";

/// Who the user is to a registry.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// A name and a password (or an access token in its place).
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// A refresh token, exchanged for an access token at the token server.
    Identity {
        /// The token.
        token: String,
    },
    /// An access token, shown to the registry as it is.
    Bearer {
        /// The token.
        token: String,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic(…)",
            Self::Identity { .. } => "Identity(…)",
            Self::Bearer { .. } => "Bearer(…)",
        })
    }
}

/// For whom a header was granted: endpoint, scope, credentials.
type GrantKey = (String, String, Credentials);

/// The `Authorization` headers that were accepted, until they expire.
#[derive(Default)]
pub(crate) struct Grants {
    granted: Mutex<HashMap<GrantKey, (HeaderValue, Option<Instant>)>>,
}

impl Grants {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<GrantKey, (HeaderValue, Option<Instant>)>> {
        match self.granted.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    pub(crate) fn get(&self, key: &GrantKey) -> Option<HeaderValue> {
        let mut granted = self.lock();
        match granted.get(key) {
            Some((_, Some(until))) if *until <= Instant::now() => {
                granted.remove(key);
                None
            }
            Some((header, _)) => Some(header.clone()),
            None => None,
        }
    }

    /// Forgets a header that was refused, unless another call has replaced it already.
    pub(crate) fn refused(&self, key: &GrantKey, header: &HeaderValue) {
        let mut granted = self.lock();
        if granted.get(key).is_some_and(|(known, _)| known == header) {
            granted.remove(key);
        }
    }

    fn put(&self, key: GrantKey, header: HeaderValue, until: Option<Instant>) {
        let mut granted = self.lock();
        if granted.len() >= GRANTS_MAX {
            granted.clear();
        }
        granted.insert(key, (header, until));
    }

    /// Answers the registry's challenges; `None` if there is nothing (more) we could show.
    pub(crate) async fn answer(
        &self,
        endpoint: &Endpoint,
        key: GrantKey,
        challenges: &[Challenge],
    ) -> Result<Option<HeaderValue>> {
        let (_, scope, credentials) = &key;
        if let Credentials::Bearer { token } = credentials {
            let header = secret(&format!("Bearer {token}"))?;
            self.put(key, header.clone(), None);
            return Ok(Some(header));
        }
        if let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme == "bearer") {
            let token = fetch_token(endpoint, bearer, scope, credentials, false).await?;
            let header = secret(&format!("Bearer {}", token.access))?;
            let until = Instant::now() + token.lifetime.saturating_sub(TOKEN_LIFETIME_MARGIN);
            self.put(key, header.clone(), Some(until));
            return Ok(Some(header));
        }
        if challenges.iter().any(|challenge| challenge.scheme == "basic")
            && let Credentials::Basic { username, password } = credentials
        {
            let header = basic(username, password)?;
            self.put(key, header.clone(), None);
            return Ok(Some(header));
        }
        Ok(None)
    }
}

pub(super) fn secret(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::Option {
        option: "credentials".into(),
        why: "they hold characters that cannot be sent".into(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

pub(super) fn basic(username: &str, password: &str) -> Result<HeaderValue> {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    secret(&format!("Basic {pair}"))
}

/// A token server's answer: `token` in Docker's protocol, `access_token` in OAuth's.
#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    refresh_token: String,
    expires_in: Option<u64>,
}

/// What a token server gives.
pub(super) struct Token {
    /// Shown to the registry.
    pub(super) access: String,
    /// Kept in place of the password, if there is one.
    pub(super) refresh: Option<String>,
    lifetime: Duration,
}

/// Asks for a token for the scope that the registry names, else for `wanted`, which may be nothing. `offline` asks for one to
/// be kept, too.
pub(super) async fn fetch_token(
    endpoint: &Endpoint,
    challenge: &Challenge,
    wanted: &str,
    credentials: &Credentials,
    offline: bool,
) -> Result<Token> {
    let realm = realm(endpoint, challenge)?;
    let scope = &scopes(wanted, challenge.get("scope").unwrap_or_default());
    let service = challenge.get("service").unwrap_or_default();
    let mut headers = HeaderMap::new();
    let request = match credentials {
        Credentials::Identity { token } => {
            let body = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("grant_type", "refresh_token")
                .append_pair("refresh_token", token)
                .append_pair("service", service)
                .append_pair("scope", scope)
                .append_pair("client_id", CLIENT_ID)
                .finish();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            Request { method: Method::POST, url: realm, headers, body: Some(body) }
        }
        _ => {
            let mut url = realm;
            {
                let mut query = url.query_pairs_mut();
                if !service.is_empty() {
                    query.append_pair("service", service);
                }
                for part in scope.split(' ').filter(|part| !part.is_empty()) {
                    query.append_pair("scope", part);
                }
                if offline {
                    query.append_pair("offline_token", "true");
                }
                if let Credentials::Basic { username, .. } = credentials {
                    query.append_pair("account", username).append_pair("client_id", CLIENT_ID);
                }
            }
            if let Credentials::Basic { username, password } = credentials {
                headers.insert(AUTHORIZATION, basic(username, password)?);
            }
            Request { method: Method::GET, url, headers, body: None }
        }
    };
    let url = request.url.clone();
    let mut answer = exchange::persist(endpoint, &request).await?;
    let status = answer.status();
    if !status.is_success() {
        let said = exchange::complaint(&mut answer).await;
        let detail = match said.first() {
            Some(first) => first.to_string(),
            None if status.as_u16() == 401 => "unauthorized: incorrect username or password".into(),
            None => format!("unexpected status from the token server: {status}"),
        };
        return Err(Error::Unauthorized { method: "Get", url: exchange::shown(&url), detail });
    }
    let bytes = exchange::body(&mut answer, TOKEN_ANSWER_BYTES_MAX, "the token server's answer").await?;
    let protocol = |what: String| Error::Protocol { host: endpoint.host().to_owned(), what };
    let parsed: TokenAnswer = serde_json::from_slice(&bytes)
        .map_err(|error| protocol(format!("the token server's answer cannot be read: {error}")))?;
    let token = if parsed.token.is_empty() { parsed.access_token } else { parsed.token };
    if token.is_empty() {
        return Err(protocol("authorization server did not include a token in the response".into()));
    }
    let lifetime = parsed.expires_in.map_or(TOKEN_LIFETIME_DEFAULT, Duration::from_secs);
    Ok(Token {
        access: token,
        refresh: Some(parsed.refresh_token).filter(|token| !token.is_empty()),
        lifetime: lifetime.clamp(TOKEN_LIFETIME_DEFAULT, Duration::from_secs(24 * 3600)),
    })
}

/// What a token is asked for: what we are about to do, and what the registry says it wants besides. For a mere pull
/// it is the registry who knows.
fn scopes(wanted: &str, challenged: &str) -> String {
    if challenged.is_empty() {
        return wanted.to_owned();
    }
    if !wanted.contains("push") {
        return challenged.to_owned();
    }
    let resource = |scope: &str| scope.rsplit_once(':').map(|(resource, _)| resource.to_owned());
    let known: Vec<_> = wanted.split(' ').map(resource).collect();
    let more = challenged.split(' ').filter(|scope| !scope.is_empty() && !known.contains(&resource(scope)));
    more.fold(wanted.to_owned(), |all, scope| format!("{all} {scope}"))
}

/// Where the token is to be had. A registry spoken to over TLS cannot make us send a password in the clear.
fn realm(endpoint: &Endpoint, challenge: &Challenge) -> Result<Url> {
    let protocol = |what: String| Error::Protocol { host: endpoint.host().to_owned(), what };
    let text = challenge.get("realm").ok_or_else(|| protocol("no realm in the bearer challenge".into()))?;
    let realm =
        Url::parse(text).map_err(|_| protocol("the realm of the bearer challenge is no URL".into()))?;
    match realm.scheme() {
        "https" => {}
        "http" if endpoint.is_plain() => {}
        other => {
            return Err(protocol(format!("the realm of the bearer challenge would be asked over {other}")));
        }
    }
    if realm.host_str().is_none() || !realm.username().is_empty() || realm.password().is_some() {
        return Err(protocol("the realm of the bearer challenge is not a plain URL".into()));
    }
    Ok(realm)
}

#[cfg(test)]
mod tests {
    use super::scopes;

    #[test]
    fn what_is_wanted_and_what_is_asked_for_are_one_scope() {
        let push = "repository:a/b:pull,push";
        assert_eq!(scopes("repository:a/b:pull", ""), "repository:a/b:pull");
        assert_eq!(scopes("repository:a/b:pull", "repository:x/a/b:pull"), "repository:x/a/b:pull");
        assert_eq!(scopes(push, "repository:a/b:pull"), push);
        assert_eq!(scopes(push, ""), push);
        assert_eq!(scopes(push, "repository:c:pull"), format!("{push} repository:c:pull"));
        let mount = format!("{push} repository:c:pull");
        assert_eq!(scopes(&mount, "repository:c:pull repository:a/b:pull,push"), mount);
    }
}
