//! One build for several platforms: what they have in common is done once, the rest side by side.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use kit::{Host, Output};

const PLATFORMS: &str = "linux/amd64,linux/arm64";

/// Builds for both platforms into a directory.
fn built(host: &Host, dockerfile: &str, more: &[&str]) -> (PathBuf, Output) {
    let folder = host.root().join("context");
    fs::create_dir_all(&folder).expect("make a directory");
    fs::write(folder.join("Dockerfile"), dockerfile).expect("write a file");
    let out = host.root().join("out");
    let to = out.display().to_string();
    let args = [
        "build",
        "--progress",
        "plain",
        "--network",
        "none",
        "--no-cache",
        "--platform",
        PLATFORMS,
        "-o",
        &to,
    ];
    let output = host.corten(args.iter().chain(more).chain(&["."])).current_dir(&folder).run();
    (out, output)
}

#[test]
fn what_platforms_have_in_common_is_done_once() {
    let host = Host::with_busybox();
    let text = "FROM --platform=$BUILDPLATFORM busybox AS tool\n\
        RUN echo it-is-done; head -c 16 /dev/urandom | sha256sum >/made\n\
        FROM --platform=$BUILDPLATFORM busybox AS own\nARG TARGETARCH\nRUN echo $TARGETARCH >/own\n\
        FROM scratch\nCOPY --from=tool /made /made\nCOPY --from=own /own /own\n";
    let (out, output) = built(&host, text, &[]);
    output.expect_code(0);
    let read = |name: &str| fs::read_to_string(out.join(name)).expect("a file");
    assert_eq!(read("linux_amd64/made"), read("linux_arm64/made"));
    assert_eq!((read("linux_amd64/own"), read("linux_arm64/own")), ("amd64\n".into(), "arm64\n".into()));
    let said = output.stderr.lines().filter(|line| line.ends_with(" it-is-done")).count();
    assert_eq!(said, 1, "{output}");
    // It is one step to those who look, too.
    let named = output.stderr.lines().filter(|line| line.contains("RUN echo it-is-done;"));
    let numbers: BTreeSet<&str> = named.filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(numbers.len(), 1, "{output}");
}

#[test]
fn platforms_are_built_side_by_side() {
    let host = Host::with_busybox();
    // Each waits for the other.
    let text = "FROM --platform=$BUILDPLATFORM busybox AS own\nARG TARGETARCH\n\
        RUN --mount=type=cache,id=meeting,target=/m touch /m/$TARGETARCH; n=0; \
        while [ ! -e /m/amd64 ] || [ ! -e /m/arm64 ]; do n=$((n+1)); [ $n -lt 600 ] || exit 1; sleep 0.1; done; echo $TARGETARCH >/own\n\
        FROM scratch\nCOPY --from=own /own /own\n";
    let (out, output) = built(&host, text, &[]);
    output.expect_code(0);
    assert_eq!(fs::read_to_string(out.join("linux_arm64/own")).expect("a file"), "arm64\n");
}

#[test]
fn one_that_fails_ends_all() {
    let host = Host::with_busybox();
    let text = "FROM --platform=$BUILDPLATFORM busybox AS own\nARG TARGETARCH\n\
        RUN [ $TARGETARCH = amd64 ] && sleep 1000; echo this-one-fails; exit 7\nFROM scratch\nCOPY --from=own /etc /etc\n";
    let (out, output) = built(&host, text, &[]);
    assert!(output.code != 0 && output.stderr.contains("exit code: 7"), "{output}");
    assert!(!out.join("linux_amd64").exists());
}
