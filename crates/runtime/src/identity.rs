//! Who a process is: user, groups, capabilities, label, filter; and where: working directory, umask, limits.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci::runtime::{LinuxPersonality, LinuxPersonalityDomain, LinuxSeccomp, Process};
use sys::caps::Sets;
use sys::fsx::{self, FileType, Mode, OFlags};
use sys::path::Root;
use sys::proc::Proc;
use sys::process::{Clone, Cloned, Exit};
use sys::seccomp::Instruction;
use sys::{caps, process, rlimit, seccomp};

use crate::capabilities::CapabilitySet;
use crate::error::{Context as _, Error};
use crate::privilege::Privilege;
use crate::{scheduling, wire};

/// The mask of programs that do not say otherwise.
const UMASK_DEFAULT: u32 = 0o022;

const EIO: i32 = 5;

/// A seccomp program, ready to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) flags: u64,
    pub(crate) instructions: Vec<Instruction>,
}

impl Filter {
    /// Compiles the rules of a configuration.
    pub(crate) fn compile(rules: &LinuxSeccomp) -> Result<Self, Error> {
        let program = crate::seccomp::compile(rules).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|c| format!(": {c}")).unwrap_or_default();
            Error::Invalid(format!("linux.seccomp: {error}{cause}"))
        })?;
        Ok(Self { flags: program.flags(), instructions: program.to_vec() })
    }

    /// Bytes to keep beside the container, for processes that come later.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.flags.to_ne_bytes().to_vec();
        for i in &self.instructions {
            bytes.extend(i.code.to_ne_bytes());
            bytes.extend([i.jt, i.jf]);
            bytes.extend(i.k.to_ne_bytes());
        }
        bytes
    }

    /// What [`Filter::to_bytes`] gave.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (flags, rest) = bytes.split_first_chunk::<8>()?;
        let (chunks, []) = rest.as_chunks::<8>() else { return None };
        let instruction = |c: &[u8; 8]| Instruction {
            code: u16::from_ne_bytes([c[0], c[1]]),
            jt: c[2],
            jf: c[3],
            k: u32::from_ne_bytes([c[4], c[5], c[6], c[7]]),
        };
        let instructions = chunks.iter().map(instruction).collect();
        Some(Self { flags: u64::from_ne_bytes(*flags), instructions })
    }

    /// Whether somebody answers for it, who must be given the listener as soon as it is in force.
    fn has_listener(&self) -> bool {
        self.flags & seccomp::FLAG_NEW_LISTENER != 0
    }

    /// Puts it in force for the calling process. The number of the listener, if it has one, is told to the creator behind `sync`, which takes it.
    pub(crate) fn install(&self, sync: &OwnedFd) -> Result<(), Error> {
        let listener =
            seccomp::install(&self.instructions, self.flags).on("install", "the seccomp filter")?;
        listener.map_or(Ok(()), |listener| wire::send_listener(sync, listener))
    }
}

/// Sets the limits of `pid`, which is to execute `process` and has become its user.
pub(crate) fn set_limits(pid: i32, process: &Process) -> Result<(), Error> {
    for limit in process.rlimits().iter().flatten() {
        let name = limit.typ().to_string();
        let number =
            rlimit::number(&name).ok_or_else(|| Error::Invalid(format!("invalid rlimit type {name:?}")))?;
        let set = || rlimit::set(pid, number, limit.soft(), limit.hard());
        match set() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                set_as(process.user().uid(), process.user().gid(), set).unwrap_or(Err(error))
            }
            other => other,
        }
        .on("set", &name)?;
    }
    Ok(())
}

/// Has a child with the real user and group of a process call `set`: without `CAP_SYS_RESOURCE` the kernel lets nobody else set its
/// limits. Not the caller itself, which could be stopped or ended by that user's processes meanwhile. `None` if the child cannot take
/// them.
fn set_as(uid: u32, gid: u32, set: impl Fn() -> io::Result<()>) -> Option<io::Result<()>> {
    const NOT_TAKEN: i32 = 255;
    let child = match process::clone(Clone { flags: process::CLONE_CLEAR_SIGHAND, cgroup: None }) {
        Err(error) => return Some(Err(error)),
        Ok(Cloned::Parent(child)) => child,
        Ok(Cloned::Child) => {
            let taken = process::set_real_group(gid).and_then(|()| process::set_real_user(uid));
            let number = |error: io::Error| error.raw_os_error().unwrap_or(EIO);
            process::exit(taken.map_or(NOT_TAKEN, |()| set().map_or_else(number, |()| 0)))
        }
    };
    match process::wait(&child.pidfd) {
        Ok(Exit::Code(NOT_TAKEN)) => None,
        Ok(Exit::Code(0)) => Some(Ok(())),
        Ok(Exit::Code(number)) => Some(Err(io::Error::from_raw_os_error(number))),
        Ok(Exit::Signal(_)) => Some(Err(io::ErrorKind::Interrupted.into())),
        Err(error) => Some(Err(error)),
    }
}

/// Sets how ready the kernel is to kill the process `pid` for want of memory: outside, where its files belong to us.
pub(crate) fn set_oom_score(proc: &Proc, pid: i32, process: &Process) -> Result<(), Error> {
    let Some(score) = process.oom_score_adj() else { return Ok(()) };
    let file = format!("{pid}/oom_score_adj");
    proc.write(&file, score.to_string()).on("write", format!("/proc/{file}"))
}

/// Becomes the user, with the rights, that the configuration says. The root directory is the container's.
/// A filter that is returned is still to be installed, as the last thing before the program is executed. One with a listener is
/// installed here in any case, while there is a creator behind `sync` to hand it over.
pub(crate) fn assume(
    process: &Process,
    filter: Option<Filter>,
    proc: &Proc,
    sync: &OwnedFd,
    privilege: Privilege,
    missing: Missing,
) -> Result<Option<Filter>, Error> {
    set_labels(process, proc)?;
    scheduling::set(process)?;
    let no_new_privileges = process.no_new_privileges() == Some(true);
    if no_new_privileges {
        process::set_no_new_privileges().on("set", "no_new_privs")?;
    }
    let filter = match filter {
        Some(filter) if no_new_privileges && !filter.has_listener() => Some(filter),
        // Without no-new-privileges installing it takes CAP_SYS_ADMIN, which is about to be dropped.
        Some(filter) => {
            // An ordinary user's creator can take the listener only from a process that is his to look into.
            let shown = filter.has_listener() && !privilege.mounts;
            process::set_dumpable(shown).on("show", "this process")?;
            filter.install(sync)?;
            process::set_dumpable(false).on("hide", "this process")?;
            None
        }
        None => None,
    };
    let entered = enter_directory(process.cwd(), missing);
    become_user(process, proc)?;
    match entered {
        // The user may see what root may not, on a network filesystem.
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            enter_directory(process.cwd(), missing)?;
        }
        other => other?,
    }
    Ok(filter)
}

fn become_user(process: &Process, proc: &Proc) -> Result<(), Error> {
    let configured = process.capabilities().as_ref();
    let set = |pick: fn(&oci::runtime::LinuxCapabilities) -> &Option<oci::runtime::Capabilities>| {
        configured.and_then(|c| pick(c).as_ref()).map_or(0, |c| CapabilitySet::from_spec(c).bits())
    };
    let (effective, permitted) = (set(|c| c.effective()), set(|c| c.permitted()));
    let (bounding, inheritable) = (set(|c| c.bounding()), set(|c| c.inheritable()));
    caps::limit_bounding(bounding).on("limit", "the bounding set")?;
    let user = process.user();
    process::set_keep_capabilities(true).on("keep", "capabilities")?;
    set_groups(user.additional_gids().as_deref().unwrap_or_default(), proc)?;
    process::set_group(user.gid()).on("become", format!("group {}", user.gid()))?;
    process::set_user(user.uid()).on("become", format!("user {}", user.uid()))?;
    process::set_keep_capabilities(false).on("keep", "capabilities")?;
    // What the kernel does not know, or we do not have, cannot be given; runc leaves it out as well.
    let own = caps::get().on("read", "the capabilities")?.permitted;
    let permitted = permitted & own;
    let sets = Sets { effective: effective & permitted, permitted, inheritable: inheritable & own };
    caps::set(sets).on("set", "the capabilities")?;
    caps::set_ambient(set(|c| c.ambient()) & sets.permitted & sets.inheritable)
        .on("set", "the ambient set")?;
    process::umask(user.umask().map_or(UMASK_DEFAULT, |mask| mask & 0o777));
    Ok(())
}

/// Sets the supplementary groups. In a user namespace that an ordinary user made for himself nobody may: he could get rid of a group
/// that is there to keep him out. Then his own groups stay, and have no name inside.
pub(crate) fn set_groups(groups: &[u32], proc: &Proc) -> Result<(), Error> {
    match process::set_groups(groups) {
        Err(error) if groups.is_empty() && error.kind() == io::ErrorKind::PermissionDenied => {
            let pid = proc.own_pid().on("read", "/proc/self")?;
            let rule = proc.read(format!("{pid}/setgroups")).on("read", "/proc/self/setgroups")?;
            if rule.trim() == "deny" { Ok(()) } else { Err(error).on("set", "the supplementary groups") }
        }
        other => other.on("set", "the supplementary groups"),
    }
}

/// What becomes of a working directory that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It is made: that of a container's first process.
    Made,
    /// It is an error, as in runc: who runs something in a container does not mean to change it.
    Refused,
}

/// Goes to the working directory. No magic link is followed, so it is never one that
/// an inherited descriptor leads to (CVE-2024-21626).
fn enter_directory(path: &Path, missing: Missing) -> Result<(), Error> {
    let root = Root::open("/").on("open", "/")?;
    let directory = match root.open_path(path) {
        // In procfs nothing can be made, and what is not there now may be a descriptor a moment later.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                && missing == Missing::Made
                && !sys::path::normalize(path).starts_with("proc") =>
        {
            root.mkdir_all(path, Mode::from_raw_mode(0o755)).on("create", path)?
        }
        other => other.on("chdir to cwd", path)?,
    };
    process::change_dir_fd(&directory).on("chdir to cwd", path)?;
    if !process::working_dir_is_reachable().on("find", path)? {
        return Err(Error::Invalid(format!("cwd {} is outside of the container", path.display())));
    }
    Ok(())
}

fn set_labels(process: &Process, proc: &Proc) -> Result<(), Error> {
    let label = |value: &Option<String>| value.clone().filter(|v| !v.is_empty());
    if let Some(profile) = label(process.apparmor_profile()) {
        let pid = proc.own_pid().on("read", "/proc/self")?;
        let file = format!("{pid}/attr/apparmor/exec");
        match proc.write(&file, format!("exec {profile}")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Invalid(format!("AppArmor profile {profile} is not loaded")));
            }
            written => written.on("write", format!("/proc/{file}"))?,
        }
    }
    if let Some(label) = label(process.selinux_label()) {
        let pid = proc.own_pid().on("read", "/proc/self")?;
        let file = format!("{pid}/attr/exec");
        proc.write(&file, label).on("write", format!("/proc/{file}"))?;
    }
    Ok(())
}

/// Sets the execution domain.
pub(crate) fn set_personality(personality: &LinuxPersonality) -> Result<(), Error> {
    const PER_LINUX: u64 = 0;
    const PER_LINUX32: u64 = 8;
    if personality.flags().as_ref().is_some_and(|f| !f.is_empty()) {
        return Err(Error::Unsupported("linux.personality.flags".into()));
    }
    let domain = match personality.domain() {
        LinuxPersonalityDomain::PerLinux => PER_LINUX,
        LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
    };
    process::set_personality(domain).on("set", "the personality")
}

/// Gives the standard streams to the process's user, so that `/dev/stdout` can be opened again by name.
pub(crate) fn own_stdio(uid: u32) -> Result<(), Error> {
    for number in 0..3 {
        let Ok(stream) = process::stdio(number) else { continue };
        let stat = fsx::stat(&stream).on("inspect", "a standard stream")?;
        let is_null = is_null(&stat);
        if stat.st_uid == uid || is_null {
            continue;
        }
        // On a read-only filesystem, or without the right (a user namespace), it stays as it is.
        let _ = fsx::chown(&stream, uid, stat.st_gid);
    }
    Ok(())
}

fn is_null(stat: &fsx::Stat) -> bool {
    fsx::kind(stat) == FileType::CharacterDevice && stat.st_rdev == fsx::makedev(1, 3)
}

/// Takes the container's own `/dev/null` for standard streams that are the host's: what a container has open from outside its files
/// keeps it from being written down ([`crate::checkpoint`]).
pub(crate) fn own_null() -> Result<(), Error> {
    let mut own = None;
    for number in 0..3 {
        let Ok(stream) = process::stdio(number) else { continue };
        if !is_null(&fsx::stat(&stream).on("inspect", "a standard stream")?) {
            continue;
        }
        if own.is_none() {
            let root = Root::open("/").on("open", "/")?;
            // A container without one keeps the host's.
            if !root.lstat("dev/null").is_ok_and(|stat| is_null(&stat)) {
                return Ok(());
            }
            let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NOCTTY;
            // Nor does one where devices cannot be opened.
            let Ok(found) = root.open_at("dev/null", flags, Mode::empty()) else { return Ok(()) };
            own = Some(found).filter(|found| fsx::stat(found).is_ok_and(|stat| is_null(&stat)));
        }
        let Some(own) = &own else { return Ok(()) };
        process::become_stdio(own, number).on("use", "/dev/null")?;
    }
    Ok(())
}

/// Makes three descriptors the standard streams.
pub(crate) fn use_stdio(streams: [OwnedFd; 3]) -> Result<(), Error> {
    for (stream, number) in streams.iter().zip(0u8..) {
        process::become_stdio(stream.as_fd(), number).on("use", "a standard stream")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_survives_being_kept() {
        let instructions = vec![Instruction { code: 6, jt: 1, jf: 2, k: 0x7fff_0000 }];
        let filter = Filter { flags: 4, instructions };
        assert_eq!(Filter::from_bytes(&filter.to_bytes()), Some(filter));
        assert_eq!(Filter::from_bytes(&[0; 9]), None);
        assert_eq!(Filter::from_bytes(&[0; 3]), None);
    }
}
