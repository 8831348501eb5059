//! What decides whether a step is made again, where nothing in the text of the instruction does.

use std::fs;
use std::path::{Path, PathBuf};

use kit::{Cmd, Host};

fn folder(host: &Host, dockerfile: &str, files: &[(&str, &str)]) -> PathBuf {
    let path = host.root().join("context");
    fs::create_dir_all(&path).expect("a directory");
    for (name, text) in [("Dockerfile", dockerfile)].iter().chain(files) {
        fs::write(path.join(name), text).expect("a file");
    }
    path
}

fn build(host: &Host, folder: &Path, more: &[&str]) -> Cmd {
    let args = ["build", "--network", "none", "--progress", "plain"].iter().chain(more).chain(&["."]);
    host.corten(args.copied()).current_dir(folder)
}

fn run(host: &Host, image: &str, script: &str) -> String {
    host.corten(["run", "--rm", "--network", "none", image, "sh", "-c", script]).ok()
}

#[test]
fn inline_files_have_the_time_that_was_said() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nCOPY <<END /file\nx\nEND\nRUN echo it-ran\n";
    let folder = folder(&host, text, &[]);
    for epoch in ["1000000000", "1100000000"] {
        let said = format!("SOURCE_DATE_EPOCH={epoch}");
        build(&host, &folder, &["-t", "timed", "--build-arg", &said]).ok();
        assert_eq!(run(&host, "timed", "stat -c %Y /file"), epoch);
    }
    let refused = build(&host, &folder, &["--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=soon"]).run();
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.stderr.contains("invalid SOURCE_DATE_EPOCH: soon"), "{refused}");
    assert!(!format!("{}{}", refused.stdout, refused.stderr).contains("#5 "), "{refused}");
}

#[test]
fn owners_in_an_archive_decide_what_a_mount_shows() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nRUN --mount=type=bind,source=.,target=/seen stat -c %u /seen/file >/told\n";
    let folder = folder(&host, text, &[("file", "x")]);
    let archive = host.root().join("context.tar");
    for owner in ["7", "8"] {
        let (owner_is, group_is) = (format!("--owner={owner}"), format!("--group={owner}"));
        let whole = archive.display().to_string();
        let from = folder.display().to_string();
        Cmd::new("tar").args([&owner_is, &group_is, "-cf", &whole, "-C", &from, "."]).ok();
        let data = format!("@{whole}");
        let socket = host.socket().display().to_string();
        let url = "http://engine/v1.41/build?networkmode=none&t=owned";
        let kind = "Content-Type: application/x-tar";
        let said = Cmd::new("curl")
            .args(["-sS", "--unix-socket", &socket, "-X", "POST", "-H", kind, "--data-binary", &data, url])
            .ok();
        assert!(said.contains("Successfully tagged owned"), "{said}");
        assert_eq!(run(&host, "owned", "cat /told"), owner);
    }
}

#[test]
fn each_of_several_caches_is_found() {
    let host = Host::with_busybox();
    let text =
        "FROM busybox AS first\nRUN echo a >/a\nFROM busybox\nCOPY --from=first /a /b\nRUN cat /b >/c\n";
    let folder = folder(&host, text, &[]);
    let caches = ["--cache-to", "type=local,dest=one,mode=min", "--cache-to", "type=local,dest=two,mode=max"];
    build(&host, &folder, &caches).ok();
    let digests = ["one", "two"].map(|name| {
        let index = fs::read(folder.join(name).join("index.json")).expect("an index");
        let index: serde_json::Value = serde_json::from_slice(&index).expect("JSON");
        let digest = index["manifests"][0]["digest"].as_str().expect("a digest").to_owned();
        let blob = folder.join(name).join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
        assert!(blob.is_file(), "{name} has no {digest}");
        digest
    });
    assert_ne!(digests[0], digests[1]);
    for name in ["one", "two"] {
        host.corten(["builder", "prune", "-af"]).ok();
        let source = format!("type=local,src={name}");
        let built = build(&host, &folder, &["--cache-from", &source]).run();
        assert_eq!(built.code, 0, "{built}");
        assert!(format!("{}{}", built.stdout, built.stderr).contains("CACHED"), "{built}");
    }
}
