//! A disk that is full, or cannot be written to.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::world::{self, Layer, World};
use storage::{Error, Store};

/// A small filesystem, unmounted in the end.
struct Mount {
    at: PathBuf,
}

impl Mount {
    /// `None`, with a line that says so, where this process may not mount.
    fn tmpfs(world: &World, options: &str) -> Option<Self> {
        let at = world.dir().join("mount");
        std::fs::create_dir(&at).unwrap();
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at).status().unwrap();
        if !status.success() {
            println!("skipped: needs the capability to mount (CAP_SYS_ADMIN)");
            return None;
        }
        Some(Self { at })
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.at).status().unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
    }
}

#[test]
fn a_full_disk_leaves_nothing_half_made() {
    let world = World::new();
    let Some(mount) = Mount::tmpfs(&world, "size=8m,mode=0700") else { return };
    let big = Layer::of(&world, &[("a", &world::noise(3_000_000)), ("b", &world::noise(6_000_000))]);
    let small = Layer::of(&world, &[("a", &world::noise(100_000))]);
    let store = Store::open(&mount.at.join("data")).unwrap();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    let take = |layer: &Layer| {
        let mut writer = store.write_layer(&lease, layer.expected(""))?;
        writer.write(&layer.bytes[usize::try_from(writer.offset()).unwrap()..])?;
        writer.commit(Some(&layer.diff_id))
    };
    let error = take(&big).unwrap_err();
    assert!(error.is_no_space(), "{error:?}");
    assert!(error.to_string().ends_with("no space left on device"), "{error}");
    store.wait_for_removals();
    assert_eq!(std::fs::read_dir(mount.at.join("data/layers")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(mount.at.join("data/content/blobs/sha256")).unwrap().count(), 0);
    // With room made, both what is small and what failed go in.
    mount.remount("size=64m");
    take(&small).unwrap();
    take(&big).unwrap();
    assert_eq!(store.totals().unwrap().layers, 2);
}

#[test]
fn a_full_disk_at_every_moment_of_a_small_layer() {
    let world = World::new();
    let Some(mount) = Mount::tmpfs(&world, "size=2m,mode=0700") else { return };
    let layer = Layer::of(&world, &[("a/b/c", &world::noise(20_000)), ("d", "x")]);
    let store = Store::open(&mount.at.join("data")).unwrap();
    let count = |name| std::fs::read_dir(mount.at.join("data").join(name)).unwrap().count();
    let (mut failed, mut succeeded) = (0, 0);
    // The room left shrinks and grows by a page.
    for pages in 0..60 {
        let ballast = mount.at.join("ballast");
        let _ = std::fs::remove_file(&ballast);
        let room = fill(&ballast, pages);
        let outcome = (|| {
            let lease = store.lease("test", Duration::from_secs(60))?;
            let mut writer = store.write_layer(&lease, layer.expected(""))?;
            writer.write(&layer.bytes[usize::try_from(writer.offset()).unwrap()..])?;
            writer.commit(Some(&layer.diff_id))?;
            store.create_snapshot("s", std::slice::from_ref(&layer.diff_id), &lease)?;
            store.put_blob(&lease, "", b"small")?;
            drop(lease);
            Ok::<_, Error>(())
        })();
        match outcome {
            Ok(()) => succeeded += 1,
            Err(error) => {
                assert!(error.is_no_space(), "with {room} pages: {error:?}");
                failed += 1;
            }
        }
        std::fs::remove_file(&ballast).unwrap();
        store.gc().unwrap();
        store.wait_for_removals();
        // Without a restart, which would clear up.
        let left = ["layers", "snapshots", "content/blobs/sha256", "content/new"].map(count);
        assert_eq!(left, [0; 4], "with {room} pages");
        assert_eq!(store.totals().unwrap(), storage::Totals::default());
    }
    assert!(failed > 0 && succeeded > 0, "{failed} failed, {succeeded} succeeded");
}

/// Fills the filesystem but for some pages.
fn fill(ballast: &std::path::Path, pages: u64) -> u64 {
    use std::io::Write;
    let mut file = std::fs::File::create(ballast).unwrap();
    let mut written = 0u64;
    while file.write_all(&[1; 4096]).is_ok() {
        written += 1;
    }
    file.set_len(written.saturating_sub(pages) * 4096).unwrap();
    pages
}

#[test]
fn a_read_only_data_root_is_said_to_be_that() {
    let world = World::new();
    let Some(mount) = Mount::tmpfs(&world, "size=16m,mode=0700") else { return };
    mount.remount("ro");
    let error = Store::open(&mount.at.join("data")).unwrap_err();
    assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
    mount.remount("rw");
    drop(Store::open(&mount.at.join("data")).unwrap());
    mount.remount("ro");
    let error = Store::open(&mount.at.join("data")).unwrap_err();
    assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
}
