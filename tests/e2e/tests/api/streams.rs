//! Attach, resize and exec, again and again, by clients that leave as they like: what was opened for them is closed, and what was
//! remembered is forgotten (CVE-2025-64329 was containerd's attach).

use std::fs;
use std::path::Path;

use kit::{Host, wait_for};
use serde_json::json;

use crate::wire::{Wire, create, post, remove, request, start};

/// How often; `CORTEN_STREAMS` for longer runs.
const TIMES: usize = 600;
/// After so many, the engine has all that it keeps for work.
const WARM: usize = 60;
/// What an allocator keeps varies by less, however often it was: the daemon was seen to settle at 1.6 MB more after 12,000.
const KILOBYTES: u64 = 4096;

const UPGRADE: &str = "Host: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n";

fn descriptors(pid: u32) -> usize {
    fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).map_or(0, Iterator::count)
}

fn kilobytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process");
    let line = text.lines().find(|line| line.starts_with("RssAnon:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// One of everything. Who leaves does so in the middle, or after the end, with input open or closed.
fn once(host: &Host, id: &str, turn: usize) {
    let mut wire = Wire::open(host);
    let stdin = turn % 2;
    let query = format!("stream=1&logs=1&stdin={stdin}&stdout=1&stderr=1");
    wire.send(format!("POST /containers/{id}/attach?{query} HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes());
    if !turn.is_multiple_of(3) {
        assert_eq!(wire.head().status, 101);
    }
    if turn.is_multiple_of(4) {
        wire.close_input();
    }
    drop(wire);

    let (height, width) = (10 + turn % 50, 20 + turn % 100);
    let resized = request(host, "POST", &format!("/containers/{id}/resize?h={height}&w={width}"), &[], b"");
    assert_eq!(resized.status, 200);

    let tty = turn.is_multiple_of(2);
    // Some have ended when their client leaves, and some are left alone with their output.
    let command = if turn.is_multiple_of(5) { "head -c 300000 /dev/zero" } else { "true" };
    let asked = json!({
        "Cmd": ["sh", "-c", command], "Tty": tty, "AttachStdin": stdin == 1, "AttachStdout": true, "AttachStderr": true,
    });
    let exec = post(host, &format!("/containers/{id}/exec"), &asked).json();
    let exec = exec["Id"].as_str().expect("an id").to_owned();
    let body = json!({"Tty": tty}).to_string();
    let mut wire = Wire::open(host);
    let (length, json) = (body.len(), "Content-Type: application/json\r\n");
    wire.send(
        format!("POST /exec/{exec}/start HTTP/1.1\r\n{UPGRADE}{json}Content-Length: {length}\r\n\r\n{body}")
            .as_bytes(),
    );
    assert_eq!(wire.head().status, 101);
    if turn.is_multiple_of(2) {
        wire.close_input();
        wire.rest();
    }
    drop(wire);
    if turn.is_multiple_of(7) {
        request(host, "POST", &format!("/exec/{exec}/resize?h=10&w=20"), &[], b"");
    }
}

#[test]
fn stream_leak() {
    let times = std::env::var("CORTEN_STREAMS").ok().and_then(|times| times.parse().ok()).unwrap_or(TIMES);
    let host = Host::with_busybox();
    let id = create(&host, &json!({"Cmd": ["cat"], "Tty": true, "OpenStdin": true}));
    start(&host, &id);
    let supervisors = host.supervisors();
    let [supervisor] = supervisors[..] else { panic!("{supervisors:?}") };
    for turn in 0..WARM {
        once(&host, &id, turn);
    }
    let pids = [host.daemon_pid(), supervisor];
    let quiet =
        || kit::Cmd::new("pgrep").args(["-P", &supervisor.to_string()]).run().stdout.lines().count() == 1;
    wait_for("what was started to end", || quiet().then_some(()));
    let before = pids.map(|pid| (descriptors(pid), kilobytes(pid)));
    for turn in 0..times {
        once(&host, &id, turn);
    }
    wait_for("what was started to end", || quiet().then_some(()));
    for (pid, (open, memory)) in pids.into_iter().zip(before) {
        wait_for("the descriptors to be as many as before", || (descriptors(pid) <= open).then_some(()));
        let more = kilobytes(pid).saturating_sub(memory);
        assert!(more < KILOBYTES, "{more} kB more after {times}, {memory} before");
    }
    remove(&host, &id);
}
