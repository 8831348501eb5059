//! Versions of the API.

use crate::Error;
use std::fmt;
use std::str::FromStr;

/// The oldest version spoken.
pub const MIN: ApiVersion = ApiVersion { major: 1, minor: 24 };
/// The newest version spoken.
pub const MAX: ApiVersion = ApiVersion { major: 1, minor: 56 };

/// A version of the API, as in the path's prefix `/v1.47`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// Before the point.
    pub major: u16,
    /// After the point.
    pub minor: u16,
}

impl ApiVersion {
    /// Version 1 with this minor number.
    pub const fn v1(minor: u16) -> Self {
        Self { major: 1, minor }
    }

    /// Whether this is older than 1.`minor`.
    pub fn before(self, minor: u16) -> bool {
        self < Self::v1(minor)
    }

    /// Whether this is 1.`minor` or newer.
    pub fn from(self, minor: u16) -> bool {
        !self.before(minor)
    }

    /// What a server answers to a client that asks for this version: it, or why not.
    pub fn supported(self) -> Result<Self, Error> {
        if self < MIN {
            Err(Error::TooOld(self))
        } else if self > MAX {
            Err(Error::TooNew(self))
        } else {
            Ok(self)
        }
    }

    /// What a client speaks with a server whose newest version is this: the older of both newest versions.
    /// A server that does not tell is taken for the oldest there is.
    pub fn negotiate(server: Option<Self>) -> Self {
        server.unwrap_or(MIN).min(MAX)
    }
}

impl Default for ApiVersion {
    fn default() -> Self {
        MAX
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = |part: &str| -> Option<u16> {
            (!part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())).then(|| part.parse().ok())?
        };
        text.split_once('.')
            .and_then(|(major, minor)| Some(Self { major: number(major)?, minor: number(minor)? }))
            .ok_or_else(|| Error::Version(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number_not_by_letter() {
        let parse = |text: &str| text.parse::<ApiVersion>().unwrap();
        assert!(parse("1.9") < parse("1.24"));
        assert!(parse("1.100") > parse("1.56"));
        assert!(parse("2.0") > MAX);
        assert_eq!(parse("1.47").to_string(), "1.47");
    }

    #[test]
    fn nonsense_is_not_a_version() {
        for text in ["", "1", "1.", ".1", "1.x", "1.2.3", "+1.2", "1.99999", " 1.24"] {
            assert_eq!(text.parse::<ApiVersion>(), Err(Error::Version(text.to_owned())));
        }
    }

    #[test]
    fn refusals_have_dockers_words() {
        assert_eq!(
            ApiVersion::v1(57).supported().unwrap_err().to_string(),
            "client version 1.57 is too new. Maximum supported API version is 1.56"
        );
        assert_eq!(
            ApiVersion::v1(20).supported().unwrap_err().to_string(),
            "client version 1.20 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
        );
        assert_eq!(ApiVersion::v1(24).supported(), Ok(MIN));
        assert_eq!(ApiVersion::v1(56).supported(), Ok(MAX));
    }

    #[test]
    fn a_client_speaks_the_older_of_both() {
        assert_eq!(ApiVersion::negotiate(Some(ApiVersion::v1(41))), ApiVersion::v1(41));
        assert_eq!(ApiVersion::negotiate(Some(ApiVersion::v1(99))), MAX);
        assert_eq!(ApiVersion::negotiate(None), MIN);
    }
}
