//! `COPY`, `ADD` and `WORKDIR`: files are put on top of the layers so far, and become the next one.

use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use build::graph::{Copy, Directory};
use build::ignore::Ignore;
use build::mode::Mode;
use build::request::{self, Holds};
use oci::Digest;
use storage::{ImageLayer, Lease, Mounts};
use sys::fsx::Time;
use sys::path::Root;

use super::content::{self, Survey};
use super::digests::Digests;
use super::git::{Commit, Tree};
use super::place::{Placing, Wishes};
use super::select::{Picked, Sieve, pick, pick_with_parents};
use super::solve::Hidden;
use super::view;
use crate::containers::identity;
use crate::containers::layered::Layered;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::names;

/// Where files come from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// From the Dockerfile alone.
    Nowhere,
    /// A directory.
    Directory(Arc<request::Directory>, Hidden),
    /// These layers, the lowest first.
    Layers(Vec<ImageLayer>),
}

/// A file that was fetched.
#[derive(Debug)]
pub(super) struct Fetched {
    /// What it is called.
    pub name: String,
    /// Its content, in a file without a name.
    pub file: std::fs::File,
    /// What it holds.
    pub digest: Digest,
    /// When it was changed last, in seconds since 1970; then where nobody says so.
    pub modified: i64,
}

/// What is copied, and on what.
pub(super) struct Copying {
    pub context: Arc<Context>,
    pub lease: Arc<Lease>,
    pub copy: Copy,
    pub layers: Vec<ImageLayer>,
    pub source: Source,
    pub fetched: Vec<Fetched>,
    /// What the repositories are at, in their order.
    pub commits: Vec<Commit>,
    pub digests: Arc<Digests>,
    /// When the files of the Dockerfile were changed, in seconds since 1970.
    pub now: i64,
}

/// A directory as a root.
pub(super) fn opened(directory: &request::Directory) -> Result<Root> {
    let root = directory.fd.try_clone().map(Root::from_fd);
    root.map_err(|e| Error::system("cannot open the context").with_source(e))
}

fn diff_ids(layers: &[ImageLayer]) -> Vec<Digest> {
    layers.iter().map(|layer| layer.diff_id.clone()).collect()
}

impl Copying {
    fn sieve(&self) -> Result<Sieve> {
        let exclude = Ignore::from_patterns(self.copy.exclude.iter().map(String::as_str));
        let exclude = exclude.map_err(|error| Error::invalid(format!("--exclude: {error}")))?;
        let Source::Directory(_, hides) = &self.source else {
            return Ok(Sieve { exclude, ..Sieve::default() });
        };
        let (ignore, ignore_name) = (hides.0.clone(), hides.1.clone());
        Ok(Sieve { ignore, ignore_name, is_of_context: self.copy.context, exclude })
    }

    /// Whether it comes from a client's directory, whose files belong to nobody in particular.
    fn is_of_client(&self) -> bool {
        self.copy.context || matches!(self.source, Source::Directory(..))
    }

    fn picked(&self, root: &Root, sieve: &Sieve) -> Result<Vec<Picked>> {
        let lists = self.copy.sources.iter().map(|source| {
            if self.copy.parents { pick_with_parents(root, source, sieve) } else { pick(root, source, sieve) }
        });
        Ok(lists.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// A directory, if somebody may change it meanwhile.
    fn foreign(&self) -> Option<&request::Directory> {
        match &self.source {
            Source::Directory(directory, _) if directory.holds == Holds::Foreign => Some(directory),
            _ => None,
        }
    }

    /// Looks at files that somebody may change meanwhile; blocks.
    pub fn survey(&self) -> Result<Option<Survey>> {
        let Some(directory) = self.foreign() else { return Ok(None) };
        let (root, sieve) = (opened(directory)?, self.sieve()?);
        content::survey(&root, &self.picked(&root, &sieve)?, &sieve, &self.digests).map(Some)
    }

    /// The digest of the files that are copied, where nobody changes them; blocks.
    pub fn key(&self) -> Result<Option<Digest>> {
        let sieve = self.sieve()?;
        let owners = !self.is_of_client();
        match &self.source {
            Source::Nowhere => Ok(None),
            Source::Directory(directory, _) => {
                let root = opened(directory)?;
                let picked = self.picked(&root, &sieve)?;
                content::key(&root, &picked, &sieve, owners).map(Some)
            }
            Source::Layers(layers) => {
                let mounts = self.context.store.view(&self.lease, &diff_ids(layers))?;
                let from = Some(&mounts).filter(|mounts| !mounts.lower.is_empty());
                let Some(from) = from else { return Ok(None) };
                view::seen(from, &self.context.config.exec_root, |root| {
                    let picked = self.picked(root, &sieve)?;
                    content::key(root, &picked, &sieve, owners).map(Some)
                })
            }
        }
    }

    /// Copies; the layer that comes of it. Blocks.
    pub fn run(&self, trees: &[Tree]) -> Result<ImageLayer> {
        let (context, lease) = (&self.context, &self.lease);
        let store = &context.store;
        let wishes = self.wishes()?;
        let id = names::new_id()?;
        store.restore_layers(&self.layers)?;
        // What is linked does not look at what is below.
        let below = if self.copy.link { Vec::new() } else { diff_ids(&self.layers) };
        store.create_snapshot(&id, &below, lease)?;
        let copied = store.mounts(&id).map_err(Error::from).and_then(|into| self.put(&into, wishes, trees));
        if let Err(error) = copied {
            super::forget(context, lease, &id)?;
            return Err(error);
        }
        super::adopt(context, lease, &id)
    }

    fn put(&self, into: &Mounts, wishes: Wishes, trees: &[Tree]) -> Result<()> {
        let exec_root = &self.context.config.exec_root;
        let sieve = self.sieve()?;
        match &self.source {
            Source::Layers(layers) => {
                let from = self.context.store.view(&self.lease, &diff_ids(layers))?;
                let from = Some(&from).filter(|mounts| !mounts.lower.is_empty());
                view::written(into, from, exec_root, |root, from| match from {
                    Some(from) => self.fill(root, Some(from), &sieve, wishes, trees),
                    None => Err(Error::invalid(format!(
                        "failed to compute cache key: {:?}: not found: there is nothing to copy from",
                        self.copy.sources
                    ))),
                })
            }
            Source::Directory(directory, _) => {
                let from = opened(directory)?;
                view::written(into, None, exec_root, |root, _| {
                    self.fill(root, Some(&from), &sieve, wishes, trees)
                })
            }
            Source::Nowhere => {
                view::written(into, None, exec_root, |root, _| self.fill(root, None, &sieve, wishes, trees))
            }
        }
    }

    fn fill(
        &self,
        root: &Root,
        from: Option<&Root>,
        sieve: &Sieve,
        wishes: Wishes,
        trees: &[Tree],
    ) -> Result<()> {
        let placing = Placing { root, destination: &self.copy.destination, wishes };
        if let Some(from) = from {
            for picked in self.picked(from, sieve)? {
                if self.copy.unpack
                    && !picked.is_directory
                    && let Some(file) = archive(from, &picked.path, self.context.store.limits())?
                {
                    self.unpack(&placing, file)?;
                    continue;
                }
                placing.copy(from, &picked, sieve)?;
            }
        }
        // `.dockerignore` is for the context.
        let sieve = Sieve { exclude: sieve.exclude.clone(), ..Sieve::default() };
        for tree in trees {
            let from = tree.fd.try_clone().map(Root::from_fd);
            let from = from.map_err(|e| Error::system("cannot open a repository").with_source(e))?;
            let whole = Picked { path: PathBuf::new(), real: PathBuf::new(), is_directory: true, only: None };
            placing.copy(&from, &whole, &sieve)?;
        }
        let now = Time { seconds: self.now, nanoseconds: 0 };
        for (name, text) in &self.copy.inline {
            placing.inline(name, text, now)?;
        }
        for fetched in &self.fetched {
            if self.copy.unpack && is_archive(&fetched.file, self.context.store.limits())? {
                let file =
                    fetched.file.try_clone().map_err(|e| Error::system("cannot read").with_source(e))?;
                self.unpack(&placing, file)?;
                continue;
            }
            let modified = Time { seconds: fetched.modified, nanoseconds: 0 };
            placing.fetched(&fetched.name, &fetched.file, modified)?;
        }
        Ok(())
    }

    fn unpack(&self, placing: &Placing<'_>, mut file: std::fs::File) -> Result<()> {
        let failed = |e| Error::system("cannot read an archive").with_source(e);
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let limits = self.context.store.limits();
        let root = placing.unpacked()?;
        let archive = storage::archive::open(file, limits)?;
        storage::apply::unpack_below(archive, &root, limits)
            .map_err(|e| Error::invalid("cannot unpack an archive").with_source(e))?;
        Ok(())
    }

    /// Whose the files become and what may be done with them.
    fn wishes(&self) -> Result<Wishes> {
        let owner = match &self.copy.owner {
            Some(owner) => Some(self.owner(owner)?),
            None => self.is_of_client().then_some((0, 0)),
        };
        let mode = self.copy.mode.as_ref().map(|text| Mode::parse(text).map_err(Error::invalid));
        Ok(Wishes { owner, mode: mode.transpose()? })
    }

    fn owner(&self, text: &str) -> Result<(u32, u32)> {
        owner(&self.context, &self.lease, &self.layers, text)
    }
}

/// The numbers of `user[:group]`; of a user alone, the group of the same number, as in Docker, unless it has a name.
fn owner(context: &Context, lease: &Lease, layers: &[ImageLayer], text: &str) -> Result<(u32, u32)> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let number = user.parse::<u32>().ok().filter(|_| group.is_empty());
    if let Some(number) = number {
        return Ok((number, number));
    }
    let unreadable = |e: std::io::Error| Error::system("cannot read the users of the image").with_source(e);
    let mounts = context.store.view(lease, &diff_ids(layers))?;
    let layered = Layered::open(mounts.lower_paths()).map_err(unreadable)?;
    let read = |path| layered.read(path, identity::FILE_BYTES_MAX).map_err(unreadable);
    let passwd = read(identity::PASSWD)?.unwrap_or_default();
    let groups = read(identity::GROUP)?.unwrap_or_default();
    let who = identity::find(text, &[], &passwd, &groups)?;
    Ok((who.uid, who.gid))
}

/// A file of a tree, if it is an archive.
fn archive(root: &Root, path: &Path, limits: &storage::Limits) -> Result<Option<std::fs::File>> {
    let Ok(file) = root.open_regular(path) else { return Ok(None) };
    Ok(is_archive(&file, limits)?.then_some(file))
}

/// Whether a file is an archive; it is read from its beginning again then.
pub(super) fn is_archive(file: &std::fs::File, limits: &storage::Limits) -> Result<bool> {
    let failed = |e| Error::system("cannot read a file").with_source(e);
    let mut source = file.try_clone().map_err(failed)?;
    source.seek(SeekFrom::Start(0)).map_err(failed)?;
    let is_archive = match storage::archive::open(&source, limits) {
        Ok(mut archive) => matches!(archive.next_entry(), Ok(Some(_))),
        Err(_) => false,
    };
    source.seek(SeekFrom::Start(0)).map_err(failed)?;
    Ok(is_archive)
}

/// Makes a directory on top of layers; blocks.
pub(super) fn directory(
    context: &Context,
    lease: &Lease,
    layers: &[ImageLayer],
    directory: &Directory,
) -> Result<ImageLayer> {
    let store = &context.store;
    let owner = match directory.owner.as_str() {
        "" => None,
        text => {
            let named = text.split(':').next().unwrap_or_default();
            Some(owner(context, lease, layers, if text.contains(':') { text } else { named })?)
        }
    };
    let id = names::new_id()?;
    store.restore_layers(layers)?;
    store.create_snapshot(&id, &diff_ids(layers), lease)?;
    let into = store.mounts(&id)?;
    let made = view::written(&into, None, &context.config.exec_root, |root, _| {
        let wishes = Wishes { owner, mode: None };
        Placing { root, destination: &directory.path, wishes }.made()
    });
    if let Err(error) = made {
        super::forget(context, lease, &id)?;
        return Err(error);
    }
    super::adopt(context, lease, &id)
}
