//! Two engines that are asked the same: ours, and Debian's dockerd in a world of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kit::{Cmd, Host, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Where Debian has it.
pub const DOCKERD: &str = "/usr/sbin/dockerd";

/// An engine by its socket.
pub struct Engine {
    /// What it is called in messages.
    pub name: &'static str,
    socket: PathBuf,
}

impl Engine {
    /// Ours.
    pub fn of_host(host: &Host) -> Self {
        Self { name: "Corten", socket: host.socket() }
    }

    /// Sends a request in version 1.41 and reads the answer's status and JSON; what has none is null.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let socket = self.socket.display().to_string();
        let url = format!("http://engine/v1.41{path}");
        let args =
            ["-sS", "--max-time", "60", "-w", "\n%{http_code}", "--unix-socket", &socket, "-X", method, &url];
        let mut curl = Cmd::new("curl").args(args);
        if let Some(body) = body {
            curl = curl.args(["-H", "Content-Type: application/json", "-d", &body.to_string()]);
        }
        let said = curl.ok();
        let (text, status) = said.trim_end().rsplit_once('\n').unwrap_or(("", said.trim_end()));
        let status = status.parse().unwrap_or_else(|error| panic!("{path}: {error}: {said}"));
        (status, serde_json::from_str(text).unwrap_or(Value::Null))
    }

    /// Sends a request and gives the answer as it is: the status, the head, the body.
    pub fn raw(&self, method: &str, path: &str, body: &str) -> (u16, String, String) {
        let socket = self.socket.display().to_string();
        // As a person would type it who knows what has to be escaped.
        let path = path.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
        let url = format!("http://engine/v1.41{path}");
        let how: &[&str] = if method == "HEAD" { &["-I"] } else { &["-i", "-X", method] };
        let mut curl =
            Cmd::new("curl").args(["-sS", "-g", "--max-time", "60", "--unix-socket", &socket]).args(how);
        if !body.is_empty() {
            curl = curl.args(["-H", "Content-Type: application/json", "-d", body]);
        }
        let said = curl.args([&url]).ok().replace('\r', "");
        let (head, text) = said.split_once("\n\n").unwrap_or((&said, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, head.to_owned(), text.to_owned())
    }

    /// What is at a path.
    pub fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, None);
        assert_eq!(status, 200, "{}: {path}: {answer}", self.name);
        answer
    }

    /// Does something that must work.
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask("POST", path, Some(body));
        assert!(status < 300, "{}: {path}: {status} {answer}", self.name);
        answer
    }

    /// The lines of JSON at a path that ends.
    pub fn lines(&self, path: &str) -> Vec<Value> {
        let url = format!("http://engine/v1.41{path}");
        let socket = self.socket.display().to_string();
        let text = Cmd::new("curl").args(["-sS", "--max-time", "60", "--unix-socket", &socket, &url]).ok();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of json")).collect()
    }
}

/// Debian's dockerd, with roots, network, mounts and cgroups of its own.
pub struct Dockerd {
    child: Child,
    root: PathBuf,
    cgroup: String,
}

impl Dockerd {
    /// Starts it below a folder.
    pub fn start(root: &Path) -> Self {
        let cgroup = format!("corten-peer-{}", std::process::id());
        let path = |name: &str| root.join(name).display().to_string();
        fs::write(root.join("daemon.json"), "{}").expect("write its settings");
        let log = fs::File::create(root.join("log")).expect("its log");
        let script = "ip link set lo up && exec \"$@\"";
        let child = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", script, "sh", DOCKERD, "--debug"])
            .args(["--storage-driver", "vfs", "--cgroup-parent", &format!("/{cgroup}")])
            .args(["--config-file", &path("daemon.json"), "--pidfile", &path("pid")])
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["--host", &format!("unix://{}", path("docker.sock"))])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("dup"))
            .stderr(log)
            .spawn()
            .expect("start dockerd");
        let dockerd = Self { child, root: root.to_owned(), cgroup };
        wait_for("dockerd's socket", || {
            std::os::unix::net::UnixStream::connect(dockerd.root.join("docker.sock")).ok()
        });
        dockerd
    }

    /// By its socket.
    pub fn engine(&self) -> Engine {
        Engine { name: "Docker", socket: self.root.join("docker.sock") }
    }

    /// Gives it images from an archive.
    pub fn load(&self, archive: &Path) {
        let socket = format!("unix://{}/docker.sock", self.root.display());
        let archive = archive.display().to_string();
        Cmd::new("docker").args(["--host", &socket, "load", "-i", &archive]).ok();
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let socket = self.root.join("docker.sock").display().to_string();
        let docker = |args: &[&str]| {
            let host = format!("unix://{socket}");
            Cmd::new("docker").args(["--host", &host]).args(args).run().stdout
        };
        for id in docker(&["ps", "-aq"]).lines() {
            let _ = docker(&["rm", "-f", "-v", id]);
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let _ = self.child.wait();
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(controller.path().join(&self.cgroup));
        }
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.cgroup));
    }
}
