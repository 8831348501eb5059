//! What a container uses, in the words of runc's `events`: those who read that know its field names.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Cgroup, field, read};

/// An object in which nothing stands for zero, as there.
#[derive(Debug, Default)]
struct Fields(Map<String, Value>);

impl Fields {
    /// With what is not zero.
    fn unless_zero(mut self, name: &str, number: u64) -> Self {
        if number != 0 {
            self.0.insert(name.into(), number.into());
        }
        self
    }

    /// With what is always there.
    fn always(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// With what is not empty.
    fn unless_empty(mut self, name: &str, list: Vec<Value>) -> Self {
        if !list.is_empty() {
            self.0.insert(name.into(), list.into());
        }
        self
    }

    /// With what is there.
    fn if_there(mut self, name: &str, value: Option<Value>) -> Self {
        if let Some(value) = value {
            self.0.insert(name.into(), value);
        }
        self
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Self {
        Self::Object(fields.0)
    }
}

/// A file's text; none if there is no such file.
fn text(directory: &Path, name: &str) -> Option<String> {
    read(&directory.join(name)).ok()
}

fn number(directory: &Path, name: &str) -> Option<u64> {
    match text(directory, name)?.trim() {
        "max" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// The lines of `key value`.
fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        line.split_once(' ').and_then(|(key, value)| Some((key, value.trim().parse().ok()?)))
    })
}

impl Cgroup {
    /// What the container uses.
    pub fn stats(&self) -> Value {
        let unified = self.v2().filter(|_| self.is_unified());
        let of = |controller: &str| unified.clone().or_else(|| self.v1(controller));
        let v2 = unified.is_some();
        let part = |controller: &str, read: fn(&Path, bool) -> Value| {
            of(controller).map_or_else(|| json!({}), |directory| read(&directory, v2))
        };
        let cpu = match &unified {
            Some(directory) => cpu_v2(directory),
            None => cpu_v1(self.v1("cpu").as_deref(), self.v1("cpuacct").as_deref()),
        };
        json!({
            "cpu": cpu,
            "cpuset": part("cpuset", cpuset),
            "memory": part("memory", |directory, v2| if v2 { memory_v2(directory) } else { memory_v1(directory) }),
            "pids": part("pids", |directory, _| pids(directory)),
            "blkio": part("blkio", |directory, v2| if v2 { io_v2(directory) } else { io_v1(directory) }),
            "hugetlb": part("hugetlb", hugetlb),
            "intel_rdt": {},
            "network_interfaces": null,
        })
    }
}

const NANOSECONDS_IN_MICROSECOND: u64 = 1000;

/// The kernel counts some times in these, whatever its own clock is: `USER_HZ`.
const NANOSECONDS_IN_TICK: u64 = 10_000_000;

fn cpu_v1(cpu: Option<&Path>, accounts: Option<&Path>) -> Value {
    let mut usage = Fields::default();
    if let Some(directory) = accounts {
        let each = text(directory, "cpuacct.usage_percpu").unwrap_or_default();
        let each = each.split_whitespace().filter_map(|n| n.parse::<u64>().ok()).map(Value::from).collect();
        let all = text(directory, "cpuacct.usage_all").unwrap_or_default();
        let column = |index: usize| -> Vec<Value> {
            let cell = |line: &str| line.split_whitespace().nth(index)?.parse::<u64>().ok().map(Value::from);
            all.lines().skip(1).filter_map(cell).collect()
        };
        let stat = text(directory, "cpuacct.stat").unwrap_or_default();
        let ticks = |key: &str| field(&stat, key).unwrap_or(0) * NANOSECONDS_IN_TICK;
        usage = usage
            .unless_zero("total", number(directory, "cpuacct.usage").unwrap_or(0))
            .unless_empty("percpu", each)
            .unless_empty("percpu_kernel", column(2))
            .unless_empty("percpu_user", column(1))
            .always("kernel", ticks("system"))
            .always("user", ticks("user"));
    }
    let stat = cpu.and_then(|directory| text(directory, "cpu.stat")).unwrap_or_default();
    json!({"usage": Value::from(usage), "throttling": throttling(&stat, "throttled_time", 1)})
}

fn cpu_v2(directory: &Path) -> Value {
    let stat = text(directory, "cpu.stat").unwrap_or_default();
    let time = |key: &str| field(&stat, key).unwrap_or(0) * NANOSECONDS_IN_MICROSECOND;
    let usage = Fields::default()
        .unless_zero("total", time("usage_usec"))
        .always("kernel", time("system_usec"))
        .always("user", time("user_usec"));
    Fields::default()
        .always("usage", usage)
        .always("throttling", throttling(&stat, "throttled_usec", NANOSECONDS_IN_MICROSECOND))
        .if_there("psi", pressure(directory, "cpu.pressure"))
        .into()
}

fn throttling(stat: &str, time: &str, factor: u64) -> Value {
    let number = |key: &str| field(stat, key).unwrap_or(0);
    Fields::default()
        .unless_zero("periods", number("nr_periods"))
        .unless_zero("throttledPeriods", number("nr_throttled"))
        .unless_zero("throttledTime", number(time) * factor)
        .into()
}

/// How much waiting there was: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same of `full`.
fn pressure(directory: &Path, name: &str) -> Option<Value> {
    let text = text(directory, name)?;
    let line = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind)).unwrap_or_default();
        let value = |key: &str| {
            line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('=')).unwrap_or("0")
        };
        let average = |key: &str| value(key).parse::<f64>().unwrap_or(0.0);
        json!({
            "avg10": average("avg10"),
            "avg60": average("avg60"),
            "avg300": average("avg300"),
            "total": value("total").parse::<u64>().unwrap_or(0),
        })
    };
    Some(json!({"some": line("some"), "full": line("full")}))
}

fn cpuset(directory: &Path, v2: bool) -> Value {
    let list = |names: [&str; 2]| {
        let found =
            names.iter().find_map(|name| text(directory, name).filter(|text| !text.trim().is_empty()));
        numbers(found.unwrap_or_default().trim())
    };
    let flag = |name: &str| if v2 { 0 } else { number(directory, &format!("cpuset.{name}")).unwrap_or(0) };
    let level = text(directory, "cpuset.sched_relax_domain_level").filter(|_| !v2);
    Fields::default()
        .unless_empty("cpus", list(["cpuset.cpus", "cpuset.cpus.effective"]))
        .always("cpu_exclusive", flag("cpu_exclusive"))
        .unless_empty("mems", list(["cpuset.mems", "cpuset.mems.effective"]))
        .always("mem_hardwall", flag("mem_hardwall"))
        .always("mem_exclusive", flag("mem_exclusive"))
        .always("memory_migrate", flag("memory_migrate"))
        .always("memory_spread_page", flag("memory_spread_page"))
        .always("memory_spread_slab", flag("memory_spread_slab"))
        .always("memory_pressure", flag("memory_pressure"))
        .always("sched_load_balance", flag("sched_load_balance"))
        .always("sched_relax_domain_level", level.and_then(|l| l.trim().parse::<i64>().ok()).unwrap_or(0))
        .into()
}

/// The numbers in a list like `0-3,7`.
fn numbers(list: &str) -> Vec<Value> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    };
    list.split(',').filter_map(range).flatten().map(Value::from).collect()
}

fn memory_entry(limit: u64, usage: u64, max: u64, failures: u64) -> Value {
    Fields::default()
        .always("limit", limit)
        .unless_zero("usage", usage)
        .unless_zero("max", max)
        .always("failcnt", failures)
        .into()
}

fn memory_v1(directory: &Path) -> Value {
    let entry = |part: &str| {
        let value = |name: &str| number(directory, &format!("memory.{part}{name}")).unwrap_or(0);
        memory_entry(
            value("limit_in_bytes"),
            value("usage_in_bytes"),
            value("max_usage_in_bytes"),
            value("failcnt"),
        )
    };
    let stat = text(directory, "memory.stat").unwrap_or_default();
    Fields::default()
        .unless_zero("cache", field(&stat, "cache").unwrap_or(0))
        .always("usage", entry(""))
        .always("swap", entry("memsw."))
        .always("kernel", entry("kmem."))
        .always("kernelTCP", entry("kmem.tcp."))
        .always("raw", raw(&stat))
        .into()
}

/// Swap is told together with memory, as version 1 counts it.
fn memory_v2(directory: &Path) -> Value {
    let value = |name: &str| number(directory, name);
    let (usage, limit) = (value("memory.current").unwrap_or(0), value("memory.max").unwrap_or(u64::MAX));
    let failures = field(&text(directory, "memory.events").unwrap_or_default(), "max").unwrap_or(0);
    let swap = value("memory.swap.current").map(|swap| {
        let most = value("memory.swap.max").unwrap_or(u64::MAX).saturating_add(limit);
        memory_entry(most, swap.saturating_add(usage), 0, 0)
    });
    let stat = text(directory, "memory.stat").unwrap_or_default();
    Fields::default()
        .unless_zero("cache", field(&stat, "file").unwrap_or(0))
        .always("usage", memory_entry(limit, usage, value("memory.peak").unwrap_or(0), failures))
        .always("swap", swap.unwrap_or_else(|| memory_entry(0, 0, 0, 0)))
        .always("kernel", memory_entry(0, 0, 0, 0))
        .always("kernelTCP", memory_entry(0, 0, 0, 0))
        .always("raw", raw(&stat))
        .if_there("psi", pressure(directory, "memory.pressure"))
        .into()
}

fn raw(stat: &str) -> Value {
    Value::Object(pairs(stat).map(|(key, value)| (key.to_owned(), value.into())).collect())
}

fn pids(directory: &Path) -> Value {
    let limit = number(directory, "pids.max").filter(|limit| *limit != u64::MAX);
    Fields::default()
        .unless_zero("current", number(directory, "pids.current").unwrap_or(0))
        .unless_zero("limit", limit.unwrap_or(0))
        .into()
}

fn io_entry(device: &str, operation: &str, value: u64) -> Option<Value> {
    let (major, minor) = device.split_once(':')?;
    let entry = Fields::default()
        .unless_zero("major", major.parse().ok()?)
        .unless_zero("minor", minor.parse().ok()?)
        .always("op", operation)
        .unless_zero("value", value);
    Some(entry.into())
}

/// Where the numbers are depends on the disk's scheduler: those of BFQ, or those that every disk has.
fn io_v1(directory: &Path) -> Value {
    let list = |name: &str| -> Vec<Value> {
        let entries = |prefix: &str| -> Vec<Value> {
            let text = text(directory, &format!("blkio.{prefix}{name}_recursive"))
                .or_else(|| text(directory, &format!("blkio.{prefix}{name}")));
            let line = |line: &str| {
                let mut words = line.split_whitespace();
                let (device, operation) = (words.next()?, words.next()?);
                io_entry(device, operation, words.next()?.parse().ok()?)
            };
            text.unwrap_or_default().lines().filter_map(line).collect()
        };
        ["bfq.", "throttle."].map(entries).into_iter().find(|entries| !entries.is_empty()).unwrap_or_default()
    };
    Fields::default()
        .unless_empty("ioServiceBytesRecursive", list("io_service_bytes"))
        .unless_empty("ioServicedRecursive", list("io_serviced"))
        .into()
}

fn io_v2(directory: &Path) -> Value {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text(directory, "io.stat").unwrap_or_default().lines() {
        let mut words = line.split_whitespace();
        let Some(device) = words.next() else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, operation) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "dbytes" => (&mut bytes, "Discard"),
                "rios" => (&mut operations, "Read"),
                "wios" => (&mut operations, "Write"),
                "dios" => (&mut operations, "Discard"),
                _ => continue,
            };
            list.extend(value.parse().ok().and_then(|value| io_entry(device, operation, value)));
        }
    }
    Fields::default()
        .unless_empty("ioServiceBytesRecursive", bytes)
        .unless_empty("ioServicedRecursive", operations)
        .if_there("psi", pressure(directory, "io.pressure"))
        .into()
}

/// By page size. Pages that are set aside count, where the kernel counts them.
fn hugetlb(directory: &Path, v2: bool) -> Value {
    let suffix = if v2 { ".current" } else { ".usage_in_bytes" };
    let mut sizes = Map::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let size = name.to_str().and_then(|n| n.strip_prefix("hugetlb.")?.strip_suffix(suffix));
        let Some(size) = size.filter(|size| !size.contains('.')) else { continue };
        let value = |name: &str| {
            number(directory, &format!("hugetlb.{size}.rsvd.{name}"))
                .or_else(|| number(directory, &format!("hugetlb.{size}.{name}")))
                .unwrap_or(0)
        };
        let (usage, max, failures) = if v2 {
            let events = text(directory, &format!("hugetlb.{size}.events")).unwrap_or_default();
            (value("current"), 0, field(&events, "max").unwrap_or(0))
        } else {
            (value("usage_in_bytes"), value("max_usage_in_bytes"), value("failcnt"))
        };
        let fields = Fields::default().unless_zero("usage", usage).unless_zero("max", max);
        sizes.insert(size.to_owned(), fields.always("failcnt", failures).into());
    }
    Value::Object(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| fs::write(directory.path().join(name), text).unwrap());
        directory
    }

    #[test]
    fn version_1_in_runcs_words() {
        let directory = files(&[
            ("cpuacct.usage", "14870077\n"),
            ("cpuacct.usage_percpu", "12224687 2645390 \n"),
            ("cpuacct.usage_all", "cpu user system\n0 4000000 8000000\n1 4000000 4000000\n"),
            ("cpuacct.stat", "user 1\nsystem 2\n"),
            ("cpu.stat", "nr_periods 3\nnr_throttled 0\nthrottled_time 7\n"),
            ("memory.limit_in_bytes", "100\n"),
            ("memory.usage_in_bytes", "50\n"),
            ("memory.stat", "cache 3\nrss 4\n"),
            ("blkio.throttle.io_serviced_recursive", "8:0 Read 5\n8:0 Total 5\nTotal 5\n"),
            ("hugetlb.2MB.usage_in_bytes", "0\n"),
            ("hugetlb.2MB.rsvd.usage_in_bytes", "9\n"),
        ]);
        let path = directory.path();
        assert_eq!(
            cpu_v1(Some(path), Some(path)),
            json!({
                "usage": {
                    "total": 14_870_077, "percpu": [12_224_687, 2_645_390],
                    "percpu_kernel": [8_000_000, 4_000_000], "percpu_user": [4_000_000, 4_000_000],
                    "kernel": 20_000_000, "user": 10_000_000,
                },
                "throttling": {"periods": 3, "throttledTime": 7},
            })
        );
        let memory = memory_v1(path);
        assert_eq!(memory["usage"], json!({"limit": 100, "usage": 50, "failcnt": 0}));
        assert_eq!((&memory["cache"], &memory["raw"]["rss"]), (&json!(3), &json!(4)));
        assert_eq!(
            io_v1(path),
            json!({"ioServicedRecursive": [
                {"major": 8, "op": "Read", "value": 5}, {"major": 8, "op": "Total", "value": 5},
            ]})
        );
        assert_eq!(hugetlb(path, false), json!({"2MB": {"usage": 9, "failcnt": 0}}));
    }

    #[test]
    fn version_2_in_runcs_words() {
        let directory = files(&[
            (
                "cpu.stat",
                "usage_usec 5\nuser_usec 2\nsystem_usec 3\nnr_periods 0\nnr_throttled 1\nthrottled_usec 4\n",
            ),
            (
                "cpu.pressure",
                "some avg10=1.50 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
            ),
            ("memory.current", "50\n"),
            ("memory.max", "max\n"),
            ("memory.swap.current", "7\n"),
            ("memory.swap.max", "max\n"),
            ("memory.events", "low 0\nmax 2\noom_kill 0\n"),
            ("memory.stat", "anon 1\nfile 3\n"),
            ("pids.current", "2\n"),
            ("pids.max", "max\n"),
            ("io.stat", "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n"),
            ("cpuset.cpus", "\n"),
            ("cpuset.cpus.effective", "0-1,3\n"),
        ]);
        let path = directory.path();
        let cpu = cpu_v2(path);
        assert_eq!(cpu["usage"], json!({"total": 5000, "kernel": 3000, "user": 2000}));
        assert_eq!(cpu["throttling"], json!({"throttledPeriods": 1, "throttledTime": 4000}));
        assert_eq!(cpu["psi"]["some"], json!({"avg10": 1.5, "avg60": 0.0, "avg300": 0.0, "total": 12}));
        let memory = memory_v2(path);
        assert_eq!(memory["usage"], json!({"limit": u64::MAX, "usage": 50, "failcnt": 2}));
        assert_eq!(memory["swap"], json!({"limit": u64::MAX, "usage": 57, "failcnt": 0}));
        assert_eq!(pids(path), json!({"current": 2}));
        assert_eq!(
            io_v2(path)["ioServiceBytesRecursive"][1],
            json!({"major": 254, "op": "Write", "value": 20})
        );
        assert_eq!(cpuset(path, true)["cpus"], json!([0, 1, 3]));
    }
}
