//! Id maps that make one user's files another's.

use oci::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};

use super::built;
use crate::error::Result;

/// The largest id: the next one stands for none.
const LAST: u32 = u32::MAX - 1;

/// The map by which `disk` is seen as `seen` and the other way round, and everybody else as who they are; `None` where
/// nothing changes.
pub(super) fn map(disk: u32, seen: u32) -> Result<Option<Vec<LinuxIdMapping>>> {
    if disk == seen || disk > LAST || seen > LAST {
        return Ok(None);
    }
    let (low, high) = (disk.min(seen), disk.max(seen));
    let pieces = [
        (0, 0, low),
        (low, high, 1),
        (low + 1, low + 1, high - low - 1),
        (high, low, 1),
        (high + 1, high + 1, LAST - high),
    ];
    let pieces = pieces.into_iter().filter(|(_, _, size)| *size > 0);
    let lines = pieces.map(|(inside, outside, size)| {
        built(LinuxIdMappingBuilder::default().container_id(inside).host_id(outside).size(size).build())
    });
    lines.collect::<Result<Vec<_>>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(disk: u32, seen: u32) -> Vec<(u32, u32, u32)> {
        let lines = map(disk, seen).expect("a map").unwrap_or_default();
        lines.iter().map(|line| (line.container_id(), line.host_id(), line.size())).collect()
    }

    #[test]
    fn two_users_change_places_and_nobody_is_left_out() {
        assert_eq!(show(7, 7), []);
        assert_eq!(
            show(1000, 0),
            [(0, 1000, 1), (1, 1, 999), (1000, 0, 1), (1001, 1001, u32::MAX - 1 - 1000)]
        );
        for (disk, seen) in [(0, 1), (5, 70_000), (u32::MAX - 1, 0)] {
            let lines = show(disk, seen);
            let total: u64 = lines.iter().map(|(_, _, size)| u64::from(*size)).sum();
            assert_eq!(total, u64::from(u32::MAX));
            assert!(lines.contains(&(disk, seen, 1)) && lines.contains(&(seen, disk, 1)));
        }
    }
}
