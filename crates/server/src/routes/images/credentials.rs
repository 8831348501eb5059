//! Who a client is to a registry: the header `X-Registry-Auth`, JSON in base64.

use crate::failure::Failure;
use api::system::AuthConfig;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use engine::images::Credentials;
use std::collections::BTreeMap;

/// Some clients pad, some do not.
const CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);

/// Reads the header; without one the client is nobody in particular.
pub(super) fn read(header: &str) -> Result<Credentials, Failure> {
    if header.is_empty() {
        return Ok(Credentials::Anonymous);
    }
    let wrong = |what: &str| Failure::invalid(format!("invalid X-Registry-Auth header: {what}"));
    let json = URL_SAFE
        .decode(header)
        .or_else(|_| STANDARD.decode(header))
        .map_err(|_| wrong("must be a valid base64url-encoded string"))?;
    let auth: Option<AuthConfig> = serde_json::from_slice(&json).map_err(|_| wrong("must be valid JSON"))?;
    of(auth.unwrap_or_default()).map_err(wrong)
}

/// Reads `X-Registry-Config`: names and passwords for several registries. Those with tokens alone are left out.
pub(crate) fn several(header: &str) -> Result<BTreeMap<String, (String, String)>, Failure> {
    if header.is_empty() {
        return Ok(BTreeMap::new());
    }
    let wrong = |what: &str| Failure::invalid(format!("invalid X-Registry-Config header: {what}"));
    let json = URL_SAFE
        .decode(header)
        .or_else(|_| STANDARD.decode(header))
        .map_err(|_| wrong("must be a valid base64url-encoded string"))?;
    let all: Option<BTreeMap<String, AuthConfig>> =
        serde_json::from_slice(&json).map_err(|_| wrong("must be valid JSON"))?;
    let mut known = BTreeMap::new();
    for (host, auth) in all.unwrap_or_default() {
        if let Credentials::Basic { username, password } = of(auth).map_err(wrong)? {
            known.insert(host, (username, password));
        }
    }
    Ok(known)
}

/// What a client says of itself; what is wrong with it.
pub(super) fn of(auth: AuthConfig) -> Result<Credentials, &'static str> {
    if !auth.registry_token.is_empty() {
        return Ok(Credentials::Bearer { token: auth.registry_token });
    }
    if !auth.identity_token.is_empty() {
        return Ok(Credentials::Identity { token: auth.identity_token });
    }
    if !auth.username.is_empty() {
        return Ok(Credentials::Basic { username: auth.username, password: auth.password });
    }
    if auth.auth.is_empty() {
        return Ok(Credentials::Anonymous);
    }
    let pair = STANDARD.decode(&auth.auth).ok().and_then(|pair| String::from_utf8(pair).ok());
    match pair.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((username, password)) => {
            let password = password.trim_end_matches('\0');
            Ok(Credentials::Basic { username: username.to_owned(), password: password.to_owned() })
        }
        None => Err("auth must be username:password in base64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(json: &str) -> String {
        match read(&URL_SAFE.encode(json)) {
            Ok(Credentials::Anonymous) => "anonymous".to_owned(),
            Ok(Credentials::Basic { username, password }) => format!("basic {username} {password}"),
            Ok(Credentials::Identity { token }) => format!("identity {token}"),
            Ok(Credentials::Bearer { token }) => format!("bearer {token}"),
            Err(failure) => format!("{} {}", failure.status.as_u16(), failure.message),
        }
    }

    #[test]
    fn clients_say_who_they_are_in_many_ways() {
        assert_eq!(kind("{}"), "anonymous");
        assert_eq!(kind("null"), "anonymous");
        assert_eq!(kind(r#"{"username":"ann","password":"p:w"}"#), "basic ann p:w");
        assert_eq!(kind(&format!(r#"{{"auth":"{}"}}"#, STANDARD.encode("ann:p:w"))), "basic ann p:w");
        assert_eq!(kind(r#"{"identitytoken":"t","username":"<token>"}"#), "identity t");
        assert_eq!(kind(r#"{"registrytoken":"t"}"#), "bearer t");
        assert_eq!(kind("{"), "400 invalid X-Registry-Auth header: must be valid JSON");
        assert_eq!(read("!").unwrap_err().status, 400);
        assert!(matches!(read(""), Ok(Credentials::Anonymous)));
    }

    #[test]
    fn padding_does_not_matter() {
        for header in ["e30=", "e30"] {
            assert!(matches!(read(header), Ok(Credentials::Anonymous)), "{header}");
        }
    }
}
