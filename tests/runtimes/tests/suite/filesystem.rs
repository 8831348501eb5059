//! The root, devices, masked and read-only paths.

use std::fs;

use runtimes::{Bundle, judge};
use serde_json::{Value, json};

const EPERM: i32 = 1;
const EROFS: i32 = 30;

#[test]
fn a_root_is_read_only_if_it_is_said_to_be() {
    judge(|runtime| {
        let mut bundle =
            Bundle::new(runtime, json!([["open", "/new", "create"], ["open", "/dev/new", "create"]]));
        assert_eq!(bundle.results(), [json!({"ok": null}), json!({"ok": null})]);
        fs::remove_file(bundle.rootfs().join("new")).unwrap();
        bundle.config["root"]["readonly"] = true.into();
        assert_eq!(bundle.results(), [json!({"errno": EROFS}), json!({"ok": null})]);
    });
}

#[test]
fn a_root_can_be_named_by_an_absolute_path() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["list", "/"]]));
        bundle.config["root"]["path"] = bundle.rootfs().display().to_string().into();
        let results = bundle.results();
        assert!(results[0]["ok"].as_array().unwrap().contains(&json!("probe")), "{}", results[0]);
    });
}

#[test]
fn nothing_of_the_host_is_seen_below_the_root() {
    judge(|runtime| {
        let results = Bundle::new(runtime, json!([["world"], ["list", "/"], ["list", "/.."]])).results();
        assert_eq!(results[1], results[2]);
        let targets: Vec<&str> =
            results[0]["mounts"].as_array().unwrap().iter().filter_map(|m| m["target"].as_str()).collect();
        let inside =
            |target: &&str| *target == "/" || target.starts_with("/proc") || target.starts_with("/dev");
        assert_eq!(targets.iter().find(|target| !inside(target)), None, "{targets:?}");
    });
}

#[test]
fn without_pivot_root_the_root_is_the_same() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["list", "/"], ["list", "/.."], ["world"]]));
        let text = bundle.call(&["run", "--no-pivot", &bundle.id()]).success();
        let results: Vec<Value> = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert!(results[0]["ok"].as_array().unwrap().contains(&json!("probe")), "{}", results[0]);
        assert_eq!(results[0], results[1]);
    });
}

#[test]
fn masked_paths_cannot_be_read_nor_listed() {
    judge(|runtime| {
        let steps = json!([
            ["read", "/etc/secret"],
            ["list", "/etc/secrets"],
            ["read", "/proc/timer_list"],
            ["open", "/etc/secrets/x", "create"],
            ["stat", "/etc/secret"],
        ]);
        let mut bundle = Bundle::new(runtime, steps);
        let etc = bundle.rootfs().join("etc");
        fs::create_dir(etc.join("secrets")).unwrap();
        fs::write(etc.join("secret"), "content").unwrap();
        fs::write(etc.join("secrets/key"), "content").unwrap();
        bundle.config["linux"]["maskedPaths"] =
            json!(["/etc/secret", "/etc/secrets", "/proc/timer_list", "/not/there"]);
        let results = bundle.results();
        assert_eq!(results[0]["ok"], "");
        assert_eq!(results[1]["ok"], json!([]));
        assert_eq!(results[2]["ok"], "");
        assert_eq!(results[3]["errno"], EROFS);
        assert_eq!(results[4]["ok"]["kind"], "c");
    });
}

#[test]
fn read_only_paths_can_be_read_and_not_written() {
    judge(|runtime| {
        let steps = json!([
            ["write", "/etc/fixed", "x"],
            ["open", "/etc/dir/new", "create"],
            ["read", "/etc/fixed"],
            ["write", "/proc/sys/kernel/msgmax", "1"],
            ["open", "/etc/new", "create"],
        ]);
        let mut bundle = Bundle::new(runtime, steps);
        let etc = bundle.rootfs().join("etc");
        fs::create_dir(etc.join("dir")).unwrap();
        fs::write(etc.join("fixed"), "content").unwrap();
        bundle.config["linux"]["readonlyPaths"] =
            json!(["/etc/fixed", "/etc/dir", "/proc/sys", "/not/there"]);
        let results = bundle.results();
        assert_eq!(results[0]["errno"], EROFS);
        assert_eq!(results[1]["errno"], EROFS);
        assert_eq!(results[2]["ok"], "content");
        assert_eq!(results[3]["errno"], EROFS);
        assert_eq!(results[4], json!({"ok": null}));
    });
}

#[test]
fn the_devices_that_every_container_has() {
    judge(|runtime| {
        let devices = [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)];
        let mut steps: Vec<Value> = Vec::new();
        for (name, _) in devices {
            steps.push(json!(["stat", format!("/dev/{name}")]));
            steps.push(json!(["open", format!("/dev/{name}"), "rw"]));
        }
        for name in ["tty", "fd", "stdin", "stdout", "stderr", "ptmx"] {
            steps.push(json!(["stat", format!("/dev/{name}")]));
        }
        steps.push(json!(["open", "/dev/ptmx", "rw"]));
        let results = Bundle::new(runtime, steps.into()).results();
        for (at, (name, minor)) in devices.iter().enumerate() {
            let found = &results[2 * at]["ok"];
            assert_eq!(
                (&found["kind"], &found["major"], &found["minor"]),
                (&json!("c"), &json!(1), &json!(minor)),
                "{name}"
            );
            assert_eq!(
                (&found["mode"], &found["uid"], &found["gid"]),
                (&json!(0o666), &json!(0), &json!(0)),
                "{name}"
            );
            assert_eq!(results[2 * at + 1], json!({"ok": null}), "{name}");
        }
        let rest = &results[2 * devices.len()..];
        assert_eq!((&rest[0]["ok"]["major"], &rest[0]["ok"]["minor"]), (&json!(5), &json!(0)));
        let targets: Vec<&str> = rest[1..5].iter().filter_map(|r| r["ok"]["target"].as_str()).collect();
        assert_eq!(targets, ["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"]);
        // A link to the container's own, or that one bound.
        let ptmx = &rest[5]["ok"];
        assert!(
            matches!(ptmx["target"].as_str(), Some("pts/ptmx" | "/dev/pts/ptmx")) || ptmx["major"] == 5,
            "{ptmx}"
        );
        assert_eq!(rest[6], json!({"ok": null}));
    });
}

#[test]
fn devices_of_the_configuration() {
    judge(|runtime| {
        let steps = json!([
            ["stat", "/dev/fuse"],
            ["stat", "/dev/sub/block"],
            ["stat", "/dev/pipe"],
            ["stat", "/dev/raw"],
            ["open", "/dev/fuse", "rw"],
            ["open", "/dev/sub/block", "r"],
        ]);
        let mut bundle = Bundle::new(runtime, steps);
        bundle.config["linux"]["devices"] = json!([
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 5},
            {"path": "/dev/sub/block", "type": "b", "major": 7, "minor": 0, "fileMode": 0o600},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o622},
            {"path": "/dev/raw", "type": "u", "major": 1, "minor": 3, "fileMode": 0o666},
        ]);
        let results = bundle.results();
        let facts = |at: usize| {
            let found = &results[at]["ok"];
            (found["kind"].clone(), found["major"].clone(), found["minor"].clone(), found["mode"].clone())
        };
        assert_eq!(facts(0), (json!("c"), json!(10), json!(229), json!(0o640)));
        assert_eq!((&results[0]["ok"]["uid"], &results[0]["ok"]["gid"]), (&json!(3), &json!(5)));
        assert_eq!(facts(1), (json!("b"), json!(7), json!(0), json!(0o600)));
        assert_eq!((&results[2]["ok"]["kind"], &results[2]["ok"]["mode"]), (&json!("p"), &json!(0o622)));
        assert_eq!(facts(3), (json!("c"), json!(1), json!(3), json!(0o666)));
        // Being there is one thing, and being allowed another.
        assert_eq!(results[4]["errno"], EPERM);
        assert_eq!(results[5]["errno"], EPERM);
    });
}

#[test]
fn devices_can_be_used_as_the_rules_say() {
    judge(|runtime| {
        let steps = json!([
            ["open", "/dev/loop", "r"],
            ["open", "/dev/loop", "w"],
            ["open", "/dev/never", "r"],
            ["open", "/dev/any", "r"],
            ["open", "/dev/sub/fuse", "rw"],
        ]);
        let mut bundle = Bundle::new(runtime, steps);
        bundle.config["linux"]["devices"] = json!([
            {"path": "/dev/loop", "type": "b", "major": 7, "minor": 0, "fileMode": 0o666},
            {"path": "/dev/never", "type": "c", "major": 7, "minor": 0, "fileMode": 0o666},
            {"path": "/dev/any", "type": "c", "major": 10, "minor": 237, "fileMode": 0o666},
            {"path": "/dev/sub/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666},
        ]);
        bundle.config["linux"]["resources"]["devices"] = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "b", "major": 7, "minor": 0, "access": "r"},
            {"allow": true, "type": "c", "major": 10, "access": "rwm"},
        ]);
        let results = bundle.results();
        // Where the rule lets it pass there may still be nothing behind it: ENXIO, ENODEV.
        assert_ne!(results[0]["errno"], EPERM);
        assert_eq!(results[1]["errno"], EPERM);
        assert_eq!(results[2]["errno"], EPERM);
        assert_ne!(results[3]["errno"], EPERM);
        assert_ne!(results[4]["errno"], EPERM);
    });
}

#[test]
fn a_later_rule_for_a_device_takes_an_earlier_one_back() {
    judge(|runtime| {
        let steps =
            json!([["open", "/dev/fuse", "r"], ["open", "/dev/fuse", "w"], ["open", "/dev/loop", "r"]]);
        let mut bundle = Bundle::new(runtime, steps);
        bundle.config["linux"]["devices"] = json!([
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666},
            {"path": "/dev/loop", "type": "b", "major": 7, "minor": 0, "fileMode": 0o666},
        ]);
        bundle.config["linux"]["resources"]["devices"] = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
            {"allow": true, "type": "b", "major": 7, "minor": 0, "access": "r"},
            {"allow": false, "type": "c", "major": 10, "minor": 229, "access": "w"},
        ]);
        let results = bundle.results();
        assert_ne!(results[0]["errno"], EPERM);
        assert_eq!(results[1]["errno"], EPERM);
        assert_ne!(results[2]["errno"], EPERM);
    });
}

#[test]
fn devices_can_be_made_and_not_used() {
    judge(|runtime| {
        let steps = json!([
            ["mknod", "/dev/disk", "b", 7, 0],
            ["open", "/dev/disk", "r"],
            ["mknod", "/dev/null2", "c", 1, 3],
            ["open", "/dev/null2", "rw"]
        ]);
        let results = Bundle::new(runtime, steps).results();
        assert_eq!(results[0], json!({"ok": null}));
        assert_eq!(results[1]["errno"], EPERM);
        assert_eq!(results[2], json!({"ok": null}));
        assert_eq!(results[3], json!({"ok": null}));
    });
}

#[test]
fn devices_in_a_user_namespace_are_those_of_the_host() {
    judge(|runtime| {
        let steps = json!([
            ["open", "/dev/null", "rw"],
            ["open", "/dev/zero", "r"],
            ["stat", "/dev/null"],
            ["open", "/dev/ptmx", "rw"]
        ]);
        let mut bundle = Bundle::new(runtime, steps);
        bundle.map_users(100_000, 1000);
        let results = bundle.results();
        assert_eq!(results[0], json!({"ok": null}));
        assert_eq!(results[1], json!({"ok": null}));
        assert_eq!(results[2]["ok"]["minor"], 3);
        assert_eq!(results[3], json!({"ok": null}));
    });
}
