//! Containers of an ordinary user, who has no rights but those over himself.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::bundle::{Bundle, possible, program, text};
use serde_json::json;

/// A user and a group that nobody has.
const USER: u32 = 41_234;

/// The ids that the user was given beside his own.
const GIVEN: u32 = 1_000_000;

/// A bundle that belongs to an ordinary user.
struct Rootless {
    bundle: Bundle,
}

impl Rootless {
    fn new(script: &str) -> Self {
        let mut bundle = Bundle::script(script);
        let example = bundle.path().join("rootless");
        fs::create_dir(&example).unwrap();
        own(bundle.path());
        let mut made =
            as_user(Command::new(program()).args(["spec", "--rootless", "--bundle"]).arg(&example));
        text(&made.output().unwrap());
        bundle.adopt(serde_json::from_slice(&fs::read(example.join("config.json")).unwrap()).unwrap());
        Self { bundle }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = as_user(&self.bundle.command(args));
        command.current_dir(self.bundle.path()).stdin(Stdio::null());
        command
    }

    fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }
}

impl Drop for Rootless {
    fn drop(&mut self) {
        let _ = self.output(&["delete", "--force", &self.bundle.id()]);
    }
}

fn own(directory: &Path) {
    chown(directory, Some(USER), Some(USER)).unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            own(&path);
        }
    }
}

/// The same command, by the user.
fn as_user(command: &Command) -> Command {
    let user = USER.to_string();
    let mut changed = Command::new("setpriv");
    changed.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--inh-caps=-all"]);
    changed.arg(command.get_program()).args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        changed.current_dir(directory);
    }
    changed
}

/// Whether a user can make a user namespace at all, and reach our program; prints why not.
fn users_can() -> bool {
    let made = as_user(Command::new("unshare").args(["--user", "true"])).output();
    let reached = as_user(Command::new(program()).arg("--version")).output();
    let can = [made, reached].iter().all(|o| o.as_ref().is_ok_and(|o| o.status.success()));
    if !can {
        println!("skipped: user namespaces for users");
    }
    can
}

#[test]
fn a_user_without_rights_runs_a_container_and_is_root_in_it() {
    if !possible() || !users_can() {
        return;
    }
    let rootless =
        Rootless::new("id -u; cat /proc/self/uid_map; echo > /tmp/mine; cat /proc/self/status; mount");
    let said = text(&rootless.output(&["run", &rootless.bundle.id()]));
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("0"));
    let map: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(map, ["0", &USER.to_string(), "1"]);
    assert!(said.contains("NoNewPrivs:\t1") && said.contains("tmpfs on /dev type tmpfs"), "{said}");
    let mine = fs::metadata(rootless.bundle.rootfs().join("tmp/mine")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&mine), USER);
    rootless.bundle.assert_nothing_left();
}

#[test]
fn a_users_container_has_a_whole_life() {
    if !possible() || !users_can() {
        return;
    }
    let rootless = Rootless::new("trap 'exit 3' TERM; while :; do sleep 0.05; done");
    let id = rootless.bundle.id();
    let ok = |args: &[&str]| text(&rootless.output(args));
    // Its streams are ours if nothing else is said, and a pipe would not end.
    let mut create = rootless.command(&["create", &id]);
    assert!(create.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    assert!(ok(&["state", &id]).contains("\"status\": \"created\""));
    ok(&["start", &id]);
    let said = ok(&["exec", &id, "sh", "-c", "id -u; readlink /proc/self/ns/pid; readlink /proc/1/ns/pid"]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "0");
    assert_eq!(lines[1], lines[2]);
    ok(&["kill", &id, "KILL"]);
    ok(&["delete", "--force", &id]);
    rootless.bundle.assert_nothing_left();
}

#[test]
fn a_range_of_ids_is_mapped_by_the_program_that_knows_whose_it_is() {
    if !possible() || !users_can() {
        return;
    }
    if !Path::new("/usr/bin/newuidmap").exists() {
        println!("skipped: newuidmap");
        return;
    }
    let mut rootless = Rootless::new("cat /proc/self/uid_map /proc/self/gid_map; id -u; id -G");
    let maps = json!([
        {"containerID": 0, "hostID": USER, "size": 1},
        {"containerID": 1, "hostID": GIVEN, "size": 1000},
    ]);
    rootless.bundle.config["linux"]["uidMappings"] = maps.clone();
    rootless.bundle.config["linux"]["gidMappings"] = maps;
    rootless.bundle.config["process"]["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9]});
    let id = rootless.bundle.id();
    // What the host's tables say is for the test to say: in a mount namespace of its own.
    let tables = rootless.bundle.path().join("tables");
    fs::create_dir(&tables).unwrap();
    fs::write(tables.join("passwd"), format!("ranger:x:{USER}:{USER}::/:/bin/sh\n")).unwrap();
    let run = |given: &str| {
        for name in ["subuid", "subgid"] {
            fs::write(tables.join(name), given).unwrap();
        }
        let script = format!("mount --bind {} /etc; exec \"$@\"", tables.display());
        let command = rootless.command(&["run", &id]);
        let mut inside = Command::new("unshare");
        inside
            .args(["--mount", "sh", "-c", &script, "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        inside.current_dir(rootless.bundle.path()).stdin(Stdio::null()).output().unwrap()
    };
    let said = text(&run(&format!("ranger:{GIVEN}:1000\n")));
    let numbers: Vec<&str> = said.split_whitespace().collect();
    let (user, given) = (USER.to_string(), GIVEN.to_string());
    let map = ["0", user.as_str(), "1", "1", given.as_str(), "1000"];
    assert_eq!(numbers, [&map[..], &map[..], &["7", "8", "9"]].concat(), "{said}");
    // Ids that are not his.
    let refused = run("");
    let line = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && line.contains("newgidmap refuses"), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    rootless.bundle.assert_nothing_left();
}

#[test]
fn what_a_user_may_not_do_is_refused_in_one_line() {
    if !possible() || !users_can() {
        return;
    }
    let refusal = |change: fn(&mut serde_json::Value)| {
        let mut rootless = Rootless::new("true");
        change(&mut rootless.bundle.config);
        let output = rootless.output(&["run", &rootless.bundle.id()]);
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && line.lines().count() == 1, "{line}");
        rootless.bundle.assert_nothing_left();
        line
    };
    let line = refusal(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "user");
        for name in ["uidMappings", "gidMappings"] {
            config["linux"].as_object_mut().unwrap().remove(name);
        }
    });
    assert!(line.contains("rootless container requires user namespaces"), "{line}");
    let line =
        refusal(|config| config["process"]["user"] = json!({"uid": 0, "gid": 0, "additionalGids": [5]}));
    assert!(line.contains("supplementary groups"), "{line}");
    let line = refusal(|config| config["process"]["oomScoreAdj"] = (-500).into());
    assert!(line.contains("oom_score_adj"), "{line}");
}

#[test]
fn a_user_who_may_make_no_cgroup_has_a_container_without_one() {
    if !possible() || !users_can() {
        return;
    }
    let mut rootless = Rootless::new("sleep 1000 & echo started > /tmp/flag; wait");
    let id = rootless.bundle.id();
    let mut run = rootless.command(&["run", "--detach", &id]);
    assert!(run.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    while !rootless.bundle.rootfs().join("tmp/flag").exists() {
        std::thread::yield_now();
    }
    // Its processes are those that descend from its first.
    let pids: Vec<i32> =
        serde_json::from_str(&text(&rootless.output(&["ps", "--format", "json", &id]))).unwrap();
    assert_eq!(pids.len(), 2, "{pids:?}");
    for args in [&["pause", &id][..], &["events", "--stats", &id], &["update", "--pids-limit", "5", &id]] {
        let output = rootless.output(args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && error.lines().count() == 1 && error.contains("cgroup"),
            "{error}"
        );
    }
    text(&rootless.output(&["kill", "--all", &id, "KILL"]));
    text(&rootless.output(&["delete", "--force", &id]));
    rootless.bundle.assert_nothing_left();
    // A limit that nobody would hold is not promised.
    rootless.bundle.config["linux"]["resources"] = json!({"pids": {"limit": 5}});
    let output = rootless.output(&["run", &id]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("limits need a cgroup"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    rootless.bundle.assert_nothing_left();
}
