//! Making processes, and being the parent of them.

#![expect(unsafe_code, reason = "these calls have no safe wrapper elsewhere")]

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
pub use rustix::process::Pid;
use rustix::process::{PidfdFlags, WaitOptions};

/// Which side of a [`fork`] this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// The new process.
    Child,
    /// The old one, with the number of the new.
    Parent(Pid),
}

/// Forks a process that has one thread only; refused otherwise, as locks held by the other threads would stay locked
/// for ever in the child.
pub fn fork() -> io::Result<Fork> {
    // The link count of a directory in /proc is two plus its entries: the threads.
    let threads = rustix::fs::stat("/proc/self/task")?.st_nlink.saturating_sub(2);
    if threads != 1 {
        return Err(Errno::BUSY.into());
    }
    // SAFETY: with a single thread the child is an ordinary copy: no lock is held by anybody else.
    let pid = unsafe { libc::fork() };
    match Pid::from_raw(pid) {
        None => Ok(Fork::Child),
        Some(_) if pid < 0 => Err(io::Error::last_os_error()),
        Some(pid) => Ok(Fork::Parent(pid)),
    }
}

/// Ends this process at once, without running anything that was registered for its end.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor above 2 but those in `keep`. For the child of a [`fork`] that goes on in a world of its
/// own: values that own closed descriptors must not be used or dropped any more, hence it takes effect only with the
/// promise that the caller never returns.
pub fn keep_only<'a>(keep: impl IntoIterator<Item = BorrowedFd<'a>>) {
    keep_below_and(3, keep);
}

/// Like [`keep_only`], but for every descriptor from `first` on: those below it stay as they are.
pub fn keep_below_and<'a>(first: u32, keep: impl IntoIterator<Item = BorrowedFd<'a>>) {
    let mut kept: Vec<u32> = keep
        .into_iter()
        .filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok())
        .filter(|fd| *fd >= first)
        .collect();
    kept.sort_unstable();
    let mut next = first;
    for fd in kept {
        if fd > next {
            close_range(next, fd - 1);
        }
        next = fd + 1;
    }
    close_range(next, u32::MAX);
}

fn close_range(first: u32, last: u32) {
    // SAFETY: closes descriptors by number; the contract of `keep_only` is that their owners are never used again.
    unsafe {
        libc::close_range(first, last, 0);
    }
}

/// Moves the calling thread into a mount namespace of its own.
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: CLONE_NEWNS changes what paths mean, no memory and no descriptor.
    let rc = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Opens a descriptor of the process `pid`; it must be a child that has not been reaped, or the number may be another's.
pub fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Which one.
    pub pid: Pid,
    /// Its exit code, or 128 plus the signal that killed it.
    pub code: i32,
    /// The signal that killed it, or 0.
    pub signal: i32,
}

/// Reaps one child that has ended; `None` if none has, or there are no children.
pub fn reap() -> io::Result<Option<Ended>> {
    match rustix::io::retry_on_intr(|| rustix::process::wait(WaitOptions::NOHANG)) {
        Ok(Some((pid, status))) => {
            let signal = status.terminating_signal().unwrap_or(0);
            let code = status.exit_status().unwrap_or(128 + signal);
            Ok(Some(Ended { pid, code, signal }))
        }
        Ok(None) | Err(Errno::CHILD) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Reaps the child `pid` if it has ended.
pub fn collect(pid: Pid) -> io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::NOHANG))?;
    Ok(())
}

/// The number that an inherited descriptor of a started program has.
pub const INHERITED: i32 = 3;

/// Starts `executable` in a session of its own, with `/` as working directory, an empty environment, `null` as
/// descriptors 0 to 2, `socket` as [`INHERITED`] and no other descriptor, an empty signal mask and default actions.
/// The memory of the caller is borrowed until the exec, not copied: this is as fast for a large process as for a small.
pub fn detached(executable: &CStr, argv: &[&CStr], null: impl AsFd, socket: impl AsFd) -> io::Result<Pid> {
    // Above the numbers that the child assigns, so that no assignment overwrites a source.
    let null = rustix::io::fcntl_dupfd_cloexec(null.as_fd(), 10)?;
    let socket = rustix::io::fcntl_dupfd_cloexec(socket.as_fd(), 10)?;
    let mut attributes = Attributes::new()?;
    attributes.session_and_signals()?;
    let mut actions = Actions::new()?;
    for fd in 0..3 {
        actions.dup2(null.as_raw_fd(), fd)?;
    }
    actions.dup2(socket.as_raw_fd(), INHERITED)?;
    actions.close_from_and_root(INHERITED + 1, executable)?;
    let mut argv: Vec<*mut libc::c_char> = argv.iter().map(|a| a.as_ptr().cast_mut()).collect();
    argv.push(std::ptr::null_mut());
    let environment: [*mut libc::c_char; 1] = [std::ptr::null_mut()];
    let mut pid = 0;
    // SAFETY: every pointer is to a live, initialised, NUL- or null-terminated object; posix_spawn does not write
    // through argv or the environment.
    let rc = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            executable.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            argv.as_ptr(),
            environment.as_ptr(),
        )
    };
    check(rc)?;
    Pid::from_raw(pid).ok_or_else(|| io::Error::from(Errno::CHILD))
}

fn check(rc: i32) -> io::Result<()> {
    if rc == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(rc)) }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> io::Result<Self> {
        let mut inner = MaybeUninit::uninit();
        // SAFETY: initialises what it is given; only used when it succeeded.
        check(unsafe { libc::posix_spawnattr_init(inner.as_mut_ptr()) })?;
        // SAFETY: initialised above.
        Ok(Self(unsafe { inner.assume_init() }))
    }

    fn session_and_signals(&mut self) -> io::Result<()> {
        let flags = libc::POSIX_SPAWN_SETSID
            | libc::POSIX_SPAWN_SETSIGMASK as libc::c_short
            | libc::POSIX_SPAWN_SETSIGDEF as libc::c_short;
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the sets are initialised by the calls before they are read, the attributes by `new`.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::sigemptyset(none.as_mut_ptr());
            check(libc::posix_spawnattr_setsigdefault(&raw mut self.0, all.as_ptr()))?;
            check(libc::posix_spawnattr_setsigmask(&raw mut self.0, none.as_ptr()))?;
            check(libc::posix_spawnattr_setflags(&raw mut self.0, flags))
        }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, destroyed once.
        unsafe {
            libc::posix_spawnattr_destroy(&raw mut self.0);
        }
    }
}

struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> io::Result<Self> {
        let mut inner = MaybeUninit::uninit();
        // SAFETY: initialises what it is given; only used when it succeeded.
        check(unsafe { libc::posix_spawn_file_actions_init(inner.as_mut_ptr()) })?;
        // SAFETY: initialised above.
        Ok(Self(unsafe { inner.assume_init() }))
    }

    fn dup2(&mut self, from: i32, to: i32) -> io::Result<()> {
        // SAFETY: the actions are initialised; the numbers are only used in the child.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, from, to) })
    }

    /// Ends the list: nothing from `first` on stays open over the exec (the executable itself, if it is named by a
    /// descriptor, is closed by its own flag), and the working directory is the root.
    fn close_from_and_root(&mut self, first: i32, executable: &CStr) -> io::Result<()> {
        // SAFETY: the actions are initialised, the string is static.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(&raw mut self.0, c"/".as_ptr()) })?;
        if executable.to_bytes().starts_with(b"/proc/self/fd/") {
            return Ok(());
        }
        // SAFETY: the actions are initialised; the number is only used in the child.
        check(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(&raw mut self.0, first) })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, destroyed once.
        unsafe {
            libc::posix_spawn_file_actions_destroy(&raw mut self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_threaded_process_does_not_fork() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        assert_eq!(fork().expect_err("threads").raw_os_error(), Some(libc::EBUSY));
        drop(done);
        assert!(thread.join().expect("join").is_err());
    }

    #[test]
    fn a_detached_program_has_a_session_and_its_descriptors_only() {
        let null = std::fs::File::open("/dev/null").expect("null");
        let (mine, theirs) = crate::socket::stream_pair().expect("pair");
        let script =
            c"ls /proc/self/fd | tr '\\n' ' ' >&3; pwd >&3; env | grep -c HOME >&3; ps -o sid= -p $$ >&3";
        let pid = detached(c"/bin/sh", &[c"sh", c"-c", script], &null, &theirs).expect("spawn");
        drop(theirs);
        let mut said = String::new();
        std::os::unix::net::UnixStream::from(mine).read_to_string(&mut said).expect("read");
        let lines: Vec<&str> = said.lines().collect();
        // 4 is ls's own view of the directory.
        assert_eq!(lines[0], "0 1 2 3 4 /");
        assert_eq!(lines[1], "0");
        assert_eq!(lines[2].trim(), pid.as_raw_nonzero().to_string());
        rustix::process::waitpid(Some(pid), WaitOptions::empty()).expect("wait");
    }
}
