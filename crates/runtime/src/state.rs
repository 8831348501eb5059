//! What is recorded of a container beside it: `init` names its first process for good, `state.json` what later
//! commands need, `cgroup` and `resctrl` where its groups are (known before there is a complete record), `seccomp` the compiled filter, and `start`
//! is the socket at which init waits to be started.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use oci::runtime::{Hook, LinuxMemoryPolicy};
use serde::{Deserialize, Serialize};
use sys::proc::Proc;

use crate::cgroup::{Cgroup, Place};
use crate::error::{Context as _, Error};
use crate::identity::Filter;
use crate::listener::Listener;

const INIT: &str = "init";
const STATE: &str = "state.json";
const SECCOMP: &str = "seccomp";
const CGROUP: &str = "cgroup";
const RESCTRL: &str = "resctrl";
/// The name of the socket at which init waits.
pub(crate) const START: &str = "start";

/// The version of the specification that the state is written by.
pub(crate) const OCI_VERSION: &str = "1.3.0";

/// A process that cannot be mistaken for another: numbers are used again, start times are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Init {
    /// Its number.
    pub pid: i32,
    /// When it was started, in clock ticks since boot.
    pub start: u64,
}

impl Init {
    /// Reads what was recorded in `state_dir`.
    pub fn load(state_dir: &Path) -> Result<Self, Error> {
        let path = state_dir.join(INIT);
        let line = fs::read_to_string(&path).on("read", &path)?;
        let damaged = || Error::Invalid(format!("{} does not name a process", path.display()));
        Self::parse(&line).ok_or_else(damaged)
    }

    /// Reads the line that names a process; `None` if it does not.
    pub fn parse(line: &str) -> Option<Self> {
        let value =
            |key: &str| line.split_whitespace().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        Some(Self { pid: value("pid")?.parse().ok()?, start: value("start")?.parse().ok()? })
    }

    pub(crate) fn store(&self, state_dir: &Path) -> Result<(), Error> {
        let path = state_dir.join(INIT);
        let line = format!("pid={} start={}\n", self.pid, self.start);
        sys::proc::replace_file(&path, line.as_bytes(), 0o600).on("write", path)
    }

    /// A descriptor of the process, if it is still there and still the same; `None` also for one that has ended and
    /// was not reaped.
    pub fn find(&self, proc: &Proc) -> Result<Option<OwnedFd>, Error> {
        const EINVAL: i32 = 22;
        // The descriptor first: the checks after it are then about the process it holds.
        let pidfd = match sys::process::pidfd(self.pid) {
            // The number may outlive its process, as that of a session or a group: older kernels call it invalid then.
            Err(error) if is_no_process(&error) || error.raw_os_error() == Some(EINVAL) => return Ok(None),
            other => other.on("find", format!("process {}", self.pid))?,
        };
        let same = match proc.start_time(self.pid) {
            Err(error) if is_no_process(&error) => return Ok(None),
            other => other.on("inspect", format!("process {}", self.pid))? == self.start,
        };
        let ended = sys::process::wait_ended(&pidfd, 0).on("inspect", format!("process {}", self.pid))?;
        Ok(Some(pidfd).filter(|_| same && !ended))
    }
}

fn is_no_process(error: &io::Error) -> bool {
    const ESRCH: i32 = 3;
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}

/// What later commands need to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The container's name.
    pub id: String,
    /// Where its configuration was.
    pub bundle: PathBuf,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Its cgroup.
    #[serde(flatten)]
    pub place: Place,
    /// The kinds of namespaces in which it is apart from the host (`CLONE_NEW*`).
    pub namespaces: u64,
    /// Its annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Directories of the resctrl filesystem that were made for it, the innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resctrl: Vec<PathBuf>,
    /// Who answers for its seccomp filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listener: Option<Listener>,
    /// From which memory nodes its processes take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory_policy: Option<LinuxMemoryPolicy>,
    /// Programs to run when it has been deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
    /// Programs to run when it has been started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
}

impl Record {
    /// Reads what was recorded in `state_dir`.
    pub fn load(state_dir: &Path) -> Result<Self, Error> {
        let path = state_dir.join(STATE);
        let text = fs::read(&path).on("read", &path)?;
        // It says which processes are killed and which hooks are run: only our own word is taken for that.
        let owner = fs::metadata(&path).on("inspect", &path)?.uid();
        if owner != sys::process::effective_user() {
            return Err(Error::Invalid(format!("{} belongs to user {owner}", path.display())));
        }
        serde_json::from_slice(&text).map_err(|source| Error::Json { path, source })
    }

    /// The container's cgroup, as it is now.
    pub fn cgroup(&self, init: Init) -> Result<Cgroup, Error> {
        Cgroup::at(self.place.clone(), Some(init))
    }

    pub(crate) fn store(&self, state_dir: &Path) -> Result<(), Error> {
        let path = state_dir.join(STATE);
        let text = serde_json::to_vec(self).map_err(|source| Error::Json { path: path.clone(), source })?;
        sys::proc::replace_file(&path, &text, 0o600).on("write", path)
    }
}

/// Notes where the container's cgroup is to be, before it is made: whoever clears up after a creator that was interrupted finds it.
pub(crate) fn store_place(state_dir: &Path, place: &Place) -> Result<(), Error> {
    let path = state_dir.join(CGROUP);
    let text = serde_json::to_vec(place).map_err(|source| Error::Json { path: path.clone(), source })?;
    fs::write(&path, text).on("write", path)
}

/// Where an interrupted creator may have left a cgroup. One that was interrupted while it noted this has made none.
pub(crate) fn load_place(state_dir: &Path) -> Option<Place> {
    serde_json::from_slice(&fs::read(state_dir.join(CGROUP)).ok()?).ok()
}

/// Notes which directories of the resctrl filesystem are to be made, before they are.
pub(crate) fn store_resctrl(state_dir: &Path, made: &[PathBuf]) -> Result<(), Error> {
    let path = state_dir.join(RESCTRL);
    let text = serde_json::to_vec(made).map_err(|source| Error::Json { path: path.clone(), source })?;
    sys::proc::replace_file(&path, &text, 0o600).on("write", path)
}

/// The directories that an interrupted creator may have left.
pub(crate) fn load_resctrl(state_dir: &Path) -> Vec<PathBuf> {
    fs::read(state_dir.join(RESCTRL))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

/// Whether the container in `state_dir` is being made: its groups are known, and more is not recorded.
pub(crate) fn is_unfinished(state_dir: &Path) -> bool {
    state_dir.join(CGROUP).exists() && !state_dir.join(STATE).exists()
}

/// Keeps the filter for processes that come later.
pub(crate) fn store_filter(state_dir: &Path, filter: &Filter) -> Result<(), Error> {
    let path = state_dir.join(SECCOMP);
    sys::proc::replace_file(&path, &filter.to_bytes(), 0o600).on("write", path)
}

/// The container's filter, if it has one.
pub(crate) fn load_filter(state_dir: &Path) -> Result<Option<Filter>, Error> {
    let path = state_dir.join(SECCOMP);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.on("read", &path)?,
    };
    let damaged = || Error::Invalid(format!("{} is damaged", path.display()));
    Filter::from_bytes(&bytes).ok_or_else(damaged).map(Some)
}

/// Removes all that this crate wrote into `state_dir`; what is not there is not an error.
pub fn clear(state_dir: &Path) -> Result<(), Error> {
    // The record after the places of its groups: what has those alone is unfinished, and not half removed.
    for name in [START, SECCOMP, CGROUP, RESCTRL, STATE, INIT] {
        let path = state_dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).on("remove", path),
            _ => {}
        }
    }
    Ok(())
}

/// The time as RFC 3339 writes it, in UTC.
pub(crate) fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    timestamp(since.as_secs(), since.subsec_nanos())
}

fn timestamp(seconds: u64, nanoseconds: u32) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years are counted from March, so that the leap day is the last of one; an era is 400 of them.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{nanoseconds:09}Z", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(timestamp(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(timestamp(951_782_400, 5), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(timestamp(1_767_225_599, 0), "2025-12-31T23:59:59.000000000Z");
        assert_eq!(timestamp(1_767_225_600, 0), "2026-01-01T00:00:00.000000000Z");
    }

    #[test]
    fn an_ended_or_other_process_is_not_found() {
        let proc = Proc::open().unwrap();
        let pid = std::process::id() as i32;
        let start = proc.start_time(pid).unwrap();
        assert!(Init { pid, start }.find(&proc).unwrap().is_some());
        assert!(Init { pid, start: start + 1 }.find(&proc).unwrap().is_none());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        let start = proc.start_time(pid).unwrap();
        let pidfd = sys::process::pidfd(pid).unwrap();
        assert!(sys::process::wait_ended(&pidfd, 10_000).unwrap());
        assert!(Init { pid, start }.find(&proc).unwrap().is_none(), "a zombie");
        child.wait().unwrap();
        assert!(Init { pid, start }.find(&proc).unwrap().is_none());
    }

    #[test]
    fn records_of_before_are_read() {
        let old = r#"{"id":"a","bundle":"/b","created":"c","cgroup":"/x/a","namespaces":5}"#;
        let record: Record = serde_json::from_str(old).unwrap();
        assert_eq!(record.place, Place { cgroup: "/x/a".into(), ..Place::default() });
        let again: Record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!((again.place, again.namespaces), (record.place, 5));
    }

    #[test]
    fn the_place_of_a_cgroup_is_known_without_a_record() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(load_place(directory.path()), None);
        let place = Place { cgroup: "/a".into(), absent: vec!["cpu".into()], ..Place::default() };
        store_place(directory.path(), &place).unwrap();
        assert_eq!(load_place(directory.path()), Some(place));
        fs::write(directory.path().join(CGROUP), "{\"cgro").unwrap();
        assert_eq!(load_place(directory.path()), None);
        clear(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn init_is_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let init = Init { pid: 42, start: 4711 };
        init.store(directory.path()).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("init")).unwrap(), "pid=42 start=4711\n");
        assert_eq!(Init::load(directory.path()).unwrap(), init);
        fs::write(directory.path().join("init"), "pid=x").unwrap();
        Init::load(directory.path()).unwrap_err();
    }
}
