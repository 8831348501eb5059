//! How a process is scheduled: policy, I/O priority, processors, memory nodes.

use oci::runtime::{
    ExecCPUAffinity, IOPriorityClass, LinuxMemoryPolicy, LinuxSchedulerFlag as Flag,
    LinuxSchedulerPolicy as Policy, MemoryPolicyFlagType, MemoryPolicyModeType, Process, Scheduler,
};
use sys::process;
use sys::sched::{self, Attributes, CPUS_MAX, Mask, NODES_MAX};

use crate::error::{Context as _, Error};

fn invalid(what: impl std::fmt::Display) -> Error {
    Error::Invalid(what.to_string())
}

/// Checks what can be checked before anything is made.
pub(crate) fn check(process: &Process) -> Result<(), Error> {
    if let Some(scheduler) = process.scheduler() {
        check_scheduler(scheduler)?;
    }
    if let Some(priority) = process.io_priority()
        && !(0..8).contains(&priority.priority())
    {
        return Err(invalid("process.ioPriority is not between 0 and 7"));
    }
    if let Some(affinity) = process.exec_cpu_affinity() {
        Affinity::parse(affinity)?;
    }
    Ok(())
}

/// What the kernel would ignore is a mistake: the policy decides which of the numbers mean something.
fn check_scheduler(scheduler: &Scheduler) -> Result<(), Error> {
    let policy = *scheduler.policy();
    let refuse = |name: &str, given: bool| {
        if given { Err(invalid(format!("process.scheduler.{name} is not for {policy}"))) } else { Ok(()) }
    };
    let deadline = policy == Policy::SchedDeadline;
    let realtime = matches!(policy, Policy::SchedFifo | Policy::SchedRr);
    let fair = matches!(policy, Policy::SchedOther | Policy::SchedBatch);
    refuse("nice", !fair && scheduler.nice().is_some_and(|n| n != 0))?;
    refuse("priority", !realtime && scheduler.priority().is_some_and(|p| p != 0))?;
    for (name, value) in
        [("runtime", scheduler.runtime()), ("deadline", scheduler.deadline()), ("period", scheduler.period())]
    {
        refuse(name, !deadline && value.is_some_and(|v| v != 0))?;
    }
    let nice = scheduler.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(invalid(format!("process.scheduler.nice {nice} is not between -20 and 19")));
    }
    Ok(())
}

/// A process that is to make another cannot have what the kernel does not pass on, or refuses to those that fork.
pub(crate) fn check_for_exec(process: &Process) -> Result<(), Error> {
    let Some(scheduler) = process.scheduler() else { return Ok(()) };
    if *scheduler.policy() == Policy::SchedDeadline {
        return Err(Error::Unsupported("process.scheduler SCHED_DEADLINE for an exec".into()));
    }
    if scheduler.flags().iter().flatten().any(|f| *f == Flag::SchedResetOnFork) {
        return Err(Error::Unsupported("process.scheduler SCHED_FLAG_RESET_ON_FORK for an exec".into()));
    }
    Ok(())
}

/// Gives the calling process its policy and its I/O priority, while it has the right to.
pub(crate) fn set(process: &Process) -> Result<(), Error> {
    if let Some(priority) = process.io_priority() {
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let level = u32::try_from(priority.priority()).map_err(|_| invalid("process.ioPriority"))?;
        process::set_io_priority(class, level).on("set", "process.ioPriority")?;
    }
    let Some(scheduler) = process.scheduler() else { return Ok(()) };
    sched::set_attributes(attributes(scheduler))
        .on("set", format!("process.scheduler {}", scheduler.policy()))
}

fn attributes(scheduler: &Scheduler) -> Attributes {
    let policy = match scheduler.policy() {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        // Reserved, and known to no kernel: it says so itself.
        Policy::SchedIso => 4,
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
    };
    let flag = |flag: &Flag| match flag {
        Flag::SchedResetOnFork => 0x1,
        Flag::SchedFlagReclaim => 0x2,
        Flag::SchedFlagDLOverrun => 0x4,
        Flag::SchedFlagKeepPolicy => 0x8,
        Flag::SchedFlagKeepParams => 0x10,
        Flag::SchedFlagUtilClampMin => 0x20,
        Flag::SchedFlagUtilClampMax => 0x40,
    };
    Attributes {
        policy,
        flags: scheduler.flags().iter().flatten().map(flag).fold(0, |all, one| all | one),
        nice: scheduler.nice().unwrap_or(0),
        priority: scheduler.priority().map_or(0, |p| u32::try_from(p).unwrap_or(u32::MAX)),
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    }
}

/// On which processors an exec begins, and on which it goes on once it is in the container's cgroup.
#[derive(Debug, Default)]
pub(crate) struct Affinity {
    initial: Option<Mask>,
    last: Option<Mask>,
}

impl Affinity {
    /// That of a process; none if it does not say.
    pub(crate) fn of(process: &Process) -> Result<Self, Error> {
        process.exec_cpu_affinity().as_ref().map_or(Ok(Self::default()), Self::parse)
    }

    fn parse(affinity: &ExecCPUAffinity) -> Result<Self, Error> {
        let mask = |name: &str, list: &Option<String>| {
            let list = list.as_deref().filter(|l| !l.is_empty());
            let wrong =
                |list| invalid(format!("process.execCPUAffinity.{name}: {list:?} is not a list of CPUs"));
            list.map(|list| Mask::parse(list, CPUS_MAX).ok_or_else(|| wrong(list))).transpose()
        };
        Ok(Self {
            initial: mask("initial", affinity.initial())?,
            last: mask("final", affinity.cpu_affinity_final())?,
        })
    }

    /// Moves the caller to the first processors, where what it makes then begins. Returns where it was, to go back to.
    pub(crate) fn begin(&self) -> Result<Option<Mask>, Error> {
        let Some(initial) = &self.initial else { return Ok(None) };
        let before = sched::affinity().on("read", "the CPU affinity")?;
        sched::set_affinity(initial).on("set", "process.execCPUAffinity.initial")?;
        Ok(Some(before))
    }

    /// Moves the caller back.
    pub(crate) fn go_back(before: Option<Mask>) -> Result<(), Error> {
        before.map_or(Ok(()), |before| sched::set_affinity(&before).on("set back", "the CPU affinity"))
    }

    /// Moves the calling process, which is in the container's cgroup, to the last processors; without any, to all that the cgroup has.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        let all = || Mask::parse(&format!("0-{}", CPUS_MAX - 1), CPUS_MAX);
        let last = self.last.clone().or_else(|| self.initial.as_ref().and_then(|_| all()));
        last.map_or(Ok(()), |last| sched::set_affinity(&last).on("set", "process.execCPUAffinity.final"))
    }
}

/// Sets from which nodes the calling process, and all it makes, is given memory.
pub(crate) fn set_memory_policy(policy: &LinuxMemoryPolicy) -> Result<(), Error> {
    let mode = match policy.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let flag = |flag: &MemoryPolicyFlagType| match flag {
        MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
        MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
    };
    let flags = policy.flags().iter().flatten().map(flag).fold(0, |all, one| all | one);
    let nodes = memory_nodes(policy)?;
    sched::set_memory_policy(mode | flags, nodes.as_ref()).on("set", "linux.memoryPolicy")
}

/// The nodes that a policy names.
pub(crate) fn memory_nodes(policy: &LinuxMemoryPolicy) -> Result<Option<Mask>, Error> {
    let list = policy.nodes().as_deref().filter(|l| !l.is_empty());
    let wrong = |list| invalid(format!("linux.memoryPolicy.nodes: {list:?} is not a list of nodes"));
    list.map(|list| Mask::parse(list, NODES_MAX).ok_or_else(|| wrong(list))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(json: serde_json::Value) -> Process {
        let mut process = serde_json::json!({"cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0}});
        process.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
        oci::runtime::parse_process(process.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn numbers_that_mean_nothing_for_a_policy_are_refused() {
        let refusal = |scheduler: serde_json::Value| {
            check(&process(serde_json::json!({"scheduler": scheduler}))).unwrap_err().to_string()
        };
        let text = refusal(serde_json::json!({"policy": "SCHED_FIFO", "nice": 3}));
        assert_eq!(text, "process.scheduler.nice is not for SCHED_FIFO");
        assert!(refusal(serde_json::json!({"policy": "SCHED_OTHER", "priority": 3})).contains("priority"));
        assert!(refusal(serde_json::json!({"policy": "SCHED_OTHER", "runtime": 3})).contains("runtime"));
        assert!(refusal(serde_json::json!({"policy": "SCHED_OTHER", "nice": 20})).contains("19"));
    }

    #[test]
    fn flags_have_the_names_of_the_specification() {
        let flags = serde_json::json!(["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"]);
        let process =
            process(serde_json::json!({"scheduler": {"policy": "SCHED_BATCH", "nice": 7, "flags": flags}}));
        check(&process).unwrap();
        let attributes = attributes(process.scheduler().as_ref().unwrap());
        assert_eq!((attributes.policy, attributes.nice, attributes.flags), (3, 7, 5));
        check_for_exec(&process).unwrap_err();
    }

    #[test]
    fn lists_of_cpus_are_checked() {
        check(&process(serde_json::json!({"execCPUAffinity": {"initial": "0-1", "final": ""}}))).unwrap();
        let wrong = process(serde_json::json!({"execCPUAffinity": {"initial": "0", "final": "99999"}}));
        assert!(check(&wrong).unwrap_err().to_string().contains("execCPUAffinity.final"));
    }
}
