//! What earlier builds have made, by what it was made of: in the store's records, so that it survives, and each entry keeps its layer.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use jiff::Timestamp;
use oci::Digest;
use serde::{Deserialize, Serialize};
use storage::{ImageLayer, Lease, NewRecord, Resource, Store, Tx};

use super::digests::Digests;
use crate::error::{Error, Result};

/// The kind of the entries' records.
const KIND: &str = "build-cache";
/// Entries beyond which the least recently used goes, whatever its size: each is a row of some hundred bytes.
pub(super) const ENTRIES_MAX: usize = 100_000;

/// What a step made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    /// Its layer; none where it changed nothing.
    pub layer: Option<ImageLayer>,
    /// When, RFC 3339.
    pub created: String,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    made: Made,
    /// The step, for people.
    description: String,
    /// What its layer occupies.
    bytes: u64,
    /// When it was last used, in seconds since 1970.
    used_s: i64,
    /// How often.
    uses: u64,
    /// The same, its nanoseconds: builds are faster than clocks that count seconds.
    #[serde(default)]
    used_ns: i32,
    /// Where it came in the build that has used it last: behind what it is built upon. Of what one build has used the last goes first.
    #[serde(default)]
    turn: u32,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// What a step made.
    Step,
    /// A directory that `RUN --mount=type=cache` keeps.
    Lasting,
}

impl EntryKind {
    /// What BuildKit calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Step => "regular",
            Self::Lasting => "exec.cachemount",
        }
    }
}

/// An entry, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// What it is.
    pub kind: EntryKind,
    /// The key, without the name of its function.
    pub id: String,
    /// The step.
    pub description: String,
    /// What its layer occupies.
    pub bytes: u64,
    /// When it was made, RFC 3339.
    pub created: String,
    /// When it was last used, in seconds since 1970.
    pub used_s: i64,
    /// How often.
    pub uses: u64,
    /// Whether an image has the layer as well.
    pub shared: bool,
    /// Whether a step is at work in it.
    pub in_use: bool,
}

/// What is to be removed.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// What images have not, or everything.
    pub all: bool,
    /// Bytes that may stay; 0 for none.
    pub keep_bytes: u64,
    /// Entries that may stay with them, if that is bounded.
    pub keep_entries: Option<usize>,
    /// Entries that were not used for so many seconds alone.
    pub unused_s: Option<i64>,
    /// Entries of these keys alone, if they are named.
    pub only: Option<HashSet<String>>,
}

/// That an entry was of use to a build.
#[derive(Debug, Clone)]
pub(super) struct Use {
    /// The entry's.
    pub key: Digest,
    /// Whether it was there before.
    pub was_there: bool,
}

type Gate = tokio::sync::Mutex<()>;

/// The cache.
#[derive(Debug)]
pub(super) struct Cache {
    store: Store,
    /// What files of contexts hold.
    pub digests: Arc<Digests>,
    /// Steps that are being made, by their keys.
    gates: Mutex<HashMap<Digest, Weak<Gate>>>,
}

fn now_s() -> i64 {
    Timestamp::now().as_second()
}

impl Cache {
    pub fn new(store: Store, data_root: &std::path::Path) -> Self {
        let digests = Arc::new(Digests::new(data_root));
        Self { store, digests, gates: Mutex::default() }
    }

    /// Who makes a step of this key alone: of builds that go on at once, one makes it, and the others find it made.
    pub fn gate(&self, key: &Digest) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(key).and_then(Weak::upgrade) {
            return gate;
        }
        gates.retain(|_, gate| gate.strong_count() > 0);
        let gate = Arc::new(Gate::default());
        gates.insert(key.clone(), Arc::downgrade(&gate));
        gate
    }

    /// What was made of this; the lease keeps it.
    pub fn find(&self, lease: &Lease, key: &Digest) -> Result<Option<Made>> {
        Ok(self.store.transaction(|tx| {
            let Some(record) = tx.record(KIND, key.hex())? else { return Ok(None) };
            let Ok(entry) = serde_json::from_slice::<Entry>(&record.json) else { return Ok(None) };
            if let Some(layer) = &entry.made.layer {
                // A loss of power may have taken it.
                if tx.layer(&layer.diff_id)?.is_none() || tx.blob_info(&layer.digest)?.is_none() {
                    return Ok(None);
                }
                hold(tx, lease, layer)?;
            }
            Ok(Some(entry.made))
        })?)
    }

    /// Remembers what was made.
    pub fn put(&self, keys: &[&Digest], made: &Made, description: &str) -> Result<()> {
        let resources: Vec<Resource> = made
            .layer
            .iter()
            .flat_map(|layer| [Resource::Layer(layer.diff_id.clone()), Resource::Blob(layer.digest.clone())])
            .collect();
        let now = Timestamp::now();
        Ok(self.store.transaction(|tx| {
            let bytes = match &made.layer {
                Some(layer) => {
                    tx.layer(&layer.diff_id)?.map_or(0, |unpacked| unpacked.disk_bytes + layer.size)
                }
                None => 0,
            };
            let entry = Entry {
                made: made.clone(),
                description: description.to_owned(),
                bytes,
                used_s: now.as_second(),
                uses: 0,
                used_ns: now.subsec_nanosecond(),
                turn: 0,
            };
            // Our own types have no keys that are not strings, the only thing that cannot be written.
            let json = serde_json::to_vec(&entry).unwrap_or_default();
            for key in keys {
                tx.put_record(&NewRecord { kind: KIND, id: key.hex(), name: None, json: &json })?;
                tx.set_record_resources(KIND, key.hex(), &resources)?;
            }
            Ok(())
        })?)
    }

    /// Notes that these were of use to a build, in its order: what was found, and what it has made itself.
    pub fn touch(&self, keys: &[Use]) -> Result<()> {
        let now = Timestamp::now();
        Ok(self.store.transaction(|tx| {
            for (Use { key, was_there }, turn) in keys.iter().zip(1..) {
                let Some(record) = tx.record(KIND, key.hex())? else { continue };
                let Ok(mut entry) = serde_json::from_slice::<Entry>(&record.json) else { continue };
                entry.used_s = now.as_second();
                entry.used_ns = now.subsec_nanosecond();
                entry.uses += u64::from(*was_there);
                entry.turn = turn;
                let json = serde_json::to_vec(&entry).unwrap_or_default();
                tx.put_record(&NewRecord { kind: KIND, id: key.hex(), name: None, json: &json })?;
            }
            Ok(())
        })?)
    }

    fn entries(tx: &Tx<'_>) -> storage::Result<Vec<(String, Entry)>> {
        let records = tx.records(KIND)?;
        let read = |record: storage::Record| {
            serde_json::from_slice(&record.json).ok().map(|entry| (record.id, entry))
        };
        Ok(records.into_iter().filter_map(read).collect())
    }

    /// All entries. A layer that several have counts with the first.
    pub fn list(&self) -> Result<Vec<CacheEntry>> {
        Ok(self.store.transaction(|tx| {
            let kept = layers_of_images(tx)?;
            let entries = Self::entries(tx)?;
            let mut seen = HashSet::new();
            let shown = |(id, mut entry): (String, Entry)| {
                let layer = entry.made.layer.as_ref().map(|layer| layer.diff_id.clone());
                if layer.is_some_and(|layer| !seen.insert(layer)) {
                    entry.bytes = 0;
                }
                shown(id, entry, &kept)
            };
            Ok(entries.into_iter().map(shown).collect())
        })?)
    }

    /// What all entries occupy.
    pub fn bytes(&self) -> Result<u64> {
        Ok(self.store.transaction(|tx| Ok(sizes(Self::entries(tx)?.iter().map(|(_, entry)| entry))))?)
    }

    /// Removes entries, those first that were not used for longest; which, and how many bytes that makes.
    pub fn prune(&self, options: &PruneOptions) -> Result<(Vec<String>, u64)> {
        let now = now_s();
        let removed = self.store.transaction(|tx| {
            let kept = layers_of_images(tx)?;
            let mut entries = Self::entries(tx)?;
            entries.sort_by_key(|(_, entry)| (entry.used_s, entry.used_ns, Reverse(entry.turn)));
            let mut total = sizes(entries.iter().map(|(_, entry)| entry));
            let mut left = entries.len();
            // A layer that several entries have goes with the last of them.
            let mut users: HashMap<Digest, usize> = HashMap::new();
            for layer in entries.iter().filter_map(|(_, entry)| entry.made.layer.as_ref()) {
                *users.entry(layer.diff_id.clone()).or_default() += 1;
            }
            let mut removed = Vec::new();
            for (id, entry) in entries {
                let named = options.only.as_ref().is_none_or(|only| only.contains(&id));
                let old = options.unused_s.is_none_or(|seconds| now - entry.used_s >= seconds);
                let shared = entry.made.layer.as_ref().is_some_and(|layer| kept.contains(&layer.diff_id));
                let fits = options.keep_bytes > 0
                    && total <= options.keep_bytes
                    && options.keep_entries.is_none_or(|entries| left <= entries);
                if !named || !old || (shared && !options.all) || fits {
                    continue;
                }
                tx.delete_record(KIND, &id)?;
                left -= 1;
                let users = entry.made.layer.as_ref().and_then(|layer| users.get_mut(&layer.diff_id));
                let is_last = users.is_none_or(|users| {
                    *users -= 1;
                    *users == 0
                });
                if is_last {
                    total = total.saturating_sub(entry.bytes);
                }
                removed.push((id, entry, shared));
            }
            Ok(removed)
        })?;
        if removed.is_empty() {
            return Ok((Vec::new(), 0));
        }
        self.store.gc()?;
        let gone = sizes(removed.iter().filter(|(_, _, shared)| !shared).map(|(_, entry, _)| entry));
        Ok((removed.into_iter().map(|(id, _, _)| id).collect(), gone))
    }
}

/// What entries occupy: those of one layer, once.
fn sizes<'a>(entries: impl Iterator<Item = &'a Entry>) -> u64 {
    let mut seen = HashSet::new();
    entries
        .filter(|entry| entry.made.layer.as_ref().is_none_or(|layer| seen.insert(layer.diff_id.clone())))
        .map(|entry| entry.bytes)
        .sum()
}

fn layers_of_images(tx: &Tx<'_>) -> storage::Result<HashSet<Digest>> {
    let images = tx.images()?;
    let manifests = images.into_iter().flat_map(|image| image.image.manifests);
    Ok(manifests.flat_map(|manifest| manifest.diff_ids()).collect())
}

fn shown(id: String, entry: Entry, kept: &HashSet<Digest>) -> CacheEntry {
    CacheEntry {
        kind: EntryKind::Step,
        id,
        description: entry.description,
        bytes: entry.bytes,
        created: entry.made.created,
        used_s: entry.used_s,
        uses: entry.uses,
        shared: entry.made.layer.is_some_and(|layer| kept.contains(&layer.diff_id)),
        in_use: false,
    }
}

/// Makes a lease keep a layer, packed and unpacked.
pub(super) fn hold(tx: &Tx<'_>, lease: &Lease, layer: &ImageLayer) -> storage::Result<()> {
    tx.hold(lease, &Resource::Layer(layer.diff_id.clone()))?;
    tx.hold(lease, &Resource::Blob(layer.digest.clone()))
}

/// Bytes that the cache may occupy where nobody says: a tenth of the disk, and never less than two gigabytes.
pub(super) fn bytes_max(data_root: &std::path::Path) -> Result<u64> {
    const LEAST: u64 = 2 << 30;
    let space = sys::fsx::open_dir(data_root).and_then(sys::fsx::space);
    let (_, whole) = space.map_err(|error| Error::io("measure", data_root, error))?;
    Ok((whole / 10).max(LEAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_bytes_nor_entries_grow_beyond_their_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("data")).unwrap();
        let cache = Cache::new(store.clone(), dir.path());
        let digest = |number: u8| Digest::from_sha256([number; 32]);
        let layer = |number| ImageLayer {
            digest: digest(number),
            size: 0,
            media_type: String::new(),
            diff_id: digest(number),
        };
        // Three layers of ten bytes, of which each has two entries; the oldest first.
        store
            .transaction(|tx| {
                for number in 0..6 {
                    let made = Made { layer: Some(layer(number / 2)), created: String::new() };
                    let entry = Entry {
                        made,
                        description: String::new(),
                        bytes: 10,
                        used_s: i64::from(number),
                        uses: 0,
                        used_ns: 0,
                        turn: 0,
                    };
                    let json = serde_json::to_vec(&entry).unwrap();
                    let key = digest(100 + number);
                    tx.put_record(&NewRecord { kind: KIND, id: key.hex(), name: None, json: &json })?;
                }
                Ok(())
            })
            .unwrap();
        let prune = |keep_bytes, keep_entries| {
            let options = PruneOptions { all: true, keep_bytes, keep_entries, ..PruneOptions::default() };
            cache.prune(&options).unwrap().0.len()
        };
        assert_eq!(prune(30, None), 0);
        // One entry less does not make a layer less.
        assert_eq!(prune(20, None), 2);
        assert_eq!(prune(20, Some(3)), 1);
        assert_eq!(cache.list().unwrap().len(), 3);
    }
}
