//! The directory in which a container is recorded, and the lock on it: who makes a container holds it until the record is complete,
//! and who deletes one until nothing of it is left. So no two of them meet half-way, whatever commands are given at once.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sys::fsx;
use sys::lock::Lock;

use super::Global;
use crate::error::{Context as _, Error};
use crate::lifecycle;
use crate::state;

/// A directory that is known by itself and not by its name alone, under which there may be another one tomorrow.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    fd: OwnedFd,
}

/// A directory that nobody else makes or deletes a container in, until this is dropped.
#[derive(Debug)]
pub(super) struct Held<'a> {
    directory: &'a Directory,
    lock: Lock,
}

impl Directory {
    /// Makes the directory for a new container, to be held by [`Directory::claim`].
    pub(super) fn make(global: &Global, id: &str) -> Result<Self, Error> {
        let path = global.state_dir(id)?;
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        let made = match builder.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                builder.recursive(true).create(&global.root).on("create", &global.root)?;
                builder.recursive(false).create(&path)
            }
            other => other,
        };
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists(id.to_owned()));
            }
            other => other.on("create", &path)?,
        }
        Self::at(path)?.ok_or_else(|| deleted(id))
    }

    /// Holds the directory for the new container `id`.
    pub(super) fn claim(&self, id: &str) -> Result<Held<'_>, Error> {
        let held = self.hold()?.ok_or_else(|| deleted(id))?;
        // What we made may have been deleted since, and made again by somebody who has been quicker to lock it.
        if fsx::list(&self.fd).on("list", &self.path)?.is_empty() {
            return Ok(held);
        }
        Err(Error::Exists(id.to_owned()))
    }

    /// The directory of the container `id`; `None` if there is none.
    pub(super) fn of(global: &Global, id: &str) -> Result<Option<Self>, Error> {
        Self::at(global.state_dir(id)?)
    }

    fn at(path: PathBuf) -> Result<Option<Self>, Error> {
        match fsx::open_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.on("open", &path).map(|fd| Some(Self { path, fd })),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until nobody else holds the directory; `None` if it is there no more.
    pub(super) fn hold(&self) -> Result<Option<Held<'_>>, Error> {
        let Some(fd) = self.again()? else { return Ok(None) };
        let lock = Lock::exclusive_fd(fd).on("lock", &self.path)?;
        Ok(self.is_there()?.then_some(Held { directory: self, lock }))
    }

    /// The same, and whoever is making a container in it is made to stop.
    pub(super) fn seize(&self) -> Result<Option<Held<'_>>, Error> {
        let Some(fd) = self.again()? else { return Ok(None) };
        let Some(lock) = Lock::try_exclusive_fd(fd).on("lock", &self.path)? else {
            lifecycle::interrupt(&self.path)?;
            return self.hold();
        };
        Ok(self.is_there()?.then_some(Held { directory: self, lock }))
    }

    /// A descriptor of its own: a lock belongs to the open file.
    fn again(&self) -> Result<Option<OwnedFd>, Error> {
        match fsx::open_dir_at(&self.fd, ".") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.on("open", &self.path).map(Some),
        }
    }

    /// Whether its name still leads to it.
    fn is_there(&self) -> Result<bool, Error> {
        let Some(named) = Self::at(self.path.clone())? else { return Ok(false) };
        let (own, named) = (fsx::stat(&self.fd), fsx::stat(&named.fd));
        let (own, named) = (own.on("inspect", &self.path)?, named.on("inspect", &self.path)?);
        Ok((own.st_dev, own.st_ino) == (named.st_dev, named.st_ino))
    }
}

impl Held<'_> {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.directory.path
    }

    /// The lock's descriptor: a child that lives on must close its copy.
    pub(super) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Removes the directory with what this crate has written into it; what is not there is not an error.
    pub(super) fn remove(self) -> Result<(), Error> {
        state::clear(self.path())?;
        match std::fs::remove_dir(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).on("remove", self.path()),
            _ => Ok(()),
        }
    }
}

/// What a creator says whose directory somebody else has taken away.
fn deleted(id: &str) -> Error {
    Error::Setup { text: format!("container {id} was deleted while it was being made") }
}
