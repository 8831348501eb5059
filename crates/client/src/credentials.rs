//! Credentials for registries, from `auths` and from helper programs.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::config::ConfigFile;
use crate::error::{Error, Result};

/// The name under which Docker Hub's credentials are kept.
const HUB: &str = "https://index.docker.io/v1/";

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

/// The credentials for `registry` (a host with its port, or `docker.io`).
pub fn find(config: &ConfigFile, registry: &str) -> Result<Auth> {
    let server = if matches!(registry, "docker.io" | "index.docker.io") { HUB } else { registry };
    let helper = config
        .object("credHelpers")
        .and_then(|helpers| helpers.get(server)?.as_str())
        .or_else(|| config.text("credsStore"))
        .filter(|name| !name.is_empty());
    if let Some(helper) = helper {
        return ask(helper, server);
    }
    let Some(auths) = config.object("auths") else { return Ok(Auth::default()) };
    let entry = auths.get(server).or_else(|| {
        let wanted = host_of(server);
        auths.iter().find(|(key, _)| host_of(key) == wanted).map(|(_, entry)| entry)
    });
    entry.map_or_else(|| Ok(Auth::default()), |entry| decode(entry, server))
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

/// What a helper prints.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

/// Asks `docker-credential-<helper> get`.
fn ask(helper: &str, server: &str) -> Result<Auth> {
    let program = format!("docker-credential-{helper}");
    let failed = |err: &dyn std::fmt::Display| Error::Credentials(format!("exec: \"{program}\": {err}"));
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|err| failed(&err))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input says why by its exit.
        let _ = stdin.write_all(server.as_bytes());
    }
    let output = child.wait_with_output().map_err(|err| failed(&err))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() {
        if said.contains("credentials not found") {
            return Ok(Auth::default());
        }
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Credentials(format!("{}, out: `{said}`{stderr}", output.status)));
    }
    let answer: Answer = serde_json::from_str(&said).map_err(|err| failed(&err))?;
    let serveraddress = server.to_owned();
    if answer.username == "<token>" {
        return Ok(Auth { identitytoken: answer.secret, serveraddress, ..Auth::default() });
    }
    Ok(Auth { username: answer.username, password: answer.secret, serveraddress, ..Auth::default() })
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
