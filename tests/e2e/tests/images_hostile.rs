//! Registries that serve nonsense and lies: each is refused in one clear line, and nothing is left of it.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use kit::fixtures::{self, Entry, Layer, Packing, digest};
use kit::http::{Answer, Server};
use kit::{CLIS, Host};
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What a registry has: the document behind its only tag, and blobs and manifests by digest.
#[derive(Default)]
struct Content {
    top: (String, Vec<u8>),
    blobs: HashMap<String, Vec<u8>>,
    types: HashMap<String, String>,
}

/// A registry that says what it is told to.
struct Liar {
    server: Server,
    content: Arc<Mutex<Content>>,
}

impl Liar {
    fn start() -> Self {
        let content = Arc::new(Mutex::new(Content::default()));
        let told = content.clone();
        let server = Server::at(Ipv4Addr::LOCALHOST, move |head, _| {
            let content = told.lock().expect("the content");
            let path = head.path().to_owned();
            let last = path.rsplit('/').next().unwrap_or_default();
            if path == "/v2/" {
                return Answer::json(200, &json!({}));
            }
            if path.ends_with("/manifests/it") {
                return Answer::new(200, &content.top.0, content.top.1.clone());
            }
            match content.blobs.get(last) {
                Some(bytes) => {
                    let kind = content.types.get(last).map_or("application/octet-stream", String::as_str);
                    Answer::new(200, kind, bytes.clone())
                }
                None => Answer::json(
                    404,
                    &json!({"errors": [{"code": "BLOB_UNKNOWN", "message": "blob unknown"}]}),
                ),
            }
        });
        Self { server, content }
    }

    fn name(&self) -> String {
        format!("{}/lies:it", self.server.address())
    }

    fn say(&self, case: Case) {
        let mut content = self.content.lock().expect("the content");
        *content = Content::default();
        content.top = (case.media_type, case.document);
        for (kind, bytes) in case.others {
            content.types.insert(digest(&bytes), kind);
            content.blobs.insert(digest(&bytes), bytes);
        }
    }
}

/// One lie, and what is said of it.
struct Case {
    what: &'static str,
    media_type: String,
    document: Vec<u8>,
    others: Vec<(String, Vec<u8>)>,
    words: &'static str,
}

/// An honest image in parts, to be made a lie.
struct Honest {
    layers: Vec<Layer>,
    config: Value,
    manifest: Value,
}

impl Honest {
    fn new() -> Self {
        let layers: Vec<Layer> =
            ["one", "two"].map(|text| Layer::new(&[Entry::file(text, text)], Packing::Gzip)).into();
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({
            "architecture": fixtures::host_architecture(), "os": "linux", "config": {"Cmd": ["true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let described: Vec<Value> = layers
            .iter()
            .map(|layer| json!({"mediaType": LAYER, "digest": layer.digest(), "size": layer.bytes.len()}))
            .collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": described});
        Self { layers, config, manifest }
    }

    /// The image with its configuration and its manifest changed.
    fn case(
        what: &'static str,
        config: impl FnOnce(&mut Value),
        manifest: impl FnOnce(&mut Value),
        words: &'static str,
    ) -> Case {
        let mut honest = Self::new();
        config(&mut honest.config);
        let config = honest.config.to_string().into_bytes();
        honest.manifest["config"] =
            json!({"mediaType": CONFIG, "digest": digest(&config), "size": config.len()});
        manifest(&mut honest.manifest);
        let mut others = vec![(CONFIG.to_owned(), config)];
        others.extend(honest.layers.iter().map(|layer| (LAYER.to_owned(), layer.bytes.clone())));
        let document = honest.manifest.to_string().into_bytes();
        Case { what, media_type: MANIFEST.to_owned(), document, others, words }
    }

    fn manifest(what: &'static str, change: impl FnOnce(&mut Value), words: &'static str) -> Case {
        Self::case(what, |_| (), change, words)
    }

    fn config(what: &'static str, change: impl FnOnce(&mut Value), words: &'static str) -> Case {
        Self::case(what, change, |_| (), words)
    }

    /// Other bytes for the second layer, under their own digest.
    fn layer(what: &'static str, bytes: Vec<u8>, words: &'static str) -> Case {
        let own = bytes.clone();
        let mut case = Self::manifest(
            what,
            |manifest| {
                manifest["layers"][1] =
                    json!({"mediaType": LAYER, "digest": digest(&own), "size": own.len()});
            },
            words,
        );
        case.others.push((LAYER.to_owned(), bytes));
        case
    }
}

fn text(what: &'static str, media_type: &str, document: &str, words: &'static str) -> Case {
    Case { what, media_type: media_type.to_owned(), document: document.into(), others: Vec::new(), words }
}

fn index(what: &'static str, entries: &Value, words: &'static str) -> Case {
    let document = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    text(what, INDEX, &document.to_string(), words)
}

fn documents() -> Vec<Case> {
    let none = format!("sha256:{}", "0".repeat(64));
    let entry = |media_type: &str, digest: &str, size: Value| {
        json!({"mediaType": media_type, "digest": digest, "size": size,
               "platform": {"os": "linux", "architecture": fixtures::host_architecture()}})
    };
    vec![
        text("half a manifest", MANIFEST, "{\"schemaVersion\":2,\"config\":{\"media", "EOF while parsing"),
        text("nothing", MANIFEST, "", "EOF while parsing"),
        text("a list", MANIFEST, "[]", "manifest"),
        text("null", MANIFEST, "null", "manifest"),
        text("an empty object", MANIFEST, "{}", "manifest"),
        text("the first schema", MANIFEST, "{\"schemaVersion\":1,\"fsLayers\":[]}", "schema"),
        text(
            "layers twice",
            MANIFEST,
            &format!(
                "{{\"schemaVersion\":2,\"config\":{{\"mediaType\":\"{CONFIG}\",\"digest\":\"{none}\",\"size\":2}},\"layers\":[],\"layers\":[]}}"
            ),
            "duplicate field",
        ),
        Honest::manifest("two meanings", |it| it["manifests"] = json!([]), "manifest"),
        Honest::manifest("another type inside", |it| it["mediaType"] = json!(INDEX), "manifest"),
        text("a page", "text/html", "<html>not found</html>", "expected value"),
        Honest::manifest(
            "a chart",
            |it| it["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json"),
            "helm",
        ),
        Honest::manifest(
            "an encrypted layer",
            |it| it["layers"][0]["mediaType"] = json!(format!("{LAYER}+encrypted")),
            "encrypted",
        ),
        Honest::manifest("a negative size", |it| it["layers"][0]["size"] = json!(-1), "invalid value"),
        Honest::manifest("a size of a half", |it| it["layers"][0]["size"] = json!(0.5), "invalid type"),
        Honest::manifest("a huge layer", |it| it["layers"][0]["size"] = json!(1u64 << 62), "verification"),
        Honest::manifest("a size that lies", |it| it["layers"][0]["size"] = json!(17), "verification"),
        Honest::manifest("half a digest", |it| it["layers"][0]["digest"] = json!("sha256:12"), "digest"),
        Honest::manifest(
            "a digest that climbs",
            |it| it["layers"][0]["digest"] = json!("sha256:../../../../etc/passwd"),
            "digest",
        ),
        Honest::manifest(
            "an unknown function",
            |it| it["layers"][0]["digest"] = json!(format!("md5:{}", "0".repeat(32))),
            "digest",
        ),
        Honest::manifest("a blob that is not there", |it| it["layers"][0]["digest"] = json!(none), "unknown"),
        Honest::manifest(
            "a layer that is the configuration",
            |it| it["layers"][0] = it["config"].clone(),
            "config",
        ),
        index("an empty index", &json!([]), "no matching manifest"),
        index(
            "only strangers",
            &json!([{"mediaType": MANIFEST, "digest": none, "size": 1, "platform": {"os": "plan9", "architecture": "mips"}}]),
            "no matching manifest",
        ),
        index("an index of a layer", &json!([entry(LAYER, &none, json!(1))]), "manifest"),
        index("an index of nothing", &json!([entry(MANIFEST, &none, json!(1))]), "unknown"),
        index("an index of too much", &json!([entry(MANIFEST, &none, json!(1u64 << 40))]), "unknown"),
    ]
}

fn configurations() -> Vec<Case> {
    let many: Vec<Value> = vec![json!({"created_by": "x", "empty_layer": true}); 300_000];
    vec![
        Honest::config("no configuration", |it| *it = json!([]), "configuration"),
        Honest::config("no layers", |it| it["rootfs"]["diff_ids"] = json!([]), "layers"),
        Honest::config(
            "layers in another order",
            |it| it["rootfs"]["diff_ids"].as_array_mut().expect("a list").reverse(),
            "unexpected digest of content",
        ),
        Honest::config("a digest of nothing", |it| it["rootfs"]["diff_ids"][0] = json!("x"), "digest"),
        Honest::config(
            "a processor that is a list",
            |it| it["architecture"] = json!(["amd64"]),
            "invalid type",
        ),
        Honest::config(
            "an environment that is text",
            |it| it["config"]["Env"] = json!("A=1"),
            "invalid type",
        ),
        Honest::config("a history without end", |it| it["history"] = json!(many), "larger than the limit"),
        Honest::config(
            "more than is read",
            |it| it["config"]["Labels"] = json!({"x": "y".repeat(9 << 20)}),
            "larger than the limit",
        ),
    ]
}

fn archives() -> Vec<Case> {
    let honest = Layer::new(&[Entry::file("f", "x".repeat(5000))], Packing::Gzip);
    let half = honest.bytes[..honest.bytes.len() / 2].to_vec();
    let tar = fixtures::tar(&[Entry::file("f", "x".repeat(5000))]);
    let (start, escape) = (tar[..700].to_vec(), fixtures::tar(&[Entry::file("../../escape", "x")]));
    vec![
        Honest::layer("noise", fixtures::noise_layer(1000, 9).bytes, "unexpected digest of content"),
        Honest::layer("no archive", vec![b'x'; 4096], "invalid layer"),
        Honest::layer("half an archive", start, "archive"),
        Honest::layer("half a stream", half, "failed to register layer"),
        Honest::layer("what climbs", Layer::of_tar(&escape, Packing::Gzip).bytes, ""),
    ]
}

#[test]
fn lies_are_refused_in_one_line_and_leave_nothing() {
    let liar = Liar::start();
    let host = Host::new();
    let canary = host.root().join("escape");
    let mut wrong = Vec::new();
    for case in documents().into_iter().chain(configurations()).chain(archives()) {
        let (what, words) = (case.what, case.words);
        liar.say(case);
        let output = host.corten(["pull", &liar.name()]).run();
        let said = output.stderr.trim();
        if output.code != 1 || !said.contains(words) || said.lines().count() != 1 || said.len() > 1000 {
            wrong.push(format!("{what}: code {}: {said:.2000}", output.code));
        }
        let report: Value =
            serde_json::from_str(&host.corten(["system", "check", "--format", "json"]).run().stdout)
                .expect("JSON");
        if (&report["Clean"], &report["Blobs"], &report["Layers"]) != (&json!(true), &json!(0), &json!(0)) {
            wrong.push(format!("{what} leaves {report}"));
        }
        assert!(!canary.exists(), "{what}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(host.corten(["images", "-aq"]).ok(), "");
}

#[test]
fn an_honest_image_from_the_same_registry_is_pulled() {
    let liar = Liar::start();
    for cli in CLIS {
        let host = Host::new();
        // An index that a manifest of a nonsense platform stands in first.
        liar.say(Honest::manifest("the truth", |_| (), ""));
        host.cli(cli, ["pull", "-q", &liar.name()]).ok();
        // Absurd, and no reason to refuse it: nobody has to believe it.
        liar.say(Honest::config(
            "odd fields",
            |it| {
                it["created"] = json!("yesterday");
                it["history"] =
                    json!([{"created": "never", "created_by": "a\u{202e}b\n\t", "empty_layer": false}]);
                it["config"]["ExposedPorts"] = json!({"99999/what": {}});
                it["config"]["StopSignal"] = json!("SIGNONSENSE");
                it["rootfs"]["type"] = json!("squashfs");
                it["unknown"] = json!({"deep": [[[[[[[[[[]]]]]]]]]]});
            },
            "",
        ));
        host.cli(cli, ["pull", "-q", &liar.name()]).ok();
        for args in
            [&["images"][..], &["images", "--tree"], &["system", "df", "-v"], &["history", &liar.name()]]
        {
            host.cli(cli, args).ok();
        }
        assert_eq!(host.cli(cli, ["image", "inspect", "-f", "{{.Created}}", &liar.name()]).ok(), "yesterday");
        host.corten(["system", "check"]).ok();
    }
}
