//! Restart policies: how often and how soon; and in which order containers are started with the daemon.

use std::time::Duration;

use kit::{CLIS, Host, wait_for};
use rustix::process::{Pid, Signal, kill_process};

fn run(host: &Host, name: &str, flags: &[&str], script: &str) {
    let mut args = vec!["run", "-d", "--network", "none", "--name", name];
    args.extend(flags);
    args.extend(["busybox", "sh", "-c", script]);
    host.corten(args).ok();
}

fn inspect(host: &Host, name: &str, format: &str) -> String {
    host.corten(["inspect", "--format", format, name]).ok()
}

/// Seconds since 1970 at which a container's events of this kind were.
fn times(host: &Host, name: &str, event: &str) -> Vec<f64> {
    let now = host.corten(["info", "--format", "{{.SystemTime}}"]).ok();
    let (name, event) = (format!("container={name}"), format!("event={event}"));
    let args = [
        "events",
        "--since",
        "0",
        "--until",
        &now,
        "--filter",
        &name,
        "--filter",
        &event,
        "--format",
        "{{.TimeNano}}",
    ];
    let lines = host.corten(args).ok();
    lines.lines().map(|line| line.parse::<f64>().expect("a number") / 1e9).collect()
}

#[test]
fn delays_double_and_a_number_of_tries_is_kept() {
    let host = Host::with_busybox();
    run(&host, "fails", &["--restart", "on-failure:4"], "exit 3");
    wait_for("the last try", || {
        let state = inspect(&host, "fails", "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}");
        (state == "4 exited 3").then_some(())
    });
    let (started, ended) = (times(&host, "fails", "start"), times(&host, "fails", "die"));
    assert_eq!((started.len(), ended.len()), (5, 5));
    for (round, delay) in [0.1, 0.2, 0.4, 0.8].into_iter().enumerate() {
        let waited = started[round + 1] - ended[round];
        // What a busy machine adds is not the engine's.
        assert!(waited >= delay * 0.95 && waited < delay + 5.0, "round {round}: {waited}");
    }
    // A person's start begins anew.
    host.corten(["start", "fails"]).ok();
    wait_for("tries again", || (inspect(&host, "fails", "{{.RestartCount}}") == "4").then_some(()));
}

#[test]
fn policies_follow_the_end_and_the_person() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let name = |what: &str| format!("{what}-{cli:?}").to_lowercase();
        run(&host, &name("well"), &["--restart", "on-failure"], "exit 0");
        run(
            &host,
            &name("always"),
            &["--restart", "always"],
            "[ -e /again ] && exec sleep 1000; touch /again",
        );
        run(&host, &name("never"), &[], "exit 1");
        wait_for("the second run", || {
            let state = inspect(&host, &name("always"), "{{.RestartCount}} {{.State.Status}}");
            (state == "1 running").then_some(())
        });
        host.cli(cli, ["wait", &name("well"), &name("never")]).ok();
        assert_eq!(inspect(&host, &name("well"), "{{.RestartCount}}"), "0");
        assert_eq!(inspect(&host, &name("never"), "{{.RestartCount}}"), "0");
        host.cli(cli, ["stop", "-t", "0", &name("always")]).ok();
        assert_eq!(inspect(&host, &name("always"), "{{.State.Status}}"), "exited");
        host.cli(cli, ["update", "--restart", "no", &name("always")]).ok();
        assert_eq!(inspect(&host, &name("always"), "{{.HostConfig.RestartPolicy.Name}}"), "no");
    }
}

#[test]
fn with_the_daemon_containers_start_after_those_that_they_need() {
    let mut host = Host::with_busybox();
    let labels = |service: &str, needs: &str| {
        [
            "--label=com.docker.compose.project=shop".to_owned(),
            format!("--label=com.docker.compose.service={service}"),
            format!("--label=com.docker.compose.depends_on={needs}"),
            "--restart=always".to_owned(),
            "--health-interval=100ms".to_owned(),
        ]
    };
    let with = |name: &str, needs: &str, more: &[&str], script: &str| {
        let own = labels(name, needs);
        let flags: Vec<&str> = own.iter().map(String::as_str).chain(more.iter().copied()).collect();
        run(&host, name, &flags, script);
    };
    // Made in the wrong order: what is needed comes last.
    with("web", "cache:service_started:false,db:service_healthy:false", &[], "exec sleep 1000");
    with("cache", "db:service_started:false", &[], "exec sleep 1000");
    with(
        "db",
        "",
        &["--health-cmd", "test -e /ready"],
        "rm -f /ready; sleep 1; touch /ready; exec sleep 1000",
    );
    let pids: Vec<i32> = ["web", "cache", "db"]
        .map(|name| inspect(&host, name, "{{.State.Pid}}").parse().expect("a number"))
        .to_vec();
    host.kill_daemon();
    for pid in pids {
        kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("kill");
    }
    host.start_daemon();
    wait_for("all three", || {
        let running = host.corten(["ps", "-q", "--filter", "status=running"]).ok();
        (running.lines().count() == 3).then_some(())
    });
    let last =
        |name: &str, event: &str| times(&host, name, event).pop().unwrap_or_else(|| panic!("{name} {event}"));
    let healthy = last("db", "health_status");
    assert!(last("db", "start") < last("cache", "start"));
    assert!(healthy < last("web", "start"), "not before it was healthy");
    // Who does not need it has not waited for its health.
    assert!(last("cache", "start") < healthy);
    assert!(healthy - last("db", "start") > Duration::from_millis(900).as_secs_f64());
}

#[test]
fn who_lends_its_network_is_started_first() {
    let mut host = Host::apart();
    host.corten(["run", "-d", "--restart=always", "--name", "lender", "busybox", "sleep", "1000"]).ok();
    let args = [
        "run",
        "-d",
        "--restart=always",
        "--name",
        "borrower",
        "--network=container:lender",
        "busybox",
        "sleep",
        "1000",
    ];
    host.corten(args).ok();
    let pids =
        ["borrower", "lender"].map(|name| inspect(&host, name, "{{.State.Pid}}").parse().expect("a number"));
    host.kill_daemon();
    for pid in pids {
        kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("kill");
    }
    host.start_daemon();
    wait_for("both", || {
        let running = host.corten(["ps", "-q", "--filter", "status=running"]).ok();
        (running.lines().count() == 2).then_some(())
    });
    let namespace = |name: &str| {
        let pid = inspect(&host, name, "{{.State.Pid}}");
        std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("its namespace")
    };
    assert_eq!(namespace("borrower"), namespace("lender"));
}
