//! Bodies that no client means: none, half of one, of the wrong type, without end. Every path that takes a body gets them
//! all, and what is asked is the same everywhere: a refusal in Docker's form, at once, by a daemon that is as it was.

use std::cell::RefCell;
use std::io::{ErrorKind, Write as _};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use kit::Host;
use serde_json::{Value, json};

use crate::wire::{Answer, Wire, create, get, post, remove, start};

/// No refusal takes longer, on a slow machine either: archives' senders are listened to for five seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the daemon may have grown by at its largest: several bodies at their limit of 4 MiB, and a debug build's waste.
const GROWTH_MAX_KIB: u64 = 96 << 10;
/// Longer than every limit on a body.
const HUGE: usize = 64 << 20;

/// What a path does with its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Takes {
    /// An object that has to be there.
    Json,
    /// An object, or nothing.
    JsonOrNothing,
    /// An archive.
    Archive,
    /// Bytes.
    Bytes,
    /// Nothing: what comes is passed over, as Docker does.
    Nothing,
    /// Nothing, and what comes is refused.
    Refused,
    /// The path is refused by its name, whatever comes.
    Absent,
}

/// A field of the body, with a value that is not its type.
type Wrong = (&'static str, &'static str);

/// Every path of the router that answers POST or PUT. `{c}` is a running container, `{x}` a command of it, `{n}` a network, `{v}` a volume.
const PATHS: &[(&str, &str, Takes, &[Wrong])] = &[
    ("POST", "/containers/create", Takes::Json, CREATE),
    ("POST", "/containers/{c}/update", Takes::Json, UPDATE),
    ("POST", "/containers/{c}/exec", Takes::Json, EXEC),
    (
        "POST",
        "/exec/{x}/start",
        Takes::JsonOrNothing,
        &[("Detach", "\"yes\""), ("Tty", "7"), ("ConsoleSize", "[1]")],
    ),
    ("POST", "/volumes/create", Takes::JsonOrNothing, VOLUME),
    ("POST", "/networks/create", Takes::JsonOrNothing, NETWORK),
    ("POST", "/networks/{n}/connect", Takes::JsonOrNothing, &[("Container", "7"), ("EndpointConfig", "[7]")]),
    ("POST", "/networks/{n}/disconnect", Takes::JsonOrNothing, &[("Container", "{}"), ("Force", "\"x\"")]),
    ("POST", "/auth", Takes::Json, &[("username", "7"), ("serveraddress", "[]")]),
    ("POST", "/commit?container={c}", Takes::JsonOrNothing, &[("Env", "7"), ("Labels", "[]")]),
    ("POST", "/containers/nobody/start", Takes::Refused, &[]),
    ("POST", "/containers/{c}/kill?signal=nosuch", Takes::Nothing, &[]),
    ("POST", "/containers/{c}/stop?signal=nosuch", Takes::Nothing, &[]),
    ("POST", "/containers/{c}/restart?signal=nosuch", Takes::Nothing, &[]),
    ("POST", "/containers/{c}/unpause", Takes::Nothing, &[]),
    ("POST", "/containers/nobody/pause", Takes::Nothing, &[]),
    ("POST", "/containers/{c}/wait?condition=nosuch", Takes::Nothing, &[]),
    ("POST", "/containers/{c}/resize?h=x&w=1", Takes::Nothing, &[]),
    ("POST", "/containers/{c}/rename?name=%2F%2F", Takes::Nothing, &[]),
    ("POST", "/containers/nobody/attach?stream=1&stdout=1", Takes::Nothing, &[]),
    ("POST", "/containers/prune?filters=x", Takes::Nothing, &[]),
    ("POST", "/exec/{x}/resize?h=x&w=1", Takes::Nothing, &[]),
    ("PUT", "/containers/{c}/archive?path=/", Takes::Archive, &[]),
    ("PUT", "/containers/{c}/archive", Takes::Archive, &[]),
    ("PUT", "/containers/nobody/archive?path=/", Takes::Archive, &[]),
    ("POST", "/images/load", Takes::Archive, &[]),
    ("POST", "/images/create?fromSrc=-&repo=UPPER", Takes::Archive, &[]),
    ("POST", "/images/create?fromImage=UPPER", Takes::Nothing, &[]),
    ("POST", "/images/create", Takes::Nothing, &[]),
    ("POST", "/images/nobody/tag?repo=x", Takes::Nothing, &[]),
    ("POST", "/images/UPPER/push", Takes::Nothing, &[]),
    ("POST", "/images/prune?filters=x", Takes::Nothing, &[]),
    ("POST", "/volumes/prune?filters=x", Takes::Nothing, &[]),
    ("POST", "/networks/prune?filters=x", Takes::Nothing, &[]),
    ("POST", "/corten/images/nobody/squash", Takes::Nothing, &[]),
    ("POST", "/corten/volumes/nobody/clone?name=x", Takes::Nothing, &[]),
    ("POST", "/corten/volumes/nobody/snapshot?name=x", Takes::Nothing, &[]),
    ("POST", "/corten/volumes/nobody/rename?name=x", Takes::Nothing, &[]),
    ("POST", "/corten/volumes/{v}/import", Takes::Archive, &[]),
    ("POST", "/corten/secrets/create?name=..%2Fx", Takes::Bytes, &[]),
    ("POST", "/corten/check?nosuch=1", Takes::Nothing, &[]),
    ("POST", "/build", Takes::Absent, &[]),
    ("POST", "/build/cancel", Takes::Absent, &[]),
    ("POST", "/session", Takes::Absent, &[]),
    ("POST", "/grpc", Takes::Absent, &[]),
    ("PUT", "/volumes/{v}", Takes::Absent, &[]),
    ("POST", "/plugins/pull", Takes::Absent, &[]),
    ("POST", "/plugins/create", Takes::Absent, &[]),
    ("POST", "/plugins/x/set", Takes::Absent, &[]),
    ("POST", "/swarm/init", Takes::Absent, &[]),
    ("POST", "/swarm/join", Takes::Absent, &[]),
    ("POST", "/swarm/leave", Takes::Absent, &[]),
    ("POST", "/swarm/update", Takes::Absent, &[]),
    ("POST", "/swarm/unlock", Takes::Absent, &[]),
    ("POST", "/nodes/x/update", Takes::Absent, &[]),
    ("POST", "/services/create", Takes::Absent, &[]),
    ("POST", "/services/x/update", Takes::Absent, &[]),
    ("POST", "/secrets/create", Takes::Absent, &[]),
    ("POST", "/secrets/x/update", Takes::Absent, &[]),
    ("POST", "/configs/create", Takes::Absent, &[]),
    ("POST", "/configs/x/update", Takes::Absent, &[]),
    ("POST", "/containers/{c}/checkpoints", Takes::Absent, &[]),
];

const CREATE: &[Wrong] = &[
    ("Image", "7"),
    ("Env", "7"),
    ("Env", "[7]"),
    ("Cmd", "{\"a\": 1}"),
    ("Labels", "[]"),
    ("Labels", "{\"a\": 1}"),
    ("ExposedPorts", "[1]"),
    ("ExposedPorts", "7"),
    ("Volumes", "\"/x\""),
    ("Healthcheck", "[]"),
    ("Healthcheck", "{\"Interval\": \"1s\"}"),
    ("StopTimeout", "\"1\""),
    ("StopTimeout", "1.5"),
    ("Tty", "\"yes\""),
    ("HostConfig", "7"),
    ("HostConfig", "[]"),
    ("HostConfig", "{\"Memory\": \"1g\"}"),
    ("HostConfig", "{\"Memory\": 1e30}"),
    ("HostConfig", "{\"Memory\": 9223372036854775808}"),
    ("HostConfig", "{\"Binds\": {}}"),
    ("HostConfig", "{\"Mounts\": [7]}"),
    ("HostConfig", "{\"Mounts\": {}}"),
    ("HostConfig", "{\"PortBindings\": {\"80/tcp\": 7}}"),
    ("HostConfig", "{\"PortBindings\": {\"80/tcp\": [7]}}"),
    ("HostConfig", "{\"PortBindings\": {\"80/tcp\": [{\"HostPort\": 80}]}}"),
    ("HostConfig", "{\"RestartPolicy\": \"always\"}"),
    ("HostConfig", "{\"Ulimits\": [[]]}"),
    ("HostConfig", "{\"LogConfig\": {\"Config\": {\"a\": 1}}}"),
    ("HostConfig", "{\"ConsoleSize\": [1, 2, 3]}"),
    ("HostConfig", "{\"ConsoleSize\": [-1, 2]}"),
    ("HostConfig", "{\"Sysctls\": []}"),
    ("HostConfig", "{\"RestartPolicy\": []}"),
    ("HostConfig", "{\"LogConfig\": []}"),
    ("HostConfig", "{\"Mounts\": [[\"tmpfs\", \"\", \"/x\"]]}"),
    ("HostConfig", "{\"Mounts\": [{\"Type\": \"tmpfs\", \"Target\": \"/x\", \"TmpfsOptions\": []}]}"),
    ("HostConfig", "{\"Devices\": [[]]}"),
    ("HostConfig", "{\"Devices\": [[\"/dev/null\", \"/dev/null\", \"rwm\"]]}"),
    ("HostConfig", "{\"Ulimits\": [[\"nofile\", 10, 10]]}"),
    ("HostConfig", "{\"DeviceRequests\": [[]]}"),
    ("HostConfig", "{\"BlkioWeightDevice\": [[]]}"),
    ("HostConfig", "{\"PortBindings\": {\"80/tcp\": [[]]}}"),
    ("NetworkingConfig", "[]"),
    ("NetworkingConfig", "{\"EndpointsConfig\": {\"none\": []}}"),
    ("NetworkingConfig", "{\"EndpointsConfig\": {\"none\": {\"IPAMConfig\": []}}}"),
    ("HostConfig", "{\"DeviceRequests\": [{\"Capabilities\": [7]}]}"),
    ("NetworkingConfig", "7"),
    ("NetworkingConfig", "{\"EndpointsConfig\": []}"),
    ("NetworkingConfig", "{\"EndpointsConfig\": {\"x\": 7}}"),
];
const UPDATE: &[Wrong] = &[
    ("Memory", "\"1g\""),
    ("Memory", "1.5"),
    ("CpuShares", "[]"),
    ("PidsLimit", "\"7\""),
    ("RestartPolicy", "\"always\""),
    ("RestartPolicy", "{\"MaximumRetryCount\": \"x\"}"),
    ("RestartPolicy", "[]"),
    ("Corten", "7"),
    ("Corten", "[]"),
    ("Corten", "{\"EnvAdd\": 7}"),
];
const EXEC: &[Wrong] = &[
    ("Cmd", "{\"a\": 1}"),
    ("Cmd", "[7]"),
    ("Env", "7"),
    ("Tty", "\"yes\""),
    ("ConsoleSize", "[1]"),
    ("ConsoleSize", "\"80x24\""),
    ("User", "0"),
];
const VOLUME: &[Wrong] =
    &[("Name", "7"), ("Driver", "[]"), ("DriverOpts", "[]"), ("DriverOpts", "{\"a\": 1}"), ("Labels", "7")];
const NETWORK: &[Wrong] = &[
    ("Name", "7"),
    ("Driver", "{}"),
    ("IPAM", "7"),
    ("IPAM", "{\"Config\": [7]}"),
    ("IPAM", "{\"Config\": {}}"),
    ("IPAM", "[]"),
    ("IPAM", "{\"Config\": [[]]}"),
    ("ConfigFrom", "[]"),
    ("Options", "[]"),
    ("Internal", "\"no\""),
    ("EnableIPv6", "7"),
    ("ConfigFrom", "[7]"),
];

/// A daemon with what the paths name.
struct Bench {
    host: Host,
    container: String,
    exec: String,
    pid: u32,
    peak: u64,
    /// What was not as it has to be: all is tried before the test fails.
    wrong: RefCell<Vec<String>>,
}

impl Bench {
    fn new() -> Self {
        let host = Host::with_busybox();
        let container = create(&host, &json!({"Cmd": ["sleep", "1000"]}));
        start(&host, &container);
        let exec = post(&host, &format!("/containers/{container}/exec"), &json!({"Cmd": ["true"]}));
        let exec = exec.json()["Id"].as_str().expect("an id").to_owned();
        assert_eq!(post(&host, "/volumes/create", &json!({"Name": "bench"})).status, 201);
        let pid = host.daemon_pid();
        let mut bench = Self { host, container, exec, pid, peak: 0, wrong: RefCell::default() };
        bench.peak = bench.peak();
        bench
    }

    /// The most memory that the daemon ever had, in KiB.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    fn path(&self, path: &str) -> String {
        path.replace("{c}", &self.container)
            .replace("{x}", &self.exec)
            .replace("{n}", "none")
            .replace("{v}", "bench")
    }

    /// Sends a head and a body, which the daemon need not read, and the end of the input if that is wanted.
    fn send(&self, method: &str, path: &str, headers: &str, body: &[u8], end: bool) -> Answer {
        let mut wire = Wire::open(&self.host);
        let head = format!("{method} {} HTTP/1.1\r\nHost: engine\r\n{headers}\r\n", self.path(path));
        wire.send(head.as_bytes());
        let began = Instant::now();
        for piece in body.chunks(1 << 16) {
            match wire.stream.get_mut().write_all(piece) {
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    break;
                }
                sent => sent.expect("send"),
            }
        }
        if end {
            let _ = wire.stream.get_ref().shutdown(Shutdown::Write);
        }
        let answer = wire.answer();
        let took = began.elapsed();
        self.expect(took < PATIENCE, || format!("{method} {path} took {took:?}"));
        answer
    }

    fn json(&self, method: &str, path: &str, body: &str) -> Answer {
        let length = body.len();
        let headers =
            format!("Connection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
        self.send(method, path, &headers, body.as_bytes(), false)
    }

    fn expect(&self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.wrong.borrow_mut().push(what());
        }
    }

    /// A refusal in Docker's form: not of the daemon's doing, and with one line that says why.
    fn refused(&self, what: &str, takes: Takes, answer: &Answer) {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let absent = takes == Takes::Absent && matches!(answer.status, 501 | 503);
        let refused = absent || (400..500).contains(&answer.status);
        self.expect(refused, || format!("{what}: {} {text}", answer.status));
        if refused {
            let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let message = document["message"].as_str().unwrap_or_default();
            let alone = document.as_object().is_some_and(|object| object.len() == 1);
            let said = alone && !message.is_empty() && !message.contains('\n');
            let json = answer.header("content-type") == "application/json";
            self.expect(said && json, || format!("{what}: {} {:?} {text}", answer.status, answer.headers));
        }
    }

    /// The daemon is the same, it answers, and it did not take much memory on the way.
    fn unharmed(self) {
        let wrong = self.wrong.take();
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
        assert_eq!(get(&self.host, "/_ping").status, 200);
        assert_eq!(self.host.daemon_pid(), self.pid);
        let inspected = get(&self.host, &format!("/containers/{}/json", self.container)).json();
        assert_eq!(inspected["State"]["Running"], true);
        let containers = get(&self.host, "/containers/json?all=1").json();
        assert_eq!(containers.as_array().map(Vec::len), Some(1), "{containers}");
        let grown = self.peak() - self.peak;
        assert!(grown < GROWTH_MAX_KIB, "the daemon grew by {grown} KiB");
        let log = self.host.daemon_log();
        assert!(!log.contains("panicked"), "{log}");
        remove(&self.host, &self.container);
    }
}

#[test]
fn what_is_no_json_is_refused() {
    let bench = Bench::new();
    let deep = format!("{{\"Labels\": {}", "[".repeat(10_000));
    let bodies = [
        "{",
        "{\"",
        "{\"Image\"",
        "{\"Image\":",
        "{\"Image\": \"x",
        "{\"Image\": \"x\",",
        "[]",
        "[{}]",
        "7",
        "-1",
        "1e999",
        "\"x\"",
        "true",
        "\u{0}",
        "{}}",
        "{} {}",
        "{\"a\": \u{1}}",
        "{'a': 1}",
        "{a: 1}",
        "{\"a\": \"\\ud800\"",
        "<xml/>",
        "\u{feff}{}",
        "   ",
        "name=x",
        &deep,
    ];
    for (method, path, takes, _) in PATHS {
        for body in bodies {
            let what = format!("{method} {path} {body:.40}");
            let answer = bench.json(method, path, body);
            bench.refused(&what, *takes, &answer);
        }
    }
    bench.unharmed();
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    let bench = Bench::new();
    for (method, path, takes, wrong) in PATHS {
        for (field, value) in *wrong {
            let image = if *field == "Image" { "" } else { "\"Image\": \"busybox\", " };
            let body = format!("{{{image}\"{field}\": {value}}}");
            let answer = bench.json(method, path, &body);
            bench.refused(&format!("{method} {path} {body}"), *takes, &answer);
        }
    }
    bench.unharmed();
}

#[test]
fn nothing_is_a_body_only_where_docker_takes_it() {
    let bench = Bench::new();
    for (method, path, takes, _) in PATHS {
        let answer = bench.send(method, path, "Connection: close\r\nContent-Length: 0\r\n", b"", false);
        // Docker makes volumes without a name.
        if *path == "/volumes/create" {
            assert_eq!(answer.status, 201);
            continue;
        }
        // These need nothing: what is committed is the container, what is started the command, as it stands.
        if ["/commit?container={c}", "/exec/{x}/start"].contains(path) {
            assert!(answer.status < 300, "{path}: {}", answer.status);
            continue;
        }
        // An archive without entries changes nothing.
        if *path == "/containers/{c}/archive?path=/" {
            assert_eq!(answer.status, 200);
            continue;
        }
        bench.refused(&format!("{method} {path} without a body"), *takes, &answer);
    }
    bench.unharmed();
}

#[test]
fn half_a_body_is_refused() {
    let bench = Bench::new();
    for (method, path, takes, _) in PATHS {
        for headers in ["Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n"] {
            let headers = format!("Content-Type: application/json\r\n{headers}");
            let body: &[u8] =
                if headers.contains("chunked") { b"40\r\n{\"Image\": " } else { b"{\"Image\": " };
            let answer = bench.send(method, path, &headers, body, true);
            bench.refused(&format!("{method} {path} {headers:?}"), *takes, &answer);
        }
    }
    bench.unharmed();
}

#[test]
fn bodies_without_end_are_cut_off() {
    let bench = Bench::new();
    let long = format!("{{\"Image\": \"{}\"}}", "x".repeat(HUGE));
    let mut chunks = Vec::new();
    for piece in long.as_bytes().chunks(1 << 20) {
        chunks.extend(format!("{:x}\r\n", piece.len()).bytes());
        chunks.extend(piece);
        chunks.extend(b"\r\n");
    }
    for (method, path, takes, _) in PATHS {
        let json = matches!(takes, Takes::Json | Takes::JsonOrNothing);
        let claimed = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", u64::MAX / 2);
        let answer = bench.send(method, path, &claimed, long.as_bytes(), true);
        bench.refused(&format!("{method} {path} longer than it can be"), *takes, &answer);
        let chunked = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
        let answer = bench.send(method, path, chunked, &chunks, true);
        bench.refused(&format!("{method} {path} without end"), *takes, &answer);
        if json {
            bench.expect(answer.status == 413, || format!("{method} {path}: {}", answer.status));
        }
    }
    bench.unharmed();
}

#[test]
fn what_nobody_knows_is_passed_over() {
    let bench = Bench::new();
    let unknown = |known: &str| {
        let mut body: Value = serde_json::from_str(known).expect("json");
        body["NoSuchField"] = json!({"deep": [1, {"x": null}]});
        body["\u{1F4A3}"] = json!("x".repeat(10_000));
        body.to_string()
    };
    for (method, path, takes, _) in PATHS {
        if matches!(takes, Takes::Json | Takes::JsonOrNothing) && !path.starts_with("/commit") {
            let known =
                if *path == "/volumes/create" { "{\"Name\": \"bench\"}" } else { "{\"Detach\": true}" };
            let [with, without] =
                [unknown(known), known.to_owned()].map(|body| bench.json(method, path, &body));
            // A command runs once.
            let expected =
                if path.starts_with("/exec") { (200, 409) } else { (without.status, without.status) };
            assert_eq!((with.status, without.status), expected, "{method} {path}");
        }
    }
    // A field that is null is one that is not there, as Go reads it.
    let names =
        ["Hostname", "User", "Tty", "Env", "Entrypoint", "Volumes", "Labels", "StopTimeout", "Healthcheck"];
    let mut body = json!({"Image": "busybox", "Cmd": ["true"]});
    for name in
        names.into_iter().chain(["HostConfig", "NetworkingConfig", "ExposedPorts", "Shell", "OnBuild"])
    {
        body[name] = Value::Null;
    }
    let made = bench.json("POST", "/containers/create", &body.to_string());
    assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
    remove(&bench.host, made.json()["Id"].as_str().expect("an id"));
    bench.unharmed();
}
