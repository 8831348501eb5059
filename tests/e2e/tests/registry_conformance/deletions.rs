//! What is deleted.

use super::*;

/// The cases.
pub const CASES: &[Case] = &[
    (
        "of a tag",
        |r| {
            let bytes = r.push("1", "a");
            let replies = [
                r.ask("DELETE", "manifests/1", &[], b""),
                r.ask("HEAD", "manifests/1", &[], b""),
                r.ask("HEAD", &format!("manifests/{}", digest(&bytes)), &[], b""),
            ];
            all(&replies)
        },
        "202, 404, 200",
        Absent,
    ),
    (
        "of a manifest, with its tags",
        |r| {
            let path = format!("manifests/{}", digest(&r.push("1", "a")));
            all(&[
                r.ask("DELETE", &path, &[], b""),
                r.ask("HEAD", &path, &[], b""),
                r.ask("HEAD", "manifests/1", &[], b""),
                r.ask("DELETE", &path, &[], b""),
            ])
        },
        "202, 404, 404, 404 MANIFEST_UNKNOWN",
        Same,
    ),
    (
        "of a blob",
        |r| {
            let path = format!("blobs/{}", r.push_blob(b"gone"));
            all(&[
                r.ask("DELETE", &path, &[], b""),
                r.ask("HEAD", &path, &[], b""),
                r.ask("DELETE", &path, &[], b""),
            ])
        },
        "202, 404, 404 BLOB_UNKNOWN",
        Same,
    ),
    (
        "of a blob that a manifest needs",
        |r| {
            r.push("1", "a");
            let blob = Repository::manifest("a")["config"]["digest"].as_str().unwrap_or_default().to_owned();
            seen(&r.ask("DELETE", &format!("blobs/{blob}"), &[], b""))
        },
        "405 UNSUPPORTED",
        Differs("202"),
    ),
    (
        "of what another repository has too",
        |r| {
            let digest = r.push_blob(b"both");
            sibling(r).push_blob(b"both");
            let path = format!("blobs/{digest}");
            all(&[r.ask("DELETE", &path, &[], b""), sibling(r).ask("GET", &path, &[], b"")])
        },
        "202, 200",
        Same,
    ),
];
