//! Limits: at the start, and changed while it runs.

use kit::{CLIS, Host, skip};

use super::{remove, sh, start, words};

/// Where a controller's file of the container itself is seen inside.
fn inside(controller: &str, v1: &str, v2: &str) -> String {
    let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if unified { format!("/sys/fs/cgroup/{v2}") } else { format!("/sys/fs/cgroup/{controller}/{v1}") }
}

#[test]
fn there_is_a_limit_of_processes() {
    let file = inside("pids", "pids.max", "pids.max");
    let read = format!("cat {file}");
    let host = Host::with_busybox();
    for cli in CLIS {
        assert_eq!(sh(&host, cli, &[], &read), "4096");
        assert_eq!(sh(&host, cli, &["--pids-limit", "-1"], &read), "max");
        assert_eq!(sh(&host, cli, &["--pids-limit", "77"], &read), "77");
        start(&host, cli, "box", &[], "exec sleep 1000");
        let limit = |name: &str| host.cli(cli, ["inspect", "-f", "{{.HostConfig.PidsLimit}}", name]).ok();
        assert_eq!(limit("box"), "4096");
        host.cli(cli, ["update", "--pids-limit", "-1", "box"]).ok();
        assert_eq!(host.cli(cli, ["exec", "box", "cat", &file]).ok(), "max");
        host.cli(cli, ["restart", "-t", "0", "box"]).ok();
        assert_eq!(host.cli(cli, ["exec", "box", "cat", &file]).ok(), "max");
        remove(&host, cli, &["box"]);
    }
    let free = Host::with_flags(&["--default-pids-limit", "-1"]);
    free.pull_busybox();
    assert_eq!(sh(&free, kit::Cli::Corten, &[], &read), "max");
}

#[test]
fn a_fork_bomb_leaves_the_others_usable() {
    let host = Host::with_flags(&["--default-pids-limit", "500"]);
    host.pull_busybox();
    let cli = kit::Cli::Corten;
    start(&host, cli, "other", &[], "exec sleep 1000");
    start(&host, cli, "bomb", &[], "bomb() { bomb | bomb & }; bomb; exec sleep 1000");
    let current = inside("pids", "pids.events", "pids.events");
    // The kernel has refused some of them.
    kit::wait_for("the bomb to reach its limit", || {
        let id = host.corten(["inspect", "-f", "{{.State.Pid}}", "bomb"]).ok();
        let refused = std::fs::read_to_string(format!("/proc/{id}/root{current}")).unwrap_or_default();
        refused.lines().any(|line| line.strip_prefix("max ").is_some_and(|n| n != "0")).then_some(())
    });
    assert_eq!(host.corten(["exec", "other", "echo", "here"]).ok(), "here");
    assert_eq!(sh(&host, cli, &[], "echo new"), "new");
    remove(&host, cli, &["bomb", "other"]);
}

#[test]
fn real_time_scheduling() {
    if !std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
        let host = Host::with_busybox();
        for cli in CLIS {
            host.cli(cli, words(&["--cpu-rt-runtime", "1000"], "true"))
                .fails(125, "kernel does not support CPU real-time scheduler");
        }
        return;
    }
    let host = Host::with_flags(&["--cpu-rt-runtime", "20000"]);
    host.pull_busybox();
    let flags = ["--cpu-rt-period", "500000", "--cpu-rt-runtime", "5000", "--cap-add", "SYS_NICE"];
    let read = "cat /sys/fs/cgroup/cpu/cpu.rt_period_us /sys/fs/cgroup/cpu/cpu.rt_runtime_us";
    for cli in CLIS {
        let mut all = vec!["run", "--rm", "--network", "none"];
        all.extend(flags);
        all.extend(["busybox", "sh", "-c"]);
        let script = format!("{read}; chrt -f 5 echo real");
        all.push(&script);
        let output = host.cli(cli, all).run();
        if output.stderr.contains("chrt: not found") {
            skip("chrt", "busybox without chrt");
        } else {
            output.expect_code(0);
            assert_eq!(output.stdout, "500000\n5000\nreal\n");
        }
        start(&host, cli, "box", &flags, "exec sleep 1000");
        host.cli(cli, ["update", "--cpu-rt-runtime", "4000", "box"]).ok();
        assert_eq!(host.cli(cli, ["exec", "box", "sh", "-c", read]).ok(), "500000\n4000");
        host.cli(cli, words(&["--cpu-rt-period", "1000", "--cpu-rt-runtime", "2000"], "true"))
            .fails(125, "cpu real-time runtime cannot be higher than cpu real-time period");
        remove(&host, cli, &["box"]);
    }
}

/// What is not there is told by its name, and nothing is made.
#[test]
fn what_is_not_there_is_refused() {
    let host = Host::with_busybox();
    for cli in CLIS {
        for (flags, text) in [
            (&["--storage-opt", "size=1g"][..], "--storage-opt is supported only for"),
            (&["--storage-opt", "speed=1"], "unknown option speed"),
            (&["--runtime", "crun"], "unknown or invalid runtime name: crun"),
            (&["--isolation", "hyperv"], "isolation"),
        ] {
            host.cli(cli, words(flags, "true")).fails(125, text);
        }
        assert_eq!(host.cli(cli, ["ps", "-aq"]).ok(), "");
        assert_eq!(sh(&host, cli, &["--runtime", "corten"], "echo ran"), "ran");
    }
}

/// Every flag of `update`, seen in the cgroup of a container that runs.
#[test]
fn all_that_update_changes() {
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return;
    }
    let host = Host::with_busybox();
    for cli in CLIS {
        start(&host, cli, "box", &[], "exec sleep 1000");
        let group =
            |path: &str| host.cli(cli, ["exec", "box", "cat", &format!("/sys/fs/cgroup/{path}")]).ok();
        for (flags, file, value) in [
            (&["--cpu-shares", "300"][..], "cpu/cpu.shares", "300"),
            (&["--cpu-period", "50000"], "cpu/cpu.cfs_period_us", "50000"),
            (&["--cpu-quota", "20000"], "cpu/cpu.cfs_quota_us", "20000"),
            (&["--cpuset-cpus", "0"], "cpuset/cpuset.cpus", "0"),
            (&["--cpuset-mems", "0"], "cpuset/cpuset.mems", "0"),
            (&["--memory", "64m", "--memory-swap", "96m"], "memory/memory.limit_in_bytes", "67108864"),
            (&["--memory-swap", "80m"], "memory/memory.memsw.limit_in_bytes", "83886080"),
            (&["--memory-reservation", "32m"], "memory/memory.soft_limit_in_bytes", "33554432"),
            (&["--pids-limit", "40"], "pids/pids.max", "40"),
        ] {
            let mut args = vec!["update"];
            args.extend(flags);
            args.push("box");
            host.cli(cli, args).ok();
            assert_eq!(group(file), value, "{flags:?}");
        }
        host.cli(cli, ["update", "--restart", "on-failure:3", "box"]).ok();
        let policy = [
            "inspect",
            "-f",
            "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}",
            "box",
        ];
        assert_eq!(host.cli(cli, policy).ok(), "on-failure 3");
        // The scheduler decides whether there is a weight: what is not there is said, and nothing is changed.
        let weight = ["blkio.weight", "blkio.bfq.weight"].iter().find(|name| {
            std::path::Path::new("/sys/fs/cgroup/blkio")
                .join(host.cgroup_parent().trim_start_matches('/'))
                .join(name)
                .exists()
        });
        let update = host.cli(cli, ["update", "--blkio-weight", "200", "box"]);
        match weight {
            Some(name) => {
                update.ok();
                assert_eq!(group(&format!("blkio/{name}")), "200");
            }
            None => drop(update.fails(1, "blockIO.weight")),
        }
        remove(&host, cli, &["box"]);
    }
}
