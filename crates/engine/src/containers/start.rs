//! What a start needs from the disk: who runs, what is mounted, the configuration for the runtime.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use storage::Mounts;

use crate::apparmor;
use crate::containers::files;
use crate::containers::identity;
use crate::containers::inside;
use crate::containers::joins::{self, Joins};
use crate::containers::layered::Layered;
use crate::containers::lender::{self, Lent};
use crate::containers::linked;
use crate::containers::record::{Identity, MountKind, Paths, Record};
use crate::containers::runtimes;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::networks::{Joined, Places, ports};
use crate::{plan, selinux};

/// What the supervisor is given.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The root filesystem.
    pub mounts: Mounts,
    /// The sources of bind mounts, detached.
    pub binds: Vec<OwnedFd>,
    /// For each of them the index of its mount in the configuration.
    pub bind_indexes: Vec<u32>,
    /// Its network namespace, if it has one of its own: to be kept until a process is in it.
    pub joined: Option<Joined>,
    /// The network that another container lends it: to be kept as long.
    pub lent: Option<Lent>,
    /// What else it shares with others: to be kept as long.
    pub joins: Joins,
    /// Where each mount's source is: of a volume that a plugin mounts it is known only now.
    pub sources: Vec<String>,
}

/// Mounts that are nowhere yet, by the sources that bind mounts of a record name for them.
pub(crate) type Given = BTreeMap<PathBuf, OwnedFd>;

/// Prepares everything; blocks. What is `given` is bound as it is.
pub(crate) fn prepare(
    context: &Context,
    record: &Record,
    paths: &Paths,
    mut given: Given,
) -> Result<Prepared> {
    let mounts = context.store.mounts(&record.id)?;
    let who = who(record, &mounts)?;
    files::make_state_dir(paths)?;
    run_dir(&paths.run)?;
    runtimes::note(&context.config, &record.host.runtime, &paths.run)?;
    let lent = lender::borrow(context, record)?;
    let mut joins = joins::open(context, record)?;
    let starting = linked::starting(context, record)?;
    let record = &lent.as_ref().map_or_else(|| starting.clone(), |lent| lent.name(&starting));
    let joined = join(context, record, paths)?;
    if lent.is_none() {
        let endpoints = joined.as_ref().map_or(&[][..], |joined| &joined.places.endpoints);
        let named = joined.as_ref().is_some_and(|joined| context.networks.has_names(&joined.places));
        files::write(record, paths, endpoints, named)?;
        selinux::prepare_files(&record.labels, paths)?;
    }
    let record = &make_sources(context, record, &mounts, &who)?;
    let network = joined.as_ref().map(Joined::path).or_else(|| lent.as_ref().map(Lent::path));
    let cgroup = context.cgroup(record);
    plan::realtime::prepare(&cgroup, &record.host.resources, context.config.real_time)?;
    let (pid, ipc) = (joins.pid(), joins.ipc());
    let request = plan::Request {
        record,
        identity: &who,
        paths: lent.as_ref().map_or(paths, |lent| &lent.files),
        host: &context.host,
        cgroup: &cgroup,
        network: network.as_deref(),
        pid: pid.as_deref(),
        ipc: ipc.as_deref(),
    };
    let plan = plan::start(&request, &context.config.cdi_dirs)?;
    confine(plan.spec.process().as_ref())?;
    let config = serde_json::to_vec(&plan.spec)
        .map_err(|e| Error::system("cannot write the runtime's configuration").with_source(e))?;
    let path = paths.run.join("config.json");
    fs::write(&path, config).map_err(|e| Error::io("write", &path, e))?;
    let mut binds = Vec::with_capacity(plan.binds.len());
    let mut bind_indexes = Vec::with_capacity(plan.binds.len());
    for bind in &plan.binds {
        let lent = if bind.lent { joins.shm.take() } else { given.remove(&bind.source) };
        binds.push(lent.map_or_else(|| open_source(context, record, bind), Ok)?);
        bind_indexes.push(u32::try_from(bind.index).unwrap_or(u32::MAX));
    }
    let sources = record.mounts.iter().map(|mount| mount.point.source.clone()).collect();
    Ok(Prepared { mounts, binds, bind_indexes, joined, lent, joins, sources })
}

/// Makes the network namespace of a container that is connected with networks, and notes what it has there before anything is in it.
fn join(context: &Context, record: &Record, paths: &Paths) -> Result<Option<Joined>> {
    if record.attachments.is_empty() {
        return Ok(None);
    }
    let wishes = ports::wishes(&record.host, &record.config)?;
    let joined = context.networks.enter(&record.id, &record.attachments, &wishes)?;
    for warning in context.networks.foreign_warnings(&record.attachments, &wishes) {
        tracing::warn!(container = record.name, "{warning}");
    }
    note_places(paths, &joined.places)?;
    let upstreams = files::name_servers(record);
    context.networks.serve_names(record, &joined.namespace, &joined.places, &upstreams)?;
    Ok(Some(joined))
}

/// Notes what a container has on its networks, for whoever adopts it.
pub(crate) fn note_places(paths: &Paths, places: &Places) -> Result<()> {
    let path = paths.places();
    let written = serde_json::to_vec(places)
        .map_err(io::Error::other)
        .and_then(|json| sys::proc::replace_file(&path, &json, 0o600));
    written.map_err(|e| Error::io("write", &path, e))
}

/// What a container that runs has on its networks.
pub(crate) fn places(paths: &Paths) -> Result<Places> {
    let path = paths.places();
    let json = match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Places::default()),
        other => other.map_err(|e| Error::io("read", &path, e))?,
    };
    serde_json::from_slice(&json)
        .map_err(|e| Error::system(format!("cannot read {}", path.display())).with_source(e))
}

/// The numbers of user and groups, from the container's own files as its layers hold them.
fn who(record: &Record, mounts: &Mounts) -> Result<Identity> {
    named(record, mounts, &record.config.user)
}

fn named(record: &Record, mounts: &Mounts, user: &str) -> Result<Identity> {
    let unreadable = |e: io::Error| {
        Error::system(format!("cannot read the users of container {}", record.id)).with_source(e)
    };
    let dirs = mounts.upper.iter().cloned().chain(mounts.lower_paths());
    let layers = Layered::open(dirs).map_err(unreadable)?;
    let read = |path| layers.read(path, identity::FILE_BYTES_MAX).map_err(unreadable);
    let passwd = read(identity::PASSWD)?.unwrap_or_default();
    let group = read(identity::GROUP)?.unwrap_or_default();
    identity::find(user, &record.host.group_add, &passwd, &group)
}

/// Makes the sources of `-v` that are not there, as directories, and fills volumes that are empty. The record with what
/// is known of the mounts now.
fn make_sources(context: &Context, record: &Record, mounts: &Mounts, who: &Identity) -> Result<Record> {
    let mut made = record.clone();
    // One that is mounted at two places is used once.
    let mut held: BTreeMap<String, PathBuf> = BTreeMap::new();
    for mount in &mut made.mounts {
        let source = Path::new(&mount.point.source);
        let label = |source: &Path| selinux::prepare_source(&record.labels, &mount.point.mode, source);
        match &mut mount.kind {
            MountKind::Bind { create, owners, .. } => {
                let there =
                    source.try_exists().map_err(|e| Error::io("look at the bind source", source, e))?;
                if !there && *create {
                    fs::create_dir_all(source).map_err(|e| Error::io("create the bind source", source, e))?;
                } else if !there {
                    return Err(Error::invalid(format!(
                        "invalid mount config for type \"bind\": bind source path does not exist: {}",
                        mount.point.source
                    )));
                }
                label(source)?;
                if let Some(owners) = owners {
                    let seen = seen_as(record, mounts, who, &owners.user)?;
                    let disk =
                        fs::metadata(source).map_err(|e| Error::io("look at the bind source", source, e))?;
                    owners.seen = Some([(disk.uid(), disk.gid()), seen]);
                }
            }
            MountKind::Volume { no_copy, .. } => {
                let name = &mount.point.name;
                let data = match held.get(name) {
                    Some(data) => data.clone(),
                    None => context.volumes.hold_blocking(name, &record.id)?,
                };
                held.insert(name.clone(), data.clone());
                if !*no_copy {
                    context.volumes.copy_up_blocking(name, mounts, &mount.point.destination)?;
                }
                label(&data)?;
                mount.point.source = data.to_string_lossy().into_owned();
            }
            MountKind::Image { .. } | MountKind::Tmpfs { .. } => {}
        }
    }
    Ok(made)
}

/// The user and group that a bind's owner is to be seen as.
fn seen_as(record: &Record, mounts: &Mounts, who: &Identity, user: &str) -> Result<(u32, u32)> {
    if user.is_empty() {
        return Ok((who.uid, who.gid));
    }
    let named = named(record, mounts, user)?;
    Ok((named.uid, named.gid))
}

/// Sees to it that the profile of a process can be put on it, if it is the engine's own.
fn confine(process: Option<&oci::runtime::Process>) -> Result<()> {
    let profile = process.and_then(|process| process.apparmor_profile().as_deref());
    if profile == Some(apparmor::DEFAULT) { apparmor::ensure() } else { Ok(()) }
}

/// The runtime directory, made anew: what an earlier run left says nothing about this one.
fn run_dir(path: &Path) -> Result<()> {
    let make = || fs::DirBuilder::new().mode(0o700).create(path);
    match make() {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_dir_all(path).map_err(|e| Error::io("remove", path, e))?;
            make().map_err(|e| Error::io("create", path, e))
        }
        other => other.map_err(|e| Error::io("create", path, e)),
    }
}

/// A copy of the mount at a path of the host, detached: it keeps its peer group, and whatever is put in the path's
/// place later is not what the container sees. What lies below is found without leaving the source.
fn open_source(context: &Context, record: &Record, bind: &plan::Bind) -> Result<OwnedFd> {
    let failed = |e| Error::io("open the bind source", &bind.source, e);
    match &bind.instead {
        plan::Instead::Nothing => {}
        plan::Instead::Image(kept) => {
            let files = context.store.mounts(kept)?;
            let tree = crate::volumes::image_tree(&files, &context.volumes.scratch(), &bind.below);
            return tree.map_err(|e| Error::io("mount the image", &bind.source.join(&bind.below), e));
        }
        plan::Instead::ImageToWrite(kept) => {
            let files = context.store.mounts(kept)?;
            let tree = crate::volumes::writable_tree(&files, &context.volumes.scratch(), &bind.below);
            return tree.map_err(|e| Error::io("mount the image", &bind.source.join(&bind.below), e));
        }
        plan::Instead::Secrets => {
            let filesystem = context.secrets.filesystem(record)?;
            return filesystem.ok_or_else(|| Error::system("a container without secrets has none mounted"));
        }
    }
    if bind.below.is_empty() {
        return sys::mount::clone_path(&bind.source, bind.recursive).map_err(failed);
    }
    let root = sys::path::Root::open(&bind.source).map_err(failed)?;
    let place = root.open_path(&bind.below).map_err(|e| {
        Error::io("open the bind source", &bind.source.join(bind.below.trim_start_matches('/')), e)
    })?;
    sys::mount::clone_fd(&place, bind.recursive).map_err(failed)
}

/// The OCI `process` object of a further command, with the numbers of its user from the container as it is now.
pub(crate) fn exec_process(
    context: &Context,
    record: &Record,
    request: &api::exec::CreateRequest,
) -> Result<Vec<u8>> {
    let ended = || Error::conflict(format!("container {} is not running", record.id));
    // One that has just been adopted may have ended before anybody could say what its number was.
    let pid = record.life.pid().filter(|pid| *pid > 0).ok_or_else(ended)?;
    let user = if request.user.is_empty() { &record.config.user } else { &request.user };
    let further = if request.user.is_empty() { record.host.group_add.as_slice() } else { &[] };
    let files = inside::root(pid).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => ended(),
        _ => Error::system(format!("cannot open the root of container {}", record.id)).with_source(e),
    })?;
    let passwd = read_inside(&files, identity::PASSWD)?;
    let group = read_inside(&files, identity::GROUP)?;
    let who = identity::find(user, further, &passwd, &group)?;
    let process = if record.host.links.is_empty() {
        plan::exec(record, &who, &context.host, request)?
    } else {
        let mut told = record.clone();
        told.config.env = linked::with_links(&context.index, record);
        plan::exec(&told, &who, &context.host, request)?
    };
    confine(Some(&process))?;
    serde_json::to_vec(&process)
        .map_err(|e| Error::system("cannot write the command's configuration").with_source(e))
}

/// A file of the container; what is not there, or is no regular file, counts as empty.
fn read_inside(root: &sys::path::Root, path: &str) -> Result<Vec<u8>> {
    match root.read_bounded(path, identity::FILE_BYTES_MAX) {
        Ok(content) => Ok(content),
        Err(e) if e.kind() == io::ErrorKind::FileTooLarge => Err(Error::io("read", Path::new(path), e)),
        Err(_) => Ok(Vec::new()),
    }
}
