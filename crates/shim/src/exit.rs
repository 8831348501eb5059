//! The two small files by which a daemon that was not there learns what happened.

use std::fs;
use std::io;
use std::path::Path;

use crate::wire::Exit;

/// The file with the end of the container.
pub const EXIT: &str = "exit";
/// The file with its init.
pub const INIT: &str = "init";

/// A container's init, unmistakably.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Init {
    /// Its number.
    pub pid: u32,
    /// Its start time, field 22 of `/proc/<pid>/stat`.
    pub start: u64,
}

/// Writes `exit` in `dir`; it is there whole or not at all.
pub fn write_exit(dir: &Path, exit: Exit) -> io::Result<()> {
    let Exit { code, signal, oom, finished_ns } = exit;
    let line = format!("code={code} signal={signal} oom={} finished_ns={finished_ns}\n", u8::from(oom));
    replace(dir, EXIT, &line)
}

/// Reads `exit` in `dir`; `None` if there is none, or nothing that we wrote.
pub fn read_exit(dir: &Path) -> io::Result<Option<Exit>> {
    let Some(line) = read(&dir.join(EXIT))? else { return Ok(None) };
    Ok(parse_exit(&line))
}

/// Writes `init` in `dir`, for the process `pid`.
pub fn write_init(dir: &Path, pid: u32) -> io::Result<()> {
    let start = start_time(pid)?;
    replace(dir, INIT, &format!("pid={pid} start={start}\n"))
}

/// Reads `init` in `dir`.
pub fn read_init(dir: &Path) -> io::Result<Option<Init>> {
    let Some(line) = read(&dir.join(INIT))? else { return Ok(None) };
    Ok(field(&line, "pid").zip(field(&line, "start")).map(|(pid, start)| Init { pid, start }))
}

/// Whether the process that `init` names is still there.
pub fn is_alive(init: Init) -> bool {
    start_time(init.pid).is_ok_and(|start| start == init.start)
}

fn start_time(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name, in parentheses, may hold anything; the 20th field after it is the start time.
    let after = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
    let start = after.split(' ').nth(19).and_then(|text| text.parse().ok());
    start.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn parse_exit(line: &str) -> Option<Exit> {
    Some(Exit {
        code: field(line, "code")?,
        signal: field(line, "signal")?,
        oom: field::<u8>(line, "oom")? != 0,
        finished_ns: field(line, "finished_ns")?,
    })
}

fn field<T: std::str::FromStr>(line: &str, key: &str) -> Option<T> {
    line.split_ascii_whitespace().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(line) => Ok(Some(line)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn replace(dir: &Path, name: &str, line: &str) -> io::Result<()> {
    let temporary = dir.join(format!(".{name}.new"));
    fs::write(&temporary, line)?;
    fs::rename(&temporary, dir.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert_eq!(read_exit(dir.path()).expect("read"), None);
        let exit = Exit { code: 137, signal: 9, oom: true, finished_ns: 1_700_000_000_000_000_001 };
        write_exit(dir.path(), exit).expect("write");
        let text = fs::read_to_string(dir.path().join(EXIT)).expect("read");
        assert_eq!(text, "code=137 signal=9 oom=1 finished_ns=1700000000000000001\n");
        assert_eq!(read_exit(dir.path()).expect("read"), Some(exit));
        fs::write(dir.path().join(EXIT), "code=1 sig").expect("write");
        assert_eq!(read_exit(dir.path()).expect("read"), None);
    }

    #[test]
    fn an_init_is_recognised() {
        let dir = tempfile::tempdir().expect("tempdir");
        write_init(dir.path(), std::process::id()).expect("write");
        let mut init = read_init(dir.path()).expect("read").expect("some");
        assert!(is_alive(init));
        init.start += 1;
        assert!(!is_alive(init));
    }
}
