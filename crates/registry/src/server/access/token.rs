//! Tokens of the Docker token protocol: signed JSON that says what its bearer may do.
//!
//! Signatures are RS256 or ES256, by a key of the file that the registry was given; certificates and keys that a token
//! brings with it are not looked at. A certificate in the file stands for its key.

use crate::keys::{self, Key};
use std::fmt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde::Deserialize;

use super::{Action, Error};

/// The longest token: one for hundreds of repositories is a fifth of it.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// The largest file of keys.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The most keys: each is tried in turn.
const KEYS_MAX: usize = 32;
/// How much two machines' clocks may differ.
const LEEWAY_S: f64 = 60.0;

/// Whose tokens are accepted.
#[derive(Clone)]
pub struct Tokens {
    realm: String,
    service: String,
    issuer: String,
    keys: Vec<Key>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tokens").field("issuer", &self.issuer).field("keys", &self.keys.len()).finish()
    }
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Wrong {
    /// It is none.
    #[error("malformed token")]
    Malformed,
    /// Its signature is of an unknown kind.
    #[error("unsupported signature algorithm")]
    Algorithm,
    /// No key fits its signature.
    #[error("the signature is of none of the keys")]
    Signature,
    /// It is somebody else's.
    #[error("unexpected issuer")]
    Issuer,
    /// It is for somebody else.
    #[error("the token is for another service")]
    Audience,
    /// Its time is over, or has not begun.
    #[error("the token is not valid at this time")]
    Time,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
}

/// What a token says.
#[derive(Debug, Deserialize)]
pub struct Claims {
    iss: Option<String>,
    #[serde(default)]
    sub: String,
    aud: Option<Audience>,
    exp: Option<f64>,
    nbf: Option<f64>,
    #[serde(default)]
    access: Option<Vec<Grant>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct Grant {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    #[serde(default)]
    actions: Vec<String>,
}

impl Claims {
    /// Whose it is.
    pub fn subject(&self) -> &str {
        &self.sub
    }

    /// Repositories and what may be done with them.
    pub(super) fn rights(&self) -> impl Iterator<Item = (String, &'static str)> {
        let grants = self.access.iter().flatten();
        grants.flat_map(|grant| {
            let actions = grant.actions.iter().map(String::as_str);
            actions.flat_map(move |action| {
                let granted: &[Action] = match (grant.kind.as_str(), action) {
                    ("registry", "*") if grant.name == "catalog" => &[Action::Catalog],
                    ("repository", "*") => &[Action::Pull, Action::Push, Action::Delete],
                    ("repository", "pull") => &[Action::Pull],
                    ("repository", "push") => &[Action::Push],
                    ("repository", "delete") => &[Action::Delete],
                    _ => &[],
                };
                granted.iter().map(move |action| match action {
                    Action::Catalog => (String::new(), action.as_str()),
                    action => (grant.name.clone(), action.as_str()),
                })
            })
        })
    }
}

impl Tokens {
    /// Tokens by `issuer` for `service`, signed by a key of the PEM file; `realm` is where clients get them.
    pub fn open(realm: &str, service: &str, issuer: &str, keys: &Path) -> Result<Self, Error> {
        use std::io::Read as _;
        let mut pem = String::new();
        let read =
            std::fs::File::open(keys).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut pem));
        read.map_err(|source| Error::Read { path: keys.to_owned(), source })?;
        let wrong = |reason| Error::Keys { path: keys.to_owned(), reason };
        let found = keys::keys(&pem);
        if found.is_empty() {
            return Err(wrong("no public key and no certificate with an RSA or P-256 key"));
        }
        if found.len() > KEYS_MAX {
            return Err(wrong("too many keys"));
        }
        Ok(Self::new(realm, service, issuer, found))
    }

    /// As [`Tokens::open`], with the keys themselves.
    pub fn new(realm: &str, service: &str, issuer: &str, keys: Vec<Key>) -> Self {
        Self { realm: realm.to_owned(), service: service.to_owned(), issuer: issuer.to_owned(), keys }
    }

    pub(super) fn challenge(&self) -> String {
        format!("Bearer realm=\"{}\",service=\"{}\"", self.realm, self.service)
    }

    /// What a token says, if it is to be believed.
    pub fn verify(&self, token: &str) -> Result<Claims, Wrong> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Wrong::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Wrong::Malformed)?;
        let (head, claims) = signed.split_once('.').ok_or(Wrong::Malformed)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| Wrong::Malformed);
        let head: Head = serde_json::from_slice(&decode(head)?).map_err(|_| Wrong::Malformed)?;
        let (signature, message) = (decode(signature)?, signed.as_bytes());
        let fits = |key: &Key| match (key, head.alg.as_str()) {
            (Key::Rsa(key), "RS256") => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(message, &signature).is_ok()
            }
            (Key::P256(key), "ES256") => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, &signature).is_ok()
            }
            _ => false,
        };
        if !matches!(head.alg.as_str(), "RS256" | "ES256") {
            return Err(Wrong::Algorithm);
        }
        // Before anything in it is believed.
        if !self.keys.iter().any(fits) {
            return Err(Wrong::Signature);
        }
        let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| Wrong::Malformed)?;
        self.check(&claims)?;
        Ok(claims)
    }

    fn check(&self, claims: &Claims) -> Result<(), Wrong> {
        if claims.iss.as_deref() != Some(self.issuer.as_str()) {
            return Err(Wrong::Issuer);
        }
        let for_us = match &claims.aud {
            None => false,
            Some(Audience::One(one)) => *one == self.service,
            Some(Audience::Many(many)) => many.contains(&self.service),
        };
        if !for_us {
            return Err(Wrong::Audience);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let over = claims.exp.is_none_or(|end| now > end + LEEWAY_S);
        if over || claims.nbf.is_some_and(|begin| now + LEEWAY_S < begin) {
            return Err(Wrong::Time);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::json;

    struct Signer(EcdsaKeyPair);

    impl Signer {
        fn new() -> Self {
            let random = SystemRandom::new();
            let document =
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random);
            Self(pair.expect("a key"))
        }

        fn tokens(&self) -> Tokens {
            Tokens::new("r", "here", "us", vec![Key::P256(self.0.public_key().as_ref().to_vec())])
        }

        fn sign(&self, alg: &str, claims: &serde_json::Value) -> String {
            let head = URL_SAFE_NO_PAD.encode(json!({ "alg": alg }).to_string());
            let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
            let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
        }
    }

    #[test]
    fn tokens_that_are_believed_and_not() {
        let (signer, other) = (Signer::new(), Signer::new());
        let tokens = signer.tokens();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let access = json!([{"type": "repository", "name": "a/b", "actions": ["pull", "push"]}]);
        let good =
            json!({"iss": "us", "aud": ["x", "here"], "sub": "ada", "exp": now + 60, "access": access});
        let claims = tokens.verify(&signer.sign("ES256", &good)).unwrap();
        assert_eq!(claims.subject(), "ada");
        let rights: Vec<_> = claims.rights().collect();
        assert_eq!(rights, [("a/b".to_owned(), "pull"), ("a/b".to_owned(), "push")]);
        let but = |key: &str, value: serde_json::Value| {
            let mut claims = good.clone();
            claims[key] = value;
            tokens.verify(&signer.sign("ES256", &claims)).unwrap_err()
        };
        assert_eq!(but("iss", json!("them")), Wrong::Issuer);
        assert_eq!(but("aud", json!("there")), Wrong::Audience);
        assert_eq!(but("exp", json!(now - 3600)), Wrong::Time);
        assert_eq!(but("exp", json!(null)), Wrong::Time);
        assert_eq!(but("nbf", json!(now + 3600)), Wrong::Time);
        assert_eq!(tokens.verify(&other.sign("ES256", &good)).unwrap_err(), Wrong::Signature);
        assert_eq!(tokens.verify(&signer.sign("none", &good)).unwrap_err(), Wrong::Algorithm);
        assert_eq!(tokens.verify(&signer.sign("RS256", &good)).unwrap_err(), Wrong::Signature);
        assert_eq!(tokens.verify("a.b").unwrap_err(), Wrong::Malformed);
        assert_eq!(tokens.verify(&"x".repeat(20_000)).unwrap_err(), Wrong::Malformed);
    }
}
