//! Builds by our own client over BuildKit's API: what it gives to the engine, and how it shows what goes on.

use std::fs;
use std::path::PathBuf;

use kit::{Cli, Cmd, Host, Output};

/// A directory with a Dockerfile and some files.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new(host: &Host, name: &str, files: &[(&str, &str)]) -> Self {
        let path = host.root().join(name);
        fs::create_dir_all(&path).expect("a directory");
        let folder = Self { path };
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
        let args = ["build", "--network", "none"].into_iter().chain(more.iter().copied());
        host.corten(args).env("BUILDKIT_PROGRESS", "plain").current_dir(&self.path)
    }
}

fn run(host: &Host, image: &str, script: &str) -> String {
    host.corten(["run", "--rm", "--network", "none", image, "sh", "-c", script]).ok()
}

fn done(output: Output) -> Output {
    assert_eq!(output.code, 0, "{output}");
    output
}

#[test]
fn a_directory_becomes_an_image() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nARG VERSION\nRUN echo $VERSION >/version && echo said\nCOPY --chmod=640 a.txt sub /data/\n\
        COPY link /links/\nRUN wc -c </data/hidden || true\n";
    let files = [
        ("Dockerfile", text),
        (".dockerignore", "**/hid*\n!sub/hid.keep\n"),
        ("a.txt", "alpha"),
        ("sub/b.txt", "beta"),
        ("sub/hidden", "x"),
        ("sub/hid.keep", "kept"),
        ("sub/deep/ünï \u{2603}", "gamma"),
        ("elsewhere/target", "linked"),
    ];
    let folder = Folder::new(&host, "client", &files);
    std::os::unix::fs::symlink("elsewhere/target", folder.path.join("link")).expect("a link");
    let said = done(folder.build(&host, &["-t", "own", "--build-arg", "VERSION=7", "."]).run());
    assert_eq!(said.stdout, "", "progress goes beside the output");
    for word in [
        "#1 [internal] load build definition from Dockerfile\n",
        "RUN echo $VERSION",
        " said\n",
        "transferring context:",
    ] {
        assert!(said.stderr.contains(word), "{word}: {said}");
    }
    let look = "cat /version /data/a.txt /data/b.txt /data/hid.keep /data/deep/* /links/link; ls /data; stat -c %a /data/a.txt";
    assert_eq!(run(&host, "own", look), "7\nalphabetakeptgammalinkeda.txt\nb.txt\ndeep\nhid.keep\n640");
    // The second time all is there.
    let again = done(folder.build(&host, &["-t", "own", "--build-arg", "VERSION=7", "."]).run());
    let ran =
        |output: &Output| output.stderr.lines().any(|line| line.ends_with(" said") && !line.contains("RUN"));
    assert!(ran(&said) && again.stderr.contains("CACHED") && !ran(&again), "{again}");
    // A file that has changed is seen, and one that is hidden is not.
    folder.write("sub/hidden", "other");
    let again = done(folder.build(&host, &["-t", "own", "--build-arg", "VERSION=7", "."]).run());
    assert_eq!(again.stderr.matches("CACHED").count(), 5, "{again}");
    folder.write("sub/b.txt", "BETA!");
    done(folder.build(&host, &["-t", "own", "--build-arg", "VERSION=7", "."]).run());
    assert_eq!(run(&host, "own", "cat /data/b.txt"), "BETA!");
    // The id alone, and in a file.
    let id = folder.build(&host, &["-q", "--build-arg", "VERSION=7", "--iidfile", "id", "."]).ok();
    assert_eq!(fs::read_to_string(folder.path.join("id")).expect("the id"), id);
    assert_eq!(host.corten(["image", "inspect", "-f", "{{.Id}}", "own"]).ok(), id);
}

#[test]
fn dockerfiles_from_elsewhere() {
    let host = Host::with_busybox();
    let folder = Folder::new(
        &host,
        "elsewhere",
        &[("a.txt", "alpha"), ("build/web.Dockerfile", "FROM busybox\nCOPY a.txt /\n")],
    );
    done(folder.build(&host, &["-t", "web", "-f", "build/web.Dockerfile", "."]).run());
    assert_eq!(run(&host, "web", "cat /a.txt"), "alpha");
    // What hides files for this Dockerfile alone.
    folder.write("build/web.Dockerfile.dockerignore", "a.txt\n");
    let refused = folder.build(&host, &["-f", "build/web.Dockerfile", "."]).run();
    assert!(
        refused.code == 1 && refused.stderr.contains("a.txt") && refused.stderr.contains("not found"),
        "{refused}"
    );
    let typed = |more: &[&str], text: &str| folder.build(&host, more).stdin(text).run();
    done(typed(&["-t", "typed", "-f", "-", "."], "FROM busybox\nCOPY a.txt /typed\n"));
    assert_eq!(run(&host, "typed", "cat /typed"), "alpha");
    done(typed(&["-t", "alone", "-"], "FROM busybox\nRUN echo alone >/alone\n"));
    assert_eq!(run(&host, "alone", "cat /alone"), "alone");
    let refused = typed(&["-"], "FROM busybox\nCOPY a.txt /typed\n");
    assert!(refused.code == 1 && refused.stderr.contains("a.txt"), "{refused}");
    let refused = folder.build(&host, &["."]).run();
    assert!(refused.code == 1 && refused.stderr.contains("failed to read dockerfile: open"), "{refused}");
}

#[test]
fn secrets_and_directories_by_name() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nRUN --mount=type=secret,id=token,required cat /run/secrets/token >/got\n\
        RUN --mount=type=secret,id=word,env=WORD echo $WORD >>/got\nCOPY --from=other file /\nCOPY --from=base /bin/busybox /again\n";
    let folder =
        Folder::new(&host, "given", &[("Dockerfile", text), ("token.txt", "hush\n"), ("more/file", "other")]);
    let flags = [
        "-t",
        "given",
        "--secret",
        "id=token,src=token.txt",
        "--secret",
        "id=word,env=THE_WORD",
        "--build-context",
        "other=more",
        "--build-context",
        "base=docker-image://busybox",
        ".",
    ];
    done(folder.build(&host, &flags).env("THE_WORD", "open").run());
    assert_eq!(run(&host, "given", "cat /got /file; ls /again"), "hush\nopen\nother/again");
    let refused = folder
        .build(
            &host,
            &[
                "--build-context",
                "other=more",
                "--build-context",
                "base=docker-image://busybox",
                "--no-cache",
                ".",
            ],
        )
        .run();
    assert!(refused.code == 1 && refused.stderr.contains("secret token"), "{refused}");
    for (flag, value, told) in [
        ("--secret", "id=x,src=/nowhere", "cannot read /nowhere"),
        ("--build-context", "x=/nowhere", "no such directory"),
        ("--progress", "loud", "invalid progress mode"),
        ("--allow", "everything", "everything"),
    ] {
        let refused = folder.build(&host, &[flag, value, "."]).run();
        assert!(refused.code == 1 && refused.stderr.contains(told), "{refused}");
    }
}

#[test]
fn a_context_that_cannot_be_sent_is_no_context() {
    // What is not on the same machine is sent.
    let address = format!("tcp://127.0.0.1:{}", kit::registry::free_port());
    let host = Host::with_flags(&["-H", &address]);
    host.pull_busybox();
    let folder =
        Folder::new(&host, "unreadable", &[("Dockerfile", "FROM busybox\nCOPY . /\n"), ("good", "x")]);
    let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"bad\xff");
    fs::write(folder.path.join(name), "x").expect("a file");
    let refused = folder.build(&host, &["-t", "unreadable", "."]).env("DOCKER_HOST", &address).run();
    assert!(refused.code == 1 && refused.stderr.contains("is not UTF-8"), "{refused}");
    host.corten(["image", "inspect", "unreadable"]).fails(1, "No such image");
}

#[test]
fn what_goes_on_is_shown_in_every_way() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nMAINTAINER somebody\nRUN echo before; exit 3\n";
    let folder = Folder::new(&host, "shown", &[("Dockerfile", text)]);
    let failed = folder.build(&host, &["."]).run();
    assert_eq!(failed.code, 1, "{failed}");
    let expected = [
        "RUN echo before; exit 3:\n",
        "before\n------\n",
        "1 warning found:\n - MaintainerDeprecated",
        "Dockerfile:3\n--------------------\n",
        "   3 | >>> RUN echo before; exit 3\n",
        "exit code: 3",
    ];
    let mut rest = failed.stderr.as_str();
    for word in expected {
        let at = rest.find(word).unwrap_or_else(|| panic!("{word:?} in its place: {failed}"));
        rest = &rest[at + word.len()..];
    }
    let raw = folder.build(&host, &["--progress", "rawjson", "."]).run();
    let messages: Vec<serde_json::Value> = raw
        .stderr
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let vertexes = messages.iter().filter_map(|message| message["vertexes"].as_array()).flatten();
    assert!(
        vertexes
            .clone()
            .any(|vertex| vertex["error"].as_str().is_some_and(|why| why.contains("exit code: 3"))),
        "{raw}"
    );
    assert!(messages.iter().any(|message| message["logs"][0]["data"] == "YmVmb3JlCg=="), "{raw}");
    folder.build(&host, &["--progress", "tty", "."]).fails(1, "needs a terminal");
    // On a terminal a picture is drawn over the last one.
    let path = folder.path.display().to_string();
    let terminal = host.terminal(Cli::Corten, &["build", "--network", "none", "--progress", "tty", &path]);
    for word in ["[+] Building", "\x1b[", " => ERROR", "exit code: 3"] {
        terminal.expect(word);
    }
    assert_eq!(terminal.wait(), 1);
}

#[test]
fn questions_are_answered_without_a_daemon() {
    let host = Host::new();
    let text = "ARG VERSION=1\n# base has the tools\nFROM busybox AS base\nFROM base\nMAINTAINER somebody\n";
    let folder = Folder::new(&host, "asked", &[("Dockerfile", text)]);
    let ask = |more: &[&str]| {
        let args = ["--host", "unix:///nowhere.sock", "build"].iter().chain(more);
        host.corten(args).current_dir(&folder.path).run()
    };
    let checked = ask(&["--check", "."]);
    assert_eq!(checked.code, 1, "{checked}");
    assert!(checked.stdout.contains("Dockerfile:5:1: warning[MaintainerDeprecated]"), "{checked}");
    assert!(checked.stdout.contains("\n 5 | MAINTAINER somebody\n   | ^^^^^^^^^^"), "{checked}");
    let targets = ask(&["--call", "targets", "."]);
    assert_eq!(done(targets).stdout, "TARGET      DESCRIPTION\nbase        has the tools\n(default)\n");
    let outline = done(ask(&["--call", "outline,format=json", "--build-arg", "VERSION=2", "."]));
    let outline: serde_json::Value = serde_json::from_str(&outline.stdout).expect("JSON");
    assert_eq!(outline["args"][0]["value"], "2");
    folder.write("Dockerfile", "FROM busybox\nRUNN x\n");
    let broken = ask(&["--check", "."]);
    assert!(broken.code == 1 && broken.stdout.contains("did you mean RUN?"), "{broken}");
    folder.write("Dockerfile", "FROM busybox\n");
    assert_eq!(done(ask(&["--check", "."])).stdout, "Check complete, no warnings found.\n");
    // What no build would take is not fine, in whatever language it is written.
    folder.write("Dockerfile", "# syntax=else/where:1\nBEGIN busybox\n");
    let foreign = ask(&["--check", "."]);
    assert!(foreign.code == 1 && foreign.stdout.contains("reads Dockerfiles itself"), "{foreign}");
}

#[test]
fn what_cannot_be_named_is_not_built() {
    let host = Host::with_busybox();
    let folder = Folder::new(&host, "names", &[("Dockerfile", "FROM busybox\nRUN echo ran the step\n")]);
    for (flags, words) in [
        (&["-t", "Team/Web"][..], "names of repositories are in small letters: team/web"),
        (&["-t", "web:a:b"], "invalid tag \"web:a:b\""),
        (&["-o", "type=oci,dest=x,name=A"], "invalid tag \"A\""),
        (&["--push"], "tag is needed when pushing to registry"),
        (&["-o", "type=floppy"], "there are image, registry, oci, docker, local and tar"),
    ] {
        let said = folder.build(&host, &[flags, &["."]].concat()).run();
        assert!(said.code != 0 && said.stderr.contains(words), "{flags:?}: {said}");
        assert!(!said.stderr.contains("ran the step"), "{flags:?}: {said}");
    }
}

#[test]
fn an_image_that_is_not_there_is_told_with_where_it_is_wanted() {
    let host = Host::with_busybox();
    let text = "FROM busybox AS corten-tools\nFROM busybox\nCOPY --from=corten-tolls /bin/sh /own\n";
    let folder = Folder::new(&host, "missing", &[("Dockerfile", text)]);
    let mistyped = folder.build(&host, &["."]).run();
    for words in [">>> COPY --from=corten-tolls", "did you mean the stage corten-tools?"] {
        assert!(mistyped.code != 0 && mistyped.stderr.contains(words), "{words}: {mistyped}");
    }
    folder.write("Dockerfile", &text.replace("corten-tolls", "nobody-has-this"));
    let unknown = folder.build(&host, &["."]).run();
    let hint = "no stage is called nobody-has-this, so it is the name of an image";
    for words in [">>> COPY --from=nobody-has-this", hint] {
        assert!(unknown.code != 0 && unknown.stderr.contains(words), "{words}: {unknown}");
    }
    let target = folder.build(&host, &["--target", "corten-tool", "."]).run();
    let words = "target stage \"corten-tool\" could not be found (did you mean corten-tools?)";
    assert!(target.code != 0 && target.stderr.contains(words), "{target}");
    assert!(!target.stderr.contains("parse error"), "{target}");
}

#[test]
fn scripts_that_call_buildx_find_it() {
    let host = Host::with_busybox();
    let folder = Folder::new(&host, "buildx", &[("Dockerfile", "FROM busybox\n")]);
    let args = ["buildx", "build", "-q", "-t", "by:buildx", "."];
    done(host.corten(args).current_dir(&folder.path).run());
    host.corten(["image", "inspect", "by:buildx"]).ok();
    host.corten(["buildx", "prune", "-f"]).ok();
    host.corten(["buildx", "bake"]).fails(1, "unknown command: corten buildx bake");
}

#[test]
fn why_a_long_step_failed_is_told_as_well() {
    let host = Host::with_busybox();
    for lines in [90, 3000] {
        let step = "echo building a package \\\n    && ".repeat(lines);
        let text = format!("FROM busybox\nRUN {step}exit 3\n");
        let folder = Folder::new(&host, "long", &[("Dockerfile", &text)]);
        let said = folder.build(&host, &["."]).run();
        for words in ["exit code: 3", "   2 | >>> RUN echo building a package"] {
            // The kernel takes no argument of more than 128 KiB.
            let words = if lines == 3000 && words.starts_with("exit") { "failed to solve" } else { words };
            assert!(said.code != 0 && said.stderr.contains(words), "{lines}: {words}: {said}");
        }
        assert!(!said.stderr.contains("http2"), "{said}");
    }
}
