//! Everything that a process can see of itself and its surroundings.

use std::fs;
use std::io;

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};
use sys::{rlimit, trial};

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

const LIMITS: [&str; 16] = [
    "RLIMIT_AS",
    "RLIMIT_CORE",
    "RLIMIT_CPU",
    "RLIMIT_DATA",
    "RLIMIT_FSIZE",
    "RLIMIT_LOCKS",
    "RLIMIT_MEMLOCK",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_NOFILE",
    "RLIMIT_NPROC",
    "RLIMIT_RSS",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
    "RLIMIT_SIGPENDING",
    "RLIMIT_STACK",
];

/// The report.
pub fn report() -> Value {
    let text = |path: &str| fs::read_to_string(path).map_or(Value::Null, |text| text.trim_end().into());
    json!({
        "args": std::env::args().collect::<Vec<_>>(),
        "env": std::env::vars().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        "cwd": std::env::current_dir().map_or(Value::Null, |path| path.to_string_lossy().into()),
        "pid": std::process::id(),
        "ppid": call("getppid", 0),
        "sid": call("getsid", 0),
        "pgid": call("getpgid", 0),
        "tty": terminal(),
        "ns": namespaces("self"),
        "status": status(),
        "scheduler": scheduler(),
        "sched": text("/proc/self/sched"),
        "uid_map": text("/proc/self/uid_map"),
        "gid_map": text("/proc/self/gid_map"),
        "setgroups": text("/proc/self/setgroups"),
        "limits": limits(),
        "oom_score_adj": text("/proc/self/oom_score_adj"),
        // IOPRIO_WHO_PROCESS, this one.
        "ioprio": trial::call("ioprio_get", [1, 0, 0, 0, 0, 0]).ok(),
        // The number that asks without changing.
        "personality": call("personality", 0xffff_ffff),
        "numa": memory_policy(),
        "mounts": mounts(),
        "fds": descriptors(),
        "cgroup": text("/proc/self/cgroup"),
        "hostname": text("/proc/sys/kernel/hostname"),
        "domainname": text("/proc/sys/kernel/domainname"),
        "boottime": seconds(ClockId::Boottime),
        "monotonic": seconds(ClockId::Monotonic),
        "timens_offsets": text("/proc/self/timens_offsets"),
        "keyring": trial::session_keyring().ok(),
        "keys": text("/proc/keys"),
        "label": text("/proc/self/attr/current"),
        "net": network_devices(),
    })
}

/// The identities of the namespaces of a process.
pub fn namespaces(process: &str) -> Value {
    let identity = |name: &str| {
        fs::read_link(format!("/proc/{process}/ns/{name}"))
            .map_or(Value::Null, |link| link.to_string_lossy().into())
    };
    NAMESPACES.iter().map(|name| ((*name).to_owned(), identity(name))).collect::<Map<_, _>>().into()
}

fn call(name: &str, argument: u64) -> Value {
    trial::call(name, [argument, 0, 0, 0, 0, 0]).map_or(Value::Null, Value::from)
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn terminal() -> Value {
    let input = rustix::stdio::stdin();
    let Ok(size) = rustix::termios::tcgetwinsize(input) else { return Value::Null };
    let name = rustix::termios::ttyname(input, Vec::new());
    json!({
        "name": name.map_or(Value::Null, |name| name.to_string_lossy().into()),
        "rows": size.ws_row,
        "columns": size.ws_col,
        "foreground": rustix::termios::tcgetpgrp(input).ok().map(|group| group.as_raw_nonzero().get()),
    })
}

fn status() -> Value {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let pair = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ").into()))
    };
    text.lines().filter_map(pair).collect::<Map<_, _>>().into()
}

fn scheduler() -> Value {
    const RESET_ON_FORK: i64 = 0x4000_0000;
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name in parentheses: field 3 and so on.
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or_default().split_whitespace().collect();
    let field = |number: usize| {
        fields.get(number - 3).and_then(|f| f.parse::<i64>().ok()).map_or(Value::Null, Value::from)
    };
    let policy = trial::call("sched_getscheduler", [0; 6]).unwrap_or(-1);
    json!({
        "nice": field(19),
        "priority": field(40),
        "policy": field(41),
        "reset_on_fork": policy >= 0 && policy & RESET_ON_FORK != 0,
    })
}

fn limits() -> Value {
    let pair = |name: &str| {
        let (soft, hard) = rlimit::get(rlimit::number(name)?).ok()?;
        Some((name.to_owned(), json!([soft, hard])))
    };
    LIMITS.iter().filter_map(|name| pair(name)).collect::<Map<_, _>>().into()
}

/// What memory without a policy of its own gets: the task's.
fn memory_policy() -> Value {
    let text = fs::read_to_string("/proc/self/numa_maps").unwrap_or_default();
    text.lines().next().and_then(|line| line.split(' ').nth(1)).map_or(Value::Null, Value::from)
}

/// The lines of mountinfo.
pub fn mounts() -> Value {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Value> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    Some(json!({
        "root": left.get(3)?,
        "target": left.get(4)?,
        "options": list(left.get(5)?),
        "propagation": left.get(6..)?,
        "type": right.first()?,
        "source": right.get(1)?,
        "super": list(right.get(2)?),
    }))
}

fn descriptors() -> Value {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Value::Null };
    let numbers: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    // The one that the list was read by is closed by now.
    let link = |number: String| {
        let target = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
        Some((number, target.to_string_lossy().into()))
    };
    numbers.into_iter().filter_map(link).collect::<Map<_, _>>().into()
}

fn network_devices() -> Value {
    let Ok(text) = fs::read_to_string("/proc/self/net/dev") else { return Value::Null };
    text.lines()
        .skip(2)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim().to_owned())
        .collect()
}

/// `{"errno": n}`; what did not come from the kernel is named.
pub fn failure(error: &io::Error) -> Value {
    match error.raw_os_error() {
        Some(number) => json!({"errno": number}),
        None => json!({"error": error.to_string()}),
    }
}
