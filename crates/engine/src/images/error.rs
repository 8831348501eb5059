//! A registry's errors as the engine's.

use std::error::Error as StdError;

use crate::error::{Error, Kind};

/// The causes of a registry's error, in one line: the error itself may be shared by several pulls.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Cause(String);

fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

impl From<registry::Error> for Error {
    fn from(source: registry::Error) -> Self {
        use registry::Error as E;
        let kind = match &source {
            E::ManifestNotFound { .. } | E::RepositoryNotFound { .. } | E::AccessDenied { .. } => {
                Kind::NotFound
            }
            E::Image(cause) => match **cause {
                oci::Error::NoMatchingPlatform { .. } => Kind::NotFound,
                _ => Kind::InvalidParameter,
            },
            E::PushDenied { .. } => Kind::Forbidden,
            E::Missing { .. } => Kind::NotFound,
            E::Unsupported { .. } | E::Option { .. } => Kind::InvalidParameter,
            E::Blocked { .. } | E::Refused { .. } => Kind::Forbidden,
            E::Cancelled => Kind::Cancelled,
            // `Unauthorized` among them: told as such, Docker's command line asks for a password and waits.
            _ => Kind::System,
        };
        let hint = match &source {
            E::Unreachable { detail, .. } if detail.starts_with("http: server gave HTTP") => {
                Some("the registry speaks plain HTTP: name it among the daemon's insecure registries")
            }
            E::Unreachable { detail, .. } if detail.contains("unknown authority") => {
                Some("put the registry's CA certificate into /etc/corten/certs.d/<host>/ca.crt")
            }
            E::Missing { of_index: false, .. } => Some("not all of the image is here: pull it again"),
            E::Missing { .. } => Some(
                "not all of the index's manifests are here: pull the others, or push one with --platform",
            ),
            E::AccessDenied { .. } | E::PushDenied { .. } | E::Unauthorized { .. } => {
                Some("log in to the registry")
            }
            _ => None,
        };
        let error = Self::new(kind, source.to_string());
        let error = match StdError::source(&source) {
            Some(cause) => error.with_source(Cause(chain(cause))),
            None => error,
        };
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}
