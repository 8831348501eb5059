//! What the engine says of containers, images, volumes, networks and itself, field by field beside what Debian's dockerd says of
//! the same, in the version of the API that both speak. What is otherwise is in a list with a reason for each, which is a
//! table of COMPATIBILITY.md; a difference that is not in the list fails the test, and one that is there no more does too.

use std::collections::BTreeMap;
use std::path::Path;

use kit::{Host, wait_for};
use serde_json::{Value, json};

#[path = "fields/allowed.rs"]
mod allowed;
#[path = "fields/answers.rs"]
mod answers;
#[path = "fields/compare.rs"]
mod compare;
#[path = "fields/engine.rs"]
mod engine;

use compare::Differences;
use engine::Engine;
use kit::dockerd::{DOCKERD, Dockerd};

/// Containers by their names, as they are asked for. `{folder}` is a directory of the host.
fn requests(folder: &Path) -> Vec<(&'static str, Value)> {
    let image = |more: Value| {
        let mut body = json!({"Image": "busybox", "HostConfig": {}});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let sleep = json!(["sleep", "1000"]);
    vec![
        ("simple", image(json!({"Cmd": sleep}))),
        ("created", image(json!({"Cmd": ["true"]}))),
        ("exited", image(json!({"Cmd": ["sh", "-c", "exit 7"]}))),
        ("missing", image(json!({"Cmd": ["/no/such/program"]}))),
        (
            "dressed",
            image(json!({
                "Cmd": ["1000"], "Entrypoint": ["sleep"], "Hostname": "host", "Domainname": "example.org", "User": "1:1",
                "Env": ["A=1", "B=two words", "C="], "Labels": {"tier": "front", "empty": ""}, "WorkingDir": "/tmp",
                "Tty": true, "OpenStdin": true, "StopSignal": "SIGKILL", "StopTimeout": 3,
                "AttachStdout": true, "AttachStderr": true,
            })),
        ),
        (
            "limited",
            image(json!({"Cmd": sleep, "HostConfig": {
                "Memory": 67_108_864, "MemoryReservation": 33_554_432, "NanoCpus": 500_000_000, "CpuShares": 512,
                "CpusetCpus": "0", "PidsLimit": 50, "OomScoreAdj": 100, "ShmSize": 1_048_576,
                "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}],
                "CapAdd": ["NET_ADMIN"], "CapDrop": ["MKNOD"], "ReadonlyRootfs": true, "Privileged": false,
                "SecurityOpt": ["no-new-privileges"], "Sysctls": {"net.ipv4.ip_forward": "0"},
                "GroupAdd": ["7"], "ExtraHosts": ["other:192.0.2.1"], "Dns": ["192.0.2.53"], "Init": true,
                "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rw"}],
            }})),
        ),
        (
            "published",
            image(
                json!({"Cmd": sleep, "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "81/tcp": {}}, "HostConfig": {
                    "PortBindings": {
                        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18080"}],
                        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "10053"}],
                    },
                }}),
            ),
        ),
        (
            "mounted",
            image(json!({"Cmd": sleep, "Volumes": {"/anonymous": {}}, "HostConfig": {
                "Binds": [format!("{}:/bound:ro", folder.display()), "named:/named".to_owned()],
                "Tmpfs": {"/scratch": "size=1m"},
                "Mounts": [
                    {"Type": "volume", "Source": "labelled", "Target": "/labelled",
                     "VolumeOptions": {"Labels": {"a": "b"}, "NoCopy": true}},
                    {"Type": "tmpfs", "Target": "/run/x", "TmpfsOptions": {"SizeBytes": 65536, "Mode": 448}},
                    {"Type": "bind", "Source": folder, "Target": "/also", "ReadOnly": true,
                     "BindOptions": {"Propagation": "rprivate"}},
                ],
            }})),
        ),
        (
            "healthy",
            image(json!({"Cmd": sleep, "Healthcheck": {
                "Test": ["CMD-SHELL", "echo fine"], "Interval": 100_000_000, "Timeout": 5_000_000_000_i64, "Retries": 2,
            }})),
        ),
        (
            "restarting",
            image(json!({"Cmd": ["sh", "-c", "exit 3"], "HostConfig": {
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2},
            }})),
        ),
        (
            "oom",
            image(json!({"Cmd": ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"], "HostConfig": {
                "Memory": 8_388_608, "MemorySwap": 8_388_608,
            }})),
        ),
        ("hosted", image(json!({"Cmd": sleep, "HostConfig": {"NetworkMode": "host", "PidMode": "host"}}))),
        (
            "alone",
            image(json!({"Cmd": sleep, "HostConfig": {"NetworkMode": "none", "IpcMode": "shareable"}})),
        ),
        (
            "networked",
            image(
                json!({"Cmd": sleep, "HostConfig": {"NetworkMode": "field"}, "NetworkingConfig": {"EndpointsConfig": {
                    "field": {"Aliases": ["alias"], "IPAMConfig": {"IPv4Address": "10.88.7.7"}},
                }}}),
            ),
        ),
        ("paused", image(json!({"Cmd": sleep}))),
        ("killed", image(json!({"Cmd": sleep}))),
    ]
}

/// Names that end of themselves.
const ENDING: [&str; 3] = ["exited", "restarting", "oom"];

/// Makes everything on one engine.
fn set_up(engine: &Engine, folder: &Path) {
    let ipam = json!({"Driver": "default", "Config": [{"Subnet": "10.88.0.0/16", "Gateway": "10.88.0.1"}]});
    engine.post(
        "/networks/create",
        &json!({"Name": "field", "CheckDuplicate": true, "IPAM": ipam, "Labels": {"a": "b"}}),
    );
    engine.post("/volumes/create", &json!({"Name": "named", "Labels": {"a": "b"}}));
    let options = json!({"type": "tmpfs", "device": "tmpfs", "o": "size=1m"});
    engine.post("/volumes/create", &json!({"Name": "optioned", "Driver": "local", "DriverOpts": options}));
    for (name, body) in requests(folder) {
        engine.post(&format!("/containers/create?name={name}"), &body);
        if !["created", "missing"].contains(&name) {
            engine.post(&format!("/containers/{name}/start"), &Value::Null);
        }
    }
    engine.post("/containers/paused/pause", &Value::Null);
    engine.post("/containers/killed/kill", &Value::Null);
    let inspect = |name: &str| engine.get(&format!("/containers/{name}/json"));
    for name in ENDING.into_iter().chain(["killed"]) {
        wait_for("its end", || {
            let state = inspect(name)["State"].clone();
            (state["Status"] == "exited").then_some(())
        });
    }
    // Under load dockerd misses that the kernel killed: then the container is run again.
    wait_for("a death for want of memory", || {
        let state = inspect("oom")["State"].clone();
        if state["Status"] == "exited" && state["OOMKilled"] == false {
            engine.post("/containers/oom/start", &Value::Null);
        }
        (state["Status"] == "exited" && state["OOMKilled"] == true).then_some(())
    });
    wait_for("good health", || (inspect("healthy")["State"]["Health"]["Status"] == "healthy").then_some(()));
    let (status, _) = engine.ask("POST", "/containers/missing/start", None);
    assert_eq!(status, 400, "{}", engine.name);
}

/// Names of the moment and what stands for them, longest first.
fn names(engine: &Engine, folder: &Path) -> Vec<(String, String)> {
    let mut names = vec![(folder.display().to_string(), "{folder}".to_owned())];
    let mut add = |id: &Value, name: &str| {
        let id = id.as_str().unwrap_or_default().to_owned();
        let bare = id.trim_start_matches("sha256:").to_owned();
        if bare.len() > 12 {
            names.push((bare[..12].to_owned(), format!("{{short {name}}}")));
            names.push((bare, format!("{{{name}}}")));
        }
    };
    for (name, _) in requests(folder) {
        let inspected = engine.get(&format!("/containers/{name}/json"));
        add(&inspected["Id"], name);
        for network in
            inspected["NetworkSettings"]["Networks"].as_object().into_iter().flat_map(|all| all.values())
        {
            add(&network["EndpointID"], &format!("{name}'s endpoint"));
        }
        add(&json!(inspected["NetworkSettings"]["SandboxID"]), &format!("{name}'s sandbox"));
        for mount in inspected["Mounts"].as_array().into_iter().flatten() {
            if mount["Name"].as_str().is_some_and(|name| name.len() == 64) {
                add(&mount["Name"], "anonymous");
            }
        }
    }
    for name in ["bridge", "none", "host", "field"] {
        add(&engine.get(&format!("/networks/{name}"))["Id"], &format!("network {name}"));
    }
    add(&engine.get("/images/busybox/json")["Id"], "image");
    let root = engine.get("/info")["DockerRootDir"].as_str().unwrap_or_default().to_owned();
    names.push((root, "{root}".to_owned()));
    names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    names
}

/// Puts the names of the moment in place of what they stand for, in keys too.
fn rename(value: &mut Value, names: &[(String, String)]) {
    let replace = |text: &str| {
        let mut text = text.to_owned();
        for (name, stands_for) in names.iter().filter(|(name, _)| !name.is_empty()) {
            if text.contains(name.as_str()) {
                text = text.replace(name, stands_for);
            }
        }
        text
    };
    match value {
        Value::String(text) => *text = replace(text),
        Value::Array(list) => list.iter_mut().for_each(|value| rename(value, names)),
        Value::Object(object) => {
            let old = std::mem::take(object);
            for (name, mut value) in old {
                rename(&mut value, names);
                object.insert(replace(&name), value);
            }
        }
        _ => {}
    }
}

/// Documents by kind and name.
type Documents = BTreeMap<(&'static str, String), Value>;

/// Everything that an engine says of itself and of what was made.
fn documents(engine: &Engine, folder: &Path) -> Documents {
    let mut all = Documents::new();
    let mut put = |kind, name: &str, value| drop(all.insert((kind, name.to_owned()), value));
    let by = |list: Value, field: &str| {
        let mut named = BTreeMap::new();
        for item in list.as_array().into_iter().flatten() {
            let name = match &item[field] {
                Value::Array(names) => names.first().cloned().unwrap_or_default(),
                name => name.clone(),
            };
            // Only volumes without a name have one of that length.
            let name = name.as_str().filter(|name| name.len() < 64).unwrap_or("anonymous");
            named.insert(name.to_owned(), item.clone());
        }
        named
    };
    put("version", "", engine.get("/version"));
    put("info", "", engine.get("/info"));
    for (name, _) in requests(folder) {
        let mut inspected = engine.get(&format!("/containers/{name}/json?size=1"));
        if let Some(log) = inspected.pointer_mut("/State/Health/Log").and_then(Value::as_array_mut) {
            log.truncate(1);
            // A probe may be at work just now.
            inspected["ExecIDs"] = Value::Null;
        }
        put("inspect", name, inspected);
    }
    for (name, item) in by(engine.get("/containers/json?all=1&size=1"), "Names") {
        put("ps", &name, item);
    }
    for (name, item) in by(engine.get("/images/json"), "RepoTags") {
        put("images", &name, item);
    }
    put("image inspect", "busybox", engine.get("/images/busybox/json"));
    put("history", "busybox", engine.get("/images/busybox/history"));
    let volumes = engine.get("/volumes");
    for name in ["named", "optioned", "labelled"] {
        put("volume", name, engine.get(&format!("/volumes/{name}")));
        put("volumes", name, by(volumes["Volumes"].clone(), "Name")[name].clone());
    }
    put("volumes warnings", "", json!({"Warnings": volumes["Warnings"]}));
    let networks = by(engine.get("/networks"), "Name");
    for name in ["bridge", "none", "host", "field"] {
        put("network", name, engine.get(&format!("/networks/{name}")));
        put("networks", name, networks[name].clone());
    }
    put("top", "simple", engine.get("/containers/simple/top"));
    put("stats", "limited", engine.get("/containers/limited/stats?stream=0"));
    put("stats", "exited", engine.get("/containers/exited/stats?stream=0"));
    let mut usage = engine.get("/system/df");
    for (field, kind, name) in
        [("Containers", "ps", "Names"), ("Images", "images", "RepoTags"), ("Volumes", "volumes", "Name")]
    {
        for (name, item) in by(usage[field].take(), name) {
            put(kind, &format!("{name} by its use of the disk"), item);
        }
    }
    put("df", "", usage);
    let command = json!({"Cmd": ["sh", "-c", "exit 4"], "AttachStdout": true, "Env": ["A=1"], "User": "1"});
    let exec = engine.post("/containers/simple/exec", &command)["Id"].as_str().unwrap_or_default().to_owned();
    put("exec inspect", "made", engine.get(&format!("/exec/{exec}/json")));
    engine.post(&format!("/exec/{exec}/start"), &json!({"Detach": true}));
    let ended = wait_for("the command's end", || {
        let inspected = engine.get(&format!("/exec/{exec}/json"));
        (inspected["Running"] == false).then_some(inspected)
    });
    put("exec inspect", "ended", ended);
    engine.post("/containers/simple/rename?name=renamed", &Value::Null);
    engine.post("/containers/renamed/rename?name=simple", &Value::Null);
    engine.post("/images/busybox/tag?repo=second&tag=x", &Value::Null);
    let removed = engine.ask("DELETE", "/images/second:x", None).1;
    put("image removal", "", removed);
    put("update", "", engine.post("/containers/simple/update", &json!({"CpuShares": 100})));
    for (name, event) in events(engine) {
        put("events", &name, event);
    }
    all
}

/// The first event of each kind that an engine told.
fn events(engine: &Engine) -> BTreeMap<String, Value> {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let mut first = BTreeMap::new();
    for event in engine.lines(&format!("/events?since=1&until={}", now + 1)) {
        let action = event["Action"].as_str().unwrap_or_default();
        let name = event["Actor"]["Attributes"]["name"].as_str().unwrap_or_default();
        // How a command is called is in its action, and those of health checks are many.
        let action = action.split(':').next().unwrap_or_default();
        // Of several volumes dockerd mounts any first.
        let destination = event["Actor"]["Attributes"]["destination"].as_str().unwrap_or_default();
        let of = if event["Type"] == "container" { name } else { destination };
        // How the two came by the image.
        if ["load", "save", "pull", "import"].contains(&action) {
            continue;
        }
        first.entry(format!("{} {of} {action}", event["Type"].as_str().unwrap_or_default())).or_insert(event);
    }
    first
}

/// Our engine and dockerd, each with the image `busybox`; `None` where there is no dockerd.
fn both(folder: &Path) -> Option<(Host, Dockerd)> {
    if !Path::new(DOCKERD).exists() {
        kit::skip("dockerd", "Debian's docker.io is not there");
        return None;
    }
    let host = Host::apart();
    let root = folder.join("docker");
    std::fs::create_dir(&root).expect("mkdir");
    let archive = folder.join("busybox.tar");
    host.corten(["save", "-o", &archive.display().to_string(), "busybox"]).ok();
    let dockerd = Dockerd::start(&root);
    dockerd.load(&archive);
    Some((host, dockerd))
}

#[test]
fn everything_is_said_as_docker_says_it() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let shared = folder.path().join("shared");
    std::fs::create_dir(&shared).expect("mkdir");
    let Some((host, dockerd)) = both(folder.path()) else { return };
    let said = [Engine::of_dockerd(&dockerd), Engine::of_host(&host)].map(|engine| {
        set_up(&engine, &shared);
        let names = names(&engine, &shared);
        let mut documents = documents(&engine, &shared);
        for value in documents.values_mut() {
            rename(value, &names);
        }
        documents
    });
    let mut differences = Differences::default();
    let [docker, corten] = &said;
    for ((kind, name), value) in docker {
        match corten.get(&(*kind, name.clone())) {
            Some(ours) => differences.compare(kind, name, value, ours),
            None => differences.alone(kind, name, compare::How::OnlyDocker, value),
        }
    }
    for ((kind, name), value) in corten.iter().filter(|(key, _)| !docker.contains_key(*key)) {
        differences.alone(kind, name, compare::How::OnlyCorten, value);
    }
    allowed::check(&differences);
}

#[test]
fn the_document_lists_the_differences() {
    allowed::check_document();
}

#[test]
fn answers_are_dockers_to_the_word() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let Some((host, dockerd)) = both(folder.path()) else { return };
    let [docker, corten] =
        [Engine::of_dockerd(&dockerd), Engine::of_host(&host)].map(|engine| answers::all(&engine));
    let mut wrong = Vec::new();
    let mut seen = Vec::new();
    for ((request, theirs), (_, ours)) in docker.iter().zip(&corten) {
        if theirs == ours {
            continue;
        }
        match answers::OTHERWISE.iter().find(|(allowed, _)| request.ends_with(allowed)) {
            Some((allowed, _)) => seen.push(*allowed),
            None => wrong.push(format!("{request}: {theirs} / {ours}")),
        }
    }
    for (gone, _) in answers::OTHERWISE.iter().filter(|(allowed, _)| !seen.contains(allowed)) {
        wrong.push(format!("gone: {gone}"));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
