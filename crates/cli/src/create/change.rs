//! The flags of `update`, and the request that they make.

use api::container::{Changes, PortChoice, RestartPolicy, UpdateRequest};

use super::environment;
use super::limit;
use super::mount;
use super::network;
use super::port;
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, bytes, int, list, text};

/// The flags of `update`.
pub const UPDATE_FLAGS: &[Group] = &[
    Group {
        title: "Limits",
        flags: &[
            text("blkio-weight", "Relative weight of block I/O, 10 to 1000, or 0")
                .value("uint16")
                .check(limit::check_weight),
            int("cpu-period", "Length of a CFS period in microseconds"),
            int("cpu-quota", "Processor time in a CFS period in microseconds"),
            int("cpu-rt-period", "Length of a real-time period in microseconds"),
            int("cpu-rt-runtime", "Real-time processor time in a period in microseconds"),
            int("cpu-shares", "Relative weight of processor time").short('c'),
            text("cpus", "Number of processors").value("decimal").check(limit::check_cpus),
            text("cpuset-cpus", "Processors to run on (0-3, 0,1)"),
            text("cpuset-mems", "Memory nodes to use (0-3, 0,1)"),
            bytes("memory", "Memory").short('m'),
            bytes("memory-reservation", "Memory, soft"),
            bytes("memory-swap", "Memory and swap together; -1 for as much swap as there is"),
            bytes("kernel-memory", "").hidden(),
            int("pids-limit", "Number of processes; -1 for no limit"),
        ],
    },
    Group {
        title: "Life",
        flags: &[text("restart", "When to start it again: no, always, unless-stopped, on-failure[:N]")],
    },
    Group {
        title: "From the next start on",
        flags: &[
            list("env-add", "Set an environment variable").check(environment::check),
            list("env-rm", "Take an environment variable away"),
            list("mount-add", "Mount something, as --mount of run does").value("mount").check(mount::check),
            list("mount-rm", "Do not mount anything at this path inside"),
        ],
    },
    Group {
        title: "Network",
        flags: &[
            list("network", "Change how much goes over a network (name=NETWORK,rate-in=10mbit,rate-out=1gbit; nothing behind = takes it back)")
                .value("network"),
            list("publish-add", "Publish a port on the host, also while it runs, as --publish of run does"),
            list(
                "publish-rm",
                "Take a published port back: a container's port, or where it is on the host, as --publish has it",
            ),
        ],
    },
];

/// Reads the flags of `update`.
pub fn changes(parsed: &Parsed) -> Result<UpdateRequest> {
    let mut resources = limit::collect(parsed)?;
    // What is not named stays as it is.
    resources.pids_limit = parsed.int("pids-limit");
    resources.memory_swappiness = None;
    resources.oom_kill_disable = None;
    resources.kernel_memory = parsed.bytes("kernel-memory").unwrap_or(0);
    let restart_policy =
        parsed.text("restart").map_or_else(|| Ok(RestartPolicy::default()), super::restart_policy)?;
    let mut changes = Changes::default();
    for text in parsed.list("publish-add") {
        for (port, binding) in port::pairs(text).map_err(Error::Message)? {
            changes.publish_add.entry(port).or_default().get_or_insert_default().push(binding);
        }
    }
    for text in parsed.list("publish-rm") {
        changes.publish_remove.extend(port::pairs(text).map_err(Error::Message)?.into_iter().map(
            |(port, binding)| PortChoice { port, host_ip: binding.host_ip, host_port: binding.host_port },
        ));
    }
    for text in parsed.list("network") {
        let (name, options) = network::change(text)?;
        changes.networks.entry(name).or_default().extend(options);
    }
    changes.env_add = environment::given(parsed, "env-add");
    changes.env_remove = parsed.owned("env-rm");
    changes.mount_add = mount::of(parsed, "mount-add")?;
    changes.mount_remove = parsed.owned("mount-rm");
    let corten = (changes != Changes::default()).then_some(changes);
    Ok(UpdateRequest { restart_policy, corten, resources })
}
