//! `RUN`: a command in a container that nobody sees, confined as all are, on top of the layers so far.
//!
//! Its runtime directory is that of a container without a record: a daemon that dies over it leaves what the next one removes when it
//! starts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use api::container::{Config, HostConfig, LogConfig, MountPoint};
use build::graph::Exec;
use build::progress::{LOG_BYTES_MAX, Stream};
use build::request::{Network, Request, SharedSources};
use jiff::Timestamp;
use shim::wire::Streams;
use storage::{ImageLayer, Lease};
use sys::lock::Lock;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::Failed;
use super::agent::Agents;
use super::mounts;
use super::tell::Voice;
use crate::containers::actor::launch;
use crate::containers::record::{ImageRef, Record};
use crate::containers::state::Life;
use crate::containers::{create, runtimes, start};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::networks::Places;
use crate::selinux::Labels;
use crate::supervisor::{Event, Events, Launched};
use crate::{blocking, converge, names};

/// The name of the machine that commands see: the same each time, so that it does not decide what comes of them.
const HOSTNAME: &str = "buildkitsandbox";
/// Where it finds itself without a network.
const LOOPBACK: &str = "127.0.0.1";
/// The argument that calls it otherwise.
const HOSTNAME_ARGUMENT: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// What steps are told their host is called.
pub(super) fn hostname(request: &Request) -> &str {
    request.arguments.get(HOSTNAME_ARGUMENT).filter(|name| !name.is_empty()).unwrap_or(HOSTNAME)
}

/// The head of a frame of output: which stream, three zeros, and how much.
const HEAD: usize = 8;

/// What is run, and on what.
pub(super) struct Command<'a> {
    pub context: &'a Arc<Context>,
    pub request: &'a Request,
    pub exec: &'a Exec,
    /// The layers below, the lowest first.
    pub layers: &'a [ImageLayer],
    pub lease: &'a Arc<Lease>,
    pub mounts: Vec<mounts::Wanted>,
    pub sources: &'a SharedSources,
    pub voice: &'a Voice,
    pub held: Arc<Held>,
}

/// What a step has for itself until its command is dead, also where nobody waits for it any more.
#[derive(Debug, Default)]
pub(super) struct Held {
    _gates: Vec<OwnedMutexGuard<()>>,
    /// Directories of caches that nobody removes meanwhile.
    used: std::sync::Mutex<Vec<Lock>>,
}

impl Held {
    /// Holds these.
    pub fn new(gates: Vec<OwnedMutexGuard<()>>) -> Self {
        Self { _gates: gates, ..Self::default() }
    }

    /// Holds a cache as well.
    pub fn hold(&self, lock: Lock) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
    }
}

/// A container that goes when this does, whatever has become of it.
struct Sandbox {
    context: Arc<Context>,
    record: Record,
    /// Held while it is being made, which nobody interrupts: what is half there cannot be cleared away.
    making: Arc<Mutex<()>>,
    held: Arc<Held>,
    swept: bool,
}

impl Sandbox {
    /// Removes all that the command left beside its files.
    async fn sweep(mut self) -> Result<()> {
        self.swept = true;
        let (context, record) = (Arc::clone(&self.context), self.record.clone());
        let held = Arc::clone(&self.held);
        blocking::run("clear up after a step", move || {
            let cleared = clear(&context, &record);
            drop(held);
            cleared
        })
        .await
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.swept {
            return;
        }
        // The build was given up: its command ends now.
        let (context, record) = (Arc::clone(&self.context), self.record.clone());
        let (making, held) = (Arc::clone(&self.making), Arc::clone(&self.held));
        self.context.tasks.spawn(async move {
            let _made = making.lock().await;
            let id = record.id.clone();
            let cleared = blocking::run("end a step", move || {
                clear(&context, &record)?;
                context.store.empty_snapshot(&record.id)?;
                Ok(context.store.remove_snapshot(&record.id)?)
            });
            if let Err(error) = cleared.await {
                tracing::warn!(id, error = error.chain(), "something is left of a step of a build");
            }
            drop(held);
        });
    }
}

fn clear(context: &Context, record: &Record) -> Result<()> {
    let paths = context.paths(&record.id);
    let swept = converge::sweep(&paths, &context.cgroup(record));
    if !record.attachments.is_empty() {
        context.networks.leave(&record.id);
    }
    match std::fs::remove_dir_all(&paths.state) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove", &paths.state, error));
        }
        _ => {}
    }
    swept
}

/// What it takes to start a command, for a task that goes on whether or not somebody still waits for it.
struct Start {
    context: Arc<Context>,
    lease: Arc<Lease>,
    layers: Vec<ImageLayer>,
    record: Record,
    wanted: Vec<mounts::Wanted>,
    script: Option<String>,
    sources: SharedSources,
    output: UnixStream,
    held: Arc<Held>,
}

/// A command that runs.
struct Started {
    mounts: mounts::Prepared,
    agents: Agents,
    launched: Launched,
}

impl Start {
    async fn run(self) -> Result<Started, Failed> {
        let Self { context, lease, layers, mut record, wanted, script, sources, output, held } = self;
        let (shared, paths) = (Arc::clone(&context), context.paths(&record.id));
        let (prepared, mut mounts, record) = blocking::run("prepare a step", move || {
            let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
            shared.store.restore_layers(&layers)?;
            shared.store.create_snapshot(&record.id, &diff_ids, &lease)?;
            let script = script.as_deref();
            let mut mounts = mounts::prepare(&shared, (&lease, &held), &mut record, &paths, wanted, script)?;
            let secrets = std::mem::take(&mut mounts.secrets);
            let prepared = start::prepare(&shared, &record, &paths, secrets)?;
            Ok((prepared, mounts, record))
        })
        .await?;
        let mut agents = Agents::default();
        for socket in std::mem::take(&mut mounts.sockets) {
            agents.serve(socket, &sources)?;
        }
        let start::Prepared { mounts: files, binds, bind_indexes, joined, lent, joins, .. } = prepared;
        let described = launch::describe(&context, &record, &context.paths(&record.id), &files)?;
        let launch = shim::launch::Launch {
            attach: vec![Streams { stdin: false, stdout: true, stderr: true }],
            binds: bind_indexes,
            ..described
        };
        let sockets = vec![output.into_std().map_err(broken)?.into()];
        let spawned = context.sealed.spawn(launch, binds, sockets).await;
        let launched = spawned.map_err(|error| {
            let (code, error) = launch::refused(error);
            Failed { error, code: Some(code), command: None, place: None }
        })?;
        drop((joined, lent, joins));
        Ok(Started { mounts, agents, launched })
    }
}

fn broken(error: std::io::Error) -> Error {
    Error::system("cannot make a pair of sockets").with_source(error)
}

impl Command<'_> {
    /// Runs it; the layer that it made.
    pub async fn run(mut self) -> Result<ImageLayer, Failed> {
        let id = names::new_id()?;
        let record = self.record(id.clone())?;
        let context = Arc::clone(self.context);
        let making = Arc::new(Mutex::new(()));
        let made = Arc::clone(&making).lock_owned().await;
        let sandbox = Sandbox { context, record, making, held: Arc::clone(&self.held), swept: false };
        let (ours, theirs) = UnixStream::pair().map_err(broken)?;
        let start = Start {
            context: Arc::clone(self.context),
            lease: Arc::clone(self.lease),
            layers: self.layers.to_vec(),
            record: sandbox.record.clone(),
            wanted: std::mem::take(&mut self.mounts),
            script: self.exec.script.clone(),
            sources: Arc::clone(self.sources),
            output: theirs,
            held: Arc::clone(&self.held),
        };
        let started = self.context.tasks.spawn(async move {
            let started = start.run().await;
            drop(made);
            started
        });
        let panicked = |e| Error::system("a bug: starting a step panicked").with_source(e);
        let Started { mounts, agents, launched } = started.await.map_err(panicked)??;
        // Its supervisor is spoken to as long as it runs.
        let Launched { shim: _spoken_to, events, .. } = launched;
        let code = self.watch(events, ours).await?;
        let oom = code.1;
        drop(agents);
        let leave = sandbox.sweep();
        if code.0 != 0 {
            leave.await?;
            let (context, lease) = (Arc::clone(self.context), Arc::clone(self.lease));
            blocking::run("forget a step", move || {
                mounts.forget(&context, &lease)?;
                super::forget(&context, &lease, &id)
            })
            .await?;
            return Err(self.failed(code.0, oom));
        }
        let (context, lease) = (Arc::clone(self.context), Arc::clone(self.lease));
        let adopt = blocking::run_long("keep what a step made", move || {
            mounts.clear(&context, &id)?;
            Ok((super::adopt(&context, &lease, &id)?, mounts))
        });
        let (adopted, left) = tokio::join!(adopt, leave);
        left?;
        let (layer, mounts) = adopted?;
        let (context, lease) = (Arc::clone(self.context), Arc::clone(self.lease));
        blocking::run("forget what was mounted", move || mounts.forget(&context, &lease)).await?;
        Ok(layer)
    }

    fn failed(&self, code: i32, oom: bool) -> Failed {
        let words = self.exec.arguments.join(" ");
        let why = if oom { " (killed: it used more memory than it may)" } else { "" };
        let text = format!("process \"{words}\" did not complete successfully: exit code: {code}{why}");
        Failed {
            error: Error::invalid(text),
            code: Some(code),
            command: Some(words.into_boxed_str()),
            place: None,
        }
    }

    /// Passes on what it says, and waits for its end: how it ended, and whether it took too much memory.
    async fn watch(&self, mut events: Events, output: UnixStream) -> Result<(i32, bool), Failed> {
        let output = self.output(output);
        let ended = async {
            let mut oom = false;
            loop {
                match events.next().await {
                    Some(Event::Exited(exit)) => return Ok((exit.code, oom || exit.oom)),
                    Some(Event::Oom) => oom = true,
                    Some(Event::ExecExited { .. }) => {}
                    Some(Event::Gone) | None => {
                        return Err(Error::system("the supervisor of a step ended before the step"));
                    }
                }
            }
        };
        let (_, ended) = tokio::join!(output, ended);
        Ok(ended?)
    }

    /// Passes on the output until its end, which may be a reset.
    async fn output(&self, mut stream: UnixStream) {
        let mut head = [0; HEAD];
        let mut buffer = vec![0; LOG_BYTES_MAX];
        while stream.read_exact(&mut head).await.is_ok() {
            let which = if head[0] == 2 { Stream::Stderr } else { Stream::Stdout };
            let mut left = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
            while left > 0 {
                let take = left.min(buffer.len());
                if stream.read_exact(&mut buffer[..take]).await.is_err() {
                    return;
                }
                self.voice.log(which, buffer[..take].to_vec()).await;
                left -= take;
            }
        }
    }

    /// The container that it runs in.
    fn record(&self, id: String) -> Result<Record> {
        let host = self.host()?;
        let attachments = self.context.networks.attachments(&host, None)?;
        let exec = self.exec;
        let environment = exec.environment.iter().chain(&exec.passing).cloned().collect();
        let config = Config {
            hostname: hostname(self.request).to_owned(),
            user: exec.user.clone(),
            env: environment,
            working_dir: exec.directory.clone(),
            cmd: Some(exec.arguments.clone()),
            attach_stdout: true,
            attach_stderr: true,
            ..Config::default()
        };
        create::refuse::limits(&host.resources, self.context.host.cpus)?;
        crate::plan::check(&host, &self.context.host)?;
        Ok(Record {
            name: format!("build-{}", &id[..12]),
            created: Timestamp::now(),
            image: ImageRef {
                name: String::new(),
                id: String::new(),
                manifest: String::new(),
                manifest_size: 0,
                manifest_type: String::new(),
                platform: String::new(),
            },
            swap_given: false,
            args: exec.arguments.clone(),
            labels: Labels::default(),
            mounts: Vec::new(),
            next: None,
            attachments,
            places: Places::default(),
            life: Life::default(),
            health: None,
            id,
            config,
            host,
        })
    }

    /// Lines of its `/etc/hosts`. Where no network gives it an address of its own, it finds itself at the loopback's.
    fn hosts(&self) -> Vec<String> {
        let given = self.request.hosts.iter().map(|(name, address)| format!("{name}:{address}"));
        let own = hostname(self.request);
        let is_name =
            own.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        let is_alone = matches!(self.exec.network, Network::None | Network::Host);
        given.chain((is_alone && is_name).then(|| format!("{own}:{LOOPBACK}"))).collect()
    }

    fn host(&self) -> Result<HostConfig> {
        let request = self.request;
        let network = match &self.exec.network {
            Network::Default => self.context.networks.default_mode().to_owned(),
            Network::None => "none".to_owned(),
            Network::Host => "host".to_owned(),
            Network::Named(name) => name.clone(),
        };
        let mut host = HostConfig {
            network_mode: network,
            ipc_mode: "private".to_owned(),
            cgroupns_mode: "private".to_owned(),
            runtime: runtimes::default(&self.context.config).to_owned(),
            // What is written need not survive a loss of power: the step is made again then.
            auto_remove: true,
            log_config: LogConfig { driver: "none".to_owned(), config: BTreeMap::new() },
            extra_hosts: self.hosts(),
            ..HostConfig::default()
        };
        host.privileged = self.exec.insecure;
        host.restart_policy.name = "no".to_owned();
        let shm = request.shm_size.and_then(|bytes| i64::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
        host.shm_size = shm.or(self.context.config.default_shm_size_bytes).unwrap_or(create::SHM_BYTES);
        let limits = &request.limits;
        let resources = &mut host.resources;
        resources.memory = limits.memory;
        resources.memory_swap = limits.memory_swap;
        resources.cpu_shares = limits.cpu_shares;
        resources.cpu_period = limits.cpu_period;
        resources.cpu_quota = limits.cpu_quota;
        resources.cpuset_cpus.clone_from(&limits.cpuset_cpus);
        resources.cpuset_mems.clone_from(&limits.cpuset_mems);
        resources.cgroup_parent.clone_from(&limits.cgroup_parent);
        resources.pids_limit =
            self.context.config.pids_limit.filter(|_| create::counts_processes(&self.context.host));
        resources.ulimits = request
            .ulimits
            .iter()
            .map(|limit| api::container::Ulimit {
                name: limit.name.clone(),
                hard: limit.hard,
                soft: limit.soft,
            })
            .collect();
        Ok(host)
    }
}

/// A mount of the engine's own making.
pub(super) fn point(kind: &str, source: PathBuf, destination: &str, writable: bool) -> MountPoint {
    MountPoint {
        kind: kind.to_owned(),
        source: source.to_string_lossy().into_owned(),
        destination: destination.to_owned(),
        rw: writable,
        propagation: "rprivate".to_owned(),
        ..MountPoint::default()
    }
}
