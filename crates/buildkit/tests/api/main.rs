//! The API as a client uses it, over connections in memory, with a builder that does little.

mod builder;
mod client;
mod history;
mod hostile;
mod reading;
mod takes;
mod victim;

use std::collections::HashMap;
use std::fs;

use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    PingRequest, Ref, Result as Solved, ReturnRequest, SolveRequest as GatewaySolve, result,
};
use bollard_buildkit_proto::moby::buildkit::v1::{
    CacheOptions, CacheOptionsEntry, DiskUsageRequest, Exporter, InfoRequest, ListWorkersRequest,
    PruneRequest, SolveRequest, StatusRequest,
};
use bollard_buildkit_proto::{google::rpc, pb};
use buildkit::handover;
use client::{Client, World};
use tonic::{Code, Request};

const BUILD: &str = "build-1";

/// A call of the gateway for a build.
fn of_build<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("buildkit-controlapi-buildid", tonic::metadata::MetadataValue::from_static(BUILD));
    request
}

fn solve(client: &Client) -> SolveRequest {
    SolveRequest {
        r#ref: BUILD.to_owned(),
        session: client.session.clone(),
        exporters: vec![Exporter {
            r#type: "moby".to_owned(),
            attrs: HashMap::from([("name".to_owned(), "made:1".to_owned())]),
        }],
        ..SolveRequest::default()
    }
}

fn options(list: &[(&str, &str)]) -> HashMap<String, String> {
    list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn dockerfile(text: &str) -> World {
    let world = World::new();
    fs::write(world.context().join("Dockerfile"), text).expect("write a file");
    world
}

#[tokio::test]
async fn a_client_leads_a_build_through_the_gateway() {
    let world = dockerfile("FROM scratch\nCOPY . /\n");
    fs::write(world.context().join("file"), "content").unwrap();
    fs::write(world.context().join("hidden"), "hidden").unwrap();
    fs::write(world.context().join(".dockerignore"), "hidden\n").unwrap();
    let client = world.client("key").await;

    let (mut control, request) = (client.control(), solve(&client));
    let solving = tokio::spawn(async move { control.solve(request).await });
    let mut told =
        client.control().status(StatusRequest { r#ref: BUILD.to_owned() }).await.unwrap().into_inner();
    let mut gateway = client.gateway();
    let pong = gateway.ping(of_build(PingRequest {})).await.unwrap().into_inner();
    assert!(pong.frontend_api_caps.iter().any(|one| one.id == "return" && one.enabled));
    assert_eq!(pong.workers.len(), 1);
    let asked = GatewaySolve {
        frontend: "dockerfile.v0".to_owned(),
        frontend_opt: options(&[("filename", "Dockerfile"), ("build-arg:A", "b"), ("label:l", "m")]),
        allow_result_return: true,
        allow_result_array_ref: true,
        ..GatewaySolve::default()
    };
    let solved = gateway.solve(of_build(asked)).await.unwrap().into_inner().result.unwrap();
    let Some(result::Result::Ref(Ref { id, .. })) = &solved.result else { panic!("{solved:?}") };
    assert!(!id.is_empty());
    gateway.r#return(of_build(ReturnRequest { result: Some(solved), error: None })).await.unwrap();
    let response = solving.await.unwrap().unwrap().into_inner().exporter_response;
    assert!(response["containerimage.digest"].starts_with("sha256:"));
    assert_eq!(response["image.name"], "made:1");

    let mut names = Vec::new();
    let mut output = String::new();
    let mut transferred = 0;
    while let Some(message) = told.message().await.unwrap() {
        names.extend(
            message.vertexes.iter().filter(|one| one.completed.is_some()).map(|one| one.name.clone()),
        );
        output.extend(message.logs.iter().map(|log| String::from_utf8_lossy(&log.msg).into_owned()));
        transferred = message.statuses.iter().map(|status| status.current).fold(transferred, i64::max);
    }
    assert!(names.contains(&"[internal] load build definition from Dockerfile".to_owned()), "{names:?}");
    assert!(names.contains(&"[internal] load .dockerignore".to_owned()), "{names:?}");
    assert_eq!(
        output,
        ".dockerignore=hidden\n\nDockerfile=FROM scratch\nCOPY . /\n\nfile=content\nA=b l=m\n"
    );
    assert!(transferred > 0);
}

#[tokio::test]
async fn questions_are_answered_without_a_build() {
    let world = dockerfile("FROM scratch\nMAINTAINER somebody\n");
    let client = world.client("key").await;
    let (mut control, request) = (client.control(), solve(&client));
    let solving = tokio::spawn(async move { control.solve(request).await });
    let mut gateway = client.gateway();
    let asked = GatewaySolve {
        frontend: "dockerfile.v0".to_owned(),
        frontend_opt: options(&[
            ("requestid", "frontend.lint"),
            ("frontend.caps", "moby.buildkit.frontend.subrequests+forward"),
        ]),
        allow_result_return: true,
        ..GatewaySolve::default()
    };
    let solved = gateway.solve(of_build(asked)).await.unwrap().into_inner().result.unwrap();
    assert_eq!(solved.metadata["result.statuscode"], b"1");
    let text = String::from_utf8_lossy(&solved.metadata["result.txt"]).into_owned();
    assert!(text.contains("MaintainerDeprecated"), "{text}");
    gateway.r#return(of_build(ReturnRequest { result: None, error: None })).await.unwrap();
    // There is no image, and nobody misses it.
    let response = solving.await.unwrap().unwrap().into_inner().exporter_response;
    assert!(!response.contains_key("containerimage.digest"), "{response:?}");
}

#[tokio::test]
async fn the_second_build_is_sent_what_changed() {
    let world = dockerfile("FROM scratch\n");
    fs::write(world.context().join("big"), vec![b'x'; 200_000]).unwrap();
    fs::write(world.context().join("small"), "1").unwrap();
    let mut sent = Vec::new();
    for small in ["1", "22"] {
        fs::write(world.context().join("small"), small).unwrap();
        let client = world.client("web:node").await;
        let request = SolveRequest {
            frontend: "dockerfile.v0".to_owned(),
            r#ref: format!("build of {small}"),
            ..solve(&client)
        };
        client.control().solve(request).await.unwrap();
        sent.push(client.sent());
    }
    assert!(sent[0] > 200_000 && sent[1] < 1000, "{sent:?}");
}

#[tokio::test]
async fn directories_are_handed_over_or_else_sent() {
    let world = dockerfile("FROM scratch\n");
    fs::write(world.context().join("file"), "content").unwrap();
    fs::write(world.context().join(".dockerignore"), "nothing\n").unwrap();
    let directory = sys::fsx::open_dir(world.context()).unwrap();
    let offer = |name| handover::header(name, &directory).unwrap();
    // A relay would have another directory, or none, by that number.
    let another = tempfile::tempdir().unwrap();
    let another = sys::fsx::stat(sys::fsx::open_dir(another.path()).unwrap()).unwrap().st_ino;
    let own = sys::fsx::stat(&directory).unwrap().st_ino;
    let wrong = offer("context").replace(&format!(" {own} "), &format!(" {another} "));
    for (number, (offers, is_handed)) in
        [(vec![offer("context"), offer("dockerfile")], true), (vec![wrong], false)].into_iter().enumerate()
    {
        let client = world.client_that_offers("", &offers).await;
        let name = format!("build {number}");
        let (mut control, request) = (client.control(), solve(&client));
        let request = SolveRequest { frontend: "dockerfile.v0".to_owned(), r#ref: name.clone(), ..request };
        let solving = tokio::spawn(async move { control.solve(request).await });
        let mut told = client.control().status(StatusRequest { r#ref: name }).await.unwrap().into_inner();
        let mut output = String::new();
        while let Some(message) = told.message().await.unwrap() {
            output.extend(message.logs.iter().map(|log| String::from_utf8_lossy(&log.msg).into_owned()));
        }
        solving.await.unwrap().unwrap();
        assert!(output.ends_with("Dockerfile=FROM scratch\n\nfile=content\n"), "{output}");
        assert_eq!(
            (output.starts_with("handed over\n"), client.sent() == 0),
            (is_handed, is_handed),
            "{offers:?}"
        );
    }
}

#[tokio::test]
async fn what_builds_have_left_is_told_and_removed() {
    let world = World::new();
    let client = world.client("key").await;
    let used = client.control().disk_usage(DiskUsageRequest::default()).await.unwrap().into_inner().record;
    let told: Vec<_> = used.iter().map(|one| (one.id.as_str(), one.size, one.usage_count)).collect();
    assert_eq!(told, [("one", 9, 3), ("two", 9, 3)]);
    let request = PruneRequest { filter: vec!["id==two".to_owned()], ..PruneRequest::default() };
    let mut gone = client.control().prune(request).await.unwrap().into_inner();
    assert_eq!(gone.message().await.unwrap().unwrap().id, "two");
    assert!(gone.message().await.unwrap().is_none());
    let request = DiskUsageRequest { filter: vec!["label=x".to_owned()], ..DiskUsageRequest::default() };
    let refused = client.control().disk_usage(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test]
async fn failures_reach_the_client() {
    let world = dockerfile("FROM scratch\nFAIL\n");
    let client = world.client("key").await;
    let request = SolveRequest { frontend: "dockerfile.v0".to_owned(), ..solve(&client) };
    let status = client.control().solve(request).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "this one fails"));

    // What the client says came of it is the build's end.
    let (mut control, request) =
        (client.control(), SolveRequest { r#ref: "other".to_owned(), ..solve(&client) });
    let solving = tokio::spawn(async move { control.solve(request).await });
    let error = rpc::Status { code: 3, message: "as the client likes".to_owned(), details: vec![] };
    let mut returned = Request::new(ReturnRequest { result: None, error: Some(error) });
    returned.metadata_mut().insert("buildkit-controlapi-buildid", "other".parse().unwrap());
    client.gateway().r#return(returned).await.unwrap();
    let status = solving.await.unwrap().unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "as the client likes"));

    // A Dockerfile that is not there.
    let frontend_attrs = options(&[("filename", "other.Dockerfile")]);
    let request = SolveRequest {
        frontend: "dockerfile.v0".to_owned(),
        frontend_attrs,
        r#ref: "third".to_owned(),
        ..solve(&client)
    };
    let status = client.control().solve(request).await.unwrap_err();
    assert!(status.message().contains("open other.Dockerfile: no such file"), "{status}");
}

#[tokio::test]
async fn a_build_ends_with_its_client() {
    let world = dockerfile("FROM scratch\nWAIT\n");
    let client = world.client("key").await;
    let (mut control, request) =
        (client.control(), SolveRequest { frontend: "dockerfile.v0".to_owned(), ..solve(&client) });
    let solving = tokio::spawn(async move { control.solve(request).await });
    world.builder.waiting().await;
    // The call is given up: the builder's future is dropped.
    solving.abort();
    world.builder.dropped().await;

    let (mut control, request) = (
        client.control(),
        SolveRequest { frontend: "dockerfile.v0".to_owned(), r#ref: "again".to_owned(), ..solve(&client) },
    );
    let solving = tokio::spawn(async move { control.solve(request).await });
    world.builder.waiting().await;
    // So it is when the session goes.
    client.end_session();
    let status = solving.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Cancelled, "{status}");
    world.builder.dropped().await;
}

fn exporter(kind: &str, attrs: &[(&str, &str)]) -> Exporter {
    Exporter { r#type: kind.to_owned(), attrs: options(attrs) }
}

#[tokio::test]
async fn archives_reach_the_client_and_what_breaks_them_is_told() {
    let world = dockerfile("FROM scratch\n");
    let client = world.client("key").await;
    let request = |name: &str, exporters| SolveRequest {
        frontend: "dockerfile.v0".to_owned(),
        r#ref: name.to_owned(),
        exporters,
        ..solve(&client)
    };
    let exporters = vec![exporter("moby", &[("name", "a")]), exporter("oci", &[])];
    let told = client.control().solve(request("one", exporters)).await.unwrap().into_inner();
    assert_eq!(told.exporter_response["image.name"], "a:latest");
    assert_eq!(client.taken()["1 b"], "first second");
    let exporters = vec![exporter("oci", &[("name", "breaks")])];
    let status = client.control().solve(request("two", exporters)).await.unwrap_err();
    assert!(status.message().contains("it broke"), "{status}");
}

#[tokio::test]
async fn files_reach_the_client() {
    let mut world = dockerfile("FROM scratch\n");
    world.takes_files = true;
    fs::write(world.context().join("b"), vec![b'x'; 100_000]).unwrap();
    fs::write(world.context().join("a"), "small").unwrap();
    fs::write(world.context().join("empty"), "").unwrap();
    let client = world.client("key").await;
    let request = SolveRequest {
        frontend: "dockerfile.v0".to_owned(),
        exporters: vec![exporter("local", &[])],
        ..solve(&client)
    };
    client.control().solve(request).await.unwrap();
    let taken = client.taken();
    assert!(taken.contains_key("755 linux_amd64"), "{taken:?}");
    assert_eq!(taken["644 linux_amd64/a"], "small");
    assert_eq!(taken["644 linux_amd64/b"], "100000 bytes");
    assert_eq!(taken["644 linux_amd64/empty"], "");
    assert_eq!(taken["644 linux_amd64/note.json"], "70000 bytes");
}

#[tokio::test]
async fn secrets_are_given_to_who_asks() {
    let world = dockerfile("FROM scratch\nSECRET key\nSECRET none\n");
    let client = world.client("key").await;
    let request = SolveRequest { frontend: "dockerfile.v0".to_owned(), ..solve(&client) };
    client.control().solve(request).await.unwrap();
    let mut told =
        client.control().status(StatusRequest { r#ref: BUILD.to_owned() }).await.unwrap().into_inner();
    let mut output = String::new();
    while let Some(message) = told.message().await.unwrap() {
        output.extend(message.logs.iter().map(|log| String::from_utf8_lossy(&log.msg).into_owned()));
    }
    assert!(output.contains("key is s3cret") && output.contains("none is not there"), "{output}");
}

#[tokio::test]
async fn a_session_may_come_inside_a_call() {
    let world = dockerfile("FROM scratch\n");
    let client = world.client_inside_a_call("key").await;
    let request = SolveRequest { frontend: "dockerfile.v0".to_owned(), ..solve(&client) };
    let response = client.control().solve(request).await.unwrap().into_inner().exporter_response;
    assert!(response.contains_key("containerimage.digest"));
}

#[tokio::test]
async fn what_is_not_there_is_refused_by_name() {
    let world = dockerfile("FROM scratch\n");
    let client = world.client("key").await;
    let entry = || vec![CacheOptionsEntry { r#type: "gha".to_owned(), ..CacheOptionsEntry::default() }];
    let definition = Some(pb::Definition { def: vec![vec![1]], ..pb::Definition::default() });
    for (number, (request, words)) in [
        (SolveRequest { definition, ..solve(&client) }, "LLB"),
        (SolveRequest { frontend: "gateway.v0".to_owned(), ..solve(&client) }, "gateway.v0"),
        (
            SolveRequest {
                cache: Some(CacheOptions { exports: entry(), ..Default::default() }),
                ..solve(&client)
            },
            "gha",
        ),
        (
            SolveRequest {
                cache: Some(CacheOptions { imports: entry(), ..Default::default() }),
                ..solve(&client)
            },
            "gha",
        ),
        (
            SolveRequest { entitlements: vec!["device".to_owned()], ..solve(&client) },
            "the entitlement device",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let request = SolveRequest { r#ref: format!("build-{number}"), ..request };
        let status = client.control().solve(request).await.unwrap_err();
        assert!(status.code() == Code::Unimplemented && status.message().contains(words), "{status}");
    }
    let host = SolveRequest {
        frontend: "dockerfile.v0".to_owned(),
        frontend_attrs: options(&[("force-network-mode", "host")]),
        r#ref: "host".to_owned(),
        ..solve(&client)
    };
    let status = client.control().solve(host).await.unwrap_err();
    assert!(status.message().contains("--allow network.host"), "{status}");
}

#[tokio::test]
async fn who_builds_is_told() {
    let world = World::new();
    let client = world.client("key").await;
    let info = client.control().info(InfoRequest {}).await.unwrap().into_inner();
    assert!(info.buildkit_version.unwrap().version.starts_with('v'));
    let workers =
        client.control().list_workers(ListWorkersRequest { filter: vec![] }).await.unwrap().into_inner();
    assert_eq!(workers.record[0].platforms[0].os, "linux");
    let status = client.gateway().ping(PingRequest {}).await.unwrap_err();
    assert!(status.message().contains("buildkit-controlapi-buildid"));
    let empty = ReturnRequest { result: Some(Solved::default()), error: None };
    let (mut control, request) = (client.control(), SolveRequest { exporters: vec![], ..solve(&client) });
    let solving = tokio::spawn(async move { control.solve(request).await });
    client.gateway().r#return(of_build(empty)).await.unwrap();
    assert!(solving.await.unwrap().unwrap().into_inner().exporter_response.is_empty());
}
