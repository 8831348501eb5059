//! Restart policies: whether, and after how long, a container that ended is started again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The first delay before a restart; it doubles from there.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// The longest delay: a container that always fails costs one start a minute.
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// A run that lasted this long counts as good, and the delay starts over.
pub const GOOD_RUN: Duration = Duration::from_secs(10);

/// When a container that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Policy {
    /// Never.
    #[default]
    No,
    /// Always, also when the daemon starts, until a person stops it.
    Always,
    /// Always, but not at the daemon's start when a person had stopped it.
    UnlessStopped,
    /// When it failed, at most so many times; 0 is without limit.
    OnFailure(u32),
}

/// What is known when a container has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// The exit code.
    pub code: i32,
    /// How long it ran.
    pub ran: Duration,
    /// How many restarts there have been since a person started it.
    pub restarts: u32,
    /// Whether a person stopped it.
    pub by_hand: bool,
}

impl Policy {
    /// Reads Docker's name and maximum; `Err` says what is wrong in Docker's words.
    pub fn parse(name: &str, maximum: i64) -> Result<Self, String> {
        if maximum < 0 {
            return Err("invalid restart policy: maximum retry count cannot be negative".into());
        }
        if maximum > 0 && matches!(name, "no" | "" | "always" | "unless-stopped") {
            return Err(
                "invalid restart policy: maximum retry count can only be used with 'on-failure'".into()
            );
        }
        match name {
            "" | "no" => Ok(Self::No),
            "always" => Ok(Self::Always),
            "unless-stopped" => Ok(Self::UnlessStopped),
            "on-failure" => u32::try_from(maximum)
                .map(Self::OnFailure)
                .map_err(|_| "invalid restart policy: maximum retry count is too large".to_owned()),
            other => Err(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            )),
        }
    }

    /// Whether a container that just ended is started again.
    pub fn restarts(self, ended: Ended) -> bool {
        if ended.by_hand {
            return false;
        }
        self.wants(ended)
    }

    /// Whether a container found not running when the daemon starts is started.
    pub fn starts_with_daemon(self, ended: Ended) -> bool {
        match self {
            Self::Always => true,
            _ => !ended.by_hand && self.wants(ended),
        }
    }

    fn wants(self, ended: Ended) -> bool {
        match self {
            Self::No => false,
            Self::Always | Self::UnlessStopped => true,
            Self::OnFailure(max) => ended.code != 0 && (max == 0 || ended.restarts < max),
        }
    }
}

/// The delay before the next restart, from the one before (zero when there was none) and how long the container ran.
pub fn backoff(previous: Duration, ran: Duration) -> Duration {
    if previous.is_zero() || ran >= GOOD_RUN { BACKOFF_FIRST } else { (previous * 2).min(BACKOFF_MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: i32, restarts: u32, by_hand: bool) -> Ended {
        Ended { code, ran: Duration::ZERO, restarts, by_hand }
    }

    #[test]
    fn policies_decide_as_docker_does() {
        assert!(!Policy::No.restarts(ended(1, 0, false)));
        assert!(Policy::Always.restarts(ended(0, 9, false)));
        assert!(!Policy::Always.restarts(ended(0, 0, true)));
        assert!(Policy::Always.starts_with_daemon(ended(0, 0, true)));
        assert!(!Policy::UnlessStopped.starts_with_daemon(ended(0, 0, true)));
        assert!(Policy::UnlessStopped.starts_with_daemon(ended(0, 0, false)));
        assert!(!Policy::OnFailure(0).restarts(ended(0, 0, false)));
        assert!(Policy::OnFailure(2).restarts(ended(1, 1, false)));
        assert!(!Policy::OnFailure(2).restarts(ended(1, 2, false)));
        assert!(Policy::OnFailure(0).restarts(ended(1, 1000, false)));
    }

    #[test]
    fn the_delay_doubles_to_a_minute_and_starts_over_after_a_good_run() {
        let mut delay = Duration::ZERO;
        let mut seen = Vec::new();
        for _ in 0..12 {
            delay = backoff(delay, Duration::from_secs(1));
            seen.push(delay.as_millis());
        }
        assert_eq!(seen, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!(backoff(delay, GOOD_RUN), BACKOFF_FIRST);
    }

    #[test]
    fn names_are_read_and_nonsense_is_refused() {
        assert_eq!(Policy::parse("", 0), Ok(Policy::No));
        assert_eq!(Policy::parse("on-failure", 3), Ok(Policy::OnFailure(3)));
        assert!(Policy::parse("always", 3).is_err());
        assert!(Policy::parse("sometimes", 0).is_err());
        assert!(Policy::parse("on-failure", -1).is_err());
    }
}
