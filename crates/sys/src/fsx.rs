//! Files relative to a directory's descriptor, and what is built of that: copies, atomic replacement, removal and
//! measurement of whole trees.
//!
//! In all functions `name` is one component, is never followed if it is a symbolic link, and is resolved
//! in the directory given by descriptor. For paths of several components there is [`crate::path::Root`].

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FallocateFlags, Gid, RawMode, RenameFlags, ResolveFlags, SeekFrom, Timespec,
    Timestamps, Uid,
};
use rustix::io::{Errno, retry_on_intr};

pub use rustix::fs::{Dev, FileType, Mode, OFlags, Stat};
pub use rustix::fs::{major, makedev, minor};

/// Directories held open at once while a tree is walked: deeper ones are brought up (removal) or reached again by `..`.
const OPEN_DIRS_MAX: usize = 64;

/// A point in time as files carry it: seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds, below a billion.
    pub nanoseconds: u32,
}

impl Time {
    fn spec(self) -> Timespec {
        Timespec { tv_sec: self.seconds, tv_nsec: self.nanoseconds.into() }
    }
}

/// Opens `name` in `dir`. `CLOEXEC` and `NOFOLLOW` are always set.
pub fn open_at(dir: impl AsFd, name: impl AsRef<OsStr>, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(retry_on_intr(|| rustix::fs::openat(&dir, name.as_ref(), flags, mode))?)
}

/// Opens the directory `name` in `dir` for reading.
pub fn open_dir_at(dir: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<OwnedFd> {
    open_at(dir, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

/// Opens `name` in `dir`, which must be a regular file, for reading. A FIFO, device, socket, link or directory is refused without being
/// opened, however often the name is given to something else meanwhile: nothing blocks and no driver is woken. Needs `/proc`.
pub fn open_regular_at(dir: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<File> {
    open_regular_handle(open_at(dir, name, OFlags::PATH, Mode::empty())?)
}

/// Opens what a handle (`O_PATH`) stands for, which must be a regular file, for reading; see [`open_regular_at`].
pub fn open_regular_handle(handle: impl AsFd) -> io::Result<File> {
    let handle = handle.as_fd();
    match kind(&stat(handle)?) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(Errno::ISDIR.into()),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
    // By name it may be something else by now; the magic link leads to the very same inode.
    let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(retry_on_intr(|| rustix::fs::openat(CWD, link.as_str(), flags, Mode::empty()))?))
}

/// Makes the directory `name`; the mode is subject to the umask.
pub fn mkdir_at(dir: impl AsFd, name: impl AsRef<OsStr>, mode: Mode) -> io::Result<()> {
    Ok(rustix::fs::mkdirat(dir, name.as_ref(), mode)?)
}

/// Removes the file, link or node `name`.
pub fn unlink_at(dir: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, name.as_ref(), AtFlags::empty())?)
}

/// Removes the empty directory `name`.
pub fn rmdir_at(dir: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, name.as_ref(), AtFlags::REMOVEDIR)?)
}

/// Renames `old` in `old_dir` to `new` in `new_dir`, replacing it.
pub fn rename_at(
    old_dir: impl AsFd,
    old: impl AsRef<OsStr>,
    new_dir: impl AsFd,
    new: impl AsRef<OsStr>,
) -> io::Result<()> {
    Ok(rustix::fs::renameat(old_dir, old.as_ref(), new_dir, new.as_ref())?)
}

/// As [`rename_at`], but fails with `AlreadyExists` where it would replace something.
pub fn rename_new_at(
    old_dir: impl AsFd,
    old: impl AsRef<OsStr>,
    new_dir: impl AsFd,
    new: impl AsRef<OsStr>,
) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(old_dir, old.as_ref(), new_dir, new.as_ref(), RenameFlags::NOREPLACE)?)
}

/// Makes the symbolic link `name` with the text `target`.
pub fn symlink_at(target: impl AsRef<OsStr>, dir: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<()> {
    Ok(rustix::fs::symlinkat(target.as_ref(), dir, name.as_ref())?)
}

/// Makes `new` in `new_dir` a further name of `old` in `old_dir`; a symbolic link itself is linked.
pub fn link_at(
    old_dir: impl AsFd,
    old: impl AsRef<OsStr>,
    new_dir: impl AsFd,
    new: impl AsRef<OsStr>,
) -> io::Result<()> {
    Ok(rustix::fs::linkat(old_dir, old.as_ref(), new_dir, new.as_ref(), AtFlags::empty())?)
}

/// Makes a device, FIFO or socket called `name`; the mode is subject to the umask.
pub fn mknod_at(
    dir: impl AsFd,
    name: impl AsRef<OsStr>,
    kind: FileType,
    mode: Mode,
    dev: Dev,
) -> io::Result<()> {
    Ok(rustix::fs::mknodat(dir, name.as_ref(), kind, mode, dev)?)
}

/// What an open descriptor stands for.
pub fn stat(fd: impl AsFd) -> io::Result<Stat> {
    Ok(rustix::fs::fstat(fd)?)
}

/// What `name` is, itself.
pub fn stat_at(dir: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<Stat> {
    Ok(rustix::fs::statat(dir, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The kind of file that a `stat` describes.
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode as RawMode)
}

/// Sets the owner of an open file. The kernel clears set-user-id bits, so the mode is set after the owner.
pub fn chown(fd: impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = owner(uid, gid)?;
    Ok(rustix::fs::fchown(fd, Some(uid), Some(gid))?)
}

/// Sets the owner of `name`, itself.
pub fn chown_at(dir: impl AsFd, name: impl AsRef<OsStr>, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = owner(uid, gid)?;
    Ok(rustix::fs::chownat(dir, name.as_ref(), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The highest number means "leave as it is" to the kernel: given as an owner it would silently be root's.
fn owner(uid: u32, gid: u32) -> io::Result<(Uid, Gid)> {
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Errno::INVAL.into());
    }
    Ok((Uid::from_raw(uid), Gid::from_raw(gid)))
}

/// Sets the permissions of an open file.
pub fn chmod(fd: impl AsFd, mode: Mode) -> io::Result<()> {
    Ok(rustix::fs::fchmod(fd, mode)?)
}

/// Sets the permissions of `name`. The kernel follows a symbolic link here: only for a name that was just made as
/// something else in a directory that nobody else can change.
pub fn chmod_at(dir: impl AsFd, name: impl AsRef<OsStr>, mode: Mode) -> io::Result<()> {
    Ok(rustix::fs::chmodat(dir, name.as_ref(), mode, AtFlags::empty())?)
}

/// Sets access and modification time of an open file.
pub fn set_times(fd: impl AsFd, access: Time, modification: Time) -> io::Result<()> {
    let times = Timestamps { last_access: access.spec(), last_modification: modification.spec() };
    Ok(rustix::fs::futimens(fd, &times)?)
}

/// Sets access and modification time of `name`, itself.
pub fn set_times_at(
    dir: impl AsFd,
    name: impl AsRef<OsStr>,
    access: Time,
    modification: Time,
) -> io::Result<()> {
    let times = Timestamps { last_access: access.spec(), last_modification: modification.spec() };
    Ok(rustix::fs::utimensat(dir, name.as_ref(), &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Owner, permissions (`None` for a symbolic link, which has none) and times of what a handle (`O_PATH`) stands for,
/// whatever has become of its name. Needs `/proc`.
pub fn set_attributes_of_handle(
    handle: impl AsFd,
    owner_ids: (u32, u32),
    mode: Option<Mode>,
    (access, modification): (Time, Time),
) -> io::Result<()> {
    let handle = handle.as_fd();
    let (uid, gid) = owner(owner_ids.0, owner_ids.1)?;
    rustix::fs::chownat(handle, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    if let Some(mode) = mode {
        // fchmod refuses such descriptors; the magic link leads to the very same inode.
        rustix::fs::chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), mode)?;
    }
    let times = Timestamps { last_access: access.spec(), last_modification: modification.spec() };
    Ok(rustix::fs::utimensat(handle, "", &times, AtFlags::EMPTY_PATH)?)
}

/// Writes content and metadata of an open file or directory to the disk.
pub fn sync(fd: impl AsFd) -> io::Result<()> {
    Ok(retry_on_intr(|| rustix::fs::fsync(&fd))?)
}

/// Writes the content of an open file to the disk, and of its metadata what is needed to read it back.
pub fn sync_data(fd: impl AsFd) -> io::Result<()> {
    Ok(retry_on_intr(|| rustix::fs::fdatasync(&fd))?)
}

/// Writes everything of the filesystem that an open file is on to the disk.
pub fn sync_filesystem(fd: impl AsFd) -> io::Result<()> {
    Ok(retry_on_intr(|| rustix::fs::syncfs(&fd))?)
}

/// Starts nothing and waits for nothing: reserves room for `bytes` from the start of the file, so that a full disk shows
/// at once and not after an hour of downloading. Filesystems that cannot reserve say nothing.
pub fn reserve(fd: impl AsFd, bytes: u64) -> io::Result<()> {
    match retry_on_intr(|| rustix::fs::fallocate(&fd, FallocateFlags::KEEP_SIZE, 0, bytes)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        other => Ok(other?),
    }
}

/// Bytes free to us and size of the filesystem that an open file is on.
pub fn space(fd: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstatvfs(fd)?;
    Ok((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
}

/// The magic number of the filesystem that an open file is on, as `statfs` gives it.
pub fn filesystem_magic(fd: impl AsFd) -> io::Result<i64> {
    Ok(rustix::fs::fstatfs(fd)?.f_type)
}

/// Whether the filesystem that an open file is on is mounted read-only.
pub fn is_read_only(fd: impl AsFd) -> io::Result<bool> {
    Ok(rustix::fs::fstatvfs(fd)?.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Copies `from` into the empty file `to`, in the kernel, keeping holes; blocks are shared where the filesystem can.
pub fn copy_data(from: &File, to: &File) -> io::Result<u64> {
    let length = from.metadata()?.len();
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(length);
    }
    to.set_len(length)?;
    let mut at = 0;
    while at < length {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => at,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start)).unwrap_or(length).max(start + 1).min(length);
        copy_range(from, to, start, end)?;
        at = end;
    }
    Ok(length)
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut source, mut target) = (start, start);
    while source < end {
        let wanted = usize::try_from(end - source).unwrap_or(usize::MAX);
        match retry_on_intr(|| {
            rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), wanted)
        }) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
                return copy_range_by_hand(from, to, source, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_range_by_hand(from: &File, to: &File, mut at: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; 128 * 1024];
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let got = from.read_at(&mut buffer[..wanted], at)?;
        if got == 0 {
            return Ok(());
        }
        to.write_all_at(&buffer[..got], at)?;
        at += got as u64;
    }
    Ok(())
}

/// Where a file of `length` bytes has content, as offset and length of each piece, in order; `None` where that are more than `most`, or
/// the filesystem does not say.
pub fn data_pieces(file: impl AsFd, length: u64, most: usize) -> io::Result<Option<Vec<(u64, u64)>>> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < length {
        let start = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(&file, SeekFrom::Hole(start))?.max(start + 1).min(length);
        if start >= end {
            break;
        }
        if pieces.len() == most {
            return Ok(None);
        }
        pieces.push((start, end - start));
        at = end;
    }
    Ok(Some(pieces))
}

/// Replaces the file `name` in `dir` by one with `content`: readers see the old or the new, whole, also after a
/// power failure.
pub fn write_atomic(dir: impl AsFd, name: impl AsRef<OsStr>, content: &[u8], mode: Mode) -> io::Result<()> {
    let name = name.as_ref();
    let mut temporary = OsString::from(".new-");
    temporary.push(name);
    match unlink_at(&dir, &temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let mut file = File::from(open_at(&dir, &temporary, flags, mode)?);
    let written = file
        .write_all(content)
        .and_then(|()| chmod(&file, mode))
        .and_then(|()| sync_data(&file))
        .and_then(|()| rename_at(&dir, &temporary, &dir, name))
        .and_then(|()| sync(&dir));
    if written.is_err() {
        let _ = unlink_at(&dir, &temporary);
    }
    written
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: OsString,
    /// What it is; `Unknown` on filesystems that do not say.
    pub kind: FileType,
}

/// The entries of an open directory without `.` and `..`, in the filesystem's order.
pub fn list(dir: impl AsFd) -> io::Result<Vec<Entry>> {
    // A description of its own: the position in the directory is shared by duplicates.
    let own = open_dir_at(&dir, ".")?;
    let mut entries = Vec::new();
    for entry in Dir::new(own)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            entries.push(Entry { name: OsStr::from_bytes(name).to_owned(), kind: entry.file_type() });
        }
    }
    Ok(entries)
}

/// Opens the directory at `path`, a path of the host that we ourselves chose.
pub fn open_dir(path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    open_dir_at(CWD, path.as_ref())
}

/// Removes `name` in `dir` and all that is in it. Mount points inside are an error, links are removed and not followed,
/// depth does not matter. What is not there is no error.
pub fn remove_tree(dir: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<()> {
    let name = name.as_ref();
    match unlink_at(&dir, name) {
        Err(error) if is_directory_error(&error) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => return other,
    }
    let top = enter(&dir, name)?;
    let mut lifted = 0;
    let mut stack: Vec<(OwnedFd, OsString, Vec<Entry>)> =
        vec![(top.try_clone()?, OsString::new(), list(&top)?)];
    loop {
        let depth = stack.len();
        let Some((here, own_name, entries)) = stack.last_mut() else { break };
        if let Some(entry) = entries.pop() {
            match if entry.kind == FileType::Directory {
                Err(Errno::ISDIR.into())
            } else {
                unlink_at(&*here, &entry.name)
            } {
                Err(error) if is_directory_error(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
                Ok(()) => continue,
            }
            if rmdir_at(&*here, &entry.name).is_ok() {
                continue;
            }
            if depth >= OPEN_DIRS_MAX {
                // Too deep to keep every directory on the way open: it goes on from the top.
                let lift = loop {
                    let lift = OsString::from(format!(".lifted-{lifted}"));
                    lifted += 1;
                    match rename_new_at(&*here, &entry.name, &top, &lift) {
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                        Err(error) => return Err(error),
                        Ok(()) => break lift,
                    }
                };
                stack[0].2.push(Entry { name: lift, kind: FileType::Directory });
                continue;
            }
            let below = enter(&*here, &entry.name)?;
            let inside = list(&below)?;
            stack.push((below, entry.name, inside));
        } else {
            let own_name = std::mem::take(own_name);
            stack.pop();
            if let Some((above, _, _)) = stack.last() {
                rmdir_at(above, &own_name)?;
            }
        }
    }
    rmdir_at(&dir, name)
}

/// Opens a directory, but not one that something is mounted on (`openat2(2)`).
fn enter(dir: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::BENEATH;
    Ok(retry_on_intr(|| rustix::fs::openat2(&dir, name.as_ref(), flags, Mode::empty(), resolve))?)
}

fn is_directory_error(error: &io::Error) -> bool {
    // Linux says EISDIR, POSIX and some filesystems EPERM.
    matches!(error.raw_os_error(), Some(code) if code == Errno::ISDIR.raw_os_error() || code == Errno::PERM.raw_os_error())
}

/// What a tree occupies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of disk blocks, a file with several names counted once.
    pub bytes: u64,
    /// Files, directories, links and nodes.
    pub inodes: u64,
}

/// Measures the tree under an open directory, itself included.
pub fn usage(dir: impl AsFd) -> io::Result<Usage> {
    let top = open_dir_at(&dir, ".")?;
    let mut total = Usage::default();
    let mut linked = std::collections::HashSet::new();
    count(&stat(&top)?, &mut total, &mut linked);
    let mut here = top.as_fd().try_clone_to_owned()?;
    let mut above: Vec<(u64, u64)> = Vec::new();
    let mut todo: Vec<Vec<OsString>> = vec![measure(here.as_fd(), &mut total, &mut linked)?];
    while let Some(names) = todo.last_mut() {
        if let Some(name) = names.pop() {
            let Ok(below) = open_dir_at(&here, &name) else { continue };
            let own = stat(&here)?;
            above.push((own.st_dev, own.st_ino));
            todo.push(measure(below.as_fd(), &mut total, &mut linked)?);
            here = below;
        } else {
            todo.pop();
            let Some(parent) = above.pop() else { break };
            here = open_dir_at(&here, "..")?;
            let own = stat(&here)?;
            if (own.st_dev, own.st_ino) != parent {
                // Moved while we were in it: what is left would be counted in a wrong place.
                return Err(Errno::AGAIN.into());
            }
        }
    }
    Ok(total)
}

fn measure(
    dir: BorrowedFd<'_>,
    total: &mut Usage,
    linked: &mut std::collections::HashSet<(u64, u64)>,
) -> io::Result<Vec<OsString>> {
    let mut directories = Vec::new();
    for entry in list(dir)? {
        // Gone meanwhile: nothing to count.
        let Ok(stat) = stat_at(dir, &entry.name) else { continue };
        count(&stat, total, linked);
        if kind(&stat) == FileType::Directory {
            directories.push(entry.name);
        }
    }
    Ok(directories)
}

fn count(stat: &Stat, total: &mut Usage, linked: &mut std::collections::HashSet<(u64, u64)>) {
    if stat.st_nlink > 1 && kind(stat) != FileType::Directory && !linked.insert((stat.st_dev, stat.st_ino)) {
        return;
    }
    total.inodes += 1;
    total.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_deep_and_odd_trees() {
        let dir = tempfile::tempdir().unwrap();
        let top = open_dir(dir.path()).unwrap();
        mkdir_at(&top, "t", Mode::from_raw_mode(0o700)).unwrap();
        let mut here = open_dir_at(&top, "t").unwrap();
        for _ in 0..500 {
            mkdir_at(&here, "d", Mode::from_raw_mode(0o700)).unwrap();
            symlink_at("/etc", &here, "l").unwrap();
            mknod_at(&here, "f", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
            here = open_dir_at(&here, "d").unwrap();
        }
        let measured = usage(open_dir_at(&top, "t").unwrap()).unwrap();
        assert_eq!(measured.inodes, 1 + 500 * 3);
        remove_tree(&top, "t").unwrap();
        remove_tree(&top, "t").unwrap();
        assert!(list(&top).unwrap().is_empty());
        assert!(Path::new("/etc/passwd").exists());
    }

    #[test]
    fn only_regular_files_are_opened() {
        use std::io::Read;
        let dir = tempfile::tempdir().unwrap();
        let top = open_dir(dir.path()).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        std::fs::write(dir.path().join("file"), "content").unwrap();
        let handle = open_at(&top, "file", OFlags::PATH, Mode::empty()).unwrap();
        std::fs::rename(dir.path().join("file"), dir.path().join("moved")).unwrap();
        mknod_at(&top, "fifo", FileType::Fifo, mode, 0).unwrap();
        symlink_at("moved", &top, "link").unwrap();
        mkdir_at(&top, "dir", mode).unwrap();
        // No driver has this number: had it been opened, it would be another error.
        mknod_at(&top, "file", FileType::CharacterDevice, mode, makedev(4095, 7)).unwrap();
        assert_eq!(open_at(&top, "file", OFlags::RDONLY, mode).unwrap_err().raw_os_error(), Some(6));
        for name in ["file", "fifo", "link"] {
            let error = open_regular_at(&top, name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}: {error}");
        }
        assert_eq!(open_regular_at(&top, "dir").unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(open_regular_at(&top, "none").unwrap_err().kind(), io::ErrorKind::NotFound);
        // The handle stands for what was opened, not for what has its name.
        for mut file in [open_regular_handle(&handle).unwrap(), open_regular_at(&top, "moved").unwrap()] {
            let mut content = String::new();
            file.read_to_string(&mut content).unwrap();
            assert_eq!(content, "content");
        }
    }

    #[test]
    fn copies_keep_holes_and_content() {
        use std::os::unix::fs::{FileExt, MetadataExt};
        let dir = tempfile::tempdir().unwrap();
        let from =
            File::options().read(true).write(true).create_new(true).open(dir.path().join("a")).unwrap();
        from.write_all_at(b"head", 0).unwrap();
        from.write_all_at(b"tail", 50 << 20).unwrap();
        let to = File::options().read(true).write(true).create_new(true).open(dir.path().join("b")).unwrap();
        assert_eq!(copy_data(&from, &to).unwrap(), (50 << 20) + 4);
        let mut got = [0; 4];
        to.read_exact_at(&mut got, 50 << 20).unwrap();
        assert_eq!(&got, b"tail");
        assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn replaces_whole_files() {
        let dir = tempfile::tempdir().unwrap();
        let top = open_dir(dir.path()).unwrap();
        write_atomic(&top, "x", b"one", Mode::from_raw_mode(0o600)).unwrap();
        write_atomic(&top, "x", b"two", Mode::from_raw_mode(0o640)).unwrap();
        assert_eq!(std::fs::read(dir.path().join("x")).unwrap(), b"two");
        assert_eq!(list(&top).unwrap().len(), 1);
    }

    #[test]
    fn attributes_by_handle() {
        let dir = tempfile::tempdir().unwrap();
        let top = open_dir(dir.path()).unwrap();
        symlink_at("/etc/passwd", &top, "link").unwrap();
        mknod_at(&top, "fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let before = std::fs::metadata("/etc/passwd").unwrap();
        let time = Time { seconds: 12, nanoseconds: 34 };
        for (name, mode) in [("link", None), ("fifo", Some(Mode::from_raw_mode(0o642)))] {
            let handle = open_at(&top, name, OFlags::PATH, Mode::empty()).unwrap();
            set_attributes_of_handle(&handle, (5, 6), mode, (time, time)).unwrap();
            let stat = stat_at(&top, name).unwrap();
            assert_eq!((stat.st_uid, stat.st_gid, stat.st_mtime, stat.st_mtime_nsec), (5, 6, 12, 34));
        }
        assert_eq!(stat_at(&top, "fifo").unwrap().st_mode & 0o7777, 0o642);
        use std::os::unix::fs::MetadataExt;
        let after = std::fs::metadata("/etc/passwd").unwrap();
        assert_eq!((before.uid(), before.mtime(), before.mode()), (after.uid(), after.mtime(), after.mode()));
    }

    #[test]
    fn nobody_becomes_root_by_wrap_around() {
        let dir = tempfile::tempdir().unwrap();
        assert!(chown(open_dir(dir.path()).unwrap(), u32::MAX, 0).is_err());
    }
}
