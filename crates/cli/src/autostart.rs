//! Starts a daemon when the default socket has none.
//!
//! ```text
//!  first command        second command            daemon
//!    | connect: refused    | connect: refused        |
//!    | lock --------------.| lock (waits)            |
//!    | connect: refused    |                         |
//!    | spawn --------------|------------------------>| own session, cgroup, clean environment
//!    | watch the folder    |                         | binds, listens
//!    | connect: works <----|-------------------------|
//!    | unlock ------------>| connect: works          |
//! ```

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::{Endpoint, Error, Result, Target};

/// A daemon that does not listen after this long is not coming: it takes milliseconds.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one wait for the socket lasts before the daemon's own health is looked at again.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// The lines of the daemon's log that are shown when it does not start.
const LOG_TAIL_BYTES: u64 = 2048;
/// The daemon's log; the folder beside it is made when it is missing.
const LOG_PATH: &str = "/var/log/corten.log";
/// The hidden command of `system` that becomes the daemon.
pub const LAUNCH: &str = "launch-daemon";
/// A clean environment needs a path for the programs a daemon may call.
const SAFE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts a daemon behind `target`'s socket. False when this is not ours to do.
pub fn start(target: &Target) -> Result<bool> {
    let Endpoint::Unix(socket) = &target.endpoint else { return Ok(false) };
    if !rustix::process::geteuid().is_root() {
        return Ok(false);
    }
    let failed = |detail: String| Error::Connect { host: target.to_string(), detail };
    let folder = socket.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(folder)
        .map_err(|err| failed(format!("creating {}: {err}", folder.display())))?;
    let _lock =
        lock(folder).map_err(|err| failed(format!("waiting for another start of the daemon: {err}")))?;
    // Whoever held the lock before may have started it.
    if UnixStream::connect(socket).is_ok() {
        return Ok(true);
    }
    let log = PathBuf::from(LOG_PATH);
    let (mut child, from) = spawn(&log).map_err(|err| failed(format!("starting the daemon: {err}")))?;
    wait(socket, folder, &mut child).map_err(|why| {
        failed(format!("the daemon did not start: {why}; its log is {}{}", log.display(), tail(&log, from)))
    })?;
    Ok(true)
}

fn lock(folder: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(folder.join("start.lock"))?;
    file.lock()?;
    Ok(file)
}

/// Starts the daemon; returns where its part of the log begins.
fn spawn(log: &Path) -> io::Result<(Child, u64)> {
    let mut file = OpenOptions::new().create(true).append(true).mode(0o640).open(log)?;
    let from = file.seek(SeekFrom::End(0))?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg0("corten")
        .args(["system", LAUNCH])
        .current_dir("/")
        .env_clear()
        .env("PATH", SAFE_PATH)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    // A daemon needs to find proxies as its user would; all else of the environment is the user's own.
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "TZ"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    Ok((command.spawn()?, from))
}

/// Becomes the daemon, in a session and a cgroup of its own: what the spawned child does. Comes back only with
/// an error.
pub fn launch() -> io::Error {
    if let Err(errno) = rustix::process::setsid() {
        return errno.into();
    }
    own_cgroup(std::process::id());
    match std::env::current_exe() {
        Ok(program) => Command::new(program).arg0("corten").arg("daemon").exec(),
        Err(err) => err,
    }
}

/// Moves the daemon out of the caller's cgroup, so that the end of a login session or of a service that
/// called us does not end it. Where this is not possible it stays: that is no reason not to start.
fn own_cgroup(pid: u32) {
    let Ok(text) = fs::read_to_string("/proc/self/cgroup") else { return };
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let root = match controllers {
            "" if Path::new("/sys/fs/cgroup/cgroup.procs").exists() => PathBuf::from("/sys/fs/cgroup"),
            "" => PathBuf::from("/sys/fs/cgroup/unified"),
            "name=systemd" => PathBuf::from("/sys/fs/cgroup/systemd"),
            _ => continue,
        };
        let own = root.join("corten-daemon");
        if fs::create_dir(&own).is_ok() || own.is_dir() {
            let _ = fs::write(own.join("cgroup.procs"), pid.to_string());
        }
    }
}

/// Waits until the socket answers, watching its folder.
fn wait(socket: &Path, folder: &Path, child: &mut Child) -> std::result::Result<(), String> {
    let watch = watch(folder).map_err(|err| format!("watching {}: {err}", folder.display()))?;
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        if UnixStream::connect(socket).is_ok() {
            return Ok(());
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("it ended with {status}"));
        }
        if Instant::now() > deadline {
            return Err(format!("nothing listens on {} after {START_TIMEOUT:?}", socket.display()));
        }
        let interval = Timespec { tv_sec: 0, tv_nsec: WATCH_INTERVAL.subsec_nanos().into() };
        let mut fds = [PollFd::new(&watch, PollFlags::IN)];
        if poll(&mut fds, Some(&interval)).is_ok_and(|ready| ready > 0) {
            let mut events = [0u8; 4096];
            // Which file appeared does not matter: the next connect tells.
            let _ = rustix::io::read(watch.as_fd(), &mut events);
        }
    }
}

fn watch(folder: &Path) -> io::Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    let events = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::ATTRIB;
    inotify::add_watch(&watch, folder, events)?;
    Ok(watch)
}

/// The end of what the daemon wrote since `from`.
fn tail(log: &Path, from: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(LOG_TAIL_BYTES))))?;
        let mut text = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    };
    match read() {
        Ok(text) if !text.is_empty() => format!("\n{text}"),
        _ => String::new(),
    }
}
