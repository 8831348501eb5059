//! Whether a container does its work: probes, and what their results mean.
//!
//! A probe is a command in the container, which its supervisor runs in one exchange of messages and two processes, without a
//! runtime's start; or a connection that the engine makes in the container's network namespace, for which the image needs no tool.

pub mod address;
mod monitor;
mod network;

use std::collections::VecDeque;
use std::time::Duration;

use api::container::{HealthConfig, HealthSummary, HealthcheckResult};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use address::Address;

pub(crate) use monitor::{Monitor, Watched};

/// What is kept of a probe's output: Docker's limit.
pub const OUTPUT_BYTES_MAX: usize = 4096;
/// So many results are remembered.
const LOG_MAX: usize = 5;
/// Between two probes where nothing is said; also the time before the first.
const INTERVAL: Duration = Duration::from_secs(30);
/// How long a probe may take where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Between two probes in the start period where nothing is said.
const START_INTERVAL: Duration = Duration::from_secs(5);
/// Failures in a row until it is unhealthy, where nothing is said.
const RETRIES: u32 = 3;
/// The shortest of all times.
const SHORTEST: i64 = 1_000_000;

/// What the probes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// None has succeeded yet.
    Starting,
    /// The last one, or the one before, has succeeded.
    Healthy,
    /// Too many have failed in a row.
    Unhealthy,
}

impl Status {
    /// Docker's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One probe's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// 0 is healthy; -1 where there was no answer.
    pub code: i32,
    /// What it said.
    pub output: String,
}

/// What is known of a container's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What the probes say.
    pub status: Status,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last results, the oldest first.
    pub log: VecDeque<Outcome>,
}

/// How a container is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub test: Test,
    pub interval: Duration,
    pub timeout: Duration,
    pub start_period: Duration,
    pub start_interval: Duration,
    pub retries: u32,
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Test {
    /// Runs this in the container.
    Command(Vec<String>),
    /// Asks for this page from within the container's network.
    Http(Address),
    /// Connects to this from within the container's network.
    Tcp(Address),
}

impl Health {
    /// At a container's start. What was learnt before is remembered, but does not count.
    pub(crate) fn begin(before: Option<Self>) -> Self {
        let log = before.map(|health| health.log).unwrap_or_default();
        Self { status: Status::Starting, failing_streak: 0, log }
    }

    /// Nobody looks any more.
    pub(crate) fn end(&mut self) {
        self.status = Status::Unhealthy;
    }

    /// Takes a result in; whether the status is another one now.
    pub(crate) fn take(&mut self, outcome: Outcome, plan: &Plan, started: Timestamp) -> bool {
        let before = self.status;
        if outcome.code == 0 {
            self.failing_streak = 0;
            self.status = Status::Healthy;
        } else {
            let since = Duration::try_from(outcome.start.duration_since(started)).unwrap_or_default();
            let forgiven = self.status == Status::Starting && since < plan.start_period;
            if !forgiven {
                self.failing_streak = self.failing_streak.saturating_add(1);
                if self.failing_streak >= plan.retries {
                    self.status = Status::Unhealthy;
                }
            }
        }
        while self.log.len() >= LOG_MAX {
            self.log.pop_front();
        }
        self.log.push_back(outcome);
        self.status != before
    }

    /// As the API shows it.
    pub(crate) fn shown(&self) -> api::container::Health {
        let shown = |outcome: &Outcome| HealthcheckResult {
            start: time(outcome.start),
            end: time(outcome.end),
            exit_code: i64::from(outcome.code),
            output: outcome.output.clone(),
        };
        api::container::Health {
            status: self.status.word().to_owned(),
            failing_streak: i64::from(self.failing_streak),
            log: self.log.iter().map(shown).collect(),
        }
    }

    /// As lists show it.
    pub(crate) fn summary(&self) -> HealthSummary {
        HealthSummary {
            status: self.status.word().to_owned(),
            failing_streak: i64::from(self.failing_streak),
        }
    }
}

fn time(at: Timestamp) -> String {
    api::timestamp::format(i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX))
}

/// No time of an image's is shorter: a probe after the other without a pause would keep the daemon busy.
const LEAST: Duration = Duration::from_millis(10);

impl Plan {
    /// What a configuration asks for; `None` where it asks for nothing.
    pub(crate) fn of(config: Option<&HealthConfig>, shell: &[String]) -> Result<Option<Self>> {
        let Some(config) = config else { return Ok(None) };
        let words = config.test.get(1..).unwrap_or_default();
        let test = match config.test.first().map(String::as_str) {
            None | Some("NONE") => return Ok(None),
            Some("CMD") if words.is_empty() => return Err(missing("CMD")),
            Some("CMD") => Test::Command(words.to_vec()),
            Some("CMD-SHELL") if words.is_empty() => return Err(missing("CMD-SHELL")),
            Some("CMD-SHELL") => {
                let shell = if shell.is_empty() {
                    vec!["/bin/sh".to_owned(), "-c".to_owned()]
                } else {
                    shell.to_vec()
                };
                Test::Command(shell.into_iter().chain(words.iter().cloned()).collect())
            }
            Some(kind @ ("HTTP" | "TCP")) => {
                let [address] = words else { return Err(missing(kind)) };
                if kind == "HTTP" {
                    Test::Http(Address::of_url(address)?)
                } else {
                    Test::Tcp(Address::of_socket(address)?)
                }
            }
            Some(other) => {
                return Err(Error::invalid(format!(
                    "Unknown healthcheck type '{other}' (expected 'CMD', 'CMD-SHELL', 'HTTP', 'TCP' or 'NONE')"
                )));
            }
        };
        let time = |nanoseconds: i64, default: Duration| match u64::try_from(nanoseconds) {
            // An image's are as it likes.
            Ok(nanoseconds) if nanoseconds > 0 => Duration::from_nanos(nanoseconds).max(LEAST),
            _ => default,
        };
        Ok(Some(Self {
            test,
            interval: time(config.interval, INTERVAL),
            timeout: time(config.timeout, TIMEOUT),
            start_period: time(config.start_period, Duration::ZERO),
            start_interval: time(config.start_interval, START_INTERVAL),
            retries: u32::try_from(config.retries).ok().filter(|retries| *retries > 0).unwrap_or(RETRIES),
        }))
    }

    /// How long to wait for the next probe.
    pub(crate) fn wait(&self, status: Status, up: Duration) -> Duration {
        let left = self.start_period.saturating_sub(up);
        if left.is_zero() {
            self.interval
        } else if status == Status::Starting && self.start_interval < left {
            self.start_interval
        } else {
            // The first that counts comes at once after the start period.
            self.interval.min(left)
        }
    }
}

fn missing(kind: &str) -> Error {
    Error::invalid(format!("a health check of type '{kind}' needs an argument"))
}

/// Refuses what cannot be probed.
pub(crate) fn check(config: &HealthConfig) -> Result<()> {
    for (what, time) in [
        ("Interval", config.interval),
        ("Timeout", config.timeout),
        ("StartPeriod", config.start_period),
        ("StartInterval", config.start_interval),
    ] {
        if time != 0 && time < SHORTEST {
            return Err(Error::invalid(format!("{what} in Healthcheck cannot be less than 1ms")));
        }
    }
    if config.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    Plan::of(Some(config), &[]).map(drop)
}

#[cfg(test)]
mod tests;
