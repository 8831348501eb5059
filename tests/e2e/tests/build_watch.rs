//! `build --watch`: built again at each change that matters, and at no other; ended by a signal, with nothing left.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use kit::{Cmd, Host, Running, skip, wait_for};
use rustix::process::Signal;

/// A directory with these files.
fn folder(host: &Host, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = host.root().join(name);
    for (name, text) in files {
        write(&folder, name, text);
    }
    folder
}

/// Writes a file in one go: it comes whole from beside the folder, so that it is one change however slow the machine is.
fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    let aside = folder.with_extension("part");
    fs::write(&aside, text).expect("a file");
    fs::rename(aside, path).expect("rename");
}

/// A build that watches; what it tells goes to a file. It does not outlive its test.
struct Watching {
    running: Option<Running>,
    log: PathBuf,
}

impl Watching {
    fn new(host: &Host, folder: &Path, before: &str, args: &[&str]) -> Self {
        let log = host.root().join("told");
        let program = kit::binary().display().to_string();
        let script = format!(
            "{before} exec \"$0\" build --network none --progress plain --watch \"$@\" 2>{}",
            log.display()
        );
        let mut cmd = Cmd::new("sh").args(["-c", &script, &program]).args(args).current_dir(folder);
        for (name, value) in host.environment() {
            cmd = cmd.env(name, value);
        }
        Self { running: Some(cmd.spawn()), log }
    }

    fn told(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has told this so often.
    fn wait_for(&self, text: &str, times: usize) {
        let came = || (self.told().matches(text).count() >= times).then_some(());
        wait_for(&format!("{text} to be told {times} times: {}", self.log.display()), came);
    }

    /// Waits for a build's end: how many there were.
    fn built(&self, times: usize) {
        self.wait_for("; watching ", times);
    }

    fn builds(&self) -> usize {
        self.told().matches("] built ").count() + self.told().matches("] done ").count()
    }

    fn signal(&self, signal: Signal) {
        self.running.as_ref().expect("it runs").signal(signal);
    }

    /// Its exit code after a signal.
    fn ends(mut self, signal: Signal) -> i32 {
        self.signal(signal);
        self.running.take().expect("it runs").wait().code
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            if std::thread::panicking() {
                eprintln!("--- told\n{}", self.told());
            }
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

fn below(path: &Path) -> usize {
    fs::read_dir(path).map_or(0, Iterator::count)
}

/// Waits until nothing is left of a build that was given up.
fn nothing_left(host: &Host) {
    wait_for("the steps to end", || (below(&host.exec_root().join("c")) == 0).then_some(()));
    let root = host.data_root();
    wait_for("what was half-made to go", || {
        let left = ["snapshots", "build/contexts", "content/ingest"].map(|path| below(&root.join(path)));
        (left == [0; 3]).then_some(())
    });
}

fn cat(host: &Host, path: &str) -> String {
    host.corten(["run", "--rm", "--network", "none", "made", "sh", "-c", &format!("cat {path} 2>&1")])
        .run()
        .stdout
}

/// Waits for an image in which a file says this.
fn becomes(host: &Host, path: &str, text: &str) {
    wait_for(&format!("{path} to say {text:?}"), || (cat(host, path) == text).then_some(()));
}

#[test]
fn what_matters_is_built_again() {
    let host = Host::with_busybox();
    let files = [
        ("Dockerfile", "FROM busybox\nINCLUDE more.inc\nCOPY . /src\n"),
        ("more.inc", "ENV A=1\n"),
        (".dockerignore", "hidden\n*.log\n.dockerignore\nmore.inc\n!more.inc\n"),
        ("a", "one"),
        ("hidden/x", "x"),
    ];
    let place = folder(&host, "place", &files);
    let watching = Watching::new(&host, &place, "", &["-t", "made", "."]);
    watching.built(1);
    assert_eq!(cat(&host, "/src/a"), "one");
    // What is hidden is no change: the next is told alone.
    write(&place, "hidden/x", "y");
    write(&place, "hidden/deep/z", "z");
    write(&place, "b.log", "y");
    write(&place, "a", "two");
    becomes(&host, "/src/a", "two");
    watching.built(2);
    let told = watching.told();
    assert!(
        told.contains("] a changed: building\n") && !told.contains("hidden") && !told.contains("b.log"),
        "{told}"
    );
    assert_eq!(watching.builds(), 2, "{told}");
    // Directories that are new, and what is in them.
    write(&place, "new/deep/file", "new");
    becomes(&host, "/src/new/deep/file", "new");
    write(&place, "new/deep/file", "newer");
    becomes(&host, "/src/new/deep/file", "newer");
    // They may be called otherwise.
    fs::rename(place.join("new"), place.join("other")).expect("rename");
    becomes(&host, "/src/other/deep/file", "newer");
    write(&place, "other/deep/file", "newest");
    becomes(&host, "/src/other/deep/file", "newest");
    fs::remove_dir_all(place.join("other")).expect("remove");
    becomes(
        &host,
        "/src/other/deep/file",
        "cat: can't open '/src/other/deep/file': No such file or directory\n",
    );
    // The rules, the Dockerfile, and what it includes.
    write(&place, ".dockerignore", ".dockerignore\n");
    becomes(&host, "/src/hidden/x", "y");
    write(&place, "hidden/x", "seen");
    becomes(&host, "/src/hidden/x", "seen");
    write(&place, "more.inc", "RUN echo included >/included\n");
    becomes(&host, "/included", "included\n");
    // As an editor does, a whole file in the place of the old one.
    write(&place, "Dockerfile", "FROM busybox\nRUN echo replaced >/replaced\n");
    becomes(&host, "/replaced", "replaced\n");
    assert_eq!(watching.ends(Signal::INT), 130);
    nothing_left(&host);
}

#[test]
fn a_failure_is_told_and_the_next_change_built() {
    let host = Host::with_busybox();
    let other = folder(&host, "other", &[("data", "one")]);
    let outer = folder(
        &host,
        "outer",
        &[("Main", "FROM busybox\nCOPY --from=other data /\nINCLUDE near.inc\n"), ("near.inc", "ENV A=1\n")],
    );
    let place = folder(&host, "place", &[("a", "1")]);
    let main = outer.join("Main").display().to_string();
    let context = format!("other={}", other.display());
    let watching =
        Watching::new(&host, &place, "", &["-t", "made", "-f", &main, "--build-context", &context, "."]);
    watching.built(1);
    write(&outer, "near.inc", "FRMO x\n");
    watching.wait_for("] failed after ", 1);
    assert!(
        watching.told().contains("near.inc:1:1: error: unknown instruction: FRMO"),
        "{}",
        watching.told()
    );
    write(&outer, "near.inc", "RUN exit 3\n");
    watching.wait_for("] failed after ", 2);
    write(&outer, "near.inc", "RUN true\n");
    watching.built(4);
    // A directory that was given by name, and a file beside the Dockerfile that means nothing.
    write(&outer, "unrelated", "x");
    write(&other, "data", "two");
    watching.built(5);
    assert_eq!(cat(&host, "/data"), "two");
    assert_eq!(watching.builds(), 3, "{}", watching.told());
    assert!(!watching.told().contains("unrelated"), "{}", watching.told());
    assert_eq!(watching.ends(Signal::TERM), 143);
}

#[test]
fn a_change_ends_the_build_of_what_was() {
    let host = Host::with_busybox();
    let place = folder(
        &host,
        "place",
        &[
            ("Dockerfile", "FROM busybox\nCOPY a /\nRUN test \"$(cat /a)\" != slow || sleep 1000\n"),
            ("a", "slow"),
        ],
    );
    let watching = Watching::new(&host, &place, "", &["-t", "made", "."]);
    let steps = host.exec_root().join("c");
    wait_for("the step to run", || (below(&steps) > 0).then_some(()));
    write(&place, "a", "fast");
    watching.wait_for("] a changed while it was built: building anew", 1);
    watching.built(1);
    assert_eq!(cat(&host, "/a"), "fast");
    nothing_left(&host);
    // A signal ends a build that goes on as well.
    write(&place, "a", "slow");
    wait_for("the step to run", || (below(&steps) > 0).then_some(()));
    assert_eq!(watching.ends(Signal::INT), 130);
    nothing_left(&host);
    // The classic builder's too.
    write(
        &place,
        "Dockerfile",
        "FROM busybox\nCOPY a /a\nRUN cat /a; test \"$(cat /a)\" != slow || sleep 1000\n",
    );
    let watching = Watching::new(
        &host,
        &place,
        "export DOCKER_BUILDKIT=0; unset BUILDKIT_PROGRESS;",
        &["-t", "made", "."],
    );
    wait_for("the step to run", || (below(&steps) > 0).then_some(()));
    write(&place, "a", "quick");
    watching.built(1);
    assert_eq!(cat(&host, "/a"), "quick");
    nothing_left(&host);
    assert_eq!(watching.ends(Signal::INT), 130);
}

#[test]
fn what_a_build_writes_itself_is_no_change() {
    let host = Host::with_busybox();
    let place = folder(&host, "place", &[("Dockerfile", "FROM scratch\nCOPY a /\n"), ("a", "1")]);
    let args = ["-o", "out/files", "-o", "type=tar,dest=x.tar", "--metadata-file", "meta.json", "."];
    let watching = Watching::new(&host, &place, "", &args);
    watching.built(1);
    // The directory above the files is new to who watches.
    write(&place, "a", "2");
    wait_for("the second file", || {
        (fs::read_to_string(place.join("out/files/a")).ok()? == "2").then_some(())
    });
    watching.built(2);
    write(&place, "a", "3");
    watching.built(3);
    assert_eq!(watching.builds(), 3, "{}", watching.told());
    assert_eq!(watching.ends(Signal::INT), 130);
    assert!(place.join("meta.json").exists() && place.join("x.tar").exists());
}

#[test]
fn more_changes_than_the_kernel_keeps() {
    let host = Host::with_busybox();
    let place =
        folder(&host, "place", &[("Dockerfile", "FROM busybox\nCOPY . /src\n"), ("a", "1"), ("b", "1")]);
    let watching = Watching::new(&host, &place, "", &["-t", "made", "."]);
    watching.built(1);
    let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("the kernel's bound");
    let most: usize = most.trim().parse().expect("a number");
    if most > 100_000 {
        return skip("a small queue of inotify", "this kernel keeps very many changes");
    }
    watching.signal(Signal::STOP);
    let mut files = ["a", "b"].map(|name| fs::File::create(place.join(name)).expect("a file"));
    for _ in 0..=most / 2 {
        for file in &mut files {
            file.write_all(b"2").expect("write");
        }
    }
    // Among them a directory that nobody is told of.
    write(&place, "late/c", "1");
    watching.signal(Signal::CONT);
    watching.built(2);
    assert!(watching.told().contains("more than can be told"), "{}", watching.told());
    becomes(&host, "/src/late/c", "1");
    write(&place, "late/c", "2");
    becomes(&host, "/src/late/c", "2");
    assert_eq!(watching.ends(Signal::INT), 130);
}

#[test]
fn a_kernel_that_watches_no_more_is_told_with_what_helps() {
    let host = Host::with_busybox();
    let place = folder(&host, "place", &[("Dockerfile", "FROM busybox\n"), ("a/b/c/d/e", "1")]);
    if Cmd::new("unshare").args(["-Ur", "sh", "-c", "echo 3 >/proc/sys/user/max_inotify_watches"]).run().code
        != 0
    {
        return skip("user namespaces", "a bound of its own cannot be set");
    }
    let program = kit::binary().display().to_string();
    let script = "echo 3 >/proc/sys/user/max_inotify_watches && exec \"$0\" build --watch .";
    let mut cmd = Cmd::new("unshare").args(["-Ur", "sh", "-c", script, &program]).current_dir(&place);
    for (name, value) in host.environment() {
        cmd = cmd.env(name, value);
    }
    let said = cmd.fails(1, "raise fs.inotify.max_user_watches, which is ");
    assert!(said.stderr.contains("or hide directories in .dockerignore"), "{said}");
}

#[test]
fn what_cannot_be_done_again_is_refused_by_name() {
    let host = Host::with_busybox();
    let place = folder(&host, "place", &[("Dockerfile", "FROM busybox\n")]);
    for (args, why) in [
        (&["-"][..], "--watch cannot read standard input again"),
        (&["-f", "-", "."], "--watch cannot read standard input again"),
        (&["https://example.com/x.git"], "--watch watches a directory on this machine"),
        (&["-o", "-", "."], "--watch cannot write to standard output again and again"),
        (&["-o", "type=oci", "."], "--watch cannot write to standard output again and again"),
        (&["-o", "type=local,dest=..", "."], "it holds the directory that is watched"),
        (&["--check", "."], "--watch builds: leave it out"),
        (&["-f", "none", "."], "open none: no such file or directory"),
        (&["--ulimit", "x", "."], "invalid ulimit argument: x"),
    ] {
        let args = [&["build", "--watch"], args].concat();
        host.corten(args).stdin("FROM busybox\n").current_dir(&place).fails(1, why);
    }
}
