//! What builds keep: how it is shown and removed.

use std::fs;

use kit::{CLIS, Host, wait_for};

#[test]
fn the_build_cache_is_shown_and_removed() {
    let host = Host::with_busybox();
    let folder = host.root().join("folder");
    fs::create_dir_all(&folder).expect("make a directory");
    let text =
        "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=3\nRUN echo small >/small\nCOPY file /file\n";
    fs::write(folder.join("Dockerfile"), text).expect("write a file");
    fs::write(folder.join("file"), "content").expect("write a file");
    host.corten(["build", "-q", "--network", "none", "-t", "made", "."]).current_dir(&folder).ok();
    let format = "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}}";
    for cli in CLIS {
        let told = host.cli(cli, ["system", "df", "--format", format]).ok();
        // The image has all of it.
        assert!(told.lines().any(|line| line == "Build Cache 3 0 0B"), "{told}");
    }
    host.corten(["rmi", "made"]).ok();
    for cli in CLIS {
        let told = host.cli(cli, ["system", "df", "--format", format]).ok();
        let line = told.lines().find(|line| line.starts_with("Build Cache 3 0 ")).expect("the build cache");
        // As it is unpacked, and as it is packed.
        assert!(line.contains(" 6.") && line.ends_with("MB"), "{told}");
        let whole = host.cli(cli, ["system", "df", "-v"]).ok();
        let rows: Vec<&str> = whole.lines().filter(|line| line.contains(" regular ")).collect();
        assert!(rows.len() == 3 && rows.iter().all(|row| row.ends_with(" false")), "{whole}");
    }
    // The layers of an image stay with it.
    host.corten(["build", "-q", "--network", "none", "-t", "made", "."]).current_dir(&folder).ok();
    let gone = host.corten(["builder", "prune", "-f"]).ok();
    assert!(gone.contains("Total") && gone.ends_with("0B"), "{gone}");
    host.corten(["rmi", "made"]).ok();
    let gone = host.docker(["builder", "prune", "-f"]).ok();
    assert!(gone.contains("Total reclaimed space: 6."), "{gone}");
    wait_for("the layers to go", || {
        let layers = fs::read_dir(host.data_root().join("layers")).map_or(0, Iterator::count);
        (layers == 1).then_some(())
    });
    let told = host.corten(["system", "df", "--format", format]).ok();
    assert!(told.lines().any(|line| line == "Build Cache 0 0 0B"), "{told}");
}

#[test]
fn directories_that_last_are_shown_and_removed() {
    let host = Host::with_busybox();
    let folder = host.root().join("lasting");
    fs::create_dir_all(&folder).expect("make a directory");
    let text = "FROM busybox\nARG WHEN\n\
        RUN --mount=type=cache,id=packages,target=/kept ls /kept; dd if=/dev/zero of=/kept/$WHEN bs=1M count=2\n";
    fs::write(folder.join("Dockerfile"), text).expect("write a file");
    let build = |when: &str| {
        let args = ["build", "--progress", "plain", "--network", "none", "--build-arg", when, "."];
        let output = host.corten(args).current_dir(&folder).run();
        output.expect_code(0);
        output.stderr
    };
    build("WHEN=first");
    assert!(build("WHEN=second").contains(" first\n"));
    for cli in CLIS {
        let whole = host.cli(cli, ["system", "df", "-v"]).ok();
        let row = whole.lines().find(|line| line.contains(" exec.cachemount ")).expect("the directory");
        assert!(row.contains(" 4.198MB ") || row.contains(" 4.2MB "), "{row}");
    }
    let gone = host.corten(["builder", "prune", "-f"]).ok();
    assert!(
        gone.lines().last().is_some_and(
            |line| line.starts_with("Total") && (line.contains("4.198MB") || line.contains("4.2MB"))
        ),
        "{gone}"
    );
    assert_eq!(fs::read_dir(host.data_root().join("build/caches")).map_or(0, Iterator::count), 0);
    let said = build("WHEN=third");
    assert!(!said.contains(" first\n") && !said.contains(" second\n"), "{said}");
}

#[test]
fn a_directory_that_a_step_uses_is_not_removed() {
    let host = Host::with_busybox();
    let folder = host.root().join("used");
    fs::create_dir_all(&folder).expect("make a directory");
    let text = "FROM busybox\nRUN --mount=type=cache,target=/kept echo x >/kept/x; \
        while [ ! -e /kept/go ]; do sleep 0.05; done; cat /kept/x >/seen\n";
    fs::write(folder.join("Dockerfile"), text).expect("write a file");
    let args = ["build", "-q", "--network", "none", "-t", "used", "."];
    let building = host.corten(args).current_dir(&folder).spawn();
    let caches = host.data_root().join("build/caches");
    let directory = wait_for("the step to be at work", || {
        let entries = fs::read_dir(&caches).ok()?.flatten();
        entries.map(|entry| entry.path()).find(|path| path.join("x").exists())
    });
    host.corten(["builder", "prune", "-af"]).ok();
    assert!(directory.join("x").exists());
    fs::write(directory.join("go"), "").expect("write a file");
    building.wait().expect_code(0);
    host.corten(["builder", "prune", "-af"]).ok();
    assert!(!directory.exists());
}
