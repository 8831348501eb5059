//! Pushes from a real store, to Debian's registry, to one in memory that goes on with broken uploads, and to ones that
//! misbehave.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use kit::depot::{Depot, Ways};
use kit::faulty::{Fault, Faulty};
use kit::fixtures::{self, Image, Layout, Packing};
use kit::http::Answer;
use kit::registry::{Access, Registry, Setup};
use oci::Reference;
use oci::image::{Document, media_type};
use registry::push::{Event, Pushed, Recompress, Request, Step};
use registry::{Client, Credentials, Error, Limits, Options, Puller, Pusher, Result, pull};
use serde_json::json;
use storage::{NewImage, Store};

/// Blobs up to this size go in one piece, larger ones in pieces of it.
const PIECE: u64 = 1 << 20;

struct Engine {
    pusher: Pusher,
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
            monolith_bytes_max: PIECE,
            chunk_bytes: PIECE,
            ..Limits::default()
        };
        let options =
            Options { certificates: Vec::new(), registries: Vec::new(), limits, ..Options::default() };
        let client = Client::new(options).unwrap();
        Self {
            pusher: Pusher::new(client.clone(), store.clone(), 5),
            puller: Puller::new(client, store.clone(), 3),
            store,
            _root: root,
        }
    }

    /// Takes an image in, with this name.
    async fn have(&self, from: &Registry, layout: &Layout, platform: Option<&str>) -> NewImage {
        let reference = Reference::parse_familiar(&from.push(layout, "fixture:1")).unwrap();
        let request = pull::Request {
            reference: reference.clone(),
            platform: platform.map(|platform| oci::Platform::parse(platform).unwrap()),
            credentials: user(),
            known: None,
        };
        let pulled = self.puller.pull(&request, &|_| {}).await.unwrap();
        self.store.transaction(|tx| tx.put_image(&pulled.image)).unwrap();
        self.store.transaction(|tx| tx.image(&pulled.image.id)).unwrap().unwrap().image
    }

    fn name(&self, image: &NewImage, name: &str) {
        let name = Reference::parse_familiar(name).unwrap().to_string();
        self.store.transaction(|tx| tx.tag_image(&name, &image.id)).unwrap();
    }

    async fn push(&self, image: &NewImage, name: &str) -> Result<(Pushed, Vec<Step>)> {
        self.push_as(image, name, user(), None).await
    }

    async fn push_as(
        &self,
        image: &NewImage,
        name: &str,
        credentials: Credentials,
        recompress: Option<Recompress>,
    ) -> Result<(Pushed, Vec<Step>)> {
        let request = Request {
            reference: Reference::parse_familiar(name).unwrap(),
            image: image.clone(),
            manifest: None,
            credentials,
            recompress,
        };
        let steps = Mutex::new(Vec::new());
        let tell = |Event(_, step): Event| {
            if !matches!(step, Step::Pushing { .. }) {
                steps.lock().unwrap().push(step);
            }
        };
        let pushed = self.pusher.push(&request, &tell).await?;
        Ok((pushed, steps.into_inner().unwrap()))
    }
}

fn user() -> Credentials {
    Credentials::Basic { username: "ann".into(), password: "s3cret".into() }
}

fn image(bytes: usize) -> Image {
    Image::new(vec![fixtures::noise_layer(bytes, 7)], json!({"Cmd": ["true"]}))
}

fn count(steps: &[Step], wanted: &Step) -> usize {
    steps.iter().filter(|step| *step == wanted).count()
}

#[tokio::test]
async fn what_is_there_is_not_sent_and_what_is_next_door_is_mounted() {
    let registry = Registry::start();
    let engine = Engine::new();
    let layers = (1..=8).map(|seed| fixtures::noise_layer(200_000 * seed as usize, seed)).collect();
    let layout = Layout::new(&[Image::new(layers, json!({}))]);
    let image = engine.have(&Registry::start(), &layout, None).await;
    let faulty = Faulty::start(&registry.host());
    let name = |path: &str| format!("{}/{path}", faulty.host());

    let (pushed, steps) = engine.push(&image, &name("a/b:1")).await.unwrap();
    assert_eq!(pushed.target.digest.as_str(), layout.digest);
    assert_eq!((count(&steps, &Step::Preparing), count(&steps, &Step::Pushed)), (8, 8), "{steps:?}");
    engine.name(&image, &name("a/b:1"));
    let sent = faulty.received("");

    let (again, steps) = engine.push(&image, &name("a/b:2")).await.unwrap();
    assert_eq!(again, pushed);
    assert_eq!(count(&steps, &Step::Exists), 8, "{steps:?}");
    let (other, steps) = engine.push(&image, &name("c:1")).await.unwrap();
    assert_eq!(other, pushed);
    assert_eq!(count(&steps, &Step::Mounted("a/b".into())), 8, "{steps:?}");
    // Two manifests, and no blob.
    assert!(faulty.received("") - sent < 10_000);

    for place in ["a/b:1", "a/b:2", "c:1"] {
        let other = Engine::new();
        let reference = Reference::parse_familiar(&name(place)).unwrap();
        let request =
            pull::Request { reference, platform: None, credentials: Credentials::Anonymous, known: None };
        let pulled = other.puller.pull(&request, &|_| {}).await.unwrap();
        assert_eq!(pulled.image.id.as_str(), layout.digest);
    }
}

#[tokio::test]
async fn large_blobs_go_in_pieces() {
    let image = image(3_500_000);
    let layout = Layout::new(std::slice::from_ref(&image));
    let engine = Engine::new();
    let stored = engine.have(&Registry::start(), &layout, None).await;
    let size = image.layers[0].bytes.len() as u64;
    let whole = size.div_ceil(PIECE);
    for (ways, pieces) in [
        (Ways::default(), whole),
        (Ways { absolute: true, ..Ways::default() }, whole),
        (Ways { chunk_min: Some(2 << 20), ..Ways::default() }, size.div_ceil(2 << 20)),
        (Ways { chunk_max: Some(700_000), ..Ways::default() }, size.div_ceil(700_000)),
    ] {
        let depot = Depot::start(ways);
        let faulty = Faulty::start(&depot.host());
        let (pushed, _) = engine.push(&stored, &format!("{}/x:1", faulty.host())).await.unwrap();
        assert_eq!(depot.manifest("1").unwrap(), image.manifest_bytes());
        assert_eq!(depot.blob(&image.layers[0].digest()).unwrap(), image.layers[0].bytes, "{ways:?}");
        assert_eq!(pushed.target.digest.as_str(), layout.digest);
        let patches = faulty.asked().iter().filter(|asked| asked.method == "PATCH").count();
        assert_eq!(patches as u64, pieces, "{ways:?}");
    }
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_it_broke() {
    let image = image(3_500_000);
    let size = image.layers[0].bytes.len() as u64;
    let engine = Engine::new();
    let stored = engine.have(&Registry::start(), &Layout::new(std::slice::from_ref(&image)), None).await;
    let depot = Depot::start(Ways::default());
    let faulty = Faulty::start(&depot.host());
    faulty.fault("PATCH", Fault::CutUpload(600_000), 2);
    engine.push(&stored, &format!("{}/x:1", faulty.host())).await.unwrap();
    assert_eq!(depot.blob(&image.layers[0].digest()).unwrap(), image.layers[0].bytes);
    let starts: Vec<String> = faulty.asked().iter().filter_map(|asked| asked.content_range.clone()).collect();
    assert!(starts[1].starts_with("600000-") && starts[2].starts_with("1200000-"), "{starts:?}");
    assert!(faulty.received("PATCH") < size + 100_000, "{} of {size}", faulty.received("PATCH"));
    // The layer's and the configuration's.
    assert_eq!(depot.begun(), 2);
}

#[tokio::test]
async fn a_registry_that_forgets_is_sent_it_anew() {
    let image = image(2_500_000);
    let engine = Engine::new();
    let stored = engine.have(&Registry::start(), &Layout::new(std::slice::from_ref(&image)), None).await;
    for fault in [
        Fault::Instead(Answer::json(404, &json!({"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}))),
        Fault::Instead(Answer::json(416, &json!({"errors": [{"code": "RANGE_INVALID"}]}))),
        Fault::Header("Range", Some("0-17".into())),
    ] {
        let depot = Depot::start(Ways::default());
        let faulty = Faulty::start(&depot.host());
        faulty.fault("PATCH", fault, 1);
        engine.push(&stored, &format!("{}/x:1", faulty.host())).await.unwrap();
        assert_eq!(depot.blob(&image.layers[0].digest()).unwrap(), image.layers[0].bytes);
    }
    // Debian's registry cannot go on in the middle of a piece.
    let registry = Registry::start();
    let faulty = Faulty::start(&registry.host());
    faulty.fault("PATCH", Fault::CutUpload(500_000), 2);
    engine.push(&stored, &format!("{}/x:1", faulty.host())).await.unwrap();
    assert_eq!(std::fs::read(registry.blob(&image.layers[0].digest())).unwrap(), image.layers[0].bytes);
}

#[tokio::test]
async fn passing_errors_are_tried_again_and_others_told() {
    let image = image(1_500_000);
    let engine = Engine::new();
    let stored = engine.have(&Registry::start(), &Layout::new(std::slice::from_ref(&image)), None).await;
    let busy = |status| Fault::Instead(Answer::new(status, "text/plain", "").with("Retry-After", "0"));
    for (request, status) in
        [("HEAD", 503), ("POST", 429), ("PATCH", 500), ("PATCH", 429), ("PUT", 503), ("PUT", 502)]
    {
        let depot = Depot::start(Ways::default());
        let faulty = Faulty::start(&depot.host());
        faulty.fault(request, busy(status), 2);
        faulty.fault("/manifests/", busy(status), 1);
        engine.push(&stored, &format!("{}/x:1", faulty.host())).await.unwrap();
        assert_eq!(depot.manifest("1").unwrap(), image.manifest_bytes(), "{request} {status}");
    }
    let told = |status, code: &str, message: &str| {
        Fault::Instead(Answer::json(status, &json!({"errors": [{"code": code, "message": message}]})))
    };
    let denied = "denied: requested access to the resource is denied";
    let unauthorized = "unauthorized: authentication required";
    for (request, fault, words) in [
        ("POST", told(403, "DENIED", "requested access to the resource is denied"), denied),
        ("POST", told(401, "UNAUTHORIZED", "authentication required"), "no basic auth credentials"),
        ("PATCH", told(403, "DENIED", "requested access to the resource is denied"), denied),
        ("PUT /v2/x/manifests", told(403, "DENIED", "requested access to the resource is denied"), denied),
        (
            "POST",
            told(404, "NAME_UNKNOWN", "repository name not known to registry"),
            "name unknown: repository name",
        ),
        ("PUT /v2/x/manifests", told(400, "MANIFEST_INVALID", "no"), "400: manifest invalid: no"),
        ("PATCH", told(413, "SIZE_INVALID", "too much"), "413: size invalid: too much"),
        ("PATCH", told(503, "UNAVAILABLE", "never"), "unavailable: never"),
        ("POST", told(429, "TOOMANYREQUESTS", "slowly"), "toomanyrequests: slowly"),
        (
            "PUT /v2/x/manifests",
            Fault::Header("Docker-Content-Digest", Some(fixtures::digest(b"x"))),
            "failed verification",
        ),
        (
            "PUT /v2/x/blobs",
            Fault::Header("Docker-Content-Digest", Some(fixtures::digest(b"x"))),
            "failed verification",
        ),
        ("POST", Fault::Header("Location", None), "an upload without a location"),
        ("POST", Fault::Header("Location", Some("ftp://x/y".into())), "location over ftp"),
        ("POST", Fault::Instead(Answer::new(404, "text/plain", vec![b'x'; 1 << 20])), "x:"),
    ] {
        let depot = Depot::start(Ways::default());
        let faulty = Faulty::start(&depot.host());
        faulty.fault(request, fault.clone(), 100);
        let error = engine.push(&stored, &format!("{}/x:1", faulty.host())).await.unwrap_err();
        assert!(error.to_string().contains(words), "{request} {fault:?}: {error}");
        assert!(error.to_string().len() < 2000 && !error.to_string().contains('\n'), "{error}");
        if !matches!(fault, Fault::Header("Docker-Content-Digest", _)) {
            assert_eq!(depot.manifest("1"), None, "{request} {fault:?}");
        }
    }
    let faulty = Faulty::alone();
    faulty.fault(
        "POST",
        Fault::Instead(
            Answer::json(
                401,
                &json!({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}),
            )
            .with("WWW-Authenticate", "Basic realm=x"),
        ),
        100,
    );
    let error = engine.push(&stored, &format!("{}/x:1", faulty.host())).await.unwrap_err();
    assert!(error.to_string().contains(unauthorized), "{error}");
}

#[tokio::test]
async fn credentials_do_not_go_to_where_an_upload_is_sent() {
    let image = image(1_500_000);
    let engine = Engine::new();
    let stored = engine.have(&Registry::start(), &Layout::new(std::slice::from_ref(&image)), None).await;
    let depot = Depot::start(Ways { absolute: true, ..Ways::default() });
    let (elsewhere, faulty) = (Faulty::start(&depot.host()), Faulty::start(&depot.host()));
    let challenge = Answer::json(401, &json!({"errors": []})).with("WWW-Authenticate", "Basic realm=x");
    faulty.fault("HEAD", Fault::Instead(challenge), 1);
    let begun = Answer::new(202, "text/plain", "");
    for (number, request) in (1..).zip(["POST", "POST"]) {
        let at = format!("http://{}/v2/x/blobs/uploads/{number}", elsewhere.host());
        faulty.fault(request, Fault::Instead(begun.clone().with("Location", &at)), 1);
    }
    // They have to be there.
    let client = Faulty::start(&depot.host());
    for _ in 0..2 {
        let _ = Command::new("curl")
            .args(["-s", "-X", "POST"])
            .arg(format!("http://{}/v2/x/blobs/uploads/", client.host()))
            .output();
    }
    engine.push(&stored, &format!("{}/x:1", faulty.host())).await.unwrap();
    assert_eq!(depot.blob(&image.layers[0].digest()).unwrap(), image.layers[0].bytes);
    assert!(faulty.asked().iter().any(|asked| asked.authorization.is_some()));
    assert!(elsewhere.asked().iter().any(|asked| asked.method == "PATCH"));
    assert!(elsewhere.asked().iter().all(|asked| asked.authorization.is_none()));
}

#[tokio::test]
async fn redirected_uploads_arrive() {
    let image = image(1_500_000);
    let engine = Engine::new();
    let stored = engine.have(&Registry::start(), &Layout::new(std::slice::from_ref(&image)), None).await;
    let depot = Depot::start(Ways::default());
    let (elsewhere, faulty) = (Faulty::start(&depot.host()), Faulty::start(&depot.host()));
    // The first uploads are called 1 and 2; which is the layer's is not known.
    for number in [1, 2] {
        let at = format!("/v2/x/blobs/uploads/{number}");
        let to =
            Answer::new(307, "text/plain", "").with("Location", &format!("http://{}{at}", elsewhere.host()));
        faulty.fault(&format!("PATCH {at}"), Fault::Instead(to), 1);
    }
    engine.push(&stored, &format!("{}/x:1", faulty.host())).await.unwrap();
    assert_eq!(depot.blob(&image.layers[0].digest()).unwrap(), image.layers[0].bytes);
    assert!(elsewhere.received("PATCH") > 1_000_000);
    let round = Answer::new(307, "text/plain", "").with("Location", "/v2/x/blobs/uploads/1");
    let depot = Depot::start(Ways::default());
    let faulty = Faulty::start(&depot.host());
    faulty.fault("PATCH", Fault::Instead(round), 100);
    let error = engine.push(&stored, &format!("{}/y:1", faulty.host())).await.unwrap_err();
    assert!(error.to_string().contains("stopped after 10 redirects"), "{error}");
}

#[tokio::test]
async fn tokens_are_asked_for_once_a_scope_and_again_when_they_expire() {
    let access = Access::Token { username: "ann".into(), password: "s3cret".into() };
    let registry = Registry::with(Setup { access, tls: false });
    let layers = (1..=4).map(|seed| fixtures::noise_layer(1_500_000, seed)).collect();
    let image = Image::new(layers, json!({}));
    let layout = Layout::new(std::slice::from_ref(&image));
    let engine = Engine::new();
    let stored = engine.have(&Registry::start(), &layout, None).await;
    let faulty = Faulty::start(&registry.host());
    let name = |path: &str| format!("{}/{path}", faulty.host());
    let tokens = registry.tokens().unwrap();
    let challenge = format!(
        "Bearer realm=\"{}\",service=\"tests\",scope=\"repository:team/x:pull,push\",error=\"invalid_token\"",
        tokens.realm()
    );
    engine.push(&stored, &name("first:1")).await.unwrap();
    assert_eq!(tokens.asked().len(), 1, "{:?}", tokens.asked());
    let expired = Answer::json(401, &json!({"errors": [{"code": "UNAUTHORIZED"}]}));
    faulty.fault("PATCH", Fault::Instead(expired.with("WWW-Authenticate", &challenge)), 1);
    let (_, steps) = engine.push(&stored, &name("team/x:1")).await.unwrap();
    assert_eq!(count(&steps, &Step::Pushed), 4);
    let asked = tokens.asked();
    assert!(asked.iter().all(|asked| asked.contains("pull%2Cpush")), "{asked:?}");
    // The other blobs that are on their way may find out as well that the token is gone.
    assert!(asked.len() >= 3 && asked.len() <= 7, "{asked:?}");

    engine.name(&stored, &name("team/x:1"));
    let (_, steps) = engine.push(&stored, &name("other:1")).await.unwrap();
    assert_eq!(count(&steps, &Step::Mounted("team/x".into())), 4, "{steps:?}");
    let both = "scope=repository%3Aother%3Apull%2Cpush&scope=repository%3Ateam%2Fx%3Apull";
    assert!(tokens.asked().iter().any(|asked| asked.contains(both)), "{:?}", tokens.asked());

    let nobody = engine.push_as(&stored, &name("team/y:1"), Credentials::Anonymous, None).await.unwrap_err();
    assert!(matches!(nobody, Error::PushDenied { .. }), "{nobody}");
    assert_eq!(nobody.to_string(), "denied: requested access to the resource is denied");
}

#[tokio::test]
async fn an_index_goes_whole_or_what_is_here_of_it() {
    let other = if fixtures::host_architecture() == "amd64" { "arm64" } else { "amd64" };
    let layout = Layout::new(&[fixtures::busybox(), fixtures::busybox_for(other)]);
    let (source, registry) = (Registry::start(), Registry::start());
    let engine = Engine::new();
    let half = engine.have(&source, &layout, None).await;

    let (pushed, _) = engine.push(&half, &format!("{}/half:1", registry.host())).await.unwrap();
    assert_eq!(pushed.target.digest.as_str(), layout.manifests[0]);
    assert_eq!(pushed.instead_of.unwrap().digest.as_str(), layout.digest);
    // Where the registry has the rest, the index is whole.
    let (pushed, _) = engine.push(&half, &format!("{}/fixture:2", source.host())).await.unwrap();
    assert_eq!((pushed.target.digest.as_str(), pushed.instead_of), (layout.digest.as_str(), None));

    let both = engine.have(&source, &layout, Some(&format!("linux/{other}"))).await;
    assert_eq!(both.manifests.len(), 2);
    let (pushed, _) = engine.push(&both, &format!("{}/both:1", registry.host())).await.unwrap();
    assert_eq!((pushed.target.digest.as_str(), pushed.instead_of), (layout.digest.as_str(), None));
    let raw = Command::new("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false"])
        .arg(format!("docker://{}/both:1", registry.host()))
        .output()
        .unwrap();
    assert_eq!(fixtures::digest(&raw.stdout), layout.digest, "{}", String::from_utf8_lossy(&raw.stderr));
}

#[tokio::test]
async fn layers_are_compressed_otherwise() {
    let mut image = fixtures::packings();
    image.architecture = fixtures::host_architecture().into();
    let other = if fixtures::host_architecture() == "amd64" { "arm64" } else { "amd64" };
    let layout = Layout::new(&[image.clone(), fixtures::busybox_for(other)]);
    let (source, registry) = (Registry::start(), Registry::start());
    let engine = Engine::new();
    engine.have(&source, &layout, Some(&format!("linux/{other}"))).await;
    let stored = engine.have(&source, &layout, None).await;
    for (how, kind) in [
        (storage::Packing::Zstd(3), media_type::OCI_LAYER_ZSTD),
        (storage::Packing::Gzip(9), media_type::OCI_LAYER_GZIP),
    ] {
        let name = format!("{}/packed:{}", registry.host(), kind.rsplit('+').next().unwrap());
        let recompress = Some(Recompress { packing: how, all: false });
        let (pushed, _) = engine.push_as(&stored, &name, user(), recompress).await.unwrap();
        assert_ne!(pushed.target.digest.as_str(), layout.digest);
        let fresh = Engine::new();
        let reference = Reference::parse_familiar(&name).unwrap();
        let request =
            pull::Request { reference, platform: None, credentials: Credentials::Anonymous, known: None };
        let pulled = fresh.puller.pull(&request, &|_| {}).await.unwrap();
        assert_eq!(pulled.image.id, pushed.target.digest);
        let manifest = &pulled.image.manifests[0];
        assert_eq!(manifest.config.as_str(), fixtures::digest(&image.config_bytes()));
        assert!(manifest.layers.iter().all(|layer| layer.media_type == kind), "{manifest:?}");
        let diff_ids: Vec<String> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        assert_eq!(manifest.diff_ids().iter().map(ToString::to_string).collect::<Vec<_>>(), diff_ids);
    }
    assert_eq!(std::fs::read_dir(engine.store.root().join("content/new")).unwrap().count(), 0);
}

#[tokio::test]
async fn dockers_own_manifests_become_ocis_for_zstd() {
    let layout = Layout::new(&[Image::new(vec![fixtures::noise_layer(1000, 1)], json!({}))]);
    let (source, registry) = (Registry::start(), Registry::start());
    source.push_schema2(&layout, "old:1");
    let engine = Engine::new();
    let reference = Reference::parse_familiar(&format!("{}/old:1", source.host())).unwrap();
    let request = pull::Request { reference, platform: None, credentials: user(), known: None };
    let pulled = engine.puller.pull(&request, &|_| {}).await.unwrap();
    let name = format!("{}/new:1", registry.host());
    let (pushed, _) = engine.push(&pulled.image, &name).await.unwrap();
    assert_eq!(pushed.target.media_type, media_type::DOCKER_MANIFEST);
    assert_eq!(pushed.target.digest, pulled.image.id);
    let recompress = Some(Recompress { packing: storage::Packing::Zstd(1), all: false });
    let (pushed, _) = engine.push_as(&pulled.image, &name, user(), recompress).await.unwrap();
    assert_eq!(pushed.target.media_type, media_type::OCI_MANIFEST);
    let out = Command::new("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")])
        .output()
        .unwrap();
    let Document::Manifest(manifest) = Document::parse(&out.stdout, None).unwrap() else {
        panic!("a manifest")
    };
    assert_eq!(manifest.config.media_type, media_type::OCI_CONFIG);
    assert_eq!(manifest.layers[0].media_type, media_type::OCI_LAYER_ZSTD);
}

#[tokio::test]
async fn a_push_that_is_dropped_ends_and_the_next_goes_on() {
    let layers = (1..=3).map(|seed| fixtures::noise_layer(900_000, seed)).collect();
    let image = Image::new(layers, json!({}));
    let engine = Engine::new();
    let stored = engine.have(&Registry::start(), &Layout::new(std::slice::from_ref(&image)), None).await;
    let registry = Registry::start();
    let faulty = Faulty::start(&registry.host());
    faulty.fault("PUT /v2/x/manifests/", Fault::HoldUpload(0), 1);
    let name = format!("{}/x:1", faulty.host());
    let push = engine.push(&stored, &name);
    let held = async {
        let faulty = &faulty;
        while !faulty.asked().iter().any(|asked| asked.method == "PUT" && asked.path.contains("/manifests/"))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        done = push => panic!("{done:?}"),
        () = held => {}
    }
    faulty.release();
    let (_, steps) = engine.push(&stored, &name).await.unwrap();
    assert_eq!(count(&steps, &Step::Exists), 3, "{steps:?}");
}

#[test]
fn packings_of_fixtures_differ() {
    // What the tests above compress otherwise has to be compressed in several ways.
    let kinds: Vec<&str> = fixtures::packings().layers.iter().map(|layer| layer.media_type).collect();
    assert_eq!(kinds, [media_type::OCI_LAYER_GZIP, media_type::OCI_LAYER, media_type::OCI_LAYER_ZSTD]);
    let _ = Packing::Gzip;
}
