//! Content keys: a digest of the files that an instruction means, their names, modes and content, by which the cache knows them again
//! wherever they came from.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci::Digest;
use sha2::{Digest as _, Sha256};
use sys::fsx::{self, FileType, Stat};
use sys::path::Root;

use super::select::{Item, Picked, Sieve, Visitor, attributes, walk};
use crate::error::{Error, Result};

/// Bytes read at once.
const BUFFER_BYTES: usize = 128 * 1024;

/// The digest of what was picked. `owners`: whether it matters whose they are.
pub(super) fn key(root: &Root, picked: &[Picked], sieve: &Sieve, owners: bool) -> Result<Digest> {
    let mut keys = Keys { hasher: Sha256::new(), owners, buffer: vec![0; BUFFER_BYTES] };
    for one in picked {
        let failed = |error| Error::io("read", &one.path, error);
        let name = one.path.file_name().unwrap_or_default();
        keys.text(name.as_bytes());
        if let Some(only) = &one.only {
            keys.text(only.as_bytes());
        }
        if one.is_directory {
            let at = if one.path.as_os_str().is_empty() { Path::new(".") } else { &one.path };
            let stat = root.stat(at).map_err(failed)?;
            keys.head(b'd', Path::new(""), &stat);
            walk(root, one, sieve, &mut keys)?;
            keys.leave().map_err(failed)?;
        } else {
            let handle = root.open_path(&one.path).map_err(failed)?;
            let stat = fsx::stat(&handle).map_err(failed)?;
            keys.head(letter(&stat), Path::new(""), &stat);
            if fsx::kind(&stat) == FileType::RegularFile {
                keys.file(fsx::open_regular_handle(handle).map_err(failed)?).map_err(failed)?;
            }
        }
    }
    Ok(Digest::from_sha256(keys.hasher.finalize().into()))
}

fn letter(stat: &Stat) -> u8 {
    match fsx::kind(stat) {
        FileType::RegularFile => b'f',
        FileType::Directory => b'd',
        FileType::Symlink => b'l',
        FileType::Fifo => b'p',
        FileType::CharacterDevice => b'c',
        FileType::BlockDevice => b'b',
        _ => b'?',
    }
}

struct Keys {
    hasher: Sha256,
    owners: bool,
    buffer: Vec<u8>,
}

impl Keys {
    /// With its length, so that no two texts are one.
    fn text(&mut self, bytes: &[u8]) {
        self.hasher.update((bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    fn head(&mut self, kind: u8, path: &Path, stat: &Stat) {
        self.hasher.update([kind]);
        self.text(path.as_os_str().as_bytes());
        self.hasher.update((stat.st_mode & 0o7777).to_le_bytes());
        if self.owners {
            self.hasher.update(stat.st_uid.to_le_bytes());
            self.hasher.update(stat.st_gid.to_le_bytes());
        }
        if matches!(kind, b'c' | b'b') {
            self.hasher.update(stat.st_rdev.to_le_bytes());
        }
    }

    fn file(&mut self, mut file: File) -> io::Result<()> {
        for (name, value) in attributes(&file)? {
            self.text(name.as_bytes());
            self.text(&value);
        }
        let mut whole = Sha256::new();
        loop {
            match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(length) => whole.update(&self.buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.hasher.update(whole.finalize());
        Ok(())
    }
}

impl Visitor for Keys {
    fn enter(&mut self, item: &Item<'_>, _: &OwnedFd) -> io::Result<()> {
        self.head(b'd', item.path, item.stat);
        Ok(())
    }

    fn leave(&mut self) -> io::Result<()> {
        self.hasher.update(b")");
        Ok(())
    }

    fn node(&mut self, item: &Item<'_>) -> io::Result<()> {
        let kind = letter(item.stat);
        self.head(kind, item.path, item.stat);
        match kind {
            b'f' => self.file(fsx::open_regular_at(item.dir, item.name)?),
            b'l' => {
                let link = sys::path::read_link_at(std::os::fd::AsFd::as_fd(item.dir), item.name)?;
                self.text(link.as_os_str().as_bytes());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
