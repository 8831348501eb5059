//! Making a container: everything up to a process that waits to execute the user's program.
//!
//! The caller is the *creator*: a single-threaded process that may go away afterwards. It opens what belongs to the host, clones
//! init into the new namespaces, and serves it while it sets itself up (see [`crate::wire`] for their conversation).

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use oci::runtime::{Linux, Spec};
use sys::namespace;
use sys::proc::Proc;
use sys::process::{self, Child, Clone, Cloned};
use sys::socket;

use crate::cgroup::{Cgroup, Driver, Order};
use crate::config;
use crate::error::{Context as _, Error};
use crate::files::{self, Files, Sources};
use crate::identity::Filter;
use crate::inside::{self, Inside, Waiting};
use crate::namespaces::Namespaces;
use crate::netdevices;
use crate::privilege::Privilege;
use crate::serve::Server;
use crate::state;
use crate::sysctl;
use crate::wire;

/// A container to make.
#[derive(Debug)]
pub struct Create<'a> {
    /// Its name.
    pub id: &'a str,
    /// Where its state is recorded; exists, and nobody else can look into it.
    pub state_dir: &'a Path,
    /// A lock of the caller's, of which the container's init must not keep a copy.
    pub lock: Option<BorrowedFd<'a>>,
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
    /// What the configuration has no word for.
    pub manner: Manner,
}

/// How a container is made, by the options of the command line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// So many of the caller's descriptors, from number 3 on, stay open for the program.
    pub preserved: u32,
    /// The root is not changed by `pivot_root(2)` but by `chroot(2)`, for a host whose own root is a ramfs: whoever is root
    /// inside, with the right to do the same, can get out.
    pub no_pivot: bool,
    /// The session keyring stays the caller's.
    pub no_new_keyring: bool,
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
    let order = Order::new(c.id, c.spec, c.cgroups);
    let mut cgroup = Cgroup::create(&order, state_dir)?;
    let created = create_in(c, &order, linux, &mut cgroup, namespaces, filter);
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
    order: &Order<'_>,
    linux: &Linux,
    cgroup: &mut Cgroup,
    namespaces: Namespaces,
    filter: Option<Filter>,
) -> Result<Created, Error> {
    let proc = Proc::open().on("open", "/proc")?;
    let privilege = Privilege::of_caller(&proc)?;
    let kinds = namespaces.all();
    if !privilege.mounts && kinds & namespace::USER == 0 {
        return Err(Error::Invalid("rootless container requires user namespaces".into()));
    }
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
    let sources =
        Sources { bundle: c.bundle, spec: c.spec, linux, given: c.bind_sources, cgroups: cgroup.views() };
    // An ordinary user can mount nothing here, and init does it all.
    let files = if privilege.mounts { files::prepare(sources, &namespaces)? } else { Files::Later(sources) };
    let devices = netdevices::find(linux.net_devices().as_ref())?;
    // From here on nobody in the container can look into this process or its children, whatever /proc it has.
    process::set_dumpable(false).on("hide", "this process")?;
    let own_pid_namespace =
        namespaces.joined(namespace::PID).map(|_| std::fs::File::open("/proc/self/ns/pid"));
    let inside = Inside {
        id: c.id,
        bundle: c.bundle,
        spec: c.spec,
        manner: c.manner,
        privilege,
        namespaces,
        files,
        devices,
        cgroup: cgroup.entry()?,
        proc,
        filter,
        stdio: c.stdio,
        sync: theirs,
        creators_end: Some(ours),
        lock: c.lock,
        waiting,
    };
    let (child, inside) = spawn(inside)?;
    let Inside { proc, sync, creators_end, devices, cgroup: entry, .. } = inside;
    // Its other end must be held by init alone, or its death would not be noticed.
    drop(sync);
    if let Some(own) = own_pid_namespace {
        let own = own.on("open", "/proc/self/ns/pid")?;
        namespace::join(own, namespace::PID).on("return to", "the PID namespace")?;
    }
    let ours = creators_end.ok_or_else(|| Error::Setup { text: "the creator's socket is gone".into() })?;
    if let Err(error) = entry.admit(&child, &ours) {
        let _ = sys::signal::send(&child.pidfd, 9);
        let _ = process::wait(&child.pidfd);
        return Err(error);
    }
    let mut server = Server {
        id: c.id,
        state_dir: c.state_dir,
        bundle: c.bundle,
        spec: c.spec,
        cgroup,
        privilege,
        namespaces: kinds,
        devices: &devices,
        proc: &proc,
        child: &child,
    };
    server.serve(&ours, order)?;
    Ok(Created { pid: child.pid, pidfd: child.pidfd })
}

/// Clones init. The child does not return from here.
fn spawn(mut inside: Inside<'_>) -> Result<(Child, Inside<'_>), Error> {
    // The cgroup namespace comes once init is in its cgroup, or it would show where that lies; the time namespace
    // once it has its offsets, which nobody can change who is in it.
    let new = inside.namespaces.new & !(namespace::CGROUP | namespace::TIME);
    if inside.namespaces.joined(namespace::USER).is_some() {
        return spawn_in_user_namespace(inside, new);
    }
    if let Some(joined) = inside.namespaces.joined(namespace::PID) {
        namespace::join(&joined.fd, namespace::PID).on("join", &joined.path)?;
    }
    let cloned = inside.cgroup.clone(new | process::CLONE_CLEAR_SIGHAND);
    match cloned.on("clone", "the container's init")? {
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
    for kind in [namespace::USER, namespace::PID] {
        if let Some(joined) = inside.namespaces.joined(kind) {
            namespace::join(&joined.fd, kind).on("join", &joined.path)?;
        }
    }
    Ok(())
}
