//! Containers that are written down and made again, where the host's criu can do that.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bundle::{Bundle, patience, possible};

/// Counts for ever, in a file.
const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.1; done";

/// Whether criu is there and works on this kernel; prints it if not.
fn criu() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    let works = *WORKS.get_or_init(|| {
        let check = Command::new("criu").arg("check").stdout(Stdio::null()).stderr(Stdio::null()).status();
        check.is_ok_and(|status| status.success())
    });
    if !works {
        println!("skipped: criu");
    }
    works
}

fn counting() -> Bundle {
    let mut bundle = Bundle::script(COUNTER);
    // A network to be written down needs iptables and its modules.
    without(&mut bundle, "network");
    bundle
}

fn without(bundle: &mut Bundle, namespace: &str) {
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|n| n["type"] != namespace);
}

fn state(bundle: &Bundle) -> Value {
    serde_json::from_str(&bundle.ok(&["state", &bundle.id()])).unwrap()
}

fn count(bundle: &Bundle) -> u64 {
    let text = fs::read_to_string(bundle.rootfs().join("tmp/count")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// The options of cgroup version 2, which are the host's.
fn unified_options() -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    line.split(' ').next_back().map(str::to_owned)
}

/// Waits until none of them is gone: another test's criu may be at work.
fn await_options(before: &Option<String>) {
    let deadline = Instant::now() + patience();
    let now = || unified_options().unwrap_or_default();
    while !before.iter().flat_map(|before| before.split(',')).all(|option| now().contains(option)) {
        assert!(Instant::now() < deadline, "{before:?} became {:?}", now());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the counter is beyond `start`.
fn await_count(bundle: &Bundle, start: u64) -> u64 {
    let deadline = Instant::now() + patience();
    loop {
        let now = count(bundle);
        if now > start {
            return now;
        }
        assert!(Instant::now() < deadline, "it does not count: {now}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A command whose streams nobody holds open afterwards.
fn quiet(bundle: &Bundle, args: &[&str]) {
    let log = bundle.path().join("log.quiet");
    let mut command = bundle.command(args);
    let status = command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap()).status().unwrap();
    let criu = ["dump.log", "restore.log"].map(|name| {
        let log = fs::read_to_string(bundle.path().join("checkpoint").join(name)).unwrap_or_default();
        log.lines().rev().take(30).map(|line| format!("\n{line}")).collect::<String>()
    });
    assert!(status.success(), "{args:?}: {}{}", fs::read_to_string(log).unwrap(), criu.concat());
}

/// The one line with which a command is refused.
fn refusal(bundle: &Bundle, args: &[&str]) -> String {
    let output = bundle.command(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{args:?} is not refused");
    assert_eq!(error.lines().count(), 1, "not one line: {error}");
    error
}

#[test]
fn without_criu_it_is_refused_and_the_container_goes_on() {
    if !possible() || criu() {
        return;
    }
    let bundle = counting();
    let id = bundle.id();
    bundle.start();
    let error = refusal(&bundle, &["checkpoint", &id]);
    assert!(error.contains("checkpoint is not supported on this host: criu"), "{error}");
    assert!(!bundle.path().join("checkpoint").exists());
    await_count(&bundle, count(&bundle));
    bundle.ok(&["delete", "--force", &id]);
    let error = refusal(&bundle, &["restore", "--detach", &id]);
    assert!(error.contains("restore is not supported on this host: criu"), "{error}");
    bundle.assert_nothing_left();
}

#[test]
fn what_is_not_carried_out_is_refused_by_its_name() {
    if !possible() {
        return;
    }
    let bundle = counting();
    for option in ["--page-server=1:2", "--lazy-pages", "--status-fd=3"] {
        let error = refusal(&bundle, &["checkpoint", option, "x"]);
        assert!(error.contains(option.split('=').next().unwrap()), "{error}");
    }
    let error = refusal(&bundle, &["restore", "--no-pivot", "x"]);
    assert!(error.contains("--no-pivot"), "{error}");
    let error = refusal(&bundle, &["checkpoint", "--manage-cgroups-mode", "much", "x"]);
    assert!(error.contains("\"much\""), "{error}");
    let error = refusal(&bundle, &["checkpoint", "--parent-path", "/x", "x"]);
    assert!(error.contains("--parent-path"), "{error}");
    let error = refusal(&bundle, &["checkpoint", "--empty-ns", "mount", "x"]);
    assert!(error.contains("--empty-ns"), "{error}");
    bundle.assert_nothing_left();
}

#[test]
fn a_counter_goes_on_where_it_was() {
    if !possible() || !criu() {
        return;
    }
    let options = unified_options();
    let mut bundle = counting();
    let source = bundle.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("f"), "content\n").unwrap();
    bundle.config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/new/dir", "type": "bind", "source": source, "options": ["rbind", "ro"],
    }));
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 42});
    let id = bundle.id();
    bundle.start();
    await_count(&bundle, 2);
    quiet(&bundle, &["checkpoint", "--leave-running", "--image-path", "first", &id]);
    assert_eq!(state(&bundle)["status"], "running");
    await_count(&bundle, count(&bundle));
    quiet(&bundle, &["checkpoint", &id]);
    assert_eq!(state(&bundle)["status"], "stopped");
    let stopped_at = count(&bundle);
    bundle.ok(&["delete", &id]);
    bundle.assert_nothing_left();

    quiet(&bundle, &["restore", "--detach", "--pid-file", "pid", &id]);
    let restored = state(&bundle);
    assert_eq!(restored["status"], "running");
    assert_eq!(fs::read_to_string(bundle.path().join("pid")).unwrap(), restored["pid"].to_string());
    let now = await_count(&bundle, stopped_at);
    assert!(now < stopped_at + 1000, "{stopped_at}, {now}");
    // It is the container that it was, for a further process too.
    let script = "cat /new/dir/f; touch /new/dir/g 2>&1; hostname; stat -c %t:%T /proc/timer_list /dev/null; \
                  ls /sys/firmware | wc -l; cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null; true";
    let inside = bundle.ok(&["exec", &id, "sh", "-c", script]);
    let expected = "content\ntouch: /new/dir/g: Read-only file system\ncorten\n1:3\n1:3\n0\n42\n";
    assert_eq!(inside, expected);
    bundle.ok(&["pause", &id]);
    assert_eq!(state(&bundle)["status"], "paused");
    bundle.ok(&["resume", &id]);
    let pidfd = sys::process::pidfd(i32::try_from(restored["pid"].as_i64().unwrap()).unwrap()).unwrap();
    bundle.ok(&["kill", &id, "KILL"]);
    assert!(sys::process::wait_ended(&pidfd, 10_000).unwrap());
    assert_eq!(state(&bundle)["status"], "stopped");
    bundle.ok(&["delete", &id]);
    bundle.assert_nothing_left();
    await_options(&options);
}

#[test]
fn a_broken_checkpoint_leaves_nothing() {
    if !possible() || !criu() {
        return;
    }
    let bundle = counting();
    let id = bundle.id();
    let images = bundle.path().join("checkpoint");
    fs::create_dir(&images).unwrap();
    let error = refusal(&bundle, &["restore", "--detach", &id]);
    assert!(error.contains("holds no checkpoint"), "{error}");
    bundle.assert_nothing_left();
    fs::write(images.join("inventory.img"), "not an image").unwrap();
    fs::write(images.join("descriptors.json"), "[\"/dev/null\", \"/dev/null\", \"/dev/null\"]").unwrap();
    let error = refusal(&bundle, &["restore", "--detach", &id]);
    assert!(error.contains("cannot restore container: criu: ") && error.contains("restore.log"), "{error}");
    bundle.assert_nothing_left();
    assert!(!Path::new(&bundle.path().join("state").join(&id)).exists());
}

#[test]
fn a_restored_container_is_attended() {
    if !possible() || !criu() {
        return;
    }
    let mut bundle =
        Bundle::script("echo before; while [ ! -e /tmp/flag ]; do sleep 0.1; done; echo after; exit 7");
    without(&mut bundle, "network");
    let id = bundle.id();
    let mut command = bundle.command(&["run", "--keep", &id]);
    let first = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + patience();
    while !bundle.command(&["exec", &id, "true"]).output().unwrap().status.success() {
        assert!(Instant::now() < deadline, "it does not start");
    }
    quiet(&bundle, &["checkpoint", &id]);
    let first = first.wait_with_output().unwrap();
    assert_eq!((first.status.code(), first.stdout.as_slice()), (Some(137), &b"before\n"[..]));
    bundle.ok(&["delete", &id]);
    fs::write(bundle.rootfs().join("tmp/flag"), "").unwrap();
    let second = bundle.command(&["restore", &id]).output().unwrap();
    assert_eq!(second.status.code(), Some(7), "{}", String::from_utf8_lossy(&second.stderr));
    assert_eq!(String::from_utf8_lossy(&second.stdout), "after\n");
    bundle.assert_nothing_left();
}
