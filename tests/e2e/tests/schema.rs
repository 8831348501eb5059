//! Requests made of Docker's own description of the API, by schemathesis: whatever fits the description, and whatever just
//! does not, is answered without a fault of the engine.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kit::{Host, pypi};
use serde_json::json;

/// The version that was tried.
const PACKAGE: &str = "schemathesis==4.32.5";
/// The descriptions are no part of the project; they may lie beside it.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/specs");
/// How many cases are made of each operation, besides those at the edges of the description; `CORTEN_SCHEMA_CASES` for longer runs.
const CASES: &str = "4";
/// How long it may take, on a slow machine.
const LIMIT: Duration = Duration::from_secs(300);

fn description(version: &str) -> Option<PathBuf> {
    let folder = std::env::var("CORTEN_SPECS").unwrap_or_else(|_| FOLDER.to_owned());
    let path = Path::new(&folder).join(format!("engine-api-v{version}.yaml"));
    path.exists().then_some(path)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// Sends what some phases make of each operation of one version.
fn drive(version: &str, phases: &str, seed: &str) {
    let Some(description) = description(version) else {
        return kit::skip("specs", "no description of the Engine API");
    };
    if !Path::new("/usr/bin/python3").exists() {
        return kit::skip("python3", "no Python");
    }
    let Some(environment) = pypi::environment(PACKAGE) else {
        return kit::skip("schemathesis", "it cannot be installed from PyPI");
    };
    let folder = tempfile::tempdir().expect("a temporary directory");
    let socket = folder.path().join("api.sock");
    let url = format!("127.0.0.1:{}", free_port());
    let (unix, tcp) = (format!("unix://{}", socket.display()), format!("tcp://{url}"));
    let mut host = Host::stopped(&["--host", &unix, "--host", &tcp]);
    host.set_socket(&socket);
    host.start_daemon();
    host.pull_busybox();
    // What is fetched from elsewhere is not to be found, and networks are nobody else's.
    let host = host.set_apart();
    let run = |name: &str| {
        let flags =
            ["--stop-signal", "KILL", "-v", "bench:/data", "--network", "none", "--name", name, "busybox"];
        host.corten(["run", "-d"].iter().chain(&flags).chain(&["sleep", "100000"])).ok()
    };
    let (first, _) = (run("first"), run("second"));
    host.corten(["create", "--network", "none", "--name", "created", "busybox", "true"]).ok();
    host.corten(["network", "create", "subject"]).ok();
    let subjects = json!({
        "containers.id": [first, "second"],
        "images.name": ["busybox", "busybox:latest"],
        "volumes.name": ["bench"],
        "networks.id": ["subject", "none"],
        "distribution.name": ["localhost:1/nobody"],
    });
    let hooks = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema/hooks.py");
    let cases = std::env::var("CORTEN_SCHEMA_CASES").unwrap_or_else(|_| CASES.to_owned());
    let pid = host.daemon_pid();
    let said = host
        .program(&environment.join("bin/schemathesis").display().to_string(), ["run"])
        .args([&description.display().to_string(), "--url", &format!("http://{url}/v{version}")])
        .args(["--checks", "no_fault_of_the_engine", "--phases", phases])
        .args(["--max-examples", &cases, "--seed", seed, "--generation-database", "none"])
        .args(["--continue-on-failure", "--request-timeout", "20", "--no-color", "--warnings", "off"])
        // Python 3.11 loses count of its parser's depth where two threads parse (CPython 106905).
        .args(["--workers", "1"])
        .args(["--suppress-health-check", "all"])
        .env("SCHEMATHESIS_HOOKS", hooks)
        .env("SUBJECTS", subjects.to_string())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(folder.path())
        .limit(LIMIT.max(Duration::from_secs(cases.parse::<u64>().unwrap_or(0) * 20)))
        .run();
    println!("{said}");
    assert_eq!(host.daemon_pid(), pid);
    host.corten(["ps", "-a"]).ok();
    let log = host.daemon_log();
    assert!(!log.contains("panicked at"), "{log}");
    said.expect_code(0);
}

#[test]
fn the_newest_version() {
    // The third phase, `coverage`, takes minutes, and falls over itself now and then: it is for a look by hand.
    let phases = std::env::var("SCHEMA_PHASES").unwrap_or_else(|_| "examples,fuzzing".to_owned());
    drive("1.56", &phases, "1");
}

#[test]
fn what_debian_speaks() {
    drive("1.41", "examples,fuzzing", "2");
}
