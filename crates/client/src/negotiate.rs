//! API versions, and how the one to speak is found.

use std::fmt;
use std::str::FromStr;

/// The newest version of the API that this client speaks.
pub const NEWEST_API: Version = Version { major: 1, minor: 56 };

/// The oldest version of the API that this client speaks.
pub const OLDEST_API: Version = Version { major: 1, minor: 24 };

/// A version of the Engine API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The part before the dot.
    pub major: u16,
    /// The part after it.
    pub minor: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (major, minor) = text.split_once('.').ok_or(())?;
        let digits = |s: &str| {
            if s.is_empty() || !s.bytes().all(|b| b.is_ascii_digit()) {
                return Err(());
            }
            s.parse().map_err(drop)
        };
        Ok(Self { major: digits(major)?, minor: digits(minor)? })
    }
}

/// The version to try next, when a daemon refused `tried` with `status` and `message`; `header` is
/// its `Api-Version`. None when the refusal was about something else.
pub(crate) fn downgrade(
    tried: Version,
    status: u16,
    header: Option<Version>,
    message: &str,
) -> Option<Version> {
    if status != 400 || !message.contains("is too new") {
        return None;
    }
    let stated = message.rsplit(' ').filter_map(|word| word.trim_end_matches('.').parse().ok());
    stated.chain(header).find(|next| *next < tried && *next >= OLDEST_API)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let v = |s: &str| s.parse::<Version>().unwrap();
        assert!(v("1.9") < v("1.41"));
        assert_eq!(v("v1.41").to_string(), "1.41");
        for bad in ["", "1", "1.", ".1", "1.x", "+1.2", "1.2.3", "1.99999999"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_daemons_maximum_is_taken_from_its_refusal() {
        let text = "client version 1.56 is too new. Maximum supported API version is 1.41";
        assert_eq!(downgrade(NEWEST_API, 400, None, text), "1.41".parse().ok());
        assert_eq!(downgrade(NEWEST_API, 404, None, text), None);
        assert_eq!(downgrade(NEWEST_API, 400, None, "invalid reference format"), None);
        // A daemon that names a version no lower than the one refused must not make us loop.
        let liar = "client version 1.56 is too new. Maximum supported API version is 1.56";
        assert_eq!(downgrade(NEWEST_API, 400, None, liar), None);
        let header = "1.40".parse().ok();
        assert_eq!(downgrade(NEWEST_API, 400, header, "client version 1.56 is too new"), header);
    }
}
