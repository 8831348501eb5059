//! Owner, permissions, attributes and times of what was made.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use sys::fsx::{self, Mode};
use sys::xattr;

use super::name::Name;
use super::os;
use crate::archive::{Entry, Kind};
use crate::error::{Error, Result};

/// What is done with an attribute from an archive.
enum Policy {
    Set,
    /// It says something about the host where the archive was made.
    Skip,
    /// It would speak to overlay about other layers.
    Refuse,
}

fn policy(name: &[u8]) -> Policy {
    if name.starts_with(b"trusted.overlay.") {
        return Policy::Refuse;
    }
    if name == b"security.capability"
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
        || name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
    {
        Policy::Set
    } else {
        // Labels of SELinux, IMA and EVM belong to the host's policy, not to an image.
        Policy::Skip
    }
}

/// Owner, permissions and attributes of an open file or directory. The order matters: a new owner clears set-user-id bits
/// and capabilities.
pub fn set_open(fd: impl AsFd, entry: &Entry) -> Result<()> {
    let error = |verb, error| super::entry_error(verb, &entry.path, error);
    fsx::chown(&fd, entry.uid, entry.gid).map_err(|e| error("set the owner of", e))?;
    fsx::chmod(&fd, Mode::from_raw_mode(entry.mode)).map_err(|e| error("set the permissions of", e))?;
    set_xattrs(entry, |name, value| xattr::set(&fd, os(name), value))
}

/// Owner, permissions, attributes and times of a link or node, which cannot be opened. It was just made in a directory
/// that nobody else changes.
pub fn set_named(dir: &OwnedFd, name: &Name, entry: &Entry) -> Result<()> {
    let last = os(&name.last);
    fsx::chown_at(dir, last, entry.uid, entry.gid).map_err(|e| name.error("set the owner of", e))?;
    if entry.kind != Kind::Symlink {
        fsx::chmod_at(dir, last, Mode::from_raw_mode(entry.mode))
            .map_err(|e| name.error("set the permissions of", e))?;
    }
    set_xattrs(entry, |attribute, value| xattr::set_at(dir, last, os(attribute), value))?;
    fsx::set_times_at(dir, last, entry.atime.unwrap_or(entry.mtime), entry.mtime)
        .map_err(|e| name.error("set the time of", e))
}

/// The attributes of an entry that are for archives to set.
pub fn set_xattrs(entry: &Entry, set: impl Fn(&[u8], &[u8]) -> io::Result<()>) -> Result<()> {
    for (name, value) in &entry.xattrs {
        match policy(name) {
            Policy::Skip => {}
            Policy::Refuse => {
                return Err(Error::layer(format!(
                    "{:?}: attribute {} is not for layers to set",
                    String::from_utf8_lossy(&entry.path),
                    String::from_utf8_lossy(name)
                )));
            }
            Policy::Set => match set(name, value) {
                // The filesystem has no such attributes, or none on this kind of file: as with other engines, the file
                // goes without.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
                    ) =>
                {
                    tracing::debug!(path = %String::from_utf8_lossy(&entry.path), "extended attribute not supported");
                }
                other => {
                    other.map_err(|e| super::entry_error("set an extended attribute of", &entry.path, e))?;
                }
            },
        }
    }
    Ok(())
}
