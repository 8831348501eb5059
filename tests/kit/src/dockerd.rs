//! Debian's dockerd in a world of its own, to be asked the same as our engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::command::{Cmd, wait_for};

/// Where Debian has it.
pub const DOCKERD: &str = "/usr/sbin/dockerd";

/// Debian's dockerd, with roots, mounts and cgroups of its own.
#[derive(Debug)]
pub struct Dockerd {
    child: Child,
    root: PathBuf,
    cgroup: String,
}

impl Dockerd {
    /// Starts it below a folder, with a network of its own.
    #[must_use]
    pub fn start(root: &Path) -> Self {
        let alone = ["--net", "--mount", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"];
        Self::spawn(root, &alone, &["--storage-driver", "vfs"])
    }

    /// Starts it below a folder to build: on the machine's network, of which it changes nothing.
    #[must_use]
    pub fn start_to_build(root: &Path) -> Self {
        let flags =
            ["--storage-driver", "overlay2", "--bridge", "none", "--iptables=false", "--ip6tables=false"];
        Self::spawn(root, &["--mount"], &flags)
    }

    fn spawn(root: &Path, within: &[&str], flags: &[&str]) -> Self {
        let cgroup = format!("corten-peer-{}", std::process::id());
        let path = |name: &str| root.join(name).display().to_string();
        fs::write(root.join("daemon.json"), "{}").expect("write its settings");
        let log = fs::File::create(root.join("log")).expect("its log");
        let child = Command::new("unshare")
            .args(within)
            .args([DOCKERD, "--debug", "--cgroup-parent", &format!("/{cgroup}")])
            .args(flags)
            .args(["--config-file", &path("daemon.json"), "--pidfile", &path("pid")])
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["--host", &format!("unix://{}", path("docker.sock"))])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("dup"))
            .stderr(log)
            .spawn()
            .expect("start dockerd");
        let dockerd = Self { child, root: root.to_owned(), cgroup };
        wait_for("dockerd's socket", || std::os::unix::net::UnixStream::connect(dockerd.socket()).ok());
        dockerd
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root.join("docker.sock")
    }

    /// The `docker` command on it.
    #[must_use]
    pub fn docker(&self) -> Cmd {
        let config = self.root.display().to_string();
        Cmd::new("docker")
            .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
            .env("DOCKER_CONFIG", config)
    }

    /// Gives it images from an archive.
    pub fn load(&self, archive: &Path) {
        self.docker().args(["load", "-i", &archive.display().to_string()]).ok();
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        for id in self.docker().args(["ps", "-aq"]).run().stdout.lines() {
            let _ = self.docker().args(["rm", "-f", "-v", id]).run();
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
