use super::*;
use api::volume::List;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("tempdir") }
    }

    fn open(&self) -> (Store, Arc<Volumes>) {
        let store = Store::open(&self.dir.path().join("data")).expect("store");
        let volumes = Volumes::open(
            store.clone(),
            Arc::default(),
            plugin::Places { sockets: Vec::new(), specs: Vec::new() },
        )
        .expect("volumes");
        (store, Arc::new(volumes))
    }

    fn image(&self, layers: &[&str]) -> storage::Mounts {
        let base = self.dir.path().join("layers");
        for layer in layers {
            fs::create_dir_all(base.join(layer)).expect("mkdir");
        }
        let lower = layers.iter().map(|layer| (*layer).to_owned()).collect();
        storage::Mounts { lower_base: base, lower, upper: None, work: None }
    }
}

fn put_container(store: &Store, id: &str, volume: &str) {
    let json = format!(
        r#"{{"mounts":[{{"point":{{"Type":"volume","Name":"{volume}"}},"kind":{{"Tmpfs":{{"options":""}}}}}}]}}"#
    );
    let new = NewRecord { kind: CONTAINER, id, name: None, json: json.as_bytes() };
    store.transaction(|tx| tx.put_record(&new)).expect("put");
}

fn filters(json: &str) -> Filters {
    Filters::parse(json).expect("filters")
}

#[tokio::test]
async fn from_creation_to_removal() {
    let world = World::new();
    let (store, volumes) = world.open();
    let request = CreateRequest {
        name: "pg".into(),
        labels: BTreeMap::from([("a".into(), "b".into())]),
        ..CreateRequest::default()
    };
    let made = volumes.create(request.clone()).await.expect("create");
    assert_eq!((made.name.as_str(), made.driver.as_str(), made.scope.as_str()), ("pg", "local", "local"));
    assert!(Path::new(&made.mountpoint).ends_with("volumes/pg/_data"));
    assert_eq!(fs::metadata(&made.mountpoint).expect("data").permissions().mode() & 0o7777, 0o755);
    assert_eq!(volumes.create(request).await.expect("again"), made);
    let anonymous = volumes.create(CreateRequest::default()).await.expect("anonymous");
    assert_eq!(anonymous.name.len(), 64);

    put_container(&store, "c1", "pg");
    let error = volumes.remove("pg", false).await.expect_err("in use");
    assert_eq!(error.to_string(), "remove pg: volume is in use - [c1]");
    assert_eq!(error.kind(), crate::Kind::Conflict);
    let names = |list: List| list.volumes.into_iter().map(|volume| volume.name).collect::<Vec<_>>();
    let list = |json: &str| volumes.list(filters(json));
    assert_eq!(
        names(list(r#"{"dangling":["true"]}"#).await.expect("list")),
        std::slice::from_ref(&anonymous.name)
    );
    assert_eq!(names(list(r#"{"dangling":["false"]}"#).await.expect("list")), ["pg"]);
    assert_eq!(names(list(r#"{"label":["a=b"],"name":["p"]}"#).await.expect("list")), ["pg"]);
    assert!(names(list(r#"{"driver":["other"]}"#).await.expect("list")).is_empty());
    assert!(list(r#"{"colour":["red"]}"#).await.is_err());

    store.transaction(|tx| tx.delete_record(CONTAINER, "c1")).expect("delete");
    let report = volumes.prune(Filters::new()).await.expect("prune");
    assert_eq!(report.volumes_deleted, [anonymous.name]);
    let kept = volumes.prune(filters(r#"{"all":["true"],"label!":["a=b"]}"#)).await.expect("prune");
    assert!(kept.volumes_deleted.is_empty());
    let report = volumes.prune(filters(r#"{"all":["true"]}"#)).await.expect("prune");
    assert_eq!(report.volumes_deleted, ["pg"]);
    let error = volumes.remove("pg", false).await.expect_err("gone");
    assert_eq!(error.to_string(), "get pg: no such volume");
    volumes.remove("pg", true).await.expect("forced");
    assert_eq!(fs::read_dir(&volumes.directory).expect("list").count(), 0);
}

#[tokio::test]
async fn a_container_that_cannot_be_read_keeps_the_volumes_it_names() {
    let world = World::new();
    let (store, volumes) = world.open();
    for name in ["kept", "loose"] {
        volumes.ensure_blocking(name, New::default()).expect("make");
    }
    for (id, json) in [("c1", r#"{"mounts":[{"volume":"kept","form":"of tomorrow"}]}"#), ("c2", "\u{0}torn")]
    {
        let new = NewRecord { kind: CONTAINER, id, name: None, json: json.as_bytes() };
        store.transaction(|tx| tx.put_record(&new)).expect("put");
    }
    let error = volumes.remove("kept", false).await.expect_err("in use");
    assert_eq!(error.to_string(), "remove kept: volume is in use - [c1]");
    let report = volumes.prune(filters(r#"{"all":["true"]}"#)).await.expect("prune");
    assert_eq!(report.volumes_deleted, ["loose"]);
}

fn anonymous_mount(name: &str) -> MountRecord {
    let json = format!(
        r#"{{"point":{{"Type":"volume","Name":"{name}"}},"kind":{{"Volume":{{"anonymous":true,"no_copy":false,"subpath":""}}}}}}"#
    );
    serde_json::from_str(&json).expect("mount")
}

#[test]
fn a_volume_for_a_container_that_did_not_come_to_be_is_cleared_away() {
    let world = World::new();
    let (store, volumes) = world.open();
    let make = || volumes.make_anonymous(New::default()).expect("make");
    let (killed, failed, kept) = (make(), make(), make());
    volumes.give_up(&failed).expect("give up");
    store.transaction(|tx| record(tx, &kept)).expect("record");
    assert!(volumes.all().expect("all").into_keys().eq([kept.name.clone()]));
    assert!(Path::new(&killed.mountpoint).exists() && !Path::new(&failed.mountpoint).exists());
    drop((store, volumes));
    let (_store, volumes) = world.open();
    assert_eq!(listed(&volumes.directory), [kept.name]);
}

#[tokio::test]
async fn a_removal_that_was_interrupted_is_finished_at_the_next_start() {
    let world = World::new();
    let (store, volumes) = world.open();
    let make = |name| {
        let made = volumes.ensure_blocking(name, New::default()).expect("make");
        fs::write(Path::new(&made.mountpoint).join("file"), "x").expect("write");
        made.name
    };
    let (own, shared, released, again) = (make(""), make(""), make(""), make("again"));
    put_container(&store, "other", &shared);
    let mounts = [&own, &shared, &released].map(|name| anonymous_mount(name));
    store.transaction(|tx| doom_anonymous(tx, &mounts)).expect("doom");
    assert_eq!(volumes.inspect(&own).await.expect_err("gone").kind(), crate::Kind::NotFound);
    volumes.inspect(&shared).await.expect("in use");
    volumes.released(&released, true).await.expect("release");
    assert!(!volumes.directory.join(&released).exists());
    // One that is made anew is not removed for what the name stood for before.
    store.transaction(|tx| doom(tx, &again)).expect("doom");
    assert!(volumes.ensure_blocking(&again, New::default()).expect("make").new);
    drop((store, volumes));

    let (store, volumes) = world.open();
    let mut left = [shared, again];
    left.sort();
    assert_eq!(listed(&volumes.directory), left);
    assert!(store.transaction(|tx| tx.records(DOOMED)).expect("records").is_empty());
}

#[tokio::test]
async fn odd_names_and_drivers_are_refused() {
    let world = World::new();
    let (_store, volumes) = world.open();
    for name in ["x", "../etc", "/abs", ".removing-1", "a/b", "a b", "", "\0\0"]
        .iter()
        .filter(|name| !name.is_empty())
    {
        let request = CreateRequest { name: (*name).into(), ..CreateRequest::default() };
        assert_eq!(
            volumes.create(request).await.expect_err(name).kind(),
            crate::Kind::InvalidParameter,
            "{name}"
        );
    }
    let request = CreateRequest { name: "vv".into(), driver: "rexray".into(), ..CreateRequest::default() };
    let error = volumes.create(request).await.expect_err("driver");
    assert!(error.to_string().contains("plugin \"rexray\" not found"), "{error}");
    let request = CreateRequest {
        name: "vv".into(),
        driver_opts: BTreeMap::from([("size".into(), "1g".into())]),
        ..CreateRequest::default()
    };
    assert!(volumes.create(request).await.is_err());
    assert_eq!(fs::read_dir(&volumes.directory).expect("list").count(), 0);
}

#[test]
fn the_image_is_copied_as_it_is_and_once() {
    let world = World::new();
    let (_store, volumes) = world.open();
    let image = world.image(&["2", "1"]);
    let [top, bottom] = ["2", "1"].map(|layer| image.lower_base.join(layer));
    fs::create_dir_all(bottom.join("srv/data/sub")).expect("mkdir");
    fs::create_dir_all(top.join("srv/data")).expect("mkdir");
    fs::write(bottom.join("srv/data/file"), "old").expect("write");
    fs::write(top.join("srv/data/file"), "new").expect("write");
    fs::write(bottom.join("srv/data/sub/suid"), "x").expect("write");
    fs::set_permissions(bottom.join("srv/data/sub/suid"), fs::Permissions::from_mode(0o4711)).expect("chmod");
    std::os::unix::fs::chown(top.join("srv/data"), Some(70), Some(71)).expect("chown");
    fs::set_permissions(top.join("srv/data"), fs::Permissions::from_mode(0o700)).expect("chmod");
    fs::hard_link(top.join("srv/data/file"), top.join("srv/data/second")).expect("link");
    symlink("/etc/passwd", top.join("srv/data/link")).expect("symlink");
    symlink("srv", top.join("alias")).expect("symlink");
    sys::path::Root::open(top.join("srv/data"))
        .and_then(|root| {
            root.mknod("fifo", sys::fsx::FileType::Fifo, sys::path::Mode::from_raw_mode(0o600), 0)
        })
        .expect("mkfifo");

    let made = volumes.ensure_blocking("vol", New::default()).expect("make");
    assert!(made.new);
    volumes.copy_up_blocking("vol", &image, "/alias/../alias/data").expect("copy");
    let data = PathBuf::from(&made.mountpoint);
    assert_eq!(fs::read(data.join("file")).expect("read"), b"new");
    let stat = |name: &str| fs::symlink_metadata(data.join(name)).expect("stat");
    assert_eq!(stat("file").ino(), stat("second").ino());
    assert_eq!(stat("sub/suid").mode() & 0o7777, 0o4711);
    assert!(stat("fifo").file_type().is_fifo() && stat("link").file_type().is_symlink());
    assert_eq!((stat(".").uid(), stat(".").gid(), stat(".").mode() & 0o7777), (70, 71, 0o700));

    fs::remove_file(data.join("file")).expect("remove");
    volumes.copy_up_blocking("vol", &image, "/srv/data").expect("copy");
    assert!(!data.join("file").exists(), "what is not empty stays as it is");
    let error = volumes
        .ensure_blocking("other", New::default())
        .and_then(|_| volumes.copy_up_blocking("other", &image, "/srv/data/file"));
    assert!(error.expect_err("a file").to_string().contains("cannot mount volume over existing file"));
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(".image"), "nothing is left mounted");
}

fn listed(dir: impl AsRef<Path>) -> Vec<String> {
    let names = fs::read_dir(dir).expect("list").map(|entry| entry.expect("entry").file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_copy_that_was_interrupted_is_done_again_or_to_its_end() {
    let world = World::new();
    let (_store, volumes) = world.open();
    let image = world.image(&["1"]);
    fs::create_dir_all(image.lower_base.join("1/data/sub")).expect("mkdir");
    fs::write(image.lower_base.join("1/data/file"), "x").expect("write");
    let make = |name| {
        let made = volumes.ensure_blocking(name, New::default()).expect("make");
        PathBuf::from(made.mountpoint)
    };
    let copy = |name| volumes.copy_up_blocking(name, &image, "/data");

    let data = make("begun");
    fs::create_dir_all(data.with_file_name(copy::FILLING).join("sub")).expect("mkdir");
    fs::write(data.with_file_name(copy::FILLING).join("half"), "").expect("write");
    copy("begun").expect("copy");
    assert_eq!(listed(&data), ["file", "sub"]);
    assert_eq!(listed(data.with_file_name("")), ["_data"]);

    // All of it was there and some of it was moved; a container has made the same name since.
    let data = make("moving");
    fs::create_dir(data.with_file_name(copy::FILLED)).expect("mkdir");
    for name in ["file", "other"] {
        fs::write(data.with_file_name(copy::FILLED).join(name), "x").expect("write");
    }
    fs::write(data.join("other"), "mine").expect("write");
    copy("moving").expect("copy");
    assert_eq!(listed(&data), ["file", "other"]);
    assert_eq!(fs::read(data.join("other")).expect("read"), b"mine");
    assert_eq!(listed(data.with_file_name("")), ["_data"]);

    // Given up for good: somebody else has filled the volume.
    let data = make("filled");
    fs::write(data.join("own"), "").expect("write");
    fs::create_dir(data.with_file_name(copy::FILLING)).expect("mkdir");
    copy("filled").expect("nothing to copy");
    assert_eq!(listed(data.with_file_name("")), ["_data"]);
    assert_eq!(listed(&data), ["own"]);
}

#[test]
fn a_copy_that_fails_leaves_nothing_and_the_next_one_succeeds() {
    let world = World::new();
    let (_store, volumes) = world.open();
    let image = world.image(&["1"]);
    let deep = image.lower_base.join("1/data/a").join(["d"; 600].join("/"));
    fs::create_dir_all(deep).expect("mkdir");
    let made = volumes.ensure_blocking("vol", New::default()).expect("make");
    let data = Path::new(&made.mountpoint);
    volumes.copy_up_blocking("vol", &image, "/data").expect_err("too deep");
    assert!(listed(data).is_empty());
    assert_eq!(listed(data.with_file_name("")), ["_data"]);
    fs::write(image.lower_base.join("1/data/a/file"), "").expect("write");
    volumes.copy_up_blocking("vol", &image, "/data/a/d").expect_err("too deep still");
    fs::remove_dir_all(image.lower_base.join("1/data/a/d")).expect("remove");
    volumes.copy_up_blocking("vol", &image, "/data/a").expect("copy");
    assert_eq!(listed(data), ["file"]);
}

#[test]
fn nobody_waits_for_a_copy_into_another_volume_or_where_nothing_is_to_be_copied() {
    let world = World::new();
    let (_store, volumes) = world.open();
    let image = world.image(&["1"]);
    fs::create_dir_all(image.lower_base.join("1/data/sub")).expect("mkdir");
    for name in ["busy", "free"] {
        volumes.ensure_blocking(name, New::default()).expect("make");
    }
    let turn = volumes.turns.of("busy");
    let _busy = turns::lock(&turn);
    volumes.copy_up_blocking("free", &image, "/data").expect("copy");
    assert_eq!(listed(volumes.data("free")), ["sub"]);
    fs::write(volumes.data("busy").join("file"), "").expect("write");
    volumes.copy_up_blocking("busy", &image, "/data").expect("not empty");
}

#[test]
fn nothing_of_the_host_gets_into_a_volume() {
    let world = World::new();
    let (_store, volumes) = world.open();
    let image = world.image(&["2", "1"]);
    let host = world.dir.path().join("host");
    fs::create_dir(&host).expect("mkdir");
    fs::write(host.join("canary"), "secret").expect("write");
    let top = image.lower_base.join("2");
    symlink(&host, top.join("abs")).expect("symlink");
    symlink("../../../host", top.join("up")).expect("symlink");
    for (number, destination) in
        ["/abs", "/up", "/../../host", "/../../../../../../etc", "/abs/../host"].iter().enumerate()
    {
        let name = format!("vol{number}");
        let made = volumes.ensure_blocking(&name, New::default()).expect("make");
        let _ = volumes.copy_up_blocking(&name, &image, destination);
        assert_eq!(fs::read_dir(made.mountpoint).expect("list").count(), 0, "{destination}");
    }
    assert_eq!(fs::read(host.join("canary")).expect("read"), b"secret");
}

#[test]
fn options_are_mounted_while_in_use() {
    let world = World::new();
    let (_store, volumes) = world.open();
    let source = world.dir.path().join("source");
    fs::create_dir(&source).expect("mkdir");
    fs::write(source.join("file"), "x").expect("write");
    let options =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let device = source.to_str().expect("utf8");
    let bind = options(&[("type", "none"), ("o", "bind,ro"), ("device", device)]);
    volumes.ensure_blocking("bound", New { options: bind, ..New::default() }).expect("make");
    let memory = options(&[("type", "tmpfs"), ("o", "size=1m,mode=0751,noexec"), ("device", "tmpfs")]);
    volumes.ensure_blocking("memory", New { options: memory, ..New::default() }).expect("make");
    let missing = options(&[("type", "none"), ("o", "bind"), ("device", "/not/there")]);
    volumes.ensure_blocking("missing", New { options: missing, ..New::default() }).expect("make");
    if let Err(error) = volumes.hold_blocking("bound", "c1") {
        println!("skipped: needs the capability to mount (CAP_SYS_ADMIN): {error}");
        return;
    }
    let bound = volumes.hold_blocking("bound", "c1").expect("again");
    assert_eq!(fs::read(bound.join("file")).expect("read"), b"x");
    assert_eq!(
        fs::write(bound.join("new"), "").expect_err("read-only").kind(),
        std::io::ErrorKind::ReadOnlyFilesystem
    );
    let memory = volumes.hold_blocking("memory", "c1").expect("mount");
    assert_eq!(fs::metadata(&memory).expect("stat").mode() & 0o7777, 0o751);
    let error = volumes.hold_blocking("missing", "c1").expect_err("missing");
    assert!(error.to_string().contains("failed to mount local volume: mount /not/there:"), "{error}");
    // Another container keeps it mounted, until it is gone as well.
    volumes.hold_blocking("memory", "c2").expect("mount");
    fs::write(memory.join("kept"), "").expect("write");
    volumes.let_go_blocking(["memory"], "c1");
    assert!(memory.join("kept").exists());
    // What is mounted somewhere is never emptied by removing what is above it.
    let error = sys::fsx::remove_tree(open_root(&volumes.directory).expect("open"), "memory");
    assert!(error.is_err() && memory.join("kept").exists());
    volumes.let_go_blocking(["memory"], "c2");
    assert!(!options::is_mounted(&memory).expect("look"));
    // What a daemon did not get to is settled by the next.
    volumes.hold_blocking("memory", "c3").expect("mount");
    volumes.hold_blocking("memory", "alive").expect("mount");
    volumes.settle_holds(&|id| id == "alive").expect("settle");
    assert!(options::is_mounted(&memory).expect("look"));
    volumes.settle_holds(&|_| false).expect("settle");
    assert!(!options::is_mounted(&memory).expect("look"));
    volumes.remove_blocking("bound", false).expect("remove");
    volumes.remove_blocking("memory", false).expect("remove");
    assert_eq!(fs::read(source.join("file")).expect("the source stays"), b"x");
    assert!(!memory.exists());
}

#[test]
fn what_is_removed_and_made_at_once_is_whole_or_not_there() {
    let world = World::new();
    let (_store, volumes) = world.open();
    for _ in 0..200 {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| volumes.ensure_blocking("v", New::default()).map(drop));
                scope.spawn(|| volumes.remove_blocking("v", false));
            }
        });
        let known = volumes.find("v").expect("look").is_some();
        assert_eq!(known, volumes.data("v").exists(), "a record without files, or files without a record");
    }
}

#[tokio::test]
async fn what_was_interrupted_is_cleared_away_and_data_is_not() {
    let world = World::new();
    let (_, volumes) = world.open();
    let directory = volumes.directory.clone();
    volumes.ensure_blocking("kept", New::default()).expect("make");
    drop(volumes);
    fs::create_dir_all(directory.join(".removing-1/_data/deep")).expect("mkdir");
    fs::create_dir_all(directory.join("half/_data")).expect("mkdir");
    fs::create_dir_all(directory.join("precious/_data")).expect("mkdir");
    fs::write(directory.join("precious/_data/file"), "x").expect("write");
    let (store, volumes) = world.open();
    let mut left: Vec<_> =
        fs::read_dir(&directory).expect("list").map(|e| e.expect("entry").file_name()).collect();
    left.sort();
    assert_eq!(left, ["kept", "precious"]);
    // A volume of the same name takes the directory over, with what is in it.
    let made = volumes.ensure_blocking("precious", New::default()).expect("make");
    assert!(made.new && Path::new(&made.mountpoint).join("file").exists());
    store.wait_for_removals();
    assert!(store.wait_until_idle(&oci::Digest::from_sha256([0; 32]), Duration::ZERO));
}
