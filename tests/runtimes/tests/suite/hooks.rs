//! `hooks`: when, where and with what they run, and what their failure does.

use std::fs;
use std::path::{Path, PathBuf};

use runtimes::{Bundle, Runtime, judge};
use serde_json::{Value, json};

const OUTSIDE: [&str; 5] = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];

/// A hook outside that writes what it is given as a line of `log`.
fn reporting(log: &Path, name: &str) -> Value {
    let steps = json!([["hook", log]]).to_string();
    json!({"path": runtimes::probe(), "args": [name, steps], "env": ["HOOK=yes", format!("NAME={name}")]})
}

/// One that ends with this code.
fn ending(code: i32) -> Value {
    json!({"path": runtimes::probe(), "args": ["hook", json!([["exit", code]]).to_string()]})
}

fn lines(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A container that holds, with a hook of each kind that reports; those inside write to `/log/inside`.
fn with_all_hooks(runtime: &Runtime) -> (Bundle, PathBuf) {
    let mut bundle = Bundle::new(runtime, json!([["hold"]]));
    let directory = bundle.path().join("log");
    fs::create_dir(&directory).unwrap();
    let log = directory.join("lines");
    for kind in OUTSIDE {
        bundle.config["hooks"][kind] =
            json!([reporting(&log, &format!("{kind}-1")), reporting(&log, &format!("{kind}-2"))]);
    }
    let steps = json!([["hook", "/log/lines"]]).to_string();
    bundle.config["hooks"]["startContainer"] = json!([{"path": "/probe", "args": ["startContainer-1", steps], "env": ["HOOK=yes", "NAME=startContainer-1"]}]);
    bundle.mount(json!({"destination": "/log", "type": "bind", "source": directory, "options": ["bind"]}));
    bundle.config["annotations"] = json!({"org.example.key": "value"});
    (bundle, log)
}

fn names(lines: &[Value]) -> Vec<String> {
    lines.iter().map(|line| line["args"][0].as_str().unwrap().to_owned()).collect()
}

#[test]
fn they_run_in_their_order_at_their_time() {
    judge(|runtime| {
        let (bundle, log) = with_all_hooks(runtime);
        bundle.create();
        let made = [
            "prestart-1",
            "prestart-2",
            "createRuntime-1",
            "createRuntime-2",
            "createContainer-1",
            "createContainer-2",
        ];
        assert_eq!(names(&lines(&log)), made);
        bundle.start();
        let _ = bundle.holding();
        let started = ["startContainer-1", "poststart-1", "poststart-2"];
        assert_eq!(names(&lines(&log))[made.len()..], started);
        bundle.kill("KILL");
        bundle.wait_until("stopped");
        assert_eq!(lines(&log).len(), made.len() + started.len());
        bundle.ok(&["delete", &bundle.id()]);
        assert_eq!(names(&lines(&log))[made.len() + started.len()..], ["poststop-1", "poststop-2"]);
    });
}

#[test]
fn they_get_the_state_and_their_own_arguments_and_environment() {
    judge(|runtime| {
        let (bundle, log) = with_all_hooks(runtime);
        bundle.launch();
        let _ = bundle.holding();
        let pid = bundle.pid();
        bundle.delete();
        for line in lines(&log) {
            let name = line["args"][0].as_str().unwrap();
            let state = &line["state"];
            let status = match name.split('-').next().unwrap() {
                "prestart" | "createRuntime" | "createContainer" => "creating",
                "startContainer" => "created",
                "poststart" => "running",
                _ => "stopped",
            };
            assert_eq!(state["status"], status, "{name}");
            assert_eq!(state["id"], bundle.id().as_str(), "{name}");
            assert_eq!(state["bundle"], bundle.path().display().to_string().as_str(), "{name}");
            assert_eq!(state["annotations"]["org.example.key"], "value", "{name}");
            assert!(state["ociVersion"].is_string(), "{name}");
            match status {
                "stopped" => assert!(matches!(state["pid"].as_i64(), None | Some(0)), "{name}: {state}"),
                // Inside it is a number inside.
                _ if name.starts_with("createContainer") || status == "created" => assert!(
                    state["pid"].as_i64().is_some_and(|n| n == 1 || n == i64::from(pid)),
                    "{name}: {state}"
                ),
                _ => assert_eq!(state["pid"], pid, "{name}"),
            }
            assert_eq!(line["env"], json!(["HOOK=yes", format!("NAME={name}")]), "{name}");
        }
    });
}

#[test]
fn they_run_in_the_namespaces_that_the_specification_gives_them() {
    judge(|runtime| {
        let (bundle, log) = with_all_hooks(runtime);
        bundle.launch();
        let _ = bundle.holding();
        let of = |process: &str, kind: &str| {
            fs::read_link(format!("/proc/{process}/ns/{kind}")).unwrap().display().to_string()
        };
        let pid = bundle.pid().to_string();
        for line in lines(&log) {
            let name = line["args"][0].as_str().unwrap();
            let inside = name.starts_with("createContainer") || name.starts_with("startContainer");
            for kind in ["net", "uts", "ipc"] {
                let expected = of(if inside { &pid } else { "self" }, kind);
                assert_eq!(line["ns"][kind], expected.as_str(), "{kind} of {name}");
            }
            if inside {
                assert_eq!(line["ns"]["mnt"], of(&pid, "mnt").as_str(), "{name}");
            }
        }
        // The mounts are made already, and the root is not changed yet: what engines' hooks rely on.
        let lines = lines(&log);
        let create = lines.iter().find(|line| line["args"][0] == "createContainer-1").unwrap();
        let targets: Vec<&str> =
            create["mounts"].as_array().unwrap().iter().filter_map(|m| m["target"].as_str()).collect();
        let proc = bundle.rootfs().join("proc").display().to_string();
        assert!(targets.contains(&proc.as_str()), "{targets:?}");
        let start = lines.iter().find(|line| line["args"][0] == "startContainer-1").unwrap();
        assert!(start["mounts"].as_array().unwrap().iter().any(|m| m["target"] == "/proc"), "{start}");
    });
}

#[test]
fn a_failure_before_the_start_takes_the_container_away() {
    judge(|runtime| {
        for kind in ["prestart", "createRuntime", "createContainer"] {
            let mut bundle = Bundle::new(runtime, json!([["hold"]]));
            bundle.config["hooks"][kind] = json!([ending(0), ending(7)]);
            let output = bundle.made("create", &[]);
            assert_ne!(output.code, 0, "{kind}");
            assert!(!output.stderr.trim().is_empty(), "{kind}");
            assert_eq!(bundle.left(), Vec::<String>::new(), "{kind}");
            assert_ne!(bundle.call(&["state", &bundle.id()]).code, 0, "{kind}");
        }
    });
}

#[test]
fn after_a_failure_the_hooks_of_the_end_run() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["hold"]]));
        let log = bundle.path().join("lines");
        bundle.config["hooks"] =
            json!({"createRuntime": [ending(7)], "poststop": [reporting(&log, "poststop")]});
        assert_ne!(bundle.made("create", &[]).code, 0);
        assert_eq!(names(&lines(&log)), ["poststop"]);
    });
}

#[test]
fn a_failure_inside_keeps_the_program_from_running() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.config["hooks"]["startContainer"] =
            json!([{"path": "/probe", "args": ["hook", json!([["exit", 7]]).to_string()]}]);
        bundle.create();
        assert_ne!(bundle.call(&["start", &bundle.id()]).code, 0);
        bundle.wait_until("stopped");
        assert!(!bundle.lines().iter().any(|line| line.get("holds").is_some()), "{:?}", bundle.lines());
    });
}

#[test]
fn a_failure_after_the_start_stops_the_container() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.config["hooks"]["poststart"] = json!([ending(7)]);
        bundle.create();
        assert_ne!(bundle.call(&["start", &bundle.id()]).code, 0);
        bundle.wait_until("stopped");
    });
}

#[test]
fn a_failure_at_the_end_does_not_keep_the_others_from_running() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["hold"]]));
        let log = bundle.path().join("lines");
        bundle.config["hooks"]["poststop"] = json!([ending(7), reporting(&log, "second")]);
        bundle.launch();
        bundle.kill("KILL");
        bundle.wait_until("stopped");
        let _ = bundle.call(&["delete", &bundle.id()]);
        assert_eq!(names(&lines(&log)), ["second"]);
        assert_eq!(bundle.left(), Vec::<String>::new());
    });
}

#[test]
fn one_that_takes_too_long_is_a_failure() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["hold"]]));
        let steps = json!([["sleep", 20_000]]).to_string();
        bundle.config["hooks"]["createRuntime"] =
            json!([{"path": runtimes::probe(), "args": ["hook", steps], "timeout": 1}]);
        let started = std::time::Instant::now();
        assert_ne!(bundle.made("create", &[]).code, 0);
        let took = started.elapsed().as_secs_f32();
        assert!((0.9..15.0).contains(&took), "{took} s");
        assert_eq!(bundle.left(), Vec::<String>::new());
    });
}

#[test]
fn one_that_is_not_there_is_a_failure() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.config["hooks"]["createRuntime"] = json!([{"path": "/not/there"}]);
        let output = bundle.made("create", &[]);
        assert_ne!(output.code, 0);
        assert!(output.stderr.contains("/not/there") || output.stderr.contains("hook"), "{}", output.stderr);
        assert_eq!(bundle.left(), Vec::<String>::new());
    });
}
