use super::*;
use crate::archive::tests::{header, padded, record as archive_record};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("layer")).unwrap();
        fs::create_dir(dir.path().join("host")).unwrap();
        fs::write(dir.path().join("host/canary"), "untouched").unwrap();
        Self { dir }
    }

    fn layer(&self) -> PathBuf {
        self.dir.path().join("layer")
    }

    fn apply(&self, parts: &[Vec<u8>]) -> Result<Applied> {
        self.apply_with(parts, &Limits::default())
    }

    fn apply_with(&self, parts: &[Vec<u8>], limits: &Limits) -> Result<Applied> {
        let archive = [parts.concat(), vec![0; 1024]].concat();
        let outcome = apply(&archive[..], &Root::open(self.layer()).unwrap(), limits);
        assert_eq!(fs::read(self.dir.path().join("host/canary")).unwrap(), b"untouched");
        assert_eq!(fs::read_dir(self.dir.path().join("host")).unwrap().count(), 1);
        outcome
    }

    fn stat(&self, path: &str) -> fs::Metadata {
        fs::symlink_metadata(self.layer().join(path)).unwrap()
    }
}

fn file(name: &str, content: &str) -> Vec<u8> {
    [header(name, b'0', content.len() as u64, |_| ()), padded(content.as_bytes())].concat()
}

fn dir(name: &str) -> Vec<u8> {
    header(name, b'5', 0, |block| block[100..108].copy_from_slice(b"0000755\0"))
}

fn link(name: &str, kind: u8, target: &str) -> Vec<u8> {
    header(name, kind, 0, |block| block[157..157 + target.len()].copy_from_slice(target.as_bytes()))
}

fn with_pax(record: &str, entry: Vec<u8>) -> Vec<u8> {
    let line = archive_record(record);
    [header("pax", b'x', line.len() as u64, |_| ()), padded(line.as_bytes()), entry].concat()
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../host/evil", "a/../../host/evil", "..", "/../x", "./../host/canary"] {
        let world = World::new();
        let error = world.apply(&[file(name, "evil")]).unwrap_err();
        assert!(error.to_string().contains("leads out of the layer"), "{name}: {error}");
    }
}

#[test]
fn links_out_of_the_layer_lead_nowhere() {
    let world = World::new();
    let host = world.dir.path().join("host");
    let host = host.to_str().unwrap();
    world.apply(&[link("abs", b'2', host), file("abs/evil", "x")]).unwrap();
    world.apply(&[link("up", b'2', "../host"), file("up/evil", "x")]).unwrap();
    world
        .apply(&[
            dir("d"),
            link("d/l", b'2', "../../../../host"),
            dir("d/l/deep"),
            file("d/l/deep/evil", "x"),
        ])
        .unwrap();
    // Through a link that is replaced, and over a link.
    world.apply(&[link("x", b'2', &format!("{host}/canary")), file("x", "mine")]).unwrap();
    assert_eq!(fs::read(world.layer().join("x")).unwrap(), b"mine");
    assert!(world.stat("x").file_type().is_file());
    world.apply(&[link("y", b'2', host), dir("y"), file("y/z", "mine")]).unwrap();
    assert!(world.stat("y").is_dir());
}

#[test]
fn hard_links_stay_inside() {
    let world = World::new();
    let canary = world.dir.path().join("host/canary");
    for target in [canary.to_str().unwrap(), "missing", "dir", "."] {
        assert!(world.apply(&[dir("dir"), link("h", b'1', target)]).is_err(), "{target}");
    }
    assert!(world.apply(&[link("h", b'1', "../host/canary")]).is_err());
    // To a symbolic link: the link itself gets a second name, and writing through it does nothing outside.
    world
        .apply(&[link("s", b'2', canary.to_str().unwrap()), link("h", b'1', "s"), file("h", "mine")])
        .unwrap();
    world
        .apply(&[file("f", "one"), link("g", b'1', "f"), link("g", b'1', "g"), link("g", b'1', "/f")])
        .unwrap();
    assert_eq!(world.stat("f").ino(), world.stat("g").ino());
    assert!(world.apply(&[link("l", b'2', "/"), link("k", b'1', "l/../../host/canary")]).is_err());
}

#[test]
fn whiteouts() {
    let world = World::new();
    world
        .apply(&[
            dir("d"),
            file("d/.wh.gone", ""),
            file("d/kept", "x"),
            file("d/.wh.kept", ""),
            dir("o"),
            file("o/.wh..wh..opq", ""),
            file(".wh..wh.plnk", ""),
            file(".wh.back", ""),
            file("back/file", "x"),
            file(".wh.again", ""),
            dir("again"),
        ])
        .unwrap();
    let gone = world.stat("d/gone");
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert!(world.stat("d/kept").is_file());
    for path in ["o", "back", "again"] {
        let fd = fsx::open_dir(world.layer().join(path)).unwrap();
        assert_eq!(sys::xattr::get(fd, OPAQUE).unwrap().as_deref(), Some(&b"y"[..]), "{path}");
    }
    assert!(!world.layer().join(".wh..wh.plnk").exists());
    for odd in [".wh.", ".wh...", ".wh..", "a/.wh..."] {
        assert!(World::new().apply(&[file(odd, "")]).is_err(), "{odd}");
    }
    let world = World::new();
    let host = world.dir.path().join("host");
    world
        .apply(&[
            link("l", b'2', host.to_str().unwrap()),
            file("l/.wh.canary", ""),
            file("l/.wh..wh..opq", ""),
        ])
        .unwrap();
}

#[test]
fn attributes() {
    let world = World::new();
    let suid = header("suid", b'0', 0, |block| {
        block[100..108].copy_from_slice(b"0004755\0");
        block[108..116].copy_from_slice(b"0001750\0");
        block[116..124].copy_from_slice(b"0000012\0");
        block[136..148].copy_from_slice(b"00000000144\0");
    });
    world.apply(&[suid, with_pax("mtime=1000.25", dir("d")), file("d/later", "x")]).unwrap();
    let stat = world.stat("suid");
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime()), (0o4755, 1000, 10, 100));
    assert_eq!((world.stat("d").mtime(), world.stat("d").mtime_nsec()), (1000, 250_000_000));

    let capability = "SCHILY.xattr.security.capability=\u{1}\0\0\u{2}\0\u{4}\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    world.apply(&[with_pax(capability, file("cap", "x"))]).unwrap();
    let cap = File::open(world.layer().join("cap")).unwrap();
    assert_eq!(sys::xattr::get(&cap, "security.capability").unwrap().unwrap().len(), 20);
    world.apply(&[with_pax("SCHILY.xattr.user.x=y", link("l", b'2', "t"))]).unwrap();
    for evil in ["trusted.overlay.redirect=/x", "trusted.overlay.opaque=y", "trusted.overlay.metacopy="] {
        let error = world.apply(&[with_pax(&format!("SCHILY.xattr.{evil}"), dir("e"))]).unwrap_err();
        assert!(error.to_string().contains("not for layers to set"), "{error}");
    }
}

#[test]
fn nodes_and_fifos() {
    let world = World::new();
    let null = header("null", b'3', 0, |block| {
        block[329..337].copy_from_slice(b"0000001\0");
        block[337..345].copy_from_slice(b"0000003\0");
    });
    world.apply(&[null, header("fifo", b'6', 0, |_| ()), file("fifo", "replaced, not written to")]).unwrap();
    assert_eq!(world.stat("null").rdev(), fs::metadata("/dev/null").unwrap().rdev());
    assert_eq!(world.stat("null").permissions().mode() & 0o777, 0o644);
    assert!(world.stat("fifo").is_file());
}

#[test]
fn limits_hold() {
    let few = Limits { entries_max: 3, depth_max: 4, ..Limits::default() };
    let world = World::new();
    let files: Vec<Vec<u8>> = (0..4).map(|n| file(&format!("f{n}"), "")).collect();
    assert!(matches!(world.apply_with(&files, &few), Err(Error::Limit { .. })));
    assert!(matches!(world.apply_with(&[file("a/b/c/d/e", "")], &few), Err(Error::Limit { .. })));
    let deep = World::new().apply_with(&[file("x/y/z", ""), file("v/w", "")], &few);
    assert!(matches!(deep, Err(Error::Limit { .. })), "directories without an entry count too");
    assert!(world.apply(&[with_pax(&format!("path={}", "n".repeat(256)), file("x", ""))]).is_err());
    assert!(
        world
            .apply(&[with_pax(&format!("path={}", "n/".repeat(400) + &"x/".repeat(2000)), file("x", ""))])
            .is_err()
    );
}

#[test]
fn what_the_layer_does_not_describe_is_remembered() {
    let world = World::new();
    let applied = world.apply(&[file("a/b/f", ""), dir("c"), file("c/d/f", ""), dir("c/d")]).unwrap();
    let implied: Vec<&str> = applied.implied.iter().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(implied, ["", "a", "a/b"]);
    assert_eq!(world.stat("a").mode() & 0o7777, 0o755);
    let applied = world.apply(&[dir("./"), file("f", "")]).unwrap();
    assert_eq!(applied.implied, Vec::<PathBuf>::new());
}

#[test]
fn a_file_is_no_directory() {
    let world = World::new();
    assert!(world.apply(&[file("f", "x"), file("f/g", "y")]).is_err());
    assert!(world.apply(&[link("loop", b'2', "loop"), file("loop/g", "y")]).is_err());
    assert!(world.apply(&[file("./", "")]).is_ok(), "a name with a slash is a directory");
    assert!(world.apply(&[link(".", b'2', "/etc")]).is_err());
}
