//! The runtime under Debian's Docker.

use std::process::Command;

use kit::{Cmd, fixtures, wait_for};
use runtimes::engine::{self, Place};
use runtimes::{Kind, Runtime};

/// A dockerd whose default runtime is the one under test, with busybox.
struct Docker(Place);

impl Docker {
    fn new() -> Self {
        let mut place = Place::new();
        let settings = place.at("daemon.json");
        std::fs::write(&settings, "{}").expect("write");
        let mut command = Command::new("/usr/sbin/dockerd");
        command.args([
            "--iptables=false",
            "--bridge=none",
            "--default-runtime=corten",
            "--config-file",
            &settings,
        ]);
        command.arg(format!("--add-runtime=corten={}", place.runtime.display()));
        command.arg(format!("--cgroup-parent={}", place.cgroup()));
        for (flag, name) in [("data-root", "data"), ("exec-root", "exec"), ("pidfile", "pid")] {
            command.arg(format!("--{flag}={}", place.at(name)));
        }
        let socket = place.at("docker.sock");
        command.arg(format!("--host=unix://{socket}"));
        place.start(command, &socket);
        let docker = Self(place);
        let archive = docker.0.archive("busybox", fixtures::busybox());
        docker.run(&["load", "--quiet", "--input", &archive]).ok();
        docker
    }

    fn args(&self, args: &[&str]) -> Vec<String> {
        let host = format!("unix://{}", self.0.at("docker.sock"));
        ["--host".to_owned(), host].into_iter().chain(args.iter().map(|a| (*a).to_owned())).collect()
    }

    fn run(&self, args: &[&str]) -> Cmd {
        Cmd::new("/usr/bin/docker")
            .args(self.args(args))
            .env("DOCKER_CONFIG", self.0.path())
            .env_remove("DOCKER_CONTEXT")
    }

    fn ok(&self, args: &[&str]) -> String {
        self.run(args).ok()
    }

    fn inspect(&self, name: &str, what: &str) -> String {
        self.ok(&["inspect", "--format", what, name])
    }

    fn wait_for_state(&self, name: &str, state: &str) {
        wait_for(state, || (self.inspect(name, "{{.State.Status}}") == state).then_some(()));
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let ids = self.run(&["ps", "--all", "--quiet"]).run();
        for id in ids.stdout.lines() {
            let _ = self.run(&["rm", "--force", "--volumes", id]).run();
        }
    }
}

#[test]
fn programs_streams_codes_and_terminals() {
    let docker = Docker::new();
    let run = |args: &[&str]| {
        let mut all = vec!["run", "--rm", "--network=none"];
        all.extend(args);
        docker.run(&all)
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
    run(&["--read-only", "--tmpfs", "/run", "busybox", "sh", "-c", "touch /run/x && ! touch /x"]).ok();
    // Others want rights that a container's root on a machine like this does not have.
    if Runtime::under_test()[0].kind == Kind::Corten {
        run(&["--privileged", "busybox", "mount", "-t", "tmpfs", "none", "/tmp"]).ok();
    }
    run(&["--security-opt", "no-new-privileges", "busybox", "grep", "NoNewPrivs:.1", "/proc/self/status"])
        .ok();
    run(&["--cap-drop", "ALL", "busybox", "grep", "CapEff:.0000000000000000", "/proc/self/status"]).ok();
    run(&["--init", "busybox", "true"]).ok();
    let args = docker.args(&["run", "--rm", "--network=none", "-it", "busybox", "sh"]);
    let mut terminal = engine::terminal("/usr/bin/docker", &args);
    terminal.expect("# ");
    terminal.send("stty size; tty; exit 5\n");
    terminal.expect("24 80");
    terminal.expect("/dev/pts/0");
    assert_eq!(terminal.wait(), 5);
}

#[test]
fn further_processes() {
    let docker = Docker::new();
    docker.ok(&["run", "--detach", "--network=none", "--name=main", "busybox", "sleep", "1000"]);
    assert_eq!(docker.ok(&["exec", "main", "echo", "hello"]), "hello");
    docker.run(&["exec", "main", "sh", "-c", "exit 9"]).fails(9, "");
    // runc's words make it 126.
    assert!(matches!(docker.run(&["exec", "main", "/not/there"]).run().code, 126 | 127));
    assert_eq!(docker.run(&["exec", "--interactive", "main", "cat"]).stdin("typed").ok(), "typed");
    assert_eq!(
        docker.ok(&[
            "exec",
            "--user",
            "7:8",
            "--workdir",
            "/tmp",
            "--env",
            "A=b",
            "main",
            "sh",
            "-c",
            "echo $(id -u) $(pwd) $A"
        ]),
        "7 /tmp b"
    );
    docker.ok(&["exec", "--detach", "main", "sleep", "2000"]);
    wait_for("it in the list", || docker.ok(&["top", "main"]).contains("sleep 2000").then_some(()));
    let mut terminal = engine::terminal("/usr/bin/docker", &docker.args(&["exec", "-it", "main", "sh"]));
    terminal.expect("# ");
    terminal.send("stty size; exit 4\n");
    terminal.expect("24 80");
    assert_eq!(terminal.wait(), 4);
}

#[test]
fn limits_and_their_changes() {
    let docker = Docker::new();
    let limits = [
        "--memory=64m",
        "--pids-limit=50",
        "--cpus=0.5",
        "--cpu-shares=512",
        "--cpuset-cpus=0",
        "--ulimit",
        "nofile=100:200",
    ];
    let mut args = vec!["run", "--detach", "--network=none", "--name=main"];
    args.extend(limits);
    args.extend(["busybox", "sleep", "1000"]);
    docker.ok(&args);
    let pid = docker.inspect("main", "{{.State.Pid}}");
    let memory = || engine::limit(&pid, "memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory(), "67108864");
    assert_eq!(engine::limit(&pid, "pids", "pids.max", "pids.max"), "50");
    assert_eq!(engine::limit(&pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split(' ').next(), Some("50000"));
    assert_eq!(engine::limit(&pid, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(docker.ok(&["exec", "main", "sh", "-c", "ulimit -n; ulimit -Hn"]), "100\n200");
    docker.ok(&["update", "--memory=128m", "--memory-swap=128m", "--pids-limit=60", "--cpus=0.25", "main"]);
    assert_eq!(memory(), "134217728");
    assert_eq!(engine::limit(&pid, "pids", "pids.max", "pids.max"), "60");
    assert_eq!(engine::limit(&pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split(' ').next(), Some("25000"));
    let stats = docker.ok(&["stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "main"]);
    assert!(stats.contains("/ 128MiB") && stats.ends_with(" 1"), "{stats}");
    // Running out of memory is noticed.
    let killed = docker
        .run(&[
            "run",
            "--name=hungry",
            "--network=none",
            "--memory=16m",
            "busybox",
            "sh",
            "-c",
            "x=a; while :; do x=$x$x; done",
        ])
        .run();
    assert_eq!(killed.code, 137, "{killed}");
    assert_eq!(docker.inspect("hungry", "{{.State.OOMKilled}}"), "true");
}

#[test]
fn stop_pause_restart_and_logs() {
    let docker = Docker::new();
    let start = |name: &str, more: &[&str], script: &str| {
        let name = format!("--name={name}");
        let mut args = vec!["run", "--detach", "--network=none", &name];
        args.extend(more);
        args.extend(["busybox", "sh", "-c", script]);
        docker.ok(&args);
    };
    start("polite", &[], "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.05; done");
    wait_for("it to be ready", || docker.ok(&["logs", "polite"]).contains("ready").then_some(()));
    docker.ok(&["pause", "polite"]);
    assert_eq!(docker.inspect("polite", "{{.State.Status}}"), "paused");
    docker.ok(&["unpause", "polite"]);
    docker.ok(&["stop", "polite"]);
    assert_eq!(docker.inspect("polite", "{{.State.ExitCode}}"), "3");
    assert_eq!(docker.ok(&["logs", "polite"]), "ready\ntold");
    docker.ok(&["start", "polite"]);
    docker.wait_for_state("polite", "running");
    docker.ok(&["kill", "polite"]);
    docker.wait_for_state("polite", "exited");
    assert_eq!(docker.inspect("polite", "{{.State.ExitCode}}"), "137");
    start("stubborn", &[], "trap '' TERM; while :; do sleep 0.05; done");
    docker.ok(&["stop", "--time=1", "stubborn"]);
    assert_eq!(docker.inspect("stubborn", "{{.State.ExitCode}}"), "137");
    start("failing", &["--restart=on-failure:2"], "exit 4");
    wait_for("its restarts", || {
        let seen = docker.inspect("failing", "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}");
        (seen == "2 exited 4").then_some(())
    });
    start(
        "sick",
        &["--health-cmd=test -e /well", "--health-interval=300ms", "--health-retries=1"],
        "sleep 1000",
    );
    wait_for("its sickness", || {
        (docker.inspect("sick", "{{.State.Health.Status}}") == "unhealthy").then_some(())
    });
    docker.ok(&["exec", "sick", "touch", "/well"]);
    wait_for("its health", || {
        (docker.inspect("sick", "{{.State.Health.Status}}") == "healthy").then_some(())
    });
    docker.ok(&["restart", "--time=0", "sick"]);
    docker.wait_for_state("sick", "running");
}

#[test]
fn a_real_debian() {
    let docker = Docker::new();
    let archive = docker.0.archive("debian", fixtures::debian_packed(fixtures::Packing::Plain));
    docker.ok(&["load", "--quiet", "--input", &archive]);
    let version = docker.ok(&["run", "--rm", "--network=none", "debian", "cat", "/etc/debian_version"]);
    assert!(version.starts_with("12."), "{version}");
    let list = docker.ok(&[
        "run",
        "--rm",
        "--network=none",
        "debian",
        "bash",
        "-c",
        "dpkg --list | grep -c ^ii; ps -e -o comm",
    ]);
    assert!(list.ends_with("ps"), "{list}");
    // Package scripts change owners, make links and nodes.
    docker.ok(&[
        "run",
        "--rm",
        "--network=none",
        "debian",
        "bash",
        "-ec",
        "useradd -m someone; su someone -c 'touch ~/x'; dpkg-reconfigure -f noninteractive tzdata",
    ]);
}
