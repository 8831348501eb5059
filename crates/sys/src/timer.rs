//! The clocks.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the epoch.
pub fn realtime_ns() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// Milliseconds of a clock that never goes back.
pub fn monotonic_ms() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1000 + now.tv_nsec / 1_000_000).unwrap_or(0)
}

/// How long the machine has been running, with the time that it was suspended.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let part = |number| u64::try_from(number).unwrap_or(0);
    Duration::from_secs(part(now.tv_sec)) + Duration::from_nanos(part(now.tv_nsec))
}

/// The time that the kernel stamps files with, which goes on in steps of a few milliseconds.
pub fn file_time() -> crate::fsx::Time {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    crate::fsx::Time { seconds: now.tv_sec, nanoseconds: u32::try_from(now.tv_nsec).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_run() {
        // 2024-01-01: before this was written.
        assert!(realtime_ns() > 1_704_067_200_000_000_000);
        let before = monotonic_ms();
        assert!(monotonic_ms() >= before);
    }
}
