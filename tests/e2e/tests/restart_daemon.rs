//! Containers do not depend on the daemon: it may be killed at any moment, and the next one finds everything as it is.

use std::fs;
use std::path::Path;

use kit::{Host, wait_for};
use rustix::process::{Pid, Signal, kill_process};

/// Starts a container that runs `script`, and gives its id.
fn start(host: &Host, flags: &[&str], script: &str) -> String {
    let mut args = vec!["run", "-d", "--network", "none"];
    args.extend(flags);
    args.extend(["busybox", "sh", "-c", script]);
    host.corten(args).ok()
}

fn inspect(host: &Host, id: &str, format: &str) -> String {
    host.corten(["inspect", "--format", format, id]).ok()
}

fn init_pid(host: &Host, id: &str) -> i32 {
    inspect(host, id, "{{.State.Pid}}").parse().expect("a pid")
}

/// The process that a process belongs to: of a container's init, its supervisor.
fn parent(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("PPid");
    line.trim().parse().expect("a pid")
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("kill");
}

fn wait_gone(what: &str, pid: i32) {
    wait_for(what, || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
}

/// What a container that is gone, or does not run, must not leave.
fn assert_nothing_runs(host: &Host, id: &str) {
    wait_for("the runtime directory to be gone", || {
        (!host.exec_root().join("c").join(id).exists()).then_some(())
    });
    wait_for("the cgroups to be gone", || {
        host.cgroups().iter().all(|parent| !parent.join(id).exists()).then_some(())
    });
    assert_eq!(host.mounts(), Vec::<String>::new());
}

#[test]
fn twenty_containers_write_on_while_the_daemon_is_killed() {
    let mut host = Host::with_busybox();
    let script = "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo line $i; sleep 0.01; done; echo end; exit 7";
    let ids: Vec<String> = (0..20).map(|_| start(&host, &[], script)).collect();
    let pids: Vec<i32> = ids.iter().map(|id| init_pid(&host, id)).collect();

    host.kill_daemon();
    // They go on writing while nobody is there.
    for id in &ids {
        let log = host.data_root().join("containers").join(id).join("log/json.log");
        let before = fs::metadata(&log).expect("log").len();
        wait_for("a container to write", || (fs::metadata(&log).ok()?.len() > before).then_some(()));
    }
    host.start_daemon();

    assert_eq!(host.corten(["ps", "-q"]).ok().lines().count(), 20);
    for (id, pid) in ids.iter().zip(pids) {
        assert_eq!(init_pid(&host, id), pid, "the same process");
        assert_eq!(host.corten(["exec", id, "cat", "/proc/1/comm"]).ok(), "sh");
        fs::write(format!("/proc/{pid}/root/stop"), "").expect("touch");
    }
    for id in &ids {
        assert_eq!(host.corten(["wait", id]).ok(), "7");
        let log = host.corten(["logs", id]).ok();
        let mut lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines.pop(), Some("end"));
        for (n, line) in lines.iter().enumerate() {
            assert_eq!(*line, format!("line {}", n + 1), "a line is missing, or doubled");
        }
        host.corten(["rm", id]).ok();
        assert_nothing_runs(&host, id);
    }
}

#[test]
fn an_end_that_no_daemon_saw_is_told_by_the_next() {
    let mut host = Host::with_busybox();
    let id = start(&host, &[], "while [ ! -e /stop ]; do sleep 0.01; done; echo bye; exit 9");
    let rm = start(&host, &["--rm"], "while [ ! -e /stop ]; do sleep 0.01; done");
    let pids = [init_pid(&host, &id), init_pid(&host, &rm)];
    host.kill_daemon();
    for pid in pids {
        fs::write(format!("/proc/{pid}/root/stop"), "").expect("touch");
        wait_gone("the container to end", pid);
    }
    host.start_daemon();
    assert_eq!(inspect(&host, &id, "{{.State.Status}} {{.State.ExitCode}}"), "exited 9");
    assert_eq!(host.corten(["logs", &id]).ok(), "bye");
    // One that is removed when it ends is removed, whoever saw the end.
    wait_for("the container to be removed", || {
        (!host.corten(["ps", "-aq", "--no-trunc"]).ok().contains(&rm)).then_some(())
    });
    assert_nothing_runs(&host, &rm);
    assert!(!host.data_root().join("containers").join(&rm).exists());
    host.corten(["start", &id]).ok();
    host.corten(["rm", "-f", &id]).ok();
}

#[test]
fn nothing_is_left_of_a_container_whose_supervisor_is_killed() {
    let mut host = Host::with_busybox();
    for daemon_is_there in [true, false] {
        let id = start(&host, &[], "sleep 1000 & sleep 1000 & wait");
        let init = init_pid(&host, &id);
        let supervisor = parent(init);
        if !daemon_is_there {
            host.kill_daemon();
        }
        kill(supervisor);
        if !daemon_is_there {
            host.start_daemon();
        }
        wait_for("the container to be seen as ended", || {
            (inspect(&host, &id, "{{.State.Status}} {{.State.ExitCode}}") == "exited 137").then_some(())
        });
        wait_gone("the init to be gone", init);
        assert_nothing_runs(&host, &id);
        assert!(inspect(&host, &id, "{{.State.Error}}").contains("exit unknown"));
        host.corten(["start", &id]).ok();
        assert_eq!(inspect(&host, &id, "{{.State.Status}}"), "running");
        host.corten(["rm", "-f", &id]).ok();
        assert_nothing_runs(&host, &id);
    }
}

#[test]
fn a_restart_policy_holds_across_daemons() {
    let mut host = Host::with_busybox();
    let wait = "while [ ! -e /stop ]; do sleep 0.01; done";
    let always = start(&host, &["--restart", "always"], wait);
    let unless = start(&host, &["--restart", "unless-stopped"], wait);
    let plain = start(&host, &[], wait);
    host.corten(["stop", "-t", "0", &unless]).ok();
    let pids: Vec<i32> = [&always, &plain].iter().map(|id| init_pid(&host, id)).collect();
    host.kill_daemon();
    for pid in pids {
        kill(parent(pid));
        kill(pid);
        wait_gone("the container to end", pid);
    }
    host.start_daemon();
    wait_for("the container to be started again", || {
        (inspect(&host, &always, "{{.State.Status}}") == "running").then_some(())
    });
    assert_eq!(inspect(&host, &unless, "{{.State.Status}}"), "exited");
    assert_eq!(inspect(&host, &plain, "{{.State.Status}}"), "exited");
    host.corten(["rm", "-f", &always, &unless, &plain]).ok();
}

#[test]
fn a_daemon_killed_in_the_middle_of_things_leaves_nothing_half_made() {
    let mut host = Host::with_busybox();
    for round in 0..6u64 {
        let clients: Vec<_> =
            (0..4).map(|_| host.corten(["run", "--network", "none", "busybox", "true"]).spawn()).collect();
        // At another moment in each round: what is there to be waited for is what is to be interrupted.
        std::thread::sleep(std::time::Duration::from_millis(round * 7));
        host.kill_daemon();
        for client in clients {
            // Whether it came through depends on the moment.
            let _ = client.wait();
        }
        host.start_daemon();
        for id in host.corten(["ps", "-aq", "--no-trunc"]).ok().lines() {
            host.corten(["rm", "-f", id]).ok();
            assert_nothing_runs(&host, id);
        }
        for dir in [host.data_root().join("containers"), host.exec_root().join("c")] {
            let left: Vec<_> = fs::read_dir(&dir).expect("list").flatten().map(|e| e.path()).collect();
            assert!(left.is_empty(), "{left:?}");
        }
        let snapshots = host.data_root().join("snapshots");
        wait_for("the snapshots to be gone", || (fs::read_dir(&snapshots).ok()?.count() == 0).then_some(()));
    }
}

#[test]
fn an_orderly_end_of_the_daemon_is_no_end_of_containers() {
    let mut host = Host::with_busybox();
    let id = start(&host, &["--name", "web"], "while [ ! -e /stop ]; do sleep 0.01; done; exit 4");
    host.corten(["pause", "web"]).ok();
    host.stop_daemon();
    host.start_daemon();
    assert_eq!(inspect(&host, "web", "{{.Id}} {{.State.Status}}"), format!("{id} paused"));
    host.corten(["unpause", "web"]).ok();
    assert_eq!(host.corten(["exec", "web", "cat", "/proc/1/comm"]).ok(), "sh");
    fs::write(format!("/proc/{}/root/stop", init_pid(&host, "web")), "").expect("touch");
    assert_eq!(host.corten(["wait", "web"]).ok(), "4");
}
