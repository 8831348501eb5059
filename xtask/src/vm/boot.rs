//! Starts the machine, shows what it says, and believes only an explicit word that all is well.

use std::env;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::payload;
use crate::run::Result;

/// A machine that is not done by then hangs, or the lane has become too slow for CI: a quarter of that is enough for it on two idle
/// processors. A slow or busy host may allow more seconds by [`LIMIT_VARIABLE`].
const LIMIT: Duration = Duration::from_secs(1500);
const LIMIT_VARIABLE: &str = "VM_TEST_SECONDS";

/// The part of the limit in which a machine says its first word: many times what that takes on a busy host.
const SILENT_PART: u32 = 4;
/// How often a machine is started that says nothing.
const BOOTS_MAX: usize = 2;

/// A line of the console that is longer is cut: a guest may print anything.
const LINE_MAX: u64 = 16 * 1024;

/// `memory` of the machine, in MiB.
const MEMORY: &str = "3072";

/// cgroup v2 alone, AppArmor, straight to the payload. The rest is speed: nobody attacks this kernel by speculation; reading
/// the HPET leaves the emulated processor; and code at random addresses is translated anew for every process, which makes
/// each start of a program three times as slow. On a busy host the timer may miss the few ticks by which the kernel tests it.
const COMMAND_LINE: &str = "root=/dev/nvme0n1 rootfstype=ext4 rw console=ttyS0 loglevel=2 quiet panic=-1 clocksource=tsc tsc=reliable norandmaps \
     no_timer_check mitigations=off systemd.unified_cgroup_hierarchy=1 apparmor=1 security=apparmor systemd.unit=payload.target \
     systemd.show_status=0";

/// What the machine boots from.
pub struct Disks<'a> {
    pub kernel: &'a Path,
    pub base: &'a Path,
    pub payload: &'a Path,
}

/// How long the machine may take.
pub fn limit() -> Duration {
    let seconds = env::var(LIMIT_VARIABLE).ok().and_then(|text| text.parse().ok());
    seconds.map_or(LIMIT, Duration::from_secs)
}

/// Boots, and returns when the machine has said how its `jobs` ended. One that says nothing at all is started anew, once: with several
/// processors the emulated kernel hangs now and then before it has begun (seen with QEMU 7.2: all processors busy, and no word).
pub fn run(disks: &Disks<'_>, jobs: usize) -> Result {
    let limit = limit();
    for _ in 0..BOOTS_MAX {
        if let Some(result) = boot(disks, jobs, limit)? {
            return result;
        }
        eprintln!("--- the machine said nothing for {} s", (limit / SILENT_PART).as_secs());
    }
    Err(format!("the machine did not begin to say anything, {BOOTS_MAX} times"))
}

/// How the machine's jobs ended; `None` where it did not even begin to say anything.
fn boot(disks: &Disks<'_>, jobs: usize, limit: Duration) -> Result<Option<Result>> {
    let started = Instant::now();
    let mut machine = Machine::start(disks)?;
    let (sender, lines) = channel();
    let console = machine.0.stdout.take().ok_or("the machine has no console")?;
    let reader = thread::spawn(move || read_lines(console, &sender));
    let mut silent = true;
    let result = loop {
        let until = if silent { limit / SILENT_PART } else { limit };
        match lines.recv_timeout(until.saturating_sub(started.elapsed())) {
            Ok(line) => {
                println!("{line}");
                silent = false;
                // The rest, switching itself off, need not be waited for.
                if let Some(verdict) = payload::verdict(&line, jobs) {
                    break Some(verdict);
                }
            }
            Err(RecvTimeoutError::Timeout) if silent => break None,
            Err(RecvTimeoutError::Timeout) => {
                break Some(Err(format!(
                    "the machine did not end within {} s; {LIMIT_VARIABLE} allows more where this host is slow or busy",
                    limit.as_secs()
                )));
            }
            Err(RecvTimeoutError::Disconnected) => {
                break Some(Err("the machine ended without saying how its jobs went".to_owned()));
            }
        }
    };
    let used = machine.processor_seconds();
    drop(machine);
    drop(lines);
    let _ = reader.join();
    eprintln!("--- the machine ran for {} s, {used} s of a processor", started.elapsed().as_secs());
    Ok(result)
}

/// Passes on the console's lines until it is closed.
fn read_lines(console: impl Read, lines: &Sender<String>) {
    let mut console = BufReader::new(console);
    let mut line = Vec::new();
    while matches!(console.by_ref().take(LINE_MAX).read_until(b'\n', &mut line), Ok(1..)) {
        let text = String::from_utf8_lossy(&line);
        if lines.send(text.trim_end_matches(['\r', '\n']).to_owned()).is_err() {
            return;
        }
        line.clear();
    }
}

/// A running machine; it ends when this is dropped, and with this process.
struct Machine(Child);

impl Machine {
    fn start(disks: &Disks<'_>) -> Result<Self> {
        let processors = thread::available_parallelism().map_or(1, usize::from).clamp(2, 8).to_string();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        command.args(["-M", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "qemu64"]);
        command.args(["-smp", &processors, "-m", MEMORY]);
        command.args(["-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"]);
        command.arg("-kernel").arg(disks.kernel).args(["-append", COMMAND_LINE]);
        // The kernel has a driver for NVMe built in: no initramfs is needed. Writes go to a file that nobody sees.
        for (name, disk) in [("base", disks.base), ("payload", disks.payload)] {
            let drive =
                format!("file={},if=none,id={name},format=raw,snapshot=on,cache=unsafe", disk.display());
            let device = format!("nvme,drive={name},serial={name}");
            command.args(["-drive", &drive, "-device", &device]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().map(Self).map_err(|error| format!("cannot run qemu-system-x86_64: {error}"))
    }
}

impl Machine {
    /// Seconds of processors that it has used: on a busy host they say more than the time that passed.
    fn processor_seconds(&self) -> u64 {
        const TICKS_A_SECOND: u64 = 100;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        let fields = stat.rsplit(") ").next().unwrap_or_default().split_whitespace();
        // utime and stime, the 14th and 15th of all; these begin with the third.
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() / TICKS_A_SECOND
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
