//! A client: it calls, and answers calls on its session.

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::{Secrets, SecretsServer};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard_buildkit_proto::moby::buildkit::v1::BytesMessage;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_client::LlbBridgeClient;
use bollard_buildkit_proto::moby::filesync::packet::file_send_server::FileSendServer as FilesServer;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::FileSendServer as BytesServer;
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::{FileSync, FileSyncServer};
use buildkit::{Introduction, Kept, Service};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use hyper::HeaderMap;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Response, Status, Streaming};

use crate::builder::Double;
use crate::takes::{Manner, Taken};

const BYTES: usize = 64 << 10;

/// An engine and the directory of a client.
pub(crate) struct World {
    dir: tempfile::TempDir,
    service: Arc<Service>,
    pub(crate) builder: Arc<Double>,
    sessions: AtomicU64,
    pub(crate) takes_files: bool,
    /// How results are taken.
    pub(crate) manner: Manner,
    /// What is sent instead of the context, and whether the stream goes on then.
    pub(crate) lie: Option<Lie>,
}

/// What a client sends instead of its context.
#[derive(Clone)]
pub(crate) struct Lie {
    pub(crate) packets: Vec<Packet>,
    pub(crate) goes_on: bool,
    /// Counts who has asked.
    pub(crate) asked: Arc<tokio::sync::Semaphore>,
}

impl Lie {
    pub(crate) fn new(packets: Vec<Packet>, goes_on: bool) -> Self {
        Self { packets, goes_on, asked: Arc::new(tokio::sync::Semaphore::new(0)) }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("the client works");
        std::fs::create_dir(dir.path().join("client")).expect("the client works");
        let kept = Kept::open(&dir.path().join("kept"));
        let builder = Double::new();
        let service = Service::new(Arc::clone(&builder) as _, kept, CancellationToken::new());
        Self {
            dir,
            service,
            builder,
            sessions: AtomicU64::new(0),
            takes_files: false,
            manner: Manner::Honest,
            lie: None,
        }
    }

    /// What the client builds.
    pub(crate) fn context(&self) -> PathBuf {
        self.dir.path().join("client")
    }

    /// A session that is opened, and whose other end does nothing.
    pub(crate) fn session(&self, id: &str) -> (DuplexStream, tokio::task::JoinHandle<buildkit::Result<()>>) {
        let (near, far) = tokio::io::duplex(BYTES);
        let mut headers = HeaderMap::new();
        headers.insert("x-docker-expose-session-uuid", id.parse().expect("the client works"));
        let introduction = Introduction::read(&headers).expect("the client works");
        let service = Arc::clone(&self.service);
        let serving = tokio::spawn(async move {
            service.sessions().serve(far, introduction, &CancellationToken::new()).await
        });
        (near, serving)
    }

    /// A client with a session of its own connection.
    pub(crate) async fn client(&self, key: &str) -> Client {
        self.client_that_offers(key, &[]).await
    }

    /// A client that offers directories, by the headers for them.
    pub(crate) async fn client_that_offers(&self, key: &str, offers: &[String]) -> Client {
        let client = self.without_session().await;
        let (near, far) = tokio::io::duplex(BYTES);
        let mut headers = client.headers(key);
        for offer in offers {
            headers.append(buildkit::handover::HEADER, offer.parse().expect("the client works"));
        }
        let mut introduction = Introduction::read(&headers).expect("the client works");
        introduction.take_directories(sys::process::pidfd(sys::process::id()).expect("the client works"));
        let service = Arc::clone(&self.service);
        tokio::spawn(async move {
            let _ = service.sessions().serve(far, introduction, &CancellationToken::new()).await;
        });
        client.answer(near);
        client
    }

    /// A client whose session comes inside a call.
    pub(crate) async fn client_inside_a_call(&self, key: &str) -> Client {
        let client = self.without_session().await;
        let (near, far) = tokio::io::duplex(BYTES);
        let (mut from, mut to) = tokio::io::split(far);
        let (sender, receiver) = mpsc::channel::<BytesMessage>(8);
        tokio::spawn(async move {
            let mut buffer = vec![0; BYTES];
            while let Ok(length @ 1..) = from.read(&mut buffer).await {
                if sender.send(BytesMessage { data: buffer[..length].to_vec() }).await.is_err() {
                    break;
                }
            }
        });
        let outgoing = stream::unfold(receiver, async |mut receiver| {
            let message = receiver.recv().await?;
            Some((message, receiver))
        });
        let mut request = Request::new(outgoing);
        *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(client.headers(key));
        let mut incoming = client.control().session(request).await.expect("the client works").into_inner();
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                if to.write_all(&message.data).await.is_err() {
                    break;
                }
            }
        });
        client.answer(near);
        client
    }

    async fn without_session(&self) -> Client {
        let (near, far) = tokio::io::duplex(BYTES);
        let service = Arc::clone(&self.service);
        tokio::spawn(async move {
            let _ = buildkit::serve(far, service).await;
        });
        let endpoint = Endpoint::from_static("http://engine");
        let channel = endpoint.connect_with_connector(Once(Some(near))).await.expect("the client works");
        Client {
            session: format!("session-{}", self.sessions.fetch_add(1, Ordering::Relaxed)),
            channel,
            files: Files { root: self.context(), sent: Arc::default(), lie: self.lie.clone() },
            taken: Taken::new(self.manner),
            takes_files: self.takes_files,
            end: CancellationToken::new(),
        }
    }
}

/// Gives the one connection that there is.
pub(crate) struct Once(Option<DuplexStream>);

impl Once {
    pub(crate) fn new(stream: DuplexStream) -> Self {
        Self(Some(stream))
    }
}

impl tower_service::Service<Uri> for Once {
    type Response = TokioIo<DuplexStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        ready(self.0.take().map(TokioIo::new).ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

/// A client.
pub(crate) struct Client {
    pub(crate) session: String,
    channel: Channel,
    files: Files,
    taken: Taken,
    takes_files: bool,
    end: CancellationToken,
}

impl Client {
    pub(crate) fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone())
    }

    pub(crate) fn gateway(&self) -> LlbBridgeClient<Channel> {
        LlbBridgeClient::new(self.channel.clone())
    }

    /// Bytes of content that were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.files.sent.load(Ordering::Relaxed)
    }

    /// What was given to it.
    pub(crate) fn taken(&self) -> std::collections::BTreeMap<String, String> {
        self.taken.all()
    }

    /// Closes the session's connection.
    pub(crate) fn end_session(&self) {
        self.end.cancel();
    }

    fn headers(&self, key: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-docker-expose-session-uuid", self.session.parse().expect("the client works"));
        headers.insert("x-docker-expose-session-sharedkey", key.parse().expect("the client works"));
        for method in [
            "/moby.filesync.v1.FileSync/DiffCopy",
            "/moby.filesync.v1.FileSend/DiffCopy",
            "/moby.buildkit.secrets.v1.Secrets/GetSecret",
        ] {
            headers.append("x-docker-expose-session-grpc-method", method.parse().expect("the client works"));
        }
        headers
    }

    /// Answers calls on a connection.
    fn answer(&self, stream: DuplexStream) {
        let routes =
            Routes::new(FileSyncServer::new(self.files.clone())).add_service(SecretsServer::new(Keys));
        // One method, of which the output decides what it is sent.
        let routes = if self.takes_files {
            routes.add_service(FilesServer::new(self.taken.clone()))
        } else {
            routes.add_service(BytesServer::new(self.taken.clone()))
        };
        let connection = http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
        let end = self.end.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = connection => {}
                () = end.cancelled() => {}
            }
        });
    }
}

/// Secrets: there is one.
struct Keys;

#[tonic::async_trait]
impl Secrets for Keys {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        match request.into_inner().id.as_str() {
            "large" => Ok(Response::new(GetSecretResponse { data: vec![b'x'; (500 << 10) + 1] })),
            "vast" => Ok(Response::new(GetSecretResponse { data: vec![b'x'; 5 << 20] })),
            "never" => std::future::pending().await,
            "key" => Ok(Response::new(GetSecretResponse { data: b"s3cret".to_vec() })),
            other => Err(Status::not_found(format!("secret {other} not found"))),
        }
    }
}

/// Sends the files of one directory, all that are not excluded by name.
#[derive(Clone)]
struct Files {
    root: PathBuf,
    sent: Arc<AtomicU64>,
    lie: Option<Lie>,
}

#[tonic::async_trait]
impl FileSync for Files {
    type DiffCopyStream = BoxStream<'static, Result<Packet, Status>>;
    type TarStreamStream = BoxStream<'static, Result<Packet, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let all = |name: &str| -> Vec<String> {
            let values = request.metadata().get_all(name);
            values.iter().map(|value| value.to_str().expect("the client works").to_owned()).collect()
        };
        let (follow, exclude) = (all("followpaths"), all("exclude-patterns"));
        let dirs = all("dir-name");
        if !["context", "dockerfile"].contains(&dirs[0].as_str()) {
            return Err(Status::not_found(format!("no access allowed to dir {:?}", dirs[0])));
        }
        if let Some(lie) = self.lie.clone().filter(|_| follow.is_empty()) {
            let lies = stream::iter(lie.packets.into_iter().map(Ok));
            lie.asked.add_permits(1);
            let mut wanted = request.into_inner();
            let rest = async move {
                if lie.goes_on {
                    // Whatever is asked is not answered.
                    while let Ok(Some(_)) = wanted.message().await {}
                    std::future::pending::<()>().await;
                }
                None
            };
            return Ok(Response::new(Box::pin(
                lies.chain(stream::once(rest).filter_map(|end| async { end })),
            )));
        }
        let is_wanted =
            |name: &String| (follow.is_empty() || follow.contains(name)) && !exclude.contains(name);
        let mut names: Vec<String> = std::fs::read_dir(&self.root)
            .expect("the client works")
            .map(|entry| {
                entry.expect("the client works").file_name().into_string().expect("the client works")
            })
            .filter(is_wanted)
            .collect();
        names.sort();
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(send(self.root.clone(), names, request.into_inner(), sender, Arc::clone(&self.sent)));
        let outgoing = stream::unfold(receiver, async |mut receiver| {
            let packet = receiver.recv().await?;
            Some((Ok(packet), receiver))
        });
        Ok(Response::new(Box::pin(outgoing)))
    }

    async fn tar_stream(
        &self,
        _request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("tar"))
    }
}

fn stat(root: &Path, name: &str) -> Packet {
    let metadata = std::fs::metadata(root.join(name)).expect("the client works");
    let stat = Stat {
        path: name.to_owned(),
        mode: metadata.mode() & 0o777,
        size: i64::try_from(metadata.size()).expect("the client works"),
        mod_time: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
        xattrs: HashMap::new(),
        ..Stat::default()
    };
    Packet { stat: Some(stat), ..Packet::default() }
}

async fn send(
    root: PathBuf,
    names: Vec<String>,
    mut wanted: Streaming<Packet>,
    sender: mpsc::Sender<Packet>,
    sent: Arc<AtomicU64>,
) {
    for name in &names {
        let _ = sender.send(stat(&root, name)).await;
    }
    let _ = sender.send(Packet::default()).await;
    while let Ok(Some(packet)) = wanted.message().await {
        match PacketType::try_from(packet.r#type).expect("the client works") {
            PacketType::PacketReq => {
                let content = std::fs::read(root.join(&names[packet.id as usize])).expect("the client works");
                sent.fetch_add(content.len() as u64, Ordering::Relaxed);
                let data = |data: &[u8]| Packet {
                    r#type: PacketType::PacketData.into(),
                    id: packet.id,
                    data: data.to_vec(),
                    ..Packet::default()
                };
                for piece in content.chunks(32 << 10) {
                    let _ = sender.send(data(piece)).await;
                }
                let _ = sender.send(data(b"")).await;
            }
            PacketType::PacketFin => {
                let _ =
                    sender.send(Packet { r#type: PacketType::PacketFin.into(), ..Packet::default() }).await;
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}
