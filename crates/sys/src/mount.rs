//! Mounts by descriptor: a mount is made or cloned detached from every tree, configured, and only then attached onto a
//! descriptor of the place where it belongs. No path is looked up between check and use.

#![expect(unsafe_code, reason = "these calls have no safe wrapper elsewhere")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::retry_on_intr;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

/// No writes through this mount.
pub const RDONLY: u64 = 0x1;
/// Set-user-ID bits and file capabilities have no effect.
pub const NOSUID: u64 = 0x2;
/// Device nodes cannot be opened.
pub const NODEV: u64 = 0x4;
/// Programs cannot be executed.
pub const NOEXEC: u64 = 0x8;
/// The bits that choose when access times are updated; all clear is `relatime`.
pub const ATIME: u64 = 0x70;
/// Access times are never updated.
pub const NOATIME: u64 = 0x10;
/// Access times are always updated.
pub const STRICTATIME: u64 = 0x20;
/// Access times of directories are never updated.
pub const NODIRATIME: u64 = 0x80;
/// Symbolic links are not followed.
pub const NOSYMFOLLOW: u64 = 0x20_0000;

/// How mounts and unmounts spread between copies of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// To all peers and back.
    Shared,
    /// From the peers to this one, not back.
    Slave,
    /// Not at all, and it cannot be bind-mounted.
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Self::Unbindable => libc::MS_UNBINDABLE,
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
        }
    }
}

/// What `mount_setattr` changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Attributes to switch on.
    pub set: u64,
    /// Attributes to switch off.
    pub clear: u64,
    /// The new propagation, if it is to change.
    pub propagation: Option<Propagation>,
}

impl Change {
    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.set == 0 && self.clear == 0 && self.propagation.is_none()
    }
}

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

impl From<Change> for MountAttr {
    fn from(change: Change) -> Self {
        Self {
            attr_set: change.set,
            attr_clr: change.clear,
            propagation: change.propagation.map_or(0, Propagation::bits),
            userns_fd: 0,
        }
    }
}

/// A new instance of the filesystem `kind`, mounted nowhere yet. An option without a value is a flag.
///
/// The kernel's own explanation of a refusal, where it has one, is the text of the error.
pub fn filesystem(
    kind: &str,
    source: Option<&str>,
    options: &[(&str, Option<&str>)],
    attributes: u64,
) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    configure(&context, source, options).map_err(|error| explain(&context, error))?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Gives the filesystem that is mounted at `path` these options (flags or `key=value`), and takes all others from it.
pub fn reconfigure(path: impl AsRef<Path>, options: &[String]) -> io::Result<()> {
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_NO_AUTOMOUNT;
    let context = rustix::mount::fspick(CWD, path.as_ref(), flags)?;
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => rustix::mount::fsconfig_set_string(&context, key, value)?,
            None => rustix::mount::fsconfig_set_flag(&context, option)?,
        }
    }
    rustix::mount::fsconfig_reconfigure(&context).map_err(|error| explain(&context, error.into()))
}

fn configure(context: &OwnedFd, source: Option<&str>, options: &[(&str, Option<&str>)]) -> io::Result<()> {
    if let Some(source) = source {
        rustix::mount::fsconfig_set_string(context, "source", source)?;
    }
    for (key, value) in options {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(context, *key, *value)?,
            None => rustix::mount::fsconfig_set_flag(context, *key)?,
        }
    }
    Ok(rustix::mount::fsconfig_create(context)?)
}

/// The last message that the filesystem left in its context (`e overlay: …`), put in front of the error number.
fn explain(context: &OwnedFd, error: io::Error) -> io::Error {
    let mut message = [0u8; 512];
    match rustix::io::read(context, &mut message) {
        Ok(length) if length > 2 => {
            let text = String::from_utf8_lossy(&message[2..length]);
            io::Error::new(error.kind(), format!("{}: {error}", text.trim_end()))
        }
        _ => error,
    }
}

/// A detached copy of the mount that `path` leads to, with the mounts below it if `recursive`.
pub fn clone_path(path: impl AsRef<Path>, recursive: bool) -> io::Result<OwnedFd> {
    let flags = clone_flags(recursive);
    Ok(retry_on_intr(|| rustix::mount::open_tree(CWD, path.as_ref(), flags))?)
}

/// A detached copy of the mount at the file or directory behind `fd`, showing just that file or directory.
pub fn clone_fd(fd: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    let flags = clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(retry_on_intr(|| rustix::mount::open_tree(fd.as_fd(), c"", flags))?)
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Attaches the detached mount `mount` onto the file or directory behind `target`.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount.as_fd(), c"", target.as_fd(), c"", flags)?)
}

/// Changes the mount that `fd` is the root of, or all from it downwards if `recursive`.
pub fn change(fd: impl AsFd, recursive: bool, change: Change) -> io::Result<()> {
    mount_setattr(fd.as_fd(), c"", libc::AT_EMPTY_PATH, recursive, &change.into())
}

/// Shows the owners of files of the detached mount behind `fd`, or of all from it downwards if `recursive`, through the id
/// maps of the user namespace `users` (`MOUNT_ATTR_IDMAP`).
pub fn set_id_map(fd: impl AsFd, recursive: bool, users: impl AsFd) -> io::Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
    let attr = MountAttr {
        attr_set: MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: users.as_fd().as_raw_fd() as u64,
    };
    mount_setattr(fd.as_fd(), c"", libc::AT_EMPTY_PATH, recursive, &attr)
}

/// Changes every mount of the calling process's mount namespace.
pub fn change_everything(change: Change) -> io::Result<()> {
    mount_setattr(CWD, c"/", 0, true, &change.into())
}

fn mount_setattr(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: i32,
    recursive: bool,
    attr: &MountAttr,
) -> io::Result<()> {
    let flags = if recursive { flags | AT_RECURSIVE } else { flags };
    // SAFETY: `path` is NUL-terminated and `attr` is a live `struct mount_attr` whose size is passed with it; the
    // kernel only reads both.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const AT_RECURSIVE: i32 = 0x8000;

/// Makes the working directory the root of the mount namespace, and puts the old root on top of it: unmount that
/// with [`detach_here`].
pub fn pivot_here() -> io::Result<()> {
    Ok(rustix::process::pivot_root(c".", c".")?)
}

/// Unmounts what is mounted on the working directory, lazily and with all below it.
pub fn detach_here() -> io::Result<()> {
    Ok(rustix::mount::unmount(c".", UnmountFlags::DETACH)?)
}

/// Unmounts what is mounted at `path`, a path of the host that we ourselves chose; lazily, with all below it.
pub fn detach(path: impl AsRef<Path>) -> io::Result<()> {
    Ok(rustix::mount::unmount(path.as_ref(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
}

/// Moves the mount that `path` (of the host) is the root of onto the directory behind `target`.
pub fn move_path(path: impl AsRef<Path>, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(CWD, path.as_ref(), target.as_fd(), c"", flags)?)
}

/// The type of the filesystem that `fd` lies on, as in `statfs(2)`.
pub fn magic(fd: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstatfs(fd)?.f_type as u64)
}

/// The mount flags (`ST_*` of `statvfs(3)`) of the mount that `fd` lies on.
pub fn flags(fd: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstatvfs(fd)?.f_flag.bits())
}

/// [`magic`] of procfs.
pub const PROC: u64 = 0x9fa0;
/// [`magic`] of sysfs.
pub const SYSFS: u64 = 0x6265_6572;
/// [`magic`] of a version 1 cgroup hierarchy.
pub const CGROUP: u64 = 0x0027_e0eb;
/// [`magic`] of the version 2 cgroup hierarchy.
pub const CGROUP2: u64 = 0x6367_7270;
/// [`magic`] of devpts.
pub const DEVPTS: u64 = 0x1cd1;
/// [`magic`] of tmpfs.
pub const TMPFS: u64 = 0x0102_1994;
