//! `create`, `start` and `run`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::runtime::Spec;
use sys::process::Child;
use sys::signal::{self, SignalFd};
use sys::socket;

use super::arguments::{Arguments, Flag};
use super::directory::{Directory, Held};
use super::inherited::Inherited;
use super::{Global, relay, sealed, write_pid_file};
use crate::config;
use crate::create::{self, Create, Created, Gate, Manner, Stdio};
use crate::error::{Context as _, Error};
use crate::lifecycle::Container;
use crate::start::{open_gate, started};

pub(super) const FLAGS: &[Flag] = &[
    Flag::value("bundle").short('b'),
    Flag::value("console-socket"),
    Flag::value("pid-file"),
    Flag::value("preserve-fds"),
    Flag::switch("no-pivot"),
    Flag::switch("no-new-keyring"),
    Flag::switch("no-subreaper"),
    Flag::switch("detach").short('d'),
    Flag::switch("keep"),
];

/// What `create` and `run` were asked for.
struct Order {
    id: String,
    bundle: PathBuf,
    spec: Spec,
    console_socket: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    detach: bool,
    keep: bool,
    manner: Manner,
}

impl Order {
    fn parse(arguments: Vec<String>) -> Result<Self, Error> {
        let mut options = Arguments::parse(arguments, FLAGS)?;
        let inherited = Inherited::of_caller(options.value("preserve-fds").as_deref())?;
        let manner = Manner {
            preserved: inherited.count,
            no_pivot: options.take("no-pivot"),
            no_new_keyring: options.take("no-new-keyring"),
        };
        let bundle = options.value("bundle").map_or_else(|| PathBuf::from("."), PathBuf::from);
        let bundle = std::fs::canonicalize(&bundle).on("find", &bundle)?;
        let mut spec = config::load(&bundle)?;
        if let Some(process) = spec.process_mut() {
            inherited.announce(process);
        }
        Ok(Self {
            spec,
            bundle,
            manner,
            console_socket: options.value("console-socket").map(PathBuf::from),
            pid_file: options.value("pid-file").map(PathBuf::from),
            detach: options.take("detach"),
            keep: options.take("keep"),
            id: options.only("container id")?,
        })
    }

    fn has_terminal(&self) -> bool {
        self.spec.process().as_ref().is_some_and(|p| p.terminal() == Some(true))
    }

    /// Makes the container in a new directory, of which nothing is left on failure.
    fn create(&self, global: &Global, stdio: Stdio, gate: Gate) -> Result<(Directory, Created), Error> {
        let directory = Directory::make(global, &self.id)?;
        let held = directory.claim(&self.id)?;
        let order = Create {
            id: &self.id,
            state_dir: held.path(),
            lock: Some(held.lock()),
            bundle: &self.bundle,
            spec: &self.spec,
            stdio,
            bind_sources: Vec::new(),
            gate,
            cgroups: global.cgroups,
            manner: self.manner,
        };
        let created = match create::create(order) {
            Ok(created) => created,
            Err(error) => {
                // The first error is the one that explains; what is in the way is found again by whoever deletes.
                let _ = held.remove();
                return Err(error);
            }
        };
        match write_pid_file(self.pid_file.as_deref(), created.pid) {
            Ok(()) => {
                drop(held);
                Ok((directory, created))
            }
            // Whoever does not learn its number could not look after it.
            Err(error) => {
                end(&created)?;
                delete_whole(global, &self.id, held).and(Err(error))
            }
        }
    }
}

/// Connects to the socket at which the caller waits for a terminal.
pub(super) fn console(path: Option<&Path>, terminal: bool) -> Result<Option<OwnedFd>, Error> {
    match (path, terminal) {
        (None, false) => Ok(None),
        (None, true) => Err(Error::Invalid(
            "cannot allocate tty if runtime will detach without setting console socket".into(),
        )),
        (Some(_), false) => {
            Err(Error::Invalid("cannot use console socket if runtime will not detach or allocate tty".into()))
        }
        (Some(path), true) => {
            let absolute = std::path::absolute(path).on("find", path)?;
            let (parent, name) = (absolute.parent(), absolute.file_name().and_then(|n| n.to_str()));
            let (Some(parent), Some(name)) = (parent, name) else {
                return Err(Error::Invalid(format!("console socket {path:?}")));
            };
            socket::connect(parent, name).on("connect to", path).map(Some)
        }
    }
}

pub(super) fn create(global: &Global, arguments: Vec<String>) -> Result<i32, Error> {
    sealed::ensure(global)?;
    let order = Order::parse(arguments)?;
    let socket = console(order.console_socket.as_deref(), order.has_terminal())?;
    let stdio = socket.map_or(Stdio::Inherit, Stdio::Console);
    order.create(global, stdio, Gate::Listen).map(|_| 0)
}

pub(super) fn start(global: &Global, arguments: Vec<String>) -> Result<i32, Error> {
    let id = Arguments::parse(arguments, &[])?.only("container id")?;
    crate::start(&id, &global.state_dir(&id)?).map(|()| 0)
}

pub(super) fn run(global: &Global, arguments: Vec<String>) -> Result<i32, Error> {
    sealed::ensure(global)?;
    let order = Order::parse(arguments)?;
    let (ours, theirs) = socket::packet_pair().on("create", "a socket")?;
    let gate = Gate::Socket(theirs);
    if order.detach {
        let socket = console(order.console_socket.as_deref(), order.has_terminal())?;
        let stdio = socket.map_or(Stdio::Inherit, Stdio::Console);
        let (directory, created) = order.create(global, stdio, gate)?;
        return match open(&ours, &order.id, directory.path()) {
            Ok(()) => Ok(0),
            Err(error) => give_up(global, &order, &directory, &created).and(Err(error)),
        };
    }
    if order.console_socket.is_some() {
        return console(order.console_socket.as_deref(), false).map(|_| 0);
    }
    // Before there is anything to signal, so that no signal ends us and leaves the container behind.
    let signals = SignalFd::block(&all_signals()).on("block", "signals")?;
    let (stdio, receiver) = stdio(order.has_terminal())?;
    let (directory, created) = order.create(global, stdio, gate)?;
    let relay = match receiver.map(|socket| relay::Relay::receive(&socket)).transpose() {
        Ok(relay) => relay,
        Err(error) => return give_up(global, &order, &directory, &created).and(Err(error)),
    };
    if let Err(error) = open(&ours, &order.id, directory.path()) {
        return give_up(global, &order, &directory, &created).and(Err(error));
    }
    let child = Child { pid: created.pid, pidfd: created.pidfd };
    let code = relay::attend(&child, &signals, relay)?;
    if !order.keep {
        delete(global, &order.id, &directory)?;
    }
    Ok(code)
}

/// Opens the gate, and does what is due once a container has been started.
fn open(gate: &OwnedFd, id: &str, state_dir: &Path) -> Result<(), Error> {
    let container = Container::open(id, state_dir)?;
    open_gate(gate)?;
    started(&container)
}

/// The streams for a process that we attend, and the socket at which its terminal arrives.
pub(super) fn stdio(terminal: bool) -> Result<(Stdio, Option<OwnedFd>), Error> {
    if !terminal {
        return Ok((Stdio::Inherit, None));
    }
    let (ours, theirs) = socket::stream_pair().on("create", "a socket")?;
    Ok((Stdio::Console(theirs), Some(ours)))
}

pub(super) fn all_signals() -> Vec<i32> {
    const LIBRARY: [i32; 2] = [32, 33];
    (1..=signal::MAX).filter(|s| !LIBRARY.contains(s)).collect()
}

/// Takes away a container that could not be started.
fn give_up(global: &Global, order: &Order, directory: &Directory, created: &Created) -> Result<(), Error> {
    end(created)?;
    delete(global, &order.id, directory)
}

fn end(created: &Created) -> Result<(), Error> {
    let _ = signal::send(created.pidfd.as_fd(), 9);
    sys::process::wait(&created.pidfd).on("wait for", "the container's init").map(drop)
}

/// Deletes the container that was made in `directory`, unless somebody else was quicker.
pub(super) fn delete(global: &Global, id: &str, directory: &Directory) -> Result<(), Error> {
    directory.hold()?.map_or(Ok(()), |held| delete_whole(global, id, held))
}

fn delete_whole(global: &Global, id: &str, held: Held<'_>) -> Result<(), Error> {
    delete_held(global, &Container::open(id, held.path())?, true, held)
}

/// Deletes the container that is recorded here.
pub(super) fn delete_held(
    global: &Global,
    container: &Container,
    force: bool,
    held: Held<'_>,
) -> Result<(), Error> {
    let failed = container.delete(held.path(), force)?;
    failed.iter().for_each(|error| super::warn(global, error));
    held.remove()
}
