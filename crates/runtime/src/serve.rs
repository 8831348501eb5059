//! Serving a container's init while it sets itself up: the creator's half of what is in [`crate::wire`].

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use oci::runtime::{Hooks, LinuxIdMapping, Spec};
use sys::proc::Proc;
use sys::process::{self, Child};

use crate::cgroup::{Cgroup, Order};
use crate::error::{Context as _, Error};
use crate::hooks;
use crate::identity;
use crate::idmap::Maps;
use crate::listener::{self, Listener};
use crate::netdevices::{self, Device};
use crate::privilege::Privilege;
use crate::rdt::{self, Groups};
use crate::state::{self, Init, Record};
use crate::wire::{self, Message};

/// Where the programs are that write an ordinary user's id maps: fixed, as the environment may be anybody's.
const PROGRAM_DIRECTORIES: [&str; 4] = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin"];

/// What serving one init needs.
pub(crate) struct Server<'a> {
    pub(crate) id: &'a str,
    pub(crate) state_dir: &'a Path,
    pub(crate) bundle: &'a Path,
    pub(crate) spec: &'a Spec,
    pub(crate) cgroup: &'a mut Cgroup,
    pub(crate) privilege: Privilege,
    /// The kinds of namespaces in which the container is apart.
    pub(crate) namespaces: u64,
    pub(crate) devices: &'a [Device],
    pub(crate) proc: &'a Proc,
    pub(crate) child: &'a Child,
}

impl Server<'_> {
    /// Serves init until it is ready, and records what later commands need.
    pub(crate) fn serve(&mut self, sync: &OwnedFd, order: &Order<'_>) -> Result<(), Error> {
        let mut hooked = false;
        let served = self.record_once(order, |server| server.attend(sync, &mut hooked));
        if served.is_err() && hooked {
            run_last_hooks(self.id, self.bundle, self.spec);
        }
        served
    }

    /// Records what later commands need of a process that needs no service.
    pub(crate) fn adopt(&mut self, order: &Order<'_>) -> Result<(), Error> {
        self.record_once(order, |_| Ok(()))
    }

    /// Records the container once it is `ready`; otherwise its first process ends.
    fn record_once(
        &mut self,
        order: &Order<'_>,
        ready: impl FnOnce(&Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut groups = Groups::default();
        let recorded = self.complete(order, &mut groups, ready);
        if recorded.is_err() {
            // The first error is the one that explains.
            let _ = sys::signal::send(&self.child.pidfd, 9);
            let _ = process::wait(&self.child.pidfd);
            let _ = rdt::remove(&groups.made);
        }
        recorded
    }

    fn complete(
        &mut self,
        order: &Order<'_>,
        groups: &mut Groups,
        ready: impl FnOnce(&Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if let Some(rdt) = self.spec.linux().as_ref().and_then(|l| l.intel_rdt().as_ref()) {
            groups.create(rdt, self.id, |made| state::store_resctrl(self.state_dir, made))?;
            groups.add(self.child.pid)?;
        }
        ready(self)?;
        self.cgroup.settle(order)?;
        self.record(groups)
    }

    /// Answers init until it is ready; `hooked` tells whether hooks have begun to run.
    fn attend(&self, sync: &OwnedFd, hooked: &mut bool) -> Result<(), Error> {
        loop {
            match wire::receive(sync)? {
                Message::Step(wire::NEEDS_MAPS) => {
                    self.give_maps()?;
                    wire::answer(sync, wire::HAS_MAPS)?;
                }
                Message::Step(wire::NEEDS_OFFSETS) => {
                    self.give_offsets()?;
                    wire::answer(sync, wire::HAS_OFFSETS)?;
                }
                Message::Step(wire::NEEDS_DEVICES) => {
                    let path = format!("/proc/{}/ns/net", self.child.pid);
                    let namespace = File::open(&path).on("open", &path)?;
                    netdevices::move_into(self.devices, namespace)?;
                    wire::answer(sync, wire::HAS_DEVICES)?;
                }
                Message::Step(wire::NEEDS_HOOKS) => {
                    *hooked = true;
                    run_hooks(self.spec, &self.state("creating"), &self.child.pidfd)?;
                    wire::answer(sync, wire::HAD_HOOKS)?;
                }
                Message::Step(wire::READY) => {
                    self.finish()?;
                    return wire::answer(sync, wire::HAS_LIMITS);
                }
                Message::Listener(number) => {
                    self.hand_over(number)?;
                    wire::answer(sync, wire::HAS_LISTENER)?;
                }
                Message::Failure { code, text } => return Err(wire::failure(code, text)),
                Message::End => return Err(self.death()?),
                other => {
                    return Err(Error::Setup { text: format!("init sent a strange message: {other:?}") });
                }
            }
        }
    }

    /// While init waits for its maps its files in `/proc` belong to the user it will be.
    fn give_maps(&self) -> Result<(), Error> {
        let Some(linux) = self.spec.linux() else { return Ok(()) };
        if self.privilege.mounts {
            Maps::of(linux.uid_mappings(), linux.gid_mappings())
                .map_or(Ok(()), |maps| maps.write(self.proc, self.child.pid))?;
        } else {
            let users = linux.uid_mappings().as_deref().unwrap_or_default();
            let groups = linux.gid_mappings().as_deref().unwrap_or_default();
            self.give_own_groups(groups)?;
            self.give_own_users(users)?;
        }
        let Some(process) = self.spec.process() else { return Ok(()) };
        // Later they are root's alone.
        if self.privilege.mounts {
            return Ok(());
        }
        identity::set_oom_score(self.proc, self.child.pid, process)
    }

    /// An ordinary user may map himself alone; for more there is a program that looks up what he was given.
    fn give_own_users(&self, maps: &[LinuxIdMapping]) -> Result<(), Error> {
        let pid = self.child.pid;
        if !is_only(maps, process::effective_user()) {
            return run_mapper("newuidmap", pid, maps);
        }
        let file = format!("{pid}/uid_map");
        self.proc.write(&file, map_text(maps)).on("write", format!("/proc/{file}"))
    }

    fn give_own_groups(&self, maps: &[LinuxIdMapping]) -> Result<(), Error> {
        let pid = self.child.pid;
        if !is_only(maps, process::effective_group()) {
            return run_mapper("newgidmap", pid, maps);
        }
        // A condition of the kernel's: nobody gets rid of a group that keeps him out of something.
        let file = format!("{pid}/setgroups");
        self.proc.write(&file, "deny").on("write", format!("/proc/{file}"))?;
        let file = format!("{pid}/gid_map");
        self.proc.write(&file, map_text(maps)).on("write", format!("/proc/{file}"))
    }

    fn give_offsets(&self) -> Result<(), Error> {
        let offsets = self.spec.linux().as_ref().and_then(|l| l.time_offsets().as_ref());
        let line = |(clock, offset): (&String, &oci::runtime::LinuxTimeOffset)| {
            format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0))
        };
        let text: String = offsets.into_iter().flatten().map(line).collect();
        let file = format!("{}/timens_offsets", self.child.pid);
        self.proc.write(&file, text).on("write linux.timeOffsets to", format!("/proc/{file}"))
    }

    fn state(&self, status: &str) -> serde_json::Value {
        state(self.id, status, self.child.pid, self.bundle, self.spec)
    }

    fn hand_over(&self, number: i32) -> Result<(), Error> {
        let listener = listener(self.spec)
            .ok_or_else(|| Error::Setup { text: "init sent a listener that nobody asked for".into() })?;
        let taken = listener::take(&self.child.pidfd, number)?;
        listener.hand_over(self.child.pid, &taken, &self.state("creating"))
    }

    fn finish(&self) -> Result<(), Error> {
        let Some(process) = self.spec.process() else { return Ok(()) };
        // Only now: with few descriptors it could not have come so far. And in a user namespace nobody could raise them.
        identity::set_limits(self.child.pid, process)?;
        if self.privilege.mounts {
            identity::set_oom_score(self.proc, self.child.pid, process)?;
        }
        Ok(())
    }

    /// The end of an init that should have gone on.
    fn death(&self) -> Result<Error, Error> {
        let exit = process::wait(&self.child.pidfd).on("wait for", "the container's init")?;
        let text = match exit {
            process::Exit::Signal(9) => {
                "init was killed while it set up the container: possibly the memory limit is too low".into()
            }
            other => format!("init ended while it set up the container: {other:?}"),
        };
        Ok(Error::Setup { text })
    }

    fn record(&self, groups: &Groups) -> Result<(), Error> {
        let hooks = |pick: fn(&Hooks) -> &Option<Vec<oci::runtime::Hook>>| {
            self.spec.hooks().as_ref().and_then(|h| pick(h).clone()).unwrap_or_default()
        };
        let annotations = self.spec.annotations().iter().flatten();
        let record = Record {
            id: self.id.to_owned(),
            bundle: self.bundle.to_owned(),
            created: state::now(),
            place: self.cgroup.place().clone(),
            namespaces: self.namespaces,
            annotations: annotations.map(|(k, v)| (k.clone(), v.clone())).collect(),
            resctrl: groups.made.clone(),
            listener: listener(self.spec),
            memory_policy: self.spec.linux().as_ref().and_then(|l| l.memory_policy().clone()),
            poststop: hooks(Hooks::poststop),
            poststart: hooks(Hooks::poststart),
        };
        record.store(self.state_dir)?;
        let pid = self.child.pid;
        let start = self.proc.start_time(pid).on("inspect", format!("process {pid}"))?;
        Init { pid, start }.store(self.state_dir)
    }
}

/// What runs while `init` waits for it. Prestart hooks are deprecated by the specification, and still what some tools use.
pub(crate) fn run_hooks(spec: &Spec, state: &serde_json::Value, init: &OwnedFd) -> Result<(), Error> {
    let Some(configured) = spec.hooks() else { return Ok(()) };
    let prestart = configured.prestart().as_deref().unwrap_or_default();
    let create_runtime = configured.create_runtime().as_deref().unwrap_or_default();
    hooks::run_beside(init, prestart, "prestart", state)?;
    hooks::run_beside(init, create_runtime, "createRuntime", state)
}

/// What hooks have done those of the end undo (runtime-spec, "Lifecycle", steps 3 to 5 and 13). That they fail as well is not what explains.
pub(crate) fn run_last_hooks(id: &str, bundle: &Path, spec: &Spec) {
    let hooks = spec.hooks().as_ref().and_then(|h| h.poststop().as_deref()).unwrap_or_default();
    let _ = hooks::run_all(hooks, "poststop", &state(id, "stopped", 0, bundle, spec));
}

/// What hooks are told.
pub(crate) fn state(id: &str, status: &str, pid: i32, bundle: &Path, spec: &Spec) -> serde_json::Value {
    hooks::state_json(id, status, pid, bundle, spec.annotations().as_ref())
}

fn listener(spec: &Spec) -> Option<Listener> {
    let seccomp = spec.linux().as_ref()?.seccomp().as_ref()?;
    let path = seccomp.listener_path().clone()?;
    Some(Listener { path, metadata: seccomp.listener_metadata().clone().unwrap_or_default() })
}

fn is_only(maps: &[LinuxIdMapping], id: u32) -> bool {
    matches!(maps, [one] if one.host_id() == id && one.size() == 1)
}

fn map_text(maps: &[LinuxIdMapping]) -> String {
    maps.iter().map(|m| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size())).collect()
}

/// Has a set-user-ID program of the host (`newuidmap(1)`) write a map.
fn run_mapper(name: &'static str, pid: i32, maps: &[LinuxIdMapping]) -> Result<(), Error> {
    let found = PROGRAM_DIRECTORIES.iter().map(|d| Path::new(d).join(name)).find(|path| path.exists());
    let missing = || {
        Error::Invalid(format!(
            "id maps of more than the user himself need {name} (package uidmap), which is not there"
        ))
    };
    let program = found.ok_or_else(missing)?;
    let numbers = maps.iter().flat_map(|m| [m.container_id(), m.host_id(), m.size()]);
    let arguments = std::iter::once(pid.to_string()).chain(numbers.map(|n| n.to_string()));
    let output = Command::new(&program).args(arguments).env_clear().output().on("execute", &program)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("it does not say why");
    Err(Error::Invalid(format!("{name} refuses the map of ids: {said}")))
}
