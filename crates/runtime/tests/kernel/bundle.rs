//! Bundles with a busybox in them, and the runtime's command line as a program to run them with.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use serde_json::{Value, json};

/// Programs that the tests use inside.
const APPLETS: &[&str] = &[
    "cat", "chmod", "cut", "dd", "echo", "env", "false", "grep", "head", "hostname", "id", "ip", "kill",
    "ls", "mkdir", "mknod", "mount", "ps", "pwd", "readlink", "sh", "sleep", "stat", "stty", "test", "touch",
    "true", "tty", "umask", "umount", "wc", "yes",
];

/// A bundle in a directory of its own, with a place for the runtime's records beside it; all of it goes when this is dropped.
pub struct Bundle {
    directory: tempfile::TempDir,
    _busybox: Arc<tempfile::TempDir>,
    /// The configuration, written before each command.
    pub config: Value,
}

/// How long a state is waited for that must come: longer by the factor `CORTEN_TEST_PATIENCE` on machines that are slow because they
/// are emulated.
pub fn patience() -> Duration {
    const WAIT: Duration = Duration::from_secs(30);
    WAIT * std::env::var("CORTEN_TEST_PATIENCE").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// Whether the tests can run here; prints what is missing.
pub fn possible() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if !root {
        println!("skipped: root");
    }
    if busybox().is_none() {
        println!("skipped: busybox-static");
    }
    root && busybox().is_some()
}

/// The host's, if it can be used; looked at once, as that takes longer than a container.
fn busybox() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let found =
            ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(PathBuf::from).find(|p| p.exists())?;
        // One that needs libraries would not run in an otherwise empty root.
        let text = fs::read(&found).ok()?;
        let interpreter = b"/lib64/ld-linux-x86-64.so.2";
        (!text.windows(interpreter.len()).any(|w| w == interpreter)).then_some(found)
    };
    FOUND.get_or_init(find).as_deref()
}

/// A copy that the bundles of this time share: an emulated machine takes long to write one, and to translate each for itself.
fn shared_busybox() -> Arc<tempfile::TempDir> {
    static SHARED: Mutex<Weak<tempfile::TempDir>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap();
    shared.upgrade().unwrap_or_else(|| {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let copy = directory.path().join("busybox");
        fs::copy(busybox().unwrap(), &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        *shared = Arc::downgrade(&directory);
        directory
    })
}

/// What `spec` writes.
fn example() -> Value {
    static EXAMPLE: OnceLock<Value> = OnceLock::new();
    let make = || {
        let directory = tempfile::tempdir().unwrap();
        text(&Command::new(program()).args(["spec", "--bundle"]).arg(directory.path()).output().unwrap());
        serde_json::from_slice(&fs::read(directory.path().join("config.json")).unwrap()).unwrap()
    };
    EXAMPLE.get_or_init(make).clone()
}

/// The runtime's command line: an example that is built with the tests.
pub fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let program = own.parent().unwrap().parent().unwrap().join("examples/runtime");
    assert!(program.exists(), "{} is missing: cargo build -p runtime --examples", program.display());
    program
}

impl Bundle {
    /// One that runs `args`.
    pub fn new(args: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rootfs = directory.path().join("rootfs");
        for name in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
            fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        let busybox = shared_busybox();
        fs::hard_link(busybox.path().join("busybox"), rootfs.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        let mut bundle = Self { directory, _busybox: busybox, config: json!({"process": {"args": args}}) };
        bundle.adopt(example());
        bundle
    }

    /// Takes `example` for its configuration, with what it runs and a root that can be written to.
    pub fn adopt(&mut self, example: Value) {
        let args = self.config["process"]["args"].clone();
        self.config = example;
        self.config["process"]["terminal"] = false.into();
        self.config["process"]["args"] = args;
        self.config["root"]["readonly"] = false.into();
    }

    /// One that runs a shell script.
    pub fn script(script: &str) -> Self {
        Self::new(&["sh", "-c", script])
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// A name that no other test has, for container and cgroup.
    pub fn id(&self) -> String {
        let name = self.path().file_name().unwrap().to_str().unwrap();
        format!("test-{}", name.trim_start_matches('.'))
    }

    /// The runtime with these arguments; the bundle is its working directory.
    pub fn command(&self, args: &[&str]) -> Command {
        fs::write(self.path().join("config.json"), self.config.to_string()).unwrap();
        let mut command = Command::new(program());
        command.current_dir(self.path()).arg("--root").arg(self.path().join("state")).args(args);
        command.stdin(Stdio::null());
        command
    }

    /// Runs the container to its end.
    pub fn run(&self) -> Output {
        self.command(&["run", &self.id()]).output().unwrap()
    }

    /// What the container writes; it must succeed.
    pub fn output(&self) -> String {
        text(&self.run())
    }

    /// The one line with which the container is refused; nothing may be left of it.
    pub fn refusal(&self) -> String {
        let output = self.run();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "not refused: {error}");
        assert_eq!(error.lines().count(), 1, "not one line: {error}");
        self.assert_nothing_left();
        error
    }

    /// A command about the container, which must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        text(&self.command(args).output().unwrap())
    }

    /// Makes and starts the container in the background. What it writes is lost.
    pub fn start(&self) {
        let id = self.id();
        let mut command = self.command(&["run", "--detach", &id]);
        // Not a pipe: the container keeps it open, and its end would be waited for.
        let log = self.path().join("log.start");
        let status = command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap()).status().unwrap();
        assert!(status.success(), "{}", fs::read_to_string(log).unwrap());
    }

    pub fn cgroups(&self) -> Vec<PathBuf> {
        let all = fs::read_dir("/sys/fs/cgroup").unwrap();
        all.map(|e| e.unwrap().path().join(self.id()))
            .chain([Path::new("/sys/fs/cgroup").join(self.id())])
            .filter(|p| p.exists())
            .collect()
    }

    pub fn assert_nothing_left(&self) {
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new());
        let state = self.path().join("state");
        if state.exists() {
            assert_eq!(fs::read_dir(state).unwrap().count(), 0, "a record is left");
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.path().to_str().unwrap()), "a mount is left");
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let records = fs::read_dir(self.path().join("state"));
        if records.is_ok_and(|mut records| records.next().is_some()) {
            let id = self.id();
            let _ = self.command(&["delete", "--force", &id]).output();
        }
    }
}

/// The output of a command that must have succeeded.
pub fn text(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
