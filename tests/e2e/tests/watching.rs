//! What is to be known of containers from outside: `wait`, `top`, `events`, `rename`.

use std::collections::BTreeSet;

use kit::{CLIS, Cmd, Host, wait_for};

fn run(host: &Host, name: &str, flags: &[&str], command: &[&str]) -> String {
    let mut args = vec!["run", "-d", "--network", "none", "--name", name];
    args.extend(flags);
    args.push("busybox");
    args.extend(command);
    host.corten(args).ok()
}

fn now(host: &Host) -> String {
    host.corten(["info", "--format", "{{.SystemTime}}"]).ok()
}

/// The events so far that filters let through, as a format shows them.
fn events(host: &Host, filters: &[&str], format: &str) -> Vec<String> {
    let until = now(host);
    let mut args = vec!["events", "--since", "0", "--until", &until, "--format", format];
    for filter in filters {
        args.extend(["--filter", filter]);
    }
    host.corten(args).ok().lines().map(str::to_owned).collect()
}

fn wait_on(host: &Host, name: &str, condition: &str) -> kit::Output {
    let socket = host.socket().display().to_string();
    let url = format!("http://d/v1.47/containers/{name}/wait?condition={condition}");
    Cmd::new("curl").args(["-sS", "-X", "POST", "--unix-socket", &socket, &url]).run()
}

#[test]
fn conditions_of_wait() {
    let host = Host::with_busybox();
    host.corten(["create", "--network", "none", "--name", "new", "busybox", "sh", "-c", "exit 7"]).ok();
    // What does not run is answered at once; its next end is waited for.
    assert_eq!(wait_on(&host, "new", "not-running").text(), r#"{"StatusCode":0}"#);
    let socket = host.socket().display().to_string();
    let spawn = |condition: &str| {
        let url = format!("http://d/v1.47/containers/new/wait?condition={condition}");
        Cmd::new("curl").args(["-sSv", "-X", "POST", "--unix-socket", &socket, &url]).spawn()
    };
    let (next, removed) = (spawn("next-exit"), spawn("removed"));
    wait_for("both to wait", || {
        (host.daemon_log().matches("/containers/new/wait").count() >= 3).then_some(())
    });
    host.corten(["start", "new"]).ok();
    assert_eq!(next.wait().text(), r#"{"StatusCode":7}"#);
    assert_eq!(wait_on(&host, "new", "").text(), r#"{"StatusCode":7}"#);
    host.corten(["rm", "new"]).ok();
    assert_eq!(removed.wait().text(), r#"{"StatusCode":7}"#);
    assert_eq!(wait_on(&host, "new", "").text(), r#"{"message":"No such container: new"}"#);
    host.corten(["create", "--name", "odd", "busybox"]).ok();
    assert_eq!(wait_on(&host, "odd", "later").text(), r#"{"message":"invalid condition: \"later\""}"#);
    for cli in CLIS {
        let name = format!("ends-{cli:?}").to_lowercase();
        run(&host, &name, &["--rm"], &["sh", "-c", "sleep 0.3; exit 9"]);
        assert_eq!(host.cli(cli, ["wait", &name]).ok(), "9");
    }
}

#[test]
fn top_shows_what_ps_shows() {
    let host = Host::with_busybox();
    let id = run(&host, "top", &["--user", "33:4"], &["sh", "-c", "sleep 1000 & wait"]);
    wait_for("two processes", || (host.corten(["top", &id]).ok().lines().count() == 3).then_some(()));
    let pid = host.corten(["inspect", "--format", "{{.State.Pid}}", &id]).ok();
    for options in [
        "",
        "-ef",
        "-eF",
        "-ej",
        "aux",
        "-o pid,ppid,user,group,args",
        "-eo pid,pgid,sid,ni,pri,nlwp,comm",
        "-o pid,uid,gid,ruser,egroup,tty,stat",
    ] {
        // What is told of time and use changes while it is told.
        let steady = |text: &str| -> Vec<Vec<String>> {
            let rows =
                text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
            let rows: Vec<Vec<String>> = rows.collect();
            let titles = rows.first().cloned().unwrap_or_default();
            let keep: BTreeSet<usize> = titles
                .iter()
                .enumerate()
                .filter(|(_, title)| {
                    !matches!(title.as_str(), "C" | "%CPU" | "%MEM" | "RSS" | "TIME" | "PSR")
                })
                .map(|(at, _)| at)
                .collect();
            rows.into_iter()
                .map(|row| {
                    row.into_iter()
                        .enumerate()
                        .filter(|(at, _)| keep.contains(at) || *at >= titles.len())
                        .map(|(_, cell)| cell)
                        .collect()
                })
                .collect()
        };
        let own: Vec<&str> = options.split_whitespace().collect();
        // Of all processes, not those of the test's own terminal.
        let all = if own.is_empty() {
            vec!["-ef"]
        } else if own[0] == "-o" {
            [&["-e"][..], &own].concat()
        } else {
            own.clone()
        };
        let hosts = Cmd::new("ps").args(all).ok();
        let hosts = steady(&hosts);
        let title = hosts[0].clone();
        let at = title.iter().position(|title| title == "PID").expect("PID");
        for cli in CLIS {
            let args = ["top", "top"].into_iter().chain(own.iter().copied());
            let shown = steady(&host.cli(cli, args).ok());
            assert_eq!(shown[0], title, "{options}");
            let first =
                shown.iter().find(|row| row[at] == pid).unwrap_or_else(|| panic!("{options}: {shown:?}"));
            let wanted =
                hosts.iter().find(|row| row.get(at) == Some(&pid)).unwrap_or_else(|| panic!("{options}"));
            assert_eq!(first, wanted, "{options}");
        }
    }
    for cli in CLIS {
        host.cli(cli, ["top", "top", "-o", "comm"]).fails(1, "Couldn't find PID field in ps output");
        host.cli(cli, ["top", "top", "--forest"]).fails(1, "unsupported arguments");
    }
}

#[test]
fn events_of_all_kinds_are_told() {
    let host = Host::with_busybox();
    let file = host.root().join("file");
    std::fs::write(&file, "x").expect("write");
    let (file, out) = (file.display().to_string(), host.root().join("out").display().to_string());
    run(&host, "all", &["-v", "some:/v"], &["sleep", "1000"]);
    host.corten(["cp", &file, "all:/tmp/"]).ok();
    host.corten(["cp", "all:/tmp/file", &out]).ok();
    host.corten(["rename", "all", "other"]).ok();
    host.corten(["top", "other"]).ok();
    host.corten(["update", "--restart", "no", "other"]).ok();
    host.corten(["export", "-o", &out, "other"]).ok();
    host.corten(["commit", "other", "made:1"]).ok();
    host.corten(["tag", "made:1", "made:2"]).ok();
    host.corten(["rm", "-f", "other"]).ok();
    host.corten(["rmi", "made:1", "made:2"]).ok();
    host.corten(["volume", "prune", "-af"]).ok();
    host.corten(["container", "prune", "-f"]).ok();
    host.corten(["network", "prune", "-f"]).ok();
    let told = events(&host, &["type=container"], "{{.Action}}");
    let wanted = [
        "create",
        "start",
        "extract-to-dir",
        "archive-path",
        "rename",
        "top",
        "update",
        "export",
        "commit",
        "kill",
        "die",
        "destroy",
        "prune",
    ];
    let mut rest = told.iter();
    for action in wanted {
        assert!(rest.any(|told| told == action), "{action} in {told:?}");
    }
    let volumes = events(&host, &["volume=some"], "{{.Action}}");
    assert_eq!(volumes, ["create", "mount", "unmount", "destroy"]);
    let mounted = events(&host, &["type=volume", "event=mount"], "{{json .Actor.Attributes}}");
    assert!(
        mounted[0].contains(r#""destination":"/v""#) && mounted[0].contains(r#""read/write":"true""#),
        "{mounted:?}"
    );
    for kind in ["volume", "container", "network"] {
        let pruned =
            events(&host, &[&format!("type={kind}"), "event=prune"], "{{.Actor.Attributes.reclaimed}}");
        assert_eq!(pruned.len(), 1, "{kind}");
    }
    assert_eq!(
        events(&host, &["event=rename"], "{{.Actor.Attributes.oldName}} {{.Actor.Attributes.name}}"),
        ["/all other"]
    );
    let images = events(&host, &["image=made"], "{{.Type}} {{.Action}}");
    for wanted in ["image create", "image tag", "image untag"] {
        assert!(images.iter().any(|told| told == wanted), "{wanted} in {images:?}");
    }
    // A moment splits what was before from what came after.
    let moment = now(&host);
    run(&host, "late", &[], &["true"]);
    let until = now(&host);
    for cli in CLIS {
        let args = [
            "events",
            "--since",
            &moment,
            "--until",
            &until,
            "--filter",
            "type=container",
            "--format",
            "{{.Actor.Attributes.name}}",
        ];
        let names: BTreeSet<String> = host.cli(cli, args).ok().lines().map(str::to_owned).collect();
        assert_eq!(names, BTreeSet::from(["late".to_owned()]));
        host.cli(cli, ["events", "--since", &until, "--until", &moment]).fails(1, "cannot be after");
        host.cli(cli, ["events", "--filter", "nonsense=x"]).fails(1, "nonsense");
    }
}

#[test]
fn leaving_a_terminal_is_told() {
    use std::io::{Read as _, Write as _};
    let host = Host::with_busybox();
    run(&host, "left", &["-it"], &["sh"]);
    // Both command lines look for the keys themselves: this is a client that does not.
    let mut client = std::os::unix::net::UnixStream::connect(host.socket()).expect("connect");
    let head = "POST /containers/left/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    client.write_all(head.as_bytes()).expect("ask");
    let mut answer = [0; 12];
    client.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 101");
    client.write_all(b"\x10\x11").expect("type");
    let told = |event: &str| events(&host, &["container=left", &format!("event={event}")], "{{.Action}}");
    wait_for("its leaving", || (told("detach") == ["detach"]).then_some(()));
    assert_eq!(told("attach"), ["attach"]);
    assert!(told("die").is_empty());
}
