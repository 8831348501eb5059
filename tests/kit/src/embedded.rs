//! Our own registry, `corten registry serve`, on a free port of loopback.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::command::{Cmd, wait_for};
use crate::host::binary;
use crate::raw::{self, Reply};
use crate::registry::{certificates, free_port, run};
use crate::tokens::TokenServer;

/// A running registry of ours; it ends when dropped.
#[derive(Debug)]
pub struct Embedded {
    child: Option<Child>,
    dir: tempfile::TempDir,
    port: u16,
    flags: Vec<String>,
    tokens: Option<TokenServer>,
}

impl Embedded {
    /// A registry that everybody may use.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// One with more flags. In them `{dir}` is a directory of its own with `server.crt`, `server.key`, `ca.crt`, `htpasswd` (the user
    /// `ada` with the password `secret`) and `credentials` (the same two), as far as the flags name them.
    #[must_use]
    pub fn with(flags: &[&str]) -> Self {
        let mut registry = Self::stopped(flags);
        registry.launch();
        registry
    }

    /// One that takes tokens of a server which knows the user `ada` with the password `secret`.
    #[must_use]
    pub fn with_tokens(flags: &[&str]) -> Self {
        let mut registry = Self::stopped(flags);
        certificates(registry.dir());
        let tokens = TokenServer::start(registry.dir(), "ada", "secret");
        let key = registry.dir().join("ca.crt").display().to_string();
        let more = ["--token-realm", &tokens.realm(), "--token-service", "tests", "--token-issuer", "tests"];
        registry.flags.extend(more.map(str::to_owned));
        registry.flags.extend(["--token-key".to_owned(), key]);
        registry.tokens = Some(tokens);
        registry.launch();
        registry
    }

    fn stopped(flags: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("ctr").tempdir().expect("a temporary directory");
        let flags: Vec<String> =
            flags.iter().map(|flag| flag.replace("{dir}", &dir.path().display().to_string())).collect();
        let named = |file: &str| flags.iter().any(|flag| flag.ends_with(file));
        if named("server.crt") {
            certificates(dir.path());
        }
        if named("htpasswd") {
            let line = run(Command::new("htpasswd").args(["-Bbn", "ada", "secret"]));
            fs::write(dir.path().join("htpasswd"), line).expect("write a password file");
        }
        if named("credentials") {
            fs::write(dir.path().join("credentials"), "ada:secret\n").expect("write credentials");
        }
        Self { child: None, dir, port: free_port(), flags, tokens: None }
    }

    fn launch(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.dir().join("log")).expect("a log");
        let child = Command::new(binary())
            .args(["registry", "serve", "--addr", &self.host(), "--data-root"])
            .arg(self.data_root())
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start the registry");
        self.child = Some(child);
        wait_for("the registry", || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "the registry does not start: {}", self.log());
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()
        });
    }

    /// `127.0.0.1:<port>`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where it keeps everything.
    #[must_use]
    pub fn data_root(&self) -> PathBuf {
        self.dir().join("data")
    }

    /// What it said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }

    /// Its token server.
    #[must_use]
    pub fn tokens(&self) -> Option<&TokenServer> {
        self.tokens.as_ref()
    }

    /// Asks it something.
    #[must_use]
    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        raw::ask(self.port, method, target, headers, body)
    }

    /// `corten registry` about its data root.
    #[must_use]
    pub fn command(&self, command: &str, args: &[&str]) -> Cmd {
        let root = self.data_root().display().to_string();
        Cmd::new(binary()).args(["registry", command, "--data-root", &root]).args(args)
    }

    /// Blobs in its store.
    #[must_use]
    pub fn blobs(&self) -> usize {
        fs::read_dir(self.data_root().join("content/blobs/sha256")).map_or(0, Iterator::count)
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else { return };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
        let _ = child.wait();
    }

    /// Kills it: it has no time for anything.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Starts it again on the same port, over the same data.
    pub fn restart(&mut self) {
        self.launch();
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop();
    }
}
