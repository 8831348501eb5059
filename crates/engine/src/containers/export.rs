//! `GET /containers/{id}/export` and `/changes`: what is in a container, and what it has changed.
//!
//! Both read the directories that its root filesystem is made of, by descriptor: nothing is mounted, no path is resolved in the
//! container's own view, and a container that runs neither notices nor can interfere.

use std::collections::BTreeMap;

use api::container::FileChange;
use storage::Store;
use storage::pack::{ChangeKind, Writer};

use super::Containers;
use crate::containers::record::Record;
use crate::containers::state::Phase;
use crate::pipe::Flow;
use crate::{Error, Result, blocking};

impl Containers {
    /// All files of a container, as an archive.
    pub async fn export(&self, name: &str) -> Result<Flow> {
        let record = self.find(name)?.record();
        whole(&record, "export")?;
        let (store, id) = (self.context.store.clone(), record.id.clone());
        // What cannot be opened is told by the status, not in the middle of the archive.
        let (tree, lease) = blocking::run("open a container's files", move || {
            let lease = store.passing_lease("export a container")?;
            Ok((store.seen_tree(&lease, &id)?, lease))
        })
        .await?;
        let store = self.context.store.clone();
        let flow = Flow::start(&self.context.tasks, "export a container", move |outlet| {
            let packed = tree.pack(Writer::new(outlet)).map(drop);
            drop(lease);
            collect(&store);
            Ok(packed?)
        });
        self.context.tell(&record, "export", BTreeMap::new());
        Ok(flow)
    }

    /// The files that a container has made, changed and removed.
    pub async fn changes(&self, name: &str) -> Result<Vec<FileChange>> {
        let record = self.find(name)?.record();
        whole(&record, "diff")?;
        let (store, id) = (self.context.store.clone(), record.id.clone());
        blocking::run("compare a container with its image", move || {
            let lease = store.passing_lease("compare a container with its image")?;
            let changes = store.snapshot_tree(&lease, &id).and_then(|tree| tree.changes());
            drop(lease);
            collect(&store);
            let changes = changes?;
            let shown = |change: storage::pack::Change| FileChange {
                path: String::from_utf8_lossy(&change.path).into_owned(),
                kind: match change.kind {
                    ChangeKind::Modified => 0,
                    ChangeKind::Added => 1,
                    ChangeKind::Deleted => 2,
                },
            };
            Ok(changes.into_iter().map(shown).collect())
        })
        .await
    }
}

/// Removes the files of a container that was removed while they were read: nobody else does.
pub(super) fn collect(store: &Store) {
    if let Err(error) = store.gc() {
        tracing::warn!(%error, "what nobody keeps any more stays for now");
    }
}

/// Refuses what is about to be gone.
pub(super) fn whole(record: &Record, what: &str) -> Result<()> {
    let state = match record.life.phase {
        Phase::Removing => "which is being removed",
        Phase::Dead => "which is Dead",
        _ => return Ok(()),
    };
    Err(Error::conflict(format!("You cannot {what} container {} {state}", record.id)))
}
