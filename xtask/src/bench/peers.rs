//! The engines that are measured side by side: ours, Debian's docker.io, Debian's podman.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kit::{Host, Neighbour, wait_for};

use crate::run::{Result, exists};

/// The image that all engines run, made of Debian's static busybox.
pub const IMAGE: &str = "bench";

/// An engine that can be measured.
pub enum Peer {
    /// Ours.
    Corten(Host),
    /// dockerd with a private socket and root, and no network of its own.
    Docker(Dockerd),
    /// podman with private roots.
    Podman(PathBuf),
}

/// A dockerd that ends with us.
pub struct Dockerd {
    name: &'static str,
    child: Child,
    root: PathBuf,
}

impl Peer {
    /// The name in the table.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Corten(_) => "corten",
            Self::Docker(dockerd) => dockerd.name,
            Self::Podman(_) => "podman",
        }
    }

    /// A command of this engine.
    pub fn command(&self, args: &[&str]) -> Command {
        match self {
            Self::Corten(host) => {
                let mut command = Command::new(kit::binary());
                command.envs(host.environment()).args(args);
                command
            }
            Self::Docker(dockerd) => {
                let mut command = Command::new("/usr/bin/docker");
                command.env("DOCKER_HOST", dockerd.socket()).args(args);
                command
            }
            Self::Podman(root) => {
                let mut command = Command::new("podman");
                command.env("CONTAINERS_CONF", root.join("containers.conf"));
                command.arg("--root").arg(root.join("root")).arg("--runroot").arg(root.join("run"));
                command.args(["--cgroup-manager", "cgroupfs", "--runtime", "crun"]).args(args);
                command
            }
        }
    }
}

impl Peer {
    /// The network namespace that is its host.
    fn namespace(&self) -> String {
        match self {
            Self::Corten(host) => host.namespace(),
            Self::Docker(dockerd) => format!("/proc/{}/ns/net", dockerd.child.id()),
            Self::Podman(_) => "/proc/self/ns/net".to_owned(),
        }
    }

    /// A program of its host.
    pub fn on_host(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace())).args(args);
        command
    }

    /// Another machine on a cable to its host.
    pub fn neighbour(&self) -> Neighbour {
        Neighbour::of(&self.namespace(), "192.0.2")
    }

    /// The first process of a container.
    pub fn pid(&self, container: &str) -> Result<u32> {
        let output = self.command(&["inspect", "-f", "{{.State.Pid}}", container]).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.ok().and_then(|text| text.parse().ok()).ok_or_else(|| format!("{container} does not run"))
    }
}

impl Dockerd {
    fn socket(&self) -> String {
        format!("unix://{}/docker.sock", self.root.display())
    }

    /// Starts it without networks.
    fn start(root: &Path) -> Result<Self> {
        let root = root.join("docker");
        Self::run(
            "docker.io",
            root,
            Command::new("/usr/sbin/dockerd"),
            &["--iptables=false", "--bridge=none"],
        )
    }

    /// Starts it in a network namespace of its own.
    pub fn apart(name: &'static str, root: &Path, flags: &[&str]) -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && exec /usr/sbin/dockerd \"$@\"", "dockerd"]);
        Self::run(name, root.to_owned(), command, flags)
    }

    fn run(name: &'static str, root: PathBuf, mut command: Command, flags: &[&str]) -> Result<Self> {
        fs::create_dir_all(&root).map_err(|error| error.to_string())?;
        let log = fs::File::create(root.join("log")).map_err(|error| error.to_string())?;
        // Its own settings, so that those of the machine's daemon do not count.
        let settings = root.join("daemon.json");
        fs::write(&settings, "{}").map_err(|error| error.to_string())?;
        command
            .args(flags)
            .arg("--config-file")
            .arg(&settings)
            .args(["--host", &format!("unix://{}/docker.sock", root.display())])
            .arg("--data-root")
            .arg(root.join("data"))
            .arg("--exec-root")
            .arg(root.join("exec"))
            .arg("--pidfile")
            .arg(root.join("pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log);
        let child = command.spawn().map_err(|error| format!("cannot run dockerd: {error}"))?;
        let socket = root.join("docker.sock");
        wait_for("dockerd's socket", || std::os::unix::net::UnixStream::connect(&socket).ok());
        Ok(Self { name, child, root })
    }

    /// dockerd and the containerd that it started.
    pub fn pids(&self) -> Vec<u32> {
        super::measure::processes(&self.root.display().to_string())
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// Starts all engines that this machine has, each with the image loaded.
pub fn start(directory: &Path) -> Result<Vec<Peer>> {
    let mut peers = vec![Peer::Corten(Host::new())];
    if Path::new("/usr/sbin/dockerd").exists() {
        peers.push(Peer::Docker(Dockerd::start(directory)?));
    }
    if exists("podman") {
        let root = directory.join("podman");
        fs::create_dir_all(&root).map_err(|error| error.to_string())?;
        // Its own default is more than a machine without CAP_SYS_RESOURCE can give.
        let limits = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
        fs::write(root.join("containers.conf"), limits).map_err(|error| error.to_string())?;
        peers.push(Peer::Podman(root));
    }
    let tar = busybox_tar(directory)?;
    for peer in &peers {
        match peer {
            Peer::Corten(host) => host.give(&kit::fixtures::busybox(), IMAGE),
            _ => {
                super::measure::run(&mut peer.command(&["import", &tar.display().to_string(), IMAGE]))?;
            }
        }
    }
    Ok(peers)
}

/// A root filesystem with busybox and its usual names, as a tar archive.
fn busybox_tar(directory: &Path) -> Result<PathBuf> {
    let root = directory.join("rootfs");
    let io = |error: std::io::Error| error.to_string();
    for name in ["bin", "etc", "tmp", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(name)).map_err(io)?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).map_err(io)?;
    for name in ["sh", "true", "sleep", "cat", "yes", "head", "seq"] {
        let _ = std::os::unix::fs::symlink("busybox", root.join("bin").join(name));
    }
    let tar = directory.join("rootfs.tar");
    super::measure::run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg("."))?;
    Ok(tar)
}
