//! Published ports as people see them, and as they change.

use kit::{CLIS, Host, wait_for};

#[test]
fn port_says_where_a_container_is_reached() {
    let host = Host::apart();
    for cli in CLIS {
        let published = ["-p", "127.0.0.1:8081:80", "-p", "8080:80", "-p", "9053:53/udp", "--expose", "99"];
        let mut args = vec!["run", "-d", "--name", "web"];
        args.extend(published);
        args.extend(["busybox", "sleep", "1000"]);
        host.cli(cli, args).ok();
        let all = "53/udp -> 0.0.0.0:9053\n53/udp -> [::]:9053\n80/tcp -> 0.0.0.0:8080\n\
            80/tcp -> 127.0.0.1:8081\n80/tcp -> [::]:8080";
        assert_eq!(host.cli(cli, ["port", "web"]).ok(), all);
        assert_eq!(host.cli(cli, ["container", "port", "web"]).ok(), all);
        assert_eq!(host.cli(cli, ["port", "web", "80"]).ok(), "0.0.0.0:8080\n127.0.0.1:8081\n[::]:8080");
        assert_eq!(host.cli(cli, ["port", "web", "53/udp"]).ok(), "0.0.0.0:9053\n[::]:9053");
        for absent in ["53", "99", "81/tcp"] {
            let text = format!("Error: No public port '{absent}' published for web");
            host.cli(cli, ["port", "web", absent]).fails(1, &text);
        }
        let wrong = "Error: invalid port (http): strconv.ParseUint: parsing \"http\": invalid syntax";
        host.cli(cli, ["port", "web", "http"]).fails(1, wrong);
        host.cli(cli, ["port", "nobody"]).fails(1, "No such container: nobody");
        host.cli(cli, ["rm", "-f", "web"]).ok();
    }
}

/// What the server at `address` of the host answers, if one does.
fn fetch(host: &Host, address: &str, port: &str) -> Option<String> {
    let script =
        format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 3 {address} {port} | tail -n 1");
    let output = host.program("sh", ["-c", &script]).run();
    Some(output.stdout.trim().to_owned()).filter(|text| !text.is_empty())
}

/// A container that serves `one` at port 80 and `two` at port 81.
fn serve(host: &Host, name: &str, flags: &[&str]) {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(flags);
    let script = "mkdir /a /b; echo one > /a/index.html; echo two > /b/index.html; \
        httpd -p 81 -h /b; exec httpd -f -p 80 -h /a";
    args.extend(["busybox", "sh", "-c", script]);
    host.corten(args).ok();
    let pid = host.corten(["inspect", "-f", "{{.State.Pid}}", name]).ok();
    // Ports 80 and 81 are listened at, in either family.
    let listening = format!("grep -ciE ':005[01] 0+:0+ 0A' /proc/{pid}/net/tcp6");
    wait_for("the servers", || {
        host.program("sh", ["-c", &listening]).run().stdout.trim().eq("2").then_some(())
    });
}

#[test]
fn ports_are_published_and_taken_back_while_a_container_runs() {
    let mut host = Host::apart();
    serve(&host, "web", &["-p", "8080:80"]);
    let at = |host: &Host, port: &str| fetch(host, "127.0.0.1", port);
    assert_eq!(at(&host, "8080").as_deref(), Some("one"));
    let update = |host: &Host, flags: &[&str]| {
        let mut args = vec!["update"];
        args.extend(flags);
        args.push("web");
        host.corten(args)
    };
    assert_eq!(update(&host, &["--publish-add", "127.0.0.1:8081:81"]).ok(), "web");
    assert_eq!(at(&host, "8081").as_deref(), Some("two"));
    let asked = "{{json .HostConfig.PortBindings}}";
    let bindings =
        r#"{"80/tcp":[{"HostIp":"","HostPort":"8080"}],"81/tcp":[{"HostIp":"127.0.0.1","HostPort":"8081"}]}"#;
    assert_eq!(host.corten(["inspect", "-f", asked, "web"]).ok(), bindings);
    // One number leads elsewhere from now on: its own is not in the way.
    update(&host, &["--publish-rm", "8080:80", "--publish-add", "8080:81"]).ok();
    assert_eq!(at(&host, "8080").as_deref(), Some("two"));
    assert_eq!(
        host.docker(["port", "web"]).ok(),
        "81/tcp -> 0.0.0.0:8080\n81/tcp -> 127.0.0.1:8081\n81/tcp -> [::]:8080"
    );
    // What is another's fails, and changes nothing.
    host.corten(["run", "-d", "--name", "other", "-p", "9000:80", "busybox", "sleep", "1000"]).ok();
    let both = ["--publish-rm", "8080:81", "--publish-add", "8082:80", "--publish-add", "9000:80"];
    update(&host, &both).fails(1, "Bind for 0.0.0.0:9000 failed: port is already allocated");
    update(&host, &["--publish-rm", "99"]).fails(1, "No public port '99/tcp' published for web");
    assert_eq!(at(&host, "8080").as_deref(), Some("two"));
    assert_eq!(at(&host, "8082"), None);
    // The next daemon has what the last said, and holds it.
    host.kill_daemon();
    assert_eq!(at(&host, "8081").as_deref(), Some("two"), "without a daemon");
    host.start_daemon();
    host.corten(["run", "--rm", "-p", "8081:80", "busybox", "true"])
        .fails(125, "Bind for 0.0.0.0:8081 failed: port is already allocated");
    assert_eq!(at(&host, "8080").as_deref(), Some("two"));
    assert_eq!(update(&host, &["--publish-rm", "81"]).ok(), "web");
    assert_eq!((at(&host, "8080"), at(&host, "8081")), (None, None));
    host.corten(["run", "--rm", "-p", "8081:80", "busybox", "true"]).ok();
    assert_eq!(host.corten(["port", "web"]).ok(), "");
}

#[test]
fn ports_of_a_container_that_does_not_run_are_changed_for_its_next_start() {
    let host = Host::apart();
    serve(&host, "web", &["-p", "8080:80"]);
    host.corten(["stop", "-t", "0", "web"]).ok();
    host.corten(["update", "--publish-rm", "80", "--publish-add", "8090:81", "web"]).ok();
    assert_eq!(fetch(&host, "127.0.0.1", "8090"), None);
    host.corten(["start", "web"]).ok();
    assert_eq!(wait_for("the server", || fetch(&host, "127.0.0.1", "8090")), "two");
    assert_eq!(host.corten(["port", "web"]).ok(), "81/tcp -> 0.0.0.0:8090\n81/tcp -> [::]:8090");
    host.corten(["run", "-d", "--name", "plain", "--network", "host", "busybox", "sleep", "1000"]).ok();
    let refused = "conflicting options: port publishing and the container type network mode (host)";
    host.corten(["update", "--publish-add", "80", "plain"]).fails(1, refused);
    host.corten(["network", "create", "--internal", "back"]).ok();
    host.corten(["run", "-d", "--name", "inner", "--network", "back", "busybox", "sleep", "1000"]).ok();
    let output = host.corten(["update", "--publish-add", "80", "inner"]).run();
    assert_eq!(output.code, 0);
    assert!(output.stderr.contains("Published ports are discarded"), "{}", output.stderr);
}

#[test]
fn limits_are_changed_in_dockers_words() {
    let host = Host::apart();
    for cli in CLIS {
        host.cli(cli, ["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).ok();
        let changed = host.cli(cli, ["update", "--memory", "64m", "--memory-swap", "128m", "web"]).ok();
        assert_eq!(changed, "web");
        host.cli(cli, ["update", "--restart", "on-failure:3", "--cpu-shares", "512", "web"]).ok();
        let format = "{{.HostConfig.Memory}} {{.HostConfig.CpuShares}} \
            {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}";
        let shown = host.cli(cli, ["inspect", "-f", format, "web"]).ok();
        assert_eq!(shown, "67108864 512 on-failure 3");
        host.cli(cli, ["update", "web"]).fails(1, "you must provide one or more flags");
        host.cli(cli, ["update", "--restart", "x", "web"]).fails(1, "");
        host.cli(cli, ["update", "-m", "64m", "nobody"]).fails(1, "No such container: nobody");
        host.cli(cli, ["rm", "-f", "web"]).ok();
    }
}
