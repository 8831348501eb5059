//! Files of a result, as a client of BuildKit's API reads them before it says what is to become of it.

use std::future::{Ready, ready};
use std::io;
use std::task::{Context, Poll};

use bollard_buildkit_proto::moby::buildkit::v1::SolveRequest;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_client::LlbBridgeClient;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    ReadDirRequest, ReadFileRequest, SolveRequest as GatewaySolve, StatFileRequest,
};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use kit::Host;
use kit::http::{Answer, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request};

/// What the build and its session are called.
const NAME: &str = "reading";

/// A connection to the engine that goes on in HTTP/2.
async fn upgraded(host: &Host, path: &str) -> UnixStream {
    let mut stream = UnixStream::connect(host.socket()).await.expect("a connection");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\
         X-Docker-Expose-Session-Uuid: {NAME}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("a request");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("an answer"));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// Gives the one connection that there is.
struct Once(Option<UnixStream>);

impl tower_service::Service<Uri> for Once {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        ready(self.0.take().map(TokioIo::new).ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

/// A channel to call by, and a session that answers nothing.
async fn client(host: &Host) -> Channel {
    let session = upgraded(host, "/session").await;
    let nothing = TowerToHyperService::new(Routes::default().prepare());
    tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(session), nothing));
    let calls = upgraded(host, "/grpc").await;
    Endpoint::from_static("http://engine").connect_with_connector(Once(Some(calls))).await.expect("a channel")
}

fn of_build<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let name = NAME.parse().expect("a header");
    request.metadata_mut().insert("buildkit-controlapi-buildid", name);
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_a_result_are_read_before_it_is_an_image() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nRUN mkdir /made && echo content >/made/file && ln -s /made/file /made/link && rm /bin/wc\n\
        RUN echo other >/made/other && rm /made/link && ln -s /../../made/file /made/up\n";
    let server = Server::start(move |_, _| Answer::new(200, "text/plain", text));
    let channel = client(&host).await;
    let begun = SolveRequest { r#ref: NAME.into(), session: NAME.into(), ..SolveRequest::default() };
    let mut control = ControlClient::new(channel.clone());
    let solving = tokio::spawn(async move { control.solve(begun).await });
    let options = [
        ("context", format!("http://{}/Dockerfile", server.address())),
        ("force-network-mode", "none".to_owned()),
    ];
    let asked = GatewaySolve {
        frontend: "dockerfile.v0".into(),
        frontend_opt: options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        ..GatewaySolve::default()
    };
    let mut gateway = LlbBridgeClient::new(channel);
    let name = gateway.solve(of_build(asked)).await.expect("a result").into_inner().r#ref;
    let mut read = async |path: &str| {
        let request = ReadFileRequest { r#ref: name.clone(), file_path: path.into(), ..Default::default() };
        let answer = gateway.read_file(of_build(request)).await;
        answer.map(|answer| String::from_utf8_lossy(&answer.into_inner().data).into_owned())
    };
    // As the topmost layer has it, and by links that end at the result's own top.
    assert_eq!(read("/made/file").await.expect("a file"), "content\n");
    assert_eq!(read("made/up").await.expect("a file"), "content\n");
    for gone in ["/made/link", "/bin/wc", "/../../../../proc/self/status"] {
        assert_eq!(read(gone).await.expect_err(gone).code(), Code::NotFound, "{gone}");
    }
    let request = ReadDirRequest { r#ref: name.clone(), dir_path: "/made".into(), ..Default::default() };
    let entries = gateway.read_dir(of_build(request)).await.expect("a directory").into_inner().entries;
    let names: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(names, ["file", "other", "up"]);
    let request = StatFileRequest { r#ref: name, path: "/made/other".into(), mount_index: 0 };
    let about = gateway.stat_file(of_build(request)).await.expect("a file").into_inner().stat;
    assert_eq!(about.map(|stat| (stat.path, stat.size)), Some(("other".to_owned(), 6)));
    solving.abort();
}
