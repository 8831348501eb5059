//! Docker's protocol for credential helpers: `docker-credential-<name> get|store|erase`, told by standard input.

use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use super::Secret;
use crate::error::{Error, Result};

/// What a helper says is a name and a password.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// What helpers say of a registry they have nothing for.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// What a helper prints, and is told.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// The registry.
    #[serde(rename = "ServerURL", default)]
    pub server: String,
    /// The name; `<token>` where the secret is a token.
    #[serde(default)]
    pub username: String,
    /// The password or token.
    #[serde(default)]
    pub secret: String,
}

fn program(helper: &str) -> String {
    format!("docker-credential-{helper}")
}

/// Whether there is such a helper.
pub(super) fn exists(helper: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| {
        let found = std::fs::metadata(folder.join(program(helper)));
        found.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

/// What a helper has for a registry.
pub(super) fn get(helper: &str, server: &str) -> Result<Option<Secret>> {
    let Some(said) = run(helper, "get", server.as_bytes())? else { return Ok(None) };
    let entry: Entry = serde_json::from_str(&said).map_err(|err| {
        Error::Credentials(format!("what {} printed cannot be read: {err}", program(helper)))
    })?;
    Ok(Some(Secret { username: entry.username, secret: entry.secret }))
}

/// Gives a helper something to keep.
pub(super) fn store(helper: &str, server: &str, secret: &Secret) -> Result<()> {
    let Secret { username, secret } = secret.clone();
    let entry = Entry { server: server.to_owned(), username, secret };
    let text = serde_json::to_vec(&entry).map_err(|err| Error::Credentials(err.to_string()))?;
    run(helper, "store", &text).map(drop)
}

/// Has a helper forget a registry.
pub(super) fn erase(helper: &str, server: &str) -> Result<()> {
    run(helper, "erase", server.as_bytes()).map(drop)
}

/// What a helper says; `None` where it has nothing.
fn run(helper: &str, action: &str, told: &[u8]) -> Result<Option<String>> {
    let program = program(helper);
    let failed = |err: &dyn Display| Error::Credentials(format!("exec: \"{program}\": {err}"));
    let mut child = Command::new(&program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|err| {
            if err.kind() == std::io::ErrorKind::NotFound {
                failed(&"executable file not found in $PATH")
            } else {
                failed(&err)
            }
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input says why by its exit.
        let _ = stdin.write_all(told);
    }
    let said = hear(&mut child).map_err(|err| failed(&err));
    let status = child.wait().map_err(|err| failed(&err))?;
    let said = said?;
    let said = said.trim();
    match status.success() {
        true => Ok(Some(said.to_owned())),
        false if said.contains(NOT_FOUND) => Ok(None),
        false => Err(Error::Credentials(format!("{program} {action}: {status}, out: `{said}`"))),
    }
}

fn hear(child: &mut Child) -> std::io::Result<String> {
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(ANSWER_BYTES_MAX).read_to_string(&mut said)?;
    }
    Ok(said)
}
