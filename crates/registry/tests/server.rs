//! The registry in this process: with shorter limits, and rights that no token server of the kit gives.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kit::fixtures::digest;
use registry::Credentials;
use registry::keys::Key;
use registry::server::access::token::Tokens;
use registry::server::{Access, Body, Options, Peer, Server, Upstream, UpstreamOptions};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

fn open(access: Access) -> (tempfile::TempDir, Server) {
    open_with(access, Options::default())
}

fn open_with(access: Access, options: Options) -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Server::open_store(dir.path()).expect("a store");
    (dir, Server::new(store, access, None, options))
}

/// A connection to a registry.
fn connect(server: &Server) -> DuplexStream {
    let (near, far) = tokio::io::duplex(1 << 20);
    let server = server.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let server = server.clone();
        let answer: Pin<Box<dyn Future<Output = Result<Response<Body>, std::convert::Infallible>> + Send>> =
            Box::pin(async move {
                Ok(server.answer(request, Peer { name: "test", trusted: false, own: true }).await)
            });
        answer
    });
    tokio::spawn(async move { http1::Builder::new().serve_connection(TokioIo::new(far), service).await });
    near
}

/// Sends these bytes, and returns the answer as text.
async fn ask(server: &Server, request: &str) -> String {
    let mut stream = connect(server);
    stream.write_all(request.as_bytes()).await.expect("send");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends a request with a body; its status and the first error's code.
async fn send(server: &Server, method: &str, path: &str, media_type: &str, body: &str) -> String {
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.0\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n");
    seen(&ask(server, &(head + body)).await)
}

fn seen(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let document: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let code = document["errors"][0]["code"].as_str().unwrap_or_default();
    format!("{} {code}", &head[9..12]).trim_end().to_owned()
}

fn location(answer: &str) -> String {
    let line = answer.lines().find_map(|line| line.strip_prefix("location: "));
    line.unwrap_or_else(|| panic!("no location in {answer}")).to_owned()
}

#[tokio::test]
async fn who_sends_too_slowly_is_given_up_and_goes_on_later() {
    let (_dir, server) =
        open_with(Access::Open, Options { pace: Duration::from_millis(300), ..Options::default() });
    let begun = ask(&server, "POST /v2/slow/blobs/uploads/ HTTP/1.0\r\n\r\n").await;
    let at = location(&begun);
    let mut stream = connect(&server);
    let head = format!("PATCH {at} HTTP/1.0\r\nContent-Length: 1000000\r\n\r\n0123456789");
    stream.write_all(head.as_bytes()).await.expect("send");
    // Bytes now and then are no progress: the answer comes though nothing has ended.
    let (mut from, mut to) = tokio::io::split(stream);
    let drip = async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if to.write_all(b"x").await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = drip => {}
        read = from.read_to_end(&mut answer) => drop(read),
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.0 408"), "{answer}");
    let status = ask(&server, &format!("GET {at} HTTP/1.0\r\n\r\n")).await;
    assert!(status.starts_with("HTTP/1.0 204") && status.contains("range: 0-"), "{status}");
    assert!(!status.contains("range: 0-0"), "{status}");
}

struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        Self(EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).expect("a key"))
    }

    /// The header with a token for these repositories and actions.
    fn header(&self, grants: &[(&str, &[&str])]) -> String {
        let access: Vec<_> = grants
            .iter()
            .map(|(name, actions)| json!({"type": "repository", "name": name, "actions": actions}))
            .collect();
        let end = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs() + 600;
        let claims = json!({"iss": "us", "aud": "here", "sub": "ada", "exp": end, "access": access});
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#);
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
        format!("Authorization: Bearer {signed}.{}\r\n", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

#[tokio::test]
async fn blobs_are_mounted_only_from_where_one_may_read() {
    let signer = Signer::new();
    let key = Key::P256(signer.0.public_key().as_ref().to_vec());
    let (_dir, server) = open(Access::Token(Tokens::new("http://realm", "here", "us", vec![key])));
    let wanted = digest(b"secret");
    let push = signer.header(&[("secret", &["pull", "push"])]);
    let request = format!(
        "POST /v2/secret/blobs/uploads/?digest={wanted} HTTP/1.0\r\n{push}Content-Length: 6\r\n\r\nsecret"
    );
    assert!(ask(&server, &request).await.starts_with("HTTP/1.0 201"));
    let mount = async |header: &str, from: &str| {
        let request = format!("POST /v2/mine/blobs/uploads/?mount={wanted}{from} HTTP/1.0\r\n{header}\r\n");
        ask(&server, &request).await[9..12].to_owned()
    };
    let own = signer.header(&[("mine", &["pull", "push"])]);
    assert_eq!(mount(&own, "&from=secret").await, "202");
    assert_eq!(mount(&own, "").await, "202");
    let get = format!("GET /v2/mine/blobs/{wanted} HTTP/1.0\r\n{own}\r\n");
    assert!(ask(&server, &get).await.starts_with("HTTP/1.0 404"));
    // Who may push may not read for that.
    let blind = signer.header(&[("mine", &["pull", "push"]), ("secret", &["push"])]);
    assert_eq!(mount(&blind, "&from=secret").await, "202");
    let both = signer.header(&[("mine", &["pull", "push"]), ("secret", &["pull"])]);
    assert_eq!(mount(&both, "").await, "201");
    assert!(ask(&server, &get).await.starts_with("HTTP/1.0 200"));
    let none = format!("GET /v2/_catalog HTTP/1.0\r\n{own}\r\n");
    assert!(ask(&server, &none).await.starts_with("HTTP/1.0 401"));
}

/// Another registry with one manifest, the same in all repositories, whose layer only `private` has; of that it sends the
/// first half at once, and the rest after `go`.
async fn upstream(manifest: String, go: Arc<tokio::sync::Notify>) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(upstream_answer(stream, manifest.clone(), Arc::clone(&go)));
        }
    });
    port
}

async fn upstream_answer(mut stream: tokio::net::TcpStream, manifest: String, go: Arc<tokio::sync::Notify>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap_or(b'\n'));
        if head.len() > 10_000 {
            return;
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let (media_type, body) = ("application/vnd.oci.image.manifest.v1+json", manifest.as_str());
    let (status, media_type, body) = match path {
        "/v2/" => ("200 OK", "application/json", "{}"),
        path if path.contains("/manifests/") => ("200 OK", media_type, body),
        path if path.starts_with("/v2/private/blobs/") => ("200 OK", "application/octet-stream", SECRET),
        _ => ("404 Not Found", "application/json", r#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#),
    };
    let reply = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let body = if head.starts_with("HEAD ") { "" } else { body };
    let (now, later) = if body == SECRET { body.split_at(body.len() / 2) } else { (body, "") };
    let sent = stream.write_all((reply + now).as_bytes()).await;
    if !later.is_empty() && sent.is_ok() {
        go.notified().await;
        stream.write_all(later.as_bytes()).await.expect("the rest");
    }
}

const SECRET: &str = "what only one repository of the other registry has";

#[tokio::test]
async fn a_cache_hands_blobs_on_their_way_to_nobody_else() {
    let wanted = digest(SECRET.as_bytes());
    let oci = "application/vnd.oci.image";
    let layer = json!({"mediaType": format!("{oci}.layer.v1.tar"), "digest": wanted, "size": SECRET.len()});
    let config = json!({"mediaType": format!("{oci}.config.v1+json"), "digest": digest(b"{}"), "size": 2});
    let manifest = json!({"schemaVersion": 2, "mediaType": format!("{oci}.manifest.v1+json"), "config": config, "layers": [layer]});
    let go = Arc::new(tokio::sync::Notify::new());
    let port = upstream(manifest.to_string(), Arc::clone(&go)).await;
    let options =
        UpstreamOptions { url: format!("http://127.0.0.1:{port}"), credentials: Credentials::default() };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Server::open_store(dir.path()).expect("a store");
    let other = Upstream::new(options).expect("another registry");
    let server = Server::new(store, Access::Open, Some(other), Options::default());
    for name in ["private", "mallory"] {
        let got = ask(&server, &format!("GET /v2/{name}/manifests/1 HTTP/1.0\r\n\r\n")).await;
        assert!(got.starts_with("HTTP/1.0 200"), "{got}");
    }
    let mut flying = connect(&server);
    let get = |name: &str| format!("GET /v2/{name}/blobs/{wanted} HTTP/1.0\r\n\r\n");
    flying.write_all(get("private").as_bytes()).await.expect("send");
    let mut head = [0; 12];
    flying.read_exact(&mut head).await.expect("it begins");
    assert_eq!(&head, b"HTTP/1.0 200");
    let theirs = tokio::time::timeout(Duration::from_secs(20), ask(&server, &get("mallory"))).await;
    let theirs = theirs.expect("an answer while the other is on its way");
    assert!(!theirs.contains(&SECRET[..5]), "{theirs}");
    go.notify_one();
    let mut rest = String::new();
    flying.read_to_string(&mut rest).await.expect("all of it");
    assert!(rest.ends_with(SECRET), "{rest}");
    // Nor when it is here.
    let theirs = ask(&server, &get("mallory")).await;
    assert!(!theirs.contains(&SECRET[..5]), "{theirs}");
}

#[tokio::test]
async fn a_registry_on_loopback_answers_by_the_names_of_loopback() {
    let (_dir, server) = open(Access::Open);
    let status = async |server: &Server, host: &str| {
        let request = format!("GET /v2/ HTTP/1.0\r\n{host}\r\n");
        ask(server, &request).await[9..12].to_owned()
    };
    for host in ["", "localhost", "LocalHost:5000", "127.0.0.1:5000", "127.8.9.1", "[::1]:5000"] {
        let header = if host.is_empty() { String::new() } else { format!("Host: {host}\r\n") };
        assert_eq!(status(&server, &header).await, "200", "{host}");
    }
    for host in [
        "evil.example:5000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[::2]:5000",
        "a@b",
    ] {
        // The page's own origin does not help it, and nor does a good name before.
        let header = format!("Origin: http://{host}\r\nHost: {host}\r\n");
        assert_eq!(status(&server, &header).await, "403", "{host}");
        assert_eq!(status(&server, &format!("Host: localhost\r\n{header}")).await, "403", "{host}");
    }
    let write =
        "POST /v2/a/blobs/uploads/ HTTP/1.0\r\nOrigin: http://evil.example\r\nHost: evil.example\r\n\r\n";
    assert_eq!(seen(&ask(&server, write).await), "403 DENIED");
    // Who has to show who they are cannot be led there by a page.
    let signer = Signer::new();
    let key = Key::P256(signer.0.public_key().as_ref().to_vec());
    let (_dir, server) = open(Access::Token(Tokens::new("http://realm", "here", "us", vec![key])));
    assert_eq!(status(&server, "Host: registry.example\r\n").await, "401");
}

#[tokio::test]
async fn what_the_store_has_besides_is_nobodys_business() {
    let (dir, server) = open(Access::Open);
    let (layer, config) = (digest(b"layer"), digest(b"{}"));
    let oci = "application/vnd.oci.image";
    let (kind, plain) = (format!("{oci}.manifest.v1+json"), "application/octet-stream");
    let push = async |name: &str, bytes: &str| {
        let path = format!("/v2/{name}/blobs/uploads/?digest={}", digest(bytes.as_bytes()));
        assert_eq!(send(&server, "POST", &path, plain, bytes).await, "201");
    };
    push("theirs", "layer").await;
    push("theirs", "{}").await;
    push("mine", "{}").await;
    let part = |media_type: &str, digest: &str, size: usize| json!({"mediaType": media_type, "digest": digest, "size": size});
    let manifest = |parts: serde_json::Value| {
        let config = part(&format!("{oci}.config.v1+json"), &config, 2);
        json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": parts}).to_string()
    };
    let put = async |name: &str, document: &str| {
        send(&server, "PUT", &format!("/v2/{name}/manifests/1"), &kind, document).await
    };
    // A manifest of theirs is a blob of a kind of its own. Whoever names it as a layer learns nothing, nor of the daemon's.
    let theirs = manifest(json!([part(&format!("{oci}.layer.v1.tar"), &layer, 5)]));
    assert_eq!(put("theirs", &theirs).await, "201");
    let known = digest(theirs.as_bytes());
    for (wanted, size) in [(known.as_str(), theirs.len()), (&digest(b"nowhere"), 7), (&layer, 5)] {
        for media_type in [format!("{oci}.layer.v1.tar"), format!("{oci}.config.v1+json")] {
            let document = manifest(json!([part(&media_type, wanted, size)]));
            assert_eq!(put("mine", &document).await, "400 MANIFEST_BLOB_UNKNOWN", "{media_type} {wanted}");
        }
        let elsewhere = format!("{oci}.layer.nondistributable.v1.tar");
        assert_eq!(put("mine", &manifest(json!([part(&elsewhere, wanted, size)]))).await, "201", "{wanted}");
    }
    // Within one repository kinds are told apart as before.
    push("theirs", &theirs).await;
    let mixed = manifest(json!([part(&format!("{oci}.layer.v1.tar"), &known, theirs.len())]));
    assert_eq!(put("theirs", &mixed).await, "400 MANIFEST_INVALID");
    drop(dir);
}
