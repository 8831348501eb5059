//! `run`: what a container's process sees, and how its end is told; through our command line and the real `docker`.

use kit::{CLIS, Cli, Host};

/// Runs `script` in a new busybox container with `flags`, and gives what it wrote.
fn sh(host: &Host, cli: Cli, flags: &[&str], script: &str) -> String {
    let mut args = vec!["run", "--rm", "--network", "none"];
    args.extend(flags);
    args.extend(["busybox", "sh", "-c", script]);
    host.cli(cli, args).ok()
}

#[test]
fn output_and_exit_codes() {
    let host = Host::with_busybox();
    for cli in CLIS {
        assert_eq!(sh(&host, cli, &[], "echo out; echo err >&2"), "out");
        let run = |args: &[&str]| {
            let mut all = vec!["run", "--rm", "--network", "none", "busybox"];
            all.extend(args);
            host.cli(cli, all).run()
        };
        run(&["sh", "-c", "exit 42"]).expect_code(42);
        let output = run(&["no-such-program"]);
        assert!(output.stderr.contains("executable file not found in $PATH"), "{output}");
        output.expect_code(127);
        run(&["/etc"]).expect_code(126);
        host.cli(cli, ["run", "--rm", "--no-such-flag", "busybox"])
            .fails(125, "unknown flag: --no-such-flag");
        host.cli(cli, ["run", "--rm", "--pull", "never", "no-such-image"])
            .fails(125, "No such image: no-such-image:latest");
        assert_eq!(host.cli(cli, ["ps", "-aq"]).ok(), "");
    }
}

#[test]
fn standard_input_arrives_and_ends() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
        let output = host
            .cli(cli, ["run", "--rm", "-i", "--network", "none", "busybox", "md5sum"])
            .stdin(bytes.clone())
            .ok();
        let expected = kit::Cmd::new("md5sum").stdin(bytes).ok();
        assert_eq!(output, expected);
    }
}

#[test]
fn the_world_inside() {
    let host = Host::with_busybox();
    for cli in CLIS {
        // A process table, a host name, and interfaces of its own.
        assert_eq!(sh(&host, cli, &[], "echo $$"), "1");
        assert_eq!(sh(&host, cli, &["-h", "name"], "hostname"), "name");
        assert_eq!(sh(&host, cli, &[], "ls /sys/class/net"), "lo");
        assert_eq!(
            sh(
                &host,
                cli,
                &[],
                "cat /sys/class/net/lo/operstate; ping -c1 -W1 127.0.0.1 >/dev/null && echo up"
            ),
            "unknown\nup"
        );
        assert_eq!(sh(&host, cli, &["-w", "/a/b"], "pwd"), "/a/b");
        assert_eq!(
            sh(&host, cli, &["-e", "A=b c", "-e", "D="], "echo \"$A|$D|$HOME|$PATH\""),
            "b c||/root|/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        );
        // Devices and their links; the one to the kernel's memory where the kernel has it.
        let core = if std::path::Path::new("/proc/kcore").exists() { "core " } else { "" };
        assert_eq!(
            sh(&host, cli, &[], "cd /dev; ls | tr '\\n' ' '"),
            format!("{core}fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ")
        );
        assert_eq!(
            sh(&host, cli, &[], "head -c 3 /dev/zero | wc -c; echo x > /dev/null; stat -c %t:%T /dev/null"),
            "3\n1:3"
        );
        // Masked and read-only paths.
        assert_eq!(
            sh(&host, cli, &[], "cat /proc/kcore 2>/dev/null | wc -c; ls /sys/firmware | wc -l"),
            "0\n0"
        );
        let denied = sh(
            &host,
            cli,
            &[],
            "(echo 1 > /proc/sys/kernel/domainname) 2>&1 || true; mount -t tmpfs x /tmp 2>&1 || true",
        );
        assert!(denied.contains("Read-only file system") || denied.contains("nonexistent"), "{denied}");
        assert!(denied.contains("permission denied") || denied.contains("not permitted"), "{denied}");
        // Capabilities: Docker's fourteen, nothing inheritable, nothing ambient.
        let caps = sh(&host, cli, &[], "grep ^Cap /proc/self/status | cut -f2 | tr '\\n' ' '");
        assert_eq!(
            caps,
            "0000000000000000 00000000a80425fb 00000000a80425fb 00000000a80425fb 0000000000000000 "
        );
        assert_eq!(sh(&host, cli, &[], "grep ^Seccomp: /proc/self/status | cut -f2"), "2");
        assert_eq!(
            sh(
                &host,
                cli,
                &["--cap-drop", "ALL", "--cap-add", "CHOWN"],
                "grep ^CapEff /proc/self/status | cut -f2"
            ),
            "0000000000000001"
        );
        assert_eq!(
            sh(
                &host,
                cli,
                &["--security-opt", "no-new-privileges"],
                "grep ^NoNewPrivs /proc/self/status | cut -f2"
            ),
            "1"
        );
    }
}

#[test]
fn users() {
    let host = Host::with_busybox();
    for cli in CLIS {
        assert_eq!(sh(&host, cli, &["-u", "1234:5678"], "id -u; id -g"), "1234\n5678");
        assert_eq!(sh(&host, cli, &["-u", "0"], "id -u"), "0");
        assert_eq!(
            sh(&host, cli, &["-u", "1234"], "grep ^CapEff /proc/self/status | cut -f2"),
            "0000000000000000"
        );
        let bad = |user: &str, text: &str| {
            host.cli(cli, ["run", "--rm", "--network", "none", "-u", user, "busybox", "id"]).fails(125, text);
        };
        bad("nobody-here", "unable to find user nobody-here: no matching entries in passwd file");
        bad("4294967296", "uids and gids must be in range 0-2147483647");
        bad("-1", "");
        bad("0:4294967295", "uids and gids must be in range 0-2147483647");
    }
}

#[test]
fn the_id_is_written_to_a_file_that_was_not_there() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let file = host.root().join(format!("cid-{cli:?}"));
        let path = file.display().to_string();
        let run = ["run", "--network", "none", "--cidfile", &path, "busybox", "true"];
        host.cli(cli, run).ok();
        let id = std::fs::read_to_string(&file).expect("the file");
        assert_eq!(host.cli(cli, ["inspect", "-f", "{{.Id}}", &id]).ok(), id);
        host.cli(cli, run).fails(125, "container ID file found");
        assert_eq!(host.cli(cli, ["ps", "-aq"]).ok().lines().count(), 1);
        host.cli(cli, ["rm", &id]).ok();
    }
}

#[test]
fn a_program_begins_with_its_limits_and_never_before() {
    let host = Host::with_busybox();
    let run = || {
        let id = host
            .corten([
                "run",
                "-d",
                "--network",
                "none",
                "--ulimit",
                "nofile=123:456",
                "busybox",
                "sh",
                "-c",
                "ulimit -n; sleep 1000",
            ])
            .ok();
        let exec = host.corten(["exec", &id, "sh", "-c", "ulimit -n"]).ok();
        let first = kit::wait_for("its first word", || {
            Some(host.corten(["logs", &id]).ok()).filter(|log| !log.is_empty())
        });
        (first, exec)
    };
    std::thread::scope(|scope| {
        let runs: Vec<_> =
            (0..3).map(|_| scope.spawn(|| (0..7).map(|_| run()).collect::<Vec<_>>())).collect();
        for (first, exec) in runs.into_iter().flat_map(|thread| thread.join().unwrap()) {
            assert_eq!((first.as_str(), exec.as_str()), ("123", "123"));
        }
    });
}

#[test]
fn limits() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let v1 = std::path::Path::new("/sys/fs/cgroup/memory").is_dir();
        let (memory, pids) = if v1 {
            ("cat /sys/fs/cgroup/memory/memory.limit_in_bytes", "cat /sys/fs/cgroup/pids/pids.max")
        } else {
            ("cat /sys/fs/cgroup/memory.max", "cat /sys/fs/cgroup/pids.max")
        };
        assert_eq!(sh(&host, cli, &["--memory", "64m"], memory), "67108864");
        assert_eq!(sh(&host, cli, &["--pids-limit", "77"], pids), "77");
        assert_eq!(sh(&host, cli, &["--ulimit", "nofile=123:456"], "ulimit -n; ulimit -Hn"), "123\n456");
        if v1 {
            assert_eq!(
                sh(&host, cli, &["--cpus", "0.5"], "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
                "50000"
            );
            assert_eq!(sh(&host, cli, &["--cpuset-cpus", "0"], "cat /sys/fs/cgroup/cpuset/cpuset.cpus"), "0");
        }
        assert_eq!(
            sh(&host, cli, &["--shm-size", "8m"], "df -k /dev/shm | tail -n1 | awk '{print $2}'"),
            "8192"
        );
    }
}

#[test]
fn a_process_that_takes_too_much_memory_is_killed_and_it_is_told() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let script = "x=a; while true; do x=$x$x; done";
        let args = [
            "run",
            "--network",
            "none",
            "--name",
            "eater",
            "--memory",
            "16m",
            "--memory-swap",
            "16m",
            "busybox",
            "sh",
            "-c",
            script,
        ];
        host.cli(cli, args).run().expect_code(137);
        assert_eq!(
            host.cli(cli, ["inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "eater"]).ok(),
            "true 137"
        );
        assert_eq!(host.cli(cli, ["rm", "eater"]).ok(), "eater");
    }
}

#[test]
fn mounts() {
    let host = Host::with_busybox();
    let dir = host.root().join("bound");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("file"), "from the host").unwrap();
    let bound = dir.display().to_string();
    for cli in CLIS {
        let v = format!("{bound}:/b");
        assert_eq!(sh(&host, cli, &["-v", &v], "cat /b/file; echo changed > /b/new"), "from the host");
        assert_eq!(std::fs::read_to_string(dir.join("new")).unwrap(), "changed\n");
        let ro = format!("{bound}:/b:ro");
        assert!(sh(&host, cli, &["-v", &ro], "touch /b/x 2>&1 || true").contains("Read-only file system"));
        let mount = format!("type=bind,src={bound}/file,dst=/deep/in/file,readonly");
        assert_eq!(sh(&host, cli, &["--mount", &mount], "cat /deep/in/file"), "from the host");
        assert_eq!(
            sh(
                &host,
                cli,
                &["--tmpfs", "/t:size=1m,mode=700"],
                "stat -c %a /t; df -k /t | tail -n1 | awk '{print $2}'"
            ),
            "700\n1024"
        );
        assert!(sh(&host, cli, &["--read-only"], "touch /x 2>&1 || true").contains("Read-only file system"));
        sh(&host, cli, &["-v", "vol:/v"], "echo one > /v/f");
        assert_eq!(sh(&host, cli, &["-v", "vol:/v:ro"], "cat /v/f"), "one");
        assert_eq!(host.cli(cli, ["volume", "ls", "-q"]).ok(), "vol");
        assert_eq!(host.cli(cli, ["volume", "rm", "vol"]).ok(), "vol");
        let missing = "type=bind,src=/no/such/path,dst=/x";
        host.cli(cli, ["run", "--rm", "--mount", missing, "busybox", "true"]).fails(
            125,
            "invalid mount config for type \"bind\": bind source path does not exist: /no/such/path",
        );
        assert!(host.mounts().is_empty(), "{:?}", host.mounts());
    }
}

#[test]
fn what_is_not_there_yet_is_refused_by_name() {
    let host = Host::with_busybox();
    for cli in CLIS {
        host.cli(cli, ["run", "--rm", "--network", "container:x", "busybox", "true"])
            .fails(125, "No such container: x");
        host.cli(cli, ["run", "--rm", "--gpus", "all", "busybox", "true"]).fails(125, "");
        host.cli(cli, ["run", "--rm", "--network", "no-such-net", "busybox", "true"])
            .fails(125, "network no-such-net not found");
        assert_eq!(host.cli(cli, ["ps", "-aq"]).ok(), "");
    }
}

#[test]
fn host_network_and_namespaces() {
    let host = Host::with_busybox();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    for cli in CLIS {
        assert_eq!(
            host.cli(cli, ["run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net"])
                .ok(),
            own
        );
        assert_ne!(sh(&host, cli, &[], "readlink /proc/self/ns/net"), own);
        let uts = std::fs::read_link("/proc/self/ns/uts").unwrap().display().to_string();
        assert_eq!(sh(&host, cli, &["--uts", "host"], "readlink /proc/self/ns/uts"), uts);
        let pid = std::fs::read_link("/proc/self/ns/pid").unwrap().display().to_string();
        assert_eq!(sh(&host, cli, &["--pid", "host"], "readlink /proc/self/ns/pid"), pid);
    }
}

#[test]
fn init_reaps_and_forwards() {
    let host = Host::with_busybox();
    for cli in CLIS {
        assert_ne!(sh(&host, cli, &["--init"], "echo $$"), "1");
        host.cli(cli, ["run", "--rm", "--init", "--network", "none", "busybox", "sh", "-c", "exit 3"])
            .run()
            .expect_code(3);
    }
}

#[test]
fn without_a_default_bridge_a_container_has_loopback_alone() {
    // As the daemon of every test is told that makes no network.
    let host = Host::with_busybox();
    assert_eq!(sh(&host, Cli::Corten, &[], "ip -o link | wc -l"), "1");
    host.corten(["run", "--rm", "--network", "bridge", "busybox", "true"])
        .fails(125, "network bridge not found");
    let output = host.corten(["run", "--rm", "-p", "8080:80", "busybox", "true"]).run();
    assert!(output.stderr.contains("Published ports are discarded when using none network mode"), "{output}");
}
