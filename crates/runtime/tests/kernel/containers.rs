//! Containers, made and run by the command line on the kernel of this machine.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use crate::bundle::{Bundle, possible, text};
use serde_json::json;

#[test]
fn a_program_runs_and_its_code_comes_back() {
    if !possible() {
        return;
    }
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("sh -c 'kill -9 $$'; exit $?", 137)] {
        let bundle = Bundle::script(script);
        assert_eq!(bundle.run().status.code(), Some(code), "{script}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn every_namespace_is_its_own() {
    if !possible() {
        return;
    }
    let bundle = Bundle::script(
        "for n in mnt pid net ipc uts cgroup user; do echo $n $(readlink /proc/self/ns/$n); done",
    );
    let inside: HashMap<String, String> = bundle
        .output()
        .lines()
        .filter_map(|l| l.split_once(' '))
        .map(|(a, b)| (a.into(), b.into()))
        .collect();
    for name in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let own = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(inside[name], own.to_str().unwrap(), "{name}");
    }
    // Not asked for.
    assert_eq!(inside["user"], fs::read_link("/proc/self/ns/user").unwrap().to_str().unwrap());
}

#[test]
fn namespaces_of_others_can_be_joined_by_path() {
    if !possible() {
        return;
    }
    let first = Bundle::new(&["sleep", "1000"]);
    first.start();
    let state: serde_json::Value = serde_json::from_str(&first.ok(&["state", &first.id()])).unwrap();
    let pid = state["pid"].as_i64().unwrap();
    let mut second =
        Bundle::script("readlink /proc/self/ns/net; readlink /proc/self/ns/ipc; readlink /proc/self/ns/pid");
    second.config["linux"]["namespaces"] = json!([
        {"type": "mount"},
        {"type": "uts"},
        {"type": "pid", "path": format!("/proc/{pid}/ns/pid")},
        {"type": "network", "path": format!("/proc/{pid}/ns/net")},
        {"type": "ipc", "path": format!("/proc/{pid}/ns/ipc")},
    ]);
    let expected: String = ["net", "ipc", "pid"]
        .map(|n| fs::read_link(format!("/proc/{pid}/ns/{n}")).unwrap().to_str().unwrap().to_owned() + "\n")
        .concat();
    assert_eq!(second.output(), expected);
}

#[test]
fn loopback_is_up_and_the_name_is_set() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::script("hostname; cat /proc/sys/kernel/domainname; ip -o addr show lo");
    bundle.config["hostname"] = "inside".into();
    bundle.config["domainname"] = "example.org".into();
    let output = bundle.output();
    assert!(output.starts_with("inside\nexample.org\n") && output.contains("127.0.0.1"), "{output}");
}

fn sets(status: &str) -> HashMap<&str, &str> {
    status.lines().filter_map(|line| line.split_once(":\t")).collect()
}

#[test]
fn capabilities_are_those_of_the_configuration_and_none_are_inherited() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::new(&["cat", "/proc/self/status"]);
    let docker = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
    ];
    bundle.config["process"]["capabilities"] =
        json!({"bounding": docker, "effective": docker, "permitted": docker});
    let output = bundle.output();
    let of_root = sets(&output);
    for (set, expected) in [("CapInh", "0000000000000000"), ("CapAmb", "0000000000000000")] {
        assert_eq!(of_root[set], expected, "{set}");
    }
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(of_root[set], "00000000a80425fb", "{set}");
    }
    assert_eq!(of_root["NoNewPrivs"], "1");
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let output = bundle.output();
    let of_user = sets(&output);
    // The kernel takes them at execve from a user that is not root.
    assert_eq!((of_user["CapEff"], of_user["CapPrm"]), ("0000000000000000", "0000000000000000"));
    assert_eq!((of_user["CapBnd"], of_user["CapInh"]), ("00000000a80425fb", "0000000000000000"));
}

#[test]
fn ambient_capabilities_reach_a_user() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::new(&["cat", "/proc/self/status"]);
    let one = json!(["CAP_NET_BIND_SERVICE"]);
    bundle.config["process"]["capabilities"] =
        json!({"bounding": one, "effective": one, "permitted": one, "inheritable": one, "ambient": one});
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let output = bundle.output();
    assert_eq!(sets(&output)["CapEff"], "0000000000000400");
}

#[test]
fn users_groups_umask_and_directory() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::script("id -u; id -g; id -G; umask; pwd; echo $HOME");
    bundle.config["process"]["user"] =
        json!({"uid": 1000, "gid": 50, "additionalGids": [50, 7, 8], "umask": 0o77});
    bundle.config["process"]["cwd"] = "/made/here".into();
    bundle.config["process"]["env"] = json!(["PATH=/bin", "HOME=/nowhere"]);
    assert_eq!(bundle.output(), "1000\n50\n50 7 8\n0077\n/made/here\n/nowhere\n");
}

#[test]
fn root_has_no_groups_of_ours() {
    if !possible() {
        return;
    }
    assert_eq!(Bundle::script("id -G").output(), "0\n");
}

#[test]
fn masked_paths_are_hidden_and_read_only_paths_cannot_be_written() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::script(
        "stat -c %t:%T /proc/timer_list /etc/secret; ls /etc/secrets | wc -l; touch /etc/secrets/x 2>&1; \
         echo 1 2>&1 > /etc/fixed; touch /etc/fixed-dir/x 2>&1; cat /etc/fixed",
    );
    let etc = bundle.rootfs().join("etc");
    fs::create_dir(etc.join("secrets")).unwrap();
    fs::create_dir(etc.join("fixed-dir")).unwrap();
    for name in ["secret", "secrets/key", "fixed"] {
        fs::write(etc.join(name), "content\n").unwrap();
    }
    bundle.config["linux"]["maskedPaths"] =
        json!(["/proc/timer_list", "/etc/secret", "/etc/secrets", "/not/there"]);
    bundle.config["linux"]["readonlyPaths"] = json!(["/etc/fixed", "/etc/fixed-dir", "/not/there"]);
    let output = bundle.run();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(out.starts_with("1:3\n1:3\n0\n"), "{out}");
    assert_eq!(out.matches("Read-only file system").count(), 3, "{out}");
    assert!(out.ends_with("content\n"), "{out}");
    assert_eq!(fs::read_to_string(etc.join("fixed")).unwrap(), "content\n");
    assert_eq!(fs::read_to_string(etc.join("secrets/key")).unwrap(), "content\n");
}

#[test]
fn a_read_only_root_has_writable_mounts() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::script("touch /x 2>&1; touch /dev/shm/x && echo shm; touch /proc/sys/x 2>&1");
    bundle.config["root"]["readonly"] = true.into();
    let out = String::from_utf8(bundle.run().stdout).unwrap();
    assert!(
        out.contains("/x: Read-only") && out.contains("shm\n") && !bundle.rootfs().join("x").exists(),
        "{out}"
    );
}

#[test]
fn devices_are_there_and_others_cannot_be_used() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::script(
        "cd /dev; stat -c '%n %t:%T %a' null zero full random urandom tty special; for l in fd stdin ptmx; do readlink $l; done; \
         mknod disk b 254 0; head -c 1 disk 2>&1 | grep -o 'not permitted'; echo x > null; head -c 3 zero | wc -c",
    );
    bundle.config["process"]["capabilities"] =
        json!({"bounding": ["CAP_MKNOD"], "effective": ["CAP_MKNOD"], "permitted": ["CAP_MKNOD"]});
    bundle.config["linux"]["devices"] = json!([{"path": "/dev/special", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 0, "gid": 5}]);
    let expected = "null 1:3 666\nzero 1:5 666\nfull 1:7 666\nrandom 1:8 666\nurandom 1:9 666\ntty 5:0 666\nspecial a:e5 640\n\
        /proc/self/fd\n/proc/self/fd/0\npts/ptmx\nnot permitted\n3\n";
    assert_eq!(bundle.output(), expected);
}

#[test]
fn binds_of_files_and_directories_with_their_options() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::script(
        "cat /new/file /new/dir/f; echo x 2>&1 > /new/file; echo y > /new/dir/g; mount | grep -c ' /new/dir .*nosuid,nodev,noexec'",
    );
    let source = bundle.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("f"), "content\n").unwrap();
    bundle.config["mounts"].as_array_mut().unwrap().extend([
        json!({"destination": "/new/file", "type": "bind", "source": source.join("f"), "options": ["rbind", "ro"]}),
        json!({"destination": "/new/dir", "source": source, "options": ["rbind", "nosuid", "nodev", "noexec"]}),
    ]);
    let output = bundle.run();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(out.starts_with("content\ncontent\n") && out.ends_with("\n1\n"), "{out}");
    assert_eq!(fs::read_to_string(source.join("f")).unwrap(), "content\n");
    assert_eq!(fs::read_to_string(source.join("g")).unwrap(), "y\n");
}

#[test]
fn limits_reach_the_cgroup() {
    if !possible() {
        return;
    }
    if !Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists() {
        println!("skipped: cgroup v1");
        return;
    }
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    bundle.config["linux"]["resources"] = json!({
        "memory": {"limit": 64 << 20, "swap": 128 << 20, "reservation": 32 << 20},
        "cpu": {"shares": 512, "quota": 50000, "period": 100_000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 42},
        "blockIO": {"throttleReadBpsDevice": [{"major": 254, "minor": 0, "rate": 1_000_000}]},
    });
    bundle.start();
    let id = bundle.id();
    let value = |file: &str| {
        let (controller, file) = file.split_once('/').unwrap();
        fs::read_to_string(format!("/sys/fs/cgroup/{controller}/{id}/{file}")).unwrap().trim().to_owned()
    };
    for (file, expected) in [
        ("memory/memory.limit_in_bytes", "67108864"),
        ("memory/memory.memsw.limit_in_bytes", "134217728"),
        ("memory/memory.soft_limit_in_bytes", "33554432"),
        ("cpu/cpu.shares", "512"),
        ("cpu/cpu.cfs_quota_us", "50000"),
        ("cpu/cpu.cfs_period_us", "100000"),
        ("cpuset/cpuset.cpus", "0"),
        ("pids/pids.max", "42"),
        ("blkio/blkio.throttle.read_bps_device", "254:0 1000000"),
    ] {
        assert_eq!(value(file), expected, "{file}");
    }
    let pid = value("pids/cgroup.procs");
    for file in ["memory/cgroup.procs", "devices/cgroup.procs", "unified/cgroup.procs"] {
        assert_eq!(value(file), pid, "{file}");
    }
    // Inside, the group is the root, and read-only.
    let inside = bundle.ok(&["exec", &id, "sh", "-c", "cat /proc/self/cgroup /sys/fs/cgroup/pids/pids.max"]);
    assert!(inside.ends_with("\n42\n") && !inside.contains(&id), "{inside}");
    bundle.ok(&["delete", "--force", &id]);
    bundle.assert_nothing_left();
}

#[test]
fn too_little_memory_is_noticed() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::new(&["dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"]);
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    let output = bundle.run();
    assert_eq!(output.status.code(), Some(137), "{}", String::from_utf8_lossy(&output.stderr));
    bundle.assert_nothing_left();
}

#[test]
fn a_fork_bomb_stays_below_its_limit() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::script(
        "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done 2>&1; cat /sys/fs/cgroup/pids/pids.current",
    );
    bundle.config["linux"]["resources"] = json!({"pids": {"limit": 5}});
    let output = bundle.run();
    let out = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(out.contains("can't fork"), "{out}");
    bundle.assert_nothing_left();
}

#[test]
fn create_start_state_pause_kill_delete() {
    if !possible() {
        return;
    }
    let bundle = Bundle::script("trap 'exit 3' TERM; echo started > /tmp/flag; sleep 1000 & wait");
    let id = bundle.id();
    let status = || {
        let state: serde_json::Value = serde_json::from_str(&bundle.ok(&["state", &id])).unwrap();
        state["status"].as_str().unwrap().to_owned()
    };
    let fails = |args: &[&str]| {
        let output = bundle.command(args).output().unwrap();
        assert!(!output.status.success(), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let mut create = bundle.command(&["create", "--pid-file", "pid", &id]);
    assert!(
        create
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(status(), "created");
    assert!(!bundle.rootfs().join("tmp/flag").exists());
    assert!(fails(&["create", &id]).contains("already exists"));
    bundle.ok(&["start", &id]);
    assert!(fails(&["start", &id]).contains("it is running"));
    assert_eq!(status(), "running");
    assert!(bundle.ok(&["list"]).contains(&id));
    bundle.ok(&["pause", &id]);
    assert_eq!(status(), "paused");
    assert!(fails(&["exec", &id, "true"]).contains("it is paused"));
    assert!(fails(&["delete", &id]).contains("it is paused"));
    bundle.ok(&["resume", &id]);
    assert!(fails(&["delete", &id]).contains("it is running"));
    let pid: i32 = fs::read_to_string(bundle.path().join("pid")).unwrap().parse().unwrap();
    let pids: Vec<i32> = serde_json::from_str(&bundle.ok(&["ps", "--format", "json", &id])).unwrap();
    assert!(pids.contains(&pid));
    let pidfd = sys::process::pidfd(pid).unwrap();
    bundle.ok(&["pause", &id]);
    // A frozen group of version 1 cannot be killed: it is thawed, with the signal already there.
    bundle.ok(&["kill", &id, "KILL"]);
    assert!(sys::process::wait_ended(&pidfd, 10_000).unwrap());
    assert_eq!(status(), "stopped");
    assert!(fails(&["kill", &id, "TERM"]).contains("it is stopped"));
    assert!(fails(&["exec", &id, "true"]).contains("it is stopped"));
    bundle.ok(&["delete", &id]);
    assert!(fails(&["state", &id]).contains("does not exist"));
    bundle.assert_nothing_left();
}

#[test]
fn deleting_with_force_takes_a_paused_container_with_children() {
    if !possible() {
        return;
    }
    let bundle = Bundle::script("sleep 1000 & sleep 1000 & wait");
    bundle.start();
    bundle.ok(&["pause", &bundle.id()]);
    bundle.ok(&["delete", "--force", &bundle.id()]);
    bundle.assert_nothing_left();
    // Again is no error, as the end is the same.
    bundle.ok(&["delete", "--force", &bundle.id()]);
}

#[test]
fn exec_joins_and_has_its_own_identity() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    bundle.config["linux"]["resources"] = json!({"pids": {"limit": 42}});
    bundle.start();
    let id = bundle.id();
    let names = ["mnt", "pid", "net", "ipc", "uts", "cgroup"];
    let script = "for n in mnt pid net ipc uts cgroup; do echo $(readlink /proc/1/ns/$n) $(readlink /proc/self/ns/$n); done";
    let mut privileged = bundle.command(&["exec", "--cap", "CAP_SYS_PTRACE", &id, "sh", "-c", script]);
    let joined = text(&privileged.output().unwrap());
    assert_eq!(joined.lines().count(), names.len());
    for line in joined.lines() {
        let (init, own) = line.split_once(' ').unwrap();
        assert_eq!(init, own);
    }
    let user = bundle.ok(&[
        "exec",
        "--user",
        "1000:50",
        "--cwd",
        "/tmp",
        "--env",
        "X=y",
        &id,
        "sh",
        "-c",
        "id -u; id -g; pwd; echo $X",
    ]);
    assert_eq!(user, "1000\n50\n/tmp\ny\n");
    let status = bundle.ok(&["exec", &id, "cat", "/proc/self/status"]);
    let sets = sets(&status);
    assert_eq!(
        (sets["CapInh"], sets["CapEff"], sets["NoNewPrivs"]),
        ("0000000000000000", "0000000020000420", "1")
    );
    for (args, code) in [
        (&["exec", &id, "sh", "-c", "exit 9"][..], 9),
        (&["exec", &id, "nope"], 127),
        (&["exec", &id, "/nope"], 127),
        (&["exec", &id, "/etc"], 126),
        (&["exec", "--user", "4294967296", &id, "id"], 1),
        (&["exec", "--user", "-1", &id, "id"], 1),
    ] {
        assert_eq!(bundle.command(args).output().unwrap().status.code(), Some(code), "{args:?}");
    }
    let descriptors = bundle.ok(&["exec", &id, "ls", "/proc/self/fd"]);
    assert_eq!(descriptors, "0\n1\n2\n3\n", "3 is the directory that ls reads");
}

#[test]
fn seccomp_holds_for_the_container_and_for_exec() {
    if !possible() {
        return;
    }
    for no_new_privileges in [true, false] {
        let mut bundle = Bundle::new(&["sleep", "1000"]);
        bundle.config["process"]["noNewPrivileges"] = no_new_privileges.into();
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
        });
        bundle.start();
        let output = bundle.command(&["exec", &bundle.id(), "mkdir", "/tmp/x"]).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).contains("not supported"), "{output:?}");
        let status = bundle.ok(&["exec", &bundle.id(), "cat", "/proc/1/status", "/proc/self/status"]);
        assert_eq!(status.matches("Seccomp:\t2").count(), 2, "{status}");
    }
}

#[test]
fn a_terminal_is_the_containers_own() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::script(
        "tty; stty size; stat -c %t:%T /dev/console; test -t 0 -a -t 1 -a -t 2 && echo yes; exit 5",
    );
    bundle.config["process"]["terminal"] = true.into();
    bundle.config["process"]["consoleSize"] = json!({"height": 33, "width": 101});
    let output = bundle.run();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(out, "/dev/pts/0\r\n33 101\r\n88:0\r\nyes\r\n");
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.config["process"]["terminal"] = false.into();
    bundle.start();
    let out = bundle.ok(&["exec", "--tty", &bundle.id(), "tty"]);
    assert_eq!(out, "/dev/pts/0\r\n");
}

#[test]
fn a_user_namespace_maps_ids() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::script(
        "id -u; cat /proc/self/uid_map; touch /tmp/mine; stat -c %u /tmp/mine; ls -l /dev/null; echo x > /dev/null",
    );
    fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(bundle.rootfs().join("tmp"), fs::Permissions::from_mode(0o777)).unwrap();
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    let out = bundle.output();
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words[..5], ["0", "0", "100000", "65536", "0"], "{out}");
    assert_eq!(fs::metadata(bundle.rootfs().join("tmp/mine")).unwrap().uid(), 100_000);
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.start();
    assert_eq!(bundle.ok(&["exec", &bundle.id(), "id", "-u"]), "0\n");
}

#[test]
fn sysctls_of_namespaces_are_set() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::script("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax");
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "4321"});
    assert_eq!(bundle.output(), "1\n4321\n");
    bundle.config["linux"]["sysctl"] = json!({"kernel.core_pattern": "|/tmp/x"});
    assert!(bundle.refusal().contains("not in a separate kernel namespace"));
}

#[test]
fn limits_and_scores_of_the_process() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::script("ulimit -n; ulimit -c; cat /proc/self/oom_score_adj");
    bundle.config["process"]["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "soft": 123, "hard": 456},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]);
    bundle.config["process"]["oomScoreAdj"] = 500.into();
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    assert_eq!(bundle.output(), "123\n0\n500\n");
}

#[test]
fn hooks_run_at_their_points() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::script("cat /inside");
    let log = bundle.path().join("log");
    let hook = |name: &str| {
        let script = format!("echo {name} $(cat | grep -o '\"status\":\"[a-z]*\"') >> {}", log.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
    };
    let mut hooks =
        json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo here > /inside"]}]});
    for name in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        hooks[name] = hook(name);
    }
    bundle.config["hooks"] = hooks;
    assert_eq!(bundle.output(), "here\n");
    let expected = "prestart \"status\":\"creating\"\ncreateRuntime \"status\":\"creating\"\ncreateContainer \"status\":\"creating\"\n\
        poststart \"status\":\"running\"\npoststop \"status\":\"stopped\"\n";
    assert_eq!(fs::read_to_string(&log).unwrap(), expected);
    bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]});
    assert!(bundle.refusal().contains("createRuntime hook /bin/false"));
}

#[test]
fn bad_bundles_get_one_clear_line_and_leave_nothing() {
    if !possible() {
        return;
    }
    type Change = fn(&mut serde_json::Value);
    let cases: [(Change, &str); 12] = [
        (|c| c["process"]["args"] = json!(["nope"]), "exec: \"nope\": executable file not found in $PATH"),
        (|c| c["process"]["args"] = json!(["/etc"]), "exec: \"/etc\": is a directory"),
        (|c| c["process"]["args"] = json!([]), "process.args"),
        (|c| c["process"]["cwd"] = "relative".into(), "Cwd must be an absolute path"),
        (|c| c["process"]["user"]["uid"] = 4_294_967_295u32.into(), "invalid user"),
        (|c| c["process"]["user"]["uid"] = 4_294_967_296u64.into(), "config.json"),
        (|c| c["root"]["path"] = "nowhere".into(), "nowhere"),
        (
            |c| c["linux"]["intelRdt"] = json!({}),
            "linux.intelRdt on this host (no resctrl filesystem is mounted) is not supported",
        ),
        (|c| c["linux"]["resources"]["memory"] = json!({"swappiness": 101}), "swappiness"),
        (|c| c["linux"]["cgroupsPath"] = "/../x".into(), "cgroupsPath"),
        (
            |c| {
                c["mounts"] = json!([{"destination": "/x", "type": "bind", "source": "/not/there", "options": ["bind"]}]);
            },
            "/not/there",
        ),
        (|c| c["mounts"] = json!([{"destination": "/x", "type": "nofs", "source": "x"}]), "/x"),
    ];
    for (change, expected) in cases {
        let mut bundle = Bundle::new(&["true"]);
        change(&mut bundle.config);
        let line = bundle.refusal();
        assert!(line.contains(expected), "{line}");
    }
    let bundle = Bundle::new(&["true"]);
    bundle.command(&["features"]);
    fs::write(bundle.path().join("config.json"), "{").unwrap();
    let output = std::process::Command::new(crate::bundle::program())
        .current_dir(bundle.path())
        .args(["run", "x"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{output:?}");
}

#[test]
fn the_reaper_passes_signals_on_and_reaps() {
    if !possible() {
        return;
    }
    let script = "(sleep 0.05 &) ; trap 'exit 12' TERM; echo ready > /tmp/ready; sleep 1000 & wait";
    let mut bundle = Bundle::new(&["/init", "init", "sh", "-c", script]);
    fs::copy(crate::bundle::program(), bundle.rootfs().join("init")).unwrap();
    let mut child = bundle.command(&["run", &bundle.id()]).spawn().unwrap();
    let ready = bundle.rootfs().join("tmp/ready");
    while !ready.exists() {
        assert!(child.try_wait().unwrap().is_none(), "ended before it was ready");
        std::thread::yield_now();
    }
    bundle.ok(&["kill", &bundle.id(), "TERM"]);
    assert_eq!(child.wait().unwrap().code(), Some(12));
    bundle.config["process"]["args"] = json!(["/init", "init", "nope"]);
    assert_eq!(bundle.run().status.code(), Some(127));
}

#[test]
fn nothing_of_ours_is_left_open() {
    if !possible() {
        return;
    }
    let bundle = Bundle::new(&["ls", "/proc/self/fd"]);
    assert_eq!(bundle.output(), "0\n1\n2\n3\n", "3 is the directory that ls reads");
    let metadata = fs::metadata("/dev/null").unwrap();
    assert!(metadata.file_type().is_char_device(), "the host's is as it was");
}
