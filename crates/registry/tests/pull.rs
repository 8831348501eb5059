//! Pulls into a real store, from Debian's registry and from one that misbehaves.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use kit::faulty::{Fault, Faulty};
use kit::fixtures::{self, Entry, Image, Layer, Layout, Packing};
use kit::http::Answer;
use kit::registry::Registry;
use oci::{Platform, Reference};
use registry::pull::{Event, Pulled, Step};
use registry::{Client, Credentials, Error, Limits, Options, Puller, Request, Result};
use serde_json::json;
use storage::Store;

struct Engine {
    puller: Puller,
    store: Store,
    _root: tempfile::TempDir,
}

impl Engine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let limits = Limits {
            pause_first: Duration::from_millis(5),
            pause_max: Duration::from_millis(50),
            idle_timeout: Duration::from_secs(5),
            tries_max: 4,
            ..Limits::default()
        };
        let client = Client::new(Options { certificates: Vec::new(), limits, ..Options::default() }).unwrap();
        Self { puller: Puller::new(client, store.clone(), 3), store, _root: root }
    }

    async fn pull(&self, name: &str) -> Result<Pulled> {
        self.pull_for(name, None).await
    }

    async fn pull_for(&self, name: &str, platform: Option<&str>) -> Result<Pulled> {
        let request = Request {
            reference: Reference::parse_familiar(name).unwrap(),
            platform: platform.map(|platform| Platform::parse(platform).unwrap()),
            credentials: Credentials::Anonymous,
            known: None,
        };
        self.puller.pull(&request, &|_| {}).await
    }

    /// Records the image, as the engine does.
    fn keep(&self, pulled: Pulled) {
        self.store.transaction(|tx| tx.put_image(&pulled.image)).unwrap();
    }

    /// Nothing is kept, nothing is left, once the threads of what was given up have ended.
    async fn assert_empty(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            self.store.gc().unwrap();
            let totals = self.store.totals().unwrap();
            let layers = std::fs::read_dir(self.store.root().join("layers")).unwrap().count();
            if (totals.blobs, totals.layers, layers) == (0, 0, 0) {
                return;
            }
            assert!(Instant::now() < deadline, "left: {totals:?}, {layers} directories");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn layers(count: u64, bytes: usize) -> Image {
    Image::new((1..=count).map(|n| fixtures::noise_layer(bytes, n)).collect(), json!({"Cmd": ["true"]}))
}

#[tokio::test]
async fn an_image_comes_in_byte_for_byte_and_is_not_fetched_twice() {
    let registry = Registry::start();
    let image = fixtures::packings();
    let layout = Layout::new(std::slice::from_ref(&image));
    let name = registry.push(&layout, "a:1");
    let engine = Engine::new();
    let told = Mutex::new(Vec::new());
    let request = Request {
        reference: Reference::parse_familiar(&name).unwrap(),
        platform: None,
        credentials: Credentials::Anonymous,
        known: None,
    };
    let pulled = engine.puller.pull(&request, &|event| told.lock().unwrap().push(event)).await.unwrap();
    assert!(pulled.fetched);
    assert_eq!(pulled.image.id.as_str(), layout.digest);
    let manifest = engine.store.read_blob(&pulled.image.id, 1 << 20).unwrap();
    assert_eq!(manifest, image.manifest_bytes());
    let config = engine.store.read_blob(&pulled.image.manifests[0].config, 1 << 20).unwrap();
    assert_eq!(config, image.config_bytes());
    for layer in &pulled.image.manifests[0].layers {
        assert!(engine.store.layer(&layer.diff_id).unwrap().is_some());
    }
    let first = image.layers[0].digest();
    let steps: Vec<Step> = told
        .into_inner()
        .unwrap()
        .into_iter()
        .filter_map(|event| match event {
            Event::Layer(layer, step) if layer.as_str() == first => Some(step),
            _ => None,
        })
        .filter(|step| !matches!(step, Step::Downloading { .. } | Step::Waiting))
        .collect();
    let total = image.layers[0].bytes.len() as u64;
    assert_eq!(
        steps,
        [
            Step::Pending,
            Step::Verifying,
            Step::Downloaded,
            Step::Extracting { current: total, total },
            Step::Complete
        ]
    );
    let id = pulled.image.id.clone();
    engine.keep(pulled);

    let known = Request { known: Some(id), ..request };
    let told = Mutex::new(Vec::new());
    let again = engine.puller.pull(&known, &|event| told.lock().unwrap().push(event)).await.unwrap();
    assert!(!again.fetched);
    let steps = told.into_inner().unwrap();
    assert!(steps[1..].iter().all(|event| matches!(event, Event::Layer(_, Step::Exists))), "{steps:?}");
}

#[tokio::test]
async fn platforms_are_chosen_from_an_index() {
    let registry = Registry::start();
    let other = if fixtures::host_architecture() == "amd64" { "arm64" } else { "amd64" };
    let mut images = vec![layers(1, 1000), layers(1, 2000)];
    images[1].architecture = other.into();
    let layout = Layout::new(&images);
    let name = registry.push(&layout, "multi:1");
    let engine = Engine::new();
    let own = engine.pull(&name).await.unwrap();
    assert_eq!(own.image.id.as_str(), layout.digest);
    assert_eq!(own.image.manifests[0].digest.as_str(), layout.manifests[0]);
    let foreign = engine.pull_for(&name, Some(&format!("linux/{other}"))).await.unwrap();
    assert_eq!(foreign.image.id, own.image.id);
    assert_eq!(foreign.image.manifests[0].digest.as_str(), layout.manifests[1]);
    let error = engine.pull_for(&name, Some("linux/s390x")).await.unwrap_err();
    assert_eq!(error.to_string(), "no matching manifest for linux/s390x in the manifest list entries");
    drop((own, foreign));
    engine.assert_empty().await;

    let single = registry.push(&Layout::new(&[layers(1, 1000)]), "single:1");
    let error = engine.pull_for(&single, Some(&format!("linux/{other}"))).await.unwrap_err();
    assert!(matches!(error, Error::Image(_)), "{error}");
}

#[tokio::test]
async fn docker_schema_2_is_read_as_well() {
    let registry = Registry::start();
    let image = layers(2, 1000);
    let digest = registry.push_schema2(&Layout::new(&[image]), "schema2:1");
    let engine = Engine::new();
    let pulled = engine.pull(&format!("{}/schema2@{digest}", registry.host())).await.unwrap();
    assert_eq!(pulled.image.media_type, "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(pulled.image.id.as_str(), digest);
    assert_eq!(pulled.image.manifests[0].layers.len(), 2);
}

#[tokio::test]
async fn many_layers_and_doubled_ones() {
    let registry = Registry::start();
    let mut image = layers(60, 3000);
    image.layers.push(image.layers[3].clone());
    let name = registry.push(&Layout::new(&[image]), "many:1");
    let pulled = Engine::new().pull(&name).await.unwrap();
    assert_eq!(pulled.image.manifests[0].layers.len(), 61);
}

#[tokio::test]
async fn two_pulls_share_a_download() {
    let registry = Registry::start();
    let image = layers(1, 400_000);
    registry.push(&Layout::new(std::slice::from_ref(&image)), "x:1");
    let faulty = Faulty::start(&registry.host());
    faulty.fault("/blobs/sha256:", Fault::Hold(100_000), 1);
    let layer = image.layers[0].digest();
    let engine = Engine::new();
    let name = format!("{}/x:1", faulty.host());
    // The configuration is a blob too, and smaller than what is held.
    let both = async { tokio::join!(engine.pull(&name), engine.pull(&name)) };
    let release = tokio::task::spawn_blocking({
        let faulty = std::sync::Arc::new(faulty);
        let waiting = faulty.clone();
        move || {
            waiting.release();
            waiting
        }
    });
    let (one, two) = both.await;
    let faulty = release.await.unwrap();
    assert_eq!(one.unwrap().image.id, two.unwrap().image.id);
    let asked = faulty.asked();
    assert_eq!(asked.iter().filter(|asked| asked.path.ends_with(&layer)).count(), 1, "{asked:?}");
}

#[tokio::test]
async fn a_dropped_pull_is_resumed_by_the_next() {
    let registry = Registry::start();
    let image = layers(1, 2_000_000);
    registry.push(&Layout::new(std::slice::from_ref(&image)), "x:1");
    let faulty = Faulty::start(&registry.host());
    let layer = image.layers[0].digest();
    faulty.fault(&layer, Fault::Hold(1_500_000), 1);
    let engine = Engine::new();
    let name = format!("{}/x:1", faulty.host());
    let halfway = tokio::sync::Notify::new();
    let request = Request {
        reference: Reference::parse_familiar(&name).unwrap(),
        platform: None,
        credentials: Credentials::Anonymous,
        known: None,
    };
    let tell = |event: Event| {
        if matches!(event, Event::Layer(_, Step::Downloading { current, .. }) if current > 1_000_000) {
            halfway.notify_one();
        }
    };
    tokio::select! {
        done = engine.puller.pull(&request, &tell) => panic!("{:?}", done.map(|pulled| pulled.image)),
        () = halfway.notified() => {}
    }
    engine.pull(&name).await.unwrap();
    let resumed = faulty.asked().into_iter().rfind(|asked| asked.path.ends_with(&layer)).unwrap();
    let from: u64 = resumed.range.unwrap()[6..].trim_end_matches('-').parse().unwrap();
    assert!(from > 900_000, "resumed at {from}");
}

#[tokio::test]
async fn a_broken_connection_is_resumed() {
    let registry = Registry::start();
    let image = layers(3, 500_000);
    registry.push(&Layout::new(std::slice::from_ref(&image)), "x:1");
    let faulty = Faulty::start(&registry.host());
    for layer in &image.layers {
        faulty.fault(&layer.digest(), Fault::CutAfter(300_000), 1);
    }
    let engine = Engine::new();
    engine.pull(&format!("{}/x:1", faulty.host())).await.unwrap();
    let size: u64 = image.layers.iter().map(|layer| layer.bytes.len() as u64).sum();
    assert!(faulty.sent("/blobs/") < size + 10_000, "nothing is fetched twice");
}

#[tokio::test]
async fn corrupt_layers_are_refused_and_leave_nothing() {
    let registry = Registry::start();
    let image = layers(2, 300_000);
    registry.push(&Layout::new(std::slice::from_ref(&image)), "x:1");
    let faulty = Faulty::start(&registry.host());
    let engine = Engine::new();
    let name = format!("{}/x:1", faulty.host());
    for at in [5, 100_000, 299_990] {
        faulty.fault(&image.layers[1].digest(), Fault::Corrupt(at), 1);
        let error = engine.pull(&name).await.unwrap_err();
        assert!(matches!(error, Error::Layer(_)), "{error}");
        engine.assert_empty().await;
    }
    engine.pull(&name).await.unwrap();
}

#[tokio::test]
async fn a_download_damaged_by_an_earlier_crash_is_begun_anew() {
    let registry = Registry::start();
    let image = layers(1, 600_000);
    let name = registry.push(&Layout::new(std::slice::from_ref(&image)), "x:1");
    let engine = Engine::new();
    let hex = image.layers[0].digest()[7..].to_owned();
    let ingest = engine.store.root().join(format!("content/ingest/sha256-{hex}"));
    std::fs::create_dir_all(&ingest).unwrap();
    let mut half = image.layers[0].bytes[..200_000].to_vec();
    half[150_000..].fill(0);
    std::fs::write(ingest.join("data"), half).unwrap();
    engine.pull(&name).await.unwrap();
}

/// A registry without a registry: documents as an attacker writes them.
fn forged(documents: &[(&str, &str, Vec<u8>)]) -> Faulty {
    let alone = Faulty::alone();
    for (path, content_type, bytes) in documents {
        alone.fault(path, Fault::Instead(Answer::new(200, content_type, bytes.clone())), 100);
    }
    alone
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[tokio::test]
async fn one_digest_cannot_be_two_things() {
    let image = layers(1, 1000);
    let config = image.config_bytes();
    let config_digest = fixtures::digest(&config);
    // The configuration is also said to be the layer.
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": config_digest, "size": config.len()}],
    });
    let alone = forged(&[
        ("/manifests/", MANIFEST, manifest.to_string().into_bytes()),
        (&format!("/blobs/{config_digest}"), "x/y", config),
    ]);
    let engine = Engine::new();
    let error = engine.pull(&format!("{}/x:1", alone.host())).await.unwrap_err();
    assert!(error.to_string().contains("is used as"), "{error}");
    engine.assert_empty().await;

    // A document with the fields of a manifest and of an index.
    let both = json!({"schemaVersion": 2, "manifests": [], "config": {}, "layers": []});
    let alone = forged(&[("/manifests/", MANIFEST, both.to_string().into_bytes())]);
    let error = engine.pull(&format!("{}/x:1", alone.host())).await.unwrap_err();
    assert!(error.to_string().starts_with("ambiguous manifest"), "{error}");
}

#[tokio::test]
async fn what_the_configuration_promises_is_held_against_the_layers() {
    let registry = Registry::start();
    let mut image = layers(1, 1000);
    image.layers[0].diff_id = format!("sha256:{}", "2".repeat(64));
    let name = registry.push(&Layout::new(std::slice::from_ref(&image)), "lie:1");
    let engine = Engine::new();
    let error = engine.pull(&name).await.unwrap_err();
    assert!(matches!(error, Error::Layer(_)), "{error}");
    engine.assert_empty().await;
    // The same lie where the blob is here already, by an honest image.
    let honest = layers(1, 1000);
    let honest_name = registry.push(&Layout::new(&[honest]), "honest:1");
    let pulled = engine.pull(&honest_name).await.unwrap();
    let error = engine.pull(&name).await.unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    drop(pulled);
}

#[tokio::test]
async fn ten_thousand_layers_are_refused() {
    let layer = Layer::new(&[Entry::file("f", "x")], Packing::Plain);
    let descriptor =
        json!({"mediaType": layer.media_type, "digest": layer.digest(), "size": layer.bytes.len()});
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": vec![&layer.diff_id; 10_000]}});
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": fixtures::digest(&config), "size": config.len()},
        "layers": vec![descriptor; 10_000],
    });
    let alone = forged(&[
        ("/manifests/", MANIFEST, manifest.to_string().into_bytes()),
        (&format!("/blobs/{}", layer.digest()), "x/y", layer.bytes.clone()),
        ("/blobs/", "x/y", config),
    ]);
    let engine = Engine::new();
    let error = engine.pull(&format!("{}/x:1", alone.host())).await.unwrap_err();
    assert_eq!(error.to_string(), "max depth exceeded");
    engine.assert_empty().await;
}

#[tokio::test]
async fn an_index_that_leads_to_itself_comes_to_an_end() {
    let bytes = |digest: &str, size: usize| {
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
            {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": size}
        ]})
        .to_string()
        .into_bytes()
    };
    // No document can hold its own digest; a chain of them is as deep as one likes.
    let mut documents = Vec::new();
    let mut digest = format!("sha256:{}", "3".repeat(64));
    let mut size = 3;
    for _ in 0..8 {
        let document = bytes(&digest, size);
        (digest, size) = (fixtures::digest(&document), document.len());
        documents.push((format!("/manifests/{digest}"), document));
    }
    let top = documents.pop().unwrap().1;
    let mut all: Vec<(&str, &str, Vec<u8>)> =
        vec![("/manifests/1", "application/vnd.oci.image.index.v1+json", top)];
    for (path, document) in &documents {
        all.push((path, "application/vnd.oci.image.index.v1+json", document.clone()));
    }
    let alone = forged(&all);
    let engine = Engine::new();
    let error = engine.pull(&format!("{}/x:1", alone.host())).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    engine.assert_empty().await;
}

#[tokio::test]
async fn a_bomb_is_defused() {
    let registry = Registry::start();
    // 1.5 GB of zeros in 1.5 MB.
    let mut encoder = zstd_of_zeros(1_500_000_000);
    let image = Image::new(vec![encoder.remove(0)], json!({}));
    let name = registry.push(&Layout::new(&[image]), "bomb:1");
    let engine = Engine::new();
    let error = engine.pull(&name).await;
    assert!(matches!(error, Err(Error::Layer(_))), "{:?}", error.map(|pulled| pulled.image));
    engine.assert_empty().await;
}

/// A layer whose one file is this many zeros.
fn zstd_of_zeros(bytes: u64) -> Vec<Layer> {
    // The digest of the archive is never reached, so none is computed.
    let mut layer = Layer::new(&[], Packing::Zstd);
    layer.bytes = fixtures::zeros_packed(bytes);
    layer.diff_id = format!("sha256:{}", "4".repeat(64));
    vec![layer]
}
