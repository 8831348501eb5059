//! Running from a copy that nobody can write to.
//!
//! A program in a container can make the kernel execute the runtime again (`#!/proc/self/exe`) and then get hold of its
//! file through `/proc/<pid>/exe` to overwrite it on the host (CVE-2019-5736). So the runtime executes itself
//! once more through a read-only mount of its own file, or of the smaller one that it goes on as, that hangs in no tree: through that,
//! nobody writes. An ordinary user, who can make no mount, needs that only if the file is his own to write; then it is a copy in sealed
//! memory.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use sys::fsx;
use sys::memfd::Executable;
use sys::mount::{self, Change, Propagation};
use sys::process;

use super::Global;
use crate::error::{Context as _, Error};

const SELF: &str = "/proc/self/exe";

/// By which word as its first argument a small program knows that it is the runtime.
const WORD: &str = "runtime";

/// Returns in a process whose program file cannot be written to, and whose environment holds nothing of its caller's.
pub(super) fn ensure(global: &Global) -> Result<(), Error> {
    let own = File::open(SELF).on("open", SELF)?;
    let own = OwnedFd::from(own);
    if fsx::is_read_only(&own).on("inspect", SELF)? || process::is_sealed(&own) {
        return settle(&own);
    }
    if let Some(small) = global.small.and_then(|small| small.open())
        && let Ok(copy) = mount::clone_fd(&small, false)
        && close_to_writers(&copy, mount::NOEXEC).is_ok()
    {
        let name = std::env::args_os().next().unwrap_or_else(|| WORD.into());
        let rest = global.arguments.iter().map(OsString::from);
        // It comes back only if that file cannot be executed; there is still our own.
        drop(execute(&copy, [name, WORD.into()].into_iter().chain(rest)));
    }
    let copy = match read_only_mount() {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            // Whoever we are in the container, we are no more than ourselves to the host.
            if process::may_write(Path::new(SELF)).is_err() && !is_own(&own)? {
                return settle(&own);
            }
            let content = std::fs::read(SELF).on("read", SELF)?;
            OwnedFd::from(Executable::sealed("corten-runtime", &content).on("copy", SELF)?)
        }
        other => other?,
    };
    execute(&copy, std::env::args_os())
}

/// Goes on as the file that is executed already, but without what else is in the environment.
fn settle(own: &OwnedFd) -> Result<(), Error> {
    let known = |name: &OsStr| VARIABLES.iter().any(|known| name == *known);
    if std::env::vars_os().all(|(name, _)| known(&name)) {
        return Ok(());
    }
    execute(own, std::env::args_os())
}

/// What the runtime looks up in its environment. The rest is its caller's, and goes no further: the process of an exec is a copy of
/// this one until it executes its program, and a debugger in the container may read it.
const VARIABLES: [&str; 4] = ["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "LISTEN_FDS", "LISTEN_PID"];

/// Becomes the program behind `file`. Returns only if that failed.
fn execute(file: &OwnedFd, arguments: impl Iterator<Item = OsString>) -> Result<(), Error> {
    let nul = || Error::Invalid("a NUL byte in the arguments".into());
    let arguments: Result<Vec<CString>, _> = arguments.map(|a| CString::new(a.into_vec())).collect();
    let given = VARIABLES.into_iter().filter_map(|name| std::env::var_os(name).map(|value| (name, value)));
    let environment: Result<Vec<CString>, _> = given
        .map(|(name, value)| {
            let mut variable = OsString::from(name);
            variable.push("=");
            variable.push(value);
            CString::new(variable.into_vec())
        })
        .collect();
    let error = process::fexecve(file, &arguments.map_err(|_| nul())?, &environment.map_err(|_| nul())?);
    Err(error).on("execute", SELF)
}

fn read_only_mount() -> Result<OwnedFd, Error> {
    let copy = mount::clone_path(SELF, false).on("mount", SELF)?;
    close_to_writers(&copy, 0).on("make read-only", SELF)?;
    Ok(copy)
}

/// Makes a detached mount read-only, and takes the attributes `clear` from it.
fn close_to_writers(copy: &OwnedFd, clear: u64) -> io::Result<()> {
    let change = Change { set: mount::RDONLY, clear, propagation: Some(Propagation::Private) };
    mount::change(copy, false, change)
}

/// Whether the file is ours, so that we could give ourselves the right to write to it.
fn is_own(file: &OwnedFd) -> Result<bool, Error> {
    Ok(fsx::stat(file).on("inspect", SELF)?.st_uid == process::effective_user())
}
