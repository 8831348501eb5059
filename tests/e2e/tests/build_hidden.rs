//! What a context holds and what it hides, the same by every way that it comes; and what builds that go on at once share, and what not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kit::{Cli, Cmd, Host, compose};

/// A directory with these files.
fn folder(host: &Host, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let path = host.root().join(name);
    for (name, content) in files {
        let file = path.join(name);
        fs::create_dir_all(file.parent().expect("a parent")).expect("make a directory");
        fs::write(file, content).expect("write a file");
    }
    path
}

fn build(host: &Host, folder: &Path, more: &[&str]) -> Cmd {
    let fixed = ["build", "--progress", "plain", "--network", "none"];
    host.corten(fixed.into_iter().chain(more.iter().copied()).chain(["."])).current_dir(folder)
}

fn run(host: &Host, image: &str, script: &str) -> String {
    host.corten(["run", "--rm", "--network", "none", image, "sh", "-c", script]).ok()
}

#[test]
fn what_is_hidden_is_hidden_by_whatever_way_it_would_come() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nCOPY . /copied\nRUN --mount=type=bind,target=/seen cp -R /seen /shown\n";
    let files = [
        ("Dockerfile", text),
        (".dockerignore", "# see [docs\ncompose.yaml\n/secret.env\n*.tmp\n! keep.tmp\n"),
        ("a", "a"),
        ("secret.env", "s"),
        ("x.tmp", "x"),
        ("keep.tmp", "k"),
    ];
    let context = folder(&host, "hidden", &files);
    build(&host, &context, &["-t", "handed"]).ok();
    build(&host, &context, &["-t", "classic"]).env("DOCKER_BUILDKIT", "0").ok();
    let mut images = vec!["handed", "classic"];
    if compose::install(&host) {
        let text = "services:\n  it:\n    image: sent\n    build: {context: ., network: none}\n";
        let project = compose::Project::new(&host, "hiding", text);
        for (name, content) in files {
            fs::write(project.folder().join(name), content).expect("write a file");
        }
        project.compose(Cli::Corten, &["build"]).run().expect_code(0);
        images.push("sent");
    }
    for image in images {
        let found = run(&host, image, "ls -A /copied; echo; ls -A /shown");
        let all = ".dockerignore\nDockerfile\na\nkeep.tmp";
        assert_eq!(found, format!("{all}\n\n{all}"), "{image}");
    }
}

#[test]
fn a_named_context_hides_what_its_own_file_says() {
    let host = Host::with_busybox();
    let text = "FROM tools AS base\nFROM busybox\nCOPY --from=tools . /copied\nCOPY --from=base . /based\n\
        RUN --mount=type=bind,from=tools,target=/seen cp -R /seen /shown\n";
    let context = folder(&host, "main", &[("Dockerfile", text), (".dockerignore", "*\n")]);
    let tools = folder(&host, "tools", &[("tool", "t"), ("secret.env", "s"), (".dockerignore", "*.env\n")]);
    let given = format!("tools={}", tools.display());
    build(&host, &context, &["-t", "made", "--build-context", &given]).ok();
    let found = run(&host, "made", "for d in copied based shown; do ls -A /$d; done");
    assert_eq!(found, [".dockerignore\ntool"; 3].join("\n"));
    fs::write(tools.join(".dockerignore"), "[\n").expect("write a file");
    let failed = build(&host, &context, &["--build-context", &given]).run();
    assert!(failed.code != 0 && failed.stderr.contains(".dockerignore of the context"), "{failed}");
}

#[test]
fn a_context_that_cannot_be_read_whole_is_no_context() {
    let host = Host::with_busybox();
    let context =
        folder(&host, "closed", &[("Dockerfile", "FROM scratch\nCOPY . /\n"), ("data/a", "a"), ("z", "z")]);
    fs::set_permissions(context.join("data"), fs::Permissions::from_mode(0o000)).expect("close a directory");
    // Root without what lets it read everything.
    let mut client = Cmd::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all"])
        .args([kit::binary()])
        .args(["build", "-t", "made", &context.display().to_string()]);
    for (name, value) in host.environment() {
        client = client.env(&name, &value);
    }
    let failed = client.env("DOCKER_BUILDKIT", "0").run();
    assert!(failed.code != 0 && failed.stderr.contains("cannot read data of the build context"), "{failed}");
    assert_ne!(host.corten(["image", "inspect", "made"]).run().code, 0);
    fs::set_permissions(context.join("data"), fs::Permissions::from_mode(0o755)).expect("open it");
}

#[test]
fn what_the_classic_api_cannot_say_is_refused_by_name() {
    let host = Host::with_busybox();
    let context = folder(&host, "classic", &[("Dockerfile", "FROM busybox\n")]);
    for flag in ["--push", "--output=out", "--metadata-file=m", "--annotation=a=b", "--cache-to=type=inline"]
    {
        let failed = build(&host, &context, &[flag]).env("DOCKER_BUILDKIT", "0").run();
        let name = flag.split('=').next().expect("a name");
        assert!(failed.code != 0 && failed.stderr.contains(name), "{flag}: {failed}");
    }
}

#[test]
fn caches_of_another_namespace_are_others_and_the_host_is_called_as_asked() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nRUN --mount=type=cache,target=/kept ls /kept; touch /kept/$(hostname)\n";
    let context = folder(&host, "space", &[("Dockerfile", text)]);
    let said = |space: &str, name: &str| {
        let space = format!("BUILDKIT_CACHE_MOUNT_NS={space}");
        let name = format!("BUILDKIT_SANDBOX_HOSTNAME={name}");
        let output = build(&host, &context, &["--build-arg", &space, "--build-arg", &name]).run();
        output.expect_code(0);
        output.stderr
    };
    said("one", "first");
    assert!(!said("two", "second").contains(" first\n"));
    let again = said("one", "third");
    assert!(again.contains(" first\n") && !again.contains(" second\n"), "{again}");
}

#[test]
fn equal_words_about_other_files_do_not_wait_for_each_other() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nRUN --mount=type=bind,target=/src --mount=type=cache,id=met,target=/met sh /src/step\n";
    // The first ends when the second has been there.
    let waits = "touch /met/one; i=0; until [ -e /met/two ]; do i=$((i+1)); [ $i -lt 400 ] || exit 1; sleep 0.1; done\n";
    let comes = "i=0; until [ -e /met/one ]; do i=$((i+1)); [ $i -lt 400 ] || exit 1; sleep 0.1; done; touch /met/two\n";
    let one = folder(&host, "one", &[("Dockerfile", text), ("step", waits)]);
    let two = folder(&host, "two", &[("Dockerfile", text), ("step", comes)]);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| build(&host, &one, &[]).run());
        build(&host, &two, &[]).ok();
        first.join().expect("the first").expect_code(0);
    });
}
