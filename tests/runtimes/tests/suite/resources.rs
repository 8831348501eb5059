//! `linux.resources`: what the host's control files say, on version 1 and 2; and `update`.

use std::fs;

use runtimes::{Bundle, Runtime, cgroup, judge, skip};
use serde_json::{Value, json};

/// A container that holds under these resources.
fn limited(runtime: &Runtime, resources: &Value) -> Bundle {
    let mut bundle = Bundle::new(runtime, json!([["hold"]]));
    for (key, value) in resources.as_object().unwrap() {
        bundle.config["linux"]["resources"][key] = value.clone();
    }
    bundle.launch();
    let _ = bundle.holding();
    bundle
}

/// A control file of version 1 and its content, or of version 2.
type Expected = ((&'static str, &'static str), (&'static str, &'static str));

#[track_caller]
fn assert_files(bundle: &Bundle, controller: &str, expected: &[Expected]) {
    for (first, second) in expected {
        let (file, content) = if cgroup::unified() { second } else { first };
        if !file.is_empty() {
            assert_eq!(cgroup::read(controller, &bundle.cgroup(), file), *content, "{file}");
        }
    }
}

fn need(controller: &str) {
    if !cgroup::has(controller) {
        skip(controller, "the host's cgroups do not have the controller");
    }
}

#[test]
fn the_process_is_in_the_group_of_the_configuration() {
    judge(|runtime| {
        let bundle = limited(runtime, &json!({}));
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).unwrap();
        for line in groups.lines().filter(|line| !line.starts_with("0::") || cgroup::unified()) {
            assert!(line.ends_with(&format!(":{}", bundle.cgroup())), "{line}");
        }
    });
}

#[test]
fn memory_with_swap_and_reservation() {
    judge(|runtime| {
        need("memory");
        let bundle = limited(runtime, &json!({"memory": {"limit": 67_108_864, "reservation": 33_554_432}}));
        assert_files(
            &bundle,
            "memory",
            &[
                (("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864")),
                (("memory.soft_limit_in_bytes", "33554432"), ("memory.low", "33554432")),
            ],
        );
    });
}

#[test]
fn memory_and_swap_together() {
    judge(|runtime| {
        need("memory");
        let swap = if cgroup::unified() { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
        let above = if cgroup::unified() { "/" } else { "" };
        if !above.is_empty() && fs::read_to_string("/proc/swaps").is_err()
            || above.is_empty() && !cgroup::exists("memory", "/", swap)
        {
            skip("swap accounting", "the kernel has none");
        }
        let bundle = limited(runtime, &json!({"memory": {"limit": 67_108_864, "swap": 100_663_296}}));
        assert_files(
            &bundle,
            "memory",
            &[(("memory.memsw.limit_in_bytes", "100663296"), ("memory.swap.max", "33554432"))],
        );
    });
}

#[test]
fn swappiness_and_the_killer_of_version_1() {
    judge(|runtime| {
        if cgroup::unified() || !cgroup::exists("memory", "/", "memory.swappiness") {
            skip("cgroup version 1", "these are of version 1");
        }
        let bundle = limited(runtime, &json!({"memory": {"swappiness": 7, "disableOOMKiller": true}}));
        assert_files(&bundle, "memory", &[(("memory.swappiness", "7"), ("", ""))]);
        let control = cgroup::read("memory", &bundle.cgroup(), "memory.oom_control");
        assert!(control.contains("oom_kill_disable 1"), "{control}");
    });
}

#[test]
fn shares_quota_and_period_of_processors() {
    judge(|runtime| {
        need("cpu");
        let bundle = limited(runtime, &json!({"cpu": {"shares": 512, "quota": 30_000, "period": 200_000}}));
        assert_files(
            &bundle,
            "cpu",
            &[
                (("cpu.cfs_quota_us", "30000"), ("cpu.max", "30000 200000")),
                (("cpu.cfs_period_us", "200000"), ("", "")),
            ],
        );
        if cgroup::unified() {
            // Newer runtimes turn 1024 shares into a weight of 100, older ones into 39.
            let weight: u32 = cgroup::read("cpu", &bundle.cgroup(), "cpu.weight").parse().unwrap();
            assert!((20..=60).contains(&weight), "{weight}");
        } else {
            assert_eq!(cgroup::read("cpu", &bundle.cgroup(), "cpu.shares"), "512");
        }
    });
}

#[test]
fn bursts_of_processor_time() {
    judge(|runtime| {
        need("cpu");
        let bundle = limited(runtime, &json!({"cpu": {"quota": 50_000, "period": 100_000, "burst": 20_000}}));
        assert_files(&bundle, "cpu", &[(("cpu.cfs_burst_us", "20000"), ("cpu.max.burst", "20000"))]);
    });
}

#[test]
fn idle_groups() {
    judge(|runtime| {
        need("cpu");
        let bundle = limited(runtime, &json!({"cpu": {"idle": 1}}));
        assert_files(&bundle, "cpu", &[(("cpu.idle", "1"), ("cpu.idle", "1"))]);
    });
}

#[test]
fn real_time_of_version_1() {
    judge(|runtime| {
        if cgroup::unified() || !cgroup::exists("cpu", "/", "cpu.rt_runtime_us") {
            skip("real-time groups", "the kernel has none");
        }
        let bundle = limited(runtime, &json!({"cpu": {"realtimePeriod": 900_000, "realtimeRuntime": 1_000}}));
        assert_files(
            &bundle,
            "cpu",
            &[(("cpu.rt_runtime_us", "1000"), ("", "")), (("cpu.rt_period_us", "900000"), ("", ""))],
        );
    });
}

#[test]
fn processors_and_nodes() {
    judge(|runtime| {
        need("cpuset");
        let bundle = limited(runtime, &json!({"cpu": {"cpus": "0", "mems": "0"}}));
        assert_files(
            &bundle,
            "cpuset",
            &[(("cpuset.cpus", "0"), ("cpuset.cpus", "0")), (("cpuset.mems", "0"), ("cpuset.mems", "0"))],
        );
        assert_eq!(bundle.exec(&[], &json!([["world"]]))[0]["status"]["Cpus_allowed_list"], "0");
    });
}

#[test]
fn the_number_of_processes() {
    judge(|runtime| {
        need("pids");
        let bundle = limited(runtime, &json!({"pids": {"limit": 77}}));
        assert_files(&bundle, "pids", &[(("pids.max", "77"), ("pids.max", "77"))]);
        let bundle = limited(runtime, &json!({"pids": {"limit": -1}}));
        assert_files(&bundle, "pids", &[(("pids.max", "max"), ("pids.max", "max"))]);
    });
}

/// A disk that can be throttled.
fn disk() -> Option<(u64, u64)> {
    let entries = fs::read_dir("/sys/block").ok()?;
    let mut numbers = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let text = fs::read_to_string(entry.path().join("dev")).ok()?;
            let (major, minor) = text.trim().split_once(':')?;
            (name.starts_with("vd") || name.starts_with("sd") || name.starts_with("loop"))
                .then(|| (name.starts_with("loop"), major.parse().ok(), minor.parse().ok()))
        })
        .collect::<Vec<_>>();
    numbers.sort();
    numbers.into_iter().find_map(|(_, major, minor)| Some((major?, minor?)))
}

#[test]
fn the_speed_of_disks() {
    judge(|runtime| {
        need(if cgroup::unified() { "io" } else { "blkio" });
        let Some((major, minor)) = disk() else { skip("a disk", "this machine has none") };
        let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
        let bundle = limited(
            runtime,
            &json!({"blockIO": {
                "throttleReadBpsDevice": rate(1_000_000), "throttleWriteBpsDevice": rate(2_000_000),
                "throttleReadIOPSDevice": rate(300), "throttleWriteIOPSDevice": rate(400),
            }}),
        );
        if cgroup::unified() {
            let text = cgroup::read("io", &bundle.cgroup(), "io.max");
            assert_eq!(text, format!("{major}:{minor} rbps=1000000 wbps=2000000 riops=300 wiops=400"));
        } else {
            for (file, rate) in
                [("read_bps", 1_000_000), ("write_bps", 2_000_000), ("read_iops", 300), ("write_iops", 400)]
            {
                let text = cgroup::read("blkio", &bundle.cgroup(), &format!("blkio.throttle.{file}_device"));
                assert_eq!(text, format!("{major}:{minor} {rate}"), "{file}");
            }
        }
    });
}

#[test]
fn the_weight_of_disks() {
    judge(|runtime| {
        let controller = if cgroup::unified() { "io" } else { "blkio" };
        need(controller);
        // A new group of the same kind says whether the kernel has the file.
        let plain = limited(runtime, &json!({}));
        let names = if cgroup::unified() {
            ["io.bfq.weight", "io.weight"]
        } else {
            ["blkio.weight", "blkio.bfq.weight"]
        };
        if !names.iter().any(|name| cgroup::exists(controller, &plain.cgroup(), name)) {
            skip("block weights", "the kernel has no scheduler for them");
        }
        drop(plain);
        let bundle = limited(runtime, &json!({"blockIO": {"weight": 321}}));
        let found: Vec<String> = names
            .iter()
            .filter(|name| cgroup::exists(controller, &bundle.cgroup(), name))
            .map(|name| cgroup::read(controller, &bundle.cgroup(), name))
            .collect();
        // io.weight has another scale: 1 to 10000 for 10 to 1000.
        assert!(found.iter().any(|text| text.ends_with("321") || text.starts_with("default 3")), "{found:?}");
    });
}

#[test]
fn huge_pages() {
    judge(|runtime| {
        need("hugetlb");
        let limits = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]});
        let bundle = limited(runtime, &limits);
        assert_files(
            &bundle,
            "hugetlb",
            &[(("hugetlb.2MB.limit_in_bytes", "4194304"), ("hugetlb.2MB.max", "4194304"))],
        );
    });
}

#[test]
fn classes_and_priorities_of_networks() {
    judge(|runtime| {
        if cgroup::unified() {
            skip("cgroup version 1", "these are of version 1");
        }
        need("net_cls");
        need("net_prio");
        let network =
            json!({"network": {"classID": 1_048_577, "priorities": [{"name": "lo", "priority": 5}]}});
        let bundle = limited(runtime, &network);
        assert_files(&bundle, "net_cls", &[(("net_cls.classid", "1048577"), ("", ""))]);
        assert!(cgroup::read("net_prio", &bundle.cgroup(), "net_prio.ifpriomap").contains("lo 5"));
    });
}

#[test]
fn files_of_version_2_by_their_names() {
    judge(|runtime| {
        if !cgroup::unified() {
            skip("cgroup version 2", "this host has version 1");
        }
        let bundle = limited(
            runtime,
            &json!({"unified": {"memory.high": "50000000", "pids.max": "55", "cpu.weight": "77"}}),
        );
        for (file, content) in [("memory.high", "49999872"), ("pids.max", "55"), ("cpu.weight", "77")] {
            assert_eq!(cgroup::read("", &bundle.cgroup(), file), content, "{file}");
        }
    });
}

#[test]
fn a_group_with_a_limit_that_is_passed_is_killed() {
    judge(|runtime| {
        need("memory");
        let mut bundle = Bundle::new(runtime, json!([["memory", 134_217_728]]));
        // Where there is swap, it must not be a way out.
        bundle.config["linux"]["resources"]["memory"] = json!({"limit": 33_554_432});
        assert_eq!(bundle.run().code, 137);
    });
}

#[test]
fn limits_are_changed_by_flags() {
    judge(|runtime| {
        need("memory");
        need("pids");
        let bundle = limited(runtime, &json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 77}}));
        let id = bundle.id();
        bundle.ok(&[
            "update",
            "--memory",
            "134217728",
            "--pids-limit",
            "88",
            "--cpu-quota",
            "40000",
            "--cpu-period",
            "100000",
            &id,
        ]);
        assert_files(
            &bundle,
            "memory",
            &[(("memory.limit_in_bytes", "134217728"), ("memory.max", "134217728"))],
        );
        assert_files(&bundle, "pids", &[(("pids.max", "88"), ("pids.max", "88"))]);
        assert_files(&bundle, "cpu", &[(("cpu.cfs_quota_us", "40000"), ("cpu.max", "40000 100000"))]);
        bundle.ok(&["update", "--cpu-share", "256", "--cpuset-cpus", "0", &id]);
        assert_files(&bundle, "cpuset", &[(("cpuset.cpus", "0"), ("cpuset.cpus", "0"))]);
        if !cgroup::unified() {
            assert_eq!(cgroup::read("cpu", &bundle.cgroup(), "cpu.shares"), "256");
        }
        // What is not named stays as it is.
        assert_files(
            &bundle,
            "memory",
            &[(("memory.limit_in_bytes", "134217728"), ("memory.max", "134217728"))],
        );
        assert_files(&bundle, "pids", &[(("pids.max", "88"), ("pids.max", "88"))]);
    });
}

#[test]
fn limits_are_changed_by_json() {
    judge(|runtime| {
        need("memory");
        let bundle = limited(runtime, &json!({"memory": {"limit": 67_108_864}}));
        let resources = json!({
            "memory": {"limit": 50_331_648, "reservation": 33_554_432}, "cpu": {"shares": 2048, "quota": 60_000, "period": 100_000},
            "pids": {"limit": 99},
        });
        for from in ["-", "file"] {
            let id = bundle.id();
            let file = bundle.path().join("resources.json");
            fs::write(&file, resources.to_string()).unwrap();
            let place = if from == "-" { "-".to_owned() } else { file.display().to_string() };
            let mut command = bundle.bare(&["update", "--resources", &place, &id]);
            command.stdin(fs::File::open(&file).unwrap());
            bundle.finish(command).success();
            assert_files(
                &bundle,
                "memory",
                &[(("memory.limit_in_bytes", "50331648"), ("memory.max", "50331648"))],
            );
            assert_files(&bundle, "cpu", &[(("cpu.cfs_quota_us", "60000"), ("cpu.max", "60000 100000"))]);
            assert_files(&bundle, "pids", &[(("pids.max", "99"), ("pids.max", "99"))]);
            bundle.ok(&["update", "--memory", "67108864", &id]);
        }
    });
}

#[test]
fn a_change_that_the_kernel_refuses_is_an_error() {
    judge(|runtime| {
        need("cpuset");
        let bundle = limited(runtime, &json!({}));
        let error = bundle.call(&["update", "--cpuset-cpus", "4000", &bundle.id()]).failure();
        assert!(error.contains("cpuset"), "{error}");
        assert_eq!(bundle.status(), "running");
        let error = bundle.call(&["update", "--memory", "lots", &bundle.id()]).failure();
        assert!(error.contains("lots") || error.contains("memory"), "{error}");
        let _ = bundle.call(&["update", "--memory", "1g", "no-such-container"]).failure();
    });
}

#[test]
fn a_group_of_ones_own_is_removed_and_the_one_above_is_not() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["world"]]));
        let above = bundle.cgroup();
        bundle.config["linux"]["cgroupsPath"] = format!("{above}/below").into();
        let _ = bundle.report();
        assert_eq!(cgroup::directories(&format!("{above}/below")), Vec::<std::path::PathBuf>::new());
        for directory in cgroup::directories(&above) {
            fs::remove_dir(directory).unwrap();
        }
    });
}

#[test]
fn without_a_path_there_is_a_group_all_the_same() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
        bundle.launch();
        let _ = bundle.holding();
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).unwrap();
        let own = groups.lines().filter(|line| line.contains(&bundle.id())).count();
        assert!(own > 0, "{groups}");
        bundle.config["linux"]["cgroupsPath"] = format!("/{}", bundle.id()).into();
        bundle.delete();
    });
}
