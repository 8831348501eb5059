//! Writing down a container.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use sys::path::Root;
use sys::proc::Proc;

use super::criu::{self, Places, Start, Worker};
use super::outside::{self, Mounts};
use super::{JOINED, Options, field, protocol, streams, unified};
use crate::config;
use crate::error::{Context as _, Error};
use crate::lifecycle::{self, Container, Status};
use crate::privilege::Privilege;

const LOG: &str = "dump.log";
const VERB: &str = "checkpoint";

/// criu's number for locking the network by nftables, which it does by itself; for the usual way it needs the program `iptables-restore`.
const BY_NFTABLES: u64 = 2;
const IPTABLES: [&str; 2] = ["/usr/sbin/iptables-restore", "/sbin/iptables-restore"];

/// A container to write down.
#[derive(Debug)]
pub struct Checkpoint<'a> {
    /// Where its images go; made if it is not there.
    pub images: &'a Path,
    /// Where criu's log goes; likewise.
    pub work: &'a Path,
    /// Images written before, relative to `images`: what has not changed since stays there.
    pub parent: Option<PathBuf>,
    /// It goes on.
    pub leave_running: bool,
    /// Only its memory, while it goes on.
    pub pre_dump: bool,
    /// Connections that are being made are left out.
    pub tcp_skip_in_flight: bool,
    /// What else.
    pub options: Options,
}

impl Checkpoint<'_> {
    fn goes_on(&self) -> bool {
        self.leave_running || self.pre_dump
    }
}

/// Writes the container down. Unless it is to go on it is stopped afterwards.
pub fn checkpoint(container: &Container, order: &Checkpoint<'_>) -> Result<(), Error> {
    unified::kept(|| dump(container, order))
}

fn dump(container: &Container, order: &Checkpoint<'_>) -> Result<(), Error> {
    let (record, init) = (&container.record, container.init);
    if matches!(container.status, Status::Created | Status::Stopped) {
        let (id, state) = (record.id.clone(), container.status.word());
        return Err(Error::State { id, verb: VERB, state });
    }
    let proc = Proc::open().on("open", "/proc")?;
    let spec = config::load(&record.bundle)?;
    super::check(VERB, &spec, Privilege::of_caller(&proc)?)?;
    let program = criu::working(VERB)?;
    for directory in [order.images, order.work] {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).on("create", directory)?;
    }
    // Relative to a directory that may not have been there before.
    if let Some(parent) = order.parent.as_deref().filter(|parent| !order.images.join(parent).is_dir()) {
        return Err(Error::Invalid(format!("--parent-path: {} is not a directory", parent.display())));
    }
    let places = Places::open(order.images, order.work, LOG)?;
    let mut options = places.options();
    order.options.write(&mut options);
    options.integer(field::PID, init.pid.unsigned_abs().into());
    options.truth(field::LEAVE_RUNNING, order.leave_running);
    options.truth(field::TCP_SKIP_IN_FLIGHT, order.tcp_skip_in_flight);
    options.truth(field::TRACK_MEM, order.pre_dump || order.parent.is_some());
    if let Some(parent) = &order.parent {
        options.text(field::PARENT_IMG, &parent.to_string_lossy());
    }
    let cgroup = container.cgroup()?;
    if let Some(freezer) = cgroup.freezer() {
        options.text(field::FREEZE_CGROUP, &freezer.to_string_lossy());
    }
    if !IPTABLES.iter().any(|path| Path::new(path).exists()) {
        options.integer(field::NETWORK_LOCK, BY_NFTABLES);
    }
    let configured = spec.linux().as_ref().and_then(|l| l.namespaces().as_deref()).unwrap_or_default();
    for namespace in configured.iter().filter(|n| n.path().is_some()) {
        let kind = crate::namespaces::bits(namespace.typ());
        let Some((_, name, key)) = JOINED.iter().find(|(joined, ..)| *joined == kind) else { continue };
        let path = format!("/proc/{}/ns/{name}", init.pid);
        let inode = fs::metadata(&path).on("inspect", &path)?.ino();
        options.text(field::EXTERNAL, &format!("{name}[{inode}]:{key}"));
    }
    let mounts = Mounts::of(&proc, init.pid)?;
    let streams = streams::look(&proc, init.pid, &mounts)?;
    if !order.pre_dump {
        let path = format!("/proc/{}/root", init.pid);
        // A magic link of the host's own /proc, which leads to the container's root.
        let root = Root::from_fd(fs::File::open(&path).on("open", path)?.into());
        for external in outside::of_container(&root, &mounts, &spec)? {
            options.text(field::EXTERNAL, &external);
        }
        streams::store(order.images, &streams)?;
    }
    for stream in streams.iter().filter(|stream| streams::is_external(stream)) {
        options.text(field::EXTERNAL, stream);
    }
    let kind = if order.pre_dump { protocol::PRE_DUMP } else { protocol::DUMP };
    Worker::start(VERB, &program, &places, Start::default())?.request(kind, &options, |_, _, _| Ok(()))?;
    if order.goes_on() { Ok(()) } else { lifecycle::stop(&cgroup, init) }
}
