//! Benign archives come out as GNU tar brings them out.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use crate::world::{Layer, World};

/// What a script of shell commands makes.
#[derive(Debug, Clone)]
enum Step {
    File(String, usize, u32),
    Sparse(String, u64),
    Directory(String, u32),
    Symlink(String, String),
    Hardlink(String, String),
    Fifo(String),
    Device(String, u32, u32),
    Owner(String, u32, u32),
    Attribute(String, String),
    Time(String, i64),
}

fn name() -> impl Strategy<Value = String> {
    let component = prop_oneof![
        "[a-d]",
        "[a-c]{1,3}",
        Just("ünï cödé".to_owned()),
        Just("l".repeat(120)),
        Just("-dash".to_owned()),
        Just(" space ".to_owned()),
    ];
    proptest::collection::vec(component, 1..4).prop_map(|components| components.join("/"))
}

fn step() -> impl Strategy<Value = Step> {
    let mode =
        prop_oneof![Just(0o644u32), Just(0o755), Just(0o4755), Just(0o2750), Just(0o1777), Just(0o400)];
    prop_oneof![
        4 => (name(), 0usize..5000, mode.clone()).prop_map(|(n, l, m)| Step::File(n, l, m)),
        1 => (name(), 1u64..3_000_000).prop_map(|(n, at)| Step::Sparse(n, at)),
        2 => (name(), mode).prop_map(|(n, m)| Step::Directory(n, m)),
        1 => (name(), name()).prop_map(|(n, t)| Step::Symlink(n, t)),
        1 => (name(), name()).prop_map(|(n, t)| Step::Hardlink(n, t)),
        1 => name().prop_map(Step::Fifo),
        1 => (name(), 1u32..4000, 0u32..100_000).prop_map(|(n, a, b)| Step::Device(n, a, b)),
        1 => (name(), 0u32..4_000_000_000, 0u32..70_000).prop_map(|(n, u, g)| Step::Owner(n, u, g)),
        1 => (name(), "[a-z]{0,10}").prop_map(|(n, v)| Step::Attribute(n, v)),
        1 => (name(), -5_000_000_000i64..9_000_000_000).prop_map(|(n, t)| Step::Time(n, t)),
    ]
}

/// Does a step, as far as it is possible where it comes: what is in the way stays.
fn run(tree: &Path, step: &Step) {
    let at = |name: &str| tree.join(name);
    let free = |name: &str| {
        let path = at(name);
        let _ = fs::create_dir_all(path.parent().unwrap());
        (fs::symlink_metadata(&path).is_err() && path.parent().unwrap().is_dir()).then_some(path)
    };
    let sh = |args: &[&str], path: &Path| {
        let _ = std::process::Command::new(args[0])
            .args(&args[1..])
            .arg(path)
            .stderr(std::process::Stdio::null())
            .status();
    };
    match step {
        Step::File(name, length, mode) => {
            if let Some(path) = free(name) {
                fs::write(&path, vec![b'x'; *length]).unwrap();
                sh(&["chmod", &format!("{mode:o}"), "--"], &path);
            }
        }
        Step::Sparse(name, offset) => {
            if let Some(path) = free(name) {
                use std::os::unix::fs::FileExt;
                let file = fs::File::create(path).unwrap();
                file.write_all_at(b"in the middle", *offset).unwrap();
                file.set_len(offset * 2).unwrap();
            }
        }
        Step::Directory(name, mode) => {
            if let Some(path) = free(name) {
                fs::create_dir(&path).unwrap();
                sh(&["chmod", &format!("{mode:o}"), "--"], &path);
            }
        }
        Step::Symlink(name, target) => {
            if let Some(path) = free(name) {
                std::os::unix::fs::symlink(target, path).unwrap();
            }
        }
        Step::Hardlink(name, target) => {
            if let Some(path) = free(name) {
                let _ = fs::hard_link(at(target), path);
            }
        }
        Step::Fifo(name) => {
            if let Some(path) = free(name) {
                sh(&["mkfifo", "--"], &path);
            }
        }
        Step::Device(name, major, minor) => {
            if let Some(path) = free(name) {
                let _ = std::process::Command::new("mknod")
                    .arg("--")
                    .arg(path)
                    .args(["c", &major.to_string(), &minor.to_string()])
                    .status();
            }
        }
        Step::Owner(name, uid, gid) => sh(&["chown", "-h", &format!("{uid}:{gid}"), "--"], &at(name)),
        Step::Attribute(name, value) => {
            if let Ok(file) = fs::File::open(at(name)).filter_regular() {
                let _ = sys::xattr::set(file, "user.test", value.as_bytes());
            }
        }
        Step::Time(name, seconds) => sh(&["touch", "-h", "-d", &format!("@{seconds}.25"), "--"], &at(name)),
    }
}

trait FilterRegular {
    fn filter_regular(self) -> std::io::Result<fs::File>;
}

impl FilterRegular for std::io::Result<fs::File> {
    fn filter_regular(self) -> std::io::Result<fs::File> {
        self.and_then(|file| {
            if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::ErrorKind::Other.into()) }
        })
    }
}

/// Everything that can be seen of a tree.
fn describe(tree: &Path) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut todo = vec![tree.to_owned()];
    while let Some(directory) = todo.pop() {
        let mut entries: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let stat = fs::symlink_metadata(&path).unwrap();
            let kind = stat.file_type();
            let relative = path.strip_prefix(tree).unwrap().to_string_lossy().into_owned();
            let mut text = format!(
                "{:o} {}:{} {}.{}",
                stat.mode(),
                stat.uid(),
                stat.gid(),
                stat.mtime(),
                stat.mtime_nsec()
            );
            if kind.is_dir() {
                todo.push(path);
            } else {
                let first = inodes.entry(stat.ino()).or_insert_with(|| relative.clone());
                text += &format!(" links {} ", stat.nlink());
                // Which of several names comes first depends on the order of reading; that they are one file does not.
                if stat.nlink() > 1 {
                    seen.insert(format!("{relative} is one of"), first.clone());
                }
                if kind.is_file() {
                    text += &format!(
                        "{:?}",
                        fs::read(&path)
                            .unwrap()
                            .iter()
                            .fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
                    );
                    text += &format!(
                        " {:?} {}",
                        sys::xattr::get(fs::File::open(&path).unwrap(), "user.test").unwrap(),
                        stat.len()
                    );
                } else if kind.is_symlink() {
                    text += &String::from_utf8_lossy(fs::read_link(&path).unwrap().as_os_str().as_bytes());
                } else if kind.is_char_device() {
                    text += &stat.rdev().to_string();
                }
            }
            seen.insert(relative, text);
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_tree(steps in proptest::collection::vec(step(), 1..40), format in 0usize..5) {
        let world = World::new();
        let tree = world.dir().join("tree");
        fs::create_dir(&tree).unwrap();
        for step in &steps {
            run(&tree, step);
        }
        let format = [
            "--format=gnu", "--format=gnu --sparse", "--format=posix --xattrs",
            "--format=posix --xattrs --sparse --sparse-version=1.0", "--format=posix --sparse --sparse-version=0.1",
        ][format];
        let tar = world.shell(&format!("tar -C tree {format} -cf - . 2>/dev/null"));
        fs::write(world.dir().join("a.tar"), &tar).unwrap();
        world.shell("mkdir gnu && tar -C gnu --xattrs --xattrs-include='*' --same-owner -xpf a.tar 2>/dev/null");

        let store = world.open();
        let lease = store.lease("test", Duration::from_secs(60)).unwrap();
        let layer = Layer::from_tar(tar);
        let mut writer = store.write_layer(&lease, layer.expected("")).unwrap();
        writer.write(&layer.bytes).unwrap();
        let unpacked = writer.commit(Some(&layer.diff_id)).unwrap();
        let ours = describe(&store.view(&lease, &[unpacked.diff_id]).unwrap().lower_paths()[0]);
        prop_assert_eq!(ours, describe(&world.dir().join("gnu")));
    }
}

#[test]
fn old_sparse_format_0_0() {
    let world = World::new();
    let tar = world.shell(
        "mkdir t; truncate -s 3000000 t/f; printf head | dd of=t/f conv=notrunc 2>/dev/null;
         printf tail | dd of=t/f conv=notrunc bs=1 seek=2000000 2>/dev/null;
         tar -C t --format=posix --sparse --sparse-version=0.0 -cf - .",
    );
    let store = world.open();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    let layer = store.unpack_archive(&lease, &tar[..]).unwrap();
    let file = store.view(&lease, &[layer.diff_id]).unwrap().lower_paths()[0].join("f");
    assert_eq!(fs::read(&file).unwrap(), fs::read(world.dir().join("t/f")).unwrap());
    assert!(fs::metadata(&file).unwrap().blocks() < 100);
}
