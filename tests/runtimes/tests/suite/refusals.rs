//! Bad input: refused with one line that names what is wrong, and nothing left.

use std::fs;

use runtimes::{Bundle, Kind, judge};
use serde_json::json;

/// What the runtime says to this change of a good configuration. Ours says it in one line, with runc's exit code.
#[track_caller]
fn refused(runtime: &runtimes::Runtime, words: &[&str], change: impl FnOnce(&mut Bundle)) {
    let mut bundle = Bundle::new(runtime, json!([["hold"]]));
    change(&mut bundle);
    let output = bundle.made("create", &[]);
    let error = output.stderr;
    assert_ne!(output.code, 0, "it was made");
    assert_eq!(bundle.left(), Vec::<String>::new(), "after {error}");
    if runtime.kind == Kind::Corten {
        assert_eq!((output.code, error.lines().count()), (1, 1), "{error}");
        for word in words {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
    }
    assert!(!error.trim().is_empty());
}

#[test]
fn a_configuration_that_is_missing_or_no_json() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        let error = bundle.finish(bundle.bare(&["create", &bundle.id()])).failure();
        assert!(error.contains("config.json"), "{error}");
        fs::write(bundle.path().join("config.json"), "{\"ociVersion\": ").unwrap();
        let _ = bundle.finish(bundle.bare(&["create", &bundle.id()])).failure();
        assert_eq!(bundle.left(), Vec::<String>::new());
    });
}

#[test]
fn a_field_of_the_wrong_kind() {
    judge(|runtime| {
        refused(runtime, &["config.json"], |b| b.config["process"]["args"] = "not a list".into());
        refused(runtime, &["config.json"], |b| b.config["process"]["user"]["uid"] = "root".into());
        refused(runtime, &["config.json"], |b| b.config["linux"]["namespaces"] = json!([{"type": 5}]));
        refused(runtime, &["config.json"], |b| b.config["root"] = json!([]));
    });
}

#[test]
fn a_value_that_is_none_of_those_there_are() {
    judge(|runtime| {
        refused(runtime, &["nothing"], |b| {
            b.config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "nothing"}]);
        });
        refused(runtime, &["SCMP_ACT_NOTHING"], |b| {
            b.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_NOTHING", "syscalls": []});
        });
        refused(runtime, &["RLIMIT_NOTHING"], |b| {
            b.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOTHING", "soft": 1, "hard": 1}]);
        });
    });
}

#[test]
fn a_root_that_is_not_there() {
    judge(|runtime| {
        refused(runtime, &["missing"], |b| b.config["root"]["path"] = "missing".into());
        refused(runtime, &["root"], |b| {
            b.config.as_object_mut().unwrap().remove("root");
        });
        refused(runtime, &["file"], |b| {
            fs::write(b.path().join("file"), "").unwrap();
            b.config["root"]["path"] = "file".into();
        });
    });
}

#[test]
fn no_process_or_an_empty_one() {
    judge(|runtime| {
        refused(runtime, &["process"], |b| {
            b.config.as_object_mut().unwrap().remove("process");
        });
        refused(runtime, &["args"], |b| b.config["process"]["args"] = json!([]));
        refused(runtime, &["bsolute"], |b| b.config["process"]["cwd"] = "relative".into());
    });
}

#[test]
fn a_program_that_is_not_there_or_cannot_be_executed() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.config["process"]["args"] = json!(["/not/there"]);
        let error = bundle.refusal();
        assert!(error.contains("/not/there") || error.contains("not found"), "{error}");
        fs::write(bundle.rootfs().join("plain"), "text").unwrap();
        bundle.config["process"]["args"] = json!(["/plain"]);
        let error = bundle.refusal();
        assert!(error.contains("plain") || error.to_lowercase().contains("denied"), "{error}");
    });
}

#[test]
fn a_namespace_that_is_not_there() {
    judge(|runtime| {
        refused(runtime, &["/not/there"], |b| b.join("network", "/not/there"));
        // Of another kind.
        refused(runtime, &["/proc/self/ns/uts"], |b| b.join("network", "/proc/self/ns/uts"));
        refused(runtime, &["pid"], |b| {
            b.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "pid"}));
        });
    });
}

#[test]
fn a_name_without_a_namespace_to_set_it_in() {
    judge(|runtime| {
        refused(runtime, &["hostname", "UTS"], |b| {
            b.config["hostname"] = "inside".into();
            b.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "uts");
        });
    });
}

#[test]
fn kernel_parameters_of_no_namespace() {
    judge(|runtime| {
        refused(runtime, &["kernel.panic"], |b| b.config["linux"]["sysctl"] = json!({"kernel.panic": "1"}));
        refused(runtime, &["net.ipv4.ip_forward"], |b| {
            b.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
            b.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "network");
        });
        refused(runtime, &["kernel.shmmax"], |b| {
            b.config["linux"]["sysctl"] = json!({"kernel.shmmax": "1"});
            b.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "ipc");
        });
        refused(runtime, &["net/nothing"], |b| b.config["linux"]["sysctl"] = json!({"net.nothing": "1"}));
    });
}

#[test]
fn user_namespaces_without_maps_and_maps_without_namespaces() {
    judge(|runtime| {
        refused(runtime, &["uidMappings"], |b| {
            b.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        });
    });
}

#[test]
fn limits_that_cannot_be() {
    judge(|runtime| {
        refused(runtime, &["RLIMIT_NOFILE"], |b| {
            b.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100}]);
        });
        refused(runtime, &["RLIMIT_NOFILE"], |b| {
            let one = json!({"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100});
            b.config["process"]["rlimits"] = json!([one, one]);
        });
    });
}

#[test]
fn a_resource_that_the_kernel_refuses() {
    judge(|runtime| {
        refused(runtime, &["cpuset"], |b| {
            b.config["linux"]["resources"]["cpu"] = json!({"cpus": "4000-4001"});
        });
        let word = if runtimes::cgroup::unified() { "pids.nothing" } else { "unified" };
        refused(runtime, &[word], |b| {
            b.config["linux"]["resources"]["unified"] = json!({"pids.nothing": "5"});
        });
    });
}

#[test]
fn names_that_are_no_names() {
    judge(|runtime| {
        for id in ["", ".", "..", "../up", "a/b", "with space", "ü"] {
            let bundle = Bundle::new(runtime, json!([["hold"]]));
            let output = bundle.call(&["create", id]);
            if output.code == 0 {
                // One that takes it must not keep it.
                bundle.ok(&["delete", "--force", id]);
            }
            assert!(!output.failure().is_empty(), "{id:?}");
            let error = bundle.call(&["state", id]).failure();
            assert!(!error.is_empty(), "{id:?}");
            assert!(!bundle.path().join("up").exists());
        }
    });
}

#[test]
fn flags_and_commands_that_are_none() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        for args in [
            &["create", "--nothing", "x"][..],
            &["--nothing", "list"],
            &["nothing"],
            &["create"],
            &["kill"],
            &["state", "a", "b"],
        ] {
            let output = bundle.call(args);
            assert_ne!(output.code, 0, "{args:?}");
            assert!(!(output.stderr + &output.stdout).trim().is_empty(), "{args:?}");
        }
    });
}

#[test]
fn a_bundle_that_is_not_there() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        let error = bundle.call(&["create", "--bundle", "/not/there", &bundle.id()]).failure();
        assert!(error.contains("/not/there"), "{error}");
    });
}

#[test]
fn options_of_mounts_that_contradict_the_source() {
    judge(|runtime| {
        refused(runtime, &["/etc"], |b| {
            fs::write(b.path().join("file"), "").unwrap();
            b.mount(json!({"destination": "/etc", "type": "bind", "source": "file", "options": ["bind"]}));
        });
        refused(runtime, &["/m"], |b| {
            b.mount(
                json!({"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": ["size=many"]}),
            );
        });
    });
}
