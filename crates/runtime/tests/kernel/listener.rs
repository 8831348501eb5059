//! Somebody who answers for a filter (`SCMP_ACT_NOTIFY`), and what he is told.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use sys::seccomp::{self, Answer};

use crate::bundle::{Bundle, possible};

const PATIENCE: Duration = Duration::from_secs(20);

/// Lets every call be made; tells what it is given with each listener, and of each call its number, the process and its parent.
fn agent(listener: UnixListener) -> (Receiver<Value>, Receiver<(i32, [String; 2])>) {
    let ((told, states), (saw, calls)) = (channel(), channel());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut buffer, mut descriptors) = ([0; 16384], Vec::new());
            let length = sys::socket::recv_fds(stream.unwrap(), &mut buffer, &mut descriptors).unwrap();
            let (notify, saw) = (descriptors.remove(0), saw.clone());
            told.send(serde_json::from_slice(&buffer[..length]).unwrap()).unwrap();
            thread::spawn(move || {
                while let Ok(asked) = seccomp::asked(&notify) {
                    // Before the answer: afterwards it may end.
                    let stat = fs::read_to_string(format!("/proc/{}/stat", asked.pid)).unwrap_or_default();
                    let parent = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap_or_default();
                    saw.send((asked.number, [asked.pid.to_string(), parent.to_owned()])).unwrap();
                    let _ = seccomp::answer(&notify, asked.id, Answer::Continue);
                }
            });
        }
    });
    (states, calls)
}

#[test]
fn of_an_exec_the_agent_is_told_the_process_itself() {
    if !possible() {
        return;
    }
    const MKDIR: i32 = 83;
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    let path = bundle.path().join("agent");
    let (states, calls) = agent(UnixListener::bind(&path).unwrap());
    // Also what the runtime itself calls on its way: before there is a process to tell of nobody else can answer for that.
    let asked = ["mkdir", "capset", "setresuid", "fchdir", "clone", "setsid"];
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "listenerPath": path,
        "syscalls": [{"names": asked, "action": "SCMP_ACT_NOTIFY"}],
    });
    for no_new_privileges in [true, false] {
        bundle.config["process"]["noNewPrivileges"] = no_new_privileges.into();
        bundle.start();
        let init = states.recv_timeout(PATIENCE).unwrap();
        assert_eq!(init["pid"], init["state"]["pid"]);
        let id = bundle.id();
        let file = bundle.path().join("exec.pid");
        let script = "mkdir /tmp/made; exec sleep 1000";
        let exec = ["exec", "--detach", "--pid-file", file.to_str().unwrap(), &id, "sh", "-c", script];
        let status = bundle.command(&exec).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success());
        let told = states.recv_timeout(PATIENCE).unwrap();
        let pid = fs::read_to_string(&file).unwrap();
        assert_eq!(told["pid"].to_string(), pid);
        assert_eq!(told["state"]["pid"], init["pid"]);
        // It is asked about what the process does, and those that it makes.
        let mut asked = std::iter::from_fn(|| calls.recv_timeout(PATIENCE).ok());
        let (_, who) = asked.find(|(number, _)| *number == MKDIR).unwrap();
        assert!(who.contains(&pid), "{who:?}, not {pid}");
        bundle.ok(&["delete", "--force", &id]);
    }
}

#[test]
fn an_agent_that_has_gone_ends_an_exec() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    let path = bundle.path().join("agent");
    let (states, _calls) = agent(UnixListener::bind(&path).unwrap());
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "listenerPath": path,
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
    });
    bundle.start();
    states.recv_timeout(PATIENCE).unwrap();
    fs::remove_file(&path).unwrap();
    let id = bundle.id();
    let output = bundle.command(&["exec", &id, "true"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("linux.seccomp.listenerPath"), "{error}");
    let pids: Vec<i32> = serde_json::from_str(&bundle.ok(&["ps", "--format", "json", &id])).unwrap();
    assert_eq!(pids.len(), 1);
}
