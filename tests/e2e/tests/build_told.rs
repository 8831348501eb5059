//! What a build by the classic API tells of a step that fails, and what files say that were fetched of when they were made.

use std::fs;
use std::path::PathBuf;

use kit::http::{Answer, Server};
use kit::{Cli, Cmd, Host};

fn folder(host: &Host, text: &str) -> PathBuf {
    let path = host.root().join("told");
    fs::create_dir_all(&path).expect("a directory");
    fs::write(path.join("Dockerfile"), text).expect("a file");
    path
}

#[test]
fn a_step_that_fails_shows_its_instruction() {
    let host = Host::with_busybox();
    let folder = folder(&host, "FROM busybox\n# a remark\nRUN echo said && \\\n  exit 3\nRUN never\n");
    let build = |cli: Cli, more: &[&str]| -> Cmd {
        let args = ["build", "--network", "none"].into_iter().chain(more.iter().copied()).chain(["."]);
        host.cli(cli, args).env("DOCKER_BUILDKIT", "0").current_dir(&folder)
    };
    let failed = "The command '/bin/sh -c echo said &&   exit 3' returned a non-zero code: 3";
    for cli in [Cli::Corten, Cli::Docker] {
        let output = build(cli, &[]).run();
        assert!(output.code != 0 && output.stderr.contains(failed), "{output}");
        // After what the step has said, beside the line that scripts know.
        let (said, shown) = output.stdout.split_once("said\n").expect("what it said");
        assert!(said.contains("Step 2/3 : RUN"), "{output}");
        let excerpt =
            "Dockerfile:3:1: error: the command returned a non-zero code: 3\n 3 | RUN echo said && \\\n";
        assert!(shown.contains(excerpt) && !output.stderr.contains("Dockerfile:3"), "{output}");
        // Who wants the id alone is told why there is none.
        let quiet = build(cli, &["-q"]).run();
        assert!(quiet.code != 0 && quiet.stderr.contains(failed), "{quiet}");
        assert!(!quiet.stdout.contains("Dockerfile:3"), "{quiet}");
    }
}

#[test]
fn what_was_fetched_has_its_own_time() {
    let host = Host::with_busybox();
    let server = Server::start(|head, _| {
        let file = Answer::new(200, "text/plain", "the text");
        match head.path() {
            "/dated" => file.with("Last-Modified", "Sat, 03 Feb 2001 04:05:06 GMT"),
            "/odd" => file.with("Last-Modified", "yesterday"),
            _ => file,
        }
    });
    let url = format!("http://{}", server.address());
    let text = format!("FROM busybox\nADD {url}/dated /dated\nADD {url}/odd /odd\nADD {url}/plain /plain\n");
    let folder = folder(&host, &text);
    let build = |tag: &str| {
        let args = ["build", "--network", "none", "--no-cache", "-t", tag, "."];
        host.corten(args).env("BUILDKIT_PROGRESS", "plain").current_dir(&folder).ok();
    };
    build("fetched:1");
    let look = "stat -c '%Y %n' /dated /odd /plain";
    let times = host.corten(["run", "--rm", "--network", "none", "fetched:1", "sh", "-c", look]).ok();
    assert_eq!(times, "981173106 /dated\n0 /odd\n0 /plain");
    // Fetched again it is the same layer again.
    build("fetched:2");
    let layers = |tag: &str| host.corten(["image", "inspect", "-f", "{{json .RootFS.Layers}}", tag]).ok();
    assert_eq!(layers("fetched:1"), layers("fetched:2"));
}
