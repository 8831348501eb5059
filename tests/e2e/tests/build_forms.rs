//! The forms that a build's result can be had in: directories and archives of several platforms, blobs without an archive, layers
//! compressed or not, statements beside files.

use std::fs;
use std::path::{Path, PathBuf};

use kit::registry::Registry;
use kit::{Cmd, Host, Output};
use serde_json::Value;

fn folder(host: &Host, name: &str, text: &str) -> PathBuf {
    let path = host.root().join(name);
    fs::create_dir_all(&path).expect("a directory");
    fs::write(path.join("Dockerfile"), text).expect("a file");
    path
}

fn build(host: &Host, folder: &Path, more: &[&str]) -> Output {
    let args = ["build", "--network", "none"].into_iter().chain(more.iter().copied()).chain(["."]);
    host.corten(args).env("BUILDKIT_PROGRESS", "plain").current_dir(folder).run()
}

fn done(output: Output) -> Output {
    assert_eq!(output.code, 0, "{output}");
    output
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// The names in an archive.
fn listed(archive: &Path) -> Vec<String> {
    let listed = Cmd::new("tar").args(["-tf", &archive.display().to_string()]).ok();
    listed.lines().map(|line| line.trim_end_matches('/').to_owned()).collect()
}

/// A blob of a layout.
fn blob(layout: &Path, descriptor: &Value) -> Value {
    let digest = descriptor["digest"].as_str().expect("a digest");
    json(&fs::read(layout.join("blobs").join(digest.replace(':', "/"))).expect("a blob"))
}

#[test]
fn files_of_several_platforms_are_in_directories_of_their_own() {
    let host = Host::with_busybox();
    let folder =
        folder(&host, "several", "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH/text\n");
    let platforms = ["--platform", "linux/amd64,linux/arm64"];
    done(build(&host, &folder, &[&platforms[..], &["-o", "dest"]].concat()));
    done(build(&host, &folder, &[&platforms[..], &["-o", "type=tar,dest=plain.tar"]].concat()));
    for place in ["linux_amd64/amd64/text", "linux_arm64/arm64/text"] {
        assert!(folder.join("dest").join(place).exists(), "{place}");
        assert!(listed(&folder.join("plain.tar")).contains(&place.to_owned()), "{place}");
    }
    // Statements are beside the files that they are about, whichever form these are had in.
    let stated = ["--provenance", "mode=max", "--sbom", "true"];
    let to = ["-o", "type=tar,dest=stated.tar,attestation-prefix=x."];
    done(build(&host, &folder, &[&platforms[..], &stated[..], &to[..]].concat()));
    let names = listed(&folder.join("stated.tar"));
    for name in ["linux_amd64/x.provenance.json", "linux_arm64/x.sbom.spdx.json", "linux_arm64/arm64/text"] {
        assert!(names.contains(&name.to_owned()), "{name}: {names:?}");
    }
    // One platform has no directory of its own unless it is wanted.
    done(build(&host, &folder, &["-o", "type=tar,dest=one.tar", "--provenance", "true"]));
    assert!(listed(&folder.join("one.tar")).contains(&"provenance.json".to_owned()));
    done(build(&host, &folder, &["-o", "type=tar,dest=split.tar,platform-split=true"]));
    assert!(listed(&folder.join("split.tar")).iter().any(|name| name.starts_with("linux_")));
    let output = build(
        &host,
        &folder,
        &[&platforms[..], &["-o", "type=tar,dest=no.tar,platform-split=false"]].concat(),
    );
    assert!(output.code != 0 && output.stderr.contains("platform-split=false"), "{output}");
    assert!(!folder.join("no.tar").exists());
}

#[test]
fn an_image_is_had_as_blobs_in_a_directory() {
    let host = Host::with_busybox();
    let folder = folder(&host, "layout", "FROM busybox\nCOPY Dockerfile /a\n");
    let layout = folder.join("layout");
    let output = "type=oci,tar=false,dest=layout,compression=uncompressed,force-compression=true";
    done(build(&host, &folder, &["-t", "team/app:1", "-t", "team/app:2", "-o", output]));
    let index = json(&fs::read(layout.join("index.json")).expect("an index"));
    let entries = index["manifests"].as_array().expect("entries");
    let name = |entry: &Value, key: &str| entry["annotations"][key].as_str().unwrap_or_default().to_owned();
    let tags: Vec<_> = entries.iter().map(|entry| name(entry, "org.opencontainers.image.ref.name")).collect();
    assert_eq!(tags, ["1", "2"], "{index}");
    assert_eq!(name(&entries[0], "io.containerd.image.name"), "docker.io/team/app:1");
    // Not compressed, the base image's layers neither: what is called by a digest unpacks to it.
    let manifest = blob(&layout, &entries[0]);
    let config = blob(&layout, &manifest["config"]);
    let layers = manifest["layers"].as_array().expect("layers");
    assert!(layers.len() > 1, "{manifest}");
    for (layer, diff_id) in layers.iter().zip(config["rootfs"]["diff_ids"].as_array().expect("diff ids")) {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar");
        assert_eq!(&layer["digest"], diff_id);
    }
    // As many steps have layers as there are.
    let with_layer = |steps: &Value| {
        let steps = steps.as_array().expect("a history");
        steps.iter().filter(|step| step["empty_layer"] != true).count()
    };
    assert_eq!(with_layer(&config["history"]), layers.len());
    // Others read it, and it is not in the engine.
    let place = format!("oci:{}:2", layout.display());
    Cmd::new("skopeo").args(["inspect", &place]).ok();
    host.corten(["image", "inspect", "team/app:1"]).fails(1, "No such image");
    // What has no name is found by its place; a second build replaces what has the names.
    done(build(&host, &folder, &["-t", "team/app:1", "-o", "type=oci,tar=false,dest=layout"]));
    let again = json(&fs::read(layout.join("index.json")).expect("an index"));
    assert_eq!(again["manifests"].as_array().expect("entries").len(), 2, "{again}");
    let output =
        build(&host, &folder, &["-o", "type=oci,tar=false,dest=a", "-o", "type=oci,tar=false,dest=b"]);
    assert!(output.code != 0 && output.stderr.contains("one at most"), "{output}");
    let output = build(&host, &folder, &["-o", "type=docker,tar=false,dest=c"]);
    assert!(output.code != 0 && output.stderr.contains("tar=false"), "{output}");
}

#[test]
fn a_step_that_changes_nothing_has_no_layer_and_the_history_says_so() {
    let host = Host::with_busybox();
    let folder = folder(&host, "nothing", "FROM busybox\nRUN true\nRUN echo x >/x\nENV a=b\n");
    done(build(&host, &folder, &["-t", "nothing:1", "-o", "type=oci,tar=false,dest=layout"]));
    let layout = folder.join("layout");
    let index = json(&fs::read(layout.join("index.json")).expect("an index"));
    let manifest = blob(&layout, &index["manifests"][0]);
    let config = blob(&layout, &manifest["config"]);
    let history = config["history"].as_array().expect("a history");
    let full = history.iter().filter(|step| step["empty_layer"] != true).count();
    assert_eq!(full, manifest["layers"].as_array().expect("layers").len(), "{config}");
    let step = history.iter().find(|step| {
        step["created_by"].as_str().is_some_and(|by| by.contains("RUN true") || by.contains("-c true"))
    });
    assert_eq!(step.expect("the step")["empty_layer"], true, "{config}");
}

#[test]
fn a_cache_at_a_registry_can_be_an_index() {
    let registry = Registry::start();
    let reference = format!("{}/team/cache:index", registry.host());
    let said = |more: &[&str]| {
        let host = Host::with_busybox();
        let folder = folder(&host, "cached", "FROM busybox\nRUN echo said it\nRUN echo x >/x\n");
        let output = done(build(&host, &folder, more));
        output.stderr.lines().any(|line| line.ends_with(" said it") && !line.contains("RUN"))
    };
    let to = format!("type=registry,ref={reference},mode=max,image-manifest=false,compression=zstd");
    assert!(said(&["-o", "type=cacheonly", "--cache-to", &to]));
    let name = format!("docker://{reference}");
    let raw =
        json(Cmd::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &name]).ok().as_bytes());
    assert_eq!(raw["mediaType"], "application/vnd.oci.image.index.v1+json", "{raw}");
    let kinds: Vec<_> =
        raw["manifests"].as_array().expect("entries").iter().map(|one| &one["mediaType"]).collect();
    assert!(kinds.iter().any(|kind| **kind == "application/vnd.buildkit.cacheconfig.v0"), "{raw}");
    assert!(kinds.iter().any(|kind| kind.as_str().is_some_and(|kind| kind.ends_with("tar+zstd"))), "{raw}");
    assert!(!said(&["--cache-from", &reference]));
}

/// Makes a database as RPM has it, with one package.
const RPM: &str = r#"
import sqlite3, struct, sys
data, entries = b"", b""
for tag, kind, value in [(1000, 6, b"bash\0"), (1001, 6, b"5.2\0"), (1002, 6, b"3.el9\0"), (1022, 6, b"x86_64\0"), (1014, 6, b"GPLv3+\0")]:
    entries += struct.pack(">IIII", tag, kind, len(data), 1)
    data += value
db = sqlite3.connect(sys.argv[1])
db.execute("PRAGMA journal_mode=WAL")
db.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
db.execute("INSERT INTO Packages (blob) VALUES (?)", (struct.pack(">II", len(entries) // 16, len(data)) + entries + data,))
db.commit()
db.close()
"#;

#[test]
fn packages_of_rpm_are_in_an_sbom() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nCOPY os-release /etc/\nCOPY db /usr/lib/sysimage/rpm/\n";
    let folder = folder(&host, "rpm", text);
    fs::create_dir_all(folder.join("db")).expect("a directory");
    fs::write(folder.join("os-release"), "ID=\"rhel\"\n").expect("a file");
    Cmd::new("python3").args(["-c", RPM, "db/rpmdb.sqlite"]).current_dir(&folder).ok();
    done(build(&host, &folder, &["-o", "dest", "--sbom", "true"]));
    let sbom = json(&fs::read(folder.join("dest/sbom.spdx.json")).expect("an SBOM"));
    let packages = sbom["predicate"]["packages"].as_array().expect("packages");
    let url = "pkg:rpm/rhel/bash@5.2-3.el9?arch=x86_64";
    assert!(packages.iter().any(|one| one["externalRefs"][0]["referenceLocator"] == url), "{sbom}");
    // What cannot be read is told, and nothing is stated.
    for (name, text, words) in [
        ("rpmdb.sqlite-wal", "something", "rebuilddb"),
        ("rpmdb.sqlite", "no database", "cannot be read"),
        ("Packages", "of old", "older database"),
    ] {
        fs::remove_dir_all(folder.join("db")).expect("it goes");
        fs::create_dir_all(folder.join("db")).expect("a directory");
        if name == "rpmdb.sqlite-wal" {
            Cmd::new("python3").args(["-c", RPM, "db/rpmdb.sqlite"]).current_dir(&folder).ok();
        }
        fs::write(folder.join("db").join(name), text).expect("a file");
        let output = build(&host, &folder, &["-o", "other", "--sbom", "true"]);
        assert!(output.code != 0 && output.stderr.contains(words), "{name}: {output}");
    }
}
