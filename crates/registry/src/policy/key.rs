//! Public keys as `cosign generate-key-pair` and OpenSSL write them (RFC 5280, SubjectPublicKeyInfo, in PEM).

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;

/// Object identifiers, without tag and length.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EDWARDS: &[u8] = &[0x2b, 0x65, 0x70];
/// DER's tags.
const BIT_STRING: u8 = 0x03;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

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
    /// Reads the first public key of a PEM file.
    pub(super) fn parse(pem: &[u8]) -> Result<Self, String> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem)
            .map_err(|_| "it is no public key in PEM form (BEGIN PUBLIC KEY)".to_owned())?;
        Self::of_der(&der)
    }

    pub(super) fn of_der(der: &[u8]) -> Result<Self, String> {
        let damaged = || "it is damaged".to_owned();
        let (whole, rest) = value(der, SEQUENCE).ok_or_else(damaged)?;
        let (kind, bits) = value(whole, SEQUENCE).ok_or_else(damaged)?;
        let (name, parameters) = value(kind, OBJECT).ok_or_else(damaged)?;
        let (bits, after) = value(bits, BIT_STRING).ok_or_else(damaged)?;
        // The first byte counts the bits that are not used: none.
        let key =
            bits.strip_prefix(&[0]).filter(|_| rest.is_empty() && after.is_empty()).ok_or_else(damaged)?;
        let algorithm: &'static dyn VerificationAlgorithm = match name {
            EC => match value(parameters, OBJECT).ok_or_else(damaged)?.0 {
                P256 => &ECDSA_P256_SHA256_ASN1,
                P384 => &ECDSA_P384_SHA256_ASN1,
                _ => return Err("its curve is neither P-256 nor P-384".to_owned()),
            },
            RSA => &RSA_PKCS1_2048_8192_SHA256,
            EDWARDS => &ED25519,
            _ => return Err("it is neither ECDSA, RSA nor Ed25519".to_owned()),
        };
        Ok(Self { algorithm, key: key.to_vec() })
    }

    /// Whether this key has signed a message.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm, &self.key).verify(message, signature).is_ok()
    }
}

/// The content of a DER value with this tag, and what follows it.
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let rest = der.strip_prefix(&[tag])?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // Keys are longer than 127 bytes, and shorter than 64 KiB.
        0x81 | 0x82 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}
