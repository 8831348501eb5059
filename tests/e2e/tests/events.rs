//! Events: in the order in which things happened, told to those who listen and to those who come later.

use kit::{CLIS, Cli, Host, wait_for};

/// What happened to the container `name` so far, oldest first.
fn told(host: &Host, cli: Cli, name: &str, until: &str) -> Vec<String> {
    let filter = format!("container={name}");
    let args = ["events", "--since", "0", "--until", until, "--filter", &filter];
    let lines = host.cli(cli, args.into_iter().chain(["--format", "{{.Action}}"])).ok();
    lines.lines().map(str::to_owned).collect()
}

/// A moment that has passed when the command line says it.
fn now(host: &Host) -> String {
    host.corten(["info", "--format", "{{.SystemTime}}"]).ok()
}

#[test]
fn a_life_is_told_in_order() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let name = format!("life-{cli:?}").to_lowercase();
        let run = ["run", "-d", "--network", "none", "--name", &name, "busybox", "sleep", "1000"];
        host.cli(cli, run).ok();
        host.cli(cli, ["pause", &name]).ok();
        host.cli(cli, ["unpause", &name]).ok();
        host.cli(cli, ["exec", &name, "true"]).ok();
        host.cli(cli, ["stop", "-t", "0", &name]).ok();
        host.cli(cli, ["rm", &name]).ok();
        assert_eq!(
            told(&host, cli, &name, &now(&host)),
            [
                "create",
                "start",
                "pause",
                "unpause",
                "exec_create: true",
                "exec_start: true",
                "exec_die",
                "kill",
                "kill",
                "die",
                "stop",
                "destroy"
            ]
        );
    }
}

#[test]
fn listeners_hear_what_they_asked_for() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let format = "{{.Type}} {{.Action}} {{.Actor.Attributes.exitCode}} {{.Actor.Attributes.tier}}";
        let listener = host.cli(
            cli,
            ["events", "--filter", "event=die", "--filter", "label=tier=front", "--format", format],
        );
        let listener = listener.spawn();
        wait_for("the listener to listen", || {
            (host.corten(["info", "--format", "{{.NEventsListener}}"]).ok() == "1").then_some(())
        });
        let run = |more: &[&str]| {
            let mut args = vec!["run", "--rm", "--network", "none"];
            args.extend(more);
            args.extend(["busybox", "sh", "-c", "exit 3"]);
            host.cli(cli, args).run().expect_code(3);
        };
        run(&["--label", "tier=back"]);
        run(&["--label", "tier=front"]);
        // It is told at the latest when all that came before is.
        wait_for("the event", || told_of(&host, cli, "tier=front").contains("die").then_some(()));
        listener.signal(rustix::process::Signal::INT);
        assert_eq!(listener.wait().text(), "container die 3 front");
    }
}

fn told_of(host: &Host, cli: Cli, label: &str) -> String {
    let filter = format!("label={label}");
    let until = now(host);
    host.cli(
        cli,
        ["events", "--since", "0", "--until", &until, "--filter", &filter, "--format", "{{.Action}}"],
    )
    .ok()
}

#[test]
fn wrong_filters_are_refused() {
    let host = Host::new();
    for cli in CLIS {
        host.cli(cli, ["events", "--since", "0", "--until", "1", "--filter", "colour=red"])
            .fails(1, "invalid filter 'colour'");
    }
}
