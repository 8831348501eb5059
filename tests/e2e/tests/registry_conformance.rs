//! What the OCI distribution specification says, case by case, held against our registry; and against Debian's
//! docker-registry, so that it is the specification that the cases say and not our own reading of it. Where the two differ
//! the case says so.

#[path = "registry_conformance/deletions.rs"]
mod deletions;
#[path = "registry_conformance/lists.rs"]
mod lists;
#[path = "registry_conformance/manifests.rs"]
mod manifests;
#[path = "registry_conformance/pull.rs"]
mod pull;
#[path = "registry_conformance/push.rs"]
mod push;

use std::sync::atomic::{AtomicUsize, Ordering};

use kit::embedded::Embedded;
use kit::fixtures::digest;
use kit::raw::Reply;
use kit::registry::Registry;
use kit::repository::{CONFIG, INDEX, LAYER, MANIFEST, Repository};
use serde_json::{Value, json};

/// What the other registry makes of a case.
enum Other {
    /// The same.
    Same,
    /// This: an older version of the specification, or another choice that it leaves.
    Differs(&'static str),
    /// The case is about something that it has not.
    Absent,
}
use Other::{Absent, Differs, Same};

/// A case: its name, what is done, and what comes of it.
type Case = (&'static str, fn(&Repository) -> String, &'static str, Other);

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Status and error code.
fn seen(reply: &Reply) -> String {
    format!("{} {}", reply.status, reply.code()).trim_end().to_owned()
}

/// Status and a header.
fn with(reply: &Reply, header: &str) -> String {
    format!("{} {}", reply.status, reply.header(header))
}

/// The statuses, one after the other.
fn all(replies: &[Reply]) -> String {
    replies.iter().map(seen).collect::<Vec<_>>().join(", ")
}

fn chunk(repository: &Repository, location: &str, range: &str, bytes: &[u8]) -> Reply {
    let headers = [("Content-Range", range), ("Content-Type", "application/octet-stream")];
    repository.ask("PATCH", location, &headers, bytes)
}

fn sibling(repository: &Repository) -> Repository {
    Repository::new(repository.port, &format!("{}/sibling", repository.name))
}

fn bytes_of(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Runs all cases against a registry; those that came out otherwise.
fn run(port: u16, ours: bool) -> Vec<String> {
    let count = AtomicUsize::new(0);
    let groups = [
        ("pull", pull::CASES),
        ("push", push::CASES),
        ("manifest", manifests::CASES),
        ("list", lists::CASES),
        ("deletion", deletions::CASES),
    ];
    let mut wrong = Vec::new();
    for (group, cases) in groups {
        for (name, case, expected, other) in cases {
            let expected = match (ours, other) {
                (true, _) | (false, Same) => expected,
                (false, Differs(differs)) => differs,
                (false, Absent) => continue,
            };
            let repository =
                Repository::new(port, &format!("case/{}", count.fetch_add(1, Ordering::Relaxed)));
            let found = case(&repository);
            if found != *expected {
                wrong.push(format!("{group}: {name}: expected {expected:?}, found {found:?}"));
            }
        }
    }
    wrong
}

#[test]
fn ours() {
    let registry = Embedded::start();
    assert_eq!(run(registry.port(), true), Vec::<String>::new());
    assert!(!registry.log().contains("ERROR"), "{}", registry.log());
}

#[test]
fn debians() {
    let registry = Registry::start();
    assert_eq!(run(registry.port(), false), Vec::<String>::new());
}
