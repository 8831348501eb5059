//! `checkpoint` and `restore`.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use oci::runtime::Spec;
use sys::signal::SignalFd;
use sys::socket;

use super::arguments::{Arguments, Flag};
use super::directory::Directory;
use super::run::{all_signals, console, delete};
use super::{Global, relay, sealed, write_pid_file};
use crate::checkpoint::{self, CgroupsMode, Checkpoint, Options, Restore, Restored};
use crate::config;
use crate::console::PTMX;
use crate::error::{Context as _, Error};
use crate::lifecycle::Container;

/// Where images are unless it is said, in the working directory: as with runc.
const IMAGES: &str = "checkpoint";

pub(super) const CHECKPOINT_FLAGS: &[Flag] = &[
    Flag::value("image-path"),
    Flag::value("work-path"),
    Flag::value("parent-path"),
    Flag::switch("leave-running"),
    Flag::switch("tcp-established"),
    Flag::switch("tcp-skip-in-flight"),
    Flag::switch("ext-unix-sk"),
    Flag::switch("shell-job"),
    Flag::switch("file-locks"),
    Flag::switch("pre-dump"),
    Flag::value("manage-cgroups-mode"),
    Flag::switch("auto-dedup"),
    Flag::value("empty-ns"),
    // Refused by their names.
    Flag::value("page-server"),
    Flag::switch("lazy-pages"),
    Flag::value("status-fd"),
];

pub(super) const RESTORE_FLAGS: &[Flag] = &[
    Flag::value("bundle").short('b'),
    Flag::value("image-path"),
    Flag::value("work-path"),
    Flag::switch("tcp-established"),
    Flag::switch("ext-unix-sk"),
    Flag::switch("shell-job"),
    Flag::switch("file-locks"),
    Flag::value("manage-cgroups-mode"),
    Flag::value("pid-file"),
    Flag::value("console-socket"),
    Flag::switch("detach").short('d'),
    Flag::switch("no-subreaper"),
    Flag::value("empty-ns"),
    Flag::switch("auto-dedup"),
    Flag::value("lsm-profile"),
    // Refused by their names.
    Flag::switch("no-pivot"),
    Flag::switch("lazy-pages"),
    Flag::value("lsm-mount-context"),
];

/// What runc has and this runtime has not.
const REFUSED: [(&str, &str); 5] = [
    ("page-server", "memory can be written to a directory only"),
    ("lazy-pages", "all memory is restored at once"),
    ("status-fd", "it is for --lazy-pages"),
    ("no-pivot", "criu changes the root in its own way"),
    ("lsm-mount-context", "mounts keep their labels"),
];

/// Refuses by their names the options that are not carried out.
fn refuse(options: &mut Arguments) -> Result<(), Error> {
    for (name, why) in REFUSED {
        if options.take(name) {
            return Err(Error::Unsupported(format!("--{name} ({why})")));
        }
    }
    Ok(())
}

/// What both commands have.
fn common(options: &mut Arguments) -> Result<Options, Error> {
    let empty = options.values("empty-ns");
    if let Some(other) = empty.iter().find(|name| *name != "network") {
        return Err(Error::Invalid(format!("--empty-ns: namespace {other:?} cannot be left empty")));
    }
    Ok(Options {
        tcp_established: options.take("tcp-established"),
        ext_unix_sk: options.take("ext-unix-sk"),
        shell_job: options.take("shell-job"),
        file_locks: options.take("file-locks"),
        auto_dedup: options.take("auto-dedup"),
        empty_network: !empty.is_empty(),
        cgroups: match options.value("manage-cgroups-mode") {
            Some(name) => CgroupsMode::parse(&name)?,
            None => CgroupsMode::default(),
        },
    })
}

/// The directories for images and for criu's log.
fn directories(options: &Arguments) -> Result<(PathBuf, PathBuf), Error> {
    let images = options.value("image-path").unwrap_or_else(|| IMAGES.to_owned());
    let images = std::path::absolute(&images).on("find", &images)?;
    let work = match options.value("work-path") {
        Some(work) => std::path::absolute(&work).on("find", &work)?,
        None => images.clone(),
    };
    Ok((images, work))
}

pub(super) fn checkpoint(global: &Global, arguments: Vec<String>) -> Result<i32, Error> {
    sealed::ensure(global)?;
    let mut options = Arguments::parse(arguments, CHECKPOINT_FLAGS)?;
    refuse(&mut options)?;
    let common = common(&mut options)?;
    let (images, work) = directories(&options)?;
    let parent = options.value("parent-path").map(PathBuf::from);
    if let Some(parent) = parent.as_deref().filter(|parent| parent.is_absolute()) {
        let parent = parent.display();
        return Err(Error::Invalid(format!("--parent-path: {parent} is not relative to the image path")));
    }
    let order = Checkpoint {
        images: &images,
        work: &work,
        parent,
        leave_running: options.take("leave-running"),
        pre_dump: options.take("pre-dump"),
        tcp_skip_in_flight: options.take("tcp-skip-in-flight"),
        options: common,
    };
    let id = options.only("container id")?;
    let container = Container::open(&id, &global.state_dir(&id)?)?;
    checkpoint::checkpoint(&container, &order).map(|()| 0)
}

/// What `restore` was asked for.
struct Order {
    id: String,
    bundle: PathBuf,
    spec: Spec,
    images: PathBuf,
    work: PathBuf,
    console_socket: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    detach: bool,
    lsm_profile: Option<String>,
    options: Options,
}

impl Order {
    fn parse(arguments: Vec<String>) -> Result<Self, Error> {
        let mut options = Arguments::parse(arguments, RESTORE_FLAGS)?;
        refuse(&mut options)?;
        let common = common(&mut options)?;
        let (images, work) = directories(&options)?;
        let bundle = options.value("bundle").map_or_else(|| PathBuf::from("."), PathBuf::from);
        let bundle = std::fs::canonicalize(&bundle).on("find", &bundle)?;
        Ok(Self {
            spec: config::load(&bundle)?,
            bundle,
            images,
            work,
            console_socket: options.value("console-socket").map(PathBuf::from),
            pid_file: options.value("pid-file").map(PathBuf::from),
            detach: options.take("detach"),
            lsm_profile: options.value("lsm-profile"),
            options: common,
            id: options.only("container id")?,
        })
    }

    /// Makes the container again in a new directory, of which nothing is left on failure.
    fn restore(&self, global: &Global) -> Result<(Directory, Restored), Error> {
        let directory = Directory::make(global, &self.id)?;
        let held = directory.claim(&self.id)?;
        let restored = checkpoint::restore(&Restore {
            id: &self.id,
            state_dir: held.path(),
            bundle: &self.bundle,
            spec: &self.spec,
            images: &self.images,
            work: &self.work,
            cgroups: global.cgroups,
            lsm_profile: self.lsm_profile.clone(),
            options: self.options.clone(),
        });
        match restored {
            Ok(restored) => {
                drop(held);
                Ok((directory, restored))
            }
            Err(error) => {
                // The first error is the one that explains; what is in the way is found again by whoever deletes.
                let _ = held.remove();
                Err(error)
            }
        }
    }
}

pub(super) fn restore(global: &Global, arguments: Vec<String>) -> Result<i32, Error> {
    sealed::ensure(global)?;
    let order = Order::parse(arguments)?;
    // A terminal of the host's is not made again.
    let terminal = order.spec.process().as_ref().is_some_and(|p| p.terminal() == Some(true));
    let terminal = terminal && !order.options.shell_job;
    let receiver = if order.detach || order.console_socket.is_some() {
        console(order.console_socket.as_deref(), terminal)?
    } else {
        None
    };
    // Before there is anything to signal, so that no signal ends us and leaves the container behind.
    let signals = SignalFd::block(&all_signals()).on("block", "signals")?;
    let (directory, restored) = order.restore(global)?;
    let Restored { child, terminal: master } = restored;
    let ready =
        write_pid_file(order.pid_file.as_deref(), child.pid).and_then(|()| match (&receiver, master) {
            (Some(socket), Some(master)) => hand_out(socket, &master).map(|()| None),
            (None, Some(master)) if !order.detach => relay::Relay::of(master).map(Some),
            _ => Ok(None),
        });
    let relay = match ready {
        Ok(relay) => relay,
        Err(error) => {
            let _ = sys::signal::send(&child.pidfd, 9);
            sys::process::wait(&child.pidfd).on("wait for", "the container's first process")?;
            delete(global, &order.id, &directory)?;
            return Err(error);
        }
    };
    if order.detach {
        return Ok(0);
    }
    let code = relay::attend(&child, &signals, relay)?;
    delete(global, &order.id, &directory)?;
    Ok(code)
}

/// Sends the terminal to whoever waits for it.
fn hand_out(socket: &OwnedFd, master: &OwnedFd) -> Result<(), Error> {
    socket::send_fds(socket, PTMX.as_bytes(), &[master.as_fd()]).on("send", "the terminal").map(drop)
}
