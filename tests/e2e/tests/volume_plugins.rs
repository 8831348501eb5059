//! Drivers of volumes over Docker's plugin protocol, with a plugin of the test's own.

use kit::{CLIS, Host, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What a plugin was asked, and what it has.
#[derive(Default)]
struct State {
    calls: Vec<String>,
    volumes: BTreeMap<String, Value>,
    mounted: BTreeMap<String, Vec<String>>,
    /// What is answered whatever is asked, once.
    odd: Option<Vec<u8>>,
    /// What is not answered, and who waits for it.
    hangs: Option<&'static str>,
    waiting: Vec<UnixStream>,
}

struct Plugin {
    state: Arc<Mutex<State>>,
}

impl Plugin {
    fn start(socket: &Path, root: PathBuf) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let listener = UnixListener::bind(socket).expect("bind");
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                let mut input = BufReader::new(stream.try_clone().expect("a copy"));
                let mut first = String::new();
                input.read_line(&mut first).expect("a request");
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    input.read_line(&mut line).expect("a header");
                    if line.trim().is_empty() {
                        break;
                    }
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().expect("a length");
                    }
                }
                let mut body = vec![0; length];
                input.read_exact(&mut body).expect("a body");
                let method =
                    first.strip_prefix("POST /").and_then(|rest| rest.split(' ').next()).expect("a method");
                let mut state = shared.lock().expect("the state");
                if state.hangs.is_some_and(|hangs| method.ends_with(hangs)) {
                    state.waiting.push(stream);
                    continue;
                }
                let answer = match state.odd.take() {
                    Some(odd) => odd,
                    None => {
                        let ask: Value = serde_json::from_slice(&body).expect("JSON");
                        let said = answer(&mut state, &root, method, &ask).to_string();
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len())
                            .into_bytes()
                    }
                };
                let _ = (&stream).write_all(&answer);
            }
        });
        Self { state }
    }

    fn calls(&self) -> Vec<String> {
        self.state.lock().expect("the state").calls.drain(..).collect()
    }

    fn mounted(&self) -> usize {
        self.state.lock().expect("the state").mounted.values().map(Vec::len).sum()
    }
}

fn answer(state: &mut State, root: &Path, method: &str, ask: &Value) -> Value {
    let name = ask["Name"].as_str().unwrap_or_default().to_owned();
    let method = method.strip_prefix("VolumeDriver.").unwrap_or(method);
    if !matches!(method, "Plugin.Activate" | "Capabilities" | "Get" | "Path" | "List") {
        state.calls.push(format!("{method} {name}"));
    }
    let path = root.join(&name).display().to_string();
    let is_mounted = |state: &State| state.mounted.get(&name).is_some_and(|ids| !ids.is_empty());
    match method {
        "Plugin.Activate" => json!({"Implements": ["VolumeDriver"]}),
        "Capabilities" => json!({"Capabilities": {"Scope": "global"}}),
        "Create" if ask["Opts"]["fail"].is_string() => json!({"Err": "it does not want to"}),
        "Create" => {
            fs::create_dir_all(&path).expect("mkdir");
            state.volumes.insert(name, ask["Opts"].clone());
            json!({"Err": ""})
        }
        "Remove" => {
            assert!(!is_mounted(state), "removed while it is mounted");
            state.volumes.remove(&name);
            json!({"Err": ""})
        }
        "Mount" => {
            let id = ask["ID"].as_str().expect("an id").to_owned();
            state.mounted.entry(name).or_default().push(id);
            json!({"Mountpoint": path, "Err": ""})
        }
        "Unmount" => {
            let id = ask["ID"].as_str().expect("an id");
            let ids = state.mounted.entry(name).or_default();
            match ids.iter().position(|known| known == id) {
                Some(at) => {
                    ids.remove(at);
                    json!({"Err": ""})
                }
                None => json!({"Err": "it is not mounted for that id"}),
            }
        }
        "Get" => match state.volumes.get(&name) {
            Some(_) => {
                let shown = if is_mounted(state) { path } else { String::new() };
                json!({"Volume": {"Name": name, "Mountpoint": shown, "Status": {"colour": "red"}}, "Err": ""})
            }
            None => json!({"Err": "no such volume"}),
        },
        "Path" => json!({"Mountpoint": "", "Err": ""}),
        "List" => {
            let all: Vec<_> =
                state.volumes.keys().map(|name| json!({"Name": name, "Mountpoint": ""})).collect();
            json!({"Volumes": all, "Err": ""})
        }
        other => panic!("the engine asks for {other}"),
    }
}

/// A host with a plugin called `mine`.
fn host() -> (Host, Plugin) {
    let mut host = Host::stopped(&[]);
    let sockets = host.root().join("plugins");
    fs::create_dir(&sockets).expect("mkdir");
    fs::create_dir(host.root().join("store")).expect("mkdir");
    let plugin = Plugin::start(&sockets.join("mine.sock"), host.root().join("store"));
    let config = json!({"plugin-socket-dirs": [sockets], "plugin-spec-dirs": [host.root().join("none")]});
    fs::write(host.root().join("daemon.json"), config.to_string()).expect("write");
    host.start_daemon();
    host.pull_busybox();
    (host, plugin)
}

#[test]
fn a_plugin_makes_mounts_and_removes() {
    let (mut host, plugin) = host();
    for cli in CLIS {
        host.cli(cli, ["volume", "create", "-d", "mine", "-o", "size=5", "--label", "a=b", "vol"]).ok();
        assert_eq!(plugin.calls(), ["Create vol"]);
        let shown = host
            .cli(
                cli,
                [
                    "volume",
                    "inspect",
                    "-f",
                    "{{.Driver}} {{.Scope}} {{.Status.colour}} {{.Options.size}}",
                    "vol",
                ],
            )
            .ok();
        assert_eq!(shown, "mine global red 5");
        assert_eq!(host.cli(cli, ["volume", "ls", "-f", "driver=mine", "--format", "{{.Name}}"]).ok(), "vol");
        let one = host
            .cli(
                cli,
                [
                    "run",
                    "-d",
                    "--network",
                    "none",
                    "-v",
                    "vol:/m",
                    "busybox",
                    "sh",
                    "-c",
                    "echo hello > /m/file; sleep 1000",
                ],
            )
            .ok();
        let file = host.root().join("store/vol/file");
        wait_for("the file", || fs::read_to_string(&file).ok().filter(|text| text == "hello\n"));
        assert_eq!(plugin.calls(), ["Mount vol"]);
        let source = host
            .cli(cli, ["inspect", "-f", "{{(index .Mounts 0).Driver}} {{(index .Mounts 0).Source}}", &one])
            .ok();
        assert_eq!(source, format!("mine {}", host.root().join("store/vol").display()));
        host.cli(cli, ["volume", "rm", "vol"]).fails(1, "volume is in use");
        // A container that ends while there is no daemon: the next one tells the plugin.
        let pid: i32 = host.cli(cli, ["inspect", "-f", "{{.State.Pid}}", &one]).ok().parse().expect("a pid");
        host.kill_daemon();
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
        wait_for("its end", || rustix::process::test_kill_process(pid).is_err().then_some(()));
        host.start_daemon();
        wait_for("the plugin to hear of it", || (plugin.mounted() == 0).then_some(()));
        host.cli(cli, ["rm", &one]).ok();
        host.cli(cli, ["volume", "rm", "vol"]).ok();
        assert_eq!(plugin.calls(), ["Unmount vol", "Remove vol"]);
        // By flags, and for nobody's name.
        let flags = [
            "run",
            "--rm",
            "--network",
            "none",
            "--mount",
            "type=volume,dst=/m,volume-driver=mine,volume-opt=x=y",
            "busybox",
            "touch",
            "/m/x",
        ];
        host.cli(cli, flags).ok();
        wait_for("the anonymous volume to go", || {
            plugin.state.lock().expect("the state").volumes.is_empty().then_some(())
        });
        assert_eq!(plugin.mounted(), 0);
        plugin.calls();
    }
}

#[test]
fn what_a_plugin_says_is_bounded_and_refused_where_it_is_odd() {
    let (host, plugin) = host();
    host.corten(["volume", "create", "-d", "mine", "-o", "fail=1", "vol"])
        .fails(1, "VolumeDriver.Create: it does not want to");
    host.corten(["volume", "inspect", "vol"]).fails(1, "no such volume");
    let say = |bytes: &[u8]| plugin.state.lock().expect("the state").odd = Some(bytes.to_vec());
    for odd in [
        &b"SSH-2.0-nonsense\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{\"Implements\":[]}\n",
        b"",
    ] {
        say(odd);
        host.corten(["volume", "create", "-d", "mine", "vol"])
            .fails(1, "error looking up volume plugin mine");
    }
    // A name is no path to a socket.
    host.corten(["volume", "create", "-d", "../plugins/mine", "vol"]).fails(1, "not found");
    host.corten(["volume", "create", "-d", "mine", "vol"]).ok();
    host.corten(["volume", "clone", "vol", "copy"])
        .fails(1, "cloning volumes of the driver mine is not supported");
    // A mount point that is no directory of the host starts nothing.
    fs::remove_dir_all(host.root().join("store/vol")).expect("remove");
    let run = host.corten(["run", "--rm", "--network", "none", "-v", "vol:/m", "busybox", "true"]).run();
    assert_ne!(run.code, 0);
    wait_for("the plugin to be told", || (plugin.mounted() == 0).then_some(()));
    host.corten(["volume", "rm", "vol"]).ok();
}

#[test]
fn one_volume_at_two_places_is_mounted_once_and_one_without_its_driver_is_forgotten_by_force() {
    let (host, plugin) = host();
    host.corten(["volume", "create", "-d", "mine", "vol"]).ok();
    host.corten(["run", "--rm", "--network", "none", "-v", "vol:/a", "-v", "vol:/b", "busybox", "true"]).ok();
    wait_for("the plugin to hear of it", || (plugin.mounted() == 0).then_some(()));
    assert_eq!(plugin.calls(), ["Create vol", "Mount vol", "Unmount vol"]);
    for entry in fs::read_dir(host.root().join("plugins")).expect("the plugins").flatten() {
        fs::remove_file(entry.path()).expect("remove");
    }
    host.corten(["volume", "rm", "vol"]).fails(1, "error looking up volume plugin mine");
    assert_eq!(host.corten(["volume", "ls", "-q"]).ok(), "vol");
    host.corten(["volume", "rm", "-f", "vol"]).ok();
    assert_eq!(host.corten(["volume", "ls", "-q"]).ok(), "");
}

#[test]
fn a_plugin_that_hangs_does_not_hold_up_the_daemons_start() {
    let (mut host, plugin) = host();
    host.corten(["volume", "create", "-d", "mine", "slow"]).ok();
    let id = host
        .corten(["run", "-d", "--network", "none", "-v", "slow:/data", "busybox", "sleep", "100000"])
        .ok();
    assert_eq!(plugin.mounted(), 1);
    let pid = host.corten(["inspect", "-f", "{{.State.Pid}}", &id]).ok();
    host.kill_daemon();
    host.program("kill", ["-9", &pid]).ok();
    wait_for("the container's end", || host.supervisors().is_empty().then_some(()));
    plugin.state.lock().expect("the state").hangs = Some("Unmount");
    // It answers while the plugin is asked, and does not answer.
    host.start_daemon();
    wait_for("the plugin to be asked", || {
        (!plugin.state.lock().expect("the state").waiting.is_empty()).then_some(())
    });
    assert_eq!(host.corten(["inspect", "-f", "{{.State.Running}}", &id]).ok(), "false");
    assert_eq!(plugin.mounted(), 1);
    // The next one settles it; so does a container that runs again before that.
    {
        let mut state = plugin.state.lock().expect("the state");
        state.hangs = None;
        state.waiting.clear();
    }
    host.kill_daemon();
    host.start_daemon();
    wait_for("the volume to be unmounted", || (plugin.mounted() == 0).then_some(()));
    host.corten(["start", &id]).ok();
    assert_eq!(plugin.mounted(), 1);
    host.corten(["rm", "-f", &id]).ok();
    wait_for("the volume to be unmounted", || (plugin.mounted() == 0).then_some(()));
}

#[test]
fn a_volume_that_does_not_come_back_holds_up_those_who_want_it_and_nobody_else() {
    let (host, plugin) = host();
    host.corten(["volume", "create", "-d", "mine", "stuck"]).ok();
    plugin.state.lock().expect("the state").hangs = Some("Mount");
    // More than the engine has places for calls that block.
    let names: Vec<String> = (0..70).map(|number| format!("stuck-{number}")).collect();
    for name in &names {
        let flags = ["--network", "none", "-v", "stuck:/data", "--name", name];
        host.corten(["create"].iter().chain(&flags).chain(&["busybox", "sleep", "100000"])).ok();
    }
    let starts: Vec<UnixStream> = names
        .iter()
        .map(|name| {
            let mut stream = UnixStream::connect(host.socket()).expect("connect");
            let request = format!(
                "POST /containers/{name}/start HTTP/1.1\r\nHost: engine\r\nContent-Length: 0\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).expect("ask");
            stream
        })
        .collect();
    wait_for("the plugin to be asked", || {
        (!plugin.state.lock().expect("the state").waiting.is_empty()).then_some(())
    });
    host.corten(["run", "--rm", "--network", "none", "-v", "own:/data", "busybox", "true"]).ok();
    assert!(host.corten(["volume", "ls", "-q"]).ok().contains("own"));
    assert_eq!(plugin.state.lock().expect("the state").waiting.len(), 1);
    // It breaks off for one, and the others get theirs.
    {
        let mut state = plugin.state.lock().expect("the state");
        state.hangs = None;
        state.waiting.clear();
    }
    wait_for("the others to run", || (plugin.mounted() == names.len() - 1).then_some(()));
    drop(starts);
    host.corten(["rm", "-f"]).args(&names).ok();
    wait_for("the volume to be unmounted", || (plugin.mounted() == 0).then_some(()));
}
