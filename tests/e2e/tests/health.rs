//! Health checks: by commands, by pages and ports tried from the engine's side; what lists, inspection and events say; restarts.

use kit::{CLIS, Cli, Host, wait_for};
use serde_json::Value;

/// Starts a container with these flags.
fn start(host: &Host, cli: Cli, name: &str, flags: &[&str], command: &[&str]) {
    let mut args = vec!["run", "-d", "--network", "none", "--name", name, "--stop-timeout", "0"];
    args.extend(flags);
    args.push("busybox");
    args.extend(command);
    host.cli(cli, args).ok();
}

fn health(host: &Host, name: &str) -> Value {
    let shown = host.corten(["inspect", "--format", "{{json .State.Health}}", name]).ok();
    serde_json::from_str(&shown).expect("JSON")
}

fn wait_status(host: &Host, name: &str, status: &str) -> Value {
    wait_for(status, || Some(health(host, name)).filter(|health| health["Status"] == status))
}

fn status_line(host: &Host, cli: Cli, filter: &str) -> String {
    host.cli(cli, ["ps", "-a", "--filter", filter, "--format", "{{.Names}} {{.Status}}"]).ok()
}

/// What the events say of a container's health, oldest first.
fn told(host: &Host, name: &str) -> Vec<String> {
    let now = host.corten(["info", "--format", "{{.SystemTime}}"]).ok();
    let filter = format!("container={name}");
    let args = [
        "events",
        "--since",
        "0",
        "--until",
        &now,
        "--filter",
        &filter,
        "--filter",
        "event=health_status",
        "--format",
        "{{.Action}}",
    ];
    host.corten(args).ok().lines().map(str::to_owned).collect()
}

#[test]
fn commands_tell_and_everybody_knows() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let name = format!("life-{cli:?}").to_lowercase();
        let probe = "[ -e /ok ] && echo fine || { echo sick >&2; exit 3; }";
        let flags = ["--health-cmd", probe, "--health-interval", "100ms", "--health-retries", "2"];
        start(&host, cli, &name, &flags, &["sleep", "1000"]);
        let sick = wait_status(&host, &name, "unhealthy");
        let log = sick["Log"].as_array().expect("a log");
        assert!(sick["FailingStreak"].as_u64() >= Some(2));
        assert_eq!((&log[0]["ExitCode"], log[0]["Output"].as_str()), (&Value::from(3), Some("sick\n")));
        let line = status_line(&host, cli, "health=unhealthy");
        assert!(line.starts_with(&format!("{name} Up ")) && line.ends_with(" (unhealthy)"), "{line}");
        host.corten(["exec", &name, "touch", "/ok"]).ok();
        let well = wait_status(&host, &name, "healthy");
        assert_eq!(well["FailingStreak"], 0);
        wait_for("five results and no more", || {
            let log = health(&host, &name)["Log"].as_array().cloned().unwrap_or_default();
            assert!(log.len() <= 5);
            log.iter().all(|probe| probe["Output"] == "fine\n" && probe["ExitCode"] == 0).then_some(())
        });
        assert!(status_line(&host, cli, "health=healthy").contains(&name));
        assert!(!status_line(&host, cli, "health=none").contains(&name));
        assert_eq!(told(&host, &name), ["health_status: unhealthy", "health_status: healthy"]);
        // Probes are not commands of a person's.
        assert_eq!(host.corten(["inspect", "--format", "{{json .ExecIDs}}", &name]).ok(), "null");
        host.cli(cli, ["stop", &name]).ok();
        assert_eq!(health(&host, &name)["Status"], "unhealthy");
        host.cli(cli, ["start", &name]).ok();
        let again = wait_status(&host, &name, "healthy");
        assert_eq!(again["FailingStreak"], 0);
        host.corten(["rm", "-f", &name]).ok();
    }
}

#[test]
fn probes_that_hang_talk_or_are_not_there_are_failures() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let name = |what: &str| format!("{what}-{cli:?}").to_lowercase();
        let flags = |probe| {
            [
                "--health-interval",
                "100ms",
                "--health-retries",
                "1",
                "--health-timeout",
                "300ms",
                "--health-cmd",
                probe,
            ]
        };
        start(&host, cli, &name("hang"), &flags("sleep 1234 & sleep 1234"), &["sleep", "1000"]);
        start(&host, cli, &name("talk"), &flags("yes | head -c 10000; exit 1"), &["sleep", "1000"]);
        start(
            &host,
            cli,
            &name("user"),
            &[&flags("id -u; exit 1")[..], &["--user", "33"]].concat(),
            &["sleep", "1000"],
        );
        let hangs = wait_status(&host, &name("hang"), "unhealthy");
        assert_eq!(hangs["Log"][0]["ExitCode"], -1);
        assert_eq!(hangs["Log"][0]["Output"], "Health check exceeded timeout (300ms)");
        // All that it started has ended with it.
        wait_for("its processes to be gone", || {
            let processes = host.corten(["top", &name("hang")]).ok();
            (processes.matches("sleep 1234").count() <= 2).then_some(())
        });
        let talks = wait_status(&host, &name("talk"), "unhealthy");
        let output = talks["Log"][0]["Output"].as_str().expect("text");
        assert_eq!((output.len(), output.ends_with("y\n...")), (4096 + 3, true));
        assert_eq!(wait_status(&host, &name("user"), "unhealthy")["Log"][0]["Output"], "33\n");
    }
    // Without a shell.
    let config = r#"{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{"NetworkMode":"none"},
        "Healthcheck":{"Test":["CMD","/not/there"],"Interval":100000000,"Retries":1}}"#;
    let socket = host.socket().display().to_string();
    let made = kit::Cmd::new("curl")
        .args([
            "-sS",
            "--unix-socket",
            &socket,
            "-H",
            "Content-Type: application/json",
            "-d",
            config,
            "http://d/containers/create?name=absent",
        ])
        .ok();
    assert!(made.contains("\"Id\""), "{made}");
    host.corten(["start", "absent"]).ok();
    let absent = wait_status(&host, "absent", "unhealthy");
    let output = absent["Log"][0]["Output"].as_str().expect("text");
    assert!(
        output.starts_with("OCI runtime exec failed: exec failed: unable to start container process:"),
        "{output}"
    );
    assert_eq!(absent["Log"][0]["ExitCode"], -1);
}

#[test]
fn failures_at_the_start_are_forgiven_for_a_while() {
    let host = Host::with_busybox();
    let flags = [
        "--health-cmd",
        "test -e /ok",
        "--health-interval",
        "30s",
        "--health-retries",
        "1",
        "--health-start-period",
        "1m",
        "--health-start-interval",
        "100ms",
    ];
    start(&host, Cli::Corten, "slow", &flags, &["sleep", "1000"]);
    wait_for("several failures", || {
        let health = health(&host, "slow");
        assert_eq!(
            (&health["Status"], &health["FailingStreak"]),
            (&Value::from("starting"), &Value::from(0))
        );
        (health["Log"].as_array()?.len() >= 3).then_some(())
    });
    assert!(status_line(&host, Cli::Docker, "health=starting").ends_with("(health: starting)"));
    host.corten(["exec", "slow", "touch", "/ok"]).ok();
    wait_status(&host, "slow", "healthy");
}

#[test]
fn pages_and_ports_are_tried_without_a_tool_in_the_image() {
    let host = Host::with_busybox();
    let run = |name: &str, probe: [&str; 2], script: &str| {
        let flags = ["--health-interval", "100ms", "--health-retries", "1", probe[0], probe[1]];
        start(&host, Cli::Corten, name, &flags, &["sh", "-c", script]);
    };
    let serve = "mkdir /w && echo hello > /w/page && httpd -f -p 127.0.0.1:8080 -h /w";
    run("page", ["--health-http", "http://localhost:8080/page"], serve);
    run("lost", ["--health-http", "http://127.0.0.1:8080/none"], serve);
    run("port", ["--health-tcp", "localhost:8080"], serve);
    run("shut", ["--health-tcp", "tcp://127.0.0.1:8081"], serve);
    wait_status(&host, "page", "healthy");
    wait_status(&host, "port", "healthy");
    let lost = wait_for("an answer", || {
        let log = health(&host, "lost")["Log"].as_array().cloned()?;
        log.into_iter()
            .find(|probe| probe["Output"].as_str().is_some_and(|text| text.starts_with("HTTP/1.1 404")))
    });
    assert_eq!(lost["ExitCode"], 1);
    let shut = wait_status(&host, "shut", "unhealthy");
    let said = shut["Log"][0]["Output"].as_str().expect("text");
    assert!(said.starts_with("cannot connect to 127.0.0.1:8081: "), "{said}");
    let test = host.corten(["inspect", "--format", "{{json .Config.Healthcheck.Test}}", "page"]).ok();
    assert_eq!(test, r#"["HTTP","http://localhost:8080/page"]"#);
    for (flag, text) in [
        ("--health-http", "http://web/"),
        ("--health-tcp", "db:5432"),
        ("--health-http", "https://localhost/"),
    ] {
        let args = ["create", flag, text, "busybox"];
        host.corten(args).fails(1, "invalid health check address");
    }
}

#[test]
fn images_ask_for_it_and_flags_say_otherwise() {
    let host = Host::with_busybox();
    host.corten(["create", "--name", "base", "busybox"]).ok();
    let change = "HEALTHCHECK --interval=100ms --retries=1 CMD test -e /ok";
    host.corten(["commit", "--change", change, "base", "checked"]).ok();
    let run = |name: &str, flags: &[&str]| {
        let mut args = vec!["run", "-d", "--network", "none", "--name", name];
        args.extend(flags);
        args.extend(["checked", "sleep", "1000"]);
        host.corten(args).ok();
    };
    run("asked", &[]);
    run("off", &["--no-healthcheck"]);
    run("other", &["--health-cmd", "true"]);
    wait_status(&host, "asked", "unhealthy");
    wait_status(&host, "other", "healthy");
    assert_eq!(health(&host, "off"), Value::Null);
    let interval =
        host.corten(["inspect", "--format", "{{json .Config.Healthcheck.Interval}}", "other"]).ok();
    assert_eq!(interval, "100000000");
}

#[test]
fn a_new_daemon_knows_what_was_known_and_goes_on_watching() {
    let mut host = Host::with_busybox();
    let flags = ["--health-cmd", "test -e /ok", "--health-interval", "200ms", "--health-retries", "1"];
    start(&host, Cli::Corten, "on", &flags, &["sh", "-c", "touch /ok; exec sleep 1000"]);
    wait_status(&host, "on", "healthy");
    host.kill_daemon();
    host.start_daemon();
    assert_eq!(health(&host, "on")["Status"], "healthy");
    host.corten(["exec", "on", "rm", "/ok"]).ok();
    wait_status(&host, "on", "unhealthy");
    host.corten(["pause", "on"]).ok();
    let before = health(&host, "on")["Log"].clone();
    host.corten(["exec", "on", "true"]).fails(1, "is paused");
    assert_eq!(health(&host, "on")["Log"], before);
    host.corten(["unpause", "on"]).ok();
    host.corten(["exec", "on", "touch", "/ok"]).ok();
    wait_status(&host, "on", "healthy");
}
