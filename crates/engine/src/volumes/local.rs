//! The directories of volumes.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use storage::quota;
use sys::fsx::{self, FileType};
use sys::path::Mode;

use super::{copy, open_root};
use crate::error::{Error, Result};

/// The directory of a volume that containers see.
pub const DATA: &str = "_data";

/// What a directory is called that is being removed: no volume's name begins with a dot.
const REMOVING: &str = ".removing-";

/// `NAME_MAX` of filesystems, less what is put before a name while it is removed.
const NAME_BYTES_MAX: usize = 240;

/// Refuses names that are not for volumes, in Docker's words.
pub fn check_name(name: &str) -> Result<()> {
    if name.len() == 1 {
        return Err(Error::invalid(format!(
            "create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )));
    }
    let fits = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if !fits {
        return Err(Error::invalid(format!(
            "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        )));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::invalid(format!("volume name is too long: at most {NAME_BYTES_MAX} characters")));
    }
    Ok(())
}

/// Makes the directory of all volumes; nobody else may look into it.
pub fn open(directory: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|e| Error::io("create", directory, e))
}

/// Removes what an interrupted process left: directories that were being removed, and empty ones that have no record.
/// One that has files in it but no record is kept: they may be all that is left of somebody's data.
pub fn sweep(directory: &Path, is_known: impl Fn(&str) -> bool) -> Result<()> {
    let root = open_root(directory)?;
    for entry in fsx::list(&root).map_err(|e| Error::io("list", directory, e))? {
        let name = entry.name.to_string_lossy();
        if name.starts_with(REMOVING) {
            fsx::remove_tree(&root, &entry.name)
                .map_err(|e| Error::io("remove", &directory.join(&entry.name), e))?;
        } else if !is_known(&name) && check_name(&name).is_ok() {
            let emptied = fsx::open_dir_at(&root, &entry.name)
                .and_then(|volume| remove_empty(&volume))
                .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
                .and_then(|()| fsx::rmdir_at(&root, &entry.name));
            if emptied.is_err() {
                tracing::warn!(volume = %name, "a directory with files but without a record is left as it is");
            }
        }
    }
    Ok(())
}

/// Removes the directory of a volume that has no record, if there are no files in it; whether there is none now.
pub fn clear_away(directory: &Path, name: &str) -> Result<bool> {
    let root = open_root(directory)?;
    let emptied = fsx::open_dir_at(&root, name)
        .and_then(|volume| remove_empty(&volume))
        .and_then(|()| fsx::rmdir_at(&root, name));
    match emptied {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(e) => Err(Error::io("remove", &directory.join(name), e)),
    }
}

/// Removes what is in a volume's directory if its data is empty; an image's files on their way there do not count.
fn remove_empty(volume: &OwnedFd) -> io::Result<()> {
    fsx::rmdir_at(volume, DATA)?;
    fsx::remove_tree(volume, copy::FILLING)?;
    fsx::remove_tree(volume, copy::FILLED)
}

/// Makes a volume's directory. One that is there is taken: it has no record, or its record comes from somebody else at this moment.
pub fn make(directory: &Path, name: &str) -> Result<()> {
    let path = directory.join(name);
    let error = |e| Error::io("create", &path, e);
    let root = open_root(directory)?;
    let exists = |result: io::Result<()>| match result {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    exists(fsx::mkdir_at(&root, name, Mode::from_raw_mode(0o700))).map_err(error)?;
    let volume = fsx::open_dir_at(&root, name).map_err(error)?;
    match fsx::mkdir_at(&volume, DATA, Mode::from_raw_mode(0o755)) {
        Ok(()) => fsx::open_dir_at(&volume, DATA)
            .and_then(|data| fsx::chmod(data, Mode::from_raw_mode(0o755)))
            .map_err(error),
        other => exists(other).map_err(error),
    }
}

/// Lets the files of a new volume occupy `bytes` and no more.
pub fn limit(directory: &Path, name: &str, bytes: u64) -> Result<()> {
    let volume = directory.join(name);
    // Files of an image come by way of a place beside the data.
    quota::confine(&[&volume, &volume.join(DATA)], bytes).map_err(|error| match error.kind() {
        io::ErrorKind::Unsupported => Error::invalid("quota size requested but no quota support"),
        _ => Error::io("limit", &volume, error),
    })
}

/// Removes a volume's directory: out of the way at once, then file by file.
pub fn remove(directory: &Path, name: &str) -> Result<()> {
    let path = directory.join(name);
    let error = |e| Error::io("remove", &path, e);
    let root = open_root(directory)?;
    let grave = format!("{REMOVING}{}", crate::names::new_id()?);
    match fsx::rename_at(&root, name, &root, &grave) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(error)?,
    }
    if let Err(error) = fsx::open_dir_at(&root, &grave).and_then(|volume| quota::release(&volume)) {
        tracing::warn!(volume = name, %error, "a quota stays");
    }
    fsx::remove_tree(&root, &grave).map_err(error)
}

/// Makes a directory like a volume's, under a name that the next sweep removes.
pub fn stage(directory: &Path) -> Result<String> {
    let name = format!("{REMOVING}{}", crate::names::new_id()?);
    make(directory, &name)?;
    Ok(name)
}

/// Removes such a directory.
pub fn discard(directory: &Path, name: &str) -> Result<()> {
    let root = open_root(directory)?;
    fsx::remove_tree(&root, name).map_err(|e| Error::io("remove", &directory.join(name), e))
}

/// Bytes of the files in a volume; `None` where it cannot be looked at.
pub fn size(data: &Path) -> Option<u64> {
    let dir = fsx::open_dir(data).ok()?;
    debug_assert!(fsx::stat(&dir).is_ok_and(|stat| fsx::kind(&stat) == FileType::Directory));
    fsx::usage(dir).ok().map(|usage| usage.bytes)
}
