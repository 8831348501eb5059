//! What can be reached from where: tried by speaking to it, as a scanner does.

use kit::{Cmd, Host, wait_for};

/// Runs a program at a place.
type Run<'a> = dyn Fn(&[&str]) -> Cmd + Sync + 'a;

/// A place that things are reached from.
struct From<'a> {
    name: &'a str,
    run: Box<Run<'a>>,
}

/// A container that serves its name at port 80, by both families.
fn serve(host: &Host, name: &str, flags: &[&str]) {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(flags);
    let script = format!("mkdir /w; echo {name} > /w/index.html; exec httpd -f -p 80 -h /w");
    args.extend(["busybox", "sh", "-c", &script]);
    host.corten(args).ok();
    let pid = host.corten(["inspect", "-f", "{{.State.Pid}}", name]).ok();
    let listening = format!("grep -ciE ':0050 0+:0+ 0A' /proc/{pid}/net/tcp6");
    wait_for("the server", || host.program("sh", ["-c", &listening]).run().code.eq(&0).then_some(()));
}

/// Whether what is at a place says that it is `name`. Where it should, its neighbours may have to be asked twice for it first.
fn answers(from: &From<'_>, name: &str, (address, port): (&str, &str), expected: bool) -> bool {
    let seconds = if expected { 5 } else { 1 };
    let script =
        format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w {seconds} {address} {port} | tail -n 1");
    (from.run)(&["sh", "-c", &script]).run().stdout.trim() == name
}

#[test]
fn what_is_reached_from_where_is_what_the_guide_says() {
    let host = Host::apart();
    let peer = host.neighbour("192.0.2");
    host.corten(["network", "create", "--ipv6", "front"]).ok();
    host.corten(["network", "create", "--ipv6", "back"]).ok();
    host.corten(["network", "create", "--ipv6", "--internal", "vault"]).ok();
    host.corten(["network", "create", "--ipv6", "-o", "com.docker.network.bridge.enable_icc=false", "mute"])
        .ok();
    let ports = ["-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "192.0.2.1:8082:80"];
    serve(&host, "web", &[&["--network", "front"], &ports[..]].concat());
    for (name, network) in [("near", "front"), ("far", "back"), ("safe", "vault"), ("beside", "vault")] {
        serve(&host, name, &["--network", network]);
    }
    for name in ["quiet", "silent"] {
        serve(&host, name, &["--network", "mute"]);
    }
    let address = |name: &str, field: &str| {
        let format = format!("{{{{range .NetworkSettings.Networks}}}}{{{{.{field}}}}}{{{{end}}}}");
        host.corten(["inspect", "-f", &format, name]).ok()
    };
    let v4 = |name: &str| address(name, "IPAddress");
    let v6 = |name: &str| address(name, "GlobalIPv6Address");
    let gateway = v4("near").rsplit_once('.').unwrap().0.to_owned() + ".1";
    let inside = |name: &'static str| From {
        name,
        run: Box::new(|args: &[&str]| host.corten([&["exec", name], args].concat())),
    };
    let from = [
        From { name: "host", run: Box::new(|args: &[&str]| host.program(args[0], &args[1..])) },
        From { name: "LAN", run: Box::new(|args: &[&str]| peer.program(args[0], &args[1..])) },
        inside("web"),
        inside("near"),
        inside("far"),
        inside("safe"),
        inside("quiet"),
    ];
    let six = "fd00:192:0:2::1";
    // What is asked, who is to answer, and from where it is reached: by the order of the places.
    let rows: [(&str, &str, (&str, &str), &str); 16] = [
        ("published, the host's address", "web", ("192.0.2.1", "8080"), "host LAN web near far quiet"),
        ("published, IPv6", "web", (six, "8080"), "host LAN web near far quiet"),
        ("published, the bridge's address", "web", (&gateway, "8080"), "host LAN web near far quiet"),
        ("published at 127.0.0.1", "web", ("127.0.0.1", "8081"), "host"),
        ("the same by the host's address", "web", ("192.0.2.1", "8081"), ""),
        ("published at one address", "web", ("192.0.2.1", "8082"), "host LAN web near far quiet"),
        ("the same at another", "web", (&gateway, "8082"), ""),
        ("a port that is not published", "web", ("192.0.2.1", "80"), ""),
        ("a container", "web", (&v4("web"), "80"), "host web near"),
        ("a container, IPv6", "web", (&v6("web"), "80"), "host web near"),
        ("another network's", "far", (&v4("far"), "80"), "host far"),
        ("another network's, IPv6", "far", (&v6("far"), "80"), "host far"),
        ("an internal network's", "beside", (&v4("beside"), "80"), "host safe"),
        ("an internal network's, IPv6", "beside", (&v6("beside"), "80"), "host safe"),
        ("one without conversations", "silent", (&v4("silent"), "80"), "host"),
        ("one without conversations, IPv6", "silent", (&v6("silent"), "80"), "host"),
    ];
    let mut wrong = Vec::new();
    for (what, name, at, expected) in rows {
        let found: Vec<&str> = std::thread::scope(|scope| {
            let asked: Vec<_> = from
                .iter()
                .map(|from| {
                    let expected = expected.split(' ').any(|one| one == from.name);
                    (from.name, scope.spawn(move || answers(from, name, at, expected)))
                })
                .collect();
            let answered =
                asked.into_iter().filter_map(|(name, asked)| asked.join().unwrap().then_some(name));
            answered.collect()
        });
        println!("{what:<34} {:<24} {}", format!("{}:{}", at.0, at.1), found.join(" "));
        if found.join(" ") != expected {
            wrong.push(format!("{what} ({}:{}): {found:?}, not {expected:?}", at.0, at.1));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
