//! Builds that there were, as a client asks about them that has not built them.

use bollard_buildkit_proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryEventType as Kind, BuildHistoryRequest, SolveRequest, StatusRequest,
    UpdateBuildHistoryRequest,
};
use tonic::Code;

use crate::client::Client;
use crate::{BUILD, dockerfile, options, solve};

fn asked(early_exit: bool) -> BuildHistoryRequest {
    BuildHistoryRequest { early_exit, ..BuildHistoryRequest::default() }
}

async fn all(client: &Client, request: BuildHistoryRequest) -> Vec<BuildHistoryEvent> {
    let told = client.control().listen_build_history(request).await;
    let mut told = told.expect("a history").into_inner();
    let mut events = Vec::new();
    while let Some(event) = told.message().await.expect("an event") {
        events.push(event);
    }
    events
}

fn build(client: &Client, filename: &str) -> SolveRequest {
    SolveRequest {
        frontend: "dockerfile.v0".to_owned(),
        frontend_attrs: options(&[("filename", filename), ("target", "")]),
        ..solve(client)
    }
}

#[tokio::test]
async fn builds_are_told_of_to_whoever_asks() {
    let world = dockerfile("FROM scratch\n");
    let (client, other) = (world.client("key").await, world.client("other").await);
    let mut coming = other.control().listen_build_history(asked(false)).await.unwrap();
    assert!(coming.metadata().get("buildkit-current-timestamp").is_some());
    assert!(all(&other, asked(true)).await.is_empty());
    client.control().solve(SolveRequest { internal: true, ..build(&client, "Dockerfile") }).await.unwrap();
    let named = |name: &str| SolveRequest { r#ref: name.to_owned(), ..build(&client, "Dockerfile") };
    client.control().solve(named("second")).await.unwrap();
    let failing = SolveRequest { r#ref: "third".to_owned(), ..build(&client, "nothing") };
    assert!(client.control().solve(failing).await.is_err());

    let events = all(&other, asked(true)).await;
    let names: Vec<_> = events.iter().map(|event| event.record.as_ref().unwrap().r#ref.as_str()).collect();
    assert_eq!(names, ["second", "third"], "what is a client's own affair is not told");
    let record = events[0].record.clone().unwrap();
    assert_eq!(
        (record.frontend.as_str(), record.frontend_attrs["filename"].as_str()),
        ("dockerfile.v0", "Dockerfile")
    );
    assert!(record.exporter_response["containerimage.digest"].starts_with("sha256:"));
    assert!(record.completed_at.is_some() && record.error.is_none() && record.num_total_steps > 0);
    // The builder of these tests leaves a step of its own open.
    assert_eq!((record.num_completed_steps, record.exporters.len()), (record.num_total_steps - 1, 1));
    let failed = BuildHistoryRequest { filter: vec!["status==error".to_owned()], ..asked(true) };
    let events = all(&other, failed).await;
    let error = events[0].record.clone().unwrap().error.unwrap();
    assert!(events.len() == 1 && error.message.contains("no such file"), "{events:?}");

    // What it told can be had as often as it is wanted, at once. The first to ask is who has built it.
    for _ in 0..3 {
        let request = StatusRequest { r#ref: "second".to_owned() };
        let mut told = other.control().status(request).await.unwrap().into_inner();
        let mut names = Vec::new();
        while let Some(message) = told.message().await.unwrap() {
            names.extend(message.vertexes.into_iter().map(|vertex| vertex.name));
        }
        assert!(names.iter().any(|name| name.contains("load build definition")), "{names:?}");
    }

    let delete =
        |name: &str| UpdateBuildHistoryRequest { r#ref: name.to_owned(), delete: true, ..Default::default() };
    other.control().update_build_history(delete("second")).await.unwrap();
    let gone = other.control().update_build_history(delete("second")).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    let kinds = [
        (Kind::Started, "second"),
        (Kind::Complete, "second"),
        (Kind::Started, "third"),
        (Kind::Complete, "third"),
        (Kind::Deleted, "second"),
    ];
    for (kind, name) in kinds {
        let event = coming.get_mut().message().await.unwrap().unwrap();
        assert_eq!((event.r#type, event.record.unwrap().r#ref.as_str()), (kind.into(), name));
    }
    let wrong = BuildHistoryRequest { filter: vec!["colour==red".to_owned()], ..asked(true) };
    let refused = other.control().listen_build_history(wrong).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(all(&other, asked(true)).await.iter().all(|event| event.record.as_ref().unwrap().r#ref != BUILD));
}

#[tokio::test]
async fn a_build_whose_client_has_gone_is_told_as_canceled() {
    let world = dockerfile("FROM scratch\n");
    let (client, other) = (world.client("key").await, world.client("other").await);
    // It waits for what its client makes of it, which never comes.
    let mut coming = other.control().listen_build_history(asked(false)).await.unwrap().into_inner();
    let (mut control, request) = (client.control(), solve(&client));
    let solving = tokio::spawn(async move { control.solve(request).await });
    let begun = coming.message().await.unwrap().unwrap();
    assert_eq!(begun.r#type, i32::from(Kind::Started));
    solving.abort();
    let ended = coming.message().await.unwrap().unwrap();
    let error = ended.record.unwrap().error.unwrap();
    assert!(error.message.contains("context canceled"), "{error:?}");
}
