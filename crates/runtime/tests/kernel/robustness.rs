//! What went wrong once: each was found by somebody who meant to break the runtime, or looked at it closely.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use crate::bundle::{Bundle, possible, text};
use serde_json::json;

#[test]
fn a_container_whose_number_cannot_be_told_is_not_left_behind() {
    if !possible() {
        return;
    }
    let bundle = Bundle::new(&["sleep", "1000"]);
    let mut create = bundle.command(&["create", "--pid-file", "/not/there", &bundle.id()]);
    assert!(!create.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    bundle.assert_nothing_left();
}

#[test]
fn an_exec_by_another_user_keeps_the_group() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    bundle.start();
    assert_eq!(bundle.ok(&["exec", "--user", "1001", &bundle.id(), "id", "-g"]), "1000\n");
    assert_eq!(bundle.ok(&["exec", "--user", "1001:7", &bundle.id(), "id", "-g"]), "7\n");
}

#[test]
fn a_read_only_tmpfs_is_filled_before_it_is_closed() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::script(
        "cat /data/kept /run/inner; echo > /data/x || echo > /run/x || echo > /dev/x || echo closed",
    );
    fs::create_dir(bundle.rootfs().join("data")).unwrap();
    fs::write(bundle.rootfs().join("data/kept"), "kept\n").unwrap();
    let inner = bundle.path().join("inner");
    fs::write(&inner, "inner\n").unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    for mount in mounts.iter_mut().filter(|mount| mount["destination"] == "/dev") {
        mount["options"].as_array_mut().unwrap().push("ro".into());
    }
    mounts.extend([
        json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "tmpcopyup"]}),
        json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}),
        json!({"destination": "/run/inner", "type": "bind", "source": inner, "options": ["bind"]}),
    ]);
    assert_eq!(bundle.output(), "kept\ninner\nclosed\n");
}

#[test]
fn a_hook_that_does_not_read_has_its_time_and_no_more() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::new(&["true"]);
    bundle.config["annotations"] = json!({"large": "x".repeat(200_000)});
    bundle.config["hooks"] =
        json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]});
    assert!(bundle.refusal().contains("timed out"));
}

#[test]
fn descriptors_that_were_meant_for_another_stay_outside() {
    if !possible() {
        return;
    }
    let bundle = Bundle::script("ls /proc/self/fd | wc -l; echo fds=$LISTEN_FDS");
    let plain = bundle.command(&["run", &bundle.id()]);
    let script = format!("exec \"$@\" 3< {}", bundle.path().join("config.json").display());
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script, "sh"]).arg(plain.get_program()).args(plain.get_args());
    command.current_dir(bundle.path()).env("LISTEN_FDS", "1").env("LISTEN_PID", "4711").stdin(Stdio::null());
    // Three streams, and the directory that is listed.
    assert_eq!(text(&command.output().unwrap()), "4\nfds=\n");
}

#[test]
fn a_group_with_others_below_it_is_not_taken_over() {
    if !possible() {
        return;
    }
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.start();
    let mut above = Bundle::new(&["true"]);
    let parent = format!("/{}", above.id());
    above.config["linux"]["cgroupsPath"] = parent.clone().into();
    let mut below = Bundle::new(&["sleep", "1000"]);
    below.config["linux"]["cgroupsPath"] = format!("{parent}/below").into();
    below.start();
    let output = above.run();
    assert!(String::from_utf8_lossy(&output.stderr).contains("is in use"), "{output:?}");
    assert!(below.ok(&["state", &below.id()]).contains("\"status\": \"running\""));
    below.ok(&["delete", "--force", &below.id()]);
    for directory in above.cgroups() {
        fs::remove_dir(directory).unwrap();
    }
}

#[test]
fn a_dev_that_leads_into_a_volume_is_refused() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::new(&["true"]);
    let volume = bundle.path().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("ptmx"), "a file of the host").unwrap();
    fs::remove_dir(bundle.rootfs().join("dev")).unwrap();
    fs::create_dir(bundle.rootfs().join("volume")).unwrap();
    symlink("volume", bundle.rootfs().join("dev")).unwrap();
    let mount = json!({"destination": "/volume", "type": "bind", "source": volume, "options": ["rbind"]});
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    assert!(bundle.refusal().contains("ordinary directory"));
    let left: Vec<_> = fs::read_dir(&volume).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["ptmx"]);
    assert_eq!(fs::read_to_string(volume.join("ptmx")).unwrap(), "a file of the host");
}

#[test]
fn a_strangers_name_is_one_line_and_no_escape() {
    if !possible() {
        return;
    }
    let line = Bundle::new(&["/no\nsuch\u{1b}[2J"]).refusal();
    assert!(!line.contains('\u{1b}') && line.contains("\\n"), "{line:?}");
}

#[test]
fn a_damaged_record_is_cleared_and_hides_nobody() {
    if !possible() {
        return;
    }
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.start();
    let damaged = bundle.path().join("state/damaged");
    fs::create_dir(&damaged).unwrap();
    fs::write(damaged.join("state.json"), "{\"id").unwrap();
    assert!(bundle.ok(&["list", "--quiet"]).contains(&bundle.id()));
    bundle.ok(&["delete", "--force", "damaged"]);
    assert!(!damaged.exists());
    bundle.ok(&["delete", "--force", &bundle.id()]);
    bundle.assert_nothing_left();
}
