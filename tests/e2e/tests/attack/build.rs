//! Builds by those who may write a Dockerfile, a context or an image, and nothing else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use kit::fixtures::{Entry, Layer, Packing};
use kit::{Cli, Cmd, Host, Output, wait_for};

use super::{Canary, SECRET, with_layer};

/// A directory with a Dockerfile.
fn folder(host: &Host, name: &str, dockerfile: &str) -> PathBuf {
    let path = host.root().join(name);
    fs::create_dir_all(&path).expect("a directory");
    fs::write(path.join("Dockerfile"), dockerfile).expect("a Dockerfile");
    path
}

/// Who asks for a build, and by which API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Classic(Cli),
    BuildKit,
}

const WAYS: [Way; 3] = [Way::Classic(Cli::Docker), Way::Classic(Cli::Corten), Way::BuildKit];

/// Builds; whether it works is not the question, what it shows and leaves is.
fn build(host: &Host, way: Way, folder: &Path, more: &[&str]) -> Output {
    let args =
        ["build", "--network", "none", "--no-cache"].into_iter().chain(more.iter().copied()).chain(["."]);
    let command = match way {
        Way::Classic(cli) => host.cli(cli, args).env("DOCKER_BUILDKIT", "0"),
        Way::BuildKit => host.corten(args),
    };
    let output = command.current_dir(folder).run();
    assert!(!format!("{output}").contains(SECRET), "the secret was read: {output}");
    output
}

/// Builds by the classic API of an archive, whatever is in it.
fn post(host: &Host, context: &[Entry], query: &str) -> Output {
    let archive = host.root().join("context.tar");
    fs::write(&archive, Layer::new(context, Packing::Plain).bytes).expect("an archive");
    let (socket, file) = (host.socket().display().to_string(), format!("@{}", archive.display()));
    let url = format!("http://engine/build?networkmode=none&{query}");
    let args =
        ["-sS", "-g", "--max-time", "60", "--unix-socket", &socket, "-X", "POST", "--data-binary", &file];
    let output = Cmd::new("curl").args(args).args(["-H", "Content-Type: application/x-tar", &url]).run();
    assert!(!output.stdout.contains(SECRET), "the secret was read: {output}");
    output
}

/// Nothing of the secret is in an image.
fn check_image(host: &Host, name: &str) {
    let archive = host.root().join("image.tar");
    if host.corten(["save", "-o", &archive.display().to_string(), name]).run().code == 0 {
        let bytes = fs::read(&archive).expect("an archive");
        assert!(
            !bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()),
            "the secret is in {name}"
        );
        host.corten(["rmi", "-f", name]).ok();
    }
}

/// Nothing is left of builds.
fn check_left(host: &Host) {
    let count = |path: &Path| fs::read_dir(path).map_or(0, Iterator::count);
    wait_for("containers, snapshots and contexts to go", || {
        let left = count(&host.exec_root().join("c"))
            + count(&host.data_root().join("snapshots"))
            + count(&host.data_root().join("build/contexts"));
        (left == 0).then_some(())
    });
}

/// Contexts and layers that lead out of where they are.
fn leading_out(outside: &str) -> Vec<Vec<Entry>> {
    let up = format!("../../../../../../../../../..{outside}");
    vec![
        vec![Entry::file(&format!("{up}/new"), "x")],
        vec![Entry::file(&format!("{outside}/new"), "x")],
        vec![Entry::symlink("out", outside), Entry::file("out/new", "x")],
        vec![Entry::symlink("out", &up), Entry::file("out/passwd", "x")],
        vec![Entry::symlink("out", outside), Entry::Link("linked".into(), "out/passwd".into())],
        vec![Entry::Link("linked".into(), format!("{up}/passwd"))],
        vec![Entry::Link("linked".into(), format!("{outside}/passwd"))],
        vec![Entry::symlink("out", outside), Entry::Whiteout("out/passwd".into())],
        vec![Entry::symlink("out", outside), Entry::Opaque("out".into())],
        vec![Entry::Device(format!("{up}/device"), 1, 3)],
        vec![Entry::Fifo(format!("{up}/fifo"))],
        vec![Entry::symlink("out", &up), Entry::dir("out/sub/made")],
    ]
}

#[test]
fn archives_of_builds_lead_nowhere() {
    let host = Host::with_busybox();
    let canary = Canary::new(&host);
    for (number, entries) in leading_out(&canary.path()).into_iter().enumerate() {
        // As the context.
        let dockerfile = Entry::file("Dockerfile", "FROM busybox\nCOPY . /all/\n");
        let context: Vec<Entry> = entries.iter().cloned().chain([dockerfile]).collect();
        let output = post(&host, &context, "t=hostile");
        assert!(!output.stdout.is_empty(), "{number}: {output}");
        canary.check();
        check_image(&host, "hostile");
        // As an archive that is added, onto a link that leads out.
        let text = format!(
            "FROM busybox\nRUN ln -s {0} /l && ln -s /../../..{0} /m\nADD a.tar /l/\nADD a.tar /m/\nADD a.tar /x/\n",
            canary.path()
        );
        let place = folder(&host, "added", &text);
        fs::write(place.join("a.tar"), Layer::new(&entries, Packing::Gzip).bytes).expect("an archive");
        for way in WAYS {
            build(&host, way, &place, &["-t", "hostile"]);
            canary.check();
            check_image(&host, "hostile");
        }
    }
    check_left(&host);
}

#[test]
fn contexts_lead_nowhere() {
    let host = Host::with_busybox();
    let canary = Canary::new(&host);
    let passwd = format!("{}/passwd", canary.path());
    let up = format!("../../../../../../../../../..{passwd}");
    let place = folder(&host, "context", "FROM busybox\n");
    symlink(&passwd, place.join("absolute")).expect("a link");
    symlink(&up, place.join("dots")).expect("a link");
    symlink(canary.path(), place.join("directory")).expect("a link");
    symlink("/proc/self/fd/3", place.join("descriptor")).expect("a link");
    symlink("/proc/1/root/etc", place.join("magic")).expect("a link");
    for line in [
        "COPY absolute /x".to_owned(),
        "COPY dots /x".to_owned(),
        "COPY directory /x".to_owned(),
        "COPY directory/passwd /x".to_owned(),
        "COPY d*/passwd /x/".to_owned(),
        "COPY descriptor /x".to_owned(),
        "COPY magic/hostname /x".to_owned(),
        format!("COPY {up} /x"),
        format!("COPY {passwd} /x"),
        format!("ADD {up} /x"),
        "COPY --from=busybox /../../../../../../proc/1/environ /x".to_owned(),
        "RUN --mount=source=directory,target=/m cat /m/passwd".to_owned(),
        "RUN --mount=source=absolute,target=/m cat /m".to_owned(),
        format!("RUN --mount=source={up},target=/m cat /m"),
        "RUN --mount=type=secret,id=passwd,required=true cat /run/secrets/passwd".to_owned(),
        format!("RUN --mount=type=cache,id={up},target=/c touch /c/new && cat /c/passwd"),
        format!("RUN --mount=type=tmpfs,target=/../../..{0}/sub touch {0}/sub/new", canary.path()),
        format!("WORKDIR /../../..{}\nRUN touch new && cat passwd", canary.path()),
        format!(
            "RUN ln -s {0} /l\nWORKDIR /l/made\nCOPY Dockerfile /l/new\nRUN cat /l/passwd",
            canary.path()
        ),
        format!(
            "RUN ln -s {0} /l\nCOPY --from=busybox /etc /l\nCOPY <<EOF /l/inline\nx\nEOF\n",
            canary.path()
        ),
        format!(
            "RUN rm -rf /etc && ln -s {0} /etc\nUSER nobody\nCOPY --chown=nobody Dockerfile /x\nRUN id",
            canary.path()
        ),
        format!(
            "VOLUME /../../..{0}\nVOLUME /\nVOLUME ../..\nRUN touch {0}/new; cat {passwd}",
            canary.path()
        ),
        "WORKDIR /proc/self/fd/8\nRUN cat ../../../../canary/passwd".to_owned(),
    ] {
        fs::write(place.join("Dockerfile"), format!("FROM busybox\n{line}\n")).expect("a Dockerfile");
        for way in WAYS {
            let output = build(&host, way, &place, &["-t", "escaped"]);
            canary.check();
            if output.code == 0 {
                let script = "cat /x /x/* /l/* 2>/dev/null; true";
                let read = super::run(&host, &[], "escaped", &["sh", "-c", script]);
                assert!(!read.stdout.contains("HOME="), "{line}: {read}");
            }
            check_image(&host, "escaped");
        }
    }
    check_left(&host);
}

#[test]
fn dockerfiles_are_in_the_context() {
    let host = Host::with_busybox();
    let canary = Canary::new(&host);
    let passwd = format!("{}/passwd", canary.path());
    let up = format!("../../../../../../../../../..{passwd}");
    // The text of what is no Dockerfile would be in the error.
    for context in [
        vec![Entry::symlink("Dockerfile", &passwd)],
        vec![Entry::symlink("Dockerfile", &up)],
        vec![
            Entry::file("Dockerfile", "FROM busybox\nCOPY . /x/\n"),
            Entry::symlink(".dockerignore", &passwd),
        ],
        vec![Entry::Fifo("Dockerfile".into())],
        vec![Entry::Device("Dockerfile".into(), 1, 5)],
        vec![Entry::dir("Dockerfile")],
        vec![Entry::file("Dockerfile", vec![b'#'; 9 << 20])],
    ] {
        let output = post(&host, &context, "t=other");
        assert!(output.code == 0 && !output.stdout.is_empty(), "{output}");
        canary.check();
        check_image(&host, "other");
    }
    for path in [&passwd, &up, "/proc/self/environ", "../../exec/../canary/passwd"] {
        let output =
            post(&host, &[Entry::file("Dockerfile", "FROM busybox\n")], &format!("dockerfile={path}"));
        assert!(
            output.stdout.contains("Cannot locate") || output.stdout.contains("no such file"),
            "{output}"
        );
    }
    check_left(&host);
}

/// Steps that run at once and share a cache: one swaps what is in it for links that lead out, the other mounts below it.
#[test]
fn cache_mount_race() {
    let host = Host::with_busybox();
    let canary = Canary::new(&host);
    let outside = canary.path();
    let swap = format!(
        "mkdir -p /c/x; ln -sfn {outside} /c/l; n=0; while [ $n -lt 3000 ]; do mv -T /c/x /c/t; mv -T /c/l /c/x; mv -T /c/x /c/l; \
         mv -T /c/t /c/x; n=$((n+1)); done"
    );
    let victims: String = (0..12)
        .map(|number| {
            format!(
                "RUN --mount=type=cache,id=race,target=/c --mount=type=tmpfs,target=/c/x/sub --mount=target=/c/x/made \
                 cat /c/x/passwd; touch /c/x/sub/new-{number} /c/l/new; true\n"
            )
        })
        .collect();
    let text = format!(
        "FROM busybox AS swapper\nRUN --mount=type=cache,id=race,target=/c {swap}\nFROM busybox AS victim\n{victims}\
         FROM busybox\nCOPY --from=swapper /etc/passwd /1\nCOPY --from=victim /etc/passwd /2\n"
    );
    let place = folder(&host, "race", &text);
    for way in WAYS {
        build(&host, way, &place, &["-t", "race"]);
        canary.check();
        check_image(&host, "race");
    }
    // What is named below a cache or a stage.
    for line in [
        "RUN --mount=type=cache,id=race,source=l,target=/m cat /m/passwd; touch /m/new",
        "RUN --mount=type=cache,id=race,source=../../../../../canary,target=/m cat /m/passwd; touch /m/new",
        "RUN --mount=type=bind,from=evil,source=/l,target=/m cat /m/passwd; touch /m/new",
        "RUN --mount=type=bind,from=evil,source=/l/sub,target=/m,rw touch /m/new",
        "RUN --mount=type=bind,from=evil,source=/../../../../canary,target=/m cat /m/passwd",
        "COPY --from=evil /l/passwd /x",
        "COPY --from=evil /l /x",
    ] {
        let text = format!("FROM busybox AS evil\nRUN ln -s {outside} /l\nFROM busybox\n{line}\n");
        fs::write(place.join("Dockerfile"), text).expect("a Dockerfile");
        for way in WAYS {
            build(&host, way, &place, &["-t", "race"]);
            canary.check();
            check_image(&host, "race");
        }
    }
    check_left(&host);
}

/// What a mount was put on is taken away after the step: not where the step has led it meanwhile.
#[test]
fn mount_stub() {
    let host = Host::with_busybox();
    let canary = Canary::new(&host);
    let outside = canary.path();
    let place = folder(&host, "stub", "");
    for target in ["/a/sub", "/a/passwd", "/a/sub/deeper"] {
        for mount in ["type=tmpfs", "type=cache", "type=bind,source=Dockerfile", "type=secret,id=none"] {
            for away in ["mv /a /z", "true"] {
                let text = format!(
                    "FROM busybox\nRUN mkdir /b\nRUN --mount={mount},target={target} {away}; rm -rf /a 2>/dev/null; ln -s {outside} /a; \
                     ln -s /../../../../../..{outside} /b/c; true\n"
                );
                fs::write(place.join("Dockerfile"), text).expect("a Dockerfile");
                for way in [Way::Classic(Cli::Corten), Way::BuildKit] {
                    build(&host, way, &place, &["-t", "stub"]);
                    canary.check();
                }
            }
        }
    }
    check_image(&host, "stub");
    check_left(&host);
}

/// Steps get what containers get, and nothing that the user has not allowed.
#[test]
fn build_entitlement() {
    let host = Host::with_busybox();
    let canary = Canary::new(&host);
    let place = folder(&host, "entitled", "");
    for (line, told) in [
        ("RUN --security=insecure true", "insecure"),
        ("RUN --network=host true", "network.host"),
        ("ONBUILD RUN --security=insecure true\nFROM 0", "insecure"),
    ] {
        let text = format!("FROM busybox AS base\n{}\n", line.replace("FROM 0", "FROM base"));
        fs::write(place.join("Dockerfile"), text).expect("a Dockerfile");
        for way in WAYS {
            let output = build(&host, way, &place, &[]);
            assert!(output.code != 0 && format!("{output}").contains(told), "{line}: {output}");
        }
    }
    let probe = "FROM busybox\nRUN grep Cap /proc/self/status && grep -E 'Seccomp|NoNewPrivs' /proc/self/status && \
        ls /dev | tr '\\n' ' ' && cat /proc/self/cgroup | wc -l\n\
        RUN ! mount -t tmpfs none /mnt && ! mknod /b b 8 0 2>/dev/null || ! dd if=/b of=/dev/null count=1\n\
        RUN ! sh -c 'echo x >/proc/sys/kernel/core_pattern' && ! sh -c 'echo x >/proc/sysrq-trigger' && ! ls /sys/firmware/* 2>/dev/null\n\
        RUN ! chroot /proc/1/root true || test $(readlink /proc/1/ns/pid) = $(readlink /proc/self/ns/pid)\n";
    fs::write(place.join("Dockerfile"), probe).expect("a Dockerfile");
    let run = super::run(&host, &[], "busybox", &["sh", "-c", "grep Cap /proc/self/status"]);
    for way in WAYS {
        let output = build(&host, way, &place, &[]);
        assert_eq!(output.code, 0, "{output}");
        let text = format!("{}{}", output.stdout, output.stderr);
        // As much as a container has: no capability more.
        for line in run.stdout.lines() {
            let value = line.split_whitespace().last().expect("a value");
            assert!(text.contains(value), "{line} is not in {text}");
        }
    }
    for option in ["seccomp=unconfined", "apparmor=unconfined", "label=disable"] {
        let output = build(&host, Way::Classic(Cli::Docker), &place, &["--security-opt", option]);
        assert!(output.code != 0 && output.stderr.contains("securityopt"), "{option}: {output}");
        assert!(!output.stderr.contains("expected value"), "{option}: {output}");
    }
    canary.check();
    check_left(&host);
}

/// Users of an image that is built on are looked up in files that are not what they seem.
#[test]
fn users_of_bases() {
    let host = Host::new();
    let canary = Canary::new(&host);
    let passwd = format!("{}/passwd", canary.path());
    for (number, entries) in [
        vec![Entry::Whiteout("etc/passwd".into()), Entry::Fifo("etc/passwd".into())],
        vec![Entry::Device("etc/passwd".into(), 1, 5), Entry::Device("etc/group".into(), 1, 5)],
        vec![Entry::symlink("etc/passwd", &passwd), Entry::symlink("etc/group", &passwd)],
        vec![Entry::symlink("etc/passwd", "passwd")],
        vec![Entry::dir("etc/passwd")],
        vec![Entry::file("etc/passwd", vec![b'x'; 64 << 20])],
        vec![Entry::Whiteout("etc".into()), Entry::symlink("etc", &canary.path())],
    ]
    .into_iter()
    .enumerate()
    {
        let base = format!("base-{number}");
        host.give(&with_layer(&entries), &base);
        let text = format!(
            "FROM {base}\nCOPY --chown=user:users Dockerfile /x\nUSER user\nWORKDIR /made\nRUN cat /etc/passwd | head -c 100\n"
        );
        let place = folder(&host, &base, &text);
        for way in WAYS {
            build(&host, way, &place, &[]);
            canary.check();
        }
    }
    let place = folder(&host, "wrap", "");
    for user in ["4294967296", "-1", "18446744073709551616", "4294967295", "0x0"] {
        let text = format!("FROM base-3\nUSER {user}\nRUN test $(id -u) != 0\n");
        fs::write(place.join("Dockerfile"), text).expect("a Dockerfile");
        for way in [Way::Classic(Cli::Corten), Way::BuildKit] {
            let output = build(&host, way, &place, &["-t", "wrap"]);
            assert!(output.code != 0, "{user}: {output}");
        }
    }
    check_left(&host);
}
