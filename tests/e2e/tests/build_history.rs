//! Builds that there were: what the engine tells of them to our own client, and to Compose's.

use std::fs;
use std::path::PathBuf;

use kit::{Cli, Host, Output, compose};
use serde_json::Value;

fn folder(host: &Host) -> PathBuf {
    let path = host.root().join("history");
    fs::create_dir_all(&path).expect("a directory");
    fs::write(
        path.join("Dockerfile"),
        "FROM busybox AS one\nRUN echo the first says\nFROM one\nRUN echo it fails; exit 3\n",
    )
    .expect("a file");
    path
}

fn build(host: &Host, more: &[&str]) -> Output {
    let args = ["build", "--network", "none"].into_iter().chain(more.iter().copied()).chain(["."]);
    host.corten(args).env("BUILDKIT_PROGRESS", "plain").current_dir(folder(host)).run()
}

fn history(host: &Host, args: &[&str]) -> Output {
    host.corten(["builder", "history"].iter().chain(args)).run()
}

fn told(host: &Host, args: &[&str]) -> String {
    let output = history(host, args);
    assert_eq!(output.code, 0, "{output}");
    output.stdout.trim_end().to_owned()
}

#[test]
fn builds_are_known_after_their_end() {
    let mut host = Host::with_busybox();
    assert_eq!(told(&host, &["ls", "-q"]), "");
    assert!(history(&host, &["logs"]).stderr.contains("no builds found"));
    assert_eq!(build(&host, &["-t", "kept:1", "--target", "one"]).code, 0);
    assert_ne!(build(&host, &["-t", "kept:2", "--build-arg", "A=b"]).code, 0);
    let listed = told(&host, &["ls"]);
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].starts_with("BUILD ID") && lines.len() == 3, "{listed}");
    assert!(lines[1].contains("kept:2") && lines[1].contains("Error"), "{listed}");
    assert!(lines[2].contains("kept:1 (one)") && lines[2].contains("Completed"), "{listed}");
    // What they have told.
    let last = history(&host, &["logs"]);
    assert!(last.stderr.contains(" it fails\n"), "{last}");
    let why = last.stderr.lines().rev().find(|line| line.starts_with("failed to solve: process"));
    assert!(why.is_some_and(|line| line.ends_with("exit code: 3")), "{last}");
    let first = history(&host, &["logs", "^1"]);
    assert!(first.stderr.contains(" the first says\n") && !first.stderr.contains("it fails"), "{first}");
    // How they went.
    let names: Vec<String> = told(&host, &["ls", "-q"]).lines().map(str::to_owned).collect();
    let about: Value = serde_json::from_str(&told(&host, &["inspect", &names[1][..12]])).expect("JSON");
    assert_eq!((&about["Status"], &about["FrontendAttrs"]["target"]), (&"Completed".into(), &"one".into()));
    let id = host.corten(["image", "inspect", "-f", "{{.Id}}", "kept:1"]).ok();
    assert_eq!(about["ExporterResponse"]["containerimage.digest"], id.as_str());
    assert!(about["NumTotalSteps"].as_i64().is_some_and(|steps| steps > 2), "{about}");
    assert!(told(&host, &["inspect", "-f", "{{.Error}}"]).contains("exit code: 3"));
    // Some of them.
    assert_eq!(told(&host, &["ls", "-q", "--filter", "status=error"]), names[0]);
    let part = format!("ref={}", &names[1][3..9]);
    assert_eq!(told(&host, &["ls", "-q", "--filter", "startedAt>1h", "--filter", &part]), names[1]);
    for (args, words) in [
        (&["ls", "--filter", "colour=red"][..], "failed to parse history filters"),
        (&["logs", "nothing"], "no build \"nothing\" found"),
        (&["inspect", "^9"], "no build \"^9\" found"),
        (&["rm"], "no build is named"),
    ] {
        let output = history(&host, args);
        assert!(output.code != 0 && output.stderr.contains(words), "{output}");
    }
    // They are forgotten when that is wanted, and with the engine's end; what they have made is not.
    assert_eq!(told(&host, &["rm", &names[0]]), names[0]);
    assert_eq!(told(&host, &["ls", "-q"]), names[1]);
    assert_eq!(build(&host, &["--target", "one"]).code, 0);
    told(&host, &["rm", "--all"]);
    assert_eq!(told(&host, &["ls", "-q"]), "");
    assert_eq!(build(&host, &["--target", "one"]).code, 0);
    host.stop_daemon();
    host.start_daemon();
    assert_eq!(told(&host, &["ls", "-q"]), "");
    host.corten(["image", "inspect", "kept:1"]).ok();
}

#[test]
fn what_compose_builds_is_known_too() {
    let host = Host::with_busybox();
    if !compose::install(&host) {
        return;
    }
    let service =
        "services:\n  it:\n    image: composed:1\n    build: {context: ., target: one, network: none}\n";
    let project = compose::Project::new(&host, "composed", service);
    fs::copy(folder(&host).join("Dockerfile"), project.folder().join("Dockerfile")).expect("a file");
    project.compose(Cli::Corten, &["build"]).run().expect_code(0);
    let about = told(&host, &["ls", "--format", "{{.Name}} {{.Status}}"]);
    assert_eq!(about, "composed:1 (one) Completed");
    let logs = history(&host, &["logs"]);
    assert!(logs.stderr.contains(" the first says\n"), "{logs}");
}
