//! `--security-opt`.

use crate::error::{Error, Result};
use crate::flags::Parsed;

/// A seccomp profile longer than this is not one: the daemon takes no longer body either.
const PROFILE_BYTES_MAX: u64 = 4 << 20;

/// What the flags come to.
pub(super) struct Security {
    pub(super) options: Vec<String>,
    pub(super) masked_paths: Option<Vec<String>>,
    pub(super) readonly_paths: Option<Vec<String>>,
}

/// Reads the options; a seccomp profile is read here and sent, for the daemon may be elsewhere.
pub(super) fn collect(parsed: &Parsed) -> Result<Security> {
    let mut security = Security { options: Vec::new(), masked_paths: None, readonly_paths: None };
    for text in parsed.list("security-opt") {
        if text == "systempaths=unconfined" {
            security.masked_paths = Some(Vec::new());
            security.readonly_paths = Some(Vec::new());
            continue;
        }
        let (key, value) = match text.split_once('=').or_else(|| text.split_once(':')) {
            None if text == "no-new-privileges" => {
                security.options.push(text.to_owned());
                continue;
            }
            None => return Err(Error::Message(format!("Invalid --security-opt: {text:?}"))),
            Some(pair) => pair,
        };
        if key == "seccomp" && !matches!(value, "unconfined" | "builtin") {
            security.options.push(format!("seccomp={}", profile(value)?));
        } else {
            security.options.push(text.to_owned());
        }
    }
    Ok(security)
}

/// Capabilities in the kernel's spelling, each once.
pub(super) fn capabilities<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let all: std::collections::BTreeSet<String> = names
        .map(|name| name.trim().to_uppercase())
        .map(|name| if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") })
        .collect();
    all.into_iter().collect()
}

/// A kernel parameter has a name and a value, and belongs to a namespace.
pub(super) fn check_sysctl(text: &str) -> std::result::Result<(), String> {
    const NAMES: [&str; 7] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
    ];
    let name = text.split_once('=').map(|(name, _)| name);
    let known = name.is_some_and(|name| {
        NAMES.contains(&name)
            || matches!(name, "kernel.shm_rmid_forced" | "kernel.domainname")
            || name.starts_with("net.")
            || name.starts_with("fs.mqueue.")
    });
    if known { Ok(()) } else { Err(format!("sysctl '{text}' is not allowed")) }
}

fn profile(path: &str) -> Result<String> {
    use std::io::Read;
    let opening = |err: std::io::Error| {
        let why = match err.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => err.to_string(),
        };
        Error::Message(format!("opening seccomp profile ({path}) failed: open {path}: {why}"))
    };
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(PROFILE_BYTES_MAX).read_to_end(&mut text))
        .map_err(opening)?;
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(|err| {
        Error::Message(format!("compacting json for seccomp profile ({path}) failed: {err}"))
    })?;
    Ok(value.to_string())
}
