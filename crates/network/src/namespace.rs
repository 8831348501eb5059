//! Network namespaces: made, and worked in, from threads of their own.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use sys::namespace;
use sys::netlink::{Family, Socket};

/// The namespace that the calling thread is in.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace. It lives as long as this value or a process in it does.
#[derive(Debug)]
pub struct Namespace {
    file: OwnedFd,
    route: Socket,
}

impl Namespace {
    /// Makes one: empty but for a loopback device that is switched off.
    pub fn create() -> io::Result<Self> {
        apart(|| {
            namespace::unshare(namespace::NETWORK)?;
            Self::own()
        })
    }

    /// That of a process, by a file that leads to it (`/proc/<pid>/ns/net`).
    pub fn open(file: OwnedFd) -> io::Result<Self> {
        let route = apart(|| {
            namespace::join(&file, namespace::NETWORK)?;
            Socket::open(Family::Route)
        })?;
        Ok(Self { file, route })
    }

    /// That of the calling thread.
    pub fn own() -> io::Result<Self> {
        Ok(Self { file: File::open(OWN)?.into(), route: Socket::open(Family::Route)? })
    }

    /// A conversation about its devices, addresses and routes: a socket stays in the namespace that it was opened in.
    pub fn route(&self) -> &Socket {
        &self.route
    }

    /// Does something inside: opens a socket, sets what only `/proc/sys/net` can set.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        apart(|| {
            namespace::join(&self.file, namespace::NETWORK)?;
            work()
        })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Does something in the network namespace that `namespace` leads to, in a thread of its own.
pub fn inside<T: Send>(
    namespace: impl AsFd + Sync,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    apart(|| {
        namespace::join(&namespace, namespace::NETWORK)?;
        work()
    })
}

/// In a thread of its own, which ends with what it does: no other work ever runs in the namespace that it moves to.
fn apart<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("namespace".into()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread in a network namespace panicked")))
    })
}
