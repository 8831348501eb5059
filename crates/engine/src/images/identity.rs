//! Where an image came from, as far as the engine itself has seen it: not what a name says, which anybody can give.

use api::image::{Identity, PullIdentity};
use oci::{Digest, Reference};
use serde::{Deserialize, Serialize};
use storage::{Image, NewRecord, Store, Tx};

use crate::error::Result;

/// The records of this.
const KIND: &str = "image-origin";
/// Repositories that are remembered of one image: more say nothing more.
const REPOSITORIES_MAX: usize = 32;

/// What is remembered.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Origin {
    /// Repositories that it was pulled from, the first at first.
    pulled: Vec<String>,
}

/// Remembers that an image was pulled from a reference's repository, or pushed to it: that it is there, the registry has said.
pub(super) fn pulled(tx: &Tx<'_>, id: &Digest, from: &Reference) -> storage::Result<()> {
    let mut origin = read(tx, id)?;
    let repository = from.name_only().to_string();
    if origin.pulled.contains(&repository) || origin.pulled.len() >= REPOSITORIES_MAX {
        return Ok(());
    }
    origin.pulled.push(repository);
    let json = serde_json::to_vec(&origin).unwrap_or_default();
    tx.put_record(&NewRecord { kind: KIND, id: id.as_str(), name: None, json: &json })
}

/// Forgets an image that goes.
pub(super) fn forget(tx: &Tx<'_>, id: &Digest) -> storage::Result<()> {
    tx.delete_record(KIND, id.as_str()).map(drop)
}

/// What is known of an image; nothing of one that was made here.
pub(super) fn of(store: &Store, image: &Image) -> Result<Option<Identity>> {
    let origin = store.transaction(|tx| read(tx, image.id()))?;
    let pull: Vec<PullIdentity> =
        origin.pulled.into_iter().map(|repository| PullIdentity { repository }).collect();
    Ok((!pull.is_empty()).then_some(Identity { pull }))
}

fn read(tx: &Tx<'_>, id: &Digest) -> storage::Result<Origin> {
    let record = tx.record(KIND, id.as_str())?;
    Ok(record.and_then(|record| serde_json::from_slice(&record.json).ok()).unwrap_or_default())
}
