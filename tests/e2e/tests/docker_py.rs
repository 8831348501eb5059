//! Docker's library for Python, and testcontainers over it, drive the engine.

use kit::{Host, compose, pypi};

/// The versions that were tried.
const DOCKER: &str = "docker==7.2.0";
const TESTCONTAINERS: &str = "testcontainers==4.15.0";

/// Runs one of the scripts beside on a host's engine, in its network; what it said, unless the library is not to be had.
fn script(host: &Host, package: &str, name: &str, environment: &[(&str, &str)]) -> Option<String> {
    if !std::path::Path::new("/usr/bin/python3").exists() {
        kit::skip("python3", "no Python");
        return None;
    }
    let Some(installed) = pypi::environment(package) else {
        kit::skip(package, "it cannot be installed from PyPI");
        return None;
    };
    let path = format!("{}/tests/docker_py/{name}.py", env!("CARGO_MANIFEST_DIR"));
    let socket = format!("unix://{}", host.socket().display());
    let python = installed.join("bin/python").display().to_string();
    let mut run = host.program(&python, ["-B", &path, &socket]);
    for (name, value) in host.environment() {
        run = run.env(name, value);
    }
    for (name, value) in environment {
        run = run.env(name, value);
    }
    Some(run.limit(pypi::INSTALL).ok())
}

#[test]
fn every_shared_call() {
    let host = Host::with_busybox();
    let Some(said) = script(&host, DOCKER, "breadth", &[]) else { return };
    assert!(said.lines().count() >= 11, "{said}");
}

#[test]
fn the_rest_of_a_life() {
    let host = Host::apart();
    let Some(said) = script(&host, DOCKER, "life", &[]) else { return };
    assert!(said.lines().count() >= 13, "{said}");
}

#[test]
fn testcontainers() {
    let host = Host::apart();
    // The image of what removes containers after a crash of the tests is not to be had.
    let mut environment = vec![("TESTCONTAINERS_RYUK_DISABLED", "true")];
    if compose::install(&host) {
        environment.push(("COMPOSE", "docker"));
    }
    let Some(said) = script(&host, TESTCONTAINERS, "containers", &environment) else { return };
    assert!(said.lines().count() >= 5, "{said}");
}
