//! Layers of an image made one, and looked into.

use kit::fixtures::{Entry, Image, Layer, Packing, busybox};
use kit::{Host, fixtures};
use serde_json::{Value, json};

/// Everything there is, seen from inside a container.
const LOOK: &str = "ls /bin; find / -xdev ! -path '/bin/*' ! -path '/etc/host*' ! -path /etc/resolv.conf ! -path / ! -path /etc \
     ! -path '/dev*' | sort | while read -r f; do stat -c '%n %f %u %g %s %t %T %Y' \"$f\"; \
     [ -L \"$f\" ] && readlink \"$f\"; [ -f \"$f\" ] && sha256sum <\"$f\"; done; true";

fn seen(host: &Host, name: &str) -> String {
    let output =
        host.corten(["run", "--rm", "--network", "none", "--entrypoint", "sh", name, "-c", LOOK]).ok();
    // The size of a directory is the file system's business.
    let stable = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        match words.get(1) {
            Some(mode) if mode.starts_with('4') && words.len() > 5 => {
                format!("{} {} {} {}", words[0], words[1], words[2], words[3])
            }
            _ => line.to_owned(),
        }
    };
    // Made anew for each container.
    let of_the_image = |line: &&str| !line.starts_with("/.dockerenv ");
    output.lines().filter(of_the_image).map(stable).collect::<Vec<_>>().join("\n")
}

fn layers(host: &Host, name: &str) -> Vec<Value> {
    let text = host.corten(["image", "layers", "--json", name]).ok();
    serde_json::from_str(&text).expect("JSON")
}

/// Layers that add, change, hide, replace and bring back.
fn tangled() -> Image {
    let mut image = busybox();
    let layers: [Vec<Entry>; 5] = [
        vec![
            Entry::dir("a"),
            Entry::file("a/one", "one"),
            Entry::file("a/two", "two"),
            Entry::dir("b"),
            Entry::file("b/hidden", "hidden"),
            Entry::dir("b/sub"),
            Entry::file("b/sub/hidden", "x"),
            Entry::Dir("private".into(), 0o700),
            Entry::file("first", "linked"),
            Entry::Link("second".into(), "first".into()),
            Entry::dir("becomes-file"),
            Entry::file("becomes-file/x", "x"),
            Entry::file("becomes-dir", "x"),
            Entry::file("base-file", "base"),
        ],
        vec![
            Entry::Whiteout("a/one".into()),
            Entry::Opaque("b".into()),
            Entry::file("b/shown", "shown"),
            Entry::file("private/in", "no entry for its directory"),
            Entry::Whiteout("bin/vi".into()),
            Entry::Whiteout("becomes-file".into()),
            Entry::file("becomes-file", "file"),
            Entry::Whiteout("becomes-dir".into()),
            Entry::file("big", vec![b'b'; 100_000]),
        ],
        vec![
            Entry::file("a/one", "one again"),
            Entry::Whiteout("a/two".into()),
            Entry::Whiteout("b".into()),
            Entry::Whiteout("home".into()),
            Entry::dir("becomes-dir"),
            Entry::file("becomes-dir/in", "in"),
            Entry::file("big", vec![b'c'; 90_000]),
            Entry::file("linked-a", "l"),
            Entry::Link("linked-b".into(), "linked-a".into()),
        ],
        vec![
            Entry::dir("b"),
            Entry::file("b/new", "new"),
            Entry::Whiteout("big".into()),
            Entry::Whiteout("etc/group".into()),
            Entry::Dir("tmp".into(), 0o1777),
            Entry::Xattr("attributed".into(), "user.colour".into(), b"rust".to_vec()),
            Entry::Owned("owned".into(), 1000, 100),
        ],
        vec![Entry::Whiteout("linked-a".into()), Entry::dir("home"), Entry::file("home/x", "x")],
    ];
    for (number, entries) in layers.iter().enumerate() {
        let packing = [Packing::Gzip, Packing::Zstd, Packing::Plain][number % 3];
        image.layers.push(Layer::new(entries, packing));
    }
    image
}

#[test]
fn the_files_are_the_same_from_whatever_layer_on() {
    let host = Host::new();
    host.give(&tangled(), "tangled");
    let before = seen(&host, "tangled");
    assert!(before.contains("/b/new ") && !before.contains("/b/shown "), "{before}");
    let all = layers(&host, "tangled");
    assert_eq!(all.len(), 6);
    for from in 1..=6 {
        let name = format!("squashed:{from}");
        let id = host.corten(["image", "squash", "--from", &from.to_string(), "-t", &name, "tangled"]).ok();
        assert_eq!(host.corten(["image", "inspect", "-f", "{{.Id}}", &name]).ok(), id);
        let after = seen(&host, &name);
        let differs = before.lines().zip(after.lines()).find(|(one, other)| one != other);
        assert_eq!(differs, None, "from {from}");
        assert_eq!(after.lines().count(), before.lines().count(), "from {from}");
        let after = layers(&host, &name);
        assert_eq!(after.len(), from);
        let links = ["run", "--rm", "--network", "none", &name, "stat", "-c", "%h %i", "/first", "/second"];
        let links = host.corten(links).ok();
        let links: Vec<&str> = links.lines().collect();
        assert!(links[0].starts_with("2 ") && links[0] == links[1], "one file with two names: {links:?}");
        for (old, new) in all.iter().zip(&after).take(from - 1) {
            assert_eq!(old["Digest"], new["Digest"], "the base is kept");
        }
    }
    let digest = all[2]["Digest"].as_str().expect("a digest").to_owned();
    let by_digest = host.corten(["image", "squash", "--from", &digest[7..19], "tangled"]).ok();
    assert_eq!(layers(&host, &by_digest).len(), 3);
    let default = host.corten(["image", "squash", "tangled"]).ok();
    let shares = layers(&host, &default);
    assert_eq!(shares.len(), 2);
    assert_eq!(shares[1]["Wasted"], 0, "nothing is brought that is not seen");
    let sum =
        |layers: &[Value], field: &str| -> i64 { layers.iter().filter_map(|l| l[field].as_i64()).sum() };
    assert!(sum(&shares, "UnpackedSize") < sum(&all, "UnpackedSize"));
    for (from, told) in
        [("0", "nothing to squash"), ("7", "nothing to squash"), ("fedcba98", "No such layer")]
    {
        host.corten(["image", "squash", "--from", from, "tangled"]).fails(1, told);
    }
    host.corten(["image", "squash", "none"]).fails(1, "No such image: none:latest");
}

#[test]
fn a_squashed_image_is_an_image_like_others() {
    let host = Host::new();
    host.give(&fixtures::odd_entries(), "odd");
    let config = |name: &str| host.corten(["image", "inspect", "-f", "{{json .Config}}", name]).ok();
    host.corten(["image", "squash", "--from", "1", "-t", "flat", "odd"]).ok();
    assert_eq!(config("flat"), config("odd"));
    assert_eq!(seen(&host, "flat"), seen(&host, "odd"));
    let path = host.root().join("flat.tar").display().to_string();
    host.docker(["save", "-o", &path, "flat"]).ok();
    host.corten(["rmi", "flat", "odd"]).ok();
    host.docker(["load", "-i", &path]).ok();
    let run = ["run", "--rm", "--network", "none", "flat", "sh", "-c", "cat /o/shown /second; ls /d"];
    assert_eq!(host.docker(run).ok(), "upperone inodestays");
}

#[test]
fn layers_say_what_they_bring_and_what_is_wasted() {
    let host = Host::new();
    let mut image = Image::new(vec![], json!({"Cmd": ["x"]}));
    for entries in [
        vec![Entry::dir("d"), Entry::file("d/a", vec![b'a'; 1000]), Entry::file("b", vec![b'b'; 500])],
        vec![Entry::file("b", vec![b'c'; 700]), Entry::file("new", "12345")],
        vec![Entry::Whiteout("d".into()), Entry::Whiteout("new".into())],
    ] {
        image.layers.push(Layer::new(&entries, Packing::Gzip));
    }
    host.give(&image, "shares");
    let told = layers(&host, "shares");
    let fields = |layer: &Value| {
        ["UnpackedSize", "Added", "Changed", "Removed", "Wasted"]
            .map(|field| layer[field].as_i64().expect("a number"))
    };
    let told: Vec<[i64; 5]> = told.iter().map(fields).collect();
    assert_eq!(told, [[1500, 2, 0, 0, 1500], [705, 1, 1, 0, 5], [0, 0, 0, 2, 0]]);
    let table = host.corten(["image", "layers", "shares"]).ok();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[0].starts_with("LAYER     DIGEST         SIZE"), "{table}");
    assert!(lines[1].contains("1.5kB") && lines[1].ends_with("layer 0"), "{table}");
    host.corten(["image", "layers", "none"]).fails(1, "No such image: none:latest");
}
