//! Containers that live among another's processes (`--pid container:ID`) or use its memory (`--ipc container:ID`).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use api::container::HostConfig;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use sys::namespace;

use crate::containers::index::{Handle, Index};
use crate::containers::lender;
use crate::containers::record::Record;
use crate::context::Context;
use crate::error::{Error, Result};

/// Where the memory lies that is used by name.
const SHM: &str = "/dev/shm";
/// `TMPFS_MAGIC` of statfs(2).
const TMPFS: i64 = 0x0102_1994;

/// What a container that is about to start shares with others; to be kept until its first process is there.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    pid: Option<OwnedFd>,
    ipc: Option<OwnedFd>,
    /// The other's `/dev/shm`, detached.
    pub shm: Option<OwnedFd>,
}

impl Joins {
    /// A path that leads to the namespace of process numbers.
    pub(crate) fn pid(&self) -> Option<PathBuf> {
        self.pid.as_ref().map(path)
    }

    /// A path that leads to the namespace of memory and messages.
    pub(crate) fn ipc(&self) -> Option<PathBuf> {
        self.ipc.as_ref().map(path)
    }
}

fn path(namespace: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd()))
}

/// Refuses modes that name nobody.
pub(crate) fn check(host: &HostConfig) -> Result<()> {
    for (what, mode) in [("PID", &host.pid_mode), ("IPC", &host.ipc_mode)] {
        if lender::named(mode).is_some_and(str::is_empty) {
            return Err(Error::invalid(format!("invalid {what} mode: {mode}")));
        }
    }
    Ok(())
}

/// Puts the full ids in the place of the names, which may be given to others.
pub(crate) fn resolve(index: &Index, host: &mut HostConfig) -> Result<()> {
    for mode in [&mut host.pid_mode, &mut host.ipc_mode] {
        if let Some(full) = lender::resolve(index, mode)? {
            *mode = full;
        }
    }
    if let Some(id) = lender::named(&host.ipc_mode) {
        shares(&*index.find(id)?)?;
    }
    Ok(())
}

/// The record of somebody whose processes or memory are shared, which decides about the labels.
pub(crate) fn other(index: &Index, host: &HostConfig) -> Option<Arc<Record>> {
    [&host.pid_mode, &host.ipc_mode]
        .into_iter()
        .find_map(|mode| Some(index.find(lender::named(mode)?).ok()?.record()))
}

/// Whether a container lets others use its memory, in Docker's words.
fn shares(handle: &Handle) -> Result<()> {
    let record = handle.record();
    let mode = record.host.ipc_mode.as_str();
    if matches!(mode, "shareable" | "host") || lender::named(mode).is_some() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "failed to join IPC namespace: container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
        handle.id
    )))
}

/// The other container, which must run, with its first process.
fn running(context: &Context, record: &Record, id: &str, what: &str) -> Result<(Arc<Handle>, i32)> {
    let handle = context.index.find(id)?;
    if handle.id == record.id {
        return Err(Error::invalid(format!("cannot join own {what} namespace")));
    }
    let other = handle.record();
    if other.life.status() == "restarting" {
        return Err(Error::conflict(format!(
            "failed to join {what} namespace: Container {} is restarting, wait until the container is running",
            handle.id
        )));
    }
    let pid = other.life.pid().ok_or_else(|| not_running(&handle, what))?;
    Ok((handle, pid))
}

fn not_running(handle: &Handle, what: &str) -> Error {
    Error::conflict(format!("failed to join {what} namespace: container {} is not running", handle.id))
}

/// Opens what the container joins.
pub(crate) fn open(context: &Context, record: &Record) -> Result<Joins> {
    let mut joins = Joins::default();
    if let Some(id) = lender::named(&record.host.pid_mode) {
        let (handle, pid) = running(context, record, id, "PID")?;
        let file = File::open(format!("/proc/{pid}/ns/pid")).map_err(|_| not_running(&handle, "PID"))?;
        if !lender::is_running(&handle, pid) {
            return Err(not_running(&handle, "PID"));
        }
        joins.pid = Some(file.into());
    }
    if let Some(id) = lender::named(&record.host.ipc_mode) {
        let (handle, pid) = running(context, record, id, "IPC")?;
        shares(&handle)?;
        let open = |kind: &str| {
            File::open(format!("/proc/{pid}/ns/{kind}")).map_err(|_| not_running(&handle, "IPC"))
        };
        let (ipc, mounts) = (open("ipc")?, open("mnt")?);
        if !lender::is_running(&handle, pid) {
            return Err(not_running(&handle, "IPC"));
        }
        let shm = memory(mounts).map_err(|e| {
            Error::system(format!(
                "failed to join IPC namespace: cannot open {SHM} of container {}",
                handle.id
            ))
            .with_source(e)
        })?;
        (joins.ipc, joins.shm) = (Some(ipc.into()), Some(shm));
    }
    Ok(joins)
}

/// The `/dev/shm` that is mounted in a mount namespace, detached. A mount can only be copied where it is, so a thread that
/// does nothing else goes there; what it finds on the way is the container's, and no link is followed.
fn memory(mounts: File) -> io::Result<OwnedFd> {
    let work = move || {
        namespace::unshare_root()?;
        namespace::join(&mounts, namespace::MOUNT)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = rustix::fs::openat2(CWD, SHM, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
        if rustix::fs::fstatfs(&place)?.f_type as i64 != TMPFS {
            return Err(io::Error::other("it is no filesystem in memory"));
        }
        sys::mount::clone_fd(&place, false)
    };
    let thread = thread::Builder::new().name("shared memory".into()).spawn(work)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread in a mount namespace panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_names_somebody() {
        let host = |pid: &str| HostConfig { pid_mode: pid.into(), ..HostConfig::default() };
        assert_eq!(check(&host("container:")).unwrap_err().to_string(), "invalid PID mode: container:");
        check(&host("container:a")).unwrap();
        check(&host("host")).unwrap();
    }
}
