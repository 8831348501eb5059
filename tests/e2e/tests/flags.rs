//! The flags of `run`, `create`, `exec` and `update` that say what a container shares, has and may use, each looked at from
//! inside; through our command line and the real `docker`.

#[path = "flags/devices.rs"]
mod devices;
#[path = "flags/exec.rs"]
mod exec;
#[path = "flags/later.rs"]
mod later;
#[path = "flags/limits.rs"]
mod limits;
#[path = "flags/shared.rs"]
mod shared;

use kit::{Cli, Host};

/// Runs `script` in a new busybox container with `flags`, and gives what it wrote.
fn sh(host: &Host, cli: Cli, flags: &[&str], script: &str) -> String {
    host.cli(cli, words(flags, script)).ok()
}

/// How that is typed.
fn words<'a>(flags: &[&'a str], script: &'a str) -> Vec<&'a str> {
    let mut args = vec!["run", "--rm", "--network", "none"];
    args.extend(flags);
    args.extend(["busybox", "sh", "-c", script]);
    args
}

/// Starts a busybox container that does `script`, or sleeps.
fn start(host: &Host, cli: Cli, name: &str, flags: &[&str], script: &str) {
    let mut args = vec!["run", "-d", "--name", name, "--network", "none"];
    args.extend(flags);
    args.extend(["busybox", "sh", "-c", script]);
    host.cli(cli, args).ok();
}

/// Removes containers.
fn remove(host: &Host, cli: Cli, names: &[&str]) {
    host.cli(cli, ["rm", "-f", "-v"].iter().chain(names)).ok();
}
