//! The command line: flags that all commands share, and commands that are about no container.

use std::fs;
use std::process::Command;

use runtimes::{Bundle, judge};
use serde_json::{Value, json};

#[test]
fn records_are_kept_where_the_root_is() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.create();
        assert!(bundle.records().join(bundle.id()).is_dir());
        let elsewhere = bundle.path().join("elsewhere");
        let mut command = bundle.runtime.command();
        command.arg("--root").arg(&elsewhere).args(["state", &bundle.id()]);
        assert_ne!(bundle.finish(command).code, 0);
    });
}

#[test]
fn flags_can_be_written_in_every_way() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["exit", 6]]));
        let path = bundle.path().display().to_string();
        let id = bundle.id();
        for flags in [vec!["--bundle", &path], vec!["-b", &path], vec![&format!("--bundle={path}")]] {
            let mut args = vec!["run"];
            args.extend(flags.iter().map(|flag| &**flag));
            args.push(&id);
            let mut command = bundle.command(&args);
            command.current_dir("/");
            assert_eq!(bundle.finish(command).code, 6, "{flags:?}");
        }
    });
}

#[test]
fn a_file_gets_the_number_of_the_first_process() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        let file = bundle.path().join("pid");
        bundle.create_with(&["--pid-file", file.to_str().unwrap()]);
        assert_eq!(fs::read_to_string(file).unwrap(), bundle.pid().to_string());
    });
}

#[test]
fn a_container_is_kept_if_it_is_asked_for() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["exit", 3]]));
        assert_eq!(bundle.call(&["run", "--keep", &bundle.id()]).code, 3);
        assert_eq!(bundle.status(), "stopped");
        bundle.ok(&["delete", &bundle.id()]);
    });
}

#[test]
fn descriptors_are_given_on_if_it_is_asked_for() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["world"], ["read-fd", 3], ["read-fd", 4]]));
        let id = bundle.id();
        let run = bundle.command(&["run", "--preserve-fds", "2", &id]);
        fs::write(bundle.path().join("three"), "the third").unwrap();
        fs::write(bundle.path().join("four"), "the fourth").unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec 3< three 4< four 5< four; exec \"$@\"", "sh"])
            .arg(run.get_program())
            .args(run.get_args());
        command.current_dir(bundle.path());
        let text = bundle.finish(command).success();
        let results: Vec<Value> = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!((&results[1]["ok"], &results[2]["ok"]), (&json!("the third"), &json!("the fourth")));
        let numbers: Vec<&String> = results[0]["fds"].as_object().unwrap().keys().collect();
        assert_eq!(numbers, ["0", "1", "2", "3", "4"], "{}", results[0]["fds"]);
    });
}

#[test]
fn errors_go_to_the_log_as_json_or_text() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        for format in ["json", "text"] {
            let log = bundle.path().join(format!("log.{format}"));
            let mut command = bundle.runtime.command();
            command.arg("--root").arg(bundle.records()).arg("--log").arg(&log).args([
                "--log-format",
                format,
                "state",
                "no-such-container",
            ]);
            let output = bundle.finish(command);
            assert_eq!(output.code, 1, "{output:?}");
            let text = fs::read_to_string(&log).unwrap();
            let line = text.lines().last().unwrap();
            if format == "json" {
                let entry: Value = serde_json::from_str(line).unwrap();
                assert_eq!(entry["level"], "error");
                let message = entry["msg"].as_str().unwrap();
                assert!(message.contains("exist") || message.contains("No such file"), "{entry}");
                assert!(entry["time"].as_str().unwrap().starts_with("20"), "{entry}");
            } else {
                assert!(line.contains("exist") || line.contains("No such file"), "{line}");
            }
        }
    });
}

#[test]
fn an_example_can_be_run() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["world"]]));
        let place = bundle.path().join("example");
        fs::create_dir(&place).unwrap();
        let mut command = bundle.runtime.command();
        command.arg("spec").current_dir(&place);
        bundle.finish(command).success();
        let mut example: Value =
            serde_json::from_slice(&fs::read(place.join("config.json")).unwrap()).unwrap();
        assert_eq!(example["root"]["path"], "rootfs");
        assert!(example["ociVersion"].as_str().unwrap().starts_with("1."));
        example["process"]["args"] = bundle.config["process"]["args"].clone();
        example["process"]["terminal"] = false.into();
        example["linux"]["cgroupsPath"] = bundle.config["linux"]["cgroupsPath"].clone();
        bundle.config = example;
        let report = bundle.report();
        assert_eq!((&report["pid"], &report["status"]["NoNewPrivs"]), (&json!(1), &json!("1")));
        // One that is there is not overwritten.
        let mut command = bundle.runtime.command();
        command.arg("spec").current_dir(&place);
        assert_ne!(bundle.finish(command).code, 0);
    });
}

#[test]
fn an_example_for_an_ordinary_user() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["world"]]));
        let place = bundle.path().join("example");
        fs::create_dir(&place).unwrap();
        let mut command = bundle.runtime.command();
        command.args(["spec", "--rootless"]).current_dir(&place);
        bundle.finish(command).success();
        let example: Value = serde_json::from_slice(&fs::read(place.join("config.json")).unwrap()).unwrap();
        let kinds: Vec<&str> = example["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|n| n["type"].as_str())
            .collect();
        assert!(kinds.contains(&"user"), "{kinds:?}");
        assert_eq!(example["linux"]["uidMappings"][0]["containerID"], 0);
        assert!(
            example["linux"].get("resources").is_none_or(Value::is_null),
            "{}",
            example["linux"]["resources"]
        );
    });
}

#[test]
fn features_are_told() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["world"]]));
        let features: Value = serde_json::from_str(&bundle.ok(&["features"])).unwrap();
        assert!(features["ociVersionMin"].is_string() && features["ociVersionMax"].is_string());
        for hook in
            ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
        {
            assert!(features["hooks"].as_array().unwrap().contains(&json!(hook)), "{hook}");
        }
        for option in ["ro", "rbind", "rslave", "rro", "nosuid"] {
            assert!(features["mountOptions"].as_array().unwrap().contains(&json!(option)), "{option}");
        }
        let linux = &features["linux"];
        for kind in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
            assert!(linux["namespaces"].as_array().unwrap().contains(&json!(kind)), "{kind}");
        }
        assert!(linux["capabilities"].as_array().unwrap().contains(&json!("CAP_CHOWN")));
        assert_eq!((&linux["cgroup"]["v1"], &linux["cgroup"]["v2"]), (&json!(true), &json!(true)));
        assert_eq!(linux["seccomp"]["enabled"], true);
        assert!(linux["seccomp"]["actions"].as_array().unwrap().contains(&json!("SCMP_ACT_NOTIFY")));
    });
}

#[test]
fn versions_and_help_are_told() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["world"]]));
        let version = bundle.ok(&["--version"]);
        assert!(version.contains("spec: 1."), "{version}");
        let help = bundle.ok(&["--help"]);
        for command in ["create", "start", "state", "kill", "delete", "exec", "run"] {
            assert!(help.contains(command), "{command}");
        }
    });
}

#[test]
fn the_figures_of_a_container_are_told() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["memory", 8_388_608], ["spawn", [["hold"]]], ["hold"]]));
        bundle.launch();
        let _ = bundle.holding();
        let event: Value = serde_json::from_str(&bundle.ok(&["events", "--stats", &bundle.id()])).unwrap();
        assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(bundle.id())));
        let data = &event["data"];
        assert_eq!(data["pids"]["current"], 2, "{data}");
        assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{data}");
        assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{data}");
    });
}

#[test]
fn running_out_of_memory_is_told() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.config["linux"]["resources"]["memory"] = json!({"limit": 33_554_432});
        bundle.launch();
        let _ = bundle.holding();
        let id = bundle.id();
        let mut watcher = bundle.bare(&["events", "--interval", "1h", &id]);
        watcher
            .stdout(fs::File::create(bundle.path().join("events")).unwrap())
            .stderr(std::process::Stdio::null());
        let mut child = watcher.spawn().unwrap();
        let told = || fs::read_to_string(bundle.path().join("events")).unwrap_or_default();
        // A notice is only for who listens already; the first figures may come first. So it is tried again until it is heard.
        let heard = kit::wait_for("the notice", || {
            let output = bundle.exec_output(&[], &json!([["memory", 134_217_728]]));
            assert_ne!(output.code, 0, "{output:?}");
            assert!(child.try_wait().unwrap().is_none(), "it does not watch: {}", told());
            told().contains("\"oom\"").then(told)
        });
        assert!(heard.lines().any(|line| line.contains("\"type\":\"oom\"") && line.contains(&id)), "{heard}");
        bundle.delete();
        // It ends with the container.
        kit::wait_for("its end", || child.try_wait().unwrap());
    });
}
