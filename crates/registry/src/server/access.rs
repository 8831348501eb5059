//! Who may do what: everybody everything, the users of a password file everything, or the bearers of a token what it says.

pub mod htpasswd;
pub mod token;

use std::collections::HashSet;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use super::refusal::Refusal;

/// What basic authentication calls this registry.
const REALM: &str = "corten registry";
/// After how many seconds to show a password again that nobody has looked at.
const BUSY_SECONDS: &str = "2";

/// Why nobody can be let in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A password file that is none.
    #[error("{}, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file of keys without any that serves.
    #[error("{}: {reason}", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Whom a registry lets in.
pub enum Access {
    /// Everybody, to everything.
    Open,
    /// The users of a password file, to everything.
    Htpasswd(htpasswd::Htpasswd),
    /// Bearers of a token, to what it says.
    Token(token::Tokens),
}

/// What may be wanted of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// To read it.
    Pull,
    /// To write to it.
    Push,
    /// To delete from it.
    Delete,
    /// To list all repositories.
    Catalog,
}

impl Action {
    /// The name that tokens have for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
            Self::Catalog => "*",
        }
    }
}

/// Who sends a request, and what they may.
#[derive(Debug, Clone)]
pub struct Identity {
    name: Option<String>,
    rights: Rights,
}

#[derive(Debug, Clone)]
enum Rights {
    /// Of the administrator of this machine.
    Administrator,
    All,
    /// Of those who have shown nothing.
    Read,
    None,
    /// Repository and action; and whether everything may be read besides.
    Listed(HashSet<(String, &'static str)>, bool),
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortcoming {
    /// Nothing was shown.
    Nothing,
    /// What was shown is wrong.
    Wrong,
    /// What was shown is right, but not enough.
    Insufficient,
    /// What was shown was not looked at: too many others show something.
    Busy,
}

impl Identity {
    pub(super) fn administrator() -> Self {
        Self { name: None, rights: Rights::Administrator }
    }

    pub(super) fn is_administrator(&self) -> bool {
        matches!(self.rights, Rights::Administrator)
    }

    /// The name, for the log.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether they may do this with a repository.
    pub fn may(&self, repository: &str, action: Action) -> bool {
        match &self.rights {
            Rights::Administrator | Rights::All => true,
            Rights::Read => matches!(action, Action::Pull | Action::Catalog),
            Rights::None => false,
            Rights::Listed(_, true) if matches!(action, Action::Pull | Action::Catalog) => true,
            Rights::Listed(list, _) => list.contains(&(repository.to_owned(), action.as_str())),
        }
    }

    pub(super) fn shortcoming(&self) -> Option<Shortcoming> {
        Some(if self.name.is_some() { Shortcoming::Insufficient } else { Shortcoming::Nothing })
    }
}

impl Access {
    /// Who sends these headers.
    pub(super) async fn identify(
        &self,
        headers: &HeaderMap,
        anonymous: bool,
    ) -> Result<Identity, Shortcoming> {
        if let Self::Open = self {
            return Ok(Identity { name: None, rights: Rights::All });
        }
        let shown = headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap_or("?"));
        // Some clients without credentials send empty ones.
        let Some(shown) = shown.filter(|shown| !is_empty_basic(shown)) else {
            let rights = if anonymous { Rights::Read } else { Rights::None };
            return Ok(Identity { name: None, rights });
        };
        let (scheme, value) = shown.split_once(' ').unwrap_or((shown, ""));
        match self {
            Self::Htpasswd(file) if scheme.eq_ignore_ascii_case("basic") => {
                let (name, password) = basic(value).ok_or(Shortcoming::Wrong)?;
                if !file.verify(&name, &password).await.map_err(|htpasswd::Busy| Shortcoming::Busy)? {
                    return Err(Shortcoming::Wrong);
                }
                Ok(Identity { name: Some(name), rights: Rights::All })
            }
            Self::Token(tokens) if scheme.eq_ignore_ascii_case("bearer") => {
                let claims = tokens.verify(value.trim()).map_err(|error| {
                    tracing::info!(%error, "a token is refused");
                    Shortcoming::Wrong
                })?;
                let list = claims.rights().collect();
                let subject = if claims.subject().is_empty() { "token" } else { claims.subject() };
                Ok(Identity { name: Some(subject.to_owned()), rights: Rights::Listed(list, anonymous) })
            }
            _ => Err(Shortcoming::Wrong),
        }
    }

    /// 401, with what would help; where nobody has looked, 429.
    pub(super) fn challenge(&self, wanted: &[(&str, Action)], why: Option<Shortcoming>) -> Refusal {
        if why == Some(Shortcoming::Busy) {
            let words = "too many passwords are being checked";
            let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", words);
            return refusal.with(RETRY_AFTER, BUSY_SECONDS);
        }
        let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
        let value = match self {
            Self::Open => return refusal,
            Self::Htpasswd(_) => format!("Basic realm=\"{REALM}\""),
            Self::Token(tokens) => {
                let mut value = tokens.challenge();
                if let Some(scope) = scope(wanted) {
                    value.push_str(&format!(",scope=\"{scope}\""));
                }
                match why {
                    Some(Shortcoming::Wrong) => value.push_str(",error=\"invalid_token\""),
                    Some(Shortcoming::Insufficient) => value.push_str(",error=\"insufficient_scope\""),
                    _ => {}
                }
                value
            }
        };
        refusal.with(WWW_AUTHENTICATE, &value)
    }

    /// Tells who has shown nothing how to, at the place where clients look first. With passwords, and pulls that need none, most
    /// clients would give up at a refusal: then the way is shown with the welcome.
    pub(super) fn invite(&self, headers: &mut HeaderMap, anonymous: bool) -> Result<(), Refusal> {
        match self {
            Self::Open => Ok(()),
            Self::Htpasswd(_) if anonymous => {
                if let Ok(value) = HeaderValue::from_str(&format!("Basic realm=\"{REALM}\"")) {
                    headers.insert(WWW_AUTHENTICATE, value);
                }
                Ok(())
            }
            _ => Err(self.challenge(&[], None)),
        }
    }
}

/// What a token should grant, in the words of token servers.
fn scope(wanted: &[(&str, Action)]) -> Option<String> {
    let one = |(repository, action): &(&str, Action)| match action {
        Action::Catalog => "registry:catalog:*".to_owned(),
        Action::Push => format!("repository:{repository}:pull,push"),
        action => format!("repository:{repository}:{}", action.as_str()),
    };
    let scopes: Vec<String> = wanted.iter().map(one).collect();
    (!scopes.is_empty()).then(|| scopes.join(" "))
}

/// Name and password of basic authentication.
pub fn basic(value: &str) -> Option<(String, String)> {
    let pair = STANDARD.decode(value.trim()).ok()?;
    let (name, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

fn is_empty_basic(shown: &str) -> bool {
    let pair = shown.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
    pair.and_then(|(_, value)| basic(value))
        .is_some_and(|(name, password)| name.is_empty() && password.is_empty())
}
