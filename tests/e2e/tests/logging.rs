//! Where containers' output goes: drivers, their options, and receivers that parse their protocols strictly.

#[path = "logging/receivers.rs"]
mod receivers;

use kit::{CLIS, Cli, Host, wait_for};
use receivers::{Forward, Lines, Packets};
use std::fs;

/// Runs `script` with a driver, and gives the container's id when it has ended.
fn run(host: &Host, cli: Cli, flags: &[&str], script: &str) -> String {
    let mut args = vec!["run", "-d", "--network", "none"];
    args.extend(flags);
    args.extend(["busybox", "sh", "-c", script]);
    let id = host.cli(cli, args).ok();
    host.cli(cli, ["wait", &id]).ok();
    id
}

#[test]
fn wrong_options_are_refused_in_dockers_words() {
    let host = Host::with_busybox();
    for cli in CLIS {
        for (flags, text) in [
            (&["--log-driver", "awslogs"][..], "logger: no log driver named 'awslogs' is registered"),
            (&["--log-opt", "x=y"], "unknown log opt 'x' for json-file log driver"),
            (
                &["--log-driver", "syslog", "--log-opt", "max-size=1m"],
                "unknown log opt 'max-size' for syslog log driver",
            ),
            (&["--log-driver", "gelf"], "gelf-address is a required parameter"),
            (&["--log-opt", "mode=sometimes"], "logger: logging mode not supported: sometimes"),
            (
                &["--log-opt", "max-buffer-size=1m"],
                "max-buffer-size option is only supported with 'mode=non-blocking'",
            ),
            (
                &["--log-driver", "fluentd", "--log-opt", "fluentd-address=tls://x:1"],
                "unsupported scheme: 'tls'",
            ),
            (&["--log-driver", "none", "--log-opt", "max-size=1m"], "invalid logging opts for driver none"),
            (&["--log-opt", "max-size=0"], "max-size must be a positive number"),
            (&["--log-opt", "max-size=-1"], "invalid size: '-1'"),
            (
                &["--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=-1"],
                "error parsing option max-buffer-size: invalid size: '-1'",
            ),
            (
                &[
                    "--log-driver",
                    "syslog",
                    "--log-opt",
                    "syslog-address=tcp+tls://x:1",
                    "--log-opt",
                    "syslog-tls-cert=/x",
                ],
                "syslog-tls-cert without syslog-tls-key: give both, or neither",
            ),
        ] {
            let mut args = vec!["create", "--network", "none"];
            args.extend(flags);
            args.push("busybox");
            let output = host.cli(cli, args).run();
            assert!(output.stderr.contains(text), "{text}: {output}");
        }
        let id = run(&host, cli, &["--log-driver", "none"], "echo hidden");
        host.cli(cli, ["logs", &id]).fails(1, "configured logging driver does not support reading");
    }
}

#[test]
fn files_carry_what_was_asked_for() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let flags = [
            "--log-opt",
            "labels=one",
            "--log-opt",
            "labels-regex=^com\\.",
            "--log-opt",
            "env=A",
            "--log-opt",
            "env-regex=^B",
            "--log-opt",
            "tag={{.Name}}",
            "--label",
            "one=1",
            "--label",
            "com.x=2",
            "--label",
            "other=3",
            "-e",
            "A=a",
            "-e",
            "BB=b",
            "-e",
            "C=c",
        ];
        let mut named = vec!["--name", "web"];
        named.extend(flags);
        let id = run(&host, cli, &named, "echo hello");
        assert_eq!(host.cli(cli, ["logs", "--details", &id]).ok(), "A=a,BB=b,com.x=2,one=1,tag=web hello");
        host.cli(cli, ["rm", &id]).ok();
        let id = run(&host, cli, &["--log-driver", "local"], "echo hello; echo error >&2");
        let output = host.cli(cli, ["logs", &id]).run();
        assert_eq!((output.stdout.trim(), output.stderr.trim()), ("hello", "error"));
    }
}

#[test]
fn the_daemons_defaults_are_for_who_says_nothing() {
    let mut host =
        Host::stopped(&["--log-driver", "json-file", "--log-opt", "max-size=10k", "--log-opt", "max-file=2"]);
    host.start_daemon();
    host.pull_busybox();
    for cli in CLIS {
        assert_eq!(host.cli(cli, ["info", "-f", "{{.LoggingDriver}}"]).ok(), "json-file");
        let shown = |flags: &[&str]| {
            let mut args = vec!["create", "--network", "none"];
            args.extend(flags);
            args.push("busybox");
            let id = host.cli(cli, args).ok();
            host.cli(cli, ["inspect", "-f", "{{json .HostConfig.LogConfig}}", &id]).ok()
        };
        assert_eq!(shown(&[]), r#"{"Type":"json-file","Config":{"max-file":"2","max-size":"10k"}}"#);
        assert_eq!(shown(&["--log-driver", "local"]), r#"{"Type":"local","Config":{}}"#);
        let id = run(&host, cli, &[], "for n in $(seq 1 2000); do echo line number $n; done");
        let tail = host.cli(cli, ["logs", "--tail", "1", &id]).ok();
        assert_eq!(tail, "line number 2000");
        let files: Vec<u64> = fs::read_dir(host.data_root().join("containers").join(&id).join("log"))
            .expect("list")
            .map(|file| file.expect("a file").metadata().expect("its size").len())
            .collect();
        // Docker's json-file counts by thousands; the line that fills a file is still in it.
        assert!(files.len() == 2 && files.iter().all(|size| *size < 10_240), "{files:?}");
    }
    host.daemon(&["--log-opt", "nonsense=1", "--validate"])
        .fails(125, "unknown log opt 'nonsense' for json-file log driver");
}

#[test]
fn syslog_over_udp_tcp_and_unix_sockets() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let udp = Packets::udp();
        let address = format!("syslog-address=udp://{}", udp.address());
        let flags = [
            "--log-driver",
            "syslog",
            "--log-opt",
            &address,
            "--log-opt",
            "syslog-format=rfc5424",
            "--log-opt",
            "syslog-facility=local1",
            "--log-opt",
            "tag={{.ImageName}}",
        ];
        let id = run(&host, cli, &flags, "echo one; echo two >&2");
        let (one, two) = (udp.text(), udp.text());
        let mut both = [one, two];
        both.sort();
        receivers::rfc5424(&both[1], 17 * 8 + 6, "busybox", "one");
        receivers::rfc5424(&both[0], 17 * 8 + 3, "busybox", "two");
        // What is shipped can be read here as well.
        assert!(host.cli(cli, ["logs", &id]).run().stdout.contains("one"));

        let tcp = Lines::tcp();
        let address = format!("syslog-address=tcp://{}", tcp.address());
        let flags = [
            "--log-driver",
            "syslog",
            "--log-opt",
            &address,
            "--log-opt",
            "syslog-format=rfc3164",
            "--log-opt",
            "tag=web",
        ];
        run(&host, cli, &flags, "for n in 1 2 3; do echo line $n; done");
        for number in 1..=3 {
            receivers::rfc3164(&tcp.line(), 3 * 8 + 6, "web", &format!("line {number}"));
        }

        let path = host.root().join(format!("syslog-{cli:?}"));
        let unix = Packets::unix(&path);
        let address = format!("syslog-address=unixgram://{}", path.display());
        let id = run(&host, cli, &["--log-driver", "syslog", "--log-opt", &address], "echo local");
        let text = unix.text();
        assert!(
            text.starts_with("<30>")
                && text.ends_with("]: local")
                && text.contains(&format!(" {}[", &id[..12])),
            "{text}"
        );
    }
}

#[test]
fn gelf_in_chunks_and_over_tcp() {
    let host = Host::with_busybox();
    for cli in CLIS {
        for kind in ["gzip", "zlib", "none"] {
            let udp = Packets::udp();
            let address = format!("gelf-address=udp://{}", udp.address());
            let kind_option = format!("gelf-compression-type={kind}");
            let flags = [
                "--log-driver",
                "gelf",
                "--log-opt",
                &address,
                "--log-opt",
                &kind_option,
                "--log-opt",
                "labels=a",
                "--label",
                "a=b",
            ];
            // Random letters are hardly made shorter: several chunks.
            let id = run(&host, cli, &flags, "head -c 9000 /dev/urandom | base64 | tr -d '\\n'; echo");
            let message = receivers::gelf(&udp.message());
            assert_eq!(
                (message["version"].as_str(), message["_container_id"].as_str()),
                (Some("1.1"), Some(&id[..]))
            );
            assert_eq!((message["level"].as_u64(), message["_a"].as_str()), (Some(6), Some("b")));
            assert_eq!(message["short_message"].as_str().map(str::len), Some(12_000));
        }
        let tcp = Lines::ended_by(0);
        let address = format!("gelf-address=tcp://{}", tcp.address());
        run(&host, cli, &["--log-driver", "gelf", "--log-opt", &address], "echo hello");
        assert_eq!(receivers::gelf(tcp.line().as_bytes())["short_message"].as_str(), Some("hello"));
    }
}

#[test]
fn fluentd_is_spoken_to_and_acknowledges() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let forward = Forward::start();
        let address = format!("fluentd-address={}", forward.address());
        let flags = [
            "--log-driver",
            "fluentd",
            "--log-opt",
            &address,
            "--log-opt",
            "fluentd-request-ack=true",
            "--log-opt",
            "fluentd-sub-second-precision=true",
            "--log-opt",
            "tag=docker.{{.Name}}",
            "--name",
            "fluent",
        ];
        let id = run(&host, cli, &flags, "echo one; echo two >&2");
        let mut said: Vec<_> = (0..2).map(|_| forward.message()).collect();
        said.sort_by(|a, b| a.record["log"].cmp(&b.record["log"]));
        assert_eq!(said[0].tag, "docker.fluent");
        assert_eq!((said[0].record["log"].as_str(), said[0].record["source"].as_str()), ("one", "stdout"));
        assert_eq!((said[1].record["log"].as_str(), said[1].record["source"].as_str()), ("two", "stderr"));
        assert_eq!(
            (said[0].record["container_id"].as_str(), said[0].record["container_name"].as_str()),
            (&id[..], "/fluent")
        );
        assert!(said[0].precise);
        host.cli(cli, ["rm", &id]).ok();
    }
}

/// Runs with fluentd as the driver and these options of it.
fn fluentd(host: &Host, cli: Cli, address: &str, options: &[&str], script: &str) -> kit::Output {
    let address = format!("fluentd-address={address}");
    let mut args = vec!["run", "-d", "--network", "none", "--log-driver", "fluentd", "--log-opt", &address];
    for option in options {
        args.extend(["--log-opt", option]);
    }
    args.extend(["busybox", "sh", "-c", script]);
    host.cli(cli, args).run()
}

#[test]
fn who_does_not_want_to_start_without_fluentd_does_not() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let address = format!("127.0.0.1:{}", kit::registry::free_port());
        let output = fluentd(&host, cli, &address, &["fluentd-async=false"], "echo one");
        let words =
            format!("failed to initialize logging driver: dial tcp {address}: connect: connection refused");
        assert!(output.stderr.contains(&words), "{output}");
        let id = host.cli(cli, ["ps", "-aq", "--no-trunc"]).ok();
        assert_eq!(host.cli(cli, ["inspect", "-f", "{{.State.Status}}", &id]).ok(), "created");
        let forward = Forward::at(&address);
        host.cli(cli, ["start", &id]).ok();
        assert_eq!(forward.message().record["log"], "one");
        // Others start at once, and say it when somebody listens.
        let address = format!("127.0.0.1:{}", kit::registry::free_port());
        let output = fluentd(&host, cli, &address, &["fluentd-async=true"], "echo two");
        assert_eq!(host.cli(cli, ["wait", output.text()]).ok(), "0");
        let forward = Forward::at(&address);
        assert_eq!(forward.message().record["log"], "two");
        host.cli(cli, ["rm", &id, output.text()]).ok();
    }
}

#[test]
fn of_what_waits_for_fluentd_as_much_is_kept_as_was_asked_for() {
    let host = Host::with_busybox();
    for (cli, expected) in CLIS.into_iter().zip(1..) {
        let address = format!("127.0.0.1:{}", kit::registry::free_port());
        let options = ["fluentd-buffer-limit=10", "cache-compress=true", "cache-max-size=4k"];
        let script = "for n in $(seq 1 100); do echo line $n; done";
        let output = fluentd(&host, cli, &address, &options, script);
        assert_eq!(host.cli(cli, ["wait", output.text()]).ok(), "0");
        wait_for("lines to be given up", || {
            let log = host.daemon_log();
            let given_up = log.split("lines=").skip(1).map(|rest| {
                rest.split_whitespace().next().and_then(|number| number.parse::<u32>().ok()).unwrap_or(0)
            });
            (given_up.sum::<u32>() == 90 * expected).then_some(())
        });
        let forward = Forward::at(&address);
        let mut said = vec![forward.message().record["log"].clone()];
        while said.last().is_some_and(|line| line != "line 100") {
            said.push(forward.message().record["log"].clone());
        }
        let kept: Vec<String> = (91..=100).map(|n| format!("line {n}")).collect();
        assert_eq!(said, kept);
        assert_eq!(host.cli(cli, ["logs", output.text()]).ok().lines().count(), 100);
        host.cli(cli, ["rm", output.text()]).ok();
    }
}

#[test]
fn a_connection_with_fluentd_is_made_anew_as_often_as_was_asked_for() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let forward = Forward::start();
        let options = ["fluentd-async=true", "fluentd-async-reconnect-interval=100ms"];
        let script = "while [ ! -e /stop ]; do echo on; sleep 0.05; done";
        let output = fluentd(&host, cli, forward.address(), &options, script);
        wait_for("a third connection", || (forward.connections() >= 3).then_some(()));
        host.cli(cli, ["rm", "-f", output.text()]).ok();
        let output =
            fluentd(&host, cli, forward.address(), &["fluentd-async-reconnect-interval=1ms"], "true");
        assert!(output.stderr.contains("must be between 100ms and 10s"), "{output}");
    }
}

#[test]
fn a_dead_daemon_delays_and_loses_nothing() {
    let mut host = Host::with_busybox();
    let mut tcp = Lines::tcp();
    let port = tcp.address();
    let address = format!("syslog-address=tcp://{port}");
    // Nobody listens at first.
    tcp.stop();
    let id = host
        .corten([
            "run",
            "-d",
            "--network",
            "none",
            "--log-driver",
            "syslog",
            "--log-opt",
            &address,
            "busybox",
            "sh",
            "-c",
        ])
        .args(["n=0; while [ $n -lt 400 ]; do n=$((n+1)); echo line $n; sleep 0.01; done; echo end"])
        .ok();
    wait_for("the daemon to notice", || {
        host.daemon_log().contains("the receiver of a log does not take it").then_some(())
    });
    let tcp = Lines::tcp_at(&port);
    let mut said = Vec::new();
    said.push(tcp.line());
    host.kill_daemon();
    host.start_daemon();
    host.kill_daemon();
    wait_for("the container's end", || host.supervisors().is_empty().then_some(()));
    host.start_daemon();
    while !said.last().is_some_and(|line| line.ends_with("]: end")) {
        said.push(tcp.line());
    }
    for number in 1..=400 {
        let end = format!("]: line {number}");
        assert!(said.iter().any(|line| line.ends_with(&end)), "line {number} is lost");
    }
    // What was acknowledged is not said again: a few lines at each kill at most.
    assert!(said.len() < 401 + 400, "{} lines", said.len());
    host.corten(["rm", &id]).ok();
}

#[test]
fn what_a_short_life_said_is_shipped_before_it_is_removed() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let tcp = Lines::tcp();
        let address = format!("syslog-address=tcp://{}", tcp.address());
        host.cli(
            cli,
            [
                "run",
                "--rm",
                "--network",
                "none",
                "--log-driver",
                "syslog",
                "--log-opt",
                &address,
                "busybox",
                "echo",
                "last words",
            ],
        )
        .ok();
        assert!(tcp.line().ends_with("]: last words"));
    }
}

/// The process that writes the log of a container that does not wait for it.
fn writer(host: &Host) -> rustix::process::Pid {
    let supervisors = host.supervisors();
    let is_it = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent =
            stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).and_then(|pid| pid.parse().ok());
        stat.contains("(corten-log)") && parent.is_some_and(|parent: u32| supervisors.contains(&parent))
    };
    wait_for("the writing process", || {
        let mut names = fs::read_dir("/proc").expect("list").map(|entry| entry.expect("entry").file_name());
        let found = names.find_map(|name| name.to_str().filter(|name| is_it(name)).map(str::to_owned));
        found.and_then(|pid| pid.parse().ok()).and_then(rustix::process::Pid::from_raw)
    })
}

#[test]
fn who_does_not_block_never_waits_and_is_told_what_is_missing() {
    use rustix::process::{Signal, kill_process};
    let host = Host::with_busybox();
    for cli in CLIS {
        let script = "echo first; while [ ! -e /go ]; do sleep 0.05; done; seq 1 300000; echo > /said; while [ ! -e /end ]; do echo last; sleep 0.05; done";
        let id = host
            .cli(
                cli,
                [
                    "run",
                    "-d",
                    "--network",
                    "none",
                    "--log-opt",
                    "mode=non-blocking",
                    "--log-opt",
                    "max-buffer-size=256k",
                ],
            )
            .args(["busybox", "sh", "-c", script])
            .ok();
        let writing = writer(&host);
        kill_process(writing, Signal::STOP).expect("stop");
        host.cli(cli, ["exec", &id, "touch", "/go"]).ok();
        // Two megabytes are said while nobody writes.
        wait_for("the container to go on", || {
            host.cli(cli, ["exec", &id, "cat", "/said"]).run().code.eq(&0).then_some(())
        });
        kill_process(writing, Signal::CONT).expect("continue");
        // What comes while the queue is still full is dropped as well.
        wait_for("what is said to be kept again", || {
            (host.cli(cli, ["logs", "--tail", "1", &id]).ok() == "last").then_some(())
        });
        host.cli(cli, ["exec", &id, "touch", "/end"]).ok();
        host.cli(cli, ["wait", &id]).ok();
        let said = host.cli(cli, ["logs", &id]).run();
        let told = said
            .stderr
            .lines()
            .filter(|line| line.contains("are missing here: the log could not keep up"))
            .count();
        assert!(told >= 1, "{}", said.stderr);
        let (begin, end) = said.stdout.split_at(said.stdout.len().min(20));
        assert!(
            begin.starts_with("first\n") && end.ends_with("\nlast\n"),
            "{begin} … {}",
            &end[end.len().saturating_sub(40)..]
        );
        let lines = said.stdout.lines().filter(|line| *line != "last").count();
        assert!(lines > 10 && lines < 290_000, "{lines} lines");
        host.cli(cli, ["rm", &id]).ok();
    }
}

/// A journal, where this machine has none: its socket has one place.
struct Journal {
    packets: Packets,
    made: Vec<std::path::PathBuf>,
}

impl Journal {
    fn start() -> Option<Self> {
        let directory = std::path::Path::new("/run/systemd/journal");
        let socket = directory.join("socket");
        if socket.exists() {
            kit::skip("journal", "this machine has a journal of its own");
            return None;
        }
        let mut made: Vec<_> =
            directory.ancestors().take_while(|path| !path.exists()).map(Into::into).collect();
        fs::create_dir_all(directory).expect("mkdir");
        made.insert(0, socket.clone());
        Some(Self { packets: Packets::unix(&socket), made })
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let (socket, directories) = self.made.split_first().expect("the socket");
        let _ = fs::remove_file(socket);
        for directory in directories {
            let _ = fs::remove_dir(directory);
        }
    }
}

#[test]
fn the_journal_is_spoken_to_by_its_own_protocol() {
    let host = Host::with_busybox();
    let Some(journal) = Journal::start() else { return };
    for cli in CLIS {
        let flags = [
            "--log-driver",
            "journald",
            "--log-opt",
            "tag=web",
            "--log-opt",
            "labels=com.x",
            "--label",
            "com.x=1",
            "--name",
            "jour",
        ];
        let id = run(&host, cli, &flags, "echo hello >&2");
        let fields = receivers::journal(&journal.packets.packet());
        let get = |name: &str| fields[name].as_str();
        assert_eq!((get("MESSAGE"), get("PRIORITY"), get("SYSLOG_IDENTIFIER")), ("hello", "3", "web"));
        assert_eq!((get("CONTAINER_ID_FULL"), get("CONTAINER_ID")), (&id[..], &id[..12]));
        assert_eq!((get("CONTAINER_NAME"), get("CONTAINER_TAG"), get("COM_X")), ("jour", "web", "1"));
        assert_eq!(host.cli(cli, ["logs", &id]).run().stderr.trim(), "hello");
        host.cli(cli, ["rm", &id]).ok();
    }
}

#[test]
fn syslog_over_tls_knows_whom_it_speaks_to() {
    let host = Host::with_busybox();
    let file = |name: &str| host.root().join(name).display().to_string();
    let script = "for name in own other; do openssl req -x509 -newkey rsa:2048 -nodes -keyout $name-ca.key -out $name.pem -days 2 -subj /CN=$name; done
        echo subjectAltName=IP:127.0.0.1 > ext && openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=receiver &&
        openssl x509 -req -in server.csr -CA own.pem -CAkey own-ca.key -CAcreateserial -days 2 -extfile ext -out server.pem";
    kit::Cmd::new("sh").args(["-c", script]).current_dir(host.root()).ok();
    let server = "import socket,ssl,sys\nc=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER);c.load_cert_chain(sys.argv[1],sys.argv[2])\n\
                  s=socket.create_server(('127.0.0.1',0));open(sys.argv[3]+'.new','w').write(str(s.getsockname()[1]))\n\
                  import os;os.rename(sys.argv[3]+'.new',sys.argv[3])\n\
                  while True:\n  try:\n    k=c.wrap_socket(s.accept()[0],server_side=True);d=k.recv(65536)\n  except OSError: continue\n  if d: print(d.decode(),end='',flush=True);break";
    let receiver = kit::Cmd::new("python3")
        .args(["-c", server, &file("server.pem"), &file("server.key"), &file("port")])
        .spawn();
    let port = wait_for("the receiver's port", || fs::read_to_string(file("port")).ok());
    let address = format!("syslog-address=tcp+tls://127.0.0.1:{port}");
    let start = |ca: &str, text: &str| {
        let ca = format!("syslog-tls-ca-cert={}", file(ca));
        let flags = [
            "--log-driver",
            "syslog",
            "--log-opt",
            &address,
            "--log-opt",
            &ca,
            "--log-opt",
            "syslog-format=rfc5424",
            "--log-opt",
            "tag=t",
        ];
        run(&host, Cli::Corten, &flags, &format!("echo {text}"))
    };
    start("other.pem", "to a stranger");
    wait_for("the receiver to be refused", || host.daemon_log().contains("does not take it").then_some(()));
    start("own.pem", "hello");
    let said = receiver.wait().stdout;
    let (length, message) = said.split_once(' ').expect("a length");
    assert_eq!(length.parse(), Ok(message.len()), "{said}");
    receivers::rfc5424(message.trim_end(), 3 * 8 + 6, "t", "hello");
    host.corten([
        "create",
        "--log-driver",
        "syslog",
        "--log-opt",
        &address,
        "--log-opt",
        "syslog-tls-ca-cert=/not/there",
        "busybox",
    ])
    .fails(1, "could not read certificate /not/there");
}

#[test]
fn rsyslogd_understands_every_form() {
    let program = std::path::Path::new("/usr/sbin/rsyslogd");
    if !program.exists() {
        return kit::skip("rsyslogd", "it is not installed");
    }
    let host = Host::with_busybox();
    let file = |name: &str| host.root().join(name).display().to_string();
    // A free port, taken again at once.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("an address").port();
    let config = format!(
        "global(workDirectory=\"{root}\")\nmodule(load=\"imudp\")\nmodule(load=\"imtcp\")\nmodule(load=\"imuxsock\" SysSock.Use=\"off\")\n\
         input(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
         input(type=\"imuxsock\" Socket=\"{socket}\")\n\
         template(name=\"t\" type=\"string\" string=\"%syslogfacility-text%.%syslogseverity-text% %programname% %msg%\\n\")\n\
         action(type=\"omfile\" file=\"{said}\" template=\"t\")\n",
        root = host.root().display(),
        socket = file("dev-log"),
        said = file("said"),
    );
    fs::write(file("rsyslog.conf"), config).expect("write");
    let mut daemon = std::process::Command::new(program)
        .args(["-n", "-f", &file("rsyslog.conf"), "-i", &file("rsyslog.pid")])
        .spawn()
        .expect("rsyslogd");
    wait_for("rsyslogd", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    let mut number = 0;
    for address in [
        format!("udp://127.0.0.1:{port}"),
        format!("tcp://127.0.0.1:{port}"),
        format!("unixgram://{}", file("dev-log")),
    ] {
        for form in ["rfc3164", "rfc5424", "rfc5424micro"] {
            // The local socket has a form of its own.
            let form = if address.starts_with("unix") { "" } else { form };
            number += 1;
            let options = [format!("syslog-address={address}"), format!("syslog-format={form}")];
            let flags = [
                "--log-driver",
                "syslog",
                "--log-opt",
                &options[0],
                "--log-opt",
                &options[1],
                "--log-opt",
                "syslog-facility=local5",
                "--log-opt",
                "tag=web",
            ];
            run(&host, Cli::Docker, &flags, &format!("echo said {number} >&2"));
            let wanted = format!("local5.err web said {number}");
            wait_for(&wanted, || {
                let said = fs::read_to_string(file("said")).unwrap_or_default();
                said.lines().any(|line| line.split_whitespace().eq(wanted.split_whitespace())).then_some(())
            });
        }
    }
    daemon.kill().expect("end it");
    daemon.wait().expect("its end");
}
