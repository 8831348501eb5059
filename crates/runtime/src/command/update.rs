//! `update`.

use std::path::Path;

use oci::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};
use serde::Deserialize as _;
use serde_json::Value;

use super::Global;
use super::arguments::{Arguments, Flag};
use crate::config;
use crate::error::Error;
use crate::lifecycle::{Container, Status};
use crate::rdt;

pub(super) const FLAGS: &[Flag] = &[
    Flag::value("resources").short('r'),
    Flag::value("blkio-weight"),
    Flag::value("cpu-period"),
    Flag::value("cpu-quota"),
    Flag::value("cpu-burst"),
    Flag::value("cpu-share"),
    Flag::value("cpu-rt-period"),
    Flag::value("cpu-rt-runtime"),
    Flag::value("cpuset-cpus"),
    Flag::value("cpuset-mems"),
    Flag::value("memory").short('m'),
    Flag::value("memory-reservation"),
    Flag::value("memory-swap"),
    Flag::value("pids-limit"),
    Flag::value("cpu-idle"),
    Flag::value("l3-cache-schema"),
    Flag::value("mem-bw-schema"),
];

/// The longest description of limits: one with all that there is takes a few kilobytes.
const RESOURCES_BYTES_MAX: u64 = 1 << 20;

pub(super) fn update(global: &Global, arguments: Vec<String>) -> Result<i32, Error> {
    let options = Arguments::parse(arguments, FLAGS)?;
    let schemata: Vec<_> = ["l3-cache-schema", "mem-bw-schema"]
        .into_iter()
        .filter_map(|name| options.value(name).filter(|text| !text.is_empty()).map(|text| (name, text)))
        .collect();
    // All other options but these two are ignored if there is a file, says runc's manual.
    let mut resources = match options.value("resources") {
        Some(path) => from_file(&path)?,
        None => from_flags(&options)?,
    };
    let id = options.only("container id")?;
    let container = Container::open(&id, &global.state_dir(&id)?)?;
    if container.status == Status::Stopped {
        return Err(Error::State { id, verb: "update", state: Status::Stopped.word() });
    }
    leave_out_known_devices(&container, &mut resources);
    let rdt = rdt::Update::new(&container.record.resctrl, &schemata)?;
    container.cgroup()?.update(&resources)?;
    rdt.map_or(Ok(()), |rdt| rdt.write()).map(|()| 0)
}

fn from_file(path: &str) -> Result<LinuxResources, Error> {
    let json = |source| Error::Json { path: path.into(), source };
    let text = config::read_given(Path::new(path), RESOURCES_BYTES_MAX)?;
    let document: Value = serde_json::from_slice(&text).map_err(json)?;
    if let Some(name) = not_an_object(&document) {
        return Err(Error::Invalid(format!("{path}: {name} is not an object")));
    }
    let mut resources = LinuxResources::deserialize(document).map_err(json)?;
    // Zero is how callers in Go leave it as it is.
    if resources.pids().is_some_and(|pids| pids.limit() == 0) {
        resources.set_pids(None);
    }
    Ok(resources)
}

/// What of the limits is something else than what their names stand for: a list would be taken for values without names. As in Go,
/// `null` is nothing, and names that nobody knows are none of our business.
fn not_an_object(document: &Value) -> Option<&'static str> {
    let Some(document) = document.as_object() else { return Some("the document") };
    const OBJECTS: [&str; 5] = ["memory", "cpu", "pids", "blockIO", "network"];
    let wrong = |name: &&str| document.get(*name).is_some_and(|v| !v.is_object() && !v.is_null());
    OBJECTS.into_iter().find(wrong)
}

/// Callers hand back all of a container's limits with the changed ones among them. Device rules that are those it was made with are
/// left alone, and with them what others may have added since.
fn leave_out_known_devices(container: &Container, resources: &mut LinuxResources) {
    if resources.devices().as_ref().is_none_or(Vec::is_empty) {
        return;
    }
    let Ok(spec) = config::load(&container.record.bundle) else { return };
    let known = spec.linux().as_ref().and_then(|l| l.resources().as_ref()).and_then(|r| r.devices().as_ref());
    if known == resources.devices().as_ref() {
        resources.set_devices(None);
    }
}

fn from_flags(options: &Arguments) -> Result<LinuxResources, Error> {
    let text = |name: &str| options.value(name).filter(|value| !value.is_empty());
    let bytes = |name: &str| text(name).map(|value| parse_bytes(name, &value)).transpose();
    let mut cpu = LinuxCpu::default();
    cpu.set_period(number(options, "cpu-period")?)
        .set_quota(number(options, "cpu-quota")?)
        .set_burst(number(options, "cpu-burst")?)
        .set_shares(number(options, "cpu-share")?)
        .set_realtime_period(number(options, "cpu-rt-period")?)
        .set_realtime_runtime(number(options, "cpu-rt-runtime")?)
        .set_cpus(text("cpuset-cpus"))
        .set_mems(text("cpuset-mems"))
        .set_idle(number(options, "cpu-idle")?);
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(bytes("memory")?)
        .set_reservation(bytes("memory-reservation")?)
        .set_swap(bytes("memory-swap")?);
    let mut block_io = LinuxBlockIo::default();
    block_io.set_weight(number(options, "blkio-weight")?);
    let mut resources = LinuxResources::default();
    resources.set_cpu(Some(cpu)).set_memory(Some(memory)).set_block_io(Some(block_io));
    if let Some(limit) = number(options, "pids-limit")?.filter(|limit| *limit != 0) {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    Ok(resources)
}

fn number<T: std::str::FromStr>(options: &Arguments, name: &str) -> Result<Option<T>, Error> {
    let Some(value) = options.value(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    value.parse().map(Some).map_err(|_| invalid(name, &value))
}

fn invalid(name: &str, value: &str) -> Error {
    Error::Invalid(format!("invalid value for {name}: {value:?}"))
}

/// An amount of memory: `-1`, or a number with a unit behind it, as `512m`, `1.5G`, `64 MiB` or `4096`.
fn parse_bytes(name: &str, text: &str) -> Result<i64, Error> {
    if text == "-1" {
        return Ok(-1);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let unit = unit.strip_suffix('b').map_or(unit.as_str(), |unit| unit.strip_suffix('i').unwrap_or(unit));
    let exponent = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(invalid(name, text)),
    };
    let factor = 1024_i64.pow(exponent);
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(factor).ok_or_else(|| invalid(name, text));
    }
    let amount = number.parse::<f64>().ok().filter(|_| number.starts_with(|c: char| c.is_ascii_digit()));
    let amount = amount.map(|amount| amount * factor as f64).filter(|amount| *amount < i64::MAX as f64);
    amount.map(|amount| amount as i64).ok_or_else(|| invalid(name, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_have_units() {
        for (text, bytes) in [
            ("-1", -1),
            ("4096", 4096),
            ("1k", 1024),
            ("64 MiB", 64 << 20),
            ("1.5G", 3 << 29),
            ("2gb", 2 << 30),
            ("1p", 1 << 50),
            ("7b", 7),
        ] {
            assert_eq!(parse_bytes("memory", text).unwrap(), bytes, "{text}");
        }
        for wrong in ["", "m", "-2", "1x", "1kk", "1.5.5", ".5m", "1ib2", "99999999999p", "1e3"] {
            assert!(parse_bytes("memory", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_given_is_not_there() {
        let parse = |arguments: &[&str]| {
            let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
            from_flags(&Arguments::parse(arguments, FLAGS).unwrap())
        };
        let resources = parse(&["--memory", "1m", "--cpu-quota=-1", "--pids-limit", "0"]).unwrap();
        assert_eq!(resources.memory().unwrap().limit(), Some(1 << 20));
        assert_eq!(resources.memory().unwrap().swap(), None);
        assert_eq!(resources.cpu().as_ref().unwrap().quota(), Some(-1));
        assert_eq!(resources.pids(), &None);
        assert_eq!(
            parse(&["--cpu-share", "x"]).unwrap_err().to_string(),
            "invalid value for cpu-share: \"x\""
        );
    }
}
