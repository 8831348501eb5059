//! Published ports beside the real ufw of Debian.

use kit::{Host, wait_for};

/// Has ufw keep its rules in a directory of the test's own.
const UFW: &str = r#"
set -e
mount --make-rprivate /
[ -d "$0/ufw" ] || { cp -a /etc/ufw "$0/ufw"; cp -a /etc/default/ufw "$0/default"; }
mount --bind "$0/ufw" /etc/ufw
mount --bind "$0/default" /etc/default/ufw
mount -t tmpfs tmpfs /run
exec ufw "$@"
"#;

/// A host with ufw on, and a container that serves a page at port 8080.
fn host(flags: &[&str]) -> Option<(Host, String)> {
    if !std::path::Path::new("/usr/sbin/ufw").exists() {
        kit::skip("ufw", "it is not installed");
        return None;
    }
    let host = Host::with_flags(flags);
    host.pull_busybox();
    let host = host.set_apart();
    std::fs::create_dir(host.root().join("ufw")).expect("a directory");
    ufw(&host, &["--force", "enable"]);
    let script = "mkdir /w; echo here > /w/index.html; exec httpd -f -p 80 -h /w";
    let run = ["run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sh", "-c", script];
    let said = host.corten(run).run();
    assert_eq!(said.code, 0, "{}", said.stderr);
    Some((host, said.stderr))
}

fn ufw(host: &Host, args: &[&str]) {
    let place = host.root().join("ufw").display().to_string();
    let own = ["--mount", "sh", "-c", UFW, &place];
    host.program("unshare", own.iter().chain(args)).ok();
}

#[test]
fn ufw_decides_on_published_ports_where_that_is_asked_for() {
    let Some((host, _)) = host(&["--firewall=respect"]) else { return };
    let peer = host.neighbour("192.0.2");
    let asks = || peer.program("curl", ["-sS", "--max-time", "2", "http://192.0.2.1:8080/"]).run().stdout;
    wait_for("the page on the host", || {
        let url = "http://127.0.0.1:8080/";
        (host.program("curl", ["-sS", "--max-time", "2", url]).run().stdout == "here\n").then_some(())
    });
    assert_eq!(asks(), "");
    ufw(&host, &["allow", "8080/tcp"]);
    assert_eq!(asks(), "here\n");
    ufw(&host, &["delete", "allow", "8080/tcp"]);
    assert_eq!(asks(), "");
    ufw(&host, &["allow", "from", "192.0.2.2", "to", "any", "port", "8080", "proto", "tcp"]);
    assert_eq!(asks(), "here\n");
}

#[test]
fn otherwise_run_names_ufws_chain_and_the_command_that_opens_it() {
    let Some((host, warned)) = host(&[]) else { return };
    let peer = host.neighbour("192.0.2");
    let asks = || peer.program("curl", ["-sS", "--max-time", "2", "http://192.0.2.1:8080/"]).run().stdout;
    assert!(warned.contains("FORWARD (policy drop)"), "{warned}");
    assert_eq!(asks(), "");
    assert!(host.corten(["network", "ports"]).ok().contains("blocked by ip filter FORWARD"));
    // As it says.
    let commands: Vec<&str> = warned.split("ufw ").skip(1).collect();
    assert!(!commands.is_empty(), "{warned}");
    for command in commands {
        let words: Vec<&str> = command.split(';').next().unwrap_or_default().split_whitespace().collect();
        ufw(&host, &words);
    }
    wait_for("the page", || (asks() == "here\n").then_some(()));
}
