//! How much goes over a network, as it is asked for, changed and measured.

use kit::{Cli, Host, wait_for};

/// Seconds that are measured: long against what goes at once in the beginning.
const SECONDS: &str = "2";

/// Megabits a second, as iperf3 finds them between a container and the host: to the container, and from it.
fn measured(host: &Host, name: &str) -> [f64; 2] {
    let pid = host.corten(["inspect", "-f", "{{.State.Pid}}", name]).ok();
    let gateway =
        host.corten(["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}", name]).ok();
    let inside = format!("--net=/proc/{pid}/ns/net");
    [&["-R"][..], &[]].map(|direction| {
        let server = host.program("iperf3", ["-s", "-1", "-B", &gateway]).spawn();
        // `LISTEN` at port 5201.
        wait_for("iperf3", || {
            host.program("grep", ["-qE", ":1451 0+:0+ 0A", "/proc/thread-self/net/tcp"])
                .run()
                .code
                .eq(&0)
                .then_some(())
        });
        let client = ["nsenter", &inside, "iperf3", "-J", "-t", SECONDS, "-c", &gateway];
        let said = kit::Cmd::new(client[0]).args(client[1..].iter().chain(direction)).ok();
        let _ = server.wait();
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        said["end"]["sum_received"]["bits_per_second"].as_f64().expect("a rate") / 1e6
    })
}

fn holds(host: &Host, name: &str, expected: [f64; 2]) {
    let measured = measured(host, name);
    println!("{name}: {measured:.1?} of {expected:?} megabits a second");
    for (measured, expected) in measured.into_iter().zip(expected) {
        // A busy machine may be slower; beyond the rate there is what goes at once in the beginning.
        assert!((expected * 0.5..expected * 1.1).contains(&measured), "{measured} of {expected}");
    }
}

fn waypoints(host: &Host) -> String {
    host.program("sh", ["-c", "ip -o link show type ifb | grep -c rate || true"]).ok()
}

#[test]
fn rates_hold_both_ways_and_are_changed_while_a_container_runs() {
    if kit::Cmd::new("sh").args(["-c", "command -v iperf3"]).run().code != 0 {
        kit::skip("iperf3", "it is not installed");
        return;
    }
    let mut host = Host::apart();
    host.corten(["network", "create", "web"]).ok();
    let run = |cli: Cli, name: &str, network: &str| {
        host.cli(cli, ["run", "-d", "--name", name, "--network", network, "busybox", "sleep", "1000"])
    };
    run(Cli::Corten, "one", "name=web,rate-in=16mbit,rate-out=24mbit").ok();
    let docker = "name=web,driver-opt=corten.rate-in=24mbit,driver-opt=corten.rate-out=16mbit";
    run(Cli::Docker, "two", docker).ok();
    let shown = "{{json .NetworkSettings.Networks.web.DriverOpts}}";
    let inspect = |host: &Host| host.corten(["inspect", "-f", shown, "one"]).ok();
    assert_eq!(inspect(&host), r#"{"corten.rate-in":"16mbit","corten.rate-out":"24mbit"}"#);
    holds(&host, "one", [16.0, 24.0]);
    holds(&host, "two", [24.0, 16.0]);
    assert_eq!(waypoints(&host), "2");
    // Changed, and kept without a daemon, by the next one, and at the next start.
    let update = |host: &Host, network: &str| host.corten(["update", "--network", network, "one"]);
    update(&host, "name=web,rate-in=48mbit,rate-out=32mbit").ok();
    host.kill_daemon();
    host.start_daemon();
    assert_eq!(inspect(&host), r#"{"corten.rate-in":"48mbit","corten.rate-out":"32mbit"}"#);
    holds(&host, "one", [48.0, 32.0]);
    host.corten(["restart", "-t", "0", "one"]).ok();
    holds(&host, "one", [48.0, 32.0]);
    update(&host, "name=web,rate-in=,rate-out=").ok();
    let free = measured(&host, "one");
    assert!(free.iter().all(|rate| *rate > 200.0), "{free:?}");
    // What cannot be is refused by its name.
    update(&host, "name=web,rate-in=fast").fails(1, "corten.rate-in: invalid rate \"fast\"");
    update(&host, "name=bridge,rate-in=1mbit").fails(1, "container one is not connected to the network");
    update(&host, "name=nowhere,rate-in=1mbit").fails(1, "network nowhere not found");
    update(&host, "web").fails(1, "what can be changed are rates");
    let refused = host.corten(["run", "--network", "name=web,rate-out=9", "busybox", "true"]).run();
    assert!(refused.code == 125 && refused.stderr.contains("corten.rate-out: invalid rate \"9\""));
    // Nothing is left of it: neither where the daemon sees the end, nor where it does not.
    assert_eq!(waypoints(&host), "1");
    host.corten(["rm", "-f", "two"]).ok();
    assert_eq!(waypoints(&host), "0");
    update(&host, "name=web,rate-out=8mbit").ok();
    assert_eq!(waypoints(&host), "1");
    let pid = host.corten(["inspect", "-f", "{{.State.Pid}}", "one"]).ok();
    host.kill_daemon();
    kit::Cmd::new("kill").args(["-9", &pid]).ok();
    host.start_daemon();
    wait_for("the device to go", || waypoints(&host).eq("0").then_some(()));
}
