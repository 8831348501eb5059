//! Docker's library for Python drives the engine.

use kit::{Cmd, Host, pypi};

/// The version that was tried.
const PACKAGE: &str = "docker==7.2.0";

#[test]
fn every_shared_call() {
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return kit::skip("python3", "no Python");
    }
    let Some(environment) = pypi::environment(PACKAGE) else {
        return kit::skip("docker-py", "it cannot be installed from PyPI");
    };
    let host = Host::with_busybox();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker_py/breadth.py");
    let socket = format!("unix://{}", host.socket().display());
    let mut run = Cmd::new(environment.join("bin/python")).args([script, &socket]);
    for (name, value) in host.environment() {
        run = run.env(name, value);
    }
    let said = run.limit(pypi::INSTALL).ok();
    assert!(said.lines().count() >= 11, "{said}");
}
