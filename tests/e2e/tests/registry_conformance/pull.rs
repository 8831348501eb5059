//! Reading.

use super::*;

/// The cases.
pub const CASES: &[Case] = &[
    (
        "the base says which API it is",
        |r| with(&r.ask("GET", "/v2/", &[], b""), "docker-distribution-api-version"),
        "200 registry/2.0",
        Same,
    ),
    ("the base cannot be deleted", |r| seen(&r.ask("DELETE", "/v2/", &[], b"")), "405 UNSUPPORTED", Absent),
    (
        "an unknown blob",
        |r| {
            all(&[
                r.ask("GET", &format!("blobs/{}", digest(b"x")), &[], b""),
                r.ask("HEAD", &format!("blobs/{}", digest(b"x")), &[], b""),
            ])
        },
        "404 BLOB_UNKNOWN, 404",
        Same,
    ),
    ("a malformed digest", |r| seen(&r.ask("GET", "blobs/sha256:abc", &[], b"")), "400 DIGEST_INVALID", Same),
    (
        "a digest of an unknown function",
        |r| seen(&r.ask("GET", "blobs/md5:d41d8cd98f00b204e9800998ecf8427e", &[], b"")),
        "400 DIGEST_INVALID",
        Absent,
    ),
    (
        "an unknown manifest",
        |r| all(&[r.ask("GET", "manifests/none", &[], b""), r.ask("HEAD", "manifests/none", &[], b"")]),
        "404 MANIFEST_UNKNOWN, 404",
        Same,
    ),
    (
        "a manifest of a digest that is not there",
        |r| seen(&r.ask("GET", &format!("manifests/{}", digest(b"x")), &[], b"")),
        "404 MANIFEST_UNKNOWN",
        Same,
    ),
    (
        "a blob and its size",
        |r| {
            let digest = r.push_blob(b"some bytes");
            let (get, head) = (
                r.ask("GET", &format!("blobs/{digest}"), &[], b""),
                r.ask("HEAD", &format!("blobs/{digest}"), &[], b""),
            );
            format!(
                "{} {} {} {} {}",
                get.status,
                get.text(),
                head.status,
                head.header("content-length"),
                head.header("docker-content-digest") == digest
            )
        },
        "200 some bytes 200 10 true",
        Same,
    ),
    (
        "a part of a blob",
        |r| {
            let path = format!("blobs/{}", r.push_blob(b"0123456789"));
            let part = |range: &str| {
                let reply = r.ask("GET", &path, &[("Range", range)], b"");
                format!("{} {} {}", reply.status, reply.header("content-range"), reply.text())
            };
            format!("{}; {}; {}", part("bytes=2-4"), part("bytes=7-"), part("bytes=-2"))
        },
        "206 bytes 2-4/10 234; 206 bytes 7-9/10 789; 206 bytes 8-9/10 89",
        Same,
    ),
    (
        "a part that is not there",
        |r| {
            let reply = r.ask(
                "GET",
                &format!("blobs/{}", r.push_blob(b"0123456789")),
                &[("Range", "bytes=10-")],
                b"",
            );
            with(&reply, "content-range")
        },
        "416 bytes */10",
        Same,
    ),
    (
        "a blob that the client has",
        |r| {
            let path = format!("blobs/{}", r.push_blob(b"kept"));
            let etag = r.ask("GET", &path, &[], b"").header("etag").to_owned();
            seen(&r.ask("GET", &path, &[("If-None-Match", &etag)], b""))
        },
        "304",
        Same,
    ),
    (
        "a part only if nothing changed",
        |r| {
            let path = format!("blobs/{}", r.push_blob(b"0123456789"));
            let reply = r.ask("GET", &path, &[("Range", "bytes=1-2"), ("If-Range", "\"other\"")], b"");
            format!("{} {}", reply.status, reply.text())
        },
        "200 0123456789",
        Same,
    ),
    (
        "a blob of another repository",
        |r| {
            let digest = sibling(r).push_blob(b"secret");
            r.push_blob(b"own");
            seen(&r.ask("GET", &format!("blobs/{digest}"), &[], b""))
        },
        "404 BLOB_UNKNOWN",
        Same,
    ),
    (
        "a name with capital letters",
        |r| seen(&r.ask("GET", "/v2/Upper/tags/list", &[], b"")),
        "400 NAME_INVALID",
        Absent,
    ),
    (
        "a name that climbs",
        |r| seen(&r.ask("GET", "/v2/a/../../b/manifests/x", &[], b"")),
        "400 NAME_INVALID",
        Absent,
    ),
    ("a path to nowhere", |r| r.ask("GET", "/v2/a/b/c", &[], b"").status.to_string(), "404", Same),
    (
        "a method that is not there",
        |r| seen(&r.ask("POST", "manifests/x", &[], b"")),
        "405 UNSUPPORTED",
        Absent,
    ),
];
