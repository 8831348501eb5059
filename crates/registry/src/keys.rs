//! As much of DER as finds a public key (RFC 5280, `SubjectPublicKeyInfo`): in a PEM file of keys or of certificates.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const OBJECT: u8 = 0x06;
/// The version of a certificate.
const VERSION: u8 = 0xa0;

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ELLIPTIC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const EDWARDS: &[u8] = &[0x2b, 0x65, 0x70];

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// RSA: modulus and exponent, in DER.
    Rsa(Vec<u8>),
    /// A point of the curve P-256.
    P256(Vec<u8>),
    /// A point of the curve P-384.
    P384(Vec<u8>),
    /// Ed25519.
    Edwards(Vec<u8>),
}

/// The public keys in a PEM file. What is neither a public key nor a certificate is passed over.
pub fn keys(pem: &str) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = pem;
    while let Some((_, block)) = rest.split_once("-----BEGIN ") {
        let Some((label, body)) = block.split_once("-----") else { break };
        let Some((body, after)) = body.split_once("-----END ") else { break };
        rest = after;
        let text: String = body.split_whitespace().collect();
        let Ok(der) = STANDARD.decode(text) else { continue };
        keys.extend(match label {
            "PUBLIC KEY" => public_key(&der),
            "CERTIFICATE" => of_certificate(&der),
            _ => None,
        });
    }
    keys
}

/// Takes one element off the front: what it is, what it holds, what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        // Nothing here is longer than four bytes can say.
        if count == 0 || count > 4 || rest.len() < count {
            return None;
        }
        let (digits, rest) = rest.split_at(count);
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    (rest.len() >= length).then(|| (tag, &rest[..length], &rest[length..]))
}

fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    element(bytes).filter(|found| found.0 == tag).map(|(_, content, rest)| (content, rest))
}

/// Reads a `SubjectPublicKeyInfo`.
fn public_key(der: &[u8]) -> Option<Key> {
    let (info, _) = expect(der, SEQUENCE)?;
    let (algorithm, rest) = expect(info, SEQUENCE)?;
    let (kind, parameters) = expect(algorithm, OBJECT)?;
    // The first byte says how many bits of the last are none of the key's: none.
    let (key, _) = expect(rest, BIT_STRING).filter(|(bits, _)| bits.first() == Some(&0))?;
    let key = key.get(1..)?.to_vec();
    match kind {
        RSA => Some(Key::Rsa(key)),
        ELLIPTIC => match expect(parameters, OBJECT)?.0 {
            P256 => Some(Key::P256(key)),
            P384 => Some(Key::P384(key)),
            _ => None,
        },
        EDWARDS => Some(Key::Edwards(key)),
        _ => None,
    }
}

/// Finds the public key of a certificate.
fn of_certificate(der: &[u8]) -> Option<Key> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut body, _) = expect(certificate, SEQUENCE)?;
    if let Some((_, rest)) = expect(body, VERSION) {
        body = rest;
    }
    // Number, algorithm, issuer, validity, subject.
    for _ in 0..5 {
        body = element(body)?.2;
    }
    let (_, _, after) = element(body)?;
    public_key(&body[..body.len() - after.len()])
}
