//! Extended attributes, by descriptor.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// The longest value the kernel takes (`XATTR_SIZE_MAX`).
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// The longest list of names the kernel gives (`XATTR_LIST_MAX`).
const LIST_BYTES_MAX: usize = 64 * 1024;

/// Sets the attribute `name` of an open file or directory.
pub fn set(fd: impl AsFd, name: impl AsRef<OsStr>, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(fd, name.as_ref(), value, XattrFlags::empty())?)
}

/// The attribute `name` of an open file or directory; `None` if it has none or the filesystem knows none.
pub fn get(fd: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; VALUE_BYTES_MAX];
    optional(rustix::fs::fgetxattr(fd, name.as_ref(), value.as_mut_slice()), value)
}

/// The names of the attributes of an open file or directory.
pub fn list(fd: impl AsFd) -> io::Result<Vec<OsString>> {
    let mut names = vec![0; LIST_BYTES_MAX];
    Ok(names_of(optional(rustix::fs::flistxattr(fd, names.as_mut_slice()), names)?))
}

/// Removes the attribute `name` of an open file or directory.
pub fn remove(fd: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<()> {
    Ok(rustix::fs::fremovexattr(fd, name.as_ref())?)
}

/// Sets an attribute of what is called `name` in the directory `dir`, itself, if it is a symbolic link. For links and
/// nodes, which cannot be opened; needs `/proc`.
pub fn set_at(dir: impl AsFd, name: &OsStr, attribute: impl AsRef<OsStr>, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::lsetxattr(proc_path(dir.as_fd(), name), attribute.as_ref(), value, XattrFlags::empty())?)
}

/// The attribute of what is called `name` in the directory `dir`, itself; see [`set_at`].
pub fn get_at(dir: impl AsFd, name: &OsStr, attribute: impl AsRef<OsStr>) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; VALUE_BYTES_MAX];
    optional(
        rustix::fs::lgetxattr(proc_path(dir.as_fd(), name), attribute.as_ref(), value.as_mut_slice()),
        value,
    )
}

/// The names of the attributes of what is called `name` in the directory `dir`, itself; see [`set_at`].
pub fn list_at(dir: impl AsFd, name: &OsStr) -> io::Result<Vec<OsString>> {
    let mut names = vec![0; LIST_BYTES_MAX];
    Ok(names_of(optional(rustix::fs::llistxattr(proc_path(dir.as_fd(), name), names.as_mut_slice()), names)?))
}

/// The magic link leads to the directory itself, whatever its path is now; the last component is not followed by the
/// calls that use this.
fn proc_path(dir: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name)
}

fn optional(length: rustix::io::Result<usize>, mut buffer: Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    match length {
        Ok(length) => {
            buffer.truncate(length);
            Ok(Some(buffer))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn names_of(list: Option<Vec<u8>>) -> Vec<OsString> {
    let list = list.unwrap_or_default();
    list.split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| OsString::from_vec(name.to_vec()))
        .collect()
}
