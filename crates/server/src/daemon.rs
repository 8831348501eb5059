//! The daemon: reads its settings, opens the engine, listens, and ends when it is told to.
//!
//! Containers do not depend on it: on SIGTERM it finishes the requests under way and goes, and they stay.

pub mod check;
pub mod listen;
mod rest;
pub(crate) mod rootless;
pub mod settings;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::Engine;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::connection::Served;
use listen::Listener;
use settings::Settings;

/// dockerd's exit code for a command line or a file that it does not understand.
const EXIT_USAGE: i32 = 125;
/// Threads that serve requests: they wait on sockets, all that blocks goes to the blocking pool.
const WORKERS_MAX: usize = 4;
/// Threads that may block at once: enough for many disks' queues, few enough to bound memory.
const BLOCKING_THREADS_MAX: usize = 128;
/// How long to leave a listener alone that has no descriptors left to accept with.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Listen(#[from] listen::Error),
    #[error(transparent)]
    Rootless(#[from] rootless::Error),
    #[error("cannot serve the registry")]
    Registry(#[from] crate::registry::Error),
    #[error("cannot start the engine")]
    Engine(#[source] engine::Error),
    #[error("{doing}")]
    Io {
        doing: String,
        #[source]
        source: io::Error,
    },
}

impl Error {
    fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

/// Runs the daemon with the command line `args` (the program's name first) until it is told to end; `supervisor` is
/// the executable to start beside every container. Returns the exit code.
pub fn main(args: &[OsString], supervisor: &'static [u8]) -> i32 {
    let by_dockers_name = args.first().is_some_and(|name| Path::new(name).ends_with("dockerd"));
    match args.get(1).and_then(|word| word.to_str()) {
        Some(rootless::SETUP) => return rootless::setup(args.get(2..).unwrap_or_default()),
        Some(rootless::OPEN) => return rootless::open(),
        Some(rootless::HOLD) => return rootless::hold(args.get(2..).unwrap_or_default()),
        _ => {}
    }
    let file = match (rootless::is_wanted(), by_dockers_name) {
        (true, _) => rootless::config_file(),
        (_, true) => PathBuf::from("/etc/docker/daemon.json"),
        _ => PathBuf::from("/etc/corten/daemon.json"),
    };
    let settings = match Settings::load(args, &file) {
        Ok(settings) if settings.validate => {
            println!("configuration OK");
            return 0;
        }
        Ok(settings) => match settings.check_store {
            Some(how) => return check::run(&settings.data_root, how),
            None => settings,
        },
        Err(settings::Error::Help(text)) => {
            print!("{text}");
            return 0;
        }
        Err(error @ settings::Error::Usage(_)) => {
            eprintln!("corten daemon: {error}\nSee 'corten daemon --help'.");
            return EXIT_USAGE;
        }
        Err(error) => {
            eprintln!("corten daemon: {error}");
            return 1;
        }
    };
    start_log(&settings);
    raise_limits();
    // While there is one thread: namespaces of users are joined by no other process.
    if rootless::is_wanted()
        && let Err(error) = enter(&settings)
    {
        eprintln!("corten daemon: {}", chain(&error));
        return 1;
    }
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("corten")
        .enable_all()
        .build();
    let result = runtime.map_err(Error::io("cannot start threads")).and_then(|runtime| {
        let result = runtime.block_on(run(settings, supervisor));
        runtime.shutdown_timeout(Duration::from_secs(1));
        result
    });
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("corten daemon: {}", chain(&error));
            1
        }
    }
}

/// The error with all its sources, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// Sends the log to standard error, where service managers want it.
fn start_log(settings: &Settings) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(settings.log_level))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    if settings.log_json { log.json().init() } else { log.init() }
}

/// What is logged at a level. HTTP/2 tells of each frame, which is of use to nobody who looks for what a build does.
fn filter(level: LevelFilter) -> EnvFilter {
    let but = if level == LevelFilter::DEBUG { ",h2=info,tower=info" } else { "" };
    EnvFilter::new(format!("{level}{but}"))
}

/// Every container takes descriptors of the daemon. A shell's soft limit is meant for programs that use `select`; the hard one
/// is what the administrator allows. Containers get the same, as Docker's do.
fn raise_limits() {
    let Some(files) = sys::rlimit::number("RLIMIT_NOFILE") else { return };
    let raised = sys::rlimit::get(files).and_then(|(_, hard)| sys::rlimit::set(0, files, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Opens the engine and serves until a signal asks to end.
async fn run(settings: Settings, supervisor: &'static [u8]) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::io("cannot watch for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::io("cannot watch for SIGINT"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(Error::io("cannot watch for SIGHUP"))?;

    make_exec_root(&settings.exec_root)?;
    let _pidfile = Pidfile::write(&settings.pidfile)?;
    // The engine first: its lock decides who is the daemon, and nobody may connect before it is ready.
    let engine = Engine::open(engine_config(&settings, supervisor)).await.map_err(Error::Engine)?;
    let listeners = listen::bind(&settings)?;
    let registry =
        settings.registry.as_ref().map(|wanted| registry(wanted, &engine, &settings)).transpose()?;

    let shutdown = CancellationToken::new();
    let buildkit = crate::builder::service(&engine, &settings.data_root, shutdown.clone())
        .await
        .map_err(Error::Engine)?;
    let served = Served { engine: Arc::clone(&engine), buildkit };
    let tasks = TaskTracker::new();
    let sockets: Vec<PathBuf> = listeners
        .iter()
        .filter_map(|listener| match listener {
            Listener::Unix(_, path) => path.clone(),
            _ => None,
        })
        .collect();
    let visitors = rest::Visitors::default();
    for listener in listeners {
        let (served, visitors) = (served.clone(), visitors.clone());
        tasks.spawn(accept(listener, served, visitors, tasks.clone(), shutdown.clone()));
    }
    if let Some(registry) = registry {
        tasks.spawn(registry.serve(tasks.clone(), shutdown.clone()));
    }
    let resting = tokio::spawn(visitors.rest_between());
    if let Some(on) = settings.features.snapshotter {
        tracing::info!(
            "the feature containerd-snapshotter={on} changes nothing: there is one store for all images"
        );
    }
    tracing::info!(data_root = %settings.data_root.display(), "ready");
    if let Err(error) = sys::activation::notify("READY=1") {
        tracing::warn!(%error, "cannot tell the service manager that the daemon is ready");
    }

    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => tracing::warn!("SIGHUP: reloading the configuration is not supported yet"),
        }
    }
    tracing::info!("ending; containers stay as they are");
    resting.abort();
    let _ = sys::activation::notify("STOPPING=1");
    shutdown.cancel();
    for path in &sockets {
        let _ = std::fs::remove_file(path);
    }
    tasks.close();
    let patience = Duration::from_secs(settings.shutdown_timeout_s);
    if tokio::time::timeout(patience, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "ended before all connections did");
    }
    engine.close().await;
    Ok(())
}

/// Listens for a registry over the engine's own store. It serves what was pushed to it; images of the engine are not among that.
fn registry(
    wanted: &crate::registry::InDaemon,
    engine: &Engine,
    settings: &Settings,
) -> Result<crate::registry::Listening, crate::registry::Error> {
    let server = crate::registry::parts(&wanted.features)?.over(engine.store().clone());
    crate::registry::Listening::bind(server, &wanted.addr, &wanted.features, &settings.data_root)
}

/// Becomes root in the user's own namespaces.
fn enter(settings: &Settings) -> Result<(), Error> {
    if let Some(host) = settings.hosts.iter().find(|host| !host.starts_with("unix://")) {
        return Err(Error::Listen(listen::Error::Address(format!(
            "cannot listen on {host}: a daemon without root is in a network of its own, and listens on unix sockets only"
        ))));
    }
    if settings.registry.is_some() {
        return Err(Error::Listen(listen::Error::Address(
            "cannot serve a registry: a daemon without root is in a network of its own; use corten registry serve"
                .to_owned(),
        )));
    }
    make_exec_root(&settings.exec_root)?;
    Ok(rootless::enter(&settings.exec_root)?)
}

/// Makes the directory of what runs: everybody may pass to the socket, nobody else may look.
fn make_exec_root(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let doing = || Error::io(format!("cannot create {}", path.display()));
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(path).map_err(doing())?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711)).map_err(doing())
}

/// What of the settings concerns the engine.
fn engine_config(settings: &Settings, supervisor: &'static [u8]) -> engine::Config {
    engine::Config {
        data_root: settings.data_root.clone(),
        exec_root: settings.exec_root.clone(),
        supervisor,
        registries: settings.registries.options.clone(),
        max_concurrent_downloads: settings.registries.downloads,
        max_concurrent_uploads: settings.registries.uploads,
        cgroup_parent: settings.cgroup_parent.clone(),
        selinux: settings.selinux,
        log: settings.log.clone(),
        plugins: settings.plugins.clone(),
        no_bridge: settings.no_bridge,
        respect_firewall: settings.respect_firewall,
        networks: settings.networks.clone(),
        pids_limit: settings.containers.pids_limit,
        real_time: settings.containers.real_time,
        runtimes: settings.containers.runtimes.clone(),
        default_runtime: settings.containers.default_runtime.clone(),
        cdi_dirs: settings.containers.cdi_dirs.clone(),
        default_shm_size_bytes: settings.default_shm_size_bytes,
        entitlements: settings.entitlements,
        build_cache: settings.build_cache,
        debug: settings.log_level >= LevelFilter::DEBUG,
    }
}

/// Accepts connections of one listener until the shutdown, each served by a task of its own.
async fn accept(
    listener: Listener,
    served: Served,
    visitors: rest::Visitors,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = accept_one(&listener) => accepted,
        };
        let connection = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        visitors.count();
        let (served, shutdown) = (served.clone(), shutdown.clone());
        tasks.spawn(async move {
            match connection {
                Connection::Unix(stream) => crate::connection::serve(stream, served, shutdown).await,
                Connection::Tcp(stream) => crate::connection::serve(stream, served, shutdown).await,
                Connection::Tls(stream, acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => crate::connection::serve(stream, served, shutdown).await,
                    Err(error) => tracing::debug!(%error, "no TLS connection"),
                },
            }
        });
    }
}

/// A client that has connected, before anything is read from it.
enum Connection {
    Unix(tokio::net::UnixStream),
    Tcp(tokio::net::TcpStream),
    Tls(tokio::net::TcpStream, crate::tls::Acceptor),
}

async fn accept_one(listener: &Listener) -> io::Result<Connection> {
    Ok(match listener {
        Listener::Unix(listener, _) => Connection::Unix(listener.accept().await?.0),
        Listener::Tcp(listener) => Connection::Tcp(listener.accept().await?.0),
        Listener::Tls(listener, acceptor) => Connection::Tls(listener.accept().await?.0, acceptor.clone()),
    })
}

/// Whether a process is a daemon: after a crash its id may be somebody else's by now.
fn is_daemon(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).into_owned();
    line.split('\0').take(2).any(|word| word == "daemon" || Path::new(word).ends_with("dockerd"))
}

/// The file with the daemon's process id, removed when the daemon ends.
struct Pidfile(PathBuf);

impl Pidfile {
    /// Writes the file; refuses where it names a process that is alive, as dockerd does.
    fn write(path: &Path) -> Result<Self, Error> {
        let doing = || Error::io(format!("cannot write the pid file {}", path.display()));
        if let Ok(text) = std::fs::read_to_string(path)
            && let Ok(pid) = text.trim().parse::<u32>()
            && pid != std::process::id()
            && is_daemon(pid)
        {
            let reason = format!("process with PID {pid} is still running");
            return Err(doing()(io::Error::new(io::ErrorKind::AlreadyExists, reason)));
        }
        std::fs::write(path, format!("{}\n", std::process::id())).map_err(doing())?;
        Ok(Self(path.to_path_buf()))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
