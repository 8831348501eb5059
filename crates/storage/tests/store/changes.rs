//! What a container has changed, where the container does not want it to be told.

use std::fs;
use std::time::Duration;

use super::world::World;
use storage::Error;
use storage::pack::ChangeKind;

#[test]
fn names_that_come_to_more_than_can_be_told() {
    let world = World::new();
    let store = world.open();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    store.create_snapshot("c1", &[], &lease).unwrap();
    let upper = store.root().join("snapshots/c1/fs");
    fs::write(upper.join("new"), "x").unwrap();
    let changes = store.snapshot_tree(&lease, "c1").unwrap().changes().unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].path.as_slice(), changes[0].kind), (&b"/new"[..], ChangeKind::Added));
    // Long names above, so that few files are much to tell.
    let mut folder = upper;
    for _ in 0..14 {
        folder.push("n".repeat(250));
    }
    fs::create_dir_all(&folder).unwrap();
    for number in 0..20_000 {
        fs::File::create(folder.join(number.to_string())).unwrap();
    }
    let error = store.snapshot_tree(&lease, "c1").unwrap().changes().unwrap_err();
    assert!(matches!(error, Error::Limit { what: "bytes of the paths of changed files", .. }), "{error}");
}
