//! `events`.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sys::epoll::{Epoll, EventFlags};
use sys::proc::Proc;

use super::Global;
use super::arguments::{Arguments, Flag};
use crate::cgroup::{Cgroup, OomWatch};
use crate::error::{Context as _, Error};
use crate::lifecycle::{Container, Status};

const INTERVAL_DEFAULT: Duration = Duration::from_secs(5);

/// What the descriptors that are waited for stand for.
const ENDED: u64 = 0;
const OOM: u64 = 1;
const READER: u64 = 2;

pub(super) fn events(global: &Global, arguments: Vec<String>) -> Result<i32, Error> {
    let mut options = Arguments::parse(arguments, &[Flag::value("interval"), Flag::switch("stats")])?;
    let interval = options.value("interval").map(|text| parse_duration(&text)).transpose()?;
    let once = options.take("stats");
    let id = options.only("container id")?;
    let container = Container::open(&id, &global.state_dir(&id)?)?;
    let stopped = || Error::State { id: id.clone(), verb: "watch", state: Status::Stopped.word() };
    let proc = Proc::open().on("open", "/proc")?;
    let init = container.init.find(&proc)?.ok_or_else(stopped)?;
    let cgroup = container.cgroup()?;
    if cgroup.is_none() {
        return Err(Error::Unsupported("watching a container that has no cgroup of its own".into()));
    }
    if once {
        print(&id, "stats", Some(cgroup.stats()))?;
        return Ok(0);
    }
    watch(&id, &init, &cgroup, interval.unwrap_or(INTERVAL_DEFAULT)).map(|()| 0)
}

/// Prints what happens until the container has ended, or nobody reads any more.
fn watch(id: &str, init: &OwnedFd, cgroup: &Cgroup, interval: Duration) -> Result<(), Error> {
    let mut oom = cgroup.watch_oom()?;
    let epoll = Epoll::new().on("create", "a queue of events")?;
    let watched = "a container's events";
    epoll.add(init, ENDED, EventFlags::IN).on("watch", watched)?;
    if let Some(oom) = &oom {
        epoll.add(oom, OOM, EventFlags::IN).on("watch", watched)?;
    }
    // A file cannot be waited for; a pipe is broken when nobody reads it.
    let _ = epoll.add(io::stdout(), READER, EventFlags::empty());
    let mut due = Instant::now() + interval;
    loop {
        let left = due.saturating_duration_since(Instant::now());
        let milliseconds = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let mut happened = Epoll::events();
        let count = epoll.wait(&mut happened, Some(milliseconds)).on("watch", watched)?;
        let happened = |token: u64| happened[..count].iter().any(|event| { event.data }.u64() == token);
        if oom.as_mut().map_or(Ok(false), OomWatch::check)? {
            print(id, "oom", None)?;
        }
        if happened(ENDED) || happened(READER) {
            return Ok(());
        }
        if Instant::now() >= due {
            print(id, "stats", Some(cgroup.stats()))?;
            due += interval;
        }
    }
}

fn print(id: &str, kind: &str, data: Option<Value>) -> Result<(), Error> {
    let mut event = json!({"type": kind, "id": id});
    if let Some(data) = data {
        event["data"] = data;
    }
    writeln!(io::stdout(), "{event}").on("write", "standard output")
}

/// A duration as programs in Go take it: `5s`, `1m30s`, `250ms`.
fn parse_duration(text: &str) -> Result<Duration, Error> {
    let invalid = || Error::Invalid(format!("invalid value for interval: {text:?}"));
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let (number, behind) = rest.split_at(digits);
        let letters = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(invalid()),
        };
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| invalid())?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = behind;
    }
    // It is added to the time of day again and again.
    const INTERVAL_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
    if total < Duration::from_millis(1) || total > INTERVAL_MAX {
        return Err(Error::Invalid(format!("interval {text:?} is not between a millisecond and a year")));
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, milliseconds) in
            [("5s", 5000), ("1m30s", 90_000), ("250ms", 250), ("1.5s", 1500), ("1h", 3_600_000)]
        {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(milliseconds), "{text}");
        }
        for wrong in ["", "5", "s", "5x", "0s", "-1s", "1s5", "99999999h", "1ns", "1..5s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
