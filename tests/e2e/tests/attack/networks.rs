//! Attacks by way of networks.

use std::time::Instant;

use kit::{Cmd, Host, wait_for};

use super::Canary;

/// How often a ruleset is taken away: each time it has to be back.
const TIMES: u32 = 5;

/// Prints what datagrams come to port 53, for five seconds.
const LISTENER: &str = "$s = IO::Socket::INET->new(LocalPort => 53, Proto => 'udp') or die; $| = 1; alarm 5; \
    while (defined $s->recv($b, 4096)) { print $b }";

/// What answers at a place that is asked by `program`.
fn page(program: impl Fn(&str, [&str; 2]) -> Cmd, address: &str, port: &str) -> String {
    let script = format!("printf 'GET / HTTP/1.0\r\n\r\n' | busybox nc -w 1 {address} {port} | tail -n 1");
    program("sh", ["-c", &script]).run().stdout.trim().to_owned()
}

fn serve(host: &Host, name: &str, flags: &[&str]) -> String {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(flags);
    let script = format!("mkdir /w; echo {name} > /w/index.html; exec httpd -f -p 80 -h /w");
    args.extend(["busybox", "sh", "-c", &script]);
    host.corten(args).ok();
    let pid = host.corten(["inspect", "-f", "{{.State.Pid}}", name]).ok();
    let listening = format!("grep -ciE ':0050 0+:0+ 0A' /proc/{pid}/net/tcp6");
    wait_for("the server", || host.program("sh", ["-c", &listening]).run().code.eq(&0).then_some(()));
    host.corten(["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name]).ok()
}

#[test]
fn firewall_reload() {
    let host = Host::apart();
    let canary = Canary::new(&host);
    let peer = host.neighbour("192.0.2");
    for network in ["front", "back"] {
        host.corten(["network", "create", network]).ok();
    }
    let web = serve(&host, "web", &["--network", "front", "-p", "8080:80"]);
    serve(&host, "evil", &["--network", "back"]);
    let across = || page(|name, args| host.corten([&["exec", "evil", name], &args[..]].concat()), &web, "80");
    let from_lan = |address: &str, port: &str| page(|name, args| peer.program(name, args), address, port);
    assert_eq!((across().as_str(), from_lan(&web, "80").as_str()), ("", ""));
    let ways = [
        "nft flush ruleset",
        "nft delete table inet corten",
        "nft flush chain inet corten forward",
        "nft flush set inet corten bridges",
    ];
    for round in 0..TIMES {
        for way in ways {
            let begun = Instant::now();
            host.program("sh", ["-c", way]).ok();
            wait_for("the ruleset", || {
                let table = host.program("nft", ["list", "table", "inet", "corten"]).run().stdout;
                // Elements come in any order.
                let bridges = table.split_once("set bridges").and_then(|(_, rest)| rest.split_once('}'));
                let whole = table.contains("8080") && table.contains("oifname @bridges goto into");
                (whole && bridges.is_some_and(|(bridges, _)| bridges.contains("\"br-"))).then_some(())
            });
            assert!(begun.elapsed().as_millis() < 1000, "{way}: {:?}", begun.elapsed());
            if round == 0 {
                assert_eq!(across(), "", "{way}: from another network");
                assert_eq!(from_lan(&web, "80"), "", "{way}: by routing");
                assert_eq!(from_lan("192.0.2.1", "8080"), "web", "{way}: the published port");
            }
        }
    }
    canary.check();
}

#[test]
fn lan_loopback() {
    let host = Host::apart();
    let canary = Canary::new(&host);
    let peer = host.neighbour("192.0.2");
    serve(&host, "web", &["-p", "127.0.0.1:8081:80"]);
    assert_eq!(page(|name, args| host.program(name, args), "127.0.0.1", "8081"), "web");
    // The frames arrive: they are counted before anybody of ours sees them.
    let count = "nft add table ip seen; \
        nft 'add chain ip seen before { type filter hook prerouting priority -400; }'; \
        nft 'add rule ip seen before ip daddr 127.0.0.1 iifname lan19202 tcp dport 8081 counter'; \
        nft 'add rule ip seen before ip daddr 127.0.0.1 iifname corten0 tcp dport 8081 counter'";
    host.program("sh", ["-c", count]).ok();
    // The host takes such packets by this device, were it not for us.
    host.program("sh", ["-c", "echo 1 > /proc/sys/net/ipv4/conf/lan19202/route_localnet"]).ok();
    let forge = "ip link set lo down; ip addr flush dev lo; echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; \
        ip route del local 127.0.0.1 table local; ip route del local 127.0.0.0/8 table local; \
        ip route add 127.0.0.1/32 via 192.0.2.1 src 192.0.2.2; true";
    peer.program("sh", ["-c", forge]).ok();
    assert_eq!(page(|name, args| peer.program(name, args), "127.0.0.1", "8081"), "");
    // The same from a container that may do with its network what it likes.
    serve(&host, "evil", &["--cap-add", "NET_ADMIN"]);
    let pid = host.corten(["inspect", "-f", "{{.State.Pid}}", "evil"]).ok();
    let gateway = host.corten(["inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", "evil"]).ok();
    let own = host.corten(["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "evil"]).ok();
    let inside = format!("--net=/proc/{pid}/ns/net");
    let forge = forge.replace("192.0.2.1 ", &format!("{gateway} ")).replace("192.0.2.2", &own);
    Cmd::new("nsenter").args([&inside, "sh", "-c", &forge]).ok();
    let from_container = |name: &str, args: [&str; 2]| Cmd::new("nsenter").args([&inside, name]).args(args);
    assert_eq!(page(from_container, "127.0.0.1", "8081"), "");
    let seen = host.program("nft", ["list", "table", "ip", "seen"]).ok();
    let arrived =
        seen.lines().filter(|line| line.contains("counter") && !line.contains("packets 0 ")).count();
    assert_eq!(arrived, 2, "frames that were never sent prove nothing: {seen}");
    canary.check();
}

#[test]
fn internal_dns() {
    let host = Host::apart();
    let canary = Canary::new(&host);
    let peer = host.neighbour("192.0.2");
    host.corten(["network", "create", "open"]).ok();
    host.corten(["network", "create", "--internal", "vault"]).ok();
    // What a server outside is asked while a container on a network looks a name up.
    let asked = |network: &str, command: &[&str]| {
        let listener = peer.program("perl", ["-MIO::Socket::INET", "-e", LISTENER]).spawn();
        wait_for("the server", || {
            peer.program("grep", ["-q", ":0035 ", "/proc/thread-self/net/udp"])
                .run()
                .code
                .eq(&0)
                .then_some(())
        });
        let flags = ["run", "--rm", "--network", network, "--dns", "192.0.2.2", "busybox", "timeout", "3"];
        let output = host.corten(flags.iter().chain(command)).run();
        assert_ne!(output.code, 0, "{output}");
        let heard = listener.wait();
        heard.stdout
    };
    let name = "secret.example.com";
    assert!(
        asked("open", &["nslookup", name]).contains("secret"),
        "the server outside hears of nothing at all"
    );
    assert_eq!(asked("vault", &["nslookup", name]), "");
    assert_eq!(asked("vault", &["nslookup", name, "192.0.2.2"]), "");
    // Nor do the daemon's own servers ask for it: it is refused, and said so.
    let refused = host.corten(["run", "--rm", "--network", "vault", "busybox", "nslookup", name]).run();
    assert!(refused.stdout.contains("SERVFAIL") || refused.stderr.contains("SERVFAIL"), "{refused}");
    canary.check();
}
