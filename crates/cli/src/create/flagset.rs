//! The table of flags.

use super::{device, environment, limit, mount, network, security};
use crate::flags::{Flag, Group, bytes, duration, int, label, list, switch, text};

const PROCESS: Group = Group {
    title: "Process",
    flags: &[
        list("attach", "Attach to stdin, stdout or stderr").short('a').check(stream),
        text("entrypoint", "Replace the image's entrypoint"),
        list("env", "Set an environment variable").short('e').check(environment::check),
        list("env-file", "Read environment variables from a file"),
        switch("init", "Run a small init as the first process: it forwards signals and reaps"),
        switch("interactive", "Keep stdin open").short('i'),
        switch("tty", "Allocate a terminal").short('t'),
        text("user", "User and group, by name or number (user[:group])").short('u'),
        list("group-add", "Join a further group"),
        text("workdir", "Working directory inside the container").short('w'),
        text("stop-signal", "Signal that asks the container to stop"),
        int("stop-timeout", "Seconds to wait after that before killing it"),
    ],
};

const LIFE: Group = Group {
    title: "Container",
    flags: &[
        list("annotation", "Add an annotation for the OCI runtime (name=value)"),
        text("cidfile", "Write the container's id to a file"),
        list("label", "Set a label").short('l').check(label),
        list("label-file", "Read labels from a file"),
        text("log-driver", "Logging driver"),
        list("log-opt", "Option of the logging driver"),
        text("name", "Name of the container"),
        text("platform", "Platform of the image (os[/arch[/variant]])"),
        text("pull", "When to pull the image: always, missing or never").default("\"missing\""),
        switch("quiet", "Do not show the pull").short('q'),
        text("restart", "When to start it again: no, always, unless-stopped, on-failure[:N]")
            .default("\"no\""),
        switch("rm", "Remove the container and its anonymous volumes when it ends"),
        text("runtime", "OCI runtime"),
        switch("disable-content-trust", "").hidden(),
        switch("use-api-socket", "").hidden(),
        text("isolation", "").hidden(),
    ],
};

const HEALTH: Group = Group {
    title: "Health",
    flags: &[
        text("health-cmd", "Command that checks the health"),
        text(
            "health-http",
            "Page that answers while it is healthy (http://localhost:80/path), asked for by the engine",
        ),
        duration("health-interval", "Time between two checks"),
        int("health-retries", "Failures in a row that make it unhealthy"),
        duration("health-start-interval", "Time between two checks while it starts"),
        duration("health-start-period", "Time at the start in which failures do not count"),
        text(
            "health-tcp",
            "Address that accepts connections while it is healthy (localhost:5432), tried by the engine",
        ),
        duration("health-timeout", "Time a check may take"),
        switch("no-healthcheck", "Do not check the health, whatever the image says"),
    ],
};

const FILES: Group = Group {
    title: "Files",
    flags: &[
        list("mount", "Mount something: type=bind|volume|tmpfs|image,source=…,target=…[,readonly…]")
            .value("mount")
            .check(mount::check),
        switch("read-only", "Make the root filesystem read-only"),
        list("secret", "Give a secret as a file in /run/secrets (NAME[,target=…][,uid=…][,gid=…][,mode=…])")
            .value("secret")
            .check(mount::check_secret),
        bytes("shm-size", "Size of /dev/shm"),
        list("storage-opt", "Option of the storage driver (name=value)"),
        list("tmpfs", "Mount a temporary filesystem (path[:options])"),
        list("volume", "Mount a folder or a volume ([source:]target[:options])").short('v'),
        text("volume-driver", "Driver of the volumes"),
        list("volumes-from", "Mount the volumes of another container"),
    ],
};

const NETWORK: Group = Group {
    title: "Network",
    flags: &[
        list("add-host", "Add a line to /etc/hosts (name:address)").check(network::check_host),
        list("dns", "Name server").check(network::check_address),
        list("dns-option", "Option of the resolver"),
        list("dns-opt", "").same_as("dns-option"),
        list("dns-search", "Search domain"),
        text("domainname", "NIS domain name"),
        list("expose", "Expose a port or a range of ports"),
        text("hostname", "Host name inside").short('h'),
        text("ip", "IPv4 address"),
        text("ip6", "IPv6 address"),
        list("link", "Link to another container (name[:alias])"),
        list("link-local-ip", "Link-local address").check(network::check_address),
        text("mac-address", "Hardware address"),
        list("network", "Network to join: none, host, bridge, container:NAME or a network's name")
            .value("network"),
        list("net", "").same_as("network"),
        list("network-alias", "Further name on the network"),
        list("net-alias", "").same_as("network-alias"),
        list("publish", "Publish a port on the host ([[ip:]port:]container-port[/protocol])").short('p'),
        switch("publish-all", "Publish all exposed ports on free ports of the host").short('P'),
    ],
};

const SECURITY: Group = Group {
    title: "Isolation",
    flags: &[
        list("cap-add", "Add a capability"),
        list("cap-drop", "Drop a capability"),
        text("cgroup-parent", "Cgroup to make the container's in"),
        text("cgroupns", "Cgroup namespace: host or private"),
        list("device", "Add a device of the host (path[:path-inside[:rwm]])"),
        list("device-cgroup-rule", "Allow access to devices (\"c 7:* rwm\")").check(device::check_rule),
        list("gpus", "Add GPUs (all, a number, or device=…)").value("gpu-request").check(device::check_gpus),
        text("ipc", "IPC namespace: none, private, shareable, host or container:NAME"),
        text("pid", "PID namespace: host or container:NAME"),
        switch("privileged", "Confine the container hardly at all"),
        list("security-opt", "seccomp=…, apparmor=…, label=…, no-new-privileges, systempaths=unconfined"),
        list("sysctl", "Set a namespaced kernel parameter (name=value)").check(security::check_sysctl),
        text("userns", "User namespace: host, or empty for the daemon's setting"),
        text("uts", "UTS namespace: host"),
    ],
};

const LIMITS: Group = Group {
    title: "Limits",
    flags: &[
        text("blkio-weight", "Relative weight of block I/O, 10 to 1000, or 0")
            .value("uint16")
            .check(limit::check_weight),
        list("blkio-weight-device", "Relative weight of a device (path:weight)")
            .check(limit::check_device_weight),
        int("cpu-period", "Length of a CFS period in microseconds"),
        int("cpu-quota", "Processor time in a CFS period in microseconds"),
        int("cpu-rt-period", "Length of a real-time period in microseconds"),
        int("cpu-rt-runtime", "Real-time processor time in a period in microseconds"),
        int("cpu-shares", "Relative weight of processor time").short('c'),
        text("cpus", "Number of processors").value("decimal").check(limit::check_cpus),
        text("cpuset-cpus", "Processors to run on (0-3, 0,1)"),
        text("cpuset-mems", "Memory nodes to use (0-3, 0,1)"),
        list("device-read-bps", "Limit reading from a device (path:rate)").check(limit::check_rate_bytes),
        list("device-read-iops", "Limit reads from a device (path:number)").check(limit::check_rate),
        list("device-write-bps", "Limit writing to a device (path:rate)").check(limit::check_rate_bytes),
        list("device-write-iops", "Limit writes to a device (path:number)").check(limit::check_rate),
        bytes("memory", "Memory").short('m'),
        bytes("memory-reservation", "Memory, soft"),
        bytes("memory-swap", "Memory and swap together; -1 for as much swap as there is"),
        int("memory-swappiness", "Swappiness, 0 to 100").default("-1"),
        bytes("kernel-memory", "").hidden(),
        switch("oom-kill-disable", "Do not kill when memory runs out"),
        int("oom-score-adj", "Preference when the host's memory runs out (-1000 to 1000)"),
        int("pids-limit", "Number of processes; -1 for no limit"),
        list("ulimit", "Limit of the processes (name=soft[:hard])")
            .value("ulimit")
            .check(limit::check_ulimit),
        int("cpu-count", "").hidden(),
        int("cpu-percent", "").hidden(),
        bytes("io-maxbandwidth", "").hidden(),
        int("io-maxiops", "").hidden(),
    ],
};

const RUN_ONLY: &[Flag] = &[
    switch("detach", "Run in the background and print the container's id").short('d'),
    text("detach-keys", "Keys that leave the container running").default("\"ctrl-p,ctrl-q\""),
    switch("sig-proxy", "Hand signals on to the process").default("true"),
];

/// The flags of `create`.
pub const CREATE_FLAGS: &[Group] = &[LIFE, PROCESS, FILES, NETWORK, SECURITY, LIMITS, HEALTH];

/// The flags of `run`.
pub const RUN_FLAGS: &[Group] = &[
    Group { title: "Foreground and background", flags: RUN_ONLY },
    LIFE,
    PROCESS,
    FILES,
    NETWORK,
    SECURITY,
    LIMITS,
    HEALTH,
];

fn stream(text: &str) -> Result<(), String> {
    match text.to_lowercase().as_str() {
        "stdin" | "stdout" | "stderr" => Ok(()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".into()),
    }
}
