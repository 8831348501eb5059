//! The runtime under Debian's containerd.

use std::process::Command;

use kit::{Cmd, fixtures, wait_for};
use runtimes::engine::{self, Place};
use runtimes::{Kind, Runtime};

/// A containerd with roots of its own, and busybox.
struct Containerd(Place);

impl Containerd {
    fn new() -> Self {
        let mut place = Place::new();
        let settings = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            place.at("root"),
            place.at("state"),
            place.at("containerd.sock"),
            place.at("ttrpc.sock"),
        );
        std::fs::write(place.at("config.toml"), settings).expect("write");
        let mut command = Command::new("containerd");
        command.args(["--config", &place.at("config.toml")]);
        let socket = place.at("containerd.sock");
        place.start(command, &socket);
        let containerd = Self(place);
        let archive = containerd.0.archive("busybox", fixtures::busybox());
        containerd.ok(&["images", "import", &archive]);
        containerd
    }

    fn args(&self, args: &[&str]) -> Vec<String> {
        let address = self.0.at("containerd.sock");
        ["--address".to_owned(), address].into_iter().chain(args.iter().map(|a| (*a).to_owned())).collect()
    }

    fn run(&self, args: &[&str]) -> Cmd {
        Cmd::new("ctr").args(self.args(args))
    }

    fn ok(&self, args: &[&str]) -> String {
        self.run(args).ok()
    }

    /// `ctr run` with the runtime under test; flags, name, program.
    fn container(&self, flags: &[&str], name: &str, program: &[&str]) -> Vec<String> {
        let runtime = self.0.runtime.display().to_string();
        let group = format!("{}/{name}", self.0.cgroup());
        // Its default is one directory for all containerds of the machine.
        let records = self.0.at("runc");
        let mut all = vec!["run", "--runc-binary", &runtime, "--runc-root", &records, "--cgroup", &group];
        all.extend(flags);
        all.extend(["docker.io/library/busybox:latest", name]);
        all.extend(program);
        all.into_iter().map(str::to_owned).collect()
    }

    fn start(&self, flags: &[&str], name: &str, program: &[&str]) {
        let mut all = vec!["--detach"];
        all.extend(flags);
        let args = self.container(&all, name, program);
        self.ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn once(&self, flags: &[&str], program: &[&str]) -> Cmd {
        let mut all = vec!["--rm"];
        all.extend(flags);
        let args = self.container(&all, "once", program);
        self.run(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn pid(&self, name: &str) -> String {
        let list = self.ok(&["tasks", "list"]);
        let line = list.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default().to_owned()
    }

    fn status(&self, name: &str) -> String {
        let list = self.ok(&["tasks", "list"]);
        let line = list.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.and_then(|line| line.split_whitespace().nth(2)).unwrap_or_default().to_owned()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let list = self.run(&["containers", "list", "--quiet"]).run();
        for name in list.stdout.lines() {
            let _ = self.run(&["tasks", "delete", "--force", name]).run();
            let _ = self.run(&["containers", "delete", name]).run();
        }
    }
}

#[test]
fn programs_streams_codes_and_terminals() {
    let containerd = Containerd::new();
    assert_eq!(containerd.once(&[], &["echo", "hello"]).ok(), "hello");
    let output = containerd.once(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]).run();
    assert_eq!((output.code, output.text(), output.stderr.trim()), (7, "out", "err"));
    // Not with input: ctr 1.6 does not pass on that it has ended.
    containerd.once(&[], &["/not/there"]).fails(1, "/not/there");
    containerd.once(&["--cwd", "/tmp", "--env", "A=b"], &["sh", "-c", "test $(pwd):$A = /tmp:b"]).ok();
    containerd.once(&["--read-only"], &["sh", "-c", "! touch /x"]).ok();
    // Others want rights that a container's root on a machine like this does not have.
    if Runtime::under_test()[0].kind == Kind::Corten {
        containerd.once(&["--privileged"], &["mount", "-t", "tmpfs", "none", "/tmp"]).ok();
    }
    containerd.once(&["--seccomp"], &["grep", "Seccomp:.2", "/proc/self/status"]).ok();
    let mut args = containerd.args(&[]);
    args.extend(containerd.container(&["--rm", "--tty"], "once", &["sh"]));
    let mut terminal = engine::terminal("ctr", &args);
    terminal.expect("# ");
    terminal.send("stty size; tty; exit 5\n");
    terminal.expect("24 80");
    terminal.expect("/dev/pts/0");
    assert_eq!(terminal.wait(), 5);
}

#[test]
fn further_processes_and_limits() {
    let containerd = Containerd::new();
    containerd.start(&["--memory-limit=67108864", "--cpus=0.5"], "c", &["sleep", "1000"]);
    let exec = |flags: &[&str], program: &[&str]| {
        let mut all = vec!["tasks", "exec", "--exec-id=e"];
        all.extend(flags);
        all.push("c");
        all.extend(program);
        containerd.run(&all)
    };
    assert_eq!(exec(&[], &["echo", "hello"]).ok(), "hello");
    exec(&[], &["sh", "-c", "exit 9"]).fails(9, "");
    exec(&[], &["/not/there"]).fails(1, "/not/there");
    assert_eq!(exec(&[], &["cat"]).stdin("typed").ok(), "typed");
    assert_eq!(
        exec(&["--user", "7:8", "--cwd", "/tmp"], &["sh", "-c", "echo $(id -u) $(pwd)"]).ok(),
        "7 /tmp"
    );
    let pid = containerd.pid("c");
    assert_eq!(engine::limit(&pid, "memory", "memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(engine::limit(&pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split(' ').next(), Some("50000"));
    let processes = containerd.ok(&["tasks", "ps", "c"]);
    assert!(processes.contains(&pid), "{processes}");
    let metrics = containerd.ok(&["tasks", "metrics", "c"]);
    assert!(metrics.contains("memory"), "{metrics}");
    let mut terminal =
        engine::terminal("ctr", &containerd.args(&["tasks", "exec", "--exec-id=t", "--tty", "c", "sh"]));
    terminal.expect("# ");
    terminal.send("stty size; exit 4\n");
    terminal.expect("24 80");
    assert_eq!(terminal.wait(), 4);
}

#[test]
fn stop_pause_and_running_out_of_memory() {
    let containerd = Containerd::new();
    let log = containerd.0.at("polite.log");
    containerd.start(
        &["--log-uri", &format!("file://{log}")],
        "polite",
        &["sh", "-c", "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.05; done"],
    );
    let written = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_for("it to be ready", || written().contains("ready").then_some(()));
    containerd.ok(&["tasks", "pause", "polite"]);
    assert_eq!(containerd.status("polite"), "PAUSED");
    containerd.ok(&["tasks", "resume", "polite"]);
    assert_eq!(containerd.status("polite"), "RUNNING");
    containerd.ok(&["tasks", "kill", "--signal", "SIGTERM", "polite"]);
    wait_for("its end", || (containerd.status("polite") == "STOPPED").then_some(()));
    assert_eq!(written(), "ready\ntold\n");
    containerd.run(&["tasks", "delete", "polite"]).fails(0, "exit code 3");
    // Started once more from what is left of it.
    containerd.ok(&["tasks", "start", "--detach", "polite"]);
    wait_for("it to run again", || (containerd.status("polite") == "RUNNING").then_some(()));
    containerd.ok(&["tasks", "kill", "--signal", "SIGKILL", "polite"]);
    wait_for("its end", || (containerd.status("polite") == "STOPPED").then_some(()));
    let killed =
        containerd.once(&["--memory-limit=16777216"], &["sh", "-c", "x=a; while :; do x=$x$x; done"]).run();
    assert_eq!(killed.code, 137, "{killed}");
}

#[test]
fn a_real_debian() {
    let containerd = Containerd::new();
    let archive = containerd.0.archive("debian", fixtures::debian_packed(fixtures::Packing::Plain));
    containerd.ok(&["images", "import", &archive]);
    let run = |program: &[&str]| {
        let mut args = containerd.container(&["--rm"], "once", program);
        for arg in &mut args {
            if arg.ends_with("busybox:latest") {
                *arg = "docker.io/library/debian:latest".to_owned();
            }
        }
        containerd.run(&args.iter().map(String::as_str).collect::<Vec<_>>()).ok()
    };
    assert!(run(&["cat", "/etc/debian_version"]).starts_with("12."));
    assert!(run(&["bash", "-c", "ps -e -o comm"]).ends_with("ps"));
    run(&[
        "bash",
        "-ec",
        "useradd -m someone; su someone -c 'touch ~/x'; dpkg-reconfigure -f noninteractive tzdata",
    ]);
}
