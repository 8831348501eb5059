//! Round trips with other tools: what they write is loaded, what is saved they read, and configurations keep their digests.

use super::*;

/// The digest of an image's configuration, by the manifest that `skopeo` finds.
fn config_of(source: &str) -> String {
    let manifest = Cmd::new("skopeo").args(["inspect", "--raw", source]).ok();
    let manifest: Value = serde_json::from_str(&manifest).expect("a manifest");
    manifest["config"]["digest"].as_str().expect("a digest").to_owned()
}

fn ours(host: &Host, name: &str) -> String {
    let path = host.root().join("asked.tar");
    host.corten(["save", "-o", &path.display().to_string(), name]).ok();
    let docker = member(&path, "manifest.json");
    let config = docker[0]["Config"].as_str().expect("a path").to_owned();
    format!("sha256:{}", config.rsplit('/').next().expect("a name"))
}

#[test]
fn skopeo_reads_what_is_saved_and_writes_what_is_loaded() {
    let host = Host::new();
    host.give(&fixtures::odd_entries(), "odd:1");
    let config = ours(&host, "odd:1");
    let at = |name: &str| host.root().join(name).display().to_string();
    host.docker(["save", "-o", &at("ours.tar"), "odd:1"]).ok();
    let docker = format!("docker-archive:{}:odd:1", at("ours.tar"));
    let oci = format!("oci-archive:{}", at("ours.tar"));
    assert_eq!(config_of(&docker), config);
    assert_eq!(config_of(&oci), config);
    for (form, from) in [("docker-archive", &docker), ("oci-archive", &oci), ("oci", &oci)] {
        let theirs = at("theirs");
        let to = match form {
            "oci-archive" | "oci" => format!("{form}:{theirs}:example.org/odd:2"),
            _ => format!("{form}:{theirs}:odd:2"),
        };
        Cmd::new("skopeo").args(["--insecure-policy", "copy", "--quiet", from, &to]).ok();
        let archive = if form == "oci" {
            Cmd::new("tar").args(["-C", &theirs, "-cf", &at("layout.tar"), "."]).ok();
            at("layout.tar")
        } else {
            theirs.clone()
        };
        remove_all(&host);
        let name = if form == "docker-archive" { "odd:2" } else { "example.org/odd:2" };
        assert_eq!(host.docker(["load", "-i", &archive]).ok(), format!("Loaded image: {name}"), "{form}");
        assert_eq!(ours(&host, name), config, "{form}");
        let run = ["run", "--rm", "--network", "none", name, "sh", "-c", "cat /o/shown /second; ls /d"];
        assert_eq!(host.docker(run).ok(), "upperone inodestays", "{form}");
        let _ = fs::remove_dir_all(&theirs);
        let _ = fs::remove_file(&theirs);
    }
}

#[test]
fn podman_loads_what_is_saved_and_saves_what_is_loaded() {
    let host = Host::new();
    // Docker's form has no zstd for podman.
    let mut image = fixtures::busybox();
    image.layers.push(Layer::new(&[Entry::file("plain", "plain\n")], Packing::Plain));
    host.give(&image, "packings:1");
    let config = ours(&host, "packings:1");
    let at = |name: &str| host.root().join(name).display().to_string();
    let podman = |args: &[&str]| {
        let roots = ["--root", &at("podman"), "--runroot", &at("podman-run"), "--storage-driver", "vfs"];
        Cmd::new("podman").args(roots).args(args).ok()
    };
    host.corten(["save", "-o", &at("ours.tar"), "packings:1"]).ok();
    podman(&["load", "-q", "-i", &at("ours.tar")]);
    let id = podman(&["image", "inspect", "--format", "{{.Id}}", "packings:1"]);
    assert_eq!(format!("sha256:{id}"), config);
    for form in ["docker-archive", "oci-archive"] {
        let path = at(form);
        podman(&["save", "-q", "--format", form, "-o", &path, "docker.io/library/packings:1"]);
        remove_all(&host);
        assert_eq!(host.corten(["load", "-i", &path]).ok(), "Loaded image: packings:1");
        assert_eq!(ours(&host, "packings:1"), config, "{form}");
        let run = ["run", "--rm", "--network", "none", "packings:1", "cat", "/plain"];
        assert_eq!(host.corten(run).ok(), "plain");
    }
    podman(&["rmi", "-a", "-f"]);
}

#[test]
fn archives_of_dockers_older_form_are_loaded() {
    let host = Host::new();
    let image = fixtures::packings();
    let config = fixtures::digest(&image.config_bytes());
    for cli in CLIS {
        let said = load(&host, cli, docker_archive(&image, "old:1")).ok();
        assert_eq!(said, "Loaded image: old:1");
        assert_eq!(ours(&host, "old:1"), config);
        let run = ["run", "--rm", "--network", "none", "old:1", "cat", "/plain", "/zstd"];
        assert_eq!(host.cli(cli, run).ok(), "plain\nzstd");
        remove_all(&host);
    }
    for packing in [Packing::Gzip, Packing::Zstd] {
        let packed = Layer::of_tar(&docker_archive(&image, "old:1"), packing).bytes;
        assert_eq!(load(&host, Cli::Docker, packed).ok(), "Loaded image: old:1");
        remove_all(&host);
    }
}
