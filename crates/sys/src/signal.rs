//! Signals as descriptors, masks, and sending to a process that cannot be mistaken for another.

#![expect(unsafe_code, reason = "these calls have no safe wrapper elsewhere")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// The highest signal number of Linux.
pub const MAX: i32 = 64;

/// The signals a process receives through a descriptor; they are blocked for normal delivery.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks `signals` in the calling thread and opens a non-blocking descriptor that reports them.
    pub fn block(signals: &[i32]) -> io::Result<Self> {
        let set = set_of(signals);
        // SAFETY: `set` is initialised, and a null old mask is allowed.
        let rc = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if rc != 0 {
            return Err(io::Error::from_raw_os_error(rc));
        }
        // SAFETY: `set` is initialised; the result is checked before it is owned.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The number of the next pending signal, if there is one.
    pub fn next(&self) -> io::Result<Option<i32>> {
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut info)) {
            // The signal number is the first word of the record.
            Ok(n) if n >= 4 => Ok(Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))),
            Ok(_) | Err(Errno::AGAIN) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set; sigaddset refuses numbers that are not signals.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// Gives the calling thread an empty mask and every signal its default action: what a program expects that
/// is started by somebody who blocks or ignores some.
pub fn reset() {
    // The kernel's `struct sigaction`, all zero: the default action, no flags, no mask. Not through the C library, which keeps two
    // numbers for itself: its `posix_spawn` leaves them ignored, and then they are for whatever is executed here.
    const MASK_BYTES: usize = 8;
    let action = [0_u64; 4];
    for signal in 1..=MAX {
        // SAFETY: installing the default action runs no code of ours, and `action` is at least as long as what the kernel reads;
        // numbers that cannot be changed (SIGKILL, SIGSTOP) are refused without effect.
        unsafe {
            let old = std::ptr::null_mut::<u8>();
            libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), old, MASK_BYTES);
        }
    }
    let set = set_of(&[]);
    // SAFETY: `set` is initialised, and a null old mask is allowed.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Ignores `signal` in this process.
pub fn ignore(signal: i32) {
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe {
        libc::signal(signal, libc::SIG_IGN);
    }
}

/// Sends `signal` (any number up to [`MAX`]; 0 only probes) to the process behind `pidfd`.
pub fn send(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: the call takes integers and a null pointer, and touches no memory of ours.
    let rc = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, std::ptr::null::<libc::siginfo_t>(), 0_u32)
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends a signal to all of the process group that `leader` leads, which must be a child that has not been reaped, or the number may be
/// another's.
pub fn send_to_group(leader: i32, signal: i32) -> io::Result<()> {
    let pid = rustix::process::Pid::from_raw(leader).filter(|_| leader > 1).ok_or(Errno::SRCH)?;
    let signal = rustix::process::Signal::from_named_raw(signal).ok_or(Errno::INVAL)?;
    Ok(rustix::process::kill_process_group(pid, signal)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_arrives_at_the_descriptor() {
        let fd = SignalFd::block(&[libc::SIGUSR2]).expect("signalfd");
        assert_eq!(fd.next().expect("next"), None);
        // SAFETY: raises a signal that is blocked in this thread.
        unsafe {
            libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2);
        }
        assert_eq!(fd.next().expect("next"), Some(libc::SIGUSR2));
    }

    #[test]
    fn sending_to_a_process_by_descriptor() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().expect("spawn");
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("pidfd");
        send(&pidfd, 0).expect("probe");
        assert_eq!(send(&pidfd, 65).expect_err("number").raw_os_error(), Some(libc::EINVAL));
        send(&pidfd, libc::SIGKILL).expect("kill");
        assert!(!child.wait().expect("wait").success());
        assert_eq!(send(&pidfd, 0).expect_err("dead").raw_os_error(), Some(libc::ESRCH));
    }
}
