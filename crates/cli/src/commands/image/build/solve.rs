//! A build by BuildKit's API: the engine asks for what it needs of the context, and tells of each step while it goes on.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use buildkit::client::api::SolveRequest;
use buildkit::client::{self as builder, Answers, Directory, Password, Passwords};
use client::{Client, Endpoint, Method, Request};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::output::{self, Caches, Outputs};
use super::{Input, request, secret, ssh};
use crate::error::{Error, Result};
use crate::flags::Parsed;
use crate::session::Session;
use crate::steps::{self, Mode};

/// The frontend that reads Dockerfiles.
const FRONTEND: &str = "dockerfile.v0";
/// What registries of Docker are called where a password is asked for, and what they are called elsewhere.
const HUB: (&str, &str) = ("registry-1.docker.io", "docker.io");
/// The protocol that both connections go on in.
const PROTOCOL: &str = "h2c";
/// What was told and is not shown yet.
const TOLD_MAX: usize = 64;

/// What the engine tells of what has come of it, by its keys.
type Response = HashMap<String, String>;

/// Builds, and gives the image's id.
pub(super) async fn build(session: &Session, parsed: &Parsed, input: Input) -> Result<Option<String>> {
    let mode = Mode::of(parsed.text("progress"), parsed.on("quiet"))?;
    let asked = request::read(parsed, input)?;
    let (name, response) = solve(session, parsed, asked, mode).await?;
    if let Some(path) = parsed.text("metadata-file") {
        fs::write(path, output::metadata(&name, &response)).map_err(|source| Error::File {
            verb: "write",
            path: path.to_owned(),
            source,
        })?;
    }
    let id =
        ["containerimage.digest", "containerimage.config.digest"].iter().find_map(|key| response.get(*key));
    if let (Mode::Quiet, Some(id)) = (mode, id) {
        session.out(format!("{id}\n"))?;
    }
    Ok(id.cloned())
}

/// Asks a question about a Dockerfile that the engine has to fetch. The answer: for programs, for people, and whether nothing is wrong.
pub(super) async fn ask(
    session: &Session,
    parsed: &Parsed,
    input: Input,
    question: &str,
) -> Result<(String, String, bool)> {
    let mode = Mode::of(parsed.text("progress"), parsed.on("quiet"))?;
    let mut asked = request::read(parsed, input)?;
    asked.attributes.insert("requestid".to_owned(), question.to_owned());
    let (_, mut response) = solve(session, parsed, asked, mode).await?;
    let mut take = |key: &str| response.remove(&format!("frontend.result.{key}"));
    let is_fine = take("statuscode").is_none_or(|code| code == "0");
    match (take("json"), take("txt")) {
        (Some(json), Some(text)) => Ok((json, text, is_fine)),
        _ => Err(Error::Message(format!("the engine does not answer {question}"))),
    }
}

/// Does what is asked for; the build's name, and what is told of it.
async fn solve(
    session: &Session,
    parsed: &Parsed,
    asked: request::Asked,
    mode: Mode,
) -> Result<(String, Response)> {
    let is_question = asked.attributes.contains_key("requestid");
    let mut outputs = Outputs::read(parsed)?;
    let mut caches = Caches::read(parsed)?;
    let mut stores = std::mem::take(&mut caches.stores);
    stores.append(&mut outputs.stores);
    let (agents, _keys) = ssh::read(parsed.list("ssh"))?;
    let answers = Answers {
        secrets: secret::read(parsed.list("secret"))?,
        agents,
        passwords: passwords(session),
        directories: asked.directories,
        stores,
        uploads: asked.uploads,
        takers: std::mem::take(&mut outputs.takers),
    };
    let shared_key = shared_key(&answers);
    let mut answering = builder::Session::new(&shared_key, answers);
    let engine = session.client()?;
    if matches!(engine.target().endpoint, Endpoint::Unix(_)) {
        answering.hand_over();
    }
    let name = builder::name();
    let request = SolveRequest {
        r#ref: name.clone(),
        session: answering.id().to_owned(),
        frontend: FRONTEND.to_owned(),
        frontend_attrs: asked.attributes,
        entitlements: entitlements(parsed),
        exporters: if is_question { Vec::new() } else { outputs.exporters.clone() },
        cache: caches.options.take(),
        ..SolveRequest::default()
    };
    let own = open(engine, "/session", answering.headers()).await?;
    let _answered = Ends(tokio::spawn(answering.serve(own)).abort_handle());
    let (told, heard) = mpsc::channel(TOLD_MAX);
    let calls = open(engine, "/grpc", Vec::new()).await?;
    let (ended, shown) = tokio::join!(builder::solve(calls, request, told), steps::show(mode, heard));
    let ended = ended.map_err(|error| Error::Message(error.chain()))?;
    shown.summarize(mode, ended.as_ref().err().map(|status| &**status));
    let response =
        ended.map_err(|status| Error::Message(format!("failed to solve: {}", status.message())))?;
    if !is_question {
        outputs.finish(&response)?;
        caches.finish(&response)?;
    }
    Ok((name, response))
}

/// Ends a task with what it is for, also where that is given up.
struct Ends(AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection that goes on in HTTP/2.
pub(in crate::commands) async fn open(
    engine: &Client,
    path: &str,
    headers: Vec<(&'static str, String)>,
) -> Result<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static + use<>> {
    let mut request = Request::new(Method::POST, path).header("Upgrade", PROTOCOL);
    request.headers.extend(headers);
    Ok(engine.hijack(&request).await?.stream)
}

/// What steps may do beyond what all may. Who asks for the host's network by name need not say it twice.
fn entitlements(parsed: &Parsed) -> Vec<String> {
    let mut allowed: Vec<String> = parsed.list("allow").map(str::to_owned).collect();
    if parsed.text("network") == Some("host") {
        allowed.push("network.host".to_owned());
    }
    allowed
}

/// Who the user is to registries.
fn passwords(session: &Session) -> Passwords {
    let config = session.config.clone();
    Arc::new(move |host| {
        let registry = if host == HUB.0 { HUB.1 } else { host };
        // Where it cannot be found out, what is public is had all the same.
        let auth = client::credentials::find(&config, registry).ok()?;
        let token = [auth.identitytoken, auth.registrytoken].into_iter().find(|token| !token.is_empty());
        match token {
            Some(secret) => Some(Password { user: String::new(), secret }),
            None if auth.password.is_empty() => None,
            None => Some(Password { user: auth.username, secret: auth.password }),
        }
    })
}

/// What the engine keeps the files of these directories under until the next build.
fn shared_key(answers: &Answers) -> String {
    let mut hash = Sha256::new();
    hash.update(rustix::system::uname().nodename().to_bytes());
    hash.update(rustix::process::getuid().as_raw().to_le_bytes());
    let mut is_on_disk = false;
    for (name, directory) in &answers.directories {
        if let Directory::Disk(path) = directory {
            hash.update(name.as_bytes());
            hash.update([0]);
            hash.update(path.as_os_str().as_bytes());
            hash.update([0]);
            is_on_disk = true;
        }
    }
    if !is_on_disk {
        return String::new();
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
