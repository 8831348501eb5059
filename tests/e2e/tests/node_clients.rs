//! dockerode and testcontainers, Node's clients, drive the engine.

use std::path::Path;

use kit::{Host, npm};

/// The versions that were tried.
const DOCKERODE: &str = "dockerode@5.0.1";
const TESTCONTAINERS: &str = "testcontainers@11.14.0";

/// Runs one of the scripts beside; what it said.
fn script(host: &Host, package: &str, name: &str, environment: &[(&str, &str)]) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node").join(name);
    npm::script(host, package, &path, environment)
}

#[test]
fn dockerode() {
    let host = Host::apart();
    let Some(said) = script(&host, DOCKERODE, "dockerode.js", &[]) else { return };
    assert!(said.lines().count() >= 11, "{said}");
}

#[test]
fn testcontainers() {
    let host = Host::apart();
    // The image of what removes containers after a crash of the tests is not to be had.
    let environment = [("TESTCONTAINERS_RYUK_DISABLED", "true")];
    let Some(said) = script(&host, TESTCONTAINERS, "testcontainers.js", &environment) else { return };
    assert!(said.lines().count() >= 5, "{said}");
}
