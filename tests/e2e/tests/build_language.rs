//! What the Dockerfile language can say of files, mounts and triggers, held against the images that come of it.

use std::fs;
use std::path::PathBuf;

use kit::{Cmd, Host};

/// A directory with a Dockerfile and some files.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new(host: &Host, name: &str, dockerfile: &str, files: &[(&str, &str)]) -> Self {
        let folder = Self { path: host.root().join(name) };
        folder.write("Dockerfile", dockerfile);
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    fn build(&self, host: &Host, more: &[&str]) -> Cmd {
        let args = ["build", "--network", "none"].into_iter().chain(more.iter().copied()).chain(["."]);
        host.corten(args).env("DOCKER_BUILDKIT", "0").current_dir(&self.path)
    }
}

fn run(host: &Host, image: &str, script: &str) -> String {
    host.corten(["run", "--rm", "--network", "none", image, "sh", "-c", script]).ok()
}

/// What is below some directories of an image.
fn tree(host: &Host, image: &str, directories: &[&str]) -> String {
    let found = directories.iter().map(|directory| format!("find {directory} | sort | tr '\\n' ' '; echo;"));
    run(host, image, &found.collect::<String>())
}

#[test]
fn parents_are_kept_from_the_pivot_on() {
    let host = Host::with_busybox();
    let text = "FROM busybox AS made\nRUN mkdir -p -m 0750 /src/in/deep && chown 3:4 /src/in && echo x >/src/in/deep/file\n\
        FROM busybox\nCOPY --parents x/a.txt ./y/a.txt /plain/\nCOPY --parents x/./sub/*.txt /pivot/\n\
        COPY --parents **/*.md /every\nCOPY --parents x /whole/\nCOPY --parents --exclude=**/b.txt x/./. /most/\n\
        COPY --parents */./sub /globbed/\nCOPY --parents --from=made /src/./in/deep/file /stage/\n\
        COPY --parents --chown=7:8 --chmod=u=rwX,go= x/sub /owned/\n";
    let files = [
        ("x/a.txt", "xa"),
        ("x/sub/b.txt", "b"),
        ("x/sub/c.txt", "c"),
        ("x/sub/d.md", "d"),
        ("y/a.txt", "ya"),
        ("y/deep/er/e.md", "e"),
        ("y/deep/f.txt", "f"),
        ("hidden/g.md", "g"),
        ("top.md", "top"),
        (".dockerignore", "hidden\n"),
    ];
    let folder = Folder::new(&host, "parents", text, &files);
    folder.build(&host, &["-t", "parents"]).ok();
    // The client sends what is asked for alone.
    folder.build(&host, &["-t", "sent", "--no-cache"]).env("DOCKER_BUILDKIT", "1").ok();
    let all = ["/plain", "/pivot", "/every", "/whole", "/most", "/globbed", "/stage", "/owned"];
    assert_eq!(tree(&host, "parents", &all), tree(&host, "sent", &all));
    let found =
        tree(&host, "parents", &["/plain", "/pivot", "/every", "/whole", "/most", "/globbed", "/stage"]);
    assert_eq!(
        found,
        "/plain /plain/x /plain/x/a.txt /plain/y /plain/y/a.txt \n\
         /pivot /pivot/sub /pivot/sub/b.txt /pivot/sub/c.txt \n\
         /every /every/top.md /every/x /every/x/sub /every/x/sub/d.md /every/y /every/y/deep /every/y/deep/er /every/y/deep/er/e.md \n\
         /whole /whole/x /whole/x/a.txt /whole/x/sub /whole/x/sub/b.txt /whole/x/sub/c.txt /whole/x/sub/d.md \n\
         /most /most/a.txt /most/sub /most/sub/c.txt /most/sub/d.md \n\
         /globbed /globbed/sub /globbed/sub/b.txt /globbed/sub/c.txt /globbed/sub/d.md \n\
         /stage /stage/in /stage/in/deep /stage/in/deep/file "
    );
    assert_eq!(run(&host, "parents", "stat -c '%u:%g %a' /stage/in"), "3:4 755");
    assert_eq!(
        run(&host, "parents", "stat -c '%u:%g %a' /owned/x /owned/x/sub /owned/x/sub/b.txt"),
        "7:8 700\n7:8 700\n7:8 600"
    );
    // What is not copied does not decide, what is copied does.
    folder.write("y/deep/f.txt", "changed");
    folder.write("x/e.txt", "new");
    let again = folder.build(&host, &["-t", "again"]).ok();
    let lines: Vec<&str> =
        again.lines().filter(|line| line.contains("Using cache") || line.starts_with("Step")).collect();
    let cached = |step: &str| {
        let at = lines.iter().position(|line| line.contains(step)).expect("the step");
        lines.get(at + 1).is_some_and(|next| next.contains("Using cache"))
    };
    assert!(cached("x/a.txt ./y") && cached("/pivot/") && cached("/every"), "{again}");
    assert!(!cached("/whole/"), "{again}");
}

#[test]
fn parents_that_are_missing_or_hidden_are_told() {
    let host = Host::with_busybox();
    for (line, words) in [
        ("COPY --parents x/none /to/", "\"/x/none\": not found"),
        ("COPY --parents none/./x /to/", "\"/none\": not found"),
        ("COPY --parents hidden/h /to/", "\"/hidden/h\": not found"),
        ("COPY --parents link/a /to/", "link is a link, which --parents does not follow"),
        ("COPY --chmod=u+q x /to/", "invalid chmod parameter: 'u+q'"),
        ("COPY --chmod=8 x /to/", "it should be octal string and between 0 and 07777"),
    ] {
        let files = [("x/a", "a"), ("hidden/h", "h"), (".dockerignore", "hidden\n")];
        let folder = Folder::new(&host, "missing", &format!("FROM busybox\n{line}\n"), &files);
        let _ = std::os::unix::fs::symlink("x", folder.path.join("link"));
        let failed = folder.build(&host, &[]).run();
        assert!(failed.code != 0 && failed.stderr.contains(words), "{line}: {failed:?}");
    }
}

#[test]
fn modes_are_changed_by_symbols() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nCOPY --chmod=+x file /plus\nCOPY --chmod=u=rwX,go=rX tree /tree\nCOPY --chmod=g=u,o= file /same\n\
        COPY --chmod=a+s file /set\nCOPY --chmod=go-r <<inline /inline\nx\ninline\nADD --chmod=1777 tree /octal\n";
    let folder = Folder::new(&host, "modes", text, &[("file", "f"), ("tree/run", "r"), ("tree/d/read", "x")]);
    let mode = |name: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(folder.path.join(name), fs::Permissions::from_mode(mode)).expect("a mode");
    };
    mode("file", 0o640);
    mode("tree/run", 0o700);
    mode("tree/d/read", 0o600);
    mode("tree/d", 0o700);
    folder.build(&host, &["-t", "modes"]).ok();
    let look = "stat -c '%n %a' /plus /tree /tree/run /tree/d /tree/d/read /same /set /inline /octal/d/read | tr '\\n' ' '";
    assert_eq!(
        run(&host, "modes", look).trim(),
        "/plus 751 /tree 755 /tree/run 755 /tree/d 755 /tree/d/read 644 /same 660 /set 6640 /inline 600 /octal/d/read 1777"
    );
}

#[test]
fn what_is_mounted_can_be_written_to_and_is_forgotten() {
    let host = Host::with_busybox();
    let text = "FROM busybox AS made\nRUN mkdir /in && echo old >/in/file\nFROM busybox\n\
        RUN --mount=type=bind,target=/ctx,rw echo new >/ctx/a && touch /ctx/more && cp /ctx/a /seen\n\
        RUN --mount=type=bind,target=/ctx,rw --mount=type=bind,from=made,source=/in,target=/in,rw \
        cat /ctx/a /in/file >/again && test ! -e /ctx/more && echo new >/in/file && rm /in/file && touch /in/x\n\
        RUN --mount=type=bind,source=a,target=/one,rw echo other >/one\n\
        RUN --mount=type=bind,from=made,target=/in touch /in/x || echo refused >/refused\n\
        COPY a /copied\nCOPY --from=made /in /in\n";
    let folder = Folder::new(&host, "writing", text, &[("a", "a\n")]);
    folder.build(&host, &["-t", "writing"]).ok();
    assert_eq!(
        run(
            &host,
            "writing",
            "cat /seen /again /copied /refused; ls /in; ls -d /ctx /one 2>&1 | grep -c 'No such'"
        ),
        "new\na\nold\na\nrefused\nfile\n2"
    );
    assert_eq!(fs::read_to_string(folder.path.join("a")).expect("a file"), "a\n");
    assert_eq!(fs::read_dir(host.data_root().join("snapshots")).map_or(0, Iterator::count), 0);
}

#[test]
fn caches_begin_with_files_and_are_shared_as_they_say() {
    let host = Host::with_busybox();
    let text = "FROM busybox AS base\nRUN mkdir -p /seed/in && echo seed >/seed/in/file && chown 3:4 /seed/in/file\n\
        FROM busybox\nARG ROUND\n\
        RUN --mount=type=cache,id=seeded,from=base,source=/seed,target=/c,uid=5,mode=0711 stat -c '%u %a' /c >/top && \
        cat /c/in/file >/seen && stat -c %u:%g /c/in/file >>/seen && ls /c >>/seen && echo $ROUND >/c/round-$ROUND\n\
        RUN --mount=type=cache,id=seeded,target=/c ls /c >/other\n";
    let folder = Folder::new(&host, "caches", text, &[]);
    folder.build(&host, &["-t", "caches", "--build-arg", "ROUND=1"]).ok();
    assert_eq!(run(&host, "caches", "cat /top /seen /other"), "5 711\nseed\n3:4\nin");
    folder.build(&host, &["-t", "caches", "--build-arg", "ROUND=2"]).ok();
    assert_eq!(run(&host, "caches", "cat /seen /other"), "seed\n3:4\nin\nround-1");
    let missing = "FROM busybox\nRUN --mount=type=cache,source=/sub,target=/c true\n";
    Folder::new(&host, "empty", missing, &[]).build(&host, &[]).fails(1, "a new cache is empty");

    // Each stage waits for the other by a cache that both have: they run at once.
    let meet = |me: &str, other: &str, sharing: &str, act: &str| {
        format!(
            "FROM busybox AS {me}\nRUN --mount=type=cache,id=meet,target=/meet --mount=type=cache,id=own,target=/own,sharing={sharing} \
             touch /meet/{sharing}-{me} && {act} && touch /{me}\n",
            act = act.replace("WAIT", &format!("i=0; while [ ! -e /meet/{sharing}-{other} ]; do i=$((i+1)); [ $i -lt 200 ] || exit 7; sleep 0.05; done"))
        )
    };
    let last = "FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n";
    let alone = "{ WAIT; } && mkdir /own/taken && sleep 0.3 && rmdir /own/taken";
    let private = meet("a", "b", "private", alone) + &meet("b", "a", "private", alone) + last;
    Folder::new(&host, "private", &private, &[]).build(&host, &[]).ok();
    let inside = "mkdir /own/taken && sleep 0.3 && rmdir /own/taken";
    let locked = meet("a", "b", "locked", inside) + &meet("b", "a", "locked", inside) + last;
    Folder::new(&host, "locked", &locked, &[]).build(&host, &[]).ok();
    // That they would meet without it.
    let shared = meet("a", "b", "shared", "{ WAIT; } && mkdir /own/both-$$ && sleep 0.3")
        + &meet("b", "a", "shared", "{ WAIT; }")
        + last;
    Folder::new(&host, "shared", &shared, &[]).build(&host, &[]).ok();
}

#[test]
fn ignored_files_are_not_in_mounts_of_the_context_either() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nRUN --mount=type=bind,target=/ctx find /ctx | sort >/seen\n\
        RUN --mount=type=bind,source=sub,target=/ctx find /ctx | sort >>/seen\n";
    let files = [("a", "a"), ("sub/b", "b"), (".dockerignore", "Dockerfile\n.dockerignore\n")];
    let folder = Folder::new(&host, "ignored", text, &files);
    for cli in kit::CLIS {
        let args = ["build", "--network", "none", "--no-cache", "-t", "ignored", "."];
        host.cli(cli, args).env("DOCKER_BUILDKIT", "0").current_dir(&folder.path).ok();
        assert_eq!(
            run(&host, "ignored", "cat /seen"),
            "/ctx\n/ctx/a\n/ctx/sub\n/ctx/sub/b\n/ctx\n/ctx/b",
            "{cli:?}"
        );
    }
    // What is hidden does not decide.
    folder.write("Dockerfile", &format!("{text}# changed\n"));
    let again = folder.build(&host, &[]).ok();
    assert_eq!(again.matches("Using cache").count(), 2, "{again}");
}

#[test]
fn steps_run_on_nothing_at_all() {
    let host = Host::with_busybox();
    let text = "FROM scratch\nRUN --mount=type=bind,from=busybox,source=/bin,target=/bin [\"/bin/busybox\",\"mkdir\",\"-p\",\"/app/x\"]\n\
        FROM scratch AS empty\nLABEL a=b\nFROM scratch AS wrong\nRUN ls\n";
    let folder = Folder::new(&host, "nothing", text, &[]);
    folder.build(&host, &["--target", "0", "-t", "made"]).ok();
    folder.build(&host, &["--target", "empty", "-t", "empty"]).ok();
    let look = |image: &str, words: &[&str]| {
        let given = ["run", "--rm", "--network", "none", "--mount", "type=image,src=busybox,dst=/own", image];
        host.corten(given.iter().chain(words)).ok()
    };
    assert_eq!(look("made", &["/own/bin/busybox", "find", "/app"]), "/app\n/app/x");
    // A container of an image without files keeps what it writes.
    let tool = "/own/bin/busybox";
    let image = "type=image,src=busybox,dst=/own";
    let create =
        ["create", "--name", "kept", "--network", "none", "--mount", image, "empty", tool, "touch", "/new"];
    host.corten(create).ok();
    host.corten(["start", "-a", "kept"]).ok();
    assert!(host.corten(["diff", "kept"]).ok().contains("A /new"));
    host.corten(["commit", "kept", "more"]).ok();
    assert!(look("more", &[tool, "ls", "/"]).contains("new"));
    host.corten([
        "run",
        "--rm",
        "--network",
        "none",
        "--mount",
        "type=image,src=empty,dst=/none",
        "busybox",
        "ls",
        "/none",
    ])
    .ok();
    let wrong = folder.build(&host, &["--target", "wrong"]).run();
    assert!(wrong.code != 0 && format!("{wrong}").contains("/bin/sh"), "{wrong}");
}

#[test]
fn what_the_text_alone_decides_is_told_with_its_place_before_anything_runs() {
    let host = Host::with_busybox();
    let folder = Folder::new(&host, "decided", "", &[]);
    for (line, told, under) in [
        ("RUN --mount=type=tmpfs,target=/ true", "invalid mount target \"/\"", "--mount=type=tmpfs,target=/"),
        ("RUN --mount=type=cache,target=. true", "invalid mount target \"/\"", "--mount=type=cache,target=."),
        ("RUN --mount=type=secret,id=a,target=/.. true", "invalid mount target \"/\"", "--mount=type=secret"),
        (
            "ADD --checksum=md5:d41d8cd98f00b204e9800998ecf8427e http://nowhere.invalid/f /f",
            "unsupported digest algorithm",
            "--checksum",
        ),
        (
            "ADD --checksum=sha256:abcd http://nowhere.invalid/f /f",
            "invalid checksum digest length",
            "--checksum",
        ),
    ] {
        folder.write("Dockerfile", &format!("FROM busybox\nRUN echo it-ran\n{line}\n"));
        for classic in ["0", "1"] {
            let output = folder
                .build(&host, &["--progress", "plain", "--no-cache"])
                .env("DOCKER_BUILDKIT", classic)
                .run();
            let said = format!("{}{}", output.stdout, output.stderr);
            assert!(
                output.code == 1 && said.contains(told) && said.contains("Dockerfile:3:"),
                "{line}: {output}"
            );
            assert!(said.contains(under) && said.contains('^'), "{line}: {output}");
            let is_checksum = line.starts_with("ADD");
            assert_eq!(
                said.contains("expected sha256: and 64 hexadecimal digits"),
                is_checksum,
                "{line}: {output}"
            );
            assert!(
                !said.lines().any(|line| line.ends_with("it-ran") && !line.contains("RUN")),
                "{line}: {output}"
            );
        }
    }
}

#[test]
fn comments_need_not_be_utf_8() {
    let host = Host::with_busybox();
    let folder = Folder::new(&host, "latin", "", &[]);
    let text = b"# caf\xe9\nFROM busybox\nRUN \\\n  # \xff\n  true\n";
    fs::write(folder.path.join("Dockerfile"), text).expect("a file");
    for classic in ["0", "1"] {
        folder.build(&host, &[]).env("DOCKER_BUILDKIT", classic).ok();
        folder.build(&host, &["-f", "-"]).stdin(text).env("DOCKER_BUILDKIT", classic).ok();
    }
    folder.build(&host, &["--check"]).ok();
    fs::write(folder.path.join("Dockerfile"), b"# caf\xe9\nFROM busybox\nENV a=caf\xe9\n").expect("a file");
    for classic in ["0", "1"] {
        let output = folder.build(&host, &[]).env("DOCKER_BUILDKIT", classic).run();
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(output.code == 1 && said.contains("Dockerfile:3:10: error: the byte 0xe9"), "{output}");
    }
}

#[test]
fn a_step_without_a_network_knows_its_own_name() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nRUN --network=none ping -c 1 $(hostname) >/told; grep -w $(hostname) /etc/hosts >>/told; true\n";
    let folder = Folder::new(&host, "named", text, &[]);
    folder.build(&host, &["-t", "named"]).ok();
    assert!(run(&host, "named", "cat /told").contains("127.0.0.1\tbuildkitsandbox"));
    let other = ["-t", "named", "--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=other", "--network", "none"];
    folder.build(&host, &other).env("DOCKER_BUILDKIT", "1").ok();
    let told = run(&host, "named", "cat /told");
    assert!(told.contains("PING other (127.0.0.1)") && told.contains("127.0.0.1\tother"), "{told}");
}

#[test]
fn checks_know_what_is_hidden() {
    let host = Host::with_busybox();
    let text = "# check=experimental=CopyIgnoredFile\nFROM busybox\nCOPY hidden /\n";
    let folder = Folder::new(&host, "checked", text, &[("hidden", "x"), (".dockerignore", "hidden\n")]);
    let told = folder.build(&host, &["--check"]).run();
    assert!(told.code == 1 && told.stdout.contains("warning[CopyIgnoredFile]"), "{told}");
    // The engine's answer, of an archive.
    let archive =
        Cmd::new("tar").args(["-C", folder.path.to_str().expect("UTF-8"), "-cf", "context.tar", "."]);
    archive.current_dir(host.root()).ok();
    let archive = fs::read(host.root().join("context.tar")).expect("an archive");
    let told = host.corten(["build", "--check", "-"]).stdin(archive).run();
    assert!(told.code == 1 && told.stdout.contains("warning[CopyIgnoredFile]"), "{told}");
    folder.write(".dockerignore", "other\n");
    assert!(folder.build(&host, &["--check"]).ok().contains("no warnings found"));
}
