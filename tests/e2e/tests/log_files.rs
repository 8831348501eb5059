//! The files of a log that are compressed when they are full.

use std::fs;
use std::path::PathBuf;

use kit::{CLIS, Host, wait_for};
use rustix::process::{Pid, Signal, kill_process};

/// The names of a log's files, and how long they are together.
fn files(host: &Host, id: &str) -> (Vec<String>, u64) {
    let dir = dir(host, id);
    let mut names: Vec<(String, u64)> = fs::read_dir(dir)
        .expect("list")
        .flatten()
        // One that is renamed meanwhile is there under its next name.
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.metadata().ok()?.len())))
        .collect();
    names.sort();
    let bytes = names.iter().map(|(_, bytes)| bytes).sum();
    (names.into_iter().map(|(name, _)| name).collect(), bytes)
}

fn dir(host: &Host, id: &str) -> PathBuf {
    host.data_root().join("containers").join(id).join("log")
}

fn start(host: &Host, cli: kit::Cli, driver: &str, options: &[&str], script: &str) -> String {
    let mut args = vec!["run", "-d", "--network", "none", "--log-driver", driver];
    for option in options {
        args.extend(["--log-opt", option]);
    }
    args.extend(["busybox", "sh", "-c", script]);
    host.cli(cli, args).ok()
}

/// The numbers of lines, which follow each other.
fn numbers(log: &str) -> Vec<u32> {
    let numbers: Vec<u32> = log.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    assert!(
        numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "a line is missing, or doubled: {numbers:?}"
    );
    numbers
}

#[test]
fn older_files_are_compressed_and_read() {
    let host = Host::with_busybox();
    let compressed = ["json.log", "json.log.1.gz", "json.log.2.gz", "json.log.3.gz"];
    let plain = ["json.log", "json.log.1", "json.log.2", "json.log.3"];
    for cli in CLIS {
        for (driver, more, expected) in [
            ("json-file", &["compress=true"][..], compressed),
            ("json-file", &["compress=false"], plain),
            ("json-file", &["compress=true", "mode=non-blocking"], compressed),
            ("local", &[], compressed),
            ("local", &["compress=false"], plain),
        ] {
            let options = [&["max-size=100k", "max-file=4"], more].concat();
            // A container that does not wait for its log has to give it time.
            let script = "n=0; while [ $n -lt 9000 ]; do n=$((n+1)); echo line $n; [ $((n % 500)) != 0 ] || sleep 0.01; done";
            let id = start(&host, cli, driver, &options, script);
            assert_eq!(host.cli(cli, ["wait", &id]).ok(), "0");
            let (names, bytes) = files(&host, &id);
            assert_eq!(names, expected, "{driver} {more:?}");
            let bound = if expected == compressed { 200_000 } else { 410_000 };
            assert!(bytes < bound, "{bytes} bytes");
            let all = numbers(&host.cli(cli, ["logs", &id]).ok());
            assert!(all.len() > 3000 && all.last() == Some(&9000), "{} lines", all.len());
            for tail in [1, 1000, 3000] {
                let log = host.cli(cli, ["logs", "--tail", &tail.to_string(), &id]).ok();
                assert_eq!(numbers(&log), all[all.len() - tail..]);
            }
            if expected == compressed {
                // As Docker's: what anybody reads.
                let packed = dir(&host, &id).join("json.log.2.gz");
                let text = host.program("gzip", ["-dc".as_ref(), packed.as_os_str()]).ok();
                assert!(
                    text.starts_with("{\"log\":\"line ") && text.contains("\"stream\":\"stdout\""),
                    "{text}"
                );
            }
            host.cli(cli, ["rm", &id]).ok();
        }
        let args = ["create", "--log-opt", "compress=true", "--log-opt", "max-file=1", "busybox"];
        host.cli(cli, args)
            .fails(1, "compress cannot be true when max-file is less than 2 or max-size is not set");
    }
}

#[test]
fn who_follows_reads_every_line_once_while_files_are_compressed() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let options = ["max-size=10k", "max-file=50", "compress=true"];
        let script = "while [ ! -e /go ]; do sleep 0.01; done; n=0; \
            while [ $n -lt 3000 ]; do n=$((n+1)); echo line $n; [ $((n % 20)) != 0 ] || sleep 0.005; done";
        let id = start(&host, cli, "json-file", &options, script);
        let follower = host.cli(cli, ["logs", "-f", &id]).spawn();
        host.cli(cli, ["exec", &id, "touch", "/go"]).ok();
        let output = follower.wait();
        assert_eq!(numbers(&output.stdout).len(), 3000);
        host.cli(cli, ["rm", &id]).ok();
    }
}

#[test]
fn what_killed_ones_left_is_cleaned_and_no_line_is_lost() {
    let host = Host::with_busybox();
    let options = ["max-size=20k", "max-file=1000", "compress=true"];
    let script = "n=$(cat /n 2>/dev/null | wc -l); while :; do n=$((n+1)); echo >> /n; echo line $n; [ $((n % 100)) != 0 ] || sleep 0.01; done";
    let id = start(&host, kit::Cli::Corten, "json-file", &options, script);
    for round in 0..8u64 {
        let before = files(&host, &id).0.len();
        wait_for("the log to be rotated", || (files(&host, &id).0.len() > before).then_some(()));
        // At another moment in each round: what is to be interrupted cannot be seen.
        std::thread::sleep(std::time::Duration::from_millis(round));
        for pid in host.supervisors() {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
            // One that has ended meanwhile needs no killing.
            let _ = kill_process(pid, Signal::KILL);
        }
        host.corten(["wait", &id]).ok();
        let read = host.corten(["logs", &id]).ok();
        let mut last = 0;
        for line in read.lines().filter_map(|line| line.strip_prefix("line ")?.parse::<u32>().ok()) {
            // What the pipe held when its reader was killed is nobody's: a gap, but nothing twice.
            assert!(line > last, "{line} after {last}");
            last = line;
        }
        host.corten(["start", &id]).ok();
    }
    // Every step at which one can be killed, made by hand.
    host.corten(["kill", &id]).ok();
    host.corten(["wait", &id]).ok();
    let before = host.corten(["logs", &id]).ok();
    let first = dir(&host, &id).join("json.log.1");
    let packed = dir(&host, &id).join("json.log.1.gz");
    let text = host.program("gzip", ["-dc".as_ref(), packed.as_os_str()]).ok();
    fs::write(&first, text + "\n").expect("write");
    fs::write(dir(&host, &id).join("json.log.1.gz.part"), "half").expect("write");
    assert_eq!(host.corten(["logs", &id]).ok(), before);
    fs::rename(dir(&host, &id).join("json.log.3.gz"), dir(&host, &id).join("json.log.4.gz.away"))
        .expect("rename");
    let fewer = host.corten(["logs", &id]).ok().lines().count();
    assert!(
        fewer < before.lines().count() && fewer > before.lines().count() / 2,
        "a free number hides what is behind it"
    );
    fs::rename(dir(&host, &id).join("json.log.4.gz.away"), dir(&host, &id).join("json.log.3.gz"))
        .expect("rename");
    host.corten(["start", &id]).ok();
    wait_for("what was left to be cleaned", || {
        let names = files(&host, &id).0;
        let gone =
            ["json.log.1", "json.log.1.gz.part"].iter().all(|name| !names.contains(&(*name).to_owned()));
        (gone && names.contains(&"json.log.1.gz".to_owned())).then_some(())
    });
    host.corten(["kill", &id]).ok();
    host.corten(["wait", &id]).ok();
    assert!(host.corten(["logs", &id]).ok().starts_with(&before));
    host.corten(["rm", &id]).ok();
}
