//! The engines that are measured side by side: ours, Debian's docker.io, Debian's podman.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kit::{Host, wait_for};

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
    child: Child,
    root: PathBuf,
}

impl Peer {
    /// The name in the table.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Corten(_) => "corten",
            Self::Docker(_) => "docker.io",
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

impl Dockerd {
    fn socket(&self) -> String {
        format!("unix://{}/docker.sock", self.root.display())
    }

    /// Starts it.
    fn start(root: &Path) -> Result<Self> {
        let root = root.join("docker");
        fs::create_dir_all(&root).map_err(|error| error.to_string())?;
        let log = fs::File::create(root.join("log")).map_err(|error| error.to_string())?;
        // Its own settings, so that those of the machine's daemon do not count.
        let settings = root.join("daemon.json");
        fs::write(&settings, "{}").map_err(|error| error.to_string())?;
        let mut command = Command::new("/usr/sbin/dockerd");
        command
            .args(["--iptables=false", "--bridge=none"])
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
        Ok(Self { child, root })
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
