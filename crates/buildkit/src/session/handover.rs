//! Directories that a client on this machine hands over instead of sending what is in them.
//!
//! The header names a descriptor of the client's process; the engine takes a copy of it (`pidfd_getfd(2)`), so that nothing is opened
//! by a path, and what the client cannot reach cannot be named:
//!
//! ```text
//! X-Corten-Session-Directory: <descriptor> <device> <inode> <name>
//! ```
//!
//! Device and inode are what the client sees there. They differ where somebody else has made the connection for it, a relay, whose
//! descriptors are others. What cannot be had is sent as ever.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use sys::fsx::{self, FileType};
use sys::process;

use crate::error::{Error, Result};

/// The header, in small letters, as HTTP's libraries want it.
pub const HEADER: &str = "x-corten-session-directory";

/// A directory that the client offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    /// What builds call it: `context`.
    name: String,
    /// The client's descriptor.
    number: i32,
    /// What it leads to.
    device: u64,
    inode: u64,
}

impl Offer {
    /// Reads a header's value.
    pub(super) fn read(value: &str) -> Result<Self> {
        let mut parts = value.splitn(4, ' ');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let offer = (|| {
            let (number, device, inode) =
                (next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?);
            Some(Self { name: next()?.to_owned(), number, device, inode })
        })();
        offer.ok_or_else(|| {
            Error::Invalid(format!(
                "the header {HEADER} is {value:?}: it is a descriptor, a device, an inode and a name"
            ))
        })
    }

    fn take(&self, peer: impl AsFd) -> io::Result<OwnedFd> {
        let taken = process::descriptor_of(peer, self.number)?;
        let stat = fsx::stat(&taken)?;
        if fsx::kind(&stat) != FileType::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if (stat.st_dev, stat.st_ino) != (self.device, self.inode) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it is another directory"));
        }
        // A description of its own: what the client does with its position does not matter. One that was opened without the right to
        // read becomes one with it.
        fsx::open_dir_at(&taken, ".")
    }
}

/// The header's value for a directory of the calling process.
///
/// # Errors
/// The descriptor cannot be looked at, or the name is more than a header holds.
pub fn header(name: &str, directory: &OwnedFd) -> io::Result<String> {
    use std::os::fd::AsRawFd as _;
    if name.is_empty() || !name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name is more than a header holds"));
    }
    let stat = fsx::stat(directory)?;
    Ok(format!("{} {} {} {name}", directory.as_raw_fd(), stat.st_dev, stat.st_ino))
}

/// Takes what is offered, as far as it can be had.
pub(super) fn take(offers: &[Offer], peer: impl AsFd) -> HashMap<String, Arc<OwnedFd>> {
    let mut taken = HashMap::new();
    for offer in offers {
        match offer.take(&peer) {
            Ok(directory) => {
                taken.insert(offer.name.clone(), Arc::new(directory));
            }
            Err(error) => {
                tracing::debug!(%error, name = offer.name, "a client's directory cannot be taken: it sends the files");
            }
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> OwnedFd {
        process::pidfd(process::id()).unwrap()
    }

    #[test]
    fn a_directory_is_taken_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "x").unwrap();
        let opened = fsx::open_dir(dir.path()).unwrap();
        let offer = Offer::read(&header("my context", &opened).unwrap()).unwrap();
        assert_eq!(offer.name, "my context");
        let taken = take(std::slice::from_ref(&offer), own());
        assert_eq!(fsx::list(&taken["my context"]).unwrap().len(), 1);
        // Another directory, a file, and nothing at all.
        let wrong = Offer { inode: offer.inode + 1, ..offer.clone() };
        assert!(take(&[wrong], own()).is_empty());
        let file: OwnedFd = std::fs::File::open(dir.path().join("a")).unwrap().into();
        let file = Offer::read(&header("a", &file).unwrap()).unwrap();
        assert!(take(&[file, Offer { number: 1 << 20, ..offer }], own()).is_empty());
    }

    #[test]
    fn headers_that_say_nothing_are_refused() {
        for wrong in ["", "3", "3 4 5", "3 4 5 ", "x 4 5 a", "3 -4 5 a", "3  4 5 a"] {
            assert!(Offer::read(wrong).is_err(), "{wrong:?}");
        }
    }
}
