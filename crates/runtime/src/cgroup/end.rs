//! Killing all that is in a group, and removing it.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use super::{Cgroup, PATIENCE, PAUSE_FIRST, PAUSE_MAX, is_gone, systemd, tree, v1, write_if_there};
use crate::error::{Context as _, Error};

const SIGKILL: i32 = 9;
const SIGSTOP: i32 = 19;

impl Cgroup {
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
            if let Some(directory) = self.v1("freezer").filter(|d| d.exists()) {
                v1::thaw_all(&directory)?;
            }
            if self.pids()?.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let source = io::Error::from(io::ErrorKind::TimedOut);
                return Err(Error::Io { verb: "kill the processes of cgroup", path: self.path(), source });
            }
            sleep(&mut pause);
        }
    }

    fn kill_each(&self) -> Result<(), Error> {
        if self.is_none() {
            self.stop_each()?;
        }
        // The first process last: without a group it is the others' only trace.
        for pid in self.pids()?.into_iter().rev() {
            signal(pid, SIGKILL)?;
        }
        Ok(())
    }

    /// Stops those that descend from the first process, until none of them can make another.
    fn stop_each(&self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut stopped = HashSet::new();
        loop {
            let new: Vec<i32> = self.pids()?.into_iter().filter(|pid| stopped.insert(*pid)).collect();
            if new.is_empty() || Instant::now() > deadline {
                return Ok(());
            }
            new.into_iter().try_for_each(|pid| signal(pid, SIGSTOP))?;
        }
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
        let stopped = self.place.unit.as_ref().map_or(Ok(()), systemd::stop);
        let deadline = Instant::now() + PATIENCE;
        for hierarchy in &self.hierarchies {
            let directory = self.directory(hierarchy);
            let mut pause = PAUSE_FIRST;
            while let Err(error) = tree::remove(&directory) {
                if Instant::now() > deadline {
                    return Err(error).on("remove", &directory);
                }
                again()?;
                sleep(&mut pause);
            }
        }
        stopped
    }
}

fn signal(pid: i32, signal: i32) -> Result<(), Error> {
    match sys::process::kill(pid, signal) {
        Err(error) if !is_gone(&error) => Err(error).on("kill", pid.to_string()),
        _ => Ok(()),
    }
}

fn sleep(pause: &mut Duration) {
    std::thread::sleep(*pause);
    *pause = (*pause * 2).min(PAUSE_MAX);
}
