//! Links, and options of networks, of places on them, and of the daemon, by both command lines.

use kit::{CLIS, Cli, Host, wait_for};

fn inspect(host: &Host, cli: Cli, name: &str, format: &str) -> String {
    host.cli(cli, ["inspect", "-f", format, name]).ok()
}

/// What a shell in a container says.
fn inside(host: &Host, cli: Cli, name: &str, script: &str) -> String {
    host.cli(cli, ["exec", name, "sh", "-c", script]).ok()
}

/// A container that does nothing.
fn run(host: &Host, cli: Cli, name: &str, flags: &[&str]) -> String {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(flags);
    args.extend(["busybox", "sleep", "1000"]);
    host.cli(cli, args).ok()
}

/// What cannot be run, and why.
fn refused(host: &Host, cli: Cli, flags: &[&str], why: &str) {
    let mut args = vec!["run", "--rm"];
    args.extend(flags);
    args.extend(["busybox", "true"]);
    host.cli(cli, args).fails(125, why);
}

#[test]
fn links_are_names_and_variables_as_in_docker() {
    let host = Host::apart();
    for cli in CLIS {
        // On the default network: lines of a file, and variables.
        let db = run(&host, cli, "db", &["--expose", "5432", "-e", "VERSION=7"]);
        run(&host, cli, "web", &["--link", "db:data"]);
        let address = inspect(&host, cli, "db", "{{.NetworkSettings.Networks.bridge.IPAddress}}");
        let hosts = inside(&host, cli, "web", "cat /etc/hosts");
        assert!(hosts.contains(&format!("{address}\tdata {} db", &db[..12])), "{hosts}");
        let env = inside(&host, cli, "web", "env");
        for line in [
            "DATA_NAME=/web/data",
            "DATA_ENV_VERSION=7",
            &format!("DATA_PORT_5432_TCP=tcp://{address}:5432"),
            &format!("DATA_PORT=tcp://{address}:5432"),
        ] {
            assert!(env.lines().any(|found| found == line), "{line}: {env}");
        }
        let first = inside(&host, cli, "web", "tr '\\0' '\\n' < /proc/1/environ");
        assert!(first.contains("DATA_NAME=/web/data"), "{first}");
        inside(&host, cli, "web", "ping -c 1 -W 5 data");
        assert_eq!(inspect(&host, cli, "web", "{{.HostConfig.Links}}"), "[/db:/web/data]");
        // It comes back at another address, and is found there.
        host.cli(cli, ["stop", "-t", "0", "db"]).ok();
        run(&host, cli, "thief", &[]);
        host.cli(cli, ["start", "db"]).ok();
        let moved = inspect(&host, cli, "db", "{{.NetworkSettings.Networks.bridge.IPAddress}}");
        assert_ne!(moved, address);
        let hosts = inside(&host, cli, "web", "cat /etc/hosts");
        assert!(
            hosts.contains(&format!("{moved}\tdata")) && !hosts.contains(&format!("{address}\tdata")),
            "{hosts}"
        );
        host.cli(cli, ["stop", "-t", "0", "db", "web"]).ok();
        host.cli(cli, ["start", "web"]).fails(1, "Cannot link to a non running container: /db AS /web/data");
        refused(&host, cli, &["--link", "nobody"], "could not get container for nobody");
        refused(&host, cli, &["--link", "db:a:b"], "bad format for links");
        host.cli(cli, ["rm", "-f", "db", "web", "thief"]).ok();
        // On others: a name that the container alone knows.
        host.cli(cli, ["network", "create", "net"]).ok();
        run(&host, cli, "web", &["--network", "net", "--link", "db:data"]);
        run(&host, cli, "other", &["--network", "net"]);
        run(&host, cli, "db", &["--network", "net"]);
        let address = inspect(&host, cli, "db", "{{.NetworkSettings.Networks.net.IPAddress}}");
        let answer = inside(&host, cli, "web", "nslookup data 127.0.0.11");
        assert!(answer.contains(&address), "{answer}");
        host.cli(cli, ["exec", "other", "nslookup", "data", "127.0.0.11"]).fails(1, "");
        host.cli(cli, ["network", "create", "late"]).ok();
        host.cli(cli, ["network", "connect", "late", "db"]).ok();
        host.cli(cli, ["network", "connect", "--link", "db:later", "late", "other"]).ok();
        wait_for("the name", || {
            (host.cli(cli, ["exec", "other", "nslookup", "later", "127.0.0.11"]).run().code == 0)
                .then_some(())
        });
        host.cli(cli, ["rm", "-f", "db", "web", "other"]).ok();
        host.cli(cli, ["network", "rm", "net", "late"]).ok();
    }
}

#[test]
fn endpoints_have_options_of_their_own() {
    let host = Host::apart();
    for cli in CLIS {
        host.cli(cli, ["network", "create", "--subnet", "10.60.0.0/24", "net"]).ok();
        host.cli(cli, ["network", "create", "-o", "com.docker.network.container_iface_prefix=lan", "other"])
            .ok();
        let long = "name=net,ip=10.60.0.7,mac-address=02:00:00:00:00:07,alias=seven,link-local-ip=169.254.7.7,\
            driver-opt=com.docker.network.endpoint.ifname=front0,\
            \"driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.forwarding=0\"";
        run(&host, cli, "one", &["--network", long]);
        let addresses = inside(&host, cli, "one", "ip -o addr show front0");
        assert!(addresses.contains("10.60.0.7/24") && addresses.contains("169.254.7.7/16"), "{addresses}");
        assert!(inside(&host, cli, "one", "ip link show front0").contains("02:00:00:00:00:07"));
        assert_eq!(
            inside(
                &host,
                cli,
                "one",
                "cat /proc/sys/net/ipv4/conf/front0/log_martians /proc/sys/net/ipv4/conf/front0/forwarding"
            ),
            "1\n0"
        );
        let shown = inspect(&host, cli, "one", "{{json .NetworkSettings.Networks.net}}");
        for part in [
            "\"com.docker.network.endpoint.ifname\":\"front0\"",
            "\"LinkLocalIPs\":[\"169.254.7.7\"]",
            "\"DNSNames\":[\"one\",\"seven\",\"",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        host.cli(
            cli,
            [
                "network",
                "connect",
                "--gw-priority",
                "5",
                "--link-local-ip",
                "fe80::77",
                "--driver-opt",
                "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1",
                "other",
                "one",
            ],
        )
        .ok();
        assert!(inside(&host, cli, "one", "ip -o addr show lan0").contains("fe80::77/64"));
        // It has the highest priority: everything goes by it, until it is gone.
        let way = "ip route | grep default | cut -d' ' -f5";
        assert_eq!(inside(&host, cli, "one", way), "lan0");
        assert_eq!(inside(&host, cli, "one", "cat /proc/sys/net/ipv4/conf/lan0/log_martians"), "1");
        host.cli(cli, ["network", "disconnect", "other", "one"]).ok();
        assert_eq!(inside(&host, cli, "one", way), "front0");
        let bad = |option: &str, why: &str| {
            refused(&host, cli, &["--network", &format!("name=net,driver-opt={option}")], why);
        };
        bad("com.docker.network.endpoint.sysctls=net.ipv4.ip_forward=1", "invalid sysctl");
        bad("com.docker.network.endpoint.ifname=a/b", "invalid interface name");
        bad("com.docker.network.endpoint.odd=1", "com.docker.network.endpoint.odd");
        refused(
            &host,
            cli,
            &["--network", "net", "--link-local-ip", "10.0.0.1"],
            "invalid link-local IP address: 10.0.0.1",
        );
        host.cli(cli, ["rm", "-f", "one"]).ok();
        // The hardware address of the container as a whole is its first network's.
        run(&host, cli, "one", &["--mac-address", "02:00:00:00:00:09"]);
        assert!(inside(&host, cli, "one", "ip link show eth0").contains("02:00:00:00:00:09"));
        host.cli(cli, ["rm", "-f", "one"]).ok();
        let gateway =
            host.cli(cli, ["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge"]).ok();
        let hosts = host
            .cli(
                cli,
                [
                    "run",
                    "--rm",
                    "--add-host",
                    "me:host-gateway",
                    "--network",
                    "net",
                    "busybox",
                    "cat",
                    "/etc/hosts",
                ],
            )
            .ok();
        assert!(hosts.contains(&format!("{gateway}\tme")), "{hosts}");
        host.cli(cli, ["network", "rm", "net", "other"]).ok();
    }
}

#[test]
fn networks_have_options_of_their_own() {
    let host = Host::apart();
    let lan = host.neighbour("10.50.0");
    host.program("ip", ["addr", "add", "10.50.0.3/24", "dev", "lan10500"]).ok();
    const BRIDGE: &str = "com.docker.network.bridge";
    let serve = "while true; do echo hello | nc -l -p 80 >/dev/null; done";
    let reached = |address: &str, port: &str| {
        let script = format!("busybox nc -w 2 {address} {port} </dev/null || true");
        lan.program("sh", ["-c", &script]).ok() == "hello"
    };
    for cli in CLIS {
        let create = |name: &str, flags: &[&str]| {
            let mut args = vec!["network", "create"];
            args.extend(flags);
            args.push(name);
            host.cli(cli, args)
        };
        let option = |key: &str, value: &str| format!("{BRIDGE}.{key}={value}");
        // Reached by its own address, at ports that are open.
        let routed = option("gateway_mode_ipv4", "routed");
        create("routed", &["--subnet", "10.61.1.0/24", "-o", &routed]).ok();
        host.cli(
            cli,
            [
                "run",
                "-d",
                "--name",
                "one",
                "--network",
                "routed",
                "--ip",
                "10.61.1.9",
                "-p",
                "80",
                "busybox",
                "sh",
                "-c",
                serve,
            ],
        )
        .ok();
        wait_for("the routed port", || reached("10.61.1.9", "80").then_some(()));
        assert!(!reached("10.61.1.9", "81"));
        assert_eq!(inspect(&host, cli, "one", "{{json .NetworkSettings.Ports}}"), "{\"80/tcp\":null}");
        host.cli(cli, ["rm", "-f", "one"]).ok();
        // Published at one address of the host's, and known outside by one.
        let binding = option("host_binding_ipv4", "10.50.0.3");
        create(
            "bound",
            &["--subnet", "10.61.2.0/24", "-o", &binding, "-o", "com.docker.network.host_ipv4=10.50.0.3"],
        )
        .ok();
        host.cli(
            cli,
            [
                "run",
                "-d",
                "--name",
                "one",
                "--network",
                "bound",
                "-p",
                "8080:80",
                "busybox",
                "sh",
                "-c",
                serve,
            ],
        )
        .ok();
        wait_for("the bound port", || reached("10.50.0.3", "8080").then_some(()));
        assert!(!reached("10.50.0.1", "8080"));
        // The LAN answers nobody who has the host's first address.
        lan.program("sh", ["-c", "ip route add blackhole 10.50.0.1/32"]).ok();
        inside(&host, cli, "one", "ping -c 1 -W 5 10.50.0.2");
        lan.program("sh", ["-c", "ip route del blackhole 10.50.0.1/32"]).ok();
        host.cli(cli, ["rm", "-f", "one"]).ok();
        // All of its ports by its own address, as well as by the host's.
        let unprotected = option("gateway_mode_ipv4", "nat-unprotected");
        create("open", &["--subnet", "10.61.3.0/24", "-o", &unprotected]).ok();
        host.cli(
            cli,
            [
                "run",
                "-d",
                "--name",
                "one",
                "--network",
                "open",
                "--ip",
                "10.61.3.9",
                "busybox",
                "sh",
                "-c",
                serve,
            ],
        )
        .ok();
        wait_for("the open port", || reached("10.61.3.9", "80").then_some(()));
        host.cli(cli, ["rm", "-f", "one"]).ok();
        // Nobody of the host is there.
        let isolated = option("gateway_mode_ipv4", "isolated");
        create("alone", &["-o", &isolated])
            .fails(1, "gateway mode 'isolated' can only be used for an internal network");
        create(
            "alone",
            &["--internal", "--subnet", "10.61.4.0/24", "-o", &isolated, "-o", &option("name", "alone0")],
        )
        .ok();
        run(&host, cli, "one", &["--network", "alone"]);
        assert!(!host.program("ip", ["-o", "addr", "show", "alone0"]).ok().contains("10.61.4"));
        assert_eq!(inspect(&host, cli, "one", "{{.NetworkSettings.Networks.alone.IPAddress}}"), "10.61.4.1");
        host.cli(cli, ["rm", "-f", "one"]).ok();
        let inhibit = option("inhibit_ipv4", "true");
        create("quiet", &["--subnet", "10.61.5.0/24", "-o", &inhibit, "-o", &option("name", "quiet0")]).ok();
        assert!(!host.program("ip", ["-o", "addr", "show", "quiet0"]).ok().contains("10.61.5"));
        create("x", &["-o", &option("enable_icc", "perhaps")])
            .fails(1, "failed to parse com.docker.network.bridge.enable_icc value: perhaps (invalid syntax)");
        create("x", &["-o", &option("gateway_mode_ipv4", "odd")]).fails(1, "unknown gateway mode");
        create("x", &["-o", &option("odd", "1")]).fails(1, "com.docker.network.bridge.odd");
        create("kept", &["-o", "com.example.mine=1"]).ok();
        assert_eq!(
            host.cli(cli, ["network", "inspect", "-f", "{{json .Options}}", "kept"]).ok(),
            "{\"com.example.mine\":\"1\"}"
        );
        // IPv6 alone.
        create("six", &["--ipv4=false", "--ipv6"]).ok();
        run(&host, cli, "one", &["--network", "six"]);
        assert_eq!(inspect(&host, cli, "one", "{{.NetworkSettings.Networks.six.IPAddress}}"), "");
        let route = inside(&host, cli, "one", "ip -6 route");
        assert!(route.contains("default via fd"), "{route}");
        host.cli(cli, ["rm", "-f", "one"]).ok();
        create("x", &["--ipv4=false"]).fails(1, "IPv4 or IPv6 must be enabled");
        create("x", &["--ipam-driver", "odd"]).fails(1, "plugin \"odd\" not found");
        create("x", &["--scope", "swarm"]).fails(1, "swarm");
        // An address that somebody else has, and options that are kept.
        create(
            "aux",
            &["--subnet", "10.61.6.0/29", "--aux-address", "router=10.61.6.2", "--ipam-opt", "a=b"],
        )
        .ok();
        run(&host, cli, "one", &["--network", "aux"]);
        assert_eq!(inspect(&host, cli, "one", "{{.NetworkSettings.Networks.aux.IPAddress}}"), "10.61.6.3");
        assert_eq!(
            host.cli(
                cli,
                [
                    "network",
                    "inspect",
                    "-f",
                    "{{json .IPAM.Options}} {{json (index .IPAM.Config 0).AuxiliaryAddresses}}",
                    "aux"
                ]
            )
            .ok(),
            "{\"a\":\"b\"} {\"router\":\"10.61.6.2\"}"
        );
        refused(&host, cli, &["--network", "aux", "--ip", "10.61.6.2"], "Address already in use");
        for name in ["two", "three", "four"] {
            run(&host, cli, name, &["--network", "aux"]);
        }
        refused(
            &host,
            cli,
            &["--network", "aux"],
            "no available IPv4 addresses on this network's address pools: aux",
        );
        host.cli(cli, ["rm", "-f", "one", "two", "three", "four"]).ok();
        // A configuration for others.
        create("config", &["--config-only", "--subnet", "10.61.7.0/24", "--label", "a=b"]).ok();
        create("x", &["--config-only", "--internal"]).fails(1, "network specific fields");
        create("of", &["--config-from", "config"]).ok();
        let format = "{{.ConfigFrom.Network}} {{.Driver}} {{(index .IPAM.Config 0).Subnet}} {{.Labels.a}}";
        assert_eq!(
            host.cli(cli, ["network", "inspect", "-f", format, "of"]).ok(),
            "config bridge 10.61.7.0/24 b"
        );
        assert_eq!(
            host.cli(cli, ["network", "inspect", "-f", "{{.ConfigOnly}} {{.Driver}}", "config"]).ok(),
            "true null"
        );
        create("x", &["--config-from", "nowhere"]).fails(1, "configuration network \"nowhere\" not found");
        create("x", &["--config-from", "config", "--subnet", "10.1.0.0/24"])
            .fails(1, "not supported if the network depends on a configuration network");
        refused(&host, cli, &["--network", "config"], "cannot create endpoint on configuration-only network");
        host.cli(cli, ["network", "rm", "config"]).fails(1, "configuration network \"config\" is in use");
        host.cli(
            cli,
            [
                "network", "rm", "routed", "bound", "open", "alone", "quiet", "kept", "six", "aux", "of",
                "config",
            ],
        )
        .ok();
    }
}

/// Has the daemon start again with this configuration.
fn configure(host: &mut Host, json: &str) {
    host.stop_daemon();
    std::fs::write(host.root().join("daemon.json"), json).expect("write daemon.json");
    host.start_daemon();
}

#[test]
fn the_daemon_is_told_how_the_default_network_is() {
    let mut host = Host::apart();
    let show = |host: &Host, format: &str| host.corten(["network", "inspect", "-f", format, "bridge"]).ok();
    let before = show(&host, "{{.Id}}");
    let json = r#"{"bip":"10.70.0.1/24","fixed-cidr":"10.70.0.128/25","default-gateway":"10.70.0.2","ipv6":true,
        "fixed-cidr-v6":"fd70::/64","mtu":1400,"icc":false,"ip-masq":false,"ip":"127.0.0.1",
        "dns":["10.70.0.53"],"dns-opts":["ndots:3"],"dns-search":["example.org"],"host-gateway-ips":["10.70.0.77"],
        "default-address-pools":[{"base":"10.71.0.0/16","size":28},{"base":"fd71::/56","size":64}],
        "default-network-opts":{"bridge":{"com.docker.network.driver.mtu":"1300"}},"userland-proxy":false}"#;
    configure(&mut host, json);
    assert_eq!(show(&host, "{{.Id}}"), before);
    assert_eq!(
        host.docker([
            "network",
            "inspect",
            "-f",
            "{{range .IPAM.Config}}{{.Subnet}} {{.IPRange}} {{.Gateway}};{{end}}",
            "bridge"
        ])
        .ok(),
        "10.70.0.0/24 10.70.0.128/25 10.70.0.1;fd70::/64  fd70::1;"
    );
    for cli in CLIS {
        run(&host, cli, "one", &["-p", "8080:80", "--add-host", "me:host-gateway"]);
        run(&host, cli, "two", &[]);
        let format = "{{.NetworkSettings.Networks.bridge.IPAddress}} {{.NetworkSettings.Networks.bridge.Gateway}} {{.NetworkSettings.Networks.bridge.GlobalIPv6Address}}";
        assert_eq!(inspect(&host, cli, "one", format), "10.70.0.128 10.70.0.2 fd70::2");
        assert!(inside(&host, cli, "one", "ip link show eth0").contains("mtu 1400"));
        assert!(inside(&host, cli, "one", "ip route").contains("default via 10.70.0.2"));
        assert!(inside(&host, cli, "one", "cat /etc/hosts").contains("10.70.0.77\tme"));
        let names = inside(&host, cli, "one", "cat /etc/resolv.conf");
        for line in ["nameserver 10.70.0.53", "search example.org", "options ndots:3"] {
            assert!(names.contains(line), "{line}: {names}");
        }
        assert_eq!(
            inspect(
                &host,
                cli,
                "one",
                "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostIp}} {{len (index .NetworkSettings.Ports \"80/tcp\")}}"
            ),
            "127.0.0.1 1"
        );
        host.cli(cli, ["exec", "one", "ping", "-c", "1", "-W", "1", "10.70.0.129"]).fails(1, "");
        host.cli(cli, ["network", "create", "--ipv6", "net"]).ok();
        let format = "{{range .IPAM.Config}}{{.Subnet}} {{end}}{{json .Options}}";
        assert_eq!(
            host.cli(cli, ["network", "inspect", "-f", format, "net"]).ok(),
            "10.71.0.0/28 fd71::/64 {\"com.docker.network.driver.mtu\":\"1300\"}"
        );
        host.cli(cli, ["network", "create", "-o", "com.docker.network.driver.mtu=1200", "small"]).ok();
        let mtu = host
            .cli(cli, ["run", "--rm", "--network", "small", "busybox", "cat", "/sys/class/net/eth0/mtu"])
            .ok();
        assert_eq!(mtu, "1200");
        host.cli(cli, ["rm", "-f", "one", "two"]).ok();
        host.cli(cli, ["network", "rm", "net", "small"]).ok();
    }
    let table = host.program("nft", ["list", "set", "inet", "corten", "masquerade4"]).ok();
    assert!(!table.contains("10.70.0.0"), "{table}");
    // A bridge that is there already: its address is the gateway, and it is nobody's to remove.
    for line in ["link add br7 type bridge", "addr add 10.72.0.1/24 dev br7", "link set br7 up"] {
        host.program("ip", line.split(' ')).ok();
    }
    configure(&mut host, r#"{"bridge":"br7"}"#);
    run(&host, Cli::Docker, "one", &[]);
    assert_eq!(
        inspect(&host, Cli::Docker, "one", "{{.NetworkSettings.Networks.bridge.IPAddress}}"),
        "10.72.0.2"
    );
    inside(&host, Cli::Docker, "one", "ping -c 1 -W 5 10.72.0.1");
    assert!(host.program("ip", ["-o", "link", "show", "master", "br7"]).ok().contains("veth"));
    host.corten(["rm", "-f", "one"]).ok();
    // Without packet filters netd alone serves what is published, and the host's are left alone.
    host.stop_daemon();
    host.program("nft", ["flush", "ruleset"]).ok();
    std::fs::write(host.root().join("daemon.json"), r#"{"iptables":false,"ip-forward":false}"#).unwrap();
    host.program("sh", ["-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]).ok();
    host.start_daemon();
    run(&host, Cli::Corten, "one", &[]);
    assert_eq!(host.program("nft", ["list", "ruleset"]).ok(), "");
    assert_eq!(host.program("cat", ["/proc/sys/net/ipv4/ip_forward"]).ok(), "0");
    let script = "mkdir /w; echo two > /w/index.html; exec httpd -f -p 80 -h /w";
    host.corten(["run", "-d", "--name", "two", "-p", "8080:80", "busybox", "sh", "-c", script]).ok();
    let ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 3 127.0.0.1 8080 | tail -n 1";
    wait_for("the server", || (host.program("sh", ["-c", ask]).run().stdout.trim() == "two").then_some(()));
    assert_eq!(host.program("nft", ["list", "ruleset"]).ok(), "");
    refused(&host, Cli::Corten, &["-p", "80/sctp"], "only TCP and UDP are served without packet filters");
    host.corten(["rm", "-f", "two"]).ok();
    host.corten(["rm", "-f", "one"]).ok();
}

#[test]
fn what_the_daemon_cannot_do_with_networks_is_refused() {
    let host = Host::stopped(&[]);
    for (flags, why) in [
        (&["--bip", "10.0.0.1"][..], "invalid --bip 10.0.0.1"),
        (&["--iptables=false", "--icc=false"], "You specified --iptables=false with --icc=false"),
        (&["--default-address-pool", "base=10.0.0.0/24"], "base=CIDR,size=BITS"),
        (&["--validate", "--mtu", "x"], "invalid value"),
    ] {
        host.daemon(flags).fails(125, why);
    }
}

#[test]
fn what_is_shown_of_networks_is_dockers() {
    let host = Host::apart();
    let get = |path: &str| -> serde_json::Value {
        let output = host
            .program(
                "curl",
                ["-s", "--unix-socket", host.socket().to_str().expect("a path"), &format!("http://d{path}")],
            )
            .ok();
        serde_json::from_str(&output).expect("JSON")
    };
    host.corten(["network", "create", "--subnet", "10.62.0.0/28", "--ip-range", "10.62.0.8/29", "net"]).ok();
    run(&host, Cli::Docker, "one", &["--network", "name=net,alias=first,gw-priority=3"]);
    let status = &get("/v1.52/networks/net")["Status"]["IPAM"]["Subnets"]["10.62.0.0/28"];
    assert_eq!(status, &serde_json::json!({"IPsInUse": 4, "DynamicIPsAvailable": 5}));
    assert!(get("/v1.51/networks/net").get("Status").is_none());
    let settings = &get("/v1.52/containers/one/json")["NetworkSettings"];
    let id = inspect(&host, Cli::Corten, "one", "{{.Id}}");
    assert_eq!(settings["SandboxID"], id.as_str());
    assert!(settings["SandboxKey"].as_str().is_some_and(|key| std::path::Path::new(key).exists()));
    let net = &settings["Networks"]["net"];
    assert_eq!(net["DNSNames"], serde_json::json!(["one", "first", &id[..12]]));
    assert_eq!(
        (&net["GwPriority"], &net["IPPrefixLen"], &net["Aliases"]),
        (&3.into(), &28.into(), &serde_json::json!(["first"]))
    );
    assert!(net["Links"].is_null() && net["DriverOpts"].is_null(), "{net}");
    let old = get("/v1.43/containers/one/json")["NetworkSettings"]["Networks"]["net"].clone();
    assert!(old.get("DNSNames").is_none() && old.get("GwPriority").is_none(), "{old}");
    assert_eq!(old["Aliases"], serde_json::json!(["first", &id[..12]]));
    let list =
        |filter: &str| host.docker(["network", "ls", "--format", "{{.Name}}", "--filter", filter]).ok();
    assert_eq!(list("type=custom"), "net");
    assert_eq!(list("driver=null"), "none");
    assert_eq!(list("dangling=true"), "");
    assert_eq!(list("scope=swarm"), "");
    host.docker(["network", "ls", "--filter", "type=odd"]).fails(1, "invalid filter 'type=odd'");
    host.docker(["network", "ls", "--filter", "odd=1"]).fails(1, "invalid filter 'odd'");
    host.docker(["rm", "-f", "one"]).ok();
    assert_eq!(list("dangling=true"), "net");
    host.docker(["network", "rm", "net"]).ok();
    let until = host.corten(["info", "--format", "{{.SystemTime}}"]).ok();
    let format = "{{.Action}} {{json .Actor.Attributes}}";
    let events = host
        .corten(["events", "--since", "0", "--until", &until, "--filter", "type=network", "--format", format])
        .ok();
    let on = format!("{{\"container\":\"{id}\",\"name\":\"net\",\"type\":\"bridge\"}}");
    let alone = "{\"name\":\"net\",\"type\":\"bridge\"}";
    for (action, attributes) in
        [("create", alone), ("connect", on.as_str()), ("disconnect", on.as_str()), ("destroy", alone)]
    {
        let line = format!("{action} {attributes}");
        assert!(events.lines().any(|told| told == line), "{line}: {events}");
    }
}
