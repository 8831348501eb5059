//! Images go to registries: by tag, all tags, for a platform, with credentials, compressed otherwise, over bad lines and
//! through a daemon's death.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use kit::faulty::{Fault, Faulty};
use kit::fixtures::{self, Image, Layout};
use kit::http::Answer;
use kit::registry::{Access, Registry, Setup};
use kit::{CLIS, Cli, Cmd, Host, wait_for};
use serde_json::{Value, json};

/// An image of some layers that do not compress.
fn noise(layers: u64, bytes: usize) -> Image {
    let layers = (1..=layers).map(|seed| fixtures::noise_layer(bytes, seed)).collect();
    Image::new(layers, json!({"Cmd": ["true"]}))
}

/// What skopeo finds at a registry under a name.
fn raw(name: &str) -> Value {
    let output =
        Cmd::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    serde_json::from_str(&output.ok()).expect("a manifest")
}

/// The digest that skopeo finds.
fn digest(name: &str) -> String {
    let args = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &format!("docker://{name}")];
    Cmd::new("skopeo").args(args).ok()
}

/// Leaves credentials where `docker login` would.
fn log_in(host: &Host, registry: &str, pair: &str) {
    let auth = base64::engine::general_purpose::STANDARD.encode(pair);
    let config = json!({"auths": {registry: {"auth": auth}}});
    fs::write(host.root().join("config/config.json"), config.to_string()).expect("write config.json");
}

#[test]
fn by_tag_all_tags_and_again() {
    for cli in CLIS {
        let (source, registry) = (Registry::start(), Registry::start());
        let layout = Layout::new(&[noise(3, 300_000)]);
        let from = source.push(&layout, "x:1");
        let repository = format!("{}/team/app", registry.host());
        let host = Host::new();
        host.cli(cli, ["pull", "-q", &from]).ok();
        for tag in ["1", "2", "latest"] {
            host.cli(cli, ["tag", &from, &format!("{repository}:{tag}")]).ok();
        }
        let said = host.cli(cli, ["push", &format!("{repository}:1")]).ok();
        assert!(said.starts_with(&format!("The push refers to repository [{repository}]\n")), "{said}");
        assert_eq!(said.matches(": Pushed").count(), 3, "{said}");
        let size = Image::manifest_bytes(&noise(3, 300_000)).len();
        let last = format!("1: digest: {} size: {size}", layout.digest);
        assert_eq!(said.lines().last(), Some(last.as_str()), "{said}");
        assert_eq!(digest(&format!("{repository}:1")), layout.digest);

        let said = host.cli(cli, ["push", &repository]).ok();
        assert!(said.starts_with("Using default tag: latest\nThe push refers to"), "{said}");
        assert_eq!(said.matches(": Layer already exists").count(), 3, "{said}");
        assert_eq!(host.cli(cli, ["push", "-q", &repository]).ok(), format!("{repository}:latest"));
        let said = host.cli(cli, ["image", "push", "--all-tags", &repository]).ok();
        for tag in ["1", "2", "latest"] {
            assert!(said.contains(&format!("{tag}: digest: {}", layout.digest)), "{said}");
            assert_eq!(digest(&format!("{repository}:{tag}")), layout.digest);
        }
        host.cli(cli, ["push", "-a", &format!("{repository}:1")])
            .fails(1, "tag can't be used with --all-tags/-a");
        host.cli(cli, ["push", &format!("{repository}:none")])
            .fails(1, &format!("An image does not exist locally with the tag: {repository}"));
        host.cli(cli, ["push", "-a", &format!("{}/none", registry.host())])
            .fails(1, &format!("An image does not exist locally with the tag: {}/none", registry.host()));
        host.cli(cli, ["push", &format!("{repository}@{}", layout.digest)])
            .fails(1, "cannot push a digest reference");
        host.cli(cli, ["push", "UPPER"]).fails(1, "must be lowercase");

        // A neighbour's blobs are mounted.
        let other = format!("{}/other:1", registry.host());
        host.cli(cli, ["tag", &from, &other]).ok();
        let said = host.cli(cli, ["push", &other]).ok();
        assert_eq!(said.matches(": Mounted from team/app").count(), 3, "{said}");
    }
}

#[test]
fn it_is_an_event() {
    let (source, registry) = (Registry::start(), Registry::start());
    let from = source.push(&Layout::new(&[noise(1, 1000)]), "x:1");
    let host = Host::new();
    let name = format!("{}/x:1", registry.host());
    host.corten(["pull", "-q", &from]).ok();
    host.corten(["tag", &from, &name]).ok();
    host.docker(["push", "-q", &name]).ok();
    let soon = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs() + 1;
    let format = "{{.Actor.ID}} {{.Actor.Attributes.name}}";
    let told = [
        "events",
        "--since",
        "1m",
        "--until",
        &soon.to_string(),
        "--filter",
        "event=push",
        "--format",
        format,
    ];
    assert_eq!(host.docker(told).ok(), format!("{name} {}/x", registry.host()));
}

#[test]
fn with_credentials_and_over_tls() {
    let source = Registry::start();
    let layout = Layout::new(&[noise(2, 1000)]);
    let from = source.push(&layout, "x:1");
    let (username, password) = ("ann".to_owned(), "s3cret".to_owned());
    let basic = Access::Basic { username: username.clone(), password: password.clone() };
    let token = Access::Token { username, password };
    for (access, tls, anonymous) in [
        (Access::Open, true, None),
        (basic, false, Some("no basic auth credentials")),
        (token, false, Some("denied: requested access to the resource is denied")),
    ] {
        let registry = Registry::with(Setup { access, tls });
        let name = format!("{}/secret/x:1", registry.host());
        for cli in CLIS {
            let host = Host::new();
            host.cli(cli, ["pull", "-q", &from]).ok();
            host.cli(cli, ["tag", &from, &name]).ok();
            if let Some(words) = anonymous {
                host.cli(cli, ["push", &name]).fails(1, words);
                log_in(&host, &registry.host(), "ann:wrong");
                host.cli(cli, ["push", &name]).fails(1, "");
            }
            log_in(&host, &registry.host(), "ann:s3cret");
            let said = host.cli(cli, ["push", &name]).ok();
            assert!(said.contains(&format!("1: digest: {}", layout.digest)), "{said}");
        }
    }
}

#[test]
fn what_was_pushed_is_what_others_pull() {
    let (source, registry) = (Registry::start(), Registry::start());
    let image = fixtures::packings();
    let layout = Layout::new(std::slice::from_ref(&image));
    let host = Host::new();
    let name = format!("{}/tools/box:1", registry.host());
    let from = source.push(&layout, "x:1");
    host.corten(["pull", "-q", &from]).ok();
    host.corten(["tag", &from, &name]).ok();
    host.corten(["push", "-q", &name]).ok();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let copy = format!("oci:{}:it", folder.path().display());
    Cmd::new("skopeo")
        .args(["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false", "--preserve-digests"])
        .args([&format!("docker://{name}"), &copy])
        .ok();
    let index: Value =
        serde_json::from_slice(&fs::read(folder.path().join("index.json")).expect("an index")).expect("JSON");
    assert_eq!(index["manifests"][0]["digest"], json!(layout.digest));
    for (store, option) in [("podman-root", "--root"), ("podman-run", "--runroot")] {
        fs::create_dir(folder.path().join(store)).expect(option);
    }
    let (root, run) = (folder.path().join("podman-root"), folder.path().join("podman-run"));
    let podman = |args: &[&str]| {
        Cmd::new("podman")
            .args(["--root", &root.display().to_string(), "--runroot", &run.display().to_string()])
            .args(["--storage-driver", "vfs"])
            .args(args)
            .ok()
    };
    podman(&["pull", "-q", "--tls-verify=false", &name]);
    assert_eq!(podman(&["inspect", "-f", "{{.Digest}}", &name]), layout.digest);
    assert_eq!(podman(&["inspect", "-f", "sha256:{{.Id}}", &name]), fixtures::digest(&image.config_bytes()));
    podman(&["rmi", "-f", &name]);
}

#[test]
fn an_index_of_which_not_all_is_here() {
    let (source, registry) = (Registry::start(), Registry::start());
    let other = if fixtures::host_architecture() == "amd64" { "arm64" } else { "amd64" };
    let layout = Layout::new(&[fixtures::busybox(), fixtures::busybox_for(other)]);
    let from = source.push(&layout, "multi:1");
    for cli in CLIS {
        let host = Host::new();
        let name = format!("{}/{}:1", registry.host(), if cli == Cli::Corten { "ours" } else { "dockers" });
        host.cli(cli, ["pull", "-q", &from]).ok();
        host.cli(cli, ["tag", &from, &name]).ok();
        let output = host.cli(cli, ["push", &name]).run();
        assert_eq!(output.code, 0, "{}", output.stderr);
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(said.contains("only the available single-platform image was pushed"), "{said}");
        assert!(said.contains(&layout.digest) && said.contains(&layout.manifests[0]), "{said}");
        assert_eq!(digest(&name), layout.manifests[0]);

        host.cli(cli, ["pull", "-q", "--platform", &format!("linux/{other}"), &from]).ok();
        let ids = host.cli(cli, ["images", "-q", "--no-trunc"]).ok();
        assert!(ids.lines().all(|id| id == layout.digest), "one image, more of it: {ids}");
        let said = host.cli(cli, ["push", &name]).ok();
        assert!(said.contains(&layout.digest), "{said}");
        assert_eq!(raw(&name)["manifests"].as_array().map(Vec::len), Some(2));

        let said = host.cli(cli, ["push", "--platform", &format!("linux/{other}"), &name]).ok();
        assert!(said.contains(&format!("digest: {}", layout.manifests[1])), "{said}");
        assert_eq!(digest(&name), layout.manifests[1]);
        host.cli(cli, ["push", "--platform", "linux/s390x", &name]).fails(1, "linux/s390x");
    }
}

#[test]
fn compressed_otherwise() {
    let (source, registry) = (Registry::start(), Registry::start());
    let layout = Layout::new(&[fixtures::packings()]);
    let from = source.push(&layout, "x:1");
    let host = Host::new();
    let name = format!("{}/x:1", registry.host());
    host.corten(["pull", "-q", &from]).ok();
    host.corten(["tag", &from, &name]).ok();
    let config = raw(&from)["config"].clone();
    for (how, kind) in [("zstd", "tar+zstd"), ("gzip:9", "tar+gzip"), ("zstd:19", "tar+zstd")] {
        host.corten(["push", "-q", "--compression", how, &name]).ok();
        let manifest = raw(&name);
        assert_eq!(manifest["config"], config);
        for layer in manifest["layers"].as_array().expect("layers") {
            assert!(layer["mediaType"].as_str().is_some_and(|own| own.ends_with(kind)), "{how}: {layer}");
        }
        let other = Host::new();
        other.corten(["pull", "-q", &name]).ok();
        let cat = ["run", "--rm", "--network", "none", &name, "cat", "/plain", "/zstd"];
        assert_eq!(other.corten(cat).ok(), "plain\nzstd");
    }
    for wrong in ["xz", "gzip:11", "zstd:0"] {
        host.corten(["push", "--compression", wrong, &name]).fails(1, "it is gzip or zstd");
    }
}

#[test]
fn what_goes_wrong_is_said_in_one_line() {
    let (source, registry) = (Registry::start(), Registry::start());
    let from = source.push(&Layout::new(&[noise(1, 1000)]), "x:1");
    let host = Host::new();
    host.corten(["pull", "-q", &from]).ok();
    let nowhere = format!("127.0.0.1:{}/x:1", kit::registry::free_port());
    host.corten(["tag", &from, &nowhere]).ok();
    for cli in CLIS {
        host.cli(cli, ["push", &nowhere]).fails(1, "connect: connection refused");
        for (status, code, message, words) in [
            (
                403,
                "DENIED",
                "requested access to the resource is denied",
                "denied: requested access to the resource is denied",
            ),
            (
                404,
                "NAME_UNKNOWN",
                "repository name not known to registry",
                "name unknown: repository name not known to registry",
            ),
            (429, "TOOMANYREQUESTS", "slow down", "toomanyrequests: slow down"),
            (507, "UNKNOWN", "no space", "507: unknown: no space"),
        ] {
            let faulty = Faulty::start(&registry.host());
            let name = format!("{}/x:1", faulty.host());
            host.cli(cli, ["tag", &from, &name]).ok();
            let error = Answer::json(status, &json!({"errors": [{"code": code, "message": message}]}));
            faulty.fault("POST", Fault::Instead(error.with("Retry-After", "0")), 50);
            let output = host.cli(cli, ["push", &name]).fails(1, words);
            assert_eq!(output.stderr.trim().lines().count(), 1, "{}", output.stderr);
        }
    }
}

#[test]
fn a_client_that_goes_away_ends_it() {
    let (source, registry) = (Registry::start(), Registry::start());
    let from = source.push(&Layout::new(&[noise(2, 3_000_000)]), "x:1");
    let host = Host::new();
    let faulty = Faulty::start(&registry.host());
    let name = format!("{}/x:1", faulty.host());
    host.corten(["pull", "-q", &from]).ok();
    host.corten(["tag", &from, &name]).ok();
    for cli in CLIS {
        let before = faulty.asked().len();
        // Two layers and the configuration, which is too small to be held.
        faulty.fault("PUT", Fault::HoldUpload(100_000), 3);
        let push = host.cli(cli, ["push", "-q", &name]).spawn();
        faulty.wait_held(if cli == Cli::Corten { 2 } else { 4 });
        push.signal(rustix::process::Signal::INT);
        let _ = push.wait();
        // What was held has nobody any more who sends the rest.
        let sent = faulty.received("PUT");
        assert!(sent < 6_000_000, "{sent}");
        assert!(
            !faulty.asked()[before..]
                .iter()
                .any(|asked| asked.method == "PUT" && asked.path.contains("/manifests/"))
        );
    }
    faulty.release();
    host.corten(["push", "-q", &name]).ok();
}

#[test]
fn a_killed_daemon_has_lost_nothing() {
    let (source, registry) = (Registry::start(), Registry::start());
    let layout = Layout::new(&[noise(4, 2_000_000)]);
    let from = source.push(&layout, "x:1");
    let mut host = Host::new();
    let faulty = Faulty::start(&registry.host());
    let name = format!("{}/x:1", faulty.host());
    host.corten(["pull", "-q", &from]).ok();
    host.corten(["tag", &from, &name]).ok();
    // One of them may be spent on the configuration, which is too small to be held.
    faulty.fault("PUT", Fault::HoldUpload(1_000_000), 2);
    let push = host.corten(["push", "-q", &name]).spawn();
    faulty.wait_held(1);
    // The other layers arrive meanwhile.
    wait_for("the other layers", || {
        let done = faulty
            .asked()
            .iter()
            .filter(|asked| asked.method == "PUT" && asked.received >= 2_000_000)
            .count();
        (done >= 2).then_some(())
    });
    host.kill_daemon();
    let _ = push.wait();
    faulty.release();
    host.start_daemon();
    assert_eq!(host.corten(["images", "-q", "--no-trunc"]).ok().lines().next(), Some(layout.digest.as_str()));
    let said = host.corten(["push", &name]).ok();
    assert!(said.matches(": Layer already exists").count() >= 2, "{said}");
    assert_eq!(digest(&format!("{}/x:1", registry.host())), layout.digest);
    // Nothing is left of it: what is removed is gone.
    host.corten(["rmi", &name, &from]).ok();
    let blobs = || fs::read_dir(host.data_root().join("content/blobs/sha256")).expect("blobs").count();
    wait_for("the blobs to go", || (blobs() == 0).then_some(()));
}

#[test]
fn two_images_share_a_download() {
    let registry = Registry::start();
    let shared = fixtures::noise_layer(2_000_000, 9);
    let one = Image::new(vec![shared.clone(), fixtures::noise_layer(1000, 1)], json!({}));
    let two = Image::new(vec![shared.clone(), fixtures::noise_layer(1000, 2)], json!({}));
    registry.push(&Layout::new(&[one]), "one:1");
    registry.push(&Layout::new(&[two]), "two:1");
    let faulty = Faulty::start(&registry.host());
    faulty.fault(&shared.digest(), Fault::Hold(500_000), 1);
    let host = Host::new();
    let pull = |name: &str| host.corten(["pull", "-q", &format!("{}/{name}:1", faulty.host())]).spawn();
    let first = pull("one");
    faulty.wait_held(1);
    let second = pull("two");
    wait_for("the other layer of the second", || {
        let asked = faulty.asked().iter().filter(|asked| asked.path.starts_with("/v2/two/blobs/")).count();
        (asked >= 2).then_some(())
    });
    faulty.release();
    for pull in [first, second] {
        let output = pull.wait();
        assert_eq!(output.code, 0, "{}", output.stderr);
    }
    let digest = shared.digest();
    assert_eq!(faulty.asked().iter().filter(|asked| asked.path.contains(&digest)).count(), 1);
}

#[test]
fn what_a_registry_has_is_asked_without_taking_it() {
    let registry = Registry::start();
    let other = if fixtures::host_architecture() == "amd64" { "arm64" } else { "amd64" };
    let layout = Layout::new(&[fixtures::busybox(), fixtures::busybox_for(other)]);
    registry.push(&layout, "multi:1");
    let single = Layout::new(&[noise(1, 1000)]);
    registry.push(&single, "single:latest");
    let host = Host::new();
    let ask = |version: &str, name: &str| {
        let url = format!("http://d/{version}/distribution/{name}/json");
        let args =
            ["-s", "--unix-socket", &host.socket().display().to_string(), &url, "-w", "\n%{http_code}"];
        let said = Cmd::new("curl").args(args).ok();
        let (body, status) = said.rsplit_once('\n').expect("a status");
        (status.to_owned(), serde_json::from_str::<Value>(body).expect("JSON"))
    };
    let at = registry.host();
    for version in ["v1.30", "v1.41", "v1.48", "v1.51"] {
        let (status, found) = ask(version, &format!("{at}/multi:1"));
        assert_eq!(status, "200", "{found}");
        assert_eq!(found["Descriptor"]["digest"], json!(layout.digest));
        assert_eq!(found["Descriptor"]["mediaType"], json!("application/vnd.oci.image.index.v1+json"));
        let platforms = found["Platforms"].as_array().expect("platforms");
        assert!(platforms.contains(&json!({"architecture": other, "os": "linux"})), "{found}");
        assert_eq!(platforms.len(), 2);
    }
    let (_, found) = ask("v1.51", &format!("{at}/single"));
    let expected = json!({"Descriptor": {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": single.digest,
        "size": noise(1, 1000).manifest_bytes().len(),
    }, "Platforms": [{"architecture": fixtures::host_architecture(), "os": "linux"}]});
    assert_eq!(found, expected);
    assert_eq!(ask("v1.51", &format!("{at}/none")).0, "404");
    assert_eq!(ask("v1.51", "UPPER").0, "400");
    let id = "0".repeat(64);
    let (status, found) = ask("v1.51", &format!("sha256:{id}"));
    assert_eq!(status, "400", "{found}");
    assert_eq!(host.corten(["images", "-q"]).ok(), "");
}

#[test]
fn on_a_terminal_each_layer_has_its_line() {
    let (source, registry) = (Registry::start(), Registry::start());
    let from = source.push(&Layout::new(&[noise(2, 3_000_000)]), "x:1");
    let host = Host::new();
    host.corten(["pull", "-q", &from]).ok();
    for cli in CLIS {
        let faulty = Faulty::start(&registry.host());
        let name = format!("{}/{}:1", faulty.host(), if cli == Cli::Corten { "ours" } else { "dockers" });
        host.cli(cli, ["tag", &from, &name]).ok();
        faulty.fault("PUT", Fault::HoldUpload(1_000_000), 3);
        let terminal = host.terminal(cli, &["push", &name]);
        terminal.expect("Pushing");
        terminal.expect("MB/3.1");
        faulty.release();
        terminal.expect("1: digest: sha256:");
        assert_eq!(terminal.wait(), 0);
    }
}
