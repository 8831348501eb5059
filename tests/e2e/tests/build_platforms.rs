//! One build for several platforms: what they have in common is done once, the rest side by side.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kit::{Cmd, Host, Output, fixtures, skip};

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

/// Where the kernel is told of interpreters.
const INTERPRETERS: &str = "/proc/sys/fs/binfmt_misc";

/// What the kernel runs programs of the machine by that no other test has: it says what it was called with.
struct Emulator {
    was_mounted: bool,
}

impl Emulator {
    const NAME: &str = "qemu-s390x";

    /// None where the kernel knows none, or has one.
    fn new(host: &Host) -> Option<Self> {
        let register = Path::new(INTERPRETERS).join("register");
        let was_mounted = register.exists();
        if !was_mounted
            && Cmd::new("mount").args(["-t", "binfmt_misc", "binfmt_misc", INTERPRETERS]).run().code != 0
        {
            return None;
        }
        let emulator = Self { was_mounted };
        // As busybox does what it is called by.
        let program = host.root().join("echo");
        fs::copy("/bin/busybox", &program).expect("copy a program");
        let rule = format!(
            ":{}:M::\\x7fELF\\x02\\x02\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\x16::{}:F",
            Self::NAME,
            program.display()
        );
        fs::write(register, rule).ok().map(|()| emulator)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = fs::write(Path::new(INTERPRETERS).join(Self::NAME), "-1");
        if !self.was_mounted {
            let _ = Cmd::new("umount").args([INTERPRETERS]).run();
        }
    }
}

#[test]
fn steps_of_another_machine_are_run_by_its_emulator() {
    let host = Host::with_busybox();
    let folder = host.root().join("context");
    fs::create_dir_all(&folder).expect("make a directory");
    // The head of a program: nothing but the emulator would begin with it.
    let mut program = b"\x7fELF\x02\x02\x01".to_vec();
    program.resize(16, 0);
    program.extend([0, 2, 0, 22]);
    program.resize(64, 0);
    fs::write(folder.join("sh"), program).expect("write a file");
    let build = |dockerfile: &str, name: &str| {
        fs::write(folder.join("Dockerfile"), dockerfile).expect("write a file");
        let args = [
            "build",
            "--progress",
            "plain",
            "--network",
            "none",
            "--platform",
            "linux/s390x",
            "-t",
            name,
            ".",
        ];
        host.corten(args).current_dir(&folder).run()
    };
    build("FROM scratch\nCOPY --chmod=755 sh /bin/sh\n", "foreign").expect_code(0);
    let text = "FROM foreign\nRUN words for it\n";
    let refused = build(text, "made");
    assert!(refused.code != 0 && refused.stderr.contains("the kernel has no emulator for it"), "{refused}");
    let Some(_emulator) = Emulator::new(&host) else {
        return skip("binfmt_misc", "the kernel takes no interpreters");
    };
    let output = build(text, "made");
    output.expect_code(0);
    assert!(output.stderr.contains("-c words for it"), "{output}");
    let inspected = host.corten(["image", "inspect", "-f", "{{.Architecture}}", "made"]).ok();
    assert_eq!(inspected, "s390x");
}

#[test]
fn a_base_for_another_machine_is_told() {
    let host = Host::with_busybox();
    host.give(&fixtures::busybox_for("arm64"), "foreign");
    let folder = host.root().join("context");
    fs::create_dir_all(&folder).expect("make a directory");
    fs::write(folder.join("a"), "a").expect("write a file");
    let build = |dockerfile: &str| {
        fs::write(folder.join("Dockerfile"), dockerfile).expect("write a file");
        host.corten(["build", "--progress", "plain", "."]).current_dir(&folder).run()
    };
    let output = build("FROM foreign\nCOPY a /\n");
    output.expect_code(0);
    let words = "InvalidBaseImagePlatform: Base image foreign was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for current build (line 1)";
    assert!(output.stderr.contains(words), "{output}");
    let refused = build("# check=error=true\nFROM foreign\nCOPY a /\n");
    assert!(
        refused.code != 0
            && refused.stderr.contains("lint violation found for rules: InvalidBaseImagePlatform"),
        "{refused}"
    );
    let other = build("FROM --platform=linux/arm64 foreign\nCOPY a /\n");
    assert!(other.code == 0 && !other.stderr.contains("InvalidBaseImagePlatform"), "{other}");
    // What is hidden is told where it is wanted to be.
    fs::write(folder.join(".dockerignore"), "a\n").expect("write a file");
    let hidden = build("# check=experimental=all\nFROM busybox\nCOPY a /d/\n");
    assert!(hidden.stderr.contains("CopyIgnoredFile"), "{hidden}");
}
