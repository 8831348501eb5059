//! From pull to removal.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use crate::world::{self, Layer, World, gzip};
use storage::{Error, Expected, ImageLayer, NewImage, NewRecord, PlatformManifest, Resource, Store};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image with these layers, put and named.
pub fn pull(store: &Store, name: &str, layers: &[Layer]) -> NewImage {
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    let mut parts = Vec::new();
    for layer in layers {
        let unpacked = match store.write_layer(&lease, layer.expected(LAYER)) {
            Ok(mut writer) => {
                writer.write(&layer.bytes).unwrap();
                writer.commit(Some(&layer.diff_id)).unwrap()
            }
            Err(Error::Exists { .. }) => {
                store.unpack_blob(&lease, &layer.digest, Some(&layer.diff_id)).unwrap()
            }
            Err(error) => panic!("{error}"),
        };
        parts.push(ImageLayer {
            digest: layer.digest.clone(),
            size: layer.bytes.len() as u64,
            media_type: LAYER.into(),
            diff_id: unpacked.diff_id,
        });
    }
    let config = format!("{{\"config of\":{name:?}}}");
    let manifest = format!("{{\"manifest of\":{name:?}}}");
    let config_digest = store.put_blob(&lease, CONFIG, config.as_bytes()).unwrap();
    let id = store.put_blob(&lease, MANIFEST, manifest.as_bytes()).unwrap();
    let image = NewImage {
        id: id.clone(),
        media_type: MANIFEST.into(),
        size: manifest.len() as u64,
        manifests: vec![PlatformManifest {
            digest: id,
            size: manifest.len() as u64,
            media_type: MANIFEST.into(),
            platform: "linux/amd64".into(),
            config: config_digest,
            config_size: config.len() as u64,
            layers: parts,
        }],
        other_blobs: Vec::new(),
        parent: None,
    };
    store
        .durable_transaction(|tx| {
            tx.put_image(&image)?;
            tx.tag_image(name, &image.id)
        })
        .unwrap();
    image
}

#[test]
fn small_blobs_are_put_while_others_are_thrown_away() {
    let world = World::new();
    let store = world.open();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let rubbish = world.dir().join("rubbish");
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                fs::create_dir(&rubbish).unwrap();
                store.throw_away(&rubbish).unwrap();
            }
        });
        for number in 0..500 {
            let put = store.put_blob(&lease, "text/plain", format!("{number}").as_bytes());
            if put.is_err() {
                done.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            put.unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    drop((lease, store));
    // What was being written when the process ended.
    fs::write(world.root().join("content/new/half"), "x").unwrap();
    world.open().wait_for_removals();
    assert_eq!(world.files_below("content/new") + world.files_below("trash"), 0);
}

#[test]
fn a_data_root_has_one_owner_and_is_private() {
    let world = World::new();
    let store = world.open();
    let error = Store::open(world.root()).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }));
    assert!(error.to_string().contains("is in use by another daemon"), "{error}");
    for below in
        ["layers", "snapshots", "content", "content/blobs/sha256", "content/ingest", "content/new", "trash"]
    {
        let mode = fs::metadata(world.root().join(below)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{below}");
    }
    for file in ["meta.db", "meta.db-wal", "meta.db-shm", "lock"] {
        assert_eq!(fs::metadata(world.root().join(file)).unwrap().mode() & 0o777, 0o600, "{file}");
    }
    drop(store);
    world.open();
}

#[test]
fn damaged_and_newer_metadata_are_said_to_be_that() {
    let world = World::new();
    drop(world.open());
    let meta = world.root().join("meta.db");
    let good = fs::read(&meta).unwrap();
    fs::write(
        &meta,
        b"this is not a database, it is a text of more than a hundred bytes that somebody wrote over it. "
            .repeat(20),
    )
    .unwrap();
    let error = Store::open(world.root()).unwrap_err();
    assert!(matches!(error, Error::CorruptMetadata { .. }), "{error:?}");
    let mut newer = good;
    newer[60..64].copy_from_slice(&77u32.to_be_bytes());
    fs::write(&meta, newer).unwrap();
    let error = Store::open(world.root()).unwrap_err();
    assert!(matches!(error, Error::NewerMetadata { found: 77, .. }), "{error:?}");
}

#[test]
fn images_from_pull_to_removal() {
    let world = World::new();
    let store = world.open();
    let base = Layer::of(&world, &[("etc/os-release", "ID=test"), ("bin/sh", "#!")]);
    let top = Layer::of(&world, &[("app/run", "x")]);
    let one = pull(&store, "docker.io/library/one:latest", std::slice::from_ref(&base));
    let two = pull(&store, "docker.io/library/two:latest", &[base.clone(), top.clone()]);

    let listed = store.transaction(|tx| Ok((tx.images()?, tx.dangling_images()?))).unwrap().0;
    assert_eq!(listed.len(), 2);
    assert!(listed[0].unpacked_bytes >= 12288);
    store
        .transaction(|tx| {
            assert_eq!(tx.image_by_name("docker.io/library/one:latest")?.unwrap().image, one);
            assert_eq!(tx.image_by_prefix(&one.id.hex()[..12])?.unwrap().image, one);
            assert_eq!(tx.image_by_prefix(one.manifests[0].config.as_str())?.unwrap().image, one);
            assert!(tx.image_by_prefix("zz")?.is_none());
            assert_eq!(tx.tag_image("docker.io/library/one:latest", &two.id)?, Some(one.id.clone()));
            assert_eq!(tx.dangling_images()?.len(), 1);
            Ok(())
        })
        .unwrap();
    assert_eq!(store.gc().unwrap(), storage::Collected::default(), "an image without a name stays");

    store.transaction(|tx| tx.remove_image(&two.id)).unwrap();
    let collected = store.gc().unwrap();
    assert_eq!((collected.blobs, collected.layers), (3, 1));
    assert!(store.layer(&base.diff_id).unwrap().is_some());
    store.transaction(|tx| tx.remove_image(&one.id)).unwrap();
    store.gc().unwrap();
    assert_eq!(store.totals().unwrap(), storage::Totals::default());
    store.wait_for_removals();
    assert_eq!(world.files_below("content") + world.files_below("layers") + world.files_below("trash"), 0);
}

#[test]
fn downloads_go_on_where_they_stopped() {
    let world = World::new();
    let store = world.open();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    let layer = Layer::of(&world, &[("big", &"0123456789abcdef".repeat(100_000)), ("small", "x")]);
    let half = layer.bytes.len() / 2;
    let mut writer = store.write_layer(&lease, layer.expected(LAYER)).unwrap();
    writer.write(&layer.bytes[..half]).unwrap();
    assert!(matches!(store.write_layer(&lease, layer.expected(LAYER)), Err(Error::Busy { .. })));
    assert!(!store.wait_until_idle(&layer.digest, Duration::ZERO));
    drop(writer);
    assert!(store.wait_until_idle(&layer.digest, Duration::from_secs(5)));
    drop(lease);
    drop(store);

    let store = world.open();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    let mut writer = store.write_layer(&lease, layer.expected(LAYER)).unwrap();
    assert_eq!(writer.offset(), half as u64);
    writer.write(&layer.bytes[half..]).unwrap();
    let unpacked = writer.commit(Some(&layer.diff_id)).unwrap();
    assert_eq!(unpacked.entries, 2);
    let mut blob = Vec::new();
    store.open_blob(&layer.digest).unwrap().read_to_end(&mut blob).unwrap();
    assert_eq!(blob, layer.bytes);
    assert_eq!(world.files_below("content/ingest"), 0);

    // The same for a blob that is no layer, and from the beginning.
    let plain = vec![7; 300_000];
    let expected =
        Expected { digest: world::digest(&plain), size: plain.len() as u64, media_type: String::new() };
    let mut ingest = store.ingest(&lease, expected.clone()).unwrap();
    ingest.write(&plain[..200_000]).unwrap();
    drop(ingest);
    let mut ingest = store.ingest(&lease, expected.clone()).unwrap();
    assert_eq!(ingest.offset(), 200_000);
    ingest.restart().unwrap();
    ingest.write(&plain).unwrap();
    ingest.commit().unwrap();
    assert!(matches!(store.ingest(&lease, expected.clone()), Err(Error::Exists { .. })));
    assert_eq!(store.read_blob(&expected.digest, 1 << 20).unwrap(), plain);
    assert!(matches!(store.read_blob(&expected.digest, 10), Err(Error::Limit { .. })));
}

#[test]
fn lies_are_found_and_leave_nothing() {
    let world = World::new();
    let store = world.open();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    let layer = Layer::of(&world, &[("f", "content")]);
    let other = Layer::of(&world, &[("f", "another")]);
    let write = |expected: Expected, bytes: &[u8], diff_id: &oci::Digest| {
        let mut writer = store.write_layer(&lease, expected)?;
        writer.write(bytes)?;
        writer.commit(Some(diff_id))
    };
    let expected = layer.expected(LAYER);
    let size = expected.size;
    // Another layer than promised, of the right size.
    let lying = Expected { digest: other.digest.clone(), ..expected.clone() };
    assert!(matches!(write(lying, &layer.bytes, &layer.diff_id), Err(Error::DigestMismatch { .. })));
    assert!(matches!(
        write(expected.clone(), &layer.bytes, &other.diff_id),
        Err(Error::DigestMismatch { .. })
    ));
    let longer = Expected { size: size + 1, ..expected.clone() };
    assert!(matches!(write(longer, &layer.bytes, &layer.diff_id), Err(Error::SizeMismatch { .. })));
    let shorter = Expected { size: size - 1, ..expected.clone() };
    assert!(matches!(write(shorter, &layer.bytes, &layer.diff_id), Err(Error::SizeMismatch { .. })));
    // No archive at all, and a damaged one.
    for bytes in [
        b"<html>not here</html>".to_vec(),
        gzip(b"no archive"),
        layer.bytes[..layer.bytes.len() / 2].to_vec(),
    ] {
        let expected =
            Expected { digest: world::digest(&bytes), size: bytes.len() as u64, media_type: LAYER.into() };
        let error = write(expected, &bytes, &layer.diff_id).unwrap_err();
        assert!(matches!(error, Error::InvalidLayer { .. }), "{error:?}");
    }
    let config = Expected { media_type: CONFIG.into(), ..expected.clone() };
    assert!(matches!(store.write_layer(&lease, config), Err(Error::UnsupportedMediaType { .. })));
    // One digest with two meanings.
    write(expected.clone(), &layer.bytes, &layer.diff_id).unwrap();
    let manifest = Expected { media_type: MANIFEST.into(), ..expected };
    assert!(matches!(
        store.put_expected_blob(&lease, &manifest, &layer.bytes),
        Err(Error::TwoMeanings { .. })
    ));

    drop(lease);
    store.gc().unwrap();
    store.wait_for_removals();
    assert_eq!(store.totals().unwrap(), storage::Totals::default());
    let kept = world.files_below("content/ingest");
    assert!(kept <= 1, "only the one whose size was wrong by one may wait for more: {kept}");
    assert_eq!(
        world.files_below("layers") + world.files_below("trash") + world.files_below("content/blobs"),
        0
    );
}

#[test]
fn bombs_are_stopped() {
    let world = World::new();
    let limits = storage::Limits {
        ratio_max: 100,
        ratio_from: 1 << 20,
        bytes_max: 8 << 20,
        entries_max: 1000,
        ..Default::default()
    };
    let store = Store::open_with(world.root(), limits).unwrap();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    let unpack = |layer: &Layer| {
        let mut writer = store.write_layer(&lease, layer.expected(LAYER))?;
        writer.write(&layer.bytes)?;
        writer.commit(None)
    };
    let zeros = Layer::of(&world, &[("zeros", &"\0".repeat(4 << 20))]);
    assert!(matches!(unpack(&zeros), Err(Error::Limit { what: "compression ratio of a layer", .. })));
    let endless = Layer::of(&world, &[("big", &world::noise(9 << 20))]);
    assert!(matches!(unpack(&endless), Err(Error::Limit { what: "uncompressed size of a layer", .. })));
    let names: Vec<String> = (0..1001).map(|n| format!("f{n}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let many = Layer::of(&world, &files);
    assert!(matches!(unpack(&many), Err(Error::Limit { what: "number of entries of a layer", .. })));
    let diff_ids = vec![many.diff_id.clone(); 10_000];
    assert!(matches!(store.prepare_snapshot("s", &diff_ids), Err(Error::Limit { .. })));
    store.wait_for_removals();
    assert_eq!(
        world.files_below("layers") + world.files_below("content") + world.files_below("snapshots"),
        0
    );
}

#[test]
fn compressions() {
    let world = World::new();
    let store = world.open();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    let tar = world.tar(&[("f", "content"), ("g", &world::noise(700_000))]);
    let half = tar.len() / 2;
    let zstd = |bytes: &[u8]| world.filter("zstd -q -c", bytes);
    let several = [
        tar.clone(),
        gzip(&tar),
        [gzip(&tar[..half]), gzip(&tar[half..])].concat(),
        zstd(&tar),
        [b"\x50\x2a\x4d\x18\x04\0\0\0skip".to_vec(), zstd(&tar[..half]), zstd(&tar[half..])].concat(),
        [world.filter("xz -9 -c", &tar[..half]), world.filter("xz -C sha256 -c", &tar[half..])].concat(),
        [world.filter("bzip2 -c", &tar[..half]), world.filter("bzip2 -c", &tar[half..])].concat(),
    ];
    for bytes in several {
        let expected =
            Expected { digest: world::digest(&bytes), size: bytes.len() as u64, media_type: String::new() };
        let mut writer = store.write_layer(&lease, expected).unwrap();
        for piece in bytes.chunks(1000) {
            writer.write(piece).unwrap();
        }
        assert_eq!(writer.commit(None).unwrap().diff_id, world::digest(&tar));
    }
    // What asks for more memory than it is given, and what is cut off.
    let greedy = world.filter("xz --lzma2=dict=256MiB -c", &tar);
    let xz = world.filter("xz -c", &tar);
    let bzip2 = world.filter("bzip2 -c", &tar);
    for wrong in [&greedy[..], &xz[..xz.len() / 2], &bzip2[..bzip2.len() / 2]] {
        let expected =
            Expected { digest: world::digest(wrong), size: wrong.len() as u64, media_type: String::new() };
        let mut writer = store.write_layer(&lease, expected).unwrap();
        let error = writer.write(wrong).and_then(|()| writer.commit(None)).unwrap_err();
        assert!(error.to_string().contains("cannot be decompressed"), "{error}");
    }
    // Two registries' copies of one layer are one directory.
    assert_eq!(store.totals().unwrap().layers, 1);
}

#[test]
fn layers_of_one_stream_are_unpacked_side_by_side() {
    let world = World::new();
    let store = world.open();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    let expected = |bytes: &[u8]| Expected {
        digest: world::digest(bytes),
        size: bytes.len() as u64,
        media_type: String::new(),
    };
    let tars = [1, 2, 3].map(|n| world.tar(&[("f", &world::noise(700_000 + n)), ("g", "content")]));
    let blobs: Vec<Vec<u8>> = tars.iter().map(|tar| gzip(tar)).collect();
    let mut writers = Vec::new();
    for blob in &blobs {
        let mut writer = store.write_layer_ahead(&lease, expected(blob)).unwrap();
        for piece in blob.chunks(100_000) {
            writer.write(piece).unwrap();
        }
        writers.push(writer);
    }
    for (writer, tar) in writers.into_iter().zip(&tars) {
        assert_eq!(writer.commit(None).unwrap().diff_id, world::digest(tar));
    }
    // Begun by one who goes, gone on with by the next.
    let tar = world.tar(&[("f", &world::noise(900_000))]);
    let mut writer = store.write_layer_ahead(&lease, expected(&tar)).unwrap();
    writer.write(&tar[..500_000]).unwrap();
    drop(writer);
    let mut writer = store.write_layer_ahead(&lease, expected(&tar)).unwrap();
    let there = usize::try_from(writer.offset()).unwrap();
    assert!(there > 300_000);
    writer.write(&tar[there..]).unwrap();
    assert_eq!(writer.commit(None).unwrap().diff_id, world::digest(&tar));
    // What is no layer is said to be that at the next piece, or at the end.
    let wrong = vec![7; 3_000_000];
    let mut writer = store.write_layer_ahead(&lease, expected(&wrong)).unwrap();
    let written = wrong.chunks(100_000).try_for_each(|piece| writer.write(piece));
    let error = written.and_then(|()| writer.commit(None)).unwrap_err();
    assert!(matches!(error, Error::InvalidLayer { .. }), "{error}");
    assert_eq!(world.files_below("content/ingest"), 0);
    assert_eq!(store.totals().unwrap().layers, 4);
}

#[test]
fn many_write_at_once() {
    let world = World::new();
    let store = world.open();
    let layers: Vec<Layer> = (0..6)
        .map(|n| Layer::of(&world, &[("same", "x"), (&format!("file{n}"), &world::noise(50_000))]))
        .collect();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (store, layers) = (&store, &layers);
            scope.spawn(move || {
                let lease = store.lease("test", Duration::from_secs(60)).unwrap();
                for step in 0..layers.len() {
                    let layer = &layers[(step + worker) % layers.len()];
                    loop {
                        match store.write_layer(&lease, layer.expected(LAYER)) {
                            Ok(mut writer) => {
                                writer.write(&layer.bytes).unwrap();
                                writer.commit(Some(&layer.diff_id)).unwrap();
                                break;
                            }
                            Err(Error::Exists { .. }) => {
                                store.unpack_blob(&lease, &layer.digest, Some(&layer.diff_id)).unwrap();
                                break;
                            }
                            Err(Error::Busy { digest }) => {
                                assert!(store.wait_until_idle(&digest, Duration::from_secs(30)));
                            }
                            Err(error) => panic!("{error}"),
                        }
                    }
                    assert!(store.layer(&layer.diff_id).unwrap().is_some());
                    store.gc().unwrap();
                    assert!(store.layer(&layer.diff_id).unwrap().is_some(), "held by the lease");
                }
            });
        }
    });
    store.gc().unwrap();
    assert_eq!(store.totals().unwrap(), storage::Totals::default());
}

#[test]
fn records_and_their_names() {
    let world = World::new();
    let store = world.open();
    let put = |id: &str, name: &str, json: &str| {
        store.transaction(|tx| {
            tx.insert_record(&NewRecord { kind: "container", id, name: Some(name), json: json.as_bytes() })
        })
    };
    put("aa11", "web", "1").unwrap();
    put("aa22", "db", "2").unwrap();
    let taken = put("bb33", "web", "3").unwrap_err();
    assert!(matches!(&taken, Error::Exists { holder: Some(holder), .. } if holder == "aa11"), "{taken:?}");
    store
        .transaction(|tx| {
            assert_eq!(tx.find_record("container", "web")?.id, "aa11");
            assert_eq!(tx.find_record("container", "aa2")?.id, "aa22");
            assert!(matches!(tx.find_record("container", "aa"), Err(Error::Ambiguous { .. })));
            assert!(matches!(tx.find_record("container", "%"), Err(Error::NotFound { .. })));
            assert!(tx.record("volume", "aa11")?.is_none());
            assert!(tx.rename_record("container", "aa11", Some("db")).is_err());
            tx.rename_record("container", "aa11", Some("www"))
        })
        .unwrap();
    // A failed transaction leaves nothing.
    let failed: Result<(), Error> = store.transaction(|tx| {
        tx.delete_record("container", "aa11")?;
        Err(Error::Interrupted)
    });
    failed.unwrap_err();
    drop(store);
    let store = world.open();
    let ids: Vec<String> =
        store.transaction(|tx| tx.records("container")).unwrap().into_iter().map(|r| r.id).collect();
    assert_eq!(ids, ["aa11", "aa22"]);
    assert!(store.transaction(|tx| tx.delete_record("container", "aa11")).unwrap());
    assert!(!store.transaction(|tx| tx.delete_record("container", "aa11")).unwrap());
}

#[test]
fn snapshots_live_as_long_as_their_records() {
    let world = World::new();
    let store = world.open();
    let base = Layer::of(&world, &[("etc/passwd", "root")]);
    let image = pull(&store, "docker.io/library/one:latest", std::slice::from_ref(&base));
    let diff_ids = image.manifests[0].diff_ids();
    let prepared = store.prepare_snapshot("c1", &diff_ids).unwrap();
    assert!(matches!(store.prepare_snapshot("c1", &diff_ids), Err(Error::Exists { .. })));
    assert!(matches!(store.prepare_snapshot("../x", &diff_ids), Err(Error::NotFound { .. })));
    store
        .transaction(|tx| {
            tx.insert_record(&NewRecord { kind: "container", id: "c1", name: None, json: b"{}" })?;
            tx.set_record_resources("container", "c1", &[Resource::Snapshot("c1".into())])?;
            tx.add_snapshot(prepared)
        })
        .unwrap();
    store.transaction(|tx| tx.remove_image(&image.id)).unwrap();
    store.gc().unwrap();
    let mounts = store.mounts("c1").unwrap();
    assert_eq!(mounts.lower.len(), 1);
    assert!(mounts.lower_paths()[0].join("etc/passwd").exists());
    let upper = mounts.upper.unwrap();
    fs::write(upper.join("written"), vec![1; 10_000]).unwrap();
    let usage = store.snapshot_usage("c1").unwrap();
    assert_eq!(usage.inodes, 1);
    assert!(usage.bytes >= 10_000);

    store.transaction(|tx| tx.delete_record("container", "c1")).unwrap();
    let collected = store.gc().unwrap();
    assert_eq!((collected.snapshots, collected.layers), (1, 1));
    store.wait_for_removals();
    assert_eq!(world.files_below("snapshots") + world.files_below("layers") + world.files_below("trash"), 0);
    // One that was prepared and never added.
    let _ = store.prepare_snapshot("c2", &[]).unwrap();
    assert!(!world.root().join("snapshots/c2").exists());
}

#[test]
fn what_layers_do_not_describe_comes_from_below() {
    let world = World::new();
    let store = world.open();
    let tree = "mkdir -p i/tmp/deep i/root; chmod 711 i; chmod 1777 i/tmp; chmod 750 i/tmp/deep; chown 3:4 i/tmp/deep";
    let base = Layer::from_tar(world.shell(&format!("{tree}; tar -C i -cf - .")));
    let described = Layer::from_tar(world.shell("mkdir -p j/app; chmod 755 j; tar -C j -cf - ."));
    let implied = Layer::from_tar(world.shell("touch i/tmp/deep/x && tar -C i -cf - tmp/deep/x"));
    let image = pull(&store, "docker.io/library/one:latest", &[base, described, implied]);
    let prepared = store.prepare_snapshot("c1", &image.manifests[0].diff_ids()).unwrap();
    assert_eq!(
        fs::metadata(prepared.upper()).unwrap().mode() & 0o7777,
        0o755,
        "of the topmost layer with a root"
    );
    store
        .transaction(|tx| {
            tx.insert_record(&NewRecord { kind: "container", id: "c1", name: None, json: b"{}" })?;
            tx.set_record_resources("container", "c1", &[Resource::Snapshot("c1".into())])?;
            tx.add_snapshot(prepared)
        })
        .unwrap();
    let mounts = store.mounts("c1").unwrap();
    assert_eq!(mounts.lower.len(), 4, "three layers and the directories");
    let fix = &mounts.lower_paths()[0];
    let stat = |path: &str| fs::metadata(fix.join(path)).unwrap();
    assert_eq!(stat("tmp").mode() & 0o7777, 0o1777);
    let deep = stat("tmp/deep");
    assert_eq!((deep.mode() & 0o7777, deep.uid(), deep.gid()), (0o750, 3, 4));
    assert!(!fix.join("root").exists());
    // The next container of the image has the same one, and it lives with them.
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    assert_eq!(store.view(&lease, &image.manifests[0].diff_ids()).unwrap().lower, mounts.lower);
    store.gc().unwrap();
    assert_eq!(store.mounts("c1").unwrap(), mounts);
    assert!(fix.exists());
}

#[test]
fn layers_side_by_side_do_not_reach_into_each_other() {
    let world = World::new();
    let store = world.open();
    let canary = world.dir().join("canary");
    fs::create_dir(&canary).unwrap();
    let to = canary.display();
    // Each swaps the other's directory for a link to the outside, over and over; the archive keeps every version.
    let swap = "mkdir -p d && tar -rf swap.tar d && rm -r d && ln -s OUT d && tar -rf swap.tar d && rm d";
    let write = "mkdir -p d && echo evil > d/evil && echo x > d/.wh.gone && tar -rf write.tar d/evil d/.wh.gone && rm -r d";
    let script = format!("for i in 1 2 3 4 5 6 7 8; do {swap}; {write}; done; cat swap.tar")
        .replace("OUT", &to.to_string());
    let swapping = Layer::from_tar(world.shell(&script));
    let writing = Layer::from_tar(world.shell("cat write.tar"));
    let both = Layer::from_tar(world.shell("cp swap.tar both.tar; tar -Af both.tar write.tar; cat both.tar"));
    let diff_ids: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = [&swapping, &writing, &both]
            .map(|layer| {
                let store = &store;
                scope.spawn(move || {
                    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
                    let mut writer = store.write_layer(&lease, layer.expected(LAYER)).unwrap();
                    for piece in layer.bytes.chunks(100) {
                        writer.write(piece).unwrap();
                    }
                    let unpacked = writer.commit(Some(&layer.diff_id)).unwrap();
                    let lower =
                        store.view(&lease, std::slice::from_ref(&unpacked.diff_id)).unwrap().lower_paths();
                    let gone = fs::symlink_metadata(lower[0].join("d/gone"));
                    (unpacked.diff_id, gone.is_ok_and(|gone| gone.rdev() == 0))
                })
            })
            .into();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(diff_ids[1].1, "the whiteout is there");
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 0);
}

#[test]
fn a_failed_transaction_leaves_no_directory() {
    let world = World::new();
    let store = world.open();
    let prepared = store.prepare_snapshot("c1", &[]).unwrap();
    let failed: Result<(), Error> = store.transaction(|tx| {
        tx.add_snapshot(prepared)?;
        Err(Error::Interrupted)
    });
    failed.unwrap_err();
    assert!(!world.root().join("snapshots/c1").exists());
    // And its name is free.
    store.prepare_snapshot("c1", &[]).unwrap();
}

#[test]
fn a_collection_leaves_a_prepared_snapshot_alone() {
    let world = World::new();
    let store = world.open();
    let base = Layer::from_tar(world.shell("mkdir -p i/tmp; chmod 1777 i/tmp; tar -C i -cf - ."));
    let implied = Layer::of(&world, &[("tmp/x", "x")]);
    let image = pull(&store, "docker.io/library/one:latest", &[base, implied]);
    let diff_ids = image.manifests[0].diff_ids();
    let prepared = store.prepare_snapshot("c1", &diff_ids).unwrap();
    store.gc().unwrap();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    let keeper = store.lease("test", Duration::from_secs(60)).unwrap();
    store
        .transaction(|tx| {
            tx.hold(&keeper, &Resource::Snapshot("c1".into()))?;
            tx.add_snapshot(prepared)
        })
        .unwrap();
    store.gc().unwrap();
    let lower = store.mounts("c1").unwrap().lower_paths();
    assert_eq!(lower.len(), 3, "two layers and the directories");
    assert!(lower.iter().all(|path| path.exists()), "{lower:?}");
    // What is looked at is kept by whoever looks; what was prepared for nothing, also in a transaction that fails, by nobody.
    drop(keeper);
    store.remove_snapshot("c1").unwrap();
    assert!(!lower[0].parent().unwrap().parent().unwrap().join("snapshots/c1").exists());
    let view = store.view(&lease, &diff_ids).unwrap();
    store.gc().unwrap();
    assert!(view.lower_paths()[0].exists());
    drop(lease);
    let prepared = store.prepare_snapshot("c2", &diff_ids).unwrap();
    let failed: Result<(), Error> = store.transaction(move |tx| {
        tx.record("container", prepared.id())?;
        Err(Error::Interrupted)
    });
    failed.unwrap_err();
    store.gc().unwrap();
    assert!(!view.lower_paths()[0].exists());
}

#[test]
fn a_lease_takes_over_what_a_dead_one_for_the_same_holds() {
    let world = World::new();
    let store = world.open();
    let put = |store: &Store, lease: &storage::Lease, content: &[u8]| {
        store.put_blob(lease, "text/plain", content).unwrap()
    };
    let dead = store.lease("pull of x", Duration::from_secs(3600)).unwrap();
    let old = put(&store, &dead, b"old");
    // As it is on the disk when the process is killed.
    let killed = world.dir().join("killed");
    world.shell(&format!("cp -a {} {}", world.root().display(), killed.display()));
    drop((dead, store));
    let store = Store::open(&killed).unwrap();
    drop(store.lease("pull of y", Duration::from_secs(3600)).unwrap());
    store.gc().unwrap();
    assert!(store.blob_info(&old).unwrap().is_some(), "somebody else's");
    let again = store.lease("pull of x", Duration::from_secs(3600)).unwrap();
    let other = store.lease("pull of x", Duration::from_secs(3600)).unwrap();
    store.gc().unwrap();
    assert!(store.blob_info(&old).unwrap().is_some());
    drop(other);
    store.gc().unwrap();
    assert!(store.blob_info(&old).unwrap().is_some(), "of the living none is taken over");
    drop(again);
    assert_eq!(store.gc().unwrap().blobs, 1);
}
