//! Our client, called by an engine that does not mean well: it gives what the user has given, and writes where the user has said.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends, and says where")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::GetSecretRequest;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_client::SecretsClient;
use bollard_buildkit_proto::moby::filesync::packet::file_send_client::FileSendClient as FilesClient;
use bollard_buildkit_proto::moby::filesync::v1::file_send_client::FileSendClient as BytesClient;
use bollard_buildkit_proto::moby::filesync::v1::file_sync_client::FileSyncClient;
use bollard_buildkit_proto::moby::filesync::v1::{BytesMessage, CredentialsRequest, auth_client};
use bollard_buildkit_proto::moby::sshforward::v1::CheckAgentRequest;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_client::SshClient;
use buildkit::client::{Answers, Directory, Password, Secret, Session, Taker};
use futures_util::stream;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::client::Once;

const DIRECTORY: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const SECRET: &str = "the canary sings";

/// A client, what it has given, and what it has not.
struct Victim {
    dir: tempfile::TempDir,
}

impl Victim {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (context, outside, out) =
            (dir.path().join("context"), dir.path().join("outside"), dir.path().join("out"));
        for path in [&context, &outside, &out] {
            fs::create_dir(path).unwrap();
        }
        fs::write(outside.join("passwd"), SECRET).unwrap();
        fs::write(context.join("given"), "given").unwrap();
        symlink(outside.join("passwd"), context.join("absolute")).unwrap();
        symlink("../outside/passwd", context.join("relative")).unwrap();
        symlink(&outside, context.join("directory")).unwrap();
        symlink(&outside, out.join("link")).unwrap();
        symlink(outside.join("passwd"), out.join("file")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A channel to it, as an engine has it.
    async fn channel(&self, taker: Option<Taker>) -> Channel {
        let answers = Answers {
            directories: BTreeMap::from([("context".to_owned(), Directory::Disk(self.path("context")))]),
            secrets: BTreeMap::from([("given".to_owned(), Secret::Value(b"word".to_vec()))]),
            agents: BTreeMap::new(),
            passwords: Arc::new(|host| (host == "given.example").then(Password::default)),
            stores: BTreeMap::from([("cache".to_owned(), self.path("store"))]),
            uploads: BTreeMap::new(),
            takers: taker.into_iter().map(|taker| (0, taker)).collect(),
        };
        let (near, far) = tokio::io::duplex(64 << 10);
        tokio::spawn(Session::new("", answers).serve(near));
        Endpoint::from_static("http://client").connect_with_connector(Once::new(far)).await.unwrap()
    }

    fn taker(&self) -> Option<Taker> {
        Some(Taker::Directory(sys::fsx::open_dir(self.path("out")).unwrap()))
    }

    fn check(&self) {
        let outside = self.path("outside");
        assert_eq!(fs::read_to_string(outside.join("passwd")).unwrap(), SECRET);
        assert_eq!(fs::read_dir(outside).unwrap().count(), 1);
        let names: Vec<_> =
            fs::read_dir(self.dir.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert!(names.len() <= 4, "{names:?}");
    }
}

fn packet(kind: PacketType, id: u32, data: &[u8]) -> Packet {
    Packet { r#type: kind.into(), id, data: data.to_vec(), ..Packet::default() }
}

fn entry(path: &str, mode: u32, target: &str) -> Packet {
    let stat = Stat {
        path: path.to_owned(),
        mode,
        linkname: target.to_owned(),
        size: 3,
        mod_time: 1,
        ..Stat::default()
    };
    Packet { stat: Some(stat), ..Packet::default() }
}

/// Asks for files by headers, then for the content of those told of by these numbers; gives all that has come.
async fn files(
    channel: Channel,
    headers: &[(&'static str, &str)],
    ids: &[u32],
) -> Result<Vec<Packet>, Status> {
    let (sender, wanted) = mpsc::channel(8);
    let outgoing = stream::unfold(wanted, async |mut wanted| {
        let packet = wanted.recv().await?;
        Some((packet, wanted))
    });
    let mut request = Request::new(outgoing);
    for (name, value) in headers {
        request.metadata_mut().append(*name, value.parse().unwrap());
    }
    let mut answers = FileSyncClient::new(channel).diff_copy(request).await?.into_inner();
    let mut all = Vec::new();
    let mut ids = ids.iter();
    let mut is_told = false;
    loop {
        let message = tokio::time::timeout(Duration::from_secs(10), answers.message()).await;
        let Some(packet) = message.expect("an answer")? else { return Ok(all) };
        let kind = PacketType::try_from(packet.r#type).unwrap();
        is_told |= kind == PacketType::PacketStat && packet.stat.is_none();
        let is_over = kind == PacketType::PacketErr || kind == PacketType::PacketFin;
        let is_file_over = kind == PacketType::PacketData && packet.data.is_empty();
        let is_last_told = kind == PacketType::PacketStat && packet.stat.is_none();
        all.push(packet);
        if is_over {
            return Ok(all);
        }
        if is_told && (is_last_told || is_file_over) {
            let next = ids.next().map_or(self::packet(PacketType::PacketFin, 0, b""), |id| {
                self::packet(PacketType::PacketReq, *id, b"")
            });
            let _ = sender.send(next).await;
        }
    }
}

fn sings(packets: &[Packet]) -> bool {
    packets.iter().any(|packet| String::from_utf8_lossy(&packet.data).contains(SECRET))
}

#[tokio::test]
async fn files_that_were_not_given_are_not_sent() {
    let victim = Victim::new();
    let outside = victim.path("outside").display().to_string();
    for name in ["", "/", "/etc", "..", "../outside", "dockerfile", &outside] {
        let status = files(victim.channel(None).await, &[("dir-name", name)], &[]).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{name}: {status}");
    }
    let climbing = format!("../../../../../../../../..{outside}/passwd");
    for follow in [
        &climbing,
        "../outside/passwd",
        "../outside",
        &format!("{outside}/passwd"),
        "directory/passwd",
        "*/passwd",
        "absolute",
        "relative",
        "directory/../../outside/passwd",
        "./../outside/*",
        "/proc/self/environ",
    ] {
        let headers = [("dir-name", "context"), ("followpaths", follow)];
        let told = files(victim.channel(None).await, &headers, &[0]).await.unwrap();
        assert!(!sings(&told), "{follow}: {told:?}");
        let names = told.iter().filter_map(|packet| packet.stat.as_ref()).map(|stat| stat.path.as_str());
        for name in names {
            assert!(["absolute", "relative", "directory"].contains(&name), "{follow}: {name}");
        }
    }
    // By number: neither links nor what was not told of.
    let whole = [("dir-name", "context")];
    let told = files(victim.channel(None).await, &whole, &[]).await.unwrap();
    let names: Vec<_> =
        told.iter().filter_map(|one| one.stat.as_ref()).map(|stat| stat.path.clone()).collect();
    assert_eq!(names, ["absolute", "directory", "given", "relative"]);
    for id in [0, 1, 3, 4, u32::MAX] {
        let told = files(victim.channel(None).await, &whole, &[id]).await.unwrap();
        let last = told.last().unwrap();
        assert_eq!(PacketType::try_from(last.r#type), Ok(PacketType::PacketErr), "{id}: {told:?}");
        assert!(!sings(&told));
    }
    // What has become a link since it was told of.
    fs::remove_file(victim.path("context/given")).unwrap();
    fs::write(victim.path("context/given"), "given").unwrap();
    let told = files(victim.channel(None).await, &whole, &[2]).await.unwrap();
    assert!(told.iter().any(|packet| packet.data == b"given"), "{told:?}");
    victim.check();
}

#[tokio::test]
async fn what_was_not_given_is_not_told() {
    let victim = Victim::new();
    let channel = victim.channel(None).await;
    let secret = victim.path("outside/passwd").display().to_string();
    for id in ["", "other", "../outside/passwd", &secret, "GIVEN", "given\0"] {
        let request = GetSecretRequest { id: id.to_owned(), ..GetSecretRequest::default() };
        let status = SecretsClient::new(channel.clone()).get_secret(request).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{id}: {status}");
        let request = CheckAgentRequest { id: id.to_owned() };
        let status = SshClient::new(channel.clone()).check_agent(request).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{id}: {status}");
        let messages = stream::empty::<bollard_buildkit_proto::moby::sshforward::v1::BytesMessage>();
        let mut request = Request::new(messages);
        request.metadata_mut().insert("buildkit.ssh.id", id.replace('\0', "").parse().unwrap());
        let status = SshClient::new(channel.clone()).forward_agent(request).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{id}: {status}");
    }
    for host in ["", "other.example", "given.example.other", "../given.example"] {
        let request = CredentialsRequest { host: host.to_owned() };
        let told =
            auth_client::AuthClient::new(channel.clone()).credentials(request).await.unwrap().into_inner();
        assert!(told.username.is_empty() && told.secret.is_empty(), "{host}");
    }
    victim.check();
}

/// Sends files to it as the result, answers what it asks for, and tells how it ended.
async fn give(channel: Channel, number: &str, packets: Vec<Packet>) -> Result<Vec<Packet>, Status> {
    let (sender, waiting) = mpsc::channel(256);
    for packet in packets {
        sender.send(packet).await.unwrap();
    }
    let outgoing = stream::unfold(waiting, async |mut waiting| {
        let packet = waiting.recv().await?;
        Some((packet, waiting))
    });
    let mut request = Request::new(outgoing);
    request.metadata_mut().insert("buildkit-attachable-exporter-id", number.parse().unwrap());
    let mut answers = FilesClient::new(channel).diff_copy(request).await?.into_inner();
    let mut all = Vec::new();
    loop {
        let message = tokio::time::timeout(Duration::from_secs(10), answers.message()).await;
        let Some(said) = message.expect("an answer")? else { return Ok(all) };
        match PacketType::try_from(said.r#type).unwrap() {
            PacketType::PacketReq => {
                for data in [b"new".as_slice(), b""] {
                    let _ = sender.send(packet(PacketType::PacketData, said.id, data)).await;
                }
            }
            PacketType::PacketFin => {
                let _ = sender.send(packet(PacketType::PacketFin, 0, b"")).await;
            }
            _ => {}
        }
        all.push(said);
    }
}

fn is_refused(said: &Result<Vec<Packet>, Status>) -> bool {
    match said {
        Err(_) => true,
        Ok(all) => all.iter().any(|packet| PacketType::try_from(packet.r#type) == Ok(PacketType::PacketErr)),
    }
}

#[tokio::test]
async fn results_are_written_where_the_user_has_said() {
    let victim = Victim::new();
    let outside = victim.path("outside").display().to_string();
    let directory = |path| entry(path, DIRECTORY | 0o755, "");
    let file = |path: &str| entry(path, 0o644, "");
    let end = Packet::default;
    for packets in [
        vec![file("../outside/new"), end()],
        vec![file(&format!("{outside}/new")), end()],
        vec![file("link/new"), end()],
        vec![file("link/passwd"), end()],
        vec![entry("l", SYMLINK | 0o777, &outside), file("l/new"), end()],
        vec![entry("h", 0o644, "link/passwd"), end()],
        vec![entry("h", 0o644, "file"), end()],
        vec![entry("h", 0o644, "../outside/passwd"), end()],
        vec![entry("dev", 1 << 26 | 0o666, ""), end()],
        vec![directory("d"), directory("d/../.."), end()],
    ] {
        let said = give(victim.channel(victim.taker()).await, "0", packets.clone()).await;
        assert!(is_refused(&said), "{packets:?}: {said:?}");
        victim.check();
    }
    // Onto links that are there, and onto such as it has made itself.
    for packets in [
        vec![directory("link"), file("link/passwd"), end()],
        vec![file("file"), end()],
        vec![entry("made", SYMLINK | 0o777, &outside), end()],
        vec![directory("made"), file("made/passwd"), entry("z", 0o644, "made/passwd"), end()],
    ] {
        let said = give(victim.channel(victim.taker()).await, "0", packets.clone()).await;
        assert!(!is_refused(&said), "{packets:?}: {said:?}");
        victim.check();
    }
    for name in ["link/passwd", "file", "made/passwd", "z"] {
        let path = victim.path("out").join(name);
        assert_eq!(fs::read_to_string(&path).unwrap(), "new", "{name}");
        assert!(!path.is_symlink() && !path.parent().unwrap().is_symlink(), "{name}");
    }
    // Each place is used once, and there are no others.
    let channel = victim.channel(victim.taker()).await;
    for number in ["1", "18446744073709551615"] {
        let said = give(channel.clone(), number, vec![end()]).await;
        assert!(is_refused(&said), "{number}: {said:?}");
    }
    assert!(!is_refused(&give(channel.clone(), "0", vec![end()]).await));
    assert!(is_refused(&give(channel.clone(), "0", vec![file("again"), end()]).await));
    let bytes = || stream::iter([BytesMessage { data: b"x".to_vec() }]);
    assert!(BytesClient::new(channel.clone()).diff_copy(bytes()).await.is_err());
    assert!(!victim.path("out/again").exists());
    victim.check();
}

/// What is read and written of a store.
mod store {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Asked {
        #[prost(string, tag = "1")]
        pub(super) digest: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Put {
        #[prost(int32, tag = "1")]
        pub(super) action: i32,
        #[prost(string, tag = "4")]
        pub(super) expected: String,
        #[prost(bytes = "vec", tag = "6")]
        pub(super) data: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Said {
        #[prost(bytes = "vec", tag = "2")]
        pub(super) data: Vec<u8>,
    }
}

async fn read_blob(channel: Channel, name: &str, digest: &str) -> Result<Vec<u8>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let mut request = Request::new(store::Asked { digest: digest.to_owned() });
    request.metadata_mut().insert("buildkit-attachable-store-id", name.parse().unwrap());
    let codec = tonic_prost::ProstCodec::<store::Asked, store::Said>::default();
    let path = hyper::http::uri::PathAndQuery::from_static("/containerd.services.content.v1.Content/Read");
    let mut answers = grpc.server_streaming(request, path, codec).await?.into_inner();
    let mut all = Vec::new();
    while let Some(said) = answers.message().await? {
        all.extend(said.data);
    }
    Ok(all)
}

async fn write_blob(channel: Channel, name: &str, digest: &str) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let put = store::Put { action: 2, expected: digest.to_owned(), data: b"wrong".to_vec() };
    let mut request = Request::new(stream::iter([put]));
    request.metadata_mut().insert("buildkit-attachable-store-id", name.parse().unwrap());
    let codec = tonic_prost::ProstCodec::<store::Put, store::Said>::default();
    let path = hyper::http::uri::PathAndQuery::from_static("/containerd.services.content.v1.Content/Write");
    let mut answers = grpc.streaming(request, path, codec).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

fn files_below(path: &Path) -> usize {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    entries.flatten().map(|one| if one.path().is_dir() { files_below(&one.path()) } else { 1 }).sum()
}

#[tokio::test]
async fn stores_are_read_and_written_by_digests_alone() {
    let victim = Victim::new();
    let channel = victim.channel(None).await;
    let zeros = format!("sha256:{}", "0".repeat(64));
    for digest in ["", "sha256:", "sha256:../../../outside/passwd", "../outside/passwd", "sha512:..", &zeros]
    {
        for name in ["cache", "", "other", "../outside"] {
            assert!(read_blob(channel.clone(), name, digest).await.is_err(), "{name} {digest}");
            assert!(write_blob(channel.clone(), name, digest).await.is_err(), "{name} {digest}");
        }
    }
    // Nothing of what was wrong is left.
    assert_eq!(files_below(&victim.path("store")), 0);
    victim.check();
}
