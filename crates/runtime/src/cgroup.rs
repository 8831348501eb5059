//! Control groups: which hierarchies this host has, a container's group in all of them, its limits and its end.
//!
//! There are three layouts. *Unified*: `/sys/fs/cgroup` is version 2 and has all controllers. *Legacy*: a hierarchy of version 1 for each
//! controller below `/sys/fs/cgroup`. *Hybrid*: legacy, plus a version 2 hierarchy without controllers at
//! `/sys/fs/cgroup/unified`; a group is made there too, as `cgroup.kill` is the one reliable way to kill everybody.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use oci::runtime::LinuxResources;
use sys::fsx::{self, Mode, OFlags};

use crate::error::{Context as _, Error};

mod devices;
mod v1;
mod v2;

/// Where the hierarchies are mounted, on every distribution.
const MOUNTPOINT: &str = "/sys/fs/cgroup";

/// How long the kernel is given to freeze, or to let go of the last process of, a group. A process in the middle
/// of a disk write can take this long; one that takes longer is reported.
const PATIENCE: Duration = Duration::from_secs(5);

/// First and longest pause between two looks at a state that the kernel does not announce.
const PAUSE_FIRST: Duration = Duration::from_micros(200);
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// How deep groups made inside a container are followed when it is removed: more than any nesting in practice.
const DEPTH_MAX: usize = 64;

/// The processes of a group, read in one piece: 4 million PIDs of at most 8 characters would be more; such a group is
/// beyond the default `pid_max` (32768).
const PIDS_BYTES_MAX: u64 = 64 << 20;

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Its directory below the mount point: `cpu,cpuacct`, `memory`, `systemd`; empty for the unified layout.
    pub(crate) name: String,
    /// Whether it is of version 2.
    pub(crate) v2: bool,
}

impl Hierarchy {
    /// Whether it is the one with this controller of version 1.
    pub(crate) fn has(&self, controller: &str) -> bool {
        !self.v2 && self.name.split(',').any(|c| c == controller)
    }

    fn mountpoint(&self) -> PathBuf {
        Path::new(MOUNTPOINT).join(&self.name)
    }
}

/// The hierarchies of this host, each verified to be one.
pub(crate) fn hierarchies() -> Result<Vec<Hierarchy>, Error> {
    let top = fsx::open_dir(MOUNTPOINT).on("open", MOUNTPOINT)?;
    let magic = sys::mount::magic(&top).on("inspect", MOUNTPOINT)?;
    if magic == sys::mount::CGROUP2 {
        return Ok(vec![Hierarchy { name: String::new(), v2: true }]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(MOUNTPOINT).on("list", MOUNTPOINT)? {
        let entry = entry.on("list", MOUNTPOINT)?;
        // Links stand for controllers that share a hierarchy: `cpu` for `cpu,cpuacct`.
        if !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        let Ok(name) = entry.file_name().into_string() else { continue };
        let directory = fsx::open_dir_at(&top, &name).on("open", entry.path())?;
        match sys::mount::magic(&directory).on("inspect", entry.path())? {
            sys::mount::CGROUP => found.push(Hierarchy { name, v2: false }),
            sys::mount::CGROUP2 => found.push(Hierarchy { name, v2: true }),
            _ => {}
        }
    }
    if found.is_empty() {
        return Err(Error::Invalid(format!("no cgroup hierarchy is mounted below {MOUNTPOINT}")));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// A container's group: the same path in every hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    hierarchies: Vec<Hierarchy>,
}

impl Cgroup {
    /// The group at `path`, which is counted from the root of the hierarchies. It need not exist.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = relative(path.as_ref())?;
        Ok(Self { path, hierarchies: hierarchies()? })
    }

    /// The path below the root of each hierarchy.
    pub fn path(&self) -> PathBuf {
        Path::new("/").join(&self.path)
    }

    /// Makes the group everywhere and sets its limits. Fails if processes are in it already: it belongs to another.
    pub(crate) fn create(path: impl AsRef<Path>, resources: Option<&LinuxResources>) -> Result<Self, Error> {
        let cgroup = Self::open(path)?;
        if let Some(directory) = cgroup.reference()
            && !read_pids(&directory)?.is_empty()
        {
            return Err(Error::Invalid(format!("cgroup {} is in use", cgroup.path().display())));
        }
        let made = cgroup.make_directories().and_then(|()| cgroup.set(resources, true));
        if let Err(error) = made {
            // What could not be removed as well is not worth more than the first error.
            let _ = cgroup.remove();
            return Err(error);
        }
        Ok(cgroup)
    }

    fn make_directories(&self) -> Result<(), Error> {
        for hierarchy in &self.hierarchies {
            let directory = self.directory(hierarchy);
            if self.is_unified() {
                // Also where the groups above are there already: they may not pass on all controllers yet.
                self.make_parents(hierarchy)?;
            }
            let mut made = fs::create_dir(&directory);
            if made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                self.make_parents(hierarchy)?;
                made = fs::create_dir(&directory);
            }
            match made {
                // Left over by somebody who could not remove it, and empty: taken over.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.on("create", &directory)?,
            }
            if hierarchy.has("cpuset") {
                v1::inherit_cpuset(&hierarchy.mountpoint(), &self.path)?;
            }
        }
        Ok(())
    }

    /// Makes the groups above; in the unified layout each passes its controllers on.
    fn make_parents(&self, hierarchy: &Hierarchy) -> Result<(), Error> {
        let mut directory = hierarchy.mountpoint();
        let mut above = self.path.parent().into_iter().flat_map(Path::components);
        loop {
            if self.is_unified() {
                v2::enable_controllers(&directory)?;
            }
            let Some(component) = above.next() else { return Ok(()) };
            directory.push(component);
            match fs::create_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).on("create", &directory);
                }
                _ => {}
            }
        }
    }

    fn directory(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy.mountpoint().join(&self.path)
    }

    fn v1(&self, controller: &str) -> Option<PathBuf> {
        self.hierarchies.iter().find(|h| h.has(controller)).map(|h| self.directory(h))
    }

    fn v2(&self) -> Option<PathBuf> {
        self.hierarchies.iter().find(|h| h.v2).map(|h| self.directory(h))
    }

    /// Whether controllers are those of version 2.
    pub(crate) fn is_unified(&self) -> bool {
        matches!(self.hierarchies.as_slice(), [one] if one.v2)
    }

    /// Sets limits on the living container.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        self.set(Some(resources), false)
    }

    fn set(&self, resources: Option<&LinuxResources>, fresh: bool) -> Result<(), Error> {
        if self.is_unified() {
            let directory = self.directory(&self.hierarchies[0]);
            return v2::set(&directory, resources, fresh);
        }
        v1::set(&|controller| self.v1(controller), resources, fresh)
    }

    /// What a new process needs to come into the group.
    pub(crate) fn entry(&self) -> Result<Entry, Error> {
        let mut entry = Entry { tasks: Vec::new(), v2: None };
        for hierarchy in &self.hierarchies {
            let directory = self.directory(hierarchy);
            if hierarchy.v2 {
                entry.v2 = Some(fsx::open_dir(&directory).on("open", &directory)?);
            } else {
                let tasks = directory.join("tasks");
                let fd = open_write(&tasks).on("open", &tasks)?;
                entry.tasks.push((tasks, fd));
            }
        }
        Ok(entry)
    }

    /// The directories to show inside the container, by the name each has below the mount point; a single one with an empty name
    /// stands for the mount point itself.
    pub(crate) fn views(&self) -> Vec<(String, PathBuf)> {
        self.hierarchies.iter().map(|h| (h.name.clone(), self.directory(h))).collect()
    }

    /// The processes in the group and in groups below it, in no particular order.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        let Some(directory) = self.reference() else { return Ok(Vec::new()) };
        let mut pids = Vec::new();
        collect_pids(&directory, 0, &mut pids)?;
        Ok(pids)
    }

    /// The hierarchy whose list of processes counts: one with a controller, so that it survives a
    /// daemon of the host (systemd) that rearranges the others.
    fn reference(&self) -> Option<PathBuf> {
        self.v1("pids").or_else(|| self.v1("freezer")).or_else(|| self.v1("memory")).or_else(|| self.v2())
    }

    /// Freezes all processes, and returns when they are.
    pub fn pause(&self) -> Result<(), Error> {
        self.freeze(true)
    }

    /// Lets frozen processes go on, and returns when they do.
    pub fn resume(&self) -> Result<(), Error> {
        self.freeze(false)
    }

    fn freeze(&self, frozen: bool) -> Result<(), Error> {
        let path = self.path();
        let done = match (self.v1("freezer"), self.v2()) {
            (Some(directory), _) => v1::freeze(&directory, frozen)?,
            (None, Some(directory)) => v2::freeze(&directory, frozen)?,
            (None, None) => return Err(Error::Unsupported("pausing on a host without a freezer".into())),
        };
        if done {
            return Ok(());
        }
        let source = io::Error::from(io::ErrorKind::TimedOut);
        Err(Error::Io { verb: if frozen { "freeze" } else { "thaw" }, path, source })
    }

    /// Whether the group is frozen, or about to be.
    pub fn is_paused(&self) -> Result<bool, Error> {
        match (self.v1("freezer"), self.v2()) {
            (Some(directory), _) => v1::is_frozen(&directory),
            (None, Some(directory)) => v2::is_frozen(&directory),
            (None, None) => Ok(false),
        }
    }

    /// Kills every process, also of a paused group, and returns when none is left.
    pub fn kill_all(&self) -> Result<(), Error> {
        let v2 = self.v2().filter(|d| d.exists());
        let killed = match v2 {
            Some(directory) => write_if_there(&directory.join("cgroup.kill"), "1")?,
            None => false,
        };
        let deadline = Instant::now() + PATIENCE;
        let mut pause = PAUSE_FIRST;
        loop {
            if !killed {
                self.kill_each()?;
            }
            // A frozen process of version 1 dies only once it is thawed.
            if self.v1("freezer").is_some_and(|d| d.exists()) && self.is_paused()? {
                self.resume()?;
            }
            if self.pids()?.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let source = io::Error::from(io::ErrorKind::TimedOut);
                return Err(Error::Io { verb: "kill the processes of cgroup", path: self.path(), source });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn kill_each(&self) -> Result<(), Error> {
        for pid in self.pids()? {
            match sys::process::kill(pid, 9) {
                Err(error) if !is_gone(&error) => return Err(error).on("kill", pid.to_string()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Kills what is in the group and removes it, and does so again where a process that was on its way into the group arrived
    /// in between. What is not there is not an error.
    pub fn kill_and_remove(&self) -> Result<(), Error> {
        self.kill_all()?;
        self.remove_with(|| self.kill_all())
    }

    /// Removes the group and those made below it; what is not there is not an error. The processes must be gone.
    pub fn remove(&self) -> Result<(), Error> {
        self.remove_with(|| Ok(()))
    }

    /// Removes it, with `again` before every further try.
    fn remove_with(&self, again: impl Fn() -> Result<(), Error>) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        for hierarchy in &self.hierarchies {
            let directory = self.directory(hierarchy);
            let mut pause = PAUSE_FIRST;
            while let Err(error) = remove_tree(&directory, 0) {
                if Instant::now() > deadline {
                    return Err(error).on("remove", &directory);
                }
                again()?;
                std::thread::sleep(pause);
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        Ok(())
    }

    /// How many processes of the group the kernel has killed for want of memory.
    pub fn oom_kill_count(&self) -> Result<u64, Error> {
        let file = match (self.v1("memory"), self.v2()) {
            (Some(directory), _) => directory.join("memory.oom_control"),
            (None, Some(directory)) => directory.join("memory.events"),
            (None, None) => return Ok(0),
        };
        Ok(field(&read(&file)?, "oom_kill").unwrap_or(0))
    }
}

/// The way into a group, opened beforehand: it works from another mount namespace and from a user namespace.
#[derive(Debug)]
pub(crate) struct Entry {
    tasks: Vec<(PathBuf, OwnedFd)>,
    v2: Option<OwnedFd>,
}

impl Entry {
    /// The group of version 2 for the kernel to make the new process in.
    pub(crate) fn v2(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(AsFd::as_fd)
    }

    /// Moves the calling process, which must have one thread, into the groups of version 1.
    ///
    /// A process that writes `0` to `tasks` moves itself, for which the kernel needs no lock over all processes of
    /// the host: 10 µs where `cgroup.procs` takes many milliseconds.
    pub(crate) fn join(&self) -> Result<(), Error> {
        for (path, fd) in &self.tasks {
            sys::proc::write_once(fd, b"0").on("write", path)?;
        }
        Ok(())
    }
}

/// `path` without its root, if it is fit to be a cgroup's.
fn relative(path: &Path) -> Result<PathBuf, Error> {
    let mut relative = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => relative.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::Invalid(format!("linux.cgroupsPath {path:?} contains \"..\"")));
            }
        }
    }
    if relative.as_os_str().is_empty() {
        return Err(Error::Invalid("linux.cgroupsPath is the root of the hierarchy".into()));
    }
    Ok(relative)
}

fn remove_tree(directory: &Path, depth: usize) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) if depth < DEPTH_MAX => {}
        other => return other,
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path(), depth + 1)?;
        }
    }
    fs::remove_dir(directory)
}

fn collect_pids(directory: &Path, depth: usize, pids: &mut Vec<i32>) -> Result<(), Error> {
    pids.extend(read_pids(directory)?);
    if depth >= DEPTH_MAX {
        return Ok(());
    }
    let entries = match fs::read_dir(directory) {
        Err(error) if is_gone(&error) => return Ok(()),
        other => other.on("list", directory)?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect_pids(&entry.path(), depth + 1, pids)?;
        }
    }
    Ok(())
}

fn read_pids(directory: &Path) -> Result<Vec<i32>, Error> {
    let path = directory.join("cgroup.procs");
    match read_bounded(&path, PIDS_BYTES_MAX) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        Err(error) => Err(error).on("read", path),
    }
}

/// Whether what was looked for has ceased to exist meanwhile.
fn is_gone(error: &io::Error) -> bool {
    const ENODEV: i32 = 19;
    const ESRCH: i32 = 3;
    error.kind() == io::ErrorKind::NotFound || matches!(error.raw_os_error(), Some(ENODEV | ESRCH))
}

fn open_write(path: &Path) -> io::Result<OwnedFd> {
    let directory = fsx::open_dir(path.parent().unwrap_or(Path::new("/")))?;
    fsx::open_at(directory, path.file_name().unwrap_or_default(), OFlags::WRONLY, Mode::empty())
}

fn write(path: &Path, value: &str) -> Result<(), Error> {
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| sys::proc::write_once(&file, value.as_bytes()))
        .on("write", path)
}

fn write_if_there(path: &Path, value: &str) -> Result<bool, Error> {
    match write(path, value) {
        Err(Error::Io { source, .. }) if is_gone(&source) => Ok(false),
        other => other.map(|()| true),
    }
}

fn read(path: &Path) -> Result<String, Error> {
    const FILE_BYTES_MAX: u64 = 1 << 20;
    read_bounded(path, FILE_BYTES_MAX).on("read", path)
}

fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open(path)?.take(bytes_max).read_to_string(&mut text)?;
    Ok(text)
}

/// The number behind `key` in a file of `key value` lines.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Waits, for a while, until `is_done`.
fn wait_until(mut is_done: impl FnMut() -> Result<bool, Error>) -> Result<bool, Error> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = PAUSE_FIRST;
    while !is_done()? {
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_the_root() {
        assert_eq!(relative(Path::new("/corten//a/./b")).unwrap(), Path::new("corten/a/b"));
        relative(Path::new("/a/../b")).unwrap_err();
        relative(Path::new("/")).unwrap_err();
        relative(Path::new("")).unwrap_err();
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        assert_eq!(field("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), Some(3));
        assert_eq!(field("oom_killed 3\n", "oom_kill"), None);
    }

    #[test]
    fn shared_hierarchies_are_found_by_each_controller() {
        let shared = Hierarchy { name: "cpu,cpuacct".into(), v2: false };
        assert!(shared.has("cpu") && shared.has("cpuacct") && !shared.has("cpuset"));
        assert!(!Hierarchy { name: "unified".into(), v2: true }.has("unified"));
    }
}
