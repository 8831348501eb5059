//! Credentials for registries: in `auths` of the configuration, by helper programs, and encrypted by ourselves.
//!
//! ```text
//! credHelpers[registry], credsStore  ->  docker-credential-<name> get|store|erase
//!                     "corten"       ->  the vault; other tools ask it by docker-credential-corten, which is this program
//! auths[registry]                    ->  {"auth": base64 of user:password}, {"identitytoken": …}
//! ```

mod external;
mod vault;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Serialize;
use serde_json::{Map, Value};

pub use external::Entry;
pub use vault::{Secret, Vault};

use crate::config::ConfigFile;
use crate::error::{Error, Result};

/// The name under which Docker Hub's credentials are kept.
const HUB: &str = "https://index.docker.io/v1/";
/// Our own helper, `docker-credential-corten`.
pub const OWN: &str = "corten";
/// The user's name in place of which a token is kept.
const TOKEN_USER: &str = "<token>";

/// What a registry is told, through the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Auth {
    /// The user's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// A token instead of both.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identitytoken: String,
    /// A token for the registry.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registrytoken: String,
    /// The registry.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serveraddress: String,
}

impl Auth {
    /// The value of `X-Registry-Auth`.
    #[must_use]
    pub fn header(&self) -> String {
        URL_SAFE.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// The name under which a registry's credentials are kept: its host, or Docker Hub's old address.
#[must_use]
pub fn key_of(registry: &str) -> &str {
    match host_of(registry) {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB,
        host => host,
    }
}

/// The helper that has the credentials for a registry.
fn helper_for<'a>(config: &'a ConfigFile, server: &str) -> Option<&'a str> {
    config
        .object("credHelpers")
        .and_then(|helpers| helpers.get(server)?.as_str())
        .or_else(|| config.text("credsStore"))
        .filter(|name| !name.is_empty())
}

/// The credentials for `registry` (a host with its port, or `docker.io`).
pub fn find(config: &ConfigFile, registry: &str) -> Result<Auth> {
    let server = key_of(registry);
    let found = match helper_for(config, server) {
        Some(helper) if helper != OWN => return Ok(told(external::get(helper, server)?, server)),
        Some(_) => None,
        None => config.object("auths").and_then(|auths| {
            auths.get(server).or_else(|| {
                let wanted = host_of(server);
                auths.iter().find(|(key, _)| host_of(key) == wanted).map(|(_, entry)| entry)
            })
        }),
    };
    let auth = found.map_or_else(|| Ok(Auth::default()), |entry| decode(entry, server))?;
    let nothing = Auth { serveraddress: String::new(), ..auth.clone() } == Auth::default();
    // What this engine has kept where no helper was to be had.
    if nothing { Ok(told(Vault::of_user()?.get(server)?, server)) } else { Ok(auth) }
}

fn told(secret: Option<Secret>, server: &str) -> Auth {
    let serveraddress = server.to_owned();
    match secret {
        None => Auth::default(),
        Some(Secret { username, secret }) if username == TOKEN_USER => {
            Auth { identitytoken: secret, serveraddress, ..Auth::default() }
        }
        Some(Secret { username, secret }) => {
            Auth { username, password: secret, serveraddress, ..Auth::default() }
        }
    }
}

/// The host of a key such as `https://host/v1/`.
fn host_of(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    key.split('/').next().unwrap_or(key)
}

fn decode(entry: &Value, server: &str) -> Result<Auth> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut auth = Auth {
        username: text("username"),
        password: text("password"),
        identitytoken: text("identitytoken"),
        registrytoken: text("registrytoken"),
        serveraddress: server.to_owned(),
    };
    let encoded = text("auth");
    if !encoded.is_empty() {
        let bad = || Error::Credentials(format!("invalid auth configuration file for {server}"));
        let plain = STANDARD.decode(encoded.trim()).map_err(|_| bad())?;
        let plain = String::from_utf8(plain).map_err(|_| bad())?;
        let (user, password) = plain.split_once(':').ok_or_else(bad)?;
        user.clone_into(&mut auth.username);
        password.trim_matches('\0').clone_into(&mut auth.password);
    }
    Ok(auth)
}

/// What a registry gave us to know us by, or what the user typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// By a helper program, called so.
    Helper(String),
    /// Encrypted, in a file that only this engine knows of: the helper through which other tools find it is not there.
    Vault,
    /// As text that everybody can read who can read the file.
    Plain,
}

/// Keeps credentials where the configuration says, else encrypted; `plain` asks for neither. Says where.
pub fn keep(config: &mut ConfigFile, auth: &Auth, plain: bool) -> Result<Kept> {
    let server = key_of(&auth.serveraddress);
    let secret = match auth.identitytoken.as_str() {
        "" => Secret { username: auth.username.clone(), secret: auth.password.clone() },
        token => Secret { username: TOKEN_USER.to_owned(), secret: token.to_owned() },
    };
    let kept = match helper_for(config, server) {
        Some(helper) if plain && helper != OWN => {
            let text = format!(
                "config.json has docker-credential-{helper} keep passwords: none is written there as text"
            );
            return Err(Error::Credentials(text));
        }
        Some(OWN) | None if plain => {
            // No helper for this one, also where there is one for all.
            config.set_entry(
                "credHelpers",
                server,
                config.text("credsStore").map(|_| Value::String(String::new())),
            );
            Kept::Plain
        }
        Some(helper) => Kept::Helper(helper.to_owned()),
        None if !external::exists(OWN) => Kept::Vault,
        None => {
            // Whatever else stands there as text would not be found any more behind a store for all.
            if !has_plain(config) {
                config.set("credsStore", Some(OWN));
            }
            Kept::Helper(OWN.to_owned())
        }
    };
    if kept == Kept::Helper(OWN.to_owned()) {
        // Podman and skopeo of before 2024 look here alone, and call Docker Hub by its name.
        let name = if server == HUB { "docker.io" } else { server };
        for name in [server, name] {
            config.set_entry("credHelpers", name, Some(Value::String(OWN.to_owned())));
        }
    }
    let mut entry = Map::new();
    match &kept {
        Kept::Helper(name) if name != OWN => external::store(name, server, &secret)?,
        Kept::Helper(_) | Kept::Vault => Vault::of_user()?.put(server, &secret)?,
        Kept::Plain if secret.username == TOKEN_USER => {
            entry.insert("auth".into(), STANDARD.encode(format!("{}:", auth.username)).into());
            entry.insert("identitytoken".into(), secret.secret.into());
        }
        Kept::Plain => {
            let pair = STANDARD.encode(format!("{}:{}", secret.username, secret.secret));
            entry.insert("auth".into(), pair.into());
        }
    }
    // An empty entry says that there is one, as Docker's command line writes it.
    config.set_entry("auths", server, Some(Value::Object(entry)));
    config.save()?;
    Ok(kept)
}

/// Forgets the credentials for a registry, wherever they are; whether there were any.
pub fn forget(config: &mut ConfigFile, registry: &str) -> Result<bool> {
    let server = key_of(registry);
    let (mut known, mut stale) = (false, false);
    // As others may have written it.
    for name in [server.to_owned(), format!("https://{server}"), format!("http://{server}")] {
        if config.object("auths").is_some_and(|auths| auths.contains_key(&name)) {
            config.set_entry("auths", &name, None);
            known = true;
        }
    }
    match helper_for(config, server) {
        Some(helper) if helper != OWN => {
            known |= external::get(helper, server)?.is_some();
            external::erase(helper, server)?;
        }
        _ => known |= Vault::of_user()?.remove(server)?,
    }
    for name in [server, host_of(registry)] {
        let named = config.object("credHelpers").and_then(|helpers| helpers.get(name)?.as_str());
        if matches!(named, Some(OWN | "")) {
            // Docker's own logout leaves this standing.
            config.set_entry("credHelpers", name, None);
            stale = true;
        }
    }
    if known || stale {
        config.save()?;
    }
    Ok(known)
}

/// Whether secrets stand in the file as text.
fn has_plain(config: &ConfigFile) -> bool {
    let secret = |entry: &Value| {
        ["auth", "password", "identitytoken", "registrytoken"]
            .iter()
            .any(|key| entry.get(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty()))
    };
    config.object("auths").is_some_and(|auths| auths.values().any(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> (tempfile::TempDir, ConfigFile) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        let config = ConfigFile::load(folder.path()).unwrap();
        (folder, config)
    }

    #[test]
    fn auths_are_found_by_name_and_by_host() {
        let encoded = STANDARD.encode("me:pw:with:colons");
        let text = format!(
            r#"{{"auths":{{"https://r.example/v1/":{{"auth":"{encoded}"}},"{HUB}":{{"identitytoken":"t"}}}}}}"#
        );
        let (_folder, config) = config(&text);
        let auth = find(&config, "r.example").unwrap();
        assert_eq!((auth.username.as_str(), auth.password.as_str()), ("me", "pw:with:colons"));
        assert_eq!(find(&config, "docker.io").unwrap().identitytoken, "t");
        assert_eq!(find(&config, "other").unwrap(), Auth::default());
        assert_eq!(Auth::default().header(), "e30=");
    }

    #[test]
    fn a_missing_helper_is_an_error() {
        let (_folder, config) = config(r#"{"credsStore":"no-such-helper-here"}"#);
        let err = find(&config, "x").unwrap_err().to_string();
        assert!(
            err.starts_with(
                "error getting credentials - err: exec: \"docker-credential-no-such-helper-here\""
            ),
            "{err}"
        );
    }
}
