//! `cp`: both ways, by both command lines, of containers that run and that do not, into volumes and binds; and what is refused.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use kit::{CLIS, Cli, Cmd, Host};

/// Starts a container, and gives its name.
fn start(host: &Host, name: &str, flags: &[&str]) -> String {
    let mut args = vec!["run", "-d", "--network", "none", "--name", name];
    args.extend(flags);
    args.extend(["busybox", "sleep", "1000"]);
    host.corten(args).ok();
    name.to_owned()
}

fn inside(host: &Host, name: &str, script: &str) -> String {
    host.corten(["exec", name, "sh", "-c", script]).ok()
}

/// A directory of this machine for a test's files.
fn place(host: &Host, name: &str) -> PathBuf {
    let path = host.root().join(name);
    fs::create_dir(&path).expect("mkdir");
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A container is copied from, while it runs and when it does not.
fn both_ways(host: &Host, cli: Cli, name: &str, dir: &Path) {
    let from = |path: &str| format!("{name}:{path}");
    let cp = |args: &[&str]| host.cli(cli, ["cp"].iter().chain(args));
    fs::create_dir_all(dir.join("site/sub")).expect("mkdir");
    fs::write(dir.join("site/sub/page"), "page").expect("write");
    fs::write(dir.join("one"), "one").expect("write");
    fs::set_permissions(dir.join("one"), fs::Permissions::from_mode(0o640)).expect("chmod");

    // Into a directory that is there, as a new name, over a file, and only what is in it.
    cp(&[text(&dir.join("one")), &from("/work")]).ok();
    cp(&[text(&dir.join("one")), &from("/work/renamed")]).ok();
    cp(&[text(&dir.join("site/sub/page")), &from("/work/renamed")]).ok();
    cp(&[text(&dir.join("site")), &from("/work/")]).ok();
    cp(&[text(&dir.join("site")), &from("/work/new")]).ok();
    cp(&[&format!("{}/.", text(&dir.join("site"))), &from("/work/site/sub")]).ok();
    // A link is followed as the container would.
    cp(&[text(&dir.join("one")), &from("/link/through")]).ok();
    let archive = cp(&[&from("/work/."), "-"]).run();
    assert_eq!(archive.code, 0, "{archive}");
    for wanted in
        ["./one", "./renamed", "./site/sub/page", "./new/sub/page", "./site/sub/sub/page", "./through"]
    {
        let listed = cp(&[&from("/work/."), text(&dir.join("all"))]);
        if !dir.join("all").exists() {
            listed.ok();
        }
        assert!(dir.join("all").join(wanted).exists(), "{wanted}");
    }
    assert_eq!(read(&dir.join("all/renamed")), "page");
    assert_eq!(fs::metadata(dir.join("all/one")).expect("stat").permissions().mode() & 0o7777, 0o640);

    // Out: a file by its name, under another name, a directory, a link as it is and followed.
    let out = dir.join("out");
    fs::create_dir(&out).expect("mkdir");
    cp(&[&from("/work/one"), text(&out)]).ok();
    cp(&[&from("/work/one"), text(&out.join("two"))]).ok();
    cp(&[&from("/work/site"), text(&out.join("copied"))]).ok();
    cp(&[&from("/link"), text(&out)]).ok();
    cp(&["-L", &from("/link"), text(&out.join("followed"))]).ok();
    assert_eq!((read(&out.join("one")), read(&out.join("two"))), ("one".to_owned(), "one".to_owned()));
    assert_eq!(read(&out.join("copied/sub/page")), "page");
    assert_eq!(fs::read_link(out.join("link")).expect("a link"), Path::new("/work"));
    assert_eq!(read(&out.join("followed/one")), "one");

    // From standard input.
    let packed = Cmd::new("tar").args(["cf", "-", "-C", text(dir), "one"]).run();
    let archive = packed.stdout.into_bytes();
    cp(&["-", &from("/work/new")]).stdin(archive).ok();
    cp(&[&from("/work/new/one"), text(&out.join("three"))]).ok();
    assert_eq!(read(&out.join("three")), "one");
    fs::remove_dir_all(dir).expect("remove");
}

#[test]
fn files_go_in_and_out_while_it_runs_and_when_it_does_not() {
    let host = Host::with_busybox();
    for cli in CLIS {
        for running in [true, false] {
            let name = start(&host, &format!("c-{cli:?}-{running}").to_lowercase(), &[]);
            inside(&host, &name, "mkdir /work && ln -s /work /link");
            if !running {
                host.corten(["stop", "-t", "0", &name]).ok();
            }
            both_ways(&host, cli, &name, &place(&host, "files"));
            if !running {
                host.corten(["start", &name]).ok();
            }
            assert_eq!(inside(&host, &name, "cat /work/new/sub/page /work/through"), "pageone");
        }
    }
    assert_eq!(host.mounts(), Vec::<String>::new());
}

#[test]
fn a_container_that_never_ran_has_files() {
    let host = Host::with_busybox();
    let dir = place(&host, "files");
    fs::write(dir.join("f"), "early").expect("write");
    let id = host
        .corten([
            "create",
            "--network",
            "none",
            "-v",
            "vol:/not/there",
            "busybox",
            "cat",
            "/not/there/f",
            "/g",
        ])
        .ok();
    host.corten(["cp", text(&dir.join("f")), &format!("{id}:/not/there/f")]).ok();
    host.corten(["cp", text(&dir.join("f")), &format!("{id}:/g")]).ok();
    assert_eq!(host.corten(["start", "-a", &id]).ok(), "earlyearly");
}

#[test]
fn volumes_and_binds_are_reached_and_those_to_be_read_only_are_not_written() {
    let host = Host::with_busybox();
    for running in [true, false] {
        let dir = place(&host, &format!("bound-{running}"));
        fs::write(dir.join("there"), "there").expect("write");
        let volume = format!("vol-{running}");
        let (rw, ro) = (format!("{}:/rw", text(&dir)), format!("{}:/ro:ro", text(&dir)));
        let name = format!("mounts-{running}");
        start(&host, &name, &["--read-only", "-v", &rw, "-v", &ro, "-v", &format!("{volume}:/vol")]);
        if !running {
            host.corten(["stop", "-t", "0", &name]).ok();
        }
        let file = host.root().join("file");
        fs::write(&file, "file").expect("write");
        let to = |path: &str| format!("{name}:{path}");
        for cli in CLIS {
            let cp = |from: &str, to: &str| host.cli(cli, ["cp", from, to]);
            cp(text(&file), &to("/rw/new")).ok();
            assert_eq!(read(&dir.join("new")), "file");
            cp(text(&file), &to("/vol/new")).ok();
            let out = host.root().join("out");
            cp(&to("/vol/new"), text(&out)).ok();
            assert_eq!(read(&out), "file");
            cp(&to("/ro/there"), text(&out)).ok();
            assert_eq!(read(&out), "there");
            cp(text(&file), &to("/ro/")).fails(1, "mounted volume is marked read-only");
            cp(text(&file), &to("/tmp")).fails(1, "container rootfs is marked read-only");
        }
        assert!(!dir.join("file").exists());
    }
    assert_eq!(host.mounts(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_copied_is_said_in_dockers_words() {
    let host = Host::with_busybox();
    let name = start(&host, "words", &[]);
    inside(&host, &name, "mkdir /d && echo f > /f");
    let dir = place(&host, "files");
    fs::write(dir.join("file"), "x").expect("write");
    fs::create_dir(dir.join("d")).expect("mkdir");
    let (file, d) = (text(&dir.join("file")).to_owned(), text(&dir.join("d")).to_owned());
    for cli in CLIS {
        let fails =
            |args: [&str; 2], words: &str| drop(host.cli(cli, ["cp", args[0], args[1]]).fails(1, words));
        fails(["words:/none", &d], "Could not find the file /none in container words");
        fails(["words:/proc/cpuinfo", &d], "Could not find the file /proc/cpuinfo in container words");
        fails([&file, "words:/none/here/"], "no such directory");
        fails([&file, "words:/none/here"], "Could not find the file /none in container words");
        fails([&d, "words:/f"], "cannot copy directory");
        fails([&file, "words:/proc"], "");
        fails(["words:/d", &file], "cannot copy directory");
        fails(["words:/f", &format!("{d}/none/f")], "does not exist");
        fails([&format!("{d}/none"), "words:/d"], "no such file or directory");
        fails(["words:/f", "words:/g"], "copying between containers is not supported");
        fails([&file, &d], "must specify at least one container source");
        fails(["nobody:/f", &d], "No such container: nobody");
        fails([&file, "nobody:/f"], "No such container: nobody");
        host.cli(cli, ["cp", "-", "words:/f"]).stdin("").fails(1, "must be a directory");
    }
    // A directory does not give way to a file.
    let archive =
        Cmd::new("tar").args(["cf", "-", "-C", text(&dir), "--transform", "s/file/d/", "file"]).run();
    for cli in CLIS {
        let refused = host.cli(cli, ["cp", "-", "words:/"]).stdin(archive.stdout.clone().into_bytes()).run();
        assert_ne!(refused.code, 0, "{refused}");
        assert!(
            refused.stderr.contains("cannot overwrite directory \"/d\" with non-directory \"/\""),
            "{refused}"
        );
    }
    assert_eq!(inside(&host, &name, "ls -d /d; ls /none 2>&1 | wc -l"), "/d\n1");
}

#[test]
fn owners_are_the_archives_or_the_containers() {
    let host = Host::with_busybox();
    let name = start(&host, "owned", &["--user", "33:44"]);
    let dir = place(&host, "files");
    fs::write(dir.join("f"), "x").expect("write");
    std::os::unix::fs::chown(dir.join("f"), Some(1234), Some(5678)).expect("chown");
    for cli in CLIS {
        host.cli(cli, ["cp", text(&dir.join("f")), "owned:/tmp/plain"]).ok();
        host.cli(cli, ["cp", "-a", text(&dir.join("f")), "owned:/tmp/users"]).ok();
        let owners = inside(&host, &name, "stat -c %u:%g /tmp/plain /tmp/users");
        assert_eq!(owners, "1234:5678\n33:44");
        // What comes out is the caller's.
        let out = dir.join(format!("{cli:?}"));
        host.cli(cli, ["cp", "owned:/tmp/plain", text(&out)]).ok();
        assert_eq!(fs::metadata(&out).expect("stat").uid(), 0);
    }
}

#[test]
fn a_start_does_not_wait_for_who_writes() {
    let host = Host::with_busybox();
    let id = host.corten(["create", "--network", "none", "busybox", "sleep", "1000"]).ok();
    // An archive that has begun, and does not go on.
    let mut head = vec![0_u8; 512];
    head[..4].copy_from_slice(b"slow");
    head[100..108].copy_from_slice(b"0000644\0");
    head[108..116].copy_from_slice(b"0000000\0");
    head[116..124].copy_from_slice(b"0000000\0");
    head[124..136].copy_from_slice(b"00000100000\0");
    head[136..148].copy_from_slice(b"00000000000\0");
    head[156] = b'0';
    head[257..265].copy_from_slice(b"ustar\x0000");
    head[148..156].fill(b' ');
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut slow = host.corten(["cp", "-", &format!("{id}:/tmp")]).spawn();
    slow.write(&head);
    kit::wait_for("the daemon to unpack", || {
        host.daemon_log().contains("copy into a container").then_some(()).or_else(|| {
            // The first bytes are there when the file is.
            let made = walk(&host.data_root().join("snapshots"), "slow");
            made.then_some(())
        })
    });
    host.corten(["start", &id]).ok();
    assert_eq!(inside(&host, &id, "echo up"), "up");
    drop(slow);
}

fn walk(dir: &Path, name: &str) -> bool {
    fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| {
        entry.file_name() == name
            || (entry.path().is_dir() && !entry.path().is_symlink() && walk(&entry.path(), name))
    })
}

#[test]
fn what_a_container_made_does_no_harm_here() {
    let host = Host::with_busybox();
    let name = start(&host, "evil", &[]);
    inside(
        &host,
        &name,
        "mkdir /d && cp /bin/busybox /d/root && chmod 6755 /d/root && mknod /d/mem c 1 1 && ln -s /etc /d/etc",
    );
    let dir = place(&host, "files");
    symlink("/etc", dir.join("elsewhere")).expect("link");
    host.corten(["cp", "evil:/d", text(&dir)]).ok();
    let mode = |name: &str| {
        fs::symlink_metadata(dir.join("d").join(name)).map(|stat| stat.permissions().mode() & 0o7777)
    };
    assert_eq!(mode("root").expect("a file"), 0o755);
    assert!(mode("mem").is_err());
    assert_eq!(fs::read_link(dir.join("d/etc")).expect("a link"), Path::new("/etc"));
}
