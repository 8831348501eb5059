//! A further process in a container that runs.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci::runtime::Process;
use sys::path::Root;
use sys::proc::Proc;
use sys::process::{self, Child, Cloned};
use sys::{namespace, socket, spawn};

use crate::cgroup::Entry;
use crate::config;
use crate::console::Console;
use crate::create::{Created, Gate, Stdio};
use crate::error::{Context as _, Error};
use crate::hooks;
use crate::identity::{self, Filter};
use crate::inside::{self, Ready, Waiting};
use crate::listener;
use crate::privilege::Privilege;
use crate::program::Program;
use crate::scheduling::{self, Affinity};
use crate::state::{self, Init, Record};
use crate::wire::{self, Message};

const SIGKILL: i32 = 9;

/// A process to add.
#[derive(Debug)]
pub struct Exec<'a> {
    /// Where the container's state is recorded.
    pub state_dir: &'a Path,
    /// The process.
    pub process: &'a Process,
    /// Its standard streams.
    pub stdio: Stdio,
    /// Who says when the program is executed; [`Gate::Listen`] is for containers only.
    pub gate: Gate,
    /// So many of the caller's descriptors, from number 3 on, stay open for the program.
    pub preserved: u32,
    /// It joins a container that is frozen, and waits there until that goes on.
    pub ignore_paused: bool,
    /// Groups that were made inside the container's, for the process to be in: `path` or, with version 1, `controller:path`.
    pub cgroups: &'a [String],
}

/// What the process that joins the container takes with it.
struct Joining<'a> {
    record: &'a Record,
    process: &'a Process,
    init: OwnedFd,
    cgroup: Entry,
    proc: Proc,
    filter: Option<Filter>,
    stdio: Stdio,
    preserved: u32,
    privilege: Privilege,
    affinity: Affinity,
    sync: OwnedFd,
    gate: OwnedFd,
}

/// What is left for the new process itself.
struct Joined {
    program: Program,
    console: Option<Console>,
    gate: OwnedFd,
}

/// Adds a process to the container, up to the point where its program can be executed.
///
/// Two processes come one after the other. The first joins the container, but for its PID namespace, of which it cannot become a
/// member: nobody inside can see it. It gives up all rights and descriptors that the program is not to have, and makes the second,
/// which is born inside with nothing that a debugger in the container could take from it.
///
/// The caller must have one thread.
pub fn exec(e: Exec<'_>) -> Result<Created, Error> {
    config::check_process(e.process)?;
    scheduling::check_for_exec(e.process)?;
    let Gate::Socket(gate) = e.gate else {
        return Err(Error::Unsupported("starting an exec at a later time".into()));
    };
    let record = Record::load(e.state_dir)?;
    let proc = Proc::open().on("open", "/proc")?;
    let stopped = || Error::State { id: record.id.clone(), verb: "exec in", state: "stopped" };
    let first = Init::load(e.state_dir)?;
    let init = first.find(&proc)?.ok_or_else(stopped)?;
    let init_pid = first.pid;
    let cgroup = record.cgroup(first)?;
    if !e.ignore_paused && cgroup.is_paused()? {
        return Err(Error::State { id: record.id.clone(), verb: "exec in", state: "paused" });
    }
    let filter = state::load_filter(e.state_dir)?;
    let (ours, theirs) = socket::packet_pair().on("create", "a socket")?;
    let privilege = Privilege::of_caller(&proc)?;
    let mut joining = Joining {
        record: &record,
        process: e.process,
        init,
        cgroup: cgroup.entry_below(e.cgroups, &proc, first.pid)?,
        proc,
        filter,
        stdio: e.stdio,
        preserved: e.preserved,
        privilege,
        affinity: Affinity::of(e.process)?,
        sync: theirs,
        gate,
    };
    let before = joining.affinity.begin()?;
    let first = match joining.cgroup.clone(process::CLONE_CLEAR_SIGHAND).on("clone", "a process")? {
        Cloned::Child => join(joining),
        Cloned::Parent(first) => first,
    };
    Affinity::go_back(before)?;
    let admitted = joining.cgroup.admit(&first, &ours);
    drop(joining);
    let born = admitted.and_then(|()| attend(&ours, &first, &record, init_pid));
    process::wait(&first.pidfd).on("wait for", "the process that joins the container")?;
    adopt(born?, e.process, &ours)
}

/// Takes over the second process, which waits to execute its program. Only now is it given its limits: with few descriptors, or
/// few processes of its user, it could not have come so far.
fn adopt(born: Created, process: &Process, sync: &OwnedFd) -> Result<Created, Error> {
    // It is our child and not waited for: the number is its own.
    let limited = identity::set_limits(born.pid, process);
    limited.and_then(|()| wire::answer(sync, wire::HAS_LIMITS)).inspect_err(|_| end(&born))?;
    Ok(born)
}

/// The second process, by the number that was sent. At the moment of its birth it has a copy of the socket, which a debugger in the
/// container may take: what comes from there may be the number of any process of the host.
fn born(pid: i32, first: &Child) -> Result<Created, Error> {
    let pidfd = process::pidfd(pid).on("open", format!("process {pid}"))?;
    if pid == first.pid || !process::is_child(&pidfd).on("inspect", format!("process {pid}"))? {
        let text = format!("process {pid}, which is not its child, was said to be born in the container");
        return Err(Error::Setup { text });
    }
    Ok(Created { pid, pidfd })
}

/// Waits for the news that the second process is there. If it has a listener that is handed over then, as the second's. Until
/// then nobody but ourselves can answer for the filter, which the first process has already; and what that asks about is our own.
fn attend(sync: &OwnedFd, first: &Child, record: &Record, init_pid: i32) -> Result<Created, Error> {
    let mut listener = None;
    let attended = loop {
        let message = listener.as_ref().map_or(Ok(()), |taken| answer(sync, taken));
        match message.and_then(|()| wire::receive(sync)) {
            Ok(Message::Listener(number)) => {
                let taken = listener::take(&first.pidfd, number)
                    .and_then(|taken| wire::send(sync, wire::HAS_LISTENER).map(|()| taken));
                match taken {
                    Ok(taken) => listener = Some(taken),
                    Err(error) => break Err(error),
                }
            }
            other => break other,
        }
    };
    if attended.is_err() {
        // It may be waiting for an answer that nobody will give.
        let _ = sys::signal::send(&first.pidfd, SIGKILL);
    }
    let born = match attended? {
        Message::Born(pid) => born(pid, first)?,
        Message::Failure { code, text } => return Err(wire::failure(code, text)),
        _ => return Err(Error::Setup { text: "the process ended while it joined the container".into() }),
    };
    if let Some(taken) = &listener {
        hand_over(born.pid, taken, record, init_pid).inspect_err(|_| end(&born))?;
    }
    Ok(born)
}

/// Answers for the filter until there is something to be received.
fn answer(sync: &OwnedFd, taken: &OwnedFd) -> Result<(), Error> {
    const ASKED: usize = 1;
    let wait = || process::wait_any_ended([sync.as_fd(), taken.as_fd()], -1);
    while wait().on("wait for", "the process that joins the container")? == Some(ASKED) {
        listener::let_pass(taken)?;
    }
    Ok(())
}

fn hand_over(pid: i32, taken: &OwnedFd, record: &Record, init_pid: i32) -> Result<(), Error> {
    let nobody = || Error::Setup { text: "a listener that nobody asked for".into() };
    let listener = record.listener.as_ref().ok_or_else(nobody)?;
    let annotations = record.annotations.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let container = hooks::state_json(&record.id, "running", init_pid, &record.bundle, Some(&annotations));
    listener.hand_over(pid, taken, &container)
}

/// Ends the second process, which is our child and was not waited for.
fn end(born: &Created) {
    // The error that led here is the one that explains.
    let _ = sys::signal::send(&born.pidfd, SIGKILL);
    let _ = process::wait(&born.pidfd);
}

/// The life of the first process.
fn join(joining: Joining<'_>) -> ! {
    let Ok(sync) = joining.sync.try_clone() else { process::exit(1) };
    let joined = match set_up(joining, &sync) {
        Ok(joined) => joined,
        Err(error) => {
            wire::send_failure(&sync, &error);
            process::exit(0)
        }
    };
    match process::clone_sibling().on("clone", "a process") {
        Ok(0) => begin(joined, sync),
        Ok(pid) => drop(wire::send_born(&sync, pid)),
        Err(error) => wire::send_failure(&sync, &error),
    }
    process::exit(0)
}

/// The life of the second process.
fn begin(joined: Joined, sync: OwnedFd) -> ! {
    let Joined { program, console, gate } = joined;
    let taken =
        process::new_session().on("start", "a session").and_then(|()| console.map_or(Ok(()), Console::take));
    if let Err(error) = taken {
        wire::send_failure(&gate, &error);
        process::exit(error.exit_code().into());
    }
    // The word to go on may be there already, and must not be followed before the limits hold.
    if !matches!(wire::receive(&sync), Ok(Message::Step(wire::HAS_LIMITS))) {
        process::exit(1);
    }
    // Only the starter is to be told from here on.
    drop(sync);
    inside::wait_and_execute(Ready::without_hooks(program), Waiting::Connected(gate))
}

fn set_up(mut joining: Joining<'_>, reporting: &OwnedFd) -> Result<Joined, Error> {
    let process = joining.process;
    // Before it is hidden: then its files in /proc are root's alone.
    identity::set_oom_score(&joining.proc, process::id(), process)?;
    process::set_dumpable(false).on("hide", "this process")?;
    sys::signal::reset();
    let beyond = inside::first_of_ours(joining.preserved)?;
    process::umask(0);
    joining.cgroup.join(&joining.sync)?;
    joining.affinity.finish()?;
    let kinds = joining.record.namespaces;
    // All at once, and by the descriptor: the kernel takes care of their order, and of who may.
    namespace::join(&joining.init, kinds).on("join", "the container's namespaces")?;
    if let Some(policy) = &joining.record.memory_policy {
        scheduling::set_memory_policy(policy)?;
    }
    if kinds & namespace::USER != 0 {
        identity::set_groups(&[], &joining.proc)?;
        process::set_group(0).on("become", "group 0 of the user namespace")?;
        process::set_user(0).on("become", "user 0 of the user namespace")?;
        process::set_dumpable(false).on("hide", "this process")?;
    }
    let name = CString::new(format!("_ses.{}", joining.record.id));
    inside::new_keyring(&name.map_err(|_| Error::Invalid("a NUL byte in the id".into()))?)?;
    let console = match &joining.stdio {
        Stdio::Console(socket) => {
            let root = Root::open("/").on("open", "/")?;
            Some(Console::open(&root, process, socket)?)
        }
        Stdio::Inherit | Stdio::Fds(_) => None,
    };
    // A terminal is taken by the leader of its session.
    if console.is_none() {
        inside::take_stdio(std::mem::replace(&mut joining.stdio, Stdio::Inherit), None, process)?;
    }
    let filter = identity::assume(
        process,
        joining.filter.take(),
        &joining.proc,
        reporting,
        joining.privilege,
        identity::Missing::Refused,
    )?;
    let Joining { gate, init, cgroup, proc, sync, stdio, .. } = joining;
    drop((init, cgroup, proc, sync, stdio));
    let terminal = console.as_ref().map(AsFd::as_fd);
    spawn::keep_below_and(beyond, [reporting.as_fd(), gate.as_fd()].into_iter().chain(terminal));
    let program = Program::find(process)?;
    // Not later: the new process is seen inside as soon as it is there.
    if let Some(filter) = filter {
        filter.install(reporting)?;
    }
    process::set_dumpable(false).on("hide", "this process")?;
    Ok(Joined { program, console, gate })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sleeper(std::process::Child);

    impl Sleeper {
        fn start() -> Self {
            Self(std::process::Command::new("sleep").arg("1000").spawn().unwrap())
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn only_its_own_child_is_taken_for_the_one_that_was_born() {
        let record = r#"{"id":"a","bundle":"/b","created":"c","cgroup":"/x/a","namespaces":5}"#;
        let record = serde_json::from_str(record).unwrap();
        let (mut one, mut two) = (Sleeper::start(), Sleeper::start());
        let (pid, second) = (one.0.id() as i32, two.0.id() as i32);
        let first = Child { pid, pidfd: process::pidfd(pid).unwrap() };
        let attended = |pid: i32| {
            let (ours, theirs) = socket::packet_pair().unwrap();
            wire::send_born(&theirs, pid).unwrap();
            attend(&ours, &first, &record, 1)
        };
        for stranger in [process::parent_id(), 1, pid, -1, 0] {
            attended(stranger).unwrap_err();
        }
        assert_eq!(attended(second).unwrap().pid, second);
        for sleeper in [&mut one, &mut two] {
            assert!(sleeper.0.try_wait().unwrap().is_none(), "it was ended");
        }
    }
}
