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
    // The same by BuildKit's API.
    let used = host.corten(["builder", "du"]).ok();
    let lines: Vec<&str> = used.lines().collect();
    assert!(lines[0].starts_with("ID ") && lines[0].ends_with("LAST ACCESSED") && lines.len() == 6, "{used}");
    assert!(lines[4].starts_with("Reclaimable:\t6.") && lines[5].starts_with("Total:\t\t6."), "{used}");
    let ids = host.corten(["buildx", "du", "--format", "{{.ID}} {{.Reclaimable}} {{.Type}}"]).ok();
    assert!(ids.lines().count() == 3 && ids.lines().all(|line| line.ends_with(" true regular")), "{ids}");
    let id = ids.split_whitespace().next().expect("an id");
    let one = host.corten(["builder", "du", "--verbose", "--filter", &format!("id={id}")]).ok();
    assert!(
        one.starts_with(&format!("ID:             {id}\n")) && one.contains("\nDescription:    "),
        "{one}"
    );
    assert_eq!(
        host.corten(["builder", "du", "--filter", "type=exec.cachemount", "--format", "{{.ID}}"]).ok(),
        ""
    );
    host.corten(["builder", "du", "--filter", "colour=red"]).fails(1, "colour=red");
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

/// Lets an engine be started that may keep so much of builds.
fn bounded(host: &mut Host, bytes: &str) {
    let settings = format!(r#"{{"builder": {{"gc": {{"defaultKeepStorage": "{bytes}"}}}}}}"#);
    fs::write(host.root().join("daemon.json"), settings).expect("write daemon.json");
    host.kill_daemon();
    host.start_daemon();
}

/// What the cache holds: bytes, and what it was that made them.
fn held(host: &Host) -> (f64, String) {
    let told = host.corten(["system", "df", "-v", "--format", "{{json .BuildCache}}"]).ok();
    let bytes = |size: &str| {
        let digits = size.trim_end_matches(char::is_alphabetic);
        let unit = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)];
        let unit = unit.iter().find(|(unit, _)| size.ends_with(unit)).expect("a unit").1;
        digits.parse::<f64>().expect("a number") * unit
    };
    let entries: Vec<serde_json::Value> = serde_json::from_str(&told).expect("JSON");
    (entries.iter().map(|one| bytes(one["Size"].as_str().expect("a size"))).sum(), told)
}

/// Waits until the cache is within its bound.
fn within(host: &Host, megabytes: f64) -> String {
    wait_for("the cache to be within its bound", || {
        let (bytes, told) = held(host);
        (bytes <= megabytes * 1e6).then_some(told)
    })
}

#[test]
fn the_cache_stays_within_its_bound() {
    let mut host = Host::with_busybox();
    bounded(&mut host, "20MiB");
    let folder = host.root().join("bounded");
    fs::create_dir_all(&folder).expect("make a directory");
    let text = "FROM busybox\nARG TURN\nRUN echo base-$TURN; head -c 3000000 /dev/urandom >/base\n\
        RUN echo $TURN; head -c 3000000 /dev/urandom >/next\n\
        RUN --mount=type=cache,id=lasts,target=/kept echo $TURN >>/kept/turns; head -c 1000000 /dev/urandom >/kept/$TURN\n";
    fs::write(folder.join("Dockerfile"), text).expect("write a file");
    let build = |host: &Host, turn: u32, more: &[&str]| {
        let argument = format!("TURN={turn}");
        let args = ["build", "--progress", "plain", "--network", "none", "--build-arg", &argument];
        let output = host.corten(args.iter().chain(more).chain(&["."])).current_dir(&folder).run();
        output.expect_code(0);
        output.stderr
    };
    // Each turn is some twelve megabytes, packed and unpacked.
    for turn in 0..4 {
        build(&host, turn, &[]);
        within(&host, 21.0);
    }
    // What was made last is there as a whole.
    let again = build(&host, 3, &[]);
    assert!(!again.lines().any(|line| line.ends_with(" base-3")), "{again}");
    let first = build(&host, 0, &[]);
    assert!(first.lines().any(|line| line.ends_with(" base-0")), "{first}");
    let told = within(&host, 21.0);
    // The directory is used by all, and so the last to go.
    assert!(told.contains("exec.cachemount"), "{told}");

    // What has failed has left its steps as well.
    let failing = format!("{text}RUN false\n");
    fs::write(folder.join("Failing"), failing).expect("write a file");
    for turn in 10..12 {
        let argument = format!("TURN={turn}");
        let args = ["build", "-f", "Failing", "--network", "none", "--build-arg", &argument, "."];
        host.corten(args).current_dir(&folder).run().expect_code(1);
        within(&host, 21.0);
    }

    // An image has what it needs, whatever goes of the cache; and less than it holds may be allowed from now on.
    build(&host, 5, &["-t", "kept"]);
    bounded(&mut host, "1MiB");
    within(&host, 1.1);
    let seen = host.corten(["run", "--rm", "--network", "none", "kept", "wc", "-c", "/base", "/next"]).ok();
    assert!(seen.contains("6000000 total"), "{seen}");
}

#[test]
fn what_builds_use_stays_while_others_make_room() {
    let mut host = Host::with_busybox();
    bounded(&mut host, "4MiB");
    let folder = host.root().join("crowded");
    fs::create_dir_all(&folder).expect("make a directory");
    let text = "FROM busybox\nARG TURN\nRUN echo $TURN >/turn; head -c 2000000 /dev/urandom >/big; sha256sum /big >/sum\n\
        RUN sleep 0.3; sha256sum -c /sum\nRUN --mount=type=cache,target=/kept echo $TURN >/kept/$TURN; sleep 0.2; cat /kept/$TURN >/seen\n\
        RUN sha256sum -c /sum && cmp /turn /seen\n";
    fs::write(folder.join("Dockerfile"), text).expect("write a file");
    for round in 0..2 {
        let building: Vec<_> = (0..4)
            .map(|turn| {
                let (argument, name) = (format!("TURN={round}-{turn}"), format!("crowd-{turn}"));
                let args = ["build", "--network", "none", "--build-arg", &argument, "-t", &name, "."];
                host.corten(args).current_dir(&folder).spawn()
            })
            .collect();
        for one in building {
            one.wait().expect_code(0);
        }
        for turn in 0..4 {
            let name = format!("crowd-{turn}");
            host.corten(["run", "--rm", "--network", "none", &name, "sha256sum", "-c", "/sum"]).ok();
        }
    }
    within(&host, 4.2);
}

/// Layers are found again by their archive: directories that a step's mounts have brought along are not in it.
#[test]
fn equal_layers_on_other_bases_are_equal_trees() {
    let host = Host::with_busybox();
    let folder = host.root().join("equal");
    fs::create_dir_all(&folder).expect("make a directory");
    // The image has no files that the engine could mount its own on.
    let text = "FROM busybox AS base\nRUN touch /etc/own\nFROM base AS writer\nRUN touch -d @1600000000 /x\n\
        FROM scratch\nCOPY --from=writer /x /\n";
    fs::write(folder.join("Dockerfile"), text).expect("write a file");
    let build = |more: &[&str]| {
        let args = [&["build", "-q", "--network", "none"], more, &["."]].concat();
        host.corten(args).current_dir(&folder).ok()
    };
    build(&["--target", "writer", "-t", "writer"]);
    build(&["-t", "alone", "-o", "files", "--load"]);
    let layers = |image: &str| {
        let last = "{{$all := .RootFS.Layers}}{{range $all}}{{.}} {{end}}";
        let all = host.corten(["image", "inspect", "-f", last, image]).ok();
        all.split_whitespace().last().expect("a layer").to_owned()
    };
    assert_eq!(layers("writer"), layers("alone"), "what is tried here");
    let names: Vec<_> =
        fs::read_dir(folder.join("files")).expect("files").map(|one| one.expect("one").file_name()).collect();
    assert_eq!(names, ["x"]);
}

#[test]
fn an_image_that_is_here_brings_its_own_cache() {
    let host = Host::with_busybox();
    let folder = host.root().join("inline");
    fs::create_dir_all(&folder).expect("make a directory");
    let text = "FROM busybox\nRUN echo ran the step; echo made >/made\n";
    fs::write(folder.join("Dockerfile"), text).expect("write a file");
    let build = |more: &[&str]| {
        let args = [&["build", "--progress", "plain", "--network", "none"], more, &["."]].concat();
        let output = host.corten(args).current_dir(&folder).run();
        output.expect_code(0);
        output.stderr.lines().any(|line| line.ends_with(" ran the step") && !line.contains("echo"))
    };
    assert!(build(&["-t", "own", "--cache-to", "type=inline"]));
    let forget = || host.corten(["builder", "prune", "-af"]).ok();
    forget();
    assert!(build(&["-t", "without"]));
    forget();
    assert!(!build(&["-t", "again", "--cache-from", "own"]));
    assert_eq!(host.corten(["run", "--rm", "--network", "none", "again", "cat", "/made"]).ok(), "made");
    forget();
    // An image that has none is no hindrance.
    assert!(build(&["--cache-from", "without"]));
}

#[test]
fn filters_choose_what_is_shown_and_removed() {
    let host = Host::with_busybox();
    let folder = host.root().join("chosen");
    fs::create_dir_all(&folder).expect("make a directory");
    let text = "FROM busybox\nRUN --mount=type=cache,target=/kept echo x >/kept/x\nRUN echo one >/one\nRUN echo two >/two\n";
    fs::write(folder.join("Dockerfile"), text).expect("write a file");
    let build = || host.corten(["build", "-q", "--network", "none", "."]).current_dir(&folder).ok();
    let shown = |filters: &[&str]| {
        let args = filters.iter().flat_map(|filter| ["--filter", filter]);
        let args = ["builder", "du", "--format", "{{.Type}} {{.Description}}"].into_iter().chain(args);
        let told = host.corten(args).ok();
        let mut lines: Vec<String> = told.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let id = build();
    let all = shown(&[]);
    assert!(all.len() == 4 && all[0].starts_with("exec.cachemount "), "{all:?}");
    assert_eq!(shown(&["type=exec.cachemount"]), all[..1]);
    assert_eq!(shown(&["type=exec.cachemount", "shared"]), Vec::<String>::new());
    assert_eq!(shown(&["type!=exec.cachemount"]), all[1..]);
    assert_eq!(shown(&["description~=echo (one|two)", "type==regular"]).len(), 2);
    assert_eq!((shown(&["private"]).len(), shown(&["shared==true"]).len()), (2, 2));
    assert_eq!(
        (shown(&["inuse"]).len(), shown(&["until=1h"]).len(), shown(&["unused-for=0s"]).len()),
        (0, 0, 4)
    );
    host.corten(["rmi", id.trim()]).ok();
    // Docker's API takes the same; one of each, but of ids.
    let prune = |cli, filters: &[&str]| {
        let args = filters.iter().flat_map(|filter| ["--filter", filter]);
        host.cli(cli, ["builder", "prune", "-f"].into_iter().chain(args))
    };
    let caches = || fs::read_dir(host.data_root().join("build/caches")).map_or(0, Iterator::count);
    for cli in CLIS {
        prune(cli, &["type=regular", "type=exec.cachemount"]).fails(1, "filters expect only one value");
        prune(cli, &["until=1h", "unused-for=1h"]).fails(1, "conflicting filters");
        prune(cli, &["parent=x"]).fails(1, "parent");
        prune(cli, &["mutable=true"]).fails(1, "mutable");
        prune(cli, &["shared=perhaps"]).fails(1, "shared");
        prune(cli, &["type=frontend"]).ok();
        prune(cli, &["inuse=true"]).ok();
        assert_eq!((shown(&[]).len(), caches()), (4, 2));
        let gone = prune(cli, &["type=exec.cachemount"]).ok();
        assert!(gone.contains("Deleted build cache objects:\n"), "{gone}");
        assert_eq!((shown(&[]), caches()), (all[1..].to_vec(), 0));
        let description =
            all.iter().find_map(|line| Some(line.split_once(" ")?.1).filter(|text| text.contains("two")));
        prune(cli, &[&format!("description={}", description.expect("a step"))]).ok();
        assert_eq!(shown(&[]).len(), 2);
        prune(cli, &["private=true", "shared=false"]).ok();
        assert_eq!(shown(&[]).len(), 0);
        let id = build();
        host.corten(["rmi", id.trim()]).ok();
    }
}
