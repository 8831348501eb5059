//! Namespaces: leaving, joining, and the names that live in one.

#![expect(unsafe_code, reason = "these calls have no safe wrapper elsewhere")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Mounts.
pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
/// Process numbers.
pub const PID: u64 = libc::CLONE_NEWPID as u64;
/// Network devices, addresses, ports.
pub const NETWORK: u64 = libc::CLONE_NEWNET as u64;
/// System V and POSIX message queues, semaphores, shared memory.
pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
/// Host name and domain name.
pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
/// What is seen as the root of the cgroups.
pub const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
/// Users, groups and capabilities.
pub const USER: u64 = libc::CLONE_NEWUSER as u64;
/// Offsets of the monotonic clocks.
pub const TIME: u64 = 0x80;

/// Moves the caller into new namespaces of the kinds in `flags`. A new PID namespace is for its children only.
pub fn unshare(flags: u64) -> io::Result<()> {
    // SAFETY: passes an integer only. CLONE_FILES, the flag that would separate descriptors from their owners in
    // other threads, is not among the constants of this module, and masked out.
    check(unsafe { libc::unshare((flags & !(libc::CLONE_FILES as u64)) as i32) })
}

/// Gives the calling thread a root and a working directory of its own, as it needs to join a mount namespace: what other
/// threads see stays as it is.
pub fn unshare_root() -> io::Result<()> {
    // SAFETY: passes an integer only.
    check(unsafe { libc::unshare(libc::CLONE_FS) })
}

/// Moves the caller into the namespace behind `fd` (which must be of one of the kinds in `flags`, if any are given),
/// or, with a process's descriptor, into that process's namespaces of all the kinds in `flags`.
pub fn join(fd: impl AsFd, flags: u64) -> io::Result<()> {
    // SAFETY: passes integers only.
    check(unsafe { libc::setns(fd.as_fd().as_raw_fd(), flags as i32) })
}

/// Sets the host name of the caller's UTS namespace.
pub fn set_host_name(name: &str) -> io::Result<()> {
    // SAFETY: the pointer and length are those of a live string.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) })
}

/// Sets the NIS domain name of the caller's UTS namespace.
pub fn set_domain_name(name: &str) -> io::Result<()> {
    // SAFETY: the pointer and length are those of a live string.
    check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
