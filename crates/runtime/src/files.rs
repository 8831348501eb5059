//! The container's files before they are its own: copies of the root filesystem and of all that is mounted in it, each hanging
//! in no tree, so that nothing done to the originals reaches them any more.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use oci::runtime::{Linux, Spec};
use sys::fsx;
use sys::mount::{self, Change, Propagation};
use sys::namespace;

use crate::error::{Context as _, Error};
use crate::idmap::{Maps, UserNamespaces};
use crate::mounts::{ContainerMap, Preparation, Prepared};
use crate::namespaces::Namespaces;

/// What the files are prepared from.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) bundle: &'a Path,
    pub(crate) spec: &'a Spec,
    pub(crate) linux: &'a Linux,
    /// By index into `spec.mounts`: detached copies that the caller has made.
    pub(crate) given: Vec<(usize, OwnedFd)>,
    /// The container's groups, by the names of their hierarchies.
    pub(crate) cgroups: Vec<(String, PathBuf)>,
}

/// The files of a container that is being made.
#[derive(Debug)]
pub(crate) enum Files<'a> {
    /// Ready to be put together in its mount namespace.
    Trees {
        /// The root filesystem.
        root: OwnedFd,
        /// Where it is, and is mounted until it becomes the root: hooks look for it there.
        path: PathBuf,
        /// In the order of the configuration.
        mounts: Vec<Prepared>,
    },
    /// Those of a directory of the mount namespace that the container shares.
    Directory(OwnedFd),
    /// Init has to prepare them, once it has the right to.
    Later(Sources<'a>),
    /// They have been put in their place.
    Done,
}

/// Opens and copies what is needed.
pub(crate) fn prepare<'a>(sources: Sources<'_>, namespaces: &Namespaces) -> Result<Files<'a>, Error> {
    let path = root_path(sources.bundle, sources.spec)?;
    if namespaces.all() & namespace::MOUNT == 0 {
        return Ok(Files::Directory(fsx::open_dir(&path).on("open", &path)?));
    }
    let root = mount::clone_path(&path, true).on("mount", &path)?;
    // Cut off from the host, unless it is to follow what is mounted there.
    let follows = matches!(sources.linux.rootfs_propagation().as_deref(), Some("slave" | "rslave"));
    let propagation = Some(if follows { Propagation::Slave } else { Propagation::Private });
    let change = Change { propagation, ..Change::default() };
    mount::change(&root, true, change).on("set the propagation of", &path)?;
    Ok(Files::Trees { root, path, mounts: prepare_mounts(sources, namespaces)? })
}

/// Where the root filesystem of the configuration is.
pub(crate) fn root_path(bundle: &Path, spec: &Spec) -> Result<PathBuf, Error> {
    let root = spec.root().as_ref();
    let root = root.ok_or_else(|| Error::Invalid("config.json: root is missing".into()))?;
    let path = bundle.join(root.path());
    let invalid = || Error::Invalid(format!("root filesystem {} is not a directory", path.display()));
    let real = std::fs::canonicalize(&path).map_err(|_| invalid())?;
    if real.is_dir() { Ok(real) } else { Err(invalid()) }
}

fn prepare_mounts(sources: Sources<'_>, namespaces: &Namespaces) -> Result<Vec<Prepared>, Error> {
    let Sources { bundle, spec, linux, given, cgroups } = sources;
    let configured = spec.mounts().as_deref().unwrap_or_default();
    let mut trees: Vec<Option<OwnedFd>> = configured.iter().map(|_| None).collect();
    for (index, fd) in given {
        let slot = trees.get_mut(index);
        *slot.ok_or_else(|| {
            Error::Invalid(format!("a bind source for mount {index}, which is not there"))
        })? = Some(fd);
    }
    let container_map = match namespaces.joined(namespace::USER) {
        Some(joined) => ContainerMap::Joined(joined.fd.as_fd()),
        None => {
            Maps::of(linux.uid_mappings(), linux.gid_mappings()).map_or(ContainerMap::None, ContainerMap::New)
        }
    };
    let label = linux.mount_label().as_deref().filter(|label| !label.is_empty());
    let mut preparation =
        Preparation { bundle, cgroups, container_map, label, users: UserNamespaces::default() };
    configured.iter().zip(trees).map(|(mount, given)| preparation.prepare(mount, given)).collect()
}
