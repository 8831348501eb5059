//! `linux.seccomp`: actions, arguments, architectures, flags, and a listener that answers.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use runtimes::{Bundle, Running, Runtime, judge, skip};
use serde_json::{Value, json};
use sys::seccomp::{self, Answer};
use sys::trial;

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;
const SIGTRAP_CODE: i32 = 128 + 31;

/// A bundle whose filter lets everything pass but these rules.
fn filtered(runtime: &Runtime, rules: Value, steps: Value) -> Bundle {
    let mut bundle = Bundle::new(runtime, steps);
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules,
    });
    bundle
}

fn on_getsid(action: &str) -> Value {
    json!([{"names": ["getsid"], "action": action}])
}

#[test]
fn a_process_is_under_a_filter_if_one_is_configured() {
    judge(|runtime| {
        assert_eq!(Bundle::world(runtime).report()["status"]["Seccomp"], "0");
        let report = filtered(runtime, on_getsid("SCMP_ACT_ERRNO"), json!([["world"]])).report();
        assert_eq!(report["status"]["Seccomp"], "2");
        assert_eq!(report["sid"], Value::Null);
    });
}

#[test]
fn calls_fail_with_the_error_that_is_configured() {
    judge(|runtime| {
        let rules = json!([
            {"names": ["getsid"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99},
            {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0},
            {"names": ["no_such_call_anywhere"], "action": "SCMP_ACT_ERRNO"},
        ]);
        let steps =
            json!([["call", "getsid"], ["call", "getpgid"], ["call", "getpriority"], ["call", "getppid"]]);
        let results = filtered(runtime, rules, steps).results();
        assert_eq!(results[0]["errno"], EPERM);
        assert_eq!(results[1]["errno"], 99);
        // The error 0 is none: the call returns 0 without having been made. A nice value of 0 would be 20.
        assert_eq!(results[2]["ok"], 0);
        assert_eq!(results[3]["ok"], 0);
    });
}

#[test]
fn the_default_is_for_calls_that_no_rule_names() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["call", "getsid"], ["call", "getpriority"]]));
        // All that the runtime and the probe need.
        let names: Vec<String> = (0..).map_while(name_of).filter(|name| name != "getpriority").collect();
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 77, "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
        });
        let results = bundle.results();
        assert!(results[0]["ok"].is_u64(), "{}", results[0]);
        assert_eq!(results[1]["errno"], 77);
    });
}

/// Names of most system calls of this architecture.
fn name_of(at: usize) -> Option<String> {
    const NAMES: &str = include_str!("calls.txt");
    NAMES.split_whitespace().nth(at).map(str::to_owned)
}

#[test]
fn calls_that_kill() {
    judge(|runtime| {
        for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
            let output = filtered(runtime, on_getsid(action), json!([["call", "getsid"]])).run();
            assert_eq!((output.code, output.stdout.as_str()), (SIGTRAP_CODE, ""), "{action}: {output:?}");
        }
    });
}

#[test]
fn a_thread_is_killed_or_its_process() {
    judge(|runtime| {
        let steps = json!([["in-a-thread", "getsid"]]);
        for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD"] {
            let results = filtered(runtime, on_getsid(action), steps.clone()).results();
            assert_eq!(results[0]["ok"], "ended", "{action}");
        }
        let output = filtered(runtime, on_getsid("SCMP_ACT_KILL_PROCESS"), steps).run();
        assert_eq!(output.code, SIGTRAP_CODE);
    });
}

#[test]
fn calls_that_are_logged_are_made() {
    judge(|runtime| {
        let results = filtered(runtime, on_getsid("SCMP_ACT_LOG"), json!([["call", "getsid"]])).results();
        assert_eq!(results[0]["ok"], 1);
    });
}

#[test]
fn calls_that_nobody_traces_are_not_there() {
    judge(|runtime| {
        let results = filtered(runtime, on_getsid("SCMP_ACT_TRACE"), json!([["call", "getsid"]])).results();
        assert_eq!(results[0]["errno"], ENOSYS);
    });
}

#[test]
fn arguments_are_compared_by_every_operator() {
    judge(|runtime| {
        const BIG: u64 = 0x1_0000_0005;
        // Two values for each: one that the rule is about, one that it is not.
        for (op, value, second, caught, free) in [
            ("SCMP_CMP_EQ", 5_u64, 0_u64, 5_u64, 6_u64),
            ("SCMP_CMP_EQ", 5, 0, 5, BIG),
            ("SCMP_CMP_EQ", BIG, 0, BIG, 5),
            ("SCMP_CMP_NE", 5, 0, 6, 5),
            ("SCMP_CMP_NE", 5, 0, BIG, 5),
            ("SCMP_CMP_LT", 5, 0, 4, 5),
            ("SCMP_CMP_LT", BIG, 0, 6, BIG),
            ("SCMP_CMP_LE", 5, 0, 5, 6),
            ("SCMP_CMP_LE", BIG, 0, BIG, BIG + 1),
            ("SCMP_CMP_GE", 5, 0, 5, 4),
            ("SCMP_CMP_GE", BIG, 0, BIG, BIG - 1),
            ("SCMP_CMP_GT", 5, 0, 6, 5),
            ("SCMP_CMP_GT", 5, 0, BIG, 5),
            ("SCMP_CMP_GT", BIG, 0, 0x2_0000_0000, 0xffff_ffff),
            // The first value is the mask, the second what is left under it.
            ("SCMP_CMP_MASKED_EQ", 0xf0, 0x50, 0x5a, 0x6a),
            ("SCMP_CMP_MASKED_EQ", 0xff_0000_0000, 0x1_0000_0000, BIG, 5),
        ] {
            // No such process or `which`: harmless, and told from what a filter says.
            let rules = json!([{
                "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99,
                "args": [{"index": 2, "op": op, "value": value, "valueTwo": second}],
            }]);
            let steps = json!([["call", "getpriority", 0, 0, caught], ["call", "getpriority", 0, 0, free]]);
            let results = filtered(runtime, rules, steps).results();
            assert_eq!(results[0]["errno"], 99, "{op} {value:#x}: {caught:#x}");
            assert_eq!(results[1]["ok"], 20, "{op} {value:#x}: {free:#x}");
        }
    });
}

#[test]
fn arguments_of_one_rule_must_all_match_and_rules_are_alternatives() {
    judge(|runtime| {
        let equal = |index: u32, value: u64| json!({"index": index, "op": "SCMP_CMP_EQ", "value": value});
        let rules = json!([
            {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 91, "args": [equal(2, 1), equal(3, 2)]},
            {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 91, "args": [equal(4, 7)]},
        ]);
        let steps = json!([
            ["call", "getpriority", 0, 0, 1, 2],
            ["call", "getpriority", 0, 0, 1, 3],
            ["call", "getpriority", 0, 0, 0, 2],
            ["call", "getpriority", 0, 0, 0, 0, 7],
        ]);
        let errors: Vec<Value> =
            filtered(runtime, rules, steps).results().into_iter().map(|r| r["errno"].clone()).collect();
        assert_eq!(errors, [json!(91), Value::Null, Value::Null, json!(91)]);
    });
}

#[test]
fn architectures_that_are_not_listed_are_shut_out() {
    judge(|runtime| {
        if trial::getpid_32().is_err() {
            skip("the 32-bit ABI", "the kernel has none");
        }
        let mut bundle = filtered(runtime, on_getsid("SCMP_ACT_ERRNO"), json!([["getpid-32"]]));
        // Killed, as a call that cannot be looked at.
        assert_eq!(bundle.run().code, SIGTRAP_CODE);
        bundle.config["linux"]["seccomp"]["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]);
        assert_eq!(bundle.results()[0]["ok"], 1);
        bundle.config["linux"]["seccomp"]["syscalls"] =
            json!([{"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 55}]);
        bundle.set_steps(json!([["getpid-32"], ["call", "getpid"]]));
        let results = bundle.results();
        assert_eq!((&results[0]["errno"], &results[1]["errno"]), (&json!(55), &json!(55)));
    });
}

#[test]
fn numbers_of_the_x32_abi_do_not_get_past_a_filter() {
    judge(|runtime| {
        let rules = json!([{"names": ["getsid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 55}]);
        let mut bundle = filtered(runtime, rules, json!([["call-x32", "getsid"]]));
        let output = bundle.run();
        let shut_out = output.code == SIGTRAP_CODE
            || output.stdout.contains("\"errno\":38")
            || output.stdout.contains("\"errno\":55");
        assert!(shut_out, "{output:?}");
        bundle.config["linux"]["seccomp"]["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"]);
        let output = bundle.run();
        assert!(
            output.stdout.contains("\"errno\":38") || output.stdout.contains("\"errno\":55"),
            "{output:?}"
        );
    });
}

#[test]
fn flags_of_the_filter_are_taken() {
    judge(|runtime| {
        for flags in [
            json!([]),
            json!(["SECCOMP_FILTER_FLAG_LOG"]),
            json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
            json!(["SECCOMP_FILTER_FLAG_TSYNC"]),
        ] {
            let mut bundle = filtered(runtime, on_getsid("SCMP_ACT_ERRNO"), json!([["call", "getsid"]]));
            bundle.config["linux"]["seccomp"]["flags"] = flags.clone();
            assert_eq!(bundle.results()[0]["errno"], EPERM, "{flags}");
        }
    });
}

#[test]
fn the_mitigation_of_speculation_is_left_off_if_asked() {
    judge(|runtime| {
        let mut bundle = filtered(runtime, on_getsid("SCMP_ACT_ERRNO"), json!([["world"]]));
        bundle.config["linux"]["seccomp"]["flags"] = json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
        let allowed = bundle.report()["status"]["Speculation_Store_Bypass"].clone();
        let outside = std::fs::read_to_string("/proc/self/status").unwrap();
        let outside = outside.lines().find_map(|line| line.strip_prefix("Speculation_Store_Bypass:"));
        assert_eq!(allowed.as_str(), outside.map(str::trim));
    });
}

#[test]
fn a_filter_is_there_with_and_without_new_privileges() {
    judge(|runtime| {
        for (no_new_privileges, user) in [(true, 0), (false, 0), (true, 1000), (false, 1000)] {
            let mut bundle = filtered(runtime, on_getsid("SCMP_ACT_ERRNO"), json!([["world"]]));
            bundle.config["process"]["noNewPrivileges"] = no_new_privileges.into();
            bundle.config["process"]["user"] = json!({"uid": user, "gid": user});
            let report = bundle.report();
            assert_eq!(report["sid"], Value::Null, "{no_new_privileges} {user}");
            assert_eq!(report["status"]["Seccomp"], "2");
            assert_eq!(report["status"]["NoNewPrivs"], if no_new_privileges { "1" } else { "0" });
            assert_eq!(
                report["status"]["Uid"].as_str().unwrap().split(' ').next(),
                Some(user.to_string().as_str())
            );
        }
    });
}

#[test]
fn dockers_own_profile_lets_programs_run() {
    judge(|runtime| {
        // It is no part of the project, and may lie beside it.
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/specs/seccomp-default.json");
        let text = std::fs::read_to_string(path);
        let Ok(text) = text else { skip("seccomp-default.json", "Docker's profile is not on this machine") };
        let profile: Value = serde_json::from_str(&text).unwrap();
        let mut bundle =
            Bundle::new(runtime, json!([["world"], ["call", "unshare", 0x1000_0000], ["call", "vhangup"]]));
        bundle.config["linux"]["seccomp"] = profile_for_x86_64(&profile);
        let results = bundle.results();
        assert_eq!(results[0]["status"]["Seccomp"], "2");
        assert_eq!(results[1]["errno"], EPERM);
        assert_eq!(results[2]["errno"], EPERM);
    });
}

/// The profile as dockerd turns it into the runtime's configuration, for a container with the usual rights.
fn profile_for_x86_64(profile: &Value) -> Value {
    let rules = profile["syscalls"].as_array().unwrap().iter().filter(|rule| {
        let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
        let of = |condition: &Value, key: &str, what: &str| {
            condition[key].as_array().is_some_and(|list| list.iter().any(|one| one == what))
        };
        let any_capability = includes["caps"].as_array().is_some_and(|list| !list.is_empty());
        let wrong_machine = includes["arches"].is_array() && !of(includes, "arches", "amd64");
        !any_capability && !wrong_machine && !of(excludes, "arches", "amd64")
    });
    let rules: Vec<Value> = rules
        .map(|rule| {
            let mut kept = json!({"names": rule["names"], "action": rule["action"]});
            for key in ["errnoRet", "args"] {
                if rule.get(key).is_some_and(|value| !value.is_null()) {
                    kept[key] = rule[key].clone();
                }
            }
            kept
        })
        .collect();
    json!({
        "defaultAction": profile["defaultAction"], "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": rules,
    })
}

/// What a runtime sends to the listener: the state of the container's process, and descriptors.
fn receive(listener: &UnixListener, running: &mut Running) -> (Value, Vec<OwnedFd>) {
    let mut stream = runtimes::accept(listener, running);
    let (mut buffer, mut descriptors) = ([0; 16384], Vec::new());
    let length = sys::socket::recv_fds(&stream, &mut buffer, &mut descriptors).unwrap();
    let mut text = buffer[..length].to_vec();
    // Not all runtimes close the connection at once; what is complete is complete.
    loop {
        if let Ok(state) = serde_json::from_slice(&text) {
            return (state, descriptors);
        }
        let length = stream.read(&mut buffer).unwrap();
        assert_ne!(length, 0, "the state ends early: {}", String::from_utf8_lossy(&text));
        text.extend(&buffer[..length]);
    }
}

#[test]
fn a_listener_answers_for_the_kernel() {
    judge(|runtime| {
        let rules = json!([{"names": ["getsid", "getpriority", "getppid"], "action": "SCMP_ACT_NOTIFY"}]);
        let steps = json!([["call", "getsid", 7], ["call", "getpriority", 1, 2, 3], ["call", "getppid"]]);
        let mut bundle = filtered(runtime, rules, steps);
        let path = bundle.path().join("listener");
        let listener = UnixListener::bind(&path).unwrap();
        bundle.config["linux"]["seccomp"]["listenerPath"] = path.display().to_string().into();
        bundle.config["linux"]["seccomp"]["listenerMetadata"] = "what was agreed".into();
        bundle.config["annotations"] = json!({"org.example": "yes"});
        let (id, path) = (bundle.id(), bundle.path().display().to_string());
        let mut running = bundle.spawn(bundle.command(&["run", &id]));
        let (state, descriptors) = receive(&listener, &mut running);
        assert_eq!(state["metadata"], "what was agreed");
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["state"]["id"], id.as_str());
        assert_eq!(state["state"]["bundle"], path.as_str());
        assert_eq!(state["state"]["annotations"]["org.example"], "yes");
        assert_eq!(state["pid"], state["state"]["pid"]);
        assert!(state["pid"].as_i64().unwrap() > 0 && state["ociVersion"].is_string(), "{state}");
        assert_eq!(descriptors.len(), 1);
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let asked = seccomp::asked(&descriptors[0]).unwrap();
            // The runtime's own last steps may pass here as well.
            let answer = match (asked.number, asked.arguments) {
                (124, [7, ..]) => Answer::Value(4711),
                (140, [1, 2, 3, ..]) => Answer::Errno(61),
                _ => Answer::Continue,
            };
            match seccomp::answer(&descriptors[0], asked.id, answer) {
                // A signal took the caller out of it, and it will ask again: Go's scheduler does that.
                Err(error) if error.raw_os_error() == Some(ENOENT) => continue,
                other => other.unwrap(),
            }
            // The runtime's last steps may ask for their parent as well, before the program does.
            let next = [(124, 7), (140, 1), (110, asked.arguments[0])][seen.len()];
            if (asked.number, asked.arguments[0]) == next {
                seen.push(asked.number);
            }
        }
        let text = running.wait().success();
        assert_eq!(text, "[{\"ok\":4711},{\"errno\":61},{\"ok\":0}]\n");
    });
}

#[test]
fn a_listener_that_is_not_there_is_an_error() {
    judge(|runtime| {
        let mut bundle = filtered(runtime, on_getsid("SCMP_ACT_NOTIFY"), json!([["call", "getsid"]]));
        bundle.config["linux"]["seccomp"]["listenerPath"] = "/not/there".into();
        let error = bundle.refusal();
        assert!(!error.is_empty());
        // To ask nobody is an error as well.
        bundle.config["linux"]["seccomp"].as_object_mut().unwrap().remove("listenerPath");
        assert!(!bundle.refusal().is_empty());
    });
}

#[test]
fn further_processes_are_under_the_filter_too() {
    judge(|runtime| {
        let bundle = filtered(runtime, on_getsid("SCMP_ACT_ERRNO"), json!([["hold"]]));
        bundle.launch();
        let _ = bundle.holding();
        assert_eq!(bundle.exec(&[], &json!([["call", "getsid"]]))[0]["errno"], EPERM);
    });
}
