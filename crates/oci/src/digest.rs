//! Content digests: `sha256:<64 hexadecimal digits>`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;

/// A hash function that a digest may be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, the one in general use.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hexadecimal digits a digest of it has.
    pub const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The digest of some content, in its one canonical spelling. Cheap to clone.
///
/// A value of this type is always well formed: its text has no `/`, no `.`, and a known length, so it may become part
/// of a file's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    text: Arc<str>,
    algorithm: Algorithm,
}

impl Digest {
    /// Reads `algorithm:hex`. Only lower-case digits of exactly the right number are accepted.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (name, hex) = text.split_once(':').ok_or(Error::InvalidDigest)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha384" => Algorithm::Sha384,
            "sha512" => Algorithm::Sha512,
            _ if is_algorithm_name(name) => return Err(Error::UnsupportedAlgorithm),
            _ => return Err(Error::InvalidDigest),
        };
        if hex.is_empty()
            || !hex.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b'_' | b'-'))
        {
            return Err(Error::InvalidDigest);
        }
        if hex.len() != algorithm.hex_len() {
            return Err(Error::DigestLength);
        }
        if !is_lower_hex(hex) {
            return Err(Error::InvalidDigest);
        }
        Ok(Self { text: Arc::from(text), algorithm })
    }

    /// The SHA-256 digest with these 32 bytes.
    pub fn from_sha256(bytes: [u8; 32]) -> Self {
        Self { text: Arc::from(format!("sha256:{}", hex::encode(bytes))), algorithm: Algorithm::Sha256 }
    }

    /// The SHA-256 digest with these 64 hexadecimal digits, as in the name of a blob's file.
    pub fn from_sha256_hex(hex: &str) -> Result<Self, Error> {
        Self::parse(&format!("sha256:{hex}"))
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.as_str().len() + 1..]
    }

    /// The first 12 digits, as people see them.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Whether the text has the form of an algorithm's name: words joined by `+`, `.`, `_` or `-`.
fn is_algorithm_name(name: &str) -> bool {
    name.split(['+', '.', '_', '-'])
        .all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

/// Whether the text is made of lower-case hexadecimal digits alone.
pub(crate) fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl AsRef<str> for Digest {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Digest({})", self.text)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|error| D::Error::custom(format!("{error}: {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn parts_of_a_digest() {
        let digest = Digest::parse(EMPTY).unwrap();
        assert_eq!(digest.algorithm(), Algorithm::Sha256);
        assert_eq!(digest.hex(), &EMPTY[7..]);
        assert_eq!(digest.short(), "e3b0c44298fc");
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(serde_json::to_string(&digest).unwrap(), format!("\"{EMPTY}\""));
        assert_eq!(serde_json::from_str::<Digest>(&format!("\"{EMPTY}\"")).unwrap(), digest);
        assert!(Digest::parse(&format!("sha512:{}", "a".repeat(128))).is_ok());
    }

    #[test]
    fn what_is_no_digest() {
        let upper = EMPTY.to_uppercase().replace("SHA256", "sha256");
        let cases = [
            ("", "invalid checksum digest format"),
            ("sha256", "invalid checksum digest format"),
            ("sha256:", "invalid checksum digest format"),
            ("sha256:abc", "invalid checksum digest length"),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", "unsupported digest algorithm"),
            (
                "sha256:../../../../../../../../../../../../../../../../../../../../etc",
                "invalid checksum digest format",
            ),
            (&upper, "invalid checksum digest format"),
            (":abc", "invalid checksum digest format"),
        ];
        for (text, words) in cases {
            assert_eq!(Digest::parse(text).unwrap_err().to_string(), words, "{text}");
        }
    }

    proptest! {
        #[test]
        fn bytes_make_a_digest_that_parses(bytes: [u8; 32]) {
            let digest = Digest::from_sha256(bytes);
            prop_assert_eq!(Digest::parse(digest.as_str()).unwrap(), digest.clone());
            prop_assert_eq!(Digest::from_sha256_hex(digest.hex()).unwrap(), digest);
        }

        #[test]
        fn what_parses_is_safe_as_a_file_name(text in ".{0,140}") {
            if let Ok(digest) = Digest::parse(&text) {
                prop_assert!(is_lower_hex(digest.hex()));
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
