//! Docker's library for Python drives the engine.

use std::path::PathBuf;
use std::time::Duration;

use kit::{Cmd, Host, fixtures};

/// The version that was tried.
const PACKAGE: &str = "docker==7.2.0";
/// A package index may be slow.
const INSTALL: Duration = Duration::from_secs(300);

/// A Python with the library, installed once from PyPI into the tests' cache.
fn python() -> Option<PathBuf> {
    let folder = fixtures::cache().join("docker-py");
    let python = folder.join("bin/python");
    let has_library = || python.exists() && Cmd::new(&python).args(["-c", "import docker"]).run().code == 0;
    if has_library() {
        return Some(python);
    }
    println!("installing {PACKAGE} from PyPI into {}", folder.display());
    let made = Cmd::new("python3").args(["-m", "venv"]).args([&folder]).limit(INSTALL).run();
    let install =
        || Cmd::new(&python).args(["-m", "pip", "install", "--quiet", PACKAGE]).limit(INSTALL).run();
    (made.code == 0 && install().code == 0 && has_library()).then_some(python)
}

#[test]
fn every_shared_call() {
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return kit::skip("python3", "no Python");
    }
    let Some(python) = python() else { return kit::skip("docker-py", "it cannot be installed from PyPI") };
    let host = Host::with_busybox();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker_py/breadth.py");
    let socket = format!("unix://{}", host.socket().display());
    let mut run = Cmd::new(python).args([script, &socket]);
    for (name, value) in host.environment() {
        run = run.env(name, value);
    }
    let said = run.limit(INSTALL).ok();
    assert!(said.lines().count() >= 11, "{said}");
}
