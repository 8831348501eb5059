//! Secrets without a swarm.

use kit::Host;
use std::fs;
use std::path::Path;

const VALUE: &str = "correct-horse-battery-staple";

/// Every file below a directory that holds the secret.
fn leaks(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            leaks(&path, found);
        } else if path.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            if bytes.windows(VALUE.len()).any(|window| window == VALUE.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
}

#[test]
fn a_secret_is_a_file_in_memory_and_nowhere_else() {
    let mut host = Host::with_busybox();
    let id = host.corten(["secret", "create", "--label", "a=b", "db", "-"]).stdin(VALUE).ok();
    assert_eq!(id.len(), 64);
    host.corten(["secret", "create", "db", "-"]).stdin("x").fails(1, "secret db already exists");
    host.corten(["secret", "create", ".bad", "-"]).stdin("x").fails(1, "invalid name");
    assert_eq!(host.corten(["secret", "ls", "--format", "{{.Name}} {{.Labels}}"]).ok(), "db a=b");
    let shown = host.corten(["secret", "inspect", "db"]).ok();
    assert!(shown.contains(&id) && !shown.contains(VALUE), "{shown}");

    let script = "cat /run/secrets/db /run/secrets/x; stat -c '%u:%g %a' /run/secrets/x /run/secrets/db; stat -f -c %T /run/secrets; touch /run/secrets/y 2>&1 | grep -o 'Read-only.*'";
    let flags = ["--secret", "db", "--secret", "source=db,target=x,uid=5,gid=6,mode=0400"];
    let one = host
        .corten(["run", "-d", "--network", "none"])
        .args(flags)
        .args(["busybox", "sh", "-c", &format!("{{ {script}; }} > /dev/shm/said; sleep 1000")])
        .ok();
    let said = kit::wait_for("the container's words", || {
        let said = host.corten(["exec", &one, "cat", "/dev/shm/said"]).ok();
        said.contains("Read-only").then_some(said)
    });
    assert_eq!(said, format!("{VALUE}{VALUE}5:6 400\n0:0 444\ntmpfs\nRead-only file system"));
    // Where they are mounted is nobody's change.
    assert_eq!(host.corten(["diff", &one]).ok(), "");
    for text in [host.corten(["inspect", &one]).ok(), host.daemon_log()] {
        assert!(!text.contains(VALUE));
    }
    let mut found = Vec::new();
    leaks(host.root(), &mut found);
    assert_eq!(found, Vec::<String>::new());
    assert!(!host.mounts().iter().any(|line| line.contains("secrets")));

    host.corten(["secret", "rm", "db"]).fails(1, "is in use by the following containers");
    // It is there again after a restart, by another daemon.
    host.kill_daemon();
    host.start_daemon();
    host.corten(["restart", "-t", "0", &one]).ok();
    assert_eq!(host.corten(["exec", &one, "cat", "/run/secrets/db"]).ok(), VALUE);
    host.corten(["rm", "-f", &one]).ok();
    assert_eq!(host.corten(["secret", "rm", "db"]).ok(), "db");
    let run = |secret: &str| {
        host.corten(["run", "--rm", "--network", "none", "--secret", secret, "busybox", "true"])
    };
    run("db").fails(125, "db");
    run("db,target=/etc/passwd").fails(125, "invalid target of a secret");
    run("db,color=red").fails(125, "invalid field in secret request");
    // To docker there are none: those are a swarm's.
    host.docker(["secret", "ls"]).fails(1, "not a swarm manager");
}

#[test]
fn what_would_hide_secrets_is_refused() {
    let host = Host::with_busybox();
    host.corten(["secret", "create", "db", "-"]).stdin(VALUE).ok();
    for mount in ["--tmpfs=/run/secrets", "-v=/run/secrets", "-v=/srv:/run/secrets"] {
        host.corten(["create", "--network", "none", "--secret", "db", mount, "busybox"])
            .fails(1, "secrets need /run/secrets, and a mount is to be there");
    }
    assert_eq!(host.corten(["ps", "-aq"]).ok() + &host.corten(["volume", "ls", "-q"]).ok(), "");
}
