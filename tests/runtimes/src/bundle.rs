//! A container's bundle in a world of its own, and the runtime that is driven with it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kit::{patience, wait_for};
use serde_json::{Value, json};

use crate::cgroup;
use crate::runtime::{Kind, Runtime, probe};

/// How long other runtimes may take to clear away what they have killed.
const PATIENCE: Duration = Duration::from_secs(3);

/// A bundle whose program is the probe. What is left of it when it is dropped fails the test.
#[derive(Debug)]
pub struct Bundle {
    directory: tempfile::TempDir,
    /// Who runs it.
    pub runtime: Runtime,
    /// The configuration; written before each command.
    pub config: Value,
}

/// How a command ended, and what it wrote.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code; 128 + n if a signal n ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Bundle {
    /// One whose program does these steps.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn new(runtime: &Runtime, steps: Value) -> Self {
        let directory = tempfile::Builder::new().prefix("ct-rt-").tempdir().expect("a temporary directory");
        // A user namespace's root must get in.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let rootfs = directory.path().join("rootfs");
        for name in ["proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir_all(rootfs.join(name)).expect("mkdir");
        }
        // Nothing writes to it, so it can be the same file in all of them.
        let inside = rootfs.join("probe");
        if fs::hard_link(probe(), &inside).is_err() {
            fs::copy(probe(), &inside).expect("copy the probe");
        }
        let mut bundle = Self { directory, runtime: runtime.clone(), config: Value::Null };
        bundle.config = configuration(&bundle.id());
        bundle.set_steps(steps);
        bundle
    }

    /// One whose program reports its world.
    #[must_use]
    pub fn world(runtime: &Runtime) -> Self {
        Self::new(runtime, json!([["world"]]))
    }

    /// Other steps.
    #[expect(clippy::needless_pass_by_value, reason = "it is written in place, as a literal")]
    pub fn set_steps(&mut self, steps: Value) {
        self.config["process"]["args"] = json!(["/probe", steps.to_string()]);
    }

    /// Where `config.json` is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The root filesystem.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// A name that no other test has, for container and cgroup.
    #[must_use]
    pub fn id(&self) -> String {
        let name = self.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!("corten-test-{name}")
    }

    /// Its cgroup.
    #[must_use]
    pub fn cgroup(&self) -> String {
        self.config["linux"]["cgroupsPath"].as_str().unwrap_or_default().to_owned()
    }

    /// Where the runtime keeps its records.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Adds a mount.
    pub fn mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().expect("a list of mounts").push(mount);
    }

    /// Replaces the namespaces by those of this list of types, and returns the configuration of them to be changed further.
    pub fn namespaces(&mut self, kinds: &[&str]) -> &mut Value {
        self.config["linux"]["namespaces"] = kinds.iter().map(|kind| json!({"type": kind})).collect();
        &mut self.config["linux"]["namespaces"]
    }

    /// Joins the namespace of `kind` at `path`.
    pub fn join(&mut self, kind: &str, path: &str) {
        let list = self.config["linux"]["namespaces"].as_array_mut().expect("a list of namespaces");
        list.retain(|one| one["type"] != kind);
        list.push(json!({"type": kind, "path": path}));
    }

    /// A user namespace with these ids of the host.
    pub fn map_users(&mut self, host: u32, size: u32) {
        let map = json!([{"containerID": 0, "hostID": host, "size": size}]);
        self.config["linux"]["uidMappings"] = map.clone();
        self.config["linux"]["gidMappings"] = map;
        let list = self.config["linux"]["namespaces"].as_array_mut().expect("a list of namespaces");
        list.push(json!({"type": "user"}));
        // The root must own what is inside to create what is missing there.
        for entry in fs::read_dir(self.rootfs()).expect("list").flatten() {
            if entry.file_name() != "probe" {
                std::os::unix::fs::chown(entry.path(), Some(host), Some(host)).expect("chown");
            }
        }
        std::os::unix::fs::chown(self.rootfs(), Some(host), Some(host)).expect("chown");
    }

    /// The runtime with these arguments; the bundle is its working directory.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        // At once: another command may be reading it.
        let part = self.path().join("config.json.part");
        fs::write(&part, self.config.to_string()).expect("write config.json");
        fs::rename(part, self.path().join("config.json")).expect("write config.json");
        self.bare(args)
    }

    /// The same without writing the configuration.
    #[must_use]
    pub fn bare(&self, args: &[&str]) -> Command {
        let mut command = self.runtime.command();
        command.current_dir(self.path()).arg("--root").arg(self.records()).args(args).stdin(Stdio::null());
        command
    }

    /// Starts a command, whose output goes into files: a container keeps a pipe open.
    #[must_use]
    pub fn spawn(&self, mut command: Command) -> Running {
        let file =
            |name: &str| tempfile::Builder::new().prefix(name).tempfile_in(self.path()).expect("a file");
        let (stdout, stderr) = (file("stdout-"), file("stderr-"));
        let (stdout, stderr) = (stdout.keep().expect("keep"), stderr.keep().expect("keep"));
        command.stdout(stdout.0).stderr(stderr.0);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        Running { child, stdout: stdout.1, stderr: stderr.1 }
    }

    /// Runs a command to its end.
    #[must_use]
    pub fn finish(&self, command: Command) -> Output {
        self.spawn(command).wait()
    }

    /// Runs a command of the runtime to its end.
    #[must_use]
    pub fn call(&self, args: &[&str]) -> Output {
        self.finish(self.command(args))
    }

    /// The same, which must succeed; what it wrote.
    ///
    /// # Panics
    /// It fails.
    pub fn ok(&self, args: &[&str]) -> String {
        self.call(args).success()
    }

    /// Runs the container to its end.
    #[must_use]
    pub fn run(&self) -> Output {
        self.call(&["run", &self.id()])
    }

    /// Runs the container to its end; the results of its steps.
    ///
    /// # Panics
    /// It does not end well.
    #[must_use]
    pub fn results(&self) -> Vec<Value> {
        results(&self.run().success())
    }

    /// Runs the container to its end; the result of its first step.
    #[must_use]
    pub fn report(&self) -> Value {
        self.results().swap_remove(0)
    }

    /// Runs `run`, which must refuse and leave nothing; what it says.
    ///
    /// # Panics
    /// It does not.
    #[must_use]
    pub fn refusal(&self) -> String {
        let output = self.run();
        assert_ne!(output.code, 0, "not refused: {output:?}");
        assert!(!output.stdout.contains("holds") && !output.stdout.contains('['), "it ran: {output:?}");
        assert!(!output.stderr.trim().is_empty(), "refused without a word");
        assert_eq!(self.left(), Vec::<String>::new(), "after {output:?}");
        output.stderr
    }

    /// Makes the container, and lets its output go to a file.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn create(&self) {
        self.create_with(&[]);
    }

    /// The same with more flags.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn create_with(&self, flags: &[&str]) {
        self.made("create", flags).success();
    }

    /// Makes and starts the container in the background.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn launch(&self) {
        self.made("run", &["--detach"]).success();
    }

    /// `create` or `run` with flags, as it ends; the container's output goes to a file, and errors to the same.
    #[must_use]
    pub fn made(&self, verb: &str, flags: &[&str]) -> Output {
        let mut args = vec![verb];
        args.extend(flags);
        let id = self.id();
        args.push(&id);
        let mut command = self.command(&args);
        let out = self.path().join("out");
        let file = File::options().create(true).append(true).open(&out).expect("open");
        let status = command.stdout(file.try_clone().expect("dup")).stderr(file).status().expect("run");
        let text = fs::read_to_string(out).unwrap_or_default();
        Output { code: code(status), stdout: text.clone(), stderr: text }
    }

    /// Starts what was made.
    pub fn start(&self) {
        self.ok(&["start", &self.id()]);
    }

    /// What a container in the background has written so far, line by line.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path().join("out")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until a container in the background holds, and returns the results of its steps before that.
    #[must_use]
    pub fn holding(&self) -> Vec<Value> {
        wait_for("a container that holds", || {
            let lines = self.lines();
            let held = lines.iter().any(|line| line.get("holds").is_some());
            held.then(|| lines.first().and_then(Value::as_array).cloned().unwrap_or_default())
        })
    }

    /// Its state, as the runtime says it.
    ///
    /// # Panics
    /// It says none.
    #[must_use]
    pub fn state(&self) -> Value {
        let text = self.ok(&["state", &self.id()]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in the state {text:?}"))
    }

    /// The word for its state.
    #[must_use]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap_or_default().to_owned()
    }

    /// The number of its first process.
    ///
    /// # Panics
    /// It has none.
    #[must_use]
    pub fn pid(&self) -> i32 {
        let pid = self.state()["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        pid.filter(|pid| *pid > 0).expect("a process")
    }

    /// Waits until it is in this state.
    pub fn wait_until(&self, status: &str) {
        wait_for(status, || (self.status() == status).then_some(()));
    }

    /// Sends a signal.
    pub fn kill(&self, signal: &str) {
        self.ok(&["kill", &self.id(), signal]);
    }

    /// Deletes it with force.
    pub fn delete(&self) {
        self.ok(&["delete", "--force", &self.id()]);
    }

    /// Runs steps in the container that is there, to their end; their results.
    ///
    /// # Panics
    /// They do not end well.
    #[must_use]
    pub fn exec(&self, flags: &[&str], steps: &Value) -> Vec<Value> {
        results(&self.exec_output(flags, steps).success())
    }

    /// The same as it ends.
    #[must_use]
    pub fn exec_output(&self, flags: &[&str], steps: &Value) -> Output {
        let (id, steps) = (self.id(), steps.to_string());
        let mut args = vec!["exec"];
        args.extend(flags);
        args.extend([id.as_str(), "/probe", &steps]);
        self.finish(self.bare(&args))
    }

    /// Mounts, cgroups and records that are there; empty once the container is gone.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let groups = cgroup::directories(&self.cgroup());
        let mut left: Vec<String> = groups.iter().map(|path| path.display().to_string()).collect();
        let records = fs::read_dir(self.records()).into_iter().flatten().flatten();
        left.extend(
            records
                .filter(|entry| entry.file_name() == *self.id())
                .map(|entry| entry.path().display().to_string()),
        );
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = self.path().display().to_string();
        left.extend(mounts.lines().filter(|line| line.contains(&own)).map(str::to_owned));
        left
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let mut left = self.left();
        if !left.is_empty() {
            let id = self.id();
            let _ =
                self.bare(&["delete", "--force", &id]).stdout(Stdio::null()).stderr(Stdio::null()).status();
            left = self.left();
        }
        // crun does not wait for those it kills, and leaves the group then.
        let started = Instant::now();
        while self.runtime.kind != Kind::Corten && !left.is_empty() && started.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(10));
            for group in cgroup::directories(&self.cgroup()) {
                let _ = fs::remove_dir(group);
            }
            left = self.left();
        }
        for group in cgroup::directories(&self.cgroup()) {
            let _ = fs::remove_dir(group);
        }
        for line in left.iter().filter(|line| line.contains(" - ")) {
            // A mount that is left would be followed when the directory is removed.
            if let Some(target) = line.split(' ').nth(4) {
                let _ = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH);
            }
        }
        assert!(left.is_empty() || thread::panicking(), "left over on the machine: {left:#?}");
    }
}

impl Running {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process number")
    }

    /// Whether it has not ended yet.
    ///
    /// # Panics
    /// It cannot be waited for.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    /// What it has written to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// All that it has written so far.
    #[must_use]
    pub fn written(&self) -> String {
        self.stdout() + &fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It does not come.
    #[must_use]
    pub fn wait(mut self) -> Output {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            if started.elapsed() > patience() {
                let _ = self.child.kill();
                let _ = self.child.wait();
                let (stdout, stderr) = (fs::read_to_string(&self.stdout), fs::read_to_string(&self.stderr));
                panic!("a command still ran after {:?}; it wrote {stdout:?} {stderr:?}", patience());
            }
            thread::sleep(Duration::from_millis(1));
        };
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        Output { code: code(status), stdout: text(&self.stdout), stderr: text(&self.stderr) }
    }
}

impl Output {
    /// What it wrote; it must have succeeded.
    ///
    /// # Panics
    /// It failed.
    pub fn success(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout
    }

    /// What it wrote to standard error; it must have failed.
    ///
    /// # Panics
    /// It succeeded.
    #[must_use]
    pub fn failure(self) -> String {
        assert_ne!(self.code, 0, "{self:#?}");
        self.stderr
    }
}

/// Takes the connection that `running` makes.
///
/// # Panics
/// None comes.
#[must_use]
pub fn accept(listener: &UnixListener, running: &mut Running) -> UnixStream {
    listener.set_nonblocking(true).expect("a non-blocking listener");
    let (stream, _) = wait_for("a connection", || {
        let ended = !running.runs();
        let accepted = listener.accept().ok();
        assert!(accepted.is_some() || !ended, "no connection, and it has ended: {}", running.written());
        accepted
    });
    stream.set_nonblocking(false).expect("a blocking stream");
    stream.set_read_timeout(Some(patience())).expect("a limit");
    stream
}

fn code(status: std::process::ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn results(text: &str) -> Vec<Value> {
    let line = text.lines().find(|line| line.starts_with('['));
    let line = line.unwrap_or_else(|| panic!("no results in {text:?}"));
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
}

/// A configuration with the usual namespaces, the filesystems without which little works, and the rights that engines give.
fn configuration(id: &str) -> Value {
    let capabilities = json!([
        "CAP_AUDIT_WRITE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    ]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "cwd": "/",
            "env": ["PATH=/", "HOME=/"],
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {
                "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "mount"}, {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "cgroup"},
            ],
        },
    })
}
