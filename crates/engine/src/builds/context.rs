//! Contexts that are sent as archives: unpacked into a directory that goes with the build.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use build::request::{CONTEXT, Directory, Document, Holds, SourceError, Sources, Task, Wanted};
use sys::path::Root;
use tokio_util::task::TaskTracker;

use super::Builds;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::pipe::Inlet;
use crate::{blocking, names};

/// The directory of contexts, below the data root: none outlives its daemon.
pub(super) const PLACE: &str = "build/contexts";
/// Bytes of a Dockerfile and of what hides files.
const DOCUMENT_BYTES_MAX: u64 = build::dockerfile::TEXT_BYTES_MAX as u64;
/// What the names of Dockerfiles begin with that clients put in from elsewhere.
const OUTSIDE: &str = ".dockerfile.";
/// What hides files of a context.
pub(super) const IGNORE: &str = ".dockerignore";

/// A directory of the engine that goes when nobody has it any more.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    /// It.
    pub root: Root,
    tasks: TaskTracker,
}

impl Scratch {
    /// Makes one; blocks.
    pub fn new(context: &Context) -> Result<Self> {
        let path = context.config.data_root.join(PLACE).join(names::new_id()?);
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&path).map_err(|e| Error::io("create", &path, e))?;
        let root = Root::open(&path).map_err(|e| Error::io("open", &path, e))?;
        Ok(Self { path, root, tasks: context.tasks.clone() })
    }
}

/// A context that was sent.
#[derive(Debug)]
pub struct Archived {
    scratch: Scratch,
    /// Names and passwords, by registry.
    credentials: BTreeMap<String, (String, String)>,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let path = self.path.clone();
        self.tasks.spawn(async move {
            let removed = blocking::run("remove a context", move || remove(&path));
            if let Err(error) = removed.await {
                tracing::warn!(error = error.chain(), "a context is left behind");
            }
        });
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, error)),
        _ => Ok(()),
    }
}

/// Removes what an earlier daemon left, and ends what it left at work there.
pub(super) fn clear(data_root: &Path) {
    for entry in std::fs::read_dir(data_root.join(PLACE)).into_iter().flatten().flatten() {
        super::git::end(&entry.path());
    }
    if let Err(error) = remove(&data_root.join(PLACE)) {
        tracing::warn!(error = error.chain(), "contexts of an earlier daemon are left behind");
    }
}

impl Builds {
    /// Takes in a context, compressed or not, with what its sender may pull with.
    pub async fn unpack(
        &self,
        archive: Inlet,
        credentials: BTreeMap<String, (String, String)>,
    ) -> Result<Archived> {
        let context = Arc::clone(&self.context);
        blocking::run_paced("unpack a context", move || {
            let limits = context.store.limits();
            let archived = Archived { scratch: Scratch::new(&context)?, credentials };
            let unpacked = storage::archive::open(archive, limits)
                .and_then(|archive| storage::apply::unpack(archive, &archived.scratch.root, limits));
            unpacked.map_err(|e| Error::invalid("cannot unpack the build context").with_source(e))?;
            Ok(archived)
        })
        .await
    }
}

impl Archived {
    /// A context without files, for a build whose files are elsewhere.
    pub async fn empty(builds: &Builds, credentials: BTreeMap<String, (String, String)>) -> Result<Self> {
        let context = Arc::clone(&builds.context);
        blocking::run("make a context", move || Ok(Self { scratch: Scratch::new(&context)?, credentials }))
            .await
    }

    /// The Dockerfile of this name, and what hides files: `<name>.dockerignore`, or else `.dockerignore`.
    pub async fn documents(&self, name: &str) -> Result<(Document, Option<Document>)> {
        let name = if name.is_empty() { "Dockerfile" } else { name }.to_owned();
        let scratch = &self.scratch;
        let root = scratch.root.try_clone().map_err(|e| Error::io("open", &scratch.path, e))?;
        blocking::run("read a Dockerfile", move || documents(&root, &name)).await
    }
}

/// Reads them from a directory.
pub(super) fn documents(root: &Root, name: &str) -> Result<(Document, Option<Document>)> {
    let path = build::ignore::clean(&format!("/{name}"));
    let path = path.trim_start_matches('/');
    let dockerfile = match text(root, path)? {
        Some(text) => Document::new(name, text),
        // Older ones are written in small letters.
        None if path == "Dockerfile" => match text(root, "dockerfile")? {
            Some(text) => Document::new("dockerfile", text),
            None => return Err(missing(name)),
        },
        None => return Err(missing(name)),
    };
    let own = format!("{path}{IGNORE}");
    let ignore = match text(root, &own)? {
        Some(text) => Some(Document::new(own, text)),
        None => ignored(root)?,
    };
    // One that was put in beside the files, from elsewhere, is none of them.
    let ignore = match ignore {
        Some(mut ignore) if path.starts_with(OUTSIDE) => {
            ignore.text.push_str(&format!("\n{path}\n"));
            Some(ignore)
        }
        None if path.starts_with(OUTSIDE) => Some(Document::new(IGNORE, format!("{path}\n"))),
        other => other,
    };
    Ok((dockerfile, ignore))
}

/// What hides files of a directory.
pub(super) fn ignored(root: &Root) -> Result<Option<Document>> {
    Ok(text(root, IGNORE)?.map(|text| Document::new(IGNORE, text)))
}

fn missing(name: &str) -> Error {
    Error::invalid(format!(
        "failed to read dockerfile: open {name}: no such file or directory: it is not in the build context"
    ))
}

fn text(root: &Root, path: &str) -> Result<Option<String>> {
    match root.read_bounded(path, DOCUMENT_BYTES_MAX) {
        Ok(bytes) => build::text::decode(path, bytes).map(Some).map_err(Error::invalid),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(Error::invalid(format!("cannot read {path} of the build context: {error}"))),
    }
}

impl Sources for Archived {
    fn context<'a>(&'a self, name: &'a str, _: &'a Wanted) -> Task<'a, Result<Directory, SourceError>> {
        Box::pin(async move {
            if name != CONTEXT {
                return Err(SourceError(format!("no context named {name:?} was sent")));
            }
            let fd = self.scratch.root.as_fd().try_clone_to_owned();
            let fd = fd.map_err(|error| SourceError(format!("cannot open it: {error}")))?;
            Ok(Directory { fd, holds: Holds::Everything })
        })
    }

    fn secret<'a>(&'a self, _: &'a str) -> Task<'a, Result<Option<Vec<u8>>, SourceError>> {
        // An archive holds none.
        Box::pin(async { Ok(None) })
    }

    fn credentials<'a>(&'a self, host: &'a str) -> Task<'a, Result<Option<(String, String)>, SourceError>> {
        Box::pin(async move {
            // Docker's own registry is known by the address that it had first.
            let first = (host == "docker.io").then_some("https://index.docker.io/v1/");
            let found = self.credentials.get(host).or_else(|| self.credentials.get(first?));
            Ok(found.cloned())
        })
    }
}
