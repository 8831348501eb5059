//! Blobs that are pushed and mounted.

use super::*;

/// The cases.
pub const CASES: &[Case] = &[
    (
        "in two requests",
        |r| {
            let begun = r.ask("POST", "blobs/uploads/", &[], b"");
            let done = r.finish(begun.header("location"), &digest(b"mono"), b"mono");
            format!(
                "{} {} {} {}",
                begun.status,
                done.status,
                done.header("docker-content-digest") == digest(b"mono"),
                done.header("location").ends_with(&format!("/blobs/{}", digest(b"mono")))
            )
        },
        "202 201 true true",
        Same,
    ),
    (
        "in one request",
        |r| {
            let reply = r.ask("POST", &format!("blobs/uploads/?digest={}", digest(b"one")), &[], b"one");
            format!(
                "{} {}",
                reply.status,
                r.ask("HEAD", &format!("blobs/{}", digest(b"one")), &[], b"").status
            )
        },
        "201 200",
        Differs("202 404"),
    ),
    (
        "in one request with another digest",
        |r| seen(&r.ask("POST", &format!("blobs/uploads/?digest={}", digest(b"one")), &[], b"two")),
        "400 DIGEST_INVALID",
        Differs("202"),
    ),
    (
        "in pieces",
        |r| {
            let at = r.begin();
            let first = chunk(r, &at, "0-3", b"0123");
            let second = chunk(r, first.header("location"), "4-9", b"456789");
            let status = r.ask("GET", second.header("location"), &[], b"");
            let done = r.finish(second.header("location"), &digest(b"0123456789"), b"");
            format!(
                "{}; {}; {}; {}",
                with(&first, "range"),
                with(&second, "range"),
                with(&status, "range"),
                done.status
            )
        },
        "202 0-3; 202 0-9; 204 0-9; 201",
        Same,
    ),
    (
        "the last piece with the end",
        |r| {
            let first = chunk(r, &r.begin(), "0-3", b"0123");
            seen(&r.finish(first.header("location"), &digest(b"012345"), b"45"))
        },
        "201",
        Same,
    ),
    (
        "a stream, in no range",
        |r| {
            let first =
                r.ask("PATCH", &r.begin(), &[("Content-Type", "application/octet-stream")], b"stream");
            let done = r.finish(first.header("location"), &digest(b"stream"), b"");
            format!("{} {}", with(&first, "range"), done.status)
        },
        "202 0-5 201",
        Same,
    ),
    (
        "a piece too far",
        |r| {
            let first = chunk(r, &r.begin(), "0-3", b"0123");
            let wrong = chunk(r, first.header("location"), "5-6", b"56");
            let status = r.ask("GET", first.header("location"), &[], b"");
            format!("{} {}", wrong.status, with(&status, "range"))
        },
        "416 204 0-3",
        Differs("202 404 "),
    ),
    (
        "a piece that was there",
        |r| {
            let first = chunk(r, &r.begin(), "0-3", b"0123");
            chunk(r, first.header("location"), "0-3", b"0123").status.to_string()
        },
        "416",
        Differs("202"),
    ),
    (
        "a piece longer than it says",
        |r| chunk(r, &r.begin(), "0-1", b"0123").status.to_string(),
        "416",
        Absent,
    ),
    ("a range that is none", |r| chunk(r, &r.begin(), "x-y", b"0123").status.to_string(), "416", Absent),
    (
        "an upload that is given up",
        |r| {
            let at = r.begin();
            all(&[r.ask("DELETE", &at, &[], b""), r.ask("GET", &at, &[], b"")])
        },
        "204, 404 BLOB_UPLOAD_UNKNOWN",
        Same,
    ),
    (
        "an upload that nobody began",
        |r| seen(&r.ask("GET", "blobs/uploads/00000000000000000000000000000000", &[], b"")),
        "404 BLOB_UPLOAD_UNKNOWN",
        Absent,
    ),
    (
        "an upload of another repository",
        |r| {
            let at = r.begin();
            let id = at.rsplit('/').next().unwrap_or_default().to_owned();
            seen(&sibling(r).ask("GET", &format!("blobs/uploads/{id}"), &[], b""))
        },
        "404 BLOB_UPLOAD_UNKNOWN",
        Absent,
    ),
    (
        "another digest",
        |r| {
            let at = r.begin();
            all(&[
                r.finish(&at, &digest(b"this"), b"that"),
                r.ask("HEAD", &format!("blobs/{}", digest(b"this")), &[], b""),
            ])
        },
        "400 DIGEST_INVALID, 404",
        Same,
    ),
    ("no digest", |r| seen(&r.ask("PUT", &r.begin(), &[], b"x")), "400 DIGEST_INVALID", Absent),
    (
        "nothing at all",
        |r| {
            let digest = r.push_blob(b"");
            with(&r.ask("HEAD", &format!("blobs/{digest}"), &[], b""), "content-length")
        },
        "200 0",
        Same,
    ),
    (
        "with SHA-512",
        |r| {
            let digest = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
            let done = r.finish(&r.begin(), digest, b"abc");
            format!("{} {}", done.status, r.ask("GET", &format!("blobs/{digest}"), &[], b"").text())
        },
        "201 abc",
        Same,
    ),
    (
        "mounted from another repository",
        |r| {
            let digest = sibling(r).push_blob(b"shared");
            let from = sibling(r).name;
            let reply = r.ask("POST", &format!("blobs/uploads/?mount={digest}&from={from}"), &[], b"");
            format!("{} {}", reply.status, r.ask("HEAD", &format!("blobs/{digest}"), &[], b"").status)
        },
        "201 200",
        Same,
    ),
    (
        "mounted from where it is not",
        |r| {
            let digest = r.push_blob(b"elsewhere");
            let other = sibling(r);
            let reply = other.ask("POST", &format!("blobs/uploads/?mount={digest}&from=nobody"), &[], b"");
            format!("{} {}", reply.status, reply.header("location").is_empty())
        },
        "202 false",
        Same,
    ),
    (
        "mounted from anywhere",
        |r| {
            let digest = sibling(r).push_blob(b"anywhere");
            seen(&r.ask("POST", &format!("blobs/uploads/?mount={digest}"), &[], b""))
        },
        "201",
        Differs("202"),
    ),
];
