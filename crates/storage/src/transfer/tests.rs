use super::*;
use crate::archive::tests::{header, padded};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

/// A tree `root` beside something that is nobody's business.
fn tree() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("root/d")).unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    let root = Root::open(dir.path().join("root")).unwrap();
    (dir, root)
}

fn file(name: &str, content: &str) -> Vec<u8> {
    [header(name, b'0', content.len() as u64, |_| ()), padded(content.as_bytes())].concat()
}

fn end(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), vec![0; 1024]].concat()
}

fn target<'a>(root: &'a Root, place: &'a str) -> Target<'a> {
    Target { root, place: Path::new(place), rename: None, keep_kinds: false, owner: Owner::Own, tame: false }
}

fn run(target: &Target<'_>, parts: &[Vec<u8>]) -> Result<Transferred> {
    unpack(&mut Archive::new(&end(parts)[..]), target)
}

#[test]
fn files_come_where_links_lead_and_replace_what_is_there() {
    let (dir, root) = tree();
    let base = dir.path().join("root");
    symlink("/d", base.join("l")).unwrap();
    fs::write(base.join("d/f"), "old").unwrap();
    run(&target(&root, "/l"), &[file("f", "new"), file("deep/er/g", "g")]).unwrap();
    assert_eq!(fs::read_to_string(base.join("d/f")).unwrap(), "new");
    assert_eq!(fs::read_to_string(base.join("d/deep/er/g")).unwrap(), "g");
    // A link in the way of a file is replaced, and not written through.
    symlink("d/f", base.join("f")).unwrap();
    run(&target(&root, "/"), &[file("f", "own")]).unwrap();
    assert_eq!(fs::read_to_string(base.join("d/f")).unwrap(), "new");
    assert!(fs::symlink_metadata(base.join("f")).unwrap().is_file());
}

#[test]
fn kinds_are_kept_where_that_is_asked_for() {
    let (dir, root) = tree();
    fs::write(dir.path().join("root/f"), "").unwrap();
    let kept = Target { keep_kinds: true, ..target(&root, "/") };
    let error = run(&kept, &[file("d", "x")]).unwrap_err().to_string();
    assert_eq!(error, "cannot overwrite directory \"/d\" with non-directory \"/\"");
    let error = run(&kept, &[header("f/", b'5', 0, |_| ())]).unwrap_err().to_string();
    assert_eq!(error, "cannot overwrite non-directory \"/f\" with directory \"/\"");
    run(&target(&root, "/"), &[file("d", "x"), header("f/", b'5', 0, |_| ())]).unwrap();
    assert!(dir.path().join("root/d").is_file() && dir.path().join("root/f").is_dir());
}

#[test]
fn nothing_leads_out() {
    let (dir, root) = tree();
    let base = dir.path().join("root");
    symlink(dir.path().join("outside"), base.join("abs")).unwrap();
    symlink("../../../outside", base.join("rel")).unwrap();
    fs::write(dir.path().join("outside/secret"), "canary").unwrap();
    let link = |name: &str, to: &str| {
        header(name, b'1', 0, |block| block[157..157 + to.len()].copy_from_slice(to.as_bytes()))
    };
    for parts in [
        [file("abs/x", "x")],
        [file("rel/x", "x")],
        [file("../outside/x", "x")],
        [link("hard", "abs/secret")],
        [link("hard", "../outside/secret")],
    ] {
        let _ = run(&target(&root, "/"), &parts);
    }
    assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 1);
    assert!(fs::symlink_metadata(base.join("hard")).is_err());
    assert_eq!(fs::metadata(dir.path().join("outside/secret")).unwrap().nlink(), 1);
}

#[test]
fn what_is_brought_to_a_host_is_tame() {
    let (dir, root) = tree();
    let own = Target { tame: true, ..target(&root, "/") };
    let set_id = header("s", b'0', 0, |block| block[100..108].copy_from_slice(b"0006755\0"));
    let device = header("dev", b'3', 0, |_| ());
    let done = run(&own, &[set_id, device]).unwrap();
    assert_eq!(done, Transferred { entries: 2, devices: 1 });
    let mode = fs::metadata(dir.path().join("root/s")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
    assert!(fs::symlink_metadata(dir.path().join("root/dev")).is_err());
}

#[test]
fn a_directory_swapped_for_a_link_meanwhile_leads_nowhere() {
    let (dir, root) = tree();
    let base = dir.path().join("root");
    symlink(dir.path().join("outside"), base.join("l")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for (from, to) in [("d", "t"), ("l", "d"), ("d", "l"), ("t", "d")] {
                    // The unpacker may have made the directory anew in between.
                    let _ = root.rename(from, to);
                }
            }
        });
        for round in 0..500 {
            let _ = run(&target(&root, "/d"), &[file(&format!("f{round}/x"), "x"), file("y", "y")]);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 0);
}

#[test]
fn who_asks_for_one_thing_is_given_no_other() {
    let (dir, root) = tree();
    let base = dir.path().join("root");
    let named = Target { rename: Some((b"asked", b"kept")), ..target(&root, "/") };
    run(&named, &[header("asked/", b'5', 0, |_| ()), file("asked/f", "f"), file("./asked/g", "g")]).unwrap();
    assert_eq!(fs::read_to_string(base.join("kept/f")).unwrap(), "f");
    assert_eq!(fs::read_to_string(base.join("kept/g")).unwrap(), "g");
    for name in [".bashrc", "askedfor", "asked/../.bashrc", "/asked/../.bashrc", "./.bashrc"] {
        run(&named, &[file(name, "trojan")]).unwrap_err();
    }
    let link = header("asked/l", b'1', 0, |block| block[157..158].copy_from_slice(b"d"));
    run(&named, &[link]).unwrap_err();
    let mut names: Vec<_> = fs::read_dir(&base).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["d", "kept"]);
}
