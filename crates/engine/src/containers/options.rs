//! How the containers' operations are asked for.

use api::Filters;
use api::timestamp::Nanoseconds;

/// How a container is stopped.
#[derive(Debug, Clone, Default)]
pub struct StopOptions {
    /// The signal, by name or number; `None` for the container's own.
    pub signal: Option<String>,
    /// Seconds before it is killed; `None` for the container's own, negative for ever.
    pub timeout_s: Option<i64>,
}

/// What `wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitCondition {
    /// That it does not run; at once if it does not.
    #[default]
    NotRunning,
    /// The end of its next run.
    NextExit,
    /// That it is gone.
    Removed,
}

impl WaitCondition {
    /// Reads the query's `condition`; empty is the default.
    pub fn parse(text: &str) -> crate::Result<Self> {
        match text {
            "" | "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removed" => Ok(Self::Removed),
            other => Err(crate::Error::invalid(format!("invalid condition: \"{other}\""))),
        }
    }
}

/// How a client attaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttachOptions {
    /// Whether what was logged before comes first.
    pub logs: bool,
    /// Whether the streams are attached (and not the log alone).
    pub stream: bool,
    /// Whether standard input is wanted.
    pub stdin: bool,
    /// Whether standard output is wanted.
    pub stdout: bool,
    /// Whether standard error is wanted.
    pub stderr: bool,
}

/// Which lines of a log are wanted, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// Those of standard output.
    pub stdout: bool,
    /// Those of standard error.
    pub stderr: bool,
    /// New ones too, until the container ends.
    pub follow: bool,
    /// Each with its time before it.
    pub timestamps: bool,
    /// Each with the log driver's attributes before it.
    pub details: bool,
    /// None before this.
    pub since: Option<Nanoseconds>,
    /// None after this.
    pub until: Option<Nanoseconds>,
    /// So many from the end; `None` for all.
    pub tail: Option<u64>,
}

/// How a container is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemoveOptions {
    /// Even if it runs: it is killed.
    pub force: bool,
    /// With its anonymous volumes.
    pub volumes: bool,
    /// Only the link of that name (which this engine does not have).
    pub link: bool,
}

/// Which containers are listed.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Those that do not run too.
    pub all: bool,
    /// So many of the newest, whether they run or not.
    pub limit: Option<usize>,
    /// With their sizes.
    pub size: bool,
    /// Docker's filters.
    pub filters: Filters,
}
