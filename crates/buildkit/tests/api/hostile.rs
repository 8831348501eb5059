//! Clients that do not mean well: what they send is refused in words, what they do not send is not waited for without end, and nobody else
//! notices.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends, and says where")]

use std::fs;
use std::time::Duration;

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::moby::buildkit::v1::SolveRequest;
use tonic::{Code, Status};

use crate::client::{Client, Lie, World};
use crate::takes::Manner;
use crate::{dockerfile, exporter, options, solve};

const DIRECTORY: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
/// Longer than anything that stands still is waited for.
const LONG: Duration = Duration::from_secs(601);

fn entry(path: &str, mode: u32, target: &str) -> Packet {
    let stat = Stat {
        path: path.to_owned(),
        mode,
        linkname: target.to_owned(),
        size: 1,
        mod_time: 1,
        ..Stat::default()
    };
    Packet { stat: Some(stat), ..Packet::default() }
}

fn packet(kind: PacketType, id: u32, data: &[u8]) -> Packet {
    Packet { r#type: kind.into(), id, data: data.to_vec(), ..Packet::default() }
}

fn asked(client: &Client, name: &str) -> SolveRequest {
    SolveRequest { frontend: "dockerfile.v0".to_owned(), r#ref: name.to_owned(), ..solve(client) }
}

/// Builds as somebody else who means well, in the same world and with the same key.
async fn an_honest_build_works(world: &mut World, name: &str) {
    (world.lie, world.manner) = (None, Manner::Honest);
    let client = world.client("web:node").await;
    client.control().solve(asked(&client, name)).await.unwrap();
}

#[tokio::test]
async fn contexts_that_lie_are_refused_and_reach_nothing() {
    let mut world = dockerfile("FROM scratch\n");
    let above = world.context().parent().unwrap().to_owned();
    fs::write(above.join("canary"), "sings").unwrap();
    let outside = above.display().to_string();
    let up = format!("../../../../../../../../..{outside}/canary");
    let directory = |path| entry(path, DIRECTORY | 0o755, "");
    let file = |path: &str| entry(path, 0o644, "");
    let long = "n".repeat(256);
    let deep = vec!["d"; 600].join("/");
    let end = Packet::default;
    let content = |id| [packet(PacketType::PacketData, id, b"x"), packet(PacketType::PacketData, id, b"")];
    let all = [
        vec![file("../canary")],
        vec![file(&up)],
        vec![file(&format!("{outside}/canary"))],
        vec![file("a\0b")],
        vec![file("a//b")],
        vec![file("")],
        vec![file(&long)],
        vec![file(&deep)],
        vec![entry("l", SYMLINK | 0o777, &outside), file("l/canary")],
        vec![entry("l", SYMLINK | 0o777, &outside), directory("l"), file("l/canary")],
        vec![entry("l", SYMLINK | 0o777, "x\0y")],
        vec![entry("h", 0o644, "../canary"), end()],
        vec![entry("h", 0o644, &format!("{outside}/canary")), end()],
        vec![entry("l", SYMLINK | 0o777, &outside), entry("m", 0o644, "l/canary"), end()],
        vec![entry("l", SYMLINK | 0o777, &outside), entry("m", 0o644, "l"), end()],
        vec![entry("m", 0o644, "nowhere"), end()],
        vec![entry("null", DEVICE | 0o666, "")],
        vec![entry("console", DEVICE | 1 << 21 | 0o666, "")],
        vec![entry("odd", 1 << 19, "")],
        vec![file("a"), file("a")],
        vec![directory("d"), directory("e"), file("d/x")],
        vec![file("d/x")],
        vec![file("d"), file("d/x")],
        vec![end(), file("late")],
        vec![end(), end()],
        vec![packet(PacketType::PacketData, 7, b"x")],
        vec![file("a"), end(), packet(PacketType::PacketData, 1, b"x")],
        [vec![file("a"), end()], content(0).to_vec(), content(0).to_vec()].concat(),
        vec![packet(PacketType::PacketFin, 0, b"")],
        vec![packet(PacketType::PacketReq, 0, b"")],
        vec![packet(PacketType::PacketErr, 0, b"\x1b]0;gotcha\x07")],
        vec![Packet { r#type: 99, ..Packet::default() }],
        // It ends before all is there.
        vec![file("a")],
        vec![],
    ];
    for (number, packets) in all.into_iter().enumerate() {
        world.lie = Some(Lie::new(packets, false));
        let client = world.client("web:node").await;
        let status = client.control().solve(asked(&client, &format!("lie {number}"))).await.unwrap_err();
        assert!(!status.message().is_empty() && status.code() == Code::Unknown, "{number}: {status}");
        assert_eq!(fs::read_to_string(above.join("canary")).unwrap(), "sings", "{number}");
        assert_eq!(fs::read_dir(&above).unwrap().count(), 3, "{number}");
    }
    an_honest_build_works(&mut world, "honest").await;
}

/// Builds that wait for a client that does nothing, after it was asked for its files.
async fn stuck(
    world: &mut World,
    name: &str,
    count: u32,
) -> (Client, Vec<tokio::task::JoinHandle<Result<(), Status>>>) {
    let lie = Lie::new(vec![entry("a", 0o644, "")], true);
    let asks = lie.asked.clone();
    world.lie = Some(lie);
    let client = world.client("").await;
    let builds = (0..count).map(|number| {
        let (mut control, request) = (client.control(), asked(&client, &format!("{name} {number}")));
        tokio::spawn(async move { control.solve(request).await.map(|_| ()) })
    });
    let builds = builds.collect();
    asks.acquire_many(count.min(24)).await.unwrap().forget();
    (client, builds)
}

#[tokio::test]
async fn who_sends_nothing_is_given_up() {
    let mut world = dockerfile("FROM scratch\n");
    let (_client, mut builds) = stuck(&mut world, "stuck", 1).await;
    tokio::time::pause();
    tokio::time::advance(LONG).await;
    let status = builds.remove(0).await.unwrap().unwrap_err();
    assert!(status.message().contains("has not moved for 600 s"), "{status}");
    tokio::time::resume();
    an_honest_build_works(&mut world, "honest").await;
}

#[tokio::test]
async fn who_waits_for_a_silent_client_can_give_up() {
    let mut world = dockerfile("FROM scratch\n");
    // As many as there are places, and some that wait for one.
    let (_client, builds) = stuck(&mut world, "first", 30).await;
    for build in &builds {
        build.abort();
    }
    an_honest_build_works(&mut world, "honest").await;
    // So it is when the client goes.
    let (client, builds) = stuck(&mut world, "second", 30).await;
    client.end_session();
    for build in builds {
        let status = build.await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Cancelled, "{status}");
    }
    an_honest_build_works(&mut world, "honest too").await;
}

#[tokio::test]
async fn results_that_nobody_takes_are_not_offered_for_ever() {
    let mut world = dockerfile("FROM scratch\n");
    for (kind, takes_files) in [("local", true), ("oci", false)] {
        (world.takes_files, world.manner) = (takes_files, Manner::Silent);
        // More than fits into what may be on its way.
        fs::write(world.context().join("big"), vec![b'x'; 3 << 20]).unwrap();
        let client = world.client("").await;
        let request = SolveRequest { exporters: vec![exporter(kind, &[])], ..asked(&client, kind) };
        let mut control = client.control();
        let mut solving = tokio::spawn(async move { control.solve(request).await });
        let early = tokio::time::timeout(Duration::from_secs(1), &mut solving).await;
        assert!(early.is_err(), "{early:?}");
        tokio::time::pause();
        tokio::time::advance(LONG).await;
        let status = solving.await.unwrap().unwrap_err();
        assert!(status.message().contains("the result has not moved for 600 s"), "{status}");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn who_takes_results_wrongly_is_told() {
    let mut world = dockerfile("FROM scratch\n");
    world.takes_files = true;
    for (manner, words) in [(Manner::AsksWrong, "file 77 is asked for"), (Manner::Refuses, "no room")] {
        world.manner = manner;
        let client = world.client("").await;
        let request = SolveRequest {
            exporters: vec![exporter("local", &[])],
            ..asked(&client, &format!("{manner:?}"))
        };
        let status = client.control().solve(request).await.unwrap_err();
        assert!(status.message().contains(words), "{status}");
    }
}

#[tokio::test]
async fn secrets_are_bounded_and_not_waited_for_without_end() {
    for (id, words) in [("large", "is larger than 512000 bytes"), ("vast", "message length too large")] {
        let world = dockerfile(&format!("FROM scratch\nSECRET {id}\n"));
        let client = world.client("").await;
        let status = client.control().solve(asked(&client, id)).await.unwrap_err();
        assert!(status.message().contains(words), "{status}");
    }
    let world = dockerfile("FROM scratch\nSECRET never\n");
    let client = world.client("").await;
    let (mut control, request) = (client.control(), asked(&client, "never"));
    let mut solving = tokio::spawn(async move { control.solve(request).await });
    let early = tokio::time::timeout(Duration::from_secs(1), &mut solving).await;
    assert!(early.is_err(), "{early:?}");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    let status = solving.await.unwrap().unwrap_err();
    assert!(status.message().contains("the secret never has not come within 60 s"), "{status}");
}

#[tokio::test]
async fn there_are_only_so_many_sessions_each_of_its_own_name() {
    let mut world = dockerfile("FROM scratch\n");
    let client = world.client("").await;
    let (_end, taken) = world.session(&client.session);
    assert!(taken.await.unwrap().unwrap_err().to_string().contains("is there already"));
    // The first one is not disturbed.
    client.control().solve(asked(&client, "one")).await.unwrap();
    let mut held = Vec::new();
    for number in 1..256 {
        held.push(world.session(&format!("held {number}")));
    }
    let (_end, refused) = world.session("one more");
    assert!(refused.await.unwrap().unwrap_err().to_string().contains("already 256 sessions"));
    client.control().solve(asked(&client, "two")).await.unwrap();
    for (end, serving) in held {
        drop(end);
        let _ = serving.await.unwrap();
    }
    an_honest_build_works(&mut world, "honest").await;
}

#[tokio::test]
async fn messages_are_bounded() {
    let mut world = dockerfile("FROM scratch\n");
    let client = world.client("").await;
    let frontend_attrs = options(&[("build-arg:A", &"x".repeat(17 << 20))]);
    let status =
        client.control().solve(SolveRequest { frontend_attrs, ..asked(&client, "vast") }).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    for name in [String::new(), "n".repeat(1 << 20)] {
        let status = client.control().solve(asked(&client, &name)).await.unwrap_err();
        assert!(status.message().contains("a build needs a name"), "{status}");
    }
    // One name is one build.
    let (_client, builds) = stuck(&mut world, "stuck", 1).await;
    let status = client.control().solve(asked(&client, "stuck 0")).await.unwrap_err();
    assert!(status.message().contains("is there already"), "{status}");
    builds[0].abort();
    an_honest_build_works(&mut world, "honest").await;
}
