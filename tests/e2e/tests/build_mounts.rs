//! What `RUN --mount` puts into a step: where it lies meanwhile, who has it for itself, and what it leaves in the image.

use std::fs;
use std::path::PathBuf;

use kit::{Cmd, Host, wait_for};
use rustix::process::Signal;

/// A directory with a Dockerfile and some files.
fn folder(host: &Host, name: &str, dockerfile: &str, files: &[(&str, &str)]) -> PathBuf {
    let path = host.root().join(name);
    for (name, text) in [("Dockerfile", dockerfile)].iter().chain(files) {
        let file = path.join(name);
        fs::create_dir_all(file.parent().expect("a parent")).expect("a directory");
        fs::write(file, text).expect("a file");
    }
    path
}

fn build(host: &Host, folder: &PathBuf, more: &[&str]) -> Cmd {
    let args = ["build", "--network", "none"].into_iter().chain(more.iter().copied()).chain(["."]);
    host.corten(args).env("BUILDKIT_PROGRESS", "plain").current_dir(folder)
}

fn run(host: &Host, image: &str, script: &str) -> String {
    host.corten(["run", "--rm", "--network", "none", image, "sh", "-c", script]).ok()
}

#[test]
fn a_secret_is_in_memory_alone() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nRUN --mount=type=secret,id=a,uid=7,gid=8,mode=0440 --mount=type=secret,id=b,target=/deep/b \
        { awk '$2 == \"/run/secrets/a\" || $2 == \"/deep/b\" { print $2, $3, $4 }' /proc/mounts; \
        stat -c '%a %u %g %s' /run/secrets/a /deep/b; cat /deep/b; ! echo x 2>/dev/null >/run/secrets/a; } >/told\n";
    let folder = folder(&host, "secret", text, &[("a", "first"), ("b", "second\n")]);
    build(&host, &folder, &["-t", "told", "--secret", "id=a,src=a", "--secret", "id=b,src=b"]).ok();
    let told = run(&host, "told", "cat /told; ls /run /deep 2>&1 || true");
    for path in ["/run/secrets/a", "/deep/b"] {
        let line = told.lines().find(|line| line.starts_with(path)).unwrap_or_default();
        let options: Vec<&str> = line.split([' ', ',']).collect();
        assert!(
            ["tmpfs", "ro", "nosuid", "nodev", "noexec"].iter().all(|one| options.contains(one)),
            "{told}"
        );
    }
    assert!(told.contains("440 7 8 5\n400 0 0 7\nsecond\n"), "{told}");
    // Nothing of them is left where they were seen.
    assert!(!told.contains("secrets\n") && told.contains("/deep: No such file"), "{told}");
}

#[test]
fn places_behind_links_leave_nothing() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nRUN mkdir -p /usr/made /real/run && ln -s usr/made /made && ln -s /real/run /usr/run\n\
        RUN --mount=type=bind,source=tool,target=/made/tool --mount=type=tmpfs,target=/usr/run/deep/er \
        cat /made/tool && touch /usr/run/deep/er/x /made/kept\n";
    let folder = folder(&host, "links", text, &[("tool", "tool\n")]);
    build(&host, &folder, &["-t", "clean"]).ok();
    assert_eq!(run(&host, "clean", "ls -A /usr/made /real/run"), "/real/run:\n\n/usr/made:\nkept");
}

#[test]
fn a_cache_is_locked_until_who_has_it_is_dead() {
    let host = Host::with_busybox();
    let mount = "--mount=type=cache,target=/c,sharing=locked";
    let text = format!(
        "FROM busybox\nRUN {mount} trap '' TERM INT; touch /c/busy; while :; do date +%s.%N >/c/alive; done\n"
    );
    let first = folder(&host, "first", &text, &[]);
    let text = format!(
        "FROM busybox\nRUN {mount} test -e /c/busy; sum=$(md5sum /c/alive); sleep 0.3; test \"$sum\" = \"$(md5sum /c/alive)\"\n"
    );
    let second = folder(&host, "second", &text, &[]);
    let client = build(&host, &first, &[]).spawn();
    let caches = host.data_root().join("build/caches");
    wait_for("the step to run", || {
        let entries = fs::read_dir(&caches).ok()?;
        entries.flatten().any(|entry| entry.path().join("alive").exists()).then_some(())
    });
    client.signal(Signal::KILL);
    drop(client.wait());
    build(&host, &second, &[]).ok();
}
