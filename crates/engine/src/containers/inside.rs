//! What a running container sees: the root of its own mounts.

use std::fs::File;
use std::io;
use std::thread;

use sys::namespace;
use sys::path::Root;

/// The root of the mount namespace that a process is in, as a handle. Not that of the process, which may have gone elsewhere since:
/// for one that runs `chroot /host` it would be the host's.
///
/// Who has the number is for the caller to make sure of, afterwards.
pub(crate) fn root(pid: i32) -> io::Result<Root> {
    let mounts = File::open(format!("/proc/{pid}/ns/mnt"))?;
    // Joining a mount namespace leads to its root; a thread that does nothing else goes there.
    let work = move || {
        namespace::unshare_root()?;
        namespace::join(&mounts, namespace::MOUNT)?;
        Root::open_followed("/")
    };
    let thread = thread::Builder::new().name("container's root".into()).spawn(work)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread in a mount namespace panicked")))
}
