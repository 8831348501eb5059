//! User namespaces in which nobody lives: what the kernel wants to be shown an id map with, for a mount whose owners
//! are to be seen through it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci::runtime::LinuxIdMapping;
use sys::proc::Proc;
use sys::process::{self, Clone, Cloned};
use sys::{namespace, socket};

use crate::error::{Context as _, Error};

const KILL: i32 = 9;

/// Maps of user and of group ids, as the kernel's files take them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Maps {
    pub(crate) users: String,
    pub(crate) groups: String,
}

impl Maps {
    /// Those of a configuration; `None` if there are none.
    pub(crate) fn of(
        users: &Option<Vec<LinuxIdMapping>>,
        groups: &Option<Vec<LinuxIdMapping>>,
    ) -> Option<Self> {
        let text = |maps: &Option<Vec<LinuxIdMapping>>| -> String {
            let line =
                |map: &LinuxIdMapping| format!("{} {} {}\n", map.container_id(), map.host_id(), map.size());
            maps.iter().flatten().map(line).collect()
        };
        let maps = Self { users: text(users), groups: text(groups) };
        (!maps.users.is_empty() || !maps.groups.is_empty()).then_some(maps)
    }

    /// Writes them to the new user namespace of the process `pid`.
    pub(crate) fn write(&self, proc: &Proc, pid: i32) -> Result<(), Error> {
        for (name, map) in [("uid_map", &self.users), ("gid_map", &self.groups)] {
            let file = format!("{pid}/{name}");
            proc.write(&file, map).on("write", format!("/proc/{file}"))?;
        }
        Ok(())
    }
}

/// User namespaces by their maps: a container's mounts mostly share one.
#[derive(Debug, Default)]
pub(crate) struct UserNamespaces {
    made: Vec<(Maps, OwnedFd)>,
}

impl UserNamespaces {
    /// One with these maps.
    pub(crate) fn get(&mut self, maps: &Maps) -> Result<BorrowedFd<'_>, Error> {
        let known = self.made.iter().position(|(made, _)| made == maps);
        let index = match known {
            Some(index) => index,
            None => {
                self.made.push((maps.clone(), make(maps)?));
                self.made.len() - 1
            }
        };
        Ok(self.made[index].1.as_fd())
    }
}

/// A namespace needs a process to be made; it goes at once, and the descriptor keeps the namespace.
fn make(maps: &Maps) -> Result<OwnedFd, Error> {
    let proc = Proc::open().on("open", "/proc")?;
    let (ours, theirs) = socket::packet_pair().on("create", "a socket")?;
    let what = Clone { flags: namespace::USER, cgroup: None };
    let child = match process::clone(what).on("create", "a user namespace for an id map")? {
        Cloned::Child => {
            // Its end comes by us, or with us.
            drop(ours);
            let _ = process::set_parent_death_signal(KILL);
            let _ = process::wait_ended(&theirs, -1);
            process::exit(0)
        }
        Cloned::Parent(child) => child,
    };
    drop(theirs);
    let path = format!("/proc/{}/ns/user", child.pid);
    let made = maps.write(&proc, child.pid).and_then(|()| File::open(&path).on("open", &path));
    drop(ours);
    let _ = sys::signal::send(&child.pidfd, KILL);
    process::wait(&child.pidfd).on("wait for", "the process of a user namespace")?;
    Ok(made?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_lines() {
        let map = |text: &str| -> Option<Vec<LinuxIdMapping>> { serde_json::from_str(text).unwrap() };
        assert_eq!(Maps::of(&None, &map("[]")), None);
        let maps = Maps::of(
            &map(r#"[{"containerID":0,"hostID":1000,"size":1},{"containerID":1,"hostID":5,"size":9}]"#),
            &map(r#"[{"containerID":0,"hostID":7,"size":1}]"#),
        );
        let expected = Maps { users: "0 1000 1\n1 5 9\n".into(), groups: "0 7 1\n".into() };
        assert_eq!(maps, Some(expected));
    }
}
