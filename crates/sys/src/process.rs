//! Processes: cloned, waited for and signalled by descriptor; their identity, and the program they become.

#![expect(unsafe_code, reason = "these calls have no safe wrapper elsewhere")]

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::ptr;

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

/// Reset all signal handlers in the child; ignored signals stay ignored.
pub const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// The child is put into the cgroup of version 2 behind [`Clone::cgroup`].
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// The child's parent is the caller's parent.
pub const CLONE_PARENT: u64 = libc::CLONE_PARENT as u64;
/// The child shares the caller's descriptor table.
pub const CLONE_FILES: u64 = libc::CLONE_FILES as u64;

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// What kind of child to make.
#[derive(Debug, Default)]
pub struct Clone<'a> {
    /// `CLONE_NEW*` of [`crate::namespace`], [`CLONE_PARENT`], [`CLONE_FILES`], [`CLONE_CLEAR_SIGHAND`].
    pub flags: u64,
    /// A directory of the version 2 cgroup hierarchy for the child to start in.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Cloned {
    /// The one that asked.
    Parent(Child),
    /// The new one: a copy of all memory, running on from here.
    Child,
}

/// A child process.
#[derive(Debug)]
pub struct Child {
    /// Its number in the caller's PID namespace.
    pub pid: i32,
    /// Its descriptor, which no other process can take over.
    pub pidfd: OwnedFd,
}

/// Copies the calling process, as `fork` does, with its own copy of the memory.
///
/// Refused (`EDEADLK`) when the caller has other threads: the child would have a copy of the locks
/// they hold, and nobody to release them.
pub fn clone(what: Clone<'_>) -> io::Result<Cloned> {
    if threads()? != 1 {
        return Err(io::Error::from_raw_os_error(libc::EDEADLK));
    }
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: what.flags | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: if what.flags & CLONE_PARENT == 0 { libc::SIGCHLD as u64 } else { 0 },
        ..CloneArgs::default()
    };
    if let Some(cgroup) = what.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of memory and goes on with the same stack, so this is fork;
    // the process has one thread (checked above), so the copy holds no lock of another. `args` and `pidfd` outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match pid {
        0 => Ok(Cloned::Child),
        pid if pid > 0 => {
            // SAFETY: the kernel has just opened this descriptor for us (CLONE_PIDFD), nobody else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent(Child { pid: pid as i32, pidfd }))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Copies the calling process by the old call, which filters of system calls let through where they stop `clone3(2)`: its flags are
/// behind a pointer that they cannot look at. The copy's parent is the caller's parent. Returns its number in the caller's PID
/// namespace; 0 in the copy.
///
/// The caller must have one thread. That cannot be looked up here: the caller may see another PID namespace's `/proc`.
pub fn clone_sibling() -> io::Result<i32> {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: without CLONE_VM the child has its own copy of memory and goes on with the same stack (0), so this is fork; no
    // pointers are passed. The arguments after the flags are 0, so that their order, which differs between machines, is the same.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags as libc::c_long, 0, 0, 0, 0) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid as i32) }
}

/// Number of threads of the calling process.
pub fn threads() -> io::Result<u64> {
    let stat = rustix::fs::stat(c"/proc/self/task")?;
    Ok(stat.st_nlink.saturating_sub(2))
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The code a shell shows: 128 plus the signal's number for a killed process.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// Waits for the child behind `pidfd` to end, and reaps it.
pub fn wait(pidfd: impl AsFd) -> io::Result<Exit> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => return Ok(exit_of(status.exit_status(), status.terminating_signal())),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether the process behind `pidfd` is a child of the caller's, alive or not reaped.
pub fn is_child(pidfd: impl AsFd) -> io::Result<bool> {
    // Nothing is taken away: who has ended is there to be reaped as before.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), look) {
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::CHILD) => return Ok(false),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reaps one child that has ended. With `block` waits until there is one; `None` when none has ended.
/// Fails with `ECHILD` when there are no children.
pub fn wait_any(block: bool) -> io::Result<Option<(i32, Exit)>> {
    let mut status = 0;
    let options = if block { 0 } else { libc::WNOHANG };
    // SAFETY: `status` is a live integer for the kernel to write to.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, options) };
    match pid {
        0 => Ok(None),
        pid if pid > 0 && libc::WIFSIGNALED(status) => Ok(Some((pid, Exit::Signal(libc::WTERMSIG(status))))),
        pid if pid > 0 => Ok(Some((pid, Exit::Code(libc::WEXITSTATUS(status))))),
        _ => Err(io::Error::last_os_error()),
    }
}

fn exit_of(code: Option<i32>, signal: Option<i32>) -> Exit {
    match (code, signal) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(255),
    }
}

/// Waits until the process behind `pidfd`, not necessarily a child, has ended; false if it has not after `milliseconds`.
pub fn wait_ended(pidfd: impl AsFd, milliseconds: i32) -> io::Result<bool> {
    Ok(wait_any_ended([pidfd.as_fd()], milliseconds)?.is_some())
}

/// Waits until one of these processes has ended, and tells the index of the first that has; `None` if none has after `milliseconds`.
pub fn wait_any_ended<const N: usize>(
    pidfds: [BorrowedFd<'_>; N],
    milliseconds: i32,
) -> io::Result<Option<usize>> {
    let mut polls = pidfds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    loop {
        // SAFETY: `polls` holds `N` live `pollfd`s, and the count says so.
        match unsafe { libc::poll(polls.as_mut_ptr(), N as libc::nfds_t, milliseconds) } {
            n if n >= 0 => return Ok(polls.iter().position(|poll| poll.revents != 0)),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// A descriptor of the process `pid`.
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = Some(pid).filter(|pid| *pid > 0).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// A copy of the descriptor `number` of the process behind `pidfd` (`pidfd_getfd(2)`): the caller may trace that process.
pub fn descriptor_of(pidfd: impl AsFd, number: i32) -> io::Result<OwnedFd> {
    let result = rustix::process::pidfd_getfd(pidfd, number, rustix::process::PidfdGetfdFlags::empty());
    Ok(result?)
}

/// The process that made the other end of a unix socket (`SO_PEERPIDFD`, unix(7)): `ENOPROTOOPT` where the kernel does not have it.
pub(crate) fn peer_pidfd(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut fd: RawFd = -1;
    let mut length = size_of::<RawFd>() as libc::socklen_t;
    // SAFETY: `fd` is a live integer of the length that is told; the kernel writes no more than that.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut length,
        )
    };
    check(result.into())?;
    // SAFETY: the kernel has just opened this descriptor for us, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal by number to a process by number: only right where the number cannot have been given to another.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: passes integers only.
    check(unsafe { libc::kill(pid, signal) }.into())
}

/// The caller's number in its PID namespace.
pub fn id() -> i32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::getpid() }
}

/// The number of the caller's parent; 0 if that is in another PID namespace.
pub fn parent_id() -> i32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::getppid() }
}

/// Ends the calling process at once: no destructors, no buffers written.
pub fn exit(code: i32) -> ! {
    // SAFETY: takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// Becomes another program. Returns only if that failed.
pub fn execve(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let argv = pointers(arguments);
    let envp = pointers(environment);
    // SAFETY: `program` and all strings are NUL-terminated and live, and both lists end with a null pointer.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Becomes the program open at `fd`. Returns only if that failed.
pub fn fexecve(fd: impl AsFd, arguments: &[CString], environment: &[CString]) -> io::Error {
    let argv = pointers(arguments);
    let envp = pointers(environment);
    // SAFETY: the empty path and all strings are NUL-terminated and live, and both lists end with a null pointer.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// Every descriptor from `first` on will be closed when another program is executed.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: only marks descriptors; none is closed, so no owner loses one.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) })
}

/// Makes `fd` the descriptor number `target` (one of 0, 1, 2), open across execution of another program.
pub fn become_stdio(fd: impl AsFd, target: u8) -> io::Result<()> {
    let from = fd.as_fd().as_raw_fd();
    let target = RawFd::from(target.min(2));
    if from == target {
        // SAFETY: passes integers only; clears the close-on-exec flag.
        return check(unsafe { libc::fcntl(from, libc::F_SETFD, 0) }.into());
    }
    // SAFETY: passes integers only. What was open at `target` is one of the three standard streams, which no
    // `OwnedFd` owns: they belong to the process.
    check(unsafe { libc::dup3(from, target, 0) }.into())
}

/// A copy of a standard stream (0, 1 or 2).
pub fn stdio(number: u8) -> io::Result<OwnedFd> {
    // SAFETY: the standard streams belong to the process as a whole; if one is closed, duplicating it fails with EBADF.
    let fd = unsafe { BorrowedFd::borrow_raw(RawFd::from(number.min(2))) };
    fd.try_clone_to_owned()
}

/// Reads what there is, at most as much as `buffer` holds; 0 at the end.
pub fn read(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(fd.as_fd(), &mut *buffer) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Writes all bytes.
pub fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(fd.as_fd(), bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Whether the file behind `fd` is in memory and sealed against writing.
pub fn is_sealed(fd: impl AsFd) -> bool {
    rustix::fs::fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(rustix::fs::SealFlags::WRITE))
}

/// Takes descriptor `number`, which was handed to this process by its parent, as its owner; `None` if it is not open.
/// It is marked to be closed on execution of another program. The caller takes each number at most once.
pub fn inherited(number: i32) -> Option<OwnedFd> {
    // SAFETY: passes integers only; fails with EBADF where nothing is open.
    if number < 3 || unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: it is open (the call above succeeded), and was given to us by our parent for us to own.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The caller is killed by `signal` when its parent ends.
pub fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as u64)
}

/// Orphans below the caller become its children.
pub fn set_subreaper(on: bool) -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, u64::from(on))
}

/// Whether the caller can be traced, and its `/proc` files opened, by others without privilege.
pub fn set_dumpable(on: bool) -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, u64::from(on))
}

/// From now on no execution gives more rights than the caller has.
pub fn set_no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Whether permitted capabilities are kept when the user ID changes from 0.
pub fn set_keep_capabilities(on: bool) -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(on))
}

/// The process's name as `ps` shows it, at most 15 bytes of it.
pub fn set_name(name: &CStr) -> io::Result<()> {
    prctl(libc::PR_SET_NAME, name.as_ptr() as u64)
}

fn prctl(option: i32, value: u64) -> io::Result<()> {
    // SAFETY: the options used in this file take one integer, or a NUL-terminated string that lives through the call.
    check(unsafe { libc::prctl(option, value, 0, 0, 0) }.into())
}

/// The caller's supplementary groups. Must be called before [`set_user`].
pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the list is live and its length is passed. The raw call changes this thread only, which is all there is.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
}

/// Real, effective and saved group.
pub fn set_group(gid: u32) -> io::Result<()> {
    // SAFETY: passes integers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })
}

/// Real, effective and saved user.
pub fn set_user(uid: u32) -> io::Result<()> {
    // SAFETY: passes integers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

/// The real user alone: what the kernel goes by where a process is to be of the same user as another.
pub fn set_real_user(uid: u32) -> io::Result<()> {
    // SAFETY: passes integers only; -1 leaves the others as they are.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, -1, -1) })
}

/// The real group alone.
pub fn set_real_group(gid: u32) -> io::Result<()> {
    // SAFETY: passes integers only; -1 leaves the others as they are.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, -1, -1) })
}

/// The effective user.
pub fn effective_user() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() }
}

/// The effective group.
pub fn effective_group() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::getegid() }
}

/// Sets the file mode creation mask, and returns the one before.
pub fn umask(mask: u32) -> u32 {
    // SAFETY: passes an integer, cannot fail.
    unsafe { libc::umask(mask) }
}

/// Starts a session with the caller as its leader.
pub fn new_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Puts the caller into a process group of its own.
pub fn new_group() -> io::Result<()> {
    Ok(rustix::process::setpgid(None, None)?)
}

/// Sets the working directory.
pub fn change_dir(path: impl AsRef<Path>) -> io::Result<()> {
    Ok(rustix::process::chdir(path.as_ref())?)
}

/// Sets the working directory to the directory behind `fd`.
pub fn change_dir_fd(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::process::fchdir(fd)?)
}

/// Makes the working directory the root of the calling process alone. What is above it stays reachable for one who may do this again.
pub fn change_root_here() -> io::Result<()> {
    Ok(rustix::process::chroot(c".")?)
}

/// Whether a descriptor with this number is open.
pub fn is_open(number: i32) -> bool {
    // SAFETY: passes integers only, and changes nothing.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// The descriptors `first` to `last` stay open when another program is executed.
pub fn keep_on_exec(first: i32, last: i32) -> io::Result<()> {
    (first..=last).try_for_each(|number| {
        // SAFETY: passes integers only; clears the close-on-exec flag.
        check(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }.into())
    })
}

/// Whether the working directory can be reached from the process's root: the kernel puts
/// `(unreachable)` in front of the path of one that cannot.
pub fn working_dir_is_reachable() -> io::Result<bool> {
    let path = rustix::process::getcwd(Vec::new())?;
    Ok(path.to_bytes().first() == Some(&b'/'))
}

/// The execution domain (`personality(2)`).
pub fn set_personality(domain: u64) -> io::Result<()> {
    // SAFETY: passes an integer only.
    check(unsafe { libc::personality(domain) }.into())
}

/// The I/O priority of the calling process: `class` and `level` as in `ioprio_set(2)`.
pub fn set_io_priority(class: u32, level: u32) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    // SAFETY: passes integers only.
    check(unsafe {
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, class << IOPRIO_CLASS_SHIFT | level)
    })
}

/// Whether the effective user may execute `path`.
pub fn may_execute(path: &Path) -> io::Result<()> {
    use rustix::fs::{Access, AtFlags, CWD};
    Ok(rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?)
}

/// Whether the effective user may write to (or, to a directory, make files in) `path`.
pub fn may_write(path: &Path) -> io::Result<()> {
    use rustix::fs::{Access, AtFlags, CWD};
    Ok(rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)?)
}

fn check(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
