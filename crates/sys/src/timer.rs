//! The two clocks.

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
