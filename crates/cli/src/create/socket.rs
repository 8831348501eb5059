//! `--use-api-socket`: the daemon's socket in the container, and what the user has for registries, for tools that speak to it.

use api::container::Mount;
use client::Endpoint;
use client::config::ConfigFile;
use client::credentials::{self, Auth};
use serde_json::{Map, Value, json};

use super::Wanted;
use crate::error::{Error, Result};

/// Where Docker's tools look for it.
const SOCKET: &str = "/var/run/docker.sock";
/// The folder of the configuration inside, as Docker has it.
pub const CONFIG: &str = "/run/secrets/docker";
/// A block of an archive.
const BLOCK: usize = 512;

/// Mounts the socket; returns what is to be put into the container before it starts, as an archive to unpack at its root.
pub fn share(wanted: &mut Wanted, endpoint: &Endpoint, config: &ConfigFile) -> Result<Option<Vec<u8>>> {
    let Endpoint::Unix(path) = endpoint else {
        return Err(Error::say("--use-api-socket needs a daemon on this machine, at a unix socket"));
    };
    let request = &mut wanted.request;
    let host = request.host_config.get_or_insert_default();
    host.mounts.push(Mount {
        kind: "bind".into(),
        source: path.display().to_string(),
        target: SOCKET.to_owned(),
        ..Mount::default()
    });
    let known = known(config)?;
    if known.is_empty() || request.config.env.iter().any(|entry| entry.starts_with("DOCKER_CONFIG=")) {
        return Ok(None);
    }
    if !host.secrets.is_empty() {
        return Err(Error::say(
            "--use-api-socket hands passwords over in /run/secrets, which --secret needs: set DOCKER_CONFIG (--env) to hand over none",
        ));
    }
    request.config.env.push(format!("DOCKER_CONFIG={CONFIG}"));
    let text = json!({ "auths": known }).to_string();
    Ok(Some(archive(&format!("{}/config.json", &CONFIG[1..]), text.as_bytes())))
}

/// What the user has for registries: those in the configuration, and those that this engine keeps.
fn known(config: &ConfigFile) -> Result<Map<String, Value>> {
    let mut servers: Vec<String> = Vec::new();
    for key in ["auths", "credHelpers"] {
        servers.extend(config.object(key).into_iter().flat_map(|all| all.keys().cloned()));
    }
    if let Ok(vault) = credentials::Vault::of_user() {
        servers.extend(vault.all()?.into_keys());
    }
    let mut known = Map::new();
    for server in servers {
        let auth = credentials::find(config, &server)?;
        if auth != Auth::default() && !known.contains_key(&server) {
            known.insert(server, written(&auth));
        }
    }
    Ok(known)
}

/// As `config.json` has it.
fn written(auth: &Auth) -> Value {
    use base64::Engine as _;
    let mut entry = Map::new();
    if !auth.username.is_empty() {
        let plain = format!("{}:{}", auth.username, auth.password);
        entry.insert("auth".into(), json!(base64::engine::general_purpose::STANDARD.encode(plain)));
    }
    for (key, value) in [("identitytoken", &auth.identitytoken), ("registrytoken", &auth.registrytoken)] {
        if !value.is_empty() {
            entry.insert(key.into(), json!(value));
        }
    }
    Value::Object(entry)
}

/// An archive of one file that only its owner may read.
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000600");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", content.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\u{0}00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(content);
    // The last block is filled, and two empty ones are the end.
    archive.resize(archive.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_tar_reads() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.tar");
        std::fs::write(&file, archive("run/secrets/docker/config.json", b"{}")).unwrap();
        let listed = std::process::Command::new("tar").arg("-tvf").arg(&file).output().unwrap();
        let text = String::from_utf8(listed.stdout).unwrap();
        assert!(text.starts_with("-rw------- ") && text.contains("run/secrets/docker/config.json"), "{text}");
    }
}
