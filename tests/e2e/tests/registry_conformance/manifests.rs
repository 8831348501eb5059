//! Manifests that are put and had.

use super::*;

/// The cases.
pub const CASES: &[Case] = &[
    (
        "put and had by tag",
        |r| {
            r.push_parts("a");
            let bytes = bytes_of(&Repository::manifest("a"));
            let put = r.put("1", MANIFEST, &bytes);
            let get = r.ask("GET", "manifests/1", &[("Accept", MANIFEST)], b"");
            let head = r.ask("HEAD", "manifests/1", &[("Accept", MANIFEST)], b"");
            format!(
                "{} {} {} {} {} {}",
                put.status,
                put.header("docker-content-digest") == digest(&bytes),
                get.body == bytes,
                with(&get, "content-type"),
                head.header("content-length") == bytes.len().to_string(),
                head.header("docker-content-digest") == digest(&bytes)
            )
        },
        "201 true true 200 application/vnd.oci.image.manifest.v1+json true true",
        Same,
    ),
    (
        "put and had by digest",
        |r| {
            r.push_parts("a");
            let bytes = bytes_of(&Repository::manifest("a"));
            let put = r.put(&digest(&bytes), MANIFEST, &bytes);
            format!(
                "{} {}",
                put.status,
                r.ask("GET", &format!("manifests/{}", digest(&bytes)), &[("Accept", MANIFEST)], b"").status
            )
        },
        "201 200",
        Same,
    ),
    (
        "that the client has",
        |r| {
            let etag = format!("\"{}\"", digest(&r.push("1", "a")));
            seen(&r.ask("GET", "manifests/1", &[("Accept", MANIFEST), ("If-None-Match", &etag)], b""))
        },
        "304",
        Same,
    ),
    (
        "put by another digest",
        |r| {
            r.push_parts("a");
            seen(&r.put(&digest(b"x"), MANIFEST, &bytes_of(&Repository::manifest("a"))))
        },
        "400 DIGEST_INVALID",
        Same,
    ),
    (
        "that needs what is not there",
        |r| {
            r.push_blob(b"x");
            seen(&r.put("1", MANIFEST, &bytes_of(&Repository::manifest("absent"))))
        },
        "400 MANIFEST_BLOB_UNKNOWN",
        Same,
    ),
    (
        "that needs what only another repository has",
        |r| {
            sibling(r).push_parts("a");
            r.push_blob(b"x");
            seen(&r.put("1", MANIFEST, &bytes_of(&Repository::manifest("a"))))
        },
        "400 MANIFEST_BLOB_UNKNOWN",
        Same,
    ),
    (
        "that lies about a size",
        |r| {
            r.push_parts("a");
            let mut manifest = Repository::manifest("a");
            manifest["config"]["size"] = json!(1);
            seen(&r.put("1", MANIFEST, &bytes_of(&manifest)))
        },
        "400 MANIFEST_INVALID",
        Absent,
    ),
    ("that is no JSON", |r| seen(&r.put("1", MANIFEST, b"{")), "400 MANIFEST_INVALID", Same),
    (
        "of an unknown type",
        |r| {
            r.push_parts("a");
            seen(&r.put("1", "application/vnd.example+json", &bytes_of(&Repository::manifest("a"))))
        },
        "400 MANIFEST_INVALID",
        Same,
    ),
    (
        "that calls itself otherwise than it is sent",
        |r| {
            r.push_parts("a");
            seen(&r.put("1", DOCKER_MANIFEST, &bytes_of(&Repository::manifest("a"))))
        },
        "400 MANIFEST_INVALID",
        Same,
    ),
    (
        "with a field twice",
        |r| {
            r.push_parts("a");
            let text =
                Repository::manifest("a").to_string().replacen("\"layers\"", "\"layers\":[],\"layers\"", 1);
            seen(&r.put("1", MANIFEST, text.as_bytes()))
        },
        "400 MANIFEST_INVALID",
        Absent,
    ),
    (
        "that is an index too",
        |r| {
            r.push_parts("a");
            let mut manifest = Repository::manifest("a");
            manifest["manifests"] = json!([]);
            seen(&r.put("1", MANIFEST, &bytes_of(&manifest)))
        },
        "400 MANIFEST_INVALID",
        Same,
    ),
    (
        "that is larger than four megabytes",
        |r| seen(&r.put("1", MANIFEST, &vec![b' '; (4 << 20) + 1])),
        "413 MANIFEST_INVALID",
        Absent,
    ),
    (
        "under a tag that is none",
        |r| {
            r.push_parts("a");
            seen(&r.put("-x", MANIFEST, &bytes_of(&Repository::manifest("a"))))
        },
        "400 TAG_INVALID",
        Absent,
    ),
    (
        "of Docker's format",
        |r| {
            r.push_parts("a");
            let text = Repository::manifest("a")
                .to_string()
                .replace(MANIFEST, DOCKER_MANIFEST)
                .replace(CONFIG, "application/vnd.docker.container.image.v1+json")
                .replace(LAYER, "application/vnd.docker.image.rootfs.diff.tar");
            let put = r.put("1", DOCKER_MANIFEST, text.as_bytes());
            format!(
                "{} {}",
                put.status,
                with(&r.ask("GET", "manifests/1", &[("Accept", DOCKER_MANIFEST)], b""), "content-type")
            )
        },
        "201 200 application/vnd.docker.distribution.manifest.v2+json",
        Same,
    ),
    (
        "that the client does not accept",
        |r| {
            r.push("1", "a");
            seen(&r.ask("GET", "manifests/1", &[("Accept", DOCKER_MANIFEST)], b""))
        },
        "404 MANIFEST_UNKNOWN",
        Same,
    ),
    (
        "that lists a manifest as a layer",
        |r| {
            let inner = r.push("1", "a");
            r.push_blob(&inner);
            let mut manifest = Repository::manifest("a");
            manifest["layers"] = json!([Repository::describe(LAYER, &inner)]);
            seen(&r.put("2", MANIFEST, &bytes_of(&manifest)))
        },
        "400 MANIFEST_INVALID",
        Absent,
    ),
    (
        "with a layer that is had from elsewhere",
        |r| {
            r.push_parts("a");
            let mut manifest = Repository::manifest("a");
            let mut layer =
                Repository::describe("application/vnd.oci.image.layer.nondistributable.v1.tar", b"far away");
            layer["urls"] = json!(["https://example.org/layer"]);
            manifest["layers"] = json!([layer]);
            seen(&r.put("1", MANIFEST, &bytes_of(&manifest)))
        },
        "201",
        Absent,
    ),
    (
        "of an artifact",
        |r| {
            r.push_blob(b"{}");
            r.push_blob(b"artifact");
            let manifest = json!({
                "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.example.thing",
                "config": Repository::describe("application/vnd.oci.empty.v1+json", b"{}"),
                "layers": [Repository::describe("text/plain", b"artifact")],
            });
            seen(&r.put("1", MANIFEST, &bytes_of(&manifest)))
        },
        "201",
        Same,
    ),
    (
        "an index of what is there",
        |r| {
            let inner = r.push("1", "a");
            let index = bytes_of(
                &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [Repository::describe(MANIFEST, &inner)]}),
            );
            let put = r.put("all", INDEX, &index);
            format!(
                "{} {}",
                put.status,
                with(&r.ask("GET", "manifests/all", &[("Accept", INDEX)], b""), "content-type")
            )
        },
        "201 200 application/vnd.oci.image.index.v1+json",
        Same,
    ),
    (
        "an index of what is not there",
        |r| {
            r.push("1", "a");
            let index = bytes_of(
                &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [Repository::describe(MANIFEST, b"absent")]}),
            );
            seen(&r.put("all", INDEX, &index))
        },
        "400 MANIFEST_BLOB_UNKNOWN",
        Same,
    ),
];
