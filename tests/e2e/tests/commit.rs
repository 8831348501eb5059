//! Images made of containers, their files as an archive, and what they have changed.

use std::fs;
use std::path::PathBuf;

use kit::{CLIS, Cmd, Host, fixtures, wait_for};

/// All that is in a container, as `tar` lists it.
fn listing(host: &Host, archive: &str) -> String {
    let path = host.root().join(archive).display().to_string();
    Cmd::new("tar").args(["--numeric-owner", "-tvf", &path]).ok()
}

fn inspect(host: &Host, name: &str, format: &str) -> String {
    host.corten(["image", "inspect", "--format", format, name]).ok()
}

fn files(host: &Host, below: &str) -> Vec<PathBuf> {
    let dir = host.data_root().join(below);
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

const SCRIPT: &str = "echo new >/new; ln /new /linked; rm /d/stays; rm -r /o; mkdir /o; echo o >/o/own; mkdir -p /deep/er; \
     chmod 4755 /first; chown 7:8 /owned; mkfifo /deep/pipe; ln -s /nowhere /deep/link; rm -r /usr; echo file >/usr; \
     truncate -s 100M /deep/holes; mknod /deep/null c 1 3; touch -d @1000000000 /deep/er";

const LOOK: &str = "cat /new /linked /o/own /usr; ls /d /o; stat -c '%a %u %g %h' /first /owned /new; ls -l /deep | wc -l; \
     stat -c '%s %b' /deep/holes; stat -c '%t %T' /deep/null; stat -c %Y /deep/er; cat /first";

/// What the script has left, as seen from inside.
const SEEN: &str = "new\nnew\no\nfile\n/d:\n\n/o:\nown\n4755 0 0 1\n644 7 8 1\n644 0 0 2\n6\n104857600 0\n1 3\n1000000000\none inode";

#[test]
fn what_a_container_made_is_in_the_image_and_in_the_diff() {
    let host = Host::new();
    host.give(&fixtures::odd_entries(), "odd");
    let made = ["run", "--network", "none", "--cap-add", "MKNOD", "--name", "cc", "odd", "sh", "-c", SCRIPT];
    host.corten(made).ok();
    for cli in CLIS {
        let diff = host.cli(cli, ["diff", "cc"]).ok();
        let told: Vec<&str> = diff.lines().collect();
        assert_eq!(
            told,
            [
                "C /d",
                "D /d/stays",
                "A /deep",
                "A /deep/er",
                "A /deep/holes",
                "A /deep/link",
                "A /deep/null",
                "A /deep/pipe",
                "C /first",
                "A /linked",
                "A /new",
                "C /o",
                "A /o/own",
                "C /owned",
                "C /usr",
            ]
        );
        let id = host.cli(cli, ["commit", "-a", "Ann", "-m", "tried", "cc", "made:1"]).ok();
        assert_eq!(inspect(&host, "made:1", "{{.Id}}"), id);
        assert_eq!(
            inspect(&host, "made:1", "{{.Author}}|{{.Comment}}|{{len .RootFS.Layers}}"),
            "Ann|tried|4"
        );
        let look = ["run", "--rm", "--network", "none", "--entrypoint", "sh", "made:1", "-c", LOOK];
        assert_eq!(host.cli(cli, look).ok(), SEEN);
        let history =
            host.cli(cli, ["history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", "made:1"]);
        assert!(history.ok().starts_with(&format!("sh -c {SCRIPT}|tried\n")));
    }
    // A container of the image has changed nothing.
    host.corten(["run", "--network", "none", "--name", "again", "made:1", "true"]).ok();
    assert_eq!(host.corten(["diff", "again"]).ok(), "");
    let before = inspect(&host, "made:1", "{{.RootFS.Layers}}");
    host.corten(["commit", "again", "made:2"]).ok();
    assert_eq!(inspect(&host, "made:2", "{{.RootFS.Layers}}"), before, "nothing makes no layer");
}

#[test]
fn the_same_changes_make_the_same_layer() {
    let host = Host::with_busybox();
    host.corten([
        "run",
        "--network",
        "none",
        "--name",
        "cc",
        "busybox",
        "sh",
        "-c",
        "echo x >/x; rm /bin/vi",
    ])
    .ok();
    let layers = |name: &str| {
        host.corten(["commit", "cc", name]).ok();
        inspect(&host, name, "{{.RootFS.Layers}}")
    };
    assert_eq!(layers("one"), layers("two"));
    assert_eq!(files(&host, "layers").len(), 2);
    assert_eq!(files(&host, "content/new"), Vec::<PathBuf>::new());
}

#[test]
fn the_configuration_is_the_containers_changed_by_instructions() {
    let host = Host::with_busybox();
    let run = [
        "create",
        "--network",
        "none",
        "--name",
        "cc",
        "-e",
        "A=1",
        "-l",
        "kept=yes",
        "-w",
        "/tmp",
        "--expose",
        "80",
        "busybox",
        "echo",
        "cmd",
    ];
    host.corten(run).ok();
    for cli in CLIS {
        let changes = [
            "ENV A=2 B=\"$A x\"",
            "LABEL added=\"a b\"",
            "EXPOSE 53/udp",
            "VOLUME /data",
            "USER 1000",
            "WORKDIR sub",
            "STOPSIGNAL SIGUSR1",
            "ENTRYPOINT [\"echo\", \"entry\"]",
            "ONBUILD RUN x",
            "HEALTHCHECK --interval=5s CMD true",
        ];
        let args = changes.iter().flat_map(|change| ["-c", change]);
        let args: Vec<&str> = ["commit"].into_iter().chain(args).chain(["cc", "made"]).collect();
        host.cli(cli, args).ok();
        let config = |format: &str| inspect(&host, "made", format);
        assert_eq!(config("{{json .Config.Env}}").matches("A=2").count(), 1);
        assert!(config("{{json .Config.Env}}").contains("B=1 x"));
        assert_eq!(config("{{json .Config.Labels}}"), r#"{"added":"a b","kept":"yes"}"#);
        assert_eq!(config("{{json .Config.ExposedPorts}}"), r#"{"53/udp":{},"80/tcp":{}}"#);
        assert_eq!(
            config("{{.Config.User}} {{.Config.WorkingDir}} {{.Config.StopSignal}}"),
            "1000 /tmp/sub SIGUSR1"
        );
        assert_eq!(config("{{json .Config.Entrypoint}} {{json .Config.Cmd}}"), "[\"echo\",\"entry\"] null");
        assert_eq!(config("{{json .Config.OnBuild}}"), r#"["RUN x"]"#);
        assert_eq!(config("{{json .Config.Healthcheck.Test}}"), r#"["CMD-SHELL","true"]"#);
        host.cli(cli, ["commit", "-c", "COPY a b", "cc"]).fails(1, "COPY is not a valid change command");
        host.cli(cli, ["commit", "none"]).fails(1, "No such container: none");
        host.cli(cli, ["commit", "cc", "Bad"]).fails(1, "must be lowercase");
    }
    host.corten(["commit", "cc"]).ok();
    assert_eq!(
        host.corten(["run", "--rm", "--network", "none", "--entrypoint", "", "made", "id", "-u"]).ok(),
        "1000"
    );
}

#[test]
fn a_container_stands_still_while_it_is_committed_unless_told_otherwise() {
    let host = Host::with_busybox();
    let script = "while :; do echo x >>/grows; done";
    host.corten(["run", "-d", "--network", "none", "--name", "cc", "busybox", "sh", "-c", script]).ok();
    let events = host.corten(["events", "--format", "{{.Action}}", "--filter", "type=container"]).spawn();
    wait_for("a file that grows", || host.corten(["diff", "cc"]).ok().contains("A /grows").then_some(()));
    host.corten(["commit", "cc", "still"]).ok();
    assert_eq!(host.corten(["inspect", "-f", "{{.State.Status}}", "cc"]).ok(), "running");
    host.docker(["commit", "--pause=false", "cc", "moving"]).ok();
    host.corten(["pause", "cc"]).ok();
    host.corten(["commit", "cc", "paused"]).ok();
    assert_eq!(host.corten(["inspect", "-f", "{{.State.Status}}", "cc"]).ok(), "paused");
    host.corten(["rm", "-f", "cc"]).ok();
    for name in ["still", "moving", "paused"] {
        host.corten(["run", "--rm", "--network", "none", name, "test", "-s", "/grows"]).ok();
    }
    events.signal(rustix::process::Signal::TERM);
    let told = events.wait().stdout;
    let told: Vec<&str> = told.lines().filter(|line| ["pause", "unpause", "commit"].contains(line)).collect();
    assert_eq!(told, ["pause", "unpause", "commit", "commit", "pause", "commit"]);
}

#[test]
fn a_container_is_exported_as_it_is_seen() {
    let host = Host::new();
    host.give(&fixtures::odd_entries(), "odd");
    let script = format!("{SCRIPT}; exec sleep 600");
    let run = [
        "run",
        "-d",
        "--network",
        "none",
        "--cap-add",
        "MKNOD",
        "-v",
        "/volume",
        "--name",
        "cc",
        "odd",
        "sh",
        "-c",
        &script,
    ];
    host.corten(run).ok();
    wait_for("the script's end", || (!host.corten(["top", "cc"]).ok().contains("exec sleep")).then_some(()));
    let path = host.root().join("c.tar").display().to_string();
    host.docker(["export", "-o", &path, "cc"]).ok();
    let running = fs::read(&path).expect("an archive");
    let list = listing(&host, "c.tar");
    for (name, there) in [
        ("o/own", true),
        ("o/hidden", false),
        ("o/shown", false),
        ("d/gone", false),
        ("d/stays", false),
        ("usr/bin", false),
        ("volume/", true),
        (".wh.", false),
    ] {
        assert_eq!(list.contains(&format!(" {name}")), there, "{name} in {list}");
    }
    assert!(list.contains("link to linked") || list.contains("link to new"), "{list}");
    assert!(running.len() < 20 << 20, "holes are not written: {}", running.len());
    assert!(!list.lines().any(|line| line.ends_with(" proc/1/") || line.contains(" proc/self")), "{list}");
    host.corten(["kill", "cc"]).ok();
    host.corten(["wait", "cc"]).ok();
    host.corten(["export", "-o", &path, "cc"]).ok();
    assert!(fs::read(&path).expect("an archive") == running, "stopped it is another");
    assert_eq!(host.docker(["import", &path, "flat"]).ok(), inspect(&host, "flat", "{{.Id}}"));
    let look = ["run", "--rm", "--network", "none", "flat", "/bin/sh", "-c", LOOK];
    assert_eq!(host.corten(look).ok(), SEEN);
    let attribute = Cmd::new("tar").args(["--xattrs", "--xattrs-include=*", "-tvvf", &path]).ok();
    assert!(attribute.contains("user.colour"), "{attribute}");
    host.corten(["export", "none"]).fails(1, "No such container: none");
    let terminal = host.terminal(kit::Cli::Corten, &["export", "cc"]);
    terminal.expect("cowardly refusing to save to a terminal. Use the -o flag or redirect");
}

#[test]
fn a_daemon_that_dies_over_a_commit_leaves_nothing() {
    let mut host = Host::with_busybox();
    let script = "dd if=/dev/urandom of=/noise bs=1M count=48 2>/dev/null; exec sleep 600";
    host.corten(["run", "-d", "--network", "none", "--name", "cc", "busybox", "sh", "-c", script]).ok();
    wait_for("the script's end", || (!host.corten(["top", "cc"]).ok().contains("exec sleep")).then_some(()));
    let (blobs, layers) = (files(&host, "content/blobs/sha256").len(), files(&host, "layers").len());
    for part in [0, 1 << 20, 20 << 20] {
        let committing = host.corten(["commit", "cc", "half"]).spawn();
        wait_for("the commit under way", || {
            let sizes = files(&host, "content/new").into_iter().filter_map(|path| fs::metadata(path).ok());
            sizes.map(|new| new.len()).any(|size| size >= part).then_some(())
        });
        host.kill_daemon();
        let _ = committing.wait();
        host.start_daemon();
        assert!(!host.corten(["images"]).ok().contains("half"), "after {part}");
        assert_eq!(files(&host, "content/new"), Vec::<PathBuf>::new(), "after {part}");
        let here = (files(&host, "content/blobs/sha256").len(), files(&host, "layers").len());
        assert_eq!(here, (blobs, layers), "after {part}");
        assert_eq!(host.corten(["inspect", "-f", "{{.State.Status}}", "cc"]).ok(), "running", "after {part}");
    }
    host.corten(["commit", "cc", "whole"]).ok();
    host.corten(["run", "--rm", "--network", "none", "whole", "test", "-s", "/noise"]).ok();
}

#[test]
fn commits_of_one_container_follow_each_other_and_each_stands_still() {
    let mut host = Host::with_busybox();
    let script = "dd if=/dev/urandom of=/a bs=1M count=24 2>/dev/null; exec sleep 600";
    host.corten(["run", "-d", "--network", "none", "--name", "cc", "busybox", "sh", "-c", script]).ok();
    wait_for("the script's end", || (!host.corten(["top", "cc"]).ok().contains("exec sleep")).then_some(()));
    let filter = ["events", "--filter", "container=cc", "--format", "{{.Action}}", "--since", "0"];
    let both = ["one", "two"].map(|name| host.corten(["commit", "cc", name]).spawn());
    for committing in both {
        assert_eq!(committing.wait().code, 0);
    }
    let told = host.corten([&filter[..], &["--until", "0s"]].concat()).ok();
    let told: Vec<&str> = told.lines().filter(|line| ["pause", "unpause"].contains(line)).collect();
    assert_eq!(told, ["pause", "unpause", "pause", "unpause"]);
    // A daemon that dies over the first leaves the mark by which the next lets it go on.
    let both = ["three", "four"].map(|name| host.corten(["commit", "cc", name]).spawn());
    wait_for("the commit under way", || {
        let sizes = files(&host, "content/new").into_iter().filter_map(|path| fs::metadata(path).ok());
        sizes.map(|new| new.len()).any(|size| size >= 1 << 20).then_some(())
    });
    host.kill_daemon();
    both.into_iter().for_each(|committing| drop(committing.wait()));
    host.start_daemon();
    assert_eq!(host.corten(["inspect", "-f", "{{.State.Status}}", "cc"]).ok(), "running");
}

#[test]
fn a_container_that_is_removed_while_it_is_committed_is_in_the_image_whole() {
    let host = Host::with_busybox();
    let script = "dd if=/dev/urandom of=/a bs=1M count=32 2>/dev/null; mkdir /z; \
        for i in $(seq 500); do echo $i >/z/$i; done; exec sleep 600";
    host.corten(["run", "-d", "--network", "none", "--name", "cc", "busybox", "sh", "-c", script]).ok();
    wait_for("the script's end", || (!host.corten(["top", "cc"]).ok().contains("exec sleep")).then_some(()));
    let committing = host.corten(["commit", "cc", "whole"]).spawn();
    wait_for("the commit under way", || {
        let sizes = files(&host, "content/new").into_iter().filter_map(|path| fs::metadata(path).ok());
        sizes.map(|new| new.len()).any(|size| size >= 1 << 20).then_some(())
    });
    host.corten(["rm", "-f", "cc"]).ok();
    assert_eq!(committing.wait().code, 0);
    let count = ["run", "--rm", "--network", "none", "whole", "sh", "-c", "ls /z | wc -l; stat -c %s /a"];
    assert_eq!(host.corten(count).ok(), "500\n33554432");
    wait_for("the removal of its files", || files(&host, "snapshots").is_empty().then_some(()));
}
