//! The `--init` of a container: a first process that passes signals on to the one program it starts, and
//! reaps whoever ends without a parent.

use std::ffi::OsString;
use std::io::Write as _;

use sys::process::{self, Child};
use sys::signal::{self, SignalFd};
use sys::spawn::{self, Fork};
use sys::terminal;

use crate::error::{Context as _, Error};
use crate::program::Program;

const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;
const SIGCHLD: i32 = 17;

/// Not passed on: what cannot be caught, and what the kernel sends for a fault of this very process.
pub(crate) const NOT_FORWARDED: [i32; 9] = [4, 5, 7, 8, 9, 11, SIGCHLD, 19, 31];

/// Real-time signals of the C library's own.
const LIBRARY: [i32; 2] = [32, 33];

/// Starts the program `arguments`, and returns its exit code once it has ended.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{}", error.chain());
            error.exit_code().into()
        }
    }
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<i32, Error> {
    let arguments: Result<Vec<String>, OsString> = arguments.into_iter().map(OsString::into_string).collect();
    let arguments = arguments.map_err(|a| Error::Invalid(format!("argument {a:?} is not UTF-8")))?;
    let environment: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    let program = Program::find_among(&arguments, &environment)?;
    let all: Vec<i32> = (1..=signal::MAX).filter(|s| !LIBRARY.contains(s)).collect();
    // Before the program is there, so that none is lost.
    let signals = SignalFd::block(&all).on("block", "signals")?;
    // Not `clone3`: the default seccomp profile answers that it does not exist, because its flags cannot be filtered.
    match spawn::fork().on("fork", "for the program")? {
        Fork::Child => start(&program),
        Fork::Parent(pid) => {
            let pid = pid.as_raw_nonzero().get();
            let pidfd = process::pidfd(pid).on("open", "the program")?;
            reap(&Child { pid, pidfd }, &signals)
        }
    }
}

/// In a process group of its own, in the foreground, the program gets the terminal's signals itself.
fn start(program: &Program) -> ! {
    // While they are ignored, a process in the background may take the foreground.
    signal::ignore(SIGTTOU);
    signal::ignore(SIGTTIN);
    let _ = process::new_group();
    if let Ok(input) = process::stdio(0) {
        let _ = terminal::take_foreground(input);
    }
    signal::reset();
    let error = program.execute();
    let _ = writeln!(std::io::stderr(), "{}", error.chain());
    process::exit(error.exit_code().into())
}

fn reap(child: &Child, signals: &SignalFd) -> Result<i32, Error> {
    loop {
        process::wait_ended(signals, -1).on("wait for", "signals")?;
        while let Some(number) = signals.next().on("read", "signals")? {
            if !NOT_FORWARDED.contains(&number) {
                // It may have ended just now; its exit is what comes next.
                let _ = signal::send(&child.pidfd, number);
            }
        }
        while let Ok(Some((pid, exit))) = process::wait_any(false) {
            if pid == child.pid {
                return Ok(exit.code());
            }
        }
    }
}
