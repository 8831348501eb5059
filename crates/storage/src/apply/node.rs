//! Files and their content.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use sys::fsx::{self, Mode, OFlags};

use super::name::Name;
use crate::archive::{Archive, Sparse};
use crate::error::Result;

/// Makes a new file; private until its owner is set.
pub fn create_file(dir: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    fsx::open_at(dir, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, Mode::from_raw_mode(0o600))
}

/// Writes an entry's content.
pub fn write<R: BufRead>(mut file: &File, name: &Name, archive: &mut Archive<R>) -> Result<()> {
    archive.data(|piece| file.write_all(piece).map_err(|e| name.error("write", e)))
}

/// Writes an entry's segments to where they belong.
pub fn write_sparse<R: BufRead>(
    file: &File,
    name: &Name,
    sparse: &Sparse,
    archive: &mut Archive<R>,
) -> Result<()> {
    file.set_len(sparse.size).map_err(|e| name.error("set the length of", e))?;
    let mut segments = sparse.segments.iter().copied();
    let mut current = segments.next();
    archive.data(|mut piece| {
        while let (Some(segment), false) = (&mut current, piece.is_empty()) {
            let take = usize::try_from(segment.length).unwrap_or(usize::MAX).min(piece.len());
            file.write_all_at(&piece[..take], segment.offset).map_err(|e| name.error("write", e))?;
            piece = &piece[take..];
            segment.offset += take as u64;
            segment.length -= take as u64;
            if segment.length == 0 {
                current = segments.next();
            }
        }
        Ok(())
    })
}
