//! A container's life as a pure function: `step(machine, input) -> effects`.
//!
//! ```text
//!  create        start             exit                        policy says again
//!    |             |                 |                      +--------------------+
//!    v             v                 v                      v                    |
//! Created --> (launching) --> Running <--> Paused --> Exited | Restarting --timer-+--> (launching)
//!    |                           |                      |
//!    +--------- remove ----------+--- kill, then -------+--> Removing --> gone   (or Dead, if that failed)
//! ```
//!
//! Nothing here waits, reads a clock or touches a file: the actor does what the effects say, in their order, and feeds
//! back what came of it. Effects that announce (`Emit`, `Reply`, `Wake`) stand after the `Persist` they depend on.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::restart::{self, Ended, Policy};

mod messages;

use messages::Effects;
pub use messages::{Effect, Exit, Happened, Input, Refusal, Timer, Wake};

/// The signal that cannot be caught.
pub const SIGKILL: i32 = 9;
/// How long a killed process may take to be gone before its killer is told that it did not go: it is stuck in the kernel.
pub const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// The exit code of a container whose supervisor vanished without a word.
pub const EXIT_UNKNOWN: i32 = 137;

/// Where in its life a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Made, never run (or its start failed).
    Created,
    /// Being started; never persisted.
    Launching,
    /// Its init runs.
    Running {
        /// The init's process id on the host.
        pid: i32,
    },
    /// Its cgroup is frozen.
    Paused {
        /// The init's process id on the host.
        pid: i32,
    },
    /// Ended.
    Exited,
    /// Ended, and waiting to be started again.
    Restarting,
    /// Being removed.
    Removing,
    /// Its removal failed half-way; only another removal helps.
    Dead,
}

/// What is remembered of a container's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Where it is.
    pub phase: Phase,
    /// When it was last started.
    pub started_at: Option<Timestamp>,
    /// When it last ended; before `started_at` while it runs again.
    pub finished_at: Option<Timestamp>,
    /// How it last ended.
    pub exit_code: i32,
    /// Whether the kernel killed something in it for want of memory during its last run.
    pub oom_killed: bool,
    /// Why its last start failed, or what else is to be known; empty when all is well.
    pub error: String,
    /// Restarts by policy since a person started it.
    pub restart_count: u32,
    /// Whether a person stopped it.
    pub stopped_by_hand: bool,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            phase: Phase::Created,
            started_at: None,
            finished_at: None,
            exit_code: 0,
            oom_killed: false,
            error: String::new(),
            restart_count: 0,
            stopped_by_hand: false,
        }
    }
}

impl Life {
    /// Docker's word for the phase.
    pub fn status(&self) -> &'static str {
        match self.phase {
            Phase::Created | Phase::Launching => {
                if self.started_at.is_some() {
                    "exited"
                } else {
                    "created"
                }
            }
            Phase::Running { .. } => "running",
            Phase::Paused { .. } => "paused",
            Phase::Exited => "exited",
            Phase::Restarting => "restarting",
            Phase::Removing => "removing",
            Phase::Dead => "dead",
        }
    }

    /// The init's process id, while there is one.
    pub fn pid(&self) -> Option<i32> {
        match self.phase {
            Phase::Running { pid } | Phase::Paused { pid } => Some(pid),
            _ => None,
        }
    }

    /// What a restart policy wants to know.
    pub fn ended(&self) -> Ended {
        let ran = match (self.started_at, self.finished_at) {
            (Some(start), Some(end)) => Duration::try_from(end.duration_since(start)).unwrap_or_default(),
            _ => Duration::ZERO,
        };
        Ended { code: self.exit_code, ran, restarts: self.restart_count, by_hand: self.stopped_by_hand }
    }
}

/// Who waits for an answer; the actor knows the channel.
pub type Token = u64;

/// What a container's life depends on besides itself; all of it can be changed while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// What happens after it ended.
    pub policy: Policy,
    /// Whether it is removed when it ended.
    pub auto_remove: bool,
}

/// A container's life, with what is under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// What is remembered.
    pub life: Life,
    /// What it depends on.
    pub rules: Rules,
    backoff: Duration,
    starters: Vec<Token>,
    restarters: Vec<Token>,
    stopping: Option<Stopping>,
    removal: Option<Removal>,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Stopping {
    waiting: Vec<Token>,
    then_start: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Removal {
    waiting: Vec<Token>,
    volumes: bool,
}

impl Machine {
    /// A machine in the state that was remembered.
    pub fn new(mut life: Life, rules: Rules) -> Self {
        // Whoever was launching it is not there any more. Where they came through with it, it is adopted.
        if life.phase == Phase::Launching {
            life.phase = if life.started_at.is_some() { Phase::Exited } else { Phase::Created };
        }
        Self {
            life,
            rules,
            backoff: Duration::ZERO,
            starters: Vec::new(),
            restarters: Vec::new(),
            stopping: None,
            removal: None,
        }
    }

    /// One step of the life: what is to be done about it.
    pub fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        match input {
            Input::Start(token) => self.start(token, &mut out),
            Input::Launched { pid, at } => self.launched(pid, at, &mut out),
            Input::LaunchFailed { code, error } => self.launch_failed(code, error, &mut out),
            Input::Adopted { pid, paused, at } => self.adopted(pid, paused, at, &mut out),
            Input::Exited(exit) => self.exited(exit, &mut out),
            Input::Stop { token, signal, patience } => self.stop(token, signal, patience, &mut out),
            Input::Restart { token, signal, patience } => self.restart(token, signal, patience, &mut out),
            Input::Kill { token, signal, ends } => self.kill(token, signal, ends, &mut out),
            Input::Pause(token) => self.pause(token, &mut out),
            Input::Frozen(token) => self.frozen(token, &mut out),
            Input::Unpause(token) => self.unpause(token, &mut out),
            Input::Thawed(token) => self.thawed(token, &mut out),
            Input::Remove { token, force, volumes } => self.remove(token, force, volumes, &mut out),
            Input::Destroyed => self.destroyed(&mut out),
            Input::DestroyFailed(error) => self.destroy_failed(error, &mut out),
            Input::StopDeadline => self.stop_deadline(&mut out),
            Input::KillDeadline => self.kill_deadline(&mut out),
            Input::RestartDue => self.restart_due(&mut out),
            Input::DaemonStarted => self.daemon_started(&mut out),
        }
        out
    }

    fn start(&mut self, token: Token, out: &mut Effects) {
        let refusal = match self.life.phase {
            Phase::Created | Phase::Exited | Phase::Restarting => {
                self.life.restart_count = 0;
                self.backoff = Duration::ZERO;
                self.starters.push(token);
                self.launch(out);
                return;
            }
            Phase::Running { .. } => Refusal::NotModified,
            Phase::Paused { .. } => Refusal::StartPaused,
            Phase::Removing | Phase::Dead => Refusal::MarkedForRemoval,
            Phase::Launching => Refusal::Busy,
        };
        out.push(Effect::Reply(token, Err(refusal)));
    }

    fn launch(&mut self, out: &mut Effects) {
        self.life.phase = Phase::Launching;
        out.push(Effect::Disarm(Timer::Restart));
        out.push(Effect::Launch);
    }

    fn launched(&mut self, pid: i32, at: Timestamp, out: &mut Effects) {
        self.life = Life {
            phase: Phase::Running { pid },
            started_at: Some(at),
            finished_at: self.life.finished_at,
            exit_code: 0,
            oom_killed: false,
            error: String::new(),
            restart_count: self.life.restart_count,
            stopped_by_hand: false,
        };
        out.push(Effect::Persist);
        out.push(Effect::Emit(Happened::Start));
        for token in self.starters.drain(..) {
            out.push(Effect::Reply(token, Ok(())));
        }
        if !self.restarters.is_empty() {
            out.push(Effect::Emit(Happened::Restart));
        }
        for token in self.restarters.drain(..) {
            out.push(Effect::Reply(token, Ok(())));
        }
    }

    fn launch_failed(&mut self, code: i32, error: Error, out: &mut Effects) {
        self.life.phase = if self.life.started_at.is_some() { Phase::Exited } else { Phase::Created };
        self.life.exit_code = code;
        self.life.error = error.chain();
        out.push(Effect::Persist);
        out.push(Effect::Sweep);
        out.push(Effect::Wake(Wake::Ended));
        for token in self.starters.drain(..).chain(self.restarters.drain(..)) {
            out.push(Effect::Reply(token, Err(Refusal::Failed(error.clone()))));
        }
        if self.rules.auto_remove {
            self.destroy(true, out);
        }
    }

    fn adopted(&mut self, pid: i32, paused: bool, at: Timestamp, out: &mut Effects) {
        self.life.phase = if paused { Phase::Paused { pid } } else { Phase::Running { pid } };
        if self.life.started_at.is_none_or(|known| known < at) {
            self.life.started_at = Some(at);
        }
        out.push(Effect::Persist);
    }

    fn exited(&mut self, exit: Exit, out: &mut Effects) {
        if !matches!(self.life.phase, Phase::Running { .. } | Phase::Paused { .. } | Phase::Restarting) {
            return;
        }
        self.life.exit_code = exit.code;
        self.life.oom_killed = exit.oom;
        self.life.finished_at = Some(exit.at);
        self.life.error =
            if exit.unknown { "exit unknown: the supervisor is gone".into() } else { String::new() };
        let ended = self.life.ended();
        let stopping = self.stopping.take();
        let removal = self.removal.is_some();
        let again = stopping.as_ref().is_some_and(|s| s.then_start) && !removal;
        let by_policy = !again && !removal && self.rules.policy.restarts(ended);

        self.life.phase = Phase::Exited;
        if by_policy {
            self.life.phase = Phase::Restarting;
            self.life.restart_count += 1;
            self.backoff = restart::backoff(self.backoff, ended.ran);
        }
        out.push(Effect::Disarm(Timer::Stop));
        out.push(Effect::Disarm(Timer::Kill));
        if removal || (self.rules.auto_remove && !again && !by_policy) {
            // The record is about to go. Until it has gone, the supervisor's word about the end stays where it is.
            out.push(Effect::Show);
        } else {
            out.push(Effect::Persist);
            out.push(Effect::Sweep);
        }
        out.push(Effect::Emit(Happened::Die { code: exit.code, ran: ended.ran }));
        out.push(Effect::Wake(Wake::Ended));
        if let Some(stopping) = stopping {
            out.push(Effect::Emit(Happened::Stop));
            for token in stopping.waiting {
                out.push(Effect::Reply(token, Ok(())));
            }
        }
        if let Some(removal) = &self.removal {
            let volumes = removal.volumes;
            self.destroy(volumes, out);
        } else if again {
            self.launch(out);
        } else if by_policy {
            out.push(Effect::Arm(Timer::Restart, self.backoff));
        } else if self.rules.auto_remove {
            self.destroy(true, out);
        }
    }

    fn stop(&mut self, token: Token, signal: i32, patience: Option<Duration>, out: &mut Effects) {
        match self.life.phase {
            Phase::Running { .. } | Phase::Paused { .. } => {
                self.life.stopped_by_hand = true;
                let stopping = self.stopping.get_or_insert_default();
                stopping.waiting.push(token);
                // A stop after a restart wins: the person who spoke last wants it down.
                stopping.then_start = false;
                for token in self.restarters.drain(..) {
                    stopping.waiting.push(token);
                }
                out.push(Effect::Persist);
                self.signal_to_end(signal, patience, out);
            }
            Phase::Restarting => {
                self.life.stopped_by_hand = true;
                self.life.phase = Phase::Exited;
                out.push(Effect::Disarm(Timer::Restart));
                out.push(Effect::Persist);
                out.push(Effect::Emit(Happened::Stop));
                out.push(Effect::Reply(token, Ok(())));
            }
            _ => out.push(Effect::Reply(token, Err(Refusal::NotModified))),
        }
    }

    fn restart(&mut self, token: Token, signal: i32, patience: Option<Duration>, out: &mut Effects) {
        match self.life.phase {
            Phase::Running { .. } | Phase::Paused { .. } => {
                self.restarters.push(token);
                self.stopping.get_or_insert_default().then_start = true;
                self.life.restart_count = 0;
                self.signal_to_end(signal, patience, out);
            }
            Phase::Created | Phase::Exited | Phase::Restarting => {
                self.restarters.push(token);
                self.life.restart_count = 0;
                self.launch(out);
            }
            Phase::Removing | Phase::Dead => {
                out.push(Effect::Reply(token, Err(Refusal::MarkedForRemoval)));
            }
            Phase::Launching => out.push(Effect::Reply(token, Err(Refusal::Busy))),
        }
    }

    /// A frozen process takes no signal: it is sent first and the cgroup thawed after, so that nothing runs in between.
    fn signal_to_end(&mut self, signal: i32, patience: Option<Duration>, out: &mut Effects) {
        out.push(Effect::Signal(signal, None));
        if let Phase::Paused { pid } = self.life.phase {
            self.life.phase = Phase::Running { pid };
            out.push(Effect::Thaw(None));
        }
        out.push(Effect::Emit(Happened::Kill { signal }));
        if signal == SIGKILL {
            out.push(Effect::Arm(Timer::Kill, KILL_PATIENCE));
        } else if let Some(patience) = patience {
            out.push(Effect::Arm(Timer::Stop, patience));
        }
    }

    fn stop_deadline(&mut self, out: &mut Effects) {
        if self.stopping.is_some() && self.life.pid().is_some() {
            self.signal_to_end(SIGKILL, None, out);
        }
    }

    fn kill_deadline(&mut self, out: &mut Effects) {
        let mut stuck = self.stopping.take().map(|s| s.waiting).unwrap_or_default();
        stuck.append(&mut self.restarters);
        stuck.extend(self.removal.take().map(|r| r.waiting).unwrap_or_default());
        for token in stuck {
            out.push(Effect::Reply(token, Err(Refusal::WouldNotDie)));
        }
    }

    fn kill(&mut self, token: Token, signal: i32, ends: bool, out: &mut Effects) {
        match self.life.phase {
            Phase::Running { .. } | Phase::Paused { .. } => {
                if ends {
                    self.life.stopped_by_hand = true;
                    out.push(Effect::Persist);
                }
                out.push(Effect::Signal(signal, Some(token)));
                if ends && let Phase::Paused { pid } = self.life.phase {
                    self.life.phase = Phase::Running { pid };
                    out.push(Effect::Thaw(None));
                }
                out.push(Effect::Emit(Happened::Kill { signal }));
                out.push(Effect::Reply(token, Ok(())));
            }
            Phase::Restarting if ends => {
                self.life.stopped_by_hand = true;
                self.life.phase = Phase::Exited;
                out.push(Effect::Disarm(Timer::Restart));
                out.push(Effect::Persist);
                out.push(Effect::Reply(token, Ok(())));
            }
            _ => out.push(Effect::Reply(token, Err(Refusal::NotRunning))),
        }
    }

    fn pause(&mut self, token: Token, out: &mut Effects) {
        out.push(match self.life.phase {
            Phase::Running { .. } => Effect::Freeze(token),
            Phase::Paused { .. } => Effect::Reply(token, Err(Refusal::AlreadyPaused)),
            Phase::Restarting => Effect::Reply(token, Err(Refusal::IsRestarting)),
            _ => Effect::Reply(token, Err(Refusal::NotRunning)),
        });
    }

    fn frozen(&mut self, token: Token, out: &mut Effects) {
        if let Phase::Running { pid } = self.life.phase {
            self.life.phase = Phase::Paused { pid };
            out.push(Effect::Persist);
            out.push(Effect::Emit(Happened::Pause));
        }
        out.push(Effect::Reply(token, Ok(())));
    }

    fn unpause(&mut self, token: Token, out: &mut Effects) {
        out.push(match self.life.phase {
            Phase::Paused { .. } => Effect::Thaw(Some(token)),
            _ => Effect::Reply(token, Err(Refusal::NotPaused)),
        });
    }

    fn thawed(&mut self, token: Token, out: &mut Effects) {
        if let Phase::Paused { pid } = self.life.phase {
            self.life.phase = Phase::Running { pid };
            out.push(Effect::Persist);
            out.push(Effect::Emit(Happened::Unpause));
        }
        out.push(Effect::Reply(token, Ok(())));
    }

    fn remove(&mut self, token: Token, force: bool, volumes: bool, out: &mut Effects) {
        let alive = match self.life.phase {
            Phase::Created | Phase::Exited | Phase::Dead => {
                self.removal = Some(Removal { waiting: vec![token], volumes });
                self.destroy(volumes, out);
                return;
            }
            Phase::Removing => {
                // One who forces it only wants it gone, and waits with the first.
                match (force, &mut self.removal) {
                    (true, Some(removal)) => removal.waiting.push(token),
                    _ => out.push(Effect::Reply(token, Err(Refusal::RemovalInProgress))),
                }
                return;
            }
            Phase::Launching => {
                out.push(Effect::Reply(token, Err(Refusal::Busy)));
                return;
            }
            Phase::Running { .. } => "running",
            Phase::Paused { .. } => "paused",
            Phase::Restarting => "restarting",
        };
        if !force {
            out.push(Effect::Reply(token, Err(Refusal::RemoveAlive(alive))));
            return;
        }
        self.life.stopped_by_hand = true;
        match &mut self.removal {
            Some(removal) => {
                removal.waiting.push(token);
                removal.volumes |= volumes;
                return;
            }
            None => self.removal = Some(Removal { waiting: vec![token], volumes }),
        }
        if self.life.phase == Phase::Restarting {
            out.push(Effect::Disarm(Timer::Restart));
            self.destroy(volumes, out);
        } else {
            self.signal_to_end(SIGKILL, None, out);
        }
    }

    fn destroy(&mut self, volumes: bool, out: &mut Effects) {
        self.life.phase = Phase::Removing;
        self.removal.get_or_insert(Removal { waiting: Vec::new(), volumes });
        out.push(Effect::Destroy { volumes });
    }

    fn destroyed(&mut self, out: &mut Effects) {
        out.push(Effect::Emit(Happened::Destroy));
        out.push(Effect::Wake(Wake::Removed));
        for token in self.removal.take().map(|r| r.waiting).unwrap_or_default() {
            out.push(Effect::Reply(token, Ok(())));
        }
    }

    fn destroy_failed(&mut self, error: Error, out: &mut Effects) {
        self.life.phase = Phase::Dead;
        self.life.error = error.chain();
        out.push(Effect::Persist);
        out.push(Effect::Sweep);
        for token in self.removal.take().map(|r| r.waiting).unwrap_or_default() {
            out.push(Effect::Reply(token, Err(Refusal::Failed(error.clone()))));
        }
    }

    fn restart_due(&mut self, out: &mut Effects) {
        if self.life.phase == Phase::Restarting {
            self.launch(out);
        }
    }

    fn daemon_started(&mut self, out: &mut Effects) {
        match self.life.phase {
            Phase::Restarting => self.launch(out),
            Phase::Exited if self.rules.auto_remove => self.destroy(true, out),
            Phase::Exited if self.rules.policy.starts_with_daemon(self.life.ended()) => self.launch(out),
            Phase::Removing | Phase::Dead => self.destroy(false, out),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
