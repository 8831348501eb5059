//! The options of cgroup version 2. criu mounts it for itself without any, and from the initial cgroup namespace that is an order for
//! the whole host: without `nsdelegate` root in a container that can write to its own group could lift its limits.

use std::fs;
use std::path::PathBuf;

use sys::fsx;
use sys::lock::Lock;
use sys::mount;

use crate::error::{Context as _, Error};

const MOUNTS: &str = "/proc/self/mountinfo";
const TYPE: &str = "cgroup2";
/// Options that every filesystem has, and that are nobody's order.
const GENERAL: [&str; 2] = ["rw", "ro"];

/// Where cgroup version 2 is mounted, and with what options.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unified {
    place: PathBuf,
    options: Vec<String>,
}

/// Lets criu work, and makes the options again what they were before. One at a time on a host: what another has taken meanwhile would
/// pass for what was there.
pub(super) fn kept<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let Some(found) = Unified::find()? else { return work() };
    let directory = fsx::open_dir(&found.place).on("open", &found.place)?;
    let _lock = Lock::exclusive_fd(directory).on("lock", &found.place)?;
    let before = Unified::find()?;
    let done = work();
    let put_back = before.map_or(Ok(()), Unified::put_back);
    done.and_then(|done| put_back.map(|()| done))
}

impl Unified {
    /// As it is now; `None` where it is not mounted.
    fn find() -> Result<Option<Self>, Error> {
        Ok(read(&fs::read_to_string(MOUNTS).on("read", MOUNTS)?))
    }

    /// Makes the options again what they were.
    fn put_back(self) -> Result<(), Error> {
        if Self::find()?.is_none_or(|now| now == self) {
            return Ok(());
        }
        mount::reconfigure(&self.place, &self.options).on("put back the options of", self.place)
    }
}

fn read(mounts: &str) -> Option<Unified> {
    mounts.lines().find_map(|line| {
        // What is mounted stands before the dash, with what and how behind it.
        let (before, behind) = line.split_once(" - ")?;
        let mut behind = behind.split(' ');
        if behind.next() != Some(TYPE) {
            return None;
        }
        let options = behind.nth(1)?.split(',').filter(|option| !GENERAL.contains(option));
        Some(Unified {
            place: PathBuf::from(before.split(' ').nth(4)?),
            options: options.map(str::to_owned).collect(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_the_table_of_mounts() {
        let line = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot";
        let found = read(&format!("1 0 8:1 / / rw - ext4 /dev/a rw\n{line}\n")).unwrap();
        assert_eq!(found.place, PathBuf::from("/sys/fs/cgroup"));
        assert_eq!(found.options, ["nsdelegate", "memory_recursiveprot"]);
        assert_eq!(read("1 0 8:1 / / rw - ext4 /dev/a rw\n"), None);
        Unified::find().unwrap();
    }
}
