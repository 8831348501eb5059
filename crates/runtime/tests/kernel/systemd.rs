//! Containers whose cgroup systemd makes, where systemd runs.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bundle::{Bundle, possible, text};

/// Whether there is a systemd to ask; prints what is missing.
fn has_systemd() -> bool {
    let there = Path::new("/run/systemd/private").exists();
    if !there {
        println!("skipped: systemd");
    }
    there
}

/// The properties of a unit, as systemd knows them. Asking takes a while in an emulated machine: once for all.
fn shown(unit: &str) -> HashMap<String, String> {
    let output = text(&Command::new("systemctl").args(["show", unit]).output().unwrap());
    output
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect()
}

/// One of them.
fn property(unit: &str, name: &str) -> String {
    let output =
        Command::new("systemctl").args(["show", "--value", "--property", name, unit]).output().unwrap();
    text(&output).trim().to_owned()
}

/// The group `path` in the hierarchy of a controller of version 1, or in the only one.
fn group(controller: &str, path: &str) -> PathBuf {
    let path = path.trim_start_matches('/');
    let top = Path::new("/sys/fs/cgroup");
    if top.join("cgroup.controllers").exists() { top.join(path) } else { top.join(controller).join(path) }
}

fn value(controller: &str, path: &str, names: [&str; 2]) -> String {
    let directory = group(controller, path);
    let path = names.iter().map(|name| directory.join(name)).find(|path| path.exists()).unwrap();
    fs::read_to_string(path).unwrap().trim().to_owned()
}

/// A container that sleeps, with `cgroupsPath`.
fn sleeper(path: &str) -> Bundle {
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    bundle.config["linux"]["cgroupsPath"] = path.into();
    bundle.config["linux"]["resources"] = json!({
        "devices": [{"allow": false, "access": "rwm"}],
        "memory": {"limit": 64 << 20},
        "cpu": {"quota": 12_345, "period": 50_000},
        // There is room for one: whoever held the unit for the container does not count.
        "pids": {"limit": 1},
    });
    bundle
}

/// Makes and starts the container in the background, in a group that systemd makes.
fn start(bundle: &Bundle) {
    let mut command = bundle.command(&["--systemd-cgroup", "run", "--detach", &bundle.id()]);
    let log = bundle.path().join("log.start");
    let status = command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap()).status().unwrap();
    assert!(status.success(), "{}", fs::read_to_string(log).unwrap());
}

fn assert_gone(unit: &str) {
    assert_eq!(property(unit, "LoadState"), "not-found", "{unit}");
    let found = Command::new("find").args(["/sys/fs/cgroup", "-name", unit]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{unit}");
}

#[test]
fn a_scope_is_made_limited_changed_and_removed() {
    if !possible() || !has_systemd() {
        return;
    }
    let mut bundle = sleeper("");
    bundle.config["annotations"] = json!({"org.systemd.property.TimeoutStopSec": "uint64 7"});
    start(&bundle);
    let id = bundle.id();
    let unit = format!("corten-{id}.scope");
    let known = shown(&unit);
    for (name, expected) in [
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("TimeoutStopUSec", "7s"),
        ("TasksMax", "1"),
        ("DevicePolicy", "strict"),
        ("CPUQuotaPerSecUSec", "250ms"),
        ("CPUQuotaPeriodUSec", "50ms"),
    ] {
        assert_eq!(known[name], expected, "{name}");
    }
    // In the files the quota is exact, and the process is where it should be.
    let path = &known["ControlGroup"];
    let state: Value = serde_json::from_str(&bundle.ok(&["state", &id])).unwrap();
    assert_eq!(value("pids", path, ["cgroup.procs"; 2]), state["pid"].to_string());
    assert_eq!(value("pids", path, ["pids.max"; 2]), "1");
    assert!(value("cpu", path, ["cpu.cfs_quota_us", "cpu.max"]).starts_with("12345"));
    bundle.ok(&["update", "--memory", "96m", "--pids-limit", "50", "--cpu-quota", "23456", &id]);
    assert!(value("cpu", path, ["cpu.cfs_quota_us", "cpu.max"]).starts_with("23456"));
    assert_eq!(value("memory", path, ["memory.limit_in_bytes", "memory.max"]), "100663296");
    let known = shown(&unit);
    assert_eq!((known["TasksMax"].as_str(), known["CPUQuotaPerSecUSec"].as_str()), ("50", "470ms"));
    // What systemd sets again when it is loaded anew are our limits.
    assert!(Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
    assert_eq!(value("memory", path, ["memory.limit_in_bytes", "memory.max"]), "100663296");
    bundle.ok(&["pause", &id]);
    bundle.ok(&["resume", &id]);
    bundle.ok(&["exec", &id, "true"]);
    bundle.ok(&["delete", "--force", &id]);
    assert_gone(&unit);
    bundle.assert_nothing_left();
}

#[test]
fn names_are_given_by_the_path() {
    if !possible() || !has_systemd() {
        return;
    }
    let bundle = sleeper("corten-test.slice:engine:one");
    start(&bundle);
    assert_eq!(
        property("engine-one.scope", "ControlGroup"),
        "/corten.slice/corten-test.slice/engine-one.scope"
    );
    bundle.ok(&["delete", "--force", &bundle.id()]);
    assert_gone("engine-one.scope");
    let bundle = sleeper(":engine:cortentest.slice");
    start(&bundle);
    assert_eq!(property("cortentest.slice", "ActiveState"), "active");
    assert_eq!(value("pids", "/cortentest.slice", ["pids.max"; 2]), "1");
    bundle.ok(&["delete", "--force", &bundle.id()]);
    assert_eq!(property("cortentest.slice", "ActiveState"), "inactive");
    for (path, expected) in [
        ("/a/b", "expected the form \"slice:prefix:name\""),
        ("nonsense:a:b", "\"nonsense\" is no name of a slice"),
    ] {
        let bundle = sleeper(path);
        let output = bundle.command(&["--systemd-cgroup", "run", &bundle.id()]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(expected), "{error}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn a_unit_of_the_same_name_is_not_taken_over() {
    if !possible() || !has_systemd() {
        return;
    }
    let first = sleeper("system.slice:corten-test:same");
    start(&first);
    let second = sleeper("system.slice:corten-test:same");
    let output = second.command(&["--systemd-cgroup", "run", &second.id()]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("is in use"), "{error}");
    second.assert_nothing_left();
    assert_eq!(property("corten-test-same.scope", "ActiveState"), "active");
    first.ok(&["delete", "--force", &first.id()]);
    assert_gone("corten-test-same.scope");
}

#[test]
fn properties_that_systemd_refuses_are_named() {
    if !possible() || !has_systemd() {
        return;
    }
    for (annotation, given, expected) in [
        ("NoSuchThing", "1", "NoSuchThing"),
        ("TimeoutStopSec", "'soon'", "annotation org.systemd.property.TimeoutStopSec: no number of seconds"),
    ] {
        let mut bundle = sleeper("");
        let id = bundle.id();
        bundle.config["annotations"] = json!({format!("org.systemd.property.{annotation}"): given});
        let output = bundle.command(&["--systemd-cgroup", "run", &id]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && error.contains(expected) && error.lines().count() == 1,
            "{error}"
        );
        assert_gone(&format!("corten-{id}.scope"));
        bundle.assert_nothing_left();
    }
}

#[test]
fn what_an_interrupted_creator_leaves_with_systemd_is_deleted() {
    if !possible() || !has_systemd() {
        return;
    }
    let bundle = sleeper("");
    let id = bundle.id();
    for delay in 0..6 {
        let mut create = bundle.command(&["--systemd-cgroup", "create", &id]);
        let mut create = create.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay * 7));
        let _ = create.kill();
        create.wait().unwrap();
        bundle.ok(&["delete", "--force", &id]);
        assert_gone(&format!("corten-{id}.scope"));
        bundle.assert_nothing_left();
    }
}
