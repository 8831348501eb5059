//! The Engine API byte by byte: bad input, versions, streams taken over, websockets. Raw sockets, because clients hide
//! what is looked at here.

use std::io::Read as _;

use kit::{Host, wait_for};
use serde_json::{Value, json};
#[path = "api/bodies.rs"]
mod bodies;
#[path = "api/bytes.rs"]
mod bytes;
#[path = "api/streams.rs"]
mod streams;
#[path = "api/wire.rs"]
mod wire;

use wire::{Wire, create, get, post, remove, request, start, unframe};

#[test]
fn a_ping_introduces_the_engine() {
    let host = Host::new();
    for (method, body) in [("GET", "OK"), ("HEAD", "")] {
        let mut wire = Wire::open(&host);
        wire.send(format!("{method} /_ping HTTP/1.1\r\nHost: engine\r\n\r\n").as_bytes());
        let answer = if method == "HEAD" { wire.head() } else { wire.answer() };
        assert_eq!((answer.status, String::from_utf8_lossy(&answer.body).as_ref()), (200, body));
        assert_eq!(answer.header("api-version"), "1.56");
        assert_eq!(answer.header("ostype"), "linux");
        assert_eq!(answer.header("docker-experimental"), "false");
        assert_eq!(answer.header("swarm"), "inactive");
        assert_eq!(answer.header("builder-version"), "2");
        assert_eq!(answer.header("cache-control"), "no-cache, no-store, must-revalidate");
        assert!(answer.header("content-type").starts_with("text/plain"));
        assert!(answer.header("server").starts_with("Corten/"));
    }
}

#[test]
fn versions_are_prefixes() {
    let host = Host::new();
    for version in ["", "/v1.24", "/v1.40", "/v1.56"] {
        let answer = get(&host, &format!("{version}/version"));
        assert_eq!(answer.status, 200, "{version}");
        assert_eq!(answer.json()["ApiVersion"], "1.56");
        assert_eq!(answer.json()["MinAPIVersion"], "1.24");
    }
    for (version, message) in [
        ("1.57", "client version 1.57 is too new. Maximum supported API version is 1.56"),
        (
            "1.23",
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer \
             version",
        ),
    ] {
        let answer = get(&host, &format!("/v{version}/version"));
        assert_eq!((answer.status, answer.message().as_str()), (400, message));
    }
    for path in ["/v1.24.1/info", "/v1./info", "/v99999999999.1/info"] {
        assert_eq!(get(&host, path).status, 400, "{path}");
    }
    for path in
        ["/v/info", "/vx.y/info", "/v1.40/nothing", "/", "//", "/info/", "/containers", "/containers/json/x"]
    {
        let answer = get(&host, path);
        assert_eq!((answer.status, answer.message().as_str()), (404, "page not found"), "{path}");
    }
    // A method that a path does not have is a path that is not there.
    for (method, path) in [("POST", "/info"), ("GET", "/containers/create"), ("BREW", "/containers/json")] {
        assert_eq!(request(&host, method, path, &[], b"").message(), "page not found", "{method} {path}");
    }
}

#[test]
fn bodies_are_strict() {
    let host = Host::new();
    let send = |path: &str, headers: &[&str], body: &str| {
        let answer = request(&host, "POST", path, headers, body.as_bytes());
        (answer.status, answer.message())
    };
    let json = ["Content-Type: application/json"];
    for path in ["/containers/create", "/containers/nobody/exec"] {
        let (status, message) = send(path, &["Content-Type: text/plain"], "{}");
        assert_eq!(
            (status, message.as_str()),
            (400, "unsupported Content-Type header (text/plain): must be 'application/json'")
        );
        assert!(send(path, &[], "{}").1.starts_with("malformed Content-Type header"));
        assert_eq!(send(path, &json, "").1, "invalid JSON: got EOF while reading request body");
        assert_eq!(send(path, &json, "{} {}").1, "unexpected content after JSON");
        for wrong in
            ["{", "[]", "7", "\"x\"", "{\"Env\": 7}", "{\"Cmd\": {\"a\": 1}}", "{\"Tty\": \"yes\"}", "\u{0}"]
        {
            let (status, message) = send(path, &json, wrong);
            assert_eq!(status, 400, "{wrong}");
            assert!(message.starts_with("invalid JSON: "), "{wrong}: {message}");
        }
    }
    for nothing in ["{}", "null", "{\"HostConfig\": {}}", "{\"NetworkingConfig\": {}}"] {
        let (status, message) = send("/containers/create", &json, nothing);
        assert_eq!(
            (status, message.as_str()),
            (400, "config cannot be empty in order to create a container"),
            "{nothing}"
        );
    }
    // Deep nesting and long bodies meet limits, not the stack or the memory.
    let deep = format!("{{\"Labels\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(send("/containers/create", &json, &deep).0, 400);
    let long = format!("{{\"Image\": \"{}\"}}", "x".repeat(5 << 20));
    assert_eq!(send("/containers/create", &json, &long).0, 413);
    assert_eq!(get(&host, "/_ping").status, 200);
}

#[test]
fn queries_are_checked() {
    let host = Host::new();
    for (path, status, message) in [
        ("/containers/json?filters=x", 400, "invalid filter"),
        ("/containers/json?filters=%5B%5D", 400, "invalid filter"),
        ("/containers/json?filters=%7B%22colour%22%3A%5B%22red%22%5D%7D", 400, "invalid filter 'colour'"),
        ("/images/json?filters=%7B%22colour%22%3A%7B%22red%22%3Atrue%7D%7D", 400, "invalid filter 'colour'"),
        ("/volumes?filters=%7B%22colour%22%3A%7B%22red%22%3Atrue%7D%7D", 400, "invalid filter 'colour'"),
        ("/networks?filters=%7B%22colour%22%3A%7B%22red%22%3Atrue%7D%7D", 400, "invalid filter 'colour'"),
        ("/events?filters=%7B%22colour%22%3A%7B%22red%22%3Atrue%7D%7D", 400, "invalid filter 'colour'"),
        ("/events?since=yesterday", 400, "yesterday"),
        ("/events?since=20&until=10", 400, "cannot be after"),
        ("/containers/json?limit=x", 400, "limit"),
        ("/containers/json?x=%zz", 400, "invalid URL escape"),
        ("/containers/nobody/json", 404, "No such container: nobody"),
        ("/containers/nobody/logs?stdout=1", 404, "No such container: nobody"),
        ("/containers/nobody/logs", 400, "Bad parameters: you must choose at least one stream"),
        ("/exec/nothing/json", 404, "No such exec instance: nothing"),
        ("/images/no/such/image/json", 404, "No such image: no/such/image"),
        ("/volumes/nothing", 404, "nothing"),
        ("/networks/nothing", 404, "network nothing not found"),
        ("/system/df?type=wine", 400, "wine"),
    ] {
        let answer = get(&host, path);
        assert_eq!(answer.status, status, "{path}: {}", answer.message());
        assert!(answer.message().contains(message), "{path}: {}", answer.message());
    }
    for (path, status, message) in [
        ("/containers/nobody/start", 404, "No such container: nobody"),
        ("/containers/nobody/wait?condition=tired", 400, "invalid condition: \"tired\""),
        ("/containers/nobody/attach?detachKeys=ctrl-9", 400, "Invalid escape keys (ctrl-9) provided"),
        ("/containers/nobody/attach?stream=1", 404, "No such container: nobody"),
        ("/containers/nobody/resize?h=x&w=1", 400, "invalid resize height"),
        ("/containers/nobody/stop?t=soon", 400, "soon"),
        ("/images/create?fromImage=UPPER", 400, "invalid reference format"),
    ] {
        let answer = request(&host, "POST", path, &[], b"");
        assert_eq!(answer.status, status, "{path}: {}", answer.message());
        assert!(answer.message().contains(message), "{path}: {}", answer.message());
    }
}

#[test]
fn pages_of_other_hosts_do_nothing() {
    let host = Host::with_busybox();
    let id = create(&host, &json!({"Cmd": ["true"]}));
    let path = format!("/containers/{id}/start");
    for origin in ["Origin: http://evil.example", "Origin: null"] {
        assert_eq!(request(&host, "POST", &path, &[origin], b"").status, 403);
    }
    assert_eq!(get(&host, &format!("/containers/{id}/json")).json()["State"]["Status"], "created");
    assert_eq!(request(&host, "POST", &path, &["Origin: http://engine"], b"").status, 204);
    remove(&host, &id);
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let host = Host::new();
    for (method, path, status, message) in [
        ("POST", "/build?version=2", 501, "BuildKit"),
        ("POST", "/session", 400, "no upgrade proto in request"),
        ("GET", "/swarm", 503, "This node is not a swarm manager."),
        ("GET", "/nodes", 503, "This node is not a swarm manager."),
        ("GET", "/services", 503, "This node is not a swarm manager."),
        ("GET", "/secrets", 503, "This node is not a swarm manager."),
        ("POST", "/swarm/leave", 503, "This node is not part of a swarm"),
    ] {
        let answer = request(&host, method, path, &[], b"");
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.message().contains(message), "{method} {path}: {}", answer.message());
    }
    assert_eq!(get(&host, "/plugins").json(), json!([]));
}

#[test]
fn one_connection_serves_many_calls() {
    let host = Host::new();
    let mut wire = Wire::open(&host);
    for _ in 0..3 {
        wire.send(
            b"GET /_ping HTTP/1.1\r\nHost: engine\r\n\r\nGET /nothing HTTP/1.1\r\nHost: engine\r\n\r\n",
        );
        assert_eq!(wire.answer().status, 200);
        assert_eq!(wire.answer().status, 404);
    }
    wire.send(b"not http at all\r\n\r\n");
    assert_eq!(wire.head().status, 400);
    assert_eq!(get(&host, "/_ping").status, 200);
}

#[test]
fn attach_takes_the_connection_over() {
    let host = Host::with_busybox();
    let script = "cat; echo to-err >&2; exit 3";
    for (upgrade, version, content_type) in [
        (true, "/v1.47", "application/vnd.docker.multiplexed-stream"),
        (true, "/v1.41", "application/vnd.docker.raw-stream"),
        (false, "/v1.47", "application/vnd.docker.multiplexed-stream"),
    ] {
        let id = create(&host, &json!({"Cmd": ["sh", "-c", script], "OpenStdin": true, "StdinOnce": true}));
        let mut wire = Wire::open(&host);
        let upgrade_headers = if upgrade { "Connection: Upgrade\r\nUpgrade: tcp\r\n" } else { "" };
        wire.send(
            format!(
                "POST {version}/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: \
                 engine\r\n{upgrade_headers}\r\n"
            )
            .as_bytes(),
        );
        let head = wire.head();
        if upgrade {
            assert_eq!((head.status, head.reason.as_str()), (101, "UPGRADED"));
            assert_eq!((head.header("connection"), head.header("upgrade")), ("Upgrade", "tcp"));
        } else {
            assert_eq!(
                (head.status, head.header("content-length"), head.header("transfer-encoding")),
                (200, "", "")
            );
        }
        assert_eq!(head.header("content-type"), content_type);
        start(&host, &id);
        wire.send(b"hello\n");
        wire.close_input();
        assert_eq!(unframe(&wire.rest()), ("hello\n".to_owned(), "to-err\n".to_owned()));
        let waited = request(&host, "POST", &format!("/containers/{id}/wait"), &[], b"");
        assert_eq!(waited.json()["StatusCode"], 3);
        remove(&host, &id);
    }
}

#[test]
fn typed_early_is_not_lost() {
    let host = Host::with_busybox();
    let id = create(&host, &json!({"Cmd": ["cat"], "OpenStdin": true, "StdinOnce": true}));
    let mut wire = Wire::open(&host);
    // The input comes in one piece with the request.
    wire.send(
        format!(
            "POST /containers/{id}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: engine\r\nConnection: \
             Upgrade\r\nUpgrade: tcp\r\n\r\nearly "
        )
        .as_bytes(),
    );
    assert_eq!(wire.head().status, 101);
    start(&host, &id);
    wire.send(b"late");
    wire.close_input();
    assert_eq!(unframe(&wire.rest()).0, "early late");
    remove(&host, &id);
}

#[test]
fn attach_replays_the_log_first() {
    let host = Host::with_busybox();
    let id = create(&host, &json!({"Cmd": ["sh", "-c", "echo one; echo two >&2"]}));
    start(&host, &id);
    assert_eq!(request(&host, "POST", &format!("/containers/{id}/wait"), &[], b"").json()["StatusCode"], 0);
    let mut wire = Wire::open(&host);
    wire.send(
        format!("POST /containers/{id}/attach?logs=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: engine\r\n\r\n")
            .as_bytes(),
    );
    assert_eq!(wire.head().status, 200);
    assert_eq!(unframe(&wire.rest()), ("one\n".to_owned(), "two\n".to_owned()));
    let logs = get(&host, &format!("/v1.47/containers/{id}/logs?stdout=1&stderr=1"));
    assert_eq!(logs.header("content-type"), "application/vnd.docker.multiplexed-stream");
    assert_eq!(unframe(&logs.body), ("one\n".to_owned(), "two\n".to_owned()));
    let logs = get(&host, &format!("/v1.41/containers/{id}/logs?stderr=1"));
    assert_eq!(logs.header("content-type"), "application/vnd.docker.raw-stream");
    assert_eq!(unframe(&logs.body), (String::new(), "two\n".to_owned()));
    remove(&host, &id);
}

#[test]
fn keys_detach_from_a_terminal() {
    let host = Host::with_busybox();
    let id = create(&host, &json!({"Cmd": ["cat"], "OpenStdin": true, "Tty": true}));
    start(&host, &id);
    for (query, keys) in [("", &[16, 17][..]), ("&detachKeys=x,ctrl-a", b"x\x01")] {
        let mut wire = Wire::open(&host);
        wire.send(
            format!(
                "POST /containers/{id}/attach?stream=1&stdin=1&stdout=1{query} HTTP/1.1\r\nHost: engine\r\nConnection: \
                 Upgrade\r\nUpgrade: tcp\r\n\r\n"
            )
            .as_bytes(),
        );
        let head = wire.head();
        assert_eq!((head.status, head.header("content-type")), (101, "application/vnd.docker.raw-stream"));
        wire.send(b"typed\n");
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("typed\r\ntyped\r\n") {
            let mut byte = [0];
            wire.stream.read_exact(&mut byte).expect("an echo");
            seen.push(byte[0]);
        }
        wire.send(&keys[..1]);
        wire.send(&keys[1..]);
        // The connection ends and the container does not.
        wire.rest();
        let inspected = get(&host, &format!("/containers/{id}/json")).json();
        assert_eq!(inspected["State"]["Running"], true);
    }
    remove(&host, &id);
}

#[test]
fn a_client_that_leaves_is_forgotten() {
    let host = Host::with_busybox();
    let id = create(&host, &json!({"Cmd": ["sleep", "1000"], "OpenStdin": true}));
    start(&host, &id);
    let descriptors = || {
        let folder = format!("/proc/{}/fd", host.daemon_pid());
        std::fs::read_dir(folder).expect("the daemon's descriptors").count()
    };
    let attach = |number: usize| {
        let mut wire = Wire::open(&host);
        let stdin = number % 2;
        wire.send(
            format!(
                "POST /containers/{id}/attach?stream=1&stdin={stdin}&stdout=1 HTTP/1.1\r\nHost: engine\r\nConnection: \
                 Upgrade\r\nUpgrade: tcp\r\n\r\n"
            )
            .as_bytes(),
        );
        assert_eq!(wire.head().status, 101);
        wire
    };
    drop(attach(0));
    let before = descriptors();
    let wires: Vec<Wire> = (0..50).map(attach).collect();
    assert!(descriptors() >= before + 50);
    drop(wires);
    wait_for("the descriptors of clients that left", || (descriptors() <= before + 2).then_some(()));
    remove(&host, &id);
}

#[test]
fn waits_are_registered_before_the_answer_ends() {
    let host = Host::with_busybox();
    let id = create(&host, &json!({"Cmd": ["sh", "-c", "exit 7"]}));
    let mut wire = Wire::open(&host);
    wire.send(
        format!("POST /containers/{id}/wait?condition=next-exit HTTP/1.1\r\nHost: engine\r\n\r\n").as_bytes(),
    );
    // The head comes while the container has not even been started.
    let head = wire.head();
    assert_eq!((head.status, head.header("content-type")), (200, "application/json"));
    start(&host, &id);
    let body: Value = serde_json::from_slice(&wire.chunk().expect("a body")).expect("json");
    assert_eq!(body["StatusCode"], 7);
    let mut wire = Wire::open(&host);
    wire.send(
        format!("POST /containers/{id}/wait?condition=removed HTTP/1.1\r\nHost: engine\r\n\r\n").as_bytes(),
    );
    assert_eq!(wire.head().status, 200);
    remove(&host, &id);
    let body: Value = serde_json::from_slice(&wire.chunk().expect("a body")).expect("json");
    assert_eq!(body["StatusCode"], 7);
}

#[test]
fn exec_takes_the_connection_over() {
    let host = Host::with_busybox();
    let id = create(&host, &json!({"Cmd": ["sleep", "1000"]}));
    let make = |body: Value| post(&host, &format!("/v1.47/containers/{id}/exec"), &body);
    assert_eq!(make(json!({"Cmd": ["true"]})).status, 409);
    start(&host, &id);
    assert_eq!(make(json!({"Cmd": []})).message(), "No exec command specified");
    assert_eq!(make(json!({"Cmd": ["true"], "DetachKeys": "ctrl-?"})).status, 400);
    let begin = |exec: &str, detach: bool| {
        let mut wire = Wire::open(&host);
        let body = json!({"Detach": detach}).to_string();
        wire.send(
            format!(
                "POST /v1.47/exec/{exec}/start HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: \
                 tcp\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        );
        wire
    };
    let ended = |exec: &str| {
        wait_for("the command's end", || {
            let inspected = get(&host, &format!("/exec/{exec}/json")).json();
            (inspected["Running"] == false).then(|| inspected["ExitCode"].as_i64()).flatten()
        })
    };

    let exec = make(
        json!({"Cmd": ["sh", "-c", "cat; echo err >&2; exit 5"], "AttachStdin": true, "AttachStdout": true,
        "AttachStderr": true}),
    );
    assert_eq!(exec.status, 201);
    let exec = exec.json()["Id"].as_str().expect("an id").to_owned();
    let mut wire = begin(&exec, false);
    let head = wire.head();
    assert_eq!(
        (head.status, head.header("content-type")),
        (101, "application/vnd.docker.multiplexed-stream")
    );
    wire.send(b"through");
    wire.close_input();
    assert_eq!(unframe(&wire.rest()), ("through".to_owned(), "err\n".to_owned()));
    assert_eq!(ended(&exec), 5);
    // It runs once.
    assert_eq!(begin(&exec, false).answer().status, 409);

    let exec = make(json!({"Cmd": ["sh", "-c", "exit 6"]})).json()["Id"].as_str().expect("an id").to_owned();
    assert_eq!(begin(&exec, true).answer().status, 200);
    assert_eq!(ended(&exec), 6);

    // A program that is not there is told of in the stream, and its exit code says so.
    let exec = make(json!({"Cmd": ["/no/such/program"], "AttachStdout": true}));
    let exec = exec.json()["Id"].as_str().expect("an id").to_owned();
    let mut wire = begin(&exec, false);
    assert_eq!(wire.head().status, 101);
    assert!(unframe(&wire.rest()).0.contains("no such file or directory"));
    assert_eq!(ended(&exec), 127);
    remove(&host, &id);
}

/// Reads a websocket's messages of the engine, which are not masked, until it closes.
fn messages(wire: &mut Wire) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut head = [0; 2];
        wire.stream.read_exact(&mut head).expect("a message");
        let length = match head[1] {
            126 => {
                let mut long = [0; 2];
                wire.stream.read_exact(&mut long).expect("a length");
                u16::from_be_bytes(long).into()
            }
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        wire.stream.read_exact(&mut payload).expect("a payload");
        match head[0] & 0x0f {
            8 => return all,
            1 | 2 => all.extend(payload),
            other => panic!("a message of kind {other}"),
        }
    }
}

#[test]
fn attach_over_a_websocket() {
    let host = Host::with_busybox();
    let handshake = |id: &str, more: &str| {
        let mut wire = Wire::open(&host);
        wire.send(
            format!(
                "GET /v1.47/containers/{id}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: \
                 engine\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \
                 dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
            )
            .as_bytes(),
        );
        wire
    };
    assert_eq!(handshake("nobody", "").head().status, 404);
    let id = create(
        &host,
        &json!({"Cmd": ["sh", "-c", "read word; echo out $word; echo err >&2"], "OpenStdin": true}),
    );
    assert_eq!(handshake(&id, "Origin: http://evil.example\r\n").head().status, 403);
    assert_eq!(get(&host, &format!("/containers/{id}/attach/ws")).status, 400);
    let mut wire = handshake(&id, "");
    let head = wire.head();
    assert_eq!(head.status, 101);
    assert_eq!(head.header("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    start(&host, &id);
    // A masked binary message: "word\n".
    let mask = [1, 2, 3, 4];
    let masked: Vec<u8> = b"word\n".iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    wire.send(&[&[0x82, 0x80 | 5][..], &mask, &masked].concat());
    let text = String::from_utf8(messages(&mut wire)).expect("text");
    assert!(text == "out word\nerr\n" || text == "err\nout word\n", "{text:?}");
    remove(&host, &id);
}

#[test]
fn events_are_told_in_the_form_that_is_asked_for() {
    let host = Host::with_busybox();
    let listen = |path: &str, accept: &str| {
        let mut wire = Wire::open(&host);
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: engine\r\nAccept: {accept}\r\n\r\n").as_bytes());
        let head = wire.head();
        assert_eq!(head.status, 200);
        (wire, head.header("content-type").to_owned())
    };
    let filter = "filters=%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B%22create%22%5D%7D";
    let (mut newest, newest_type) = listen(&format!("/v1.56/events?{filter}"), "application/jsonl");
    let (mut sequence, sequence_type) = listen(&format!("/v1.56/events?{filter}"), "application/json-seq");
    let (mut old, old_type) = listen(&format!("/v1.40/events?{filter}"), "application/jsonl");
    assert_eq!(
        [newest_type.as_str(), &sequence_type, &old_type],
        ["application/jsonl", "application/json-seq", "application/json"]
    );
    let id = create(&host, &json!({"Cmd": ["true"], "Labels": {"tier": "front"}}));
    let event: Value = serde_json::from_slice(&newest.chunk().expect("an event")).expect("json");
    assert_eq!((&event["Type"], &event["Action"]), (&json!("container"), &json!("create")));
    assert_eq!((&event["Actor"]["ID"], &event["Actor"]["Attributes"]["tier"]), (&json!(id), &json!("front")));
    assert!(event.get("status").is_none());
    assert_eq!(sequence.chunk().expect("an event").first(), Some(&0x1e));
    let event: Value = serde_json::from_slice(&old.chunk().expect("an event")).expect("json");
    assert_eq!((&event["status"], &event["id"]), (&json!("create"), &json!(id)));
    remove(&host, &id);
    // What was is told too, and the stream ends where it is told to.
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let past = get(&host, &format!("/events?since=1&until={}&{filter}", now + 1));
    assert!(String::from_utf8_lossy(&past.body).contains(&id));
}

#[test]
fn old_versions_get_old_fields() {
    let host = Host::with_busybox();
    let id = create(&host, &json!({"Cmd": ["true"]}));
    let inspect = |version: &str| get(&host, &format!("/v{version}/containers/{id}/json")).json();
    let (old, new) = (inspect("1.41"), inspect("1.56"));
    for field in ["Bridge", "IPAddress", "Gateway", "MacAddress", "SecondaryIPAddresses"] {
        assert!(old["NetworkSettings"].get(field).is_some(), "{field}");
        assert!(new["NetworkSettings"].get(field).is_none(), "{field}");
    }
    assert_eq!(old["HostConfig"]["KernelMemory"], 0);
    assert!(new["HostConfig"].get("KernelMemory").is_none());
    let images = |version: &str| get(&host, &format!("/v{version}/images/json")).json()[0].clone();
    let (old, new) = (images("1.43"), images("1.56"));
    assert_eq!(old["VirtualSize"], old["Size"]);
    assert!(new.get("VirtualSize").is_none());
    assert!(old.get("Descriptor").is_none() && new.get("Descriptor").is_some());
    let usage = |version: &str| get(&host, &format!("/v{version}/system/df")).json();
    let (old, new) = (usage("1.47"), usage("1.56"));
    assert!(old["Images"].is_array() && old["LayersSize"].is_i64() && old.get("ImageUsage").is_none());
    assert!(new["ImageUsage"].is_object() && new.get("Images").is_none());
    remove(&host, &id);
}

#[test]
fn a_client_that_goes_away_does_not_stop_a_stop() {
    let host = Host::with_busybox();
    let id = create(&host, &json!({"Cmd": ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]}));
    start(&host, &id);
    let mut wire = Wire::open(&host);
    wire.send(format!("POST /containers/{id}/stop?t=1 HTTP/1.1\r\nHost: engine\r\n\r\n").as_bytes());
    // The signal has been sent when the event tells of it; then the client goes.
    let filter = "filters=%7B%22event%22%3A%5B%22kill%22%5D%7D";
    let mut events = Wire::open(&host);
    events.send(format!("GET /events?since=1&{filter} HTTP/1.1\r\nHost: engine\r\n\r\n").as_bytes());
    assert_eq!(events.head().status, 200);
    assert!(events.chunk().is_some());
    drop(wire);
    wait_for("the end of the container", || {
        let inspected = get(&host, &format!("/containers/{id}/json")).json();
        (inspected["State"]["Running"] == false).then_some(())
    });
    remove(&host, &id);
}
