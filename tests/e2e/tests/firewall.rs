//! What others on the host do with packet filters: they are obeyed, and people are told; and who can reach what at all.

use kit::{CLIS, Host, wait_for};

/// What the server at `address` answers that is asked by a program from `ask`.
fn page(ask: impl Fn(&str, [String; 2]) -> kit::Cmd, address: &str, port: &str) -> Option<String> {
    let script =
        format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 1 {address} {port} | tail -n 1");
    let output = ask("sh", ["-c".to_owned(), script]).run();
    Some(output.stdout.trim().to_owned()).filter(|text| !text.is_empty())
}

/// A container that serves its name at port 80, and what was said at its creation.
fn serve(host: &Host, name: &str, flags: &[&str]) -> String {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(flags);
    let script = format!("mkdir /w; echo {name} > /w/index.html; exec httpd -f -p 80 -h /w");
    args.extend(["busybox", "sh", "-c", &script]);
    let output = host.corten(args).run();
    assert_eq!(output.code, 0, "{}", output.stderr);
    let pid = host.corten(["inspect", "-f", "{{.State.Pid}}", name]).ok();
    let listening = format!("grep -ciE ':0050 0+:0+ 0A' /proc/{pid}/net/tcp6");
    wait_for("the server", || host.program("sh", ["-c", &listening]).run().code.eq(&0).then_some(()));
    output.stderr
}

#[test]
fn a_chain_that_drops_what_is_passed_on_is_named_with_the_command_that_opens_it() {
    let host = Host::apart();
    let peer = host.neighbour("192.0.2");
    let from_peer = |port: &str| page(|name, args| peer.program(name, args), "192.0.2.1", port);
    let quiet = host.corten(["run", "--rm", "-p", "8080:80", "busybox", "true"]).run();
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
    let chains = [
        (
            "nft add table inet fw; nft 'add chain inet fw pass { type filter hook forward priority 10; policy drop; }'",
            "inet fw pass (policy drop)",
            "nft insert rule inet fw pass oifname \"corten0\" accept",
            "nft delete table inet fw",
        ),
        (
            "iptables-nft -P FORWARD DROP",
            "ip filter FORWARD (policy drop)",
            "iptables -I FORWARD -o corten0 -j ACCEPT",
            "iptables-nft -P FORWARD ACCEPT; iptables-nft -F FORWARD",
        ),
    ];
    for (closes, chain, command, away) in chains {
        host.program("sh", ["-c", closes]).ok();
        let said = serve(&host, "web", &["-p", "8080:80"]);
        let named = format!(
            "WARNING: The chain {chain} of this host drops what is sent to published ports of network bridge and what its containers send out"
        );
        for words in [named.as_str(), command] {
            assert!(said.contains(words), "no {words} in {said}");
        }
        let logged = host.daemon_log();
        assert!(logged.contains(&format!("The chain {chain} of this host drops")), "{logged}");
        assert_eq!(from_peer("8080"), None, "{chain}");
        // The commands as they were told, and nothing else, open it.
        let commands =
            said.lines().find(|line| line.contains(chain)).unwrap().split_once("allow it by ").unwrap().1;
        host.program("sh", ["-c", &format!("set -e; {commands}")]).ok();
        assert_eq!(from_peer("8080").as_deref(), Some("web"), "{chain}: {commands}");
        host.corten(["rm", "-f", "web"]).ok();
        for cli in CLIS {
            let output = host.cli(cli, ["run", "--rm", "-p", "8080:80", "busybox", "true"]).run();
            assert_eq!((output.code, output.stderr.as_str()), (0, ""), "it is open now");
        }
        host.program("sh", ["-c", away]).ok();
    }
    // Docker's command says it too, and says nothing where nothing is sent out.
    host.program("iptables-nft", ["-P", "FORWARD", "DROP"]).ok();
    let said = host.docker(["run", "--rm", "busybox", "true"]).run().stderr;
    assert!(said.contains("drops what containers of network bridge send out"), "{said}");
    host.corten(["network", "create", "--internal", "back"]).ok();
    for network in ["back", "none", "host"] {
        assert_eq!(host.docker(["run", "--rm", "--network", network, "busybox", "true"]).run().stderr, "");
    }
}

/// A bus and firewalld, in the network namespace of a host.
struct Firewalld {
    programs: Vec<kit::Running>,
}

impl Firewalld {
    fn start(host: &Host) -> Option<Self> {
        let path = host.root().join("firewalld");
        std::fs::create_dir(&path).expect("a directory");
        let config = path.join("bus.conf");
        let rules = "<allow user=\"*\"/><allow own=\"*\"/><allow send_type=\"method_call\"/><allow send_destination=\"*\"/>";
        let text = format!(
            "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\">{rules}<allow receive_sender=\"*\"/></policy></busconfig>",
            host.bus().display()
        );
        std::fs::write(&config, text).expect("a file");
        if !std::path::Path::new("/usr/sbin/firewalld").exists() {
            kit::skip("firewalld", "it is not installed");
            return None;
        }
        let bus = format!("--config-file={}", config.display());
        let mut programs =
            vec![host.program("dbus-daemon", [bus.as_str(), "--nofork", "--nopidfile"]).spawn()];
        wait_for("the bus", || host.bus().exists().then_some(()));
        let etc = path.display().to_string();
        let args =
            ["/usr/sbin/firewalld", "--nofork", "--nopid", "--log-target=console", "--system-config", &etc];
        // Debian's own interpreter has the modules.
        programs.push(
            host.program("/usr/bin/python3", args).env("DBUS_SYSTEM_BUS_ADDRESS", address(host)).spawn(),
        );
        let this = Self { programs };
        wait_for("firewalld", || this.ask(host, &["--state"]).run().code.eq(&0).then_some(()));
        Some(this)
    }

    fn ask(&self, host: &Host, args: &[&str]) -> kit::Cmd {
        let args = ["/usr/bin/firewall-cmd"].iter().chain(args);
        host.program("/usr/bin/python3", args).env("DBUS_SYSTEM_BUS_ADDRESS", address(host))
    }
}

impl Drop for Firewalld {
    fn drop(&mut self) {
        for program in self.programs.iter_mut().rev() {
            let _ = program.child.kill();
            let _ = program.child.wait();
        }
    }
}

fn address(host: &Host) -> String {
    format!("unix:path={}", host.bus().display())
}

#[test]
fn under_firewalld_the_bridges_are_in_a_zone_of_ours() {
    let host = Host::apart();
    let Some(firewalld) = Firewalld::start(&host) else { return };
    let peer = host.neighbour("192.0.2");
    let from_peer = || page(|name, args| peer.program(name, args), "192.0.2.1", "8080");
    serve(&host, "web", &["-p", "8080:80"]);
    let zone =
        || firewalld.ask(&host, &["--zone=corten", "--list-interfaces"]).run().stdout.trim().to_owned();
    wait_for("the zone", || zone().contains("corten0").then_some(()));
    let out = || host.corten(["exec", "web", "ping", "-c", "1", "-W", "1", "192.0.2.2"]).run().code == 0;
    assert_eq!(from_peer().as_deref(), Some("web"));
    assert!(out(), "out of the container");
    // Another network joins as it is made, and leaves as it is removed.
    let bridge = "com.docker.network.bridge.name=shop0";
    host.corten(["network", "create", "-o", bridge, "shop"]).ok();
    assert!(zone().contains("shop0"), "{}", zone());
    assert_eq!(host.corten(["run", "--rm", "--network", "shop", "busybox", "true"]).run().stderr, "");
    host.corten(["network", "rm", "shop"]).ok();
    assert_eq!(zone(), "corten0");
    // What it has of us survives that it loads its rules anew, and that it forgets what was said at run time.
    for again in ["--reload", "--complete-reload"] {
        firewalld.ask(&host, &[again]).ok();
        let begun = std::time::Instant::now();
        wait_for("all to be back", || (from_peer().is_some() && out()).then_some(()));
        assert!(begun.elapsed().as_secs() < 3, "{again}: {:?}", begun.elapsed());
        wait_for("the zone", || zone().contains("corten0").then_some(()));
    }
}

#[test]
fn network_ports_says_who_can_reach_what() {
    let host = Host::apart();
    let _peer = host.neighbour("192.0.2");
    let flags = ["-p", "127.0.0.1:8081:80", "-p", "8080:80", "-p", "192.0.2.1:9053:53/udp"];
    serve(&host, "web", &flags);
    host.corten(["network", "create", "--ipv6", "shop"]).ok();
    host.corten([
        "run",
        "-d",
        "--name",
        "six",
        "--network",
        "shop",
        "-p",
        "8090:80",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    let table = host.corten(["network", "ports"]).ok();
    let expected = "\
CONTAINER   HOST             CONTAINER PORT   REACHED BY
six         0.0.0.0:8090     80/tcp           the machines of 192.0.2.0/24
six         [::]:8090        80/tcp           the machines of fd00:192:0:2::/64
web         192.0.2.1:9053   53/udp           the machines of 192.0.2.0/24
web         0.0.0.0:8080     80/tcp           the machines of 192.0.2.0/24
web         [::]:8080        80/tcp           the machines of fd00:192:0:2::/64, as the host's input rules allow
web         127.0.0.1:8081   80/tcp           this host only";
    let lines = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    assert_eq!(lines(&table), lines(expected), "{table}");
    let only = |filter: &str| {
        host.corten(["network", "ports", "--filter", filter, "--format", "{{.Container}} {{.HostPort}}"]).ok()
    };
    assert_eq!(only("reach=host"), "web 8081");
    assert_eq!(only("publish=9053/udp"), "web 9053");
    assert_eq!(only("network=shop"), "six 8090\nsix 8090");
    assert_eq!(only("publish=8080"), "web 8080\nweb 8080");
    host.corten(["network", "ports", "--filter", "x=y"]).fails(1, "invalid filter 'x'");
    host.corten(["network", "ports", "--filter", "reach=bogus"]).fails(1, "invalid filter 'reach=bogus'");
    // An address that anybody in the world can send to.
    host.program("ip", ["addr", "add", "8.8.8.1/24", "dev", "lan19202"]).ok();
    assert_eq!(only("reach=anyone"), "six 8090\nweb 8080");
    host.program("ip", ["addr", "del", "8.8.8.1/24", "dev", "lan19202"]).ok();
    // A chain of somebody else's.
    let closes = "nft add table ip fw; nft 'add chain ip fw pass { type filter hook forward priority 10; policy drop; }'";
    host.program("sh", ["-c", closes]).ok();
    let shown = host.corten(["network", "ports", "--filter", "publish=8080"]).ok();
    assert!(shown.contains("this host only: blocked by ip fw pass (policy drop)\n"), "{shown}");
    assert_eq!(only("reach=blocked"), "six 8090\nweb 9053\nweb 8080");
    host.program("sh", ["-c", "nft add rule ip fw pass ip saddr 192.0.2.2 accept"]).ok();
    let json = host.corten(["network", "ports", "--json", "--filter", "publish=8080"]).ok();
    let row: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(row["ReachedBy"], "the machines of 192.0.2.0/24, as ip fw pass allows");
    assert_eq!((row["Kind"].as_str(), row["Chain"].as_str()), (Some("subnets"), Some("ip fw pass")));
}

/// The rules of a table as `nft` lists it: its chains, and what its sets and maps are, but not what is in them.
fn rules(table: &str) -> String {
    let mut kept = Vec::new();
    let mut inside = false;
    for line in table.lines() {
        inside |= line.trim_start().starts_with("elements = {");
        if !inside {
            kept.push(line.trim_end());
        }
        inside &= !line.trim_end().ends_with('}');
    }
    kept.join("\n")
}

#[test]
fn the_guide_shows_the_rules_of_a_running_engine() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/firewall.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let (_, shown) = guide.split_once("```nft\ntable inet corten").unwrap();
    let shown = format!("table inet corten{}", shown.split_once("```").unwrap().0);
    let host = Host::apart();
    // The host of the guide passed packets on before.
    let passes = "for f in ipv4/ip_forward ipv6/conf/all/forwarding ipv6/conf/default/forwarding; do echo 1 > /proc/sys/net/$f; done";
    host.program("sh", ["-c", passes]).ok();
    let subnets = ["--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64"];
    let name = "com.docker.network.bridge.name=br-a";
    host.corten([&["network", "create", "--ipv6", "-o", name, "a"][..], &subnets].concat()).ok();
    host.corten(["network", "create", "--internal", "-o", "com.docker.network.bridge.name=br-i", "i"]).ok();
    let ports =
        ["-p", "8080:80", "-p", "127.0.0.1:5432:5432", "-p", "9000-9003:9000-9003", "-p", "53:53/udp"];
    let run = ["run", "-d", "--name", "web", "--network", "a"];
    host.corten([&run[..], &ports, &["busybox", "sleep", "1000"]].concat()).ok();
    let list = || host.program("nft", ["--stateless", "list", "table", "inet", "corten"]).ok();
    let is = list();
    assert!(rules(&is) == rules(&shown), "docs/guide/firewall.md shows other rules than these:\n{is}");
    let flat = is.split_whitespace().collect::<Vec<_>>().join(" ");
    for element in [
        "tcp . 8080 : 10.1.0.2 . 80",
        "tcp . 8080 : fd00:1::2 . 80",
        "udp . 53 : 10.1.0.2 . 53",
        "udp . 53 : fd00:1::2 . 53",
        "127.0.0.1 . tcp . 5432 : 10.1.0.2 . 5432",
        "tcp . 9003 : 10.1.0.2 . 9003",
        "\"br-a\" . 10.1.0.0/24",
        "\"br-a\" . fd00:1::/64",
        "set internal { type ifname elements = { \"br-i\" } }",
    ] {
        assert!(flat.contains(element), "no {element} in {flat}");
    }
    // Made anew it is the same; without the container, and without networks, the rules stay.
    host.program("nft", ["flush", "ruleset"]).ok();
    let sorted = |table: &str| {
        let mut words: Vec<String> = table.split(',').map(|one| one.split_whitespace().collect()).collect();
        words.sort();
        words
    };
    wait_for("the table", || {
        let listed = host.program("nft", ["--stateless", "list", "table", "inet", "corten"]).run().stdout;
        (sorted(listed.trim_end()) == sorted(&is)).then_some(())
    });
    host.corten(["rm", "-f", "web"]).ok();
    let empty = list();
    assert!(rules(&empty) == rules(&shown) && !empty.contains("8080"), "{empty}");
}
