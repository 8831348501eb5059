use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::Store;

#[test]
fn gzip_is_one_stream_that_comes_back() {
    let mut noise = Vec::new();
    let mut state = 1u64;
    for _ in 0..300_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise.extend_from_slice(&state.to_le_bytes()[3..]);
    }
    for content in [Vec::new(), b"x".to_vec(), vec![7; 5 << 20], noise, vec![1; 1 << 20]] {
        let mut gzip = Gzip::new(Vec::new()).unwrap();
        gzip.write_all(&content).unwrap();
        let packed = gzip.finish().unwrap();
        assert!(packed.len() <= content.len() + content.len() / 500 + 100, "{}", packed.len());
        let mut again = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut again).unwrap();
        assert!(again == content);
    }
}

#[test]
fn what_was_a_file_when_it_was_seen_is_not_opened_as_a_device() {
    use sys::fsx::{self, FileType, Mode, OFlags};
    let dir = tempfile::tempdir().unwrap();
    let (top, path) = (fsx::open_dir(dir.path()).unwrap(), dir.path().join("x"));
    let put = |kind, device| fsx::mknod_at(&top, "x", kind, Mode::from_raw_mode(0o600), device).unwrap();
    std::fs::write(&path, "seen").unwrap();
    let seen = fsx::stat_at(&top, "x").unwrap();
    let open = || tree::open_seen(&top, "x".as_ref(), &seen);
    assert_eq!(io::read_to_string(open().unwrap().unwrap()).unwrap(), "seen");
    // It stays, or its number would be free for another.
    std::fs::rename(&path, dir.path().join("kept")).unwrap();
    // No driver has this number: opening it is an error.
    let nobodys = fsx::makedev(4095, 7);
    for (kind, device) in
        [(FileType::CharacterDevice, nobodys), (FileType::BlockDevice, nobodys), (FileType::Fifo, 0)]
    {
        put(kind, device);
        if device != 0 {
            fsx::open_at(&top, "x", OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap_err();
        }
        assert!(open().unwrap().is_none());
        std::fs::remove_file(&path).unwrap();
    }
    std::os::unix::fs::symlink("kept", &path).unwrap();
    assert!(open().unwrap().is_none());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "another").unwrap();
    assert!(open().unwrap().is_none());
    std::fs::remove_file(&path).unwrap();
    assert!(open().unwrap().is_none());
}

#[test]
fn a_tree_whose_files_become_devices_meanwhile_is_packed_without_opening_them() {
    use std::sync::atomic::{AtomicBool, Ordering};
    use sys::fsx::{self, FileType, Mode};
    let dir = tempfile::tempdir().unwrap();
    let (tree, aside) = (dir.path().join("tree"), dir.path().join("aside"));
    for directory in [&tree, &aside] {
        std::fs::create_dir(directory).unwrap();
    }
    let (top, beside) = (fsx::open_dir(&tree).unwrap(), fsx::open_dir(&aside).unwrap());
    std::fs::write(aside.join("file"), "content").unwrap();
    let (mode, nobodys) = (Mode::from_raw_mode(0o600), fsx::makedev(4095, 7));
    fsx::mknod_at(&beside, "device", FileType::CharacterDevice, mode, nobodys).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for name in ["file", "device"] {
                    fsx::rename_at(&beside, name, &top, "x").unwrap();
                    fsx::rename_at(&top, "x", &beside, name).unwrap();
                }
            }
        });
        // Each try that opened the device would end in an error.
        let tries: Vec<_> = (0..20_000)
            .map(|_| {
                let parts = vec![Part::new(fsx::open_dir(&tree)?, None)];
                let tree = Tree { parts, base: Vec::new(), form: Form::Plain };
                tree.pack(Writer::new(io::sink())).map(drop).map_err(io::Error::other)
            })
            .collect();
        done.store(true, Ordering::Relaxed);
        assert!(tries.len() == 20_000);
        for outcome in tries {
            outcome.unwrap();
        }
    });
}

#[test]
fn only_the_mark_of_this_stores_overlays_hides_what_is_below() {
    use sys::fsx;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    let below = [("mine/below".to_owned(), Deed::File(1)), ("hidden/below".to_owned(), Deed::File(2))];
    let layer = store.unpack_archive(&lease, &archive_of(&below)[..]).unwrap();
    store.create_snapshot("c", std::slice::from_ref(&layer.diff_id), &lease).unwrap();
    let upper = store.mounts("c").unwrap().upper.unwrap();
    for (name, mark) in [("mine", "user.overlay.opaque"), ("hidden", "trusted.overlay.opaque")] {
        std::fs::create_dir(upper.join(name)).unwrap();
        let fd = fsx::open_dir(upper.join(name)).unwrap();
        sys::xattr::set(&fd, mark, b"y").unwrap();
        sys::xattr::set(&fd, "user.colour", b"red").unwrap();
        std::fs::write(upper.join(name).join("own"), "").unwrap();
    }
    let list = |tree: Tree| {
        let bytes = tree.pack(Writer::new(Vec::new())).unwrap();
        let mut archive = crate::archive::Archive::new(&bytes[..]);
        let mut list = Vec::new();
        while let Some(entry) = archive.next_entry().unwrap() {
            archive.data(|_| Ok(())).unwrap();
            let path = String::from_utf8(entry.path.clone()).unwrap();
            if entry.kind == Kind::Directory {
                // Overlay's marks are in no archive, whoever has set them.
                assert_eq!(entry.xattrs, [(b"user.colour".to_vec(), b"red".to_vec())], "{path}");
            }
            list.push(path);
        }
        list
    };
    assert_eq!(
        list(store.seen_tree(&lease, "c").unwrap()),
        ["hidden/", "hidden/own", "mine/", "mine/below", "mine/own"]
    );
    assert_eq!(
        list(store.snapshot_tree(&lease, "c").unwrap()),
        ["hidden/", "hidden/.wh..wh..opq", "hidden/own", "mine/", "mine/own"]
    );
    let changes = store.snapshot_tree(&lease, "c").unwrap().changes().unwrap();
    assert!(changes.iter().any(|change| change.path == b"/hidden"), "{changes:?}");
}

/// What a layer does with a path.
#[derive(Debug, Clone)]
enum Deed {
    File(u8),
    Directory,
    Whiteout,
    Opaque,
}

/// Paths and contents; directories have none.
type View = BTreeMap<String, Option<u8>>;

fn below(path: &str) -> String {
    format!("{path}/")
}

/// A layer whose deeds do not contradict each other.
fn sound(deeds: Vec<(String, Deed)>) -> Vec<(String, Deed)> {
    let mut kept: Vec<(String, Deed)> = Vec::new();
    for (path, deed) in deeds {
        let clash = kept.iter().any(|(known, other)| {
            let leaf = matches!(other, Deed::File(_) | Deed::Whiteout);
            let own_leaf = matches!(deed, Deed::File(_) | Deed::Whiteout);
            *known == path
                || (leaf && path.starts_with(&below(known)))
                || (own_leaf && known.starts_with(&below(&path)))
        });
        if !clash {
            kept.push((path, deed));
        }
    }
    kept
}

/// What a layer makes of what is below it, by the words of OCI's specification.
fn apply_to(view: &mut View, deeds: &[(String, Deed)]) {
    let remove = |view: &mut View, path: &str, itself: bool| {
        view.retain(|known, _| !(known.starts_with(&below(path)) || (itself && known == path)));
    };
    for (path, deed) in deeds {
        match deed {
            Deed::Whiteout => remove(view, path, true),
            Deed::Opaque => remove(view, path, false),
            _ => {}
        }
    }
    for (path, deed) in deeds {
        if matches!(deed, Deed::Whiteout) && !path.contains('/') {
            continue;
        }
        let parents = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
        for parent in parents {
            // In place of a file.
            if view.get(&parent) != Some(&None) {
                view.insert(parent, None);
            }
        }
        match deed {
            Deed::File(content) => {
                remove(view, path, true);
                view.insert(path.clone(), Some(*content));
            }
            Deed::Directory | Deed::Opaque => drop(view.insert(path.clone(), None)),
            Deed::Whiteout => {}
        }
    }
}

fn archive_of(deeds: &[(String, Deed)]) -> Vec<u8> {
    let mut out = Writer::new(Vec::new());
    for (path, deed) in deeds {
        let (parent, name) =
            path.rsplit_once('/').map_or(("", path.as_str()), |(parent, name)| (parent, name));
        match deed {
            Deed::File(content) => out.file(path, 0o644, &[*content]).unwrap(),
            Deed::Directory => out.directory(path, 0o755).unwrap(),
            Deed::Whiteout if parent.is_empty() => out.file(&format!(".wh.{name}"), 0o600, b"").unwrap(),
            Deed::Whiteout => out.file(&format!("{parent}/.wh.{name}"), 0o600, b"").unwrap(),
            Deed::Opaque => {
                out.directory(path, 0o755).unwrap();
                out.file(&format!("{path}/.wh..wh..opq"), 0o600, b"").unwrap();
            }
        }
    }
    out.finish().unwrap()
}

fn seen(store: &Store, id: &str, diff_ids: &[oci::Digest]) -> View {
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    store.create_snapshot(id, diff_ids, &lease).unwrap();
    let bytes = store.seen_tree(&lease, id).unwrap().pack(Writer::new(Vec::new())).unwrap();
    assert!(store.snapshot_tree(&lease, id).unwrap().changes().unwrap().is_empty());
    let mut archive = crate::archive::Archive::new(&bytes[..]);
    let mut view = View::new();
    while let Some(entry) = archive.next_entry().unwrap() {
        let path = String::from_utf8(entry.path.clone()).unwrap().trim_end_matches('/').to_owned();
        let mut content = None;
        archive
            .data(|piece| {
                content = piece.first().copied();
                Ok(())
            })
            .unwrap();
        assert_eq!(entry.kind == Kind::Directory, content.is_none());
        view.insert(path, content);
    }
    view
}

fn deed() -> impl Strategy<Value = (String, Deed)> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c")];
    let path = proptest::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let deed = prop_oneof![
        3 => any::<u8>().prop_map(Deed::File),
        2 => Just(Deed::Directory),
        2 => Just(Deed::Whiteout),
        1 => Just(Deed::Opaque),
    ];
    (path, deed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn squashed_layers_show_the_same(layers in proptest::collection::vec(proptest::collection::vec(deed(), 0..8), 1..5), keep in 0usize..4) {
        squash(layers, keep);
    }
}

/// Directories that layers do not describe must not come back in what hides them.
#[test]
fn what_is_hidden_stays_hidden() {
    let deed = |path: &str, deed| vec![(path.to_owned(), deed)];
    let below = || deed("b/b", Deed::Directory);
    let implied = || deed("b/b/a", Deed::File(0));
    for keep in 0..4 {
        squash(vec![below(), implied(), deed("b", Deed::File(0))], keep);
        squash(vec![below(), deed("b", Deed::File(0)), implied()], keep);
        squash(vec![below(), implied(), deed("b", Deed::Whiteout)], keep);
        squash(vec![below(), implied(), deed("b", Deed::Opaque)], keep);
        squash(vec![below(), deed("b", Deed::Opaque), implied()], keep);
    }
}

fn squash(layers: Vec<Vec<(String, Deed)>>, keep: usize) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    let (mut model, mut diff_ids) = (View::new(), Vec::new());
    for (number, deeds) in layers.into_iter().enumerate() {
        let mut deeds = sound(deeds);
        // Two layers that are the same would be one.
        deeds.push((format!("layer-{number}"), Deed::File(0)));
        apply_to(&mut model, &deeds);
        diff_ids.push(store.unpack_archive(&lease, &archive_of(&deeds)[..]).unwrap().diff_id);
    }
    assert_eq!(seen(&store, "before", &diff_ids), model);
    let (base, rest) = diff_ids.split_at(keep.min(diff_ids.len() - 1));
    let squashed = store.squash_layers(&lease, base, rest).unwrap();
    let after: Vec<oci::Digest> = base.iter().cloned().chain([squashed.diff_id]).collect();
    assert_eq!(seen(&store, "after", &after), model);
}

#[test]
fn directories_count_as_changed_by_what_is_said_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    let mut below = Writer::new(Vec::new());
    below.directory("kept", 0o755).unwrap();
    let layer = store.unpack_archive(&lease, &below.finish().unwrap()[..]).unwrap();
    store.create_snapshot("box", std::slice::from_ref(&layer.diff_id), &lease).unwrap();
    let own = dir.path().join("snapshots/box/fs");
    let make = |path: &str| std::fs::create_dir_all(own.join(path)).unwrap();
    let write = |path: &str, content: &str| std::fs::write(own.join(path), content).unwrap();
    let changes = || -> Vec<String> {
        let changes = store.snapshot_tree(&lease, "box").unwrap().changes().unwrap();
        changes.into_iter().map(|change| String::from_utf8(change.path).unwrap()).collect()
    };
    // As overlay copies it before it changes something.
    make("kept");
    let kept = sys::fsx::open_dir(own.join("kept")).unwrap();
    let time = sys::fsx::Time { seconds: 0, nanoseconds: 0 };
    sys::fsx::set_times(&kept, time, time).unwrap();
    // The engine's places for its own files, and the directories they needed.
    make("etc");
    write("etc/hosts", "");
    write("etc/resolv.conf", "");
    make("sbin");
    write("sbin/docker-init", "");
    assert_eq!(changes(), Vec::<String>::new());
    sys::xattr::set(&kept, "user.key", b"value").unwrap();
    assert_eq!(changes(), ["/kept"]);
    make("etc/own");
    write("sbin/docker-init", "program");
    assert_eq!(changes(), ["/etc", "/etc/own", "/kept", "/sbin", "/sbin/docker-init"]);
    let layer = store.snapshot_tree(&lease, "box").unwrap().pack(Writer::new(Vec::new())).unwrap();
    let mut archive = crate::archive::Archive::new(&layer[..]);
    let mut found = BTreeMap::new();
    while let Some(entry) = archive.next_entry().unwrap() {
        found.insert(String::from_utf8(entry.path.clone()).unwrap(), entry.xattrs.clone());
    }
    assert_eq!(
        found.keys().map(|path| path.trim_end_matches('/')).collect::<Vec<_>>(),
        ["etc", "etc/own", "kept", "sbin", "sbin/docker-init"]
    );
    let kept = found.iter().find(|(path, _)| path.starts_with("kept")).unwrap();
    assert_eq!(kept.1, &[(b"user.key".to_vec(), b"value".to_vec())]);
}

#[test]
fn what_is_removed_while_it_is_read_is_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    let mut below = Writer::new(Vec::new());
    below.file("below", 0o644, b"b").unwrap();
    let layer = store.unpack_archive(&lease, &below.finish().unwrap()[..]).unwrap();
    store.create_snapshot("box", std::slice::from_ref(&layer.diff_id), &lease).unwrap();
    let path = dir.path().join("snapshots/box");
    std::fs::write(path.join("fs/own"), "o").unwrap();
    let reader = store.lease("reader", Duration::from_secs(60)).unwrap();
    let tree = store.seen_tree(&reader, "box").unwrap();
    drop(lease);
    store.remove_snapshot("box").unwrap();
    store.gc().unwrap();
    store.wait_for_removals();
    let bytes = tree.pack(Writer::new(Vec::new())).unwrap();
    for name in [&b"below"[..], b"own"] {
        assert!(bytes.windows(name.len()).any(|window| window == name), "{}", String::from_utf8_lossy(name));
    }
    drop(reader);
    assert!(path.exists());
    store.gc().unwrap();
    assert!(!path.exists() && store.layer(&layer.diff_id).unwrap().is_none());
    store.snapshot_tree(&store.lease("late", Duration::from_secs(60)).unwrap(), "box").unwrap_err();
}
