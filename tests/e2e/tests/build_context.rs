//! Contexts that our command line hands over to an engine on the same machine: nothing is sent, and all holds that holds otherwise.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kit::registry::free_port;
use kit::{Cmd, Host, Output};

/// A directory to build in, with these files.
fn folder(host: &Host, dockerfile: &str, files: &[(&str, &str)]) -> PathBuf {
    let path = host.root().join("folder");
    for (name, content) in [("Dockerfile", dockerfile)].iter().chain(files) {
        write(&path, name, content);
    }
    path
}

fn write(folder: &Path, name: &str, content: &str) {
    let file = folder.join(name);
    fs::create_dir_all(file.parent().expect("a parent")).expect("make a directory");
    fs::write(file, content).expect("write a file");
}

fn build(host: &Host, folder: &Path, more: &[&str]) -> Cmd {
    let fixed = ["build", "--progress", "plain", "--network", "none", "-t", "made"];
    host.corten(fixed.into_iter().chain(more.iter().copied()).chain(["."])).current_dir(folder)
}

/// Builds, and gives what was told.
fn built(host: &Host, folder: &Path, more: &[&str]) -> String {
    let output = build(host, folder, more).run();
    output.expect_code(0);
    text(&output)
}

fn text(output: &Output) -> String {
    format!("{}{}", output.stdout, output.stderr)
}

fn run(host: &Host, script: &str) -> String {
    host.corten(["run", "--rm", "--network", "none", "made", "sh", "-c", script]).ok()
}

#[test]
fn nothing_is_sent_and_what_is_hidden_stays_hidden() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nCOPY . /all\nCOPY --from=more own /more/\n\
        RUN --mount=type=bind,target=/seen ls -A /seen >/list; touch /seen/b 2>/dev/null || echo refused >>/list; cat /seen/a >>/list\n";
    let files = [
        ("a", "alpha\n"),
        (".dockerignore", "secret\n*.log\nlink-to-secret-directory\n"),
        ("secret/key", "key\n"),
        ("x.log", "log\n"),
    ];
    let folder = folder(&host, text, &files);
    symlink("secret/key", folder.join("link")).expect("make a link");
    chown(folder.join("a"), Some(1234), Some(1234)).expect("change the owner");
    let more = host.root().join("more");
    write(&more, "own", "another\n");
    chown(more.join("own"), Some(1234), Some(1234)).expect("change the owner");
    let context = format!("more={}", more.display());
    let said = built(&host, &folder, &["--build-context", &context]);
    assert!(said.contains("transferring context: done"), "{said}");
    assert_eq!(kept(&host), 0);
    assert_eq!(
        run(&host, "ls -A /all | tr '\\n' ' '; cat /list; stat -c '%u %a' /all/a /more/own"),
        ".dockerignore Dockerfile a link .dockerignore\nDockerfile\na\nlink\nrefused\nalpha\n0 644\n0 644"
    );
    assert!(!folder.join("b").exists());
    // The same by a link, or by a way through one.
    symlink("secret", folder.join("way")).expect("make a link");
    for path in ["link", "way/key", "way", "secret/key"] {
        write(&folder, "Dockerfile", &format!("FROM scratch\nCOPY {path} /x\n"));
        let error = build(&host, &folder, &[]).fails(1, "not found");
        assert!(error.stderr.contains(".dockerignore hides it"), "{error:?}");
    }
    // Over TCP it is sent.
    write(&folder, "Dockerfile", text);
    let sent = tcp(&folder, &context);
    let sizes = sent.split("transferring context: ").skip(1);
    let sizes = sizes.filter(|text| text.starts_with(|letter: char| letter.is_ascii_digit()));
    // What hides files, the files, and those of the other directory.
    assert_eq!(sizes.count(), 3, "{sent}");
}

/// Directories that were sent and are kept for the next build.
fn kept(host: &Host) -> usize {
    let all = fs::read_dir(host.data_root().join("contexts")).expect("list a directory");
    all.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_dir())).count()
}

/// A build over TCP.
fn tcp(folder: &Path, context: &str) -> String {
    let address = format!("tcp://127.0.0.1:{}", free_port());
    let host = Host::with_flags(&["-H", &address]);
    host.pull_busybox();
    let args = [
        "--host",
        &address,
        "build",
        "--progress",
        "plain",
        "--network",
        "none",
        "--build-context",
        context,
        ".",
    ];
    let output = host.corten(args).current_dir(folder).run();
    output.expect_code(0);
    text(&output)
}

#[test]
fn names_are_bytes() {
    let host = Host::with_busybox();
    let folder = folder(&host, "FROM busybox\nCOPY . /x\n", &[]);
    let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"bad\xff");
    fs::write(folder.join(name), "content").expect("write a file");
    built(&host, &folder, &[]);
    assert_eq!(run(&host, "cat /x/bad*"), "content");
}

#[test]
fn links_do_not_lead_out() {
    let host = Host::with_busybox();
    let folder = folder(&host, "", &[]);
    fs::write(host.root().join("outside"), "outside\n").expect("write a file");
    symlink("../outside", folder.join("up")).expect("make a link");
    symlink(host.root(), folder.join("above")).expect("make a link");
    symlink("/etc", folder.join("out")).expect("make a link");
    for path in ["up", "above/outside", "out/passwd", "../outside", "/../../../etc/passwd"] {
        write(&folder, "Dockerfile", &format!("FROM scratch\nCOPY {path} /x\n"));
        build(&host, &folder, &[]).fails(1, "not found");
        let text = format!("FROM busybox\nRUN --mount=type=bind,source={path},target=/x cat /x\n");
        write(&folder, "Dockerfile", &text);
        build(&host, &folder, &[]).fails(1, "not found");
    }
    // As links they are copied.
    write(&folder, "Dockerfile", "FROM busybox\nCOPY . /x\n");
    built(&host, &folder, &[]);
    assert_eq!(run(&host, "readlink /x/up; readlink /x/out"), "../outside\n/etc");
}

#[test]
fn a_change_is_seen_whatever_its_time_says() {
    let mut host = Host::with_busybox();
    let folder = folder(&host, "FROM busybox\nCOPY data /data\n", &[("data/a", "one"), ("data/b", "same")]);
    let file = folder.join("data/a");
    built(&host, &folder, &[]);
    let time = fs::metadata(&file).expect("look").modified().expect("a time");
    for (round, content) in ["two", "six", "ten", "one"].into_iter().enumerate() {
        fs::write(&file, content).expect("write a file");
        fs::File::options()
            .write(true)
            .open(&file)
            .and_then(|file| file.set_modified(time))
            .expect("set the time");
        if round == 2 {
            // What is remembered outlives the daemon.
            host.kill_daemon();
            host.start_daemon();
        }
        built(&host, &folder, &[]);
        assert_eq!(run(&host, "cat /data/a"), content);
    }
    // Modes and names count as well.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set the mode");
    built(&host, &folder, &[]);
    assert_eq!(run(&host, "stat -c %a /data/a"), "600");
    fs::rename(folder.join("data/b"), folder.join("data/c")).expect("rename");
    built(&host, &folder, &[]);
    assert_eq!(run(&host, "ls /data"), "a\nc");
    let said = built(&host, &folder, &[]);
    assert!(said.contains("CACHED"), "{said}");
}

#[test]
fn files_that_change_meanwhile_do_not_spoil_the_cache() {
    /// Bytes of the file: copying takes a moment.
    const BYTES: usize = 8 << 20;
    let host = Host::with_busybox();
    let folder = folder(&host, "FROM busybox\nCOPY data /data\n", &[]);
    let file = folder.join("data/a");
    let content = |letter: char| letter.to_string().repeat(BYTES);
    write(&folder, "data/a", &content('a'));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for letter in ['a', 'b'] {
                    fs::write(&file, content(letter)).expect("write a file");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
        let codes: Vec<i32> = (0..6).map(|_| build(&host, &folder, &[]).run().code).collect();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(codes, [0; 6]);
    });
    for letter in ['a', 'b', 'a'] {
        fs::write(&file, content(letter)).expect("write a file");
        built(&host, &folder, &[]);
        let look = format!("tr -d {letter} </data/a | wc -c; wc -c </data/a");
        assert_eq!(run(&host, &look), format!("0\n{BYTES}"));
    }
}
