//! Keys whose signatures count: as `cosign generate-key-pair` and OpenSSL write them, in PEM.

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};

use crate::keys;

/// A key, and how what is signed with it is verified.
pub(super) struct Key {
    algorithm: &'static dyn VerificationAlgorithm,
    key: Vec<u8>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Key {
    /// Reads a PEM file with one public key.
    pub(super) fn parse(pem: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(pem).unwrap_or_default();
        let mut found = keys::keys(text);
        let (Some(key), true) = (found.pop(), found.is_empty()) else {
            return Err("it is not one public key in PEM form: ECDSA (P-256, P-384), RSA or Ed25519");
        };
        let (algorithm, key): (&'static dyn VerificationAlgorithm, _) = match key {
            keys::Key::Rsa(key) => (&RSA_PKCS1_2048_8192_SHA256, key),
            keys::Key::P256(key) => (&ECDSA_P256_SHA256_ASN1, key),
            keys::Key::P384(key) => (&ECDSA_P384_SHA256_ASN1, key),
            keys::Key::Edwards(key) => (&ED25519, key),
        };
        Ok(Self { algorithm, key })
    }

    /// Whether this key has signed a message.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm, &self.key).verify(message, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Key;

    /// From RFC 8410, section 10.1.
    const EDWARDS: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

    #[test]
    fn one_key_of_a_known_kind() {
        assert!(Key::parse(EDWARDS.as_bytes()).is_ok());
        assert!(Key::parse(EDWARDS.repeat(2).as_bytes()).is_err());
        for wrong in ["", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
            assert!(Key::parse(wrong.as_bytes()).is_err());
        }
    }
}
