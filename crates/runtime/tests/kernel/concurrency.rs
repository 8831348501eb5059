//! Several commands on one container at once.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bundle::{Bundle, patience, possible};

/// How long commands are given at random.
const STORM: Duration = Duration::from_secs(4);

/// What a command may complain of when others are quicker.
const KNOWN: &[&str] = &[
    "already exists",
    "does not exist",
    "was deleted while it was being made",
    "init was killed while it set up the container",
    "cannot start container",
    "cannot delete container",
    "cannot kill container",
    "the container was ended meanwhile",
    "the process that waited to be started has been killed",
];

/// The processes whose arguments have `word` in them.
fn processes(word: &str) -> Vec<String> {
    let all =
        fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    let lines = all.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(word)).collect()
}

fn await_none(word: &str) {
    let started = Instant::now();
    while !processes(word).is_empty() {
        assert!(started.elapsed() < patience(), "{:?}", processes(word));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn commands_at_random_leave_nothing_and_say_what_is_so() {
    if !possible() {
        return;
    }
    let bundle = Bundle::new(&["sleep", "1000"]);
    // Written once: the commands must not meet half a file.
    let plain = bundle.command(&[]);
    let id = bundle.id();
    let root: Vec<_> = plain.get_args().map(ToOwned::to_owned).collect();
    let over = AtomicBool::new(false);
    let command = |args: &[&str]| {
        let mut command = Command::new(plain.get_program());
        command.current_dir(bundle.path()).args(&root).args(args).stdin(Stdio::null()).stdout(Stdio::null());
        // Not a pipe: the container keeps it open.
        let log = tempfile::NamedTempFile::new().unwrap();
        let status = command.stderr(log.reopen().unwrap()).status().unwrap();
        (status.success(), fs::read_to_string(log.path()).unwrap())
    };
    let storm = |seed: u32| {
        let mut random = seed;
        let mut said = BTreeSet::new();
        while !over.load(Ordering::Relaxed) {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let args: &[&str] = match random >> 24 & 7 {
                0 | 1 => &["create", &id],
                2 => &["run", "--detach", &id],
                3 => &["start", &id],
                4 => &["kill", &id, "KILL"],
                5 => &["delete", &id],
                _ => &["delete", "--force", &id],
            };
            let (well, text) = command(args);
            assert!(well || args[1] != "--force", "{args:?}: {text}");
            if !text.is_empty() {
                said.insert(text.replace(&id, "ID"));
            }
        }
        said
    };
    let said: BTreeSet<String> = thread::scope(|scope| {
        let threads: Vec<_> = [1, 22, 333, 4444, 55555].map(|seed| scope.spawn(move || storm(seed))).into();
        thread::sleep(STORM);
        over.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let strange: Vec<_> =
        said.iter().filter(|text| !KNOWN.iter().any(|known| text.contains(known))).collect();
    assert!(strange.is_empty(), "{strange:#?}");
    assert!(command(&["delete", "--force", &id]).0);
    bundle.assert_nothing_left();
    await_none(&id);
}

#[test]
fn one_that_is_being_made_is_deleted_with_the_hook_it_waits_for() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::new(&["true"]);
    let mark = bundle.path().join("mark");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", mark.display());
    bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    let id = bundle.id();
    let creator = bundle.command(&["create", &id]).stderr(Stdio::piped()).spawn().unwrap();
    let hook = loop {
        if let Ok(pid) = fs::read_to_string(&mark) {
            break pid.trim().to_owned();
        }
        thread::sleep(Duration::from_millis(2));
    };
    // A deletion without force does not wait for it: there is no container yet.
    let refused = bundle.command(&["delete", &id]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("does not exist"));
    bundle.ok(&["delete", "--force", &id]);
    let output = creator.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("the container was ended meanwhile"), "{text}");
    assert!(!fs::exists(format!("/proc/{hook}")).unwrap(), "its hook goes on");
    bundle.assert_nothing_left();
}

#[test]
fn a_container_outlives_neither_its_deletion_nor_that_of_one_that_had_its_name_before() {
    if !possible() {
        return;
    }
    let bundle = Bundle::script("touch /tmp/up; exec sleep 1000");
    let id = bundle.id();
    // One in the foreground, deleted by somebody else, whose name is given to another before it has ended.
    let first = bundle.command(&["run", &id]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while !bundle.rootfs().join("tmp/up").exists() {
        thread::sleep(Duration::from_millis(2));
    }
    // Stopped, so that it sees nothing of this before it is too late.
    let first_pid = i32::try_from(first.id()).unwrap();
    sys::process::kill(first_pid, 19).unwrap();
    bundle.ok(&["delete", "--force", &id]);
    bundle.start();
    sys::process::kill(first_pid, 18).unwrap();
    let output = first.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(bundle.ok(&["state", &id]).contains("running"), "the first has deleted the second");
}
