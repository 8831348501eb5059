//! An engine of a test's own: roots in a temporary directory, a socket, a parent cgroup; and nothing left at its end.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::command::{Cmd, wait_for};
use crate::terminal::Terminal;

/// A host with an engine.
#[derive(Debug)]
pub struct Host {
    directory: TempDir,
    flags: Vec<String>,
    daemon: Option<Child>,
    socket: PathBuf,
    /// The network namespace of the daemon's own, if it has one.
    namespace: Option<fs::File>,
    /// Where the daemon finds a system bus: not the machine's.
    bus: PathBuf,
}

/// Which command line drives the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cli {
    /// Ours.
    Corten,
    /// The real `docker`.
    Docker,
}

/// Both, to run one test with each.
pub const CLIS: Clis = Clis;

/// The command lines that tests are run with, one after the other: both, or with `CORTEN_TEST_CLIS=corten` ours alone, for
/// machines on which `docker` is missing or too slow.
#[derive(Debug, Clone, Copy)]
pub struct Clis;

impl IntoIterator for Clis {
    type Item = Cli;
    type IntoIter = std::vec::IntoIter<Cli>;

    fn into_iter(self) -> Self::IntoIter {
        let ours_alone = std::env::var_os("CORTEN_TEST_CLIS").is_some_and(|names| names == "corten");
        if ours_alone { vec![Cli::Corten] } else { vec![Cli::Corten, Cli::Docker] }.into_iter()
    }
}

impl Clis {
    /// What each of the two gives, to compare.
    pub fn map<T>(self, of: impl FnMut(Cli) -> T) -> [T; 2] {
        [Cli::Corten, Cli::Docker].map(of)
    }
}

/// The binary under test.
///
/// # Panics
/// It was not built.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("CORTEN_BIN") {
        return PathBuf::from(path);
    }
    // target/<triple>/debug/deps/<test> is this program.
    let test = std::env::current_exe().expect("own path");
    let path = test.ancestors().nth(2).expect("a target directory").join("corten");
    assert!(path.exists(), "{} is not there: build it with `cargo build -p corten`", path.display());
    path
}

/// A path that leads to a namespace, for other programs.
fn path(namespace: &fs::File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd())
}

/// How `nsenter` is told of a network namespace.
fn enter(namespace: &fs::File) -> String {
    format!("--net={}", path(namespace))
}

/// A new network namespace with a loopback that is up.
fn network_namespace() -> fs::File {
    let mut holder = Command::new("unshare")
        .args(["--net", "sh", "-c", "ip link set lo up && echo up && exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare");
    let mut line = String::new();
    let output = holder.stdout.take().expect("its output");
    BufReader::new(output).read_line(&mut line).expect("a line");
    assert_eq!(line, "up\n", "a network namespace");
    let file = fs::File::open(format!("/proc/{}/ns/net", holder.id())).expect("its namespace");
    // At the end of its input it ends; the file keeps the namespace.
    drop(holder.stdin.take());
    holder.wait().expect("its end");
    file
}

/// Another machine on a host's network; it goes when this is dropped and nothing runs on it.
#[derive(Debug)]
pub struct Neighbour {
    namespace: fs::File,
}

impl Neighbour {
    /// One of the host whose network namespace is at the path `host`: see [`Host::neighbour`].
    ///
    /// # Panics
    /// The cable cannot be laid.
    #[must_use]
    pub fn of(host: &str, network: &str) -> Self {
        let neighbour = Self { namespace: network_namespace() };
        let six = format!("fd00:{}", network.replace('.', ":"));
        let port = format!("lan{}", network.replace('.', ""));
        let here = format!(
            "ip link add {port} type veth peer name eth0 netns {} && ip addr add {network}.1/24 dev {port} && \
             ip addr add {six}::1/64 dev {port} nodad && ip link set {port} up",
            path(&neighbour.namespace)
        );
        Cmd::new("nsenter").args([&format!("--net={host}"), "sh", "-c", &here]).ok();
        let there = format!(
            "ip addr add {network}.2/24 dev eth0 && ip addr add {six}::2/64 dev eth0 nodad && ip link set eth0 up && \
             ip route add default via {network}.1 && ip route add default via {six}::1"
        );
        neighbour.program("sh", ["-c", &there]).ok();
        neighbour
    }

    /// One that nothing is connected with.
    #[must_use]
    pub fn alone() -> Self {
        Self { namespace: network_namespace() }
    }

    /// A path that leads to its network namespace.
    #[must_use]
    pub fn namespace(&self) -> String {
        path(&self.namespace)
    }

    /// Has something done in its network namespace, by a thread that what is started there inherits it from.
    ///
    /// # Panics
    /// The namespace cannot be entered.
    pub fn inside<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let entered = scope.spawn(|| {
                let network = Some(rustix::thread::LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(self.namespace.as_fd(), network).expect("enter");
                what()
            });
            entered.join().expect("what is done in a network namespace")
        })
    }

    /// A program on it, to be run otherwise than a test does.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(enter(&self.namespace)).args(args);
        command
    }

    /// A program on it.
    #[must_use]
    pub fn program<S: AsRef<std::ffi::OsStr>>(&self, name: &str, args: impl IntoIterator<Item = S>) -> Cmd {
        Cmd::new("nsenter").args([enter(&self.namespace).as_str(), name]).args(args)
    }
}

/// Skips a test: prints the capability that is missing, for the runner's summary.
pub fn skip(capability: &str, why: &str) {
    println!("SKIPPED [{capability}]: {why}");
}

impl Host {
    /// A host whose engine runs.
    #[must_use]
    pub fn new() -> Self {
        Self::with_flags(&[])
    }

    /// The same, with more flags for the daemon.
    #[must_use]
    pub fn with_flags(flags: &[&str]) -> Self {
        let mut host = Self::stopped(flags);
        host.start_daemon();
        host
    }

    /// A host whose engine does not run yet.
    ///
    /// # Panics
    /// No temporary directory is to be had.
    #[must_use]
    pub fn stopped(flags: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("ct").tempdir().expect("a temporary directory");
        fs::create_dir(directory.path().join("config")).expect("mkdir");
        let socket = directory.path().join("corten.sock");
        let flags = flags.iter().map(ToString::to_string).collect();
        let bus = directory.path().join("bus");
        Self { directory, flags, daemon: None, socket, namespace: None, bus }
    }

    /// A host whose engine runs in a network namespace of its own and has the image `busybox`: what a test makes there meets nobody else's.
    #[must_use]
    pub fn apart() -> Self {
        Self::with_busybox().set_apart()
    }

    /// Starts the daemon again in a network namespace of its own, with the images that it has.
    #[must_use]
    pub fn set_apart(mut self) -> Self {
        // The registry is on the loopback of those outside.
        self.stop_daemon();
        self.namespace = Some(network_namespace());
        self.start_daemon();
        self
    }

    /// Everything of this host is below.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// The socket at which the daemon looks for a system bus: nobody is there, unless a test starts one.
    #[must_use]
    pub fn bus(&self) -> PathBuf {
        self.bus.clone()
    }

    /// The engine's durable state.
    #[must_use]
    pub fn data_root(&self) -> PathBuf {
        self.root().join("data")
    }

    /// The engine's state of what runs.
    #[must_use]
    pub fn exec_root(&self) -> PathBuf {
        self.root().join("exec")
    }

    /// The engine's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// The unix socket that the flags name, where a test gives `--host` itself.
    pub fn set_socket(&mut self, path: &Path) {
        self.socket = path.to_path_buf();
    }

    /// A host whose engine runs and has the image `busybox`.
    ///
    /// # Panics
    /// It cannot be pulled.
    #[must_use]
    pub fn with_busybox() -> Self {
        let host = Self::new();
        host.pull_busybox();
        host
    }

    /// The name of the cgroup above all containers, in every hierarchy.
    #[must_use]
    pub fn cgroup_parent(&self) -> String {
        let name = self.root().file_name().map(|name| name.to_string_lossy().into_owned());
        format!("/corten-test-{}", name.unwrap_or_default())
    }

    /// The file with the daemon's log.
    #[must_use]
    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.root().join("daemon.log")).unwrap_or_default()
    }

    /// The daemon's command line.
    fn daemon_args(&self) -> Vec<String> {
        let mut args = vec!["daemon".to_owned(), "--debug".to_owned()];
        let config = self.root().join("daemon.json");
        if !config.exists() {
            fs::write(&config, "{}").expect("write daemon.json");
        }
        for (flag, value) in [
            ("--host", format!("unix://{}", self.socket().display())),
            ("--data-root", self.data_root().display().to_string()),
            ("--exec-root", self.exec_root().display().to_string()),
            ("--cgroup-parent", self.cgroup_parent()),
            ("--config-file", config.display().to_string()),
        ] {
            if !self.flags.iter().any(|given| given == flag) {
                args.extend([flag.to_owned(), value]);
            }
        }
        if self.namespace.is_none() && !self.flags.iter().any(|given| given == "--bridge") {
            // Bridges and packet filters would be the machine's.
            args.extend(["--bridge", "none"].map(str::to_owned));
        }
        args.extend(self.flags.iter().cloned());
        args
    }

    /// The daemon as a command, to see how it refuses to start.
    #[must_use]
    pub fn daemon(&self, more: &[&str]) -> Cmd {
        Cmd::new(binary()).args(self.daemon_args()).args(more)
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Panics
    /// It does not.
    pub fn start_daemon(&mut self) {
        let log =
            fs::File::options().create(true).append(true).open(self.root().join("daemon.log")).expect("log");
        let mut command = match &self.namespace {
            None => Command::new(binary()),
            Some(file) => {
                let mut command = Command::new("nsenter");
                command.arg(enter(file)).arg(binary());
                command
            }
        };
        let mut child = command
            .args(self.daemon_args())
            .env("RUST_BACKTRACE", "1")
            .env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", self.bus.display()))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("dup"))
            .stderr(log)
            .spawn()
            .expect("cannot start the daemon");
        let socket = self.socket();
        wait_for("the daemon's socket", || {
            if let Some(status) = child.try_wait().expect("wait") {
                panic!("the daemon ended: {status}\n{}", self.daemon_log());
            }
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
        self.daemon = Some(child);
    }

    /// A path that leads to its network namespace.
    #[must_use]
    pub fn namespace(&self) -> String {
        self.namespace.as_ref().map_or_else(|| "/proc/self/ns/net".to_owned(), path)
    }

    /// A program on this host, in its network namespace if it has one of its own.
    #[must_use]
    pub fn program<S: AsRef<std::ffi::OsStr>>(&self, name: &str, args: impl IntoIterator<Item = S>) -> Cmd {
        match &self.namespace {
            None => Cmd::new(name).args(args),
            Some(file) => Cmd::new("nsenter").args([enter(file).as_str(), name]).args(args),
        }
    }

    /// Another machine on this host's network, which has a namespace of its own. The host is `.1` of `network`, a prefix of three numbers
    /// (`192.0.2`), the other `.2`; of IPv6 they are `fd00:…::1` and `::2`.
    ///
    /// # Panics
    /// The cable cannot be laid.
    #[must_use]
    pub fn neighbour(&self, network: &str) -> Neighbour {
        Neighbour::of(&self.namespace(), network)
    }

    /// The daemon's process id.
    ///
    /// # Panics
    /// It does not run.
    #[must_use]
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// Kills the daemon as a crash would.
    pub fn kill_daemon(&mut self) {
        self.end_daemon(Signal::KILL);
    }

    /// Asks the daemon to end, and waits.
    pub fn stop_daemon(&mut self) {
        self.end_daemon(Signal::TERM);
    }

    fn end_daemon(&mut self, signal: Signal) {
        let Some(mut child) = self.daemon.take() else { return };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        let _ = kill_process(pid, signal);
        wait_for("the daemon's end", || child.try_wait().expect("wait"));
    }

    /// What a command line needs in its environment to find this engine and nothing of the person's who runs the test.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        vec![
            ("DOCKER_HOST".to_owned(), format!("unix://{}", self.socket().display())),
            ("DOCKER_CONFIG".to_owned(), self.root().join("config").display().to_string()),
            ("HOME".to_owned(), self.root().display().to_string()),
        ]
    }

    /// A command line on this engine.
    #[must_use]
    pub fn cli<S: AsRef<std::ffi::OsStr>>(&self, cli: Cli, args: impl IntoIterator<Item = S>) -> Cmd {
        let mut cmd = Cmd::new(cli.program());
        for (name, value) in self.environment() {
            cmd = cmd.env(name, value);
        }
        for name in ["DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_API_VERSION"] {
            cmd = cmd.env_remove(name);
        }
        cmd.args(args)
    }

    /// Our command line on this engine.
    #[must_use]
    pub fn corten<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Cmd {
        self.cli(Cli::Corten, args)
    }

    /// The real `docker` on this engine.
    #[must_use]
    pub fn docker<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Cmd {
        self.cli(Cli::Docker, args)
    }

    /// A command line on a terminal.
    #[must_use]
    pub fn terminal(&self, cli: Cli, args: &[&str]) -> Terminal {
        Terminal::spawn(&cli.program().to_string_lossy(), args, &self.environment())
    }

    /// The directories of this host's parent cgroup that exist.
    #[must_use]
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let parent = self.cgroup_parent();
        let name = parent.trim_start_matches('/');
        let below = |root: PathBuf| {
            fs::read_dir(root)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path().join(name))
                .filter(|p| p.is_dir())
        };
        let single = PathBuf::from("/sys/fs/cgroup").join(name);
        let mut found: Vec<PathBuf> = below("/sys/fs/cgroup".into()).collect();
        if single.is_dir() {
            found.push(single);
        }
        found
    }

    /// The supervisors of this host that are alive.
    #[must_use]
    pub fn supervisors(&self) -> Vec<u32> {
        // Their command line names no path, but the container's root filesystem is mounted in their namespace alone.
        let exec_root = self.exec_root().display().to_string();
        let holds = |pid: u32| {
            let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
            table.contains(&exec_root)
        };
        let supervisors = processes().into_iter().filter(|(_, line)| line.starts_with("corten-supervisor"));
        supervisors.map(|(pid, _)| pid).filter(|pid| holds(*pid)).collect()
    }

    /// Lines of the host's mount table that belong to this host.
    #[must_use]
    pub fn mounts(&self) -> Vec<String> {
        let root = self.root().display().to_string();
        let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        table.lines().filter(|line| line.contains(&root)).map(str::to_owned).collect()
    }

    /// Ends all that runs here, and names what is left over.
    fn tear_down(&mut self) -> Vec<String> {
        if self.daemon.is_some() {
            let ids = self.docker_free(&["ps", "-aq"]);
            for id in ids.lines() {
                let _ = self.docker_free(&["rm", "-f", "-v", id]);
            }
        }
        self.stop_daemon();
        let mut left: Vec<String> = self.mounts().into_iter().map(|line| format!("mount: {line}")).collect();
        for pid in self.supervisors() {
            left.push(format!("process {pid}"));
            let _ =
                i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| kill_process(pid, Signal::KILL));
        }
        for cgroup in self.cgroups() {
            for child in
                fs::read_dir(&cgroup).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir())
            {
                left.push(format!("cgroup {}", child.path().display()));
                for pid in fs::read_to_string(child.path().join("cgroup.procs")).unwrap_or_default().lines() {
                    let _ =
                        pid.parse().ok().and_then(Pid::from_raw).map(|pid| kill_process(pid, Signal::KILL));
                }
                let _ = fs::remove_dir(child.path());
            }
            let _ = fs::remove_dir(&cgroup);
        }
        left
    }

    /// Our own command line, for cleaning up: nothing is expected of it.
    fn docker_free(&self, args: &[&str]) -> String {
        let mut command = Command::new(binary());
        command.args(args).envs(self.environment()).stdin(Stdio::null()).stderr(Stdio::null());
        command
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default()
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}", self.daemon_log());
        }
        let left = self.tear_down();
        assert!(left.is_empty() || std::thread::panicking(), "left over on the machine: {left:#?}");
    }
}

impl Cli {
    /// The program's path.
    #[must_use]
    pub fn program(self) -> PathBuf {
        match self {
            Self::Corten => binary(),
            Self::Docker => PathBuf::from("docker"),
        }
    }
}

/// All processes of the machine with their command lines.
fn processes() -> Vec<(u32, String)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
        })
        .collect()
}
