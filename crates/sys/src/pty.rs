//! Pseudo-terminals, seen from the master's side.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// Sets the window size of a terminal; its foreground process group gets SIGWINCH when that changes it.
pub fn set_size(terminal: impl AsFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// The window size of a terminal, as (rows, columns).
pub fn size(terminal: impl AsFd) -> io::Result<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal)?;
    Ok((size.ws_row, size.ws_col))
}

/// Opens the slave of `master` without a path, so that nothing inside a container can divert it, and without
/// making it the controlling terminal.
pub fn open_slave(master: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    Ok(rustix::pty::ioctl_tiocgptpeer(master, flags)?)
}

/// Makes a new pseudo-terminal in the devpts of the calling process.
pub fn open_master() -> io::Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&master)?;
    Ok(master)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_agree_on_the_size() {
        let master = open_master().expect("master");
        let slave = open_slave(&master).expect("slave");
        set_size(&master, 33, 101).expect("resize");
        assert_eq!(size(&slave).expect("size"), (33, 101));
    }
}
