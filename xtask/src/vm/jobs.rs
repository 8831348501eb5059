//! What runs in the machine. A new suite is a new entry here.

/// Who runs a job.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The machine's root.
    Root,
    /// An ordinary user with subordinate ids, in a unit of their own whose cgroup is delegated to them, and with a systemd of
    /// their own.
    Tester,
}

/// A test binary with arguments.
pub struct Job {
    /// For people, and for choosing it.
    pub name: &'static str,
    /// The crate.
    pub package: &'static str,
    /// The test's name in that crate; `lib` for its unit tests.
    pub test: &'static str,
    /// Arguments for the test harness: which tests, how many at once.
    pub args: &'static [&'static str],
    /// Who runs it.
    pub who: Who,
}

impl Job {
    /// Whether one of `names` means this job; no name means all.
    pub fn is_named(&self, names: &[String]) -> bool {
        names.is_empty() || names.iter().any(|name| self.name.starts_with(name.as_str()))
    }
}

/// A job of root's.
const fn job(
    name: &'static str,
    package: &'static str,
    test: &'static str,
    args: &'static [&'static str],
) -> Job {
    Job { name, package, test, args, who: Who::Root }
}

/// All jobs, in their order. Emulation is slow: of the engine's tests, those that have to do with cgroups, AppArmor or the
/// kernel's age.
pub const JOBS: &[Job] = &[
    // First: criu, which others use, mounts version 2 without `nsdelegate`, and by that takes the option from the whole machine.
    Job { name: "runtime-user", package: "runtime", test: "kernel", args: &["delegated"], who: Who::Tester },
    job("runtime", "runtime", "kernel", &["--skip=attacks::mkdir_race", "--skip=attacks::fd_cwd"]),
    job("suite", "runtimes", "suite", &[]),
    job("apparmor", "e2e", "apparmor", &[]),
    job("layers", "shim", "lib", &["rootfs"]),
    job("engine-layers", "e2e", "layers", &[]),
    job("engine-quotas", "e2e", "quotas", &[]),
    job("engine-resources", "e2e", "run", &["limits", "a_process_that_takes", "the_world_inside", "users"]),
    job("engine-life", "e2e", "lifecycle", &["exec", "pause_and_unpause", "ps_top"]),
    job("engine-stats", "e2e", "stats", &["numbers_are_the_kernels"]),
    job(
        "engine-update",
        "e2e",
        "flags",
        &["there_is_a_limit_of_processes", "all_that_update_changes", "a_fork_bomb"],
    ),
    job("engine-faults", "e2e", "faults", &["who_takes_too_much_memory"]),
    job("engine-health", "e2e", "health", &["commands_tell"]),
    job("engine-attacks", "e2e", "attack", &["inherited_caps", "kernel_surface", "exhaustion"]),
    job("engine-terminal", "e2e", "cli_terminal", &["a_shell"]),
    job(
        "engine-restart",
        "e2e",
        "restart_daemon",
        &["an_end_that_no_daemon_saw", "nothing_is_left", "an_orderly_end"],
    ),
];

/// Programs in C that tests would compile if they found a compiler: name and source.
pub const PROGRAMS: &[(&str, &str)] = &[("surface", "tests/e2e/tests/attack/surface.c")];
