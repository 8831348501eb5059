//! The client against Debian's registry, and against one that misbehaves.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::PathBuf;
use std::time::Duration;

use kit::faulty::{Fault, Faulty};
use kit::fixtures::{self, Entry, Image, Layer, Layout, Packing};
use kit::http::Answer;
use kit::registry::{Access, Registry, Setup};
use kit::tokens::REFRESH_TOKEN;
use oci::Reference;
use oci::image::{Descriptor, Document};
use registry::client::{Blob, Client, Credentials, Limits, Options, Repository};
use registry::{Error, Result};

fn small() -> Image {
    Image::new(vec![fixtures::noise_layer(300_000, 7)], serde_json::json!({"Cmd": ["true"]}))
}

fn options() -> Options {
    let limits = Limits {
        pause_first: Duration::from_millis(5),
        pause_max: Duration::from_millis(50),
        idle_timeout: Duration::from_secs(2),
        tries_max: 4,
        ..Limits::default()
    };
    Options { certificates: Vec::new(), limits, ..Options::default() }
}

fn client() -> Client {
    Client::new(options()).unwrap()
}

async fn open(host: &str, path: &str, credentials: Credentials) -> Repository {
    open_with(&client(), host, path, credentials).await
}

async fn open_with(client: &Client, host: &str, path: &str, credentials: Credentials) -> Repository {
    let reference = Reference::parse_familiar(&format!("{host}/{path}")).unwrap();
    client.repository(&reference, credentials).await.unwrap()
}

async fn drain(mut blob: Blob<'_>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = blob.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn layer(image: &Image) -> Descriptor {
    let layer = &image.layers[0];
    let digest = layer.digest().parse().unwrap();
    Descriptor::new(layer.media_type, digest, layer.bytes.len() as u64)
}

fn user() -> Credentials {
    Credentials::Basic { username: "ann".into(), password: "s3cret".into() }
}

#[tokio::test]
async fn manifests_and_blobs_of_a_real_registry() {
    let registry = Registry::start();
    let image = small();
    let layout = Layout::new(std::slice::from_ref(&image));
    registry.push(&layout, "a/b:1");
    let digest = layout.digest.clone();
    let repository = open(&registry.host(), "a/b:1", Credentials::Anonymous).await;

    let head = repository.head("1").await.unwrap().unwrap();
    assert_eq!(head.digest.as_str(), digest);
    for target in ["1", digest.as_str()] {
        let resolved = repository.resolve(target).await.unwrap();
        assert_eq!(resolved.bytes, image.manifest_bytes());
        assert_eq!(resolved.descriptor.digest.as_str(), digest);
        assert_eq!(resolved.descriptor.media_type, "application/vnd.oci.image.manifest.v1+json");
        let Document::Manifest(manifest) = &resolved.document else { panic!("a manifest") };
        assert_eq!(repository.small_blob(&manifest.config).await.unwrap(), image.config_bytes());
    }
    let bytes = &image.layers[0].bytes;
    assert_eq!(drain(repository.blob(&layer(&image), 0).unwrap()).await.unwrap(), *bytes);
    assert_eq!(drain(repository.blob(&layer(&image), 1000).unwrap()).await.unwrap(), bytes[1000..]);
}

#[tokio::test]
async fn tags_are_listed_page_by_page() {
    let registry = Registry::start();
    let layout = Layout::new(&[small()]);
    registry.push(&layout, "a/b:1");
    registry.push(&layout, "a/b:v-2");
    let faulty = Faulty::start(&registry.host());
    let repository = open(&faulty.host(), "a/b", Credentials::Anonymous).await;
    let tags = repository.tags().await.unwrap();
    assert!(
        tags.len() == 2 && tags.contains(&"1".to_owned()) && tags.contains(&"v-2".to_owned()),
        "{tags:?}"
    );
    // One that promises more for ever is asked for what comes after, and left when nothing does.
    faulty.fault("/tags/list", Fault::Header("link", Some("</v2/>; rel=\"next\"".to_owned())), 9);
    assert!(repository.tags().await.unwrap().starts_with(&tags));
    let (asked, next) = (faulty.asked(), format!("/tags/list?n=1000&last={}", tags[1]));
    assert!(asked.iter().any(|asked| asked.path.ends_with(&next)), "{asked:?}");
    let lie = Answer::new(200, "application/json", r#"{"name":"a/b","tags":["../x"]}"#);
    let faulty = Faulty::alone();
    faulty.fault("/tags/list", Fault::Instead(lie), 1);
    let repository = open(&faulty.host(), "a/b", Credentials::Anonymous).await;
    let error = repository.tags().await.unwrap_err();
    assert!(error.to_string().ends_with("\"../x\" is not a tag"), "{error}");
    let nowhere = open(&registry.host(), "no/where", Credentials::Anonymous).await;
    let error = nowhere.tags().await.unwrap_err();
    assert!(matches!(error, Error::RepositoryNotFound { .. }), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_said_in_dockers_words() {
    let registry = Registry::start();
    registry.push(&Layout::new(&[small()]), "a/b:1");
    let host = registry.host();
    let repository = open(&host, "a/b:2", Credentials::Anonymous).await;
    let error = repository.resolve("2").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("manifest for {host}/a/b:2 not found: manifest unknown: manifest unknown")
    );
    let missing = format!("sha256:{}", "0".repeat(64));
    let error = repository.resolve(&missing).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("manifest for {host}/a/b@{missing} not found: manifest unknown"))
    );
    let nowhere = open(&host, "no/where", Credentials::Anonymous).await;
    let error = nowhere.resolve("latest").await.unwrap_err();
    assert!(matches!(error, Error::ManifestNotFound { .. } | Error::RepositoryNotFound { .. }), "{error}");
}

#[tokio::test]
async fn unreachable_registries_are_said_in_gos_words() {
    let port = kit::registry::free_port();
    let repository = open(&format!("127.0.0.1:{port}"), "x", Credentials::Anonymous).await;
    let error = repository.resolve("latest").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "Get \"http://127.0.0.1:{port}/v2/\": dial tcp 127.0.0.1:{port}: connect: connection refused"
        )
    );
    let repository = open("nosuch.invalid", "x", Credentials::Anonymous).await;
    let error = repository.resolve("latest").await.unwrap_err().to_string();
    assert!(
        error.starts_with("Get \"https://nosuch.invalid/v2/\": dial tcp: lookup nosuch.invalid: "),
        "{error}"
    );
}

/// Whether `registry.test` is this machine. If not, the test of this name is run again in a mount namespace where it is:
/// the certificate of a loopback address is never looked at, so another name is needed.
fn has_name(test: &str) -> bool {
    if std::env::var_os("REGISTRY_TEST_HOSTS").is_some() {
        return true;
    }
    let hosts = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(hosts.path(), "127.0.0.1 localhost registry.test\n").unwrap();
    let out = std::process::Command::new("unshare")
        .args([
            "--mount",
            "sh",
            "-ec",
            "mount --bind \"$1\" /etc/hosts; exec \"$0\" --exact --nocapture \"$2\"",
        ])
        .arg(std::env::current_exe().unwrap())
        .arg(hosts.path())
        .arg(test)
        .env("REGISTRY_TEST_HOSTS", "1")
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    if said.contains("unshare failed") || said.contains("permission denied") {
        println!("SKIPPED [mount namespaces]: {said}");
        return false;
    }
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
    false
}

#[tokio::test]
async fn a_plain_registry_that_is_not_insecure_is_refused() {
    if !has_name("a_plain_registry_that_is_not_insecure_is_refused") {
        return;
    }
    let registry = Registry::start();
    registry.push(&Layout::new(&[small()]), "x:latest");
    let host = format!("registry.test:{}", registry.port());
    let repository = open(&host, "x", Credentials::Anonymous).await;
    let error = repository.resolve("latest").await.unwrap_err().to_string();
    assert_eq!(error, format!("Get \"https://{host}/v2/\": http: server gave HTTP response to HTTPS client"));
    for insecure in [host.clone(), "registry.test".into(), "127.0.0.0/8".into()] {
        let client = Client::new(Options { insecure: vec![insecure], ..options() }).unwrap();
        open_with(&client, &host, "x", Credentials::Anonymous).await.resolve("latest").await.unwrap();
    }
}

#[tokio::test]
async fn basic_authentication() {
    let access = Access::Basic { username: "ann".into(), password: "s3cret".into() };
    let registry = Registry::with(Setup { access, tls: false });
    let layout = Layout::new(&[small()]);
    registry.push(&layout, "x:1");
    let digest = layout.digest;
    let host = registry.host();
    let found = open(&host, "x", user()).await.resolve("1").await.unwrap();
    assert_eq!(found.descriptor.digest.as_str(), digest);

    let error = open(&host, "x", Credentials::Anonymous).await.resolve("1").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("Get \"http://{host}/v2/x/manifests/1\": no basic auth credentials")
    );
    let wrong = Credentials::Basic { username: "ann".into(), password: "wrong".into() };
    let error = open(&host, "x", wrong).await.resolve("1").await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }));
    assert!(error.to_string().ends_with("unauthorized: authentication required"), "{error}");
}

#[tokio::test]
async fn bearer_tokens_are_fetched_once_and_kept() {
    let access = Access::Token { username: "ann".into(), password: "s3cret".into() };
    let registry = Registry::with(Setup { access, tls: false });
    let image = small();
    let layout = Layout::new(std::slice::from_ref(&image));
    registry.push(&layout, "private/x:1");
    let digest = layout.digest;
    registry.push(&Layout::new(std::slice::from_ref(&image)), "public/x:1");
    let tokens = registry.tokens().unwrap();
    let host = registry.host();

    let asked = tokens.asked().len();
    let repository = open(&host, "private/x", user()).await;
    assert_eq!(repository.resolve("1").await.unwrap().descriptor.digest.as_str(), digest);
    drain(repository.blob(&layer(&image), 0).unwrap()).await.unwrap();
    repository.resolve(&digest).await.unwrap();
    assert_eq!(tokens.asked().len(), asked + 1, "one token for three requests");

    let identity = Credentials::Identity { token: REFRESH_TOKEN.into() };
    open(&host, "private/x", identity).await.resolve("1").await.unwrap();
    assert!(tokens.asked().last().unwrap().starts_with("POST "));

    open(&host, "public/x", Credentials::Anonymous).await.resolve("1").await.unwrap();
    let error = open(&host, "private/x", Credentials::Anonymous).await.resolve("1").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "pull access denied for {host}/private/x, repository does not exist or may require 'docker login': \
             denied: requested access to the resource is denied"
        )
    );
    let wrong = Credentials::Basic { username: "ann".into(), password: "wrong".into() };
    let error = open(&host, "private/x", wrong).await.resolve("1").await.unwrap_err();
    assert!(error.to_string().ends_with("incorrect username or password"), "{error}");
}

#[tokio::test]
async fn tls_with_a_ca_of_its_own() {
    let registry = Registry::with(Setup { access: Access::Open, tls: true });
    registry.push(&Layout::new(&[small()]), "x:1");
    // Loopback needs no known certificate.
    open(&registry.host(), "x", Credentials::Anonymous).await.resolve("1").await.unwrap();
}

#[tokio::test]
async fn certificates_are_looked_at() {
    if !has_name("certificates_are_looked_at") {
        return;
    }
    let registry = Registry::with(Setup { access: Access::Open, tls: true });
    registry.push(&Layout::new(&[small()]), "x:1");
    let host = format!("registry.test:{}", registry.port());
    let error = open(&host, "x", Credentials::Anonymous).await.resolve("1").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "Get \"https://{host}/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority"
        )
    );
    let certificates = tempfile::tempdir().unwrap();
    let knowing = Options { certificates: vec![certificates.path().to_owned()], ..options() };
    let client = Client::new(knowing).unwrap();
    let error = open_with(&client, &host, "x", Credentials::Anonymous).await.resolve("1").await;
    assert!(error.is_err());
    // A certificate that is put there while the daemon runs counts from then on.
    let dir = certificates.path().join(&host);
    std::fs::create_dir(&dir).unwrap();
    std::fs::copy(registry.ca(), dir.join("ca.crt")).unwrap();
    open_with(&client, &host, "x", Credentials::Anonymous).await.resolve("1").await.unwrap();
}

#[tokio::test]
async fn half_a_pair_of_certificates_is_refused() {
    let certificates = tempfile::tempdir().unwrap();
    let dir = certificates.path().join("127.0.0.1:1");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("client.cert"), "x").unwrap();
    let options = Options { certificates: vec![PathBuf::from(certificates.path())], ..options() };
    let reference = Reference::parse_familiar("127.0.0.1:1/x").unwrap();
    let made = Client::new(options).unwrap().repository(&reference, Credentials::Anonymous).await;
    let error = made.err().unwrap().to_string();
    assert!(error.contains("client.cert: its key is missing"), "{error}");
}

#[tokio::test]
async fn broken_connections_are_resumed_where_they_broke() {
    let registry = Registry::start();
    let image = small();
    registry.push(&Layout::new(std::slice::from_ref(&image)), "x:1");
    let faulty = Faulty::start(&registry.host());
    let bytes = &image.layers[0].bytes;
    faulty.fault("/blobs/", Fault::CutAfter(100_000), 2);
    let repository = open(&faulty.host(), "x", Credentials::Anonymous).await;
    assert_eq!(drain(repository.blob(&layer(&image), 0).unwrap()).await.unwrap(), *bytes);
    let ranges: Vec<_> = faulty.asked().into_iter().map(|asked| asked.range).collect();
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    assert_eq!(ranges[0], None);
    assert!(
        ranges[1..].iter().all(|range| range.as_deref().is_some_and(|range| range.starts_with("bytes=")))
    );
    assert!(faulty.sent("/blobs/") <= bytes.len() as u64 + 2 * 100_000);

    // A server that ignores Range sends all of it again, and the beginning is dropped.
    faulty.fault("/blobs/", Fault::CutAfter(50_000), 1);
    faulty.fault("/blobs/", Fault::NoRange, 1);
    assert_eq!(drain(repository.blob(&layer(&image), 0).unwrap()).await.unwrap(), *bytes);

    // One that always breaks at the same byte is given up.
    faulty.fault("/blobs/", Fault::CutAfter(0), 100);
    let error = drain(repository.blob(&layer(&image), 0).unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Broken { tries: 4, .. }), "{error}");
}

#[tokio::test]
async fn passing_errors_are_tried_again() {
    let registry = Registry::start();
    registry.push(&Layout::new(&[small()]), "x:1");
    let faulty = Faulty::start(&registry.host());
    let repository = open(&faulty.host(), "x", Credentials::Anonymous).await;
    faulty.fault("/manifests/", Fault::Instead(Answer::new(503, "text/plain", "busy")), 2);
    repository.resolve("1").await.unwrap();
    faulty.fault(
        "/manifests/",
        Fault::Instead(Answer::json(
            429,
            &serde_json::json!({"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}),
        )),
        100,
    );
    let error = repository.resolve("1").await.unwrap_err();
    assert_eq!(error.to_string(), "toomanyrequests: toomanyrequests: slow down");
}

#[tokio::test]
async fn lies_about_manifests_are_found_out() {
    let registry = Registry::start();
    let image = small();
    let layout = Layout::new(std::slice::from_ref(&image));
    registry.push(&layout, "x:1");
    let digest = layout.digest;
    let faulty = Faulty::start(&registry.host());
    let repository = open(&faulty.host(), "x", Credentials::Anonymous).await;
    faulty.fault("/manifests/", Fault::Corrupt(30), 1);
    let error = repository.resolve(&digest).await.unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    let lie = Some(format!("sha256:{}", "1".repeat(64)));
    faulty.fault("/manifests/", Fault::Header("docker-content-digest", lie), 1);
    let error = repository.resolve("1").await.unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    faulty.fault("/manifests/", Fault::Endless, 1);
    let error = repository.resolve("1").await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    let lie = Some("application/vnd.oci.image.index.v1+json".to_owned());
    faulty.fault("/manifests/", Fault::Header("content-type", lie), 1);
    let error = repository.resolve("1").await.unwrap_err();
    assert!(error.to_string().starts_with("ambiguous manifest"), "{error}");
    let lie = Some("application/vnd.docker.distribution.manifest.v1+prettyjws".to_owned());
    faulty.fault("/manifests/", Fault::Header("content-type", lie), 1);
    let error = repository.resolve("1").await.unwrap_err();
    assert!(error.to_string().contains("schema 1 support has been removed"), "{error}");
    let resolved = repository.resolve("1").await.unwrap();
    let mut wrong = resolved.descriptor.clone();
    wrong.size += 1;
    assert!(matches!(repository.manifest(&wrong).await.unwrap_err(), Error::Mismatch { .. }));
}

#[tokio::test]
async fn lies_about_blobs_are_found_out() {
    let registry = Registry::start();
    let image = small();
    registry.push(&Layout::new(std::slice::from_ref(&image)), "x:1");
    let faulty = Faulty::start(&registry.host());
    let repository = open(&faulty.host(), "x", Credentials::Anonymous).await;
    let honest = layer(&image);
    for size in [honest.size - 1, honest.size + 1, 1, u64::MAX] {
        let lying = Descriptor { size, ..honest.clone() };
        let error = drain(repository.blob(&lying, 0).unwrap()).await.unwrap_err();
        assert!(matches!(error, Error::Mismatch { .. }), "{size}: {error}");
    }
    faulty.fault("/blobs/", Fault::Endless, 1);
    let error = drain(repository.blob(&honest, 0).unwrap()).await;
    // The bytes that were asked for may come first: then the rest is not read. Buffers of the kernel hold some megabytes.
    let sent = faulty.sent("/blobs/");
    assert!(error.is_ok_and(|bytes| bytes == image.layers[0].bytes) || sent < 32 << 20, "{sent} bytes");
    let config = image.config_bytes();
    let lying = Descriptor::new(
        "application/vnd.oci.image.config.v1+json",
        fixtures::digest(&config).parse().unwrap(),
        config.len() as u64,
    );
    faulty.fault("/blobs/", Fault::Corrupt(3), 1);
    assert!(matches!(repository.small_blob(&lying).await.unwrap_err(), Error::Mismatch { .. }));
    let huge = Descriptor { size: 1 << 40, ..lying };
    assert!(matches!(repository.small_blob(&huge).await.unwrap_err(), Error::TooLarge { .. }));
}

#[tokio::test]
async fn redirects_do_not_carry_credentials_elsewhere() {
    let access = Access::Basic { username: "ann".into(), password: "s3cret".into() };
    let registry = Registry::with(Setup { access, tls: false });
    let image = Image::new(vec![Layer::new(&[Entry::file("f", "x")], Packing::Plain)], serde_json::json!({}));
    registry.push(&Layout::new(std::slice::from_ref(&image)), "x:1");
    let elsewhere = Faulty::alone();
    elsewhere.fault("/object", Fault::Instead(Answer::new(200, "x/y", image.layers[0].bytes.clone())), 1);
    let front = Faulty::start(&registry.host());
    let repository = open(&front.host(), "x", user()).await;
    repository.resolve("1").await.unwrap();
    let location = format!("http://{}/object?signature=1", elsewhere.host());
    front.fault("/blobs/", Fault::Instead(Answer::new(307, "x/y", "").with("Location", &location)), 1);
    let bytes = drain(repository.blob(&layer(&image), 0).unwrap()).await.unwrap();
    assert_eq!(bytes, image.layers[0].bytes);
    assert!(front.asked().last().unwrap().authorization.is_some());
    assert_eq!(elsewhere.asked().len(), 1);
    assert_eq!(elsewhere.asked()[0].authorization, None);

    let around = format!("http://{}/v2/x/manifests/1", front.host());
    front.fault("/manifests/", Fault::Instead(Answer::new(302, "x/y", "").with("Location", &around)), 100);
    let error = repository.resolve("1").await.unwrap_err();
    assert!(error.to_string().ends_with("stopped after 10 redirects"), "{error}");
}

#[tokio::test]
async fn tokens_are_not_fetched_over_other_schemes() {
    let alone = Faulty::alone();
    let realm = "Bearer realm=\"ftp://127.0.0.1/token\",service=\"x\"";
    let answer = Answer::new(401, "text/plain", "").with("WWW-Authenticate", realm);
    alone.fault("/manifests/", Fault::Instead(answer), 10);
    let error = open(&alone.host(), "x", user()).await.resolve("1").await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let registry = Registry::start();
    let image = small();
    registry.push(&Layout::new(std::slice::from_ref(&image)), "x:1");
    let faulty = Faulty::start(&registry.host());
    faulty.fault("/blobs/", Fault::Hold(50_000), 100);
    let mut options = options();
    options.limits.idle_timeout = Duration::from_millis(100);
    let client = Client::new(options).unwrap();
    let repository = open_with(&client, &faulty.host(), "x", Credentials::Anonymous).await;
    let error = drain(repository.blob(&layer(&image), 0).unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error}");
    assert!(error.to_string().ends_with("i/o timeout"), "{error}");
}
