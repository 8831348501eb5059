//! The command line of `corten registry`.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use hyper::Method;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::local::Local;
use super::{Error, Features, Listening};
use crate::daemon::rootless;

/// Docker's exit code for a command line that is not understood.
const EXIT_USAGE: i32 = 125;
/// Threads that may block at once: enough for many disks' queues, few enough to bound memory.
const BLOCKING_THREADS_MAX: usize = 64;
/// Threads that wait on sockets.
const WORKERS_MAX: usize = 4;
/// How long requests under way may take at the end.
const ENDING: Duration = Duration::from_secs(15);

#[derive(Parser, Debug)]
#[command(
    name = "corten registry",
    bin_name = "corten registry",
    about = "Serve and look after a registry of one's own"
)]
#[command(disable_help_subcommand = true, disable_version_flag = true)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve images to docker, podman, skopeo, containerd and the like
    #[command(
        after_help = "Examples:\n  corten registry serve\n  corten registry serve --addr 0.0.0.0:5000 --tls-cert cert.pem --tls-key key.pem --htpasswd users\n  corten registry serve --addr 127.0.0.1:5001 --proxy https://registry.example.org --data-root /srv/cache"
    )]
    Serve(Box<Serve>),
    /// Remove what nobody needs: unlinked blobs, given up uploads, if asked manifests without a tag
    #[command(
        after_help = "Examples:\n  corten registry gc\n  corten registry gc --delete-untagged --grace 0"
    )]
    Gc {
        #[command(flatten)]
        root: DataRoot,
        /// Also delete manifests that no tag leads to
        #[arg(long)]
        delete_untagged: bool,
        /// Leave alone what came or was looked at in the last so many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 24 * 60 * 60)]
        grace: u64,
    },
    /// List repositories, or the tags of one
    #[command(after_help = "Examples:\n  corten registry ls\n  corten registry ls team/web")]
    Ls {
        #[command(flatten)]
        root: DataRoot,
        /// Whose tags
        #[arg(value_name = "REPOSITORY")]
        repository: Option<String>,
    },
    /// Delete a tag, or a manifest with all its tags
    #[command(
        after_help = "Examples:\n  corten registry rm team/web:old\n  corten registry rm team/web@sha256:…"
    )]
    Rm {
        #[command(flatten)]
        root: DataRoot,
        /// REPOSITORY:TAG or REPOSITORY@DIGEST
        #[arg(value_name = "IMAGE", required = true)]
        images: Vec<String>,
    },
}

#[derive(Args, Debug)]
struct DataRoot {
    /// Where everything is kept; of a daemon with a registry in it, the daemon's
    #[arg(long, value_name = "DIRECTORY")]
    data_root: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct Serve {
    /// Listen here
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    addr: String,
    #[command(flatten)]
    root: DataRoot,
    /// How messages look: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: String,
    #[command(flatten)]
    features: Features,
}

impl DataRoot {
    fn path(&self) -> Result<PathBuf, Error> {
        let path = match &self.data_root {
            Some(path) => path.clone(),
            None if rootless::is_wanted() => rootless::data_root().with_file_name("corten-registry"),
            None => PathBuf::from("/var/lib/corten-registry"),
        };
        std::path::absolute(path).map_err(|source| Error::Io { doing: "find the data root", source })
    }
}

/// Runs `corten registry` with the command line `args` (the program's name first). Returns the exit code.
pub fn main(args: &[OsString]) -> i32 {
    let line = match Line::try_parse_from(args) {
        Ok(line) => line,
        Err(error) if error.use_stderr() => {
            eprint!("{error}");
            return EXIT_USAGE;
        }
        Err(error) => {
            print!("{error}");
            return 0;
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("registry")
        .enable_all()
        .build();
    let result = runtime.map_err(|source| Error::Io { doing: "start threads", source }).and_then(|runtime| {
        let result = runtime.block_on(run(line.command));
        runtime.shutdown_timeout(Duration::from_secs(1));
        result
    });
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("corten registry: {}", crate::daemon::chain(&error));
            if matches!(error, Error::Usage(_)) { EXIT_USAGE } else { 1 }
        }
    }
}

async fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Serve(serve) => serve.run().await,
        Command::Gc { root, delete_untagged, grace } => gc(&root.path()?, delete_untagged, grace).await,
        Command::Ls { root, repository } => list(&root.path()?, repository.as_deref()).await,
        Command::Rm { root, images } => remove(&root.path()?, &images).await,
    }
}

impl Serve {
    async fn run(self) -> Result<(), Error> {
        let log = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
        match self.log_format.as_str() {
            "text" => log.init(),
            "json" => log.json().init(),
            other => return Err(Error::Usage(format!("invalid log format: {other}"))),
        }
        let watch = |kind| signal(kind).map_err(|source| Error::Io { doing: "watch for signals", source });
        let (mut terminate, mut interrupt) =
            (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?);
        let data_root = self.root.path()?;
        let registry = super::open(&data_root, &self.features).await?;
        let listening = Listening::bind(registry.clone(), &self.addr, &self.features, &data_root)?;
        let address =
            listening.address().map_err(|source| Error::Io { doing: "look at the socket", source })?;
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let serving = tokio::spawn(listening.serve(tasks.clone(), shutdown.clone()));
        tracing::info!(%address, data_root = %data_root.display(), "registry ready");
        if let Err(error) = sys::activation::notify("READY=1") {
            tracing::warn!(%error, "cannot tell the service manager that the registry is ready");
        }
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending");
        shutdown.cancel();
        let _ = serving.await;
        tasks.close();
        if tokio::time::timeout(ENDING, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "ended before all requests did");
        }
        registry.flush().await.map_err(Error::Registry)
    }
}

async fn gc(data_root: &Path, untagged: bool, grace: u64) -> Result<(), Error> {
    let mut registry = Local::connect(data_root).await?;
    let path = format!("/v2/_corten/prune?untagged={}&grace={grace}", u8::from(untagged));
    let removed = registry.ask(Method::POST, &path).await?.document;
    println!(
        "Deleted {} manifests, {} links, {} uploads; freed {} blobs of {} bytes",
        removed["manifests"], removed["links"], removed["uploads"], removed["blobs"], removed["bytes"]
    );
    Ok(())
}

async fn list(data_root: &Path, repository: Option<&str>) -> Result<(), Error> {
    let mut registry = Local::connect(data_root).await?;
    let Some(repository) = repository else {
        for name in registry.list("/v2/_catalog", "repositories").await? {
            println!("{name}");
        }
        return Ok(());
    };
    let tags = registry.list(&format!("/v2/{repository}/tags/list"), "tags").await?;
    let width = tags.iter().map(String::len).max().unwrap_or(0).max("TAG".len());
    println!("{:width$}   DIGEST", "TAG");
    for tag in tags {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let answer = registry.ask(Method::HEAD, &path).await?;
        let digest = answer.headers.get("docker-content-digest").and_then(|digest| digest.to_str().ok());
        println!("{tag:width$}   {}", digest.unwrap_or("-"));
    }
    Ok(())
}

async fn remove(data_root: &Path, images: &[String]) -> Result<(), Error> {
    let mut registry = Local::connect(data_root).await?;
    for image in images {
        let parts = image.split_once('@').or_else(|| image.rsplit_once(':'));
        let (repository, reference) = parts.ok_or_else(|| {
            Error::Usage(format!(
                "{image} names no tag and no digest: want REPOSITORY:TAG or REPOSITORY@DIGEST"
            ))
        })?;
        registry.ask(Method::DELETE, &format!("/v2/{repository}/manifests/{reference}")).await?;
        println!("Deleted: {image}");
    }
    Ok(())
}
