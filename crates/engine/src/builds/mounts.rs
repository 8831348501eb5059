//! `--mount` of `RUN`: files of contexts, stages and images, caches, memory, secrets; and what putting them there leaves in the files
//! of the step, which is nobody's change.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use build::dockerfile::mount::{Kind, Mount};
use build::request::{self, Holds};
use oci::Digest;
use storage::{ImageLayer, Lease};
use sys::fsx::{self, FileType};
use sys::path::Root;

use super::agent::{self, Socket};
use super::command::{Held, point};
use super::content::{self, Survey};
use super::context::Scratch;
use super::copying;
use super::digests::Digests;
use super::lasting::Lasting;
use super::place::{Placing, Wishes};
use super::select::{Sieve, pick_one};
use crate::containers::record::{MountKind, MountRecord, Paths, Record};
use crate::containers::start::Given;
use crate::context::Context;
use crate::error::{Error, Result};

/// Where files are in a directory that they were gathered in.
const GATHERED: &str = "/files";
/// Where secrets are seen where nobody says.
const SECRETS: &str = "/run/secrets/";
/// The mode of a secret, and of the directory of a cache, where nobody says.
const SECRET_MODE: u32 = 0o400;
const CACHE_MODE: u32 = 0o755;
const AGENT_MODE: u32 = 0o600;
/// Where agents are seen where nobody says, before their number.
const AGENTS: &str = "/run/buildkit/ssh_agent";
/// What tells programs where the first one is.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";
/// Where files are copied to, in what is kept of a mount.
const COPIED: &str = "/files";
/// A script of the Dockerfile: everybody may run it.
const SCRIPT_MODE: u32 = 0o755;
/// Links on the way to a place: the kernel's own limit.
const LINKS_MAX: u32 = 40;

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
    /// The client's agent, by its name.
    Agent(String),
}

/// A mount, and its files.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub mount: Mount,
    pub files: Files,
    /// What is hidden in a directory that holds everything.
    pub sieve: Sieve,
    /// Which of the caches of this name: each of those who want one for themselves has another.
    pub instance: u32,
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
    /// Secrets, each a mount in memory.
    pub secrets: Given,
    /// Sockets that nobody listens on yet.
    pub sockets: Vec<Socket>,
    _kept: Vec<OwnedFd>,
}

struct Preparation<'a> {
    context: &'a Context,
    lease: &'a Lease,
    held: &'a Held,
    record: &'a mut Record,
    paths: &'a Paths,
    prepared: Prepared,
}

/// Adds the mounts of a step to its container, whose snapshot is there.
pub(super) fn prepare(
    context: &Context,
    (lease, held): (&Lease, &Held),
    record: &mut Record,
    paths: &Paths,
    wanted: Vec<Wanted>,
    script: Option<&str>,
) -> Result<Prepared> {
    let mut preparation = Preparation { context, lease, held, record, paths, prepared: Prepared::default() };
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
        let Wanted { mount, files, sieve, instance } = wanted;
        match mount.kind {
            Kind::Tmpfs => {
                let size = if mount.size > 0 { format!("size={}", mount.size) } else { String::new() };
                let point = point("tmpfs", PathBuf::new(), &mount.target, true);
                self.record.mounts.push(MountRecord { point, kind: MountKind::Tmpfs { options: size } });
                Ok(())
            }
            Kind::Secret => self.secret(&mount, files),
            Kind::Cache => {
                let directory = self.cache(&mount, &files, &sieve, instance)?;
                self.bind(directory, &mount.target, !mount.read_only);
                Ok(())
            }
            Kind::Bind => self.files(number, &mount, files),
            Kind::Ssh => self.agent(number, &mount, files),
        }
    }

    fn files(&mut self, number: usize, mount: &Mount, files: Files) -> Result<()> {
        match files {
            Files::Directory(directory) => self.directory(number, mount, &directory),
            Files::Layers(layers) => {
                let snapshot = self.snapshot(number, &layers)?;
                let mut point = point("image", PathBuf::new(), &mount.target, !mount.read_only);
                point.name = snapshot.clone();
                let kind = MountKind::Image { snapshot, subpath: source(mount) };
                self.record.mounts.push(MountRecord { point, kind });
                Ok(())
            }
            _ => Err(Error::system("a bug: a mount has no files")),
        }
    }

    /// What is kept of a mount beside the files of the step.
    fn snapshot(&mut self, number: usize, layers: &[ImageLayer]) -> Result<String> {
        let snapshot = format!("{}-mount-{number}", self.record.id);
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        self.context.store.restore_layers(layers)?;
        self.context.store.create_snapshot(&snapshot, &diff_ids, self.lease)?;
        self.prepared.snapshots.push(snapshot.clone());
        Ok(snapshot)
    }

    /// Files of a context: themselves where they are only read, or else a copy that goes with the step.
    fn directory(&mut self, number: usize, mount: &Mount, directory: &request::Directory) -> Result<()> {
        let root = copying::opened(directory)?;
        // What is hidden is hidden already.
        let sieve = Sieve::default();
        let picked = pick_one(&root, &mount.source, &sieve)?;
        if mount.read_only {
            let at = if picked.path.as_os_str().is_empty() { Path::new(".") } else { &picked.path };
            let opened = root.open_path(at).map_err(|error| Error::io("mount", at, error))?;
            self.bind_opened(opened, &mount.target, false);
            return Ok(());
        }
        let snapshot = self.snapshot(number, &[])?;
        let mounts = self.context.store.mounts(&snapshot)?;
        let upper = mounts.upper.ok_or_else(|| Error::system("a bug: a snapshot cannot be written to"))?;
        let into = Root::open(&upper).map_err(|error| Error::io("open", &upper, error))?;
        let wishes = Wishes { owner: Some((0, 0)), mode: None };
        Placing { root: &into, destination: COPIED, wishes }.copy(&root, &picked, &sieve)?;
        let opened = into.open_path(COPIED.trim_start_matches('/'));
        let opened = opened.map_err(|error| Error::io("mount", &upper, error))?;
        self.bind_opened(opened, &mount.target, true);
        Ok(())
    }

    fn bind_opened(&mut self, opened: OwnedFd, target: &str, writable: bool) {
        let path = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        self.prepared._kept.push(opened);
        self.bind(path, target, writable);
    }

    fn agent(&mut self, number: usize, mount: &Mount, files: Files) -> Result<()> {
        // One that is not there and not required is left out.
        let Files::Agent(id) = files else { return Ok(()) };
        let mode = mount.mode.unwrap_or(AGENT_MODE);
        let access = agent::Access { mode, uid: mount.uid.unwrap_or(0), gid: mount.gid.unwrap_or(0) };
        let (socket, path) = agent::listen(&self.paths.state, &format!("ssh-{number}"), &id, access)?;
        let known = self.prepared.sockets.len();
        self.prepared.sockets.push(socket);
        let target = if mount.target.is_empty() { format!("{AGENTS}.{known}") } else { mount.target.clone() };
        if known == 0 {
            self.record.config.env.push(format!("{AGENT_VARIABLE}={target}"));
        }
        self.bind(path, &target, true);
        Ok(())
    }

    /// The directory of a cache, which lasts; a new one begins with the files that it is to begin with.
    fn cache(&mut self, mount: &Mount, files: &Files, sieve: &Sieve, instance: u32) -> Result<PathBuf> {
        let base = match files {
            Files::Nothing if source(mount).is_empty() => String::new(),
            Files::Nothing => {
                return Err(Error::invalid(format!(
                    "failed to compute cache key: \"/{}\": not found: a new cache is empty: leave out source, or say from where",
                    source(mount)
                )));
            }
            Files::Layers(layers) => layers.iter().map(|layer| layer.diff_id.to_string()).collect(),
            Files::Directory(directory) => {
                let root = copying::opened(directory)?;
                let picked = pick_one(&root, &mount.source, sieve)?;
                content::key(&root, &[picked], sieve, false)?.to_string()
            }
            Files::Secret(_) | Files::Agent(_) => return Err(Error::system("a bug: a cache is a secret")),
        };
        let begun = if base.is_empty() { base } else { format!("{base}/{}", source(mount)) };
        let name = cache_directory(mount, &begun, instance);
        let lasting = Lasting::new(&self.context.config.data_root);
        let used = lasting.enter(&name, &cache_name(mount))?;
        let path = used.path.clone();
        let made = self.make_cache(mount, files, sieve, &path);
        match made {
            Ok(()) => self.held.hold(used.lock),
            Err(_) => lasting.give_up(used, &name),
        }
        made.map(|()| path)
    }

    /// Makes the directory of a cache, if it is not there.
    fn make_cache(&self, mount: &Mount, files: &Files, sieve: &Sieve, path: &Path) -> Result<()> {
        let failed = |e| Error::io("make the cache", path, e);
        if path.is_dir() {
            return Ok(());
        }
        // It is there as a whole or not at all, also after a kill: what is half there lies where an engine that starts removes it.
        let place = self.context.config.data_root.join(super::context::PLACE);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&place).map_err(failed)?;
        let new = place.join(crate::names::new_id()?);
        std::fs::DirBuilder::new().mode(0o700).create(&new).map_err(failed)?;
        let filled =
            self.fill_cache(mount, files, sieve, &new).and_then(|()| moved(&new, path).map_err(failed));
        if let Err(error) = filled {
            let _ = std::fs::remove_dir_all(&new);
            // Somebody else was faster.
            return if path.is_dir() { Ok(()) } else { Err(error) };
        }
        Ok(())
    }

    fn fill_cache(&self, mount: &Mount, files: &Files, sieve: &Sieve, new: &Path) -> Result<()> {
        let failed = |e| Error::io("make the cache", new, e);
        let into = Root::open(new).map_err(failed)?;
        let copy = |from: &Root, sieve: &Sieve| {
            let picked = pick_one(from, &mount.source, sieve)?;
            if !picked.is_directory {
                return Err(Error::invalid(format!("a cache cannot begin with a file: {}", mount.source)));
            }
            Placing { root: &into, destination: "/", wishes: Wishes::default() }.copy(from, &picked, sieve)
        };
        match files {
            Files::Layers(layers) => {
                let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
                self.context.store.restore_layers(layers)?;
                let from = self.context.store.view(self.lease, &diff_ids)?;
                if from.lower.is_empty() {
                    if !source(mount).is_empty() {
                        return Err(Error::invalid(format!(
                            "\"/{}\": not found: it is from scratch",
                            source(mount)
                        )));
                    }
                } else {
                    let exec_root = &self.context.config.exec_root;
                    super::view::seen(&from, exec_root, |root| copy(root, &Sieve::default()))?;
                }
            }
            Files::Directory(fd) => {
                copy(&copying::opened(fd)?, sieve)?;
            }
            _ => {}
        }
        let fd = fsx::open_dir(new).map_err(failed)?;
        fsx::chown(&fd, mount.uid.unwrap_or(0), mount.gid.unwrap_or(0)).map_err(failed)?;
        fsx::chmod(&fd, fsx::Mode::from_raw_mode(mount.mode.unwrap_or(CACHE_MODE))).map_err(failed)
    }

    fn secret(&mut self, mount: &Mount, files: Files) -> Result<()> {
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
            return self.secret_file(mount, &id, value.as_bytes());
        }
        self.secret_file(mount, &id, &content)
    }

    fn secret_file(&mut self, mount: &Mount, id: &str, content: &[u8]) -> Result<()> {
        let target = if mount.target.is_empty() {
            let name = Path::new(id).file_name().unwrap_or_default().to_string_lossy().into_owned();
            format!("{SECRETS}{name}")
        } else {
            build::ignore::clean(&format!("{}/{}", root_of(&mount.target), mount.target))
        };
        let mode = mount.mode.unwrap_or(SECRET_MODE);
        let owner = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        // In memory alone: no disk has it, whatever becomes of the step.
        let file = crate::secrets::file_in_memory(&self.paths.state, content, owner, mode)
            .map_err(|error| Error::system(format!("cannot mount secret {id}")).with_source(error))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        self.prepared.secrets.insert(path.clone(), file);
        self.bind(path, &target, false);
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
            targets.iter().try_for_each(|target| note_missing(root, target, &mut missing))?;
            Ok(missing)
        })?;
        Ok(())
    }
}

/// Puts a directory in its place, unless something is there: it may be an empty cache that somebody uses.
fn moved(from: &Path, to: &Path) -> io::Result<()> {
    let split = |path: &Path| -> io::Result<(OwnedFd, OsString)> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        Ok((fsx::open_dir(dir)?, name.to_owned()))
    };
    let ((from, old), (to, new)) = (split(from)?, split(to)?);
    fsx::rename_new_at(from, old, to, new)
}

/// Notes what of a path is not there, as what is made for it will really be called: links on the way lead elsewhere.
fn note_missing(root: &Root, target: &Path, missing: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut todo: VecDeque<OsString> = VecDeque::new();
    let prepend = |todo: &mut VecDeque<OsString>, path: &Path| {
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => todo.push_front(name.to_owned()),
                Component::ParentDir => todo.push_front("..".into()),
                _ => {}
            }
        }
    };
    prepend(&mut todo, target);
    let (mut real, mut links) = (PathBuf::new(), 0);
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            real.pop();
            continue;
        }
        real.push(name);
        match root.lstat(&real) {
            Ok(stat) if fsx::kind(&stat) == FileType::Symlink => {
                links += 1;
                if links > LINKS_MAX {
                    // Nothing is mounted there: the step says so.
                    return Ok(());
                }
                let link = root.read_link(&real)?;
                real.pop();
                if link.is_absolute() {
                    real.clear();
                }
                prepend(&mut todo, &link);
            }
            Ok(_) => {}
            Err(_) if missing.contains(&real) => {}
            Err(_) => missing.push(real.clone()),
        }
    }
    Ok(())
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
            Files::Nothing | Files::Secret(_) | Files::Agent(_) => continue,
            Files::Layers(layers) => {
                layers.iter().map(|layer| layer.diff_id.to_string()).collect::<Vec<_>>().join(",")
            }
            Files::Directory(directory) if directory.holds == Holds::Foreign => {
                surveys.next().map(|survey| survey.key.to_string()).unwrap_or_default()
            }
            Files::Directory(directory) => {
                let root = copying::opened(directory)?;
                // As it is shown: what is hidden in one that is shown itself is not there, or is seen.
                let nothing = Sieve::default();
                let sieve = if one.has_to_be_gathered() { &one.sieve } else { &nothing };
                let picked = pick_one(&root, &one.mount.source, sieve)?;
                // Of a directory that is copied, its own permissions are no part; of one that is mounted they are.
                let at = if picked.path.as_os_str().is_empty() { Path::new(".") } else { &picked.path };
                let mode = root.stat(at).map_err(|e| Error::io("look at", at, e))?.st_mode;
                // What an archive says of owners is seen, unless files are gathered, which are root's then.
                let owners = directory.holds == Holds::Everything && !one.has_to_be_gathered();
                let key = content::key(&root, std::slice::from_ref(&picked), sieve, owners)?;
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

/// The path that a mount shows, without a slash at its beginning.
fn source(mount: &Mount) -> String {
    build::ignore::clean(&format!("/{}", mount.source)).trim_start_matches('/').to_owned()
}

/// What caches are told apart by: the id, or else where it is seen.
pub(super) fn cache_name(mount: &Mount) -> String {
    if mount.id.is_empty() { build::ignore::clean(&mount.target) } else { mount.id.clone() }
}

/// The name of the directory of a cache, which begins with some files, or with none.
fn cache_directory(mount: &Mount, begun: &str, instance: u32) -> String {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new_with_prefix(cache_name(mount));
    if !begun.is_empty() {
        hasher.update(b"\0");
        hasher.update(begun);
    }
    let name = hex::encode(hasher.finalize());
    if instance == 0 { name } else { format!("{name}-{instance}") }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_cache_takes_the_place_of_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (new, place) = (dir.path().join("new"), dir.path().join("place"));
        fs::create_dir_all(&new).unwrap();
        fs::create_dir_all(&place).unwrap();
        assert_eq!(moved(&new, &place).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::remove_dir(&place).unwrap();
        moved(&new, &place).unwrap();
        assert!(place.is_dir() && !new.exists());
    }

    #[test]
    fn places_that_are_missing_are_known_by_their_real_names() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
        fs::create_dir_all(dir.path().join("run")).unwrap();
        symlink("usr/bin", dir.path().join("bin")).unwrap();
        symlink("/run", dir.path().join("usr/run")).unwrap();
        symlink("../../not/there", dir.path().join("usr/lost")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let missing = |targets: &[&str]| {
            let mut missing = Vec::new();
            targets.iter().try_for_each(|one| note_missing(&root, Path::new(one), &mut missing)).unwrap();
            missing.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(missing(&["bin/tool"]), ["usr/bin/tool"]);
        assert_eq!(missing(&["usr/run/a/b", "run/a/c", "bin", "run"]), ["run/a", "run/a/b", "run/a/c"]);
        assert_eq!(missing(&["usr/lost/x"]), ["not", "not/there", "not/there/x"]);
        assert!(missing(&["loop/x"]).is_empty());
    }
}
