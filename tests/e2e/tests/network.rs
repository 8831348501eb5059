//! Networks: made, joined, left and removed, by both command lines.

use kit::{CLIS, Cli, Host, wait_for};

fn inspect(host: &Host, cli: Cli, name: &str, format: &str) -> String {
    host.cli(cli, ["inspect", "-f", format, name]).ok()
}

/// What a shell in a container says.
fn inside(host: &Host, cli: Cli, name: &str, script: &str) -> String {
    host.cli(cli, ["exec", name, "sh", "-c", script]).ok()
}

#[test]
fn containers_of_one_network_reach_each_other_by_both_families() {
    let host = Host::apart();
    for cli in CLIS {
        host.cli(cli, ["network", "create", "--ipv6", "--subnet", "10.77.0.0/24", "web"]).ok();
        host.cli(cli, ["run", "-d", "--name", "one", "--network", "web", "busybox", "sleep", "1000"]).ok();
        let ip = [
            "run",
            "-d",
            "--name",
            "two",
            "--network",
            "web",
            "--ip",
            "10.77.0.9",
            "busybox",
            "sleep",
            "1000",
        ];
        host.cli(cli, ip).ok();
        let format = "{{.NetworkSettings.Networks.web.IPAddress}}/{{.NetworkSettings.Networks.web.IPPrefixLen}} \
            {{.NetworkSettings.Networks.web.Gateway}} {{.HostConfig.NetworkMode}}";
        assert_eq!(inspect(&host, cli, "one", format), "10.77.0.2/24 10.77.0.1 web");
        assert_eq!(inspect(&host, cli, "two", format), "10.77.0.9/24 10.77.0.1 web");
        let six = inspect(&host, cli, "two", "{{.NetworkSettings.Networks.web.GlobalIPv6Address}}");
        assert!(six.starts_with("fd"), "{six}");
        for address in ["10.77.0.9", "10.77.0.1", &six] {
            inside(&host, cli, "one", &format!("ping -c 1 -W 5 {address}"));
        }
        let id = inspect(&host, cli, "two", "{{.Id}}");
        let hosts = inside(&host, cli, "two", "cat /etc/hosts");
        assert!(hosts.contains(&format!("10.77.0.9\t{}", &id[..12])), "{hosts}");
        let route = inside(&host, cli, "one", "ip route");
        assert!(route.contains("default via 10.77.0.1 dev eth0"), "{route}");
        let on =
            host.cli(cli, ["network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{end}}", "web"]).ok();
        assert!(on.contains("one") && on.contains("two"), "{on}");
        host.cli(cli, ["network", "rm", "web"]).fails(1, "has active endpoints");
        host.cli(cli, ["rm", "-f", "one", "two"]).ok();
        assert_eq!(host.cli(cli, ["network", "rm", "web"]).ok(), "web");
        host.cli(cli, ["network", "inspect", "web"]).fails(1, "web not found");
    }
}

#[test]
fn a_running_container_is_connected_and_disconnected() {
    let host = Host::apart();
    for cli in CLIS {
        host.cli(cli, ["network", "create", "front"]).ok();
        host.cli(cli, ["network", "create", "--internal", "back"]).ok();
        host.cli(cli, ["run", "-d", "--name", "one", "--network", "front", "busybox", "sleep", "1000"]).ok();
        host.cli(cli, ["run", "-d", "--name", "two", "--network", "back", "busybox", "sleep", "1000"]).ok();
        let address = inspect(&host, cli, "two", "{{.NetworkSettings.Networks.back.IPAddress}}");
        assert_eq!(inside(&host, cli, "two", "ip route | grep -c default || true"), "0");
        host.cli(cli, ["exec", "one", "ping", "-c", "1", "-W", "1", &address]).fails(1, "");
        host.cli(cli, ["network", "connect", "back", "one"]).ok();
        host.cli(cli, ["network", "connect", "back", "one"]).fails(1, "already exists in network back");
        inside(&host, cli, "one", &format!("ping -c 1 -W 5 {address}"));
        // The way out is given by what is not internal, and moves on with the last that is.
        let way = "ip route | grep default | cut -d' ' -f5";
        assert_eq!(inside(&host, cli, "one", way), "eth0");
        host.cli(cli, ["network", "connect", "front", "two"]).ok();
        assert_eq!(inside(&host, cli, "two", way), "eth1");
        host.cli(cli, ["network", "disconnect", "front", "one"]).ok();
        assert_eq!(inside(&host, cli, "one", "ip -o link | grep -c eth"), "1");
        host.cli(cli, ["network", "disconnect", "front", "one"]).fails(1, "not connected");
        host.cli(cli, ["network", "connect", "host", "one"]).fails(1, "host");
        // After a restart it is where it was connected.
        host.cli(cli, ["restart", "-t", "0", "one"]).ok();
        inside(&host, cli, "one", &format!("ping -c 1 -W 5 {address}"));
        host.cli(cli, ["rm", "-f", "one", "two"]).ok();
        host.cli(cli, ["network", "rm", "front", "back"]).ok();
    }
}

#[test]
fn what_runs_keeps_its_addresses_under_the_next_daemon() {
    let mut host = Host::apart();
    host.corten(["network", "create", "web"]).ok();
    host.corten(["run", "-d", "--name", "one", "--network", "web", "busybox", "sleep", "1000"]).ok();
    let format = "{{.NetworkSettings.Networks.web.IPAddress}} {{.NetworkSettings.Networks.web.MacAddress}}";
    let before = inspect(&host, Cli::Corten, "one", format);
    host.kill_daemon();
    host.start_daemon();
    assert_eq!(inspect(&host, Cli::Corten, "one", format), before);
    host.corten(["run", "-d", "--name", "two", "--network", "web", "busybox", "sleep", "1000"]).ok();
    assert_ne!(inspect(&host, Cli::Corten, "two", format), before);
    let address = before.split(' ').next().unwrap();
    inside(&host, Cli::Corten, "two", &format!("ping -c 1 -W 5 {address}"));
    // The first is given back once it has ended, and taken by the next.
    host.corten(["rm", "-f", "one"]).ok();
    let show = ["run", "--rm", "--network", "web", "busybox", "ip", "-4", "-o", "addr", "show", "eth0"];
    wait_for("the address to be free", || host.corten(show).ok().contains(address).then_some(()));
}

#[test]
fn a_removed_daemons_networks_are_there_again_and_none_is_left_behind() {
    let mut host = Host::apart();
    host.corten(["network", "create", "--label", "a=b", "kept"]).ok();
    host.corten(["network", "create", "gone"]).ok();
    host.corten(["create", "--network", "kept", "busybox"]).ok();
    host.stop_daemon();
    host.start_daemon();
    assert_eq!(
        host.corten(["network", "ls", "-q", "--filter", "name=kept", "--filter", "label=a"]).ok().len(),
        12
    );
    let pruned = host.corten(["network", "prune", "-f"]).ok();
    assert!(pruned.contains("gone") && !pruned.contains("kept"), "{pruned}");
    let listed = host.corten(["network", "ls", "--format", "{{.Name}} {{.Driver}}"]).ok();
    assert_eq!(listed, "bridge bridge\nhost host\nkept bridge\nnone null");
}

#[test]
fn wishes_that_cannot_be_are_refused_in_dockers_words() {
    let host = Host::apart();
    for cli in CLIS {
        host.cli(cli, ["network", "create", "--subnet", "10.77.0.0/24", "web"]).ok();
        host.cli(cli, ["network", "create", "web"]).fails(1, "network with name web already exists");
        host.cli(cli, ["network", "create", "--subnet", "10.77.0.0/16", "x"])
            .fails(1, "Pool overlaps with other one on this address space");
        host.cli(cli, ["network", "create", "-d", "weave", "x"]).fails(1, "plugin \"weave\" not found");
        let device =
            host.program("sh", ["-c", "ip -o link | grep -o 'br-[0-9a-f]*' | head -n 1"]).run().stdout;
        let option = format!("com.docker.network.bridge.name={}", device.trim());
        host.cli(cli, ["network", "create", "-o", &option, "x"]).fails(1, "network device");
        host.cli(cli, ["network", "create", "-o", "com.docker.network.bridge.name=lo", "x"])
            .fails(1, "network device lo");
        host.cli(cli, ["network", "rm", "bridge"])
            .fails(1, "bridge is a pre-defined network and cannot be removed");
        host.cli(cli, ["network", "rm", "nowhere"]).fails(1, "network nowhere not found");
        let run = |flags: &[&str]| {
            let mut args = vec!["run", "--rm"];
            args.extend(flags);
            args.extend(["busybox", "true"]);
            host.cli(cli, args)
        };
        run(&["--network", "nowhere"]).fails(125, "network nowhere not found");
        run(&["--network", "web", "--ip", "10.78.0.1"])
            .fails(125, "no configured subnet contains IP address 10.78.0.1");
        run(&["--network", "web", "--ip", "10.77.0.1"]).fails(125, "Address already in use");
        run(&["--network", "bridge", "--ip", "172.17.0.9"]).fails(125, "user configured subnets");
        host.cli(cli, ["network", "rm", "web"]).ok();
    }
}

/// What asks a web server for its first page. `nc` waits for a connection, but for ever for an end of one whose packets are
/// lost as packet filters go.
fn question(address: &str, port: &str) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 5 busybox nc -w 3 {address} {port} | tail -n 1")
}

/// What a server in a container answers that is asked from the host.
fn fetch(host: &Host, address: &str, port: &str) -> Option<String> {
    let output = host.program("sh", ["-c", &question(address, port)]).run();
    Some(output.stdout.trim().to_owned()).filter(|text| !text.is_empty())
}

/// A container that serves its name at port 80.
fn serve(host: &Host, cli: Cli, name: &str, flags: &[&str]) {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(flags);
    let script = format!("mkdir /w; echo {name} > /w/index.html; exec httpd -f -p 80 -h /w");
    args.extend(["busybox", "sh", "-c", &script]);
    host.cli(cli, args).ok();
}

#[test]
fn a_published_port_is_reached_from_the_host_and_from_other_containers() {
    let host = Host::apart();
    for cli in CLIS {
        serve(&host, cli, "one", &["-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "80"]);
        serve(&host, cli, "two", &[]);
        assert_eq!(inspect(&host, cli, "one", "{{.HostConfig.NetworkMode}}"), "bridge");
        let gateway = inspect(&host, cli, "one", "{{.NetworkSettings.Networks.bridge.Gateway}}");
        let any = inspect(
            &host,
            cli,
            "one",
            "{{range (index .NetworkSettings.Ports \"80/tcp\")}}{{.HostPort}} {{end}}",
        );
        let any = any.split(' ').find(|port| !port.starts_with("808")).unwrap().to_owned();
        wait_for("the server", || fetch(&host, "127.0.0.1", "8080"));
        for (address, port) in [(gateway.as_str(), "8080"), ("127.0.0.1", "8081"), ("127.0.0.1", &any)] {
            assert_eq!(fetch(&host, address, port).as_deref(), Some("one"), "{address}:{port}");
        }
        // From another container, and from itself, by way of the host.
        for name in ["one", "two"] {
            let asked = inside(&host, cli, name, &question(&gateway, "8080"));
            assert_eq!(asked, "one");
        }
        assert_eq!(fetch(&host, &gateway, "8081"), None, "that one is for the host alone");
        let listed = host.cli(cli, ["ps", "--format", "{{.Names}} {{.Ports}}"]).ok();
        assert!(
            listed.contains("0.0.0.0:8080->80/tcp") && listed.contains("127.0.0.1:8081->80/tcp"),
            "{listed}"
        );
        let taken = ["run", "--rm", "-p", "8080:80", "busybox", "true"];
        host.cli(cli, taken).fails(125, "Bind for 0.0.0.0:8080 failed: port is already allocated");
        host.cli(cli, ["rm", "-f", "one", "two"]).ok();
        wait_for("the port to be free", || {
            host.cli(cli, ["run", "--rm", "-p", "8080:80", "busybox", "true"]).run().code.eq(&0).then_some(())
        });
        assert_eq!(fetch(&host, "127.0.0.1", "8080"), None);
    }
}

#[test]
fn ports_stay_open_without_a_daemon_and_packet_filters_are_put_back() {
    let mut host = Host::apart();
    serve(&host, Cli::Corten, "one", &["-p", "8080:80"]);
    let answers = |host: &Host| fetch(host, "127.0.0.1", "8080").as_deref() == Some("one");
    wait_for("the server", || answers(&host).then_some(()));
    host.kill_daemon();
    assert!(answers(&host), "without a daemon");
    host.start_daemon();
    serve(&host, Cli::Corten, "two", &["-p", "8082:80"]);
    assert!(answers(&host), "with the next daemon");
    host.program("nft", ["flush", "ruleset"]).ok();
    wait_for("the packet filters to be put back", || answers(&host).then_some(()));
    let table = host.program("nft", ["list", "table", "inet", "corten"]).ok();
    assert!(table.contains("8080") && table.contains("8082"), "{table}");
    host.corten(["rm", "-f", "one", "two"]).ok();
    let table = host.program("nft", ["list", "table", "inet", "corten"]).ok();
    assert!(!table.contains("8080") && !table.contains("8082"), "{table}");
    assert!(!answers(&host));
}

#[test]
fn containers_find_each_other_by_name() {
    let mut host = Host::apart();
    for cli in CLIS {
        host.cli(cli, ["network", "create", "--ipv6", "web"]).ok();
        let run = |name: &str, flags: &[&str]| {
            let mut args = vec!["run", "-d", "--name", name, "--network", "web"];
            args.extend(flags);
            args.extend(["busybox", "sleep", "1000"]);
            host.cli(cli, args).ok()
        };
        run("one", &[]);
        let id = run("two", &["--network-alias", "db"]);
        assert!(inside(&host, cli, "one", "cat /etc/resolv.conf").contains("nameserver 127.0.0.11"));
        let address = inspect(&host, cli, "two", "{{.NetworkSettings.Networks.web.IPAddress}}");
        let six = inspect(&host, cli, "two", "{{.NetworkSettings.Networks.web.GlobalIPv6Address}}");
        let look_up = |name: &str| inside(&host, cli, "one", &format!("nslookup {name} 127.0.0.11"));
        for name in ["two", "db", &id[..12], "TWO"] {
            let answer = look_up(name);
            assert!(answer.contains(&address) && answer.contains(&six), "{name}: {answer}");
        }
        assert!(look_up(&address).contains("two.web"), "{}", look_up(&address));
        host.cli(cli, ["rename", "two", "second"]).ok();
        assert!(look_up("second").contains(&address));
        host.cli(cli, ["rename", "second", "two"]).ok();
        // A network that it joins later, and a name that is gone.
        host.cli(cli, ["network", "create", "back"]).ok();
        host.cli(cli, ["run", "-d", "--name", "three", "--network", "back", "busybox", "sleep", "1000"]).ok();
        let fails =
            |name: &str| host.cli(cli, ["exec", "one", "nslookup", name, "127.0.0.11"]).run().code != 0;
        assert!(fails("three"));
        host.cli(cli, ["network", "connect", "back", "one"]).ok();
        wait_for("the name of the other network", || (!fails("three")).then_some(()));
        host.cli(cli, ["rm", "-f", "two"]).ok();
        wait_for("the name to be gone", || fails("two").then_some(()));
        host.cli(cli, ["rm", "-f", "one", "three"]).ok();
        host.cli(cli, ["network", "rm", "web", "back"]).ok();
    }
    // Without a daemon, and with the next.
    host.corten(["network", "create", "web"]).ok();
    let pid = |host: &Host| inspect(host, Cli::Corten, "one", "{{.State.Pid}}");
    for name in ["one", "two"] {
        host.corten(["run", "-d", "--name", name, "--network", "web", "busybox", "sleep", "1000"]).ok();
    }
    let enter = format!("--net=/proc/{}/ns/net", pid(&host));
    let asks = |host: &Host| {
        host.program("nsenter", [&enter, "busybox", "nslookup", "two", "127.0.0.11"]).run().code == 0
    };
    assert!(asks(&host));
    host.kill_daemon();
    assert!(asks(&host), "without a daemon");
    host.start_daemon();
    assert!(asks(&host), "with the next daemon");
    host.corten(["run", "-d", "--name", "three", "--network", "web", "busybox", "sleep", "1000"]).ok();
    let answer = host.corten(["exec", "three", "nslookup", "one", "127.0.0.11"]).run();
    assert_eq!(answer.code, 0, "{answer}");
    host.corten(["rm", "-f", "one", "two", "three"]).ok();
}

#[test]
fn networks_are_there_when_the_daemon_is_and_looked_after() {
    let mut host = Host::apart();
    host.corten(["network", "create", "--subnet", "10.77.0.0/24", "web"]).ok();
    host.corten(["run", "-d", "--name", "one", "--network", "web", "busybox", "sleep", "1000"]).ok();
    host.corten(["network", "create", "--subnet", "10.78.0.0/24", "--ipv6", "more"]).ok();
    let device = format!("br-{}", host.corten(["network", "ls", "-q", "--filter", "name=more"]).ok());
    host.kill_daemon();
    // As after a start of the machine, where nobody is on it.
    host.program("ip", ["link", "del", &device]).ok();
    host.start_daemon();
    let shown = host.program("ip", ["-o", "addr", "show", &device]).ok();
    assert!(shown.contains("10.78.0.1/24") && shown.contains("inet6 fd"), "{shown}");
    // With an address for neighbours at once: the kernel's own is not used for a second or two, nor is anybody found meanwhile.
    assert!(shown.lines().any(|line| line.contains("fe80::1/64") && !line.contains("tentative")), "{shown}");
    // What the daemon before told is looked after by this one.
    host.program("nft", ["flush", "ruleset"]).ok();
    wait_for("the packet filters", || {
        host.program("nft", ["list", "ruleset"]).ok().contains("10.77.0.0/24").then_some(())
    });
}

#[test]
fn files_in_a_container_follow_its_networks() {
    let host = Host::apart();
    for cli in CLIS {
        host.cli(cli, ["network", "create", "--subnet", "10.77.0.0/24", "web"]).ok();
        host.cli(cli, ["run", "-d", "--name", "two", "--network", "web", "busybox", "sleep", "1000"]).ok();
        host.cli(cli, ["run", "-d", "--name", "one", "--dns", "192.0.2.53", "busybox", "sleep", "1000"]).ok();
        inside(&host, cli, "one", "echo '192.0.2.1 mine' >> /etc/hosts");
        let names = || inside(&host, cli, "one", "cat /etc/resolv.conf");
        assert!(names().contains("192.0.2.53"), "{}", names());
        host.cli(cli, ["network", "connect", "web", "one"]).ok();
        assert!(names().contains("127.0.0.11"), "{}", names());
        inside(&host, cli, "one", "ping -c 1 -W 5 two");
        let hosts = || inside(&host, cli, "one", "cat /etc/hosts");
        assert!(hosts().contains("10.77.0.3\t") && hosts().contains("mine"), "{}", hosts());
        host.cli(cli, ["network", "disconnect", "web", "one"]).ok();
        assert!(names().contains("192.0.2.53"), "{}", names());
        assert!(!hosts().contains("10.77.0.3\t") && hosts().contains("mine"), "{}", hosts());
        // At the next start they are right as well.
        host.cli(cli, ["network", "connect", "web", "one"]).ok();
        host.cli(cli, ["restart", "-t", "0", "one"]).ok();
        inside(&host, cli, "one", "ping -c 1 -W 5 two");
        host.cli(cli, ["rm", "-f", "one", "two"]).ok();
        host.cli(cli, ["network", "rm", "web"]).ok();
    }
}

#[test]
fn a_network_that_comes_as_another_goes_keeps_its_way_out() {
    let host = Host::apart();
    host.corten(["run", "--rm", "busybox", "true"]).ok();
    for turn in 0..8 {
        let (old, new) = (format!("n{turn}"), format!("n{}", turn + 1));
        if turn == 0 {
            host.corten(["network", "create", "--subnet", "10.77.0.0/24", &old]).ok();
        }
        // The same subnet, as soon as it is to be had.
        std::thread::scope(|scope| {
            scope.spawn(|| host.corten(["network", "rm", &old]).ok());
            wait_for("the subnet", || {
                (host.corten(["network", "create", "--subnet", "10.77.0.0/24", &new]).run().code == 0)
                    .then_some(())
            });
        });
        let rules = host.program("nft", ["list", "set", "inet", "corten", "masquerade4"]).ok();
        assert!(rules.contains("10.77.0.0/24"), "{turn}: {rules}");
    }
}

#[test]
fn what_cannot_be_done_to_no_network_is_refused() {
    let host = Host::apart();
    host.corten(["run", "-d", "--name", "one", "busybox", "sleep", "1000"]).ok();
    for cli in CLIS {
        let mac = ["--mac-address", "02:42:0a:00:00:09"];
        for mode in ["host", "none", "container:one"] {
            let run = |more: [&str; 2]| {
                host.cli(
                    cli,
                    ["run", "--rm", "--network", mode].iter().chain(&more).chain(&["busybox", "true"]),
                )
            };
            run(mac).fails(125, "conflicting options: mac-address and the network mode");
            run(["--ip", "10.1.2.3"]).fails(125, "");
        }
        let default = "com.docker.network.bridge.default_bridge=true";
        host.cli(cli, ["network", "create", "-o", default, "evil"]).fails(1, "default network");
    }
    host.corten(["run", "--rm", "--network", "name=host,rate-in=1mbit", "busybox", "true"])
        .fails(125, "options of endpoints");
}

#[test]
fn a_container_with_many_conversations_ends_with_them() {
    let host = Host::apart();
    let peer = host.neighbour("192.0.2");
    let run = ["run", "-d", "--name", "one", "-p", "5353:53/udp", "busybox", "sleep", "1000"];
    host.corten(run).ok();
    // Each from a port of its own.
    let flood = "for i in $(seq 2500); do echo x > /dev/udp/192.0.2.1/5353; done";
    let _ = peer.program("bash", ["-c", flood]).run();
    host.corten(["rm", "-f", "one"]).ok();
    let conversations = || std::fs::read_to_string(format!("/proc/{}/net/nf_conntrack", host.daemon_pid()));
    if let Ok(text) = conversations() {
        assert!(!text.contains("dport=5353"), "{text}");
    }
    assert!(!host.daemon_log().contains("are not forgotten"), "{}", host.daemon_log());
    host.corten(run).ok();
    host.corten(["run", "--rm", "busybox", "true"]).ok();
    // Names of devices that mean others are none.
    for name in ["br%d", "e+", "a*", "br;x"] {
        let option = format!("com.docker.network.bridge.name={name}");
        host.corten(["network", "create", "-o", &option, "x"]).fails(1, "");
    }
    assert!(!host.program("ip", ["-o", "link"]).ok().contains(" br0"), "a bridge is left");
}

/// Has a lease on a file, as a process in a container may, until the end of its input.
const LEASE: &str = "
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = os.open(sys.argv[1], os.O_RDONLY)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
print('held', flush=True)
sys.stdin.read()
";

#[test]
fn a_lease_on_a_containers_files_holds_nobody_up() {
    let host = Host::apart();
    host.corten(["network", "create", "web"]).ok();
    host.corten(["run", "-d", "--name", "one", "busybox", "sleep", "1000"]).ok();
    let path = host.corten(["inspect", "-f", "{{.HostsPath}}", "one"]).ok();
    let mut holder = std::process::Command::new("python3")
        .args(["-c", LEASE, &path])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(holder.stdout.take().unwrap()), &mut line)
        .unwrap();
    assert_eq!(line, "held\n");
    let started = std::time::Instant::now();
    host.corten(["network", "connect", "web", "one"]).ok();
    host.corten(["rm", "-f", "one"]).ok();
    assert!(started.elapsed().as_secs() < 20, "it was waited for the lease");
    drop(holder.stdin.take());
    holder.wait().unwrap();
}
