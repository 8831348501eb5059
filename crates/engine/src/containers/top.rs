//! The processes of a container in the columns of `ps`, read from `/proc`: neither the host's nor the container's `ps` runs.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::container::Top;

use crate::error::{Error, Result};

/// The kernel's clock ticks a second, as it shows them to programs: the same on every architecture we build for.
const TICKS: u64 = 100;
/// `/etc/passwd` of the host, for the names of users.
const PASSWD: &str = "/etc/passwd";
const PAGE_KIB: u64 = 4;

/// What `/proc` says of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Process {
    pid: i32,
    ppid: i32,
    uid: u32,
    state: String,
    tty: i32,
    threads: u64,
    nice: i64,
    ticks: u64,
    start_ticks: u64,
    vsz_kib: u64,
    rss_kib: u64,
    name: String,
    args: String,
}

/// The columns that can be asked for, by the names of `ps -o`, with their titles.
const COLUMNS: &[(&str, &str)] = &[
    ("user", "USER"),
    ("euser", "EUSER"),
    ("uid", "UID"),
    ("pid", "PID"),
    ("ppid", "PPID"),
    ("c", "C"),
    ("pcpu", "%CPU"),
    ("%cpu", "%CPU"),
    ("pmem", "%MEM"),
    ("%mem", "%MEM"),
    ("vsz", "VSZ"),
    ("rss", "RSS"),
    ("tty", "TTY"),
    ("tt", "TT"),
    ("stat", "STAT"),
    ("s", "S"),
    ("state", "S"),
    ("stime", "STIME"),
    ("start", "STARTED"),
    ("time", "TIME"),
    ("etime", "ELAPSED"),
    ("ni", "NI"),
    ("nlwp", "NLWP"),
    ("comm", "COMMAND"),
    ("ucmd", "CMD"),
    ("cmd", "CMD"),
    ("args", "COMMAND"),
    ("command", "COMMAND"),
];

/// The columns that `ps` shows with these arguments.
fn columns(ps_args: &str) -> Result<Vec<(String, String)>> {
    let named = |names: &[&str]| -> Vec<(String, String)> {
        names.iter().filter_map(|n| COLUMNS.iter().find(|(k, _)| k == n)).map(own).collect()
    };
    let own_words: Vec<&str> = ps_args.split_whitespace().collect();
    if own_words.is_empty() {
        return Ok(full());
    }
    let mut chosen = Vec::new();
    let mut words = own_words.iter();
    while let Some(word) = words.next() {
        let list = match *word {
            "-o" | "o" | "-eo" | "-Ao" | "--format" => words.next().copied().unwrap_or_default(),
            "aux" | "-aux" | "u" => {
                chosen = named(&[
                    "user", "pid", "%cpu", "%mem", "vsz", "rss", "tty", "stat", "start", "time", "args",
                ]);
                continue;
            }
            "-ef" | "-f" | "-eF" => {
                chosen = full();
                continue;
            }
            "-e" | "-A" | "a" | "ax" | "x" | "-ax" => continue,
            other => match other.strip_prefix("-o").or_else(|| other.strip_prefix("--format=")) {
                Some(list) => list,
                None => return Err(unknown(ps_args)),
            },
        };
        for column in list.split(',') {
            let (key, title) = column.split_once('=').map_or((column, None), |(k, t)| (k, Some(t)));
            let known = COLUMNS.iter().find(|(k, _)| *k == key).ok_or_else(|| unknown(ps_args))?;
            chosen.push((known.0.to_owned(), title.unwrap_or(known.1).to_owned()));
        }
    }
    let mut chosen = if chosen.is_empty() { named(&["pid", "tty", "time", "ucmd"]) } else { chosen };
    if !chosen.iter().any(|(key, _)| key == "pid") {
        return Err(Error::invalid("Couldn't find PID field in ps output"));
    }
    chosen.dedup();
    Ok(chosen)
}

fn own(pair: &(&str, &str)) -> (String, String) {
    (pair.0.to_owned(), pair.1.to_owned())
}

/// What `ps -ef` shows: Docker's default.
fn full() -> Vec<(String, String)> {
    [
        ("user", "UID"),
        ("pid", "PID"),
        ("ppid", "PPID"),
        ("c", "C"),
        ("stime", "STIME"),
        ("tty", "TTY"),
        ("time", "TIME"),
        ("args", "CMD"),
    ]
    .iter()
    .map(own)
    .collect()
}

fn unknown(ps_args: &str) -> Error {
    Error::invalid(format!("ps: unsupported arguments: {ps_args}"))
        .with_hint("-ef, aux, and -o with a list of columns are understood")
}

/// The processes with these numbers, in the columns that `ps` has with these arguments.
pub(crate) fn top(pids: &[i32], ps_args: &str) -> Result<Top> {
    let columns = columns(ps_args)?;
    let users = users();
    let boot = boot_time();
    let memory_kib = memory_kib();
    let mut pids = pids.to_vec();
    pids.sort_unstable();
    let processes = pids
        .into_iter()
        .filter_map(read)
        .map(|p| columns.iter().map(|(key, _)| cell(&p, key, &users, boot, memory_kib)).collect())
        .collect();
    Ok(Top { processes, titles: columns.into_iter().map(|(_, title)| title).collect() })
}

/// Reads `/proc/<pid>`; a process that has ended meanwhile is left out.
fn read(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    parse(pid, &stat, &status, &cmdline)
}

fn parse(pid: i32, stat: &str, status: &str, cmdline: &[u8]) -> Option<Process> {
    let (before, after) = stat.rsplit_once(") ")?;
    let name = before.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = after.split(' ').collect();
    let number = |at: usize| fields.get(at).and_then(|f| f.trim().parse::<i64>().ok()).unwrap_or(0);
    let count = |at: usize| u64::try_from(number(at)).unwrap_or(0);
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0);
    let args: Vec<_> =
        cmdline.split(|b| *b == 0).filter(|a| !a.is_empty()).map(String::from_utf8_lossy).collect();
    Some(Process {
        pid,
        ppid: i32::try_from(number(1)).unwrap_or(0),
        uid,
        state: fields.first().copied().unwrap_or("?").to_owned(),
        tty: i32::try_from(number(4)).unwrap_or(0),
        threads: count(17),
        nice: number(16),
        ticks: count(11) + count(12),
        start_ticks: count(19),
        vsz_kib: count(20) / 1024,
        rss_kib: count(21) * PAGE_KIB,
        args: if args.is_empty() { format!("[{name}]") } else { args.join(" ") },
        name,
    })
}

fn cell(p: &Process, key: &str, users: &HashMap<u32, String>, boot: SystemTime, memory_kib: u64) -> String {
    let began = boot + Duration::from_millis(p.start_ticks * 1000 / TICKS);
    let ran = SystemTime::now().duration_since(began).unwrap_or_default().as_secs().max(1);
    let seconds = p.ticks / TICKS;
    match key {
        "user" | "euser" => users.get(&p.uid).cloned().unwrap_or_else(|| p.uid.to_string()),
        "uid" => p.uid.to_string(),
        "pid" => p.pid.to_string(),
        "ppid" => p.ppid.to_string(),
        "c" => (seconds * 100 / ran).min(99).to_string(),
        "pcpu" | "%cpu" => tenths(p.ticks * 1000 / TICKS, ran),
        "pmem" | "%mem" => tenths(p.rss_kib * 1000, memory_kib.max(1)),
        "vsz" => p.vsz_kib.to_string(),
        "rss" => p.rss_kib.to_string(),
        "tty" | "tt" => terminal(p.tty),
        "stat" | "s" | "state" => p.state.clone(),
        "stime" | "start" => clock(began),
        "time" => format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        "etime" => elapsed(ran),
        "ni" => p.nice.to_string(),
        "nlwp" => p.threads.to_string(),
        "comm" | "ucmd" => p.name.clone(),
        _ => p.args.clone(),
    }
}

fn tenths(thousandths: u64, of: u64) -> String {
    let value = thousandths / of;
    format!("{}.{}", value / 10, value % 10)
}

fn terminal(number: i32) -> String {
    if number == 0 {
        return "?".to_owned();
    }
    let number = number.cast_unsigned();
    let (major, minor) = (number >> 8 & 0xfff, (number & 0xff) | (number >> 12 & 0xfff00));
    match major {
        136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        4 => format!("tty{minor}"),
        _ => "?".to_owned(),
    }
}

/// The time of day, in the host's zone.
fn clock(at: SystemTime) -> String {
    let at = jiff::Timestamp::try_from(at).unwrap_or_default().to_zoned(jiff::tz::TimeZone::system());
    at.strftime("%H:%M").to_string()
}

fn elapsed(seconds: u64) -> String {
    let (days, hours, minutes, seconds) =
        (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes:02}:{seconds:02}"),
        (0, _) => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        _ => format!("{days}-{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

fn users() -> HashMap<u32, String> {
    let text = fs::read_to_string(PASSWD).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
        })
        .collect()
}

fn boot_time() -> SystemTime {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let seconds = text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    UNIX_EPOCH + Duration::from_secs(seconds.unwrap_or(0))
}

fn memory_kib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_follow_the_arguments() {
        let titles =
            |args: &str| columns(args).map(|c| c.into_iter().map(|(_, t)| t).collect::<Vec<_>>().join(" "));
        assert_eq!(titles("").unwrap(), "UID PID PPID C STIME TTY TIME CMD");
        assert_eq!(titles("-ef").unwrap(), "UID PID PPID C STIME TTY TIME CMD");
        assert_eq!(titles("aux").unwrap(), "USER PID %CPU %MEM VSZ RSS TTY STAT STARTED TIME COMMAND");
        assert_eq!(titles("-o pid,comm").unwrap(), "PID COMMAND");
        assert_eq!(titles("-eo pid=Nr,args").unwrap(), "Nr COMMAND");
        assert_eq!(titles("-o comm").unwrap_err().to_string(), "Couldn't find PID field in ps output");
        assert!(titles("--forest").is_err());
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 34816 7 0 0 0 0 0 150 50 0 0 20 5 3 0 1000 4096000 200 0";
        let p = parse(7, stat, "Name:\tx\nUid:\t0\t33\t0\t0\n", b"prog\0arg one\0").unwrap();
        assert_eq!((p.name.as_str(), p.ppid, p.uid, p.ticks, p.threads, p.nice), ("a) b", 1, 33, 200, 3, 5));
        assert_eq!((p.vsz_kib, p.rss_kib, p.args.as_str()), (4000, 800, "prog arg one"));
        assert_eq!(terminal(p.tty), "pts/0");
    }

    #[test]
    fn our_own_process_is_found() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let top = top(&[pid], "-o pid,args").unwrap();
        assert_eq!(top.processes[0][0], pid.to_string());
    }
}
