//! Limits on what trees of files may occupy: project quotas (`quotactl_fd(2)`, `ioctl_xfs_fsgetxattr(2)`, `xfs_quota(8)`).

#![expect(unsafe_code, reason = "these calls have no safe wrapper elsewhere")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Files and directories made in a directory get its project (`linux/fs.h`).
const XFLAG_PROJINHERIT: u32 = 0x200;
/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR`: `_IOR('X', 31, struct fsxattr)`, `_IOW('X', 32, struct fsxattr)`.
const FSGETXATTR: u32 = 0x801c_581f;
const FSSETXATTR: u32 = 0x401c_5820;
/// `QCMD(Q_GETQUOTA, PRJQUOTA)` and `QCMD(Q_SETQUOTA, PRJQUOTA)` (`linux/quota.h`).
const GET: u32 = (0x80_0007 << 8) | 2;
const SET: u32 = (0x80_0008 << 8) | 2;
/// The limit on blocks is what is set.
const BLOCK_LIMITS: u32 = 1;
/// Limits are in blocks of this many bytes, whatever the filesystem's are (`QIF_DQBLKSIZE`).
const BLOCK_BYTES: u64 = 1024;

/// `struct fsxattr` of `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    padding: [u8; 8],
}

/// What a project has, and may have at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that its files occupy.
    pub bytes: u64,
    /// Bytes that they may occupy; 0 for as many as there are.
    pub limit: u64,
    /// How many files it has.
    pub inodes: u64,
}

/// The project of an open directory; 0 is everybody's.
pub fn project(dir: impl AsFd) -> io::Result<u32> {
    Ok(attributes(dir)?.project)
}

/// Makes an open directory a project's, and with it all that is made in it from now on.
pub fn set_project(dir: impl AsFd, project: u32) -> io::Result<()> {
    let mut attributes = attributes(dir.as_fd())?;
    attributes.project = project;
    attributes.flags |= XFLAG_PROJINHERIT;
    // SAFETY: the request reads one live structure of the size that it names.
    check(unsafe { libc::ioctl(dir.as_fd().as_raw_fd(), FSSETXATTR as _, &raw const attributes) }.into())
}

/// What a project has on the filesystem that `on` lies on. An error where there are no project quotas: of the kinds
/// `ENOSYS`, `ESRCH`, `EOPNOTSUPP`, `ENOTTY` or `EINVAL`, as kernels and filesystems differ.
pub fn usage(on: impl AsFd, project: u32) -> io::Result<Usage> {
    let mut quota = nothing();
    call(on, GET, project, &mut quota)?;
    let limit = quota.dqb_bhardlimit.saturating_mul(BLOCK_BYTES);
    Ok(Usage { bytes: quota.dqb_curspace, limit, inodes: quota.dqb_curinodes })
}

/// Lets a project's files occupy `bytes` and no more; 0 takes the limit away.
pub fn set_limit(on: impl AsFd, project: u32, bytes: u64) -> io::Result<()> {
    let mut quota = nothing();
    quota.dqb_bhardlimit = bytes.div_ceil(BLOCK_BYTES);
    quota.dqb_valid = BLOCK_LIMITS;
    call(on, SET, project, &mut quota)
}

fn nothing() -> libc::dqblk {
    libc::dqblk {
        dqb_bhardlimit: 0,
        dqb_bsoftlimit: 0,
        dqb_curspace: 0,
        dqb_ihardlimit: 0,
        dqb_isoftlimit: 0,
        dqb_curinodes: 0,
        dqb_btime: 0,
        dqb_itime: 0,
        dqb_valid: 0,
    }
}

fn attributes(file: impl AsFd) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the request fills one live structure of the size that it names.
    check(unsafe { libc::ioctl(file.as_fd().as_raw_fd(), FSGETXATTR as _, &raw mut attributes) }.into())?;
    Ok(attributes)
}

fn call(on: impl AsFd, command: u32, project: u32, quota: &mut libc::dqblk) -> io::Result<()> {
    let on = on.as_fd().as_raw_fd();
    // SAFETY: both commands take one live `struct if_dqblk`, which libc's `dqblk` is.
    check(unsafe { libc::syscall(libc::SYS_quotactl_fd, on, command, project, &raw mut *quota) })
}

fn check(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_the_kernels() {
        // The sizes that are part of the requests' numbers, and of the kernel's interface.
        assert_eq!(size_of::<Attributes>() as u32, (FSGETXATTR >> 16) & 0x3fff);
        assert_eq!(size_of::<Attributes>() as u32, (FSSETXATTR >> 16) & 0x3fff);
        assert_eq!(size_of::<libc::dqblk>(), 72);
    }

    #[test]
    fn memory_has_no_projects_quotas() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert!(
            usage(&proc, 0).is_err() && set_project(&proc, 1).is_err() && set_limit(&proc, 1, 1).is_err()
        );
    }
}
