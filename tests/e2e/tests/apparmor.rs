//! AppArmor: containers are confined unless they ask not to be, and what confines them holds where other walls are down.

use std::fs;
use std::fs::File;

use kit::{Cmd, Host, wait_for};
use rustix::fs::{FlockOperation, flock};

const CURRENT: [&str; 2] = ["cat", "/proc/self/attr/current"];
const CONFINED: &str = "corten-default (enforce)";

/// Whether AppArmor is on here. The profile is the machine's, and one test takes it away: the others share a lock.
fn turn(operation: FlockOperation) -> Option<File> {
    let on = fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.trim() == "Y");
    if !on {
        kit::skip("apparmor", "this kernel has it off");
        return None;
    }
    let path = std::env::temp_dir().join("corten-test-apparmor.lock");
    let lock = File::options().create(true).append(true).open(path).expect("a lock file");
    flock(&lock, operation).expect("a lock");
    Some(lock)
}

fn run(host: &Host, flags: &[&str], command: &[&str]) -> kit::Output {
    let mut args = vec!["run", "--rm", "--network", "none"];
    args.extend(flags);
    args.push("busybox");
    args.extend(command);
    host.corten(args).run()
}

fn inspect(host: &Host, id: &str) -> String {
    host.corten(["inspect", "-f", "{{.AppArmorProfile}}", id]).ok()
}

#[test]
fn confined_unless_asked_otherwise() {
    let Some(_turn) = turn(FlockOperation::LockShared) else { return };
    let host = Host::with_busybox();
    let info = host.corten(["info", "--format", "{{json .SecurityOptions}}"]).ok();
    assert!(info.contains("name=apparmor"), "{info}");
    assert_eq!(run(&host, &["--privileged"], &CURRENT).text(), "unconfined");
    assert_eq!(run(&host, &["--security-opt", "apparmor=unconfined"], &CURRENT).text(), "unconfined");
    let wrong = ["run", "--network", "none", "--security-opt", "apparmor=corten-no-such", "busybox", "true"];
    host.corten(wrong).fails(125, "AppArmor profile corten-no-such is not loaded");

    let id = host.corten(["run", "-d", "--network", "none", "busybox", "sleep", "1000"]).ok();
    let status = fs::read_to_string(format!("/proc/{}/attr/current", pid(&host, &id))).expect("label");
    assert_eq!(status.trim(), CONFINED);
    assert_eq!(inspect(&host, &id), "corten-default");
    for flags in [&[][..], &["--privileged"], &["-u", "1000"], &["-t"]] {
        let args = ["exec"].iter().chain(flags).copied().chain([id.as_str()]).chain(CURRENT);
        assert_eq!(host.corten(args).ok().trim(), CONFINED, "{flags:?}");
    }
    // The engine, which nothing confines, can end it.
    host.corten(["stop", "-t", "0", &id]).ok();

    let privileged = host.corten(["create", "--privileged", "busybox"]).ok();
    assert_eq!(inspect(&host, &privileged), "unconfined");
}

fn pid(host: &Host, id: &str) -> String {
    host.corten(["inspect", "-f", "{{.State.Pid}}", id]).ok()
}

#[test]
fn it_holds_where_other_walls_are_down() {
    let Some(_turn) = turn(FlockOperation::LockShared) else { return };
    let host = Host::with_busybox();
    let flags = ["--cap-add", "ALL", "--security-opt", "seccomp=unconfined", "--security-opt"];
    let open = |more: &[&str], script: &str| {
        let mut all = flags.to_vec();
        all.push("systempaths=unconfined");
        all.extend(more);
        run(&host, &all, &["sh", "-c", script])
    };
    let probe = "for what in \
        'mount -t tmpfs none /tmp' \
        'mount -o remount,rw /sys' \
        'mount --bind /etc /tmp' \
        'echo 1 >/proc/sys/vm/drop_caches' \
        'cat /proc/sys/kernel/hostname >/proc/sys/kernel/hostname' \
        'echo h >/proc/sysrq-trigger' \
        'echo 0 >/proc/irq/default_smp_affinity' \
        'head -c1 /proc/kcore' \
        'ls /sys/kernel/security/apparmor' \
        'cat /sys/firmware/dmi/tables/DMI'; \
        do if sh -c \"$what\" >/dev/null 2>&1; then echo \"$what\"; fi; done; echo done";
    let core = || fs::read_to_string("/proc/sys/kernel/core_pattern").expect("core_pattern");
    let before = core();
    assert_eq!(open(&[], probe).text(), "done", "these were possible");
    // What is meant to be possible: its own files, and the shared memory of its own namespace.
    assert_eq!(open(&[], "echo 4096 >/proc/sys/kernel/shmmax && cat /proc/sys/kernel/shmmax").text(), "4096");
    assert_eq!(open(&[], "echo me >/proc/self/comm && umount /dev/mqueue && echo yes").text(), "yes");
    // Without the profile it is the same words that work, so they do test something.
    let without =
        open(&["--security-opt", "apparmor=unconfined"], "mount -t tmpfs none /tmp && echo mounted");
    assert_eq!(without.text(), "mounted");
    assert_eq!(core(), before);
}

#[test]
fn nothing_outside_is_signalled_or_traced() {
    let Some(_turn) = turn(FlockOperation::LockShared) else { return };
    let host = Host::with_busybox();
    let other =
        host.corten(["run", "-d", "--network", "none", "--privileged", "busybox", "sleep", "1000"]).ok();
    let target = pid(&host, &other);
    let script = format!(
        "kill -9 {target}; readlink /proc/{target}/exe || cat /proc/{target}/environ | wc -c; \
         sleep 1000 & kill -9 $! && wait $!; echo own $?"
    );
    let flags = ["--pid", "host", "--cap-add", "ALL", "--security-opt", "seccomp=unconfined"];
    let output = run(&host, &flags, &["sh", "-c", &script]);
    assert_eq!(output.text(), "0\nown 137", "{output}");
    assert!(output.stderr.contains("Permission denied"), "{output}");
    assert_eq!(pid(&host, &other), target);
    let flags = ["--pid", "host", "--cap-add", "ALL", "--security-opt", "apparmor=unconfined"];
    assert_eq!(run(&host, &flags, &["kill", "-9", &target]).code, 0, "without the profile it is possible");
    wait_for("its end", || (pid(&host, &other) == "0").then_some(()));
}

#[test]
fn a_profile_that_was_removed_is_loaded_again() {
    let Some(_turn) = turn(FlockOperation::LockExclusive) else { return };
    let host = Host::with_busybox();
    let remove = || {
        let text = "profile corten-default {}\n";
        let _ = Cmd::new("apparmor_parser").args(["-R"]).stdin(text).ok();
    };
    remove();
    assert_eq!(run(&host, &[], &CURRENT).text(), CONFINED);
    let id = host.corten(["run", "-d", "--network", "none", "busybox", "sleep", "1000"]).ok();
    remove();
    assert_eq!(host.corten(["exec", &id].into_iter().chain(CURRENT)).ok(), CONFINED);
}
