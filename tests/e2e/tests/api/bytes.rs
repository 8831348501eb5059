//! Details of the protocol that clients depend on to the byte: frames, lengths, types, what is null and what is not there.

use std::io::Read as _;

use kit::{Host, wait_for};
use serde_json::{Value, json};

use crate::wire::{Answer, Wire, create, get, post, remove, request, start};

/// Runs a container to its end.
fn ended(host: &Host, more: &Value) -> String {
    let id = create(host, more);
    start(host, &id);
    assert_eq!(request(host, "POST", &format!("/containers/{id}/wait"), &[], b"").status, 200);
    id
}

#[test]
fn frames_are_a_stream_four_zeros_less_one_and_a_length() {
    let host = Host::with_busybox();
    let id = ended(&host, &json!({"Cmd": ["sh", "-c", "printf one; sleep 0.2; printf two >&2"]}));
    let logs = get(&host, &format!("/v1.42/containers/{id}/logs?stdout=1&stderr=1"));
    assert_eq!(logs.header("content-type"), "application/vnd.docker.multiplexed-stream");
    assert_eq!(logs.header("transfer-encoding"), "chunked");
    assert_eq!(logs.body, b"\x01\0\0\0\0\0\0\x03one\x02\0\0\0\0\0\0\x03two");
    // Only one of the two.
    let logs = get(&host, &format!("/containers/{id}/logs?stderr=1"));
    assert_eq!(logs.body, b"\x02\0\0\0\0\0\0\x03two");
    // The time of a line is in its frame, with nine digits.
    let logs = get(&host, &format!("/containers/{id}/logs?stdout=1&timestamps=1"));
    let text = String::from_utf8_lossy(&logs.body[8..]).into_owned();
    let (time, line) = text.split_once(' ').expect("a time");
    assert_eq!((line, time.len(), &time[10..11], &time[29..]), ("one", 30, "T", "Z"), "{text}");
    assert_eq!(usize::from(logs.body[7]), text.len());
    remove(&host, &id);
    // With a terminal there are none.
    let id = ended(&host, &json!({"Cmd": ["echo", "one"], "Tty": true}));
    let logs = get(&host, &format!("/containers/{id}/logs?stdout=1&stderr=1"));
    assert_eq!(logs.header("content-type"), "application/vnd.docker.raw-stream");
    assert_eq!(logs.body, b"one\r\n");
    remove(&host, &id);
}

#[test]
fn much_output_comes_whole_in_frames() {
    let host = Host::with_busybox();
    let script = "head -c 1000000 /dev/zero | tr '\\0' x; echo; head -c 300000 /dev/zero | tr '\\0' y >&2";
    let id = create(&host, &json!({"Cmd": ["sh", "-c", script]}));
    let mut wire = Wire::open(&host);
    let path = format!("/v1.47/containers/{id}/attach?stream=1&stdout=1&stderr=1");
    wire.send(format!("POST {path} HTTP/1.1\r\nHost: engine\r\n\r\n").as_bytes());
    assert_eq!(wire.head().status, 200);
    start(&host, &id);
    let bytes = wire.rest();
    let (mut rest, mut out, mut err) = (&bytes[..], 0, 0);
    while !rest.is_empty() {
        assert_eq!(rest[1..4], [0; 3]);
        let length = u32::from_be_bytes([rest[4], rest[5], rest[6], rest[7]]) as usize;
        let payload = &rest[8..8 + length];
        let (count, letter) = if rest[0] == 1 { (&mut out, b'x') } else { (&mut err, b'y') };
        assert!(payload.iter().all(|byte| *byte == letter || *byte == b'\n'));
        *count += length;
        rest = &rest[8 + length..];
    }
    assert_eq!((out, err), (1_000_001, 300_000));
    remove(&host, &id);
}

#[test]
fn a_command_speaks_with_and_without_an_upgrade() {
    let host = Host::with_busybox();
    let id = create(&host, &json!({"Cmd": ["sleep", "1000"]}));
    start(&host, &id);
    for (upgrade, tty) in [(true, false), (false, false), (true, true), (false, true)] {
        let body = json!({"Cmd": ["sh", "-c", "read line; echo got $line"], "Tty": tty,
                          "AttachStdin": true, "AttachStdout": true, "AttachStderr": true});
        let made = post(&host, &format!("/containers/{id}/exec"), &body);
        assert_eq!((made.status, made.header("content-type")), (201, "application/json"));
        let exec = made.json()["Id"].as_str().expect("an id").to_owned();
        assert!(exec.len() == 64 && exec.bytes().all(|byte| byte.is_ascii_hexdigit()), "{exec}");
        let body = json!({"Detach": false, "Tty": tty}).to_string();
        let headers = if upgrade { "Connection: Upgrade\r\nUpgrade: tcp\r\n" } else { "" };
        let mut wire = Wire::open(&host);
        wire.send(
            format!(
                "POST /v1.42/exec/{exec}/start HTTP/1.1\r\nHost: engine\r\n{headers}Content-Type: \
                 application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        );
        let head = wire.head();
        assert_eq!(head.status, if upgrade { 101 } else { 200 });
        let kind = if tty { "raw" } else { "multiplexed" };
        assert_eq!(head.header("content-type"), format!("application/vnd.docker.{kind}-stream"));
        assert_eq!((head.header("transfer-encoding"), head.header("content-length")), ("", ""));
        wire.send(b"it\n");
        if !tty {
            wire.close_input();
        }
        let said = wire.rest();
        if tty {
            assert!(said.ends_with(b"got it\r\n"), "{said:?}");
        } else {
            assert_eq!(said, b"\x01\0\0\0\0\0\0\x07got it\n");
        }
    }
    remove(&host, &id);
}

#[test]
fn input_ends_and_output_goes_on() {
    let host = Host::with_busybox();
    for upgrade in ["Connection: Upgrade\r\nUpgrade: tcp\r\n", ""] {
        let id = create(
            &host,
            &json!({"Cmd": ["sh", "-c", "cat; sleep 0.5; echo later"], "OpenStdin": true, "StdinOnce": true}),
        );
        let mut wire = Wire::open(&host);
        let path = format!("/v1.47/containers/{id}/attach?stream=1&stdin=1&stdout=1");
        wire.send(format!("POST {path} HTTP/1.1\r\nHost: engine\r\n{upgrade}\r\n").as_bytes());
        wire.head();
        start(&host, &id);
        wire.send(b"first\n");
        wire.close_input();
        let frame = |text: &str| {
            [&[1, 0, 0, 0, 0, 0, 0, u8::try_from(text.len()).expect("short")], text.as_bytes()].concat()
        };
        assert_eq!(wire.rest(), [frame("first\n"), frame("later\n")].concat());
        remove(&host, &id);
    }
}

#[test]
fn short_answers_have_a_length_and_streams_come_in_chunks() {
    let host = Host::with_busybox();
    let id = create(&host, &json!({"Cmd": ["sleep", "1000"]}));
    for path in
        ["/version", "/info", "/containers/json", "/images/json", "/volumes", "/containers/nobody/json"]
    {
        let answer = get(&host, path);
        assert_eq!(answer.header("content-type"), "application/json", "{path}");
        assert_eq!(answer.header("content-length"), answer.body.len().to_string(), "{path}");
        assert_eq!(answer.body.last(), Some(&b'\n'), "{path}");
    }
    let empty = |answer: &Answer, status: u16| {
        assert_eq!((answer.status, answer.header("content-type")), (status, ""));
        assert!(answer.body.is_empty());
    };
    empty(&request(&host, "POST", &format!("/containers/{id}/start"), &[], b""), 204);
    empty(&request(&host, "POST", &format!("/containers/{id}/start"), &[], b""), 304);
    empty(&request(&host, "POST", &format!("/containers/{id}/rename?name=other"), &[], b""), 204);
    // Changes are a stream of JSON; each comes when it is there.
    let mut wire = Wire::open(&host);
    wire.send(b"GET /events?since=1 HTTP/1.1\r\nHost: engine\r\n\r\n");
    let head = wire.head();
    assert_eq!((head.header("transfer-encoding"), head.header("content-length")), ("chunked", ""));
    let first = wire.chunk().expect("an event");
    assert_eq!(first.last(), Some(&b'\n'));
    // HTTP/1.0 knows no chunks: the body ends with the connection.
    let mut wire = Wire::open(&host);
    wire.send(b"GET /events?since=1&until=2 HTTP/1.0\r\nHost: engine\r\n\r\n");
    let mut said = String::new();
    wire.stream.read_to_string(&mut said).expect("an answer");
    assert!(said.contains(" 200 OK\r\n") && !said.to_lowercase().contains("chunked"), "{said}");
    remove(&host, &id);
}

#[test]
fn nothing_is_null_or_an_empty_list_as_in_docker() {
    let host = Host::with_busybox();
    let texts = [
        ("GET", "/containers/json", "[]"),
        ("GET", "/images/json?filters=%7B%22reference%22%3A%5B%22nothing%22%5D%7D", "[]"),
        ("GET", "/volumes", "{\"Volumes\":[],\"Warnings\":null}"),
        ("GET", "/plugins", "[]"),
        ("POST", "/containers/prune", "{\"ContainersDeleted\":null,\"SpaceReclaimed\":0}"),
        ("POST", "/images/prune", "{\"ImagesDeleted\":null,\"SpaceReclaimed\":0}"),
        ("POST", "/volumes/prune", "{\"VolumesDeleted\":[],\"SpaceReclaimed\":0}"),
    ];
    for (method, path, expected) in texts {
        let answer = request(&host, method, path, &[], b"");
        let expected: Value = serde_json::from_str(expected).expect("json");
        assert_eq!(answer.json(), expected, "{method} {path}");
    }
    let id = create(&host, &json!({"Cmd": ["true"]}));
    assert_eq!(get(&host, &format!("/containers/{id}/changes")).body, b"null\n");
    let shown = get(&host, &format!("/v1.41/containers/{id}/json")).json();
    assert_eq!(shown.get("ExecIDs"), Some(&Value::Null));
    for field in
        ["Binds", "CapAdd", "CapDrop", "ExtraHosts", "GroupAdd", "Links", "SecurityOpt", "VolumesFrom"]
    {
        assert_eq!(shown["HostConfig"].get(field), Some(&Value::Null), "{field}");
    }
    for field in ["Entrypoint", "Volumes", "OnBuild"] {
        assert_eq!(shown["Config"].get(field), Some(&Value::Null), "{field}");
    }
    // Not there, where there is nothing to tell.
    assert!(shown["State"].get("Health").is_none() && shown.get("SizeRw").is_none());
    for field in ["Healthcheck", "StopTimeout", "Shell"] {
        assert!(shown["Config"].get(field).is_none(), "{field}");
    }
    remove(&host, &id);
}

#[test]
fn ids_and_times_have_their_forms() {
    let host = Host::with_busybox();
    let id = ended(&host, &json!({"Cmd": ["true"]}));
    let shown = get(&host, &format!("/containers/{id}/json")).json();
    assert!(id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{id}");
    assert!(shown["Image"].as_str().is_some_and(|image| image.len() == 71 && image.starts_with("sha256:")));
    let time = |value: &Value| {
        let text = value.as_str().expect("a time").to_owned();
        let fraction = text.split_once('.').map_or("", |(_, rest)| rest.trim_end_matches('Z'));
        // As Go writes it: no zeros at the end.
        assert!(text.ends_with('Z') && fraction.len() <= 9 && !fraction.ends_with('0'), "{text}");
    };
    for value in [&shown["Created"], &shown["State"]["StartedAt"], &shown["State"]["FinishedAt"]] {
        time(value);
    }
    // In lists it is a number of seconds.
    let listed = get(&host, "/containers/json?all=1").json();
    assert!(listed[0]["Created"].as_i64().is_some_and(|seconds| seconds > 1_700_000_000), "{listed}");
    let created = create(&host, &json!({"Cmd": ["true"]}));
    let state = get(&host, &format!("/containers/{created}/json")).json()["State"].clone();
    assert_eq!(
        (&state["StartedAt"], &state["FinishedAt"]),
        (&json!("0001-01-01T00:00:00Z"), &json!("0001-01-01T00:00:00Z"))
    );
    for id in [id, created] {
        remove(&host, &id);
    }
}

#[test]
fn what_people_type_is_understood() {
    let host = Host::with_busybox();
    let id = create(&host, &json!({"Cmd": ["true"], "Labels": {"a<b": "c"}}));
    for filters in
        ["{\"status\":[\"created\"]}", "{\"label\":[\"a<b=c\"]}", "{\"status\":{\"created\":true}}"]
    {
        let listed = get(&host, &format!("/v1.47/containers/json?all=1&filters={filters}"));
        assert_eq!(listed.status, 200, "{filters}");
        assert_eq!(listed.json().as_array().map(Vec::len), Some(1), "{filters}");
    }
    // In pieces as small as they can be.
    let mut wire = Wire::open(&host);
    for byte in b"GET /containers/json?all=1&filters={\"id\":[\"x\"]} HTTP/1.1\r\nHost: \"\r\nConnection: close\r\n\r\n" {
        wire.send(&[*byte]);
    }
    assert_eq!(wire.answer().status, 200);
    wait_for("the daemon", || (get(&host, "/_ping").status == 200).then_some(()));
    remove(&host, &id);
}
