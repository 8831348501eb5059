//! AppArmor: the profile that confines containers that ask for no other.
//!
//! It is compiled and loaded by the host's own `apparmor_parser`. A host that has AppArmor but not that program runs its
//! containers unconfined, as under Docker, and the log says so.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use api::container::HostConfig;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::plan::SecurityOptions;

/// The name of the profile.
pub const DEFAULT: &str = "corten-default";
/// What a process is called that none confines.
pub const UNCONFINED: &str = "unconfined";

const TEXT: &str = include_str!("apparmor/corten-default");
/// The program's name, and the only places where it is looked for: nobody's `PATH` decides what runs as root.
const PARSER: &str = "apparmor_parser";
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// Newer parsers read a policy that names no version as their own; this one says what the text was written for.
const ABI: &str = "/etc/apparmor.d/abi/3.0";
/// The kernel's list of profiles: `corten-default (enforce)`.
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";
/// It takes milliseconds; on a machine that swaps, longer.
const LIMIT: Duration = Duration::from_secs(30);
/// How often it is looked whether the parser has ended.
const INTERVAL: Duration = Duration::from_millis(2);
/// Of what the parser says, this much can be repeated.
const ERROR_BYTES_MAX: u64 = 4096;

/// Loads the profile when the engine starts, if the host has AppArmor; whether containers are confined by it. Blocks.
pub(crate) fn start(host: &Host) -> bool {
    if !host.apparmor {
        return false;
    }
    match load() {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(error = %error.chain(), "cannot load the AppArmor profile: containers run without it");
            false
        }
    }
}

/// Sees to it that the profile is there for a container that is about to start: a reload of the host's policy may have
/// removed what no file of its names. Blocks.
pub(crate) fn ensure() -> Result<()> {
    let listed = fs::read_to_string(PROFILES).map_err(|e| Error::io("read", Path::new(PROFILES), e))?;
    if listed.lines().any(|line| line.strip_prefix(DEFAULT).is_some_and(|rest| rest.starts_with(" ("))) {
        return Ok(());
    }
    tracing::warn!(profile = DEFAULT, "the AppArmor profile was removed: loading it again");
    load()
}

fn load() -> Result<()> {
    let failed = |e: io::Error| Error::system(format!("cannot load profile {DEFAULT}")).with_source(e);
    let parser = parser().ok_or_else(|| {
        Error::system(format!("there is no {PARSER} in {}", DIRECTORIES.join(", ")))
            .with_hint("install the package apparmor")
    })?;
    let mut child = Command::new(&parser)
        .args(["--replace", "--skip-cache"])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Error::io("run", &parser, e))?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(text().as_bytes()));
    let ended = wait(&mut child).and_then(|status| written.map(|()| status)).map_err(failed)?;
    if ended.success() {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        // What it says in another encoding is not worth an error of its own.
        let _ = io::Read::read_to_string(&mut io::Read::take(stderr, ERROR_BYTES_MAX), &mut said);
    }
    let line = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned();
    Err(failed(io::Error::other(format!("{PARSER}: {ended}: {line}"))))
}

/// Waits for the parser's end, or kills it.
fn wait(child: &mut Child) -> io::Result<std::process::ExitStatus> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{PARSER} does not end")));
        }
        std::thread::sleep(INTERVAL);
    }
}

fn parser() -> Option<PathBuf> {
    DIRECTORIES.into_iter().map(|directory| Path::new(directory).join(PARSER)).find(|path| path.is_file())
}

fn text() -> String {
    let abi = if Path::new(ABI).is_file() { "abi <abi/3.0>,\n" } else { "" };
    format!("{abi}{TEXT}")
}

/// The profile of a container, or of a command in it; `None` where AppArmor has no say.
pub fn profile(asked: Option<&str>, privileged: bool, host: &Host) -> Option<String> {
    let asked = asked.filter(|name| !name.is_empty());
    if !host.apparmor {
        return None;
    }
    let default = if privileged || !host.confines { UNCONFINED } else { DEFAULT };
    Some(asked.unwrap_or(default).to_owned())
}

/// The profile of a container as `inspect` shows it.
pub(crate) fn shown(asked: &HostConfig, host: &Host) -> Result<String> {
    let security = SecurityOptions::parse(&asked.security_opt)?;
    Ok(profile(security.apparmor.as_deref(), asked.privileged, host).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_confined_by_what() {
        let host = |apparmor, confines| Host { apparmor, confines, ..Host::default() };
        let both = host(true, true);
        let name = |asked, privileged, host: &Host| profile(asked, privileged, host);
        assert_eq!(name(None, false, &both).as_deref(), Some("corten-default"));
        assert_eq!(name(Some(""), false, &both).as_deref(), Some("corten-default"));
        assert_eq!(name(None, true, &both).as_deref(), Some("unconfined"));
        assert_eq!(name(Some("mine"), true, &both).as_deref(), Some("mine"));
        assert_eq!(name(Some("unconfined"), false, &both).as_deref(), Some("unconfined"));
        assert_eq!(name(None, false, &host(true, false)).as_deref(), Some("unconfined"));
        assert_eq!(name(Some("mine"), false, &host(true, false)).as_deref(), Some("mine"));
        assert_eq!(name(None, false, &host(false, false)), None);
        assert_eq!(name(Some("unconfined"), false, &host(false, false)), None);
    }

    #[test]
    fn the_parser_takes_the_profile() {
        let Some(parser) = parser() else {
            println!("skipped: apparmor_parser");
            return;
        };
        let mut child = Command::new(parser)
            .args(["--skip-kernel-load", "--skip-cache", "--debug"])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text().as_bytes()).unwrap();
        assert!(wait(&mut child).unwrap().success());
    }
}
