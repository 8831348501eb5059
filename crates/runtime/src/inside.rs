//! Init: what the new process does between its birth and the execution of the user's program.
//!
//! It reads straight down: cgroup, user, namespaces, mounts, root, terminal, identity, gate, program. It runs with the creator's
//! memory, as a copy, and still sees the host's files until it has changed the root.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use oci::runtime::{Linux, Process, Spec};
use sys::mount::{self, Change, Propagation};
use sys::path::Root;
use sys::proc::Proc;
use sys::{keyring, namespace, net, process, socket, spawn};

use crate::cgroup::Entry;
use crate::console::Console;
use crate::create::{Manner, Stdio};
use crate::error::{Context as _, Error};
use crate::files::{self, Files};
use crate::hooks::Prepared;
use crate::identity::{self, Filter};
use crate::masks::{self, Cover};
use crate::mounts;
use crate::namespaces::Namespaces;
use crate::netdevices::{self, Device};
use crate::privilege::Privilege;
use crate::program::Program;
use crate::wire::{self, Message};
use crate::{hooks, nodes, scheduling, sysctl};

/// Where init waits for the word to go on.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// At a connection.
    Connected(OwnedFd),
    /// For a connection.
    Listening(OwnedFd),
}

impl Waiting {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Connected(fd) | Self::Listening(fd) => fd.as_fd(),
        }
    }
}

/// All that init takes with it.
#[derive(Debug)]
pub(crate) struct Inside<'a> {
    pub(crate) id: &'a str,
    pub(crate) bundle: &'a Path,
    pub(crate) spec: &'a Spec,
    pub(crate) manner: Manner,
    pub(crate) privilege: Privilege,
    pub(crate) namespaces: Namespaces,
    pub(crate) files: Files<'a>,
    pub(crate) devices: Vec<Device>,
    pub(crate) cgroup: Entry,
    /// The host's procfs, verified: whatever the container has at `/proc`, the kernel is told what it is told there.
    pub(crate) proc: Proc,
    pub(crate) filter: Option<Filter>,
    pub(crate) stdio: Stdio,
    pub(crate) sync: OwnedFd,
    /// The other end. Init closes its copy, so that it notices when the creator has gone.
    pub(crate) creators_end: Option<OwnedFd>,
    /// A lock of the creator's, which init does not hold as well.
    pub(crate) lock: Option<BorrowedFd<'a>>,
    pub(crate) waiting: Waiting,
}

/// Init's life. It ends as the user's program, or with an error told to the creator.
pub(crate) fn main(mut inside: Inside<'_>) -> ! {
    let Ok(sync) = inside.sync.try_clone() else { process::exit(1) };
    drop(inside.creators_end.take());
    drop(inside.lock.take().and_then(|lock| process::inherited(lock.as_raw_fd())));
    match set_up(inside, &sync) {
        Err(error) => wire::send_failure(&sync, &error),
        // The last thing the creator hears; from here on it is the starter who is told.
        Ok((ready, waiting)) => {
            // The word to go on may be there already, and must not be followed before the limits hold.
            let limited = wire::ask(&sync, wire::READY, wire::HAS_LIMITS);
            drop(sync);
            if limited.is_ok() {
                wait_and_execute(ready, waiting);
            }
        }
    }
    process::exit(1)
}

/// What is left to do once the word is given.
pub(crate) struct Ready {
    program: Program,
    filter: Option<Filter>,
    start_hooks: Option<Prepared>,
}

fn set_up(mut inside: Inside<'_>, reporting: &OwnedFd) -> Result<(Ready, Waiting), Error> {
    let spec = inside.spec;
    let missing = || Error::Invalid("config.json is incomplete".into());
    let linux = spec.linux().as_ref().ok_or_else(missing)?;
    let process = spec.process().as_ref().ok_or_else(missing)?;
    sys::signal::reset();
    // What the creator's caller had open and did not mark must not reach the program.
    let beyond = first_of_ours(inside.manner.preserved)?;
    process::umask(0);
    // First of all, so that whatever is done on the container's behalf is counted as its own.
    inside.cgroup.join(&inside.sync)?;
    become_root_of_user_namespace(&inside)?;
    inside.files = match std::mem::replace(&mut inside.files, Files::Done) {
        Files::Later(sources) => files::prepare(sources, &inside.namespaces)?,
        ready => ready,
    };
    enter_namespaces(&inside, spec)?;
    // A session of its own before the terminal, and a keyring of its own: the caller's is not the container's.
    process::new_session().on("start", "a session")?;
    if !inside.manner.no_new_keyring {
        let name = CString::new(format!("_ses.{}", inside.id)).map_err(|_| missing())?;
        new_keyring(&name)?;
    }
    let console = build_root(&mut inside, linux, process)?;
    if let Some(personality) = linux.personality() {
        identity::set_personality(personality)?;
    }
    if let Some(policy) = linux.memory_policy() {
        scheduling::set_memory_policy(policy)?;
    }
    take_stdio(std::mem::replace(&mut inside.stdio, Stdio::Inherit), console, process)?;
    identity::own_null()?;
    let start_hooks = prepare_start_hooks(&inside)?;
    let filter = identity::assume(
        process,
        inside.filter.take(),
        &inside.proc,
        &inside.sync,
        inside.privilege,
        identity::Missing::Made,
    )?;
    // By now the program's path must not be able to lead through one of our descriptors (/proc/self/fd/N): they all go.
    let Inside { waiting, namespaces, files, devices, cgroup, proc, sync, .. } = inside;
    drop((namespaces, files, devices, cgroup, proc, sync));
    let inputs = start_hooks.iter().flat_map(Prepared::inputs);
    spawn::keep_below_and(beyond, [reporting.as_fd(), waiting.fd()].into_iter().chain(inputs));
    let program = Program::find(process)?;
    Ok((Ready { program, filter, start_hooks }, waiting))
}

/// What the hooks of the start read is prepared while nothing is forbidden yet.
fn prepare_start_hooks(inside: &Inside<'_>) -> Result<Option<Prepared>, Error> {
    let configured = inside.spec.hooks().as_ref().and_then(|h| h.start_container().clone());
    let annotations = inside.spec.annotations().as_ref();
    let state = hooks::state_json(inside.id, "created", process::id(), inside.bundle, annotations);
    configured.map(|hooks| Prepared::new(hooks, &state)).transpose()
}

/// Marks all descriptors but the standard streams and those that the caller wants the program to have; returns the number
/// behind them.
pub(crate) fn first_of_ours(preserved: u32) -> Result<u32, Error> {
    const FIRST: u32 = 3;
    let beyond = FIRST.saturating_add(preserved);
    process::close_on_exec_from(beyond).on("mark", "descriptors")?;
    let last = i32::try_from(beyond).unwrap_or(i32::MAX) - 1;
    process::keep_on_exec(FIRST as i32, last).on("keep", "descriptors")?;
    Ok(beyond)
}

/// A session keyring that is not the caller's.
pub(crate) fn new_keyring(name: &CString) -> Result<(), Error> {
    const ENOSYS: i32 = 38;
    match keyring::new_session(name) {
        // A kernel without keyrings has none to share either.
        Err(error) if error.raw_os_error() == Some(ENOSYS) => Ok(()),
        other => other.on("create", "a session keyring"),
    }
}

fn become_root_of_user_namespace(inside: &Inside<'_>) -> Result<(), Error> {
    let kinds = inside.namespaces.all();
    if kinds & namespace::USER == 0 {
        return Ok(());
    }
    if inside.namespaces.new & namespace::USER != 0 {
        // An ordinary user can write to our files in /proc only while they are his. Nobody else is in here yet.
        process::set_dumpable(!inside.privilege.mounts).on("show", "this process")?;
        wire::ask(&inside.sync, wire::NEEDS_MAPS, wire::HAS_MAPS)?;
        process::set_dumpable(false).on("hide", "this process")?;
    }
    identity::set_groups(&[], &inside.proc)?;
    process::set_group(0).on("become", "group 0 of the user namespace")?;
    process::set_user(0).on("become", "user 0 of the user namespace")?;
    // Changing user made it dumpable to others of that user.
    process::set_dumpable(false).on("hide", "this process")
}

fn enter_namespaces(inside: &Inside<'_>, spec: &Spec) -> Result<(), Error> {
    for joined in &inside.namespaces.joined {
        // These two were joined by whoever cloned us.
        if joined.kind & (namespace::USER | namespace::PID) == 0 {
            namespace::join(&joined.fd, joined.kind).on("join", &joined.path)?;
        }
    }
    let new = inside.namespaces.new;
    if new & namespace::CGROUP != 0 {
        namespace::unshare(namespace::CGROUP).on("unshare", "the cgroup namespace")?;
    }
    if new & namespace::TIME != 0 {
        enter_time_namespace(inside, spec)?;
    }
    if new & namespace::NETWORK != 0 {
        net::loopback_up().on("bring up", "the loopback device")?;
    }
    if !inside.devices.is_empty() {
        wire::ask(&inside.sync, wire::NEEDS_DEVICES, wire::HAS_DEVICES)?;
        netdevices::settle(&inside.devices)?;
    }
    if let Some(name) = spec.hostname().as_ref().filter(|n| !n.is_empty()) {
        namespace::set_host_name(name).on("set", "the host name")?;
    }
    if let Some(name) = spec.domainname().as_ref().filter(|n| !n.is_empty()) {
        namespace::set_domain_name(name).on("set", "the domain name")?;
    }
    Ok(())
}

/// A new time namespace is for the children of who makes it, so that its clocks can be set before anybody is in it; then we join it.
#[expect(clippy::disallowed_methods, reason = "the host's /proc, before the root is changed")]
fn enter_time_namespace(inside: &Inside<'_>, spec: &Spec) -> Result<(), Error> {
    const CHILDREN: &str = "/proc/self/ns/time_for_children";
    namespace::unshare(namespace::TIME).on("unshare", "the time namespace")?;
    let offsets = spec.linux().as_ref().and_then(|l| l.time_offsets().as_ref());
    if offsets.is_some_and(|offsets| !offsets.is_empty()) {
        process::set_dumpable(!inside.privilege.mounts).on("show", "this process")?;
        wire::ask(&inside.sync, wire::NEEDS_OFFSETS, wire::HAS_OFFSETS)?;
        process::set_dumpable(false).on("hide", "this process")?;
    }
    let own = std::fs::File::open(CHILDREN).on("open", CHILDREN)?;
    namespace::join(own, namespace::TIME).on("join", CHILDREN)
}

/// Mounts the container's root and all that belongs into it, and makes it the root of this process.
fn build_root(inside: &mut Inside<'_>, linux: &Linux, process: &Process) -> Result<Option<Console>, Error> {
    let spec = inside.spec;
    match std::mem::replace(&mut inside.files, Files::Done) {
        Files::Trees { root, path, mounts } => {
            let mut cover = attach_root(&root, &path, inside)?;
            let root = Root::from_fd(root);
            let mut closed_later = Vec::new();
            for prepared in mounts {
                closed_later.extend(mounts::attach(&root, prepared)?);
            }
            let console = furnish(inside, &root, linux, process, true)?;
            for filesystem in closed_later {
                let change = Change { set: mount::RDONLY, ..Change::default() };
                mount::change(&filesystem, false, change).on("make read-only", "a tmpfs")?;
            }
            for path in linux.readonly_paths().iter().flatten() {
                masks::make_read_only(&root, Path::new(path))?;
            }
            for path in linux.masked_paths().iter().flatten() {
                cover.hide(&root, Path::new(path))?;
            }
            change_root(&root, linux, spec, inside.manner)?;
            Ok(console)
        }
        Files::Directory(directory) => {
            let root = Root::from_fd(directory);
            let console = furnish(inside, &root, linux, process, false)?;
            process::change_dir_fd(&root).on("enter", "the root filesystem")?;
            process::change_root_here().on("change to", "the root filesystem")?;
            Ok(console)
        }
        Files::Later(_) | Files::Done => {
            Err(Error::Setup { text: "the root filesystem was not prepared".into() })
        }
    }
}

/// Mounts the root filesystem on itself, and returns what hides paths in it.
#[expect(clippy::disallowed_methods, reason = "the host's own mounts, before the root is changed")]
fn attach_root(root: &OwnedFd, path: &Path, inside: &Inside<'_>) -> Result<Cover, Error> {
    // Nothing mounted from here on is seen by the host.
    let slave = Change { propagation: Some(Propagation::Slave), ..Change::default() };
    mount::change_everything(slave).on("set the propagation of", "/")?;
    let cover = Cover::new()?;
    let place = match Root::open(path) {
        // Another's mount namespace need not have the directory.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Root::open("/").on("open", "/")?,
        other => other.on("open", path)?,
    };
    if inside.manner.no_pivot {
        // They would stay within reach below the new root, with all that the host's show.
        for path in ["/proc", "/sys"] {
            mount::detach(path).on("unmount", path)?;
        }
    }
    mount::attach(root, &place).on("mount", path)?;
    Ok(cover)
}

/// Devices, terminal, kernel parameters, and the hooks that see the container before its root is changed.
fn furnish(
    inside: &Inside<'_>,
    root: &Root,
    linux: &Linux,
    process: &Process,
    may_mount: bool,
) -> Result<Option<Console>, Error> {
    let user_namespace = inside.namespaces.all() & namespace::USER != 0 || !inside.privilege.is_initial;
    let configured = inside.spec.mounts().as_deref().unwrap_or_default();
    nodes::fill(root, configured, linux.devices().as_deref().unwrap_or_default(), user_namespace)?;
    let console = match &inside.stdio {
        Stdio::Console(socket) => {
            let console = Console::open(root, process, socket)?;
            if may_mount {
                console.bind(root)?;
            }
            Some(console)
        }
        Stdio::Inherit | Stdio::Fds(_) => None,
    };
    if let Some(parameters) = linux.sysctl() {
        sysctl::set(&inside.proc, parameters)?;
    }
    run_setup_hooks(inside)?;
    Ok(console)
}

/// The hooks before the root is changed: of the creator, and our own.
fn run_setup_hooks(inside: &Inside<'_>) -> Result<(), Error> {
    let Some(configured) = inside.spec.hooks() else { return Ok(()) };
    wire::ask(&inside.sync, wire::NEEDS_HOOKS, wire::HAD_HOOKS)?;
    let annotations = inside.spec.annotations().as_ref();
    let state = hooks::state_json(inside.id, "creating", process::id(), inside.bundle, annotations);
    hooks::run(configured.create_container().as_deref().unwrap_or_default(), "createContainer", &state)
}

#[expect(clippy::disallowed_methods, reason = "the root itself")]
fn change_root(root: &Root, linux: &Linux, spec: &Spec, manner: Manner) -> Result<(), Error> {
    process::change_dir_fd(root).on("enter", "the root filesystem")?;
    if manner.no_pivot {
        // On top of the host's root: whoever climbs up ends here again.
        let host = Root::open("/").on("open", "/")?;
        mount::attach(root, &host).on("move to /", "the root filesystem")?;
        process::change_root_here().on("change to", "the root filesystem")?;
    } else {
        mount::pivot_here().on("pivot to", "the root filesystem")?;
        // The old root now lies on top of the new one; taking it away leaves no way back.
        mount::detach_here().on("unmount", "the old root")?;
    }
    process::change_dir("/").on("enter", "/")?;
    if let Some(name) = linux.rootfs_propagation().as_ref().filter(|n| !n.is_empty()) {
        let (name, recursive) = match name.strip_prefix('r') {
            Some(rest) => (rest, true),
            None => (name.as_str(), false),
        };
        let propagation = mounts::propagation(name)
            .ok_or_else(|| Error::Invalid(format!("linux.rootfsPropagation {name:?}")))?;
        let change = Change { propagation: Some(propagation), ..Change::default() };
        mount::change(root, recursive, change).on("set the propagation of", "/")?;
    }
    if spec.root().as_ref().is_some_and(|r| r.readonly() == Some(true)) {
        let change = Change { set: mount::RDONLY, ..Change::default() };
        mount::change(root, false, change).on("make read-only", "/")?;
    }
    Ok(())
}

/// Makes the standard streams what they are to be.
pub(crate) fn take_stdio(stdio: Stdio, console: Option<Console>, process: &Process) -> Result<(), Error> {
    if let Some(console) = console {
        return console.take();
    }
    if let Stdio::Fds(streams) = stdio {
        identity::use_stdio(streams)?;
    }
    identity::own_stdio(process.user().uid())
}

impl Ready {
    /// For a process that has joined a container: it has its filter already, and there are no hooks for it.
    pub(crate) fn without_hooks(program: Program) -> Self {
        Self { program, filter: None, start_hooks: None }
    }
}

/// Waits for the word, and becomes the program; or tells whoever gave the word why not, and ends.
pub(crate) fn wait_and_execute(ready: Ready, waiting: Waiting) -> ! {
    let socket = match waiting {
        Waiting::Connected(socket) => socket,
        Waiting::Listening(listener) => match accept(&listener) {
            Ok(socket) => socket,
            Err(_) => process::exit(1),
        },
    };
    // Without the word there is nobody to start for: the container has been given up.
    if process::wait_ended(&socket, -1).is_err() || !matches!(wire::receive(&socket), Ok(Message::Step(_))) {
        process::exit(1);
    }
    let Err(error) = execute(ready, &socket);
    wire::send_failure(&socket, &error);
    process::exit(error.exit_code().into())
}

fn accept(listener: &OwnedFd) -> Result<OwnedFd, Error> {
    loop {
        process::wait_ended(listener, -1).on("wait at", "the start socket")?;
        if let Some(socket) = socket::accept(listener).on("accept at", "the start socket")? {
            return Ok(socket);
        }
    }
}

fn execute(ready: Ready, socket: &OwnedFd) -> Result<Infallible, Error> {
    // Before the hooks, as runc does it: what they execute is the container's, and no more is allowed to that than to its program.
    // What it takes to start a hook is left to the filter: `clone`, `pidfd_open`, and waiting for its end.
    if let Some(filter) = &ready.filter {
        filter.install(socket)?;
    }
    ready.start_hooks.map_or(Ok(()), |hooks| hooks.run("startContainer"))?;
    Err(ready.program.execute())
}
