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
