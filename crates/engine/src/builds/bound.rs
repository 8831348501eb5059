//! How much builds may keep for those that come: steps and the directories of `RUN --mount=type=cache` together.

use super::cache::{Cache, CacheEntry, ENTRIES_MAX, EntryKind, PruneOptions};
use super::lasting::Lasting;
use crate::error::Result;

/// Removes what was not used for longest, until the rest is within its bound. What somebody uses stays: a directory as it is, a layer for
/// as long as its build or its image has it.
pub(super) fn keep_within(cache: &Cache, lasting: &Lasting, bytes_max: u64) -> Result<()> {
    let (steps, directories) = (cache.list()?, lasting.list()?);
    let total: u64 = steps.iter().chain(&directories).map(|entry| entry.bytes).sum();
    if total <= bytes_max && steps.len() <= ENTRIES_MAX {
        return Ok(());
    }
    // Some room, so that not every build has something to remove.
    let keep_bytes = bytes_max / 10 * 9;
    let share = share_of_directories(&steps, &directories, keep_bytes);
    let of_all =
        PruneOptions { all: true, keep_entries: Some(ENTRIES_MAX / 10 * 9), ..PruneOptions::default() };
    lasting.prune(&of_all, share.max(1))?;
    // Directories that are in use are still there, and leave less for steps.
    let used: u64 = lasting.list()?.iter().map(|entry| entry.bytes).sum();
    cache.prune(&PruneOptions { keep_bytes: keep_bytes.saturating_sub(used).max(1), ..of_all })?;
    Ok(())
}

/// How much of what stays are directories, where those stay that were used last, whichever they are.
fn share_of_directories(steps: &[CacheEntry], directories: &[CacheEntry], keep_bytes: u64) -> u64 {
    // Of what was used in the same second directories stay: steps can be made anew as they were.
    let mut all: Vec<&CacheEntry> = directories.iter().chain(steps).collect();
    all.sort_by_key(|entry| std::cmp::Reverse(entry.used_s));
    let mut left = keep_bytes;
    let mut share = 0;
    for entry in all {
        let Some(rest) = left.checked_sub(entry.bytes) else { break };
        left = rest;
        if entry.kind == EntryKind::Lasting {
            share += entry.bytes;
        }
    }
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays_whatever_it_is() {
        let entry = |kind, bytes, used_s| CacheEntry {
            kind,
            id: String::new(),
            description: String::new(),
            bytes,
            created: String::new(),
            used_s,
            uses: 0,
            shared: false,
            in_use: false,
        };
        let steps = [entry(EntryKind::Step, 10, 1), entry(EntryKind::Step, 10, 4)];
        let directories = [entry(EntryKind::Lasting, 7, 2), entry(EntryKind::Lasting, 5, 3)];
        let share = |keep| share_of_directories(&steps, &directories, keep);
        assert_eq!((share(9), share(14), share(15), share(22), share(32)), (0, 0, 5, 12, 12));
    }
}
