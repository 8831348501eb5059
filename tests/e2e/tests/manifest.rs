//! Lists of images for several platforms, put together by the command line: what Docker's command began ours goes on with,
//! and the other way round.

use std::fs;

use kit::fixtures::{self, Layout};
use kit::registry::{Access, Registry, Setup};
use kit::{CLIS, Cli, Cmd, Host};
use serde_json::Value;

/// A registry with two images of one platform each, and what it takes to speak to it.
struct Scene {
    registry: Registry,
    manifests: Vec<String>,
    host: Host,
}

impl Scene {
    fn new() -> Self {
        let registry = Registry::start();
        let (one, two) = (fixtures::busybox_for("amd64"), fixtures::busybox_for("arm64"));
        let layouts = [Layout::new(&[one]), Layout::new(&[two])];
        registry.push(&layouts[0], "app:amd64");
        registry.push(&layouts[1], "other/app:arm64");
        let manifests = layouts.iter().map(|layout| layout.digest.clone()).collect();
        Self { registry, manifests, host: Host::new() }
    }

    fn name(&self, path: &str) -> String {
        format!("{}/{path}", self.registry.host())
    }

    fn create(&self, cli: Cli, list: &str) {
        let (one, two) = (self.name("app:amd64"), self.name("other/app:arm64"));
        let said = self.host.cli(cli, ["manifest", "create", "--insecure", list, &one, &two]).ok();
        assert_eq!(said, format!("Created manifest list {list}"));
    }

    fn raw(&self, path: &str) -> String {
        let name = format!("docker://{}", self.name(path));
        Cmd::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &name]).ok()
    }
}

/// The files of all lists, with what is in them.
fn files(host: &Host) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let root = host.root().join("config/manifests");
    for list in fs::read_dir(root).into_iter().flatten().flatten() {
        for file in fs::read_dir(list.path()).into_iter().flatten().flatten() {
            let name = format!("{}/{}", list.file_name().display(), file.file_name().display());
            found.push((name, fs::read_to_string(file.path()).expect("a file of a list")));
        }
    }
    found.sort();
    found
}

#[test]
fn both_commands_do_the_same() {
    let scene = Scene::new();
    let (host, list) = (&scene.host, scene.name("list:1"));
    let (one, two) = (scene.name("app:amd64"), scene.name("other/app:arm64"));
    let outcome = |cli: Cli| {
        let mut said = Vec::new();
        let mut run = |args: &[&str]| {
            let output = host.cli(cli, args.iter().copied()).run();
            // Our own errors come without a name of the program before them, or with it: as Docker's.
            said.push((args.join(" "), output.code, output.stdout, output.stderr));
        };
        run(&["manifest", "create", "--insecure", &list, &one, &two]);
        let created = files(host);
        run(&["manifest", "create", "--insecure", &list, &one]);
        run(&["manifest", "create", "--insecure", "--amend", &list, &one]);
        run(&["manifest", "inspect", &list]);
        run(&["manifest", "inspect", "-v", &list]);
        run(&["manifest", "inspect", &list, &two]);
        run(&[
            "manifest",
            "annotate",
            &list,
            &two,
            "--variant",
            "v8",
            "--os-features",
            "a,b",
            "--os-features",
            "c",
            "--os-version",
            "10",
        ]);
        run(&["manifest", "annotate", "--arch", "pdp11", &list, &two]);
        run(&["manifest", "annotate", &list, &scene.name("none:1")]);
        let annotated = files(host);
        run(&["manifest", "inspect", &list]);
        run(&["manifest", "push", "--insecure", "--purge", &list]);
        run(&["manifest", "push", "--insecure", &list]);
        run(&["manifest", "inspect", "--insecure", &list]);
        run(&["manifest", "inspect", "--insecure", "--verbose", &list]);
        run(&["manifest", "inspect", "--insecure", &one]);
        run(&["manifest", "inspect", "--insecure", "-v", &one]);
        run(&["manifest", "inspect", "--insecure", &scene.name("none:1")]);
        run(&["manifest", "create", "--insecure", &scene.name("list:2"), &list]);
        run(&["manifest", "rm", &list, &scene.name("list:3")]);
        (said, created, annotated, scene.raw("list:1"))
    };
    let (dockers, ours) = (outcome(Cli::Docker), outcome(Cli::Corten));
    for (docker, own) in dockers.0.iter().zip(&ours.0) {
        assert_eq!(docker, own);
    }
    assert_eq!(dockers.1, ours.1);
    assert_eq!(dockers.2, ours.2);
    assert_eq!(dockers.3, ours.3);
    assert_eq!(files(host), []);
    let index: Value = serde_json::from_str(&ours.3).expect("an index");
    assert_eq!(index["manifests"][0]["digest"], Value::from(scene.manifests[0].clone()));
    assert_eq!(index["manifests"][1]["platform"]["variant"], Value::from("v8"));
}

#[test]
fn a_plain_registry_on_loopback_takes_a_list_of_its_own_repository() {
    let registry = Registry::start();
    let images = [fixtures::busybox_for("amd64"), fixtures::busybox_for("arm64")];
    let parts = ["m:amd64", "m:arm64"];
    let names: Vec<String> = images
        .into_iter()
        .zip(parts)
        .map(|(image, name)| registry.push(&Layout::new(&[image]), name))
        .collect();
    let host = Host::new();
    for (tag, insecure) in [("8", &[][..]), ("9", &["--insecure"][..])] {
        let list = format!("{}/m:{tag}", registry.host());
        let parts: Vec<&str> = names.iter().map(String::as_str).collect();
        host.corten([&["manifest", "create"], insecure, &[&list], &parts].concat()).ok();
        // The manifest is the first thing that is said to the registry.
        let digest = host.corten([&["manifest", "push"], insecure, &[&list]].concat()).ok();
        let name = format!("docker://{list}");
        let raw = Cmd::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &name]).ok();
        assert_eq!(fixtures::digest(raw.as_bytes()), digest);
        let index: Value = serde_json::from_str(&raw).expect("an index");
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2));
    }
}

#[test]
fn one_command_goes_on_with_what_the_other_began() {
    let scene = Scene::new();
    for (first, second) in [(Cli::Docker, Cli::Corten), (Cli::Corten, Cli::Docker)] {
        let list = scene.name("shared:1");
        scene.create(first, &list);
        let other = scene.name("other/app:arm64");
        scene.host.cli(second, ["manifest", "annotate", "--variant", "v8", &list, &other]).ok();
        let before = scene.host.cli(first, ["manifest", "inspect", &list]).ok();
        assert_eq!(scene.host.cli(second, ["manifest", "inspect", &list]).ok(), before);
        let digest = scene.host.cli(second, ["manifest", "push", "--insecure", &list]).ok();
        let digest = digest.lines().last().expect("a digest");
        assert_eq!(fixtures::digest(before.as_bytes()), digest);
        scene.host.cli(first, ["manifest", "rm", &list]).ok();
        assert_eq!(files(&scene.host), []);
        // It is an image as any other.
        for cli in CLIS {
            let said = scene.host.cli(cli, ["pull", &list]).ok();
            assert!(said.contains(&format!("Digest: {digest}")), "{said}");
            scene.host.cli(cli, ["rmi", &list]).ok();
        }
    }
}

#[test]
fn with_credentials_and_without_a_daemon() {
    let access = Access::Token { username: "ann".into(), password: "s3cret".into() };
    let registry = Registry::with(Setup { access, tls: false });
    registry.push(&Layout::new(&[fixtures::busybox_for("amd64")]), "secret/app:amd64");
    let mut host = Host::new();
    host.stop_daemon();
    let (list, one) =
        (format!("{}/secret/list:1", registry.host()), format!("{}/secret/app:amd64", registry.host()));
    host.corten(["manifest", "inspect", &one]).fails(1, "no such manifest");
    let auth = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, "ann:s3cret");
    let config = serde_json::json!({"auths": {registry.host(): {"auth": auth}}});
    fs::write(host.root().join("config/config.json"), config.to_string()).expect("write config.json");
    host.corten(["manifest", "create", &list, &one]).ok();
    let said = host.corten(["manifest", "push", &list]).ok();
    assert!(
        said.starts_with("Pushed ref ")
            && said.lines().last().is_some_and(|last| last.starts_with("sha256:")),
        "{said}"
    );
    host.start_daemon();
    host.corten(["pull", "-q", "--platform", "linux/amd64", &list]).ok();
}

#[test]
fn what_cannot_be_is_refused() {
    let scene = Scene::new();
    let other = Registry::start();
    let elsewhere = Layout::new(&[fixtures::busybox_for("amd64")]);
    let far = other.push(&elsewhere, "far:1");
    let host = &scene.host;
    let list = scene.name("list:1");
    for cli in CLIS {
        host.cli(cli, ["manifest", "create", "--insecure", &list, &far]).ok();
        host.cli(cli, ["manifest", "push", "--insecure", &list])
            .fails(1, "cannot use source images from a different registry than the target image");
        host.cli(cli, ["manifest", "rm", &list]).ok();
        host.cli(cli, ["manifest", "create", "--insecure", "UPPER", &far]).fails(1, "UPPER");
        host.cli(cli, ["manifest", "push", "--insecure", &scene.name("none:1")]).fails(1, "No such manifest");
        host.cli(cli, ["manifest", "create", "--insecure", &list]).fails(1, "requires at least 2 arguments");
    }
}
