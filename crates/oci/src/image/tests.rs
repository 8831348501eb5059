//! Documents that are right, documents that lie, and properties.

use super::*;
use proptest::prelude::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn descriptor(media_type: &str) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{DIGEST}","size":7}}"#)
}

fn manifest(own: &str) -> String {
    let (config, layer) = (descriptor(media_type::OCI_CONFIG), descriptor(media_type::OCI_LAYER_GZIP));
    format!(r#"{{"schemaVersion":2,{own}"config":{config},"layers":[{layer}],"annotations":null}}"#)
}

fn index(own: &str, entries: &[&str]) -> String {
    format!(r#"{{"schemaVersion":2,{own}"manifests":[{}]}}"#, entries.join(","))
}

fn entry(platform: &str, size: u32) -> String {
    let parts: Vec<&str> = platform.split('/').collect();
    let variant = parts.get(2).map(|v| format!(r#","variant":"{v}""#)).unwrap_or_default();
    format!(
        r#"{{"mediaType":"{}","digest":"{DIGEST}","size":{size},"platform":{{"os":"{}","architecture":"{}"{variant}}}}}"#,
        media_type::OCI_MANIFEST,
        parts[0],
        parts[1]
    )
}

fn parse(text: &str, media_type: Option<&str>) -> Result<Document, Error> {
    Document::parse(text.as_bytes(), media_type)
}

#[test]
fn both_kinds() {
    let own = format!(r#""mediaType":"{}","#, media_type::DOCKER_MANIFEST);
    for media_type in [None, Some(media_type::DOCKER_MANIFEST), Some("application/json; charset=utf-8")] {
        let Document::Manifest(manifest) = parse(&manifest(&own), media_type).unwrap() else {
            panic!("no manifest")
        };
        assert_eq!(manifest.layers.len(), 1);
        assert_eq!(manifest.config.size, 7);
    }
    let parsed = parse(&manifest(""), None).unwrap();
    assert_eq!(parsed.media_type(), media_type::OCI_MANIFEST);
    let parsed = parse(&index("", &[&entry("linux/amd64", 1)]), Some(media_type::OCI_INDEX)).unwrap();
    assert_eq!(parsed.media_type(), media_type::OCI_INDEX);
}

#[test]
fn a_document_with_two_meanings_is_refused() {
    let both = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}}"#,
        descriptor(media_type::OCI_CONFIG)
    );
    let twice = format!(r#"{{"schemaVersion":2,"manifests":[],"manifests":[{}]}}"#, entry("linux/amd64", 1));
    let null = r#"{"schemaVersion":2,"manifests":[],"layers":null}"#;
    let liar = manifest(&format!(r#""mediaType":"{}","#, media_type::OCI_INDEX));
    let docker = manifest(&format!(r#""mediaType":"{}","#, media_type::DOCKER_MANIFEST));
    for (text, media_type) in [
        (both.as_str(), None),
        (null, None),
        (&liar, None),
        (&manifest(""), Some(media_type::OCI_INDEX)),
        (&index("", &[]), Some(media_type::DOCKER_MANIFEST)),
        (&docker, Some(media_type::OCI_MANIFEST)),
        (r#"{"schemaVersion":2}"#, None),
    ] {
        assert!(matches!(parse(text, media_type), Err(Error::Ambiguous { .. })), "{text}");
    }
    assert!(matches!(parse(&twice, None), Err(Error::Json { .. })));
}

#[test]
fn what_cannot_be_read() {
    let one = r#"{"schemaVersion":1,"name":"a","tag":"b","fsLayers":[]}"#;
    assert!(parse(one, None).unwrap_err().to_string().starts_with("Docker Image Format v1"));
    let odd = manifest(r#""mediaType":"application/vnd.example+json","#);
    assert!(matches!(parse(&odd, None), Err(Error::UnsupportedMediaType { .. })));
    let negative = manifest("").replace(r#""size":7"#, r#""size":-1"#);
    assert!(matches!(parse(&negative, None), Err(Error::Json { .. })));
    let layers = vec![descriptor(media_type::OCI_LAYER); MAX_LAYERS + 1].join(",");
    let deep = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{layers}]}}"#,
        descriptor(media_type::OCI_CONFIG)
    );
    assert_eq!(parse(&deep, None).unwrap_err().to_string(), "max depth exceeded");
    let large = " ".repeat(MAX_MANIFEST_BYTES as usize + 1);
    assert!(matches!(parse(&large, None), Err(Error::TooLarge { .. })));
    let nested = "[".repeat(100_000);
    assert!(matches!(parse(&nested, None), Err(Error::Json { .. })));
}

#[test]
fn the_entry_that_suits() {
    let entries = [
        entry("unknown/unknown", 1),
        entry("linux/386", 2),
        entry("linux/amd64", 3),
        entry("linux/arm/v5", 4),
        entry("linux/arm/v7", 5),
        entry("linux/arm64/v8", 6),
        entry("linux/amd64", 7),
    ];
    let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
    let Document::Index(index) = parse(&index("", &entries), None).unwrap() else { panic!("no index") };
    let size = |text: &str| index.select(&Platform::parse(text).unwrap()).map(|entry| entry.size);
    assert_eq!(size("linux/amd64").unwrap(), 3);
    assert_eq!(size("linux/amd64/v3").unwrap(), 3);
    assert_eq!(size("linux/arm64").unwrap(), 6);
    assert_eq!(size("linux/arm/v6").unwrap(), 4);
    assert_eq!(size("linux/386").unwrap(), 2);
    assert_eq!(
        size("linux/s390x").unwrap_err().to_string(),
        "no matching manifest for linux/s390x in the manifest list entries"
    );
}

#[test]
fn an_image_configuration_of_docker() {
    let text = r#"{"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00Z","container":"x",
        "config":{"Hostname":"","User":"app","ExposedPorts":{"80/tcp":{}},"Env":["PATH=/bin"],"Cmd":["sh"],
            "Entrypoint":"run","Volumes":{"/data":null},"WorkingDir":"/w","Labels":null,"OnBuild":null,
            "Healthcheck":{"Test":["CMD","true"],"Interval":1000000000},"ArgsEscaped":true,"Shell":["sh","-c"],
            "StopSignal":"SIGINT","StopTimeout":3},
        "rootfs":{"type":"layers","diff_ids":null},
        "history":[{"created":"2024-01-01T00:00:00Z","created_by":"ADD","empty_layer":true}]}"#;
    let config = ImageConfig::parse(text.as_bytes()).unwrap();
    assert_eq!(config.platform().to_string(), "linux/amd64");
    assert_eq!(config.config.entrypoint.as_deref().unwrap(), ["run"]);
    assert_eq!(config.config.cmd.as_deref().unwrap(), ["sh"]);
    assert!(config.config.volumes.contains_key("/data"));
    assert_eq!(config.config.healthcheck.as_ref().unwrap().interval, 1_000_000_000);
    assert!(config.config.args_escaped && config.history[0].empty_layer);
    assert!(config.diff_ids(&Manifest::parse(manifest("").as_bytes(), None).unwrap()).is_err());
    let again = ImageConfig::parse(&serde_json::to_vec(&config).unwrap()).unwrap();
    assert_eq!(again, config);
    assert_eq!(ImageConfig::parse(b"{}").unwrap().rootfs, RootFs::default());
}

#[test]
fn how_layers_are_packed() {
    use media_type::{Compression, layer_compression};
    assert_eq!(layer_compression(media_type::DOCKER_LAYER_GZIP), Some(Compression::Gzip));
    assert_eq!(layer_compression(media_type::OCI_LAYER), Some(Compression::None));
    assert_eq!(layer_compression(media_type::OCI_LAYER_ZSTD), Some(Compression::Zstd));
    assert_eq!(layer_compression("application/vnd.in-toto+json"), None);
}

proptest! {
    #[test]
    fn no_document_has_two_meanings(
        keys in proptest::collection::vec(prop::sample::select(vec!["config", "layers", "manifests", "fsLayers", "mediaType"]), 0..5),
        values in proptest::collection::vec(prop::sample::select(vec!["null", "[]", "{}", "\"application/vnd.oci.image.index.v1+json\""]), 5),
    ) {
        let fields: Vec<String> = keys.iter().zip(&values).map(|(key, value)| format!("\"{key}\":{value}")).collect();
        let text = format!("{{\"schemaVersion\":2{}{}}}", if fields.is_empty() { "" } else { "," }, fields.join(","));
        match parse(&text, None) {
            Ok(Document::Index(_)) => prop_assert!(!keys.contains(&"config") && !keys.contains(&"layers")),
            Ok(Document::Manifest(_)) => prop_assert!(!keys.contains(&"manifests")),
            Err(_) => {}
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = Document::parse(&bytes, None);
        let _ = ImageConfig::parse(&bytes);
    }
}
