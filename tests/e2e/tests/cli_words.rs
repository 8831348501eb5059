//! Errors, tables and formats, word for word as the real `docker` has them, on the same engine.

use kit::{CLIS, Cli, Cmd, Host};

/// What both say must be the same: exit code, output, errors.
fn same(host: &Host, lines: &[&str]) {
    if !docker_is_there() {
        return;
    }
    let mut differences = Vec::new();
    for line in lines {
        let args = split(line);
        let [ours, theirs] = CLIS.map(|cli| {
            // One version for both: what the daemon sends differs by version, and is not what is compared.
            let output = host.cli(cli, &args).env("DOCKER_API_VERSION", "1.50").run();
            (output.code, ages(&output.stdout), ages(&output.stderr).replace("corten", "docker"))
        });
        if ours != theirs && !same_json(&ours, &theirs) {
            differences.push(format!("{line}\n  corten: {ours:?}\n  docker: {theirs:?}"));
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {} differ:\n{}",
        differences.len(),
        lines.len(),
        differences.join("\n")
    );
}

/// Whether both have printed one JSON value, in whatever order.
fn same_json(ours: &(i32, String, String), theirs: &(i32, String, String)) -> bool {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    (ours.0, &ours.2) == (theirs.0, &theirs.2)
        && parse(&ours.1).is_some()
        && parse(&ours.1) == parse(&theirs.1)
}

/// Whether the real `docker` is there to be compared with.
fn docker_is_there() -> bool {
    let found = Cmd::new("sh").args(["-c", "command -v docker"]).run().code == 0;
    if !found {
        kit::skip("docker", "the real docker command is not there");
    }
    found
}

/// Words, with single quotes around those that have spaces.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Ages are a matter of when the one and the other ran.
fn ages(text: &str) -> String {
    text.lines()
        .map(|line| {
            let aged = line.contains(" ago") || line.contains("Up ");
            if !aged {
                // The titles stand as wide as the ages below them.
                let title =
                    ["CONTAINER ID ", "REPOSITORY ", "IMAGE "].iter().any(|word| line.starts_with(word));
                let words: Vec<_> = line.split_whitespace().collect();
                return if title { words.join(" ") } else { line.to_owned() };
            }
            let line: String = line.chars().filter(|c| !c.is_ascii_digit()).collect();
            let words =
                ["Less than a second", "About a minute", "seconds", "second", "minutes", "minute", "a "];
            let line = words.iter().fold(line, |line, word| line.replace(word, ""));
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn wrong_words() {
    let host = Host::new();
    same(
        &host,
        &[
            "run",
            "run --foo",
            "run -Z x",
            "run -e",
            "run --name",
            "run --rm=x bb",
            "run UPPER",
            "run --pull foo bb",
            "ps a",
            "ps -n x",
            "ps --filter foo",
            "ps --format {{.Foo}}",
            "ps --format {{.ID",
            "ps --format '{{foo .ID}}'",
            "foo",
            "container foo",
            "container ls --foo",
            "--foo",
            "--log-level x ps",
            "image foo",
            "start",
            "start nope",
            "stop nope",
            "restart nope",
            "kill nope",
            "pause nope",
            "unpause nope",
            "wait nope",
            "rm nope",
            "rm nope nope2",
            "rm -f nope",
            "rename a",
            "rename a b",
            "logs nope",
            "logs a b",
            "top nope",
            "attach nope",
            "exec a",
            "exec nope true",
            "inspect nope",
            "container inspect nope",
            "image inspect nope",
            "volume inspect nope",
            "pull",
            "pull a b",
            "pull UPPER",
            "pull -a bb:latest",
            "tag nope x",
            "rmi nope",
            "history nope",
            "volume rm nope",
            "events --since x",
            "events --format {{.",
            "context use nope",
            "-c nope ps",
            "-H foo://x ps",
            "-H a -H b ps",
            "-c default -H unix:///x ps",
            "-H unix:///nope ps",
            "-H tcp://127.0.0.1:1 ps",
            "context inspect nope",
            "context create",
            "context rm nope",
            "context create a!b --docker host=tcp://x:1",
            "context create default --docker host=tcp://x:1",
            "context create x --docker foo=bar",
            "context create x --docker foo",
            "context rm default",
            "version --format {{.Foo}}",
            "help foo",
            "inspect --format {{. nope",
        ],
    );
}

#[test]
fn lists_and_details() {
    let host = Host::with_busybox();
    let id = host.corten([
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "web",
        "-l",
        "a.b=c",
        "-l",
        "x=y",
        "-v",
        "data:/v",
        "-m",
        "64m",
        "--restart",
        "on-failure:3",
        "-e",
        "A=1",
        "busybox",
        "sleep",
        "1000",
    ]);
    let id = id.ok();
    host.corten(["run", "--network", "none", "--name", "done", "busybox", "sh", "-c", "exit 3"])
        .run()
        .expect_code(3);
    same(
        &host,
        &[
            "ps",
            "ps -a",
            "ps -aq",
            "ps -q --no-trunc",
            "ps -a --no-trunc",
            "ps -as",
            "ps -l",
            "ps -n 1 -q",
            "ps -a --filter status=exited",
            "ps -a --filter name=web",
            "ps -a --filter label=x=y",
            "ps --filter foo=bar",
            "ps --format json",
            "ps -a --format '{{json .}}'",
            "ps -q --format json",
            "ps --format table",
            "ps -a --format 'table {{.ID}}\\t{{.Label \"a.b\"}}\\t{{.Names}}'",
            "ps -a --format ''",
            "ps --format '{{.Names}}: {{.Labels}} {{.Mounts}} {{.LocalVolumes}} {{.Networks}} {{.Ports}}|{{.Platform}}'",
            "ps -a --format '{{.CreatedAt}} {{.State}} {{.Command}} {{.Image}} {{.Size}}'",
            "ps --format '{{upper .Names}} {{pad .Names 1 2}}| {{join (split .Names \"\") \"-\"}} {{truncate .ID 3}} {{len .ID}}'",
            "ps -a --format 'x{{if eq .Names \"web\"}}y{{else}}z{{end}} {{printf \"%-10s|\" .Names}} {{title .State}}'",
            "inspect web",
            "inspect web done -f '{{.Name}} {{.State.Status}} {{.State.ExitCode}}'",
            "inspect web -f json",
            "inspect web -f '{{json .Config}}'",
            "inspect web -f '{{range .Mounts}}{{.Name}}:{{.Destination}} {{end}}'",
            "inspect web -f '{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy}} {{.Config.Cmd}} {{.Config.Healthcheck}}'",
            "inspect web -f '{{.Config.Labels}} {{index .Config.Labels \"a.b\"}} {{.Config.StopSignal}}'",
            "inspect web -f {{.Foo}}",
            "inspect web -f {{.State.Foo}}",
            "inspect web -f {{.ID}}",
            "inspect web -f {{.Id}}",
            "inspect web nope",
            "inspect --type image web",
            "container inspect web -s -f {{.SizeRw}}",
            "inspect busybox",
            "image inspect busybox",
            "images",
            "images -q",
            "images --no-trunc",
            "images --digests",
            "images --format json",
            "images busybox",
            "images nope",
            "images --format '{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}}'",
            "images -f dangling=true -q",
            "history busybox",
            "history -q busybox",
            "history --no-trunc --format json busybox",
            "history -H=false busybox",
            "volume ls",
            "volume ls -q",
            "volume ls --format json",
            "volume inspect data",
            "volume ls -f dangling=true",
            "volume inspect data -f '{{.Driver}} {{.Options}} {{.Labels}}'",
            "top web -o pid,cmd",
            "system df",
            "system df --format json",
            "version --format {{.Server.Version}}",
            "version --format '{{json .Server}}'",
            "info --format {{.ServerVersion}}",
            "info --format '{{.Driver}} {{.NCPU}} {{json .Plugins}}'",
            "info --format {{.Foo}}",
            "rm web",
            "rename web web",
            "tag busybox 'x y'",
            "kill -s FOO web",
            "exec web nope",
            "exec web sh -c 'exit 5'",
            "exec -e A=b -w /tmp web sh -c 'echo $A; pwd'",
            "logs web",
            "logs --since x web",
            "wait done",
            "start web",
            "unpause web",
            "stop -t x web",
            "run --name web busybox",
            "create --name web busybox",
            "context ls",
            "context show",
            "context inspect",
            "context inspect -f {{.Name}}",
            "container prune -f --filter label=nope",
            "image prune -f --filter label=nope",
            "volume prune -f --filter label=nope",
        ],
    );
    host.corten(["rm", "-fv", "web", "done"]).ok();
    assert_eq!(id.len(), 64);
}

#[test]
fn questions_are_asked_and_no_is_no() {
    let host = Host::new();
    for cli in CLIS {
        for args in [
            &["container", "prune"][..],
            &["image", "prune", "-a"],
            &["volume", "prune"],
            &["system", "prune"],
        ] {
            let output = host.cli(cli, args).stdin(*b"n\n").run();
            assert!(output.stdout.starts_with("WARNING! This will remove"), "{output}");
            assert!(output.stdout.ends_with("Are you sure you want to continue? [y/N] "), "{output}");
        }
        let output = host.cli(cli, ["container", "prune"]).stdin(*b"y\n").run();
        assert!(output.expect_code(0).stdout.contains("Total reclaimed space: 0B"), "{output}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    let host = Host::with_busybox();
    let line = format!(
        "{} run --rm --network none busybox yes | head -n 1; echo ${{PIPESTATUS[0]}}",
        Cli::Corten.program().display()
    );
    let mut cmd = Cmd::new("bash").args(["-c", &line]);
    for (name, value) in host.environment() {
        cmd = cmd.env(name, value);
    }
    let output = cmd.run();
    assert_eq!(output.stdout.lines().collect::<Vec<_>>(), ["y", "141"], "{output}");
    assert!(!output.stderr.contains("panicked"), "{output}");
}
