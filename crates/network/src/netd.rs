//! `corten netd`: one process for each host that answers for names in containers, holds published ports and serves those that packet
//! filters cannot, and outlives the daemon.
//!
//! It knows nothing but what a daemon has told it, and each message tells the whole of what it is about, so that all may be said again at
//! any time. A daemon that finds one running asks what it serves, forgets what is too much and says what is missing. While no daemon is
//! there, all goes on as it was told last. It ends by itself when nobody is connected and nothing is served.

mod client;
mod control;
pub mod wire;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::net::UnixListener;
use tokio::task::LocalSet;

pub use client::{Client, Error, Hangup};
pub use wire::{Relayed, Served, Serving};

use control::{Connection, Control};

/// How long one that is about to end may take to be gone.
const OTHER_WAIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);
const USAGE: &str = "usage: corten netd --socket PATH";

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    socket: PathBuf,
    /// Whether the daemon that started it is connected already, by the descriptor that it left.
    connected: bool,
}

/// Is netd, until it is told to stop or has nothing to do; what the process is to end with. `args` are those after its name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let options = match read(args) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("corten netd: {why}\n{USAGE}");
            return 2;
        }
    };
    let daemon = options.connected.then(|| sys::process::inherited(sys::spawn::INHERITED)).flatten();
    let told = daemon.as_ref().and_then(|daemon| daemon.try_clone().ok());
    match serve(&options.socket, daemon) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("corten netd: {error}");
            if let Some(daemon) = told {
                control::refuse(&daemon, error.to_string());
            }
            1
        }
    }
}

fn read(args: impl IntoIterator<Item = OsString>) -> Result<Options, String> {
    let (mut socket, mut connected) = (None, false);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--socket") => socket = Some(PathBuf::from(args.next().ok_or("--socket needs a path")?)),
            Some("--connected") => connected = true,
            _ => return Err(format!("unknown argument {}", arg.display())),
        }
    }
    Ok(Options { socket: socket.ok_or("--socket is missing")?, connected })
}

fn serve(path: &Path, daemon: Option<OwnedFd>) -> io::Result<()> {
    let (dir, name) = client::parts(path)?;
    let _lock = alone(&dir.join(format!("{name}.lock")))?;
    let _ = sys::process::set_name(c"corten-netd");
    more_descriptors();
    let listener = std::os::unix::net::UnixListener::from(sys::socket::listen(dir, name)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let last = local.block_on(&runtime, async {
        let listener = UnixListener::from_std(listener)?;
        let daemon = daemon.map(Connection::new).transpose()?;
        io::Result::Ok(Control::new().run(listener, daemon).await)
    });
    // While the lock is held, so that it is not another's. And the containers' sockets are closed before anybody hears of the end.
    let _ = std::fs::remove_file(path);
    drop((local, runtime));
    last.map(drop)
}

/// Waits for one that is about to end; two of them would be of two minds.
fn alone(path: &Path) -> io::Result<sys::lock::Lock> {
    let since = Instant::now();
    loop {
        match sys::lock::Lock::try_exclusive(path)? {
            Some(lock) => return Ok(lock),
            None if since.elapsed() > OTHER_WAIT => {
                return Err(io::Error::other("another one is running"));
            }
            None => std::thread::sleep(PAUSE),
        }
    }
}

/// As many descriptors as it may have: two for each container, and one for each query that is out.
fn more_descriptors() {
    if let Some(number) = sys::rlimit::number("RLIMIT_NOFILE")
        && let Ok((_, hard)) = sys::rlimit::get(number)
    {
        let _ = sys::rlimit::set(0, number, hard, hard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: &[&str]) -> Result<Options, String> {
        read(args.iter().map(OsString::from))
    }

    #[test]
    fn the_command_line() {
        let socket = PathBuf::from("/run/s");
        assert_eq!(of(&["--socket", "/run/s"]), Ok(Options { socket: socket.clone(), connected: false }));
        assert_eq!(of(&["--connected", "--socket", "/run/s"]), Ok(Options { socket, connected: true }));
        assert!(of(&[]).is_err() && of(&["--socket"]).is_err() && of(&["--else"]).is_err());
    }
}
