//! The runtime under containerd as Kubernetes uses it: pods by the Container Runtime Interface.

use std::fs;
use std::process::Command;

use kit::{Cmd, fixtures, wait_for};
use runtimes::engine::{self, Place};
use serde_json::json;

/// A message of protocol buffers, written field by field.
#[derive(Default, Clone)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    fn message(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }
}

/// One field of an answer.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The last field with this number.
fn field(mut message: &[u8], wanted: u64) -> Option<Field<'_>> {
    fn varint(message: &mut &[u8]) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = message.split_first()?;
            *message = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
    let mut found = None;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let value = match key & 7 {
            0 => Field::Number(varint(&mut message)?),
            2 => {
                let length = varint(&mut message)? as usize;
                let (value, rest) = message.split_at_checked(length)?;
                message = rest;
                Field::Bytes(value)
            }
            _ => return None,
        };
        if key >> 3 == wanted {
            found = Some(value);
        }
    }
    found
}

fn text(message: &[u8], wanted: u64) -> String {
    match field(message, wanted) {
        Some(Field::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    }
}

fn number(message: &[u8], wanted: u64) -> u64 {
    match field(message, wanted) {
        Some(Field::Number(number)) => number,
        _ => 0,
    }
}

/// A containerd that Kubernetes could use, with an image for pods and one for containers.
struct Cri(Place);

impl Cri {
    fn new() -> Self {
        let mut place = Place::new();
        let settings = format!(
            r#"version = 2
root = "{at}/root"
state = "{at}/state"
[grpc]
address = "{at}/containerd.sock"
[ttrpc]
address = "{at}/ttrpc.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/library/pause:latest"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "{at}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "corten"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.corten]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.corten.options]
BinaryName = "{runtime}"
Root = "{at}/runc"
"#,
            at = place.path().display(),
            runtime = place.runtime.display(),
        );
        fs::write(place.at("config.toml"), settings).expect("write");
        let mut command = Command::new("containerd");
        command.args(["--config", &place.at("config.toml")]);
        let socket = place.at("containerd.sock");
        place.start(command, &socket);
        let cri = Self(place);
        let mut pause = fixtures::busybox();
        pause.config["Cmd"] = json!(["sleep", "100000"]);
        for (name, image) in [("pause", pause), ("busybox", fixtures::busybox())] {
            let archive = cri.0.archive(name, image);
            Cmd::new("ctr")
                .args(["--address", &socket, "--namespace", "k8s.io", "images", "import", &archive])
                .ok();
        }
        cri
    }

    /// Calls a method, and returns the answer.
    fn call(&self, method: &str, request: &Message) -> Vec<u8> {
        self.try_call(method, request).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// A call over HTTP/2 as gRPC has it: the message behind a byte and its length, and the outcome behind the answer.
    fn try_call(&self, method: &str, request: &Message) -> Result<Vec<u8>, String> {
        let mut body = vec![0];
        body.extend((request.0.len() as u32).to_be_bytes());
        body.extend(&request.0);
        let (input, output) = (self.0.at("request"), self.0.at("answer"));
        fs::write(&input, body).expect("write");
        let _ = fs::remove_file(&output);
        let headers = Cmd::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--http2-prior-knowledge",
                "--unix-socket",
                &self.0.at("containerd.sock"),
            ])
            .args([
                "--header",
                "content-type: application/grpc",
                "--header",
                "te: trailers",
                "--dump-header",
                "-",
            ])
            .args(["--data-binary", &format!("@{input}"), "--output", &output])
            .args([&format!("http://localhost/runtime.v1.RuntimeService/{method}")])
            .ok();
        if !headers.lines().any(|line| line.trim() == "grpc-status: 0") {
            return Err(headers);
        }
        let answer = fs::read(&output).unwrap_or_default();
        Ok(answer.get(5..).unwrap_or_default().to_vec())
    }

    /// A pod in the host's network: there are no plugins for another.
    fn pod(&self) -> (String, Message) {
        const NODE: u64 = 2;
        let metadata = Message::default().text(1, "pod").text(2, "uid").text(3, "tests");
        let namespaces = Message::default().number(1, NODE);
        let security = Message::default().message(1, &namespaces);
        let linux = Message::default().text(1, &self.0.cgroup()).message(2, &security);
        let config = Message::default().message(1, &metadata).text(3, &self.0.at("logs")).message(8, &linux);
        let answer = self.call("RunPodSandbox", &Message::default().message(1, &config));
        (text(&answer, 1), config)
    }

    /// A container of the pod with this script and a limit of memory.
    fn container(&self, pod: &(String, Message), name: &str, script: &str, memory: u64) -> String {
        let resources = Message::default().number(3, 512).number(4, memory);
        let linux = Message::default().message(1, &resources);
        let config = Message::default()
            .message(1, &Message::default().text(1, name))
            .message(2, &Message::default().text(1, "docker.io/library/busybox:latest"))
            .text(3, "sh")
            .text(3, "-c")
            .text(3, script)
            .text(11, &format!("{name}.log"))
            .message(15, &linux);
        let request = Message::default().text(1, &pod.0).message(2, &config).message(3, &pod.1);
        let id = text(&self.call("CreateContainer", &request), 1);
        self.call("StartContainer", &Message::default().text(1, &id));
        id
    }

    /// State, exit code and reason.
    fn status(&self, id: &str) -> (u64, u64, String) {
        let answer = self.call("ContainerStatus", &Message::default().text(1, id));
        let Some(Field::Bytes(status)) = field(&answer, 1) else { panic!("no status") };
        (number(status, 3), number(status, 7), text(status, 10))
    }

    fn exec(&self, id: &str, program: &[&str]) -> (u64, String) {
        let mut request = Message::default().text(1, id);
        for word in program {
            request = request.text(2, word);
        }
        let answer = self.call("ExecSync", &request);
        (number(&answer, 3), text(&answer, 1))
    }
}

impl Drop for Cri {
    /// After a failure there are containers still, whose supervisors outlive the daemon.
    fn drop(&mut self) {
        let socket = self.0.at("containerd.sock");
        let run = |args: &[&str]| {
            Cmd::new("ctr").args(["--address", &socket, "--namespace", "k8s.io"]).args(args).run()
        };
        for id in run(&["containers", "list", "--quiet"]).stdout.lines() {
            let _ = run(&["tasks", "delete", "--force", id]);
            let _ = run(&["containers", "delete", id]);
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for target in mounts.lines().filter_map(|line| line.split(' ').nth(4)) {
            if target.starts_with(&self.0.at("state")) {
                let _ = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH);
            }
        }
    }
}

const RUNNING: u64 = 1;
const EXITED: u64 = 2;

#[test]
fn a_pod_and_its_containers() {
    let cri = Cri::new();
    let pod = cri.pod();
    let script = "echo ready; trap 'exit 3' TERM; while :; do sleep 0.05; done";
    let id = cri.container(&pod, "main", script, 67_108_864);
    assert_eq!(cri.status(&id).0, RUNNING);
    assert_eq!(cri.exec(&id, &["echo", "hello"]), (0, "hello\n".to_owned()));
    assert_eq!(cri.exec(&id, &["sh", "-c", "exit 9"]).0, 9);
    // Both are in the pod's namespaces of names and messages.
    let other = cri.container(&pod, "other", "sleep 1000", 33_554_432);
    let of =
        |id: &str| cri.exec(id, &["sh", "-c", "readlink /proc/self/ns/ipc; readlink /proc/self/ns/uts"]).1;
    assert_eq!(of(&id), of(&other));
    let pid = |id: &str| {
        let directory = cri.0.at(&format!("state/io.containerd.runtime.v2.task/k8s.io/{id}/init.pid"));
        fs::read_to_string(directory).expect("the first process")
    };
    let memory = || engine::limit(&pid(&id), "memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory(), "67108864");
    let resources = Message::default().number(4, 134_217_728);
    cri.call("UpdateContainerResources", &Message::default().text(1, &id).message(2, &resources));
    assert_eq!(memory(), "134217728");
    cri.call("StopContainer", &Message::default().text(1, &id).number(2, 10));
    assert_eq!((cri.status(&id).0, cri.status(&id).1), (EXITED, 3));
    let log = fs::read_to_string(cri.0.at("logs/main.log")).expect("its log");
    assert!(log.contains("stdout F ready"), "{log}");
    // Want of memory is told as the reason.
    let hungry = cri.container(&pod, "hungry", "x=a; while :; do x=$x$x; done", 16_777_216);
    wait_for("its end", || (cri.status(&hungry).0 == EXITED).then_some(()));
    assert_eq!((cri.status(&hungry).1, cri.status(&hungry).2.as_str()), (137, "OOMKilled"));
    for id in [&id, &other, &hungry] {
        cri.call("RemoveContainer", &Message::default().text(1, id));
    }
    cri.call("StopPodSandbox", &Message::default().text(1, &pod.0));
    cri.call("RemovePodSandbox", &Message::default().text(1, &pod.0));
}
