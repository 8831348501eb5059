//! `--runtime`: other OCI runtimes in the place of our own.

use kit::{CLIS, Host};

/// A host that knows the runtimes of this machine, and their names.
fn host() -> Option<(Host, Vec<String>)> {
    // crun refuses hosts that have both versions of cgroups.
    let hybrid = std::path::Path::new("/sys/fs/cgroup/unified").exists();
    let found: Vec<String> = ["runc", "crun"]
        .into_iter()
        .filter(|name| *name != "crun" || !hybrid)
        .filter(|name| kit::Cmd::new("which").args([name]).run().code == 0)
        .map(str::to_owned)
        .collect();
    if found.is_empty() {
        kit::skip("runc or crun", "neither is installed");
        return None;
    }
    let flags: Vec<String> =
        found.iter().flat_map(|name| ["--add-runtime".to_owned(), format!("{name}={name}")]).collect();
    let host = Host::with_flags(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    host.pull_busybox();
    Some((host, found))
}

#[test]
fn a_container_made_by_another_runtime() {
    let Some((host, runtimes)) = host() else { return };
    for (cli, runtime) in CLIS.into_iter().flat_map(|cli| runtimes.iter().map(move |name| (cli, name))) {
        let run = |flags: &[&str], words: &[&str]| {
            let mut args = vec!["run", "--rm", "--network", "none", "--runtime", runtime];
            args.extend(flags);
            args.push("busybox");
            args.extend(words);
            host.cli(cli, args)
        };
        assert_eq!(run(&[], &["sh", "-c", "echo out; echo err >&2"]).ok(), "out");
        run(&[], &["sh", "-c", "exit 42"]).run().expect_code(42);
        run(&[], &["no-such-program"]).run().expect_code(127);
        assert_eq!(run(&["-i"], &["cat"]).stdin("typed").ok(), "typed");
        assert_eq!(
            run(&["--init"], &["sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline"]).ok(),
            "/sbin/docker-init init -- sh -c tr '\\0' ' ' < /proc/1/cmdline "
        );
        let args = [
            "run",
            "-d",
            "--name",
            "box",
            "--network",
            "none",
            "--runtime",
            runtime,
            "-v",
            "data:/data",
            "-m",
            "64m",
            "busybox",
        ];
        host.cli(cli, args.iter().chain(&["sh", "-c", "echo kept > /data/file; exec sleep 1000"])).ok();
        let inspected =
            host.cli(cli, ["inspect", "-f", "{{.HostConfig.Runtime}} {{.State.Status}}", "box"]).ok();
        assert_eq!(inspected, format!("{runtime} running"));
        assert!(
            host.exec_root()
                .join("c")
                .join(host.cli(cli, ["inspect", "-f", "{{.Id}}", "box"]).ok())
                .join("state")
                .is_dir()
        );
        assert_eq!(host.cli(cli, ["exec", "-i", "box", "cat"]).stdin("x").ok(), "x");
        assert_eq!(
            host.cli(cli, ["exec", "box", "sh", "-c", "cat /data/file; exit 3"]).run().stdout,
            "kept\n"
        );
        host.cli(cli, ["exec", "box", "sh", "-c", "exit 3"]).run().expect_code(3);
        host.cli(cli, ["pause", "box"]).ok();
        host.cli(cli, ["unpause", "box"]).ok();
        host.cli(cli, ["update", "--memory", "32m", "--memory-swap", "32m", "box"]).ok();
        let mut terminal = host.terminal(
            cli,
            &["run", "--rm", "-it", "--network", "none", "--runtime", runtime, "busybox", "sh"],
        );
        terminal.expect("# ");
        terminal.send("tty; exit 5\n");
        terminal.expect("/dev/pts/0");
        assert_eq!(terminal.wait(), 5);
        host.cli(cli, ["restart", "-t", "0", "box"]).ok();
        assert_eq!(host.cli(cli, ["exec", "box", "echo", "again"]).ok(), "again");
        host.cli(cli, ["kill", "box"]).ok();
        assert_eq!(host.cli(cli, ["wait", "box"]).ok(), "137");
        host.cli(cli, ["rm", "-v", "box"]).ok();
        host.cli(cli, ["volume", "rm", "data"]).ok();
    }
    assert_eq!(host.mounts(), Vec::<String>::new());
}

#[test]
fn a_daemon_that_is_killed_finds_it_again() {
    let Some((mut host, runtimes)) = host() else { return };
    for runtime in &runtimes {
        host.corten([
            "run",
            "-d",
            "--name",
            "box",
            "--network",
            "none",
            "--runtime",
            runtime,
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
        host.kill_daemon();
        host.start_daemon();
        assert_eq!(host.corten(["inspect", "-f", "{{.State.Status}}", "box"]).ok(), "running");
        assert_eq!(host.corten(["exec", "box", "echo", "here"]).ok(), "here");
        host.corten(["rm", "-f", "box"]).ok();
    }
    host.corten(["run", "--rm", "--network", "none", "--runtime", "kata", "busybox"])
        .fails(125, "unknown or invalid runtime name: kata");
}
