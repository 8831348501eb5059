//! `stats`: what containers use, as the kernel counts it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kit::{CLIS, Cli, Cmd, Host, wait_for};
use serde_json::Value;

fn get(host: &Host, target: &str) -> Value {
    let mut stream = UnixStream::connect(host.socket()).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
    // In HTTP 1.0 no answer comes in chunks.
    stream.write_all(format!("GET {target} HTTP/1.0\r\nHost: engine\r\n\r\n").as_bytes()).expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    let line = body.lines().next().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// The number in a file of the container's cgroup, of either version.
fn counted(host: &Host, id: &str, controller: &str, names: [&str; 2]) -> u64 {
    let group = format!("{}/{id}", host.cgroup_parent());
    let paths = [
        format!("/sys/fs/cgroup/{controller}{group}/{}", names[0]),
        format!("/sys/fs/cgroup{group}/{}", names[1]),
    ];
    let text =
        paths.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_else(|| panic!("{paths:?}"));
    text.trim().parse().expect("a number")
}

#[test]
fn numbers_are_the_kernels() {
    let host = Host::with_busybox();
    let id = host
        .corten([
            "run",
            "-d",
            "--network",
            "none",
            "--memory",
            "64m",
            "--pids-limit",
            "50",
            "busybox",
            "sh",
            "-c",
            "head -c 8000000 /dev/zero > /dev/shm/some; sleep 1000 & sleep 1000 & wait",
        ])
        .ok();
    wait_for("two sleepers", || {
        let processes = host.corten(["top", &id]).ok();
        (processes.lines().filter(|line| line.ends_with("  sleep 1000")).count() == 2).then_some(())
    });
    let sample = get(&host, &format!("/v1.47/containers/{id}/stats?stream=false&one-shot=true"));
    assert_eq!(sample["id"], Value::from(id.clone()));
    assert_eq!(
        (&sample["pids_stats"]["current"], &sample["pids_stats"]["limit"]),
        (&Value::from(3), &Value::from(50))
    );
    assert_eq!(sample["memory_stats"]["limit"], 64 << 20);
    let used = counted(&host, &id, "memory", ["memory.usage_in_bytes", "memory.current"]);
    let told = sample["memory_stats"]["usage"].as_u64().expect("a number");
    assert!(told >= 8_000_000 && told.abs_diff(used) < 1 << 20, "{told} {used}");
    assert!(sample["memory_stats"]["stats"].as_object().is_some_and(|stats| stats.len() > 10));
    assert_eq!(sample["preread"], "0001-01-01T00:00:00Z");
    assert_eq!(sample["precpu_stats"]["cpu_usage"]["total_usage"], 0);
    assert_eq!(sample["cpu_stats"]["online_cpus"], std::thread::available_parallelism().expect("cpus").get());
    assert!(sample.get("os_type").is_none() && sample.get("networks").is_none());
    // Two samples: what was used in between.
    let sample = get(&host, &format!("/containers/{id}/stats?stream=0"));
    assert_eq!(sample["os_type"], "linux");
    let cpu = |which: &str| sample[which]["system_cpu_usage"].as_u64().expect("a number");
    assert!(cpu("cpu_stats") > cpu("precpu_stats"));
    assert_ne!(sample["preread"], "0001-01-01T00:00:00Z");
    assert!(sample["precpu_stats"]["cpu_usage"]["total_usage"].as_u64() > Some(0));
    let refused = get(&host, &format!("/containers/{id}/stats?stream=1&one-shot=1"));
    assert_eq!(refused["message"], "cannot have stream=true and one-shot=true");
}

#[test]
fn devices_of_networks_are_counted() {
    let host = Host::apart();
    host.corten(["network", "create", "net"]).ok();
    let id = host.corten(["run", "-d", "--network", "net", "busybox", "sleep", "1000"]).ok();
    let gateway = host.corten(["inspect", "--format", "{{.NetworkSettings.Networks.net.Gateway}}", &id]).ok();
    host.corten(["exec", &id, "ping", "-c", "3", "-i", "0.2", &gateway]).ok();
    let sample = get(&host, &format!("/containers/{id}/stats?stream=0&one-shot=1"));
    let inside = |name: &str| -> u64 {
        host.corten(["exec", &id, "cat", &format!("/sys/class/net/eth0/statistics/{name}")])
            .ok()
            .parse()
            .expect("a number")
    };
    for name in ["rx_bytes", "tx_bytes", "rx_packets", "tx_packets"] {
        let told = sample["networks"]["eth0"][name].as_u64().expect("a number");
        // Neighbours are looked for at any time.
        assert!(told > 0 && inside(name).abs_diff(told) < 2000, "{name}");
    }
    assert!(sample["networks"].get("lo").is_none());
}

#[test]
fn both_command_lines_show_a_table() {
    let host = Host::with_busybox();
    host.corten([
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "busy",
        "busybox",
        "sh",
        "-c",
        "while :; do :; done",
    ])
    .ok();
    host.corten(["create", "--name", "idle", "busybox"]).ok();
    for cli in CLIS {
        let table = host.cli(cli, ["stats", "--no-stream"]).ok();
        let lines: Vec<&str> = table.lines().collect();
        let title: Vec<&str> = lines[0].split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
        let titles =
            ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"];
        assert_eq!((title, lines.len()), (titles.to_vec(), 2), "{table}");
        assert!(lines[1].contains("busy") && lines[1].contains(" / "), "{table}");
        let percent = host.cli(cli, ["stats", "--no-stream", "--format", "{{.CPUPerc}}", "busy"]).ok();
        let percent: f64 = percent.trim_end_matches('%').parse().expect("a number");
        assert!(percent > 10.0, "{percent}");
        assert_eq!(host.cli(cli, ["stats", "-a", "--no-stream"]).ok().lines().count(), 3);
        let id = host.cli(cli, ["stats", "--no-stream", "--no-trunc", "--format", "{{.ID}}", "busy"]).ok();
        assert_eq!(id.len(), 64);
        host.cli(cli, ["stats", "--no-stream", "nobody"]).fails(1, "No such container: nobody");
    }
    let [ours, dockers] = CLIS.map(|cli| {
        host.cli(
            cli,
            ["stats", "--no-stream", "--format", "{{.Container}} {{.Name}} {{.PIDs}} {{.NetIO}}", "busy"],
        )
        .ok()
    });
    assert_eq!(ours, dockers);
}

#[test]
fn a_stream_goes_on_and_ends_with_its_container() {
    let host = Host::with_busybox();
    let id = host.corten(["run", "-d", "--network", "none", "busybox", "sleep", "1000"]).ok();
    let socket = host.socket().display().to_string();
    let url = format!("http://d/containers/{id}/stats");
    let file = host.root().join("samples");
    let stream =
        Cmd::new("curl").args(["-sSN", "-o", &file.display().to_string(), "--unix-socket", &socket, &url]);
    let stream = stream.spawn();
    let samples = || -> Vec<Value> {
        let text = fs::read_to_string(&file).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let two = wait_for("two samples", || Some(samples()).filter(|samples| samples.len() >= 2));
    assert_eq!(two[1]["preread"], two[0]["read"]);
    host.corten(["stop", "-t", "0", &id]).ok();
    // What does not run is told of by its name alone.
    let last = wait_for("a sample of nothing", || {
        samples().pop().filter(|sample| sample["memory_stats"] == serde_json::json!({}))
    });
    assert_eq!(last["id"].as_str(), Some(id.as_str()));
    host.cli(Cli::Corten, ["rm", &id]).ok();
    stream.wait().expect_code(0);
}
