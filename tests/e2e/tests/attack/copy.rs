//! Files copied out of and into a container that is hostile at that moment.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use kit::fixtures::{Entry, Image, Layer, Packing, busybox};
use kit::{CLIS, Host};

use super::{Canary, SECRET};

/// How long an attack goes on.
const ATTACK: Duration = Duration::from_secs(4);

/// A container that swaps a directory, and a file, for links to the canary and back, as fast as it can.
fn swapper(host: &Host, target: &str) -> String {
    let script = format!(
        "mkdir -p /w/dir /w/out && echo own > /w/dir/passwd && echo own > /w/file && ln -s {target} /w/link && \
         ln -s {target}/passwd /w/filelink && \
         while true; do mv -T /w/dir /w/tmp; mv -T /w/link /w/dir; mv -T /w/dir /w/link; mv -T /w/tmp /w/dir; \
         mv -T /w/file /w/tmp; mv -T /w/filelink /w/file; mv -T /w/file /w/filelink; mv -T /w/tmp /w/file; done"
    );
    host.corten(["run", "-d", "--network", "none", "busybox", "sh", "-c", &script]).ok()
}

/// The contents of a file, or of all files below a folder; what links lead to was not copied.
fn contents(path: &Path) -> Vec<Vec<u8>> {
    let Ok(stat) = fs::symlink_metadata(path) else { return Vec::new() };
    if stat.is_dir() {
        let entries = fs::read_dir(path).expect("list").flatten();
        return entries.flat_map(|entry| contents(&entry.path())).collect();
    }
    if stat.is_file() { vec![fs::read(path).expect("read")] } else { Vec::new() }
}

#[test]
fn cp_race() {
    let host = Host::with_busybox();
    let canary = Canary::new(&host);
    let id = swapper(&host, &canary.path());
    let given = host.root().join("given");
    fs::create_dir(&given).expect("mkdir");
    fs::write(given.join("passwd"), "from outside").expect("write");
    fs::write(given.join("new"), "from outside").expect("write");
    let (taken, given) = (host.root().join("taken"), given.display().to_string());
    let until = Instant::now() + ATTACK;
    // Copies that came to something: a race that nobody runs is no test.
    let (mut out, mut into) = (0, 0);
    while Instant::now() < until {
        for cli in CLIS {
            for path in ["/w/dir/passwd", "/w/dir/.", "/w/dir", "/w/file", "/w"] {
                let _ = fs::remove_dir_all(&taken);
                let _ = fs::remove_file(&taken);
                let to = taken.display().to_string();
                // Whether it works is not the question; what is read is.
                out += i32::from(host.cli(cli, ["cp", "-L", &format!("{id}:{path}"), &to]).run().code == 0);
                let read = contents(&taken);
                assert!(
                    !read.iter().any(|content| content.windows(SECRET.len()).any(|w| w == SECRET.as_bytes()))
                );
            }
            for path in ["/w/dir", "/w/dir/", "/w/dir/passwd", "/w/file"] {
                let from = if path.ends_with("dir") || path.ends_with('/') {
                    format!("{given}/.")
                } else {
                    format!("{given}/passwd")
                };
                into += i32::from(host.cli(cli, ["cp", &from, &format!("{id}:{path}")]).run().code == 0);
            }
        }
        canary.check();
    }
    assert!(out > 0 && into > 0, "{out} copies out, {into} into it");
    host.corten(["rm", "-f", &id]).ok();
    canary.check();
    assert_eq!(host.mounts(), Vec::<String>::new());
}

/// An image whose tools and libraries all tell the host that they were run.
fn trojan(canary: &str) -> Image {
    let script = format!("#!/bin/sh\necho owned >> {canary}/owned\n");
    let mut entries = Vec::new();
    // All that an engine might call, but what the container itself runs.
    for name in [
        "tar",
        "xz",
        "gzip",
        "zstd",
        "ps",
        "chroot",
        "mount",
        "umount",
        "cp",
        "getent",
        "ldconfig",
        "docker-tar",
    ] {
        for dir in ["bin", "usr/bin", "sbin", "usr/sbin"] {
            entries.push(Entry::program(&format!("{dir}/{name}"), &script));
        }
    }
    for library in ["libnss_files.so.2", "libnss_compat.so.2", "libc.so.6", "ld-linux-x86-64.so.2"] {
        entries.push(Entry::program(&format!("lib/{library}"), "\x7fELF not a library"));
        entries.push(Entry::program(&format!("lib64/{library}"), "\x7fELF not a library"));
    }
    entries.push(Entry::file("etc/nsswitch.conf", "passwd: files compat\ngroup: files compat\n"));
    entries.push(Entry::file("etc/ld.so.preload", "/lib/libnss_files.so.2\n"));
    let mut image = busybox();
    image.layers.push(Layer::new(&entries, Packing::Gzip));
    image
}

#[test]
fn trojan_helper() {
    let host = Host::new();
    let canary = Canary::new(&host);
    host.give(&trojan(&canary.path()), "trojan");
    let id =
        host.corten(["run", "-d", "--network", "none", "--user", "nobody", "trojan", "sleep", "1000"]).run();
    let id = if id.code == 0 {
        id.text().to_owned()
    } else {
        host.corten(["run", "-d", "--network", "none", "trojan", "sleep", "1000"]).ok()
    };
    let file = host.root().join("file");
    fs::write(&file, "x").expect("write");
    let file = file.display().to_string();
    let packed = host.root().join("packed.tar.xz");
    kit::Cmd::new("tar").args(["cJf", &packed.display().to_string(), "-C", "/", "etc/hostname"]).ok();
    let packed = fs::read(packed).expect("an archive");
    for running in [true, false] {
        for cli in CLIS {
            let out = host.root().join(format!("out-{cli:?}-{running}"));
            host.cli(cli, ["cp", &format!("{id}:/bin"), &out.display().to_string()]).ok();
            host.cli(cli, ["cp", "-a", &file, &format!("{id}:/tmp/")]).ok();
            let _ = host.cli(cli, ["cp", "-", &format!("{id}:/tmp")]).stdin(packed.clone()).run();
            if running {
                host.cli(cli, ["top", &id]).ok();
                host.cli(cli, ["stats", "--no-stream", &id]).ok();
            }
            host.cli(cli, ["export", "-o", &host.root().join("export.tar").display().to_string(), &id]).ok();
            host.cli(cli, ["diff", &id]).ok();
        }
        if running {
            host.corten(["stop", "-t", "0", &id]).ok();
        }
    }
    canary.check();
}
