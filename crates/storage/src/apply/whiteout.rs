//! What a layer says about the absence of things in the layers below.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use sys::fsx::{self, FileType, Mode, Stat};
use sys::xattr;

use super::name::{Name, WHITEOUT_PREFIX};
use super::{Applier, DISK_BLOCK, os};
use crate::error::{Error, Result};

/// The attribute with which a directory hides those of the same name below.
pub const OPAQUE: &str = "trusted.overlay.opaque";

/// The whiteout that hides everything below its directory.
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

/// What begins so are the bookkeeping files of AUFS, which means nothing outside of it.
const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// Whether this is overlay's mark for a deleted file.
pub fn is_whiteout(stat: &Stat) -> bool {
    fsx::kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Makes an open directory hide what is below it.
pub fn set_opaque(fd: impl AsFd) -> io::Result<()> {
    xattr::set(fd, OPAQUE, b"y")
}

impl Applier<'_> {
    /// Applies an entry whose name begins with `.wh.`.
    pub(super) fn whiteout(&mut self, name: &Name) -> Result<()> {
        if name.last == OPAQUE_NAME {
            let here = self.enter(&name.parent)?;
            set_opaque(&here.fd).map_err(|e| name.error("apply", e))?;
            self.here = Some(here);
            return Ok(());
        }
        if name.last.starts_with(AUFS_PREFIX) {
            return Ok(());
        }
        let hidden = &name.last[WHITEOUT_PREFIX.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(name.invalid("whiteout of nothing"));
        }
        let here = self.enter(&name.parent)?;
        match fsx::mknod_at(&here.fd, os(hidden), FileType::CharacterDevice, Mode::from_raw_mode(0), 0) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // The layer itself has something of that name, which hides what is below; a directory has to be told so.
                let stat = fsx::stat_at(&here.fd, os(hidden)).map_err(|e| name.error("apply", e))?;
                if fsx::kind(&stat) == FileType::Directory {
                    fsx::open_dir_at(&here.fd, os(hidden))
                        .and_then(set_opaque)
                        .map_err(|e| name.error("apply", e))?;
                }
            }
            other => other.map_err(|e| name.error("apply", e))?,
        }
        self.here = Some(here);
        Ok(())
    }

    /// A directory where the layer has deleted what was below: it hides that.
    pub(super) fn directory_over_whiteout(&mut self, path: &[u8]) -> Result<OwnedFd> {
        let name = Name::parse(path, self.limits.depth_max)?;
        let error = |error| name.error("make", error);
        let dir = self.root.open_dir(os(&name.parent)).map_err(error)?;
        let stat = fsx::stat_at(&dir, os(&name.last)).map_err(error)?;
        if !is_whiteout(&stat) {
            return Err(Error::layer(format!("{:?} is not a directory", String::from_utf8_lossy(path))));
        }
        fsx::unlink_at(&dir, os(&name.last)).map_err(error)?;
        fsx::mkdir_at(&dir, os(&name.last), super::IMPLIED_MODE).map_err(error)?;
        let fd = fsx::open_dir_at(&dir, os(&name.last)).map_err(error)?;
        fsx::chmod(&fd, super::IMPLIED_MODE).and_then(|()| set_opaque(&fd)).map_err(error)?;
        self.applied.disk_bytes += DISK_BLOCK;
        Ok(fd)
    }
}
