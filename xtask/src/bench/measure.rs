//! Times, medians and memory.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::Result;

/// Runs `command` to its end with no output; an error if it fails.
pub fn run(command: &mut Command) -> Result<Duration> {
    let line = format!("{command:?}");
    let started = Instant::now();
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("cannot run {line}: {error}"))?;
    let took = started.elapsed();
    if !output.status.success() {
        return Err(format!("{line}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(took)
}

/// The median of `times` runs in milliseconds, after two that warm up.
pub fn median_ms(times: usize, mut once: impl FnMut() -> Result<Duration>) -> Result<f64> {
    for _ in 0..2 {
        once()?;
    }
    let mut taken = (0..times).map(|_| once()).collect::<Result<Vec<_>>>()?;
    taken.sort_unstable();
    Ok(taken[taken.len() / 2].as_secs_f64() * 1e3)
}

/// One field of `/proc/<pid>/smaps_rollup` or `status`, in kilobytes.
pub fn memory_kb(pid: u32, file: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Processes whose command line contains `text`.
pub fn processes(text: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    })
    .collect()
}
