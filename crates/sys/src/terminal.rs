//! A pseudo-terminal as the process on it sees it; see [`crate::pty`] for the other side.

#![expect(unsafe_code, reason = "these calls have no safe wrapper elsewhere")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::termios::{OptionalActions, Termios};

/// Allows the terminal side of `master` to be opened.
pub fn unlock(master: impl AsFd) -> io::Result<()> {
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one live integer.
    check(unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) })
}

/// Makes `terminal` the controlling terminal of the session that the caller leads.
pub fn set_controlling(terminal: impl AsFd) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer by value.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) })
}

/// Makes the caller's process group the one in the foreground of `terminal`; without effect if that is not its
/// controlling terminal.
pub fn take_foreground(terminal: impl AsFd) -> io::Result<()> {
    let group = rustix::process::getpgrp();
    match rustix::termios::tcsetpgrp(terminal, group) {
        Err(rustix::io::Errno::NOTTY) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Our own terminal, passing everything through as it is typed, until this is dropped.
#[derive(Debug)]
pub struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    /// Changes the terminal that is standard stream `number`.
    pub fn enter(number: u8) -> io::Result<Self> {
        let terminal = crate::process::stdio(number)?;
        let before = rustix::termios::tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&terminal, OptionalActions::Flush, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nobody is left to be told if this fails.
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Which of the descriptors can be read from (or are at their end) without waiting; with `wait`, waits until one is.
pub fn readable<const N: usize>(fds: [Option<BorrowedFd<'_>>; N], wait: bool) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|fd| libc::pollfd {
        // The kernel passes over negative numbers.
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    });
    loop {
        // SAFETY: the list is live and its length is passed.
        let n = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, if wait { -1 } else { 0 }) };
        if n >= 0 {
            return Ok(polled.map(|p| p.revents != 0));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
