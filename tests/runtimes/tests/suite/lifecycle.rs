//! States, and the commands that lead from one to the next.

use std::fs;
use std::path::Path;

use runtimes::{Bundle, judge};
use serde_json::{Value, json};

#[test]
fn from_created_to_gone() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.create();
        assert_eq!(bundle.status(), "created");
        let pid = bundle.pid();
        // Nothing of the program has run.
        assert_eq!(bundle.lines(), Vec::<Value>::new());
        let name = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(!String::from_utf8_lossy(&name).starts_with("/probe"), "{}", String::from_utf8_lossy(&name));
        bundle.start();
        let _ = bundle.holding();
        assert_eq!((bundle.status(), bundle.pid()), ("running".to_owned(), pid));
        let name = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(String::from_utf8_lossy(&name).starts_with("/probe"), "{}", String::from_utf8_lossy(&name));
        bundle.kill("TERM");
        bundle.wait_until("stopped");
        assert_eq!(bundle.lines().last(), Some(&json!({"signal": 15})));
        bundle.ok(&["delete", &bundle.id()]);
        assert_ne!(bundle.call(&["state", &bundle.id()]).code, 0);
        assert_eq!(bundle.left(), Vec::<String>::new());
    });
}

#[test]
fn the_state_is_that_of_the_specification() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.config["annotations"] = json!({"org.example.one": "1", "org.example.two": "2"});
        bundle.create();
        let state = bundle.state();
        assert_eq!(state["id"], bundle.id().as_str());
        assert_eq!(state["bundle"], bundle.path().display().to_string().as_str());
        assert_eq!(state["annotations"], bundle.config["annotations"]);
        assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{state}");
        assert!(Path::new(&format!("/proc/{}", state["pid"])).exists());
        bundle.start();
        bundle.kill("KILL");
        bundle.wait_until("stopped");
        assert_eq!(bundle.state()["annotations"], bundle.config["annotations"]);
        assert!(matches!(bundle.state()["pid"].as_i64(), None | Some(0)), "{}", bundle.state());
    });
}

#[test]
fn the_configuration_counts_as_it_was_when_the_container_was_made() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["world"], ["hold"]]));
        bundle.create();
        bundle.config["process"]["args"] = json!(["/not/there"]);
        bundle.config["process"]["env"] = json!(["CHANGED=1"]);
        bundle.ok(&["start", &bundle.id()]);
        let report = &bundle.holding()[0];
        assert_eq!(report["args"][0], "/probe");
        assert_eq!(report["env"], json!(["PATH=/", "HOME=/"]));
    });
}

#[test]
fn a_name_is_taken_once() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.launch();
        let _ = bundle.holding();
        for verb in ["create", "run"] {
            let error = bundle.call(&[verb, &bundle.id()]).failure();
            assert!(error.contains("exist"), "{error}");
        }
        assert_eq!(bundle.status(), "running");
        bundle.kill("KILL");
        bundle.wait_until("stopped");
        assert!(bundle.call(&["create", &bundle.id()]).failure().contains("exist"));
    });
}

#[test]
fn only_what_was_made_can_be_started_and_once() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        let error = bundle.call(&["start", &bundle.id()]).failure();
        assert!(error.contains("exist") || error.contains("No such file"), "{error}");
        bundle.create();
        bundle.start();
        let _ = bundle.holding();
        let _ = bundle.call(&["start", &bundle.id()]).failure();
        assert_eq!(bundle.status(), "running");
        bundle.kill("KILL");
        bundle.wait_until("stopped");
        let _ = bundle.call(&["start", &bundle.id()]).failure();
        assert_eq!(bundle.status(), "stopped");
    });
}

#[test]
fn signals_by_name_and_number_reach_the_first_process() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.launch();
        let _ = bundle.holding();
        for (name, number) in [("USR1", 10), ("SIGUSR2", 12), ("1", 1), ("37", 37), ("WINCH", 28)] {
            bundle.kill(name);
            kit::wait_for(name, || bundle.lines().contains(&json!({"signal": number})).then_some(()));
        }
        // The one that is sent if none is named.
        bundle.ok(&["kill", &bundle.id()]);
        bundle.wait_until("stopped");
        assert_eq!(bundle.lines().last(), Some(&json!({"signal": 15})));
    });
}

#[test]
fn the_dead_get_no_signals() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        let error = bundle.call(&["kill", &bundle.id(), "KILL"]).failure();
        assert!(error.contains("exist") || error.contains("No such file"), "{error}");
        bundle.launch();
        let _ = bundle.holding();
        let error = bundle.call(&["kill", &bundle.id(), "NOSUCH"]).failure();
        assert!(error.to_lowercase().contains("signal"), "{error}");
        bundle.kill("KILL");
        bundle.wait_until("stopped");
        let error = bundle.call(&["kill", &bundle.id(), "TERM"]).failure();
        assert!(
            error.contains("not running") || error.contains("stopped") || error.contains("process"),
            "{error}"
        );
    });
}

#[test]
fn a_container_that_was_only_made_can_be_killed() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.create();
        bundle.kill("KILL");
        bundle.wait_until("stopped");
        assert_eq!(bundle.lines(), Vec::<Value>::new());
        bundle.ok(&["delete", &bundle.id()]);
    });
}

#[test]
fn all_processes_get_the_signal_if_it_is_for_all() {
    judge(|runtime| {
        let mut bundle =
            Bundle::new(runtime, json!([["spawn", [["hold"]]], ["spawn", [["hold"]]], ["hold"]]));
        // In a namespace of the host's nobody dies because the first one did.
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
        bundle.launch();
        let results = bundle.holding();
        let others: Vec<String> = results[..2].iter().map(|r| format!("/proc/{}/cmdline", r["ok"])).collect();
        bundle.ok(&["kill", "--all", &bundle.id(), "KILL"]);
        // They may be without a parent that reaps them; a zombie has no command line.
        kit::wait_for("their end", || {
            others.iter().all(|path| fs::read(path).unwrap_or_default().is_empty()).then_some(())
        });
        bundle.wait_until("stopped");
    });
}

#[test]
fn what_runs_is_not_deleted_unless_it_is_forced() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.launch();
        let _ = bundle.holding();
        let pid = bundle.pid();
        let error = bundle.call(&["delete", &bundle.id()]).failure();
        assert!(error.contains("stopped") || error.contains("running"), "{error}");
        assert_eq!(bundle.status(), "running");
        bundle.ok(&["delete", "--force", &bundle.id()]);
        assert!(!Path::new(&format!("/proc/{pid}/exe")).exists());
        assert_eq!(bundle.left(), Vec::<String>::new());
    });
}

#[test]
fn deleting_what_is_not_there_fails_unless_it_is_forced() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        let _ = bundle.call(&["delete", &bundle.id()]).failure();
        bundle.ok(&["delete", "--force", &bundle.id()]);
    });
}

#[test]
fn processes_that_are_left_end_with_the_container() {
    judge(|runtime| {
        const OTHER: u64 = 6_000;
        let mut bundle = Bundle::new(runtime, json!([["spawn", [["sleep", OTHER]]], ["exit", 3]]));
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
        let started = std::time::Instant::now();
        let output = bundle.run();
        assert_eq!(output.code, 3);
        assert!(started.elapsed().as_millis() < u128::from(OTHER) - 1000, "it was waited for");
        let results: Vec<Value> = serde_json::from_str(output.stdout.lines().next().unwrap()).unwrap();
        let path = format!("/proc/{}/cmdline", results[0]["ok"]);
        kit::wait_for("its end", || fs::read(&path).unwrap_or_default().is_empty().then_some(()));
        assert_eq!(bundle.left(), Vec::<String>::new());
    });
}

#[test]
fn processes_stand_still_while_it_is_paused() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.launch();
        let _ = bundle.holding();
        bundle.ok(&["pause", &bundle.id()]);
        assert_eq!(bundle.status(), "paused");
        bundle.kill("USR1");
        let lines = bundle.lines().len();
        bundle.ok(&["resume", &bundle.id()]);
        assert_eq!(bundle.status(), "running");
        kit::wait_for("the signal", || (bundle.lines().len() > lines).then_some(()));
    });
}

#[test]
fn what_does_not_stand_still_cannot_go_on() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.launch();
        let _ = bundle.holding();
        let _ = bundle.call(&["resume", &bundle.id()]).failure();
        bundle.ok(&["pause", &bundle.id()]);
        let _ = bundle.call(&["pause", &bundle.id()]).failure();
    });
}

#[test]
fn what_is_paused_can_be_deleted() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.launch();
        let _ = bundle.holding();
        bundle.ok(&["pause", &bundle.id()]);
        bundle.ok(&["delete", "--force", &bundle.id()]);
        assert_eq!(bundle.left(), Vec::<String>::new());
    });
}

#[test]
fn containers_are_listed() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        assert_eq!(bundle.ok(&["list", "--quiet"]), "");
        bundle.launch();
        let _ = bundle.holding();
        assert_eq!(bundle.ok(&["list", "-q"]).trim(), bundle.id());
        let list: Value = serde_json::from_str(&bundle.ok(&["list", "--format", "json"])).unwrap();
        let one = &list[0];
        assert_eq!((&one["id"], &one["status"]), (&json!(bundle.id()), &json!("running")));
        assert_eq!((&one["pid"], &one["bundle"]), (&json!(bundle.pid()), &json!(bundle.path())));
        assert!(one["created"].as_str().unwrap().starts_with("20"), "{one}");
        let table = bundle.ok(&["list"]);
        let (head, row) = table.split_once('\n').unwrap();
        assert!(head.contains("PID") && head.contains("STATUS") && head.contains("BUNDLE"), "{head}");
        assert!(row.contains(&bundle.id()) && row.contains("running"), "{row}");
    });
}

#[test]
fn processes_are_listed() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["spawn", [["hold"]]], ["hold"]]));
        bundle.launch();
        let _ = bundle.holding();
        let list: Vec<i32> =
            serde_json::from_str(&bundle.ok(&["ps", "--format", "json", &bundle.id()])).unwrap();
        assert!(list.len() == 2 && list.contains(&bundle.pid()), "{list:?}");
        let table = bundle.ok(&["ps", &bundle.id()]);
        assert!(table.lines().next().unwrap().contains("PID"), "{table}");
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(list.iter().all(|pid| table.contains(&pid.to_string())), "{table}");
    });
}
