//! Containers of an ordinary user to whom a group of version 2 was handed over: limits that are set, and hold, without a right of
//! root's.
//!
//! A group with processes in it passes no controllers on, so the user must be in a group below the one that is theirs:
//! `systemd-run --user --scope --property=Delegate=yes sh -c 'cd /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); mkdir tests;
//! echo $$ > tests/cgroup.procs; cd - ; cargo test -p runtime delegated'`.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bundle::{Bundle, program, text};
use crate::cgroups::{stderr, wait_for, wait_until};

const TOP: &str = "/sys/fs/cgroup";

/// The caller's group in the hierarchy of version 2.
fn own() -> PathBuf {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    Path::new(TOP).join(path)
}

/// The group that is the user's, above that of the tests; says so if there is none.
fn theirs() -> Option<PathBuf> {
    let own = own();
    let above = own.parent().filter(|above| above.starts_with(TOP));
    let given = above.filter(|above| {
        let controllers = fs::read_to_string(above.join("cgroup.controllers")).unwrap_or_default();
        let has = |name: &&str| controllers.split_whitespace().any(|c| c == *name);
        user() != 0
            && sys::process::may_write(&above.join("cgroup.subtree_control")).is_ok()
            && ["cpu", "memory", "pids"].iter().all(has)
    });
    if given.is_none() {
        println!("skipped: an ordinary user, below a group of version 2 of their own");
    }
    given.map(Path::to_owned)
}

fn user() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

/// A bundle of the user's that runs a shell script, with these limits.
fn limited(script: &str, resources: Value) -> Bundle {
    let mut bundle = Bundle::script(script);
    let example = bundle.path().join("rootless");
    fs::create_dir(&example).unwrap();
    text(&Command::new(program()).args(["spec", "--rootless", "--bundle"]).arg(&example).output().unwrap());
    bundle.adopt(serde_json::from_slice(&fs::read(example.join("config.json")).unwrap()).unwrap());
    bundle.config["linux"]["resources"] = resources;
    bundle
}

/// Starts it in the background with these flags; returns the file with what it says.
fn start(bundle: &Bundle, global: &[&str]) -> PathBuf {
    let [said, errors] = ["said", "errors"].map(|name| bundle.path().join(name));
    let id = bundle.id();
    let mut run = bundle.command(&[global, &["run", "--detach", &id]].concat());
    run.stdout(fs::File::create(&said).unwrap()).stderr(fs::File::create(&errors).unwrap());
    assert!(run.status().unwrap().success(), "{}", fs::read_to_string(errors).unwrap());
    said
}

fn read(group: &Path, name: &str) -> String {
    let path = group.join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

/// The number behind `key` in a group's file.
fn count(group: &Path, name: &str, key: &str) -> u64 {
    let text = read(group, name);
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {key} in {text}"))
}

/// The group of a process.
fn group_of(pid: &str) -> PathBuf {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    Path::new(TOP).join(groups.trim().strip_prefix("0::/").unwrap())
}

fn delete(bundle: &Bundle, group: &Path) {
    bundle.ok(&["delete", "--force", &bundle.id()]);
    assert!(!group.exists(), "{} is left", group.display());
    bundle.assert_nothing_left();
}

#[test]
fn a_users_limits_are_set_in_their_own_group_and_changed_there() {
    let Some(theirs) = theirs() else { return };
    let resources = json!({
        "memory": {"limit": 64 << 20, "swap": 64 << 20, "reservation": 32 << 20},
        "cpu": {"shares": 512, "quota": 50_000, "period": 200_000},
        "pids": {"limit": 42},
        "unified": {"memory.high": "50331648"},
    });
    let bundle = limited("exec sleep 1000", resources);
    bundle.start();
    let (id, group) = (bundle.id(), theirs.join(bundle.id()));
    let state: Value = serde_json::from_str(&bundle.ok(&["state", &id])).unwrap();
    assert_eq!(group_of(&state["pid"].to_string()), group);
    assert_eq!(fs::metadata(&group).unwrap().uid(), user());
    for (name, expected) in [
        ("memory.max", "67108864"),
        ("memory.swap.max", "0"),
        ("memory.low", "33554432"),
        ("memory.high", "50331648"),
        ("cpu.weight", "59"),
        ("cpu.max", "50000 200000"),
        ("pids.max", "42"),
    ] {
        assert_eq!(read(&group, name), expected, "{name}");
    }
    let update =
        ["update", "--memory", "96m", "--pids-limit", "21", "--cpu-quota", "30000", "--cpu-share", "2048"];
    bundle.ok(&[&update[..], &[id.as_str()]].concat());
    for (name, expected) in [
        ("memory.max", "100663296"),
        ("cpu.weight", "174"),
        ("cpu.max", "30000 200000"),
        ("pids.max", "21"),
        ("memory.low", "33554432"),
    ] {
        assert_eq!(read(&group, name), expected, "{name} after update");
    }
    let event: Value = serde_json::from_str(&bundle.ok(&["events", "--stats", &id])).unwrap();
    assert_eq!(event["data"]["pids"], json!({"current": 1, "limit": 21}));
    assert_eq!(event["data"]["memory"]["usage"]["limit"], json!(96 << 20));
    assert!(event["data"]["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{event}");
    delete(&bundle, &group);
}

#[test]
fn a_users_container_is_joined_paused_and_killed_in_its_group() {
    let Some(theirs) = theirs() else { return };
    let bundle = limited("sleep 1000 & exec sleep 1000", json!({"pids": {"limit": 42}}));
    bundle.start();
    let (id, group) = (bundle.id(), theirs.join(bundle.id()));
    let pid_file = bundle.path().join("exec.pid");
    let mut exec =
        bundle.command(&["exec", "--detach", "--pid-file", pid_file.to_str().unwrap(), &id, "sleep", "1000"]);
    assert!(exec.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    assert_eq!(group_of(&fs::read_to_string(&pid_file).unwrap()), group);
    wait_until(|| read(&group, "cgroup.procs").lines().count() == 3);
    let pids: Vec<i32> = serde_json::from_str(&bundle.ok(&["ps", "--format", "json", &id])).unwrap();
    assert_eq!(pids.len(), 3, "{pids:?}");
    bundle.ok(&["pause", &id]);
    assert_eq!(count(&group, "cgroup.events", "frozen"), 1);
    assert!(bundle.ok(&["state", &id]).contains("\"status\": \"paused\""));
    assert!(stderr(&bundle.command(&["exec", &id, "true"]).output().unwrap()).contains("paused"));
    bundle.ok(&["resume", &id]);
    assert_eq!(count(&group, "cgroup.events", "frozen"), 0);
    assert_eq!(bundle.ok(&["exec", &id, "id", "-u"]), "0\n");
    assert!(bundle.ok(&["list", "--quiet"]).contains(&id));
    let refused = stderr(&bundle.command(&["checkpoint", &id]).output().unwrap());
    assert!(refused.contains("checkpoint by another user than the host's root"), "{refused}");
    bundle.ok(&["kill", "--all", &id, "KILL"]);
    wait_for(&bundle, "stopped");
    wait_until(|| read(&group, "cgroup.procs").is_empty());
    bundle.ok(&["delete", &id]);
    assert!(!group.exists());
    // And one that is paused goes as well.
    bundle.start();
    bundle.ok(&["pause", &id]);
    delete(&bundle, &group);
}

#[test]
fn a_users_limits_hold() {
    let Some(theirs) = theirs() else { return };
    // More processes than there may be. The shell that cannot make another gives up.
    let bomb = limited(
        "(while :; do sleep 1000 & done) 2> /dev/null; exec sleep 1000",
        json!({"pids": {"limit": 12}}),
    );
    bomb.start();
    let group = theirs.join(bomb.id());
    wait_until(|| count(&group, "pids.events", "max") > 0);
    assert!(read(&group, "pids.current").parse::<u64>().unwrap() <= 12);
    delete(&bomb, &group);
    // More memory, and it is told.
    let limit = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    let hungry =
        limited("dd if=/dev/zero of=/dev/null bs=100M count=1 2> /dev/null; echo $?; exec sleep 1000", limit);
    let said = start(&hungry, &[]);
    let group = theirs.join(hungry.id());
    wait_until(|| !fs::read_to_string(&said).unwrap().is_empty());
    assert_eq!(fs::read_to_string(&said).unwrap(), "137\n");
    assert!(count(&group, "memory.events", "oom_kill") > 0);
    delete(&hungry, &group);
    // More of the processor.
    let busy = limited("while :; do :; done", json!({"cpu": {"quota": 5_000, "period": 100_000}}));
    busy.start();
    let group = theirs.join(busy.id());
    wait_until(|| count(&group, "cpu.stat", "nr_throttled") > 1);
    delete(&busy, &group);
}

/// The first of the ids in `/etc/subuid` or `/etc/subgid` that are the user's.
fn range(table: &str) -> Option<(u32, u32)> {
    let (users, given) =
        (fs::read_to_string("/etc/passwd").ok()?, fs::read_to_string(format!("/etc/{table}")).ok()?);
    let uid = user().to_string();
    let name =
        users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|f| f.get(2) == Some(&&*uid));
    let name = name?[0].to_owned();
    let given =
        given.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name)?;
    Some((given.get(1)?.parse().ok()?, given.get(2)?.parse().ok()?))
}

#[test]
fn the_ranges_of_the_hosts_tables_are_mapped() {
    let Some(theirs) = theirs() else { return };
    let (Some(uids), Some(gids)) = (range("subuid"), range("subgid")) else {
        println!("skipped: ranges of ids in /etc/subuid and /etc/subgid");
        return;
    };
    let script = "id -u; id -G; : > /tmp/file; exec sleep 1000";
    let mut bundle = limited(script, json!({"pids": {"limit": 5}, "memory": {"limit": 32 << 20}}));
    let own = bundle.config["linux"]["uidMappings"][0]["hostID"].clone();
    let group_id = bundle.config["linux"]["gidMappings"][0]["hostID"].clone();
    let map = |own: &Value, given: (u32, u32)| {
        json!([
            {"containerID": 0, "hostID": own, "size": 1},
            {"containerID": 1, "hostID": given.0, "size": given.1},
        ])
    };
    bundle.config["linux"]["uidMappings"] = map(&own, uids);
    bundle.config["linux"]["gidMappings"] = map(&group_id, gids);
    bundle.config["process"]["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9]});
    // Others have to come through to the root.
    fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let temporary = bundle.rootfs().join("tmp");
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o777)).unwrap();
    let id = bundle.id();
    let said = start(&bundle, &[]);
    wait_until(|| temporary.join("file").exists());
    assert_eq!(fs::read_to_string(said).unwrap(), "7\n8 9\n");
    let file = fs::metadata(temporary.join("file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (uids.0 + 6, gids.0 + 7));
    // It is nobody's who could not say so himself.
    chown(temporary.join("file"), Some(user()), None).unwrap_err();
    // The user's commands reach what is no longer theirs by id.
    assert_eq!(bundle.ok(&["exec", "--user", "11:12", &id, "id", "-u"]), "11\n");
    let group = theirs.join(&id);
    assert_eq!(read(&group, "pids.max"), "5");
    bundle.ok(&["pause", &id]);
    bundle.ok(&["resume", &id]);
    bundle.ok(&["kill", &id, "KILL"]);
    wait_for(&bundle, "stopped");
    delete(&bundle, &group);
    // Ids that are another's.
    let mut beyond = uids;
    beyond.0 += uids.1;
    bundle.config["linux"]["uidMappings"] = map(&own, beyond);
    let refused = bundle.refusal();
    assert!(refused.contains("newuidmap refuses"), "{refused}");
    assert!(!group.exists());
}

#[test]
fn a_users_container_may_divide_its_group_and_not_widen_it() {
    let Some(theirs) = theirs() else { return };
    let script = "cd /sys/fs/cgroup; mkdir a b && echo $$ > a/cgroup.procs && echo '+pids +memory' > cgroup.subtree_control \
                  && echo 3 > b/pids.max; echo divided $?; \
                  echo max > pids.max; echo widened $?; cat pids.max; cat /proc/self/cgroup; exec sleep 1000";
    let mut bundle = limited(script, json!({"pids": {"limit": 20}}));
    bundle.config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "rw"],
    }));
    let id = bundle.id();
    let said = start(&bundle, &[]);
    let said = || fs::read_to_string(&said).unwrap();
    wait_until(|| said().contains("0::"));
    assert_eq!(said(), "divided 0\nwidened 1\n20\n0::/a\n");
    let group = theirs.join(&id);
    assert_eq!(read(&group.join("b"), "pids.max"), "3");
    // Processes are in the groups below only, and so is a further one.
    assert_eq!(bundle.ok(&["exec", &id, "cat", "/proc/self/cgroup"]), "0::/a\n");
    delete(&bundle, &group);
}

#[test]
fn what_was_not_handed_over_is_refused_by_its_name() {
    let Some(theirs) = theirs() else { return };
    let controllers = read(&theirs, "cgroup.controllers");
    let mut tried = 0;
    for (controller, field, resources) in [
        ("hugetlb", "hugepageLimits", json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]})),
        ("rdma", "rdma", json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}})),
        ("misc", "unified.misc.max", json!({"unified": {"misc.max": "res_a 1"}})),
    ] {
        if controllers.split_whitespace().any(|c| c == controller) {
            continue;
        }
        tried += 1;
        let bundle = limited("true", resources);
        let line = bundle.refusal();
        assert!(
            line.contains(&format!("linux.resources.{field}"))
                && line.contains("do not pass its controller on"),
            "{line}"
        );
        assert!(!theirs.join(bundle.id()).exists());
    }
    assert!(tried > 0, "all of {controllers} were handed over");
    // Below a group in which there are processes, as that of the tests is, nothing can be limited; a group there can be.
    let own = own();
    let mut bundle = limited("true", json!({"pids": {"limit": 5}}));
    let inside = own.strip_prefix(TOP).unwrap().join(bundle.id());
    bundle.config["linux"]["cgroupsPath"] = Path::new("/").join(inside).to_str().into();
    let line = bundle.refusal();
    assert!(
        line.contains("linux.resources.pids.limit") && line.contains("do not pass its controller on"),
        "{line}"
    );
    bundle.config["linux"].as_object_mut().unwrap().remove("resources");
    bundle.output();
    assert!(!own.join(bundle.id()).exists());
    // A place that is somebody else's.
    let mut bundle = limited("true", json!({"pids": {"limit": 5}}));
    bundle.config["linux"]["cgroupsPath"] = format!("/{}", bundle.id()).into();
    let line = bundle.refusal();
    assert!(line.contains("this user may not make one"), "{line}");
}

#[test]
fn a_users_own_systemd_makes_the_group() {
    if theirs().is_none() {
        return;
    }
    let resources = json!({"memory": {"limit": 64 << 20}, "cpu": {"quota": 12_345, "period": 50_000}, "pids": {"limit": 1}});
    let bundle = limited("exec sleep 1000", resources);
    let id = bundle.id();
    // Where there is none it is said in a line.
    let mut run = bundle.command(&["--systemd-cgroup", "run", &id]);
    let line = stderr(
        &run.env("XDG_RUNTIME_DIR", "/nowhere").env_remove("DBUS_SESSION_BUS_ADDRESS").output().unwrap(),
    );
    assert!(line.contains("cannot reach systemd for") && line.contains("/nowhere/systemd"), "{line}");
    bundle.assert_nothing_left();
    let runtime = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_default());
    if !runtime.join("systemd/private").exists() {
        println!("skipped: a systemd of the user's");
        return;
    }
    start(&bundle, &["--systemd-cgroup"]);
    let state: Value = serde_json::from_str(&bundle.ok(&["state", &id])).unwrap();
    let group = group_of(&state["pid"].to_string());
    assert!(group.ends_with(format!("user.slice/corten-{id}.scope")), "{}", group.display());
    for (name, expected) in [("memory.max", "67108864"), ("cpu.max", "12345 50000"), ("pids.max", "1")] {
        assert_eq!(read(&group, name), expected, "{name}");
    }
    bundle.ok(&["update", "--memory", "96m", "--pids-limit", "30", &id]);
    assert_eq!((read(&group, "memory.max"), read(&group, "pids.max")), ("100663296".into(), "30".into()));
    // A process that comes later is put there by systemd: the user may not move it so far.
    let pid_file = bundle.path().join("exec.pid");
    let mut exec =
        bundle.command(&["exec", "--detach", "--pid-file", pid_file.to_str().unwrap(), &id, "sleep", "1000"]);
    assert!(exec.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    assert_eq!(group_of(&fs::read_to_string(&pid_file).unwrap()), group);
    bundle.ok(&["pause", &id]);
    bundle.ok(&["resume", &id]);
    delete(&bundle, &group);
}
