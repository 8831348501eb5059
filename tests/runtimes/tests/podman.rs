//! The runtime under Debian's Podman.

use kit::{Cmd, fixtures, wait_for};
use runtimes::engine::{self, Place};
use runtimes::{Kind, Runtime};

/// A Podman with roots of its own, and busybox.
struct Podman(Place);

impl Podman {
    fn new() -> Self {
        let place = Place::new();
        // Its own default is more than a machine without CAP_SYS_RESOURCE can give.
        let limits = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
        std::fs::write(place.at("containers.conf"), limits).expect("write");
        let podman = Self(place);
        let archive = podman.0.archive("busybox", fixtures::busybox());
        podman.ok(&["load", "--quiet", "--input", &archive]);
        podman
    }

    fn args(&self, args: &[&str]) -> Vec<String> {
        let own = [
            "--root".to_owned(),
            self.0.at("root"),
            "--runroot".to_owned(),
            self.0.at("run"),
            "--tmpdir".to_owned(),
            self.0.at("tmp"),
            "--cgroup-manager=cgroupfs".to_owned(),
            "--events-backend=file".to_owned(),
            "--runtime".to_owned(),
            self.0.runtime.display().to_string(),
        ];
        own.into_iter().chain(args.iter().map(|a| (*a).to_owned())).collect()
    }

    fn run(&self, args: &[&str]) -> Cmd {
        Cmd::new("podman").args(self.args(args)).env("CONTAINERS_CONF", self.0.at("containers.conf"))
    }

    fn ok(&self, args: &[&str]) -> String {
        self.run(args).ok()
    }

    /// Makes a container in the background.
    fn start(&self, args: &[&str]) {
        let parent = format!("--cgroup-parent={}", self.0.cgroup());
        let mut all = vec!["run", "--detach", "--network=none", &parent];
        all.extend(args);
        // The monitor inherits the streams and keeps them open.
        let out = std::fs::File::create(self.0.at("started")).expect("a file");
        let status = std::process::Command::new("podman")
            .args(self.args(&all))
            .env("CONTAINERS_CONF", self.0.at("containers.conf"))
            .stdin(std::process::Stdio::null())
            .stdout(out.try_clone().expect("dup"))
            .stderr(out)
            .status()
            .expect("podman");
        assert!(status.success(), "{}", std::fs::read_to_string(self.0.at("started")).unwrap_or_default());
    }

    fn inspect(&self, name: &str, what: &str) -> String {
        self.ok(&["inspect", "--format", what, name])
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "--force", "--all", "--time=0"]).run();
        let _ = self.run(&["umount", "--all"]).run();
        let _ = rustix::mount::unmount(self.0.at("root/overlay"), rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn programs_streams_codes_and_terminals() {
    let podman = Podman::new();
    let parent = format!("--cgroup-parent={}", podman.0.cgroup());
    let run = |args: &[&str]| {
        let mut all = vec!["run", "--rm", "--network=none", &parent];
        all.extend(args);
        podman.run(&all)
    };
    assert_eq!(run(&["busybox", "echo", "hello"]).ok(), "hello");
    let output = run(&["busybox", "sh", "-c", "echo out; echo err >&2; exit 7"]).run();
    assert_eq!((output.code, output.text(), output.stderr.trim()), (7, "out", "err"));
    assert_eq!(run(&["--interactive", "busybox", "cat"]).stdin("typed").ok(), "typed");
    run(&["busybox", "/not/there"]).fails(127, "/not/there");
    run(&[
        "--user",
        "1000:100",
        "--workdir",
        "/tmp",
        "--env",
        "A=b",
        "busybox",
        "sh",
        "-c",
        "test $(id -u):$(id -g):$(pwd):$A = 1000:100:/tmp:b",
    ])
    .ok();
    run(&["--read-only", "busybox", "sh", "-c", "touch /tmp/x && ! touch /x"]).ok();
    // Others want rights that a container's root on a machine like this does not have.
    if Runtime::under_test()[0].kind == Kind::Corten {
        run(&["--privileged", "busybox", "mount", "-t", "tmpfs", "none", "/tmp"]).ok();
    }
    run(&[
        "--uidmap=0:100000:1000",
        "--gidmap=0:100000:1000",
        "busybox",
        "grep",
        "100000",
        "/proc/self/uid_map",
    ])
    .ok();
    let mut args = podman.args(&["run", "--rm", "--network=none", &parent, "-it", "busybox", "sh"]);
    args.insert(0, format!("CONTAINERS_CONF={}", podman.0.at("containers.conf")));
    args.insert(1, "podman".to_owned());
    let mut terminal = engine::terminal("env", &args);
    terminal.expect("# ");
    terminal.send("stty size; tty; exit 5\n");
    terminal.expect("24 80");
    terminal.expect("/dev/pts/0");
    assert_eq!(terminal.wait(), 5);
}

#[test]
fn further_processes_and_limits() {
    let podman = Podman::new();
    podman.start(&[
        "--name=c",
        "--memory=64m",
        "--pids-limit=50",
        "--cpus=0.5",
        "--ulimit",
        "nofile=100:200",
        "--ulimit",
        "nproc=1024:1024",
        "busybox",
        "sleep",
        "1000",
    ]);
    assert_eq!(podman.ok(&["exec", "c", "echo", "hello"]), "hello");
    podman.run(&["exec", "c", "sh", "-c", "exit 9"]).fails(9, "");
    podman.run(&["exec", "c", "/not/there"]).fails(127, "");
    assert_eq!(podman.run(&["exec", "--interactive", "c", "cat"]).stdin("typed").ok(), "typed");
    let flags = [
        "exec",
        "--user",
        "7:8",
        "--workdir",
        "/tmp",
        "--env",
        "A=b",
        "c",
        "sh",
        "-c",
        "echo $(id -u) $(pwd) $A",
    ];
    assert_eq!(podman.ok(&flags), "7 /tmp b");
    let pid = podman.inspect("c", "{{.State.Pid}}");
    assert_eq!(engine::limit(&pid, "memory", "memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(engine::limit(&pid, "pids", "pids.max", "pids.max"), "50");
    assert_eq!(engine::limit(&pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split(' ').next(), Some("50000"));
    assert_eq!(podman.ok(&["exec", "c", "sh", "-c", "ulimit -n; ulimit -Hn"]), "100\n200");
    let top = podman.ok(&["top", "c", "pid", "args"]);
    assert!(top.contains("sleep 1000"), "{top}");
    let mut args = podman.args(&["exec", "-it", "c", "sh"]);
    args.insert(0, format!("CONTAINERS_CONF={}", podman.0.at("containers.conf")));
    args.insert(1, "podman".to_owned());
    let mut terminal = engine::terminal("env", &args);
    terminal.expect("# ");
    terminal.send("stty size; exit 4\n");
    terminal.expect("24 80");
    assert_eq!(terminal.wait(), 4);
}

#[test]
fn stop_pause_restart_and_logs() {
    let podman = Podman::new();
    podman.start(&[
        "--name=polite",
        "busybox",
        "sh",
        "-c",
        "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.05; done",
    ]);
    wait_for("it to be ready", || podman.ok(&["logs", "polite"]).contains("ready").then_some(()));
    podman.ok(&["pause", "polite"]);
    assert_eq!(podman.inspect("polite", "{{.State.Status}}"), "paused");
    podman.ok(&["unpause", "polite"]);
    podman.ok(&["stop", "polite"]);
    assert_eq!(podman.inspect("polite", "{{.State.ExitCode}}"), "3");
    assert_eq!(podman.ok(&["logs", "polite"]), "ready\ntold");
    podman.start(&["--name=stubborn", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"]);
    podman.ok(&["stop", "--time=1", "stubborn"]);
    assert_eq!(podman.inspect("stubborn", "{{.State.ExitCode}}"), "137");
    podman.start(&["--name=failing", "--restart=on-failure:2", "busybox", "sh", "-c", "exit 4"]);
    wait_for("its restarts", || {
        let seen = podman.inspect("failing", "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}");
        (seen == "2 exited 4").then_some(())
    });
    podman.start(&["--name=o", "--memory=16m", "busybox", "sh", "-c", "x=a; while :; do x=$x$x; done"]);
    wait_for("its end", || (podman.inspect("o", "{{.State.Status}}") == "exited").then_some(()));
    // That it was for want of memory is what its monitor misses on version 1, whatever the runtime.
    assert_eq!(podman.inspect("o", "{{.State.ExitCode}}"), "137");
}

#[test]
fn a_real_debian() {
    let podman = Podman::new();
    let parent = format!("--cgroup-parent={}", podman.0.cgroup());
    let archive = podman.0.archive("debian", fixtures::debian_packed(fixtures::Packing::Plain));
    podman.ok(&["load", "--quiet", "--input", &archive]);
    let run = |args: &[&str]| {
        let mut all = vec!["run", "--rm", "--network=none", &parent, "debian"];
        all.extend(args);
        podman.ok(&all)
    };
    assert!(run(&["cat", "/etc/debian_version"]).starts_with("12."));
    let list = run(&["bash", "-c", "ps -e -o comm"]);
    assert!(list.ends_with("ps"), "{list}");
    run(&[
        "bash",
        "-ec",
        "useradd -m someone; su someone -c 'touch ~/x'; dpkg-reconfigure -f noninteractive tzdata",
    ]);
}
