//! What runs in the machine. A new suite is a new entry here.

/// Who runs a job.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The machine's root.
    Root,
    /// An ordinary user with subordinate ids, in a unit of their own whose cgroup is delegated to them.
    #[expect(dead_code, reason = "the suite for ordinary users is not there yet")]
    Tester,
}

/// A test binary with arguments.
pub struct Job {
    /// For people, and for choosing it.
    pub name: &'static str,
    /// The crate.
    pub package: &'static str,
    /// The test's name in that crate.
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

/// All jobs, in their order.
pub const JOBS: &[Job] = &[
    job("runtime", "runtime", "kernel", &[]),
    job(
        "engine-resources",
        "e2e",
        "run",
        &["limits", "a_process_that_takes", "the_world_inside", "users", "mounts", "init_reaps"],
    ),
    job("engine-life", "e2e", "lifecycle", &["exec", "pause_and_unpause", "signals", "ps_top", "attach"]),
    job("engine-attacks", "e2e", "attack", &[]),
    job("engine-terminal", "e2e", "cli_terminal", &[]),
    job("engine-restart", "e2e", "restart_daemon", &[]),
];
