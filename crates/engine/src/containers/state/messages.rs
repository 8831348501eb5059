//! What a container's actor is told, and what it has to do about it.

use std::time::Duration;

use jiff::Timestamp;

use super::Token;
use crate::error::Error;

/// What can happen to a container.
#[derive(Debug, Clone)]
pub enum Input {
    /// A person wants it started.
    Start(Token),
    /// It was started.
    Launched {
        /// The init's process id.
        pid: i32,
        /// When.
        at: Timestamp,
    },
    /// It could not be started.
    LaunchFailed {
        /// The exit code to show (126, 127 or 128).
        code: i32,
        /// Why.
        error: Error,
    },
    /// A supervisor of an earlier daemon was found alive.
    Adopted {
        /// The init's process id.
        pid: i32,
        /// Whether its cgroup is frozen.
        paused: bool,
        /// When it was started, where the record does not say.
        at: Timestamp,
    },
    /// Its init ended.
    Exited(Exit),
    /// A person wants it stopped.
    Stop {
        /// Who.
        token: Token,
        /// With which signal.
        signal: i32,
        /// How long it may take before it is killed; `None` is for ever.
        patience: Option<Duration>,
    },
    /// A person wants it stopped and started.
    Restart {
        /// Who.
        token: Token,
        /// With which signal.
        signal: i32,
        /// How long the stop may take before it is killed.
        patience: Option<Duration>,
    },
    /// A person sends it a signal.
    Kill {
        /// Who.
        token: Token,
        /// Which.
        signal: i32,
        /// Whether this signal means that the person wants it ended.
        ends: bool,
    },
    /// A person wants it frozen.
    Pause(Token),
    /// It is frozen.
    Frozen(Token),
    /// A person wants it to go on.
    Unpause(Token),
    /// It goes on.
    Thawed(Token),
    /// A person wants it removed.
    Remove {
        /// Who.
        token: Token,
        /// Even if it runs.
        force: bool,
        /// With its anonymous volumes.
        volumes: bool,
    },
    /// It is removed.
    Destroyed,
    /// It could not be removed.
    DestroyFailed(Error),
    /// The patience of a stop has ended.
    StopDeadline,
    /// A killed process is still there.
    KillDeadline,
    /// The delay before a restart has passed.
    RestartDue,
    /// The daemon has just started, and this container is not running.
    DaemonStarted,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, 128 plus the signal's number where a signal ended it.
    pub code: i32,
    /// Whether the kernel killed something in it for want of memory.
    pub oom: bool,
    /// When.
    pub at: Timestamp,
    /// Whether the code is a guess, because the supervisor vanished.
    pub unknown: bool,
}

/// What the actor has to do. An effect that fails and has told somebody so ends the list it stands in.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Write the record, and show it.
    Persist,
    /// Show the record as it is now, without writing it: what happened can be found out again by the next daemon.
    Show,
    /// Start it; feed back `Launched` or `LaunchFailed`.
    Launch,
    /// Send its init a signal; when that fails, tell the token.
    Signal(i32, Option<Token>),
    /// Freeze its cgroup, then feed back `Frozen`; when that fails, tell the token.
    Freeze(Token),
    /// Thaw its cgroup; with a token, feed back `Thawed`, and when that fails, tell it.
    Thaw(Option<Token>),
    /// Tell the world.
    Emit(Happened),
    /// Tell one who asked.
    Reply(Token, Result<(), Refusal>),
    /// Tell those who wait.
    Wake(Wake),
    /// Let this timer run, unless it already does with less to go.
    Arm(Timer, Duration),
    /// Stop this timer.
    Disarm(Timer),
    /// Clear up after a run: the runtime directory, the cgroup, execs. After the `Persist`: until then the runtime directory
    /// is what tells the next daemon how the run ended.
    Sweep,
    /// Remove everything, what a run left last of all, then feed back `Destroyed` or `DestroyFailed`.
    Destroy {
        /// With its anonymous volumes.
        volumes: bool,
    },
}

/// A timer of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timer {
    /// Feeds `StopDeadline`.
    Stop,
    /// Feeds `KillDeadline`.
    Kill,
    /// Feeds `RestartDue`.
    Restart,
}

/// Who is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Those who wait for the end of a run.
    Ended,
    /// All: there is nothing left to wait for.
    Removed,
}

/// What an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// It runs.
    Start,
    /// It ended.
    Die {
        /// With this code.
        code: i32,
        /// After this long.
        ran: Duration,
    },
    /// The kernel killed something in it for want of memory.
    Oom,
    /// It was sent a signal.
    Kill {
        /// Which.
        signal: i32,
    },
    /// It was stopped.
    Stop,
    /// It was restarted.
    Restart,
    /// It was frozen.
    Pause,
    /// It goes on.
    Unpause,
    /// It is gone.
    Destroy,
}

/// Why somebody who asked does not get what they asked for.
#[derive(Debug, Clone)]
pub enum Refusal {
    /// It is so already.
    NotModified,
    /// A frozen container cannot be started.
    StartPaused,
    /// It is about to be gone.
    MarkedForRemoval,
    /// It has to be running for that.
    NotRunning,
    /// It is frozen already.
    AlreadyPaused,
    /// It is not frozen.
    NotPaused,
    /// It waits for its next start.
    IsRestarting,
    /// It is not removed while it is (this word).
    RemoveAlive(&'static str),
    /// Somebody else removes it.
    RemovalInProgress,
    /// It was killed and is still there.
    WouldNotDie,
    /// Something is under way.
    Busy,
    /// It went wrong.
    Failed(Error),
}

pub(super) type Effects = Vec<Effect>;
