//! The process is killed at any moment; the next one finds a store that is whole.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::world::{self, Layer, World};
use storage::{Error, Store};

const ROOT: &str = "STORAGE_TEST_ROOT";

/// Not a test by itself: the process that gets killed. It takes in the layers of a directory, for ever, removing them in between.
#[test]
fn victim() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let root = Path::new(&root);
    let store = Store::open(&root.join("data")).unwrap();
    loop {
        let lease = store.lease("victim", Duration::from_secs(1)).unwrap();
        for entry in std::fs::read_dir(root.join("layers")).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            let expected = storage::Expected {
                digest: world::digest(&bytes),
                size: bytes.len() as u64,
                media_type: String::new(),
            };
            match store.write_layer(&lease, expected) {
                Ok(mut writer) => {
                    let offset = usize::try_from(writer.offset()).unwrap();
                    for piece in bytes[offset..].chunks(8192) {
                        writer.write(piece).unwrap();
                    }
                    let layer = writer.commit(None).unwrap();
                    store.create_snapshot(&format!("s{}", layer.id), &[layer.diff_id], &lease).unwrap();
                }
                Err(Error::Exists { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            println!("step");
        }
        drop(lease);
        store.gc().unwrap();
        println!("step");
    }
}

#[test]
fn killed_at_any_moment() {
    let world = World::new();
    let layers = world.dir().join("layers");
    std::fs::create_dir(&layers).unwrap();
    let made: Vec<Layer> = (0..3)
        .map(|n| {
            Layer::of(&world, &[(&format!("d{n}/a"), &world::noise(400_000)), (&format!("d{n}/b/c"), "x")])
        })
        .collect();
    for (n, layer) in made.iter().enumerate() {
        std::fs::write(layers.join(n.to_string()), &layer.bytes).unwrap();
    }
    for round in 0..25u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::victim", "--nocapture", "--test-threads=1"])
            .env(ROOT, world.dir())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // From the first step on, at moments spread over the next ones.
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("step") {
            line.clear();
            assert_ne!(
                std::io::BufRead::read_line(&mut output, &mut line).unwrap(),
                0,
                "the victim died by itself"
            );
        }
        std::thread::sleep(Duration::from_micros(round * 1777));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));

        let store = world.open();
        check_whole(&world, &store, &made);
    }
    // And in the end everything can be had, and everything removed.
    let store = world.open();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    for layer in &made {
        match store.write_layer(&lease, layer.expected("")) {
            Ok(mut writer) => {
                let offset = usize::try_from(writer.offset()).unwrap();
                writer.write(&layer.bytes[offset..]).unwrap();
                writer.commit(Some(&layer.diff_id)).unwrap();
            }
            Err(Error::Exists { .. }) => {
                store.unpack_blob(&lease, &layer.digest, Some(&layer.diff_id)).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    drop(lease);
    // Leases of the killed last for their second.
    while store.totals().unwrap() != storage::Totals::default() {
        store.gc().unwrap();
        std::thread::yield_now();
    }
    store.wait_for_removals();
    let left = ["layers", "snapshots", "content", "trash"].map(|directory| world.files_below(directory));
    assert_eq!(left, [0; 4]);
}

/// Rows and files agree, and what is there is what it is called.
fn check_whole(world: &World, store: &Store, layers: &[Layer]) {
    store.wait_for_removals();
    let totals = store.totals().unwrap();
    let directories = |name: &str| std::fs::read_dir(world.root().join(name)).unwrap().count() as u64;
    assert_eq!(directories("layers"), totals.layers);
    assert_eq!(directories("snapshots"), totals.snapshots);
    assert_eq!(directories("content/blobs/sha256"), totals.blobs);
    for layer in layers {
        if store.blob_info(&layer.digest).unwrap().is_some() {
            assert_eq!(store.read_blob(&layer.digest, 1 << 30).unwrap(), layer.bytes);
        }
    }
}
