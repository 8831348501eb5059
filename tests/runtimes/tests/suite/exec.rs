//! `exec`: further processes in a container that runs.

use std::fs;

use runtimes::{Bundle, Runtime, judge};
use serde_json::{Value, json};

fn holding(runtime: &Runtime) -> Bundle {
    let bundle = Bundle::new(runtime, json!([["hold"]]));
    bundle.launch();
    let _ = bundle.holding();
    bundle
}

fn of_process(pid: i32, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()
}

#[test]
fn it_is_where_the_container_is() {
    judge(|runtime| {
        let bundle = holding(runtime);
        let pid = bundle.pid();
        let report = &bundle.exec(&[], &json!([["world"]]))[0];
        for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"] {
            assert_eq!(report["ns"][kind], of_process(pid, kind).as_str(), "{kind}");
        }
        assert_ne!(report["pid"], 1);
        let groups = report["cgroup"].as_str().unwrap();
        assert_eq!(groups.lines().find(|line| !line.ends_with(":/")), None, "{groups}");
        assert_eq!(report["env"], json!(["PATH=/", "HOME=/"]));
        assert_eq!(report["cwd"], "/");
        let numbers: Vec<&String> = report["fds"].as_object().unwrap().keys().collect();
        assert_eq!(numbers, ["0", "1", "2"], "{}", report["fds"]);
    });
}

#[test]
fn it_has_the_containers_rights() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["world"], ["hold"]]));
        bundle.config["process"]["noNewPrivileges"] = true.into();
        bundle.launch();
        let first = bundle.holding().swap_remove(0);
        let second = &bundle.exec(&[], &json!([["world"]]))[0];
        for field in [
            "CapBnd",
            "CapEff",
            "CapPrm",
            "CapInh",
            "CapAmb",
            "NoNewPrivs",
            "Uid",
            "Gid",
            "Groups",
            "Umask",
            "Seccomp",
        ] {
            assert_eq!(first["status"][field], second["status"][field], "{field}");
        }
        assert_ne!(second["keyring"], sys::trial::session_keyring().unwrap());
    });
}

#[test]
fn it_has_the_containers_limits() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["world"], ["hold"]]));
        bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}, {"type": "RLIMIT_CORE", "soft": 1, "hard": 2}]);
        bundle.config["process"]["oomScoreAdj"] = 222.into();
        bundle.launch();
        let first = bundle.holding().swap_remove(0);
        let second = &bundle.exec(&[], &json!([["world"]]))[0];
        assert_eq!(first["limits"], second["limits"]);
        assert_eq!(first["oom_score_adj"], second["oom_score_adj"]);
    });
}

#[test]
fn flags_change_what_it_is() {
    judge(|runtime| {
        let bundle = holding(runtime);
        let flags = [
            "--cwd",
            "/tmp",
            "--env",
            "ONE=1",
            "--env",
            "TWO=two words",
            "--user",
            "1000:50",
            "--no-new-privs",
        ];
        let report = &bundle.exec(&flags, &json!([["world"]]))[0];
        assert_eq!(report["cwd"], "/tmp");
        let env: Vec<&str> = report["env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(
            env.contains(&"ONE=1") && env.contains(&"TWO=two words") && env.contains(&"PATH=/"),
            "{env:?}"
        );
        let status = &report["status"];
        assert_eq!((&status["Uid"], &status["Gid"]), (&json!("1000 1000 1000 1000"), &json!("50 50 50 50")));
        assert_eq!(status["NoNewPrivs"], "1");
        assert_eq!(status["CapEff"], "0000000000000000");
    });
}

#[test]
fn groups_can_be_added() {
    judge(|runtime| {
        let bundle = holding(runtime);
        let report =
            &bundle.exec(&["--additional-gids", "7", "--additional-gids", "8"], &json!([["world"]]))[0];
        let groups = report["status"]["Groups"].as_str().unwrap();
        assert!(groups.split(' ').any(|g| g == "7") && groups.split(' ').any(|g| g == "8"), "{groups}");
    });
}

#[test]
fn a_capability_can_be_added() {
    judge(|runtime| {
        const SYS_TIME: u64 = 1 << 25;
        let bundle = holding(runtime);
        let bits =
            |report: &Value| u64::from_str_radix(report["status"]["CapEff"].as_str().unwrap(), 16).unwrap();
        let plain = bits(&bundle.exec(&[], &json!([["world"]]))[0]);
        // One that this machine's root has.
        let more = bits(&bundle.exec(&["--cap", "CAP_SYS_TIME"], &json!([["world"]]))[0]);
        assert_eq!((plain & SYS_TIME, more), (0, plain | SYS_TIME));
    });
}

#[test]
fn a_whole_process_comes_from_a_file() {
    judge(|runtime| {
        let bundle = holding(runtime);
        let steps = json!([["world"]]).to_string();
        let process = json!({
            "args": ["/probe", steps], "cwd": "/tmp", "env": ["ALONE=1", "HOME=/x"], "user": {"uid": 5, "gid": 6, "additionalGids": [7]},
            "capabilities": {"bounding": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "inheritable": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 55, "hard": 66}], "noNewPrivileges": true,
        });
        let file = bundle.path().join("process.json");
        fs::write(&file, process.to_string()).unwrap();
        let text = bundle
            .finish(bundle.bare(&["exec", "--process", file.to_str().unwrap(), &bundle.id()]))
            .success();
        let results: Vec<Value> = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        let report = &results[0];
        assert_eq!((&report["cwd"], &report["env"]), (&json!("/tmp"), &json!(["ALONE=1", "HOME=/x"])));
        let status = &report["status"];
        assert_eq!(
            (&status["Uid"], &status["Gid"], &status["Groups"]),
            (&json!("5 5 5 5"), &json!("6 6 6 6"), &json!("7"))
        );
        assert_eq!(
            (&status["CapEff"], &status["CapBnd"]),
            (&json!("0000000000000001"), &json!("0000000000000001"))
        );
        assert_eq!(report["limits"]["RLIMIT_NOFILE"], json!([55, 66]));
        assert_eq!(status["NoNewPrivs"], "1");
    });
}

#[test]
fn its_exit_code_comes_back() {
    judge(|runtime| {
        let bundle = holding(runtime);
        assert_eq!(bundle.exec_output(&[], &json!([["exit", 5]])).code, 5);
        assert_eq!(bundle.exec_output(&[], &json!([["signal", 9]])).code, 137);
        let id = bundle.id();
        let missing = bundle.finish(bundle.bare(&["exec", &id, "/not/there"]));
        assert!(matches!(missing.code, 1 | 127 | 255), "{missing:?}");
        assert!(missing.stderr.contains("/not/there") || missing.stderr.contains("not found"), "{missing:?}");
        fs::write(bundle.rootfs().join("plain"), "text").unwrap();
        let plain = bundle.finish(bundle.bare(&["exec", &id, "/plain"]));
        assert!(matches!(plain.code, 1 | 126 | 255), "{plain:?}");
    });
}

#[test]
fn its_streams_are_passed_through() {
    judge(|runtime| {
        let bundle = holding(runtime);
        let mut command = bundle.bare(&["exec", &bundle.id(), "/probe", "[[\"stdin\"]]"]);
        let input = bundle.path().join("input");
        fs::write(&input, "what was written").unwrap();
        command.stdin(fs::File::open(input).unwrap());
        assert_eq!(bundle.finish(command).success(), "[{\"ok\":\"what was written\"}]\n");
    });
}

#[test]
fn a_process_in_the_background_leaves_its_number() {
    judge(|runtime| {
        let bundle = holding(runtime);
        let file = bundle.path().join("pid");
        let flags = [
            "exec",
            "--detach",
            "--pid-file",
            file.to_str().unwrap(),
            &bundle.id(),
            "/probe",
            "[[\"hold\"]]",
        ];
        bundle.finish(bundle.bare(&flags)).success();
        let pid: i32 = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        assert_eq!(of_process(pid, "pid"), of_process(bundle.pid(), "pid"));
        let list: Vec<i32> =
            serde_json::from_str(&bundle.ok(&["ps", "--format", "json", &bundle.id()])).unwrap();
        assert!(list.contains(&pid), "{list:?}");
    });
}

#[test]
fn what_is_paused_takes_no_processes_unless_told_to() {
    judge(|runtime| {
        let bundle = holding(runtime);
        bundle.ok(&["pause", &bundle.id()]);
        let error = bundle.exec_output(&[], &json!([["world"]])).failure();
        assert!(error.contains("paused"), "{error}");
        // It comes into a group that stands still, and goes on with it.
        let id = bundle.id();
        let mut running =
            bundle.spawn(bundle.bare(&["exec", "--ignore-paused", &id, "/probe", "[[\"world\"]]"]));
        kit::wait_for("the process", || {
            assert!(running.runs(), "it has ended: {}", running.written());
            let list = bundle.ok(&["ps", "--format", "json", &id]);
            (serde_json::from_str::<Vec<i32>>(&list).unwrap().len() > 1).then_some(())
        });
        bundle.ok(&["resume", &id]);
        running.wait().success();
    });
}

#[test]
fn what_has_ended_takes_no_processes() {
    judge(|runtime| {
        let bundle = holding(runtime);
        bundle.kill("KILL");
        bundle.wait_until("stopped");
        let error = bundle.exec_output(&[], &json!([["world"]])).failure();
        assert!(error.contains("stopped") || error.contains("running"), "{error}");
        let other = Bundle::new(runtime, json!([["hold"]]));
        let error = other.exec_output(&[], &json!([["world"]])).failure();
        assert!(error.contains("exist") || error.contains("No such file"), "{error}");
    });
}

#[test]
fn what_was_made_takes_processes_before_it_is_started() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.create();
        let report = &bundle.exec(&[], &json!([["world"]]))[0];
        assert_eq!(report["ns"]["pid"], of_process(bundle.pid(), "pid").as_str());
    });
}

#[test]
fn it_can_be_put_into_a_group_below() {
    judge(|runtime| {
        let bundle = holding(runtime);
        let below = format!("{}/below", bundle.cgroup());
        if runtimes::cgroup::unified() {
            // The controllers must not be given on while there are processes above.
            for directory in runtimes::cgroup::directories(&bundle.cgroup()) {
                fs::create_dir(directory.join("below")).unwrap();
            }
        } else {
            for directory in runtimes::cgroup::directories(&bundle.cgroup()) {
                fs::create_dir(directory.join("below")).unwrap();
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    if let Ok(text) = fs::read_to_string(directory.join(file)) {
                        fs::write(directory.join("below").join(file), text).unwrap();
                    }
                }
            }
        }
        let report = &bundle.exec(&["--cgroup", "below"], &json!([["world"]]))[0];
        let groups = report["cgroup"].as_str().unwrap();
        let outside = groups.lines().filter(|line| !line.starts_with("0::") || runtimes::cgroup::unified());
        let wrong: Vec<&str> = outside.filter(|line| !line.ends_with(":/below")).collect();
        assert_eq!(wrong, Vec::<&str>::new());
        for directory in runtimes::cgroup::directories(&below) {
            fs::remove_dir(directory).unwrap();
        }
    });
}

#[test]
fn it_cannot_be_put_into_a_group_outside() {
    judge(|runtime| {
        let bundle = holding(runtime);
        for path in ["../outside", "/../outside", "not-there"] {
            let error = bundle.exec_output(&["--cgroup", path], &json!([["world"]])).failure();
            assert!(!error.is_empty());
        }
        assert_eq!(runtimes::cgroup::directories("/outside"), Vec::<std::path::PathBuf>::new());
    });
}

#[test]
fn it_runs_on_the_processors_it_is_given() {
    judge(|runtime| {
        let online = std::thread::available_parallelism().unwrap().get();
        if online < 2 {
            runtimes::skip("two processors", "this machine has one");
        }
        let bundle = holding(runtime);
        let steps = json!([["world"]]).to_string();
        for (affinity, expected) in [
            (json!({"initial": "0-1", "final": "1"}), "1"),
            (json!({"initial": "0", "final": "0-1"}), "0-1"),
            (json!({"initial": "1"}), "0-1"),
            (json!({"final": "0"}), "0"),
        ] {
            let process = json!({
                "args": ["/probe", steps], "cwd": "/", "env": ["PATH=/"], "user": {"uid": 0, "gid": 0}, "execCPUAffinity": affinity,
            });
            let file = bundle.path().join("process.json");
            fs::write(&file, process.to_string()).unwrap();
            let text = bundle
                .finish(bundle.bare(&["exec", "--process", file.to_str().unwrap(), &bundle.id()]))
                .success();
            let results: Vec<Value> = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            assert_eq!(results[0]["status"]["Cpus_allowed_list"], expected, "{affinity}");
        }
    });
}

#[test]
fn it_joins_a_user_namespace() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.map_users(100_000, 65536);
        bundle.launch();
        let _ = bundle.holding();
        let report = &bundle.exec(&["--user", "5:6"], &json!([["world"]]))[0];
        assert_eq!(report["ns"]["user"], of_process(bundle.pid(), "user").as_str());
        assert_eq!(report["status"]["Uid"], "5 5 5 5");
    });
}

#[test]
fn descriptors_can_be_given_on() {
    judge(|runtime| {
        let bundle = holding(runtime);
        let text = bundle.path().join("given");
        fs::write(&text, "through a descriptor").unwrap();
        let exec = bundle.bare(&[
            "exec",
            "--preserve-fds",
            "1",
            &bundle.id(),
            "/probe",
            "[[\"world\"],[\"read-fd\",3]]",
        ]);
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", "exec 3< \"$0\"; exec 4< \"$0\"; exec \"$@\""])
            .arg(&text)
            .arg(exec.get_program())
            .args(exec.get_args());
        let text = bundle.finish(command).success();
        let results: Vec<Value> = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(results[1]["ok"], "through a descriptor");
        let numbers: Vec<&String> = results[0]["fds"].as_object().unwrap().keys().collect();
        assert_eq!(numbers, ["0", "1", "2", "3"], "{}", results[0]["fds"]);
    });
}
