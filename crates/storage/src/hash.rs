//! Digests over streams.

use oci::{Algorithm, Digest};
use sha2::Digest as _;

use crate::error::{Error, Result};

/// A digest in the making.
#[derive(Clone)]
pub enum Hasher {
    /// SHA-256.
    Sha256(Box<sha2::Sha256>),
    /// SHA-384.
    Sha384(Box<sha2::Sha384>),
    /// SHA-512.
    Sha512(Box<sha2::Sha512>),
}

impl Hasher {
    /// A hasher for digests of this kind.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Box::default()),
            Algorithm::Sha384 => Self::Sha384(Box::default()),
            Algorithm::Sha512 => Self::Sha512(Box::default()),
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha384(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all bytes.
    pub fn finish(self) -> Result<Digest> {
        let (name, hex) = match self {
            Self::Sha256(hasher) => ("sha256", hex::encode(hasher.finalize())),
            Self::Sha384(hasher) => ("sha384", hex::encode(hasher.finalize())),
            Self::Sha512(hasher) => ("sha512", hex::encode(hasher.finalize())),
        };
        Digest::parse(&format!("{name}:{hex}")).map_err(|error| Error::layer(error.to_string()))
    }
}

/// The digest of bytes in memory, by the same function as `like`.
pub fn digest_like(like: &Digest, bytes: &[u8]) -> Result<Digest> {
    let mut hasher = Hasher::new(like.algorithm());
    hasher.update(bytes);
    hasher.finish()
}

/// The SHA-256 digest of bytes in memory.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(sha2::Sha256::digest(bytes).into())
}
