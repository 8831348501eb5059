//! When to give back memory that only work needs: a while after the last work, and later where the work comes back at once.

/// How long nothing happens until memory is given back.
const FIRST_MS: u64 = 1000;
/// The longest that it becomes. Who is probed each second would else have its pages taken and read again each second.
const LONGEST_MS: u64 = 8 * FIRST_MS;
/// Work that comes within so many times the wait comes back at once: the memory was given back for nothing.
const TOO_SOON: u64 = 4;

/// Whether there is work, and how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest {
    after: u64,
    since: Option<u64>,
}

impl Default for Rest {
    fn default() -> Self {
        Self { after: FIRST_MS, since: None }
    }
}

impl Rest {
    /// How long to wait for work until resting; `None` while that is so already.
    pub(super) fn due(&self) -> Option<u64> {
        self.since.is_none().then_some(self.after)
    }

    /// Nothing has happened for as long as that.
    pub(super) fn begin(&mut self, now_ms: u64) {
        self.since = Some(now_ms);
    }

    /// Something happens.
    pub(super) fn end(&mut self, now_ms: u64) {
        if let Some(since) = self.since.take() {
            let soon = now_ms.saturating_sub(since) < self.after * TOO_SOON;
            self.after = if soon { (self.after * 2).min(LONGEST_MS) } else { FIRST_MS };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Works at these times, and tells when it began to rest until `end`.
    fn rests(work: impl Iterator<Item = u64>, end: u64) -> Vec<u64> {
        let (mut rest, mut rests, mut last) = (Rest::default(), Vec::new(), 0);
        for at in work.chain([end]) {
            if let Some(due) = rest.due().filter(|due| last + due < at) {
                rests.push(last + due);
                rest.begin(last + due);
            }
            rest.end(at);
            last = at;
        }
        rests
    }

    #[test]
    fn work_that_comes_back_is_waited_for() {
        // A probe a second, each of which takes some milliseconds.
        let probes = (1..100).map(|number| number * 1005);
        assert_eq!(rests(probes, 200_000), [1000, 98 * 1005 + 1005 + 2000]);
        // One every thirty seconds: there is time to rest.
        assert_eq!(rests((1..4).map(|number| number * 30_000), 100_000), [1000, 31_000, 61_000, 91_000]);
        // What happened once does not count for ever.
        assert_eq!(rests([1500, 60_000, 120_000].into_iter(), 180_000), [1000, 3500, 61_000, 121_000]);
    }
}
