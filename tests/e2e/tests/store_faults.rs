//! The daemon is killed between any two steps of what it does with its store, or somebody damages the store: what is there is whole, or
//! it is said what is not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use kit::fixtures::{self, Image, Layout};
use kit::registry::Registry;
use kit::{CLIS, Host, wait_for};
use serde_json::{Value, json};

/// What the daemon does to its files.
const STEPS: &str =
    "fdatasync,fsync,syncfs,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,pwrite64,ftruncate";
/// No operation has as many steps: whoever gets here was never killed.
const STEPS_MAX: u32 = 600;

/// Attaches strace to the daemon, to kill it when one of its threads does the step `number`.
fn kill_at(host: &Host, number: u32) -> Child {
    let daemon = host.daemon_pid().to_string();
    let strace = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={STEPS}")])
        .args(["-e", &format!("inject={STEPS}:signal=KILL:when={number}"), "-p", &daemon])
        .spawn()
        .expect("strace");
    wait_for("strace to have all threads", || {
        let threads = fs::read_dir(format!("/proc/{daemon}/task")).expect("the daemon's threads");
        let mut threads = threads.flatten().map(|thread| thread.path().join("status"));
        let traced = |path| {
            let status = fs::read_to_string(path).unwrap_or_default();
            !status.contains("TracerPid:\t0\n") || status.contains("State:\tZ")
        };
        threads.all(traced).then_some(())
    });
    strace
}

/// Has `act` done again and again, with the daemon killed some steps later each time, until it is done before. The store is whole each
/// time; `check` brings the host back to where it was before. How often it was killed.
fn at_every_step(host: &mut Host, stride: u32, act: impl Fn(&Host), check: impl Fn(&Host)) -> u32 {
    let mut kills = 0;
    // The steps between are another run's.
    let mut number = 1;
    while number < STEPS_MAX {
        let mut strace = kill_at(host, number);
        act(host);
        let answers = host.corten(["version"]).run().code == 0;
        strace.kill().expect("kill strace");
        strace.wait().expect("strace's end");
        if answers {
            whole(host);
            check(host);
            return kills;
        }
        kills += 1;
        host.kill_daemon();
        // What is there before the next daemon clears it up is whole but for what it will clear up.
        let said = host.daemon(&["--check-store"]).run();
        assert_eq!(said.code, 0, "killed at step {number}: {}{}", said.stdout, said.stderr);
        host.start_daemon();
        whole(host);
        check(host);
        number += stride;
    }
    panic!("it takes more than {STEPS_MAX} steps");
}

fn whole(host: &Host) {
    let said = host.corten(["system", "check"]).run();
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.trim().ends_with("nothing is wrong"), "{}", said.stdout);
}

fn noise(layers: u64, bytes: usize) -> Image {
    let layers = (1..=layers).map(|seed| fixtures::noise_layer(bytes, seed)).collect();
    Image::new(layers, json!({"Cmd": ["true"]}))
}

fn names(host: &Host) -> Vec<String> {
    let list = host.corten(["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok();
    let mut names: Vec<String> = list.lines().map(str::to_owned).collect();
    names.sort();
    names
}

/// How much there is of all kinds, after a collection.
fn left(host: &Host) -> Value {
    host.corten(["image", "prune", "-f"]).ok();
    let said = host.corten(["system", "check", "--quick", "--format", "json"]).ok();
    let report: Value = serde_json::from_str(&said).expect("JSON");
    json!([report["Images"], report["Blobs"], report["Layers"], report["Snapshots"]])
}

#[test]
fn killed_at_every_step_of_a_pull() {
    let registry = Registry::start();
    let name = registry.push(&Layout::new(&[noise(2, 300_000)]), "x:1");
    let mut host = Host::new();
    let kills = at_every_step(
        &mut host,
        2,
        |host| drop(host.corten(["pull", "-q", &name]).run()),
        |host| {
            // It is there or not; what is not can be had.
            host.corten(["pull", "-q", &name]).ok();
            whole(host);
            assert_eq!(left(host), json!([1, 4, 2, 0]));
            host.corten(["rmi", &name]).ok();
            assert_eq!(left(host), json!([0, 0, 0, 0]));
        },
    );
    assert!(kills > 5, "killed {kills} times only");
}

#[test]
fn killed_at_every_step_of_a_removal() {
    let registry = Registry::start();
    let name = registry.push(&Layout::new(&[noise(2, 50_000)]), "x:1");
    let mut host = Host::new();
    host.corten(["pull", "-q", &name]).ok();
    let kills = at_every_step(
        &mut host,
        1,
        |host| drop(host.corten(["rmi", &name]).run()),
        |host| {
            let there = names(host);
            assert!(there.is_empty() || there == [name.clone()], "{there:?}");
            assert_eq!(left(host), if there.is_empty() { json!([0, 0, 0, 0]) } else { json!([1, 4, 2, 0]) });
            host.corten(["pull", "-q", &name]).ok();
        },
    );
    assert!(kills > 2, "killed {kills} times only");
}

#[test]
fn killed_at_every_step_of_a_tag() {
    let mut host = Host::new();
    host.corten(["pull", "-q", "hello-world"]).ok();
    let kills = at_every_step(
        &mut host,
        1,
        |host| drop(host.corten(["tag", "hello-world", "other:1"]).run()),
        |host| {
            let there = names(host);
            assert!(
                there == ["hello-world:latest"] || there == ["hello-world:latest", "other:1"],
                "{there:?}"
            );
            drop(host.corten(["rmi", "other:1"]).run());
        },
    );
    assert!(kills > 0, "never killed");
}

#[test]
fn killed_at_every_step_of_a_prune() {
    let registry = Registry::start();
    let pushed: Vec<String> = (1..4)
        .map(|seed| {
            let image = Image::new(vec![fixtures::noise_layer(50_000, seed)], json!({"Cmd": ["true"]}));
            registry.push(&Layout::new(&[image]), &format!("prune/{seed}:1"))
        })
        .collect();
    let mut host = Host::new();
    let pull = |host: &Host| {
        for name in &pushed {
            host.corten(["pull", "-q", name]).ok();
        }
    };
    pull(&host);
    host.corten(["create", "--network", "none", "--name", "user", &pushed[0]]).ok();
    let kills = at_every_step(
        &mut host,
        2,
        |host| drop(host.corten(["image", "prune", "-af"]).run()),
        |host| {
            // All that nobody uses, or none of it; never what is used.
            let there = names(host);
            assert!(there == pushed || there == pushed[..1], "{there:?}");
            host.corten(["image", "prune", "-af"]).ok();
            assert_eq!(left(host), json!([1, 3, 1, 1]));
            pull(host);
        },
    );
    assert!(kills > 2, "killed {kills} times only");
}

#[test]
fn killed_while_many_files_are_removed() {
    let registry = Registry::start();
    let entries: Vec<fixtures::Entry> =
        (0..20_000).map(|n| fixtures::Entry::file(&format!("d{}/f{n}", n / 200), "x")).collect();
    let layer = fixtures::Layer::new(&entries, fixtures::Packing::Gzip);
    let name = registry.push(&Layout::new(&[Image::new(vec![layer], json!({"Cmd": ["true"]}))]), "many:1");
    let mut host = Host::new();
    host.corten(["pull", "-q", &name]).ok();
    let trash = host.data_root().join("trash");
    let in_trash = || fs::read_dir(&trash).expect("list").count();
    let mut strace = kill_at(&host, 3_000);
    drop(host.corten(["rmi", &name]).run());
    wait_for("the daemon's death in the middle", || (host.corten(["version"]).run().code != 0).then_some(()));
    strace.kill().expect("kill strace");
    strace.wait().expect("strace's end");
    host.kill_daemon();
    assert!(in_trash() > 0, "all was gone before it was killed");
    let said = host.daemon(&["--check-store"]).ok();
    assert!(said.contains("leftover: trash/") && said.ends_with("nothing is wrong"), "{said}");
    host.start_daemon();
    whole(&host);
    assert_eq!(in_trash(), 0);
    assert_eq!(left(&host), json!([0, 0, 0, 0]));
}

/// The blob of that size or more: the layer.
fn largest_blob(host: &Host) -> PathBuf {
    let blobs = fs::read_dir(host.data_root().join("content/blobs/sha256")).expect("list");
    let blobs = blobs.flatten().map(|entry| entry.path());
    blobs.max_by_key(|path| path.metadata().map_or(0, |data| data.len())).expect("a blob")
}

fn layer(host: &Host) -> PathBuf {
    let layers = fs::read_dir(host.data_root().join("layers")).expect("list");
    layers.flatten().map(|entry| entry.path()).next().expect("a layer")
}

/// A change to the database, made while the daemon is not there.
fn sql(host: &Host, script: &str) {
    let db = host.data_root().join("meta.db");
    let code =
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.executescript(sys.argv[2]); db.commit()";
    let python = Command::new("python3").arg("-c").arg(code).arg(&db).arg(script).status().expect("python3");
    assert!(python.success(), "{script}");
}

/// What is done to a store.
type Damage = fn(&Host);

/// Each way to damage a store, what is said of it, and whether it can be mended (with a pull where that is needed).
const DAMAGES: [(&str, Damage, &str, bool); 16] = [
    (
        "a bit of a blob",
        |host| {
            let path = largest_blob(host);
            let mut bytes = fs::read(&path).expect("read");
            bytes[1000] ^= 1;
            fs::write(&path, bytes).expect("write");
        },
        "its content is sha256:",
        true,
    ),
    (
        "a blob's end",
        |host| {
            let path = largest_blob(host);
            let bytes = fs::read(&path).expect("read");
            fs::write(&path, &bytes[..1000]).expect("write");
        },
        "its file has 1000 bytes, not ",
        true,
    ),
    ("a blob", |host| fs::remove_file(largest_blob(host)).expect("remove"), "its file is not there", true),
    (
        "another blob",
        |host| {
            let path = host.data_root().join("content/blobs/sha256").join("a".repeat(64));
            fs::write(path, "x").expect("write");
        },
        "orphan: content/blobs/sha256/aaaa",
        true,
    ),
    (
        "something among downloads",
        |host| {
            fs::write(host.data_root().join("content/ingest/x"), "x").expect("write");
        },
        "orphan: content/ingest/x: is no download",
        true,
    ),
    ("a layer", |host| fs::remove_dir_all(layer(host)).expect("remove"), "its directory layers/", true),
    (
        "another layer",
        |host| fs::create_dir(host.data_root().join("layers/999")).expect("make"),
        "orphan: layers/999",
        true,
    ),
    (
        "another snapshot",
        |host| fs::create_dir_all(host.data_root().join("snapshots/x/fs")).expect("make"),
        "orphan: snapshots/x",
        true,
    ),
    (
        "a row of a blob",
        |host| sql(host, "DELETE FROM blobs WHERE class = 'layer'"),
        "refers to the blob sha256:",
        true,
    ),
    ("a row of a layer", |host| sql(host, "DELETE FROM layers"), "refers to the layer sha256:", true),
    ("a reference", |host| sql(host, "DELETE FROM refs WHERE kind = 'layer'"), "and does not keep it", false),
    (
        "somebody's references",
        |host| {
            sql(
                host,
                "INSERT INTO refs SELECT 'record', 'container/gone', kind, target FROM refs WHERE kind = 'blob'",
            );
        },
        "record container/gone: is not there, and keeps something",
        true,
    ),
    (
        "a name",
        |host| {
            sql(
                host,
                "PRAGMA foreign_keys = off; INSERT INTO names VALUES ('docker.io/library/gone:1', 'sha256:00', 1)",
            );
        },
        "docker.io/library/gone:1: names the image sha256:00, which is not there",
        true,
    ),
    (
        "a counter",
        |host| sql(host, "UPDATE totals SET bytes = bytes + 1 WHERE what = 'blobs'"),
        "counter: blobs: there are ",
        true,
    ),
    (
        "an image's size",
        |host| sql(host, "UPDATE images SET content_bytes = 1"),
        "others are written down",
        true,
    ),
    ("an image's record", |host| sql(host, "UPDATE images SET json = '{}'"), "cannot be read", false),
];

#[test]
fn every_damage_is_found_and_mended_where_it_can_be() {
    let registry = Registry::start();
    let image = noise(1, 50_000);
    let name = registry.push(&Layout::new(std::slice::from_ref(&image)), "x:1");
    for (what, damage, words, mendable) in DAMAGES {
        let mut host = Host::new();
        host.corten(["pull", "-q", &name]).ok();
        host.stop_daemon();
        // What the start clears away is put there afterwards.
        let on_disk = ["another", "something"].iter().any(|word| what.starts_with(word));
        if on_disk {
            host.start_daemon();
            damage(&host);
        } else {
            damage(&host);
            let said = host.daemon(&["--check-store"]).fails(1, "");
            assert!(said.stdout.contains(words), "{what}: {}", said.stdout);
            assert!(said.stdout.trim().ends_with("the store is damaged"), "{what}: {}", said.stdout);
            host.start_daemon();
        }
        let said = host.corten(["system", "check"]).run();
        assert_eq!(said.code, 1, "{what}: {}", said.stdout);
        assert!(said.stdout.contains(words), "{what}: {}", said.stdout);
        // Contents are what is not looked at.
        let quick = host.corten(["system", "check", "--quick"]).run().code;
        assert_eq!(quick, i32::from(what != "a bit of a blob"), "{what}");
        let said = host.corten(["system", "check", "--repair"]).run();
        if !mendable {
            assert_eq!(said.code, 1, "{what}: {}", said.stdout);
            continue;
        }
        // What is lost is fetched again; the rest is whole at once.
        if said.code != 0 {
            assert!(said.stdout.contains("which is not there"), "{what}: {}", said.stdout);
            host.corten(["pull", "-q", &name]).ok();
        }
        whole(&host);
        host.corten(["create", "--network", "none", "--name", "user", &name]).ok();
        host.corten(["rm", "user"]).ok();
        host.corten(["rmi", &name]).ok();
        assert_eq!(left(&host), json!([0, 0, 0, 0]), "{what}");
    }
}

#[test]
fn an_image_that_lacks_a_blob_is_not_sent_and_the_blob_is_named() {
    let registry = Registry::start();
    let name = registry.push(&Layout::new(&[noise(1, 50_000)]), "x:1");
    let host = Host::new();
    host.corten(["pull", "-q", &name]).ok();
    let blob = largest_blob(&host);
    let digest = format!("sha256:{}", blob.file_name().expect("its name").display());
    let archive = host.root().join("x.tar");
    let path = archive.display().to_string();
    let missing = format!("missing content: content digest {digest}: not found");
    let save = |words: &str| {
        for cli in CLIS {
            host.cli(cli, ["save", "-o", &path, &name]).fails(1, words);
            assert!(!archive.exists());
        }
    };
    fs::write(&blob, "x").expect("damage");
    save(&format!("the store's {digest} has 1 bytes, not "));
    fs::remove_file(&blob).expect("remove");
    save(&missing);
    let said = host.corten(["system", "check", "--repair"]).fails(1, "");
    assert!(said.stdout.contains("Mended 1 of 1.\nleft: "), "{}", said.stdout);
    assert!(said.stdout.trim().ends_with(": 1 problem left"), "{}", said.stdout);
    save(&missing);
    let other = format!("{}/y:1", registry.host());
    host.corten(["tag", &name, &other]).ok();
    for cli in CLIS {
        let said = host.cli(cli, ["push", &other]).fails(1, &missing);
        let said = format!("{}{}", said.stdout, said.stderr);
        assert!(!said.contains("index") && !said.contains("manifest list"), "{said}");
    }
    host.corten(["pull", "-q", &name]).ok();
    whole(&host);
    host.corten(["push", &other]).ok();
    host.corten(["save", "-o", &path, &name]).ok();
}

#[test]
fn a_store_without_a_daemon_is_left_as_it_is() {
    let mut host = Host::new();
    host.corten(["pull", "-q", "hello-world"]).ok();
    host.daemon(&["--check-store"]).fails(1, "is in use by another daemon");
    host.kill_daemon();
    fs::create_dir(host.data_root().join("layers/new-1-1-1")).expect("make");
    let list = |path: &Path| -> Vec<String> {
        let output = Command::new("find").arg(path).args(["-printf", "%p %s %T@\n"]).output().expect("find");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .filter(|line| !line.contains("meta.db") && !line.contains("/lock "))
            .map(str::to_owned)
            .collect()
    };
    let before = list(&host.data_root().join("layers"));
    let said = host.daemon(&["--check-store=quick"]).ok();
    assert!(said.contains("leftover: layers/new-1-1-1: nothing speaks of it"), "{said}");
    assert_eq!(list(&host.data_root().join("layers")), before);
    host.start_daemon();
    whole(&host);
    host.daemon(&["--check-store=some"]).fails(125, "invalid value 'some'");
}
