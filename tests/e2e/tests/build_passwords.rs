//! Passwords in addresses: they are for who is called, and are in nothing that a build keeps or tells.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kit::{Cmd, Host, Output};

/// `user:hushhush`.
const AUTHORIZATION: &str = "authorization: basic dxnlcjpodxnoahvzaa==";
/// `x-access-token:hushhush`, as a token is sent.
const TOKEN: &str = "authorization: basic ec1hy2nlc3mtdg9rzw46ahvzagh1c2g=";

fn folder(host: &Host, dockerfile: &str) -> PathBuf {
    let path = host.root().join("context");
    fs::create_dir_all(&path).expect("a directory");
    fs::write(path.join("Dockerfile"), dockerfile).expect("a file");
    path
}

/// What a build has said, but for the line of the Dockerfile itself.
fn told(built: &Output) -> String {
    let all = format!("{}\n{}", built.stdout, built.stderr);
    all.lines().filter(|line| !line.contains(">>> ")).collect::<Vec<_>>().join("\n")
}

/// Answers one request by git's own program, if it has the password.
fn answer(stream: TcpStream, repositories: &Path) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let (mut length, mut headers) = (0, Vec::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(text) = line.to_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap_or(0);
        }
        headers.push(line.trim().to_owned());
    }
    let mut stream = stream;
    if !headers.iter().any(|line| [AUTHORIZATION, TOKEN].contains(&&*line.to_lowercase())) {
        let refused = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n";
        return write!(stream, "{refused}Content-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let header = |name: &str| {
        let found = headers.iter().find(|line| line.to_lowercase().starts_with(name));
        found.and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", repositories)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type:"))
        .env("CONTENT_LENGTH", length.to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding:"))
        .env("GIT_PROTOCOL", header("git-protocol:"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().expect("a pipe").write_all(&body)?;
    let said = child.wait_with_output()?.stdout;
    let is_missing = said.starts_with(b"Status: 404");
    stream.write_all(if is_missing { b"HTTP/1.1 404 Not Found\r\n" } else { b"HTTP/1.1 200 OK\r\n" })?;
    stream.write_all(b"Connection: close\r\n")?;
    stream.write_all(&said)
}

/// Repositories that are served by HTTP to who has the password.
fn served(folder: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            std::thread::spawn(move || answer(stream, &folder));
        }
    });
    address
}

fn git(folder: &Path, args: &[&str]) {
    fs::create_dir_all(folder).expect("a directory");
    let settings = ["-c", "user.name=n", "-c", "user.email=e", "-c", "protocol.file.allow=always"];
    let at = ["-C", folder.to_str().expect("UTF-8")];
    Cmd::new("git").args(settings.iter().chain(&at).chain(args).copied()).ok();
}

#[test]
fn a_repository_keeps_no_password() {
    let host = Host::with_busybox();
    let repositories = host.root().join("repositories");
    for name in ["inner", "outer"] {
        let path = repositories.join(format!("{name}.git"));
        git(&path, &["init", "-q"]);
        fs::write(path.join("file"), name).expect("a file");
        git(&path, &["add", "-A"]);
        git(&path, &["commit", "-q", "-m", "m"]);
    }
    let outer = repositories.join("outer.git");
    let inner = format!("file://{}", repositories.join("inner.git").display());
    git(&outer, &["submodule", "--quiet", "add", &inner, "mod"]);
    git(&outer, &["config", "-f", ".gitmodules", "submodule.mod.url", "../inner.git"]);
    git(&outer, &["commit", "-q", "-a", "-m", "relative"]);
    let address = served(&repositories);
    let text = format!("FROM busybox\nADD --keep-git-dir http://user:hushhush@{address}/outer.git /r\n");
    let folder = folder(&host, &text);
    let built = host
        .corten(["build", "--network", "none", "-t", "r", "--progress", "plain", "."])
        .current_dir(&folder)
        .run();
    assert_eq!(built.code, 0, "{built}");
    assert!(!format!("{built}").contains("hushhush"), "{built}");
    let found = host
        .corten([
            "run",
            "--rm",
            "--network",
            "none",
            "r",
            "sh",
            "-c",
            "cat /r/file /r/mod/file /r/.git/config; ! grep -rl hushhush /r",
        ])
        .ok();
    assert!(found.starts_with("outerinner"), "{found}");
    assert!(found.contains(&format!("http://{address}/outer.git")), "{found}");
    // And without it nothing comes, which is told without it as well.
    fs::write(folder.join("Dockerfile"), text.replace("user:hush", "user:hushh")).expect("a file");
    let refused = host.corten(["build", "--progress", "plain", "."]).current_dir(&folder).run();
    assert!(refused.code == 1 && !told(&refused).contains("hushh"), "{refused}");
}

#[test]
fn tokens_are_secrets_of_the_build() {
    let host = Host::with_busybox();
    let path = host.root().join("repositories/private.git");
    git(&path, &["init", "-q"]);
    fs::write(path.join("Dockerfile"), "FROM busybox\nCOPY . /r\n").expect("a file");
    git(&path, &["add", "-A"]);
    git(&path, &["commit", "-q", "-m", "m"]);
    let address = served(&host.root().join("repositories"));
    let url = format!("http://{address}/private.git");
    let folder = folder(&host, &format!("FROM busybox\nADD {url} /r\n"));
    let build = |secret: &str, context: &str| {
        let args = ["build", "--network", "none", "--no-cache", "--progress", "plain", "-t", "r"];
        let client = host.corten(args.iter().chain(&["--secret", secret, context]));
        client.current_dir(&folder).env("GIVEN", "hushhush").env("HEADER", "basic dXNlcjpodXNoaHVzaA==").run()
    };
    // For all who are asked, for this one alone, and as a header of the user's own; for what is added and for the context itself.
    for secret in [
        "id=GIT_AUTH_TOKEN,env=GIVEN",
        &format!("id=GIT_AUTH_TOKEN.{address},env=GIVEN"),
        "id=GIT_AUTH_HEADER,env=HEADER",
    ] {
        for context in [".", &url] {
            let built = build(secret, context);
            assert!(built.code == 0 && !format!("{built}").contains("hushhush"), "{secret}: {built}");
        }
    }
    host.corten(["run", "--rm", "--network", "none", "r", "cat", "/r/Dockerfile"]).ok();
    for secret in ["id=other,env=GIVEN", "id=GIT_AUTH_TOKEN.elsewhere.example,env=GIVEN"] {
        assert_eq!(build(secret, ".").code, 1, "{secret}");
    }
}

#[test]
fn addresses_are_told_and_kept_without_passwords() {
    let host = Host::with_busybox();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            let has = String::from_utf8_lossy(&request[..length]).to_lowercase().contains(AUTHORIZATION);
            let said = if has { "200 OK\r\nContent-Length: 2" } else { "403 Forbidden\r\nContent-Length: 0" };
            let body = if has { "ok" } else { "" };
            let _ = write!(stream, "HTTP/1.1 {said}\r\nConnection: close\r\n\r\n{body}");
        }
    });
    let good = format!("FROM busybox\nADD http://user:hushhush@{address}/f /\n");
    let bad = format!("FROM busybox\nADD http://user:hushhushed@{address}/f /\n");
    let wrong = format!(
        "FROM busybox\nADD --checksum=sha256:{} http://user:hushhush@{address}/f /\n",
        "0".repeat(64)
    );
    let nameless = format!("FROM busybox\nADD http://user:hushhush@{address}/ /\n");
    for (text, code) in [(good, 0), (bad, 1), (wrong, 1), (nameless, 1)] {
        let folder = folder(&host, &text);
        let built =
            host.corten(["build", "-t", "made", "--progress", "plain", "."]).current_dir(&folder).run();
        assert_eq!(built.code, code, "{built}");
        let told = told(&built);
        assert!(told.contains("ADD") && !told.contains("hushhush"), "{built}");
    }
    // The names of steps are what the cache calls its entries.
    let socket = host.socket().display().to_string();
    let cache = Cmd::new("curl").args(["-sS", "--unix-socket", &socket, "http://engine/v1.41/system/df"]);
    let history = host.corten(["history", "--no-trunc", "made"]);
    for told in [cache.ok(), history.ok()] {
        assert!(told.contains("ADD http://xxxxx@") && !told.contains("hushhush"), "{told}");
    }
}
