//! A further process in a container that runs.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci::runtime::Process;
use sys::path::Root;
use sys::proc::Proc;
use sys::process::{self, Clone, Cloned};
use sys::{namespace, socket, spawn};

use crate::cgroup::{Cgroup, Entry};
use crate::config;
use crate::console::Console;
use crate::create::{Created, Gate, Stdio};
use crate::error::{Context as _, Error};
use crate::identity::{self, Filter};
use crate::inside::{self, Ready, Waiting};
use crate::program::Program;
use crate::state::{self, Init, Record};
use crate::wire::{self, Message};

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
}

/// What the new process takes with it.
struct Joining<'a> {
    record: &'a Record,
    process: &'a Process,
    init: OwnedFd,
    cgroup: Entry,
    proc: Proc,
    filter: Option<Filter>,
    stdio: Stdio,
    sync: OwnedFd,
    gate: OwnedFd,
}

/// Adds a process to the container, up to the point where its program can be executed.
///
/// The caller must have one thread, and afterwards be done: it is undumpable, and its children are born in the container's PID namespace.
pub fn exec(e: Exec<'_>) -> Result<Created, Error> {
    config::check_process(e.process)?;
    let Gate::Socket(gate) = e.gate else {
        return Err(Error::Unsupported("starting an exec at a later time".into()));
    };
    let record = Record::load(e.state_dir)?;
    let proc = Proc::open().on("open", "/proc")?;
    let stopped = || Error::State { id: record.id.clone(), verb: "exec in", state: "stopped" };
    let init = Init::load(e.state_dir)?.find(&proc)?.ok_or_else(stopped)?;
    let cgroup = Cgroup::open(&record.cgroup)?;
    if cgroup.is_paused()? {
        return Err(Error::State { id: record.id.clone(), verb: "exec in", state: "paused" });
    }
    let filter = state::load_filter(e.state_dir)?;
    let (ours, theirs) = socket::packet_pair().on("create", "a socket")?;
    process::set_dumpable(false).on("hide", "this process")?;
    if record.namespaces & namespace::PID != 0 {
        namespace::join(&init, namespace::PID).on("join", "the PID namespace")?;
    }
    let joining = Joining {
        record: &record,
        process: e.process,
        init,
        cgroup: cgroup.entry()?,
        proc,
        filter,
        stdio: e.stdio,
        sync: theirs,
        gate,
    };
    let what = Clone { flags: process::CLONE_CLEAR_SIGHAND, cgroup: joining.cgroup.v2() };
    let child = match process::clone(what).on("clone", "a process")? {
        Cloned::Child => main(joining),
        Cloned::Parent(child) => child,
    };
    let Joining { proc, sync, .. } = joining;
    drop(sync);
    let ready = match wire::receive(&ours)? {
        Message::Step(wire::READY) => identity::set_oom_score(&proc, child.pid, e.process),
        Message::Failure { code, text } => Err(wire::failure(code, text)),
        _ => Err(Error::Setup { text: "the process ended while it joined the container".into() }),
    };
    if let Err(error) = ready {
        let _ = sys::signal::send(&child.pidfd, 9);
        let _ = process::wait(&child.pidfd);
        return Err(error);
    }
    Ok(Created { pid: child.pid, pidfd: child.pidfd })
}

fn main(joining: Joining<'_>) -> ! {
    let Ok(sync) = joining.sync.try_clone() else { process::exit(1) };
    match set_up(joining, &sync) {
        Err(error) => wire::send_failure(&sync, &error),
        Ok((ready, gate)) => {
            let announced = wire::send(&sync, wire::READY);
            drop(sync);
            if announced.is_ok() {
                inside::wait_and_execute(ready, Waiting::Connected(gate));
            }
        }
    }
    process::exit(1)
}

fn set_up(mut joining: Joining<'_>, reporting: &OwnedFd) -> Result<(Ready, OwnedFd), Error> {
    let process = joining.process;
    sys::signal::reset();
    process::close_on_exec_from(3).on("mark", "descriptors")?;
    process::umask(0);
    joining.cgroup.join()?;
    identity::set_limits(0, process)?;
    // All at once, and by the descriptor: the kernel takes care of their order, and of who may.
    let kinds = joining.record.namespaces & !namespace::PID;
    namespace::join(&joining.init, kinds).on("join", "the container's namespaces")?;
    if kinds & namespace::USER != 0 {
        process::set_groups(&[]).on("set", "the supplementary groups")?;
        process::set_group(0).on("become", "group 0 of the user namespace")?;
        process::set_user(0).on("become", "user 0 of the user namespace")?;
        process::set_dumpable(false).on("hide", "this process")?;
    }
    process::new_session().on("start", "a session")?;
    let name = CString::new(format!("_ses.{}", joining.record.id));
    inside::new_keyring(&name.map_err(|_| Error::Invalid("a NUL byte in the id".into()))?)?;
    let console = match &joining.stdio {
        Stdio::Console(socket) => {
            let root = Root::open("/").on("open", "/")?;
            Some(Console::open(&root, process, socket)?)
        }
        Stdio::Inherit | Stdio::Fds(_) => None,
    };
    inside::take_stdio(std::mem::replace(&mut joining.stdio, Stdio::Inherit), console, process)?;
    let filter = identity::assume(process, joining.filter.take(), &joining.proc)?;
    let Joining { gate, init, cgroup, proc, sync, .. } = joining;
    drop((init, cgroup, proc, sync));
    spawn::keep_only([reporting.as_fd(), gate.as_fd()]);
    let program = Program::find(process)?;
    Ok((Ready::without_hooks(program, filter), gate))
}
