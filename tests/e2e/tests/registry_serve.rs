//! Our registry under what happens: kills, restarts, many at once, collection, lies; whom it lets in; as a cache; in the daemon.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use base64::Engine as _;
use kit::embedded::Embedded;
use kit::fixtures::{self, Image, Layout, digest};
use kit::raw::{self, Reply};
use kit::registry::{Access, Registry, Setup, free_port};
use kit::repository::{MANIFEST, Repository};
use kit::{Cmd, Host, binary, wait_for};

/// Bytes that are not all the same.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}

fn basic(pair: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

fn skopeo(args: &[&str]) -> Cmd {
    Cmd::new("skopeo").args(["--insecure-policy"]).args(args)
}

/// How much of an upload a registry has: what it has written, it says; what it has only read may be lost.
fn reached(reply: &Reply) -> usize {
    let last: usize = reply.header("range").trim_start_matches("0-").parse().unwrap_or(0);
    if last == 0 { 0 } else { last + 1 }
}

#[test]
fn an_upload_goes_on_after_a_kill() {
    let mut registry = Embedded::start();
    let repository = Repository::new(registry.port(), "a/b");
    let (bytes, half) = (noise(6 << 20, 1), 3 << 20);
    let location = repository.begin();
    let mut stream = raw::connect(registry.port());
    let head = raw::head("PATCH", &location, &[], bytes.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes[..half])).expect("send half");
    wait_for("some of it", || (reached(&repository.ask("GET", &location, &[], b"")) > 0).then_some(()));
    registry.kill();
    registry.restart();
    let status = repository.ask("GET", &location, &[], b"");
    let there = reached(&status);
    assert!(status.status == 204 && there > 0 && there <= half, "{status:?}");
    let range = format!("{there}-{}", bytes.len() - 1);
    let more = repository.ask("PATCH", &location, &[("Content-Range", &range)], &bytes[there..]);
    assert_eq!(more.status, 202, "{more:?}");
    registry.kill();
    registry.restart();
    let wanted = digest(&bytes);
    assert_eq!(repository.finish(&location, &wanted, b"").status, 201);
    assert!(repository.ask("GET", &format!("blobs/{wanted}"), &[], b"").body == bytes);
}

#[test]
fn what_was_pushed_is_there_after_kills() {
    let mut registry = Embedded::start();
    for turn in 0..3 {
        Repository::new(registry.port(), "kept").push(&turn.to_string(), &format!("image {turn}"));
        registry.kill();
        registry.restart();
    }
    for turn in 0..3 {
        assert!(Repository::new(registry.port(), "kept").is_whole(&turn.to_string()), "{turn}");
    }
}

#[test]
fn a_connection_that_breaks_leaves_what_came() {
    let registry = Embedded::start();
    let repository = Repository::new(registry.port(), "cut");
    let (bytes, half) = (noise(6 << 20, 3), 3 << 20);
    let location = repository.begin();
    let mut stream = raw::connect(registry.port());
    let head = raw::head("PATCH", &location, &[], bytes.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes[..half])).expect("send half");
    wait_for("some of it", || (reached(&repository.ask("GET", &location, &[], b"")) > 0).then_some(()));
    drop(stream);
    // Until it has noticed, somebody else has the upload, or more of it is written.
    wait_for("the rest is taken", || {
        let there = reached(&repository.ask("GET", &location, &[], b""));
        assert!(there <= half);
        let range = format!("{there}-{}", bytes.len() - 1);
        let reply = repository.ask("PATCH", &location, &[("Content-Range", &range)], &bytes[there..]);
        (reply.status == 202).then_some(())
    });
    assert_eq!(repository.finish(&location, &digest(&bytes), b"").status, 201);
}

#[test]
fn many_push_one_blob() {
    let registry = Embedded::start();
    let bytes = noise(2 << 20, 7);
    thread::scope(|scope| {
        for n in 0..12 {
            let (bytes, port) = (&bytes, registry.port());
            scope.spawn(move || Repository::new(port, &format!("many/{}", n % 4)).push_blob(bytes));
        }
    });
    assert_eq!(registry.blobs(), 1);
    for n in 0..4 {
        let got = Repository::new(registry.port(), &format!("many/{n}")).ask(
            "GET",
            &format!("blobs/{}", digest(&bytes)),
            &[],
            b"",
        );
        assert!(got.status == 200 && got.body == bytes, "{n}");
    }
}

#[test]
fn collection_beside_pushes_loses_nothing() {
    let registry = Embedded::start();
    let stop = AtomicBool::new(false);
    let pushed: Vec<(String, String)> = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                registry.command("gc", &["--delete-untagged", "--grace", "0"]).ok();
            }
        });
        let pushers: Vec<_> = (0..3)
            .map(|who| {
                let port = registry.port();
                scope.spawn(move || {
                    let repository = Repository::new(port, &format!("busy/{who}"));
                    let mut pushed = Vec::new();
                    for turn in 0..12 {
                        // Words are shared: what one deletes, another needs.
                        let word = format!("word {}", turn % 5);
                        let manifest = Repository::manifest(&word).to_string().into_bytes();
                        let tag = format!("t{}", turn % 7);
                        // With no grace at all a blob may go before its manifest comes: a client is told so, and begins again.
                        wait_for("a push", || {
                            repository.push_parts(&word);
                            let reply = repository.put(&tag, MANIFEST, &manifest);
                            assert!(
                                reply.status == 201 || reply.code() == "MANIFEST_BLOB_UNKNOWN",
                                "{reply:?}"
                            );
                            (reply.status == 201).then_some(())
                        });
                        assert!(repository.is_whole(&tag), "{tag} of {who} at once");
                        if turn % 4 == 3 {
                            let deleted = repository.ask("DELETE", &format!("manifests/{tag}"), &[], b"");
                            assert_eq!(deleted.status, 202, "{deleted:?}");
                            pushed.retain(|(_, known): &(String, String)| *known != tag);
                        } else {
                            pushed.retain(|(_, known): &(String, String)| *known != tag);
                            pushed.push((repository.name.clone(), tag));
                        }
                    }
                    pushed
                })
            })
            .collect();
        let pushed = pushers.into_iter().flat_map(|pusher| pusher.join().expect("a pusher")).collect();
        stop.store(true, Ordering::Relaxed);
        pushed
    });
    registry.command("gc", &["--delete-untagged", "--grace", "0"]).ok();
    for (name, tag) in &pushed {
        assert!(Repository::new(registry.port(), name).is_whole(tag), "{name}:{tag}");
    }
}

#[test]
fn what_is_not_needed_goes() {
    let registry = Embedded::start();
    let repository = Repository::new(registry.port(), "gone");
    let old = digest(&repository.push("1", "old"));
    repository.push("1", "new");
    repository.push_blob(b"never used");
    let before = registry.blobs();
    registry.command("gc", &["--grace", "0"]).ok();
    // The old manifest has no tag, but nobody asked for it to go.
    assert_eq!(registry.blobs(), before - 1);
    assert_eq!(repository.ask("HEAD", &format!("manifests/{old}"), &[], b"").status, 200);
    registry.command("gc", &["--grace", "0", "--delete-untagged"]).ok();
    assert_eq!(registry.blobs(), 3);
    assert!(repository.is_whole("1"));
    // An artifact about a manifest stays as long as that does.
    let subject = repository.ask("GET", "manifests/1", &[], b"").body;
    let mut note = Repository::manifest("new");
    note["subject"] = Repository::describe(MANIFEST, &subject);
    let note = note.to_string().into_bytes();
    assert_eq!(repository.put(&digest(&note), MANIFEST, &note).status, 201);
    registry.command("gc", &["--grace", "0", "--delete-untagged"]).ok();
    assert_eq!(registry.blobs(), 4);
    registry.command("rm", &["gone:1"]).ok();
    registry.command("gc", &["--grace", "0", "--delete-untagged"]).ok();
    assert_eq!(registry.blobs(), 0);
    assert_eq!(repository.ask("GET", "tags/list", &[], b"").code(), "NAME_UNKNOWN");
}

#[test]
fn deletion_is_followed_by_collection_in_the_background() {
    let registry = Embedded::start();
    let repository = Repository::new(registry.port(), "soon");
    let wanted = repository.push_blob(b"to be deleted");
    assert_eq!(repository.ask("DELETE", &format!("blobs/{wanted}"), &[], b"").status, 202);
    wait_for("the blob is gone", || (registry.blobs() == 0).then_some(()));
}

#[test]
fn the_administrator_looks_after_it() {
    let mut registry = Embedded::start();
    let manifest = Repository::new(registry.port(), "team/web").push("1", "web");
    Repository::new(registry.port(), "base").push("2", "base");
    // While it serves, and while it does not: the same.
    for serving in [true, false] {
        if !serving {
            registry.stop();
        }
        assert_eq!(registry.command("ls", &[]).ok(), "base\nteam/web");
        assert_eq!(
            registry.command("ls", &["team/web"]).ok(),
            format!("TAG   DIGEST\n1     {}", digest(&manifest))
        );
        registry.command("ls", &["nobody"]).fails(1, "repository name not known to registry");
        registry.command("rm", &["team/web"]).fails(125, "names no tag and no digest");
        registry.command("rm", &["team/web:9"]).fails(1, "manifest unknown: 9");
    }
    registry.command("rm", &["base:2"]).ok();
    registry.restart();
    assert_eq!(registry.ask("GET", "/v2/base/manifests/2", &[], b"").status, 404);
    assert_eq!(registry.ask("GET", "/v2/team/web/manifests/1", &[], b"").status, 200);
    // Another one over the same data has to wait.
    let root = registry.data_root().display().to_string();
    let second =
        Cmd::new(binary()).args(["registry", "serve", "--addr", "127.0.0.1:0", "--data-root", &root]);
    second.fails(1, "in use by another daemon");
    let help = Cmd::new(binary()).args(["registry", "serve", "--help"]).ok();
    assert!(help.contains("Examples:"), "{help}");
    Cmd::new(binary()).args(["registry", "serve", "--nonsense"]).fails(125, "--nonsense");
    Cmd::new(binary()).args(["registry", "serve", "--anonymous-pull"]).fails(125, "anonymous-pull needs");
    Cmd::new(binary())
        .args(["registry", "ls", "--data-root", "/nonexistent"])
        .fails(1, "there is no registry in");
}

#[test]
fn it_ends_when_told_to() {
    let mut registry = Embedded::start();
    Repository::new(registry.port(), "a").push("1", "a");
    registry.stop();
    assert!(registry.log().contains("ending"), "{}", registry.log());
    assert!(!registry.data_root().join("registry.sock").exists());
}

#[test]
fn what_it_is_not_to_do() {
    let registry = Embedded::with(&["--no-delete"]);
    let repository = Repository::new(registry.port(), "a");
    repository.push("1", "a");
    assert_eq!(repository.ask("DELETE", "manifests/1", &[], b"").code(), "UNSUPPORTED");
    let at = repository.begin();
    assert_eq!(repository.ask("DELETE", &at, &[], b"").status, 204);
    let registry = Embedded::with(&["--read-only"]);
    let repository = Repository::new(registry.port(), "a");
    assert_eq!(repository.ask("POST", "blobs/uploads/", &[], b"").status, 405);
    assert_eq!(repository.put("1", MANIFEST, b"{}").code(), "UNSUPPORTED");
    assert_eq!(repository.ask("GET", "manifests/1", &[], b"").status, 404);
}

#[test]
fn users_of_a_password_file() {
    let registry = Embedded::with(&["--htpasswd", "{dir}/htpasswd"]);
    let refused = registry.ask("GET", "/v2/", &[], b"");
    assert_eq!((refused.status, refused.code().as_str()), (401, "UNAUTHORIZED"));
    assert!(refused.header("www-authenticate").starts_with("Basic realm="), "{refused:?}");
    for (pair, status) in [("ada:secret", 200), ("ada:wrong", 401), ("eve:secret", 401), ("ada", 401)] {
        assert_eq!(
            registry.ask("GET", "/v2/", &[("Authorization", &basic(pair))], b"").status,
            status,
            "{pair}"
        );
    }
    let open = Embedded::with(&["--htpasswd", "{dir}/htpasswd", "--anonymous-pull"]);
    assert_eq!(open.ask("GET", "/v2/a/tags/list", &[], b"").code(), "NAME_UNKNOWN");
    assert_eq!(open.ask("POST", "/v2/a/blobs/uploads/", &[], b"").status, 401);
    assert_eq!(
        open.ask("POST", "/v2/a/blobs/uploads/", &[("Authorization", &basic("ada:secret"))], b"").status,
        202
    );
    let layout = Layout::new(&[Image::new(vec![fixtures::noise_layer(1000, 1)], serde_json::json!({}))]);
    let name = format!("docker://{}/box:1", open.host());
    let to = ["copy", "--dest-tls-verify=false", "--dest-creds", "ada:secret", &layout.skopeo(), &name];
    skopeo(&to).ok();
    let found = skopeo(&["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &name]).ok();
    assert_eq!(found, layout.digest);
}

#[test]
fn bearers_of_tokens() {
    let registry = Embedded::with_tokens(&[]);
    let refused = registry.ask("POST", "/v2/team/web/blobs/uploads/", &[], b"");
    assert_eq!(refused.status, 401);
    let challenge = refused.header("www-authenticate");
    assert!(challenge.starts_with("Bearer realm=\"http://"), "{challenge}");
    assert!(challenge.contains("service=\"tests\",scope=\"repository:team/web:pull,push\""), "{challenge}");
    let wrong = registry.ask("GET", "/v2/", &[("Authorization", "Bearer a.b.c")], b"");
    assert!(wrong.header("www-authenticate").contains("error=\"invalid_token\""), "{wrong:?}");
    let layout = Layout::new(&[Image::new(vec![fixtures::noise_layer(1000, 1)], serde_json::json!({}))]);
    for name in ["public/box:1", "private/box:1"] {
        let name = format!("docker://{}/{name}", registry.host());
        let creds =
            ["copy", "--dest-tls-verify=false", "--dest-creds", "ada:secret", &layout.skopeo(), &name];
        skopeo(&creds).ok();
    }
    let inspect = |name: &str| {
        let name = format!("docker://{}/{name}", registry.host());
        skopeo(&["inspect", "--no-tags", "--tls-verify=false", &name]).run().code
    };
    assert_eq!((inspect("public/box:1"), inspect("private/box:1") != 0), (0, true));
    // A token for one repository opens no other, nor a blob of it by a mount.
    let from = layout.manifests[0].clone();
    let token = bearer(&registry, "public/box");
    let headers = [("Authorization", token.as_str())];
    assert_eq!(registry.ask("GET", "/v2/public/box/manifests/1", &headers, b"").status, 200);
    let other = registry.ask("GET", &format!("/v2/private/box/manifests/{from}"), &headers, b"");
    assert!(other.header("www-authenticate").contains("error=\"insufficient_scope\""), "{other:?}");
    assert_eq!(
        registry.ask("DELETE", &format!("/v2/public/box/manifests/{from}"), &headers, b"").status,
        401
    );
}

/// A token with which everybody may pull from a repository.
fn bearer(registry: &Embedded, repository: &str) -> String {
    let realm = registry.tokens().expect("a token server").realm();
    let url = format!("{realm}?service=tests&scope=repository:{repository}:pull");
    let answer = Cmd::new("curl").args(["-s", &url]).ok();
    let document: serde_json::Value = serde_json::from_str(&answer).expect("a token");
    format!("Bearer {}", document["token"].as_str().expect("a token"))
}

#[test]
fn over_tls() {
    let registry = Embedded::with(&[
        "--tls-cert",
        "{dir}/server.crt",
        "--tls-key",
        "{dir}/server.key",
        "--tls-client-ca",
        "{dir}/ca.crt",
    ]);
    let file = |name: &str| registry.dir().join(name).display().to_string();
    let url = format!("https://localhost:{}/v2/", registry.port());
    let plain = Cmd::new("curl").args(["-s", "--cacert", &file("ca.crt"), &url]).run();
    assert_ne!(plain.code, 0, "without a certificate of its own a client is not let in");
    let openssl = |args: &[&str]| Cmd::new("openssl").args(args).current_dir(registry.dir()).ok();
    openssl(&[
        "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "c.key", "-out", "c.csr", "-subj", "/CN=ada",
    ]);
    std::fs::write(file("c.ext"), "extendedKeyUsage=clientAuth\n").expect("write extensions");
    let sign = ["x509", "-req", "-in", "c.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl(&[&sign[..], &["-days", "2", "-extfile", "c.ext", "-out", "c.crt"]].concat());
    let args = ["-s", "--cacert", &file("ca.crt"), "--cert", &file("c.crt"), "--key", &file("c.key"), &url];
    assert_eq!(Cmd::new("curl").args(args).ok(), "{}");
}

#[test]
fn requests_that_nobody_should_send() {
    let registry = Embedded::start();
    let long = "x".repeat(100_000);
    assert_eq!(registry.ask("GET", &format!("/v2/a/manifests/{}", "x".repeat(500)), &[], b"").status, 404);
    assert!(matches!(registry.ask("GET", "/v2/", &[("X-Long", &long.repeat(5))], b"").status, 400 | 431));
    assert_eq!(registry.ask("GET", &format!("/v2/_catalog?last={}", "x".repeat(5000)), &[], b"").status, 400);
    let repository = Repository::new(registry.port(), "a");
    // It says more than the limit before it sends anything.
    let lie = [("Content-Type", MANIFEST), ("Content-Length", "99999999999")];
    assert_eq!(repository.ask("PUT", "manifests/1", &lie, b"{").code(), "MANIFEST_INVALID");
    for digest in ["sha256:../../../etc/passwd", "sha256:%2e%2e", "%00", "..", "sha256:"] {
        let reply = repository.ask("GET", &format!("blobs/{digest}"), &[], b"");
        assert!(matches!(reply.status, 400 | 404), "{digest}: {reply:?}");
    }
    let page = [("Origin", "http://evil.example")];
    assert_eq!(repository.ask("POST", "blobs/uploads/", &page, b"").code(), "DENIED");
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(repository.put("1", MANIFEST, deep.as_bytes()).code(), "MANIFEST_INVALID");
    assert_eq!(registry.ask("GET", "/v2/", &[], b"").status, 200);
    assert_eq!(std::fs::read_dir(registry.data_root().join("content/new")).expect("a folder").count(), 0);
}

#[test]
fn who_connects_and_says_nothing_shuts_nobody_out() {
    let registry = Embedded::start();
    Repository::new(registry.port(), "a").push("1", "a");
    let port = registry.port();
    // Some have asked before, and wait for what they may ask next; the others never say a word. Together more than there are
    // places for.
    let mut silent = Vec::new();
    for n in 0..560 {
        let mut stream = raw::connect(port);
        if n % 8 == 0 {
            let asked = stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n");
            asked.expect("ask once");
        }
        silent.push(stream);
    }
    let began = std::time::Instant::now();
    assert_eq!(registry.command("ls", &[]).ok(), "a");
    assert!(began.elapsed() < std::time::Duration::from_secs(8), "the administrator waits for nobody");
    assert_eq!(registry.ask("GET", "/v2/a/tags/list", &[], b"").status, 200);
    assert!(Repository::new(port, "a").is_whole("1"));
}

#[test]
fn a_page_whose_name_means_loopback_is_not_answered() {
    let registry = Embedded::start();
    for (method, target) in [("GET", "/v2/_catalog"), ("POST", "/v2/a/blobs/uploads/")] {
        let mut stream = raw::connect(registry.port());
        let request = format!(
            "{method} {target} HTTP/1.0\r\nHost: evil.example:{}\r\nOrigin: http://evil.example:{}\r\nContent-Length: 0\r\n\r\n",
            registry.port(),
            registry.port()
        );
        stream.write_all(request.as_bytes()).expect("send");
        let reply = Reply::read(&mut stream);
        assert_eq!((reply.status, reply.code().as_str()), (403, "DENIED"), "{reply:?}");
    }
}

#[test]
fn a_cache_of_another_registry() {
    let mut upstream = Registry::with(Setup {
        access: Access::Basic { username: "ada".into(), password: "secret".into() },
        tls: false,
    });
    let image = |seed| Image::new(vec![fixtures::noise_layer(3 << 20, seed)], serde_json::json!({}));
    let (one, two) = (Layout::new(&[image(1)]), Layout::new(&[image(2)]));
    upstream.push(&one, "team/box:1");
    let url = format!("http://{}", upstream.host());
    let cache = Embedded::with(&["--proxy", &url, "--proxy-credentials", "{dir}/credentials"]);
    let name = format!("docker://{}/team/box:1", cache.host());
    let pull = || {
        let out = tempfile::tempdir().expect("a temporary directory");
        let to = format!("dir:{}", out.path().display());
        skopeo(&["copy", "--quiet", "--src-tls-verify=false", &name, &to]).ok();
        digest(&std::fs::read(out.path().join("manifest.json")).expect("a manifest"))
    };
    assert_eq!(pull(), one.digest);
    // The tag moves, and the cache follows.
    upstream.push(&two, "team/box:1");
    assert_eq!(pull(), two.digest);
    let tags = cache.ask("GET", "/v2/team/box/tags/list", &[], b"");
    assert!(tags.text().contains("[\"1\"]"), "{tags:?}");
    // Many at once ask for one blob, and it is fetched once.
    let blob = digest(&noise(10, 1));
    assert_eq!(cache.ask("GET", &format!("/v2/team/box/blobs/{blob}"), &[], b"").code(), "BLOB_UNKNOWN");
    assert_eq!(cache.ask("POST", "/v2/team/box/blobs/uploads/", &[], b"").code(), "UNSUPPORTED");
    assert_eq!(cache.ask("GET", "/v2/team/box/manifests/none", &[], b"").code(), "MANIFEST_UNKNOWN");
    upstream.stop();
    assert_eq!(pull(), two.digest);
    let tags = cache.ask("GET", "/v2/team/box/tags/list", &[], b"");
    assert!(tags.text().contains("[\"1\"]"), "{tags:?}");
    assert_eq!(cache.ask("GET", "/v2/team/box/manifests/none", &[], b"").status, 502);
}

#[test]
fn many_ask_a_cache_for_one_blob() {
    let upstream = Registry::start();
    let layer = fixtures::noise_layer(6 << 20, 3);
    let wanted = layer.digest();
    upstream.push(&Layout::new(&[Image::new(vec![layer], serde_json::json!({}))]), "big:1");
    let cache = Embedded::with(&["--proxy", &format!("http://{}", upstream.host())]);
    let repository = Repository::new(cache.port(), "big");
    assert_eq!(repository.ask("GET", "manifests/1", &[], b"").status, 200);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let got = repository.ask("GET", &format!("blobs/{wanted}"), &[], b"");
                assert!(got.status == 200 && digest(&got.body) == wanted);
            });
        }
    });
    let part = repository.ask("GET", &format!("blobs/{wanted}"), &[("Range", "bytes=5-9")], b"");
    assert_eq!((part.status, part.body.len()), (206, 5));
    let asked = upstream.log().matches(&format!("GET /v2/big/blobs/{wanted}")).count();
    assert!(asked >= 1, "{}", upstream.log());
    // Uploads of the cache's own are not left behind.
    wait_for("uploads end", || {
        let left = std::fs::read_dir(cache.data_root().join("content/uploads")).expect("a folder").count();
        (left == 0).then_some(())
    });
}

#[test]
fn in_the_daemon_over_its_own_store() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let host = Host::with_flags(&["--registry", &address]);
    let elsewhere = Registry::start();
    let layout = Layout::new(&[Image::new(vec![fixtures::noise_layer(100_000, 5)], serde_json::json!({}))]);
    let pulled = elsewhere.push(&layout, "team/box:1");
    host.docker(["pull", &pulled]).ok();
    // What the engine has is nobody's business.
    let catalog = raw::ask(port, "GET", "/v2/_catalog", &[], b"");
    assert_eq!(catalog.text(), r#"{"repositories":[]}"#);
    let blob = raw::ask(port, "GET", &format!("/v2/team/box/manifests/{}", layout.digest), &[], b"");
    assert_eq!(blob.status, 404);
    let blobs =
        || std::fs::read_dir(host.data_root().join("content/blobs/sha256")).expect("a folder").count();
    let before = blobs();
    // Pushed, it is served; and still there once.
    let to = format!("docker://{address}/mine/box:1");
    skopeo(&["copy", "--quiet", "--dest-tls-verify=false", &layout.skopeo(), &to]).ok();
    assert_eq!(blobs(), before);
    host.docker(["rmi", &pulled]).ok();
    let repository = Repository::new(port, "mine/box");
    assert!(repository.is_whole("1"));
    host.docker(["pull", &format!("{address}/mine/box:1")]).ok();
    assert_eq!(
        host.docker(["inspect", "-f", "{{.Id}}", &format!("{address}/mine/box:1")]).ok(),
        layout.digest
    );
    assert_eq!(blobs(), before);
    // Deleted in the registry, the engine keeps it.
    let deleted = repository.ask("DELETE", &format!("manifests/{}", layout.digest), &[], b"");
    assert_eq!(deleted.status, 202);
    let root = host.data_root().display().to_string();
    Cmd::new(binary()).args(["registry", "gc", "--grace", "0", "--data-root", &root]).ok();
    assert_eq!(blobs(), before);
    host.docker(["rmi", &format!("{address}/mine/box:1")]).ok();
    host.docker(["image", "prune", "-af"]).ok();
    wait_for("nothing is left", || (blobs() == 0).then_some(()));
}
