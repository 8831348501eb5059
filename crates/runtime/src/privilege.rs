//! What this process may do on the host: root's rights, or an ordinary user's.

use sys::caps;
use sys::proc::Proc;

use crate::error::{Context as _, Error};

const CAP_SYS_ADMIN: u64 = 1 << 21;

/// The map of the first user namespace: every id stands for itself.
const IDENTITY: [&str; 3] = ["0", "0", "4294967295"];

/// What is asked before a container is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Privilege {
    /// It can mount where it is. Otherwise all of that is left to init, in a user namespace of its own.
    pub(crate) mounts: bool,
    /// It is in the first user namespace, whose root can make device nodes and owns the kernel's own files.
    pub(crate) is_initial: bool,
}

impl Privilege {
    /// That of the calling process.
    pub(crate) fn of_caller(proc: &Proc) -> Result<Self, Error> {
        let held = caps::get().on("read", "the capabilities")?.effective;
        let pid = proc.own_pid().on("read", "/proc/self")?;
        let map = proc.read(format!("{pid}/uid_map")).on("read", "/proc/self/uid_map")?;
        Ok(Self { mounts: held & CAP_SYS_ADMIN != 0, is_initial: map.split_whitespace().eq(IDENTITY) })
    }
}
