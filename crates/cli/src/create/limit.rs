//! The limits of a container.

use api::container::{Resources, ThrottleDevice, Ulimit, WeightDevice};

use super::device;
use crate::error::{Error, Result};
use crate::flags::{Parsed, cpus, ram_bytes};

type Verdict = std::result::Result<(), String>;

/// The names of limits that the kernel knows.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// The check of `--cpus`.
pub(super) fn check_cpus(text: &str) -> Verdict {
    cpus(text).map(drop)
}

/// The check of `--blkio-weight`.
pub(super) fn check_weight(text: &str) -> Verdict {
    let why = match text.parse::<u16>().map_err(|err| *err.kind()) {
        Ok(_) => return Ok(()),
        Err(std::num::IntErrorKind::PosOverflow) => "value out of range",
        Err(_) => "invalid syntax",
    };
    Err(format!("strconv.ParseUint: parsing {text:?}: {why}"))
}

fn ulimit(text: &str) -> std::result::Result<Ulimit, String> {
    let invalid = || format!("invalid ulimit argument: {text}");
    let (name, values) = text.split_once('=').ok_or_else(invalid)?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| {
        text.parse::<i64>().map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
    };
    let parts: Vec<&str> = values.split(':').collect();
    let (soft, hard) = match parts[..] {
        [""] => return Err(invalid()),
        [soft] => (number(soft)?, number(soft)?),
        [soft, hard] => (number(soft)?, number(hard)?),
        _ => {
            return Err(format!(
                "too many limit value arguments - {values}, can only have up to two, `soft[:hard]`"
            ));
        }
    };
    // -1 is more than any number.
    let above = hard != -1 && (soft == -1 || soft > hard);
    if above {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// The check of `--ulimit`.
pub(super) fn check_ulimit(text: &str) -> Verdict {
    ulimit(text).map(drop)
}

fn device_value(text: &str) -> std::result::Result<(&str, &str), String> {
    match text.split_once(':') {
        Some((path, value)) if !path.is_empty() && !value.contains(':') => {
            if path.starts_with("/dev/") {
                Ok((path, value))
            } else {
                Err(format!("bad format for device path: {text}"))
            }
        }
        _ => Err(format!("bad format: {text}")),
    }
}

fn weight(text: &str) -> std::result::Result<WeightDevice, String> {
    let (path, value) = device_value(text)?;
    match value.parse::<u16>() {
        Ok(weight) if weight == 0 || (10..=1000).contains(&weight) => {
            Ok(WeightDevice { path: path.to_owned(), weight })
        }
        _ => Err(format!("invalid weight for device: {text}")),
    }
}

fn rate(
    text: &str,
    number: fn(&str) -> Option<u64>,
    unit: &str,
) -> std::result::Result<ThrottleDevice, String> {
    let (path, value) = device_value(text)?;
    match number(value) {
        Some(rate) => Ok(ThrottleDevice { path: path.to_owned(), rate }),
        None => Err(format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>{unit}"
        )),
    }
}

fn bytes_rate(text: &str) -> std::result::Result<ThrottleDevice, String> {
    let number = |value: &str| ram_bytes(value).and_then(|rate| u64::try_from(rate).ok());
    rate(
        text,
        number,
        "[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb",
    )
}

fn count_rate(text: &str) -> std::result::Result<ThrottleDevice, String> {
    rate(text, |value| value.parse().ok(), ". Number must be a positive integer")
}

/// The check of `--blkio-weight-device`.
pub(super) fn check_device_weight(text: &str) -> Verdict {
    weight(text).map(drop)
}

/// The check of rates in bytes.
pub(super) fn check_rate_bytes(text: &str) -> Verdict {
    bytes_rate(text).map(drop)
}

/// The check of rates in operations.
pub(super) fn check_rate(text: &str) -> Verdict {
    count_rate(text).map(drop)
}

/// Reads the limits.
pub(super) fn collect(parsed: &Parsed) -> Result<Resources> {
    let swappiness = parsed.int("memory-swappiness").unwrap_or(-1);
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(Error::Message(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        )));
    }
    let rates = |flag: &str, read: fn(&str) -> std::result::Result<ThrottleDevice, String>| {
        parsed.list(flag).map(|text| read(text).map_err(Error::Message)).collect::<Result<Vec<_>>>()
    };
    let nano_cpus = parsed.text("cpus").map_or(Ok(0), cpus).map_err(Error::Message)?;
    let number = |flag: &str| parsed.int(flag).unwrap_or(0);
    let size = |flag: &str| parsed.bytes(flag).unwrap_or(0);
    let mut ulimits =
        parsed.list("ulimit").map(|text| ulimit(text).map_err(Error::Message)).collect::<Result<Vec<_>>>()?;
    // The last one of a name counts.
    ulimits.reverse();
    ulimits.sort_by(|a, b| a.name.cmp(&b.name));
    ulimits.dedup_by(|later, first| later.name == first.name);
    Ok(Resources {
        cpu_shares: number("cpu-shares"),
        memory: size("memory"),
        nano_cpus,
        cgroup_parent: parsed.or_empty("cgroup-parent"),
        blkio_weight: parsed.text("blkio-weight").and_then(|text| text.parse().ok()).unwrap_or(0),
        blkio_weight_device: parsed
            .list("blkio-weight-device")
            .map(|text| weight(text).map_err(Error::Message))
            .collect::<Result<_>>()?,
        blkio_device_read_bps: rates("device-read-bps", bytes_rate)?,
        blkio_device_write_bps: rates("device-write-bps", bytes_rate)?,
        blkio_device_read_iops: rates("device-read-iops", count_rate)?,
        blkio_device_write_iops: rates("device-write-iops", count_rate)?,
        cpu_period: number("cpu-period"),
        cpu_quota: number("cpu-quota"),
        cpu_realtime_period: number("cpu-rt-period"),
        cpu_realtime_runtime: number("cpu-rt-runtime"),
        cpuset_cpus: parsed.or_empty("cpuset-cpus"),
        cpuset_mems: parsed.or_empty("cpuset-mems"),
        devices: device::mappings(parsed)?,
        device_cgroup_rules: parsed.owned("device-cgroup-rule"),
        device_requests: device::requests(parsed)?,
        memory_reservation: size("memory-reservation"),
        memory_swap: size("memory-swap"),
        memory_swappiness: Some(swappiness),
        oom_kill_disable: Some(parsed.on("oom-kill-disable")),
        init: parsed.given("init").then(|| parsed.on("init")),
        pids_limit: Some(number("pids-limit")),
        ulimits,
        ..Resources::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits() {
        assert_eq!(ulimit("nofile=1:2").unwrap(), Ulimit { name: "nofile".into(), soft: 1, hard: 2 });
        assert_eq!(ulimit("core=-1").unwrap().hard, -1);
        for (text, want) in [
            ("foo=1", "invalid ulimit type: foo"),
            ("nofile", "invalid ulimit argument: nofile"),
            ("nofile=2:1", "ulimit soft limit must be less than or equal to hard limit: 2 > 1"),
            ("nofile=-1:1", "ulimit soft limit must be less than or equal to hard limit: -1 > 1"),
        ] {
            assert_eq!(ulimit(text).unwrap_err(), want);
        }
    }

    #[test]
    fn rates() {
        assert_eq!(bytes_rate("/dev/sda:1mb").unwrap().rate, 1 << 20);
        assert!(
            bytes_rate("/dev/sda:x").is_err()
                && count_rate("/dev/sda:-1").is_err()
                && weight("/dev/sda:5").is_err()
        );
        assert_eq!(bytes_rate("sda:1").unwrap_err(), "bad format for device path: sda:1");
    }
}
