//! Debian's `docker-registry` on a free port of loopback, with storage that goes away with it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixtures::Layout;
use crate::tokens::TokenServer;

/// A registry that has not answered for this long will not.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Whom a registry lets in.
#[derive(Debug, Clone, Default)]
pub enum Access {
    /// Everybody.
    #[default]
    Open,
    /// The one user of a password file.
    Basic {
        /// Their name.
        username: String,
        /// Their password.
        password: String,
    },
    /// Bearers of a token of its own token server, which knows one user; anonymous ones may pull `public/…`.
    Token {
        /// Their name.
        username: String,
        /// Their password.
        password: String,
    },
}

/// A registry as it is to be.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Whom it lets in.
    pub access: Access,
    /// Whether it speaks TLS, with a certificate of a CA of its own.
    pub tls: bool,
}

/// A running registry; it ends when dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
    setup: Setup,
    tokens: Option<TokenServer>,
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a port of loopback");
    listener.local_addr().expect("a bound address").port()
}

/// Runs a tool that has to succeed, and returns its output.
pub(crate) fn run(command: &mut Command) -> String {
    let out = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(
        out.status.success(),
        "{command:?} failed: {}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

impl Registry {
    /// An open registry over plain HTTP.
    pub fn start() -> Self {
        Self::with(Setup::default())
    }

    /// A registry as asked for.
    pub fn with(setup: Setup) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        if setup.tls || matches!(setup.access, Access::Token { .. }) {
            certificates(dir.path());
        }
        let tokens = match &setup.access {
            Access::Token { username, password } => Some(TokenServer::start(dir.path(), username, password)),
            _ => None,
        };
        if let Access::Basic { username, password } = &setup.access {
            let line = run(Command::new("htpasswd").args(["-Bbn", username, password]));
            fs::write(dir.path().join("htpasswd"), line).expect("write a password file");
        }
        // Somebody else may take the port between our look and the registry's: then look again.
        for _ in 0..10 {
            let port = free_port();
            fs::write(dir.path().join("config.yml"), config(dir.path(), &setup, port, tokens.as_ref()))
                .expect("write the registry's configuration");
            let mut child = launch(dir.path());
            if is_up(dir.path(), &mut child, port) {
                return Self { child, dir, port, setup, tokens };
            }
        }
        let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        panic!("docker-registry does not start: {log}");
    }

    /// `127.0.0.1:<port>`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of its CA.
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    /// Its token server.
    pub fn tokens(&self) -> Option<&TokenServer> {
        self.tokens.as_ref()
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Where a blob's bytes lie, for tests that damage them.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.dir.path().join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }

    /// Puts an image there with skopeo, as `name` (`repository:tag`), and returns what to pull it by.
    pub fn push(&self, layout: &Layout, name: &str) -> String {
        let digest = self.push_as(layout, name, &["--preserve-digests"]);
        assert_eq!(digest, layout.digest, "skopeo changed the image on its way");
        format!("{}/{name}", self.host())
    }

    /// The same in Docker's format (schema 2) instead of OCI's; returns the digest that it got.
    pub fn push_schema2(&self, layout: &Layout, name: &str) -> String {
        self.push_as(layout, name, &["--format", "v2s2"])
    }

    fn push_as(&self, layout: &Layout, name: &str, more: &[&str]) -> String {
        let digest = self.dir.path().join("pushed");
        let mut command = Command::new("skopeo");
        command.args(["copy", "--quiet", "--all", "--insecure-policy", "--dest-tls-verify=false"]);
        command.arg("--digestfile").arg(&digest).args(more);
        if let Access::Basic { username, password } | Access::Token { username, password } =
            &self.setup.access
        {
            command.arg("--dest-creds").arg(format!("{username}:{password}"));
        }
        command.arg(layout.skopeo()).arg(format!("docker://{}/{name}", self.host()));
        run(&mut command);
        fs::read_to_string(&digest).expect("read the digest that skopeo wrote").trim().to_owned()
    }

    /// Stops answering; what it stores stays.
    pub fn stop(&mut self) {
        end(&mut self.child);
    }

    /// Answers again on the same port.
    pub fn restart(&mut self) {
        self.stop();
        self.child = launch(self.dir.path());
        let up = is_up(self.dir.path(), &mut self.child, self.port);
        assert!(up, "docker-registry does not come back: {}", self.log());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts it below a shell that ends it when this process does, however that happens: a registry may be shared by all
/// tests of a process, and nothing that is shared is dropped.
fn launch(dir: &Path) -> Child {
    let log = fs::File::create(dir.join("log")).expect("make a log");
    Command::new("sh")
        .args(["-c", "docker-registry serve \"$0\" & read end; kill -9 $!; wait"])
        .arg(dir.join("config.yml"))
        .env("OTEL_TRACES_EXPORTER", "none")
        .stdin(Stdio::piped())
        .stdout(log.try_clone().expect("share the log"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| {
            panic!("cannot start docker-registry (Debian's package of that name): {error}")
        })
}

/// Ends what [`launch`] started.
fn end(child: &mut Child) {
    drop(child.stdin.take());
    let _ = child.wait();
}

/// Waits until it listens; false if somebody else has the port.
fn is_up(dir: &Path, child: &mut Child, port: u16) -> bool {
    let deadline = Instant::now() + START_DEADLINE;
    while Instant::now() < deadline {
        let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
        if log.contains("address already in use") {
            break;
        }
        assert!(
            !log.contains("not found"),
            "docker-registry (Debian's package of that name) is missing: {log}"
        );
        if log.contains("listening on") && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    end(child);
    false
}

fn config(dir: &Path, setup: &Setup, port: u16, tokens: Option<&TokenServer>) -> String {
    let dir = dir.display();
    let mut text = format!(
        "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {dir}/data\n  \
         delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n"
    );
    if setup.tls {
        text.push_str(&format!("  tls:\n    certificate: {dir}/server.crt\n    key: {dir}/server.key\n"));
    }
    match &setup.access {
        Access::Open => {}
        Access::Basic { .. } => {
            text.push_str(&format!("auth:\n  htpasswd:\n    realm: tests\n    path: {dir}/htpasswd\n"));
        }
        Access::Token { .. } => {
            let realm = tokens.map(TokenServer::realm).unwrap_or_default();
            text.push_str(&format!(
                "auth:\n  token:\n    realm: {realm}\n    service: tests\n    issuer: tests\n    \
                 rootcertbundle: {dir}/ca.crt\n"
            ));
        }
    }
    text
}

/// A CA, and a server's certificate of it for loopback.
pub(crate) fn certificates(dir: &Path) {
    let openssl = |args: &[&str]| run(Command::new("openssl").args(args).current_dir(dir));
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
        "-days",
        "2",
        "-subj",
        "/CN=tests CA",
    ]);
    openssl(&[
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
        "-subj",
        "/CN=localhost",
    ]);
    fs::write(
        dir.join("server.ext"),
        "subjectAltName=DNS:localhost,DNS:registry.test,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n",
    )
    .expect("write the certificate's extensions");
    openssl(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "server.ext",
        "-out",
        "server.crt",
    ]);
}
