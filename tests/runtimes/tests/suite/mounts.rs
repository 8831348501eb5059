//! `mounts`: every option, propagation, recursion, id maps.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};

use runtimes::{Bundle, Output, Runtime, judge};
use serde_json::{Value, json};

const EROFS: i32 = 30;

/// The topmost mount at `target`.
fn at<'a>(report: &'a Value, target: &str) -> &'a Value {
    let found = report["mounts"].as_array().unwrap().iter().rev().find(|mount| mount["target"] == target);
    found.unwrap_or_else(|| panic!("nothing is mounted at {target}: {:#}", report["mounts"]))
}

fn has(list: &Value, word: &str) -> bool {
    list.as_array().unwrap().iter().any(|entry| entry == word)
}

/// Runs the container from a mount namespace of its own, in which `script` has been run in the bundle's directory.
fn after(bundle: &Bundle, script: &str) -> Output {
    let id = bundle.id();
    let runtime = bundle.command(&["run", &id]);
    let mut command = std::process::Command::new("unshare");
    let script = format!("{script} && exec \"$@\"");
    command.args(["--mount", "sh", "-ec", &script, "sh"]).arg(runtime.get_program()).args(runtime.get_args());
    command.current_dir(bundle.path());
    bundle.finish(command)
}

/// The results of the steps of a container run like that.
fn results_after(bundle: &Bundle, script: &str) -> Vec<Value> {
    let text = after(bundle, script).success();
    serde_json::from_str(text.lines().next().unwrap()).unwrap()
}

#[test]
fn options_of_a_mount_and_of_its_filesystem() {
    judge(|runtime| {
        for (option, of_mount, of_filesystem) in [
            ("ro", "ro", ""),
            ("rw", "rw", ""),
            ("nosuid", "nosuid", ""),
            ("nodev", "nodev", ""),
            ("noexec", "noexec", ""),
            ("noatime", "noatime", ""),
            ("nodiratime", "nodiratime", ""),
            ("relatime", "relatime", ""),
            ("sync", "", "sync"),
            ("dirsync", "", "dirsync"),
            ("size=64k", "", "size=64k"),
            ("mode=1700", "", "mode=1700"),
        ] {
            let mut bundle = Bundle::world(runtime);
            bundle
                .mount(json!({"destination": "/m", "type": "tmpfs", "source": "from", "options": [option]}));
            let report = bundle.report();
            let mount = at(&report, "/m");
            assert_eq!((&mount["type"], &mount["source"]), (&json!("tmpfs"), &json!("from")), "{option}");
            assert!(of_mount.is_empty() || has(&mount["options"], of_mount), "{option}: {mount}");
            assert!(of_filesystem.is_empty() || has(&mount["super"], of_filesystem), "{option}: {mount}");
        }
    });
}

#[test]
fn options_that_came_later() {
    judge(|runtime| {
        for (option, of_mount, of_filesystem) in
            [("lazytime", "", "lazytime"), ("nosymfollow", "nosymfollow", "")]
        {
            let mut bundle = Bundle::world(runtime);
            bundle
                .mount(json!({"destination": "/m", "type": "tmpfs", "source": "from", "options": [option]}));
            let report = bundle.report();
            let mount = at(&report, "/m");
            assert!(of_mount.is_empty() || has(&mount["options"], of_mount), "{option}: {mount}");
            assert!(of_filesystem.is_empty() || has(&mount["super"], of_filesystem), "{option}: {mount}");
        }
    });
}

#[test]
fn options_that_take_others_back() {
    judge(|runtime| {
        for (on, off) in [
            ("nosuid", "suid"),
            ("nodev", "dev"),
            ("noexec", "exec"),
            ("ro", "rw"),
            ("noatime", "atime"),
            ("nodiratime", "diratime"),
        ] {
            let mut bundle = Bundle::world(runtime);
            let mount =
                json!({"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": [on, off]});
            bundle.mount(mount);
            let report = bundle.report();
            assert!(!has(&at(&report, "/m")["options"], on), "{on},{off}: {}", at(&report, "/m"));
        }
    });
}

#[test]
fn options_that_set_nothing_are_understood() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        let options = ["defaults", "async", "norelatime", "nostrictatime", "suid"];
        bundle.mount(json!({"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": options}));
        assert_eq!(at(&bundle.report(), "/m")["type"], "tmpfs");
        let mut bundle = Bundle::world(runtime);
        bundle.mount(
            json!({"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": ["strictatime"]}),
        );
        let report = bundle.report();
        let options = &at(&report, "/m")["options"];
        assert!(!has(options, "relatime") && !has(options, "noatime"), "{options}");
    });
}

#[test]
fn directories_and_files_are_bound() {
    judge(|runtime| {
        let steps = json!([
            ["read", "/dir/inside"],
            ["read", "/etc/file"],
            ["read", "/new/place"],
            ["write", "/dir/inside", "changed"],
            ["write", "/new/place", "not changed"],
            ["read", "/relative/inside"],
        ]);
        let mut bundle = Bundle::new(runtime, steps);
        let source = bundle.path().join("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("inside"), "in a directory").unwrap();
        fs::write(bundle.path().join("file"), "a file").unwrap();
        fs::write(bundle.rootfs().join("etc/file"), "hidden").unwrap();
        let file = bundle.path().join("file");
        bundle.mount(json!({"destination": "/dir", "type": "bind", "source": source, "options": ["bind"]}));
        bundle
            .mount(json!({"destination": "/etc/file", "type": "bind", "source": file, "options": ["rbind"]}));
        // Without a type, as the option says it; read-only.
        bundle.mount(json!({"destination": "/new/place", "source": file, "options": ["bind", "ro"]}));
        bundle.mount(
            json!({"destination": "/relative", "type": "bind", "source": "source", "options": ["bind"]}),
        );
        let results = bundle.results();
        assert_eq!(results[0]["ok"], "in a directory");
        assert_eq!(results[1]["ok"], "a file");
        assert_eq!(results[2]["ok"], "a file");
        assert_eq!(results[3], json!({"ok": null}));
        assert_eq!(results[4]["errno"], EROFS);
        assert_eq!(results[5]["ok"], "changed");
        assert_eq!(fs::read_to_string(source.join("inside")).unwrap(), "changed");
    });
}

#[test]
fn what_is_bound_keeps_the_options_that_are_not_named() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        let source = bundle.path().join("source");
        fs::create_dir(&source).unwrap();
        bundle.mount(json!({"destination": "/plain", "type": "bind", "source": source, "options": ["bind"]}));
        let options = ["bind", "nosuid", "nodev", "noexec", "ro"];
        bundle.mount(json!({"destination": "/strict", "type": "bind", "source": source, "options": options}));
        let results = results_after(&bundle, "mount -t tmpfs -o noatime tmpfs source");
        let report = &results[0];
        assert!(has(&at(report, "/plain")["options"], "noatime"), "{}", at(report, "/plain"));
        for option in &options[1..] {
            assert!(has(&at(report, "/strict")["options"], option), "{option}: {}", at(report, "/strict"));
            assert!(!has(&at(report, "/plain")["options"], option), "{option}: {}", at(report, "/plain"));
        }
    });
}

#[test]
fn a_bind_is_of_one_mount_or_of_all_below() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["list", "/one/sub"], ["list", "/all/sub"]]));
        let source = bundle.path().join("source");
        fs::create_dir_all(source.join("sub")).unwrap();
        bundle.mount(json!({"destination": "/one", "type": "bind", "source": source, "options": ["bind"]}));
        bundle.mount(json!({"destination": "/all", "type": "bind", "source": source, "options": ["rbind"]}));
        let results = results_after(&bundle, "mount -t tmpfs tmpfs source/sub; touch source/sub/mark");
        assert_eq!(results[0]["ok"], json!([]));
        assert_eq!(results[1]["ok"], json!(["mark"]));
    });
}

#[test]
fn an_option_is_of_one_mount_unless_it_is_recursive() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        let source = bundle.path().join("source");
        fs::create_dir_all(source.join("sub")).unwrap();
        let bind = |destination: &str, option: &str| json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind", option]});
        bundle.mount(bind("/one", "ro"));
        let report = &results_after(&bundle, "mount -t tmpfs tmpfs source/sub")[0];
        assert!(has(&at(report, "/one")["options"], "ro"));
        assert!(has(&at(report, "/one/sub")["options"], "rw"));
    });
}

#[test]
fn recursive_options_reach_all_below() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        let source = bundle.path().join("source");
        fs::create_dir_all(source.join("sub")).unwrap();
        let options = [
            ("rro", "ro"),
            ("rnosuid", "nosuid"),
            ("rnodev", "nodev"),
            ("rnoexec", "noexec"),
            ("rnoatime", "noatime"),
            ("rnodiratime", "nodiratime"),
            ("rnosymfollow", "nosymfollow"),
        ];
        for (option, _) in options {
            bundle.mount(json!({
                "destination": format!("/{option}"), "type": "bind", "source": source, "options": ["rbind", option],
            }));
        }
        let report = &results_after(&bundle, "mount -t tmpfs tmpfs source/sub")[0];
        for (option, seen) in options {
            for target in [format!("/{option}"), format!("/{option}/sub")] {
                assert!(has(&at(report, &target)["options"], seen), "{option}: {}", at(report, &target));
            }
        }
    });
}

#[test]
fn recursive_options_take_others_back() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        let source = bundle.path().join("source");
        fs::create_dir_all(source.join("sub")).unwrap();
        let options = [
            ("rrw", "ro"),
            ("rsuid", "nosuid"),
            ("rdev", "nodev"),
            ("rexec", "noexec"),
            ("rrelatime", "noatime"),
            ("rdiratime", "nodiratime"),
        ];
        for (option, _) in options {
            bundle.mount(json!({
                "destination": format!("/{option}"), "type": "bind", "source": source, "options": ["rbind", option],
            }));
        }
        let script = "mount -t tmpfs tmpfs source/sub; mount -o remount,bind,ro,nosuid,nodev,noexec,noatime,nodiratime source/sub";
        let report = &results_after(&bundle, script)[0];
        for (option, unseen) in options {
            let target = format!("/{option}/sub");
            assert!(!has(&at(report, &target)["options"], unseen), "{option}: {}", at(report, &target));
        }
    });
}

fn propagation(report: &Value, target: &str) -> Vec<String> {
    let fields = at(report, target)["propagation"].as_array().unwrap();
    fields.iter().map(|f| f.as_str().unwrap().split(':').next().unwrap_or_default().to_owned()).collect()
}

/// One that is shared may be somebody's slave as well.
fn as_asked(found: &[String], wanted: &[&str]) -> bool {
    let extra = |word: &String| word == "master" && wanted.contains(&"shared");
    wanted.iter().all(|word| found.iter().any(|f| f == word))
        && found.iter().all(|word| wanted.contains(&word.as_str()) || extra(word))
}

#[test]
fn propagation_of_what_is_bound() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        // As engines set it where a mount is to be shared.
        bundle.config["linux"]["rootfsPropagation"] = "shared".into();
        let source = bundle.path().join("source");
        fs::create_dir_all(source.join("sub")).unwrap();
        let expected = [
            ("private", "bind", vec![]),
            ("rprivate", "rbind", vec![]),
            ("slave", "bind", vec!["master"]),
            ("rslave", "rbind", vec!["master"]),
            ("shared", "bind", vec!["shared"]),
            ("rshared", "rbind", vec!["shared"]),
            ("unbindable", "bind", vec!["unbindable"]),
            ("runbindable", "rbind", vec!["unbindable"]),
        ];
        for (option, bind, _) in &expected {
            bundle.mount(json!({
                "destination": format!("/{option}"), "type": "bind", "source": source, "options": [bind, option],
            }));
        }
        // A filesystem of its own that is shared with the host.
        let script = "mount -t tmpfs tmpfs source; mount --make-shared source; mkdir source/sub; mount -t tmpfs tmpfs source/sub; \
                      mount --make-shared source/sub";
        let report = &results_after(&bundle, script)[0];
        for (option, bind, seen) in &expected {
            let found = propagation(report, &format!("/{option}"));
            assert!(as_asked(&found, seen), "{option}: {found:?}");
            if *bind == "rbind" {
                let found = propagation(report, &format!("/{option}/sub"));
                assert!(as_asked(&found, seen), "{option}, below: {found:?}");
            }
        }
    });
}

#[test]
fn a_mount_of_the_host_comes_to_a_slave_and_not_to_a_private_one() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["hold"]]));
        let source = bundle.path().join("source");
        fs::create_dir_all(&source).unwrap();
        bundle.config["linux"]["rootfsPropagation"] = "rslave".into();
        let bind = |to: &str, option: &str| json!({"destination": to, "type": "bind", "source": source, "options": ["rbind", option]});
        bundle.mount(bind("/follows", "rslave"));
        bundle.mount(bind("/private", "rprivate"));
        let id = bundle.id();
        let runtime = bundle.command(&["run", "--detach", &id]);
        let list = |to: &str| bundle.bare(&["exec", &id, "/probe", &json!([["list", to]]).to_string()]);
        let (first, second) = (list("/follows"), list("/private"));
        let words = |command: &std::process::Command| {
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            words
                .map(|w| format!("'{}'", w.to_string_lossy().replace('\'', "'\\''")))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let script = format!(
            "mount -t tmpfs tmpfs source; mount --make-shared source; {} > /dev/null; mkdir source/later; \
             mount -t tmpfs tmpfs source/later; touch source/later/mark; {}; {}",
            words(&runtime),
            words(&first).replace("\"/follows\"", "\"/follows/later\""),
            words(&second).replace("\"/private\"", "\"/private/later\""),
        );
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "sh", "-ec", &script]).current_dir(bundle.path());
        let text = bundle.finish(command).success();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, [json!([{"ok": ["mark"]}]), json!([{"ok": []}])]);
    });
}

fn root_with(runtime: &Runtime, wanted: &str) -> Vec<String> {
    let mut bundle = Bundle::world(runtime);
    bundle.config["linux"]["rootfsPropagation"] = wanted.into();
    propagation(&results_after(&bundle, "mount --make-rshared /")[0], "/")
}

#[test]
fn a_private_root() {
    judge(|runtime| assert_eq!(root_with(runtime, "private"), Vec::<String>::new()));
}

#[test]
fn a_shared_root_is_of_a_group_that_is_not_the_hosts() {
    judge(|runtime| assert_eq!(root_with(runtime, "shared"), ["shared"]));
}

#[test]
fn a_slave_root_follows_the_host() {
    judge(|runtime| {
        // Engines write it like that.
        for word in ["slave", "rslave"] {
            assert_eq!(root_with(runtime, word), ["master"], "{word}");
        }
    });
}

#[test]
fn a_root_is_private_unless_told_otherwise() {
    judge(|runtime| {
        let report = Bundle::world(runtime).report();
        assert!(!propagation(&report, "/").contains(&"shared".to_owned()), "{}", at(&report, "/"));
    });
}

#[test]
fn an_unbindable_root() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        bundle.config["linux"]["rootfsPropagation"] = "unbindable".into();
        assert_eq!(propagation(&bundle.report(), "/"), ["unbindable"]);
    });
}

#[test]
fn mounts_are_made_in_their_order() {
    judge(|runtime| {
        let steps = json!([["list", "/m"], ["list", "/m/below"]]);
        let mut bundle = Bundle::new(runtime, steps);
        for name in ["first", "second"] {
            let source = bundle.path().join(name);
            fs::create_dir(&source).unwrap();
            fs::write(source.join(name), "").unwrap();
            fs::create_dir(source.join("below")).unwrap();
        }
        let bind = |to: &str, from: &str| json!({"destination": to, "type": "bind", "source": from, "options": ["bind"]});
        bundle.mount(bind("/m", "first"));
        bundle.mount(bind("/m", "second"));
        bundle.mount(bind("/m/below", "first"));
        let results = bundle.results();
        assert_eq!(results[0]["ok"], json!(["below", "second"]));
        assert_eq!(results[1]["ok"], json!(["below", "first"]));
    });
}

#[test]
fn a_destination_is_found_inside_the_root_whatever_links_are_there() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["list", "/real"], ["list", "/real/out"]]));
        let rootfs = bundle.rootfs();
        fs::create_dir(rootfs.join("real")).unwrap();
        symlink("/real", rootfs.join("link")).unwrap();
        symlink("../../../../real", rootfs.join("up")).unwrap();
        let mount = |to: &str| json!({"destination": to, "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]});
        bundle.mount(mount("/link/in"));
        bundle.mount(mount("/up/out"));
        let results = bundle.results();
        assert_eq!(results[0]["ok"], json!(["in", "out"]));
        assert_eq!(results[1]["ok"], json!([]));
    });
}

#[test]
fn a_tmpfs_starts_with_a_copy_of_what_it_hides() {
    judge(|runtime| {
        let steps = json!([
            ["read", "/etc/config/file"],
            ["stat", "/etc/link"],
            ["stat", "/etc/owned"],
            ["stat", "/etc/config"],
            ["write", "/etc/owned", "changed"],
            ["stat", "/etc"],
        ]);
        let mut bundle = Bundle::new(runtime, steps);
        let etc = bundle.rootfs().join("etc");
        fs::create_dir(etc.join("config")).unwrap();
        fs::write(etc.join("config/file"), "content").unwrap();
        symlink("config/file", etc.join("link")).unwrap();
        fs::write(etc.join("owned"), "original").unwrap();
        chown(etc.join("owned"), Some(7), Some(8)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4750);
        fs::set_permissions(etc.join("owned"), mode).unwrap();
        bundle.mount(json!({"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "nodev"]}));
        let results = bundle.results();
        assert_eq!(results[0]["ok"], "content");
        assert_eq!(results[1]["ok"]["target"], "config/file");
        let owned = &results[2]["ok"];
        assert_eq!((&owned["uid"], &owned["gid"], &owned["mode"]), (&json!(7), &json!(8), &json!(0o4750)));
        assert_eq!(results[3]["ok"]["kind"], "directory");
        assert_eq!(results[4], json!({"ok": null}));
        assert_eq!(fs::read_to_string(etc.join("owned")).unwrap(), "original");
    });
}

/// A directory `source` with a file of user 0, one of user 7, and a filesystem `sub` with the like.
fn owned_files(bundle: &Bundle) {
    let source = bundle.path().join("source");
    fs::create_dir_all(source.join("sub")).unwrap();
    for (name, id) in [("zero", 0), ("seven", 7)] {
        fs::write(source.join(name), "").unwrap();
        chown(source.join(name), Some(id), Some(id)).unwrap();
    }
}

fn owner(result: &Value) -> (u64, u64) {
    (result["ok"]["uid"].as_u64().unwrap(), result["ok"]["gid"].as_u64().unwrap())
}

#[test]
fn a_mount_has_id_maps_of_its_own() {
    judge(|runtime| {
        let steps = json!([["stat", "/m/zero"], ["stat", "/m/seven"], ["open", "/m/new", "create"]]);
        let mut bundle = Bundle::new(runtime, steps);
        owned_files(&bundle);
        bundle.mount(json!({
            "destination": "/m", "type": "bind", "source": bundle.path().join("source"), "options": ["bind", "idmap"],
            "uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 10}, {"containerID": 1000, "hostID": 0, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": 200_000, "size": 10}, {"containerID": 1000, "hostID": 0, "size": 1}],
        }));
        let results = bundle.results();
        assert_eq!(owner(&results[0]), (100_000, 200_000));
        assert_eq!(owner(&results[1]), (100_007, 200_007));
        assert_eq!(results[2], json!({"ok": null}));
        // What its root makes belongs to whoever is mapped to it.
        let new = fs::metadata(bundle.path().join("source/new")).unwrap();
        assert_eq!((new.uid(), new.gid()), (1000, 1000));
    });
}

#[test]
fn a_mount_can_have_the_id_maps_of_the_container() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["stat", "/m/zero"], ["stat", "/m/seven"]]));
        owned_files(&bundle);
        bundle.map_users(100_000, 1000);
        bundle.mount(json!({
            "destination": "/m", "type": "bind", "source": bundle.path().join("source"), "options": ["bind", "idmap"],
            "uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 1000}],
            "gidMappings": [{"containerID": 0, "hostID": 100_000, "size": 1000}],
        }));
        let results = bundle.results();
        assert_eq!((owner(&results[0]), owner(&results[1])), ((0, 0), (7, 7)));
    });
}

#[test]
fn a_mount_without_maps_takes_those_of_the_container_or_none() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["stat", "/m/zero"], ["stat", "/m/seven"]]));
        owned_files(&bundle);
        let source = bundle.path().join("source");
        bundle.mount(
            json!({"destination": "/m", "type": "bind", "source": source, "options": ["bind", "idmap"]}),
        );
        // Without a user namespace there is nothing to take.
        assert!(!bundle.refusal().is_empty());
        bundle.map_users(100_000, 1000);
        let results = bundle.results();
        assert_eq!((owner(&results[0]), owner(&results[1])), ((0, 0), (7, 7)));
    });
}

#[test]
fn id_maps_reach_the_mounts_below_if_they_are_asked_to() {
    judge(|runtime| {
        for (option, below) in [("idmap", 5), ("ridmap", 100_005)] {
            let mut bundle = Bundle::new(runtime, json!([["stat", "/m/zero"], ["stat", "/m/sub/five"]]));
            owned_files(&bundle);
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
            bundle.mount(json!({
                "destination": "/m", "type": "bind", "source": bundle.path().join("source"), "options": ["rbind", option],
                "uidMappings": map, "gidMappings": map,
            }));
            // Of the same kind as the bundle's: not every filesystem can be mapped.
            fs::create_dir(bundle.path().join("other")).unwrap();
            fs::write(bundle.path().join("other/five"), "").unwrap();
            chown(bundle.path().join("other/five"), Some(5), Some(5)).unwrap();
            let results = results_after(&bundle, "mount --bind other source/sub");
            assert_eq!(owner(&results[0]), (100_000, 100_000), "{option}");
            assert_eq!(owner(&results[1]), (below, below), "{option}");
        }
    });
}

#[test]
fn the_hierarchies_of_control_groups_are_shown() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["world"], ["list", "/sys/fs/cgroup"]]));
        bundle.mount(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}));
        bundle.mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}));
        let results = bundle.results();
        let names: Vec<&str> =
            results[1]["ok"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let (file, target) = if runtimes::cgroup::unified() {
            ("cgroup.procs", "/sys/fs/cgroup")
        } else {
            ("memory", "/sys/fs/cgroup/memory")
        };
        assert!(names.contains(&file), "{names:?}");
        let mount = at(&results[0], target);
        assert!(has(&mount["options"], "ro") && has(&mount["options"], "nosuid"), "{mount}");
        // Its own group and nothing above.
        assert_eq!(mount["root"], "/", "{mount}");
    });
}

#[test]
fn one_cannot_mount_what_is_not_there() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        bundle
            .mount(json!({"destination": "/m", "type": "bind", "source": "/not/there", "options": ["bind"]}));
        let error = bundle.refusal();
        assert!(error.contains("/not/there") || error.contains("/m"), "{error}");
        let mut bundle = Bundle::world(runtime);
        bundle.mount(json!({"destination": "/m", "type": "nosuchfs", "source": "x"}));
        let error = bundle.refusal();
        assert!(error.contains("/m") || error.contains("`m`") || error.contains("nosuchfs"), "{error}");
    });
}
