//! A first command on a machine where no daemon runs.
//!
//! The default socket and state are everybody's: each test has a mount namespace where they are its own, and a network namespace for its bridge.

use kit::{Cmd, binary};

/// Runs a script with `/run`, `/var/lib`, `/var/log` and a network namespace of its own; its daemons end with it.
fn alone(script: &str) -> kit::Output {
    let script = format!(
        "mount -t tmpfs none /run && mount -t tmpfs none /var/lib && mount -t tmpfs none /var/log || exit 99
         ip link set lo up
         export HOME=/run/home; unset DOCKER_HOST DOCKER_CONTEXT DOCKER_CONFIG
         corten={}
         daemon() {{ cat /run/corten/*.pid 2>/dev/null; }}
         trap 'for pid in $(daemon); do kill $pid; while kill -0 $pid 2>/dev/null; do sleep 0.02; done; done' EXIT
         {script}",
        binary().display()
    );
    Cmd::new("unshare").args(["--mount", "--net", "sh", "-c", &script]).run()
}

#[test]
fn the_first_command_starts_the_daemon() {
    let output = alone(
        "$corten ps && pid=$(daemon) && [ -n \"$pid\" ] || exit 1
         echo sid $(ps -o sid= -p $pid) pid $pid
         echo cwd $(readlink /proc/$pid/cwd)
         tr '\\0' '\\n' < /proc/$pid/environ | grep -c HOME=
         readlink /proc/$pid/fd/0
         [ -s /var/log/corten.log ] && echo logged",
    );
    output.expect_code(0);
    let lines: Vec<&str> = output.stdout.lines().skip(1).collect();
    let words: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(words[1], words[3], "the daemon leads its session: {output}");
    assert_eq!(lines[1..], ["cwd /", "0", "/dev/null", "logged"], "{output}");
}

#[test]
fn several_at_once_start_one() {
    let output = alone(
        "for i in 1 2 3 4 5 6 7 8; do $corten ps -q & pids=\"$pids $!\"; done
         for pid in $pids; do wait $pid || exit 1; done
         daemon | wc -w; grep -c ready /var/log/corten.log",
    );
    assert_eq!(output.expect_code(0).stdout.split_whitespace().collect::<Vec<_>>(), ["1", "1"], "{output}");
}

#[test]
fn hello_world_runs_on_a_fresh_machine() {
    let output = alone("$corten run hello-world");
    assert!(output.expect_code(0).stdout.contains("Hello from Corten!"), "{output}");
}

#[test]
fn a_daemon_that_cannot_start_is_told_with_its_log() {
    let output = alone("touch /var/lib/corten; $corten ps");
    output.expect_code(1);
    assert!(output.stderr.contains("the daemon did not start"), "{output}");
    assert!(output.stderr.contains("/var/log/corten.log"), "{output}");
}

#[test]
fn a_named_daemon_is_never_started() {
    let output = alone(
        "DOCKER_HOST=unix:///run/corten/corten.sock $corten ps; echo $?; $corten -H unix:///run/x ps; echo $?; ls /run | grep -v mount",
    );
    assert_eq!(output.stdout, "1\n1\n", "{output}");
    assert!(output.stderr.contains("Cannot connect to the Docker daemon at unix:///run/x."), "{output}");
}
