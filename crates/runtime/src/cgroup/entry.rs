//! The way into a group.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use sys::fsx;
use sys::proc::Proc;
use sys::process::{self, Child, Clone, Cloned};

use super::{Cgroup, Hierarchy, Unit, open_write, read, relative, systemd};
use crate::error::{Context as _, Error};
use crate::wire::{self, Message};

/// The way into a group, opened beforehand: it works from another mount namespace and from a user namespace.
///
/// A process that comes into a frozen group stops there until the group is thawed, before it has run any further: so does the
/// one that an exec adds, and whoever asked for it waits as long. Nothing else waits for it, and a thaw lets all of them go on.
#[derive(Debug)]
pub(crate) struct Entry {
    tasks: Vec<(PathBuf, OwnedFd)>,
    v2: Option<OwnedFd>,
    /// Who may move a process where we may not.
    unit: Option<Unit>,
    /// A process was made outside the group of version 2, and waits to be put into it.
    waits: bool,
}

impl Entry {
    /// The group of version 2 for the kernel to make the new process in.
    pub(crate) fn v2(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(AsFd::as_fd)
    }

    /// Makes a process, in the group of version 2 if there is one: a copy of the caller, which must have one thread.
    ///
    /// A user whose session lies elsewhere may not move a process into a group that his systemd has made, though it is his. Then
    /// systemd does, and the process waits for it in [`Entry::join`].
    pub(crate) fn clone(&mut self, flags: u64) -> io::Result<Cloned> {
        match process::clone(Clone { flags, cgroup: self.v2() }) {
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied
                    && self.unit.is_some()
                    && self.v2.is_some() =>
            {
                self.waits = true;
                process::clone(Clone { flags, cgroup: None })
            }
            other => other,
        }
    }

    /// Has the process put into the group if it could not be made there, and tells it so over `sync`. If that fails the process is
    /// killed, as it would wait for ever.
    pub(crate) fn admit(&self, child: &Child, sync: &OwnedFd) -> Result<(), Error> {
        const SIGKILL: i32 = 9;
        let Some(unit) = self.unit.as_ref().filter(|_| self.waits) else { return Ok(()) };
        let told = systemd::attach(unit, child.pid).and_then(|()| wire::send(sync, wire::ADMITTED));
        if told.is_err() {
            // The first error is the one that explains.
            let _ = sys::signal::send(&child.pidfd, SIGKILL);
        }
        told
    }

    /// Moves the calling process, which must have one thread, into the groups of version 1.
    ///
    /// A process that writes `0` to `tasks` moves itself, for which the kernel needs no lock over all processes of
    /// the host: 10 µs where `cgroup.procs` takes many milliseconds.
    pub(crate) fn join(&self, sync: &OwnedFd) -> Result<(), Error> {
        if self.waits && wire::receive(sync)? != Message::Step(wire::ADMITTED) {
            return Err(Error::Setup { text: "the creator has gone".into() });
        }
        for (path, fd) in &self.tasks {
            sys::proc::write_once(fd, b"0").on("write", path)?;
        }
        Ok(())
    }
}

impl Cgroup {
    /// What a new process needs to come into the group.
    pub(crate) fn entry(&self) -> Result<Entry, Error> {
        self.entry_in(|hierarchy| Ok(self.directory(hierarchy)))
    }

    /// What a process needs to come into the group of a container that runs, whose first process is `init`.
    ///
    /// `below` names groups that were made inside: `path`, or with version 1 also `controller,…:path` for single hierarchies. Without
    /// any it is the container's own; only if that has passed its controllers on, so that the kernel lets no process into it,
    /// it is the group in which `init` is.
    pub(crate) fn entry_below(&self, below: &[String], proc: &Proc, init: i32) -> Result<Entry, Error> {
        let below = self.parse_below(below)?;
        if below.is_empty() && self.is_unified() {
            let directory = self.directory(&self.hierarchies[0]);
            if !read(&directory.join("cgroup.subtree_control"))?.trim().is_empty() {
                let group = self.group_of(proc, init)?;
                return self.entry_in(|hierarchy| Ok(hierarchy.mountpoint().join(&group)));
            }
        }
        self.entry_in(|hierarchy| {
            let named = |name: &str| if hierarchy.v2 { name.is_empty() } else { hierarchy.has(name) };
            let own = below
                .iter()
                .rev()
                .find(|(controllers, _)| controllers.as_ref().is_none_or(|list| list.split(',').any(named)));
            Ok(self.directory(hierarchy).join(own.map_or(Path::new(""), |(_, path)| path)))
        })
    }

    fn entry_in(&self, directory: impl Fn(&Hierarchy) -> Result<PathBuf, Error>) -> Result<Entry, Error> {
        let mut entry = Entry { tasks: Vec::new(), v2: None, unit: self.place.unit.clone(), waits: false };
        for hierarchy in &self.hierarchies {
            let directory = directory(hierarchy)?;
            if hierarchy.v2 {
                entry.v2 = Some(fsx::open_dir(&directory).on("open", &directory)?);
            } else {
                let tasks = directory.join("tasks");
                let fd = open_write(&tasks).on("open", &tasks)?;
                entry.tasks.push((tasks, fd));
            }
        }
        // The last, as it may stop whoever comes into it: by then it is where it can be found.
        let freezer = self.v1("freezer");
        entry.tasks.sort_by_key(|(tasks, _)| freezer.as_deref().is_some_and(|f| tasks.starts_with(f)));
        Ok(entry)
    }

    /// Controllers (`None` for all) and path of each group that is named.
    fn parse_below(&self, below: &[String]) -> Result<Vec<(Option<String>, PathBuf)>, Error> {
        let one = |text: &String| {
            let (controllers, path) = match text.split_once(':') {
                Some((controllers, path)) => (Some(controllers.to_owned()), path),
                None => (None, text.as_str()),
            };
            let path = match Path::new(path).components().any(|c| c != std::path::Component::RootDir) {
                true => relative(Path::new(path))?,
                false => PathBuf::new(),
            };
            let known = |name: &str| {
                self.hierarchies.iter().any(|h| if h.v2 { name.is_empty() } else { h.has(name) })
            };
            if let Some(unknown) = controllers.as_deref().and_then(|list| list.split(',').find(|c| !known(c)))
            {
                return Err(Error::Invalid(format!(
                    "--cgroup {text}: there is no cgroup controller {unknown:?}"
                )));
            }
            Ok((controllers, path))
        };
        let below = below.iter().map(one).collect::<Result<Vec<_>, Error>>()?;
        let names = || below.iter().flat_map(|(list, _)| list.as_deref().unwrap_or("").split(','));
        if let Some(twice) = names().enumerate().find(|(at, name)| names().take(*at).any(|n| n == *name)) {
            return Err(Error::Invalid(format!("--cgroup: controller {:?} is given twice", twice.1)));
        }
        if below.len() > 1 && below.iter().any(|(list, _)| list.is_none()) {
            return Err(Error::Invalid("--cgroup: one for all controllers, and another for some".into()));
        }
        if self.is_none() && !below.is_empty() {
            return Err(Error::Invalid("--cgroup: the container has no cgroup of its own".into()));
        }
        Ok(below)
    }

    /// The group of version 2 that `init` is in, which must be the container's or one made below it.
    fn group_of(&self, proc: &Proc, init: i32) -> Result<PathBuf, Error> {
        let file = format!("{init}/cgroup");
        let text = proc.read(&file).on("read", format!("/proc/{file}"))?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let path = PathBuf::from(path);
        if path.starts_with(self.relative())
            && !path.components().any(|c| c == std::path::Component::ParentDir)
        {
            return Ok(path);
        }
        Err(Error::Invalid(format!(
            "the container's first process is in cgroup /{}, not in its own",
            path.display()
        )))
    }
}
