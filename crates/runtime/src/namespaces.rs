//! Which namespaces a container gets: new ones, and those of others that it joins.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci::runtime::{LinuxNamespace, LinuxNamespaceType};
use sys::namespace;

use crate::error::{Context as _, Error};

/// A namespace to join, opened.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) kind: u64,
    pub(crate) path: PathBuf,
    pub(crate) fd: OwnedFd,
}

/// What is made and what is joined.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// Kinds to make.
    pub(crate) new: u64,
    /// In the order in which they must be joined.
    pub(crate) joined: Vec<Joined>,
}

impl Namespaces {
    /// Opens the namespaces to join.
    pub(crate) fn open(configured: &[LinuxNamespace]) -> Result<Self, Error> {
        let mut namespaces = Self::default();
        for namespace in configured {
            let kind = bits(namespace.typ());
            let Some(path) = namespace.path() else {
                namespaces.new |= kind;
                continue;
            };
            // A path like /proc/1/ns/net ends in a magic link; it is the caller's own, not the container's.
            let fd = File::open(path).on("open", path)?.into();
            namespaces.joined.push(Joined { kind, path: path.clone(), fd });
        }
        // A user namespace decides about the right to join the others.
        namespaces.joined.sort_by_key(|joined| joined.kind != namespace::USER);
        Ok(namespaces)
    }

    /// All kinds in which the container is apart from the caller.
    pub(crate) fn all(&self) -> u64 {
        self.joined.iter().fold(self.new, |kinds, joined| kinds | joined.kind)
    }

    /// The one to join of this kind.
    pub(crate) fn joined(&self, kind: u64) -> Option<&Joined> {
        self.joined.iter().find(|joined| joined.kind == kind)
    }
}

/// The flag of `clone(2)` for a kind.
pub(crate) fn bits(kind: LinuxNamespaceType) -> u64 {
    match kind {
        LinuxNamespaceType::Mount => namespace::MOUNT,
        LinuxNamespaceType::Cgroup => namespace::CGROUP,
        LinuxNamespaceType::Uts => namespace::UTS,
        LinuxNamespaceType::Ipc => namespace::IPC,
        LinuxNamespaceType::User => namespace::USER,
        LinuxNamespaceType::Pid => namespace::PID,
        LinuxNamespaceType::Network => namespace::NETWORK,
        LinuxNamespaceType::Time => namespace::TIME,
    }
}
