//! Groups inside a container's group, and its processes wherever they are in them.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::bundle::{Bundle, possible, text};
use crate::cgroups::{Layout, group, layout, stderr, wait_for, wait_until};

/// A container with a writable view of its own group.
fn with_own_group(script: &str) -> Bundle {
    let mut bundle = Bundle::script(script);
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "cgroup" {
            mount["options"] = json!(["nosuid", "noexec", "nodev", "rw"]);
        }
    }
    let capabilities = json!(["CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN", "CAP_KILL"]);
    bundle.config["process"]["capabilities"] =
        json!({"bounding": capabilities, "effective": capabilities, "permitted": capabilities});
    bundle
}

/// The group where processes are counted, as the container sees it.
fn inside() -> &'static str {
    if layout() == Layout::V1 { "/sys/fs/cgroup/pids" } else { "/sys/fs/cgroup" }
}

#[test]
fn groups_made_inside_are_the_containers_too() {
    if !possible() {
        return;
    }
    let script =
        format!("mkdir {0}/a {0}/a/b && sleep 1000 & echo $! > {0}/a/b/cgroup.procs; wait", inside());
    let bundle = with_own_group(&script.replacen(" && sleep", "; sleep", 1));
    bundle.start();
    let id = bundle.id();
    let lower = group("pids", &id).join("a/b/cgroup.procs");
    wait_until(|| fs::read_to_string(&lower).is_ok_and(|text| !text.trim().is_empty()));
    let pids: Vec<i32> = serde_json::from_str(&bundle.ok(&["ps", "--format", "json", &id])).unwrap();
    assert_eq!(pids.len(), 2, "{pids:?}");
    bundle.ok(&["pause", &id]);
    bundle.ok(&["resume", &id]);
    // A process is let into one of them.
    let named = |name: &str| {
        bundle.command(&["exec", "--cgroup", name, &id, "cat", "/proc/self/cgroup"]).output().unwrap()
    };
    if layout() == Layout::V1 {
        let found = text(&named("pids:/a/b"));
        assert!(found.lines().any(|line| line.ends_with(":pids:/a/b")), "{found}");
        assert!(found.lines().any(|line| line.ends_with(":memory:/")), "{found}");
    } else {
        assert_eq!(text(&named("a/b")).trim(), "0::/a/b");
    }
    for (wrong, expected) in [
        ("nowhere", "no such file or directory"),
        ("../..", "contains \"..\""),
        ("nonsense:a", "there is no cgroup controller \"nonsense\""),
    ] {
        let error = stderr(&named(wrong));
        assert!(error.contains(expected), "{wrong}: {error}");
    }
    bundle.ok(&["kill", "--all", &id, "KILL"]);
    wait_for(&bundle, "stopped");
    bundle.ok(&["delete", &id]);
    bundle.assert_nothing_left();
}

/// Makes groups one in the other, and opens the deepest; `None` if the kernel lets nobody go so deep.
fn nest(top: &Path, depth: usize) -> Option<std::os::fd::OwnedFd> {
    let mut here = sys::fsx::open_dir(top).unwrap();
    let name = "d".repeat(200);
    for _ in 0..depth {
        sys::fsx::mkdir_at(&here, &name, sys::fsx::Mode::from_raw_mode(0o755)).ok()?;
        here = sys::fsx::open_dir_at(&here, &name).unwrap();
    }
    Some(here)
}

#[test]
fn groups_deeper_than_any_path_are_found_and_removed() {
    if !possible() {
        return;
    }
    // With names of 200 letters; the longest path that the kernel takes has 4096. More levels take version 2 minutes to make.
    const DEPTH: usize = 300;
    let bundle = with_own_group("sleep 1000");
    bundle.start();
    let id = bundle.id();
    let before: Vec<i32> = serde_json::from_str(&bundle.ok(&["ps", "--format", "json", &id])).unwrap();
    for directory in [group("pids", &id), Path::new("/sys/fs/cgroup/unified").join(&id)] {
        if !directory.exists() {
            continue;
        }
        let Some(deepest) = nest(&directory, DEPTH) else {
            println!("skipped: groups nested so deep");
            return;
        };
        let procs =
            sys::fsx::open_at(&deepest, "cgroup.procs", sys::fsx::OFlags::WRONLY, sys::fsx::Mode::empty());
        sys::proc::write_once(procs.unwrap(), before[0].to_string().as_bytes()).unwrap();
    }
    let after: Vec<i32> = serde_json::from_str(&bundle.ok(&["ps", "--format", "json", &id])).unwrap();
    assert_eq!(after.len(), before.len());
    bundle.ok(&["delete", "--force", &id]);
    bundle.assert_nothing_left();
}

#[test]
fn a_group_frozen_inside_dies_as_well() {
    if !possible() {
        return;
    }
    let (freezer, freeze) = match layout() {
        Layout::V1 => ("/sys/fs/cgroup/freezer", "echo FROZEN > /sys/fs/cgroup/freezer/x/freezer.state"),
        Layout::V2 => ("/sys/fs/cgroup", "echo 1 > /sys/fs/cgroup/x/cgroup.freeze"),
    };
    let script = format!(
        "mkdir {freezer}/x; sleep 1000 & echo $! > {freezer}/x/cgroup.procs; {freeze}; echo frozen > /tmp/flag; wait"
    );
    let bundle = with_own_group(&script);
    bundle.start();
    wait_until(|| bundle.rootfs().join("tmp/flag").exists());
    bundle.ok(&["delete", "--force", &bundle.id()]);
    bundle.assert_nothing_left();
}

#[test]
fn a_group_that_passes_its_controllers_on_lets_execs_in() {
    if !possible() {
        return;
    }
    if layout() == Layout::V1 {
        println!("skipped: cgroup version 2");
        return;
    }
    let script = "cd /sys/fs/cgroup; mkdir init; echo $$ > init/cgroup.procs; echo +pids > cgroup.subtree_control; echo done > /tmp/flag; sleep 1000";
    let bundle = with_own_group(script);
    bundle.start();
    wait_until(|| bundle.rootfs().join("tmp/flag").exists());
    let found = bundle.ok(&["exec", &bundle.id(), "cat", "/proc/self/cgroup"]);
    assert_eq!(found.trim(), "0::/init");
}

#[test]
fn without_a_pid_namespace_all_of_it_is_found_and_killed() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::script("sleep 1000 & sleep 1000 & echo started > /tmp/flag; wait");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    // Its procfs is that of another namespace than its own user's: bound instead.
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        if mount["destination"] == "/proc" {
            *mount = json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]});
        }
    }
    bundle.start();
    let id = bundle.id();
    wait_until(|| bundle.rootfs().join("tmp/flag").exists());
    let pids = || -> Vec<i32> { serde_json::from_str(&bundle.ok(&["ps", "-f", "json", &id])).unwrap() };
    wait_until(|| pids().len() == 3);
    // The first dies, and the others outlive it.
    let state: Value = serde_json::from_str(&bundle.ok(&["state", &id])).unwrap();
    let init = state["pid"].as_i64().unwrap();
    let status = std::process::Command::new("kill").args(["-KILL", &init.to_string()]).status().unwrap();
    assert!(status.success());
    wait_for(&bundle, "stopped");
    wait_until(|| pids().len() == 2);
    bundle.ok(&["kill", &id, "KILL"]);
    wait_until(|| pids().is_empty());
    bundle.ok(&["delete", &id]);
    bundle.assert_nothing_left();
}

#[test]
fn a_group_of_version_2_belongs_to_the_containers_root() {
    if !possible() {
        return;
    }
    let mut bundle = with_own_group(
        "mkdir /sys/fs/cgroup/mine && echo $$ > /sys/fs/cgroup/mine/cgroup.procs && echo moved; sleep 1000",
    );
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    for path in ["", "dev", "proc", "sys", "tmp", "etc"] {
        std::os::unix::fs::chown(bundle.rootfs().join(path), Some(100_000), Some(100_000)).unwrap();
    }
    for ancestor in bundle.rootfs().ancestors().take(2) {
        fs::set_permissions(ancestor, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    bundle.start();
    let id = bundle.id();
    let owner = |path: &Path| std::os::unix::fs::MetadataExt::uid(&fs::metadata(path).unwrap());
    if layout() == Layout::V1 {
        assert_eq!(owner(&group("pids", &id)), 0, "version 1 is not handed over");
        return;
    }
    for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
        assert_eq!(owner(&group("", &id).join(file)), 100_000, "{file}");
    }
    // Limits are still those who set them.
    assert_eq!(owner(&group("", &id).join("memory.max")), 0);
    wait_until(|| group("", &id).join("mine").exists());
    bundle.ok(&["delete", "--force", &id]);
    bundle.assert_nothing_left();
}

#[test]
fn what_an_interrupted_creator_leaves_is_deleted() {
    if !possible() {
        return;
    }
    let bundle = Bundle::new(&["true"]);
    let id = bundle.id();
    // Killed a little later each time: somewhere between the first step and the last.
    for delay in 0..12 {
        let mut create =
            bundle.command(&["create", &id]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(delay * 1500));
        let _ = create.kill();
        create.wait().unwrap();
        bundle.ok(&["delete", "--force", &id]);
        bundle.assert_nothing_left();
    }
}
