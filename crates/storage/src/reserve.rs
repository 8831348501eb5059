//! A little room that is kept back for a disk that has become full: enough to write down how things ended and what is removed, by
//! which all other room is made.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::store::Store;

/// The file that holds the room.
const FILE: &str = "reserve";
/// What the metadata's log and its pages take for some hundred small changes.
const BYTES: usize = 1 << 20;
/// With so much room nothing need be given up, and as much is left to take the room back.
const ENOUGH_BYTES: u64 = 4 << 20;

impl Store {
    /// Gives up the room that is kept back if the disk is full, and takes it back once there is some again: a disk may become full more
    /// than once. For what is about to make room, or tells how something ended: what is new is refused on a full disk.
    pub fn make_way(&self) {
        if !is_full(self.root()) {
            self.keep_back();
        } else if fs::remove_file(self.path(FILE)).is_ok() {
            tracing::warn!("the disk is full: the room that was kept back is used, remove something");
        }
    }

    /// Keeps room back, where there is enough.
    pub(crate) fn keep_back(&self) {
        let path = self.path(FILE);
        if path.exists() || free(self.root()).is_none_or(|free| free < ENOUGH_BYTES) {
            return;
        }
        match fill(&path) {
            // Somebody else does it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                tracing::debug!(%error, "no room is kept back");
                let _ = fs::remove_file(path);
            }
            Ok(()) => {}
        }
    }
}

/// Not as a hole: its blocks are what matters.
fn fill(path: &Path) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&vec![0; BYTES])
}

fn free(root: &Path) -> Option<u64> {
    let root = sys::fsx::open_dir(root).ok()?;
    sys::fsx::space(root).ok().map(|(free, _)| free)
}

fn is_full(root: &Path) -> bool {
    free(root).is_some_and(|free| free < BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_kept_back_while_there_is_some() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let length = || fs::metadata(dir.path().join(FILE)).unwrap().len();
        assert_eq!(length(), BYTES as u64);
        store.make_way();
        assert_eq!(length(), BYTES as u64);
        // Given up before, and there is room again.
        fs::remove_file(dir.path().join(FILE)).unwrap();
        store.make_way();
        assert_eq!(length(), BYTES as u64);
    }
}
