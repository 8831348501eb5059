//! Programs that people push and pull with, on our registry: they use it as they use any other.

use std::path::Path;

use kit::embedded::Embedded;
use kit::fixtures::{self, Image, Layout, digest};
use kit::repository::Repository;
use kit::{CLIS, Cmd, Host, wait_for};

fn skopeo(args: &[&str]) -> Cmd {
    Cmd::new("skopeo").args(["--insecure-policy"]).args(args)
}

/// An image of a few layers.
fn image(seed: u64) -> Image {
    let layers = (0..3).map(|n| fixtures::noise_layer(200_000, seed * 10 + n)).collect();
    Image::new(layers, serde_json::json!({"Cmd": ["true"]}))
}

fn push(registry: &Embedded, layout: &Layout, name: &str) {
    let to = format!("docker://{}/{name}", registry.host());
    let args = ["copy", "--quiet", "--all", "--preserve-digests", "--dest-tls-verify=false"];
    skopeo(&[&args[..], &[&layout.skopeo(), &to]].concat()).ok();
}

#[test]
fn skopeo_copies_lists_deletes_and_syncs() {
    let registry = Embedded::start();
    let mut other = image(2);
    other.architecture = "arm64".to_owned();
    let (one, several) = (Layout::new(&[image(1)]), Layout::new(&[image(1), other]));
    push(&registry, &one, "team/box:1");
    push(&registry, &several, "team/box:all");
    let name = |tag: &str| format!("docker://{}/team/box:{tag}", registry.host());
    let found = |tag: &str| {
        let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &name(tag)]).run();
        assert_eq!(raw.code, 0, "{raw}");
        digest(raw.stdout.as_bytes())
    };
    assert_eq!((found("1"), found("all")), (one.digest.clone(), several.digest.clone()));
    let listed =
        skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{}/team/box", registry.host())]).ok();
    assert!(listed.contains("\"1\"") && listed.contains("\"all\""), "{listed}");
    // Within one registry, nothing is sent twice.
    let to = format!("docker://{}/elsewhere:1", registry.host());
    skopeo(&["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", &name("1"), &to]).ok();
    assert!(Repository::new(registry.port(), "elsewhere").is_whole("1"));
    let out = tempfile::tempdir().expect("a temporary directory");
    let folder = out.path().display().to_string();
    let from = format!("{}/team/box", registry.host());
    let sync =
        ["sync", "--src-tls-verify=false", "--src", "docker", "--dest", "dir", "--all", &from, &folder];
    skopeo(&sync).ok();
    for (tag, layout) in [("1", &one), ("all", &several)] {
        let manifest =
            std::fs::read(out.path().join(format!("box:{tag}/manifest.json"))).expect("a manifest");
        assert_eq!(digest(&manifest), layout.digest);
    }
    skopeo(&["delete", "--tls-verify=false", &name("1")]).ok();
    assert_ne!(skopeo(&["inspect", "--tls-verify=false", &name("1")]).run().code, 0);
}

#[test]
fn docker_pulls_and_pushes_through_our_daemon() {
    let registry = Embedded::start();
    let layout = Layout::new(&[fixtures::packings()]);
    push(&registry, &layout, "tools/box:1");
    let name = format!("{}/tools/box:1", registry.host());
    for cli in CLIS {
        let host = Host::new();
        host.cli(cli, ["pull", &name]).ok();
        assert_eq!(host.cli(cli, ["inspect", "-f", "{{.Id}}", &name]).ok(), layout.digest);
        let again = format!("{}/again/{cli:?}:1", registry.host()).to_lowercase();
        host.cli(cli, ["tag", &name, &again]).ok();
        let said = host.cli(cli, ["push", &again]).ok();
        assert!(said.contains(&layout.digest), "{said}");
        let path = again.split_once('/').map_or("", |(_, path)| path.trim_end_matches(":1"));
        let repository = Repository::new(registry.port(), path);
        assert!(repository.is_whole("1"), "{path}");
    }
}

/// Flags that keep podman and buildah to a directory.
fn contained(root: &Path) -> Vec<String> {
    let at = |name: &str| root.join(name).display().to_string();
    ["--root".to_owned(), at("storage"), "--runroot".to_owned(), at("run"), "--storage-driver=vfs".to_owned()]
        .to_vec()
}

#[test]
fn podman_and_buildah_push_and_pull() {
    let registry = Embedded::with(&["--htpasswd", "{dir}/htpasswd"]);
    let root = tempfile::tempdir().expect("a temporary directory");
    let policy = root.path().join("policy.json");
    std::fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).expect("write a policy");
    let policy = format!("--signature-policy={}", policy.display());
    let layout = Layout::new(&[image(4)]);
    let name = format!("{}/pods/box:1", registry.host());
    let program = |program: &str, args: &[&str]| {
        let home = root.path().display().to_string();
        Cmd::new(program)
            .env("HOME", &home)
            .env("XDG_RUNTIME_DIR", &home)
            .args(contained(root.path()))
            .args(args)
    };
    // Names of files in OCI layouts have to be in lower case for podman.
    let archive = format!("docker-archive:{}", root.path().join("box.tar").display());
    skopeo(&["copy", "--quiet", &layout.skopeo(), &archive]).ok();
    let creds = ["--tls-verify=false", "--creds", "ada:secret"];
    program("podman", &[&["pull", &policy][..], &[&archive]].concat()).ok();
    let id = program("podman", &["images", "-q", "--no-trunc"]).ok();
    let id = id.lines().next().unwrap_or_default().to_owned();
    let pushed = root.path().join("digest").display().to_string();
    let to = format!("docker://{name}");
    let push = [&["push", "--digestfile", &pushed], &creds[..], &[&id, &to]].concat();
    program("podman", &push).ok();
    let digest = std::fs::read_to_string(&pushed).expect("a digest");
    program("podman", &["rmi", "-af"]).ok();
    program("podman", &[&["pull", &policy], &creds[..], &[&name]].concat()).ok();
    let got = program("podman", &["inspect", "-f", "{{.Digest}}", &name]).ok();
    assert_eq!(got, digest);
    assert_ne!(
        program("podman", &["pull", &policy, "--tls-verify=false", &name]).run().code,
        0,
        "without a password"
    );
    if !Path::new("/usr/bin/buildah").exists() {
        kit::skip("buildah", "not installed");
        return;
    }
    let other = format!("docker://{}/pods/built:1", registry.host());
    program("buildah", &[&["push", &policy], &creds[..], &[&id, &other]].concat()).ok();
    let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, "ada:secret");
    let header = format!("Basic {basic}");
    let reply = registry.ask("GET", "/v2/pods/built/manifests/1", &[("Authorization", &header)], b"");
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[test]
fn containerd_pulls_and_pushes() {
    let registry = Embedded::start();
    let layout = Layout::new(&[image(6)]);
    push(&registry, &layout, "tools/box:1");
    let root = tempfile::tempdir().expect("a temporary directory");
    let socket = root.path().join("c.sock").display().to_string();
    let config = root.path().join("config.toml");
    let text = format!(
        "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.snapshotter.v1.zfs\", \"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.aufs\", \"io.containerd.snapshotter.v1.devmapper\"]\n[grpc]\n  address = \"{1}\"\n[ttrpc]\n  address = \"{1}.ttrpc\"\n",
        root.path().display(),
        socket
    );
    std::fs::write(&config, text).expect("write a configuration");
    let daemon = Cmd::new("containerd")
        .args(["--config", &config.display().to_string(), "--log-level", "error"])
        .spawn();
    let ctr = |args: &[&str]| Cmd::new("ctr").args(["-a", &socket]).args(args);
    wait_for("containerd", || (ctr(&["version"]).run().code == 0).then_some(()));
    let name = format!("{}/tools/box:1", registry.host());
    let again = format!("{}/tools/again:1", registry.host());
    ctr(&["content", "fetch", "--plain-http", &name]).ok();
    let images = ctr(&["images", "ls"]).ok();
    assert!(images.contains(&layout.digest), "{images}");
    ctr(&["images", "tag", &name, &again]).ok();
    ctr(&["images", "push", "--plain-http", &again]).ok();
    assert!(Repository::new(registry.port(), "tools/again").is_whole("1"));
    let pushed = registry.ask("HEAD", "/v2/tools/again/manifests/1", &[], b"");
    assert_eq!(pushed.header("docker-content-digest"), layout.digest);
    daemon.signal(rustix::process::Signal::TERM);
    let _ = daemon.wait();
}
