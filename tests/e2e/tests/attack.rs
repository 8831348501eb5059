//! What has hurt other engines and must fail here: see `SECURITY.md`. Each test watches a canary on the host.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends, and says where")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kit::fixtures::{Entry, Image, Layer, Packing, busybox};
use kit::{Cmd, Host, binary, wait_for};
use serde_json::json;

#[path = "attack/build.rs"]
mod build;
#[path = "attack/copy.rs"]
mod copy;
#[path = "attack/networks.rs"]
mod networks;

/// A folder on the host that no container may read, change or add to.
struct Canary {
    path: PathBuf,
    before: BTreeMap<PathBuf, Vec<u8>>,
    core_pattern: String,
}

const SECRET: &str = "the canary sings";

impl Canary {
    fn new(host: &Host) -> Self {
        let path = host.root().join("canary");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("passwd"), SECRET).unwrap();
        fs::write(path.join("hostname"), SECRET).unwrap();
        fs::create_dir(path.join("sub")).unwrap();
        let core_pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        Self { before: tree(&path), path, core_pattern }
    }

    fn path(&self) -> String {
        self.path.display().to_string()
    }

    fn check(&self) {
        assert_eq!(tree(&self.path), self.before, "the canary was touched");
        assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), self.core_pattern);
    }
}

/// All files below `path` with their content; folders have none.
fn tree(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(tree(&path));
            found.insert(path, Vec::new());
        } else {
            let content = fs::read(&path).unwrap_or_default();
            found.insert(path, content);
        }
    }
    found
}

fn with_layer(entries: &[Entry]) -> Image {
    let mut image = busybox();
    image.layers.push(Layer::new(entries, Packing::Gzip));
    image
}

/// Runs a command in a container; whether it works is not the question, what it shows and leaves is.
fn run(host: &Host, flags: &[&str], image: &str, command: &[&str]) -> kit::Output {
    let mut args = vec!["run", "--rm", "--network", "none"];
    args.extend(flags);
    args.push(image);
    args.extend(command);
    let output = host.corten(args).limit(Duration::from_secs(30)).run();
    assert!(!output.stdout.contains(SECRET), "the secret was read: {output}");
    output
}

#[test]
fn dev_symlink() {
    let host = Host::new();
    let canary = Canary::new(&host);
    for name in [
        "dev",
        "proc",
        "sys",
        "etc",
        "etc/resolv.conf",
        "etc/hosts",
        "etc/hostname",
        "dev/pts",
        "dev/console",
    ] {
        let target = canary.path();
        let image = match name.split_once('/') {
            None => with_layer(&[Entry::Whiteout(name.into()), Entry::symlink(name, &target)]),
            Some((_, file)) => with_layer(&[Entry::symlink(name, &format!("{target}/{file}"))]),
        };
        let tag = format!("evil-{}", name.replace(['/', '.'], "-"));
        host.give(&image, &tag);
        run(
            &host,
            &[],
            &tag,
            &["sh", "-c", "cat /etc/passwd /etc/hostname; echo x > /dev/x; echo x > /etc/x"],
        );
        run(&host, &["-v", "vol:/dev/sub"], &tag, &["true"]);
        canary.check();
    }
}

#[test]
fn fd_cwd() {
    let host = Host::with_busybox();
    let canary = Canary::new(&host);
    let id = host.corten(["run", "-d", "--network", "none", "busybox", "sleep", "1000"]).ok();
    let relative = format!("../../../../../../../..{}/passwd", canary.path());
    for fd in 0..24 {
        let cwd = format!("/proc/self/fd/{fd}");
        run(&host, &["-w", &cwd], "busybox", &["cat", &relative]);
        let exec = host.corten(["exec", "-w", &cwd, &id, "cat", &relative]).run();
        assert!(!exec.stdout.contains(SECRET), "{exec}");
    }
    let mut image = busybox();
    image.config["WorkingDir"] = json!("/proc/self/fd/8");
    host.give(&image, "evil-cwd");
    run(&host, &[], "evil-cwd", &["cat", &relative]);
    host.give(&with_layer(&[Entry::symlink("work", "/proc/self/fd/7")]), "evil-cwd-link");
    run(&host, &["-w", "/work"], "evil-cwd-link", &["cat", &relative]);
    canary.check();
}

#[test]
fn no_descriptor_is_inherited() {
    let host = Host::with_busybox();
    // The fourth is the listing's own.
    let fds = run(&host, &[], "busybox", &["ls", "/proc/self/fd"]);
    assert_eq!(fds.text(), "0\n1\n2\n3", "{fds}");
    let id = host.corten(["run", "-d", "--network", "none", "busybox", "sleep", "1000"]).ok();
    assert_eq!(host.corten(["exec", &id, "ls", "/proc/self/fd"]).ok(), "0\n1\n2\n3");
    assert_eq!(host.corten(["exec", &id, "ls", "/proc/1/fd"]).ok(), "0\n1\n2");
}

#[test]
fn self_exe() {
    let host = Host::with_busybox();
    let hash = || Cmd::new("sha256sum").args([binary()]).ok();
    let before = hash();
    let script = "while true; do for p in /proc/[0-9]*; do echo pwned > $p/exe; done 2>/dev/null; done";
    let id = host.corten(["run", "-d", "--network", "none", "busybox", "sh", "-c", script]).ok();
    for _ in 0..20 {
        let _ = host.corten(["exec", &id, "true"]).run();
        let _ = host.corten(["exec", &id, "/proc/self/exe", "version"]).run();
    }
    host.give(&with_layer(&[Entry::symlink("evil", "/proc/self/exe")]), "evil-exe");
    run(&host, &[], "evil-exe", &["/evil", "version"]);
    assert_eq!(hash(), before);
    // The copy in memory that supervisors are started from is whole too.
    assert_eq!(run(&host, &[], "busybox", &["echo", "fine"]).text(), "fine");
}

#[test]
fn uid_wrap() {
    let host = Host::with_busybox();
    let id = host.corten(["run", "-d", "--network", "none", "busybox", "sleep", "1000"]).ok();
    for user in
        ["4294967296", "4294967295", "2147483648", "-1", "0x0", " 0", "0:4294967296", "18446744073709551616"]
    {
        let output = run(&host, &["-u", user], "busybox", &["id"]);
        assert_ne!(output.code, 0, "{output}");
        let exec = host.corten(["exec", "-u", user, &id, "id"]).run();
        assert_ne!(exec.code, 0, "{exec}");
    }
    for (n, user) in ["4294967296", "-1"].iter().enumerate() {
        let mut image = busybox();
        image.config["User"] = json!(user);
        let tag = format!("evil-user-{n}");
        host.give(&image, &tag);
        assert_ne!(run(&host, &[], &tag, &["id"]).code, 0);
    }
    assert_eq!(host.corten(["ps", "-aq"]).ok().lines().count(), 1);
}

#[test]
fn inherited_caps() {
    let host = Host::with_busybox();
    for flags in
        [&[] as &[&str], &["--cap-add", "ALL"], &["--privileged"], &["-u", "1000", "--cap-add", "NET_ADMIN"]]
    {
        let output = run(&host, flags, "busybox", &["grep", "CapInh", "/proc/self/status"]);
        assert_eq!(output.text(), "CapInh:\t0000000000000000", "{flags:?}");
    }
}

/// Looks at every process that appears in its PID namespace, as a debugger may, and takes down what it has more than the looker.
const WATCHER: &str = r#"
# Another user has no capabilities: that is less.
rights() { grep -E '^(CapPrm|CapBnd|Seccomp):' $1/status 2>/dev/null | grep -v 'CapPrm:.0000000000000000'; }
own=$(rights /proc/self | grep -v CapPrm)
all=$(rights /proc/self)
echo watching
while [ ! -e /stop ]; do
    for dir in /proc/[0-9]*; do
        pid=${dir#/proc/}
        [ "$pid" = 1 ] || [ "$pid" = $$ ] && continue
        theirs=$(rights $dir)
        case "$theirs" in ""|"$own"|"$all") ;; *) echo "more: $theirs" ;; esac
        for fd in $dir/fd/*; do
            case $(readlink $fd 2>/dev/null) in
                /proc*|/sys*|*cgroup*|*corten*|anon_inode:*pid*) echo "open: $(readlink $fd)" ;;
            esac
            [ -e "$fd/sys/kernel/core_pattern" ] && echo "the host's proc"
        done
        # Whose parent is outside came by exec.
        grep -q '^PPid:.0$' $dir/status 2>/dev/null && echo seen > /seen
    done
done
"#;

#[test]
fn exec_watched() {
    // A process that joins a container must have nothing that a debugger in the container could take from it.
    let host = Host::with_busybox();
    let canary = Canary::new(&host);
    let run = ["run", "-d", "--name", "debugger", "--network", "none", "--cap-add", "SYS_PTRACE", "busybox"];
    host.corten(run.iter().chain(&["sh", "-c", WATCHER])).ok();
    wait_for("the watcher", || (!host.corten(["logs", "debugger"]).ok().is_empty()).then_some(()));
    for round in 0..40 {
        let user = if round % 2 == 0 { "0" } else { "1000" };
        host.corten(["exec", "-u", user, "debugger", "true"]).ok();
    }
    // On a quick machine it takes more of them until the debugger has seen one: each of these is one as well.
    wait_for("the debugger to see an exec", || {
        (host.corten(["exec", "debugger", "cat", "/seen"]).run().code == 0).then_some(())
    });
    host.corten(["exec", "debugger", "touch", "/stop"]).ok();
    host.corten(["wait", "debugger"]).ok();
    assert_eq!(host.corten(["logs", "debugger"]).ok(), "watching");
    canary.check();
}

#[test]
fn tar_walk() {
    let host = Host::new();
    let canary = Canary::new(&host);
    let outside = canary.path();
    let up = format!("../../../../../../../../../..{outside}");
    let layers: Vec<Vec<Entry>> = vec![
        vec![Entry::file(&format!("{up}/new"), "x")],
        vec![Entry::file(&format!("{outside}/new"), "x")],
        vec![Entry::symlink("out", &outside), Entry::file("out/new", "x")],
        vec![Entry::symlink("out", &up), Entry::file("out/passwd", "x")],
        vec![Entry::symlink("out", &outside), Entry::Link("linked".into(), "out/passwd".into())],
        vec![Entry::Link("linked".into(), format!("{up}/passwd"))],
        vec![Entry::Link("linked".into(), format!("{outside}/passwd"))],
        vec![Entry::symlink("out", &outside), Entry::Whiteout("out/passwd".into())],
        vec![Entry::symlink("out", &outside), Entry::Opaque("out".into())],
        vec![Entry::Whiteout("..".into())],
        vec![Entry::file("d/.wh...", "")],
        vec![Entry::Opaque(up.clone())],
        vec![Entry::symlink("bin", &outside), Entry::file("bin/sh", "x")],
        vec![Entry::Device(format!("{up}/device"), 1, 3)],
        vec![Entry::Fifo(format!("{up}/fifo"))],
    ];
    for (n, entries) in layers.iter().enumerate() {
        let tag = format!("evil-tar-{n}");
        let pulled = host.try_give(&with_layer(entries), &tag);
        canary.check();
        if pulled.code == 0 {
            run(&host, &[], &tag, &["cat", "/linked", "/out/passwd"]);
            canary.check();
        } else {
            assert!(!pulled.stderr.trim().is_empty());
        }
    }
}

#[test]
fn passwd_fifo() {
    let host = Host::new();
    let canary = Canary::new(&host);
    let passwd = format!("{}/passwd", canary.path());
    let kinds: Vec<Vec<Entry>> = vec![
        vec![Entry::Whiteout("etc/passwd".into()), Entry::Fifo("etc/passwd".into())],
        vec![Entry::Device("etc/passwd".into(), 1, 5)],
        vec![Entry::Device("etc/group".into(), 1, 5), Entry::Device("etc/passwd".into(), 1, 8)],
        vec![Entry::symlink("etc/passwd", &passwd)],
        vec![Entry::symlink("etc/passwd", "passwd")],
        vec![Entry::dir("etc/passwd")],
        vec![Entry::file("etc/passwd", vec![b'x'; 64 << 20])],
    ];
    for (n, entries) in kinds.iter().enumerate() {
        let tag = format!("evil-passwd-{n}");
        host.give(&with_layer(entries), &tag);
        for user in ["root", "user", "1000"] {
            run(&host, &["-u", user], &tag, &["true"]);
        }
        // Without a user nobody has to look there.
        run(&host, &[], &tag, &["true"]);
        canary.check();
    }
    assert_eq!(host.corten(["ps", "-aq"]).ok(), "");
}

#[test]
fn volume_decl() {
    let host = Host::new();
    let canary = Canary::new(&host);
    let up = format!("/../../../../../../../..{}", canary.path());
    for (n, volume) in
        ["/../../etc".to_owned(), up, "/".to_owned(), "relative/../..".to_owned()].iter().enumerate()
    {
        let mut image = busybox();
        image.config["Volumes"] = json!({ volume: {} });
        let tag = format!("evil-volume-{n}");
        host.give(&image, &tag);
        let script = format!("cat {0}/passwd {0}/hostname; cat /etc/shadow; echo x > {0}/new", canary.path());
        let output = run(&host, &[], &tag, &["sh", "-c", &script]);
        assert!(!output.stdout.contains(":root:"), "{output}");
        canary.check();
    }
    host.give(&with_layer(&[Entry::symlink("data", &canary.path())]), "evil-volume-link");
    run(
        &host,
        &["-v", "vol:/data/sub/deep"],
        "evil-volume-link",
        &["sh", "-c", "cat /data/passwd; ls /data"],
    );
    canary.check();
    assert_eq!(host.corten(["ps", "-aq"]).ok(), "");
}

#[test]
fn mkdir_race() {
    let host = Host::with_busybox();
    let canary = Canary::new(&host);
    let shared = host.root().join("shared");
    fs::create_dir(&shared).unwrap();
    let bind = format!("{}:/s", shared.display());
    let script = format!(
        "while true; do mkdir -p /s/x; rm -rf /s/x; ln -s {0} /s/x; rm -f /s/x; ln -s ../canary /s/x; rm -f /s/x; done",
        canary.path()
    );
    let id =
        host.corten(["run", "-d", "--network", "none", "-v", &bind, "busybox", "sh", "-c", &script]).ok();
    for _ in 0..40 {
        run(&host, &["-v", &bind, "-v", "vol:/s/x/made/here"], "busybox", &["true"]);
        run(&host, &["-v", &bind, "--tmpfs", "/s/x/sub"], "busybox", &["true"]);
    }
    canary.check();
    assert_eq!(host.corten(["rm", "-f", &id]).ok(), id);
    canary.check();
    // The same where the link is there to stay.
    let _ = fs::remove_dir_all(shared.join("x"));
    symlink(&canary.path, shared.join("x")).unwrap();
    run(&host, &["-v", &bind, "-v", "vol:/s/x/made/here"], "busybox", &["true"]);
    canary.check();
}

#[test]
fn socket_reach() {
    let host = Host::with_busybox();
    let found = run(
        &host,
        &[],
        "busybox",
        &["sh", "-c", "find / -xdev -type s 2>/dev/null; cat /proc/net/unix | tail -n +2"],
    );
    assert_eq!(found.text(), "", "{found}");
    // A container on the host's network sees the host's abstract sockets: none is ours.
    let id = host.corten(["run", "-d", "--network", "none", "busybox", "sleep", "1000"]).ok();
    let seen = run(&host, &["--network", "host"], "busybox", &["cat", "/proc/net/unix"]);
    for line in seen.stdout.lines().filter(|line| line.contains('@')) {
        assert!(!line.contains("corten") && !line.contains(&id), "{line}");
    }
    let masked = run(&host, &[], "busybox", &["sh", "-c", "ls /run /var/run 2>/dev/null"]);
    assert!(!masked.stdout.contains("corten"), "{masked}");
}

#[test]
fn kernel_surface() {
    let Some(probe) = kit::programs::compiled("surface", include_str!("attack/surface.c")) else { return };
    let host = Host::new();
    let probe = Entry::File("probe".into(), 0o755, probe);
    host.give(&with_layer(&[probe]), "probe");
    let confined =
        fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.trim() == "Y");
    let output = run(&host, &[], "probe", &["/probe"]);
    for line in output.text().lines() {
        let (what, errno) = line.split_once(' ').unwrap();
        // Seccomp cannot look at the arguments of the 32-bit multiplexer, which lie in memory: that is AppArmor's part.
        let allowed: &[&str] = match what {
            "af_alg_socketcall" if confined => &["13"],
            "af_alg_socketcall" => continue,
            _ => &["1", "38"],
        };
        assert!(allowed.contains(&errno), "{what}: errno {errno}, not {allowed:?}");
    }
    assert_eq!(output.text().lines().count(), 15, "{output}");
}

#[test]
fn exhaustion() {
    let host = Host::with_busybox();
    let other = host.corten(["run", "-d", "--network", "none", "busybox", "sleep", "1000"]).ok();
    let bomb = host
        .corten([
            "run",
            "-d",
            "--network",
            "none",
            "--pids-limit",
            "50",
            "--memory",
            "64m",
            "busybox",
            "sh",
            "-c",
            "b() { b | b & b; }; b",
        ])
        .ok();
    assert_eq!(host.corten(["exec", &other, "echo", "alive"]).ok(), "alive");
    assert_eq!(run(&host, &[], "busybox", &["echo", "new"]).text(), "new");
    assert_eq!(host.corten(["rm", "-f", &bomb]).ok(), bomb);
    wait_for("the bomb's end", || {
        host.corten(["ps", "-aq", "--no-trunc"]).ok().lines().all(|id| id == other).then_some(())
    });
}
