//! What stays true of ports, names and ways out while containers come to networks and leave them.

use kit::{Host, wait_for};

/// What a server at port 7070 or so of the host answers, if one does.
fn fetch(host: &Host, address: &str, port: &str) -> Option<String> {
    let script =
        format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 3 {address} {port} | tail -n 1");
    let output = host.program("sh", ["-c", &script]).run();
    Some(output.stdout.trim().to_owned()).filter(|text| !text.is_empty())
}

/// A container that says its name at port 80.
fn serve(host: &Host, name: &str, flags: &[&str]) {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(flags);
    let script = format!("mkdir /a; echo {name} > /a/index.html; exec httpd -f -p 80 -h /a");
    args.extend(["busybox", "sh", "-c", &script]);
    host.corten(args).ok();
    let pid = host.corten(["inspect", "-f", "{{.State.Pid}}", name]).ok();
    let listening = format!("grep -qiE ':0050 0+:0+ 0A' /proc/{pid}/net/tcp6");
    wait_for("the server", || (host.program("sh", ["-c", &listening]).run().code == 0).then_some(()));
}

fn address(host: &Host, name: &str, network: &str) -> String {
    let format = format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}");
    host.corten(["inspect", "-f", &format, name]).ok()
}

#[test]
fn ports_of_a_network_that_was_left_do_not_lead_to_the_next_who_comes() {
    let mut host = Host::apart();
    for network in ["pa", "pb"] {
        host.corten(["network", "create", network]).ok();
    }
    serve(&host, "one", &["--network", "pa", "-p", "7070:80"]);
    let before = address(&host, "one", "pa");
    host.corten(["network", "connect", "pb", "one"]).ok();
    let shown = host.corten(["port", "one"]).ok();
    // By either family: packet filters lead in the one, netd in the other.
    let both = |host: &Host| ["127.0.0.1", "::1"].map(|at| fetch(host, at, "7070"));
    let said = |name: &str| [Some(name.to_owned()), Some(name.to_owned())];
    assert_eq!(both(&host), said("one"));
    host.corten(["network", "disconnect", "pa", "one"]).ok();
    assert_eq!(both(&host), said("one"), "it is still on a network");
    assert_eq!(host.corten(["port", "one"]).ok(), shown);
    serve(&host, "two", &["--network", "pa"]);
    assert_eq!(address(&host, "two", "pa"), before, "the next has the address");
    assert_eq!(both(&host), said("one"));
    // The next daemon leads them the same way.
    host.kill_daemon();
    host.start_daemon();
    assert_eq!(both(&host), said("one"));
    // With the last network they are closed, and anybody's to have.
    let last = address(&host, "one", "pb");
    host.corten(["network", "disconnect", "pb", "one"]).ok();
    serve(&host, "three", &["--network", "pb"]);
    assert_eq!(address(&host, "three", "pb"), last, "the next has the address");
    assert_eq!(both(&host), [None, None]);
    assert_eq!(host.corten(["port", "one"]).ok(), "");
    serve(&host, "four", &["--network", "pb", "-p", "7070:80"]);
    assert_eq!(both(&host), said("four"));
}

/// What a container is told when it asks for a name.
fn look_up(host: &Host, name: &str, asked: &str) -> Result<String, String> {
    let output = host.corten(["exec", name, "nslookup", asked, "127.0.0.11"]).run();
    if output.code == 0 { Ok(output.stdout) } else { Err(output.stdout + &output.stderr) }
}

#[test]
fn names_of_a_network_that_was_left_are_not_told_and_nobody_outside_is_asked() {
    let mut host = Host::apart();
    host.corten(["network", "create", "web"]).ok();
    host.corten(["network", "create", "--internal", "back"]).ok();
    // Whoever is asked there is not there, but counts how often.
    host.corten(["run", "-d", "--name", "outside", "busybox", "sleep", "1000"]).ok();
    let pid = host.corten(["inspect", "-f", "{{.State.Pid}}", "outside"]).ok();
    let count = || {
        let all = std::fs::read_to_string(format!("/proc/{pid}/net/snmp")).unwrap();
        let udp = all.lines().rfind(|line| line.starts_with("Udp: ")).unwrap();
        udp.split(' ').nth(2).unwrap().parse::<u64>().unwrap()
    };
    let asks_outside = |host: &Host| {
        let before = count();
        look_up(host, "one", "example.org").unwrap_err();
        count() > before
    };
    let at = address(&host, "outside", "bridge");
    host.corten(["run", "-d", "--name", "two", "--network", "web", "busybox", "sleep", "1000"]).ok();
    let flags = ["--network", "back", "--network", "web", "--dns", &at, "busybox", "sleep", "1000"];
    host.corten(["run", "-d", "--name", "one"].into_iter().chain(flags)).ok();
    assert!(asks_outside(&host));
    look_up(&host, "one", "two").unwrap();
    host.corten(["network", "disconnect", "web", "one"]).ok();
    let none = look_up(&host, "one", "two").unwrap_err();
    assert!(none.contains("NXDOMAIN"), "{none}");
    assert!(!asks_outside(&host));
    look_up(&host, "one", "one").unwrap();
    // Who comes back has all of it, also from the next daemon.
    host.corten(["network", "connect", "web", "one"]).ok();
    wait_for("the names of the network", || look_up(&host, "one", "two").ok());
    wait_for("a question outside", || asks_outside(&host).then_some(()));
    host.corten(["network", "disconnect", "back", "one"]).ok();
    host.corten(["network", "disconnect", "web", "one"]).ok();
    look_up(&host, "one", "two").unwrap_err();
    assert!(!asks_outside(&host));
    host.kill_daemon();
    host.start_daemon();
    host.corten(["network", "connect", "web", "one"]).ok();
    wait_for("the names of the network", || look_up(&host, "one", "two").ok());
    wait_for("a question outside", || asks_outside(&host).then_some(()));
}

#[test]
fn ports_that_had_no_way_in_are_published_when_a_network_comes_that_has_one() {
    let host = Host::apart();
    host.corten(["network", "create", "--internal", "back"]).ok();
    for network in ["web", "best"] {
        host.corten(["network", "create", network]).ok();
    }
    serve(&host, "one", &["--network", "back", "-p", "7171:80", "-p", "80"]);
    assert_eq!(host.corten(["port", "one"]).ok(), "");
    // What another has is refused, and the container stays where it was.
    serve(&host, "other", &["--network", "web", "-p", "7171:80"]);
    let taken = "Bind for 0.0.0.0:7171 failed: port is already allocated";
    host.corten(["network", "connect", "web", "one"]).fails(1, taken);
    let on = ["inspect", "-f", "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}", "one"];
    assert_eq!(host.corten(on).ok(), "back ");
    assert_eq!(host.corten(["exec", "one", "sh", "-c", "ip -o link | grep -c eth"]).ok(), "1");
    host.corten(["rm", "-f", "other"]).ok();
    host.corten(["network", "connect", "web", "one"]).ok();
    let both = |port: &str| ["127.0.0.1", "::1"].map(|at| fetch(&host, at, port));
    let said = [Some("one".to_owned()), Some("one".to_owned())];
    assert_eq!(both("7171"), said);
    let shown = host.corten(["port", "one"]).ok();
    let found = shown.lines().find(|line| !line.contains("7171")).expect("one that was found");
    let found = found.rsplit(':').next().unwrap().to_owned();
    assert_eq!(both(&found), said);
    // By the network that is better from now on, at the same numbers.
    host.corten(["network", "connect", "--gw-priority", "10", "best", "one"]).ok();
    assert_eq!(host.corten(["port", "one"]).ok(), shown);
    let ways = ["network", "ports", "--format", "{{.Network}}"];
    assert!(host.corten(ways).ok().lines().all(|line| line == "best"));
    let web = address(&host, "one", "web");
    let rules = host.program("nft", ["list", "ruleset"]).ok();
    assert!(!rules.contains(&web) && rules.contains(&address(&host, "one", "best")), "{rules}");
    assert_eq!((both("7171"), both(&found)), (said.clone(), said));
}

#[test]
fn each_family_goes_out_by_a_network_that_has_it() {
    let host = Host::apart();
    host.corten(["network", "create", "four"]).ok();
    host.corten(["network", "create", "--ipv4=false", "--ipv6", "six"]).ok();
    host.corten(["network", "create", "--ipv6", "ten"]).ok();
    let routes = |name: &str| {
        let by = |family: &str| {
            let script = format!("ip -{family} route | grep '^default' | sed 's/.* dev \\([^ ]*\\).*/\\1/'");
            host.corten(["exec", name, "sh", "-c", &script]).ok()
        };
        [by("4"), by("6")]
    };
    // From the start, and whoever has come later.
    let start = ["--network", "four", "--network", "six", "busybox", "sleep", "1000"];
    host.corten(["run", "-d", "--name", "one"].into_iter().chain(start)).ok();
    host.corten(["run", "-d", "--name", "two", "--network", "four", "busybox", "sleep", "1000"]).ok();
    assert_eq!(routes("two"), ["eth0", ""]);
    host.corten(["network", "connect", "six", "two"]).ok();
    for name in ["one", "two"] {
        assert_eq!(routes(name), ["eth0", "eth1"], "{name}");
    }
    // One that has both takes over from what is left, in the family that has nothing else.
    host.corten(["network", "connect", "ten", "one"]).ok();
    assert_eq!(routes("one"), ["eth0", "eth1"]);
    host.corten(["network", "disconnect", "six", "one"]).ok();
    assert_eq!(routes("one"), ["eth0", "eth2"]);
    host.corten(["network", "disconnect", "four", "one"]).ok();
    assert_eq!(routes("one"), ["eth2", "eth2"]);
    host.corten(["network", "disconnect", "ten", "one"]).ok();
    assert_eq!(routes("one"), ["", ""]);
}
