//! Archives that nobody would make by accident.

use super::*;

/// A layout's archive with some files changed: what `change` returns instead of a file's content.
fn layout_archive(image: &Image, change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
    let layout = Layout::new(std::slice::from_ref(image));
    let mut names: Vec<String> = vec!["oci-layout".into(), "index.json".into()];
    let blobs = fs::read_dir(layout.path().join("blobs/sha256")).expect("blobs");
    let mut blobs: Vec<String> =
        blobs.map(|entry| format!("blobs/sha256/{}", entry.expect("entry").file_name().display())).collect();
    blobs.sort();
    names.extend(blobs);
    let mut entries = Vec::new();
    for name in names {
        let content = fs::read(layout.path().join(&name)).expect("a file of the layout");
        if let Some(content) = change(&name, content) {
            entries.push(Entry::file(&name, content));
        }
    }
    fixtures::tar(&entries)
}

fn small() -> Image {
    Image::new(vec![Layer::new(&[Entry::file("x", "x")], Packing::Plain)], json!({"Cmd": ["x"]}))
}

fn replaced(bytes: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    String::from_utf8(bytes).expect("text").replace(from, to).into_bytes()
}

#[test]
fn names_and_links_that_lead_out_are_refused_whole() {
    let host = Host::new();
    let canary = host.root().join("canary");
    fs::write(&canary, "untouched").expect("write");
    let good = |entries: Vec<Entry>| {
        let image = small();
        let mut all = entries;
        all.push(Entry::file("manifest.json", json!([{"Config": "c", "Layers": ["l"]}]).to_string()));
        all.push(Entry::file("c", image.config_bytes()));
        fixtures::tar(&all)
    };
    let target = canary.display().to_string();
    for (entries, told) in [
        (vec![Entry::file("../canary", "x")], "leads out of the archive"),
        (vec![Entry::file("a/../../canary", "x")], "leads out of the archive"),
        (vec![Entry::symlink("l", &target)], "leads out of the archive"),
        (vec![Entry::symlink("l", "../../../../etc/passwd")], "leads out of the archive"),
        (vec![Entry::Link("l".into(), "../canary".into())], "leads out of the archive"),
        (vec![Entry::Device("l".into(), 1, 3)], "is no file"),
        (vec![Entry::Fifo("l".into())], "is no file"),
        (vec![Entry::symlink("l", "l2"), Entry::symlink("l2", "l")], "does not have"),
        (vec![Entry::file("l", "x"), Entry::file("./l", "y")], "is in the archive twice"),
        (vec![Entry::file("blobs/sha256/zz", "x")], "is not called by a digest"),
        (vec![Entry::file("blobs/sha256/../../x", "x"), Entry::file("l", "none")], "does not have"),
    ] {
        load(&host, Cli::Docker, good(entries)).fails(1, told);
        assert_clean(&host);
    }
    assert_eq!(fs::read_to_string(canary).expect("read"), "untouched");
}

#[test]
fn documents_that_lie_are_refused() {
    let host = Host::new();
    let image = small();
    let (layer, config) = (image.layers[0].digest(), fixtures::digest(&image.config_bytes()));
    let manifest = fixtures::digest(&image.manifest_bytes());
    let blob = |digest: &str| format!("blobs/sha256/{}", &digest[7..]);
    let size = format!("\"size\":{}", image.manifest_bytes().len());
    type Change = Box<dyn Fn(&str, Vec<u8>) -> Option<Vec<u8>>>;
    let swap = |at: &str, from: String, to: String| -> Change {
        let at = at.to_owned();
        Box::new(move |name, bytes| Some(if name == at { replaced(bytes, &from, &to) } else { bytes }))
    };
    let without = |at: String| -> Change { Box::new(move |name, bytes| (name != at).then_some(bytes)) };
    let cut = |at: String| -> Change {
        Box::new(move |name, bytes| Some(if name == at { bytes[..bytes.len() / 2].to_vec() } else { bytes }))
    };
    let cases: Vec<(Change, &str)> = vec![
        (swap("oci-layout", "1.0.0".into(), "9.0.0".into()), "version \"9.0.0\""),
        (swap("index.json", size, "\"size\":7".into()), "is said to have 7"),
        (swap("index.json", manifest.clone(), config.clone()), "in the archive"),
        (swap("index.json", "image.manifest.v1".into(), "image.index.v1".into()), "called"),
        (swap("index.json", "manifests".into(), "layers".into()), "index.json"),
        (swap(&blob(&manifest), "application".into(), "applications".into()), "unexpected digest"),
        (swap(&blob(&config), "linux".into(), "xinul".into()), "unexpected digest"),
        (without(blob(&layer)), "the archive has no layer"),
        (without(blob(&config)), "the archive has no configuration"),
        (without(blob(&manifest)), "the archive has no document"),
        (without("index.json".into()), "unrecognized image format"),
        (without("oci-layout".into()), "unrecognized image format"),
        (cut(blob(&layer)), ""),
        (cut(blob(&manifest)), "unexpected digest"),
    ];
    for (change, told) in cases {
        load(&host, Cli::Docker, layout_archive(&image, change)).fails(1, told);
        assert_clean(&host);
    }
    load(&host, Cli::Docker, layout_archive(&image, |_, bytes| Some(bytes))).ok();
}

#[test]
fn a_link_makes_no_blob_of_another() {
    let host = Host::new();
    let image = small();
    let (layer, config) = (&image.layers[0], image.config_bytes());
    let blob = |digest: &str| format!("blobs/sha256/{}", &digest[7..]);
    let (other, none) = (fixtures::digest(b"another"), fixtures::digest(b"none"));
    let (config_digest, layer_digest) = (fixtures::digest(&config), layer.digest());
    let manifest = |from: &str, to: &str| replaced(image.manifest_bytes(), from, to);
    let archive = |manifest: &[u8], index: Value, more: Vec<Entry>| {
        let mut all = vec![
            Entry::file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
            Entry::file("index.json", index.to_string()),
            Entry::file(&blob(&fixtures::digest(manifest)), manifest),
            Entry::file(&blob(&config_digest), &config),
            Entry::file(&blob(&layer_digest), &layer.bytes),
        ];
        all.extend(more);
        fixtures::tar(&all)
    };
    let oci = |kind: &str| format!("application/vnd.oci.image.{kind}.v1+json");
    let entry = |kind: &str, digest: &str, size: usize| json!({"mediaType": oci(kind), "digest": digest, "size": size});
    let index = |entries: Value| json!({"schemaVersion": 2, "mediaType": oci("index"), "manifests": entries});
    for (named, told) in
        [(&layer_digest, "the archive has no layer"), (&config_digest, "the archive has no configuration")]
    {
        let manifest = manifest(named, &other);
        let root = entry("manifest", &fixtures::digest(&manifest), manifest.len());
        for link in [Entry::symlink(&blob(&other), &named[7..]), Entry::Link(blob(&other), blob(named))] {
            load(&host, Cli::Docker, archive(&manifest, index(json!([root])), vec![link])).fails(1, told);
            assert_clean(&host);
        }
    }
    // The document itself by another's name, and what an index has beside images.
    let manifest = image.manifest_bytes();
    let digest = fixtures::digest(&manifest);
    let link = |to: &str| Entry::symlink(&blob(&other), &to[7..]);
    let root = index(json!([entry("manifest", &other, manifest.len())]));
    load(&host, Cli::Docker, archive(&manifest, root, vec![link(&digest)])).fails(1, "no document");
    assert_clean(&host);
    let mut claim = entry("manifest", &other, layer.bytes.len());
    claim["mediaType"] = json!("application/octet-stream");
    let statement =
        json!({"schemaVersion": 2, "mediaType": oci("manifest"), "config": claim, "layers": [claim]});
    let statement = statement.to_string();
    let mut attestation = entry("manifest", &fixtures::digest(statement.as_bytes()), statement.len());
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let below = index(json!([entry("manifest", &digest, manifest.len()), attestation, claim])).to_string();
    let mut root = entry("index", &fixtures::digest(below.as_bytes()), below.len());
    root["annotations"] = json!({"io.containerd.image.name": "reg.example/linked:1"});
    let more = vec![
        Entry::file(&blob(&fixtures::digest(below.as_bytes())), &below),
        Entry::file(&blob(&fixtures::digest(statement.as_bytes())), &statement),
        link(&layer_digest),
        Entry::symlink(&blob(&none), &other[7..]),
    ];
    // Missing parts of such are no reason to refuse the image.
    load(&host, Cli::Docker, archive(&manifest, index(json!([root])), more)).ok();
    host.corten(["system", "check"]).ok();
    let path = host.root().join("saved.tar").display().to_string();
    host.corten(["save", "-o", &path, "reg.example/linked:1"]).ok();
    let list = Cmd::new("tar").args(["-tf", &path]).ok();
    assert!(list.contains(&layer_digest[7..]) && !list.contains(&other[7..]), "{list}");
    remove_all(&host);
    host.corten(["load", "-i", &path]).ok();
    host.corten(["system", "check"]).ok();
}

#[test]
fn layers_that_are_not_what_the_configuration_says_are_refused() {
    let host = Host::new();
    let mut image = small();
    image.layers[0].diff_id = fixtures::digest(b"something else");
    for archive in [docker_archive(&image, "x:1"), layout_archive(&image, |_, bytes| Some(bytes))] {
        load(&host, Cli::Corten, archive).fails(1, "is not what the configuration says");
        assert_clean(&host);
    }
    // A layer of the store is no other one because an archive says so.
    host.give(&small(), "there");
    load(&host, Cli::Corten, docker_archive(&image, "x:1")).fails(1, "is not what the configuration says");
    let archive = layout_archive(&image, |_, bytes| Some(bytes));
    load(&host, Cli::Corten, archive).fails(1, "");
    assert_eq!(images(&host), ["there:latest"]);
    let broken = Entry::file("../../canary", "x");
    let escaping = Image::new(vec![Layer::new(&[broken], Packing::Gzip)], json!({}));
    load(&host, Cli::Corten, docker_archive(&escaping, "x:1")).fails(1, "leads out of the layer");
    assert_eq!(images(&host), ["there:latest"]);
}

#[test]
fn archives_that_are_none_and_bombs_are_refused() {
    let host = Host::new();
    let whole = docker_archive(&small(), "x:1");
    for (archive, told) in [
        (b"this is no archive, however long it may be ".repeat(100), "invalid archive"),
        (Vec::new(), "unrecognized image format"),
        (vec![0; 1024], "unrecognized image format"),
        (whole[..whole.len() - 2048].to_vec(), ""),
        (whole[..700].to_vec(), "cut off"),
        (b"\xfd7zXZ\0rest".to_vec(), "invalid archive"),
        (b"BZh91AY&SY".to_vec(), "invalid archive"),
        (fixtures::tar(&[Entry::file("repositories", "{}")]), "before 1.10"),
        (fixtures::tar(&[Entry::file("manifest.json", "[]")]), "names no image"),
        (fixtures::tar(&[Entry::file("manifest.json", "[".repeat(100_000))]), "manifest.json"),
        (fixtures::tar(&[Entry::file("manifest.json", vec![b' '; 5 << 20])]), "larger than"),
        // Gigabytes of nothing in a few kilobytes: of the archive, and of a layer in it.
        (fixtures::zeros_packed(6 << 30), "compression ratio"),
        (fixtures::tar(&[Entry::file("layer.tar", fixtures::zeros_packed(6 << 30))]), "compression ratio"),
    ] {
        load(&host, Cli::Docker, archive).fails(1, told);
        assert_clean(&host);
    }
}

#[test]
fn nothing_of_an_image_is_executed() {
    let host = Host::new();
    let trap = host.root().join("sprung");
    let script = format!("#!/bin/sh\ntouch {}\n", trap.display());
    let mut entries = fixtures::busybox_entries();
    for name in ["tar", "gzip", "xz", "unpigz", "zstd", "ps", "usr/bin/tar", "usr/bin/gzip"] {
        entries.push(Entry::program(name, &script));
    }
    entries.push(Entry::program("usr/libnss_files.so.2", &script));
    let image = Image::new(vec![Layer::new(&entries, Packing::Gzip)], json!({"Cmd": ["true"]}));
    load(&host, Cli::Docker, docker_archive(&image, "trojan:1")).ok();
    let out = host.root().join("out.tar").display().to_string();
    host.corten(["save", "--compress", "gzip", "-o", &out, "trojan:1"]).ok();
    host.corten(["run", "--network", "none", "--name", "cc", "trojan:1"]).ok();
    host.corten(["export", "-o", &out, "cc"]).ok();
    host.corten(["commit", "cc", "trojan:2"]).ok();
    host.corten(["diff", "cc"]).ok();
    host.corten(["image", "squash", "--from", "1", "-t", "trojan:3", "trojan:2"]).ok();
    assert!(!trap.exists(), "a program of the image was run");
}
