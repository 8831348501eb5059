//! Published ports that packet filters cannot lead to a container, and those that the host's own rules decide on.

use std::time::{Duration, Instant};

use kit::fixtures::{Packing, debian_packed};
use kit::{CLIS, Cli, Host, Neighbour, wait_for};

/// Says its name and who asks, by TCP and by UDP, at port 80.
const SERVER: &str = r#"
    use Socket qw(:all); $| = 1; my $name = shift;
    sub who { my ($port, $address) = unpack_sockaddr_in6(shift); inet_ntop(AF_INET6, $address) =~ s/^::ffff://r }
    if (fork) {
        socket(S, AF_INET6, SOCK_DGRAM, 0); bind(S, pack_sockaddr_in6(80, IN6ADDR_ANY)) or die;
        while (defined(my $peer = recv(S, my $text, 100, 0))) { send(S, "$name " . who($peer), 0, $peer) }
    }
    socket(S, AF_INET6, SOCK_STREAM, 0); setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1);
    bind(S, pack_sockaddr_in6(80, IN6ADDR_ANY)) && listen(S, 100) or die;
    $SIG{PIPE} = 'IGNORE';
    while (my $peer = accept(C, S)) { syswrite(C, "$name " . who($peer)); shutdown(C, 1); sysread(C, my $rest, 1); close(C) }
"#;

/// Asks that server.
const CLIENT: &str = r#"
    use Socket qw(:all); my ($protocol, $host, $port) = @ARGV; my $text = '';
    my $family = $host =~ /:/ ? AF_INET6 : AF_INET;
    my $address = inet_pton($family, $host);
    $SIG{ALRM} = sub { exit 2 }; alarm 2;
    socket(S, $family, $protocol eq 'udp' ? SOCK_DGRAM : SOCK_STREAM, 0);
    connect(S, $family == AF_INET6 ? pack_sockaddr_in6($port, $address) : pack_sockaddr_in($port, $address)) or exit 1;
    send(S, 'x', 0) if $protocol eq 'udp';
    defined(recv(S, $text, 100, 0)) && length($text) or exit 1;
    print $text;
"#;

/// What is answered by `protocol` at an address and a port.
fn asks(from: impl Fn(&[&str]) -> kit::Cmd, protocol: &str, at: &str, port: &str) -> Option<String> {
    let output = from(&["-e", CLIENT, protocol, at, port]).run();
    (output.code == 0).then_some(output.stdout)
}

fn host_asks(host: &Host, protocol: &str, at: &str, port: &str) -> Option<String> {
    asks(|args| host.program("perl", args), protocol, at, port)
}

fn peer_asks(peer: &Neighbour, protocol: &str, at: &str, port: &str) -> Option<String> {
    asks(|args| peer.program("perl", args), protocol, at, port)
}

/// A host apart that has an image with perl.
fn host_with(flags: &[&str]) -> Host {
    let host = Host::with_flags(flags);
    host.give(&debian_packed(Packing::Zstd), "debian");
    host.pull_busybox();
    host.set_apart()
}

/// A container that serves.
fn serve(host: &Host, cli: Cli, name: &str, flags: &[&str]) {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(flags);
    args.extend(["debian", "perl", "-e", SERVER, name]);
    host.cli(cli, args).ok();
}

/// The process of netd.
fn netd(host: &Host) -> String {
    let socket = host.exec_root().join("netd.sock");
    let socket = socket.to_str().expect("a path");
    let find = "for p in /proc/[0-9]*; do tr '\\0' ' ' 2>/dev/null < $p/cmdline | grep -q \"netd .*$1 *$\" && basename $p; done; true";
    let found = host.program("sh", ["-c", find, "sh", socket]).ok();
    let mine = |pid: &&str| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "corten-netd")
    };
    found.lines().find(mine).unwrap_or_default().to_owned()
}

fn answers(host: &Host, name: &str, at: &[(&str, &str, &str)]) {
    for (protocol, address, port) in at {
        let answer = host_asks(host, protocol, address, port);
        assert!(
            answer.as_deref().is_some_and(|text| text.starts_with(name)),
            "{protocol} {address} {port}: {answer:?}\n{}",
            host.daemon_log()
        );
    }
}

#[test]
fn ports_are_reached_at_every_address_of_the_host_whatever_the_container_has() {
    let host = host_with(&[]);
    for cli in CLIS {
        host.cli(cli, ["network", "create", "--ipv6", "both"]).ok();
        // One has IPv4 alone.
        serve(&host, cli, "four", &["-p", "8080:80", "-p", "8080:80/udp", "-p", "[::1]:8081:80"]);
        serve(
            &host,
            cli,
            "six",
            &["--network", "both", "-p", "9080:80", "-p", "9080:80/udp", "-p", "[::1]:9081:80/udp"],
        );
        wait_for("the servers", || host_asks(&host, "tcp", "127.0.0.1", "8080"));
        wait_for("the servers", || host_asks(&host, "tcp", "127.0.0.1", "9080"));
        for protocol in ["tcp", "udp"] {
            answers(&host, "four ", &[(protocol, "127.0.0.1", "8080"), (protocol, "::1", "8080")]);
            answers(&host, "six ", &[(protocol, "127.0.0.1", "9080"), (protocol, "::1", "9080")]);
        }
        answers(&host, "four ", &[("tcp", "::1", "8081")]);
        answers(&host, "six ", &[("udp", "::1", "9081")]);
        assert_eq!(host_asks(&host, "tcp", "127.0.0.1", "8081"), None);
        let listed = host.cli(cli, ["ps", "--format", "{{.Names}} {{.Ports}}"]).ok();
        assert!(listed.contains("0.0.0.0:8080->80/tcp") && listed.contains("[::]:8080->80/tcp"), "{listed}");
        assert!(listed.contains("[::1]:8081->80/tcp"), "{listed}");
        for (wrong, why) in
            [("[::1]:7000:80/sctp", "only TCP and UDP"), ("[::]:7000:80/sctp", "only TCP and UDP")]
        {
            host.cli(cli, ["run", "--rm", "-p", wrong, "busybox", "true"]).fails(125, why);
        }
        host.cli(cli, ["rm", "-f", "four", "six"]).ok();
        host.cli(cli, ["network", "rm", "both"]).ok();
        assert_eq!(host_asks(&host, "tcp", "::1", "8080"), None);
    }
}

#[test]
fn a_neighbour_reaches_ports_by_either_version() {
    let host = host_with(&[]);
    let peer = host.neighbour("192.0.2");
    serve(
        &host,
        Cli::Corten,
        "four",
        &["-p", "8080:80", "-p", "8080:80/udp", "-p", "127.0.0.1:8081:80", "-p", "[::1]:8081:80"],
    );
    wait_for("the server", || peer_asks(&peer, "tcp", "192.0.2.1", "8080"));
    for (filter, found) in [
        ("publish=8080", "four"),
        ("publish=8080/udp", "four"),
        ("publish=8000-8090", "four"),
        ("publish=8081/udp", ""),
        ("publish=80", ""),
        ("expose=80", "four"),
        ("expose=81", ""),
    ] {
        let shown = host.corten(["ps", "--filter", filter, "--format", "{{.Names}}"]).ok();
        assert_eq!(shown, found, "{filter}");
    }
    host.corten(["ps", "--filter", "publish=web"]).fails(1, "error while looking up for publish web");
    for protocol in ["tcp", "udp"] {
        assert_eq!(peer_asks(&peer, protocol, "192.0.2.1", "8080").as_deref(), Some("four 192.0.2.2"));
        // By the other version it is netd that asks, by an address of its own.
        let answer = peer_asks(&peer, protocol, "fd00:192:0:2::1", "8080");
        assert!(answer.as_deref().is_some_and(|text| text.starts_with("four 172.")), "{answer:?}");
        assert_eq!(peer_asks(&peer, protocol, "192.0.2.1", "8081"), None);
        assert_eq!(peer_asks(&peer, protocol, "fd00:192:0:2::1", "8081"), None);
    }
    host.corten(["rm", "-f", "four"]).ok();
}

#[test]
fn every_port_answers_and_is_held_without_a_daemon_and_without_netd() {
    let mut host = host_with(&[]);
    host.corten(["network", "create", "web"]).ok();
    serve(
        &host,
        Cli::Corten,
        "one",
        &["--network", "web", "-p", "8080:80", "-p", "8080:80/udp", "-p", "[::1]:8081:80"],
    );
    host.corten(["run", "-d", "--name", "two", "--network", "web", "busybox", "sleep", "1000"]).ok();
    let all = [
        ("tcp", "127.0.0.1", "8080"),
        ("tcp", "::1", "8080"),
        ("udp", "::1", "8080"),
        ("tcp", "::1", "8081"),
    ];
    wait_for("the server", || host_asks(&host, "tcp", "127.0.0.1", "8080"));
    answers(&host, "one ", &all);
    let enter = |host: &Host, name: &str| {
        let pid = host.corten(["inspect", "-f", "{{.State.Pid}}", name]).ok();
        format!("--net=/proc/{pid}/ns/net")
    };
    let two = enter(&host, "two");
    let resolves = |host: &Host| {
        host.program("nsenter", [&two, "busybox", "nslookup", "one", "127.0.0.11"]).run().code == 0
    };
    assert!(resolves(&host));

    // Nobody else gets the ports, whoever is there.
    let bind = "use Socket qw(:all); my ($family, $port) = @ARGV; socket(S, $family eq 6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0); \
        setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1); setsockopt(S, IPPROTO_IPV6, IPV6_V6ONLY, 1) if $family eq 6; \
        bind(S, $family eq 6 ? pack_sockaddr_in6($port, IN6ADDR_ANY) : pack_sockaddr_in($port, INADDR_ANY)) && listen(S, 1) or exit 1";
    let free = |host: &Host, family: &str| host.program("perl", ["-e", bind, family, "8080"]).run().code == 0;
    assert!(!free(&host, "4") && !free(&host, "6"));
    host.kill_daemon();
    answers(&host, "one ", &all);
    assert!(!free(&host, "4") && !free(&host, "6"), "without a daemon");
    host.start_daemon();
    answers(&host, "one ", &all);
    host.corten(["run", "--rm", "-p", "8080:80", "busybox", "true"])
        .fails(125, "Bind for 0.0.0.0:8080 failed: port is already allocated");

    // netd goes, with this daemon that has none of the sockets and with the next that has all: nobody starts a container, and all is there.
    for time in 0..2 {
        let before = netd(&host);
        assert!(!before.is_empty());
        let since = Instant::now();
        host.program("kill", ["-9", &before]).ok();
        wait_for("another netd", || {
            let pid = netd(&host);
            (!pid.is_empty() && pid != before).then_some(())
        });
        wait_for("names", || resolves(&host).then_some(()));
        wait_for("ports", || {
            all.iter()
                .all(|(protocol, at, port)| host_asks(&host, protocol, at, port).is_some())
                .then_some(())
        });
        let took = since.elapsed();
        println!("names and ports answer {took:?} after netd was killed");
        assert!(took < Duration::from_secs(20), "{took:?}");
        assert!(!free(&host, "4") && !free(&host, "6"), "with another netd");
        if time == 0 {
            host.corten(["restart", "-t", "0", "one"]).ok();
            wait_for("the server", || host_asks(&host, "tcp", "::1", "8081"));
        }
    }
    // What ends while no daemon is there gives its ports back.
    let pid = host.corten(["inspect", "-f", "{{.State.Pid}}", "one"]).ok();
    host.kill_daemon();
    host.program("kill", ["-9", &pid]).ok();
    wait_for("the ports to be free", || (free(&host, "4") && free(&host, "6")).then_some(()));
    host.start_daemon();
    host.corten(["rm", "-f", "one", "two"]).ok();
}

#[test]
fn a_port_taken_back_is_closed_by_the_next_daemon_if_one_was_killed_in_between() {
    let mut host = host_with(&[]);
    serve(&host, Cli::Corten, "one", &["-p", "6060:80", "-p", "6061:80"]);
    serve(&host, Cli::Corten, "two", &["-p", "[::1]:6062:80"]);
    let before = [("tcp", "::1", "6060"), ("tcp", "127.0.0.1", "6060"), ("tcp", "::1", "6061")];
    wait_for("the server", || host_asks(&host, "tcp", "127.0.0.1", "6060"));
    wait_for("the server", || host_asks(&host, "tcp", "::1", "6062"));
    answers(&host, "one ", &before);
    // One of two, and the only one, are noted as taken back; nobody else has been told.
    let note = |name: &str, gone: &[u64]| {
        let id = host.corten(["inspect", "-f", "{{.Id}}", name]).ok();
        let path = host.exec_root().join("c").join(id).join("places.json");
        let mut places: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).expect("places")).expect("JSON");
        let published = places["published"].as_array_mut().expect("ports");
        let count = published.len();
        published.retain(|port| !gone.contains(&port["host"].as_u64().expect("a port")));
        assert!(published.len() < count);
        (path, places.to_string())
    };
    let notes = [note("one", &[6060]), note("two", &[6062])];
    host.kill_daemon();
    for (path, places) in notes {
        std::fs::write(path, places).expect("places are written");
    }
    host.start_daemon();
    let is_gone = |at: &str, port: &str| host_asks(&host, "tcp", at, port).is_none().then_some(());
    for (at, port) in [("::1", "6060"), ("127.0.0.1", "6060"), ("::1", "6062")] {
        wait_for("the port to be closed", || is_gone(at, port));
    }
    answers(&host, "one ", &[("tcp", "127.0.0.1", "6061"), ("tcp", "::1", "6061")]);
    // They are others' to have.
    serve(&host, Cli::Corten, "three", &["-p", "6060:80", "-p", "[::1]:6062:80"]);
    wait_for("the server", || host_asks(&host, "tcp", "::1", "6062"));
    answers(&host, "three ", &[("tcp", "::1", "6060"), ("tcp", "127.0.0.1", "6060")]);
    host.corten(["rm", "-f", "one", "two", "three"]).ok();
}

/// The rules of a host that lets nothing in but what it says.
const CLOSED: &str = "add table inet fw
    add chain inet fw input { type filter hook input priority 0; policy drop; }
    add rule inet fw input ct state established,related accept
    add rule inet fw input iifname lo accept
    add rule inet fw input meta l4proto { icmp, ipv6-icmp } accept";

#[test]
fn published_ports_obey_the_hosts_rules_where_that_is_asked_for() {
    let mut host = host_with(&["--firewall", "respect"]);
    let peer = &host.neighbour("192.0.2");
    let six = "fd00:192:0:2::1";
    for cli in CLIS {
        host.cli(cli, ["network", "create", "--ipv6", "web"]).ok();
        serve(
            &host,
            cli,
            "one",
            &["--network", "web", "-p", "8080:80", "-p", "8080:80/udp", "-p", "127.0.0.1:8081:80"],
        );
        // Side by side: that nothing comes takes its time.
        let both = |protocol: &str| {
            std::thread::scope(|scope| {
                let ask = |at| scope.spawn(move || peer_asks(peer, protocol, at, "8080"));
                ["192.0.2.1", six].map(ask).map(|asked| asked.join().expect("an answer or none"))
            })
        };
        let own = [Some("one 192.0.2.2".to_owned()), Some("one fd00:192:0:2::2".to_owned())];
        // A bridge that is new looks for others of its address for a second, and for nobody else meanwhile.
        wait_for("the server", || peer_asks(peer, "tcp", six, "8080"));
        for protocol in ["tcp", "udp"] {
            assert_eq!(both(protocol), own, "the clients' addresses are kept");
        }
        host.program("nft", [CLOSED]).ok();
        for protocol in ["tcp", "udp"] {
            assert_eq!(both(protocol), [None, None]);
        }
        // The host itself is not meant, nor are containers.
        answers(
            &host,
            "one ",
            &[
                ("tcp", "127.0.0.1", "8080"),
                ("tcp", "::1", "8080"),
                ("udp", "192.0.2.1", "8080"),
                ("tcp", "127.0.0.1", "8081"),
            ],
        );
        host.program("nft", ["add rule inet fw input tcp dport 8080 accept"]).ok();
        assert_eq!((both("tcp"), both("udp")), (own.clone(), [None, None]));
        host.program("nft", ["add rule inet fw input ip6 saddr fd00:192:0:2::2 udp dport 8080 accept"]).ok();
        assert_eq!(both("udp"), [None, own[1].clone()]);
        // Rules that were taken away are there again, of whatever kind they are.
        host.program("nft", ["flush ruleset"]).ok();
        host.program(
            "sh",
            ["-c", "ip rule flush; ip rule add lookup main priority 32766; ip route flush table 17230"],
        )
        .ok();
        wait_for("rules to be put back", || (both("tcp") == own && both("udp") == own).then_some(()));
        // Without a daemon, and with the next.
        host.kill_daemon();
        assert_eq!((both("tcp"), both("udp")), (own.clone(), own.clone()), "without a daemon");
        host.start_daemon();
        assert_eq!((both("tcp"), both("udp")), (own.clone(), own.clone()), "with the next");
        host.cli(cli, ["run", "--rm", "-p", "7000:80/sctp", "busybox", "true"])
            .fails(125, "firewall=respect");
        host.cli(cli, ["rm", "-f", "one"]).ok();
        host.cli(cli, ["network", "rm", "web"]).ok();
        let left = host.program("sh", ["-c", "ip rule; ip -6 rule"]).ok();
        assert!(!left.contains("0x434e0000"), "{left}");
    }
}

#[test]
fn without_it_they_do_not_as_with_docker() {
    let host = host_with(&[]);
    let peer = host.neighbour("192.0.2");
    serve(&host, Cli::Docker, "one", &["-p", "8080:80"]);
    host.program("nft", [CLOSED]).ok();
    wait_for("the server", || peer_asks(&peer, "tcp", "192.0.2.1", "8080"));
    host.daemon(&["--firewall", "ignore", "--validate"])
        .fails(125, "invalid firewall: ignore (bypass or respect)");
    host.corten(["rm", "-f", "one"]).ok();
}

#[test]
fn containers_of_an_internal_network_do_not_get_out_by_published_ports() {
    let host = host_with(&[]);
    serve(&host, Cli::Corten, "four", &["-p", "8080:80", "-p", "8080:80/udp"]);
    wait_for("the server", || host_asks(&host, "tcp", "127.0.0.1", "8080"));
    for (network, flags, out) in
        [("open", &["--ipv6"][..], true), ("closed", &["--ipv6", "--internal"], false)]
    {
        host.corten(["network", "create"].iter().chain(flags).chain(&[network])).ok();
        let gateways = "{{range .IPAM.Config}}{{.Gateway}} {{end}}";
        let gateways = host.corten(["network", "inspect", "-f", gateways, network]).ok();
        assert_eq!(gateways.split_whitespace().count(), 2, "{gateways}");
        host.corten(["run", "-d", "--name", network, "--network", network, "debian", "sleep", "1000"]).ok();
        for gateway in gateways.split_whitespace() {
            for protocol in ["tcp", "udp"] {
                let ask = || {
                    let inside = |args: &[&str]| host.corten(["exec", network, "perl"].iter().chain(args));
                    asks(inside, protocol, gateway, "8080")
                };
                if out {
                    wait_for("an answer", ask);
                } else {
                    assert_eq!(ask(), None, "{protocol} {gateway}");
                }
            }
        }
    }
    host.corten(["rm", "-f", "four", "open", "closed"]).ok();
}

#[test]
fn a_thousand_published_ports_cost_no_process_and_little_memory() {
    let host = host_with(&[]);
    serve(&host, Cli::Corten, "one", &["-p", "8080:80"]);
    wait_for("the server", || host_asks(&host, "tcp", "::1", "8080"));
    let private = |pid: &str| -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps_rollup");
        let line = text.lines().find(|line| line.starts_with("Private_Dirty:")).expect("a line");
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
    };
    let (netd, daemon) = (netd(&host), host.daemon_pid().to_string());
    let (before, daemon_before) = (private(&netd), private(&daemon));
    let since = Instant::now();
    serve(&host, Cli::Corten, "many", &["-p", "20000-20999:20000-20999", "-p", "8081:80"]);
    let took = since.elapsed();
    wait_for("the server", || host_asks(&host, "tcp", "::1", "8081"));
    let (after, daemon_after) = (private(&netd), private(&daemon));
    println!(
        "1,000 ports, twice: started in {took:?}; netd {} KiB, the daemon {} KiB more",
        after.saturating_sub(before),
        daemon_after.saturating_sub(daemon_before)
    );
    assert!(after.saturating_sub(before) < 2048, "{before} KiB, then {after}");
    assert_eq!(self::netd(&host), netd);
    // One supervisor for each container.
    assert_eq!(host.supervisors().len(), 2);
    let port = host.corten(["inspect", "-f", "{{len .NetworkSettings.Ports}}", "many"]).ok();
    assert_eq!(port, "1001");
    host.corten(["run", "--rm", "-p", "20500:80", "busybox", "true"])
        .fails(125, "Bind for 0.0.0.0:20500 failed: port is already allocated");
    host.corten(["rm", "-f", "one", "many"]).ok();
}
