//! What the services share.

use std::path::PathBuf;
use std::sync::Arc;

use storage::{NewRecord, Store};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::containers::index::Index;
use crate::containers::record::{Paths, Record};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::exec_root::ExecRoot;
use crate::execs::table::Table;
use crate::host::Host;
use crate::images::Images;
use crate::networks::Networks;
use crate::supervisor::Sealed;
use crate::volumes::Volumes;

/// The kind of a container's record in the store.
pub(crate) const CONTAINER: &str = "container";

/// The cgroup that containers' cgroups are made in where nothing else is configured.
const CGROUP_PARENT: &str = "/corten";

/// What the services share; each takes from it what it needs.
#[derive(Debug)]
pub(crate) struct Context {
    pub config: Config,
    pub store: Store,
    pub events: Arc<Events>,
    pub index: Arc<Index>,
    pub execs: Table,
    pub volumes: Arc<Volumes>,
    pub networks: Arc<Networks>,
    pub secrets: Arc<crate::secrets::Secrets>,
    pub images: Images,
    pub sealed: Sealed,
    pub host: Host,
    /// Held for as long as the engine is there.
    pub _exec_root: ExecRoot,
    pub tasks: TaskTracker,
    pub closing: CancellationToken,
}

impl Context {
    /// Where a container's files are.
    pub fn paths(&self, id: &str) -> Paths {
        Paths {
            state: self.config.data_root.join("containers").join(id),
            run: self.config.exec_root.join("c").join(id),
        }
    }

    /// A container's cgroup, counted from the root of the hierarchies.
    pub fn cgroup(&self, record: &Record) -> PathBuf {
        match record.host.resources.cgroup_parent.as_str() {
            "" => self.default_cgroup(&record.id),
            own => cgroup_below(own, &record.id),
        }
    }

    /// The cgroup of a container that asked for no other.
    pub fn default_cgroup(&self, id: &str) -> PathBuf {
        cgroup_below(self.config.cgroup_parent.as_deref().unwrap_or(CGROUP_PARENT), id)
    }

    /// Writes the store to the disk in the background: what was made is there for good some moments later.
    pub fn flush_later(&self) {
        let store = self.store.clone();
        self.tasks.spawn(async move {
            if let Err(error) = crate::blocking::run("write to the disk", move || Ok(store.flush()?)).await {
                tracing::warn!(error = error.chain(), "an image may be lost if the machine loses power now");
            }
        });
    }

    /// Writes a container's record.
    pub fn put_record(&self, record: &Record) -> Result<()> {
        let json = encode(record)?;
        let new = NewRecord { kind: CONTAINER, id: &record.id, name: Some(&record.name), json: &json };
        self.store.make_way();
        Ok(self.store.transaction(|tx| tx.put_record(&new))?)
    }

    /// The same, if all volumes that it names are there: one that was found before may have been removed since.
    pub fn put_record_with_volumes(&self, record: &Record) -> Result<()> {
        let json = encode(record)?;
        let new = NewRecord { kind: CONTAINER, id: &record.id, name: Some(&record.name), json: &json };
        let later = record.next.iter().flat_map(|next| &next.mounts);
        let mounts: Vec<_> = record.mounts.iter().chain(later).cloned().collect();
        Ok(self.store.transaction(|tx| {
            crate::volumes::check_mounts(tx, &mounts)?;
            tx.put_record(&new)
        })?)
    }
}

fn cgroup_below(parent: &str, id: &str) -> PathBuf {
    PathBuf::from("/").join(parent.trim_start_matches('/')).join(id)
}

/// The record as it is written.
pub(crate) fn encode(record: &Record) -> Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(|e| {
        Error::system(format!("cannot write the record of container {}", record.id)).with_source(e)
    })
}
