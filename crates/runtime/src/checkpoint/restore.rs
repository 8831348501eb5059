//! Making a container again from what was written down.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use oci::runtime::Spec;
use sys::mount::{self, Change, Propagation};
use sys::path::Root;
use sys::proc::Proc;
use sys::process::{self, Child};

use super::criu::{self, Apart, Places, Start, Worker};
use super::protocol::{self, Writer};
use super::{CgroupsMode, Options, field, joined, outside, streams, unified};
use crate::cgroup::{Cgroup, Driver, Order};
use crate::config;
use crate::error::{Context as _, Error};
use crate::files;
use crate::identity::Filter;
use crate::mounts;
use crate::namespaces::Namespaces;
use crate::privilege::Privilege;
use crate::serve::Server;
use crate::state;

const LOG: &str = "restore.log";
const VERB: &str = "restore";

/// The first image of a checkpoint, which all others hang on.
const INVENTORY: &str = "inventory.img";

/// Where the root filesystem is mounted meanwhile, in the container's own records: criu wants a mount that nothing covers.
const ROOT: &str = "criu-root";

/// Points that criu reaches and tells of.
const NAMESPACES_ARE_SET_UP: &str = "setup-namespaces";
const TERMINAL_IS_MADE: &str = "orphan-pts-master";

/// A container to make again.
#[derive(Debug)]
pub struct Restore<'a> {
    /// Its name.
    pub id: &'a str,
    /// Where its state is recorded; exists, and nobody else can look into it.
    pub state_dir: &'a Path,
    /// Its bundle.
    pub bundle: &'a Path,
    /// Its configuration.
    pub spec: &'a Spec,
    /// Where its images are.
    pub images: &'a Path,
    /// Where criu's log goes.
    pub work: &'a Path,
    /// Who makes its cgroup.
    pub cgroups: Driver,
    /// Another profile of AppArmor or label of SELinux than it had, in criu's words (`apparmor:NAME`, `selinux:LABEL`).
    pub lsm_profile: Option<String>,
    /// What else.
    pub options: Options,
}

/// A container that goes on.
#[derive(Debug)]
pub struct Restored {
    /// Its first process, a child of the caller.
    pub child: Child,
    /// The other end of its terminal, if it has one.
    pub terminal: Option<OwnedFd>,
}

/// Makes the container again. On failure nothing of it is left but `state_dir`.
///
/// The caller must have one thread.
pub fn restore(r: &Restore<'_>) -> Result<Restored, Error> {
    unified::kept(|| restore_once(r))
}

fn restore_once(r: &Restore<'_>) -> Result<Restored, Error> {
    config::check_id(r.id)?;
    config::check(r.spec)?;
    let proc = Proc::open().on("open", "/proc")?;
    let privilege = Privilege::of_caller(&proc)?;
    super::check(VERB, r.spec, privilege)?;
    let program = criu::working(VERB)?;
    if !r.images.join(INVENTORY).is_file() {
        let images = r.images.display();
        return Err(Error::Invalid(format!("{images} holds no checkpoint: {INVENTORY} is missing")));
    }
    let linux = r.spec.linux().as_ref();
    let configured = linux.and_then(|l| l.namespaces().as_deref()).unwrap_or_default();
    let namespaces = Namespaces::open(configured)?;
    let filter = linux.and_then(|l| l.seccomp().as_ref()).map(Filter::compile).transpose()?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(r.work).on("create", r.work)?;
    let order = Order::new(r.id, r.spec, r.cgroups);
    let mut cgroup = Cgroup::create(&order, r.state_dir)?;
    let restored = filter
        .map_or(Ok(()), |filter| state::store_filter(r.state_dir, &filter))
        .and_then(|()| restore_in(r, &program, &mut cgroup, &order, &proc, (privilege, &namespaces)));
    let emptied = remove_place(r.state_dir);
    if restored.is_err() {
        // The first error is the one that explains; what is in the way of cleaning up is found again by whoever deletes.
        let _ = cgroup.kill_all();
        let _ = cgroup.remove();
        let _ = state::clear(r.state_dir);
    }
    restored.and_then(|restored| emptied.map(|()| restored))
}

/// Nothing is mounted there for anybody but criu, which has gone.
fn remove_place(state_dir: &Path) -> Result<(), Error> {
    let place = state_dir.join(ROOT);
    match fs::remove_dir(&place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).on("remove", place),
        _ => Ok(()),
    }
}

fn restore_in(
    r: &Restore<'_>,
    program: &Path,
    cgroup: &mut Cgroup,
    order: &Order<'_>,
    proc: &Proc,
    (privilege, namespaces): (Privilege, &Namespaces),
) -> Result<Restored, Error> {
    let place = r.state_dir.join(ROOT);
    fs::create_dir(&place).on("create", &place)?;
    let root = prepare_root(r)?;
    let streams = streams::ours(r.images)?;
    let entry = cgroup.entry()?;
    let apart = Apart::enter(&root, &place)?;
    let places = match Places::open(r.images, r.work, LOG) {
        Ok(places) => places,
        Err(error) => return apart.leave().and(Err(error)),
    };
    let mut options = places.options();
    describe(r, cgroup, &place, &mut options)?;
    let mut descriptors = Vec::new();
    for (joined, _, key) in joined(namespaces) {
        inherit(&mut options, key, &joined.fd);
        descriptors.push(joined.fd.as_raw_fd());
    }
    for (key, stream) in &streams {
        inherit(&mut options, key, stream);
        descriptors.push(stream.as_raw_fd());
    }
    let worker = Worker::start(VERB, program, &places, Start { group: Some(entry), descriptors });
    apart.leave()?;
    let worker = worker?;
    let mut terminal = None;
    let mut hooked = false;
    let answer = worker.request(protocol::RESTORE, &options, |point, pid, descriptors| match point {
        NAMESPACES_ARE_SET_UP => {
            hooked = true;
            let state = crate::serve::state(r.id, "creating", pid, r.bundle, r.spec);
            let restored = process::pidfd(pid).on("find", format!("process {pid}"))?;
            crate::serve::run_hooks(r.spec, &state, &restored)
        }
        TERMINAL_IS_MADE => {
            terminal = descriptors.into_iter().next();
            Ok(())
        }
        _ => Ok(()),
    });
    let adopted = answer.and_then(|answer| {
        let nobody = || Error::Setup { text: "criu names no process that it has restored".into() };
        let pid = answer.restored.filter(|pid| *pid > 0).ok_or_else(nobody)?;
        let child = Child { pid, pidfd: process::pidfd(pid).on("find", format!("process {pid}"))? };
        let kinds = namespaces.all();
        let mut server = Server {
            id: r.id,
            state_dir: r.state_dir,
            bundle: r.bundle,
            spec: r.spec,
            cgroup,
            privilege,
            namespaces: kinds,
            devices: &[],
            proc,
            child: &child,
        };
        server.adopt(order)?;
        Ok(child)
    });
    match adopted {
        Ok(child) => Ok(Restored { child, terminal }),
        Err(error) => {
            if hooked {
                crate::serve::run_last_hooks(r.id, r.bundle, r.spec);
            }
            Err(error)
        }
    }
}

/// The options that need no descriptor.
fn describe(r: &Restore<'_>, cgroup: &Cgroup, place: &Path, options: &mut Writer) -> Result<(), Error> {
    let mut common = r.options.clone();
    if cgroup.is_none() {
        common.cgroups = CgroupsMode::Ignore;
    } else {
        // Wherever its group was, it is here now.
        let mut group = Writer::default();
        group.text(2, &cgroup.path().to_string_lossy());
        options.message(field::CG_ROOT, &group);
    }
    common.write(options);
    options.text(field::ROOT, &place.to_string_lossy());
    options.truth(field::RST_SIBLING, true);
    options.truth(field::EVASIVE_DEVICES, true);
    if let Some(profile) = &r.lsm_profile {
        options.text(field::LSM_PROFILE, profile);
    }
    for external in outside::of_bundle(r.bundle, r.spec, &cgroup.views())? {
        options.text(field::EXTERNAL, &external);
    }
    Ok(())
}

/// Says that what was `key` is this descriptor now.
fn inherit(options: &mut Writer, key: &str, descriptor: &OwnedFd) {
    let mut inherited = Writer::default();
    inherited.text(1, key);
    // Descriptors are never negative.
    inherited.integer(2, descriptor.as_raw_fd() as u64);
    options.message(field::INHERIT_FD, &inherited);
}

/// A copy of the root filesystem, in which what is mounted in it finds its place.
fn prepare_root(r: &Restore<'_>) -> Result<OwnedFd, Error> {
    let path = files::root_path(r.bundle, r.spec)?;
    let tree = mount::clone_path(&path, true).on("mount", &path)?;
    let change = Change { propagation: Some(Propagation::Private), ..Change::default() };
    mount::change(&tree, true, change).on("set the propagation of", &path)?;
    let root = Root::from_fd(tree.try_clone().on("copy", "a descriptor")?);
    let mut covered: Vec<PathBuf> = Vec::new();
    for mount in r.spec.mounts().as_deref().unwrap_or_default() {
        let place = sys::path::normalize(mount.destination());
        // What is in another mount is in the images.
        if !covered.iter().any(|above| place.starts_with(above)) {
            mounts::place(&root, mount.destination(), is_directory(r.bundle, mount)?)?;
        }
        covered.push(place);
    }
    Ok(tree)
}

/// Whether a mount needs a directory: all do but those of a single file.
fn is_directory(bundle: &Path, mount: &oci::runtime::Mount) -> Result<bool, Error> {
    let Some(source) = mount.source().as_ref().filter(|_| outside::is_bind(mount).is_some()) else {
        return Ok(true);
    };
    let source = bundle.join(source);
    Ok(fs::metadata(&source).on("inspect", &source)?.is_dir())
}
