//! What a client says of itself when it opens a session: in the headers of `POST /session`, or of `Control.Session`.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use hyper::HeaderMap;

use super::handover::{self, Offer};
use crate::error::{Error, Result};

pub(crate) const ID: &str = "x-docker-expose-session-uuid";
pub(crate) const NAME: &str = "x-docker-expose-session-name";
pub(crate) const SHARED_KEY: &str = "x-docker-expose-session-sharedkey";
pub(crate) const METHOD: &str = "x-docker-expose-session-grpc-method";

/// Bytes of one value: ids are 25 letters, shared keys a directory's name and an id.
const VALUE_BYTES_MAX: usize = 1024;
/// Methods that a client may answer; those of BuildKit's clients are fewer than twenty.
const METHODS_MAX: usize = 64;

/// Directories that a client may hand over.
const DIRECTORIES_MAX: usize = 64;

/// What a client says of itself.
#[derive(Debug, Clone, Default)]
pub struct Introduction {
    /// What builds call the session.
    pub(crate) id: String,
    /// What sorts the directories that are kept of this client.
    pub(crate) shared_key: String,
    /// What the client answers.
    pub(crate) methods: Vec<String>,
    /// The directories that it hands over, by what builds call them.
    pub(crate) directories: HashMap<String, Arc<OwnedFd>>,
    offers: Vec<Offer>,
}

impl Introduction {
    /// Reads the headers.
    ///
    /// # Errors
    /// There is no id, or more than a client would say.
    pub fn read(headers: &HeaderMap) -> Result<Self> {
        let one = |name: &str| -> Result<String> {
            headers.get(name).map_or(Ok(String::new()), |value| text(name, value.as_bytes()))
        };
        let id = one(ID)?;
        if id.is_empty() {
            return Err(Error::Invalid(format!("a session needs an id: the header {ID} is missing")));
        }
        let methods: Vec<_> = headers.get_all(METHOD).iter().take(METHODS_MAX + 1).collect();
        if methods.len() > METHODS_MAX {
            return Err(Error::Invalid(format!("a session answers {METHODS_MAX} methods at most")));
        }
        let methods =
            methods.into_iter().map(|value| text(METHOD, value.as_bytes())).collect::<Result<_>>()?;
        let offers: Vec<_> = headers.get_all(handover::HEADER).iter().take(DIRECTORIES_MAX + 1).collect();
        if offers.len() > DIRECTORIES_MAX {
            return Err(Error::Invalid(format!(
                "a session hands over {DIRECTORIES_MAX} directories at most"
            )));
        }
        let offers = offers
            .into_iter()
            .map(|value| Offer::read(&text(handover::HEADER, value.as_bytes())?))
            .collect::<Result<_>>()?;
        Ok(Self { id, shared_key: one(SHARED_KEY)?, methods, offers, directories: HashMap::new() })
    }

    /// Whether the client offers directories.
    pub fn offers_directories(&self) -> bool {
        !self.offers.is_empty()
    }

    /// Takes the directories that the client offers, of the process that is at the other end of its connection.
    pub fn take_directories(&mut self, peer: impl AsFd) {
        self.directories = handover::take(&self.offers, peer);
    }

    /// What the session is called.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// A value as text. Names of directories, which shared keys begin with, may hold any letter.
fn text(name: &str, value: &[u8]) -> Result<String> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(Error::Invalid(format!("the header {name} is longer than {VALUE_BYTES_MAX} bytes")));
    }
    Ok(String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn headers_are_read() {
        let read = Introduction::read(&headers(&[
            (ID, "abc"),
            (SHARED_KEY, "web:1"),
            (METHOD, "/moby.filesync.v1.FileSync/DiffCopy"),
            (METHOD, "/grpc.health.v1.Health/Check"),
        ]))
        .unwrap();
        assert_eq!((read.id(), read.shared_key.as_str(), read.methods.len()), ("abc", "web:1", 2));
    }

    #[test]
    fn an_id_is_needed_and_all_is_bounded() {
        assert!(Introduction::read(&headers(&[(SHARED_KEY, "x")])).is_err());
        assert!(Introduction::read(&headers(&[(ID, &"x".repeat(VALUE_BYTES_MAX + 1))])).is_err());
        let many = vec![(METHOD, "/a/b"); METHODS_MAX + 1];
        let all: Vec<_> = [(ID, "x")].into_iter().chain(many).collect();
        assert!(Introduction::read(&headers(&all)).is_err());
    }
}
