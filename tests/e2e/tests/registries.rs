//! Where images come from by the daemon's settings: mirrors, other engines' files, certificates, proxies.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use kit::faulty::Faulty;
use kit::fixtures::{self, Image, Layout};
use kit::registry::{Access, Registry, Setup};
use kit::{CLIS, Cli, Host};

fn small() -> Layout {
    Layout::new(&[Image::new(vec![fixtures::noise_layer(1000, 3)], serde_json::json!({"Cmd": ["true"]}))])
}

/// A proxy as companies have them: plain HTTP by whole URLs, TLS by CONNECT. Whatever is asked for, one server is led to.
struct Proxy {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let at = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let list = asked.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (list, upstream) = (list.clone(), upstream.clone());
                thread::spawn(move || serve(client, &upstream, &list));
            }
        });
        Self { at, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("the list").clone()
    }
}

fn serve(client: TcpStream, upstream: &str, asked: &Mutex<Vec<String>>) -> Option<()> {
    let mut from = BufReader::new(client.try_clone().ok()?);
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    asked.lock().ok()?.push(line.trim().to_owned());
    let mut head = String::new();
    while from.read_line(&mut head).ok()? > 2 {}
    let mut server = TcpStream::connect(upstream).ok()?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    if method == "CONNECT" {
        (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    } else {
        let path = target.strip_prefix("http://")?.split_once('/')?.1;
        write!(server, "{method} /{path} HTTP/1.1\r\nConnection: close\r\n{head}").ok()?;
    }
    let mut back = server.try_clone().ok()?;
    let to = client.try_clone().ok()?;
    thread::spawn(move || {
        let _ = std::io::copy(&mut back, &mut &to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let mut buffer = [0; 8192];
    loop {
        let length = from.read(&mut buffer).ok().filter(|length| *length > 0)?;
        server.write_all(&buffer[..length]).ok()?;
    }
}

#[test]
fn by_a_proxy() {
    let (plain, tls) = (Registry::start(), Registry::with(Setup { access: Access::Open, tls: true }));
    for (registry, first) in
        [(&plain, "GET http://registry.test:5000/v2/"), (&tls, "CONNECT registry.test:5000")]
    {
        registry.push(&small(), "a/b:1");
        let proxy = Proxy::start(registry.host());
        let url = format!("http://user:word@{}", proxy.at);
        let host = Host::with_flags(&[
            "--http-proxy",
            &url,
            "--https-proxy",
            &url,
            "--no-proxy",
            "direct.test",
            "--insecure-registry",
            "registry.test:5000",
        ]);
        for cli in CLIS {
            host.cli(cli, ["pull", "-q", "registry.test:5000/a/b:1"]).ok();
            host.cli(cli, ["rmi", "registry.test:5000/a/b:1"]).ok();
            host.cli(cli, ["pull", "direct.test/a/b:1"]).fails(1, "lookup direct.test");
            let said = host.cli(cli, ["info", "-f", "{{.HTTPProxy}} {{.NoProxy}}"]).ok();
            assert_eq!(said, format!("http://xxxxx:xxxxx@{} direct.test", proxy.at));
        }
        let asked = proxy.asked();
        assert!(asked.iter().any(|line| line.starts_with(first)), "{asked:?}");
        assert!(!asked.iter().any(|line| line.contains("direct.test")), "{asked:?}");
    }
}

#[test]
fn docker_hub_is_searched_where_it_can_be() {
    let proxy = Proxy::start("127.0.0.1:1".to_owned());
    let url = format!("http://{}", proxy.at);
    let host = Host::with_flags(&["--https-proxy", &url, "--registry-mirror", "http://127.0.0.1:1"]);
    host.corten(["search", "busybox"]).fails(1, "https://index.docker.io/v");
    assert!(proxy.asked()[0].starts_with("CONNECT index.docker.io:443 "), "{:?}", proxy.asked());
}

#[test]
fn by_files_of_containerd_and_podman() {
    let registry = Registry::start();
    registry.push(&small(), "library/box:1");
    let mirror = Faulty::start(&registry.host());
    let folder = tempfile::tempdir().expect("make a folder");
    let (certs, conf) = (folder.path().join("certs.d"), folder.path().join("registries.conf"));
    fs::create_dir_all(certs.join("docker.io")).unwrap();
    fs::write(certs.join("docker.io/hosts.toml"), format!("[host.\"http://{}\"]\n", mirror.host())).unwrap();
    let text = format!(
        "[[registry]]\nprefix = \"team.test\"\nlocation = \"{}/library\"\n[[registry]]\nlocation = \"bad.test\"\nblocked = true\n",
        mirror.host()
    );
    fs::write(&conf, text).unwrap();
    let flags =
        ["--certs-dir", &certs.display().to_string(), "--registries-conf", &conf.display().to_string()];
    let host = Host::with_flags(&flags);
    for cli in CLIS {
        host.cli(cli, ["pull", "-q", "box:1"]).ok();
        assert!(
            mirror.asked().iter().any(|asked| asked.path.contains("/library/box/manifests/1?ns=docker.io"))
        );
        assert_eq!(host.cli(cli, ["pull", "-q", "team.test/box:1"]).ok(), "team.test/box:1");
        host.cli(cli, ["pull", "bad.test/box:1"]).fails(1, "bad.test/box:1 is blocked by ");
        host.cli(cli, ["rmi", "box:1", "team.test/box:1"]).ok();
    }
    // Changes count from the next question on; what cannot be read is said, not passed over.
    fs::write(certs.join("docker.io/hosts.toml"), "[host.\"http://x\"\n").unwrap();
    host.corten(["pull", "box:1"]).fails(1, "docker.io/hosts.toml: line 1: ");
}

#[test]
fn by_mirrors_of_the_daemon() {
    let registry = Registry::start();
    registry.push(&small(), "library/box:1");
    let mirror = Faulty::start(&registry.host());
    let dead = "http://127.0.0.1:1";
    let url = format!("http://{}", mirror.host());
    let host = Host::with_flags(&["--registry-mirror", dead, "--registry-mirror", &url]);
    host.corten(["pull", "-q", "box:1"]).ok();
    assert!(!mirror.asked().is_empty());
    let said = host.cli(Cli::Docker, ["info", "-f", "{{json .RegistryConfig.Mirrors}}"]).ok();
    assert_eq!(said, format!("[\"{dead}/\",\"{url}/\"]"));
}
