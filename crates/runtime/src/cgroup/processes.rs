//! The processes of a container.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use sys::fsx::{self, Mode, OFlags};
use sys::proc::Proc;

use super::{Cgroup, is_gone, tree};
use crate::error::{Context as _, Error};
use crate::state::Init;

/// The processes of a group, read in one piece: 4 million PIDs of at most 8 characters would be more; such a group is
/// beyond the default `pid_max` (32768).
const PIDS_BYTES_MAX: u64 = 64 << 20;

impl Cgroup {
    /// The processes in the group and in groups below it, in no particular order.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        if self.is_none() {
            return self.init.map_or(Ok(Vec::new()), descendants);
        }
        let Some(directory) = self.reference() else { return Ok(Vec::new()) };
        let mut pids = Vec::new();
        let visited = tree::for_each(&directory, |group| read_in(group).map(|more| pids.extend(more)));
        visited.on("list the processes of", &directory)?;
        Ok(pids)
    }
}

/// The processes of one group, without those below it.
pub(super) fn read(directory: &Path) -> Result<Vec<i32>, Error> {
    match fsx::open_dir(directory) {
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        opened => opened.and_then(|group| read_in(&group)).on("list the processes of", directory),
    }
}

fn read_in(group: &OwnedFd) -> io::Result<Vec<i32>> {
    const EOPNOTSUPP: i32 = 95;
    let opened = fsx::open_at(group, "cgroup.procs", OFlags::RDONLY, Mode::empty());
    let mut text = String::new();
    let read = opened.and_then(|file| File::from(file).take(PIDS_BYTES_MAX).read_to_string(&mut text));
    match read {
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        // A group of threads: their processes are listed by the one above.
        Err(error) if error.raw_os_error() == Some(EOPNOTSUPP) => Ok(Vec::new()),
        other => other.map(|_| text.lines().filter_map(|line| line.parse().ok()).collect()),
    }
}

/// `init` and all that descend from it. One whose parent has ended is its child if it is the first of its PID namespace or their
/// reaper, and is lost from sight otherwise.
fn descendants(init: Init) -> Result<Vec<i32>, Error> {
    let proc = Proc::open().on("open", "/proc")?;
    if init.find(&proc)?.is_none() {
        return Ok(Vec::new());
    }
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in fs::read_dir("/proc").on("list", "/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // One that has ended meanwhile has no parent any more.
        if let Some((parent, alive)) = proc.read(format!("{pid}/stat")).ok().as_deref().and_then(parent)
            && alive
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![init.pid];
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        found.extend(children.remove(pid).unwrap_or_default());
        at += 1;
    }
    Ok(found)
}

/// The parent in the text of `/proc/PID/stat`, and whether the process has not ended.
fn parent(stat: &str) -> Option<(i32, bool)> {
    // The name, in parentheses, can hold anything.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?;
    Some((fields.next()?.parse().ok()?, !matches!(state, "Z" | "X")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_hide_the_parent() {
        assert_eq!(parent("7 (a) b (c)) S 42 7 7 0"), Some((42, true)));
        assert_eq!(parent("7 (a) Z 42 7"), Some((42, false)));
        assert_eq!(parent("7 (a"), None);
    }

    #[test]
    fn children_and_theirs_are_found() {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "sleep 1000 & echo $!; wait"]).stdout(std::process::Stdio::piped());
        let mut child = shell.spawn().unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        io::BufRead::read_line(&mut io::BufReader::new(out), &mut line).unwrap();
        let grandchild: i32 = line.trim().parse().unwrap();
        let pid = child.id() as i32;
        let start = Proc::open().unwrap().start_time(pid).unwrap();
        let mut found = descendants(Init { pid, start }).unwrap();
        found.sort_unstable();
        let mut expected = vec![pid, grandchild];
        expected.sort_unstable();
        assert_eq!(found, expected);
        sys::process::kill(grandchild, 9).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(descendants(Init { pid, start }).unwrap(), Vec::<i32>::new());
    }
}
