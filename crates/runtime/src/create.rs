//! Making a container: everything up to a process that waits to execute the user's program.
//!
//! The caller is the *creator*: a single-threaded process that may go away afterwards. It opens what belongs to the host, clones
//! init into the new namespaces, and serves it while it sets itself up (see [`crate::wire`] for their conversation).

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use oci::runtime::{Hooks, LinuxIdMapping, Spec};
use sys::mount::{self, Change, Propagation};
use sys::namespace;
use sys::proc::Proc;
use sys::process::{self, Child, Clone, Cloned};
use sys::socket;

use crate::cgroup::{Cgroup, Driver, Order};
use crate::config;
use crate::error::{Context as _, Error};
use crate::hooks;
use crate::identity::{self, Filter};
use crate::inside::{self, Inside, Waiting};
use crate::mounts;
use crate::namespaces::Namespaces;
use crate::state::{self, Init, Record};
use crate::sysctl;
use crate::wire::{self, Message};

/// A container to make.
#[derive(Debug)]
pub struct Create<'a> {
    /// Its name.
    pub id: &'a str,
    /// Where its state is recorded; exists, and nobody else can look into it.
    pub state_dir: &'a Path,
    /// Where paths of the configuration are relative to.
    pub bundle: &'a Path,
    /// The configuration.
    pub spec: &'a Spec,
    /// Its standard streams.
    pub stdio: Stdio,
    /// By index into `spec.mounts`: a detached copy (`open_tree`) of what is to be mounted there instead of `source`.
    pub bind_sources: Vec<(usize, OwnedFd)>,
    /// Who says when the program is executed.
    pub gate: Gate,
    /// Who makes its cgroup.
    pub cgroups: Driver,
}

/// The standard streams of a process.
#[derive(Debug)]
pub enum Stdio {
    /// Those of the caller.
    Inherit,
    /// These.
    Fds([OwnedFd; 3]),
    /// A terminal, whose master is sent over this socket (`SCM_RIGHTS`).
    Console(OwnedFd),
}

/// Where init waits before it executes the program, and reports if that fails.
#[derive(Debug)]
pub enum Gate {
    /// A socket `start` in the state directory, for whoever calls [`crate::start`].
    Listen,
    /// A connected `SOCK_SEQPACKET` socket. One byte from the other end lets init go on; the end of the conversation
    /// instead lets it die. After the byte: the end means that the program is executed, a message `E`, exit code, text that it could not be.
    Socket(OwnedFd),
}

/// A process that waits to execute its program.
#[derive(Debug)]
pub struct Created {
    /// Its number in the caller's PID namespace.
    pub pid: i32,
    /// Its descriptor.
    pub pidfd: OwnedFd,
}

/// Makes the container, up to the point where its program can be executed. On failure nothing of it is left but `state_dir`.
///
/// The caller must have one thread, and becomes undumpable.
pub fn create(c: Create<'_>) -> Result<Created, Error> {
    config::check_id(c.id)?;
    config::check(c.spec)?;
    let linux =
        c.spec.linux().as_ref().ok_or_else(|| Error::Invalid("config.json: linux is missing".into()))?;
    let namespaces = Namespaces::open(linux.namespaces().as_deref().unwrap_or_default())?;
    if let Some(parameters) = linux.sysctl() {
        sysctl::check(parameters, namespaces.all())?;
    }
    let filter = linux.seccomp().as_ref().map(Filter::compile).transpose()?;
    let state_dir = c.state_dir;
    let cgroup = Cgroup::create(&Order::new(c.id, c.spec, c.cgroups), state_dir)?;
    let created = create_in(c, &cgroup, namespaces, filter);
    if created.is_err() {
        // The first error is the one that explains; what is in the way of cleaning up is found again by whoever deletes.
        let _ = cgroup.kill_all();
        let _ = cgroup.remove();
        let _ = state::clear(state_dir);
    }
    created
}

fn create_in(
    c: Create<'_>,
    cgroup: &Cgroup,
    namespaces: Namespaces,
    filter: Option<Filter>,
) -> Result<Created, Error> {
    let proc = Proc::open().on("open", "/proc")?;
    let kinds = namespaces.all();
    if let Some(filter) = &filter {
        state::store_filter(c.state_dir, filter)?;
    }
    let (ours, theirs) = socket::packet_pair().on("create", "a socket")?;
    let waiting = match c.gate {
        Gate::Socket(socket) => Waiting::Connected(socket),
        Gate::Listen => Waiting::Listening(
            socket::listen(c.state_dir, state::START).on("create", c.state_dir.join(state::START))?,
        ),
    };
    let root_tree = prepare_root(c.bundle, c.spec)?;
    let mounts = prepare_mounts(c.bundle, c.spec, c.bind_sources, cgroup)?;
    // From here on nobody in the container can look into this process or its children, whatever /proc it has.
    process::set_dumpable(false).on("hide", "this process")?;
    let own_pid_namespace =
        namespaces.joined(namespace::PID).map(|_| std::fs::File::open("/proc/self/ns/pid"));
    let inside = Inside {
        id: c.id,
        bundle: c.bundle,
        spec: c.spec,
        namespaces,
        root_tree,
        mounts,
        cgroup: cgroup.entry()?,
        proc,
        filter,
        stdio: c.stdio,
        sync: theirs,
        waiting,
    };
    let (child, inside) = spawn(inside)?;
    let Inside { proc, sync, .. } = inside;
    // Its other end must be held by init alone, or its death would not be noticed.
    drop(sync);
    if let Some(own) = own_pid_namespace {
        let own = own.on("open", "/proc/self/ns/pid")?;
        namespace::join(own, namespace::PID).on("return to", "the PID namespace")?;
    }
    let served = serve(&ours, c.id, c.bundle, c.spec, &child, &proc)
        .and_then(|()| record(c.id, c.state_dir, c.bundle, c.spec, cgroup, kinds, child.pid, &proc));
    if let Err(error) = served {
        let _ = sys::signal::send(&child.pidfd, 9);
        let _ = process::wait(&child.pidfd);
        return Err(error);
    }
    Ok(Created { pid: child.pid, pidfd: child.pidfd })
}

/// A detached copy of the root filesystem's tree, which nothing done to the original reaches any more.
fn prepare_root(bundle: &Path, spec: &Spec) -> Result<OwnedFd, Error> {
    let root = spec.root().as_ref().ok_or_else(|| Error::Invalid("config.json: root is missing".into()))?;
    let path = bundle.join(root.path());
    if !path.is_dir() {
        return Err(Error::Invalid(format!("root filesystem {} is not a directory", path.display())));
    }
    let tree = mount::clone_path(&path, true).on("mount", &path)?;
    let change = Change { propagation: Some(Propagation::Private), ..Change::default() };
    mount::change(&tree, true, change).on("set the propagation of", &path)?;
    Ok(tree)
}

fn prepare_mounts(
    bundle: &Path,
    spec: &Spec,
    given: Vec<(usize, OwnedFd)>,
    cgroup: &Cgroup,
) -> Result<Vec<mounts::Prepared>, Error> {
    let configured = spec.mounts().as_deref().unwrap_or_default();
    let mut sources: Vec<Option<OwnedFd>> = configured.iter().map(|_| None).collect();
    for (index, fd) in given {
        let slot = sources.get_mut(index);
        *slot.ok_or_else(|| {
            Error::Invalid(format!("a bind source for mount {index}, which is not there"))
        })? = Some(fd);
    }
    let cgroups = cgroup.views();
    let prepare = |(mount, given)| mounts::prepare(mount, bundle, given, &cgroups);
    configured.iter().zip(sources).map(prepare).collect()
}

/// Clones init. The child does not return from here.
fn spawn(inside: Inside<'_>) -> Result<(Child, Inside<'_>), Error> {
    // The cgroup namespace comes once init is in its cgroup, or it would show where that lies.
    let new = inside.namespaces.new & !namespace::CGROUP;
    if inside.namespaces.joined(namespace::USER).is_some() {
        return spawn_in_user_namespace(inside, new);
    }
    if let Some(joined) = inside.namespaces.joined(namespace::PID) {
        namespace::join(&joined.fd, namespace::PID).on("join", &joined.path)?;
    }
    let what = Clone { flags: new | process::CLONE_CLEAR_SIGHAND, cgroup: inside.cgroup.v2() };
    match process::clone(what).on("clone", "the container's init")? {
        Cloned::Child => inside::main(inside),
        Cloned::Parent(child) => Ok((child, inside)),
    }
}

/// With a user namespace to join, the others must be made from inside it, by a process that joins it, makes init as its sibling
/// and ends. It shares this process's descriptors, and so init's descriptor arrives here.
fn spawn_in_user_namespace(inside: Inside<'_>, new: u64) -> Result<(Child, Inside<'_>), Error> {
    let (ours, theirs) = socket::packet_pair().on("create", "a socket")?;
    let stage = Clone { flags: process::CLONE_FILES, cgroup: None };
    match process::clone(stage).on("clone", "a helper process")? {
        Cloned::Child => {
            let joined = join_for_clone(&inside);
            let cloned = joined.and_then(|()| {
                let flags = new | process::CLONE_PARENT | process::CLONE_CLEAR_SIGHAND;
                let what = Clone { flags, cgroup: inside.cgroup.v2() };
                process::clone(what).on("clone", "the container's init")
            });
            match cloned {
                Ok(Cloned::Child) => inside::main(inside),
                Ok(Cloned::Parent(child)) => {
                    use std::os::fd::IntoRawFd as _;
                    let numbers = format!("{} {}", child.pid, child.pidfd.into_raw_fd());
                    let _ = socket::send(&theirs, numbers.as_bytes());
                }
                Err(error) => wire::send_failure(&theirs, &error),
            }
            process::exit(0)
        }
        Cloned::Parent(stage) => {
            process::wait(&stage.pidfd).on("wait for", "a helper process")?;
            drop(theirs);
            let mut buffer = [0; 64];
            let length = socket::recv_fds(&ours, &mut buffer, &mut Vec::new())
                .on("receive from", "a helper process")?;
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let numbers = text.split_once(' ').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
            let failed = || Error::Setup { text: text.trim_start_matches(['E', '\u{1}']).to_owned() };
            let (pid, number) = numbers.ok_or_else(failed)?;
            let pidfd = process::inherited(number).ok_or_else(failed)?;
            Ok((Child { pid, pidfd }, inside))
        }
    }
}

fn join_for_clone(inside: &Inside<'_>) -> Result<(), Error> {
    // Init inherits them; inside nobody could raise them.
    inside.spec.process().as_ref().map_or(Ok(()), |p| identity::set_limits(0, p))?;
    for kind in [namespace::USER, namespace::PID] {
        if let Some(joined) = inside.namespaces.joined(kind) {
            namespace::join(&joined.fd, kind).on("join", &joined.path)?;
        }
    }
    Ok(())
}

/// Serves init until it is ready.
fn serve(
    sync: &OwnedFd,
    id: &str,
    bundle: &Path,
    spec: &Spec,
    child: &Child,
    proc: &Proc,
) -> Result<(), Error> {
    loop {
        match wire::receive(sync)? {
            Message::Step(wire::NEEDS_MAPS) => {
                write_maps(proc, child.pid, spec)?;
                spec.process().as_ref().map_or(Ok(()), |p| identity::set_limits(child.pid, p))?;
                wire::send(sync, wire::HAS_MAPS)?;
            }
            Message::Step(wire::NEEDS_HOOKS) => {
                run_outside_hooks(id, bundle, spec, child.pid)?;
                wire::send(sync, wire::HAD_HOOKS)?;
            }
            Message::Step(wire::READY) => {
                let process = spec.process().as_ref();
                return process.map_or(Ok(()), |p| identity::set_oom_score(proc, child.pid, p));
            }
            Message::Step(other) => {
                return Err(Error::Setup { text: format!("init sent an unknown message {other}") });
            }
            Message::Born(pid) => {
                return Err(Error::Setup { text: format!("init sent the number of a process, {pid}") });
            }
            Message::Failure { code, text } => return Err(wire::failure(code, text)),
            Message::End => {
                let exit = process::wait(&child.pidfd).on("wait for", "the container's init")?;
                let text = match exit {
                    process::Exit::Signal(9) => {
                        "init was killed while it set up the container: possibly the memory limit is too low"
                            .into()
                    }
                    other => format!("init ended while it set up the container: {other:?}"),
                };
                return Err(Error::Setup { text });
            }
        }
    }
}

fn write_maps(proc: &Proc, pid: i32, spec: &Spec) -> Result<(), Error> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    for (name, map) in [("uid_map", linux.uid_mappings()), ("gid_map", linux.gid_mappings())] {
        let file = format!("{pid}/{name}");
        let text: String = map.iter().flatten().map(map_line).collect();
        proc.write(&file, text).on("write", format!("/proc/{file}"))?;
    }
    Ok(())
}

fn map_line(map: &LinuxIdMapping) -> String {
    format!("{} {} {}\n", map.container_id(), map.host_id(), map.size())
}

/// Prestart hooks are deprecated by the specification, and still what some tools use.
fn run_outside_hooks(id: &str, bundle: &Path, spec: &Spec, pid: i32) -> Result<(), Error> {
    let Some(configured) = spec.hooks() else { return Ok(()) };
    let state = hooks::state_json(id, "creating", pid, bundle);
    hooks::run(configured.prestart().as_deref().unwrap_or_default(), "prestart", &state)?;
    hooks::run(configured.create_runtime().as_deref().unwrap_or_default(), "createRuntime", &state)
}

#[expect(clippy::too_many_arguments, reason = "each is a field of the record, in its only place")]
fn record(
    id: &str,
    state_dir: &Path,
    bundle: &Path,
    spec: &Spec,
    cgroup: &Cgroup,
    namespaces: u64,
    pid: i32,
    proc: &Proc,
) -> Result<(), Error> {
    let hooks = |pick: fn(&Hooks) -> &Option<Vec<oci::runtime::Hook>>| {
        spec.hooks().as_ref().and_then(|h| pick(h).clone()).unwrap_or_default()
    };
    let record = Record {
        id: id.to_owned(),
        bundle: bundle.to_owned(),
        created: state::now(),
        place: cgroup.place().clone(),
        namespaces,
        annotations: spec.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
        poststop: hooks(Hooks::poststop),
        poststart: hooks(Hooks::poststart),
    };
    record.store(state_dir)?;
    let start = proc.start_time(pid).on("inspect", format!("process {pid}"))?;
    Init { pid, start }.store(state_dir)
}

/// Lets the init that waits at the socket in `state_dir` execute its program, and returns when it has. The hooks that are to run then are run.
pub fn start(state_dir: &Path) -> Result<(), Error> {
    let path = state_dir.join(state::START);
    let socket = match socket::connect(state_dir, state::START) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            let id = Record::load(state_dir)?.id;
            let state = if error.kind() == io::ErrorKind::NotFound { "running" } else { "stopped" };
            return Err(Error::State { id, verb: "start", state });
        }
        other => other.on("connect to", &path)?,
    };
    wire::send(&socket, wire::GO)?;
    let answer = wire::receive_all(&socket)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).on("remove", path),
        _ => {}
    }
    match answer {
        Message::Failure { code, text } => Err(wire::failure(code, text)),
        _ => started(state_dir),
    }
}

/// Lets the init at the other end of `gate` execute its program, and returns when it has.
pub(crate) fn open_gate(gate: &OwnedFd) -> Result<(), Error> {
    wire::send(gate, wire::GO)?;
    match wire::receive(gate)? {
        Message::Failure { code, text } => Err(wire::failure(code, text)),
        _ => Ok(()),
    }
}

/// Runs the hooks for a container that has been started.
pub fn started(state_dir: &Path) -> Result<(), Error> {
    let record = Record::load(state_dir)?;
    if record.poststart.is_empty() {
        return Ok(());
    }
    let pid = Init::load(state_dir)?.pid;
    let state = hooks::state_json(&record.id, "running", pid, &record.bundle);
    hooks::run(&record.poststart, "poststart", &state)
}
