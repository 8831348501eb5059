//! The processes of a container in the columns of `ps`, read from `/proc`: neither the host's nor the container's `ps` runs.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::container::Top;

use crate::error::{Error, Result};

/// The most processes that are shown.
const PROCESSES_MAX: usize = 16_384;
/// The most of a command line that is read.
const COMMAND_BYTES_MAX: u64 = 4096;

/// The kernel's clock ticks a second, as it shows them to programs: the same on every architecture we build for.
const TICKS: u64 = 100;
/// `/etc/passwd` of the host, for the names of users.
const PASSWD: &str = "/etc/passwd";
/// The same of groups.
const GROUP: &str = "/etc/group";
const PAGE_KIB: u64 = 4;

/// The names of users and groups.
struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

/// What `/proc` says of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Process {
    pid: i32,
    ppid: i32,
    pgrp: i64,
    session: i64,
    uid: u32,
    ruid: u32,
    gid: u32,
    rgid: u32,
    state: String,
    foreground: i64,
    tty: i32,
    threads: u64,
    nice: i64,
    priority: i64,
    processor: i64,
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
    ("ruser", "RUSER"),
    ("uid", "UID"),
    ("euid", "EUID"),
    ("ruid", "RUID"),
    ("group", "GROUP"),
    ("egroup", "EGROUP"),
    ("rgroup", "RGROUP"),
    ("gid", "GID"),
    ("egid", "EGID"),
    ("rgid", "RGID"),
    ("pid", "PID"),
    ("ppid", "PPID"),
    ("pgid", "PGID"),
    ("pgrp", "PGRP"),
    ("sid", "SID"),
    ("sess", "SESS"),
    ("c", "C"),
    ("pcpu", "%CPU"),
    ("%cpu", "%CPU"),
    ("pmem", "%MEM"),
    ("%mem", "%MEM"),
    ("vsz", "VSZ"),
    ("vsize", "VSZ"),
    ("sz", "SZ"),
    ("rss", "RSS"),
    ("rsz", "RSZ"),
    ("rssize", "RSS"),
    ("psr", "PSR"),
    ("pri", "PRI"),
    ("tty", "TT"),
    ("tname", "TTY"),
    ("tt", "TT"),
    ("stat", "STAT"),
    ("s", "S"),
    ("state", "S"),
    ("stime", "STIME"),
    ("start", "STARTED"),
    ("bsdstart", "START"),
    ("start_time", "START"),
    ("lstart", "STARTED"),
    ("time", "TIME"),
    ("cputime", "TIME"),
    ("bsdtime", "TIME"),
    ("etime", "ELAPSED"),
    ("etimes", "ELAPSED"),
    ("ni", "NI"),
    ("nice", "NI"),
    ("nlwp", "NLWP"),
    ("thcount", "THCNT"),
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
            "-ef" | "-f" | "-Af" => {
                chosen = full();
                continue;
            }
            "-eF" | "-F" => {
                chosen = extra_full();
                continue;
            }
            "-ej" | "-j" => {
                chosen = named(&["pid", "pgid", "sid", "tname", "time", "ucmd"]);
                continue;
            }
            // All processes are looked at, and nothing is cut to a width.
            "-e" | "-A" | "-a" | "-d" | "-w" | "-ww" => continue,
            bsd if is_bsd(bsd) => {
                if bsd.contains('u') {
                    chosen = named(&[
                        "user", "pid", "%cpu", "%mem", "vsz", "rss", "tname", "stat", "bsdstart", "bsdtime",
                        "args",
                    ]);
                }
                continue;
            }
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
    let mut chosen = if chosen.is_empty() { named(&["pid", "tname", "time", "ucmd"]) } else { chosen };
    if !chosen.iter().any(|(key, _)| key == "pid") {
        return Err(Error::invalid("Couldn't find PID field in ps output"));
    }
    chosen.dedup();
    Ok(chosen)
}

/// The letters of BSD's `ps` that are understood: whose processes, how wide, and `u`, which columns.
fn is_bsd(word: &str) -> bool {
    let letters = word.strip_prefix('-').unwrap_or(word);
    !letters.is_empty() && letters.chars().all(|letter| matches!(letter, 'a' | 'u' | 'x' | 'w'))
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

/// What `ps -eF` shows.
fn extra_full() -> Vec<(String, String)> {
    let mut columns = full();
    let more = [("sz", "SZ"), ("rss", "RSS"), ("psr", "PSR")];
    columns.splice(4..4, more.iter().map(own));
    columns
}

fn unknown(ps_args: &str) -> Error {
    Error::invalid(format!("ps: unsupported arguments: {ps_args}"))
        .with_hint("-ef, aux, and -o with a list of columns are understood")
}

/// The processes with these numbers, in the columns that `ps` has with these arguments.
pub(crate) fn top(pids: &[i32], ps_args: &str) -> Result<Top> {
    let columns = columns(ps_args)?;
    let users = Names { users: names(PASSWD), groups: names(GROUP) };
    let boot = boot_time();
    let memory_kib = memory_kib();
    let mut pids = pids.to_vec();
    pids.sort_unstable();
    // No more than that many rows, however many processes there are: whoever needs them all looks inside.
    pids.truncate(PROCESSES_MAX);
    let processes = pids
        .into_iter()
        .filter_map(read)
        .map(|p| columns.iter().map(|(key, _)| cell(&p, key, &users, boot, memory_kib)).collect())
        .collect();
    Ok(Top { processes, titles: columns.into_iter().map(|(_, title)| title).collect() })
}

/// Reads `/proc/<pid>`; a process that has ended meanwhile is left out.
fn read(pid: i32) -> Option<Process> {
    // A program's name for itself need not be text.
    let text = |name: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{name}")).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let (stat, status) = (text("stat")?, text("status")?);
    let mut cmdline = Vec::new();
    // A process says what it likes, up to megabytes.
    let file = fs::File::open(format!("/proc/{pid}/cmdline")).ok()?;
    file.take(COMMAND_BYTES_MAX).read_to_end(&mut cmdline).ok()?;
    parse(pid, &stat, &status, &cmdline)
}

fn parse(pid: i32, stat: &str, status: &str, cmdline: &[u8]) -> Option<Process> {
    let (before, after) = stat.rsplit_once(") ")?;
    let name = before.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = after.split(' ').collect();
    let number = |at: usize| fields.get(at).and_then(|f| f.trim().parse::<i64>().ok()).unwrap_or(0);
    let count = |at: usize| u64::try_from(number(at)).unwrap_or(0);
    let id = |of: &str, at: usize| {
        let line = status.lines().find_map(|line| line.strip_prefix(of));
        line.and_then(|ids| ids.split_whitespace().nth(at)?.parse().ok()).unwrap_or(0)
    };
    let args: Vec<_> =
        cmdline.split(|b| *b == 0).filter(|a| !a.is_empty()).map(String::from_utf8_lossy).collect();
    Some(Process {
        pid,
        ppid: i32::try_from(number(1)).unwrap_or(0),
        pgrp: number(2),
        session: number(3),
        uid: id("Uid:", 1),
        ruid: id("Uid:", 0),
        gid: id("Gid:", 1),
        rgid: id("Gid:", 0),
        state: fields.first().copied().unwrap_or("?").to_owned(),
        foreground: number(5),
        tty: i32::try_from(number(4)).unwrap_or(0),
        threads: count(17),
        nice: number(16),
        priority: number(15),
        processor: number(36),
        ticks: count(11) + count(12),
        start_ticks: count(19),
        vsz_kib: count(20) / 1024,
        rss_kib: count(21) * PAGE_KIB,
        args: if args.is_empty() { format!("[{name}]") } else { args.join(" ") },
        name,
    })
}

fn cell(p: &Process, key: &str, names: &Names, boot: SystemTime, memory_kib: u64) -> String {
    let began = boot + Duration::from_millis(p.start_ticks * 1000 / TICKS);
    let ran = SystemTime::now().duration_since(began).unwrap_or_default().as_secs().max(1);
    let seconds = p.ticks / TICKS;
    match key {
        "user" | "euser" => named(&names.users, p.uid),
        "ruser" => named(&names.users, p.ruid),
        "group" | "egroup" => named(&names.groups, p.gid),
        "rgroup" => named(&names.groups, p.rgid),
        "uid" | "euid" => p.uid.to_string(),
        "ruid" => p.ruid.to_string(),
        "gid" | "egid" => p.gid.to_string(),
        "rgid" => p.rgid.to_string(),
        "pgid" | "pgrp" => p.pgrp.to_string(),
        "sid" | "sess" => p.session.to_string(),
        "psr" => p.processor.to_string(),
        // The kernel's runs the other way and begins elsewhere.
        "pri" => (39 - p.priority).to_string(),
        "sz" => (p.vsz_kib / PAGE_KIB).to_string(),
        "pid" => p.pid.to_string(),
        "ppid" => p.ppid.to_string(),
        "c" => (seconds * 100 / ran).min(99).to_string(),
        "pcpu" | "%cpu" => tenths(p.ticks * 1000 / TICKS, ran),
        "pmem" | "%mem" => tenths(p.rss_kib * 1000, memory_kib.max(1)),
        "vsz" | "vsize" => p.vsz_kib.to_string(),
        "rss" | "rsz" | "rssize" => p.rss_kib.to_string(),
        "tty" | "tt" | "tname" => terminal(p.tty),
        "stat" => state(p),
        "s" | "state" => p.state.clone(),
        "stime" | "start" | "bsdstart" | "start_time" => clock(began),
        "lstart" => day(began),
        "bsdtime" => format!("{}:{:02}", seconds / 60, seconds % 60),
        "time" | "cputime" => format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        "etime" => elapsed(ran),
        "etimes" => ran.to_string(),
        "ni" | "nice" => p.nice.to_string(),
        "nlwp" | "thcount" => p.threads.to_string(),
        "comm" | "ucmd" => p.name.clone(),
        _ => p.args.clone(),
    }
}

/// The state with what `ps` adds: priority, whether it leads a session, has threads, or has the terminal.
fn state(p: &Process) -> String {
    let mut state = p.state.clone();
    let marks = [
        ('<', p.nice < 0),
        ('N', p.nice > 0),
        ('s', i64::from(p.pid) == p.session),
        ('l', p.threads > 1),
        ('+', p.foreground == p.pgrp && p.tty != 0),
    ];
    state.extend(marks.iter().filter(|(_, holds)| *holds).map(|(mark, _)| mark));
    state
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

fn named(names: &HashMap<u32, String>, id: u32) -> String {
    names.get(&id).cloned().unwrap_or_else(|| id.to_string())
}

/// Day and time, in the host's zone.
fn day(at: SystemTime) -> String {
    let at = jiff::Timestamp::try_from(at).unwrap_or_default().to_zoned(jiff::tz::TimeZone::system());
    at.strftime("%a %b %e %H:%M:%S %Y").to_string()
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

/// The names of numbers, by a file like `/etc/passwd`.
fn names(path: &str) -> HashMap<u32, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
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
        assert_eq!(titles("aux").unwrap(), "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND");
        assert_eq!(titles("auxww").unwrap(), titles("-aux").unwrap());
        assert_eq!(titles("-eF").unwrap(), "UID PID PPID C SZ RSS PSR STIME TTY TIME CMD");
        assert_eq!(titles("-o pid,pgid -o sess,group").unwrap(), "PID PGID SESS GROUP");
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
