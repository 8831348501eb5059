//! What a client gives to steps of its build: secrets and agents for ssh keys, by Compose's client of BuildKit's API.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kit::registry::free_port;
use kit::{Cli, Cmd, Host, compose, wait_for};

/// An agent with one key, which ends with the test.
struct Agent {
    socket: PathBuf,
    pid: i32,
}

impl Agent {
    /// None where there are no programs for it.
    fn new(folder: &Path, name: &str) -> Option<Self> {
        let socket = folder.join(format!("{name}.sock"));
        let begun = Cmd::new("ssh-agent").args(["-s".as_ref(), "-a".as_ref(), socket.as_os_str()]).run();
        let pid = begun.stdout.split("SSH_AGENT_PID=").nth(1)?.split(';').next()?.parse().ok()?;
        let agent = Self { socket, pid };
        let key = folder.join(format!("{name}.key"));
        let file = key.display().to_string();
        Cmd::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &file]).ok();
        Cmd::new("ssh-add").args(["-q", &file]).env("SSH_AUTH_SOCK", &agent.socket).ok();
        Some(agent)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

/// Puts a program of this machine into a directory, with the libraries that it needs.
fn bring(program: &str, into: &Path) {
    let found = Cmd::new("sh").args(["-c", &format!("command -v {program}")]).ok();
    let libraries = Cmd::new("ldd").args([&found]).ok();
    let files = libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(str::to_owned)
        .chain([found.clone()]);
    for file in files {
        let to = into.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
        fs::copy(&file, to).expect("copy a file");
    }
}

fn host() -> Option<Host> {
    let host = Host::with_busybox();
    compose::install(&host).then_some(host)
}

fn project<'a>(host: &'a Host, name: &str, compose: &str, dockerfile: &str) -> compose::Project<'a> {
    let project = compose::Project::new(host, name, compose);
    fs::write(project.folder().join("Dockerfile"), dockerfile).expect("write a file");
    project
}

fn show(host: &Host, image: &str, script: &str) -> String {
    host.corten(["run", "--rm", "--network", "none", image, "sh", "-c", script]).ok()
}

#[test]
fn agents_of_the_client_answer_steps() {
    let Some(host) = host() else { return };
    let (Some(first), Some(second)) = (Agent::new(host.root(), "first"), Agent::new(host.root(), "second"))
    else {
        kit::skip("ssh", "there is no ssh-agent");
        return;
    };
    let text = format!(
        "services:\n  it:\n    image: keys\n    build:\n      context: .\n      network: none\n      no_cache: true\n      ssh: [default, other={}]\n",
        second.socket.display()
    );
    let dockerfile = "FROM busybox\nCOPY root /\nRUN echo seven:x:7:7::/:/bin/sh >>/etc/passwd\n\
        RUN --mount=type=ssh,required ssh-add -l >/default; echo $SSH_AUTH_SOCK >>/default\n\
        RUN --mount=type=ssh,id=other,target=/run/it.sock,mode=0666,uid=7,gid=8 --mount=type=ssh stat -c '%F %a %u %g' /run/it.sock >/stat; \
        ssh-add -l >/other; echo $SSH_AUTH_SOCK >>/other; ls /run/buildkit >>/other; SSH_AUTH_SOCK=/run/buildkit/ssh_agent.1 ssh-add -l >/default2\n\
        RUN --mount=type=ssh,id=absent test -z \"$SSH_AUTH_SOCK\" && test ! -e /run/it.sock && test ! -e /run/buildkit\n\
        USER 7\nRUN --mount=type=ssh,uid=7 ssh-add -l >/tmp/seven\n\
        RUN --mount=type=ssh ssh-add -l >/tmp/refused || true\n";
    let project = project(&host, "keys", &text, dockerfile);
    bring("ssh-add", &project.folder().join("root"));
    let build = |project: &compose::Project<'_>| {
        project.compose(Cli::Corten, &["build"]).env("SSH_AUTH_SOCK", &first.socket).run()
    };
    build(&project).expect_code(0);
    let found = show(&host, "keys", "cat /default");
    assert!(found.contains(" first (ED25519)") && found.ends_with("\n/run/buildkit/ssh_agent.0"), "{found}");
    let found = show(&host, "keys", "cat /other");
    assert!(found.contains(" second (ED25519)") && found.ends_with("\n/run/it.sock\nssh_agent.1"), "{found}");
    assert_eq!(show(&host, "keys", "cat /stat"), "socket 666 7 8");
    assert_eq!(
        show(&host, "keys", "cd /; grep -c first default default2 other tmp/seven tmp/refused"),
        "default:1\ndefault2:1\nother:0\ntmp/seven:1\ntmp/refused:0"
    );
    // Nothing of it is in the image.
    assert_eq!(
        show(
            &host,
            "keys",
            "ls -d /run/buildkit /run/it.sock 2>&1 | grep -c 'No such'; env | grep -c SSH || true"
        ),
        "2\n0"
    );
    // By our own client.
    let other = format!("other={}", second.socket.display());
    let args =
        ["build", "--network", "none", "--no-cache", "--ssh", "default", "--ssh", &other, "-t", "ours", "."];
    host.corten(args).env("SSH_AUTH_SOCK", &first.socket).current_dir(project.folder()).ok();
    assert_eq!(
        show(&host, "ours", "cd /; grep -c first default other; grep -c second other"),
        "default:1\nother:0\n1"
    );
    // A key alone has an agent that ends with the build.
    let files = ["first", "second"].map(|name| host.root().join(format!("{name}.key")).display().to_string());
    let key = format!("default={}", files.join(","));
    let args =
        ["build", "--network", "none", "--no-cache", "--ssh", &key, "--ssh", &other, "-t", "keyed", "."];
    let temporary = host.root().join("tmp");
    fs::create_dir_all(&temporary).expect("a directory");
    let keyed = |args: &[&str]| {
        let build = host.corten(args).env_remove("SSH_AUTH_SOCK").env("TMPDIR", &temporary);
        build.current_dir(project.folder()).run()
    };
    keyed(&args).expect_code(0);
    assert_eq!(show(&host, "keyed", "cd /; grep -c first default; grep -c second default"), "1\n1");
    assert_eq!(fs::read_dir(&temporary).expect("list").count(), 0, "no agent is left");
    let none = keyed(&["build", "--ssh", "default=/etc/passwd", "."]);
    assert!(none.code != 0 && none.stderr.contains("ssh-add does not take the key /etc/passwd"), "{none}");
    assert_eq!(fs::read_dir(&temporary).expect("list").count(), 0, "no agent is left");
    host.corten(["build", "--ssh", "default", "."])
        .env_remove("SSH_AUTH_SOCK")
        .current_dir(project.folder())
        .fails(1, "SSH_AUTH_SOCK is not set");
    let asked = "FROM busybox\nRUN --mount=type=ssh,id=absent,required true\n";
    fs::write(project.folder().join("Dockerfile"), asked).expect("write a file");
    let failed = build(&project);
    assert!(failed.code != 0 && format!("{failed:?}").contains("no SSH key"), "{failed:?}");
}

#[test]
fn secrets_are_files_and_variables_and_may_be_required() {
    let Some(host) = host() else { return };
    let text = "services:\n  it:\n    image: told\n    build:\n      context: .\n      network: none\n      secrets: [key, other]\n\
        secrets:\n  key: {file: ./key.txt}\n  other: {environment: OTHER}\n";
    let dockerfile = "FROM busybox\n\
        RUN --mount=type=secret,id=key cat /run/secrets/key >/file; stat -c '%a %u' /run/secrets/key >>/file\n\
        RUN --mount=type=secret,id=other,target=/at/it,mode=0444,uid=3 cat /at/it >/at-it; stat -c '%a %u' /at/it >>/at-it\n\
        RUN --mount=type=secret,id=key,env=KEY --mount=type=secret,id=other,env echo \"$KEY $other\" >/variables; ls /run/secrets >>/variables 2>&1 || true\n\
        RUN --mount=type=secret,id=key,env=KEY,target=/both cat /both >/both-seen; echo \"$KEY\" >>/both-seen\n\
        RUN --mount=type=secret,id=none test ! -e /run/secrets/none\n\
        RUN --mount=type=secret,id=none,env=NONE test -z \"${NONE+set}\"\n";
    let project = project(&host, "told", text, dockerfile);
    fs::write(project.folder().join("key.txt"), "k3y\n").expect("write a file");
    let build = || project.compose(Cli::Corten, &["build"]).env("OTHER", "0ther").run();
    build().expect_code(0);
    assert_eq!(show(&host, "told", "cat /file /at-it"), "k3y\n400 0\n0ther444 3");
    let variables = show(&host, "told", "cat /variables");
    assert!(variables.starts_with("k3y\n 0ther\n") && variables.contains("No such file"), "{variables}");
    assert_eq!(show(&host, "told", "cat /both-seen"), "k3y\nk3y");
    assert_eq!(show(&host, "told", "ls -d /at /run/secrets /both 2>&1 | grep -c 'No such'"), "3");
    for mount in ["type=secret,id=none,required", "type=secret,id=none,env=NONE,required=true"] {
        let text = format!("FROM busybox\nRUN --mount={mount} true\n");
        fs::write(project.folder().join("Dockerfile"), text).expect("write a file");
        let failed = build();
        assert!(failed.code != 0 && format!("{failed:?}").contains("secret none: not found"), "{failed:?}");
    }
}

/// A server for ssh that lets in who has a key, and ends with the test.
struct Sshd {
    child: std::process::Child,
    port: u16,
}

impl Sshd {
    fn new(folder: &Path, key: &Path) -> Self {
        let host_key = folder.join("host.key");
        let file = host_key.display().to_string();
        Cmd::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &file]).ok();
        // What it wants to have for its own children.
        fs::create_dir_all("/run/sshd").expect("a directory");
        let port = free_port();
        let settings = [
            format!("HostKey={file}"),
            format!("AuthorizedKeysFile={}.pub", key.display()),
            format!("ListenAddress=127.0.0.1:{port}"),
            "StrictModes=no".to_owned(),
            "PidFile=none".to_owned(),
            "PermitRootLogin=prohibit-password".to_owned(),
        ];
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", "/dev/null"])
            .args(settings.iter().flat_map(|setting| ["-o", setting]))
            .stderr(Stdio::null())
            .spawn()
            .expect("start sshd");
        let server = Self { child, port };
        wait_for("sshd", || TcpStream::connect(("127.0.0.1", port)).ok());
        server
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn repositories_are_fetched_with_the_clients_keys() {
    let host = Host::with_busybox();
    let Some(agent) = Agent::new(host.root(), "own") else { return kit::skip("ssh-agent", "not there") };
    let server = Sshd::new(host.root(), &host.root().join("own.key"));
    let repository = host.root().join("private");
    fs::create_dir_all(&repository).expect("a directory");
    fs::write(repository.join("Dockerfile"), "FROM busybox\nCOPY . /r\n").expect("a file");
    let at = repository.display().to_string();
    for args in [
        &["init", "-q"][..],
        &["add", "-A"],
        &["-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", "m"],
    ] {
        Cmd::new("git").args(["-C", &at].iter().chain(args)).ok();
    }
    let url = format!("ssh://root@127.0.0.1:{}{at}", server.port);
    let folder = host.root().join("context");
    fs::create_dir_all(&folder).expect("a directory");
    fs::write(folder.join("Dockerfile"), format!("FROM busybox\nADD {url} /r\n")).expect("a file");
    let build = |more: &[&str], context: &str| {
        let fixed = ["build", "--network", "none", "--no-cache", "--progress", "plain", "-t", "r"];
        let client = host.corten(fixed.iter().chain(more).chain(&[context])).current_dir(&folder);
        client.env("SSH_AUTH_SOCK", &agent.socket).run()
    };
    for context in [".", &url] {
        build(&["--ssh", "default"], context).expect_code(0);
        host.corten(["run", "--rm", "--network", "none", "r", "cat", "/r/Dockerfile"]).ok();
    }
    // Without the agent nobody opens.
    assert_eq!(build(&[], ".").code, 1);
}
