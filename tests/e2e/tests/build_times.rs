//! `SOURCE_DATE_EPOCH`: a result of which every time is the one that was said is the same result again.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use kit::{Cmd, Host};

const TEXT: &str = "FROM busybox AS tool\nRUN mkdir -p /out/deep && echo one >/out/a && ln /out/a /out/twin && ln -s a /out/link \
    && echo two >/out/deep/b\nFROM scratch\nCOPY --from=tool /out /out\nCOPY Dockerfile /\n";
const EPOCH: &str = "SOURCE_DATE_EPOCH";
const SAID: i64 = 1_700_000_000;

fn folder(host: &Host, text: &str) -> PathBuf {
    let path = host.root().join("context");
    fs::create_dir_all(&path).expect("a directory");
    fs::write(path.join("Dockerfile"), text).expect("a file");
    path
}

fn build(host: &Host, folder: &Path, more: &[&str]) -> Cmd {
    let args = ["build", "--network", "none", "--progress", "plain"].iter().chain(more).chain(&["."]);
    host.corten(args.copied()).env_remove(EPOCH).current_dir(folder)
}

fn changed(path: &Path) -> i64 {
    fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).mtime()
}

#[test]
fn files_have_the_time_that_was_said() {
    let host = Host::with_busybox();
    let folder = folder(&host, TEXT);
    let said = format!("{EPOCH}={SAID}");
    let dest = host.root().join("dest");
    let output = dest.display().to_string();
    let sbom = ["--build-arg", &said, "--sbom", "true"];
    build(&host, &folder, &[&["-o", &output][..], &sbom].concat()).ok();
    for name in
        ["Dockerfile", "out", "out/a", "out/twin", "out/link", "out/deep", "out/deep/b", "sbom.spdx.json"]
    {
        assert_eq!(changed(&dest.join(name)), SAID, "{name}");
    }
    let platforms = "linux/amd64,linux/arm64";
    let plain = "FROM scratch\nCOPY Dockerfile /\n";
    fs::write(folder.join("Dockerfile"), plain).expect("a file");
    let split = host.root().join("split");
    let output = split.display().to_string();
    build(&host, &folder, &["-o", &output, "--platform", platforms, "--build-arg", &said]).ok();
    assert_eq!(changed(&split.join("linux_arm64")), SAID);
    assert_eq!(changed(&split.join("linux_arm64/Dockerfile")), SAID);
}

#[test]
fn archives_are_the_same_again() {
    let host = Host::with_busybox();
    let folder = folder(&host, TEXT);
    let said = format!("{EPOCH}={SAID}");
    let archives = ["one.tar", "other.tar"].map(|name| {
        let path = host.root().join(name);
        let output = format!("type=tar,dest={}", path.display());
        build(&host, &folder, &["--no-cache", "-o", &output, "--build-arg", &said]).ok();
        // What is copied has another time now.
        let text = fs::read(folder.join("Dockerfile")).expect("a file");
        fs::write(folder.join("Dockerfile"), text).expect("a file");
        path
    });
    let listed =
        Cmd::new("tar").args(["--full-time", "--utc", "-tvf", &archives[0].display().to_string()]).ok();
    assert!(listed.contains("out/deep/b"), "{listed}");
    assert!(listed.lines().all(|line| line.contains("2023-11-14 22:13:20")), "{listed}");
    let [one, other] = archives.map(|path| fs::read(path).expect("an archive"));
    assert!(one == other, "the archives differ");
}

#[test]
fn the_environment_says_it_too_and_nothing_is_nothing() {
    let host = Host::with_busybox();
    let folder = folder(&host, "FROM busybox\nCOPY <<END /file\nx\nEND\n");
    let created = |name: &str| host.corten(["image", "inspect", "-f", "{{.Created}}", name]).ok();
    for classic in ["0", "1"] {
        let built = |epoch: &str, more: &[&str]| {
            let args = [&["-t", "timed"][..], more].concat();
            build(&host, &folder, &args).env("DOCKER_BUILDKIT", classic).env(EPOCH, epoch).ok();
            created("timed")
        };
        assert!(built("1700000000", &[]).starts_with("2023-11-14T22:13:20"), "{classic}");
        let other = built("1700000000", &["--build-arg", "SOURCE_DATE_EPOCH=1600000000"]);
        assert!(other.starts_with("2020-09-13T12:26:40"), "{classic}: {other}");
        // An empty one says nothing, also against the environment.
        let none = built("", &[]);
        assert!(!none.starts_with("2023") && !none.starts_with("2020"), "{classic}: {none}");
        assert_eq!(built("1700000000", &["--build-arg", "SOURCE_DATE_EPOCH="]), none, "{classic}");
    }
}
