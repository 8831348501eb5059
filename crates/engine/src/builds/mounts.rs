//! `--mount` of `RUN`: files of contexts, stages and images, caches, memory, secrets; and what putting them there leaves in the files
//! of the step, which is nobody's change.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use build::dockerfile::mount::{Kind, Mount};
use build::request::{self, Holds};
use oci::Digest;
use storage::{ImageLayer, Lease};
use sys::fsx::{self, FileType};
use sys::path::Root;

use super::command::point;
use super::content::{self, Survey};
use super::context::Scratch;
use super::copying;
use super::digests::Digests;
use super::place::{Placing, Wishes};
use super::select::{Sieve, pick_one};
use crate::containers::record::{MountKind, MountRecord, Paths, Record};
use crate::context::Context;
use crate::error::{Error, Result};

/// Where files are in a directory that they were gathered in.
const GATHERED: &str = "/files";
/// Where secrets are seen where nobody says.
const SECRETS: &str = "/run/secrets/";
/// The mode of a secret, and of the directory of a cache, where nobody says.
const SECRET_MODE: u32 = 0o400;
const CACHE_MODE: u32 = 0o755;
/// A script of the Dockerfile: everybody may run it.
const SCRIPT_MODE: u32 = 0o755;

/// Where files of a mount come from.
#[derive(Debug, Clone)]
pub(super) enum Files {
    /// From nowhere else.
    Nothing,
    /// A directory.
    Directory(Arc<request::Directory>),
    /// These layers, the lowest first.
    Layers(Vec<ImageLayer>),
    /// A secret's content.
    Secret(Vec<u8>),
}

/// A mount, and its files.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub mount: Mount,
    pub files: Files,
    /// What is hidden in a directory that holds everything.
    pub sieve: Sieve,
}

impl Wanted {
    /// Whether the directory cannot be shown as it is: somebody may change it, or something in it is hidden.
    fn has_to_be_gathered(&self) -> bool {
        let Files::Directory(directory) = &self.files else { return false };
        match directory.holds {
            Holds::Wanted => false,
            Holds::Everything => !self.sieve.ignore.is_empty(),
            Holds::Foreign => true,
        }
    }

    /// Copies the files that are mounted to a directory of the engine, which goes with what is returned; blocks.
    pub fn gather(&mut self, context: &Context) -> Result<Option<Scratch>> {
        let Files::Directory(directory) = &self.files else { return Ok(None) };
        if !self.has_to_be_gathered() {
            return Ok(None);
        }
        let (from, scratch) = (copying::opened(directory)?, Scratch::new(context)?);
        let picked = pick_one(&from, &self.mount.source, &self.sieve)?;
        let wishes = Wishes { owner: Some((0, 0)), mode: None };
        Placing { root: &scratch.root, destination: GATHERED, wishes }.copy(&from, &picked, &self.sieve)?;
        let fd =
            scratch.root.try_clone().map_err(|e| Error::system("cannot open the context").with_source(e))?;
        self.mount.source = GATHERED.to_owned();
        self.files = Files::Directory(Arc::new(request::Directory { fd: fd.into(), holds: Holds::Wanted }));
        Ok(Some(scratch))
    }
}

/// What was mounted: kept until the step has ended.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// Places that were not there before, from the root; the deepest last.
    made: Vec<PathBuf>,
    /// What the store keeps for them.
    snapshots: Vec<String>,
    _kept: Vec<OwnedFd>,
}

struct Preparation<'a> {
    context: &'a Context,
    lease: &'a Lease,
    record: &'a mut Record,
    paths: &'a Paths,
    prepared: Prepared,
}

/// Adds the mounts of a step to its container, whose snapshot is there.
pub(super) fn prepare(
    context: &Context,
    lease: &Lease,
    record: &mut Record,
    paths: &Paths,
    wanted: Vec<Wanted>,
    script: Option<&str>,
) -> Result<Prepared> {
    let mut preparation = Preparation { context, lease, record, paths, prepared: Prepared::default() };
    crate::containers::files::make_state_dir(paths)?;
    for (number, wanted) in wanted.into_iter().enumerate() {
        preparation.one(number, wanted)?;
    }
    if let Some(script) = script {
        let file = preparation.file("script", script.as_bytes(), SCRIPT_MODE)?;
        let target = preparation.record.args.first().cloned().unwrap_or_default();
        preparation.bind(file, &target, false);
    }
    preparation.note()?;
    Ok(preparation.prepared)
}

impl Preparation<'_> {
    fn one(&mut self, number: usize, wanted: Wanted) -> Result<()> {
        let Wanted { mount, files, .. } = wanted;
        match mount.kind {
            Kind::Tmpfs => {
                let size = if mount.size > 0 { format!("size={}", mount.size) } else { String::new() };
                let point = point("tmpfs", PathBuf::new(), &mount.target, true);
                self.record.mounts.push(MountRecord { point, kind: MountKind::Tmpfs { options: size } });
                Ok(())
            }
            Kind::Secret => self.secret(number, &mount, files),
            Kind::Cache => {
                if !matches!(files, Files::Nothing) {
                    return Err(Error::not_implemented(
                        "RUN --mount=type=cache,from=… is not available yet: leave out from",
                    ));
                }
                let directory = cache(self.context, &mount)?;
                self.bind(directory, &mount.target, !mount.read_only);
                Ok(())
            }
            Kind::Bind => self.files(number, &mount, files),
            Kind::Ssh => Err(Error::not_implemented("RUN --mount=type=ssh is not available yet")),
        }
    }

    fn files(&mut self, number: usize, mount: &Mount, files: Files) -> Result<()> {
        if !mount.read_only {
            return Err(Error::not_implemented(
                "RUN --mount=type=bind,rw is not available yet: copy the files, or leave out rw",
            ));
        }
        let source = build::ignore::clean(&format!("/{}", mount.source));
        let source = source.trim_start_matches('/').to_owned();
        match files {
            Files::Directory(directory) => {
                let at = if source.is_empty() { "." } else { &source };
                let opened = copying::opened(&directory)?.open_path(at);
                let opened = opened.map_err(|error| Error::io("mount", Path::new(at), error))?;
                let path = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
                self.prepared._kept.push(opened);
                self.bind(path, &mount.target, false);
                Ok(())
            }
            Files::Layers(layers) => {
                let snapshot = format!("{}-mount-{number}", self.record.id);
                let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
                self.context.store.restore_layers(&layers)?;
                self.context.store.create_snapshot(&snapshot, &diff_ids, self.lease)?;
                self.prepared.snapshots.push(snapshot.clone());
                let mut point = point("image", PathBuf::new(), &mount.target, false);
                point.name = snapshot.clone();
                let kind = MountKind::Image { snapshot, subpath: source };
                self.record.mounts.push(MountRecord { point, kind });
                Ok(())
            }
            Files::Nothing | Files::Secret(_) => Err(Error::system("a bug: a mount has no files")),
        }
    }

    fn secret(&mut self, number: usize, mount: &Mount, files: Files) -> Result<()> {
        // One that is not there and not required is left out.
        let Files::Secret(content) = files else { return Ok(()) };
        let id = secret_id(mount);
        if let Some(name) = &mount.env {
            let name = if name.is_empty() { &id } else { name };
            let value = String::from_utf8(content)
                .map_err(|_| Error::invalid(format!("secret {id} is not text: no variable can hold it")))?;
            self.record.config.env.push(format!("{name}={value}"));
            if mount.target.is_empty() {
                return Ok(());
            }
            return self.secret_file(number, mount, &id, value.as_bytes());
        }
        self.secret_file(number, mount, &id, &content)
    }

    fn secret_file(&mut self, number: usize, mount: &Mount, id: &str, content: &[u8]) -> Result<()> {
        let target = if mount.target.is_empty() {
            let name = Path::new(id).file_name().unwrap_or_default().to_string_lossy().into_owned();
            format!("{SECRETS}{name}")
        } else {
            build::ignore::clean(&format!("{}/{}", root_of(&mount.target), mount.target))
        };
        let mode = mount.mode.unwrap_or(SECRET_MODE);
        let file = self.file(&format!("secret-{number}"), content, mode)?;
        let opened = std::fs::File::open(&file).map_err(|e| Error::io("open", &file, e))?;
        fsx::chown(&opened, mount.uid.unwrap_or(0), mount.gid.unwrap_or(0))
            .map_err(|e| Error::io("set the owner of", &file, e))?;
        self.bind(file, &target, false);
        Ok(())
    }

    /// A file beside those that the engine makes for the container.
    fn file(&self, name: &str, content: &[u8], mode: u32) -> Result<PathBuf> {
        let path = self.paths.state.join(name);
        let options = std::fs::File::options().write(true).create_new(true).mode(mode).open(&path);
        let write = || {
            let mut file = options?;
            fsx::chmod(&file, fsx::Mode::from_raw_mode(mode))?;
            file.write_all(content)
        };
        write().map_err(|e| Error::io("write", &path, e))?;
        Ok(path)
    }

    fn bind(&mut self, source: PathBuf, target: &str, writable: bool) {
        let kind = MountKind::Bind {
            recursive: false,
            create: false,
            read_only_recursive: false,
            read_only_force: false,
            owners: None,
        };
        let point = point("bind", source, target, writable);
        self.record.mounts.push(MountRecord { point, kind });
    }

    /// Notes which places of mounts are not there yet.
    fn note(&mut self) -> Result<()> {
        if self.record.mounts.is_empty() {
            return Ok(());
        }
        let mounts = self.context.store.mounts(&self.record.id)?;
        let targets: Vec<PathBuf> = self
            .record
            .mounts
            .iter()
            .map(|mount| PathBuf::from(mount.point.destination.trim_start_matches('/')))
            .collect();
        self.prepared.made = super::view::looked(&mounts, &self.context.config.exec_root, move |root| {
            let mut missing = Vec::new();
            for target in targets {
                let mut so_far = PathBuf::new();
                for step in &target {
                    so_far.push(step);
                    if root.stat(&so_far).is_err() && !missing.contains(&so_far) {
                        missing.push(so_far.clone());
                    }
                }
            }
            Ok(missing)
        })?;
        Ok(())
    }
}

fn root_of(target: &str) -> &'static str {
    if target.starts_with('/') { "" } else { "/" }
}

/// Looks at the files of mounts that somebody may change meanwhile.
pub(super) fn surveys(wanted: &[Wanted], digests: &Digests) -> Result<Vec<Survey>> {
    let foreign = wanted.iter().filter_map(|one| match &one.files {
        Files::Directory(directory) if directory.holds == Holds::Foreign => Some((one, directory)),
        _ => None,
    });
    foreign
        .map(|(one, directory)| {
            let root = copying::opened(directory)?;
            let picked = pick_one(&root, &one.mount.source, &one.sieve)?;
            content::survey(&root, &[picked], &one.sieve, digests)
        })
        .collect()
}

/// The digest of what the mounts of a step have of files; of those that somebody may change as they were seen.
pub(super) fn key(wanted: &[Wanted], surveys: &[Survey]) -> Result<Option<Digest>> {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    let mut surveys = surveys.iter();
    for one in wanted {
        let part = match &one.files {
            Files::Nothing | Files::Secret(_) => continue,
            Files::Layers(layers) => {
                layers.iter().map(|layer| layer.diff_id.to_string()).collect::<Vec<_>>().join(",")
            }
            Files::Directory(directory) if directory.holds == Holds::Foreign => {
                surveys.next().map(|survey| survey.key.to_string()).unwrap_or_default()
            }
            Files::Directory(directory) => {
                let root = copying::opened(directory)?;
                let picked = pick_one(&root, &one.mount.source, &one.sieve)?;
                // Of a directory that is copied, its own permissions are no part; of one that is mounted they are.
                let at = if picked.path.as_os_str().is_empty() { Path::new(".") } else { &picked.path };
                let mode = root.stat(at).map_err(|e| Error::io("look at", at, e))?.st_mode;
                let key = content::key(&root, std::slice::from_ref(&picked), &one.sieve, false)?;
                format!("{mode:o} {key}")
            }
        };
        hasher.update(part);
        hasher.update(b";");
    }
    Ok(Some(Digest::from_sha256(hasher.finalize().into())))
}

/// What a secret is asked for by.
pub(super) fn secret_id(mount: &Mount) -> String {
    if !mount.id.is_empty() {
        return mount.id.clone();
    }
    let named = if mount.source.is_empty() { &mount.target } else { &mount.source };
    Path::new(named).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The name of the directory of a cache: of its id, or else of where it is seen.
pub(super) fn cache_name(mount: &Mount) -> String {
    use sha2::Digest as _;
    let id = if mount.id.is_empty() { build::ignore::clean(&mount.target) } else { mount.id.clone() };
    hex::encode(sha2::Sha256::digest(id))
}

/// The directory of a cache, which lasts.
fn cache(context: &Context, mount: &Mount) -> Result<PathBuf> {
    let name = cache_name(mount);
    let path = context.config.data_root.join("build").join("caches").join(name);
    let failed = |e| Error::io("make the cache", &path, e);
    let parent = path.parent().unwrap_or(&path);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
    match std::fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(path),
        other => other.map_err(failed)?,
    }
    let fd = fsx::open_dir(&path).map_err(failed)?;
    fsx::chown(&fd, mount.uid.unwrap_or(0), mount.gid.unwrap_or(0)).map_err(failed)?;
    fsx::chmod(&fd, fsx::Mode::from_raw_mode(mount.mode.unwrap_or(CACHE_MODE))).map_err(failed)?;
    Ok(path)
}

impl Prepared {
    /// Gives up what the store kept for them.
    pub fn forget(&self, context: &Context, lease: &Lease) -> Result<()> {
        self.snapshots.iter().try_for_each(|id| super::forget(context, lease, id))
    }

    /// Takes the places of mounts away again that were made for them, if there is nothing in them.
    pub fn clear(&self, context: &Context, id: &str) -> Result<()> {
        if self.made.is_empty() {
            return Ok(());
        }
        let Some(upper) = context.store.mounts(id)?.upper else { return Ok(()) };
        let root = Root::open(&upper).map_err(|e| Error::io("open", &upper, e))?;
        for path in self.made.iter().rev() {
            if let Err(error) = remove(&root, path) {
                return Err(Error::io("clear", &upper.join(path), error));
            }
        }
        Ok(())
    }
}

fn remove(root: &Root, path: &Path) -> io::Result<()> {
    let (dir, name): (OwnedFd, OsString) = match root.parent(path) {
        Err(_) => return Ok(()),
        Ok(found) => found,
    };
    let Ok(stat) = fsx::stat_at(&dir, &name) else { return Ok(()) };
    match fsx::kind(&stat) {
        FileType::Directory => match fsx::rmdir_at(&dir, &name) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => other,
        },
        FileType::RegularFile if stat.st_size == 0 => fsx::unlink_at(&dir, &name),
        _ => Ok(()),
    }
}
