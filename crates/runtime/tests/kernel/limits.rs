//! Limits of processes (`process.rlimits`), also such as leave next to nothing.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::bundle::{Bundle, possible};

/// Limits that hardly let a process do anything, and the user whose they are.
const TIGHT: [(&str, u64, u32); 5] = [
    ("RLIMIT_NOFILE", 3, 0),
    ("RLIMIT_NOFILE", 5, 1000),
    ("RLIMIT_FSIZE", 0, 0),
    // A user that nobody else is: the kernel counts all processes of the host.
    ("RLIMIT_NPROC", 1, 54_321),
    ("RLIMIT_SIGPENDING", 0, 0),
];

fn limited(args: &[&str], (name, value, uid): (&str, u64, u32)) -> Bundle {
    let mut bundle = Bundle::new(args);
    bundle.config["process"]["rlimits"] = json!([{"type": name, "soft": value, "hard": value}]);
    bundle.config["process"]["user"] = json!({"uid": uid, "gid": uid});
    bundle
}

/// The soft limit of a process, as its line in `/proc` has it.
fn limit_of(pid: &str, name: &str) -> String {
    let label = match name {
        "RLIMIT_NOFILE" => "Max open files",
        "RLIMIT_FSIZE" => "Max file size",
        "RLIMIT_NPROC" => "Max processes",
        _ => "Max pending signals",
    };
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(label)).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn limits_do_not_hold_for_making_the_process() {
    if !possible() {
        return;
    }
    for tight in TIGHT {
        let bundle = limited(&["sleep", "1000"], tight);
        bundle.start();
        let id = bundle.id();
        let state: Value = serde_json::from_str(&bundle.ok(&["state", &id])).unwrap();
        let (name, value, _) = tight;
        assert_eq!(limit_of(&state["pid"].to_string(), name), value.to_string(), "{name}");
        let file = bundle.path().join("exec.pid");
        for _ in 0..2 {
            let exec = ["exec", "--detach", "--pid-file", file.to_str().unwrap(), &id, "sleep", "1000"];
            let log = fs::File::create(bundle.path().join("log")).unwrap();
            let mut command = bundle.command(&exec);
            let status = command.stdout(std::process::Stdio::null()).stderr(log).status().unwrap();
            let said = fs::read_to_string(bundle.path().join("log")).unwrap();
            assert!(status.success(), "{tight:?}: {said}");
            assert_eq!(limit_of(&fs::read_to_string(&file).unwrap(), name), value.to_string(), "{name}");
        }
    }
}

#[test]
fn one_descriptor_is_enough_to_be_started_by() {
    if !possible() {
        return;
    }
    let bundle = limited(&["echo", "ok"], ("RLIMIT_NOFILE", 4, 0));
    let id = bundle.id();
    bundle.command(&["create", &id]).stdout(std::process::Stdio::null()).status().unwrap();
    bundle.ok(&["start", &id]);
    // Without it nobody can be heard; that is told, and not taken for a start.
    let bundle = limited(&["echo", "ok"], ("RLIMIT_NOFILE", 3, 0));
    let id = bundle.id();
    bundle.command(&["create", &id]).stdout(std::process::Stdio::null()).status().unwrap();
    let output = bundle.command(&["start", &id]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.lines().count() == 1, "{error}");
}

#[test]
fn limits_that_contradict_themselves_are_refused() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::new(&["true"]);
    bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]);
    assert!(bundle.refusal().contains("RLIMIT_CORE: soft limit 2 is above hard limit 1"));
}

#[test]
fn they_are_set_by_a_root_that_may_not_for_others() {
    if !possible() {
        return;
    }
    let run = |bundle: &Bundle| {
        let runtime = bundle.command(&["run", &bundle.id()]);
        let mut command = Command::new("setpriv");
        command.arg("--bounding-set=-sys_resource").arg(runtime.get_program()).args(runtime.get_args());
        command.current_dir(bundle.path()).output().unwrap()
    };
    // What may be set for its own user's processes alone is set by a child that becomes that user.
    let output = run(&limited(&["sh", "-c", "ulimit -n"], ("RLIMIT_NOFILE", 64, 1000)));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "64\n", "{output:?}");
    // One that nobody may: the one line is about that, and nothing is left.
    let bundle = limited(&["true"], ("RLIMIT_NOFILE", 1 << 29, 1000));
    let output = run(&bundle);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("cannot set RLIMIT_NOFILE") && error.lines().count() == 1, "{error}");
    bundle.assert_nothing_left();
}
