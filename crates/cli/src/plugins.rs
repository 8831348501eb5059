//! Docker's CLI plugins: programs named `docker-NAME` that describe themselves when asked.
//!
//! ```text
//!  ours                                     docker-NAME
//!   | docker-cli-plugin-metadata ----------->|
//!   |<--------------- {"SchemaVersion": …} --|
//!   | [global flags] NAME args… ------------>|  takes our place at the terminal
//! ```

use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::session::Session;

/// The word that asks a plugin to describe itself.
const METADATA: &str = "docker-cli-plugin-metadata";
/// Where plugins lie besides the user's folder, in Docker's order.
const FOLDERS: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];

/// A plugin that described itself.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// The command it adds.
    pub name: String,
    /// Its program.
    pub path: PathBuf,
    /// What it does.
    pub about: String,
    /// Its version.
    pub version: String,
    /// Who makes it.
    pub vendor: String,
}

fn folders(session: &Session) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        session.config.texts("cliPluginsExtraDirs").into_iter().map(PathBuf::from).collect();
    folders.push(session.config.folder().join("cli-plugins"));
    folders.extend(FOLDERS.iter().map(PathBuf::from));
    folders
}

fn executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A plugin's name is a word of small letters and digits, so that it cannot be a path.
fn valid(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn find(session: &Session, name: &str) -> Option<PathBuf> {
    if !valid(name) {
        return None;
    }
    folders(session)
        .into_iter()
        .map(|folder| folder.join(format!("docker-{name}")))
        .find(|path| executable(path))
}

fn describe(name: &str, path: PathBuf) -> std::result::Result<Plugin, String> {
    let output = Command::new(&path)
        .arg(METADATA)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|err| format!("failed to fetch metadata: {err}"))?;
    let json: Value =
        serde_json::from_slice(&output.stdout).map_err(|err| format!("failed to fetch metadata: {err}"))?;
    let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    if text("SchemaVersion") != "0.1.0" {
        return Err(format!("plugin SchemaVersion {:?} is not valid, must be 0.1.0", text("SchemaVersion")));
    }
    if text("Vendor").is_empty() {
        return Err("plugin metadata does not define a vendor".into());
    }
    Ok(Plugin {
        name: name.to_owned(),
        path,
        about: text("ShortDescription"),
        version: text("Version"),
        vendor: text("Vendor"),
    })
}

/// All plugins that can be used, by name.
pub fn all(session: &Session) -> Vec<Plugin> {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for folder in folders(session) {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let file = entry.file_name();
            let Some(name) = file.to_str().and_then(|file| file.strip_prefix("docker-")) else { continue };
            if valid(name) && executable(&entry.path()) {
                found.entry(name.to_owned()).or_insert_with(|| entry.path());
            }
        }
    }
    found.into_iter().filter_map(|(name, path)| describe(&name, path).ok()).collect()
}

/// Runs the plugin of a name, if there is one. It gets the global flags as they were typed, its own name and
/// the rest, and the address of the daemon that we would speak with.
pub fn run(session: &Session, name: &str, globals: &[String], args: &[String]) -> Result<Option<i32>> {
    let Some(path) = find(session, name) else { return Ok(None) };
    let plugin = describe(name, path).map_err(|why| Error::Message(format!("plugin {name:?}: {why}")))?;
    let mut command = Command::new(&plugin.path);
    command.arg0(&plugin.path).args(globals).arg(name).args(args);
    if let Ok(program) = std::env::current_exe() {
        // Plugins call back through this (the credential store, `docker context`).
        command.env("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", program);
    }
    let target = session.target()?;
    if target.origin == client::Origin::Default && std::env::var_os("DOCKER_HOST").is_none() {
        // A plugin knows Docker's default socket only, and cannot start our daemon.
        reach(session, &target)?;
        command.env("DOCKER_HOST", format!("unix://{}", session.settings.default_socket().display()));
    }
    let status = command.status().map_err(|source| Error::File {
        verb: "running",
        path: plugin.path.display().to_string(),
        source,
    })?;
    Ok(Some(status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1)))
}

/// Sees to it that a daemon listens on the default socket. A failure is left to the plugin to tell: not every
/// command of it needs a daemon.
fn reach(session: &Session, target: &client::Target) -> Result<()> {
    if std::os::unix::net::UnixStream::connect(session.settings.default_socket()).is_err()
        && let Err(err) = crate::autostart::start(target)
    {
        session.note(&crate::error::told(&err));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugins_name_is_no_path() {
        assert!(valid("compose") && valid("a1"));
        for bad in ["", "../x", "a/b", "A", "1a", "a-b", "a.b"] {
            assert!(!valid(bad), "{bad}");
        }
    }

    #[test]
    fn a_program_that_does_not_describe_itself_is_no_plugin() {
        assert!(describe("true", "/bin/true".into()).is_err());
    }
}
