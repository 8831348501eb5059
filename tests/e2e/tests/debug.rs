//! `corten debug`: tools beside a container that has none.

use kit::{Cmd, Host};

/// A host that has, beside busybox, an image with one program and nothing else: busybox under a name that no shell has.
fn host() -> Host {
    let host = Host::with_busybox();
    let made = host.corten(["create", "--network", "none", "busybox", "sh"]).ok();
    let folder = host.root().join("bare");
    std::fs::create_dir(&folder).expect("an image of one program");
    let archive = host.root().join("all.tar");
    host.corten(["export", "-o", archive.to_str().expect("an image of one program"), &made]).ok();
    let path = archive.to_str().expect("an image of one program");
    Cmd::new("tar")
        .args(["-xf", path, "-C", folder.to_str().expect("an image of one program"), "bin/busybox"])
        .ok();
    std::fs::rename(folder.join("bin/busybox"), folder.join("busybox")).expect("an image of one program");
    std::fs::remove_dir(folder.join("bin")).expect("an image of one program");
    std::fs::write(folder.join("word"), "of the container\n").expect("an image of one program");
    let bare = host.root().join("bare.tar");
    Cmd::new("tar")
        .args([
            "-cf",
            bare.to_str().expect("an image of one program"),
            "-C",
            folder.to_str().expect("an image of one program"),
            ".",
        ])
        .ok();
    host.corten(["import", bare.to_str().expect("an image of one program"), "bare"]).ok();
    host.corten(["rm", &made]).ok();
    host
}

#[test]
fn a_shell_beside_a_container_without_one() {
    let host = host();
    let start = |name: &str, flags: &[&str]| {
        let mut args = vec!["run", "-d", "--name", name, "--network", "none"];
        args.extend(flags);
        args.extend(["bare", "/busybox", "sleep", "1000"]);
        host.corten(args).ok();
    };
    start("plain", &[]);
    host.corten(["exec", "plain", "sh"]).run().expect_code(127);
    let debug = |name: &str, script: &str| host.corten(["debug", name, "sh", "-c", script]).run();
    let seen =
        debug("plain", "cat $ROOT/word; tr '\\0' ' ' < /proc/1/cmdline; echo; readlink /proc/self/ns/net");
    let network = host.corten(["exec", "plain", "/busybox", "readlink", "/proc/self/ns/net"]).ok();
    assert_eq!(seen.stdout, format!("of the container\n/busybox sleep 1000 \n{network}\n"), "{seen}");
    // A shell as it is without a command, which says where the files are.
    let shell = host.corten(["debug", "plain"]).stdin("cat $ROOT/word; exit 3\n").run();
    assert_eq!((shell.stdout.as_str(), shell.code), ("of the container\n", 3));
    assert_eq!(shell.stderr, "the files of plain are in /proc/1/root\n");
    // Who it is and what it may do is what the container is and may; its files are there all the same.
    start(
        "small",
        &["--user", "7:8", "--cap-drop", "ALL", "--cap-add", "KILL", "--security-opt", "no-new-privileges"],
    );
    let rights = "id -u; id -g; grep -E '^(Cap(Bnd|Eff|Prm)|NoNewPrivs|Seccomp):' /proc/self/status";
    let own = host
        .corten([
            "exec",
            "small",
            "/busybox",
            "sh",
            "-c",
            &rights.replace("id ", "/busybox id ").replace("grep", "/busybox grep"),
        ])
        .ok();
    let beside = debug("small", &format!("{rights}; cat $ROOT/word"));
    assert_eq!(beside.stdout, format!("{own}\nof the container\n"), "{beside}");
    // Nothing is left of it, and the container knows nothing.
    assert_eq!(host.corten(["ps", "-a", "--format", "{{.Names}}"]).ok(), "small\nplain");
    host.corten(["stop", "-t", "0", "plain"]).ok();
    host.corten(["debug", "plain"])
        .fails(1, "container plain is not running: start it, or debug its image bare");
    host.corten(["rm", "-f", "plain", "small"]).ok();
}

#[test]
fn tools_in_an_image() {
    let host = host();
    let seen = host.corten(["debug", "bare", "sh", "-c", "cat $ROOT/word"]).run();
    assert_eq!(seen.stdout, "of the container\n", "{seen}");
    let shell = host.corten(["debug", "bare"]).stdin("ls; exit 4\n").run();
    assert!(shell.stdout.contains("word\n") && shell.code == 4, "{shell}");
    assert_eq!(host.corten(["ps", "-aq"]).ok(), "");
    host.corten(["debug", "--toolbox", "no-such-image", "bare"]).fails(125, "no-such-image");
}
