//! Checkpoint and restore: the processes of a container written to files and made again from them, by the host's criu.
//!
//! criu knows how to do that with processes; what it cannot know is what of a container belongs to the host: sources of bind mounts, masks,
//! groups, namespaces of others, the standard streams. That is found out here and said to it ([`outside`]). It is spoken to by its own
//! protocol, as runc does, and not by its command line: only so it tells when hooks are due, and hands out a terminal.

use std::path::Path;

use oci::runtime::{LinuxNamespaceType, Spec};
use sys::namespace;

use crate::error::Error;
use crate::namespaces::Namespaces;
use crate::privilege::Privilege;

pub(crate) mod criu;
mod dump;
mod outside;
mod protocol;
mod restore;
mod streams;
mod unified;

pub use dump::{Checkpoint, checkpoint};
pub use restore::{Restore, Restored, restore};

/// Fields of `criu_opts` (see [`protocol`]).
mod field {
    pub(super) const PID: u32 = 2;
    pub(super) const LEAVE_RUNNING: u32 = 3;
    pub(super) const EXT_UNIX_SK: u32 = 4;
    pub(super) const TCP_ESTABLISHED: u32 = 5;
    pub(super) const EVASIVE_DEVICES: u32 = 6;
    pub(super) const SHELL_JOB: u32 = 7;
    pub(super) const FILE_LOCKS: u32 = 8;
    pub(super) const ROOT: u32 = 13;
    pub(super) const PARENT_IMG: u32 = 14;
    pub(super) const TRACK_MEM: u32 = 15;
    pub(super) const AUTO_DEDUP: u32 = 16;
    pub(super) const CG_ROOT: u32 = 25;
    pub(super) const RST_SIBLING: u32 = 26;
    pub(super) const INHERIT_FD: u32 = 27;
    pub(super) const MANAGE_CGROUPS_MODE: u32 = 34;
    pub(super) const EXTERNAL: u32 = 37;
    pub(super) const EMPTY_NS: u32 = 38;
    pub(super) const FREEZE_CGROUP: u32 = 44;
    pub(super) const TCP_SKIP_IN_FLIGHT: u32 = 46;
    pub(super) const ORPHAN_PTS_MASTER: u32 = 50;
    pub(super) const LSM_PROFILE: u32 = 53;
    pub(super) const NETWORK_LOCK: u32 = 64;
}

/// What criu does about groups below the container's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupsMode {
    /// Makes those that are not there, and sets limits in these alone.
    #[default]
    Soft,
    /// Sets limits also in those that are there.
    Full,
    /// Refuses if one is there.
    Strict,
    /// Nothing: all processes come into the container's group.
    Ignore,
}

impl CgroupsMode {
    /// The mode with this name.
    pub fn parse(name: &str) -> Result<Self, Error> {
        match name {
            "soft" => Ok(Self::Soft),
            "full" => Ok(Self::Full),
            "strict" => Ok(Self::Strict),
            "ignore" => Ok(Self::Ignore),
            other => Err(Error::Invalid(format!("--manage-cgroups-mode: invalid mode {other:?}"))),
        }
    }

    /// criu's number for it.
    fn number(self) -> u64 {
        match self {
            Self::Ignore => 0,
            Self::Soft => 3,
            Self::Full => 4,
            Self::Strict => 5,
        }
    }
}

/// What must be the same at both ends.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Connections of TCP are kept.
    pub tcp_established: bool,
    /// A unix socket may have its other end outside.
    pub ext_unix_sk: bool,
    /// The terminal may be one of the host's.
    pub shell_job: bool,
    /// Locks on files are kept.
    pub file_locks: bool,
    /// Pages that came again are taken out of the images before.
    pub auto_dedup: bool,
    /// What is in the network namespace is left to others.
    pub empty_network: bool,
    /// What becomes of groups.
    pub cgroups: CgroupsMode,
}

impl Options {
    fn write(&self, options: &mut protocol::Writer) {
        options.truth(field::TCP_ESTABLISHED, self.tcp_established);
        options.truth(field::EXT_UNIX_SK, self.ext_unix_sk);
        options.truth(field::SHELL_JOB, self.shell_job);
        options.truth(field::FILE_LOCKS, self.file_locks);
        options.truth(field::AUTO_DEDUP, self.auto_dedup);
        // The container's own terminal has its other end outside.
        options.truth(field::ORPHAN_PTS_MASTER, !self.shell_job);
        options.integer(field::MANAGE_CGROUPS_MODE, self.cgroups.number());
        if self.empty_network {
            options.integer(field::EMPTY_NS, namespace::NETWORK);
        }
    }
}

/// The names under which criu is told of namespaces that the container joins.
const JOINED: [(u64, &str, &str); 2] =
    [(namespace::NETWORK, "net", "extRootNetNS"), (namespace::PID, "pid", "extRootPidNS")];

/// Refuses what criu cannot do, or would do otherwise than the configuration says.
fn check(verb: &'static str, spec: &Spec, privilege: Privilege) -> Result<(), Error> {
    let refused = |what: String| Error::Unsupported(format!("{verb} {what}"));
    if !(privilege.mounts && privilege.is_initial) {
        return Err(refused("by another user than the host's root".into()));
    }
    let configured = spec.linux().as_ref().and_then(|l| l.namespaces().as_deref()).unwrap_or_default();
    if configured.iter().any(|n| n.typ() == LinuxNamespaceType::User) {
        // Its root could not read the images.
        return Err(refused("of a container with a user namespace".into()));
    }
    let known = |kind| matches!(kind, LinuxNamespaceType::Network | LinuxNamespaceType::Pid);
    match configured.iter().find(|n| n.path().is_some() && !known(n.typ())) {
        Some(other) => Err(refused(format!(
            "of a container that joins the {} namespace {}",
            other.typ(),
            other.path().as_deref().unwrap_or(Path::new("")).display()
        ))),
        None => Ok(()),
    }
}

/// The namespaces that the configuration joins, and criu's names for them.
fn joined(
    namespaces: &Namespaces,
) -> impl Iterator<Item = (&crate::namespaces::Joined, &'static str, &'static str)> {
    JOINED.iter().filter_map(|(kind, name, key)| namespaces.joined(*kind).map(|joined| (joined, *name, *key)))
}
