//! A fault at every step: each process that takes part in making a container is killed at, or refused, its first call that changes
//! anything, then its second, and so on. Whatever is left, `delete --force` clears.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::bundle::{Bundle, possible};
use serde_json::json;

/// The calls that change something, or speak with another process. To be killed at any other is to be killed before the next of these.
const STEPS: &str = "bind,capset,chdir,chroot,clone,clone3,close_range,connect,execve,execveat,fchdir,fchmod,\
    fchown,fchownat,fsconfig,fsmount,fsopen,ftruncate,keyctl,listen,mkdir,mkdirat,mknodat,mount_setattr,move_mount,\
    open_tree,pivot_root,prctl,prlimit64,recvmsg,rename,renameat,renameat2,rmdir,seccomp,sendmsg,sendto,setdomainname,\
    setgroups,sethostname,setns,setresgid,setresuid,setsid,symlinkat,umount2,unlink,unlinkat,unshare";

/// More steps than any of the processes takes: the end of a loop that would not find its own.
const STEPS_MAX: usize = 1000;

/// A command of which each process meets `fault` at its call number `step`.
fn run(bundle: &Bundle, args: &[&str], calls: &str, fault: &str, step: usize) -> Output {
    let plain = bundle.command(args);
    let inject = format!("inject={calls}:{fault}:when={step}");
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e", &inject]);
    traced.arg(plain.get_program()).args(plain.get_args()).current_dir(bundle.path());
    traced.stdin(Stdio::null()).output().unwrap()
}

fn bundle() -> Bundle {
    let mut bundle = Bundle::new(&["true"]);
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 50});
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    });
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    bundle.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 7}});
    bundle
}

/// The same in a user namespace.
fn mapped_bundle() -> Bundle {
    let mut bundle = bundle();
    let linux = &mut bundle.config["linux"];
    linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    for name in ["uidMappings", "gidMappings"] {
        linux[name] = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    }
    bundle
}

fn can_trace() -> bool {
    let can = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    if !can.is_ok_and(|status| status.success()) {
        println!("skipped: strace");
        return false;
    }
    true
}

/// Processes whose command line names the bundle: those that strace or a fault has left.
fn processes_of(directory: &Path) -> Vec<String> {
    let name = directory.to_str().unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(name)).collect()
}

/// Beyond the last step of all processes nothing happens to any of them: so often in a row, and the end is reached.
const QUIET: usize = 5;

#[test]
fn a_creator_or_init_that_is_killed_at_any_step_leaves_nothing_that_delete_does_not_clear() {
    if !possible() || !can_trace() {
        return;
    }
    for bundle in [bundle(), mapped_bundle()] {
        let id = bundle.id();
        let (mut step, mut quiet) = (0, 0);
        while quiet < QUIET {
            step += 1;
            assert!(step < STEPS_MAX, "no end of steps");
            let output = run(&bundle, &["run", &id], &format!("{STEPS},write"), "signal=KILL", step);
            quiet = if output.status.success() { quiet + 1 } else { 0 };
            let deleted = bundle.command(&["delete", "--force", &id]).output().unwrap();
            assert!(deleted.status.success(), "step {step}: {deleted:?}");
            bundle.assert_nothing_left();
            assert_eq!(processes_of(bundle.path()), Vec::<String>::new(), "step {step}");
        }
        assert!(step > 30 + QUIET, "only {step} steps were tried");
    }
}

#[test]
fn a_call_that_is_refused_at_any_step_is_told_in_one_line_and_leaves_nothing() {
    if !possible() || !can_trace() {
        return;
    }
    for bundle in [bundle(), mapped_bundle()] {
        let id = bundle.id();
        let (mut step, mut quiet, mut refused) = (0, 0, 0);
        // Some calls may be refused and do no harm, so the end is further off.
        while quiet < 4 * QUIET {
            step += 1;
            assert!(step < STEPS_MAX, "no end of steps");
            let output = run(&bundle, &["run", &id], STEPS, "error=EIO", step);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            let deleted = bundle.command(&["delete", "--force", &id]).output().unwrap();
            assert!(deleted.status.success(), "step {step}: {deleted:?}");
            bundle.assert_nothing_left();
            if output.status.success() {
                quiet += 1;
            } else {
                (quiet, refused) = (0, refused + 1);
                assert_eq!(error.lines().count(), 1, "step {step}: {error}");
            }
        }
        assert!(refused > 30, "only {refused} calls were refused");
    }
}

#[test]
fn an_exec_that_is_killed_at_any_step_leaves_the_container_as_it_was() {
    if !possible() || !can_trace() {
        return;
    }
    let mut bundle = bundle();
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.start();
    let id = bundle.id();
    let (mut step, mut quiet) = (0, 0);
    while quiet < QUIET {
        step += 1;
        assert!(step < STEPS_MAX, "no end of steps");
        let exec = ["exec", &id, "true"];
        let output = run(&bundle, &exec, &format!("{STEPS},write"), "signal=KILL", step);
        quiet = if output.status.success() { quiet + 1 } else { 0 };
        assert_eq!(bundle.ok(&["ps", "--format", "json", &id]).matches(',').count(), 0, "step {step}");
        assert_eq!(bundle.ok(&["exec", &id, "echo", "alive"]), "alive\n", "step {step}");
    }
    assert!(step > 20 + QUIET, "only {step} steps were tried");
    bundle.ok(&["delete", "--force", &id]);
    bundle.assert_nothing_left();
}
