use std::collections::BTreeMap;

use oci::Digest;
use oci::image::ImageConfig;

use super::*;
use crate::graph::Graph;

fn digest(number: u8) -> Digest {
    Digest::from_sha256([number; 32])
}

fn base(on_build: &[&str]) -> Base {
    let mut config =
        ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    config.config.env = vec!["PATH=/bin".into(), "FROM_BASE=yes".into()];
    config.config.working_dir = "/base".into();
    config.config.on_build = on_build.iter().map(ToString::to_string).collect();
    config.history = vec![History { created_by: "base".into(), ..History::default() }];
    Base { manifest: digest(1), name: "docker.io/library/base:latest@sha256:1".into(), config }
}

fn graph_with(text: &str, request: &Request, on_build: &[&str]) -> Result<Graph, Diagnostic> {
    let parsed = crate::parse(text);
    assert_eq!(parsed.diagnostics, [], "{text}");
    let asked = stages::Request {
        arguments: request.arguments.clone(),
        target: request.target.clone(),
        contexts: request.contexts.keys().cloned().collect(),
        ..stages::Request::default()
    };
    let (stages, diagnostics) = stages::resolve(&parsed.dockerfile, &asked);
    assert_eq!(diagnostics, [], "{text}");
    let wanted = images(&stages, request);
    let images: BTreeMap<Wanted, Base> = wanted.into_iter().map(|wanted| (wanted, base(on_build))).collect();
    lower(&Input {
        file: &parsed.dockerfile,
        stages: &stages,
        request,
        asked: &asked,
        images: &images,
        now: "now",
    })
}

fn graph(text: &str) -> Graph {
    graph_with(text, &Request::default(), &[]).expect("a graph")
}

fn names(graph: &Graph) -> Vec<&str> {
    graph.vertices.iter().map(|vertex| vertex.name.as_str()).collect()
}

#[test]
fn steps_are_called_as_buildkit_calls_them() {
    let graph =
        graph("FROM base AS one\nRUN a\nENV x=y\nFROM base\nWORKDIR /w\nCOPY --from=one /a b\nCOPY c d/\n");
    assert_eq!(
        names(&graph),
        [
            "[one 1/2] FROM docker.io/library/base:latest@sha256:1",
            "[one 2/2] RUN a",
            "[stage-1 2/4] WORKDIR /w",
            "[stage-1 3/4] COPY --from=one /a b",
            "[internal] load build context",
            "[stage-1 4/4] COPY c d/",
        ]
    );
    assert!(graph.needed().iter().all(|needed| *needed));
    assert_eq!(graph.vertices[3].inputs, [2, 1]);
    let Op::Copy(copy) = &graph.vertices[5].op else { panic!("no copy") };
    assert_eq!((copy.destination.as_str(), copy.context), ("/w/d/", true));
    let Op::Local { wanted, .. } = &graph.vertices[4].op else { panic!("no context") };
    assert_eq!(wanted, &["c"]);
}

#[test]
fn configuration_and_history_follow_the_text() {
    let graph = graph(
        "FROM base\nARG v=1\nENV a=$v\nRUN echo $a\nRUN [\"x\", \"y\"]\nSHELL [\"s\", \"-c\"]\nRUN z\nCMD c\nENTRYPOINT e\nMAINTAINER me\n",
    );
    let config = &graph.config.config;
    assert_eq!(config.env, ["PATH=/bin", "FROM_BASE=yes", "a=1"]);
    assert_eq!(config.cmd.as_deref(), Some(&["s".to_owned(), "-c".into(), "c".into()][..]));
    let told: Vec<&str> = graph.config.history.iter().map(|entry| entry.created_by.as_str()).collect();
    assert_eq!(
        told,
        [
            "base",
            "ARG v=1",
            "ENV a=1",
            "RUN |1 v=1 /bin/sh -c echo $a # buildkit",
            "RUN |1 v=1 x y # buildkit",
            "SHELL [s -c]",
            "RUN |1 v=1 s -c z # buildkit",
            "CMD [\"s\",\"-c\",\"c\"]",
            "ENTRYPOINT [\"s\",\"-c\",\"e\"]",
            "MAINTAINER me",
        ]
    );
    assert_eq!(graph.history.iter().filter(|step| step.is_some()).count(), 3);
    let Op::Exec(exec) = &graph.vertices[1].op else { panic!("no command") };
    assert_eq!(exec.environment, ["PATH=/bin", "FROM_BASE=yes", "v=1", "a=1"]);
    assert_eq!(exec.directory, "/base");
}

#[test]
fn what_is_not_needed_is_not_in_the_graph_and_equal_steps_are_one() {
    let graph = graph(
        "FROM base AS a\nRUN x\nFROM base AS b\nRUN x\nRUN y\nFROM a AS unused\nRUN never\nFROM b\nCOPY --from=a /x /x\n",
    );
    let all = names(&graph).join("\n");
    assert!(!all.contains("never"), "{all}");
    assert_eq!(all.matches("RUN x").count(), 1, "{all}");
}

#[test]
fn triggers_are_done_first_and_once() {
    let graph =
        graph_with("FROM base\nRUN own\n", &Request::default(), &["RUN first", "ENV t=1"]).expect("a graph");
    let Op::Exec(exec) = &graph.vertices[1].op else { panic!("no command") };
    assert_eq!(exec.arguments[2], "first");
    assert_eq!(graph.config.config.on_build, [""; 0]);
    assert!(graph.config.config.env.contains(&"t=1".to_owned()));
}

#[test]
fn digests_change_with_what_is_done_and_to_what() {
    let digest_of = |text: &str| graph(text).vertices.last().map(|vertex| vertex.digest.clone());
    let one = digest_of("FROM base\nRUN a\nRUN b\n");
    assert_eq!(one, digest_of("FROM base\n\nRUN a\n# comment\nRUN b\n"));
    assert_ne!(one, digest_of("FROM base\nRUN c\nRUN b\n"));
    assert_ne!(one, digest_of("FROM base\nENV x=y\nRUN a\nRUN b\n"));
}

#[test]
fn what_is_not_there_yet_is_refused_by_name() {
    for (text, told) in [
        ("FROM base\nRUN --security=insecure x\n", "security.insecure is not allowed"),
        ("FROM base\nADD --keep-git-dir a /x\n", "ADD --keep-git-dir is for git repositories"),
        (
            "FROM base\nARG c=main\nADD --checksum=$c git@example.com:x/y.git /x\n",
            "invalid checksum \"main\"",
        ),
        ("FROM base\nARG c=md5:ab\nADD --checksum=$c https://e.com/f /x\n", "invalid checksum \"md5:ab\""),
        ("FROM base\nWORKDIR /\nRUN --mount=type=tmpfs,target=. x\n", "invalid mount target \"/\""),
        ("FROM base\nRUN --mount=type=cache,target=.. x\n", "invalid mount target \"/\""),
        ("FROM base\nARG t=/\nRUN --mount=type=secret,id=a,target=$t x\n", "invalid mount target \"/\""),
        ("FROM base\nCOPY --chmod=u+q a /x\n", "invalid chmod parameter: 'u+q'"),
        ("FROM base\nSTOPSIGNAL NONE\n", "Invalid signal: NONE"),
    ] {
        let error = graph_with(text, &Request::default(), &[]).map(drop).expect_err(text);
        assert!(error.message.contains(told), "{text}: {}", error.message);
    }
}
