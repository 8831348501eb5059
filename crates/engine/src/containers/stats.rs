//! `GET /containers/{id}/stats`: what a container uses, as its cgroup and its network devices count it.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::Containers;
use crate::containers::index::Handle;
use crate::containers::record::Record;
use crate::containers::state::Phase;
use crate::context::Context;
use crate::{Error, Result, blocking};

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(1);
/// The kernel's clock ticks a second, as it shows them to programs.
const TICKS: u64 = 100;
/// The columns of `/proc/stat` that are somebody's time: user, nice, system, idle, waiting, and interrupts of both kinds.
const COLUMNS: usize = 7;

/// What one container uses, sample by sample.
#[derive(Debug)]
pub struct Samples {
    context: Arc<Context>,
    handle: Arc<Handle>,
    before: Option<Value>,
    due: Instant,
}

impl Containers {
    /// Looks at what a container uses, over and over.
    pub fn stats(&self, name: &str) -> Result<Samples> {
        let handle = self.find(name)?;
        Ok(Samples { context: Arc::clone(&self.context), handle, before: None, due: Instant::now() })
    }
}

impl Samples {
    /// The next sample; `None` when the container is gone. The first comes at once, and each other a second after the one before.
    pub async fn next(&mut self) -> Option<Result<Value>> {
        tokio::time::sleep_until(self.due).await;
        self.due += INTERVAL;
        let record = self.handle.record();
        if self.context.index.find(&record.id).is_err() || record.life.phase == Phase::Removing {
            return None;
        }
        let mut sample = empty(&record);
        if record.life.pid().is_some() {
            match self.sample(&record).await {
                Ok(taken) => sample = taken,
                // It has ended meanwhile.
                Err(_) if self.handle.record().life.pid().is_none() => {}
                Err(error) => return Some(Err(error)),
            }
        }
        if let Some(before) = self.before.replace(sample.clone()) {
            sample["preread"] = before["read"].clone();
            sample["precpu_stats"] = before["cpu_stats"].clone();
        }
        Some(Ok(sample))
    }

    /// Whether the container runs.
    pub fn runs(&self) -> bool {
        self.handle.record().life.pid().is_some()
    }

    async fn sample(&self, record: &Arc<Record>) -> Result<Value> {
        let (context, record) = (Arc::clone(&self.context), Arc::clone(record));
        blocking::run("look at what a container uses", move || sample(&context, &record)).await
    }
}

/// What is told of a container that does not run.
fn empty(record: &Record) -> Value {
    let no_cpu = json!({
        "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    });
    json!({
        "id": record.id,
        "name": format!("/{}", record.name),
        "os_type": "linux",
        "read": api::timestamp::ZERO,
        "preread": api::timestamp::ZERO,
        "pids_stats": {},
        "blkio_stats": blkio(None, None),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": no_cpu,
        "precpu_stats": no_cpu,
        "memory_stats": {},
    })
}

fn blkio(bytes: Option<Vec<Value>>, operations: Option<Vec<Value>>) -> Value {
    let rest = bytes.as_ref().and(operations.as_ref()).map(|_| Vec::<Value>::new());
    json!({
        "io_service_bytes_recursive": bytes,
        "io_serviced_recursive": operations,
        "io_queue_recursive": rest,
        "io_service_time_recursive": rest,
        "io_wait_time_recursive": rest,
        "io_merged_recursive": rest,
        "io_time_recursive": rest,
        "sectors_recursive": rest,
    })
}

fn sample(context: &Context, record: &Record) -> Result<Value> {
    let pid = record.life.pid().unwrap_or_default();
    let group = runtime::cgroup::Cgroup::open(context.cgroup(record)).map_err(Error::runtime)?;
    let stats = group.stats();
    let v2 = context.host.cgroup_version == 2;
    let mut sample = empty(record);
    sample["read"] = api::timestamp::format(api::timestamp::now()).into();
    sample["pids_stats"] = part(&stats["pids"], &[("current", "current"), ("limit", "limit")]);
    sample["blkio_stats"] = io(&stats["blkio"], v2);
    sample["cpu_stats"] = cpu(&stats["cpu"], v2, &read("/proc/stat"));
    sample["memory_stats"] = memory(&stats["memory"], v2, host_memory(&read("/proc/meminfo")));
    if record.host.network_mode != "host" {
        let devices = devices(&read(&format!("/proc/{pid}/net/dev")));
        if !devices.is_empty() {
            sample["networks"] = json!(devices);
        }
    }
    Ok(sample)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Some fields under other names; those that are not there are left out.
fn part(from: &Value, names: &[(&str, &str)]) -> Value {
    let found = names.iter().filter_map(|(own, name)| Some(((*name).to_owned(), from.get(own)?.clone())));
    Value::Object(found.collect::<Map<_, _>>())
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn io(stats: &Value, v2: bool) -> Value {
    let entries = |name: &str| -> Vec<Value> {
        let entry = |entry: &Value| {
            let op = entry["op"].as_str().unwrap_or_default();
            let op = if v2 { op.to_ascii_lowercase() } else { op.to_owned() };
            (!v2 || matches!(op.as_str(), "read" | "write")).then(|| {
                json!({
                    "major": number(&entry["major"]), "minor": number(&entry["minor"]),
                    "op": op, "value": number(&entry["value"]),
                })
            })
        };
        stats[name].as_array().into_iter().flatten().filter_map(entry).collect()
    };
    let operations = (!v2).then(|| entries("ioServicedRecursive"));
    blkio(Some(entries("ioServiceBytesRecursive")), operations)
}

fn cpu(stats: &Value, v2: bool, host: &str) -> Value {
    let (usage, throttling) = (&stats["usage"], &stats["throttling"]);
    let mut own = json!({
        "total_usage": number(&usage["total"]),
        "usage_in_kernelmode": number(&usage["kernel"]),
        "usage_in_usermode": number(&usage["user"]),
    });
    if !v2 && let Some(each) = usage.get("percpu") {
        own["percpu_usage"] = each.clone();
    }
    let lines = || host.lines();
    let ticks: u64 = lines()
        .find_map(|line| line.strip_prefix("cpu "))
        .map(|line| line.split_whitespace().take(COLUMNS).filter_map(|n| n.parse::<u64>().ok()).sum())
        .unwrap_or(0);
    let online = lines().filter(|line| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    json!({
        "cpu_usage": own,
        "system_cpu_usage": ticks.saturating_mul(1_000_000_000 / TICKS),
        "online_cpus": online.count(),
        "throttling_data": {
            "periods": number(&throttling["periods"]),
            "throttled_periods": number(&throttling["throttledPeriods"]),
            "throttled_time": number(&throttling["throttledTime"]),
        },
    })
}

fn memory(stats: &Value, v2: bool, host: u64) -> Value {
    let own = &stats["usage"];
    let mut memory = json!({
        "usage": number(&own["usage"]),
        "stats": stats["raw"],
        // What has no limit of its own has the machine's.
        "limit": number(&own["limit"]).min(host),
    });
    if !v2 {
        memory["max_usage"] = number(&own["max"]).into();
        if number(&own["failcnt"]) > 0 {
            memory["failcnt"] = number(&own["failcnt"]).into();
        }
    }
    memory
}

/// The machine's memory in bytes.
fn host_memory(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> = total.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kib.map_or(u64::MAX, |kib| kib.saturating_mul(1024))
}

/// What `/proc/<pid>/net/dev` counts of each device but the loopback.
fn devices(text: &str) -> BTreeMap<String, Value> {
    let mut devices = BTreeMap::new();
    for line in text.lines() {
        let Some((name, counters)) = line.split_once(':') else { continue };
        let counters: Vec<u64> = counters.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let name = name.trim();
        let [
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            _,
            _,
            _,
            _,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
            ..,
        ] = counters[..]
        else {
            continue;
        };
        if name == "lo" {
            continue;
        }
        devices.insert(
            name.to_owned(),
            json!({
                "rx_bytes": rx_bytes, "rx_packets": rx_packets, "rx_errors": rx_errors, "rx_dropped": rx_dropped,
                "tx_bytes": tx_bytes, "tx_packets": tx_packets, "tx_errors": tx_errors, "tx_dropped": tx_dropped,
            }),
        );
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_without_the_loopback() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
             lo:     100       2    0    0    0     0          0         0      100       2    0    0    0     0       0          0\n  \
             eth0: 5338 36 1 2 0 0 0 0 648 8 3 4 0 0 0 0\n";
        let devices = devices(text);
        assert_eq!(devices.keys().collect::<Vec<_>>(), ["eth0"]);
        assert_eq!(devices["eth0"]["rx_bytes"], 5338);
        assert_eq!((&devices["eth0"]["tx_bytes"], &devices["eth0"]["tx_dropped"]), (&json!(648), &json!(4)));
    }

    #[test]
    fn both_versions_of_cgroups_are_told_as_docker_does() {
        let host = "cpu  1 2 3 4 5 6 7 100 0 0\ncpu0 1 1 1 1\ncpu1 1 1 1 1\nintr 5\n";
        let stats = json!({"usage": {"total": 9, "kernel": 4, "user": 5, "percpu": [4, 5]}, "throttling": {"periods": 1}});
        let (one, two) = (cpu(&stats, false, host), cpu(&stats, true, host));
        assert_eq!(one["cpu_usage"]["percpu_usage"], json!([4, 5]));
        assert!(two["cpu_usage"].get("percpu_usage").is_none());
        assert_eq!((&one["system_cpu_usage"], &one["online_cpus"]), (&json!(280_000_000), &json!(2)));
        let stats =
            json!({"usage": {"usage": 7, "limit": u64::MAX, "max": 8, "failcnt": 0}, "raw": {"anon": 1}});
        let (one, two) = (memory(&stats, false, 1000), memory(&stats, true, 1000));
        assert_eq!(one, json!({"usage": 7, "max_usage": 8, "limit": 1000, "stats": {"anon": 1}}));
        assert_eq!(two, json!({"usage": 7, "limit": 1000, "stats": {"anon": 1}}));
        let entry = |op: &str| json!({"major": 8, "op": op, "value": 3});
        let stats = json!({"ioServiceBytesRecursive": [entry("Read"), entry("Discard")]});
        assert_eq!(
            io(&stats, true)["io_service_bytes_recursive"],
            json!([{"major": 8, "minor": 0, "op": "read", "value": 3}])
        );
        assert_eq!(io(&stats, true)["io_serviced_recursive"], Value::Null);
        assert_eq!(io(&stats, false)["io_time_recursive"], json!([]));
    }
}
