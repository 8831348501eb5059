//! Names of images, in Docker's grammar.
//!
//! ```text
//! reference = [ domain "/" ] path [ ":" tag ] [ "@" digest ]
//! domain    = host [ ":" port ]        host = name, IPv4 or "[" IPv6 "]"
//! path      = component { "/" component }
//! component = alnum { ( "." | "_" | "__" | "-"… ) alnum }      lower case
//! tag       = [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}
//! ```
//!
//! The familiar form leaves out `docker.io/`, `library/` and `:latest`; the canonical form, which is stored and
//! compared, has the first two. The first component is a domain if it is `localhost`, has a `.` or a `:`, or a capital.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;
use crate::digest::{Digest, is_lower_hex};

/// The registry of names that name none.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag of names that have neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";
/// An older name of the default registry.
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
/// Where the default registry keeps names of one component.
const OFFICIAL_PREFIX: &str = "library/";
/// The longest path, as in Docker.
const MAX_PATH_LEN: usize = 255;
/// The longest tag, as in the distribution specification.
const MAX_TAG_LEN: usize = 128;
/// No text longer than this can be a reference: domain (a DNS name and port), path, tag, sha512 digest and separators
/// fit four times over. It keeps error paths from copying megabytes.
const MAX_REFERENCE_LEN: usize = 4096;

/// The name of an image in canonical form: domain, path, and perhaps tag and digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// What a user may write where an image is asked for: a name, or a whole digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyReference {
    /// An image's id: 64 hexadecimal digits, or those with `sha256:`.
    Digest(Digest),
    /// A name; `latest` was added if it had neither tag nor digest.
    Named(Reference),
}

impl AnyReference {
    /// Reads an id or a familiar name. An abbreviated id cannot be told from a name: the caller has to look it up.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if is_identifier(text) {
            return Ok(Self::Digest(Digest::from_sha256_hex(text)?));
        }
        if let Ok(digest) = Digest::parse(text) {
            return Ok(Self::Digest(digest));
        }
        Ok(Self::Named(Reference::parse_familiar(text)?))
    }
}

impl Reference {
    /// Reads a name as users write it, and adds `:latest` if it has neither tag nor digest.
    pub fn parse_familiar(text: &str) -> Result<Self, Error> {
        Ok(Self::parse_named(text)?.or_latest())
    }

    /// Reads a name as users write it, and adds no tag.
    pub fn parse_named(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_REFERENCE_LEN {
            return Err(Error::InvalidReference);
        }
        if is_identifier(text) {
            return Err(Error::HexName { name: text.to_owned() });
        }
        let (domain, remainder) = split_domain(text);
        let remote = remainder.split(':').next().unwrap_or_default();
        if remote.to_lowercase() != remote {
            return Err(Error::UppercaseName { name: remote.to_owned() });
        }
        Self::parse_parts(domain, &remainder)
    }

    fn parse_parts(domain: &str, remainder: &str) -> Result<Self, Error> {
        let (named, digest) = match remainder.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (remainder, None),
        };
        let (path, tag) = match named.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (named, None),
        };
        if !is_domain(domain)
            || !is_path(path)
            || !tag.is_none_or(is_tag)
            || !digest.is_none_or(is_digest_like)
        {
            return Err(Error::InvalidReference);
        }
        if path.len() > MAX_PATH_LEN {
            return Err(Error::NameTooLong);
        }
        Ok(Self {
            domain: domain.to_owned(),
            path: path.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.map(Digest::parse).transpose()?,
        })
    }

    /// The registry: `docker.io`, `localhost:5000` …
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry: `library/debian`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if there is one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The repository with its domain: `docker.io/library/debian`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository as users write it: `debian`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole reference as users write it: `debian:12`.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.push_suffix(&mut text);
        text
    }

    /// What a registry is asked for: the digest if there is one, or else the tag, or else `latest`.
    pub fn target(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => DEFAULT_TAG,
        }
    }

    /// Whether there is neither tag nor digest.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// The same repository with this tag instead of its own; the digest is kept.
    pub fn with_tag(&self, tag: &str) -> Result<Self, Error> {
        if !is_tag(tag) {
            return Err(Error::InvalidTag);
        }
        Ok(Self { tag: Some(tag.to_owned()), ..self.clone() })
    }

    /// The same reference with this digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The repository alone, without tag and digest.
    #[must_use]
    pub fn name_only(&self) -> Self {
        Self { tag: None, digest: None, ..self.clone() }
    }

    /// The same reference without its digest.
    #[must_use]
    pub fn without_digest(&self) -> Self {
        Self { digest: None, ..self.clone() }
    }

    /// The same reference, with `:latest` if it had neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.is_name_only() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    fn push_suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.repository();
        self.push_suffix(&mut text);
        formatter.write_str(&text)
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse_named(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse_named(&text).map_err(D::Error::custom)
    }
}

/// Whether the text is what a whole image id looks like.
fn is_identifier(text: &str) -> bool {
    text.len() == 64 && is_lower_hex(text)
}

/// Divides a familiar name into its domain and the rest, and adds what is left out.
fn split_domain(text: &str) -> (&str, String) {
    let Some((first, rest)) = text.split_once('/') else {
        return (DEFAULT_DOMAIN, format!("{OFFICIAL_PREFIX}{text}"));
    };
    let (domain, rest) = if first == LEGACY_DEFAULT_DOMAIN {
        (DEFAULT_DOMAIN, rest)
    } else if first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first {
        (first, rest)
    } else {
        (DEFAULT_DOMAIN, text)
    };
    if domain == DEFAULT_DOMAIN && !rest.contains('/') {
        return (domain, format!("{OFFICIAL_PREFIX}{rest}"));
    }
    (domain, rest.to_owned())
}

/// `host[:port]`.
pub fn is_domain(text: &str) -> bool {
    let (host, port) = if text.starts_with('[') {
        let Some(end) = text.find(']') else { return false };
        let address = &text[1..end];
        if address.is_empty() || !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
            return false;
        }
        match text[end + 1..].strip_prefix(':') {
            Some(port) => ("", Some(port)),
            None if text.len() == end + 1 => ("", None),
            None => return false,
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let host_is_good = text.starts_with('[')
        || host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
    host_is_good && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// Components of lower-case letters and digits with separators between them, joined by `/`.
pub fn is_path(text: &str) -> bool {
    text.split('/').all(is_path_component)
}

fn is_path_component(text: &str) -> bool {
    let is_alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !is_alnum(first) || !is_alnum(last) {
        return false;
    }
    bytes.split(|&b| is_alnum(b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-')
    })
}

/// A word character, then up to 127 word characters, dots and dashes.
pub fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= MAX_TAG_LEN
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

/// The reference grammar's idea of a digest, wider than what [`Digest::parse`] accepts: which error a user sees depends
/// on it.
fn is_digest_like(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let starts_with_letter = |word: &str| word.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    algorithm
        .split(['-', '_', '+', '.'])
        .all(|word| starts_with_letter(word) && word.bytes().all(|b| b.is_ascii_alphanumeric()))
        && hex.len() >= 32
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
