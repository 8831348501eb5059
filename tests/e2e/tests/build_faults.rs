//! Builds that are cut off: by the end of the daemon, of their client, of the disk. Nothing half-made is kept, and the next is right.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kit::disk::SmallDisk;
use kit::{Cmd, Host, skip, wait_for};
use rustix::process::Signal;

/// How often the daemon is killed, each time a little later.
const KILLS: u64 = 8;

/// A directory to build in, and its files.
fn folder(host: &Host, dockerfile: &str, files: &[(&str, &[u8])]) -> PathBuf {
    let path = host.root().join("folder");
    for (name, content) in [("Dockerfile", dockerfile.as_bytes())].iter().chain(files) {
        let file = path.join(name);
        fs::create_dir_all(file.parent().expect("a parent")).expect("make a directory");
        fs::write(file, content).expect("write a file");
    }
    path
}

fn build(host: &Host, folder: &Path, more: &[&str]) -> Cmd {
    let args = ["build", "--network", "none"].into_iter().chain(more.iter().copied()).chain(["."]);
    host.corten(args).current_dir(folder)
}

fn below(path: &Path) -> usize {
    fs::read_dir(path).map_or(0, Iterator::count)
}

/// Waits until nothing is left of builds that came to nothing.
fn nothing_left(host: &Host) {
    wait_for("the steps to end", || (below(&host.exec_root().join("c")) == 0).then_some(()));
    let root = host.data_root();
    wait_for("what was half-made to go", || {
        let left = ["snapshots", "build/contexts", "content/ingest"].map(|path| below(&root.join(path)));
        (left == [0; 3]).then_some(())
    });
}

#[test]
fn a_daemon_killed_at_any_moment_leaves_a_cache_that_is_right() {
    let mut host = Host::with_busybox();
    let text = "FROM busybox AS one\nARG TURN\nCOPY files /files\nRUN cat /files/* >/sum && echo $TURN >>/sum\n\
        FROM busybox AS two\nARG TURN\nRUN for i in 1 2 3 4 5 6 7 8; do echo $TURN-$i >/$i; done\n\
        FROM one\nCOPY --from=two /1 /8 /from/\nRUN cat /sum /from/* | sha256sum >/whole\n";
    let files: Vec<(String, Vec<u8>)> =
        (0..50).map(|number| (format!("files/{number:02}"), vec![b'a' + number % 26; 20_000])).collect();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, content)| (name.as_str(), &content[..])).collect();
    let folder = folder(&host, text, &files);
    for turn in 0..KILLS {
        let argument = format!("TURN={turn}");
        let client = build(&host, &folder, &["-t", "made", "--build-arg", &argument]).spawn();
        // No state is waited for: the moments are to be any.
        std::thread::sleep(Duration::from_millis(40 + turn * 90));
        host.kill_daemon();
        drop(client);
        host.start_daemon();
        nothing_left(&host);
        // What the cache has of it is as right as what is made anew.
        let sums: Vec<String> = [&["--build-arg", &argument][..], &["--build-arg", &argument, "--no-cache"]]
            .iter()
            .map(|more| {
                build(&host, &folder, &[&["-t", "made"], *more].concat()).ok();
                host.corten(["run", "--rm", "--network", "none", "made", "cat", "/whole", "/from/8"]).ok()
            })
            .collect();
        assert_eq!(sums[0], sums[1]);
        assert!(sums[0].ends_with(&format!("{turn}-8")), "{sums:?}");
    }
}

#[test]
fn a_client_that_goes_takes_its_build_with_it() {
    let host = Host::with_busybox();
    let folder = folder(&host, "FROM busybox\nRUN echo kept >/a\nRUN sleep 1000\n", &[]);
    let running = || (below(&host.exec_root().join("c")) == 1).then_some(());
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let client = build(&host, &folder, &[]).spawn();
        wait_for("a step to run", || {
            let processes = host.cgroups();
            running().filter(|()| !processes.is_empty())
        });
        client.signal(signal);
        drop(client);
        nothing_left(&host);
    }
    // The steps before are in the cache.
    let text = "FROM busybox\nRUN echo kept >/a\nRUN cat /a\n";
    fs::write(folder.join("Dockerfile"), text).expect("write a file");
    let said = build(&host, &folder, &[]).run();
    assert!(said.code == 0 && format!("{said}").contains("kept"), "{said}");
}

#[test]
fn a_disk_that_fills_is_told_and_nothing_half_made_stays() {
    let Some(disk) = SmallDisk::mount("96M") else {
        skip("loop devices", "cannot mount a small file system");
        return;
    };
    let root = disk.path().join("data").display().to_string();
    let host = Host::with_flags(&["--data-root", &root]);
    host.pull_busybox();
    let free = || free(&disk.path()) >> 20;
    let before = free();
    let folder = folder(&host, "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=200\n", &[]);
    let said = build(&host, &folder, &["-t", "never"]).run();
    assert!(said.code != 0 && format!("{said}").contains("No space left on device"), "{said}");
    // Files that are copied, from elsewhere.
    fs::write(folder.join("big"), vec![7; 150 << 20]).expect("write a file");
    fs::write(folder.join("Dockerfile"), "FROM busybox\nCOPY big /\n").expect("write a file");
    let said = build(&host, &folder, &["-t", "never"]).run();
    assert!(said.code != 0 && format!("{said}").to_lowercase().contains("no space left on device"), "{said}");
    fs::remove_file(folder.join("big")).expect("remove a file");
    wait_for("what was half-made to go", || (free() + 3 >= before).then_some(()));
    assert_eq!(host.corten(["images", "-q", "never"]).ok(), "");
    fs::write(folder.join("Dockerfile"), "FROM busybox\nRUN echo fits >/a\n").expect("write a file");
    build(&host, &folder, &["-t", "fits"]).ok();
    assert_eq!(host.corten(["run", "--rm", "--network", "none", "fits", "cat", "/a"]).ok(), "fits");
    drop(host);
    drop(disk);
}

/// Bytes free.
fn free(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).expect("look at a file system");
    stat.f_bavail * stat.f_frsize
}
