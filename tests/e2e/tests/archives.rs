//! Images as archives: saved, loaded, imported; by other tools' archives and for other tools; hostile and broken ones.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use kit::fixtures::{self, Entry, Image, Layer, Layout, Packing};
use kit::registry::Registry;
use kit::{CLIS, Cli, Cmd, Host, wait_for};
use serde_json::{Value, json};

#[path = "archives/hostile.rs"]
mod hostile;
#[path = "archives/peers.rs"]
mod peers;

/// The engine's images, as `name:tag`, sorted.
fn images(host: &Host) -> Vec<String> {
    let list = host.corten(["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok();
    let mut list: Vec<String> = list.lines().map(str::to_owned).collect();
    list.sort();
    list
}

/// Removes all images, and sees to it that nothing of them is left.
fn remove_all(host: &Host) {
    for name in images(host) {
        host.corten(["rmi", "--force", &name]).ok();
    }
    assert_clean(host);
}

/// Names of the files below a directory of the engine's.
fn files(host: &Host, below: &str) -> Vec<PathBuf> {
    let dir = host.data_root().join(below);
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// No image is there, and no blob, no layer, nothing on its way.
fn assert_clean(host: &Host) {
    assert_eq!(host.corten(["images", "-aq"]).ok(), "");
    for below in ["content/blobs/sha256", "content/ingest", "content/new", "layers"] {
        assert_eq!(files(host, below), Vec::<PathBuf>::new(), "in {below}");
    }
}

/// A file of an archive.
fn member(archive: &Path, name: &str) -> Value {
    let path = archive.display().to_string();
    let text = Cmd::new("tar").args(["-xOf", &path, name]).ok();
    serde_json::from_str(&text).expect("JSON in the archive")
}

fn inspect(host: &Host, name: &str, format: &str) -> String {
    host.corten(["image", "inspect", "--format", format, name]).ok()
}

#[test]
fn several_images_go_out_and_come_back_the_same() {
    let host = Host::new();
    host.give(&fixtures::packings(), "packings:1");
    host.give(&fixtures::odd_entries(), "odd:2");
    let ids: Vec<String> = ["packings:1", "odd:2"].map(|name| inspect(&host, name, "{{.Id}}")).to_vec();
    host.corten(["tag", "odd:2", "reg.example/team/odd:3"]).ok();
    let archive = host.root().join("both.tar");
    let path = archive.display().to_string();
    for cli in CLIS {
        host.cli(cli, ["save", "-o", &path, "packings:1", "odd:2", "reg.example/team/odd:3"]).ok();
        let index = member(&archive, "index.json");
        let names: Vec<&str> = index["manifests"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|entry| entry["annotations"]["io.containerd.image.name"].as_str())
            .collect();
        assert_eq!(
            names,
            ["docker.io/library/packings:1", "docker.io/library/odd:2", "reg.example/team/odd:3"]
        );
        let docker = member(&archive, "manifest.json");
        assert_eq!(docker[1]["RepoTags"], json!(["odd:2", "reg.example/team/odd:3"]));
        assert_eq!(docker.as_array().map(Vec::len), Some(2));
        remove_all(&host);
        let said = host.cli(cli, ["load", "-i", &path]).ok();
        assert_eq!(
            said,
            "Loaded image: packings:1\nLoaded image: odd:2\nLoaded image: reg.example/team/odd:3"
        );
        for (name, id) in ["packings:1", "odd:2"].iter().zip(&ids) {
            assert_eq!(&inspect(&host, name, "{{.Id}}"), id);
        }
        let run = ["run", "--rm", "--network", "none", "packings:1", "cat", "/plain", "/zstd"];
        assert_eq!(host.cli(cli, run).ok(), "plain\nzstd");
    }
    // Again: nothing is new, and nothing is lost.
    host.corten(["load", "-i", &path]).ok();
    assert_eq!(images(&host).len(), 3);
}

#[test]
fn what_is_saved_is_the_same_every_time_and_every_form_comes_back() {
    let host = Host::with_busybox();
    let id = inspect(&host, "busybox", "{{.Id}}");
    let save = |name: &str, more: &[&str]| {
        let path = host.root().join(name).display().to_string();
        host.corten([&["save", "-o", &path], more, &["busybox"]].concat()).ok();
        path
    };
    let (one, two) = (save("one.tar", &[]), save("two.tar", &[]));
    assert!(fs::read(one).expect("an archive") == fs::read(two).expect("an archive"));
    for (more, same) in [
        (&["--format", "oci"][..], true),
        (&["--format", "docker"], false),
        (&["--compress", "gzip"], true),
        (&["--compress", "zstd", "--format", "oci"], true),
    ] {
        let path = save("form.tar", more);
        let config = inspect(&host, "busybox", "{{.RootFS.Layers}}");
        remove_all(&host);
        assert_eq!(host.corten(["load", "-qi", &path]).ok(), "Loaded image: busybox:latest");
        // Docker's form has no manifest: it is made anew. Configuration and layers are what they were.
        assert_eq!(inspect(&host, "busybox", "{{.Id}}") == id, same, "{more:?}");
        assert_eq!(inspect(&host, "busybox", "{{.RootFS.Layers}}"), config);
        let again = host.corten(["load", "-qi", &save("again.tar", &[])]).ok();
        assert_eq!(again, "Loaded image: busybox:latest");
        if !same {
            remove_all(&host);
            host.pull_busybox();
        }
    }
    host.corten(["save", "--format", "zip", "busybox"]).fails(1, "unknown format");
    host.corten(["save", "--compress", "xz", "busybox"]).fails(1, "unknown compression");
}

#[test]
fn platforms_are_saved_and_loaded_apart_and_together() {
    let other = if fixtures::host_architecture() == "amd64" { "arm64" } else { "amd64" };
    let registry = Registry::start();
    let layout = Layout::new(&[fixtures::busybox(), fixtures::busybox_for(other)]);
    let name = registry.push(&layout, "multi:1");
    let host = Host::new();
    let (platform, own) = (format!("linux/{other}"), format!("linux/{}", fixtures::host_architecture()));
    host.corten(["pull", "-q", &name]).ok();
    host.corten(["save", "--platform", &platform, "-o", "/dev/null", &name])
        .fails(1, "does not provide the specified platform");
    host.corten(["pull", "-q", "--platform", &platform, &name]).ok();
    let path = |file: &str| host.root().join(file).display().to_string();
    let (all, single) = (path("all.tar"), path("single.tar"));
    host.docker(["save", "-o", &all, &name]).ok();
    for cli in CLIS {
        host.cli(cli, ["save", "--platform", &platform, "-o", &single, &name]).ok();
        host.corten(["rmi", "--force", &name]).ok();
        host.cli(cli, ["load", "-qi", &single]).ok();
        assert_eq!(inspect(&host, &name, "{{.Architecture}}"), other);
        assert_eq!(inspect(&host, &name, "{{.Id}}"), layout.manifests[1]);
        host.corten(["rmi", "--force", &name]).ok();
        host.cli(cli, ["load", "-qi", &all, "--platform", &platform]).ok();
        assert_eq!(inspect(&host, &name, "{{.Id}}"), layout.digest);
        assert_eq!(inspect(&host, &name, "{{.Architecture}}"), other);
        host.cli(cli, ["load", "-qi", &all, "--platform", "linux/s390x"])
            .fails(1, "requested platform (linux/s390x) not found");
        // The platform that is missing comes to the one that is here.
        host.cli(cli, ["load", "-qi", &all, "--platform", &own]).ok();
        assert_eq!(inspect(&host, &name, "{{.Architecture}}"), fixtures::host_architecture());
        host.corten(["rmi", "--force", &name]).ok();
        host.cli(cli, ["load", "-qi", &all]).ok();
        assert_eq!(inspect(&host, &name, "{{.Id}}"), layout.digest);
        assert_eq!(inspect(&host, &name, "{{.Architecture}}"), fixtures::host_architecture());
    }
    assert_eq!(files(&host, "content/blobs/sha256").len(), 7);
}

#[test]
fn by_id_there_is_no_name_and_by_repository_there_are_all() {
    let host = Host::with_busybox();
    host.corten(["tag", "busybox", "busybox:two"]).ok();
    let id = inspect(&host, "busybox", "{{.Id}}");
    let archive = host.root().join("a.tar");
    let path = archive.display().to_string();
    for cli in CLIS {
        host.cli(cli, ["save", "-o", &path, &id]).ok();
        assert_eq!(member(&archive, "manifest.json")[0]["RepoTags"], Value::Null);
        assert_eq!(host.cli(cli, ["load", "-i", &path]).ok(), format!("Loaded image ID: {id}"));
        host.cli(cli, ["save", "-o", &path, "busybox"]).ok();
        let tags = json!(["busybox:latest", "busybox:two"]);
        assert_eq!(member(&archive, "manifest.json")[0]["RepoTags"], tags);
        host.cli(cli, ["save", "-o", &path, "nothing"]).fails(1, "No such image: nothing:latest");
    }
    assert!(archive.exists(), "what was there is not lost to a failure");
}

#[test]
fn a_terminal_and_a_missing_folder_are_refused() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let terminal = host.terminal(cli, &["save", "busybox"]);
        terminal.expect("cowardly refusing to save to a terminal. Use the -o flag or redirect");
        host.cli(cli, ["save", "-o", "/no/such/folder/x.tar", "busybox"]).fails(1, "invalid output path");
        host.cli(cli, ["load", "-i", "/no/such/file"]).fails(1, "no such file or directory");
    }
}

#[test]
fn a_root_filesystem_is_imported_with_changes() {
    let host = Host::new();
    let tar = fixtures::tar(&fixtures::busybox_entries());
    for (number, packing) in [Packing::Plain, Packing::Gzip, Packing::Zstd].into_iter().enumerate() {
        let path = host.root().join(format!("rootfs{number}")).display().to_string();
        fs::write(&path, Layer::of_tar(&tar, packing).bytes).expect("write an archive");
        for cli in CLIS {
            let name = format!("made:{number}");
            let change = ["--change", "CMD [\"echo\", \"it runs\"]", "-c", "ENV A=\"b c\" PATH=/bin"];
            let args = [&["import"][..], &change, &["-m", "a remark", &path, &name]].concat();
            let id = host.cli(cli, args).ok();
            assert_eq!(inspect(&host, &name, "{{.Id}}"), id);
            assert_eq!(inspect(&host, &name, "{{.Comment}}|{{.Config.Env}}"), "a remark|[A=b c PATH=/bin]");
            assert_eq!(host.cli(cli, ["run", "--rm", "--network", "none", &name]).ok(), "it runs");
        }
    }
    let from_pipe = host.corten(["import", "-", "piped"]).stdin(tar.clone()).ok();
    assert_eq!(inspect(&host, "piped", "{{.Id}}"), from_pipe);
    for (change, told) in [
        ("RUN x", "RUN is not a valid change command"),
        ("EXPOSE x", "invalid containerPort: x"),
        ("ENV A", "ENV must have two arguments"),
    ] {
        for cli in CLIS {
            host.cli(cli, ["import", "-c", change, "-"]).stdin(tar.clone()).fails(1, told);
        }
    }
    host.corten(["import", "-", "Bad"]).stdin(tar).fails(1, "must be lowercase");
}

#[test]
fn archives_are_read_as_every_program_has_compressed_them() {
    let host = Host::with_busybox();
    let id = inspect(&host, "busybox", "{{.Id}}");
    let path = host.root().join("plain.tar");
    host.corten(["save", "-o", &path.display().to_string(), "busybox"]).ok();
    let tree = host.root().join("tree.tar");
    fs::write(&tree, fixtures::tar(&fixtures::busybox_entries())).expect("write an archive");
    for program in ["gzip", "zstd", "xz", "bzip2"] {
        let packed = |path: &Path| {
            let output = Command::new(program).arg("-c").arg(path).output().expect("a compressor");
            assert!(output.status.success(), "{program}");
            output.stdout
        };
        for cli in CLIS {
            remove_all(&host);
            host.cli(cli, ["load"]).stdin(packed(&path)).ok();
            assert_eq!(inspect(&host, "busybox", "{{.Id}}"), id, "{program}");
            host.cli(cli, ["import", "-", "made"]).stdin(packed(&tree)).ok();
            let run = ["run", "--rm", "--network", "none", "made", "/bin/echo", "it runs"];
            assert_eq!(host.cli(cli, run).ok(), "it runs", "{program}");
            // The specifications have no name for layers that xz or bzip2 compressed: the image's is as it was before that.
            if matches!(program, "xz" | "bzip2") {
                let layer =
                    inspect(&host, "made", "{{index .RootFS.Layers 0}}").replace("sha256:", "blobs/sha256/");
                let saved = host.root().join("saved.tar");
                host.corten(["save", "-o", &saved.display().to_string(), "made"]).ok();
                let listed = Command::new("tar").arg("-tf").arg(&saved).output().expect("tar");
                let names = String::from_utf8_lossy(&listed.stdout).into_owned();
                assert!(names.lines().any(|name| name == layer), "{program}: no {layer} in {names}");
            }
        }
        let mut broken = packed(&tree);
        let middle = broken.len() / 2;
        broken[middle..].reverse();
        host.corten(["import", "-", "broken"]).stdin(broken).fails(1, "archive");
    }
}

#[test]
fn archives_are_their_writers_alone() {
    let host = Host::with_busybox();
    host.corten(["create", "--network", "none", "--name", "made", "busybox"]).ok();
    for cli in CLIS {
        for args in [["save", "busybox"], ["export", "made"]] {
            let path = host.root().join("archive.tar");
            host.cli(cli, [args[0], "-o", &path.display().to_string(), args[1]]).ok();
            let mode = fs::metadata(&path).expect("an archive").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{cli:?}: {args:?}");
            fs::remove_file(&path).expect("remove");
        }
    }
}

#[test]
fn a_url_is_imported_by_the_daemon() {
    let tar = fixtures::tar(&fixtures::busybox_entries());
    let size = tar.len();
    let answer = move |head: &kit::http::Head, _: &[u8]| {
        let file = |bytes: &[u8]| kit::http::Answer::new(200, "application/x-tar", bytes);
        let moved = |to: &str| kit::http::Answer::new(302, "text/plain", "").with("Location", to);
        match head.path() {
            "/rootfs.tar" => file(&tar),
            "/moved" => moved("/rootfs.tar"),
            "/round" => moved("/round"),
            "/short" => file(&tar[..size / 2]),
            _ => kit::http::Answer::new(404, "text/plain", "nothing"),
        }
    };
    let server = kit::http::Server::start(answer);
    let host = Host::new();
    let url = |path: &str| format!("http://{}{path}", server.address());
    for cli in CLIS {
        let said = host.cli(cli, ["import", &url("/moved"), "web"]).ok();
        assert!(said.ends_with(&inspect(&host, "web", "{{.Id}}")), "{said}");
        remove_all(&host);
        host.cli(cli, ["import", &url("/none"), "web"]).fails(1, "404");
        host.cli(cli, ["import", &url("/round"), "web"]).fails(1, "redirects");
        host.cli(cli, ["import", &url("/short"), "web"]).fails(1, "cut off");
        assert_clean(&host);
    }
    // Who asks, and with what key, is not for those who get the image.
    let secret = |path: &str| format!("http://ann:secret@{}{path}?token=secret", server.address());
    for cli in CLIS {
        let said = host.cli(cli, ["import", &secret("/rootfs.tar"), "web"]).run();
        assert!(
            said.code == 0 && said.stdout.contains(&url("/rootfs.tar")),
            "{}{}",
            said.stdout,
            said.stderr
        );
        assert_eq!(inspect(&host, "web", "{{.Comment}}"), format!("Imported from {}", url("/rootfs.tar")));
        let history = host.cli(cli, ["history", "--no-trunc", "web"]).ok();
        let mut told = vec![said.stdout, said.stderr, history];
        for wrong in [secret("/none"), secret("/short"), "http://ann:secret@host:port/x?secret".to_owned()] {
            let said = host.cli(cli, ["import", &wrong, "web"]).run();
            assert_ne!(said.code, 0, "{wrong}");
            told.extend([said.stdout, said.stderr]);
        }
        for text in told {
            assert!(!text.contains("secret") && !text.contains("ann"), "{text}");
        }
        remove_all(&host);
    }
}

#[test]
fn a_client_that_goes_ends_what_it_began() {
    let host = Host::new();
    host.give(&fixtures::bulky(30 << 20), "bulky");
    let mut saving = Command::new(kit::binary())
        .envs(host.environment())
        .args(["save", "bulky"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("corten runs");
    let mut first = [0; 1024];
    let out = saving.stdout.as_mut().expect("a pipe");
    std::io::Read::read_exact(out, &mut first).expect("an archive");
    saving.kill().expect("kill");
    saving.wait().expect("wait");
    // What it saved can go: nothing keeps it.
    let archive = host.root().join("bulky.tar");
    host.corten(["save", "-o", &archive.display().to_string(), "bulky"]).ok();
    host.corten(["rmi", "bulky"]).ok();
    wait_for("the end of the save", || {
        let _ = host.corten(["image", "prune", "-f"]).ok();
        files(&host, "content/blobs/sha256").is_empty().then_some(())
    });
    let bytes = fs::read(&archive).expect("an archive");
    let mut loading = host.corten(["load"]).spawn();
    loading.write(&bytes[..20 << 20]);
    wait_for("a layer under way", || (!files(&host, "content/ingest").is_empty()).then_some(()));
    loading.signal(rustix::process::Signal::KILL);
    let _ = loading.wait();
    wait_for("the end of the load", || files(&host, "layers").is_empty().then_some(()));
    wait_for("the end of what it was writing", || files(&host, "content/ingest").is_empty().then_some(()));
    assert_eq!(images(&host), Vec::<String>::new());
    assert_eq!(
        host.corten(["load", "-qi", &archive.display().to_string()]).ok(),
        "Loaded image: bulky:latest"
    );
    assert_eq!(files(&host, "content/ingest"), Vec::<PathBuf>::new());
}

#[test]
fn a_load_beside_one_that_breaks_off_is_whole() {
    let host = Host::new();
    host.give(&fixtures::bulky(30 << 20), "bulky");
    let archive = host.root().join("bulky.tar");
    host.corten(["save", "-o", &archive.display().to_string(), "bulky"]).ok();
    host.corten(["rmi", "bulky"]).ok();
    let bytes = fs::read(&archive).expect("an archive");
    let mut one = host.corten(["load"]).spawn();
    one.write(&bytes[..20 << 20]);
    wait_for("a layer under way", || (!files(&host, "content/ingest").is_empty()).then_some(()));
    // It comes to the layer that the first one is at, and has to wait for that or do it itself.
    let mut two = host.corten(["load", "-q"]).spawn();
    two.write(&bytes[..25 << 20]);
    one.signal(rustix::process::Signal::KILL);
    let _ = one.wait();
    two.write(&bytes[25 << 20..]);
    let output = two.wait();
    assert_eq!((output.code, output.stdout.trim()), (0, "Loaded image: bulky:latest"), "{}", output.stderr);
    host.corten(["system", "check"]).ok();
    wait_for("what the first one began to be gone", || {
        files(&host, "content/ingest").is_empty().then_some(())
    });
}

#[test]
fn a_daemon_that_dies_over_an_archive_leaves_nothing() {
    let mut host = Host::new();
    host.give(&fixtures::bulky(30 << 20), "bulky");
    let archive = host.root().join("bulky.tar");
    host.corten(["save", "-o", &archive.display().to_string(), "bulky"]).ok();
    host.corten(["rmi", "bulky"]).ok();
    let bytes = fs::read(&archive).expect("an archive");
    for part in [1 << 20, 8 << 20, 25 << 20] {
        let mut loading = host.corten(["load"]).spawn();
        loading.write(&bytes[..part]);
        wait_for("the load under way", || (!files(&host, "layers").is_empty()).then_some(()));
        host.kill_daemon();
        let _ = loading.wait();
        host.start_daemon();
        assert_eq!(host.corten(["images", "-aq"]).ok(), "");
        for below in ["content/blobs/sha256", "content/new", "layers"] {
            assert_eq!(files(&host, below), Vec::<PathBuf>::new(), "in {below} after {part}");
        }
    }
    // What it was writing may be gone on with, so it stays, but not for somebody who wants room.
    let prune = || host.corten(["image", "prune", "-f"]).ok();
    assert_eq!(prune(), "Total reclaimed space: 0B");
    let left = files(&host, "content/ingest");
    assert_eq!(left.len(), 1, "{left:?}");
    let data = fs::File::options().write(true).open(left[0].join("data")).expect("what was written");
    let before = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 60 * 60);
    data.set_modified(before).expect("make it older");
    assert!(!prune().ends_with(" 0B"));
    assert_eq!(files(&host, "content/ingest"), Vec::<PathBuf>::new());
    assert_eq!(
        host.corten(["load", "-qi", &archive.display().to_string()]).ok(),
        "Loaded image: bulky:latest"
    );
    host.corten(["run", "--rm", "--network", "none", "bulky", "true"]).ok();
}

/// An archive as Docker before 25 writes it: a folder for each layer.
pub(crate) fn docker_archive(image: &Image, tag: &str) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut paths = Vec::new();
    for (number, layer) in image.layers.iter().enumerate() {
        let id = format!("{number:x}").repeat(64);
        let path = format!("{}/layer.tar", &id[..60]);
        entries.push(Entry::dir(&id[..60]));
        entries.push(Entry::file(&path, &layer.bytes));
        paths.push(path);
    }
    let config = image.config_bytes();
    let name = format!("{}.json", &fixtures::digest(&config)[7..67]);
    entries.push(Entry::file(&name, &config));
    let manifest = json!([{"Config": name, "RepoTags": [tag], "Layers": paths}]);
    entries.push(Entry::file("manifest.json", manifest.to_string()));
    fixtures::tar(&entries)
}

/// Loads bytes.
pub(crate) fn load(host: &Host, cli: Cli, archive: Vec<u8>) -> Cmd {
    host.cli(cli, ["load"]).stdin(archive)
}
