//! `cargo xtask vm-test`: tests on another kernel, in an emulated machine with cgroup v2 alone and AppArmor on.
//!
//! Debian's stock kernel boots under `qemu` (software emulation: no KVM is needed) with a small Debian and systemd, runs
//! the test binaries of [`jobs::JOBS`] that were built here, and says at its end whether each of them passed.

mod boot;
mod guest;
mod jobs;
mod kernel;
mod payload;

use std::path::PathBuf;

use crate::machine;
use crate::run::{Result, root};

/// Builds the tests, boots the machine, and runs the jobs there: all, or those whose names begin with one of `arguments`.
/// What stands behind `--` goes to the test harness instead of the jobs' own arguments.
pub fn vm_test(arguments: &[String]) -> Result {
    let mut parts = arguments.splitn(2, |argument| argument == "--");
    let (names, filter) = (parts.next().unwrap_or_default(), parts.next());
    let jobs: Vec<&jobs::Job> = jobs::JOBS.iter().filter(|job| job.is_named(names)).collect();
    if jobs.is_empty() {
        let known: Vec<&str> = jobs::JOBS.iter().map(|job| job.name).collect();
        return Err(format!("no job has such a name; there are {}", known.join(", ")));
    }
    machine::install(machine::FOR_TESTS)?;
    install()?;
    let cache = cache()?;
    let kernel = kernel::fetch(&cache)?;
    let base = guest::build(&cache, &kernel)?;
    let payload = payload::build(&cache, &jobs, filter)?;
    boot::run(&boot::Disks { kernel: &kernel.image, base: &base, payload: &payload }, jobs.len())
}

/// Installs what emulates the machine. Without it nothing is skipped: a host that cannot have it has not tried the change.
pub fn install() -> Result {
    machine::install(machine::FOR_VM).map_err(|error| {
        format!("the tests on another kernel need an emulator, which is not to be had here: {error}")
    })
}

/// Where parts of the machine are kept between runs.
fn cache() -> Result<PathBuf> {
    let path = root().join("target/vm");
    std::fs::create_dir_all(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
    path.canonicalize().map_err(|error| format!("cannot find {}: {error}", path.display()))
}
