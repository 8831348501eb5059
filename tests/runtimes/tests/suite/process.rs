//! `process`: what the program is, and what it may.

use runtimes::{Bundle, judge, skip};
use serde_json::{Value, json};

fn capabilities(report: &Value, set: &str) -> u64 {
    u64::from_str_radix(report["status"][set].as_str().unwrap(), 16).unwrap()
}

const CHOWN: u64 = 1;
const KILL: u64 = 1 << 5;
const NET_BIND_SERVICE: u64 = 1 << 10;

#[test]
fn arguments_environment_and_directory_are_those_of_the_configuration() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        let args = bundle.config["process"]["args"].as_array_mut().unwrap();
        args.extend([json!(""), json!("two words"), json!("ü\n\"")]);
        bundle.config["process"]["env"] = json!(["PATH=/", "EMPTY=", "TWICE=1=2", "HOME=/nowhere"]);
        bundle.config["process"]["cwd"] = "/tmp".into();
        let report = bundle.report();
        assert_eq!(report["args"].as_array().unwrap()[2..], [json!(""), json!("two words"), json!("ü\n\"")]);
        let mut env: Vec<&str> = report["env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        env.sort_unstable();
        assert_eq!(env, ["EMPTY=", "HOME=/nowhere", "PATH=/", "TWICE=1=2"]);
        assert_eq!(report["cwd"], "/tmp");
    });
}

#[test]
fn a_working_directory_that_is_missing_is_made() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        bundle.config["process"]["cwd"] = "/made/here".into();
        assert_eq!(bundle.report()["cwd"], "/made/here");
    });
}

#[test]
fn a_program_is_looked_for_in_the_path_of_its_environment() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        bundle.config["process"]["args"][0] = "probe".into();
        assert_eq!(bundle.report()["args"][0], "probe");
        bundle.config["process"]["env"] = json!(["PATH=/tmp"]);
        let error = bundle.refusal();
        assert!(error.contains("probe"), "{error}");
    });
}

#[test]
fn user_groups_and_mask() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        bundle.config["process"]["user"] =
            json!({"uid": 1000, "gid": 50, "additionalGids": [7, 8], "umask": 0o77});
        let report = bundle.report();
        let status = &report["status"];
        assert_eq!(status["Uid"], "1000 1000 1000 1000");
        assert_eq!(status["Gid"], "50 50 50 50");
        assert_eq!(status["Groups"], "7 8");
        assert_eq!(status["Umask"], "0077");
    });
}

#[test]
fn root_has_no_groups_of_the_host_and_a_usual_mask() {
    judge(|runtime| {
        let report = Bundle::world(runtime).report();
        assert!(
            matches!(report["status"]["Groups"].as_str(), Some("" | "0")),
            "{}",
            report["status"]["Groups"]
        );
        assert_eq!(report["status"]["Umask"], "0022");
    });
}

#[test]
fn the_five_sets_of_capabilities_are_those_of_the_configuration() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        bundle.config["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "effective": ["CAP_CHOWN"],
            "inheritable": ["CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "ambient": ["CAP_NET_BIND_SERVICE"],
        });
        bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        let report = bundle.report();
        assert_eq!(capabilities(&report, "CapBnd"), CHOWN | KILL | NET_BIND_SERVICE);
        assert_eq!(capabilities(&report, "CapInh"), KILL | NET_BIND_SERVICE);
        assert_eq!(capabilities(&report, "CapAmb"), NET_BIND_SERVICE);
        // execve by a user leaves of these what is ambient.
        assert_eq!(capabilities(&report, "CapPrm"), NET_BIND_SERVICE);
        assert_eq!(capabilities(&report, "CapEff"), NET_BIND_SERVICE);
    });
}

#[test]
fn root_gets_what_is_in_the_bounding_set() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        let three = json!(["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
        bundle.config["process"]["capabilities"] =
            json!({"bounding": three, "permitted": three, "effective": three});
        let report = bundle.report();
        for (set, expected) in [
            ("CapBnd", CHOWN | KILL | NET_BIND_SERVICE),
            ("CapPrm", CHOWN | KILL | NET_BIND_SERVICE),
            ("CapEff", CHOWN | KILL | NET_BIND_SERVICE),
            ("CapInh", 0),
            ("CapAmb", 0),
        ] {
            assert_eq!(capabilities(&report, set), expected, "{set}");
        }
    });
}

#[test]
fn empty_sets_of_capabilities_leave_nothing() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        bundle.config["process"]["capabilities"] =
            json!({"bounding": [], "permitted": [], "effective": [], "inheritable": [], "ambient": []});
        let report = bundle.report();
        for set in ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert_eq!(capabilities(&report, set), 0, "{set}");
        }
    });
}

#[test]
fn new_privileges_can_be_ruled_out() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        for (wanted, seen) in [(true, "1"), (false, "0")] {
            bundle.config["process"]["noNewPrivileges"] = wanted.into();
            assert_eq!(bundle.report()["status"]["NoNewPrivs"], seen);
        }
    });
}

#[test]
fn limits_of_every_kind() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        let limits = [
            ("RLIMIT_AS", 1_u64 << 40, 1_u64 << 41),
            ("RLIMIT_CORE", 1, 2),
            ("RLIMIT_CPU", 100, 200),
            ("RLIMIT_DATA", 1_u64 << 38, 1_u64 << 39),
            ("RLIMIT_FSIZE", 1 << 30, 1 << 31),
            ("RLIMIT_LOCKS", 10, 20),
            ("RLIMIT_MEMLOCK", 4096, 8192),
            ("RLIMIT_MSGQUEUE", 1000, 2000),
            ("RLIMIT_NICE", 0, 0),
            ("RLIMIT_NOFILE", 100, 200),
            ("RLIMIT_NPROC", 300, 400),
            ("RLIMIT_RSS", 1 << 30, u64::MAX),
            ("RLIMIT_RTPRIO", 0, 0),
            ("RLIMIT_RTTIME", 1000, 2000),
            ("RLIMIT_SIGPENDING", 100, 200),
            ("RLIMIT_STACK", 1 << 22, 1 << 23),
        ];
        let list = limits.iter().map(|(name, soft, hard)| json!({"type": name, "soft": soft, "hard": hard}));
        bundle.config["process"]["rlimits"] = list.collect();
        let report = bundle.report();
        for (name, soft, hard) in limits {
            // Go's own runtime raises it while it starts, and older versions forget to put it back.
            assert_eq!(report["limits"][name], json!([soft, hard]), "{name}");
        }
    });
}

#[test]
fn the_score_for_the_out_of_memory_killer() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        bundle.config["process"]["oomScoreAdj"] = 321.into();
        assert_eq!(bundle.report()["oom_score_adj"], "321");
    });
}

#[test]
fn the_priority_of_input_and_output() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        for (class, priority, number) in [
            ("IOPRIO_CLASS_BE", 6, 2 << 13 | 6),
            ("IOPRIO_CLASS_RT", 1, 1 << 13 | 1),
            ("IOPRIO_CLASS_IDLE", 0, 3 << 13),
        ] {
            bundle.config["process"]["ioPriority"] = json!({"class": class, "priority": priority});
            assert_eq!(bundle.report()["ioprio"], number, "{class}");
        }
    });
}

#[test]
fn scheduling_policies_without_a_deadline() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        for (policy, nice, number) in [("SCHED_OTHER", 7, 0), ("SCHED_BATCH", 3, 3), ("SCHED_IDLE", 0, 5)] {
            bundle.config["process"]["scheduler"] = json!({"policy": policy, "nice": nice});
            let report = bundle.report();
            assert_eq!(report["scheduler"]["policy"], number, "{policy}");
            assert_eq!(report["scheduler"]["nice"], nice, "{policy}");
        }
        bundle.config["process"]["scheduler"] =
            json!({"policy": "SCHED_BATCH", "nice": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
        let report = bundle.report();
        assert_eq!(report["scheduler"]["policy"], 3);
        assert_eq!(report["scheduler"]["reset_on_fork"], true);
    });
}

/// Whether this process may have a real-time policy; a cgroup without a share of real time forbids it.
fn real_time() -> bool {
    let tried = std::process::Command::new("chrt").args(["--fifo", "1", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
}

#[test]
fn real_time_scheduling() {
    judge(|runtime| {
        if !real_time() {
            skip("real-time scheduling", "chrt --fifo 1 true fails here");
        }
        let mut bundle = Bundle::world(runtime);
        // A group of version 1 has no real time of its own, if the kernel divides it among groups.
        bundle.config["linux"]["cgroupsPath"] = format!("/{}", bundle.id()).into();
        if runtimes::cgroup::exists("cpu", "/", "cpu.rt_runtime_us") {
            bundle.config["linux"]["resources"]["cpu"] =
                json!({"realtimePeriod": 1_000_000, "realtimeRuntime": 50_000});
        }
        for (policy, number) in [("SCHED_FIFO", 1), ("SCHED_RR", 2)] {
            bundle.config["process"]["scheduler"] = json!({"policy": policy, "priority": 17});
            let report = bundle.report();
            assert_eq!(report["scheduler"]["policy"], number, "{policy}");
            assert_eq!(report["scheduler"]["priority"], 17, "{policy}");
        }
    });
}

#[test]
fn deadline_scheduling() {
    judge(|runtime| {
        if !real_time() {
            skip("real-time scheduling", "chrt --fifo 1 true fails here");
        }
        let mut bundle = Bundle::world(runtime);
        // A task with a deadline may not have children unless they do without it.
        bundle.config["process"]["scheduler"] = json!({
            "policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 20_000_000, "period": 40_000_000,
            "flags": ["SCHED_FLAG_RESET_ON_FORK"],
        });
        let report = bundle.report();
        assert_eq!(report["scheduler"]["policy"], 6);
        let text = report["sched"].as_str().unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.rsplit(' ').next().map(str::to_owned)
        };
        if let Some(runtime) = field("dl.runtime") {
            assert!(runtime.parse::<i64>().unwrap() <= 10_000_000, "{runtime}");
        }
    });
}

#[test]
fn the_personality_of_another_machine() {
    judge(|runtime| {
        const LINUX32: u64 = 8;
        let mut bundle = Bundle::world(runtime);
        bundle.config["linux"]["personality"] = json!({"domain": "LINUX32"});
        assert_eq!(bundle.report()["personality"], LINUX32);
        bundle.config["linux"]["personality"] = json!({"domain": "LINUX"});
        assert_eq!(bundle.report()["personality"], 0);
    });
}

#[test]
fn policies_of_memory() {
    judge(|runtime| {
        if !std::path::Path::new("/proc/self/numa_maps").exists() {
            skip("NUMA", "the kernel does not know nodes of memory");
        }
        let mut bundle = Bundle::world(runtime);
        for (mode, nodes, flags, seen) in [
            ("MPOL_BIND", "0", json!([]), "bind:0"),
            ("MPOL_BIND", "0", json!(["MPOL_F_STATIC_NODES"]), "bind=static:0"),
            ("MPOL_INTERLEAVE", "0", json!([]), "interleave:0"),
            ("MPOL_PREFERRED", "0", json!([]), "prefer:0"),
            ("MPOL_PREFERRED_MANY", "0", json!(["MPOL_F_RELATIVE_NODES"]), "prefer (many)=relative:0"),
            ("MPOL_LOCAL", "", json!([]), "local"),
            ("MPOL_DEFAULT", "", json!([]), "default"),
        ] {
            bundle.config["linux"]["memoryPolicy"] = json!({"mode": mode, "nodes": nodes, "flags": flags});
            let report = bundle.report();
            // The first line's second word, and one of them has a blank in it.
            let policy = report["numa"].as_str().unwrap().to_owned();
            assert!(seen.starts_with(&policy) && !policy.is_empty(), "{mode}: {policy}");
        }
    });
}

#[test]
fn no_descriptor_of_the_runtimes_is_open() {
    judge(|runtime| {
        let report = Bundle::world(runtime).report();
        let numbers: Vec<&String> = report["fds"].as_object().unwrap().keys().collect();
        assert_eq!(numbers, ["0", "1", "2"], "{}", report["fds"]);
    });
}

#[test]
fn it_leads_a_session() {
    judge(|runtime| {
        let report = Bundle::world(runtime).report();
        assert_eq!((&report["sid"], &report["pgid"]), (&json!(1), &json!(1)));
        assert_eq!(report["tty"], Value::Null);
    });
}

#[test]
fn no_signal_is_blocked_or_ignored() {
    judge(|runtime| {
        let status = &Bundle::world(runtime).report()["status"];
        assert_eq!(status["SigBlk"], "0000000000000000");
        let ignored = u64::from_str_radix(status["SigIgn"].as_str().unwrap(), 16).unwrap();
        // Nobody's business: 32 and 33 are the C library's own. And Rust's ignores SIGPIPE, so the probe does.
        const LIBRARY: u64 = 3 << 31;
        const SIGPIPE: u64 = 1 << 12;
        assert_eq!(ignored & !LIBRARY, SIGPIPE);
    });
}

#[test]
fn it_has_a_keyring_of_its_own_unless_told_otherwise() {
    judge(|runtime| {
        let bundle = Bundle::world(runtime);
        let own = sys::trial::session_keyring().unwrap();
        let inside = bundle.report()["keyring"].as_i64().unwrap();
        assert_ne!(inside, own);
        let output = bundle.call(&["run", "--no-new-keyring", &bundle.id()]).success();
        let results: Value = serde_json::from_str(output.lines().next().unwrap()).unwrap();
        // A process that has none uses its user's, as this one does.
        assert_eq!(results[0]["keyring"], own);
    });
}

#[test]
fn exit_codes_come_back() {
    judge(|runtime| {
        for (steps, code) in
            [(json!([["exit", 0]]), 0), (json!([["exit", 7]]), 7), (json!([["exit", 255]]), 255)]
        {
            assert_eq!(Bundle::new(runtime, steps).run().code, code);
        }
        // Nobody but the kernel can kill the first process from inside; a namespace of the host's lets it kill itself.
        let mut bundle = Bundle::new(runtime, json!([["signal", 9]]));
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
        assert_eq!(bundle.run().code, 137);
    });
}

#[test]
fn standard_streams_are_passed_through() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["stdin"]]));
        let mut command = bundle.command(&["run", &bundle.id()]);
        let input = bundle.path().join("input");
        std::fs::write(&input, "what was written").unwrap();
        command.stdin(std::fs::File::open(input).unwrap());
        let text = bundle.finish(command).success();
        assert_eq!(text, "[{\"ok\":\"what was written\"}]\n");
    });
}
