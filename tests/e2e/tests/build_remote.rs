//! Contexts and files from elsewhere: repositories of git, archives and Dockerfiles on the net.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kit::{Cli, Cmd, Host, compose, wait_for};

/// Repositories that are served on a port of loopback.
struct Repositories {
    folder: PathBuf,
    address: SocketAddr,
}

impl Repositories {
    /// Each connection gets a server of its own, which ends with it.
    fn new(host: &Host) -> Self {
        let folder = host.root().join("repositories");
        fs::create_dir_all(&folder).expect("a directory");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let base = folder.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (input, output) = (stream.try_clone().expect("a socket"), stream);
                let served = Command::new("git")
                    .args(["daemon", "--inetd", "--export-all"])
                    .arg(format!("--base-path={}", base.display()))
                    .stdin(OwnedFd::from(input))
                    .stdout(OwnedFd::from(output))
                    .stderr(Stdio::null())
                    .spawn();
                std::thread::spawn(move || served.map(|mut child| child.wait()));
            }
        });
        Self { folder, address }
    }

    fn url(&self, name: &str) -> String {
        format!("git://{}/{name}", self.address)
    }

    fn git(&self, name: &str, args: &[&str]) -> String {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).expect("a directory");
        let settings = [
            "user.name=n",
            "user.email=e",
            "commit.gpgsign=false",
            "protocol.file.allow=always",
            "init.defaultBranch=main",
        ];
        let settings = settings.iter().flat_map(|setting| ["-c", setting]);
        let args = settings.chain(["-C", folder.to_str().expect("UTF-8")]).chain(args.iter().copied());
        Cmd::new("git").args(args.collect::<Vec<_>>()).env("GIT_COMMITTER_DATE", "2001-02-03T04:05:06Z").ok()
    }

    /// Makes a commit of files; its id.
    fn commit(&self, name: &str, files: &[(&str, &str)]) -> String {
        if !self.folder.join(name).join(".git").exists() {
            self.git(name, &["init", "-q"]);
        }
        for (path, text) in files {
            let path = self.folder.join(name).join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        self.git(name, &["add", "-A"]);
        self.git(name, &["commit", "-q", "-m", "message"]);
        self.git(name, &["rev-parse", "HEAD"])
    }
}

fn folder(host: &Host, dockerfile: &str) -> PathBuf {
    let path = host.root().join("context");
    fs::create_dir_all(&path).expect("a directory");
    fs::write(path.join("Dockerfile"), dockerfile).expect("a file");
    path
}

fn build(host: &Host, folder: &Path, tag: &str) -> Cmd {
    let build = host.corten(["build", "--network", "none", "-t", tag, "."]).current_dir(folder);
    build.env("DOCKER_BUILDKIT", "0")
}

fn run(host: &Host, image: &str, script: &str) -> String {
    host.corten(["run", "--rm", "--network", "none", image, "sh", "-c", script]).ok()
}

/// `POST /build?remote=…`; what it says.
fn post(host: &Host, remote: &str, more: &str) -> String {
    let encoded: String = remote.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let url = format!("http://engine/v1.41/build?networkmode=none&remote={encoded}{more}");
    let socket = host.socket().display().to_string();
    Cmd::new("curl").args(["-sS", "--unix-socket", &socket, "-X", "POST", &url]).ok()
}

#[test]
fn repositories_are_added() {
    let host = Host::with_busybox();
    let served = Repositories::new(&host);
    let first = served.commit("repo", &[("a", "one"), ("sub/b", "b"), ("sub/tool", "t")]);
    let tool = served.folder.join("repo/sub/tool");
    fs::set_permissions(tool, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("a mode");
    let second = served.commit("repo", &[("a", "two")]);
    served.git("repo", &["tag", "-a", "-m", "m", "v1", &first]);
    served.git("repo", &["branch", "old", &first]);
    let url = served.url("repo");
    let dockerfile = format!(
        "FROM busybox\nADD {url} /head/\nADD {url}#v1 /v1\nADD {url}#old:sub /sub\nADD --chown=3:4 {url}?branch=old&subdir=sub /query\n\
         ADD {url}#{first} /commit\nADD --checksum={short} {url}#v1 /checked\nADD --keep-git-dir {url}#v1 /kept\n\
         ADD --exclude=sub {url} /most\n",
        short = &first[..9]
    );
    let context = folder(&host, &dockerfile);
    build(&host, &context, "added").ok();
    let look = "cat /head/a /v1/a /commit/a /checked/a; echo; ls -A /head /sub /most | tr '\\n' ' '; stat -c '%a %u:%g %Y' /head/sub/tool /query/b; \
        cat /kept/.git/config; cat /kept/.git/HEAD";
    let found = run(&host, "added", look);
    let begins = "twooneoneone\n/head: a sub  /most: a  /sub: b tool 755 0:0 981173106\n644 3:4 981173106\n";
    assert!(found.starts_with(begins), "{found}");
    assert!(found.contains(&url) && found.ends_with(&first), "{found}");
    // A commit that is known is not made again, one that is not is.
    let again = build(&host, &context, "again").ok();
    assert_eq!(again.matches("Using cache").count(), 8, "{again}");
    let third = served.commit("repo", &[("a", "three")]);
    build(&host, &context, "newer").ok();
    assert_eq!(run(&host, "newer", "cat /head/a /v1/a"), "threeone");
    for (line, words) in [
        (format!("ADD {url}#none /x"), "does not contain ref none".to_owned()),
        (format!("ADD {url}#main:none /x"), "has no directory none".to_owned()),
        (
            format!("ADD --checksum={second} {url}#main /x"),
            format!("expected checksum to match {second}, got {third}"),
        ),
        (format!("ADD {}#main /x", served.url("absent")), "failed to fetch".to_owned()),
        (format!("ADD file://{}/repo/.git /x", served.folder.display()), "not found".to_owned()),
        ("ADD ext::sh /x".to_owned(), "not found".to_owned()),
        (format!("COPY {url} /x"), "source can't be a git ref for COPY".to_owned()),
    ] {
        let context = folder(&host, &format!("FROM busybox\n{line}\n"));
        let failed = build(&host, &context, "failed").run();
        assert!(failed.code != 0 && failed.stderr.contains(&words), "{line}: {failed:?}");
    }
    wait_for("repositories to go", || {
        let left = fs::read_dir(host.data_root().join("build/contexts")).map_or(0, Iterator::count);
        (left == 0).then_some(())
    });
}

#[test]
fn nothing_of_a_repository_or_of_the_host_is_obeyed() {
    let host = Host::with_busybox();
    let served = Repositories::new(&host);
    served.commit("inner", &[("in", "inner")]);
    served.commit("repo", &[("a", "a"), (".gitattributes", "* filter=evil\n")]);
    served.git("repo", &["submodule", "--quiet", "add", &served.url("inner"), "mod"]);
    served.commit("repo", &[]);
    let url = served.url("repo");
    let context =
        folder(&host, &format!("FROM busybox\nADD {url} /with\nADD {url}?submodules=false /without\n"));
    build(&host, &context, "mods").ok();
    assert_eq!(
        run(&host, "mods", "cat /with/mod/in; ls -A /with/mod /without/mod"),
        "inner/with/mod:\nin\n\n/without/mod:"
    );
    // One within that lies on this machine.
    let local = served.folder.join("inner/.git").display().to_string();
    served.git("bad", &["init", "-q"]);
    served.git("bad", &["submodule", "--quiet", "add", &local, "mod"]);
    served.commit("bad", &[("a", "a")]);
    let context = folder(&host, &format!("FROM busybox\nADD {} /x\n", served.url("bad")));
    let failed = build(&host, &context, "bad").run();
    assert!(failed.code != 0 && failed.stderr.contains("transport 'file' not allowed"), "{failed:?}");
}

#[test]
fn contexts_are_repositories() {
    let host = Host::with_busybox();
    let served = Repositories::new(&host);
    let dockerfile = "FROM busybox\nCOPY . /all\nRUN --mount=type=bind,target=/ctx ls -A /ctx >/seen\n";
    let files = [
        ("sub/Dockerfile", dockerfile),
        ("sub/a", "a"),
        ("sub/hidden", "h"),
        ("sub/.dockerignore", "hidden\n"),
        ("outside", "o"),
    ];
    served.commit("repo", &files);
    served.commit("repo", &[("sub/other.Dockerfile", "FROM busybox\nRUN echo other >/other\n")]);
    let address = format!("{}#main:sub", served.url("repo"));
    let said = post(&host, &address, "&t=posted");
    assert!(said.contains("Successfully tagged posted:latest"), "{said}");
    let wanted = ".dockerignore\nDockerfile\na\nother.Dockerfile";
    assert_eq!(run(&host, "posted", "ls -A /all"), wanted);
    assert_eq!(run(&host, "posted", "cat /seen"), wanted);
    let said = post(&host, &address, "&t=other&dockerfile=other.Dockerfile");
    assert!(said.contains("Successfully tagged other:latest"), "{said}");
    for (address, words) in [
        (format!("{}#none", served.url("repo")), "does not contain ref none"),
        ("file:///etc".to_owned(), "neither a repository of git nor a URL"),
        (format!("{}#main", served.url("repo")), "failed to read dockerfile"),
    ] {
        let said = post(&host, &address, "");
        assert!(said.contains(words), "{address}: {said}");
    }
    // By our own client, which sends nothing; and with a Dockerfile of its own.
    host.corten(["build", "--network", "none", "-t", "ours", &address]).ok();
    assert_eq!(run(&host, "ours", "ls -A /all"), wanted);
    host.corten(["build", "--network", "none", "-t", "named", "-f", "other.Dockerfile", &address]).ok();
    assert_eq!(run(&host, "named", "cat /other"), "other");
    // What is made is given to the client, who has sent nothing.
    let out = host.root().join("out");
    host.corten(["build", "--network", "none", "-o", &out.display().to_string(), &address]).ok();
    assert_eq!(fs::read_to_string(out.join("all/a")).expect("a file"), "a");
    let empty = folder(&host, "FROM busybox\nCOPY --from=far a /\nFROM far\n");
    let far = format!("far={address}");
    let args = ["build", "--network", "none", "-t", "far", "--build-context", &far, "."];
    host.corten(args).current_dir(&empty).ok();
    host.corten(["image", "inspect", "far"]).ok();
    if !compose::install(&host) {
        return;
    }
    let text = format!(
        "services:\n  it:\n    image: composed\n    build:\n      context: {address}\n      network: none\n      additional_contexts:\n        far: {}\n",
        served.url("far")
    );
    served.commit("far", &[("from-far", "far")]);
    served.commit("repo", &[("sub/Dockerfile", "FROM busybox\nCOPY . /all\nCOPY --from=far from-far /\n")]);
    let project = compose::Project::new(&host, "remote", &text);
    let built = project.compose(Cli::Corten, &["build"]).run();
    built.expect_code(0);
    assert_eq!(run(&host, "composed", "ls -A /all; cat /from-far"), format!("{wanted}\nfar"));
}

#[test]
fn contexts_are_archives_and_dockerfiles_on_the_net() {
    let host = Host::with_busybox();
    let place = host.root().join("archive");
    fs::create_dir_all(&place).expect("a directory");
    fs::write(place.join("Dockerfile"), "FROM busybox\nCOPY a /\n").expect("a file");
    fs::write(place.join("a"), "archived").expect("a file");
    Cmd::new("tar")
        .args(["-C", place.to_str().expect("UTF-8"), "-czf"])
        .args([place.join("x.tgz").as_os_str()])
        .args(["Dockerfile", "a"])
        .ok();
    let archive = fs::read(place.join("x.tgz")).expect("a file");
    let server = kit::http::Server::start(move |head, _| match head.path() {
        "/x.tar.gz" => kit::http::Answer::new(200, "application/gzip", archive.clone()),
        "/Dockerfile" => kit::http::Answer::new(200, "text/plain", "FROM busybox\nRUN echo alone >/alone\n"),
        "/binary" => kit::http::Answer::new(200, "text/plain", vec![0xff; 99]),
        _ => kit::http::Answer::new(404, "text/plain", "no"),
    });
    let at = |path: &str| format!("http://{}{path}", server.address());
    assert!(post(&host, &at("/x.tar.gz"), "&t=archived").contains("Successfully tagged"));
    assert_eq!(run(&host, "archived", "cat /a"), "archived");
    assert!(post(&host, &at("/Dockerfile"), "&t=alone").contains("Successfully tagged"));
    assert_eq!(run(&host, "alone", "cat /alone"), "alone");
    assert!(post(&host, &at("/binary"), "").contains("neither an archive nor a Dockerfile"));
    assert!(post(&host, &at("/none"), "").contains("404"));
}

#[test]
fn questions_about_a_dockerfile_elsewhere() {
    let host = Host::with_busybox();
    let repositories = Repositories::new(&host);
    let files = [
        ("sub/Dockerfile", "FROM busybox AS one\nINCLUDE near.inc\n"),
        ("sub/near.inc", "MAINTAINER me\nFROM one AS two\n"),
    ];
    repositories.commit("asked", &files);
    let url = format!("{}#main:sub", repositories.url("asked"));
    let ask = |args: &[&str]| host.corten([&["build"], args].concat()).run();
    let said = ask(&["--check", &url]);
    assert_eq!(said.code, 1, "{said}");
    assert!(said.stdout.contains("near.inc:1:1: warning[MaintainerDeprecated]"), "{said}");
    let said = ask(&["--call", "targets,format=json", &url]);
    said.expect_code(0);
    let targets: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(targets["targets"][1]["name"], "two");
    let said = ask(&["--call", "outline", "--target", "one", "-f", "Dockerfile", &url]);
    said.expect_code(0);
    // The Dockerfile of standard input, with files of the repository.
    let given =
        host.corten(["build", "--check", "-f", "-", &url]).stdin("FROM busybox\nINCLUDE near.inc\n").run();
    assert!(given.code == 1 && given.stdout.contains("near.inc:1:1: warning"), "{given}");
    let built = host.corten(["build", "--network", "none", "-t", "two", &url]).run();
    built.expect_code(0);
    assert!(built.stderr.contains("(line 1 of near.inc)"), "{built}");
    let said = ask(&["--check", "-f", "none", &url]);
    assert!(said.code == 1 && said.stderr.contains("open none: no such file or directory"), "{said}");
    let server = kit::http::Server::start(move |head, _| match head.path() {
        "/Dockerfile" => kit::http::Answer::new(200, "text/plain", "FROM busybox\nRUN echo alone\n"),
        _ => kit::http::Answer::new(404, "text/plain", "no"),
    });
    let said = ask(&["--check", &format!("http://{}/Dockerfile", server.address())]);
    assert_eq!(said.stdout, "Check complete, no warnings found.\n", "{said}");
}

/// A server that takes a connection and says nothing; the connection.
fn silent() -> (SocketAddr, std::sync::mpsc::Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if send.send(stream).is_err() {
                return;
            }
        }
    });
    (address, receive)
}

/// Whether whoever asked has gone: nothing more comes.
fn has_gone(mut stream: TcpStream) {
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).expect("a socket");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the end of the connection");
}

#[test]
fn a_server_that_says_nothing_is_given_up_with_the_build() {
    let mut host = Host::with_busybox();
    let (address, connections) = silent();
    let context = folder(&host, &format!("FROM busybox\nADD git://{address}/x /x\n"));
    let patience = std::time::Duration::from_secs(30);
    let client = build(&host, &context, "never").spawn();
    let connection = connections.recv_timeout(patience).expect("a connection");
    client.signal(rustix::process::Signal::KILL);
    has_gone(connection);
    // One that an engine left that was killed ends when the next begins.
    let client = build(&host, &context, "never").spawn();
    let connection = connections.recv_timeout(patience).expect("a connection");
    host.kill_daemon();
    drop(client);
    host.start_daemon();
    has_gone(connection);
    let left = fs::read_dir(host.data_root().join("build/contexts")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[test]
fn the_classic_api_builds_of_addresses_too() {
    let host = Host::with_busybox();
    let repositories = Repositories::new(&host);
    let files = [
        ("sub/Dockerfile", "FROM busybox\nCOPY a /\n"),
        ("sub/other", "FROM busybox\nCOPY a /b\n"),
        ("sub/a", "from-git"),
    ];
    repositories.commit("classic", &files);
    let url = format!("{}#main:sub", repositories.url("classic"));
    let build = |args: &[&str]| {
        let args = ["build", "--network", "none", "-t", "classic"].into_iter().chain(args.iter().copied());
        host.corten(args).env("DOCKER_BUILDKIT", "0")
    };
    assert!(build(&[&url]).ok().contains("Successfully tagged classic"));
    assert_eq!(run(&host, "classic", "cat /a"), "from-git");
    build(&["-f", "other", &url]).ok();
    assert_eq!(run(&host, "classic", "cat /b"), "from-git");
    build(&["-f", "-", &url]).stdin("FROM busybox\n").fails(1, "needs BuildKit's API");
    let server = kit::http::Server::start(move |head, _| match head.path() {
        "/Dockerfile" => kit::http::Answer::new(200, "text/plain", "FROM busybox\nRUN echo alone >/alone\n"),
        _ => kit::http::Answer::new(404, "text/plain", "no"),
    });
    build(&[&format!("http://{}/Dockerfile", server.address())]).ok();
    assert_eq!(run(&host, "classic", "cat /alone"), "alone");
}
