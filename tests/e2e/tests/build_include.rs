//! `INCLUDE`: files whose instructions stand in its place, by each way that a Dockerfile comes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use kit::{Cli, Cmd, Host, compose};

/// A directory with these files.
fn folder(host: &Host, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = host.root().join(name);
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    folder
}

/// The three ways a build comes: by our client, by it as of old, and by docker's.
fn builds(host: &Host, folder: &Path, args: &[&str]) -> [Cmd; 3] {
    let args = [&["build", "--network", "none"], args].concat();
    let own = host.corten(&args).env("BUILDKIT_PROGRESS", "plain");
    let old = host.corten(&args).env("DOCKER_BUILDKIT", "0");
    let docker = host.cli(Cli::Docker, &args).env("DOCKER_BUILDKIT", "0");
    [own, old, docker].map(|cmd| cmd.current_dir(folder))
}

fn run(host: &Host, image: &str, script: &str) -> String {
    host.corten(["run", "--rm", "--network", "none", image, "sh", "-c", script]).ok()
}

const MAIN: &str =
    "INCLUDE parts/args.inc\nFROM busybox AS base\nINCLUDE parts/steps.inc\nINCLUDE parts/final.inc\n";
const PARTS: [(&str, &str); 3] = [
    ("parts/args.inc", "# syntax=docker/dockerfile:1\nARG WHO=nobody"),
    (
        "parts/steps.inc",
        "ARG WHO\nRUN <<EOF\necho \"$WHO\" >/who\necho 'INCLUDE not/there' >/text\nEOF\nRUN echo stepped\n",
    ),
    ("parts/final.inc", "FROM base AS final\nCOPY <<EOF /more\nINCLUDE me\nEOF\nENV INCLUDED=yes"),
];

#[test]
fn the_same_image_by_every_way() {
    let host = Host::with_busybox();
    let mut files = vec![("Dockerfile", MAIN)];
    files.extend(PARTS);
    let place = folder(&host, "several", &files);
    let flat = format!("{}\nFROM busybox AS base\n{}{}\n", PARTS[0].1, PARTS[1].1, PARTS[2].1);
    let one = folder(&host, "one", &[("Dockerfile", flat.as_str())]);
    let id = |image: &str| host.corten(["image", "inspect", "-f", "{{.Id}}", image]).ok();
    host.corten(["build", "--network", "none", "--build-arg", "WHO=me", "-t", "flat", "."])
        .current_dir(&one)
        .ok();
    for (at, build) in
        builds(&host, &place, &["--build-arg", "WHO=me", "-t", "tried", "."]).into_iter().enumerate()
    {
        let said = build.run();
        said.expect_code(0);
        assert_eq!(id("tried"), id("flat"), "{at}: the steps count, and not where they are written: {said}");
        assert_eq!(
            run(&host, "tried", "cat /who /text /more; echo $INCLUDED"),
            "me\nINCLUDE not/there\nINCLUDE me\nyes"
        );
        host.corten(["rmi", "tried"]).ok();
    }
    // What is included counts as if it stood there.
    fs::write(place.join("parts/steps.inc"), PARTS[1].1.replace("stepped", "otherwise")).expect("a file");
    let [own, ..] = builds(&host, &place, &["--build-arg", "WHO=me", "-t", "tried", "."]);
    let said = own.run();
    said.expect_code(0);
    assert!(said.stderr.contains("CACHED") && said.stderr.contains(" otherwise\n"), "{said}");
    assert_ne!(id("tried"), id("flat"));
}

#[test]
fn what_is_wrong_is_told_with_its_file() {
    let host = Host::with_busybox();
    let refused = |place: &Path, words: &[&str]| {
        for (at, build) in builds(&host, place, &["."]).into_iter().enumerate() {
            let said = build.run();
            assert_ne!(said.code, 0, "{at}: {said}");
            for word in words {
                assert!(said.stderr.contains(word), "{at}: {word}: {said}");
            }
        }
    };
    let place = folder(
        &host,
        "parsed",
        &[("Dockerfile", "FROM busybox\nINCLUDE inc/a\n"), ("inc/a", "RUN x\n FRMO y\n")],
    );
    let shown =
        "inc/a:2:2: error: unknown instruction: FRMO (did you mean FROM?)\n 2 |  FRMO y\n   |  ^^^^\n";
    refused(&place, &["dockerfile parse error on line 2 of inc/a: unknown instruction: FRMO", shown]);

    let place = folder(
        &host,
        "circle",
        &[("Dockerfile", "FROM busybox\nINCLUDE a\n"), ("a", "INCLUDE b"), ("b", "INCLUDE ./a")],
    );
    refused(&place, &["files include each other in a circle: a -> b -> a", "b:1:9: error: "]);

    let place = folder(&host, "missing", &[("Dockerfile", "FROM busybox\nINCLUDE x/y\n")]);
    refused(
        &place,
        &["failed to include \"x/y\": not found in the build context\n", "Dockerfile:2:9: error: "],
    );

    let files = [
        ("Dockerfile", "FROM busybox\nINCLUDE a.inc\n"),
        ("a.inc", "RUN x\n"),
        (".dockerignore", "b\n*.inc\n"),
    ];
    let place = folder(&host, "hidden", &files);
    refused(
        &place,
        &["\"a.inc\": not found", ".dockerignore hides it (line 2: *.inc)", "Dockerfile:2:9: error: "],
    );

    // Neither by its name nor by a link.
    let outside = folder(&host, "outside", &[("secret.inc", "RUN echo outside\n")]);
    let place = folder(&host, "escaping", &[("Dockerfile", "FROM busybox\nINCLUDE ../outside/secret.inc\n")]);
    refused(&place, &["the path leaves the build context", "Dockerfile:2:9: error: "]);
    fs::write(place.join("Dockerfile"), "FROM busybox\nINCLUDE link\n").expect("a file");
    symlink(outside.join("secret.inc"), place.join("link")).expect("a link");
    refused(&place, &["failed to include \"link\": not found in the build context"]);
    fs::remove_file(place.join("link")).expect("remove");
    symlink("../outside", place.join("link")).expect("a link");
    fs::write(place.join("Dockerfile"), "FROM busybox\nINCLUDE link/secret.inc\n").expect("a file");
    refused(&place, &["failed to include \"link/secret.inc\": not found in the build context"]);
    // A link that stays inside is followed.
    fs::remove_file(place.join("link")).expect("remove");
    fs::write(place.join("real.inc"), "RUN true\n").expect("a file");
    symlink("real.inc", place.join("link")).expect("a link");
    fs::write(place.join("Dockerfile"), "FROM busybox\nINCLUDE link\n").expect("a file");
    for build in builds(&host, &place, &["."]) {
        build.ok();
    }

    let place = folder(&host, "variable", &[("Dockerfile", "ARG A=x\nFROM busybox\nINCLUDE $A\n")]);
    refused(&place, &["variable expansion is not supported for INCLUDE"]);
    let place = folder(&host, "trigger", &[("Dockerfile", "FROM busybox\nONBUILD INCLUDE a\n")]);
    refused(&place, &["INCLUDE isn't allowed as an ONBUILD trigger"]);
    let place = folder(&host, "kind", &[("Dockerfile", "FROM busybox\nINCLUDE dir\n"), ("dir/a", "")]);
    refused(&place, &["failed to include \"dir\": cannot read it"]);
}

#[test]
fn a_step_that_fails_is_shown_in_its_file() {
    let host = Host::with_busybox();
    let files = [("Dockerfile", "FROM busybox\nINCLUDE a.inc\n"), ("a.inc", "ENV A=1\nRUN exit 7\n")];
    let place = folder(&host, "failing", &files);
    let [own, ..] = builds(&host, &place, &["."]);
    let said = own.run();
    assert!(said.stderr.contains("a.inc:2\n"), "{said}");
    assert!(said.stderr.contains(">>> RUN exit 7"), "{said}");
    // A check's warning as well.
    fs::write(place.join("a.inc"), "ENV A=1\nMAINTAINER me\n").expect("a file");
    let [own, ..] = builds(&host, &place, &["."]);
    let said = own.run();
    said.expect_code(0);
    assert!(said.stderr.contains("(line 2 of a.inc)"), "{said}");
}

#[test]
fn a_dockerfile_elsewhere_includes_too() {
    let host = Host::with_busybox();
    let outer = folder(
        &host,
        "outer",
        &[
            ("Main", "FROM busybox\nINCLUDE near.inc\nINCLUDE far.inc\n"),
            ("near.inc", "RUN echo near >/near\n"),
        ],
    );
    let place = folder(
        &host,
        "inner",
        &[
            ("far.inc", "RUN echo far >/far\n"),
            ("sub/Dockerfile", "FROM busybox\nINCLUDE one.inc\n"),
            ("sub/one.inc", "RUN echo one >/one\n"),
        ],
    );
    // What the context has not may lie beside the Dockerfile.
    let main = outer.join("Main").display().to_string();
    let [own, ..] = builds(&host, &place, &["-f", &main, "-t", "tried", "."]);
    own.ok();
    assert_eq!(run(&host, "tried", "cat /near /far"), "near\nfar");
    for build in builds(&host, &place, &["-f", "sub/Dockerfile", "-t", "tried", "."]) {
        build.ok();
        assert_eq!(run(&host, "tried", "cat /one"), "one");
    }
    // From standard input it is of the context alone.
    for build in builds(&host, &place, &["-f", "-", "-t", "tried", "."]) {
        build.stdin("FROM busybox\nINCLUDE far.inc\n").ok();
        assert_eq!(run(&host, "tried", "cat /far"), "far");
    }
    // Without a context there is nothing.
    let said =
        host.corten(["build", "-"]).stdin("FROM busybox\nINCLUDE far.inc\n").fails(1, "failed to include");
    assert!(said.stderr.contains("\"far.inc\": not found in the build context"), "{said}");
}

#[test]
fn questions_see_what_is_included() {
    let host = Host::with_busybox();
    let files = [
        ("Dockerfile", "FROM busybox AS one\nINCLUDE parts/a.inc\n"),
        ("parts/a.inc", "MAINTAINER me\nFROM one AS two\nARG X=1\n"),
    ];
    let place = folder(&host, "asked", &files);
    let ask = |args: &[&str]| host.corten([&["build"], args].concat()).current_dir(&place).run();
    let checked = ask(&["--check", "."]);
    checked.expect_code(1);
    assert!(checked.stdout.contains("parts/a.inc:1:1: warning[MaintainerDeprecated]"), "{checked}");
    assert_eq!(ask(&["--call", "targets", "."]).stdout.lines().count(), 3);
    let outline: serde_json::Value =
        serde_json::from_str(&ask(&["--call", "outline,format=json", "."]).stdout).expect("JSON");
    assert_eq!(outline["args"][0]["location"]["sourceIndex"], 1, "{outline}");
    assert_eq!(outline["sources"].as_array().map(Vec::len), Some(2));
    // Standard input, and a file outside.
    let said = host
        .corten(["build", "--check", "-f", "-", "."])
        .stdin("FROM busybox\nINCLUDE parts/a.inc\n")
        .current_dir(&place)
        .run();
    assert!(said.code == 1 && said.stdout.contains("parts/a.inc:1:1: warning"), "{said}");
    let outer = folder(
        &host,
        "outer",
        &[("Main", "FROM busybox\nINCLUDE near.inc\n"), ("near.inc", "MAINTAINER x\n")],
    );
    let main = outer.join("Main").display().to_string();
    let said = ask(&["--check", "-f", &main, "."]);
    assert!(said.code == 1 && said.stdout.contains("near.inc:1:1: warning"), "{said}");
    let said = host.corten(["build", "--check", "-"]).stdin("FROM busybox\nINCLUDE x\n").run();
    assert!(said.code == 1 && said.stderr.contains("failed to include \"x\": not found"), "{said}");
    // An archive is read by the engine.
    let archive = place.with_extension("tar");
    let (from, to) = (place.display().to_string(), archive.display().to_string());
    Cmd::new("tar").args(["-C", &from, "-cf", &to, "."]).ok();
    let said = host.corten(["build", "--check", "-"]).stdin(fs::read(archive).expect("a file")).run();
    assert!(said.code == 1 && said.stdout.contains("parts/a.inc:1:1: warning"), "{said}");
    fs::write(place.join(".dockerignore"), "parts\n").expect("a file");
    let said = ask(&["--check", "."]);
    assert!(said.code == 1 && said.stderr.contains(".dockerignore hides it (line 1: parts)"), "{said}");
}

#[test]
fn a_session_is_asked_for_them_alone() {
    let host = Host::with_busybox();
    if !compose::install(&host) {
        return;
    }
    let project = compose::Project::new(&host, "tried", "services: {web: {build: ., image: 'web:built'}}\n");
    let big = "x".repeat(1 << 20);
    let files = [
        ("Dockerfile", "FROM busybox\nINCLUDE parts/a.inc\n"),
        ("parts/a.inc", "INCLUDE parts/b.inc\nRUN true"),
        ("parts/b.inc", "MAINTAINER me\n"),
        ("big", &big),
    ];
    for (name, text) in files {
        let path = project.folder().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    let said = project.compose(Cli::Corten, &["build", "--progress", "plain"]).run();
    said.expect_code(0);
    let all = format!("{}{}", said.stdout, said.stderr);
    let sent =
        all.lines().find(|line| line.contains("transferring included files:") && line.ends_with("done"));
    let sent = sent.unwrap_or_else(|| panic!("{all}"));
    assert!(!sent.contains("MB") && !all.contains("load build context"), "{all}");
    assert_eq!(host.corten(["image", "inspect", "-f", "{{.Author}}", "web:built"]).ok(), "me");
    fs::write(project.folder().join("parts/b.inc"), "FRMO x\n").expect("a file");
    let said = project.compose(Cli::Corten, &["build", "--progress", "plain"]).run();
    let all = format!("{}{}", said.stdout, said.stderr);
    assert!(said.code != 0 && all.contains("parts/b.inc:1:1: error: unknown instruction: FRMO"), "{all}");
}
