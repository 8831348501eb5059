//! Networks: starting on a bridge, making and removing one, and what goes through it. Each engine has a network namespace of its own as its
//! host, with a neighbour on a cable.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kit::fixtures::{Entry, Image, Layer, Packing};
use kit::{Host, Neighbour, wait_for};

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
const FLOW: &str = "1";
/// How often each engine has its turn.
const ROUNDS: usize = 7;
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

/// An engine with containers, a neighbour and servers of the host.
struct Running<'a> {
    peer: &'a Peer,
    neighbour: Neighbour,
    places: Places,
    _own: [Ended; 2],
}

impl<'a> Running<'a> {
    fn start(peer: &'a Peer) -> Result<Self> {
        let neighbour = peer.neighbour();
        let publish = |[inner, outer]: [&str; 2]| format!("{outer}:{inner}");
        let script = "iperf3 -s >/dev/null & exec nc -ll -p 7 -e cat";
        let server =
            ["run", "-d", "--name", "bench-server", "-p", &publish(ECHO), "-p", &publish(FLOWS), IPERF];
        run(peer.command(&server).args(["sh", "-c", script]))?;
        run(&mut peer.command(&["run", "-d", "--name", "bench-client", IPERF, "sleep", "1000"]))?;
        let shown = |format: &str| {
            let output = peer.command(&["inspect", "-f", format, "bench-server"]).output();
            output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
        };
        let places = Places {
            server: shown("{{.NetworkSettings.Networks.bridge.IPAddress}}"),
            gateway: shown("{{.NetworkSettings.Networks.bridge.Gateway}}"),
        };
        let own = [
            Ended::spawn(peer.on_host(&["iperf3", "-s", "-p", FLOWS[0]]).stdout(Stdio::null()))?,
            Ended::spawn(&mut peer.on_host(&["busybox", "nc", "-ll", "-p", ECHO[0], "-e", "cat"]))?,
        ];
        Ok(Self { peer, neighbour, places, _own: own })
    }

    /// A program at the beginning of a way; `entered` says that it is the host's, in the container's network.
    fn at(&self, way: &Way, args: &[&str], entered: bool) -> Result<Command> {
        Ok(match way.from {
            From::Container if entered => {
                let pid = self.peer.pid("bench-client")?;
                let mut enter = Command::new("nsenter");
                enter.arg(format!("--net=/proc/{pid}/ns/net")).args(args);
                enter
            }
            From::Container => {
                let mut all = vec!["exec", "bench-client"];
                all.extend(args);
                self.peer.command(&all)
            }
            From::Host => self.peer.on_host(args),
            From::Neighbour => self.neighbour.command(args),
        })
    }

    /// Gbit/s.
    fn flow(&self, way: &Way) -> Result<f64> {
        let port = FLOWS[usize::from(way.published)];
        let args = ["iperf3", "-J", "-t", FLOW, "-c", (way.to)(&self.places), "-p", port];
        let mut command = self.at(way, &args, false)?;
        Ok(wait_for("an answer of iperf3", || received(&mut command)))
    }

    /// Microseconds.
    fn turn(&self, way: &Way) -> Result<f64> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?.display().to_string();
        let port = ECHO[usize::from(way.published)];
        let mut command = self.at(way, &[&program, "bench-turns", (way.to)(&self.places), port], true)?;
        let output = command.output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        text.parse().map_err(|_| format!("{command:?} said {text}"))
    }
}

/// Throughput and latency: the engines by turns, as the machine is not equally busy all the time.
fn traffic(peers: &[Peer]) -> Result<Vec<Row>> {
    let running = peers.iter().map(Running::start).collect::<Result<Vec<_>>>()?;
    let by_turns = |what: String, promise, unit, measure: &dyn Fn(&Running<'_>) -> Result<f64>| {
        let mut values = vec![Vec::with_capacity(ROUNDS); running.len()];
        for _ in 0..ROUNDS {
            for (values, running) in values.iter_mut().zip(&running) {
                values.push(measure(running)?);
            }
        }
        let median = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let values = peers.iter().map(Peer::name).zip(values.into_iter().map(median)).collect();
        Ok::<_, String>(Row { what, promise, unit, values })
    };
    let mut rows = Vec::new();
    for way in &WAYS {
        let what = format!("iperf3, {}", way.what);
        rows.push(by_turns(what, "never below", "Gbit/s", &|running| running.flow(way))?);
    }
    for way in &WAYS {
        let what = format!("one byte there and back, {}", way.what);
        rows.push(by_turns(what, "never above", "µs", &|running| running.turn(way))?);
    }
    drop(running);
    for peer in peers {
        run(&mut peer.command(&["rm", "-f", "bench-server", "bench-client"]))?;
    }
    Ok(rows)
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
