//! Images come from a registry: by tag and digest, for a platform, with credentials, over bad lines, onto full disks.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use kit::disk::SmallDisk;
use kit::faulty::{Fault, Faulty};
use kit::fixtures::{self, Image, Layout};
use kit::http::Answer;
use kit::registry::{Access, Registry, Setup};
use kit::{CLIS, Cli, Host, skip};

/// An image of some layers that do not compress.
fn noise(layers: u64, bytes: usize) -> Image {
    let layers = (1..=layers).map(|seed| fixtures::noise_layer(bytes, seed)).collect();
    Image::new(layers, serde_json::json!({"Cmd": ["true"]}))
}

/// The engine's images, as `name:tag`.
fn images(host: &Host, cli: Cli) -> Vec<String> {
    let list = host.cli(cli, ["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok();
    list.lines().map(str::to_owned).collect()
}

/// Files below a directory of the engine's.
fn files(host: &Host, below: &str) -> Vec<PathBuf> {
    let dir = host.data_root().join(below);
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Nothing of a pull is left: no image, no blob, no layer.
fn assert_clean(host: &Host) {
    assert_eq!(images(host, Cli::Corten), Vec::<String>::new());
    for below in ["content/blobs/sha256", "layers"] {
        assert_eq!(files(host, below), Vec::<PathBuf>::new(), "in {below}");
    }
}

#[test]
fn by_tag_by_digest_and_again() {
    let registry = Registry::start();
    let layout = Layout::new(&[fixtures::packings()]);
    let name = registry.push(&layout, "tools/box:1");
    let repository = format!("{}/tools/box", registry.host());
    let by_digest = format!("{repository}@{}", layout.digest);
    for cli in CLIS {
        let host = Host::new();
        let said = host.cli(cli, ["pull", &name]).ok();
        assert!(said.contains("Pulling from tools/box"), "{said}");
        assert!(said.contains(&format!("Digest: {}", layout.digest)), "{said}");
        assert!(said.contains(&format!("Status: Downloaded newer image for {name}")), "{said}");
        let said = host.cli(cli, ["pull", &name]).ok();
        assert!(said.contains(&format!("Status: Image is up to date for {name}")), "{said}");
        assert_eq!(host.cli(cli, ["pull", "--quiet", &by_digest]).ok(), by_digest);
        assert_eq!(host.cli(cli, ["inspect", "-f", "{{.Id}}", &name]).ok(), layout.digest);
        let run = ["run", "--rm", "--network", "none", &by_digest, "cat", "/plain", "/zstd"];
        assert_eq!(host.cli(cli, run).ok(), "plain\nzstd");
        assert_eq!(images(&host, cli), std::slice::from_ref(&name));
        host.cli(cli, ["rmi", &name]).ok();
        assert_clean(&host);
    }
}

#[test]
fn a_name_is_not_lent_to_what_its_registry_does_not_have() {
    let (registry, other) = (Registry::start(), Registry::start());
    let layout = Layout::new(&[noise(1, 1000)]);
    let name = registry.push(&layout, "a/b:1");
    let host = Host::new();
    host.corten(["pull", "-q", &name]).ok();
    let by_digest = |server: &str| format!("{server}/a/b@{}", layout.digest);
    // Nobody is there, and somebody who does not have it.
    host.corten(["pull", &by_digest("127.0.0.1:1")]).fails(1, "connection refused");
    host.corten(["pull", &by_digest(&other.host())]).fails(1, "not found");
    host.corten(["pull", "-q", &by_digest(&registry.host())]).ok();
    // What the name has led to before, it leads to.
    drop(registry);
    host.corten(["pull", "-q", &by_digest(name.split('/').next().unwrap())]).ok();
}

#[test]
fn all_tags_of_a_repository() {
    let registry = Registry::start();
    let (one, two) = (Layout::new(&[noise(1, 1000)]), Layout::new(&[noise(1, 2000)]));
    let names = [registry.push(&one, "many:1"), registry.push(&two, "many:2"), registry.push(&two, "many:b")];
    let repository = format!("{}/many", registry.host());
    for cli in CLIS {
        let host = Host::new();
        let said = host.cli(cli, ["pull", "--all-tags", &repository]).ok();
        for layout in [&one, &two] {
            assert!(said.contains(&format!("Digest: {}", layout.digest)), "{said}");
        }
        assert!(said.contains(&format!("Status: Downloaded newer image for {repository}")), "{said}");
        let mut there = images(&host, cli);
        there.sort();
        assert_eq!(there, names);
        let said = host.cli(cli, ["pull", "-a", &repository]).ok();
        assert!(said.contains(&format!("Status: Image is up to date for {repository}")), "{said}");
        host.cli(cli, ["pull", "-a", &names[0]]).fails(1, "tag can't be used with --all-tags/-a");
        host.cli(cli, ["pull", "-a", &format!("{}/none", registry.host())]).fails(1, "none not found");
    }
}

#[test]
fn for_a_platform() {
    let registry = Registry::start();
    let other = if fixtures::host_architecture() == "amd64" { "arm64" } else { "amd64" };
    let layout = Layout::new(&[fixtures::busybox(), fixtures::busybox_for(other)]);
    let name = registry.push(&layout, "multi:1");
    for cli in CLIS {
        let host = Host::new();
        let architecture =
            |name: &str| host.cli(cli, ["image", "inspect", "-f", "{{.Architecture}}", name]).ok();
        host.cli(cli, ["pull", "-q", "--platform", &format!("linux/{other}"), &name]).ok();
        assert_eq!(architecture(&name), other);
        host.cli(cli, ["pull", "-q", &name]).ok();
        assert_eq!(architecture(&name), fixtures::host_architecture());
        let cat = ["run", "--rm", "--network", "none", &name, "cat", "/etc/architecture"];
        assert_eq!(host.cli(cli, cat).ok(), fixtures::host_architecture());
        host.cli(cli, ["pull", "--platform", "linux/s390x", &name])
            .fails(1, "no matching manifest for linux/s390x in the manifest list entries");
        host.cli(cli, ["pull", "--platform", "amiga", &name]).fails(1, "amiga");
    }
}

/// Leaves credentials where `docker login` would.
fn log_in(host: &Host, registry: &str, pair: &str) {
    let auth = base64::engine::general_purpose::STANDARD.encode(pair);
    let config = serde_json::json!({"auths": {registry: {"auth": auth}}});
    fs::write(host.root().join("config/config.json"), config.to_string()).expect("write config.json");
}

#[test]
fn with_credentials() {
    let (username, password) = ("ann".to_owned(), "s3cret".to_owned());
    let basic = Access::Basic { username: username.clone(), password: password.clone() };
    let token = Access::Token { username, password };
    for (access, anonymous) in [
        (basic, "no basic auth credentials"),
        (
            token,
            "repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
        ),
    ] {
        let registry = Registry::with(Setup { access, tls: false });
        let name = registry.push(&Layout::new(&[noise(1, 1000)]), "secret/x:1");
        for cli in CLIS {
            let host = Host::new();
            host.cli(cli, ["pull", &name]).fails(1, anonymous);
            log_in(&host, &registry.host(), "ann:wrong");
            host.cli(cli, ["pull", &name]).fails(1, "");
            log_in(&host, &registry.host(), "ann:s3cret");
            assert_eq!(host.cli(cli, ["pull", "-q", &name]).ok(), name);
        }
    }
}

#[test]
fn over_tls() {
    let registry = Registry::with(Setup { access: Access::Open, tls: true });
    let name = registry.push(&Layout::new(&[noise(1, 1000)]), "x:1");
    assert_eq!(Host::new().corten(["pull", "-q", &name]).ok(), name);
}

#[test]
fn through_a_mirror() {
    let registry = Registry::start();
    registry.push(&Layout::new(&[noise(1, 1000)]), "library/thing:1");
    let host = Host::with_flags(&["--registry-mirror", &format!("http://{}", registry.host())]);
    for cli in CLIS {
        assert_eq!(host.cli(cli, ["pull", "-q", "thing:1"]).ok(), "docker.io/library/thing:1");
        assert_eq!(images(&host, cli), ["thing:1"]);
        // What a mirror does not have is asked for at its source.
        host.cli(cli, ["pull", "-q", "other:1"]).fails(1, "Get \"https://registry-1.docker.io/v2/\"");
        host.cli(cli, ["rmi", "thing:1"]).ok();
    }
    let info = host.corten(["info"]).ok();
    assert!(info.contains(&format!("http://{}/", registry.host())), "{info}");
}

#[test]
fn what_is_not_there_is_said_in_one_line() {
    let registry = Registry::start();
    registry.push(&Layout::new(&[noise(1, 1000)]), "x:1");
    let host = Host::new();
    let (here, nowhere) = (registry.host(), format!("127.0.0.1:{}", kit::registry::free_port()));
    for cli in CLIS {
        host.cli(cli, ["pull", &format!("{here}/x:2")])
            .fails(1, &format!("manifest for {here}/x:2 not found: manifest unknown: manifest unknown"));
        host.cli(cli, ["pull", &format!("{nowhere}/x")]).fails(
            1,
            &format!("Get \"http://{nowhere}/v2/\": dial tcp {nowhere}: connect: connection refused"),
        );
        host.cli(cli, ["pull", "nosuch.invalid/x"])
            .fails(1, "Get \"https://nosuch.invalid/v2/\": dial tcp: lookup nosuch.invalid");
        host.cli(cli, ["pull", "UPPER"]).fails(1, "repository name");
        host.cli(cli, ["pull", "a:b:c"]).fails(1, "invalid reference format");
        host.cli(cli, ["run", "--rm", "--network", "none", &format!("{nowhere}/x")])
            .fails(125, "connection refused");
    }
    assert_clean(&host);
}

#[test]
fn a_broken_connection_is_resumed_where_it_broke() {
    let registry = Registry::start();
    let image = noise(3, 1_000_000);
    registry.push(&Layout::new(std::slice::from_ref(&image)), "x:1");
    let faulty = Faulty::start(&registry.host());
    for layer in &image.layers {
        faulty.fault(&layer.digest(), Fault::CutAfter(600_000), 1);
    }
    faulty.fault("/manifests/", Fault::Instead(Answer::new(503, "text/plain", "")), 1);
    let host = Host::new();
    let name = format!("{}/x:1", faulty.host());
    assert_eq!(host.corten(["pull", "-q", &name]).ok(), name);
    let size: u64 = image.layers.iter().map(|layer| layer.bytes.len() as u64).sum();
    assert!(faulty.sent("/blobs/") < size + 10_000, "something was fetched twice");
}

#[test]
fn a_killed_daemons_pull_is_resumed_by_the_next() {
    let registry = Registry::start();
    let image = noise(1, 8_000_000);
    registry.push(&Layout::new(std::slice::from_ref(&image)), "x:1");
    let layer = image.layers[0].digest();
    let faulty = Faulty::start(&registry.host());
    faulty.fault(&layer, Fault::Hold(6_000_000), 1);
    let mut host = Host::new();
    let name = format!("{}/x:1", faulty.host());
    let pull = host.corten(["pull", &name]).spawn();
    faulty.wait_held(1);
    let ingest = host.data_root().join(format!("content/ingest/sha256-{}/data", &layer[7..]));
    kit::wait_for("most of the layer on the disk", || {
        fs::metadata(&ingest).is_ok_and(|data| data.len() > 5_000_000).then_some(())
    });
    host.kill_daemon();
    assert_ne!(pull.wait().code, 0);
    host.start_daemon();
    assert_eq!(images(&host, Cli::Corten), Vec::<String>::new());
    assert_eq!(host.corten(["pull", "-q", &name]).ok(), name);
    let resumed =
        faulty.asked().into_iter().rfind(|asked| asked.path.ends_with(&layer)).expect("a second request");
    let range = resumed.range.expect("a range");
    let from: u64 = range.trim_start_matches("bytes=").trim_end_matches('-').parse().expect("a number");
    assert!(from > 5_000_000, "began again at {from}");
}

#[test]
fn two_pulls_of_the_same_share_what_is_downloaded() {
    let registry = Registry::start();
    let image = noise(2, 2_000_000);
    registry.push(&Layout::new(std::slice::from_ref(&image)), "x:1");
    let layer = image.layers[0].digest();
    let faulty = Faulty::start(&registry.host());
    faulty.fault(&layer, Fault::Hold(1_000_000), 1);
    let host = Host::new();
    let name = format!("{}/x:1", faulty.host());
    let one = host.corten(["pull", &name]).spawn();
    faulty.wait_held(1);
    let two = host.docker(["pull", &name]).spawn();
    kit::wait_for("the second pull's manifest", || {
        let asked = faulty.asked().into_iter().filter(|asked| asked.path.contains("/manifests/")).count();
        (asked >= 2).then_some(())
    });
    faulty.release();
    for pull in [one, two] {
        pull.wait().expect_code(0);
    }
    let asked = faulty.asked().into_iter().filter(|asked| asked.path.ends_with(&layer)).count();
    assert_eq!(asked, 1);
}

#[test]
fn corrupt_and_lying_content_is_refused_and_leaves_nothing() {
    let registry = Registry::start();
    let image = noise(2, 300_000);
    let layout = Layout::new(std::slice::from_ref(&image));
    registry.push(&layout, "x:1");
    let faulty = Faulty::start(&registry.host());
    let host = Host::new();
    let name = format!("{}/x:1", faulty.host());
    let layer = image.layers[1].digest();
    for cli in CLIS {
        faulty.fault(&layer, Fault::Corrupt(200_000), 1);
        host.cli(cli, ["pull", &name]).fails(1, "failed to register layer");
        assert_clean(&host);
        faulty.fault(&layer, Fault::Header("content-length", Some("5".into())), 1);
        host.cli(cli, ["pull", &name]).fails(1, "failed verification");
        assert_clean(&host);
        let lie = Some(format!("sha256:{}", "1".repeat(64)));
        faulty.fault("/manifests/", Fault::Header("docker-content-digest", lie), 1);
        host.cli(cli, ["pull", &name]).fails(1, "failed verification");
        faulty.fault("/manifests/", Fault::Endless, 1);
        host.cli(cli, ["pull", &name]).fails(1, "larger than the limit");
        faulty.fault("/manifests/", Fault::Corrupt(40), 1);
        let by_digest = format!("{}/x@{}", faulty.host(), layout.digest);
        host.cli(cli, ["pull", &by_digest]).fails(1, "failed verification");
        assert_clean(&host);
    }
    // What was damaged on the registry's own disk.
    fs::write(registry.blob(&layer), "not a layer").expect("damage a blob");
    host.corten(["pull", &name]).fails(1, "");
    assert_clean(&host);
}

#[test]
fn sixty_layers_and_what_layers_can_say() {
    let registry = Registry::start();
    let many = registry.push(&Layout::new(&[fixtures::many_layers(60)]), "many:1");
    let odd = registry.push(&Layout::new(&[fixtures::odd_entries()]), "odd:1");
    let host = Host::new();
    let sh = |image: &str, script: &str| {
        host.corten(["run", "--rm", "--network", "none", image, "sh", "-c", script]).ok()
    };
    host.corten(["pull", "-q", &many]).ok();
    assert_eq!(sh(&many, "cat /n; ls -d /file-* | wc -l"), "5959");
    host.corten(["pull", "-q", &odd]).ok();
    assert_eq!(sh(&odd, "ls /d /o"), "/d:\nstays\n\n/o:\nshown");
    assert_eq!(
        sh(&odd, "stat -c %h /first; stat -c %u:%g /owned; test -p /pipe && echo pipe"),
        "2\n1000:100\npipe"
    );
}

/// Bytes in use on the file system of a path.
fn used(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).expect("statvfs");
    (stat.f_blocks - stat.f_bfree) * stat.f_frsize
}

#[test]
fn a_full_disk_is_said_and_emptied_again() {
    let Some(disk) = SmallDisk::mount("96M") else {
        skip("loop devices", "cannot mount a small file system");
        return;
    };
    let registry = Registry::start();
    let big = registry.push(&Layout::new(&[noise(3, 40_000_000)]), "big:1");
    let small = registry.push(&Layout::new(&[noise(1, 100_000)]), "small:1");
    let root = disk.path().join("data");
    let flags = ["--data-root".to_owned(), root.display().to_string()];
    let host = Host::with_flags(&[&flags[0], &flags[1]]);
    let before = used(&disk.path());
    for cli in CLIS {
        host.cli(cli, ["pull", &big]).fails(1, "no space left on device");
        assert_eq!(images(&host, cli), Vec::<String>::new());
    }
    kit::wait_for("unpacked files to go", || {
        let left = |below: &str| fs::read_dir(root.join(below)).expect(below).count();
        (left("layers") + left("trash") + left("content/ingest") == 0).then_some(())
    });
    assert!(used(&disk.path()) < before + 4_000_000, "something is left over");
    assert_eq!(host.corten(["pull", "-q", &small]).ok(), small);
    drop(host);
    drop(disk);
}
