//! The daemon of an ordinary user: it is root in namespaces of the user's own, and `pasta` connects them with the host's network.
//!
//! ```text
//!  corten daemon (uid 1000)                  setup                       pasta            holder
//!    | spawn: opens ports of the host
//!    | spawn ------------------------------->| unshare(user, mount)
//!    |<--------------------------- "made" ---|
//!    | newuidmap, newgidmap                  |
//!    | go on ------------------------------->| root of its namespace
//!    |                                       | mounts resolv.conf
//!    |                                       | spawn --------------------------------->| unshare(net), notes its pid
//!    |                                       | spawn ------------------>| connects
//!    |<----------------------------------------------------------------- its pid -----| sees a route; waits for ever
//!    | setns(user, mount, net of the holder)
//! ```
//!
//! The holder outlives the daemon, as containers do; the next daemon joins it. Holder and pasta end when the one that made them does, and that
//! when one of them ends. Published ports are opened on the host by a process that stays there, for as long as the daemon lives
//! ([`engine::networks::host_ports`]); netd serves them.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sys::namespace::{MOUNT, NETWORK, USER};

/// The first word of the command line of what prepares the namespaces.
pub(super) const SETUP: &str = "rootless-setup";
/// That of what opens ports of the host.
pub(super) const OPEN: &str = "rootless-open";
/// That of what keeps them.
pub(super) const HOLD: &str = "rootless-hold";
/// What pasta makes network devices of.
const TUN: &str = "/dev/net/tun";
/// Who keeps the namespaces: a process id and when it was started, in the kernel's ticks.
const HOLDER: &str = "namespaces";
/// Held while they are looked for or made.
const LOCK: &str = "namespaces.lock";
/// Where pasta answers questions for names with the host's own servers, be they on its loopback or not (RFC 3927 keeps it off every network).
const RESOLVER: &str = "169.254.1.1";
/// pasta takes milliseconds; it says nothing when it is done.
const CONNECTED_TRIES: u32 = 500;
const CONNECTED_PAUSE: Duration = Duration::from_millis(10);
/// `SIGTERM`.
const TERM: i32 = 15;
/// Nobody's `/etc/resolv.conf` or `/etc/subuid` is longer.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// As many ids as images use: 65534 is `nobody`.
const IDS_WANTED: u64 = 65536;

/// Why an ordinary user cannot have a daemon; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something has to be installed or set up.
    #[error("{0}")]
    Missing(String),
    /// A step failed.
    #[error("cannot {doing}")]
    Failed {
        /// Which.
        doing: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn failed(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let doing = doing.into();
    move |source| Error::Failed { doing, source }
}

/// Whether this process is an ordinary user's.
pub(crate) fn is_wanted() -> bool {
    sys::process::effective_user() != 0
}

/// Where the user's own containers and images are kept (XDG Base Directory Specification).
pub(crate) fn data_root() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let base = absolute("XDG_DATA_HOME").or_else(home);
    base.unwrap_or_else(|| "/var/tmp".into()).join("corten")
}

/// Where the state of what the user runs is kept.
pub(super) fn exec_root() -> PathBuf {
    let own = || PathBuf::from(format!("/run/user/{}", sys::process::effective_user()));
    absolute("XDG_RUNTIME_DIR").unwrap_or_else(own).join("corten")
}

/// The user's own `daemon.json`.
pub(super) fn config_file() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    absolute("XDG_CONFIG_HOME").or_else(home).unwrap_or_else(|| "/etc".into()).join("corten/daemon.json")
}

fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Makes this process, which must have one thread, root in the user's namespaces: those that are there already, or new ones.
/// `exec_root` is where it is noted who keeps them.
pub(super) fn enter(exec_root: &Path) -> Result<(), Error> {
    let (here, there) = sys::socket::packet_pair().map_err(failed("make sockets"))?;
    Command::new("/proc/self/exe")
        .args(["daemon", OPEN])
        .stdin(there)
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed("start what opens ports of the host"))?;
    engine::networks::host_ports::hold_by(here);
    // Two that start at once have the same namespaces.
    let lock = fs::File::create(exec_root.join(LOCK)).map_err(failed("make a lock"))?;
    lock.lock().map_err(failed("wait for another start of the daemon"))?;
    let holder = match find(exec_root) {
        Some(pid) => pid,
        None => make(exec_root)?,
    };
    drop(lock);
    let pidfd = sys::process::pidfd(holder).map_err(failed("find who keeps the namespaces"))?;
    sys::namespace::join(pidfd, USER | MOUNT | NETWORK).map_err(failed("join the user's namespaces"))?;
    sys::process::set_groups(&[]).map_err(failed("drop groups"))
}

/// What opens ports of the host, in a process that stays there; ends with the daemon.
pub(super) fn open() -> i32 {
    let served = sys::process::stdio(0).and_then(engine::networks::host_ports::serve);
    match served {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("corten daemon: cannot open ports of the host: {error}");
            1
        }
    }
}

/// Who keeps the namespaces, if they are there.
fn find(exec_root: &Path) -> Option<i32> {
    let text = fs::read_to_string(exec_root.join(HOLDER)).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    let (pid, started): (i32, u64) = (pid.parse().ok()?, started.parse().ok()?);
    // A number may be another process's by now.
    let now = sys::proc::Proc::open().and_then(|proc| proc.start_time(pid)).ok()?;
    (now == started).then_some(pid)
}

/// Makes the namespaces; returns who keeps them.
fn make(exec_root: &Path) -> Result<i32, Error> {
    for (program, package) in [("newuidmap", "uidmap"), ("newgidmap", "uidmap"), ("pasta", "passt")] {
        if path_of(program).is_none() {
            return Err(Error::Missing(format!(
                "a daemon without root needs {program}, which is not installed (Debian: apt install {package})"
            )));
        }
    }
    let (user, name) = (sys::process::effective_user(), user_name());
    if let Err(error) = fs::File::options().read(true).write(true).open(TUN) {
        return Err(Error::Missing(format!(
            "a daemon without root needs {TUN}, which user {name} cannot open: {error} (modprobe tun; chmod 666 {TUN})"
        )));
    }
    let group = rustix::process::getegid().as_raw();
    let users = ranges("/etc/subuid", user, &name)?;
    let groups = ranges("/etc/subgid", user, &name)?;
    let mut setup = Command::new("/proc/self/exe")
        .args(["daemon", SETUP])
        .arg(exec_root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed("start what makes the namespaces"))?;
    let made = supervise(&mut setup, (user, &users), (group, &groups));
    if made.is_err() {
        let _ = setup.kill();
        let _ = setup.wait();
    }
    made
}

/// The daemon's part while the namespaces are made.
fn supervise(setup: &mut Child, users: (u32, &[Range]), groups: (u32, &[Range])) -> Result<i32, Error> {
    let ended = || {
        let reason = "it ended; what it wrote stands above";
        failed("make namespaces for a daemon without root")(io::Error::other(reason))
    };
    let output = setup.stdout.take().ok_or_else(ended)?;
    let mut lines = BufReader::new(output.take(FILE_BYTES_MAX)).lines();
    let mut next = || lines.next().and_then(Result::ok).ok_or_else(ended);
    next()?;
    map("newuidmap", setup.id(), users)?;
    map("newgidmap", setup.id(), groups)?;
    let mut input = setup.stdin.take().ok_or_else(ended)?;
    input.write_all(b"\n").map_err(failed("make namespaces for a daemon without root"))?;
    let ready = next()?;
    // Not a number: why it cannot be.
    ready.parse().map_err(|_| failed("make namespaces for a daemon without root")(io::Error::other(ready)))
}

/// What prepares the namespaces, in a process of its own, and ends when they do.
pub(super) fn setup(args: &[OsString]) -> i32 {
    let Some(exec_root) = args.first().map(PathBuf::from) else { return super::EXIT_USAGE };
    match try_setup(&exec_root) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("corten daemon: {}", super::chain(&error));
            1
        }
    }
}

fn try_setup(exec_root: &Path) -> Result<(), Error> {
    // The end of a login session is not the end of what runs.
    rustix::process::setsid().map_err(|error| failed("begin a session")(error.into()))?;
    sys::namespace::unshare(USER | MOUNT).map_err(failed(
        "make a user namespace (is user.max_user_namespaces 0, or kernel.unprivileged_userns_clone?)",
    ))?;
    let mut output = io::stdout().lock();
    output.write_all(b"made\n").and_then(|()| output.flush()).map_err(failed("say so"))?;
    io::stdin().read_exact(&mut [0]).map_err(failed("hear of the mapped ids"))?;
    sys::process::set_groups(&[]).map_err(failed("drop groups"))?;
    sys::process::set_group(0).map_err(failed("be root's group"))?;
    sys::process::set_user(0).map_err(failed("be root"))?;
    // What is mounted here is nobody else's to see; what the host mounts later is seen here.
    let slave = Some(sys::mount::Propagation::Slave);
    sys::mount::change_everything(sys::mount::Change { set: 0, clear: 0, propagation: slave })
        .map_err(failed("keep mounts from the host"))?;
    resolver(exec_root).map_err(failed("mount a resolv.conf"))?;
    let mut holder = Command::new("/proc/self/exe")
        .args(["daemon", HOLD])
        .arg(exec_root)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed("start what keeps the namespaces"))?;
    // It says that it is in a network namespace, and closes its standard error.
    let mut said = String::new();
    let reason = holder.stderr.take().map(|mut pipe| pipe.read_to_string(&mut said));
    if !matches!(reason, Some(Ok(0))) {
        return Err(failed("make a network namespace")(io::Error::other(said.trim().to_owned())));
    }
    let mut pasta = Command::new("pasta");
    pasta
        // Nothing of the host's loopback is reached from inside. Its own search for ports misses those of a namespace that it is told.
        .args(["--netns-only", "--config-net", "--quiet", "--foreground", "--no-map-gw"])
        .args(["-t", "none", "-u", "none", "-T", "none", "-U", "none", "--dns-forward", RESOLVER])
        .args(["--no-netns-quit", "--netns", &format!("/proc/{}/ns/net", holder.id())])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let pasta = pasta.spawn().map_err(failed("start pasta"))?;
    // The daemon waits for the holder's word, and for the end of all who could say it.
    let null = fs::File::open("/dev/null").map_err(failed("open /dev/null"))?;
    sys::process::become_stdio(&null, 1).map_err(failed("close the output"))?;
    drop(output);
    let ended = sys::process::wait_any(true).map_err(failed("wait for pasta"))?;
    for child in [&mut holder, &mut { pasta }] {
        if ended.is_none_or(|(pid, _)| u32::try_from(pid).ok() != Some(child.id())) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
    Ok(())
}

/// Has names looked up by way of pasta.
fn resolver(exec_root: &Path) -> io::Result<()> {
    const FILE: &str = "/etc/resolv.conf";
    let mut text = String::new();
    let mut own = String::new();
    if let Ok(file) = fs::File::open(FILE) {
        file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    }
    for line in text.lines().filter(|line| line.starts_with("search") || line.starts_with("options")) {
        let _ = writeln!(own, "{line}");
    }
    let _ = writeln!(own, "nameserver {RESOLVER}");
    let path = exec_root.join("resolv.conf");
    sys::proc::replace_file(&path, own.as_bytes(), 0o644)?;
    // Where there is none there is nothing to mount it over, and nobody to ask.
    let Ok(target) = fs::File::open(FILE) else { return Ok(()) };
    sys::mount::attach(sys::mount::clone_path(&path, false)?, target)
}

/// What keeps the namespaces: notes who it is, says that all is ready, and waits for its end.
pub(super) fn hold(args: &[OsString]) -> i32 {
    let Some(exec_root) = args.first().map(PathBuf::from) else { return super::EXIT_USAGE };
    let note = || -> io::Result<()> {
        sys::process::set_parent_death_signal(TERM)?;
        sys::namespace::unshare(NETWORK)?;
        // It needs no more, and pasta may only look at the namespaces of who has no more than itself.
        sys::caps::set(sys::caps::Sets::default())?;
        let null = fs::File::open("/dev/null")?;
        sys::process::become_stdio(&null, 2)?;
        connected()?;
        let pid = sys::process::id();
        let started = sys::proc::Proc::open()?.start_time(pid)?;
        sys::proc::replace_file(&exec_root.join(HOLDER), format!("{pid} {started}\n").as_bytes(), 0o600)?;
        let mut output = io::stdout().lock();
        writeln!(output, "{pid}")?;
        output.flush()
    };
    if let Err(error) = note() {
        // The first of them who listens tells: whoever waits for a network namespace, and then the daemon.
        eprintln!("{error}");
        println!("{error}");
        return 1;
    }
    // Whoever reads of it is done.
    if let Ok(null) = fs::File::open("/dev/null") {
        let _ = sys::process::become_stdio(&null, 1);
    }
    let _ = sys::process::set_name(c"corten-holder");
    loop {
        std::thread::park();
    }
}

/// Waits until pasta has given the namespace a way out.
fn connected() -> io::Result<()> {
    for _ in 0..CONNECTED_TRIES {
        // The first line is the head of the table.
        let v4 = fs::read_to_string("/proc/self/net/route")?.lines().count() > 1;
        // To everywhere, but for what the kernel itself refuses by the loopback device.
        let v6 = fs::read_to_string("/proc/self/net/ipv6_route").unwrap_or_default().lines().any(|line| {
            line.starts_with("00000000000000000000000000000000 00 ") && !line.trim_end().ends_with(" lo")
        });
        if v4 || v6 {
            return Ok(());
        }
        std::thread::sleep(CONNECTED_PAUSE);
    }
    Err(io::Error::other("pasta gives the namespace no route"))
}

/// A range of ids that a user may give to processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u32,
    count: u32,
}

/// The ranges in `/etc/subuid` or `/etc/subgid` (subuid(5)) of a user.
fn ranges(file: &str, user: u32, name: &str) -> Result<Vec<Range>, Error> {
    let mut text = String::new();
    if let Ok(opened) = fs::File::open(file) {
        opened.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed(format!("read {file}")))?;
    }
    let found = ranges_of(&text, user, name);
    if found.is_empty() {
        return Err(Error::Missing(format!(
            "user {name} has no ids to give to containers in {file} \
             (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name})"
        )));
    }
    Ok(found)
}

fn ranges_of(text: &str, user: u32, name: &str) -> Vec<Range> {
    let mut found = Vec::new();
    let mut total = 0;
    for line in text.lines() {
        let mut parts = line.trim().split(':');
        let (Some(who), Some(first), Some(count)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (Ok(first), Ok(count)) = (first.parse::<u32>(), count.parse::<u32>()) else { continue };
        if (who == name || who == user.to_string()) && count > 0 && total < IDS_WANTED {
            total += u64::from(count);
            found.push(Range { first, count });
        }
    }
    found
}

/// Writes a map of ids by the program that may: root is the user, the others are of the ranges.
fn map(program: &str, pid: u32, (own, ranges): (u32, &[Range])) -> Result<(), Error> {
    let mut command = Command::new(program);
    command.arg(pid.to_string()).args(["0", &own.to_string(), "1"]);
    let mut inside = 1;
    for range in ranges {
        command.args([inside.to_string(), range.first.to_string(), range.count.to_string()]);
        inside += range.count;
    }
    let output = command.stdin(Stdio::null()).output().map_err(failed(format!("run {program}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(format!("map ids by {program}"))(io::Error::other(said)))
}

/// The user's name, or the number where it has none.
fn user_name() -> String {
    let user = sys::process::effective_user().to_string();
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = text.lines().find(|line| line.split(':').nth(2) == Some(&user));
    entry.and_then(|line| line.split(':').next()).map_or(user, str::to_owned)
}

fn path_of(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths)
        .filter(|path| path.as_os_str().as_bytes().starts_with(b"/"))
        .map(|path| path.join(program))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_user_by_name_or_number_and_no_more_than_needed() {
        let text = "other:1:2\n1000:100000:1000\n# x\nme:200000:70000\nme:400000:65536\nme:x:1\nme:5\n";
        let range = |first, count| Range { first, count };
        assert_eq!(ranges_of(text, 1000, "me"), [range(100000, 1000), range(200000, 70000)]);
        assert_eq!(ranges_of(text, 1, "nobody"), []);
    }
}
