//! What is refused, in Docker's words, and leaves nothing behind.

use kit::{CLIS, Host};

#[test]
fn a_cgroup_outside_of_all_is_refused_and_leaves_nothing() {
    let host = Host::with_busybox();
    for cli in CLIS {
        for parent in ["..", "../../x", "a/../../y"] {
            let run = ["run", "--rm", "--network", "none", "--cgroup-parent", parent, "busybox", "true"];
            host.cli(cli, run).fails(125, "invalid cgroup-parent");
        }
    }
    let left = std::fs::read_dir(host.exec_root().join("c")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[test]
fn names_with_slashes_are_of_nothing() {
    let host = Host::with_busybox();
    for cli in CLIS {
        host.cli(cli, ["inspect", "foo/bar"]).fails(1, "o such object: foo/bar");
        for command in ["logs", "rm", "start", "stop", "kill", "pause", "port"] {
            host.cli(cli, [command, "a/b"]).fails(1, "No such container: a/b");
        }
        host.cli(cli, ["rm", "--link", "a/b"]).fails(1, "No such container: a/b");
        host.cli(cli, ["volume", "inspect", "a/b"]).fails(1, "no such volume");
        host.cli(cli, ["network", "inspect", "a/b"]).fails(1, "network a/b not found");
        host.cli(cli, ["create", "--name", "box", "busybox"]).ok();
        assert_eq!(host.cli(cli, ["inspect", "-f", "{{.Name}}", "/box"]).ok(), "/box");
        host.cli(cli, ["rm", "--link", "box"]).fails(1, "cannot remove the default link name");
        host.cli(cli, ["rm", "box"]).ok();
    }
}

#[test]
fn limits_that_contradict_what_is_there_are_not_set() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let conflict = |limits: &[&str], change: &[&str], text: &str| {
            host.cli(cli, [&["create", "--name", "box"], limits, &["busybox"]].concat()).ok();
            host.cli(cli, [&["update"], change, &["box"]].concat()).fails(1, text);
            host.cli(cli, ["rm", "box"]).ok();
        };
        let set = |what: &str| format!("Conflicting options: {what} already been set");
        conflict(
            &["--cpus", "0.5"],
            &["--cpu-period", "50000"],
            &set("CPU Period cannot be updated as NanoCPUs has"),
        );
        conflict(
            &["--cpus", "0.5"],
            &["--cpu-quota", "50000"],
            &set("CPU Quota cannot be updated as NanoCPUs has"),
        );
        conflict(
            &["--cpu-quota", "50000"],
            &["--cpus", "0.5"],
            &set("Nano CPUs cannot be updated as CPU Quota has"),
        );
        conflict(
            &["-m", "64m", "--memory-swap", "128m"],
            &["-m", "256m"],
            "update the memoryswap at the same time",
        );
        host.cli(cli, ["create", "--name", "box", "--cpus", "0.5", "-m", "64m", "busybox"]).ok();
        host.cli(cli, ["update", "--cpus", "0.6", "-m", "256m", "box"]).ok();
        host.cli(cli, ["rm", "box"]).ok();
    }
}

#[test]
fn the_domain_is_no_part_of_the_hosts_name() {
    let host = Host::with_busybox();
    let script = "hostname; uname -n; echo $HOSTNAME; cat /proc/sys/kernel/domainname";
    for cli in CLIS {
        let run = ["run", "--rm", "--hostname", "h", "--domainname", "d.com", "busybox", "sh", "-c", script];
        assert_eq!(host.cli(cli, run).ok(), "h\nh\nh\nd.com");
    }
}

#[test]
fn what_is_for_windows_is_refused() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let refused = |flag: &str, value: &str, text: &str| {
            host.cli(cli, ["run", "--rm", flag, value, "busybox", "true"]).fails(125, text);
        };
        refused("--isolation", "hyperv", "invalid isolation (hyperv): linux only supports 'default'");
        refused("--mount", "type=npipe,src=a,dst=/m", "mount type unknown");
    }
}
