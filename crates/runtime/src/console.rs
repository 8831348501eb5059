//! The terminal of a container: made in its own devpts, handed out over a socket, bound at `/dev/console`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci::runtime::Process;
use sys::fsx::{self, FileType, Mode, OFlags};
use sys::mount;
use sys::path::Root;
use sys::{process, pty, socket, terminal};

use crate::error::{Context as _, Error};
use crate::mounts;

/// The name of every terminal's other end, and by runc's convention the bytes that come with one; receivers ignore them.
pub(crate) const PTMX: &str = "/dev/pts/ptmx";

/// A pseudo-terminal of the container. Neither end was opened by a name that the container could have changed
/// after it was looked at (CVE-2025-52565).
pub(crate) struct Console {
    terminal: OwnedFd,
}

impl Console {
    /// Makes one in the devpts below `root`, and sends the master over `socket`.
    pub(crate) fn open(root: &Root, process: &Process, socket: &OwnedFd) -> Result<Self, Error> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW;
        let handle = root.open_at(PTMX, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).on("open", PTMX)?;
        if mount::magic(&handle).on("inspect", PTMX)? != mount::DEVPTS {
            return Err(Error::Invalid(format!("{PTMX} is not on a devpts")));
        }
        let master = root.open_at(PTMX, flags, Mode::empty()).on("open", PTMX)?;
        // What was opened, and not what was looked at, is what counts.
        nodes_verify(&master)?;
        terminal::unlock(&master).on("unlock", PTMX)?;
        let terminal = pty::open_slave(&master).on("open the terminal of", PTMX)?;
        if let Some(size) = process.console_size() {
            let clamp = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
            pty::set_size(&terminal, clamp(size.height()), clamp(size.width())).on("resize", PTMX)?;
        }
        // The group is the one that the devpts was mounted with (`tty`).
        let group = fsx::stat(&terminal).on("inspect", "the terminal")?.st_gid;
        fsx::chown(&terminal, process.user().uid(), group).on("set the owner of", "the terminal")?;
        socket::send_fds(socket, PTMX.as_bytes(), &[master.as_fd()]).on("send", "the terminal")?;
        Ok(Self { terminal })
    }

    /// Binds it at `/dev/console`.
    pub(crate) fn bind(&self, root: &Root) -> Result<(), Error> {
        let path = Path::new("/dev/console");
        let tree = mount::clone_fd(&self.terminal, false).on("mount", path)?;
        let target = mounts::place(root, path, false)?;
        mount::attach(tree, target).on("mount", path)
    }

    /// Makes it the controlling terminal and the standard streams. The caller leads a session.
    pub(crate) fn take(self) -> Result<(), Error> {
        terminal::set_controlling(&self.terminal).on("control", "the terminal")?;
        for number in 0..3 {
            process::become_stdio(&self.terminal, number).on("use", "the terminal")?;
        }
        Ok(())
    }
}

impl AsFd for Console {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }
}

fn nodes_verify(master: &OwnedFd) -> Result<(), Error> {
    const PTMX_MAJOR: u32 = 5;
    const PTMX_MINOR: u32 = 2;
    if mount::magic(master).on("inspect", PTMX)? != mount::DEVPTS {
        return Err(Error::Invalid(format!("{PTMX} is not on a devpts")));
    }
    crate::nodes::verify(master, Path::new(PTMX), FileType::CharacterDevice, PTMX_MAJOR, PTMX_MINOR)
}
