//! Control groups: which hierarchies this host has, a container's group in all of them, its limits and its end.
//!
//! There are three layouts. *Unified*: `/sys/fs/cgroup` is version 2 and has all controllers. *Legacy*: a hierarchy of version 1 for each
//! controller below `/sys/fs/cgroup`. *Hybrid*: legacy, plus a version 2 hierarchy without controllers at
//! `/sys/fs/cgroup/unified`; a group is made there too, as `cgroup.kill` is the one reliable way to kill everybody.
//!
//! A user who may not make a group, and asks for no limits, gets a container without one: its processes are then those that
//! descend from its first.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci::runtime::LinuxResources;
use sys::fsx::{self, Mode, OFlags};

use crate::error::{Context as _, Error};
use crate::state::{self, Init};

mod delegate;
mod device_list;
mod devices;
mod end;
mod entry;
mod hierarchy;
mod limits;
mod oom;
mod place;
mod processes;
mod stats;
mod systemd;
mod tree;
mod v1;
mod v2;

pub(crate) use entry::Entry;
use hierarchy::{Hierarchy, hierarchies, is_unified_host};
use limits::Writer;
pub use oom::OomWatch;
pub(crate) use place::Order;
pub use place::{Driver, Place};
use place::{is_denied, is_ordinary, relative};
use systemd::Started;
pub use systemd::Unit;

/// Where the hierarchies are mounted, on every distribution.
const MOUNTPOINT: &str = "/sys/fs/cgroup";

/// How long the kernel is given to freeze, or to let go of the last process of, a group. A process in the middle
/// of a disk write can take this long; one that takes longer is reported.
const PATIENCE: Duration = Duration::from_secs(5);

/// First and longest pause between two looks at a state that the kernel does not announce.
const PAUSE_FIRST: Duration = Duration::from_micros(200);
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// A container's group: the same path in every hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    place: Place,
    /// Those in which it has a group; none if it has no group at all.
    hierarchies: Vec<Hierarchy>,
    /// Its first process, if that is known.
    init: Option<Init>,
    /// A unit of systemd that waits for the first process.
    started: Option<Started>,
}

impl Cgroup {
    /// The group at `path`, which is counted from the root of the hierarchies. It need not exist.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let cgroup = Path::new("/").join(relative(path.as_ref())?);
        Self::at(Place { cgroup, ..Place::default() }, None)
    }

    /// The group of a container, from what is remembered of it.
    pub(crate) fn at(place: Place, init: Option<Init>) -> Result<Self, Error> {
        if place.cgroup.as_os_str().is_empty() {
            return Ok(Self { place, hierarchies: Vec::new(), init, started: None });
        }
        relative(&place.cgroup)?;
        let mut hierarchies = hierarchies()?;
        hierarchies.retain(|h| !place.absent.contains(&h.name));
        Ok(Self { place, hierarchies, init, started: None })
    }

    /// The path below the root of each hierarchy; empty if there is no group.
    pub fn path(&self) -> PathBuf {
        self.place.cgroup.clone()
    }

    /// What is to be remembered of it.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Makes the group everywhere and sets its limits. Fails if processes are in it already: it belongs to another.
    ///
    /// Where it is to be is noted in `state_dir` first, so that what an interrupted creator leaves can be found.
    pub(crate) fn create(order: &Order<'_>, state_dir: &Path) -> Result<Self, Error> {
        let (place, plan) = order.place()?;
        let mut cgroup = match Self::at(place, None) {
            // Without any hierarchy there is nothing that could hold a limit, and nothing to be denied.
            Err(_) if plan.is_none() && is_ordinary() && !order.has_limits() => {
                Self::at(Place::default(), None)?
            }
            other => other?,
        };
        // Also in groups below it: what is killed and removed with the container is all that is below.
        if !cgroup.is_none() && !cgroup.pids()?.is_empty() {
            return Err(Error::Invalid(format!("cgroup {} is in use", cgroup.path().display())));
        }
        state::store_place(state_dir, &cgroup.place)?;
        if let Some(plan) = plan {
            let unified = cgroup.is_unified();
            let started = plan.start(order.id, order.resources, &order.annotations, unified)?;
            cgroup.place.cgroup.clone_from(&started.cgroup);
            cgroup.started = Some(started);
        }
        let made = cgroup.make(order);
        if let Err(error) = made {
            drop(cgroup.started.take());
            // What could not be removed as well is not worth more than the first error.
            let _ = cgroup.remove();
            return Err(error);
        }
        Ok(cgroup)
    }

    fn make(&mut self, order: &Order<'_>) -> Result<(), Error> {
        match self.make_directories() {
            Err(error) if self.started.is_none() && is_denied(&error) && is_ordinary() => {
                if order.has_limits() {
                    return Err(Error::Invalid(format!(
                        "linux.resources: limits need a cgroup, and this user may not make one: {}",
                        error.chain()
                    )));
                }
                let _ = self.remove();
                (self.place, self.hierarchies) = (Place::default(), Vec::new());
                return Ok(());
            }
            other => other?,
        }
        if let Some(owner) = order.owner
            && self.is_unified()
            && let Some(directory) = self.v2()
        {
            delegate::hand_over(&directory, owner)?;
        }
        match order.resources {
            // Whoever holds the scope counts too.
            Some(resources) if self.started.is_some() => {
                let mut others = resources.clone();
                others.set_pids(None);
                others.unified_mut().iter_mut().for_each(|unified| drop(unified.remove("pids.max")));
                self.set(Some(&others), true)
            }
            resources => self.set(resources, true),
        }
    }

    /// To be called once the container's first process is in the group: what systemd needed to begin with goes, and what had to wait
    /// for that is set.
    pub(crate) fn settle(&mut self, order: &Order<'_>) -> Result<(), Error> {
        let Some(started) = self.started.take() else { return Ok(()) };
        started.settle(order.resources)?;
        let Some(resources) = order.resources else { return Ok(()) };
        // All of them: told of the one, systemd has set the others again, and rounded.
        let mut resources = resources.clone();
        if self.is_unified() {
            resources.set_devices(None);
        }
        self.set(Some(&resources), false)
    }

    fn make_directories(&mut self) -> Result<(), Error> {
        let mut denied = None;
        for hierarchy in self.hierarchies.clone() {
            match self.make_directory(&hierarchy) {
                // An ordinary user does with those in which something was given over.
                Err(error) if !self.is_unified() && is_denied(&error) && is_ordinary() => {
                    self.place.absent.push(hierarchy.name.clone());
                    denied = Some(error);
                }
                other => other?,
            }
        }
        self.hierarchies.retain(|h| !self.place.absent.contains(&h.name));
        match denied {
            Some(error) if self.hierarchies.is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    fn make_directory(&self, hierarchy: &Hierarchy) -> Result<(), Error> {
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
            v1::inherit_cpuset(&hierarchy.mountpoint(), self.relative())?;
        }
        Ok(())
    }

    /// Makes the groups above; in the unified layout each passes its controllers on.
    fn make_parents(&self, hierarchy: &Hierarchy) -> Result<(), Error> {
        let mut directory = hierarchy.mountpoint();
        let mut above = self.relative().parent().into_iter().flat_map(Path::components);
        loop {
            if self.is_unified() {
                v2::enable_controllers(&directory)?;
            }
            let Some(component) = above.next() else { return Ok(()) };
            directory.push(component);
            match fs::create_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                // What is refused there may be there nevertheless; if not, the next step says so.
                Err(_) if directory.is_dir() => {}
                other => other.on("create", &directory)?,
            }
        }
    }

    fn relative(&self) -> &Path {
        self.place.cgroup.strip_prefix("/").unwrap_or(&self.place.cgroup)
    }

    fn directory(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy.mountpoint().join(self.relative())
    }

    fn v1(&self, controller: &str) -> Option<PathBuf> {
        self.hierarchies.iter().find(|h| h.has(controller)).map(|h| self.directory(h))
    }

    fn v2(&self) -> Option<PathBuf> {
        self.hierarchies.iter().find(|h| h.v2).map(|h| self.directory(h))
    }

    /// Whether controllers are those of version 2.
    pub(crate) fn is_unified(&self) -> bool {
        matches!(self.hierarchies.as_slice(), [one] if one.v2 && one.name.is_empty())
    }

    /// Whether the container has no group of its own.
    pub(crate) fn is_none(&self) -> bool {
        self.hierarchies.is_empty()
    }

    /// Sets limits on the living container. If one is refused, those before it are taken back as far as the kernel lets that happen.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        let Some(unit) = &self.place.unit else { return self.set(Some(resources), false) };
        // While systemd writes device rules to the files of version 1 there are none for a moment: nobody is to notice.
        let devices = resources.devices().as_ref().is_some_and(|rules| !rules.is_empty());
        let freeze = devices && !self.is_unified() && !self.is_paused()?;
        if freeze {
            self.pause()?;
        }
        let set = self.set_with_unit(unit, resources);
        if freeze {
            self.resume()?;
        }
        set
    }

    /// The files first, as what is wrong shows there; then systemd, and then again what it has rounded.
    fn set_with_unit(&self, unit: &Unit, resources: &LinuxResources) -> Result<(), Error> {
        let mut writer = Writer::new(false);
        let set = self.set_files(Some(resources), &mut writer);
        let told = set.and_then(|()| systemd::update(unit, &self.completed(resources), self.is_unified()));
        if let Err(error) = told {
            writer.take_back();
            return Err(error);
        }
        self.set(Some(resources), false)
    }

    /// With what the group has where systemd takes two limits as one and only one of them is given.
    fn completed(&self, resources: &LinuxResources) -> LinuxResources {
        let mut resources = resources.clone();
        let unified = self.is_unified();
        if let (Some(cpu), Some(directory)) =
            (resources.cpu_mut(), self.v2().filter(|_| unified).or(self.v1("cpu")))
        {
            let given = (cpu.quota().filter(|q| *q != 0), cpu.period().filter(|p| *p != 0));
            if given.0.is_some() != given.1.is_some() {
                let (quota, period) =
                    if unified { v2::bandwidth(&directory) } else { v1::bandwidth(&directory) };
                cpu.set_quota(given.0.or(quota)).set_period(given.1.or(period));
            }
        }
        if unified
            && let (Some(memory), Some(directory)) = (resources.memory_mut(), self.v2())
            && memory.limit().is_none_or(|limit| limit == 0)
            && memory.swap().is_some_and(|swap| swap > 0)
        {
            memory.set_limit(v2::current_limit(&directory).unwrap_or(None));
        }
        resources
    }

    fn set(&self, resources: Option<&LinuxResources>, fresh: bool) -> Result<(), Error> {
        let mut writer = Writer::new(fresh);
        let set = self.set_files(resources, &mut writer);
        if set.is_err() {
            writer.take_back();
        }
        set
    }

    fn set_files(&self, resources: Option<&LinuxResources>, writer: &mut Writer) -> Result<(), Error> {
        match self.hierarchies.as_slice() {
            [one] if self.is_unified() => v2::set(&self.directory(one), resources, writer),
            _ => v1::set(&|controller| self.v1(controller), resources, writer),
        }
    }

    /// The directories to show inside the container, by the name each has below the mount point; a single one with an empty name
    /// stands for the mount point itself. Without a group of its own it is in its creator's.
    pub(crate) fn views(&self) -> Vec<(String, PathBuf)> {
        if !self.is_none() {
            return self.hierarchies.iter().map(|h| (h.name.clone(), self.directory(h))).collect();
        }
        let own = place::own();
        let view = |h: Hierarchy| {
            let is_own =
                |controllers: &str| if h.v2 { controllers.is_empty() } else { controllers == h.name };
            let path = own.iter().find(|(controllers, _)| is_own(controllers)).map(|(_, path)| path.clone());
            let directory = h.mountpoint().join(path.unwrap_or_default());
            (h.name, directory)
        };
        hierarchies().unwrap_or_default().into_iter().map(view).collect()
    }

    /// The hierarchy whose list of processes counts: one with a controller, so that it survives a
    /// daemon of the host (systemd) that rearranges the others.
    fn reference(&self) -> Option<PathBuf> {
        self.v1("pids").or_else(|| self.v1("freezer")).or_else(|| self.v1("memory")).or_else(|| self.v2())
    }

    /// The directory of the group by which its processes are frozen.
    pub(crate) fn freezer(&self) -> Option<PathBuf> {
        self.v1("freezer").or_else(|| self.v2())
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
            (None, None) if self.is_none() => {
                return Err(Error::Unsupported("pausing a container that has no cgroup of its own".into()));
            }
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

fn open_and_write(path: &Path, value: &str) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(path)?;
    sys::proc::write_once(&file, value.as_bytes())
}

fn write(path: &Path, value: &str) -> Result<(), Error> {
    open_and_write(path, value).on("write", path)
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
    fn a_field_is_found_by_its_whole_name() {
        assert_eq!(field("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), Some(3));
        assert_eq!(field("oom_killed 3\n", "oom_kill"), None);
    }
}
