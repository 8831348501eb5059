//! The daemon's domain: containers, images, builds, volumes and events; their life-cycle and convergence.
//!
//! [`Engine`] is wiring: its services share what they need through a context, and none knows another's insides.

pub mod apparmor;
pub mod blocking;
pub mod builds;
pub mod cdi;
pub mod check;
pub mod config;
pub mod containers;
mod context;
mod converge;
pub mod error;
pub mod events;
mod exec_root;
pub mod execs;
pub mod health;
pub mod host;
pub mod images;
pub mod instructions;
pub mod logging;
pub mod logs;
pub mod names;
pub mod networks;
mod order;
pub mod pipe;
pub mod plan;
pub mod progress;
pub mod restart;
pub mod secrets;
pub mod selinux;
pub mod signals;
pub mod supervisor;
pub mod system;
pub mod volumes;

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use storage::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use config::{BuildCache, Config, Entitlements};
pub use error::{Error, Kind, Result};

use context::Context;

/// How long the daemon's own tasks may take to notice that it ends: each is at most in the middle of one call.
const CLOSING: Duration = Duration::from_secs(5);

/// The engine: its services, wired.
#[derive(Debug)]
pub struct Engine {
    context: Arc<Context>,
    containers: containers::Containers,
    execs: execs::Execs,
    builds: builds::Builds,
    system: system::System,
}

impl Engine {
    /// Opens the engine on its roots: takes the lock, opens the store, adopts what runs. Restart policies are acted on in the
    /// background.
    pub async fn open(config: Config) -> Result<Arc<Self>> {
        let (context, id) = blocking::run("open the engine", move || open(config)).await?;
        let context = Arc::new(context);
        converge::run(&context).await?;
        context.tasks.spawn({
            let context = Arc::clone(&context);
            async move { converge::begin(&context).await }
        });
        Ok(Arc::new(Self {
            containers: containers::Containers::new(Arc::clone(&context)),
            execs: execs::Execs::new(Arc::clone(&context)),
            builds: builds::Builds::new(Arc::clone(&context)),
            system: system::System::new(Arc::clone(&context), id),
            context,
        }))
    }

    /// The store, for what else is served from it.
    pub fn store(&self) -> &Store {
        &self.context.store
    }

    /// Ends what the engine itself does; containers stay as they are, and the next engine finds them.
    pub async fn close(&self) {
        self.context.closing.cancel();
        self.context.tasks.close();
        if tokio::time::timeout(CLOSING, self.context.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.context.tasks.len(), "ended before all tasks did");
        }
        let store = self.context.store.clone();
        if let Err(error) = blocking::run("flush the store", move || Ok(store.flush()?)).await {
            tracing::warn!(error = %error.chain(), "cannot flush the store");
        }
    }

    /// Containers.
    pub fn containers(&self) -> &containers::Containers {
        &self.containers
    }

    /// Commands in running containers.
    pub fn execs(&self) -> &execs::Execs {
        &self.execs
    }

    /// Builds.
    pub fn builds(&self) -> &builds::Builds {
        &self.builds
    }

    /// Images.
    pub fn images(&self) -> &images::Images {
        &self.context.images
    }

    /// Volumes.
    pub fn volumes(&self) -> &Arc<volumes::Volumes> {
        &self.context.volumes
    }

    /// All files of a volume, as an archive.
    pub async fn export_volume(&self, name: &str) -> Result<pipe::Flow> {
        self.context.volumes.export(name, &self.context.tasks).await
    }

    /// Secrets.
    pub fn secrets(&self) -> &Arc<secrets::Secrets> {
        &self.context.secrets
    }

    /// Networks.
    pub fn networks(&self) -> &Arc<networks::Networks> {
        &self.context.networks
    }

    /// The engine itself.
    pub fn system(&self) -> &system::System {
        &self.system
    }

    /// What happens.
    pub fn events(&self) -> &Arc<events::Events> {
        &self.context.events
    }
}

/// Everything that touches the disk before anything is adopted.
fn open(config: Config) -> Result<(Context, String)> {
    let store = Store::open(&config.data_root)?;
    private_dir(&config.data_root.join("containers"))?;
    private_dir(&config.exec_root.join("c"))?;
    let id = system::installation_id(&config.data_root)?;
    let exec_root = exec_root::ExecRoot::take(&config.exec_root, &id, &config.data_root)?;
    let sealed = supervisor::Sealed::new(config.supervisor, &config.exec_root)
        .map_err(|e| Error::system("cannot seal the supervisor's executable").with_source(e))?;
    plan::init::install(&config.exec_root, config.supervisor)?;
    let mut host = host::Host::detect();
    host.confines = apparmor::start(&host);
    if config.selinux {
        host.selinux = selinux::Policy::detect();
        if host.selinux.is_none() {
            tracing::warn!(
                "SELinux was asked for, and this host's kernel has it off: containers run without labels"
            );
        }
    }
    let events = Arc::new(events::Events::default());
    let index = Arc::new(containers::index::Index::default());
    let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
    let client = registry::Client::new(config.registries.clone())?;
    let context = Context {
        images: images::Images::new(
            store.clone(),
            client,
            (config.max_concurrent_downloads.max(1), config.max_concurrent_uploads.max(1)),
            Arc::clone(&events),
            uses(Arc::clone(&index)),
            (tasks.clone(), closing.clone()),
        ),
        volumes: Arc::new(volumes::Volumes::open(
            store.clone(),
            Arc::clone(&events),
            config.plugins.clone(),
        )?),
        secrets: Arc::new(secrets::Secrets::new(store.clone())),
        networks: networks::Networks::open(
            store.clone(),
            Arc::clone(&events),
            Arc::clone(&index),
            &config,
            &id,
        )?,
        events,
        index,
        execs: execs::table::Table::default(),
        sealed,
        host,
        _exec_root: exec_root,
        tasks,
        closing,
        store,
        config,
    };
    Ok((context, id))
}

/// A directory that nobody else may look into.
fn private_dir(path: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| Error::io("create", path, e))
}

/// Which containers use images, for the service that removes them.
fn uses(index: Arc<containers::index::Index>) -> images::Uses {
    Arc::new(move || {
        let used = |record: Arc<containers::Record>| images::Use {
            image: record.image.id.clone(),
            manifest: record.image.manifest.clone(),
            container: record.id.clone(),
            running: record.life.pid().is_some(),
        };
        index.all().iter().map(|handle| used(handle.record())).collect()
    })
}
