//! Containers on a disk that has become full.

use kit::disk::SmallDisk;
use kit::{Host, skip};

#[test]
fn what_runs_ends_as_it_ends_and_what_is_new_is_refused() {
    let Some(disk) = SmallDisk::mount("64M") else {
        skip("loop devices", "cannot mount a small file system");
        return;
    };
    let root = disk.path().join("data").display().to_string();
    let mut host = Host::with_flags(&["--data-root", &root]);
    host.pull_busybox();
    let script = "trap 'exit 3' TERM; while :; do sleep 0.1; done";
    let run = ["run", "-d", "--network", "none", "--name", "there", "busybox", "sh", "-c", script];
    host.corten(run).ok();
    let filling = disk.fill();
    let run = ["run", "--rm", "--network", "none", "busybox", "true"];
    host.corten(run).fails(125, "no space left on device");
    assert_eq!(host.corten(["ps", "-aq"]).ok().lines().count(), 1);
    host.corten(["kill", "-s", "TERM", "there"]).ok();
    assert_eq!(host.corten(["wait", "there"]).ok(), "3");
    // The record may not have been written; then what the supervisor wrote down tells it to the next daemon.
    host.kill_daemon();
    std::fs::remove_file(filling).expect("remove the filling");
    host.start_daemon();
    assert_eq!(host.corten(["wait", "there"]).ok(), "3");
    host.corten(["rm", "there"]).ok();
    host.corten(run).ok();
    drop(host);
    drop(disk);
}

#[test]
fn a_daemon_starts_on_a_full_disk_and_what_runs_is_ended_and_removed() {
    let Some(disk) = SmallDisk::in_memory("24M") else {
        skip("mounts", "cannot mount a file system in memory");
        return;
    };
    let root = disk.path().join("data").display().to_string();
    let mut host = Host::with_flags(&["--data-root", &root]);
    host.pull_busybox();
    let script = "head -c 4m /dev/zero > /much; trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let run = ["run", "-d", "--network", "none", "--name", "there", "busybox", "sh", "-c", script];
    host.corten(run).ok();
    kit::wait_for("it has written", || host.corten(["logs", "there"]).ok().contains("ready").then_some(()));
    let filling = disk.fill();
    host.kill_daemon();
    host.start_daemon();
    assert!(host.corten(["ps"]).ok().contains("there"));
    host.corten(["stop", "there"]).ok();
    assert_eq!(host.corten(["inspect", "-f", "{{.State.ExitCode}}", "there"]).ok(), "3");
    let reserve = disk.path().join("data/reserve");
    assert!(!reserve.exists(), "the room that was kept back was given up");
    host.corten(["rm", "there"]).ok();
    // What the container has written is room again.
    let new = disk.path().join("new");
    kit::wait_for("there is room", || std::fs::write(&new, vec![1; 3 << 20]).ok());
    std::fs::remove_file(new).expect("remove what fits");
    std::fs::remove_file(filling).expect("remove the filling");
    host.corten(["run", "--rm", "--network", "none", "busybox", "true"]).ok();
    // The disk may become full again.
    kit::wait_for("room is kept back", || reserve.exists().then_some(()));
    drop(host);
    drop(disk);
}
