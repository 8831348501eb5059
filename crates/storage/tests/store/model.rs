//! The store against a model of it: whatever is done in whatever order, also with the process dying in between, what is there is
//! what should be, nothing that anybody keeps is ever collected, and all else is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use proptest::prelude::*;

use crate::world::{self, Layer, World};
use oci::Digest;
use storage::{
    CheckOptions, Error, ImageLayer, Lease, NewImage, NewRecord, PlatformManifest, Resource, Store,
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// How many of each kind there may be: few, so that they meet.
const BLOBS: u8 = 5;
const LAYERS: u8 = 4;
const IMAGES: u8 = 4;
const NAMES: u8 = 3;
const RECORDS: u8 = 3;

#[derive(Debug, Clone)]
enum Op {
    /// Begins a lease: one whose time is over at once, should this process die, or one that outlives it.
    Lease {
        short: bool,
    },
    EndLease(usize),
    PutBlob(usize, u8),
    PutLayer(usize, u8),
    /// Takes half a layer in, and gives up.
    HalfLayer(usize, u8),
    /// Holds a layer that may be there or not.
    HoldLayer(usize, u8),
    PutImage(usize, u8, Vec<u8>),
    Tag(u8, u8),
    Untag(u8),
    RemoveImage(u8),
    /// A document that keeps blobs.
    PutRecord(u8, Vec<u8>),
    /// A document with a snapshot on these layers.
    Container(u8, Vec<u8>),
    DeleteRecord(u8),
    Collect,
    Flush,
    /// The process dies, and another one opens what it left.
    Die,
}

fn op() -> impl Strategy<Value = Op> {
    let layers = || proptest::collection::vec(0..LAYERS, 0..3);
    prop_oneof![
        2 => any::<bool>().prop_map(|short| Op::Lease { short }),
        2 => any::<usize>().prop_map(Op::EndLease),
        4 => (any::<usize>(), 0..BLOBS).prop_map(|(lease, blob)| Op::PutBlob(lease, blob)),
        4 => (any::<usize>(), 0..LAYERS).prop_map(|(lease, layer)| Op::PutLayer(lease, layer)),
        1 => (any::<usize>(), 0..LAYERS).prop_map(|(lease, layer)| Op::HalfLayer(lease, layer)),
        1 => (any::<usize>(), 0..LAYERS).prop_map(|(lease, layer)| Op::HoldLayer(lease, layer)),
        4 => (any::<usize>(), 0..IMAGES, layers()).prop_map(|(lease, image, layers)| Op::PutImage(lease, image, layers)),
        2 => (0..IMAGES, 0..NAMES).prop_map(|(image, name)| Op::Tag(image, name)),
        1 => (0..NAMES).prop_map(Op::Untag),
        2 => (0..IMAGES).prop_map(Op::RemoveImage),
        1 => (0..RECORDS, proptest::collection::vec(0..BLOBS, 0..3)).prop_map(|(id, blobs)| Op::PutRecord(id, blobs)),
        2 => (0..RECORDS, layers()).prop_map(|(id, layers)| Op::Container(id, layers)),
        2 => (0..RECORDS).prop_map(Op::DeleteRecord),
        4 => Just(Op::Collect),
        1 => Just(Op::Flush),
        2 => Just(Op::Die),
    ]
}

fn layer(number: u8) -> &'static Layer {
    static MADE: OnceLock<Vec<Layer>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let world = World::new();
        (0..LAYERS).map(|n| Layer::of(&world, &[("f", &world::noise(300 + 7 * usize::from(n)))])).collect()
    });
    &made[usize::from(number)]
}

fn blob(number: u8) -> (Vec<u8>, Digest) {
    static MADE: OnceLock<Vec<Digest>> = OnceLock::new();
    let content = |n: u8| format!("blob {n}").into_bytes();
    let made = MADE.get_or_init(|| (0..BLOBS).map(|n| world::digest(&content(n))).collect());
    (content(number), made[usize::from(number)].clone())
}

/// What is kept, in words.
type Things = BTreeSet<String>;

fn thing(resource: &Resource) -> String {
    match resource {
        Resource::Blob(digest) => format!("blob {digest}"),
        Resource::Layer(digest) => format!("layer {digest}"),
        Resource::Snapshot(id) => format!("snapshot {id}"),
    }
}

struct Held {
    lease: Lease,
    short: bool,
    things: Things,
}

/// The model, and the store it is held against.
struct Both {
    world: World,
    root: PathBuf,
    store: Option<Store>,
    deaths: usize,
    begun: usize,
    leases: Vec<Held>,
    /// What leases of the dead keep that outlive the test, and those that last until the next collection.
    kept: Things,
    kept_once: Things,
    there: Things,
    images: BTreeMap<u8, (Digest, Things)>,
    names: BTreeMap<u8, u8>,
    records: BTreeMap<u8, Things>,
    under: BTreeMap<String, Things>,
}

impl Both {
    fn new() -> Self {
        let world = World::new();
        let root = world.root().to_owned();
        let store = Some(Store::open(&root).unwrap());
        Self {
            world,
            root,
            store,
            deaths: 0,
            begun: 0,
            leases: Vec::new(),
            kept: Things::new(),
            kept_once: Things::new(),
            there: Things::new(),
            images: BTreeMap::new(),
            names: BTreeMap::new(),
            records: BTreeMap::new(),
            under: BTreeMap::new(),
        }
    }

    fn store(&self) -> Store {
        self.store.clone().unwrap()
    }

    fn apply(&mut self, op: &Op) {
        let store = self.store();
        match op {
            Op::Lease { short } => {
                let time = if *short { Duration::ZERO } else { Duration::from_secs(3600) };
                self.begun += 1;
                let lease = store.lease(&format!("test {}", self.begun), time).unwrap();
                self.leases.push(Held { lease, short: *short, things: Things::new() });
            }
            Op::EndLease(at) => {
                if !self.leases.is_empty() {
                    let at = at % self.leases.len();
                    self.leases.remove(at);
                }
            }
            Op::PutBlob(at, number) => {
                if let Some(held) = self.lease(*at) {
                    let (content, digest) = blob(*number);
                    store.put_blob(&held.lease, "text/plain", &content).unwrap();
                    self.came(*at, Resource::Blob(digest));
                }
            }
            Op::PutLayer(at, number) => self.put_layer(&store, *at, layer(*number)),
            Op::HalfLayer(at, number) => self.half_layer(&store, *at, layer(*number)),
            Op::HoldLayer(at, number) => {
                if let Some(held) = self.lease(*at) {
                    let resource = Resource::Layer(layer(*number).diff_id.clone());
                    held.lease.hold(&resource).unwrap();
                    held.things.insert(thing(&resource));
                }
            }
            Op::PutImage(at, number, layers) => self.put_image(&store, *at, *number, layers),
            Op::Tag(image, name) => {
                let Some((id, _)) = self.images.get(image) else { return };
                store.transaction(|tx| tx.tag_image(&format!("name{name}"), id)).unwrap();
                self.names.insert(*name, *image);
            }
            Op::Untag(name) => {
                store.transaction(|tx| tx.untag_image(&format!("name{name}"))).unwrap();
                self.names.remove(name);
            }
            Op::RemoveImage(number) => {
                let Some((id, _)) = self.images.remove(number) else { return };
                assert!(store.transaction(|tx| tx.remove_image(&id)).unwrap());
                self.names.retain(|_, image| image != number);
            }
            Op::PutRecord(number, blobs) => self.put_record(&store, *number, blobs),
            Op::Container(number, layers) => self.container(&store, *number, layers),
            Op::DeleteRecord(number) => {
                let id = format!("r{number}");
                store.transaction(|tx| tx.delete_record("thing", &id)).unwrap();
                self.records.remove(number);
            }
            Op::Collect => {
                store.gc().unwrap();
                self.collect();
            }
            Op::Flush => store.flush().unwrap(),
            Op::Die => {
                drop(store);
                self.die();
            }
        }
    }

    fn lease(&mut self, at: usize) -> Option<&mut Held> {
        let count = self.leases.len();
        if count == 0 { None } else { self.leases.get_mut(at % count) }
    }

    /// A lease has brought something.
    fn came(&mut self, at: usize, resource: Resource) {
        self.there.insert(thing(&resource));
        if let Some(held) = self.lease(at) {
            held.things.insert(thing(&resource));
        }
    }

    fn put_layer(&mut self, store: &Store, at: usize, layer: &Layer) {
        let Some(held) = self.lease(at) else { return };
        match store.write_layer(&held.lease, layer.expected(LAYER)) {
            Ok(mut writer) => {
                let offset = usize::try_from(writer.offset()).unwrap();
                writer.write(&layer.bytes[offset..]).unwrap();
                writer.commit(Some(&layer.diff_id)).unwrap();
            }
            Err(Error::Exists { .. }) => {
                store.unpack_blob(&held.lease, &layer.digest, Some(&layer.diff_id)).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
        self.came(at, Resource::Blob(layer.digest.clone()));
        self.came(at, Resource::Layer(layer.diff_id.clone()));
    }

    fn half_layer(&mut self, store: &Store, at: usize, layer: &Layer) {
        let Some(held) = self.lease(at) else { return };
        // What it is about it keeps, should it be there.
        held.things.insert(thing(&Resource::Blob(layer.digest.clone())));
        if let Ok(mut writer) = store.write_layer(&held.lease, layer.expected(LAYER)) {
            let offset = usize::try_from(writer.offset()).unwrap();
            let half = (layer.bytes.len() / 2).max(offset);
            writer.write(&layer.bytes[offset..half]).unwrap();
        }
    }

    fn put_image(&mut self, store: &Store, at: usize, number: u8, layers: &[u8]) {
        if self.images.contains_key(&number) {
            return;
        }
        let Some(held) = self.lease(at) else { return };
        let text = format!("manifest {number} of {layers:?}");
        let config = format!("config of {text}");
        let id = store.put_blob(&held.lease, MANIFEST, text.as_bytes()).unwrap();
        let config_digest = store.put_blob(&held.lease, CONFIG, config.as_bytes()).unwrap();
        let parts = layers.iter().map(|number| layer(*number)).map(|layer| ImageLayer {
            digest: layer.digest.clone(),
            size: layer.bytes.len() as u64,
            media_type: LAYER.into(),
            diff_id: layer.diff_id.clone(),
        });
        let image = NewImage {
            id: id.clone(),
            media_type: MANIFEST.into(),
            size: text.len() as u64,
            manifests: vec![PlatformManifest {
                digest: id.clone(),
                size: text.len() as u64,
                media_type: MANIFEST.into(),
                platform: "linux/amd64".into(),
                config: config_digest.clone(),
                config_size: config.len() as u64,
                layers: parts.collect(),
            }],
            other_blobs: Vec::new(),
            parent: None,
        };
        self.came(at, Resource::Blob(id.clone()));
        self.came(at, Resource::Blob(config_digest.clone()));
        let mut keeps =
            Things::from([thing(&Resource::Blob(id.clone())), thing(&Resource::Blob(config_digest))]);
        for layer in layers.iter().map(|number| layer(*number)) {
            keeps.insert(thing(&Resource::Blob(layer.digest.clone())));
            keeps.insert(thing(&Resource::Layer(layer.diff_id.clone())));
        }
        let put = store.durable_transaction(|tx| tx.put_image(&image));
        // All of it has to be there.
        assert_eq!(put.is_ok(), keeps.is_subset(&self.there), "{put:?}");
        if put.is_ok() {
            self.images.insert(number, (id, keeps));
        }
    }

    fn put_record(&mut self, store: &Store, number: u8, blobs: &[u8]) {
        let id = format!("r{number}");
        let resources: Vec<Resource> = blobs
            .iter()
            .map(|number| Resource::Blob(blob(*number).1))
            .filter(|resource| self.there.contains(&thing(resource)))
            .collect();
        store
            .transaction(|tx| {
                tx.put_record(&NewRecord { kind: "thing", id: &id, name: None, json: b"{}" })?;
                tx.set_record_resources("thing", &id, &resources)
            })
            .unwrap();
        self.records.insert(number, resources.iter().map(thing).collect());
    }

    fn container(&mut self, store: &Store, number: u8, layers: &[u8]) {
        let id = format!("r{number}");
        let snapshot = format!("{number}-{}", self.under.len());
        let diff_ids: Vec<Digest> = layers.iter().map(|number| layer(*number).diff_id.clone()).collect();
        let below: Things = diff_ids.iter().map(|id| thing(&Resource::Layer(id.clone()))).collect();
        if self.under.contains_key(&snapshot) {
            return;
        }
        let prepared = store.prepare_snapshot(&snapshot, &diff_ids);
        assert_eq!(prepared.is_ok(), below.is_subset(&self.there), "{prepared:?}");
        let Ok(prepared) = prepared else { return };
        let resource = Resource::Snapshot(snapshot.clone());
        store
            .transaction(|tx| {
                tx.put_record(&NewRecord { kind: "thing", id: &id, name: None, json: b"{}" })?;
                tx.set_record_resources("thing", &id, std::slice::from_ref(&resource))?;
                tx.add_snapshot(prepared)
            })
            .unwrap();
        self.there.insert(thing(&resource));
        self.records.insert(number, Things::from([thing(&resource)]));
        self.under.insert(snapshot, below);
    }

    /// What must stay: what somebody keeps, and what is under the snapshots of those.
    fn collect(&mut self) {
        self.kept_once.clear();
        let mut reached = self.kept.clone();
        reached.extend(self.leases.iter().flat_map(|held| held.things.clone()));
        reached.extend(self.images.values().flat_map(|(_, things)| things.clone()));
        reached.extend(self.records.values().flatten().cloned());
        let snapshots = self.under.iter().filter(|(id, _)| reached.contains(&format!("snapshot {id}")));
        let below: Things = snapshots.flat_map(|(_, layers)| layers.clone()).collect();
        reached.extend(below);
        self.there.retain(|thing| reached.contains(thing));
        self.under.retain(|id, _| reached.contains(&format!("snapshot {id}")));
    }

    /// As `kill -9` would: the disk as it is at this moment is what the next process finds.
    fn die(&mut self) {
        self.deaths += 1;
        let next = self.world.dir().join(format!("data{}", self.deaths));
        let copied = Command::new("cp").arg("-a").arg("--").arg(&self.root).arg(&next).status().unwrap();
        assert!(copied.success());
        for held in self.leases.drain(..) {
            if held.short { &mut self.kept_once } else { &mut self.kept }.extend(held.things);
        }
        self.store = None;
        std::fs::remove_dir_all(&self.root).unwrap();
        self.root = next;
        self.store = Some(Store::open(&self.root).unwrap());
    }

    /// The store is what the model is, and whole.
    fn compare(&self) {
        let store = self.store();
        let checked = store.check(&mut CheckOptions { quick: false, progress: &mut |_| true }).unwrap();
        assert_eq!(checked.problems, []);
        let count = |kind: &str| self.there.iter().filter(|thing| thing.starts_with(kind)).count() as u64;
        let totals = store.totals().unwrap();
        assert_eq!(
            (totals.blobs, totals.layers, totals.snapshots, totals.images),
            (count("blob "), count("layer "), count("snapshot "), self.images.len() as u64)
        );
        for number in 0..BLOBS {
            let (content, digest) = blob(number);
            let there = self.there.contains(&format!("blob {digest}"));
            assert_eq!(store.read_blob(&digest, 1000).ok(), there.then_some(content));
        }
        for number in 0..LAYERS {
            let diff_id = &layer(number).diff_id;
            let there = self.there.contains(&format!("layer {diff_id}"));
            assert_eq!(store.layer(diff_id).unwrap().is_some(), there);
        }
        for (number, (id, _)) in &self.images {
            let image = store.transaction(|tx| tx.image(id)).unwrap().unwrap();
            let names = self.names.iter().filter(|(_, image)| *image == number);
            assert_eq!(image.names, names.map(|(name, _)| format!("name{name}")).collect::<Vec<_>>());
        }
        for id in self.under.keys() {
            assert!(Path::new(&store.mounts(id).unwrap().upper.unwrap()).is_dir());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_what_its_model_is(ops in proptest::collection::vec(op(), 1..40)) {
        let mut both = Both::new();
        for op in &ops {
            both.apply(op);
            both.compare();
        }
        // Once nobody keeps anything, nothing is left.
        both.leases.clear();
        for number in 0..IMAGES {
            both.apply(&Op::RemoveImage(number));
        }
        for number in 0..RECORDS {
            both.apply(&Op::DeleteRecord(number));
        }
        both.apply(&Op::Collect);
        both.compare();
        prop_assert!(both.there.is_subset(&both.kept), "{:?}", both.there);
    }
}
