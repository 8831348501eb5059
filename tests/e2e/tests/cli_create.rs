//! What `run`, `create`, `exec` and `volume create` send, beside what the real `docker` sends for the same words.
//!
//! A recorder stands where the daemon would: it takes each request down and refuses it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use kit::{CLIS, Cli, Cmd};
use serde_json::Value;

type Taken = Arc<Mutex<Vec<(String, Value)>>>;

struct Recorder {
    directory: tempfile::TempDir,
    taken: Taken,
}

impl Recorder {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let taken = Taken::default();
        let listener = UnixListener::bind(directory.path().join("d.sock")).expect("bind");
        let to = Arc::clone(&taken);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let to = Arc::clone(&to);
                std::thread::spawn(move || serve(&connection, &to));
            }
        });
        Self { directory, taken }
    }

    /// Runs a command line; its exit code, its errors, and the last request it made.
    fn run(&self, cli: Cli, args: &[&str]) -> (i32, String, Option<(String, Value)>) {
        self.taken.lock().expect("lock").clear();
        let output = Cmd::new(cli.program())
            .args(args)
            .env("DOCKER_HOST", format!("unix://{}", self.directory.path().join("d.sock").display()))
            .env("DOCKER_CONFIG", self.directory.path())
            .env("FOO", "bar")
            .env_remove("DOCKER_API_VERSION")
            .env_remove("DOCKER_CONTEXT")
            .current_dir(self.directory.path())
            .run();
        let last = self.taken.lock().expect("lock").last().cloned();
        (output.code, output.stderr.replace("corten", "docker"), last)
    }

    fn file(&self, name: &str, content: &[u8]) {
        std::fs::write(self.directory.path().join(name), content).expect("write");
    }
}

fn serve(connection: &UnixStream, taken: &Taken) {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = 0;
        let mut chunked = false;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).expect("a header");
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            chunked |= header == "transfer-encoding: chunked";
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        while chunked {
            let mut size = String::new();
            reader.read_line(&mut size).expect("a size");
            let size = usize::from_str_radix(size.trim(), 16).expect("a size");
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).expect("a chunk");
            body.extend_from_slice(&chunk[..size]);
            chunked = size > 0;
        }
        let (status, answer) = if target.ends_with("/_ping") {
            ("200 OK", "")
        } else if target.starts_with("/v1.56/") {
            let text =
                r#"{"message":"client version 1.56 is too new. Maximum supported API version is 1.50"}"#;
            ("400 Bad Request", text)
        } else {
            if let Ok(body) = serde_json::from_slice(&body) {
                taken.lock().expect("lock").push((target, body));
            }
            ("500 Internal Server Error", r#"{"message":"recorded"}"#)
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nApi-Version: 1.50\r\nOstype: linux\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        let mut writer = connection;
        if writer.write_all(format!("{head}{answer}").as_bytes()).is_err() {
            return;
        }
        line.clear();
    }
}

/// The request without what means nothing to a daemon: absent, `null` and empty are one.
fn bare(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let full: BTreeMap<_, _> = object
                .iter()
                .map(|(key, value)| (key.clone(), if key == "Env" { sorted(value) } else { bare(value) }))
                .filter(|(key, value)| !empty(value) || keeps_empty(key, value))
                .collect();
            Value::Object(full.into_iter().collect())
        }
        Value::Array(list) => {
            let mut list: Vec<_> = list.iter().map(bare).collect();
            if list.iter().all(|item| item.as_str().is_some_and(|text| text.contains(":/"))) {
                // Binds, which Docker keeps in a map and sends in any order.
                list.sort_by_key(ToString::to_string);
            }
            Value::Array(list)
        }
        other => other.clone(),
    }
}

/// What `docker` keeps in a map and sends in any order, so that only what is in it can be compared.
fn sorted(value: &Value) -> Value {
    let mut list = value.as_array().cloned().unwrap_or_default();
    list.sort_by_key(ToString::to_string);
    Value::Array(list)
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}

/// An empty list of masked paths, unlike an absent one, says "none".
fn keeps_empty(key: &str, value: &Value) -> bool {
    matches!(key, "MaskedPaths" | "ReadonlyPaths") && value.is_array()
}

const LINES: &[&str] = &[
    "create bb",
    "run bb",
    "run -d -i bb",
    "run -i bb",
    "run -a stdout bb",
    "run --rm bb sh -c x -y",
    "run --name n -h host --domainname d -u 1:2 -w /w bb",
    "run -e A=1 -e FOO -e NOPE_X --env-file env bb",
    "run -l a -l b=c --label-file labels bb",
    "run -v /a:/b -v /c:/d:ro,z -v /e -v name:/f -v ./rel:/g bb",
    "run --mount type=bind,src=/a,dst=/b,ro,bind-propagation=rslave,bind-nonrecursive bb",
    "run --mount type=bind,src=/a,dst=/b,readonly,bind-recursive=readonly,bind-propagation=rprivate bb",
    "run --mount type=bind,src=/a,dst=/b,readonly,bind-recursive=writable bb",
    "run --mount type=bind,src=/a,dst=/b,bind-recursive=disabled bb",
    "run --mount type=volume,src=v,dst=/b,volume-nocopy,volume-label=a=b,volume-driver=local,volume-opt=o=x bb",
    "run --mount type=tmpfs,dst=/b,tmpfs-size=1m,tmpfs-mode=1777 bb",
    "run --mount dst=/b bb",
    "run --mount type=image,src=i,dst=/b,image-subpath=x bb",
    "run --tmpfs /x --tmpfs /y:size=1m,ro bb",
    "run -m 64m --memory-reservation 32m --memory-swap -1 --memory-swappiness 50 --shm-size 128m bb",
    "run --cpus 1.5 -c 512 --cpu-period 1000 --cpu-quota 2000 --cpu-rt-period 1 --cpu-rt-runtime 2 bb",
    "run --cpuset-cpus 0-1 --cpuset-mems 0 --pids-limit 10 --oom-kill-disable --oom-score-adj 5 bb",
    "run --pids-limit -1 bb",
    "run --blkio-weight 100 --blkio-weight-device /dev/sda:100 --device-read-bps /dev/sda:1mb bb",
    "run --device-write-bps /dev/sda:2kb --device-read-iops /dev/sda:10 --device-write-iops /dev/sda:20 bb",
    "run --ulimit nofile=1:2 --ulimit core=-1 --ulimit nproc=5 bb",
    "run --device /dev/a --device /dev/a:/dev/b:r --device /dev/c:rw --device vendor.com/class=x bb",
    "run --gpus all bb",
    "run --gpus 2 bb",
    "run --gpus \"device=0,1\" bb",
    "run --gpus count=2,capabilities=utility bb",
    "run --cap-add NET_ADMIN --cap-add all --cap-drop mknod --privileged bb",
    "run --security-opt no-new-privileges --security-opt label=disable --security-opt apparmor=x bb",
    "run --security-opt seccomp=seccomp.json --security-opt label:disable bb",
    "run --security-opt seccomp=unconfined bb",
    "run --security-opt systempaths=unconfined bb",
    "run --init bb",
    "run --init=false bb",
    "run --restart always bb",
    "run --restart on-failure:3 bb",
    "run --restart no --rm bb",
    "run --stop-signal INT --stop-timeout 3 bb",
    "run --health-cmd x --health-interval 1m30s --health-timeout 5s --health-retries 3 bb",
    "run --health-start-period 1s --health-start-interval 2s bb",
    "run --no-healthcheck bb",
    "run --read-only --ipc host --pid host --uts host --userns host --cgroupns private --isolation default bb",
    "run --pid container:x --ipc container:x --network container:x bb",
    "run -p 80 -p 8080:80 -p 127.0.0.1:1:2/udp -p 1000-1002:2000-2002 -P --expose 90 --expose 100-102/udp bb",
    "run -p [::1]:80:80 -p 127.0.0.1::80 bb",
    "run -p target=80,published=8080,protocol=udp bb",
    "run -p 8000-8010:80 bb",
    "run --network host bb",
    "run --network none bb",
    "run --network bridge bb",
    "run --network mynet --ip 1.2.3.4 --ip6 ::1 --network-alias a --network-alias b --link x:y bb",
    "run --network name=n1,alias=x,ip=1.2.3.4,driver-opt=a=b,gw-priority=2 --network n2 bb",
    "run --link x:y bb",
    "run --mac-address 02:42:ac:11:00:02 bb",
    "run --add-host a:1.2.3.4 --add-host b=::1 --add-host c:host-gateway --add-host d=[::1] bb",
    "run --dns 1.1.1.1 --dns-option ndots:1 --dns-search x.y --dns-opt b bb",
    "run --log-driver json-file --log-opt max-size=1m --log-opt max-file=2 bb",
    "run --sysctl net.a=1 --sysctl kernel.shmmax=2 --storage-opt size=1G --annotation a=b --annotation c bb",
    "run --runtime x --cgroup-parent /x --volume-driver d --volumes-from a:ro --group-add 5 --group-add audio bb",
    "run --entrypoint /x bb a",
    "run --entrypoint= bb a",
    "run --platform linux/arm64 bb",
    "run --pull never --quiet bb",
    "volume create n -d local --label a=b --label c -o x=y",
    // What is refused before anything is sent, in the same words.
    "run --env-file bad-name bb",
    "run --env-file bad-space bb",
    "run --env-file bad-bytes bb",
    "run --env-file none bb",
    "run --memory x bb",
    "run --cpus x bb",
    "run --ulimit foo bb",
    "run --ulimit nofile=5:3 bb",
    "run --security-opt foo bb",
    "run --security-opt seccomp=none bb",
    "run --device a:b:c:d bb",
    "run --device-cgroup-rule x bb",
    "run --add-host x bb",
    "run --dns x bb",
    "run -p x:y bb",
    "run --network x --network x bb",
    "run --health-retries -1 bb",
    "run --health-cmd x --no-healthcheck bb",
    "run --memory-swappiness 200 bb",
    "run --pid foo bb",
    "run --mount type=foo bb",
    "run --mount type=volume,dst=/b,bind-propagation=rslave bb",
    "run --rm --restart always bb",
    "run -a foo bb",
    "run --sysctl x bb",
    "run --platform x/y/z/w bb",
    "run --log-driver none --log-opt a=b bb",
    "run UPPER",
    "run",
    "exec c",
];

/// Whether the real `docker` is there to be compared with.
fn docker_is_there() -> bool {
    let found = Cmd::new("sh").args(["-c", "command -v docker"]).run().code == 0;
    if !found {
        kit::skip("docker", "the real docker command is not there");
    }
    found
}

#[test]
fn the_same_words_make_the_same_request() {
    if !docker_is_there() {
        return;
    }
    let recorder = Recorder::new();
    recorder.file("env", b"# note\n\nE1=1\nFOO\n  E3= x y \nE4=\"q\"\nNOPE_Y\n");
    recorder.file("labels", b"l1=1\n#x\n");
    recorder.file("seccomp.json", b"{ \"defaultAction\": \"SCMP_ACT_ALLOW\" , \"x\": \"<>\" }");
    recorder.file("bad-name", b"=x\n");
    recorder.file("bad-space", b"a b=x\n");
    recorder.file("bad-bytes", b"a=\xff\n");
    let mut differences = Vec::new();
    for line in LINES {
        let args: Vec<&str> = line.split(' ').collect();
        let [ours, theirs] = CLIS.map(|cli| {
            let (code, stderr, sent) = recorder.run(cli, &args);
            (code, stderr, sent.map(|(target, body)| (target, bare(&body))))
        });
        if ours != theirs {
            differences.push(format!("{line}\n  corten: {ours:?}\n  docker: {theirs:?}"));
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {} differ:\n{}",
        differences.len(),
        LINES.len(),
        differences.join("\n")
    );
}

#[test]
fn a_command_in_a_container_is_asked_for_as_docker_does() {
    let recorder = Recorder::new();
    let args =
        ["exec", "-e", "A=1", "-e", "FOO", "-u", "1", "-w", "/x", "--privileged", "c", "sh", "-c", "x"];
    let (code, stderr, sent) = recorder.run(Cli::Corten, &args);
    assert_eq!((code, stderr.trim()), (1, "Error response from daemon: recorded"));
    let (target, body) = sent.expect("a request");
    assert_eq!(target, "/v1.50/containers/c/exec");
    assert_eq!(body["Cmd"], serde_json::json!(["sh", "-c", "x"]));
    assert_eq!(body["Env"], serde_json::json!(["A=1", "FOO=bar"]));
    assert_eq!((&body["User"], &body["WorkingDir"]), (&"1".into(), &"/x".into()));
    assert_eq!((&body["Privileged"], &body["AttachStdin"]), (&true.into(), &false.into()));
}
