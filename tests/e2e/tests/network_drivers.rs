//! Networks of every driver, and their options, by both command lines.

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
fn a_container_lives_in_anothers_network() {
    let mut host = Host::apart();
    for cli in CLIS {
        host.cli(cli, ["network", "create", "web"]).ok();
        let id =
            run(&host, cli, "lender", &["--network", "web", "--hostname", "box", "--add-host", "x:1.2.3.4"]);
        run(&host, cli, "guest", &["--network", "container:lender"]);
        assert_eq!(inspect(&host, cli, "guest", "{{.HostConfig.NetworkMode}}"), format!("container:{id}"));
        assert_eq!(
            inspect(&host, cli, "guest", "{{.Config.Hostname}} {{len .NetworkSettings.Networks}}"),
            "box 0"
        );
        let hosts = "{{.HostsPath}} {{.ResolvConfPath}} {{.HostnamePath}}";
        assert_eq!(inspect(&host, cli, "guest", hosts), inspect(&host, cli, "lender", hosts));
        for script in [
            "hostname",
            "cat /etc/hosts /etc/resolv.conf /etc/hostname",
            "ip -o addr",
            "readlink /proc/self/ns/net",
        ] {
            assert_eq!(inside(&host, cli, "guest", script), inside(&host, cli, "lender", script), "{script}");
        }
        inside(&host, cli, "guest", "nslookup lender 127.0.0.11");
        // They reach each other on loopback.
        inside(&host, cli, "lender", "nc -l -p 99 -e echo hello >/dev/null 2>&1 &");
        wait_for("the port", || {
            host.cli(cli, ["exec", "guest", "nc", "-w", "3", "127.0.0.1", "99"])
                .run()
                .stdout
                .contains("hello")
                .then_some(())
        });
        // One in the guest's has the same.
        run(&host, cli, "third", &["--network", "container:guest"]);
        assert_eq!(
            inside(&host, cli, "third", "cat /etc/hosts"),
            inside(&host, cli, "lender", "cat /etc/hosts")
        );
        host.cli(cli, ["rm", "-f", "third"]).ok();
        for (flags, why) in [
            (
                &["-p", "80:80"][..],
                "conflicting options: port publishing and the container type network mode",
            ),
            (&["-P"], "conflicting options: port publishing and the container type network mode"),
            (&["--expose", "80"], "conflicting options: port exposing and the container type network mode"),
            (&["--hostname", "x"], "conflicting options: hostname and the network mode"),
            (&["--dns", "1.1.1.1"], "conflicting options: dns and the network mode"),
            (
                &["--add-host", "a:1.1.1.1"],
                "conflicting options: custom host-to-IP mapping and the network mode",
            ),
            (&["--link", "lender:l"], "conflicting options: container type network can't be used with links"),
        ] {
            let mut all = vec!["--network", "container:lender"];
            all.extend(flags);
            refused(&host, cli, &all, why);
        }
        refused(&host, cli, &["--network", "container:nobody"], "No such container: nobody");
        host.cli(cli, ["network", "connect", "bridge", "guest"])
            .fails(1, "container sharing network namespace with another container or host cannot be connected to any other network");
        // The lender ends: what it had is others' to have, and its guest is alone until it is started again.
        let address = inspect(&host, cli, "lender", "{{.NetworkSettings.Networks.web.IPAddress}}");
        host.cli(cli, ["stop", "-t", "0", "lender"]).ok();
        assert_eq!(inside(&host, cli, "guest", "ip -o link | grep -c eth || true"), "0");
        run(&host, cli, "next", &["--network", "web"]);
        assert_eq!(inspect(&host, cli, "next", "{{.NetworkSettings.Networks.web.IPAddress}}"), address);
        host.cli(cli, ["rm", "-f", "next"]).ok();
        host.cli(cli, ["restart", "-t", "0", "guest"])
            .fails(1, &format!("cannot join network of a non running container: {id}"));
        host.cli(cli, ["start", "lender"]).ok();
        host.cli(cli, ["start", "guest"]).ok();
        assert_eq!(inside(&host, cli, "guest", "ip -o addr"), inside(&host, cli, "lender", "ip -o addr"));
        host.cli(cli, ["rm", "-f", "guest", "lender"]).ok();
        host.cli(cli, ["network", "rm", "web"]).ok();
    }
    // While no daemon is there the lender ends.
    run(&host, Cli::Corten, "lender", &[]);
    run(&host, Cli::Corten, "guest", &["--network", "container:lender"]);
    let pid = inspect(&host, Cli::Corten, "lender", "{{.State.Pid}}");
    host.kill_daemon();
    assert!(host.program("kill", ["-9", &pid]).run().code == 0);
    host.start_daemon();
    wait_for("the devices to be gone", || {
        (inside(&host, Cli::Corten, "guest", "ip -o link | grep -c eth || true") == "0").then_some(())
    });
}

#[test]
fn whoever_is_in_a_network_by_way_of_another_has_no_address_that_is_given_out_again() {
    let mut host = Host::apart();
    let devices =
        |host: &Host, name: &str| inside(host, Cli::Corten, name, "ip -o link | grep -c eth || true");
    let address = |host: &Host, name: &str| {
        inspect(host, Cli::Corten, name, "{{.NetworkSettings.Networks.web.IPAddress}}")
    };
    host.corten(["network", "create", "web"]).ok();
    let chain = |host: &Host| {
        for (name, network) in
            [("first", "web"), ("second", "container:first"), ("third", "container:second")]
        {
            run(host, Cli::Corten, name, &["--network", network]);
        }
    };
    let cut_off = |host: &Host, had: &str| {
        wait_for("the devices to be gone", || (devices(host, "third") == "0").then_some(()));
        run(host, Cli::Corten, "next", &["--network", "web"]);
        assert_eq!(address(host, "next"), had);
        let _ = host.corten(["rm", "-f", "first", "second", "third", "next"]).run();
    };
    // The one in between has ended, or is no more.
    for ends in [&["kill", "second"][..], &["rm", "-f", "second"]] {
        chain(&host);
        let had = address(&host, "first");
        host.corten(ends).ok();
        assert_eq!(devices(&host, "third"), "1", "{ends:?}");
        // Others' ends do nothing to those whose lender is there.
        run(&host, Cli::Corten, "other", &["--network", "web"]);
        host.corten(["rm", "-f", "other"]).ok();
        assert_eq!(devices(&host, "third"), "1", "{ends:?}");
        host.corten(["stop", "-t", "0", "first"]).ok();
        cut_off(&host, &had);
    }
    // The same while no daemon is there; one whose lender goes on keeps what it has.
    chain(&host);
    run(&host, Cli::Corten, "lender", &["--network", "web"]);
    run(&host, Cli::Corten, "guest", &["--network", "container:lender"]);
    let had = address(&host, "first");
    let pids = ["first", "second"].map(|name| inspect(&host, Cli::Corten, name, "{{.State.Pid}}"));
    host.kill_daemon();
    for pid in pids {
        host.program("kill", ["-9", &pid]).ok();
    }
    host.start_daemon();
    cut_off(&host, &had);
    assert_eq!(devices(&host, "guest"), "1");
    host.corten(["rm", "-f", "lender", "guest"]).ok();
}

#[test]
fn containers_are_on_the_lan_by_macvlan() {
    let host = Host::apart();
    let lan = host.neighbour("10.50.0");
    for cli in CLIS {
        let subnets = [
            "--subnet",
            "10.50.0.0/24",
            "--ip-range",
            "10.50.0.128/25",
            "--gateway",
            "10.50.0.2",
            "--ipv6",
            "--subnet",
            "fd00:10:50:0::/64",
            "--gateway",
            "fd00:10:50:0::2",
        ];
        let create = |mode: &str, name: &str| {
            let option = format!("macvlan_mode={mode}");
            let mut args = vec!["network", "create", "-d", "macvlan", "-o", "parent=lan10500", "-o", &option];
            args.extend(subnets);
            args.push(name);
            host.cli(cli, args)
        };
        create("bridge", "lan").ok();
        assert_eq!(
            host.cli(cli, ["network", "inspect", "-f", "{{.Driver}} {{.Options.parent}}", "lan"]).ok(),
            "macvlan lan10500"
        );
        run(&host, cli, "one", &["--network", "lan"]);
        run(
            &host,
            cli,
            "two",
            &["--network", "lan", "--ip", "10.50.0.9", "--mac-address", "02:00:00:00:00:77"],
        );
        let format = "{{.NetworkSettings.Networks.lan.IPAddress}} {{.NetworkSettings.Networks.lan.MacAddress}} {{.NetworkSettings.Networks.lan.Gateway}}";
        assert_eq!(inspect(&host, cli, "one", format), "10.50.0.128 02:42:0a:32:00:80 10.50.0.2");
        assert_eq!(inspect(&host, cli, "two", format), "10.50.0.9 02:00:00:00:00:77 10.50.0.2");
        assert!(inside(&host, cli, "two", "ip link show eth0").contains("02:00:00:00:00:77"));
        // The LAN, each other, by address and by name; and the LAN reaches them without a port being published.
        for address in ["10.50.0.2", "fd00:10:50:0::2", "10.50.0.9", "two"] {
            inside(&host, cli, "one", &format!("ping -c 1 -W 5 {address}"));
        }
        lan.program("sh", ["-c", "busybox ping -c 1 -W 5 10.50.0.9"]).ok();
        assert!(inside(&host, cli, "one", "ip route").contains("default via 10.50.0.2 dev eth0"));
        let pid = inspect(&host, cli, "one", "{{.State.Pid}}");
        let kind = host
            .program("nsenter", [&format!("--net=/proc/{pid}/ns/net"), "ip", "-d", "link", "show", "eth0"])
            .ok();
        assert!(kind.contains("macvlan mode bridge"), "{kind}");
        assert!(!host.program("ip", ["-o", "link"]).ok().contains("macvlan"));
        // While it runs, and back.
        host.cli(cli, ["network", "create", "other"]).ok();
        run(&host, cli, "three", &["--network", "other"]);
        host.cli(cli, ["network", "connect", "lan", "three"]).ok();
        inside(&host, cli, "three", "ping -c 1 -W 5 10.50.0.2");
        assert_eq!(inside(&host, cli, "three", "ip route | grep default | cut -d' ' -f5"), "eth0");
        host.cli(cli, ["network", "disconnect", "lan", "three"]).ok();
        assert_eq!(inside(&host, cli, "three", "ip -o link | grep -c eth"), "1");
        host.cli(cli, ["network", "rm", "lan"]).fails(1, "has active endpoints");
        host.cli(cli, ["rm", "-f", "one", "two", "three"]).ok();
        host.cli(cli, ["network", "rm", "lan", "other"]).ok();
        assert!(
            host.program("ip", ["-o", "link"]).ok().contains("lan10500"),
            "the parent is somebody else's"
        );

        create("private", "lan").ok();
        run(&host, cli, "one", &["--network", "lan", "--ip", "10.50.0.9"]);
        run(&host, cli, "two", &["--network", "lan"]);
        inside(&host, cli, "two", "ping -c 1 -W 5 10.50.0.2");
        host.cli(cli, ["exec", "two", "ping", "-c", "1", "-W", "1", "10.50.0.9"]).fails(1, "");
        host.cli(cli, ["rm", "-f", "one", "two"]).ok();
        host.cli(cli, ["network", "rm", "lan"]).ok();

        create("vepa", "lan").ok();
        run(&host, cli, "one", &["--network", "lan"]);
        inside(&host, cli, "one", "ping -c 1 -W 5 10.50.0.2");
        host.cli(cli, ["rm", "-f", "one"]).ok();
        host.cli(cli, ["network", "rm", "lan"]).ok();

        create("passthru", "lan").ok();
        host.cli(cli, ["network", "create", "-d", "macvlan", "-o", "parent=lan10500", "x"])
            .fails(1, "network lan is already using parent interface lan10500");
        run(&host, cli, "one", &["--network", "lan"]);
        inside(&host, cli, "one", "ping -c 1 -W 5 10.50.0.2");
        refused(&host, cli, &["--network", "lan"], "mode passthru");
        host.cli(cli, ["rm", "-f", "one"]).ok();
        host.cli(cli, ["network", "rm", "lan"]).ok();
        // Docker 29: without a gateway of one's own there is no way out, as the first address is some machine's.
        host.cli(
            cli,
            [
                "network",
                "create",
                "-d",
                "macvlan",
                "-o",
                "parent=lan10500",
                "--subnet",
                "10.50.0.0/24",
                "lan",
            ],
        )
        .ok();
        let routes = host
            .cli(cli, ["run", "--rm", "--network", "lan", "--ip", "10.50.0.7", "busybox", "ip", "route"])
            .ok();
        assert!(!routes.contains("default"), "{routes}");
        host.cli(cli, ["network", "rm", "lan"]).ok();
    }
}

#[test]
fn devices_of_the_host_that_cannot_be_are_refused_in_dockers_words() {
    let host = Host::apart();
    let _lan = host.neighbour("10.50.0");
    for cli in CLIS {
        let refused = |driver: &str, options: &[&str], why: &str| {
            let mut args = vec!["network", "create", "-d", driver];
            args.extend(options.iter().flat_map(|option| ["-o", option]));
            args.push("x");
            host.cli(cli, args).fails(1, why);
        };
        refused(
            "macvlan",
            &["parent=lan10500", "macvlan_mode=odd"],
            "requested macvlan mode 'odd' is not valid, 'bridge' mode is the macvlan driver default",
        );
        refused("macvlan", &["parent=lo"], "loopback interface is not a valid macvlan parent link");
        refused(
            "macvlan",
            &["parent=nowhere"],
            "invalid subinterface vlan name nowhere, example formatting is eth0.10",
        );
        refused(
            "macvlan",
            &["parent=nowhere.10"],
            "parent interface does was not found on the host: nowhere",
        );
        refused("macvlan", &["parent=lan10500.4095"], "vlan id must be between 1-4094, received: 4095");
        refused(
            "macvlan",
            &["parent=lan10500.x"],
            "unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)",
        );
        refused(
            "ipvlan",
            &["parent=lan10500", "ipvlan_mode=odd"],
            "requested ipvlan mode 'odd' is not valid, 'l2' mode is the ipvlan driver default",
        );
        refused(
            "ipvlan",
            &["parent=lan10500", "ipvlan_flag=odd"],
            "requested ipvlan flag 'odd' is not valid, 'bridge' is the ipvlan driver default",
        );
        host.cli(
            cli,
            ["network", "create", "-d", "macvlan", "--ipam-driver", "null", "-o", "parent=lan10500", "x"],
        )
        .fails(1, "ipv4 pool is empty");
        assert_eq!(host.cli(cli, ["network", "ls", "-q", "--filter", "type=custom"]).ok(), "");
        // What a kernel may lack: it is said, and nothing is left; or it works.
        for (driver, option, device) in
            [("macvlan", "parent=lan10500.10", "lan10500.10"), ("macvlan", "odd=1", "dm-")]
        {
            let made = host.cli(cli, ["network", "create", "-d", driver, "-o", option, "x"]).run();
            let there = || host.program("ip", ["-o", "link"]).ok().contains(device);
            if made.code == 0 {
                assert!(there());
                let address = host
                    .cli(
                        cli,
                        [
                            "run",
                            "--rm",
                            "--network",
                            "x",
                            "busybox",
                            "ip",
                            "-4",
                            "-o",
                            "addr",
                            "show",
                            "eth0",
                        ],
                    )
                    .ok();
                assert!(address.contains("172."), "{address}");
                host.cli(cli, ["network", "rm", "x"]).ok();
            } else {
                kit::skip(device, made.stderr.trim());
                assert!(
                    made.stderr.contains("cannot create network device") && made.stderr.contains(device),
                    "{}",
                    made.stderr
                );
            }
            assert!(!there());
        }
        let made = host
            .cli(
                cli,
                [
                    "network",
                    "create",
                    "-d",
                    "ipvlan",
                    "-o",
                    "parent=lan10500",
                    "-o",
                    "ipvlan_mode=l3",
                    "--subnet",
                    "10.50.0.0/24",
                    "x",
                ],
            )
            .run();
        if made.code == 0 {
            run(&host, cli, "one", &["--network", "x"]);
            assert!(inside(&host, cli, "one", "ip route").contains("default dev eth0"));
            self::refused(
                &host,
                cli,
                &["--network", "x", "--mac-address", "02:00:00:00:00:01"],
                "ipvlan interfaces do not support custom mac address assignment",
            );
            host.cli(cli, ["rm", "-f", "one"]).ok();
            host.cli(cli, ["network", "rm", "x"]).ok();
        } else {
            kit::skip("ipvlan", made.stderr.trim());
            assert!(made.stderr.contains("this kernel has no ipvlan devices"), "{}", made.stderr);
        }
    }
}
