//! Compose's own client of BuildKit's API builds by ours: what it sends, what it shows, what becomes of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use kit::{CLIS, Cli, Host, compose};

/// A host that has Compose and an image to build on; none where it is not to be had.
fn host() -> Option<Host> {
    let host = Host::with_busybox();
    compose::install(&host).then_some(host)
}

/// Writes files of a project.
fn write(project: &compose::Project<'_>, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = project.folder().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
        fs::write(path, text).expect("write a file");
    }
}

/// What a build says, on both outputs.
fn build(project: &compose::Project<'_>, cli: Cli, args: &[&str]) -> String {
    let output = project.compose(cli, &[&["build"], args].concat()).run();
    output.expect_code(0);
    format!("{}{}", output.stdout, output.stderr)
}

const WEB: &str = r#"
services:
  web:
    build:
      context: .
      args: {WORD: "from compose"}
      labels: {com.example.part: web}
      target: final
    image: web:built
    network_mode: none
    stop_grace_period: 0s
"#;

const DOCKERFILE: &str = r#"
FROM busybox AS base
ARG WORD
RUN echo "$WORD" > /word && echo said on the way
FROM base AS never
RUN exit 9
FROM base AS final
COPY --chmod=755 bin/start /start
COPY data /data
CMD ["/start"]
"#;

#[test]
fn a_project_is_built_and_run() {
    for cli in CLIS {
        let Some(host) = host() else { return };
        let project = compose::Project::new(&host, "tried", WEB);
        write(
            &project,
            &[
                ("Dockerfile", DOCKERFILE),
                ("bin/start", "#!/bin/sh\ncat /word /data/*; exec sleep 1000\n"),
                ("data/a", "first\n"),
                ("data/hidden.log", "hidden\n"),
                (".dockerignore", "**/*.log\n"),
            ],
        );
        let said = build(&project, cli, &[]);
        for words in ["load build definition from Dockerfile", "load build context"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        let is_told =
            |said: &str| said.lines().any(|line| line.ends_with(" said on the way") && !line.contains("RUN"));
        assert!(is_told(&said), "{said}");
        let inspected = host.corten(["image", "inspect", "web:built"]).ok();
        let inspected: serde_json::Value = serde_json::from_str(&inspected).expect("JSON");
        assert_eq!(inspected[0]["Config"]["Labels"]["com.example.part"], "web");

        // The second time all is there, and nothing comes but the names.
        let again = build(&project, cli, &[]);
        assert!(again.contains("CACHED") && !is_told(&again), "{again}");
        let id = host.corten(["image", "inspect", "-f", "{{.Id}}", "web:built"]).ok();

        // What changed comes over; what went is gone.
        fs::remove_file(project.folder().join("data/a")).expect("remove a file");
        write(&project, &[("data/b", "second\n")]);
        project.compose(cli, &["up", "-d", "--build"]).ok();
        assert_ne!(host.corten(["image", "inspect", "-f", "{{.Id}}", "web:built"]).ok(), id);
        kit::wait_for("the words", || {
            let logs = project.compose(cli, &["logs", "--no-log-prefix", "web"]).ok();
            (logs.trim() == "from compose\nsecond").then_some(())
        });
        project.compose(cli, &["down"]).ok();
    }
}

#[test]
fn what_a_client_gives_arrives() {
    let Some(host) = host() else { return };
    let text = r#"
services:
  inline:
    build:
      context: ctx
      dockerfile_inline: |
        FROM busybox
        COPY . /all
        COPY --from=other note /note
        RUN --mount=type=secret,id=key cat /run/secrets/key > /key
        RUN ls -ln /all > /list; readlink /all/link > /target
      additional_contexts: {other: ./other}
      secrets: [key]
      no_cache: true
      network: none
secrets:
  key: {file: ./key.txt}
"#;
    let project = compose::Project::new(&host, "given", text);
    write(
        &project,
        &[
            ("ctx/tool", "x"),
            ("ctx/deep/er/file", "deep"),
            ("ctx/naïve name", "é"),
            ("other/note", "noted"),
            ("key.txt", "s3cret"),
        ],
    );
    let tool = project.folder().join("ctx/tool");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o4751)).expect("change a mode");
    std::os::unix::fs::symlink("/etc/passwd", project.folder().join("ctx/link")).expect("make a link");
    fs::hard_link(&tool, project.folder().join("ctx/twin")).expect("make a link");
    build(&project, Cli::Corten, &[]);
    let show = |script: &str| {
        host.corten(["run", "--rm", "--network", "none", "given-inline", "sh", "-c", script]).ok()
    };
    assert_eq!(show("cat /note /key /target"), "noteds3cret/etc/passwd");
    assert_eq!(show("cat /all/deep/er/file '/all/naïve name'"), "deepé");
    assert_eq!(show("stat -c '%a %u:%g' /all/tool"), "4751 0:0");
    assert_eq!(show("cmp /all/tool /all/twin && echo same"), "same");
}

#[test]
fn what_fails_is_told() {
    let Some(host) = host() else { return };
    for (name, dockerfile, words) in [
        ("step", "FROM busybox\nRUN echo last words; exit 7\n", &["last words", "exit code: 7"][..]),
        ("missing", "FROM busybox\nCOPY nothing /\n", &["nothing", "not found"]),
        ("parse", "FROM busybox\nRUNN x\n", &["unknown instruction: RUNN"]),
        ("stage", "FROM busybox AS a\nCOPY --from=b x /\n", &["b"]),
    ] {
        let project =
            compose::Project::new(&host, name, "services:\n  it:\n    build: {context: ., network: none}\n");
        write(&project, &[("Dockerfile", dockerfile)]);
        let output = project.compose(Cli::Corten, &["build"]).run();
        assert_ne!(output.code, 0, "{name}");
        let said = format!("{}{}", output.stdout, output.stderr);
        for word in words {
            assert!(said.contains(word), "{name}: {word}: {said}");
        }
    }
    // Nothing is left over of them.
    assert_eq!(host.corten(["images", "-q", "--filter", "dangling=true"]).ok(), "");
    assert_eq!(host.corten(["ps", "-aq"]).ok(), "");
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let Some(host) = host() else { return };
    let words = "granting entitlement security.insecure is not allowed by build daemon configuration";
    let text = "services:\n  it:\n    build:\n      context: .\n      privileged: true\n";
    let project = compose::Project::new(&host, "privileged", text);
    write(&project, &[("Dockerfile", "FROM busybox\n")]);
    let output = project.compose(Cli::Corten, &["build"]).run();
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(output.code != 0 && said.contains(words), "{said}");
}

#[test]
fn docker_without_buildx_builds_as_of_old() {
    let host = Host::with_busybox();
    let folder = host.root().join("context");
    fs::create_dir_all(&folder).expect("make a folder");
    fs::write(folder.join("Dockerfile"), "FROM busybox\nRUN --network=none echo made\n")
        .expect("write a file");
    let folder = folder.display().to_string();
    let output = host.docker(["build", "-t", "old", &folder]).run();
    output.expect_code(0);
    assert!(output.stderr.contains("DEPRECATED: The legacy builder"), "{}", output.stderr);
    host.corten(["image", "inspect", "old"]).ok();
    host.docker(["build", &folder])
        .env("DOCKER_BUILDKIT", "1")
        .fails(1, "buildx component is missing or broken");
}

#[test]
fn a_client_that_goes_takes_its_build_along() {
    let Some(host) = host() else { return };
    let text = "services:\n  it:\n    image: never\n    build: {context: ., network: none}\n";
    let project = compose::Project::new(&host, "gone", text);
    write(&project, &[("Dockerfile", "FROM busybox\nRUN sleep 1000\n")]);
    // Compose itself, without a command line before it that would be ended in its place.
    let program = host.root().join("config/cli-plugins/docker-compose");
    let folder = project.folder().display().to_string();
    let mut command = host.program(&program.display().to_string(), ["--project-directory", &folder, "build"]);
    for (name, value) in host.environment() {
        command = command.env(name, value);
    }
    let running = command.spawn();
    kit::wait_for("the step", || (!host.supervisors().is_empty()).then_some(()));
    running.signal(rustix::process::Signal::KILL);
    kit::wait_for("the step's end", || host.supervisors().is_empty().then_some(()));
    host.corten(["image", "inspect", "never"]).fails(1, "never");
    // What was sent is kept for the next build, what was sent for this one alone is not.
    let left = fs::read_dir(host.data_root().join("contexts")).expect("the contexts");
    let left: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("once-")), "{left:?}");
}
