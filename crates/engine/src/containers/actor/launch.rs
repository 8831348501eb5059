//! Starting a container: all that is needed is prepared in one go off the async threads, then the supervisor is started.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use shim::launch::{Launch, Log, Oom, Overlay, Rootfs, Upper};
use shim::wire::Stage;
use tokio::sync::OwnedMutexGuard;

use super::Actor;
use crate::blocking;
use crate::containers::create::refuse;
use crate::containers::record::{MountKind, Paths, Record};
use crate::containers::start::{self, Prepared};
use crate::containers::state::Input;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::logging::{self, Driver};
use crate::supervisor;

/// The exit code of a container that could not be started for a reason that is not its program.
const EXIT_NOT_STARTED: i32 = 128;
/// Docker keeps everything in one file by default; we keep this much, so that a chatty container cannot fill the disk.
const LOG_BYTES_MAX: u64 = 20 << 20;
const LOG_FILES_MAX: u32 = 5;

impl Actor {
    pub(super) async fn launch(&mut self) -> Input {
        if self.unswept {
            // The run that is about to begin has its own end to tell.
            self.unwritten = false;
            self.begin_sweep();
        }
        self.swept().await;
        // Whoever writes to its files while it does not run has to end.
        let starting = self.handle.starting();
        let launched = self.try_launch().await;
        drop(starting);
        match launched {
            Ok(pid) => Input::Launched { pid, at: Timestamp::now() },
            Err((code, error)) => {
                self.shim = None;
                self.events = None;
                self.handle.set_shim(None);
                self.attachers.clear();
                self.disconnected().await;
                Input::LaunchFailed { code, error }
            }
        }
    }

    async fn try_launch(&mut self) -> Result<i32, (i32, Error)> {
        self.record.begin_next();
        logging::reach(&self.record).await.map_err(|error| (EXIT_NOT_STARTED, error))?;
        let (context, record, paths) = (Arc::clone(&self.context), self.record.clone(), self.paths.clone());
        let turns = self.turns_of_volumes().await.map_err(|error| (EXIT_NOT_STARTED, error))?;
        let prepared = blocking::run("prepare a container's start", move || {
            start::prepare(&context, &record, &paths, start::Given::new())
        })
        .await
        .map_err(|error| (EXIT_NOT_STARTED, error))?;
        drop(turns);
        let Prepared { mounts, binds, bind_indexes, joined, lent, joins, sources } = prepared;
        for (mount, source) in self.record.mounts.iter_mut().zip(sources) {
            mount.point.source = source;
        }
        let (streams, sockets): (Vec<_>, Vec<_>) = self.attachers.drain(..).unzip();
        let launch = Launch {
            attach: streams,
            binds: bind_indexes,
            ..describe(&self.context, &self.record, &self.paths, &mounts)
                .map_err(|error| (EXIT_NOT_STARTED, error))?
        };
        let launched = self.context.sealed.spawn(launch, binds, sockets).await.map_err(refused)?;
        drop(joins);
        if let Some(lent) = lent {
            self.record.config = lent.name(&self.record).config;
        }
        self.record.places = joined.map(|joined| joined.places).unwrap_or_default();
        self.context.networks.tell_endpoints(&self.record.id, &self.record.places.endpoints, "connect");
        self.named(i32::try_from(launched.pid).unwrap_or_default()).await;
        self.relinked().await;
        self.handle.set_shim(Some(launched.shim.clone()));
        self.shim = Some(launched.shim);
        self.events = Some(launched.events);
        self.oom = false;
        self.begin_health();
        self.tell_mounts();
        self.ship();
        Ok(i32::try_from(launched.pid).unwrap_or_default())
    }
}

impl Actor {
    /// Waits until its volumes can be made ready.
    async fn turns_of_volumes(&self) -> Result<Vec<OwnedMutexGuard<()>>> {
        let volumes =
            self.record.mounts.iter().filter(|mount| matches!(mount.kind, MountKind::Volume { .. }));
        self.context.volumes.turns_to_start(volumes.map(|mount| mount.point.name.clone()).collect()).await
    }

    /// Ships the log of a run, after what is still on its way of those before.
    pub(super) fn ship(&mut self) {
        let before = self.shipping.take();
        self.shipping = logging::start(&self.context, &self.record, self.handle.ended(), before);
    }
}

/// What the supervisor is told.
pub(crate) fn describe(
    context: &Context,
    record: &Record,
    paths: &Paths,
    mounts: &storage::Mounts,
) -> Result<Launch> {
    let text = |path: &std::path::Path| {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| Error::system(format!("{} is not UTF-8: a data root must be", path.display())))
    };
    let upper = match (&mounts.upper, &mounts.work) {
        (Some(dir), Some(work)) => Some(Upper { dir: text(dir)?, work: text(work)? }),
        _ => None,
    };
    let lower = mounts.lower_paths().iter().map(|path| text(path)).collect::<Result<_>>()?;
    let size = match record.host.console_size {
        [height, width] if record.config.tty && height > 0 && width > 0 => {
            Some(crate::execs::size(height, width)?)
        }
        _ => None,
    };
    Ok(Launch {
        id: record.id.clone(),
        dir: text(&paths.run)?,
        rootfs: Rootfs::Overlay(Overlay { lower, upper, options: overlay_options(record) }),
        log: log(context, record, paths)?,
        tty: record.config.tty,
        open_stdin: record.config.open_stdin,
        stdin_once: record.config.stdin_once,
        size,
        start_now: true,
        oom: oom(context, record),
        ..Launch::default()
    })
}

/// What SELinux calls the files; and what is written in a container that is removed at its end need not survive a loss of
/// power. Otherwise every end of a container would wait until all of the disk under the data root is written back.
pub(crate) fn overlay_options(record: &Record) -> Vec<String> {
    let volatile = record.host.auto_remove.then(|| shim::launch::VOLATILE.to_owned());
    let label = &record.labels.mount;
    let context = (!label.is_empty()).then(|| format!("context={label}"));
    volatile.into_iter().chain(context).collect()
}

fn log(context: &Context, record: &Record, paths: &Paths) -> Result<Option<Log>> {
    let config = &record.host.log_config;
    let driver = Driver::parse(&config.driver)?;
    if driver == Driver::None {
        return Ok(None);
    }
    // What is shipped is kept as well, for `logs` and for a receiver that is away.
    let option = |key: &str| {
        let key = if driver.ships() { format!("cache-{key}") } else { key.to_owned() };
        config.config.get(&key)
    };
    // As Docker's drivers count.
    let size = if driver == Driver::JsonFile { refuse::decimal_size } else { refuse::size };
    let path = paths.log();
    let path = path.to_str().ok_or_else(|| Error::system("the path of the log is not UTF-8"))?;
    let attributes = logging::attributes(record, &context.host.name)?;
    Ok(Some(Log {
        path: path.to_owned(),
        max_size: option("max-size").and_then(|text| size(text)).unwrap_or(LOG_BYTES_MAX),
        max_files: option("max-file").and_then(|text| text.trim().parse().ok()).unwrap_or(LOG_FILES_MAX),
        attrs: written(&attributes)?,
        buffer: buffer(config),
        compress: logging::compressed(config),
    }))
}

/// How much of the output may wait for the log, where the container does not: Docker's megabyte unless something else is said.
fn buffer(config: &api::container::LogConfig) -> u64 {
    if config.config.get("mode").is_none_or(|mode| mode != "non-blocking") {
        return 0;
    }
    let given = config.config.get("max-buffer-size").and_then(|text| refuse::size(text));
    given.filter(|bytes| *bytes > 0).unwrap_or(1 << 20)
}

/// The attributes as the supervisor repeats them.
fn written(attributes: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    if attributes.is_empty() {
        return Ok(Vec::new());
    }
    let json = serde_json::to_vec(attributes)
        .map_err(|e| Error::system("cannot write a log's attributes").with_source(e))?;
    if json.len() > shim::launch::MAX_ATTRS {
        return Err(Error::invalid("the labels and variables that the log is to carry are too large"));
    }
    Ok(json)
}

/// Where the kernel counts its kills for want of memory in the container.
fn oom(context: &Context, record: &Record) -> Oom {
    let group = context.cgroup(record);
    let group = group.strip_prefix("/").unwrap_or(&group);
    let below = |root: &str| std::path::Path::new(root).join(group).to_string_lossy().into_owned();
    match context.host.cgroup_version {
        2 => Oom::V2(below("/sys/fs/cgroup")),
        _ if context.host.can("memory") => Oom::V1(below("/sys/fs/cgroup/memory")),
        _ => Oom::Unknown,
    }
}

/// Why a container could not be started, with its exit code, in the words that scripts match on.
pub(crate) fn refused(error: supervisor::Error) -> (i32, Error) {
    let text = |inner: &str| {
        format!(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: {inner}: unknown"
        )
    };
    match error {
        supervisor::Error::Failed(failure) if failure.stage == Stage::Exec => {
            let inner = format!(
                "runc create failed: unable to start container process: error during container init: {}",
                failure.text
            );
            (i32::from(failure.code), Error::invalid(text(&inner)))
        }
        supervisor::Error::Failed(failure) => (EXIT_NOT_STARTED, Error::system(text(&failure.text))),
        supervisor::Error::Gone => {
            (EXIT_NOT_STARTED, Error::system("the container's supervisor ended before the container began"))
        }
        other => {
            let line = other.to_string();
            (EXIT_NOT_STARTED, Error::system(line).with_source(other))
        }
    }
}
