//! Running from a copy that nobody can write to.
//!
//! A program in a container can make the kernel execute the runtime again (`#!/proc/self/exe`) and then get hold of its
//! file through `/proc/<pid>/exe` to overwrite it on the host (CVE-2019-5736). So the runtime executes itself
//! once more through a read-only mount of its own file that hangs in no tree: through that, nobody writes.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt as _;

use sys::fsx;
use sys::mount::{self, Change, Propagation};
use sys::process;

use crate::error::{Context as _, Error};

const SELF: &str = "/proc/self/exe";

/// Returns in a process whose program file cannot be written to.
pub(super) fn ensure() -> Result<(), Error> {
    let own = std::fs::File::open(SELF).on("open", SELF)?;
    if fsx::is_read_only(&own).on("inspect", SELF)? || process::is_sealed(&own) {
        return Ok(());
    }
    let copy = mount::clone_path(SELF, false).on("mount", SELF)?;
    let propagation = Some(Propagation::Private);
    mount::change(&copy, false, Change { set: mount::RDONLY, clear: 0, propagation })
        .on("make read-only", SELF)?;
    let nul = || Error::Invalid("a NUL byte in the arguments".into());
    let arguments: Result<Vec<CString>, _> =
        std::env::args_os().map(|a| CString::new(a.into_vec())).collect();
    let environment: Result<Vec<CString>, _> = std::env::vars_os()
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            CString::new(name.into_vec())
        })
        .collect();
    let error = process::fexecve(&copy, &arguments.map_err(|_| nul())?, &environment.map_err(|_| nul())?);
    Err(error).on("execute", SELF)
}
