//! Limits, statistics and the ways into a container's cgroup, read back from the kernel's own files, with either version.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::bundle::{Bundle, patience, possible, text};

/// Where groups are: one hierarchy for all controllers, or one for each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    V1,
    V2,
}

pub fn layout() -> Layout {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { Layout::V2 } else { Layout::V1 }
}

/// Whether limits of this controller can be set here; prints what is missing.
fn has(controller: &str) -> bool {
    let there = match layout() {
        Layout::V1 => Path::new("/sys/fs/cgroup").join(controller).join("cgroup.procs").exists(),
        Layout::V2 => fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
            .unwrap()
            .split_whitespace()
            .any(|c| c == controller),
    };
    if !there {
        println!("skipped: cgroup controller {controller}");
    }
    there
}

/// The group `path` in the hierarchy of a controller of version 1, or in the only one.
pub fn group(controller: &str, path: &str) -> PathBuf {
    match layout() {
        Layout::V1 => Path::new("/sys/fs/cgroup").join(controller).join(path),
        Layout::V2 => Path::new("/sys/fs/cgroup").join(path),
    }
}

/// A limit: controller and file of version 1, file of version 2, and its content with either.
type Limit = (&'static str, &'static str, &'static str, &'static str, &'static str);

fn check(path: &str, limits: &[Limit]) {
    for (controller, v1, v2, with_v1, with_v2) in limits {
        let (name, expected) = match layout() {
            Layout::V1 => (v1, with_v1),
            Layout::V2 => (v2, with_v2),
        };
        let file = group(controller, path).join(name);
        let found = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert_eq!(found.trim(), *expected, "{}", file.display());
    }
}

pub fn stderr(output: &Output) -> String {
    assert!(!output.status.success(), "it should have failed");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(error.lines().count(), 1, "not one line: {error}");
    error
}

#[test]
fn every_limit_is_in_its_file() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    bundle.config["linux"]["resources"] = json!({
        "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
        "cpu": {"shares": 512, "quota": 50_000, "period": 200_000, "burst": 10_000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 42},
    });
    bundle.start();
    check(
        &bundle.id(),
        &[
            ("memory", "memory.limit_in_bytes", "memory.max", "67108864", "67108864"),
            ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max", "100663296", "33554432"),
            ("memory", "memory.soft_limit_in_bytes", "memory.low", "33554432", "33554432"),
            ("cpu", "cpu.shares", "cpu.weight", "512", "59"),
            ("cpu", "cpu.cfs_quota_us", "cpu.max", "50000", "50000 200000"),
            ("cpu", "cpu.cfs_period_us", "cpu.max", "200000", "50000 200000"),
            ("cpu", "cpu.cfs_burst_us", "cpu.max.burst", "10000", "10000"),
            ("cpuset", "cpuset.cpus", "cpuset.cpus", "0", "0"),
            ("cpuset", "cpuset.mems", "cpuset.mems", "0", "0"),
            ("pids", "pids.max", "pids.max", "42", "42"),
        ],
    );
    bundle.ok(&["delete", "--force", &bundle.id()]);
    bundle.assert_nothing_left();
}

#[test]
fn an_idle_group_has_the_least_weight() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    bundle.config["linux"]["resources"] = json!({"cpu": {"idle": 1}});
    bundle.start();
    let id = bundle.id();
    check(&id, &[("cpu", "cpu.idle", "cpu.idle", "1", "1")]);
    // Not idle any more, and with a weight, in one go.
    bundle.ok(&["update", "--cpu-idle", "0", "--cpu-share", "2048", &id]);
    check(
        &id,
        &[("cpu", "cpu.idle", "cpu.idle", "0", "0"), ("cpu", "cpu.shares", "cpu.weight", "2048", "174")],
    );
}

#[test]
fn huge_pages_are_limited_where_they_are_counted() {
    if !possible() || !has("hugetlb") {
        return;
    }
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    bundle.config["linux"]["resources"] = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]});
    bundle.start();
    check(
        &bundle.id(),
        &[
            ("hugetlb", "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max", "4194304", "4194304"),
            ("hugetlb", "hugetlb.2MB.rsvd.limit_in_bytes", "hugetlb.2MB.rsvd.max", "4194304", "4194304"),
        ],
    );
}

#[test]
fn disks_are_throttled() {
    let controller = if layout() == Layout::V1 { "blkio" } else { "io" };
    if !possible() || !has(controller) {
        return;
    }
    // The first disk that there is.
    let disks = fs::read_dir("/sys/block").unwrap();
    let numbers = disks.filter_map(|disk| fs::read_to_string(disk.unwrap().path().join("dev")).ok());
    let Some(disk) =
        numbers.map(|n| n.trim().to_owned()).find(|n| !n.starts_with("7:") && !n.starts_with("1:"))
    else {
        println!("skipped: a disk");
        return;
    };
    let (major, minor) = disk.split_once(':').unwrap();
    let device = |rate: u64| json!([{"major": major.parse::<i64>().unwrap(), "minor": minor.parse::<i64>().unwrap(), "rate": rate}]);
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    bundle.config["linux"]["resources"] = json!({"blockIO": {
        "throttleReadBpsDevice": device(1_000_000), "throttleWriteBpsDevice": device(2_000_000),
        "throttleReadIOPSDevice": device(300), "throttleWriteIOPSDevice": device(400),
    }});
    bundle.start();
    let id = bundle.id();
    if layout() == Layout::V2 {
        let found = fs::read_to_string(group("io", &id).join("io.max")).unwrap();
        assert_eq!(found.trim(), format!("{disk} rbps=1000000 wbps=2000000 riops=300 wiops=400"));
        return;
    }
    for (name, rate) in
        [("read_bps", 1_000_000), ("write_bps", 2_000_000), ("read_iops", 300), ("write_iops", 400)]
    {
        let found =
            fs::read_to_string(group("blkio", &id).join(format!("blkio.throttle.{name}_device"))).unwrap();
        assert_eq!(found.trim(), format!("{disk} {rate}"), "{name}");
    }
}

#[test]
fn the_files_of_version_2_can_be_named() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    bundle.config["linux"]["resources"] =
        json!({"unified": {"memory.high": "50000000", "memory.min": "4096"}});
    if layout() == Layout::V1 {
        assert!(bundle.refusal().contains("linux.resources.unified on a host with cgroup version 1"));
        return;
    }
    bundle.start();
    check(
        &bundle.id(),
        &[("memory", "", "memory.high", "", "49999872"), ("memory", "", "memory.min", "", "4096")],
    );
    for (name, value) in [("memory.nonsense", "1"), ("cgroup.procs", "0"), ("../memory.max", "1")] {
        let mut bundle = Bundle::new(&["true"]);
        bundle.config["linux"]["resources"] = json!({"unified": {name: value}});
        assert!(bundle.refusal().contains("linux.resources.unified"), "{name}");
    }
}

#[test]
fn limits_that_the_kernel_refuses_are_named() {
    if !possible() {
        return;
    }
    let mut cases = vec![
        (json!({"cpu": {"cpus": "4000"}}), "linux.resources.cpu.cpus: cannot write \"4000\" to "),
        (json!({"cpu": {"period": 1}}), "linux.resources.cpu.period: cannot write "),
        (json!({"rdma": {"nowhere0": {"hcaHandles": 3}}}), "linux.resources.rdma: "),
        (json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 0}]}), "linux.resources.hugepageLimits: "),
        (
            json!({"devices": [{"allow": true, "type": "c", "access": "q"}]}),
            "linux.resources.devices: access 'q'",
        ),
    ];
    if layout() == Layout::V1 {
        cases.push((json!({"memory": {"limit": 8192, "swap": 4096}}), "linux.resources.memory."));
        cases.push((
            json!({"memory": {"swappiness": 101}}),
            "linux.resources.memory.swappiness: 101 is not between",
        ));
    } else {
        cases.push((json!({"memory": {"limit": 8192, "swap": 4096}}), "linux.resources.memory.swap: "));
        for (part, field, value) in [
            ("memory", "swappiness", json!(10)),
            ("memory", "disableOOMKiller", json!(true)),
            ("cpu", "realtimeRuntime", json!(1000)),
            ("network", "classID", json!(1)),
        ] {
            let text =
                format!("linux.resources.{part}.{field} on a host with cgroup version 2 is not supported");
            let mut bundle = Bundle::new(&["true"]);
            bundle.config["linux"]["resources"] = json!({part: {field: value}});
            assert!(bundle.refusal().contains(&text), "{text}");
        }
    }
    for (resources, expected) in cases {
        let mut bundle = Bundle::new(&["true"]);
        bundle.config["linux"]["resources"] = resources.clone();
        let refusal = bundle.refusal();
        assert!(refusal.contains(expected), "{resources}: {refusal}");
    }
}

#[test]
fn limits_are_changed_while_it_runs() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    bundle.config["linux"]["resources"] =
        json!({"memory": {"limit": 64 << 20, "swap": 64 << 20}, "pids": {"limit": 9}});
    bundle.start();
    let id = bundle.id();
    // Up, above what both were together, and down again.
    bundle.ok(&["update", "--memory", "128m", "--memory-swap", "256m", "--cpu-quota", "30000", &id]);
    check(
        &id,
        &[
            ("memory", "memory.limit_in_bytes", "memory.max", "134217728", "134217728"),
            ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max", "268435456", "134217728"),
            ("cpu", "cpu.cfs_quota_us", "cpu.max", "30000", "30000 100000"),
            ("pids", "pids.max", "pids.max", "9", "9"),
        ],
    );
    bundle.ok(&[
        "update",
        "--memory",
        "32M",
        "--memory-swap",
        "32M",
        "--cpu-period",
        "50000",
        "--pids-limit",
        "-1",
        &id,
    ]);
    check(
        &id,
        &[
            ("memory", "memory.limit_in_bytes", "memory.max", "33554432", "33554432"),
            ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max", "33554432", "0"),
            ("cpu", "cpu.cfs_quota_us", "cpu.max", "30000", "30000 50000"),
            ("pids", "pids.max", "pids.max", "max", "max"),
        ],
    );
    // From standard input, with what callers in Go leave in it.
    let resources = json!({"memory": {"limit": 0, "reservation": 16 << 20}, "cpu": {"shares": 0, "cpus": ""}, "pids": {"limit": 0}});
    assert_eq!(text(&with_input(&bundle, &["update", "--resources", "-", &id], &resources)), "");
    check(
        &id,
        &[
            ("memory", "memory.limit_in_bytes", "memory.max", "33554432", "33554432"),
            ("memory", "memory.soft_limit_in_bytes", "memory.low", "16777216", "16777216"),
        ],
    );
    bundle.ok(&["update", "-m", "-1", &id]);
    check(&id, &[("memory", "memory.limit_in_bytes", "memory.max", "9223372036854771712", "max")]);
}

fn with_input(bundle: &Bundle, args: &[&str], input: &Value) -> Output {
    let mut command = bundle.command(args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_refused_change_leaves_all_as_it_was() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    bundle.config["linux"]["resources"] =
        json!({"memory": {"limit": 64 << 20, "swap": 64 << 20}, "cpu": {"shares": 512}});
    bundle.start();
    let id = bundle.id();
    let before: &[Limit] = &[
        ("memory", "memory.limit_in_bytes", "memory.max", "67108864", "67108864"),
        ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max", "67108864", "0"),
        ("cpu", "cpu.shares", "cpu.weight", "512", "59"),
    ];
    let changes = ["--memory", "128m", "--memory-swap", "1g", "--cpu-share", "100", "--cpuset-cpus", "4000"];
    let update =
        |args: &[&str]| bundle.command(&[&["update"], args, &[id.as_str()]].concat()).output().unwrap();
    assert!(stderr(&update(&changes)).contains("linux.resources.cpu.cpus: cannot write \"4000\""));
    check(&id, before);
    for (wrong, expected) in [
        (&["--memory", "12x"][..], "invalid value for memory: \"12x\""),
        (&["--cpu-share", "-1"], "invalid value for cpu-share: \"-1\""),
        (
            &["--l3-cache-schema", "L3:0=f"],
            "--l3-cache-schema for a container without a resctrl group of its own is not supported",
        ),
        (&["--resources", "/nowhere"], "cannot open /nowhere: no such file"),
    ] {
        let error = stderr(&update(wrong));
        assert!(error.contains(expected), "{error}");
    }
    let too_little = json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}});
    let error = stderr(&with_input(&bundle, &["update", "-r", "-", &id], &too_little));
    assert!(error.contains("linux.resources.memory.limit: 4096 is not above what is in use"), "{error}");
    check(&id, before);
    bundle.ok(&["kill", &id, "KILL"]);
    wait_for(&bundle, "stopped");
    assert!(stderr(&update(&["--memory", "1g"])).contains("it is stopped"));
}

pub fn wait_for(bundle: &Bundle, status: &str) {
    let deadline = std::time::Instant::now() + patience();
    loop {
        let state: Value = serde_json::from_str(&bundle.ok(&["state", &bundle.id()])).unwrap();
        if state["status"] == status {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{state}");
        std::thread::yield_now();
    }
}

#[test]
fn device_rules_are_changed_while_it_runs() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::script(
        "mknod /dev/kmsg c 1 11; while :; do head -c 1 /dev/zero > /dev/null || echo lost > /tmp/lost; done",
    );
    let capabilities = json!(["CAP_MKNOD", "CAP_SYSLOG", "CAP_SYS_ADMIN"]);
    bundle.config["process"]["capabilities"] =
        json!({"bounding": capabilities, "effective": capabilities, "permitted": capabilities});
    let rules = json!([{"allow": false, "access": "rwm"}]);
    bundle.config["linux"]["resources"] = json!({"devices": rules});
    bundle.start();
    let id = bundle.id();
    // Opened, and not read: others may have read it all.
    let open = || {
        bundle
            .command(&["exec", &id, "sh", "-c", "mknod /tmp/kmsg c 1 11 2>/dev/null; : < /tmp/kmsg"])
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(!open());
    let update = |resources: &Value| text(&with_input(&bundle, &["update", "-r", "-", &id], resources));
    update(
        &json!({"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]}),
    );
    assert!(open());
    // Those of the configuration mean no change, whatever there is.
    update(&json!({"devices": rules}));
    assert!(open());
    update(
        &json!({"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 9}]}),
    );
    assert!(!open());
    assert!(!bundle.rootfs().join("tmp/lost").exists(), "a device was lost meanwhile");
}

#[test]
fn statistics_are_in_runcs_words() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 7}});
    bundle.start();
    let id = bundle.id();
    let event: Value = serde_json::from_str(&bundle.ok(&["events", "--stats", &id])).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(id)));
    let data = &event["data"];
    assert_eq!(data["pids"], json!({"current": 1, "limit": 7}));
    assert_eq!(data["memory"]["usage"]["limit"], json!(64 << 20));
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{data}");
    assert!(data["memory"]["raw"].as_object().unwrap().len() > 10, "{data}");
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{data}");
    assert!(data["cpuset"]["cpus"].as_array().is_some_and(|cpus| !cpus.is_empty()), "{data}");
    let error = stderr(&bundle.command(&["events", "--interval", "x", &id]).output().unwrap());
    assert!(error.contains("invalid value for interval"), "{error}");
}

#[test]
fn running_out_of_memory_is_told_while_it_happens() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::script("trap '' TERM; while :; do sleep 0.1; done");
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    bundle.start();
    let id = bundle.id();
    let mut events = bundle.command(&["events", "--interval", "50ms", &id]);
    let mut events = events.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap())
        .lines()
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    // The first statistics say that it watches.
    assert_eq!(lines.next().unwrap()["type"], "stats");
    let hungry = bundle
        .command(&["exec", &id, "sh", "-c", "dd if=/dev/zero of=/dev/null bs=100M count=1"])
        .output()
        .unwrap();
    assert!(!hungry.status.success());
    assert!(lines.any(|event| event == json!({"type": "oom", "id": id})), "it ended without a word");
    // And it ends when the container does.
    bundle.ok(&["kill", &id, "KILL"]);
    lines.for_each(|event| assert!(event["type"] == "stats" || event["type"] == "oom", "{event}"));
    assert!(events.wait().unwrap().success());
}

pub fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + patience();
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "it never came to that");
        std::thread::yield_now();
    }
}
