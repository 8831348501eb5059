//! A daemon that is killed between any two steps of what it does with networks: the next one finds or clears up what is there.

use std::process::{Child, Command};

use kit::{Host, wait_for};

/// What the daemon tells the kernel about networks, and what it writes down.
const STEPS: &str = "sendto,sendmsg,fdatasync,fsync,rename,renameat2,unlink,unlinkat";
/// No operation has as many steps: whoever gets here was never killed.
const STEPS_MAX: u32 = 400;

/// Attaches strace to the daemon, to kill it when one of its threads does the step `number`.
fn kill_at(host: &Host, number: u32) -> Child {
    let daemon = host.daemon_pid().to_string();
    let strace = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={STEPS}")])
        .args(["-e", &format!("inject={STEPS}:signal=KILL:when={number}"), "-p", &daemon])
        .spawn()
        .expect("strace");
    wait_for("strace to have all threads", || {
        let threads = std::fs::read_dir(format!("/proc/{daemon}/task")).expect("the daemon's threads");
        let mut threads = threads.flatten().map(|thread| thread.path().join("status"));
        let traced = |path| {
            let status = std::fs::read_to_string(path).unwrap_or_default();
            // What it does by itself may have been its last step already.
            !status.contains("TracerPid:\t0\n") || status.contains("State:\tZ")
        };
        threads.all(traced).then_some(())
    });
    strace
}

/// Has `act` done again and again, with the daemon killed one step later each time, until it is done before that step. `check` looks at what
/// the next daemon makes of it and brings the host back to where it was before.
fn at_every_step(host: &mut Host, act: impl Fn(&Host), check: impl Fn(&Host)) {
    for number in 1..STEPS_MAX {
        let mut strace = kill_at(host, number);
        act(host);
        let answers = || host.corten(["version"]).run().code == 0;
        // The kernel lets go of those that live, the supervisors that were started too. Told to end, strace would wait for ever for one that
        // is dying.
        strace.kill().expect("kill strace");
        strace.wait().expect("strace's end");
        if answers() {
            check(host);
            assert!(number > 2, "the daemon was killed at {number} steps only");
            return;
        }
        host.kill_daemon();
        host.start_daemon();
        check(host);
    }
    panic!("it takes more than {STEPS_MAX} steps");
}

/// The bridges there are must be those of the networks there are; and there are as many cables as running containers have networks.
fn converged(host: &Host, cables: usize) {
    let ids =
        host.corten(["network", "ls", "-q", "--filter", "driver=bridge", "--filter", "type=custom"]).ok();
    let mut wanted: Vec<String> = ids.lines().map(|id| format!("br-{id}")).collect();
    wanted.push("corten0".to_owned());
    wanted.sort_unstable();
    wait_for("bridges and cables as they should be", || {
        let count = |kind: &str| {
            let listed = host.program("ip", ["-o", "link", "show", "type", kind]).ok();
            let names = listed.lines().filter_map(|line| line.split([':', '@']).nth(1));
            let mut names: Vec<String> = names.map(|name| name.trim().to_owned()).collect();
            names.sort_unstable();
            names
        };
        (count("bridge") == wanted && count("veth").len() == cables).then_some(())
    });
}

/// Whether packet filters know an address or a port.
fn filtered(host: &Host, text: &str) -> bool {
    host.program("nft", ["list", "ruleset"]).ok().contains(text)
}

fn running(host: &Host) -> usize {
    host.corten(["ps", "-q"]).ok().lines().count()
}

#[test]
fn while_a_network_is_made_and_removed() {
    let mut host = Host::apart();
    // There are packet filters once a container was there.
    host.corten(["run", "--rm", "busybox", "true"]).ok();
    at_every_step(
        &mut host,
        |host| drop(host.corten(["network", "create", "--ipv6", "--subnet", "10.66.0.0/24", "web"]).run()),
        |host| {
            converged(host, 0);
            // It is there or not; what is not can be made.
            if host.corten(["network", "inspect", "web"]).run().code != 0 {
                host.corten(["network", "create", "--subnet", "10.66.0.0/24", "web"]).ok();
            }
            host.corten([
                "run",
                "--rm",
                "--network",
                "web",
                "busybox",
                "ping",
                "-c",
                "1",
                "-W",
                "5",
                "10.66.0.1",
            ])
            .ok();
            host.corten(["network", "rm", "web"]).ok();
            assert!(!filtered(host, "10.66.0"), "what the packet filters know of it is left");
        },
    );
    host.corten(["network", "create", "--subnet", "10.66.0.0/24", "web"]).ok();
    at_every_step(
        &mut host,
        |host| drop(host.corten(["network", "rm", "web"]).run()),
        |host| {
            converged(host, 0);
            if host.corten(["network", "inspect", "web"]).run().code == 0 {
                host.corten(["network", "rm", "web"]).ok();
            }
            converged(host, 0);
            assert!(!filtered(host, "10.66.0"), "what the packet filters know of it is left");
            host.corten(["network", "create", "--subnet", "10.66.0.0/24", "web"]).ok();
        },
    );
}

#[test]
fn while_a_container_starts_and_ends() {
    let mut host = Host::apart();
    host.corten(["network", "create", "--subnet", "10.66.0.0/24", "web"]).ok();
    let args = ["run", "-d", "--name", "one", "--network", "web", "-p", "8080:80", "busybox", "httpd", "-f"];
    at_every_step(
        &mut host,
        |host| drop(host.corten(args).run()),
        |host| {
            wait_for("a container that runs or does not", || {
                let states = host.corten(["ps", "-a", "--format", "{{.State}}"]).ok();
                ["", "created", "exited", "running"].contains(&states.as_str()).then_some(())
            });
            converged(host, running(host));
            drop(host.corten(["rm", "-f", "one"]).run());
            converged(host, 0);
            assert!(!filtered(host, "8080"), "a port that nobody publishes leads somewhere");
            host.corten(args).ok();
            host.corten(["rm", "-f", "one"]).ok();
        },
    );
    host.corten(args).ok();
    at_every_step(
        &mut host,
        |host| drop(host.corten(["rm", "-f", "one"]).run()),
        |host| {
            drop(host.corten(["rm", "-f", "one"]).run());
            converged(host, 0);
            assert!(!filtered(host, "8080"), "a port that nobody publishes leads somewhere");
            // Its address and its port are to be had.
            host.corten(args).ok();
            let address =
                host.corten(["inspect", "-f", "{{.NetworkSettings.Networks.web.IPAddress}}", "one"]).ok();
            assert_eq!(address, "10.66.0.2");
        },
    );
}

#[test]
fn while_a_container_is_connected_and_disconnected() {
    let mut host = Host::apart();
    host.corten(["network", "create", "--subnet", "10.66.0.0/24", "web"]).ok();
    host.corten(["network", "create", "--subnet", "10.67.0.0/24", "more"]).ok();
    host.corten(["run", "-d", "--name", "one", "--network", "web", "busybox", "sleep", "1000"]).ok();
    // What the records say is what is there, and one is as good as the other.
    let check = |host: &Host, connected: bool| {
        let format = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
        let listed = host.corten(["inspect", "-f", format, "one"]).ok();
        let says = listed.contains("more");
        converged(host, 1 + usize::from(says));
        let shown = host.corten(["exec", "one", "ip", "-4", "-o", "addr"]).ok();
        assert_eq!(shown.contains("10.67.0."), says, "{listed}: {shown}");
        if says != connected {
            let verb = if connected { "connect" } else { "disconnect" };
            host.corten(["network", verb, "more", "one"]).ok();
        }
        converged(host, 1 + usize::from(connected));
        let script = "ping -c 1 -W 5 10.66.0.1 && ! { ip route | grep -c default | grep -v 1; }";
        host.corten(["exec", "one", "sh", "-c", script]).ok();
        if connected {
            host.corten(["exec", "one", "ping", "-c", "1", "-W", "5", "10.67.0.1"]).ok();
        }
    };
    at_every_step(
        &mut host,
        |host| drop(host.corten(["network", "connect", "more", "one"]).run()),
        |host| {
            check(host, true);
            host.corten(["network", "disconnect", "more", "one"]).ok();
        },
    );
    host.corten(["network", "connect", "more", "one"]).ok();
    at_every_step(
        &mut host,
        |host| drop(host.corten(["network", "disconnect", "more", "one"]).run()),
        |host| {
            check(host, false);
            host.corten(["network", "connect", "more", "one"]).ok();
        },
    );
}
