//! What is done to a container once it is there, by what was recorded of it.

use std::fs;
use std::io;
use std::path::Path;

use sys::namespace;
use sys::proc::Proc;

use crate::cgroup::Cgroup;
use crate::error::{Context as _, Error};
use crate::hooks;
use crate::rdt;
use crate::state::{self, Init, Record};

/// How long a killed init is waited for: it has to give back its memory, and its PID namespace to end.
const DEATH_MILLISECONDS_MAX: i32 = 10_000;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Made, and waits to be started.
    Created,
    /// Started.
    Running,
    /// Frozen.
    Paused,
    /// Ended.
    Stopped,
}

impl Status {
    /// The specification's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// A container as it is now.
#[derive(Debug)]
pub struct Container {
    /// What was recorded when it was made.
    pub record: Record,
    /// Its first process.
    pub init: Init,
    /// Where it is in its life.
    pub status: Status,
}

impl Container {
    /// Looks at the container whose state is in `state_dir`.
    pub fn open(id: &str, state_dir: &Path) -> Result<Self, Error> {
        let not_found = |error| match error {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Error::NotFound(id.to_owned())
            }
            other => other,
        };
        let record = Record::load(state_dir).map_err(not_found)?;
        let init = Init::load(state_dir).map_err(not_found)?;
        let proc = Proc::open().on("open", "/proc")?;
        let status = match init.find(&proc)? {
            None => Status::Stopped,
            Some(_) if state_dir.join(state::START).exists() => Status::Created,
            Some(_) if record.cgroup(init)?.is_paused()? => Status::Paused,
            Some(_) => Status::Running,
        };
        Ok(Self { record, init, status })
    }

    fn wrong_state(&self, verb: &'static str) -> Error {
        Error::State { id: self.record.id.clone(), verb, state: self.status.word() }
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> Result<Cgroup, Error> {
        self.record.cgroup(self.init)
    }

    /// Sends a signal to its first process, or to all.
    pub fn kill(&self, signal: i32, all: bool) -> Result<(), Error> {
        const SIGKILL: i32 = 9;
        if all {
            return self.kill_all(signal);
        }
        let proc = Proc::open().on("open", "/proc")?;
        let shared = self.record.namespaces & namespace::PID == 0;
        let Some(pidfd) = self.init.find(&proc)? else {
            // Without a PID namespace of their own the others outlive the first.
            if signal == SIGKILL && shared && !self.cgroup()?.pids()?.is_empty() {
                return self.cgroup()?.kill_all();
            }
            return Err(self.wrong_state("kill"));
        };
        sys::signal::send(&pidfd, signal).on("signal", format!("process {}", self.init.pid))?;
        let cgroup = self.cgroup()?;
        // A frozen process cannot die. The signal is there already when it is thawed, so it does not run on.
        if signal == SIGKILL && self.status == Status::Paused {
            cgroup.resume()?;
        }
        // Without a PID namespace the others do not die with the first.
        if signal == SIGKILL && shared {
            cgroup.kill_all()?;
        }
        Ok(())
    }

    fn kill_all(&self, signal: i32) -> Result<(), Error> {
        let cgroup = self.cgroup()?;
        if signal == 9 {
            return cgroup.kill_all();
        }
        for pid in cgroup.pids()? {
            // One that has ended meanwhile needs no signal.
            let _ = sys::process::kill(pid, signal);
        }
        Ok(())
    }

    /// Freezes all its processes.
    pub fn pause(&self) -> Result<(), Error> {
        match self.status {
            Status::Running | Status::Created => self.cgroup()?.pause(),
            Status::Paused | Status::Stopped => Err(self.wrong_state("pause")),
        }
    }

    /// Lets them go on.
    pub fn resume(&self) -> Result<(), Error> {
        match self.status {
            Status::Paused => self.cgroup()?.resume(),
            _ => Err(self.wrong_state("resume")),
        }
    }

    /// Takes away all that is left of it: processes (only with `force`, or if it was never started), cgroup, state.
    /// Can be repeated after a failure. Returns with what its last hooks failed, which is no failure of the deletion.
    pub fn delete(&self, state_dir: &Path, force: bool) -> Result<Vec<Error>, Error> {
        if !force && matches!(self.status, Status::Running | Status::Paused) {
            return Err(self.wrong_state("delete"));
        }
        end(&self.cgroup()?, Some(self.init))?;
        rdt::remove(&self.record.resctrl)?;
        state::clear(state_dir)?;
        let record = &self.record;
        let annotations = record.annotations.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let state = hooks::state_json(&record.id, "stopped", 0, &record.bundle, Some(&annotations));
        Ok(hooks::run_all(&record.poststop, "poststop", &state))
    }
}

/// Kills all processes of the cgroup, waits for the first of them to be gone, and removes the cgroup. What is not there is not an error.
pub fn end(cgroup: &Cgroup, init: Option<Init>) -> Result<(), Error> {
    cgroup.kill_all()?;
    init.map_or(Ok(()), await_death)?;
    cgroup.remove()
}

/// Kills all processes of the cgroup, and waits for the first of them to be gone.
pub(crate) fn stop(cgroup: &Cgroup, init: Init) -> Result<(), Error> {
    cgroup.kill_all()?;
    await_death(init)
}

/// In the cgroup no more, but perhaps still on the way out.
fn await_death(init: Init) -> Result<(), Error> {
    let proc = Proc::open().on("open", "/proc")?;
    let Some(pidfd) = init.find(&proc)? else { return Ok(()) };
    let name = format!("process {}", init.pid);
    if sys::process::wait_ended(&pidfd, DEATH_MILLISECONDS_MAX).on("wait for", &name)? {
        return Ok(());
    }
    Err(io::Error::from(io::ErrorKind::TimedOut)).on("wait for", name)
}

/// Kills the processes of a container that is being made in `state_dir`, so that its creator fails, and clears up.
pub(crate) fn interrupt(state_dir: &Path) -> Result<(), Error> {
    match state::load_place(state_dir) {
        Some(place) if state::is_unfinished(state_dir) => Cgroup::at(place, None)?.kill_all(),
        _ => Ok(()),
    }
}

/// Deletes what is left in `state_dir` of a container whose making was interrupted: there is no complete record of it.
pub fn delete_remains(state_dir: &Path) -> Result<(), Error> {
    if let Some(place) = state::load_place(state_dir) {
        let init = Init::load(state_dir).ok();
        Cgroup::at(place, init)?.kill_and_remove()?;
    }
    rdt::remove(&state::load_resctrl(state_dir))?;
    state::clear(state_dir)?;
    match fs::remove_dir_all(state_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).on("remove", state_dir),
        _ => Ok(()),
    }
}
