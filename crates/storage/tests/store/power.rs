//! A loss of power: the kernel that comes after it finds what the earlier one has written, and not more.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::pull::pull;
use crate::world::{Layer, World};
use storage::{Error, NewImage, NewRecord, Resource, Store};

/// Makes everything that was not flushed that of an earlier boot.
fn lose_power(world: &World, store: Store) {
    drop(store);
    let sql = "UPDATE layers SET unsynced_boot = 'earlier' WHERE unsynced_boot IS NOT NULL;
               UPDATE blobs SET unsynced_boot = 'earlier' WHERE unsynced_boot IS NOT NULL";
    rusqlite::Connection::open(world.root().join("meta.db")).unwrap().execute_batch(sql).unwrap();
}

/// An image whose second layer uses a directory that only the first describes.
fn image_with_fix(world: &World, store: &Store) -> (NewImage, Vec<Layer>) {
    let base = Layer::from_tar(world.shell("mkdir -p i/tmp; chmod 1777 i/tmp; tar -C i -cf - ."));
    let upper = Layer::of(world, &[("tmp/x", "content")]);
    let layers = vec![base, upper];
    (pull(store, "docker.io/library/one:latest", &layers), layers)
}

/// A container of the image, called `c1`.
fn create(store: &Store, image: &NewImage) {
    let prepared = store.prepare_snapshot("c1", &image.manifests[0].diff_ids()).unwrap();
    store
        .transaction(|tx| {
            tx.insert_record(&NewRecord { kind: "container", id: "c1", name: None, json: b"{}" })?;
            tx.set_record_resources("container", "c1", &[Resource::Snapshot("c1".into())])?;
            tx.add_snapshot(prepared)
        })
        .unwrap();
}

#[test]
fn a_snapshot_stands_on_the_same_layers_after_a_loss_of_power() {
    let world = World::new();
    let store = world.open();
    let (image, _) = image_with_fix(&world, &store);
    create(&store, &image);
    let before = store.mounts("c1").unwrap();
    assert_eq!(before.lower.len(), 3, "two layers and the directories");
    lose_power(&world, store);
    // One was not written at all, one in part, and one wrongly.
    let [fix, upper, base] = <[_; 3]>::try_from(before.lower_paths()).unwrap();
    fs::remove_dir_all(&base).unwrap();
    fs::write(upper.join("tmp/x"), "").unwrap();
    fs::set_permissions(fix.join("tmp"), fs::Permissions::from_mode(0o700)).unwrap();

    let store = world.open();
    // Writing what is there does not make it whole.
    store.flush().unwrap();
    store.gc().unwrap();
    // Several start at once.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(store.mounts("c1").unwrap(), before));
        }
    });
    assert_eq!(fs::read(upper.join("tmp/x")).unwrap(), b"content");
    for directory in [&base, &fix] {
        assert_eq!(fs::metadata(directory.join("tmp")).unwrap().permissions().mode() & 0o7777, 0o1777);
    }
    // The next container has the same ones.
    store.restore_layers(&image.manifests[0].layers).unwrap();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    assert_eq!(store.view(&lease, &image.manifests[0].diff_ids()).unwrap().lower, before.lower);
    drop(lease);
    store.flush().unwrap();
    drop(store);
    assert_eq!(world.open().mounts("c1").unwrap(), before);
}

#[test]
fn a_layer_that_is_lost_with_its_blob_comes_back_with_a_pull() {
    let world = World::new();
    let store = world.open();
    let (image, layers) = image_with_fix(&world, &store);
    create(&store, &image);
    let before = store.mounts("c1").unwrap();
    lose_power(&world, store);
    let blob = world.root().join("content/blobs/sha256").join(layers[1].digest.hex());
    fs::write(&blob, "").unwrap();

    let store = world.open();
    let error = store.mounts("c1").unwrap_err();
    assert!(matches!(&error, Error::LayerLost { diff_id } if *diff_id == layers[1].diff_id), "{error:?}");
    pull(&store, "docker.io/library/one:latest", &layers);
    assert_eq!(store.mounts("c1").unwrap(), before);
    assert_eq!(fs::read(before.lower_paths()[1].join("tmp/x")).unwrap(), b"content");
}

#[test]
fn layers_that_were_lost_come_back_from_their_blobs() {
    let world = World::new();
    let store = world.open();
    let layer = Layer::of(&world, &[("f", "x")]);
    let image = pull(&store, "docker.io/library/one:latest", std::slice::from_ref(&layer));
    let blob = world.root().join("content/blobs/sha256").join(layer.digest.hex());
    drop(store);
    // As after a loss of power: of another boot, and one blob was not written.
    let sql = "UPDATE layers SET unsynced_boot = 'earlier'; UPDATE blobs SET unsynced_boot = 'earlier'";
    rusqlite::Connection::open(world.root().join("meta.db")).unwrap().execute_batch(sql).unwrap();
    let store = world.open();
    let manifest = &image.manifests[0];
    assert!(store.layer(&layer.diff_id).unwrap().is_none());
    store.restore_layers(&manifest.layers).unwrap();
    assert!(store.layer(&layer.diff_id).unwrap().is_some());
    store.flush().unwrap();
    drop(store);

    let connection = rusqlite::Connection::open(world.root().join("meta.db")).unwrap();
    let unsynced = "SELECT (SELECT count(*) FROM blobs WHERE unsynced_boot IS NOT NULL) + (SELECT count(*) FROM layers WHERE unsynced_boot IS NOT NULL)";
    assert_eq!(connection.query_row(unsynced, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    connection.execute_batch(sql).unwrap();
    drop(connection);
    fs::write(&blob, vec![0; layer.bytes.len()]).unwrap();
    let store = world.open();
    assert!(store.blob_info(&layer.digest).unwrap().is_none(), "the damaged blob is given up");
    assert!(store.restore_layers(&manifest.layers).unwrap_err().is_not_found());
    store.wait_for_removals();
    assert!(!blob.exists());
}
