//! The image service over a real store and Debian's registry.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::{Arc, Mutex};

use api::Filters;
use api::stream::Progress;
use engine::events::Events;
use engine::images::{
    AttestationOptions, Credentials, Images, ListOptions, PullOptions, Use, parse_platform, parse_reference,
};
use engine::{Kind, Result};
use kit::fixtures::{self, Image, Layout};
use kit::registry::Registry;
use serde_json::json;
use storage::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

struct Host {
    images: Images,
    uses: Arc<Mutex<Vec<Use>>>,
    store: Store,
    _root: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let client = registry::Client::new(registry::Options::default()).unwrap();
        let uses: Arc<Mutex<Vec<Use>>> = Arc::default();
        let asked = uses.clone();
        let background = (TaskTracker::new(), CancellationToken::new());
        let events = Arc::new(Events::default());
        let who = Arc::new(move || asked.lock().unwrap().clone());
        let images = Images::new(store.clone(), client, (3, 5), events, who, background);
        Self { images, uses, store, _root: root }
    }

    async fn pull_lines(&self, name: &str, platform: &str) -> Result<Vec<Progress>> {
        let mut pulling = self.images.pull(PullOptions {
            reference: parse_reference(name, "")?.or_latest(),
            platform: parse_platform(platform)?,
            credentials: Credentials::Anonymous,
        });
        let mut lines = Vec::new();
        while let Some(line) = pulling.next().await {
            lines.push(line?);
        }
        Ok(lines)
    }

    async fn pull(&self, name: &str) {
        self.pull_lines(name, "").await.unwrap();
    }

    /// `repository:tag` of all images in the list.
    async fn list(&self, filters: &[(&str, &str)]) -> Result<Vec<String>> {
        let mut options = ListOptions::default();
        for (name, value) in filters {
            options.filters.add(*name, *value);
        }
        let mut names: Vec<String> = self
            .images
            .list(options)
            .await?
            .into_iter()
            .map(|image| if image.repo_tags.is_empty() { "<none>".into() } else { image.repo_tags.join(" ") })
            .collect();
        names.sort();
        Ok(names)
    }

    fn used_by(&self, image: &str, running: bool) {
        *self.uses.lock().unwrap() =
            vec![Use { image: image.into(), manifest: String::new(), container: "c".repeat(64), running }];
    }
}

fn small(seed: u64, label: &str) -> Image {
    let config =
        json!({"Cmd": ["true"], "Env": ["A=1"], "Labels": {"kind": label}, "Volumes": {"/data": {}}});
    Image::new(vec![fixtures::noise_layer(1000, seed)], config)
}

#[tokio::test]
async fn a_pull_is_told_in_dockers_lines() {
    let registry = Registry::start();
    let image = small(1, "a");
    let layout = Layout::new(std::slice::from_ref(&image));
    let name = registry.push(&layout, "team/app:1");
    let host = Host::new();
    let lines = host.pull_lines(&name, "").await.unwrap();
    let layer = &image.layers[0];
    let (id, size) = (&layer.digest()[7..19], layer.bytes.len());
    let told: Vec<serde_json::Value> = lines
        .iter()
        .filter(|line| !line.status.starts_with("Downloading"))
        .map(|line| serde_json::to_value(line).unwrap())
        .collect();
    assert_eq!(
        told,
        [
            json!({"status": "Pulling from team/app", "id": "1"}),
            json!({"status": "Pulling fs layer", "progressDetail": {}, "id": id}),
            json!({"status": "Verifying Checksum", "progressDetail": {}, "id": id}),
            json!({"status": "Download complete", "progressDetail": {}, "id": id}),
            json!({"status": "Extracting", "progressDetail": {"current": size, "total": size}, "id": id}),
            json!({"status": "Pull complete", "progressDetail": {}, "id": id}),
            json!({"status": format!("Digest: {}", layout.digest)}),
            json!({"status": format!("Status: Downloaded newer image for {name}")}),
        ]
    );
    let again = host.pull_lines(&name, "").await.unwrap();
    let told: Vec<&str> = again.iter().map(|line| line.status.as_str()).collect();
    let digest = format!("Digest: {}", layout.digest);
    let status = format!("Status: Image is up to date for {name}");
    assert_eq!(told, ["Pulling from team/app", "Already exists", &digest, &status]);

    let by_digest = format!("{}/team/app@{}", registry.host(), layout.digest);
    let lines = host.pull_lines(&by_digest, "").await.unwrap();
    assert_eq!(lines[0].id, layout.digest);
    let inspected = host.images.inspect(&by_digest, "", false).await.unwrap();
    assert_eq!(inspected.repo_tags, std::slice::from_ref(&name));
    assert_eq!(inspected.repo_digests, [by_digest]);
    assert_eq!(inspected.id, layout.digest);
}

#[tokio::test]
async fn an_error_before_anything_was_told_has_its_kind() {
    let registry = Registry::start();
    let name = registry.push(&Layout::new(&[small(1, "a")]), "app:1");
    let host = Host::new();
    let missing = format!("{}/app:2", registry.host());
    let error = host.pull_lines(&missing, "").await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(
        error.to_string(),
        format!("manifest for {missing} not found: manifest unknown: manifest unknown")
    );
    let error = host.pull_lines(&name, "linux/s390x").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (Kind::NotFound, "no matching manifest for linux/s390x in the manifest list entries")
    );
    assert_eq!(parse_reference("UPPER", "").unwrap_err().kind(), Kind::InvalidParameter);
    assert!(host.list(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn hello_world_needs_no_registry() {
    let host = Host::new();
    let lines = host.pull_lines("hello-world", "").await.unwrap();
    assert_eq!(lines[0].status, "Pulling from library/hello-world");
    assert_eq!(lines.last().unwrap().status, "Status: Downloaded newer image for hello-world:latest");
    let again = host.pull_lines("hello-world", "").await.unwrap();
    assert_eq!(again.last().unwrap().status, "Status: Image is up to date for hello-world:latest");
    let inspected = host.images.inspect("hello-world", "", true).await.unwrap();
    assert_eq!(inspected.config.unwrap().cmd, ["/hello"]);
    let available: Vec<bool> = inspected.manifests.iter().map(|manifest| manifest.available).collect();
    assert_eq!(available.iter().filter(|here| **here).count(), 1);
    assert_eq!(available.len(), 2);
    let resolved = host.images.resolve("hello-world", None).await.unwrap();
    assert_eq!(resolved.id.as_str(), inspected.id);
}

#[tokio::test]
async fn lists_are_filtered() {
    let registry = Registry::start();
    let host = Host::new();
    let one = registry.push(&Layout::new(&[small(1, "a")]), "team/one:1");
    let two = registry.push(&Layout::new(&[small(2, "b")]), "two:2");
    host.pull(&one).await;
    host.pull(&two).await;
    host.images.tag(&one, "copy", "").await.unwrap();
    let both = format!("{one} copy:latest");
    let both = if one.as_str() < "copy:latest" { both } else { format!("copy:latest {one}") };
    let mut all = vec![both.clone(), two.clone()];
    all.sort();
    assert_eq!(host.list(&[]).await.unwrap(), all);
    assert_eq!(host.list(&[("label", "kind=b")]).await.unwrap(), std::slice::from_ref(&two));
    assert_eq!(host.list(&[("label!", "kind=b")]).await.unwrap(), std::slice::from_ref(&both));
    assert_eq!(host.list(&[("reference", "copy")]).await.unwrap(), ["copy:latest"]);
    assert_eq!(host.list(&[("reference", "*/team/one:*")]).await.unwrap(), std::slice::from_ref(&one));
    assert!(host.list(&[("dangling", "true")]).await.unwrap().is_empty());
    assert_eq!(host.list(&[("dangling", "false")]).await.unwrap().len(), 2);
    assert_eq!(host.list(&[("until", "2020-01-01")]).await.unwrap().len(), 0);
    assert_eq!(host.list(&[("until", "2025-01-01")]).await.unwrap().len(), 2);
    assert_eq!(host.list(&[("before", "copy")]).await.unwrap().len(), 0);
    for (filter, value, words) in [
        ("colour", "red", "invalid filter 'colour'"),
        ("dangling", "maybe", "invalid filter 'dangling=[maybe]'"),
        ("since", "nosuch", "No such image: nosuch:latest"),
    ] {
        assert_eq!(host.list(&[(filter, value)]).await.unwrap_err().to_string(), words);
    }

    let summary = host.images.list(ListOptions { shared_size: true, manifests: true, ..Default::default() });
    for image in summary.await.unwrap() {
        assert_eq!(image.shared_size, 0);
        assert!(image.size > 1000);
        assert_eq!(image.created, 1_704_067_200);
        assert_eq!(image.manifests.len(), 1);
        assert!(image.manifests[0].available);
    }
}

#[tokio::test]
async fn images_are_looked_at() {
    let registry = Registry::start();
    let host = Host::new();
    let image = small(1, "a");
    let layout = Layout::new(std::slice::from_ref(&image));
    let name = registry.push(&layout, "app:1");
    host.pull(&name).await;
    let inspected = host.images.inspect(&layout.digest[7..20], "", false).await.unwrap();
    let config = inspected.config.unwrap();
    assert_eq!((config.cmd, config.env), (vec!["true".to_owned()], vec!["A=1".to_owned()]));
    assert!(config.volumes.contains_key("/data"));
    assert_eq!(inspected.root_fs.layers, [image.layers[0].diff_id.clone()]);
    assert_eq!(inspected.os, "linux");
    let history = host.images.history(&name, "").await.unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!(
        (history[0].id.as_str(), history[0].tags[0].as_str()),
        (layout.digest.as_str(), name.as_str())
    );
    assert_eq!(history[0].created_by, "layer 0");
    let wrong = host.images.inspect(&name, "linux/s390x", false).await.unwrap_err();
    assert_eq!(wrong.kind(), Kind::NotFound);
    for missing in ["nosuch", "0123456789ab"] {
        let error = host.images.inspect(missing, "", false).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (Kind::NotFound, format!("No such image: {missing}:latest"))
        );
    }
}

#[tokio::test]
async fn removal_takes_names_then_the_image_then_its_content() {
    let registry = Registry::start();
    let host = Host::new();
    let layout = Layout::new(&[small(1, "a")]);
    let name = registry.push(&layout, "app:1");
    host.pull(&name).await;
    host.images.tag(&name, "other", "2").await.unwrap();

    let gone = host.images.remove("other:2", false).await.unwrap();
    assert_eq!((gone.len(), gone[0].untagged.as_str()), (1, "other:2"));
    host.used_by(&layout.digest, true);
    let error = host.images.remove(&name, false).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    // Forced, it loses its name, and stays as long as its container runs.
    let gone = host.images.remove(&name, true).await.unwrap();
    assert_eq!((gone.len(), gone[0].untagged.as_str()), (1, name.as_str()));
    assert_eq!(host.list(&[("dangling", "true")]).await.unwrap(), ["<none>"]);
    assert!(host.images.prune(Filters::default()).await.unwrap().images_deleted.is_empty());
    host.uses.lock().unwrap().clear();
    let report = host.images.prune(Filters::default()).await.unwrap();
    assert_eq!(report.images_deleted.len(), 1);
    assert_eq!(report.images_deleted[0].deleted, layout.digest);
    assert!(report.space_reclaimed > 1000);
    let totals = host.store.totals().unwrap();
    assert_eq!((totals.blobs, totals.layers), (0, 0));
    assert!(host.images.remove(&name, false).await.unwrap_err().to_string().starts_with("No such image: "));
}

#[tokio::test]
async fn a_name_that_moves_on_leaves_its_image_dangling() {
    let registry = Registry::start();
    let host = Host::new();
    let old = Layout::new(&[small(1, "a")]);
    let new = Layout::new(&[small(2, "b")]);
    let name = registry.push(&old, "app:1");
    host.pull(&name).await;
    registry.push(&new, "app:1");
    let lines = host.pull_lines(&name, "").await.unwrap();
    assert_eq!(lines.last().unwrap().status, format!("Status: Downloaded newer image for {name}"));
    assert_eq!(host.list(&[]).await.unwrap(), [name.clone(), "<none>".into()].map(String::from));
    let resolved = host.images.resolve(&name, None).await.unwrap();
    assert_eq!(resolved.id.as_str(), new.digest);
    let report = host.images.prune(Filters::default()).await.unwrap();
    assert_eq!(report.images_deleted[0].deleted, old.digest);
    let mut all = Filters::default();
    all.add("dangling", "false");
    let report = host.images.prune(all).await.unwrap();
    assert_eq!(report.images_deleted[0].untagged, name);
}

/// An index with the image `name`, which is here, and one statement about it, which is here or not.
fn attested(host: &Host, name: &str, here: bool) -> oci::Digest {
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    let image = host.store.transaction(|tx| tx.image_by_name(name)).unwrap().unwrap().image;
    let lease = host.store.lease("test", std::time::Duration::from_secs(60)).unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        if here {
            host.store.put_blob(&lease, media_type, bytes).unwrap();
        }
        fixtures::digest(bytes)
    };
    let statement = br#"{"_type": "https://in-toto.io/Statement/v0.1",  "predicate": {"z": 1, "a": 2}}"#;
    let config = br#"{"architecture": "unknown"}"#;
    let layer = json!({
        "mediaType": "application/vnd.in-toto+json", "digest": put("application/vnd.in-toto+json", statement),
        "size": statement.len(), "annotations": {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"},
    });
    let attestation = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [layer],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                   "digest": put("application/vnd.oci.image.config.v1+json", config), "size": config.len()},
    });
    let attestation = serde_json::to_vec(&attestation).unwrap();
    let manifest = &image.manifests[0];
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": MANIFEST, "digest": manifest.digest, "size": manifest.size,
         "platform": {"os": "linux", "architecture": fixtures::host_architecture()}},
        {"mediaType": MANIFEST, "digest": put(MANIFEST, &attestation), "size": attestation.len(),
         "platform": {"os": "unknown", "architecture": "unknown"},
         "annotations": {"vnd.docker.reference.type": "attestation-manifest",
                         "vnd.docker.reference.digest": manifest.digest}},
    ]});
    let index = serde_json::to_vec(&index).unwrap();
    let id = host.store.put_blob(&lease, INDEX, &index).unwrap();
    let parts: [&[u8]; 3] = [&attestation, config, statement];
    let others = parts.map(|bytes| oci::Digest::parse(&fixtures::digest(bytes)).unwrap());
    let attested = storage::NewImage {
        id: id.clone(),
        media_type: INDEX.into(),
        size: index.len() as u64,
        other_blobs: if here { others.to_vec() } else { Vec::new() },
        ..image
    };
    host.store.transaction(|tx| tx.put_image(&attested)).unwrap();
    id
}

#[tokio::test]
async fn what_builders_state_is_shown_as_they_wrote_it() {
    let registry = Registry::start();
    let name = registry.push(&Layout::new(&[small(1, "a")]), "app:1");
    for here in [true, false] {
        let host = Host::new();
        host.pull(&name).await;
        let id = attested(&host, &name, here);
        let ask = async |options| host.images.attestations(id.as_str(), options).await;
        let told = ask(AttestationOptions::default()).await.unwrap();
        assert_eq!(told.len(), usize::from(here));
        let manifests = host.images.inspect(id.as_str(), "", true).await.unwrap().manifests;
        let kinds: Vec<(&str, bool)> =
            manifests.iter().map(|manifest| (manifest.kind.as_str(), manifest.available)).collect();
        assert_eq!(kinds, [("image", true), ("attestation", here)]);
        assert_eq!(manifests[1].attestation_data.as_ref().unwrap().subject, manifests[0].id);
        assert_eq!(manifests[1].size.content > 0, here);
        if !here {
            continue;
        }
        assert_eq!(told[0].predicate_type, "https://slsa.dev/provenance/v0.2");
        assert_eq!(told[0].descriptor.media_type, "application/vnd.in-toto+json");
        assert!(told[0].statement.is_none());
        let whole = AttestationOptions { statements: true, ..AttestationOptions::default() };
        let told = ask(whole).await.unwrap();
        let text = told[0].statement.as_ref().unwrap().get();
        assert_eq!(text, r#"{"_type": "https://in-toto.io/Statement/v0.1",  "predicate": {"z": 1, "a": 2}}"#);
        let of =
            |kind: &str| AttestationOptions { types: vec![kind.into()], ..AttestationOptions::default() };
        assert_eq!(ask(of("https://spdx.dev/Document")).await.unwrap().len(), 0);
        assert_eq!(ask(of("https://slsa.dev/provenance/v0.2")).await.unwrap().len(), 1);
        let platform = parse_platform("linux/s390x").unwrap();
        let error = ask(AttestationOptions { platform, ..AttestationOptions::default() }).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
    }
    let host = Host::new();
    host.pull(&name).await;
    assert!(host.images.attestations(&name, AttestationOptions::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn where_an_image_came_from_is_what_was_seen() {
    let registry = Registry::start();
    let layout = Layout::new(&[small(1, "a")]);
    let names = ["one/app:1", "two/app:1"].map(|name| registry.push(&layout, name));
    let host = Host::new();
    for name in &names {
        host.pull(name).await;
    }
    host.images.tag(&names[0], "elsewhere/app", "1").await.unwrap();
    let from = async |name: String| host.images.inspect(&name, "", false).await.unwrap().identity;
    let pulled = from(names[0].clone()).await.unwrap().pull;
    let repositories: Vec<&str> = pulled.iter().map(|pull| pull.repository.as_str()).collect();
    assert_eq!(repositories, names.each_ref().map(|name| name.trim_end_matches(":1")));
    // It goes with the image, and what comes back begins anew.
    host.images.remove(&layout.digest, true).await.unwrap();
    host.pull(&names[1]).await;
    assert_eq!(from(names[1].clone()).await.unwrap().pull.len(), 1);
}
