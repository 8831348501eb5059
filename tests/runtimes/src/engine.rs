//! A foreign engine in a world of its own, with the runtime under test in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kit::fixtures::{Image, Layout};
use kit::{Cmd, Terminal, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use crate::runtime::Runtime;

/// A directory for an engine's roots; what is left of the engine when it is dropped fails the test.
#[derive(Debug)]
pub struct Place {
    directory: tempfile::TempDir,
    daemon: Option<Child>,
    /// The runtime, as one path.
    pub runtime: PathBuf,
}

impl Place {
    /// One with the first of the runtimes under test.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("ct-en-").tempdir().expect("a temporary directory");
        let runtime = Runtime::under_test().remove(0).executable(directory.path());
        Self { directory, daemon: None, runtime }
    }

    /// Everything is below.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A path below, as text.
    #[must_use]
    pub fn at(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    /// The cgroup above all of the engine's containers.
    #[must_use]
    pub fn cgroup(&self) -> String {
        let name = self.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!("/corten-test-{name}")
    }

    /// Writes an image as an archive that all engines can load, by the name `name`.
    #[must_use]
    pub fn archive(&self, name: &str, image: Image) -> String {
        let layout = Layout::new(&[image]);
        let file = self.at(&format!("{name}.tar"));
        let to = format!("docker-archive:{file}:docker.io/library/{name}:latest");
        Cmd::new("skopeo").args(["copy", "--quiet", "--insecure-policy", &layout.skopeo(), &to]).ok();
        file
    }

    /// Starts a daemon and waits until it listens at `socket`.
    ///
    /// # Panics
    /// It does not.
    pub fn start(&mut self, mut command: Command, socket: &str) {
        let log = fs::File::create(self.path().join("log")).expect("a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("dup")).stderr(log);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        wait_for(socket, || {
            let ended = child.try_wait().expect("wait");
            assert!(ended.is_none(), "the daemon ended: {}", self.log());
            std::os::unix::net::UnixStream::connect(socket).ok()
        });
        self.daemon = Some(child);
    }

    /// What the daemon has written.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    /// Asks the daemon to end, and waits.
    pub fn stop(&mut self) {
        let Some(mut child) = self.daemon.take() else { return };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        wait_for("the daemon's end", || child.try_wait().expect("wait"));
    }

    /// What is there of the engine: mounts, cgroups, processes.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let own = self.path().display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut left: Vec<String> =
            mounts.lines().filter(|line| line.contains(&own)).map(str::to_owned).collect();
        for group in crate::cgroup::directories(&self.cgroup()) {
            let below = fs::read_dir(&group).into_iter().flatten().flatten();
            // The monitors' own group is Podman's, which leaves it.
            let of_containers = below.filter(|e| e.path().is_dir() && e.file_name() != "conmon");
            left.extend(of_containers.map(|e| e.path().display().to_string()));
        }
        left.extend(processes(&own));
        left
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

/// Processes whose command line has this path in it.
fn processes(path: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let line = |pid: &str| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    };
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
        .filter_map(|pid| {
            line(&pid).filter(|line| line.contains(path)).map(|line| format!("process {pid}: {line}"))
        })
        .collect()
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}", self.log());
        }
        self.stop();
        // Some of it ends by itself, a moment after the daemon, and later on a busy machine.
        let started = std::time::Instant::now();
        while !self.left().is_empty() && started.elapsed().as_secs() < 30 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let left = self.left();
        for group in crate::cgroup::directories(&self.cgroup()) {
            let below = fs::read_dir(&group).into_iter().flatten().flatten();
            for entry in below.filter(|entry| entry.path().is_dir()) {
                let _ = fs::remove_dir(entry.path());
            }
            let _ = fs::remove_dir(group);
        }
        for line in &left {
            if let Some(target) = line.contains(" - ").then(|| line.split(' ').nth(4)).flatten() {
                let _ = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH);
            }
        }
        assert!(left.is_empty() || std::thread::panicking(), "left over on the machine: {left:#?}");
    }
}

/// The content of a control file of the process `pid`: its group is looked up, as engines name them.
///
/// # Panics
/// It cannot be read.
#[must_use]
pub fn limit(pid: &str, controller: &str, of_first: &str, of_second: &str) -> String {
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).expect("its groups");
    let unified = crate::cgroup::unified();
    let line = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, names, path) = (fields.next()?, fields.next()?, fields.next()?);
        (unified || names.split(',').any(|name| name == controller)).then(|| path.to_owned())
    });
    let group = line.unwrap_or_else(|| panic!("no group of {controller}: {groups}"));
    crate::cgroup::read(controller, &group, if unified { of_second } else { of_first })
}

/// A command on a terminal, with the environment it needs.
#[must_use]
pub fn terminal(program: &str, args: &[String]) -> Terminal {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Terminal::spawn(program, &args, &[])
}
