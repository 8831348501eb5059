//! Where a repository is asked for: settings in the formats of containerd and Podman, in front of real registries.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use kit::faulty::{Fault, Faulty};
use kit::fixtures::{self, Image, Layout};
use kit::http::Answer;
use kit::registry::{Access, Registry, Setup};
use oci::Reference;
use oci::image::Descriptor;
use registry::Error;
use registry::client::{Client, Credentials, Limits, Options, Repository};

/// A registry with one image in `a/b:1`, and what it is.
fn served() -> (Registry, Layout, Image) {
    let image = Image::new(vec![fixtures::noise_layer(3000, 7)], serde_json::json!({"Cmd": ["true"]}));
    let layout = Layout::new(std::slice::from_ref(&image));
    let registry = Registry::start();
    registry.push(&layout, "a/b:1");
    (registry, layout, image)
}

fn options(dir: &Path) -> Options {
    let limits = Limits {
        pause_first: Duration::from_millis(5),
        pause_max: Duration::from_millis(50),
        connect_timeout: Duration::from_secs(5),
        tries_max: 3,
        retry_after_max: Duration::from_secs(3),
        ..Limits::default()
    };
    Options {
        certificates: vec![dir.join("certs.d")],
        registries: vec![dir.join("registries.conf")],
        limits,
        ..Options::default()
    }
}

fn write_hosts(dir: &Path, registry: &str, text: &str) {
    let folder = dir.join("certs.d").join(registry);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("hosts.toml"), text).unwrap();
}

async fn open(dir: &Path, name: &str) -> registry::Result<Repository> {
    let reference = Reference::parse_named(name).unwrap();
    let user = Credentials::Basic { username: "ann".into(), password: "s3cret".into() };
    Client::new(options(dir)).unwrap().repository(&reference, user).await
}

fn layer(image: &Image) -> Descriptor {
    let layer = &image.layers[0];
    Descriptor::new(layer.media_type, layer.digest().parse().unwrap(), layer.bytes.len() as u64)
}

/// Pulls manifest and layer through a repository.
async fn whole(repository: &Repository, image: &Image) {
    assert_eq!(repository.resolve("1").await.unwrap().bytes, image.manifest_bytes());
    let mut blob = repository.blob(&layer(image), 0).unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = blob.chunk().await.unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    assert_eq!(bytes, image.layers[0].bytes);
}

#[tokio::test]
async fn mirrors_of_hosts_toml_are_asked_in_its_order() {
    let (registry, layout, image) = served();
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (Faulty::start(&registry.host()), Faulty::start(&registry.host()));
    let text = format!(
        "server = \"http://127.0.0.1:1\"\n\
         [host.\"http://{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  [host.\"http://{}\".header]\n    X-Key = \"k\"\n\
         [host.\"http://{}\"]\n",
        first.host(),
        first.host(),
        second.host()
    );
    write_hosts(dir.path(), "registry.example", &text);
    let repository = open(dir.path(), "registry.example/a/b:1").await.unwrap();
    whole(&repository, &image).await;
    let asked = first.asked();
    assert!(asked[0].path.ends_with("/v2/a/b/manifests/1?ns=registry.example"), "{asked:?}");
    assert!(asked.iter().all(|asked| asked.authorization.is_none()), "{asked:?}");
    assert!(second.asked().is_empty());

    // One that has it not, or fails, leads to the next, in the middle of an image too.
    first.fault("/manifests/", Fault::Instead(Answer::new(404, "text/plain", "")), 1);
    let repository = open(dir.path(), "registry.example/a/b:1").await.unwrap();
    whole(&repository, &image).await;
    assert!(!second.asked().is_empty());
    first.fault("/blobs/", Fault::Instead(Answer::new(403, "text/plain", "")), 9);
    whole(&open(dir.path(), "registry.example/a/b:1").await.unwrap(), &image).await;

    // Only what can be resolved is asked for tags.
    let text = text.replace("[\"pull\", \"resolve\"]", "[\"pull\"]");
    write_hosts(dir.path(), "registry.example", &text);
    let before = first.asked().len();
    let repository = open(dir.path(), "registry.example/a/b:1").await.unwrap();
    repository.resolve("1").await.unwrap();
    assert_eq!(first.asked().len(), before);
    let by_digest = open(dir.path(), "registry.example/a/b:1").await.unwrap();
    by_digest.resolve(&layout.digest).await.unwrap();
    assert_eq!(first.asked().len(), before + 1);
}

#[tokio::test]
async fn settings_for_all_registries_and_whole_paths() {
    let (registry, _, image) = served();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Faulty::start(&registry.host());
    write_hosts(dir.path(), "_default", &format!("[host.\"http://{}\"]\n", proxy.host()));
    whole(&open(dir.path(), "any.example:77/a/b:1").await.unwrap(), &image).await;
    assert!(proxy.asked()[0].path.contains("ns=any.example%3A77"), "{:?}", proxy.asked());
    // Its own folder counts more, also spelled without a colon.
    let text = format!("[host.\"http://{}/v2\"]\n  override_path = true\n", proxy.host());
    write_hosts(dir.path(), "any.example_77_", &text);
    let before = proxy.asked().len();
    whole(&open(dir.path(), "any.example:77/a/b:1").await.unwrap(), &image).await;
    let asked = proxy.asked();
    assert!(asked[before].path.starts_with("/v2/a/b/manifests/1"), "{asked:?}");
    // A path that is not whole gets the API's version, a path that has it does not get it twice.
    write_hosts(dir.path(), "any.example_77_", &format!("[host.\"http://{}/v2/\"]\n", proxy.host()));
    whole(&open(dir.path(), "any.example:77/a/b:1").await.unwrap(), &image).await;
    write_hosts(dir.path(), "any.example_77_", &format!("[host.\"http://{}/x\"]\n", proxy.host()));
    let _ = open(dir.path(), "any.example:77/a/b:1").await.unwrap().resolve("1").await;
    assert!(proxy.asked().last().unwrap().path.starts_with("/x/v2/a/b/manifests/1"));
}

#[tokio::test]
async fn the_registry_itself_with_certificates_of_its_settings() {
    let registry = Registry::with(Setup {
        access: Access::Basic { username: "ann".into(), password: "s3cret".into() },
        tls: true,
    });
    let image = Image::new(vec![fixtures::noise_layer(3000, 7)], serde_json::json!({"Cmd": ["true"]}));
    registry.push(&Layout::new(std::slice::from_ref(&image)), "a/b:1");
    let dir = tempfile::tempdir().unwrap();
    // The credentials go to the server that is named for the registry.
    write_hosts(
        dir.path(),
        "registry.example",
        &format!("server = \"https://{}\"\nca = \"ca.crt\"\n", registry.host()),
    );
    fs::copy(registry.ca(), dir.path().join("certs.d/registry.example/ca.crt")).unwrap();
    whole(&open(dir.path(), "registry.example/a/b:1").await.unwrap(), &image).await;
    let text = format!("server = \"https://{}\"\nskip_verify = true\n", registry.host());
    write_hosts(dir.path(), "registry.example", &text);
    whole(&open(dir.path(), "registry.example/a/b:1").await.unwrap(), &image).await;
}

#[tokio::test]
async fn who_shares_a_registrys_host_is_not_the_registry() {
    let (registry, _, image) = served();
    let dir = tempfile::tempdir().unwrap();
    let (other, own) = (Faulty::start(&registry.host()), Faulty::start(&registry.host()));
    let asks = r#"Basic realm="x""#;
    for server in [&other, &own] {
        let answer = Answer::new(401, "text/plain", "").with("www-authenticate", asks);
        server.fault("/manifests/", Fault::Instead(answer), 1);
    }
    let text = format!("[host.\"http://{}\"]\n[host.\"http://{}\"]\n", other.host(), own.host());
    write_hosts(dir.path(), &own.host(), &text);
    whole(&open(dir.path(), &format!("{}/a/b:1", own.host())).await.unwrap(), &image).await;
    assert!(other.asked().iter().all(|asked| asked.authorization.is_none()), "{:?}", other.asked());
    assert!(own.asked().iter().any(|asked| asked.authorization.is_some()), "{:?}", own.asked());
}

#[tokio::test]
async fn registries_conf_moves_blocks_and_mirrors() {
    let (registry, layout, image) = served();
    let dir = tempfile::tempdir().unwrap();
    let conf = |text: &str| fs::write(dir.path().join("registries.conf"), text).unwrap();
    let mirror = Faulty::start(&registry.host());
    let text = format!(
        "unqualified-search-registries = [\"x.example\"]\n\
         [[registry]]\nprefix = \"moved.example/team\"\nlocation = \"{}\"\ninsecure = true\n\
         [[registry]]\nlocation = \"bad.example\"\nblocked = true\n\
         [[registry]]\nprefix = \"*.wild.example\"\n\
         [[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\npull-from-mirror = \"digest-only\"\n",
        registry.host(),
        mirror.host()
    );
    conf(&text);
    whole(&open(dir.path(), "moved.example/team/a/b:1").await.unwrap(), &image).await;
    let error = open(dir.path(), "bad.example/a/b:1").await.err().unwrap();
    assert!(matches!(error, Error::Blocked { .. }), "{error}");
    assert!(error.to_string().contains("bad.example/a/b:1 is blocked by /"), "{error}");
    for name in ["Bad.example/a/b:1", "bad.example:443/a/b", "bad.example:0443/a"] {
        assert!(matches!(open(dir.path(), name).await.err().unwrap(), Error::Blocked { .. }), "{name}");
    }
    open(dir.path(), "bad.example.org/a/b:1").await.unwrap();
    let wild = open(dir.path(), "x.wild.example/a/b:1").await.unwrap();
    wild.resolve(&layout.digest).await.unwrap();
    assert_eq!(mirror.asked()[0].path, format!("/v2/a/b/manifests/{}", layout.digest));
    let error = wild.head("1").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert_eq!(mirror.asked().len(), 1);

    // Files beside it say more, and the later one counts; a hosts.toml counts more than both.
    fs::create_dir(dir.path().join("registries.conf.d")).unwrap();
    let text = format!(
        "[[registry]]\nlocation = \"bad.example\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        mirror.host()
    );
    fs::write(dir.path().join("registries.conf.d/50-good.conf"), text).unwrap();
    whole(&open(dir.path(), "bad.example/a/b:1").await.unwrap(), &image).await;
    let before = mirror.asked().len();
    write_hosts(dir.path(), "bad.example", &format!("[host.\"http://{}\"]\n", registry.host()));
    whole(&open(dir.path(), "bad.example/a/b:1").await.unwrap(), &image).await;
    assert_eq!(mirror.asked().len(), before);
    conf("[registries.block]\nregistries = [\"old.example\"]\n");
    assert!(matches!(open(dir.path(), "old.example/a").await.err().unwrap(), Error::Blocked { .. }));
}

#[tokio::test]
async fn settings_that_cannot_be_read_are_told_with_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let said = async |name: &str| open(dir.path(), name).await.err().unwrap().to_string();
    for (text, words) in [
        ("server = 5\n", "line 1: invalid type"),
        ("\n\n[host.\"x\"\n", "line 3: "),
        ("[host.\"ftp://x\"]\n", "it should name a host"),
        ("[host.\"https://x\"]\ncapabilities = [\"fly\"]\n", "unknown capability \"fly\""),
        ("[host.\"https://x\"]\nca = 5\n", "data did not match any variant"),
        ("[host.\"https://x\"]\nskip_verfy = true\n", "unknown field `skip_verfy`"),
        ("[host.\"https://x\"]\ndial_timeout = \"fast\"\n", "dial_timeout \"fast\""),
        ("[host.\"https://x\"]\nheader = {a = 5}\n", "header \"a\" cannot be sent"),
        ("[host.\"https://u:p@x\"]\n", "a host with a path at most"),
    ] {
        write_hosts(dir.path(), "wrong.example", text);
        let error = said("wrong.example/a").await;
        assert!(error.contains("wrong.example/hosts.toml: ") && error.contains(words), "{error}");
    }
    for (text, words) in [
        ("[[registry]]\n", "neither prefix nor location"),
        ("[[registry]]\nprefix = \"*.a\"\nlocation = \"b\"\n", "has no location"),
        ("[[registry]]\nlocation = \"a\"\nblokced = true\n", "unknown field `blokced`"),
        (
            "[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\nlocation = \"b\"\npull-from-mirror = \"no\"\n",
            "pull-from-mirror",
        ),
        ("[[registry]]\nprefix = \"right.example\"\nlocation = \"a b\"\n", "a b"),
    ] {
        fs::write(dir.path().join("registries.conf"), text).unwrap();
        let error = said("right.example/a").await;
        assert!(error.contains("registries.conf: ") && error.contains(words), "{error}");
    }
    fs::write(dir.path().join("registries.conf"), vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(said("right.example/a").await.contains("larger than"));
}

#[tokio::test]
async fn a_registry_is_asked_again_when_it_wants_to_be() {
    let (registry, ..) = served();
    let dir = tempfile::tempdir().unwrap();
    let faulty = Faulty::start(&registry.host());
    let name = format!("{}/a/b:1", faulty.host());
    let busy = |after: &str| {
        Fault::Instead(
            Answer::new(
                429,
                "application/json",
                r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#,
            )
            .with("retry-after", after),
        )
    };
    faulty.fault("/manifests/", busy("1"), 1);
    let since = Instant::now();
    open(dir.path(), &name).await.unwrap().resolve("1").await.unwrap();
    assert!(since.elapsed() >= Duration::from_secs(1), "{:?}", since.elapsed());
    // A date, as servers may also say it.
    let soon = jiff::Timestamp::try_from(SystemTime::now() + Duration::from_millis(2500)).unwrap();
    let date = soon.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    faulty.fault("/manifests/", busy(&date), 1);
    let since = Instant::now();
    open(dir.path(), &name).await.unwrap().resolve("1").await.unwrap();
    assert!(since.elapsed() >= Duration::from_secs(1), "{:?}", since.elapsed());
    // Longer than anybody waits: it is said when.
    faulty.fault("/manifests/", busy("7200"), 1);
    let error = open(dir.path(), &name).await.unwrap().resolve("1").await.unwrap_err();
    assert_eq!(error.to_string(), "toomanyrequests: toomanyrequests: slow down (try again in 7200 s)");
    assert_eq!(faulty.asked().iter().filter(|asked| asked.path.contains("/manifests/")).count(), 5);
}

#[tokio::test]
async fn what_speaks_no_tls_is_not_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    write_hosts(dir.path(), "plain.example", &format!("server = \"https://{host}\"\n"));
    let served = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let mut asked = 0;
        loop {
            let (mut stream, _) = listener.accept().unwrap();
            let mut greeting = [0; 5];
            // The test's own word, that it is over.
            if stream.read_exact(&mut greeting).is_err() {
                return asked;
            }
            asked += 1;
            stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").unwrap();
        }
    });
    let reference = Reference::parse_named("plain.example/app:1").unwrap();
    let client = Client::new(options(dir.path())).unwrap();
    let repository = client.push_repository(&reference, Credentials::Anonymous).await.unwrap();
    let (bytes, kind) = (bytes::Bytes::from_static(b"{}"), oci::image::media_type::OCI_INDEX);
    let digest = fixtures::digest(&bytes).parse().unwrap();
    let error = repository.put_manifest("1", kind, &bytes, &digest).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().ends_with("http: server gave HTTP response to HTTPS client"), "{error}");
    drop(std::net::TcpStream::connect(&host).unwrap());
    assert_eq!(served.join().unwrap(), 1);
}
