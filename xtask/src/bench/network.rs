//! Networks: starting on a bridge, making and removing one, and what goes through it. Each engine has a network namespace of its own as its
//! host, with a neighbour on a cable.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kit::fixtures::{Entry, Image, Layer, Packing};
use kit::{Host, wait_for};

use super::measure::{median_ms, run};
use super::peers::{Dockerd, IMAGE, Peer};
use super::{Row, TIMES, crowd, each, print};
use crate::run::Result;

/// The image that measures: Debian's `iperf3` with its libraries, and busybox.
const IPERF: &str = "bench-iperf";
/// How often bridges are made and removed.
const BRIDGES: usize = 15;
/// How many containers one bridge has.
const MANY: usize = 500;
/// How many of the first and of the last of them are looked at.
const SAMPLE: usize = 21;
/// For how long data flow, in seconds.
const FLOW: &str = "3";
/// How often one byte goes there and comes back.
const TURNS: usize = 3000;
/// Where a container answers each byte, and the port of the host that leads to it.
const ECHO: [&str; 2] = ["7", "17007"];
/// The same for `iperf3`.
const FLOWS: [&str; 2] = ["5201", "15201"];

/// Measures all of it, in `directory`; each part is printed when it is done, for all of it takes minutes.
pub fn bench(directory: &Path) -> Result {
    let peers = peers(directory)?;
    let started = each(&peers, "`run --rm IMAGE true` on the default bridge", "13 ms", |peer| {
        median_ms(TIMES, || run(&mut peer.command(&["run", "--rm", IMAGE, "true"])))
    })?;
    print(&[started]);
    print(&bridges(&peers)?);
    print(&traffic(&peers)?);
    print(&crowd(&peers, &[], "default bridge")?);
    print(&many(&peers)?);
    Ok(())
}

/// Ours, and docker.io with its proxies and without them.
fn peers(directory: &Path) -> Result<Vec<Peer>> {
    let host = Host::new();
    let (small, measuring) = (image(&[])?, image(&["/usr/bin/iperf3"])?);
    host.give(&small, IMAGE);
    host.give(&measuring, IPERF);
    let mut peers = vec![Peer::Corten(host.set_apart())];
    if Path::new("/usr/sbin/dockerd").exists() {
        for (name, proxy) in [("docker.io", "true"), ("docker.io without proxy", "false")] {
            let root = directory.join(proxy);
            std::fs::create_dir_all(&root).map_err(|error| error.to_string())?;
            peers.push(Peer::Docker(Dockerd::apart(name, &root, &[&format!("--userland-proxy={proxy}")])?));
        }
    }
    for peer in peers.iter().skip(1) {
        for (image, name) in [(&small, IMAGE), (&measuring, IPERF)] {
            let tar = directory.join(name).with_extension("tar");
            std::fs::write(&tar, &image.layers[0].bytes).map_err(|e| e.to_string())?;
            run(&mut peer.command(&["import", &tar.display().to_string(), name]))?;
        }
    }
    Ok(peers)
}

/// busybox, and beside it programs of this machine with what they need.
fn image(programs: &[&str]) -> Result<Image> {
    let mut entries = kit::fixtures::busybox_entries();
    for program in programs {
        let output =
            Command::new("ldd").arg(program).output().map_err(|error| format!("cannot run ldd: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
        for path in libraries.chain([*program]) {
            let content = std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?;
            entries.push(Entry::program(path.trim_start_matches('/'), content));
        }
    }
    Ok(Image::new(vec![Layer::new(&entries, Packing::Plain)], serde_json::json!({})))
}

fn bridges(peers: &[Peer]) -> Result<Vec<Row>> {
    let mut removed = Vec::new();
    let made = each(peers, "`network create`", "10 ms", |peer| {
        let create = median_ms(BRIDGES, || {
            let took = run(&mut peer.command(&["network", "create", "bench-net"]))?;
            run(&mut peer.command(&["network", "rm", "bench-net"]))?;
            Ok(took)
        });
        let remove = median_ms(BRIDGES, || {
            run(&mut peer.command(&["network", "create", "bench-net"]))?;
            run(&mut peer.command(&["network", "rm", "bench-net"]))
        })?;
        removed.push((peer.name(), remove));
        create
    })?;
    Ok(vec![made, Row { what: "`network rm`".to_owned(), promise: "60 ms", unit: "ms", values: removed }])
}

/// A program that ends when this is dropped.
struct Ended(Child);

impl Ended {
    fn spawn(command: &mut Command) -> Result<Self> {
        command.spawn().map(Self).map_err(|error| format!("cannot run {command:?}: {error}"))
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// From where to where.
struct Way {
    what: &'static str,
    from: From,
    /// The place of the address in [`Places`].
    to: fn(&Places) -> &str,
    published: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum From {
    Container,
    Host,
    Neighbour,
}

struct Places {
    server: String,
    gateway: String,
}

const WAYS: [Way; 5] = [
    Way {
        what: "container to container",
        from: From::Container,
        to: |places| &places.server,
        published: false,
    },
    Way { what: "container to host", from: From::Container, to: |places| &places.gateway, published: false },
    Way {
        what: "neighbour through a published port",
        from: From::Neighbour,
        to: |_| "192.0.2.1",
        published: true,
    },
    Way {
        what: "host through a published port, 127.0.0.1",
        from: From::Host,
        to: |_| "127.0.0.1",
        published: true,
    },
    Way {
        what: "host through a published port, its address",
        from: From::Host,
        to: |_| "192.0.2.1",
        published: true,
    },
];

/// Throughput and latency.
fn traffic(peers: &[Peer]) -> Result<Vec<Row>> {
    let row = |what: String, promise, unit| Row { what, promise, unit, values: Vec::new() };
    let mut flows: Vec<Row> =
        WAYS.iter().map(|way| row(format!("iperf3, {}", way.what), "never below", "Gbit/s")).collect();
    let mut turns: Vec<Row> = WAYS
        .iter()
        .map(|way| row(format!("one byte there and back, {}", way.what), "never above", "µs"))
        .collect();
    for peer in peers {
        let neighbour = peer.neighbour();
        let publish = |[inner, outer]: [&str; 2]| format!("{outer}:{inner}");
        let script = "iperf3 -s >/dev/null & exec nc -ll -p 7 -e cat";
        let server =
            ["run", "-d", "--name", "bench-server", "-p", &publish(ECHO), "-p", &publish(FLOWS), IPERF];
        run(peer.command(&server).args(["sh", "-c", script]))?;
        let client = ["run", "-d", "--name", "bench-client", IPERF, "sleep", "1000"];
        run(&mut peer.command(&client))?;
        let shown = |format: &str| {
            let output = peer.command(&["inspect", "-f", format, "bench-server"]).output();
            output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
        };
        let places = Places {
            server: shown("{{.NetworkSettings.Networks.bridge.IPAddress}}"),
            gateway: shown("{{.NetworkSettings.Networks.bridge.Gateway}}"),
        };
        let _own = [
            Ended::spawn(peer.on_host(&["iperf3", "-s", "-p", FLOWS[0]]).stdout(Stdio::null()))?,
            Ended::spawn(&mut peer.on_host(&["busybox", "nc", "-ll", "-p", ECHO[0], "-e", "cat"]))?,
        ];
        for (number, way) in WAYS.iter().enumerate() {
            let to = (way.to)(&places);
            let port = |ports: [&'static str; 2]| ports[usize::from(way.published)];
            let command = |args: &[&str]| match way.from {
                From::Container => {
                    let mut all = vec!["exec", "bench-client"];
                    all.extend(args);
                    peer.command(&all)
                }
                From::Host => peer.on_host(args),
                From::Neighbour => neighbour.command(args),
            };
            let flow = ["iperf3", "-J", "-t", FLOW, "-c", to, "-p", port(FLOWS)];
            let value = wait_for("an answer of iperf3", || received(&mut command(&flow)));
            flows[number].values.push((peer.name(), value));
            let program = std::env::current_exe().map_err(|error| error.to_string())?;
            let program = program.display().to_string();
            let mut turn = match way.from {
                From::Container => {
                    let pid = peer.pid("bench-client")?;
                    let mut enter = Command::new("nsenter");
                    enter.arg(format!("--net=/proc/{pid}/ns/net")).arg(program);
                    enter.args(["bench-turns", to, port(ECHO)]);
                    enter
                }
                _ => command(&[&program, "bench-turns", to, port(ECHO)]),
            };
            let output = turn.output().map_err(|error| error.to_string())?;
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let value = text.parse().map_err(|_| format!("{turn:?} said {text}"))?;
            turns[number].values.push((peer.name(), value));
        }
        run(&mut peer.command(&["rm", "-f", "bench-server", "bench-client"]))?;
    }
    flows.extend(turns);
    Ok(flows)
}

/// What `iperf3` says that came in, in Gbit/s.
fn received(command: &mut Command) -> Option<f64> {
    let output = command.output().ok()?;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(said.pointer("/end/sum_received/bits_per_second")?.as_f64()? / 1e9)
}

/// Sends a byte and waits for it again and again; prints the median in microseconds.
pub fn turns(args: &[String]) -> Result {
    let [address, port] = args else { return Err("bench-turns ADDRESS PORT".to_owned()) };
    let io = |error: std::io::Error| format!("cannot speak with {address}:{port}: {error}");
    let port: u16 = port.parse().map_err(|_| format!("{port} is no port"))?;
    let mut stream = TcpStream::connect((address.as_str(), port)).map_err(io)?;
    stream.set_nodelay(true).map_err(io)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(io)?;
    let mut taken = Vec::with_capacity(TURNS);
    for _ in 0..TURNS {
        let started = Instant::now();
        stream.write_all(b"x").map_err(io)?;
        stream.read_exact(&mut [0]).map_err(io)?;
        taken.push(started.elapsed());
    }
    taken.sort_unstable();
    println!("{:.1}", taken[TURNS / 2].as_secs_f64() * 1e6);
    Ok(())
}

/// Our own alone: Docker takes minutes.
fn many(peers: &[Peer]) -> Result<Vec<Row>> {
    let Some(peer) = peers.first() else { return Ok(Vec::new()) };
    let names: Vec<String> = (0..MANY).map(|number| format!("many-{number}")).collect();
    let mut taken = Vec::with_capacity(MANY);
    run(&mut peer.command(&["network", "create", "--subnet", "10.99.0.0/16", "bench-many"]))?;
    for name in &names {
        let args = ["run", "-d", "--network", "bench-many", "--name", name, IMAGE, "sleep", "1000"];
        taken.push(run(&mut peer.command(&args))?);
    }
    let median = |part: &[Duration]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part[part.len() / 2].as_secs_f64() * 1e3
    };
    let (first, last) = (median(&taken[..SAMPLE]), median(&taken[MANY - SAMPLE..]));
    let mut args = vec!["rm", "-f"];
    args.extend(names.iter().map(String::as_str));
    let removed = run(&mut peer.command(&args))?;
    run(&mut peer.command(&["network", "rm", "bench-many"]))?;
    let row =
        |what: String, promise, value| Row { what, promise, unit: "ms", values: vec![("corten", value)] };
    Ok(vec![
        row(format!("`run -d` on one bridge, the first of {MANY}"), "–", first),
        row(format!("the same, the last of {MANY}"), "2 times the first", last),
        row(format!("all {MANY} removed with one `rm -f`"), "–", removed.as_secs_f64() * 1e3),
    ])
}
