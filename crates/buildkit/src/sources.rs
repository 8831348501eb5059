//! What a build gets from its client's session: files, secrets, passwords.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bollard_buildkit_proto::moby::buildkit::secrets::v1::GetSecretRequest;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_client::SecretsClient;
use bollard_buildkit_proto::moby::filesync::v1::CredentialsRequest;
use bollard_buildkit_proto::moby::filesync::v1::auth_client::AuthClient;
use build::output::{self, Client, Piece};
use build::progress::{End, Event, Status as Part, Vertex, WeakTeller};
use build::request::{Directory, Document, Holds, SourceError, Sources, Task, Wanted};
use oci::Digest;
use sha2::{Digest as _, Sha256};
use sys::path::Root;
use tokio::sync::{mpsc, watch};
use tonic::Code;

use crate::agents;
use crate::error::{Error, Result};
use crate::filesync::{self, Ask};
use crate::kept::{Kept, Lease};
use crate::options::Options;
use crate::session::Session;
use crate::{contents, filesend, upload};

pub(crate) const SECRET_METHOD: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
pub(crate) const CREDENTIALS_METHOD: &str = "/moby.filesync.v1.Auth/Credentials";

/// Bytes of a secret, as BuildKit has it.
const SECRET_BYTES_MAX: usize = 500 << 10;
/// Bytes of a Dockerfile and of what it ignores.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// How long a client may take for a secret or a password: it may ask its user, or a program that keeps them.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How often it is told how much has come.
const TELL_EVERY: Duration = Duration::from_millis(150);
/// What is told of when the context's ignore file comes.
const IGNORE_VERTEX: &str = "[internal] load .dockerignore";
/// Directories that one build asks for.
const CONTEXTS_MAX: usize = 64;
/// What registries of Docker are called where passwords are asked for.
const HUB: &str = "registry-1.docker.io";
/// The name that goes with a token instead of a password.
const TOKEN_USER: &str = "<token>";

/// What a build gets from a session.
#[derive(Debug)]
pub(crate) struct SessionSources {
    session: Arc<Session>,
    kept: Arc<Kept>,
    /// Of the build, as long as it tells anything: a result holds its sources longer.
    teller: WeakTeller,
    /// What makes the names of this build's own vertexes differ from another's.
    build: String,
    /// What the client calls the context.
    context_dir: String,
    /// The directories that the build has, which nobody changes while it has them.
    held: Mutex<Vec<Held>>,
}

#[derive(Debug)]
struct Held {
    name: String,
    wanted: Wanted,
    lease: Arc<Lease>,
}

impl SessionSources {
    /// The sources of a build.
    pub(crate) fn new(
        session: Arc<Session>,
        kept: Arc<Kept>,
        teller: WeakTeller,
        build: &str,
        options: &Options,
    ) -> Self {
        Self {
            session,
            kept,
            teller,
            build: build.to_owned(),
            context_dir: options.context_dir.clone(),
            held: Mutex::default(),
        }
    }

    /// The vertex of something that is done for this build, by its name.
    pub(crate) fn vertex(&self, name: &str) -> Digest {
        own_vertex(&self.build, name)
    }

    /// Tells something. A client that does not hear it goes on without.
    async fn tell(&self, event: Event) {
        if let Some(teller) = self.teller.upgrade() {
            let _ = teller.send(event).await;
        }
    }

    /// Does something as a vertex that the client sees.
    async fn shown<T>(&self, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let vertex = self.vertex(name);
        let known = Vertex { digest: vertex.clone(), name: name.to_owned(), inputs: Vec::new() };
        self.tell(Event::Vertex(known)).await;
        self.tell(Event::Started { vertex: vertex.clone(), at: SystemTime::now() }).await;
        let result = work.await;
        let end = match &result {
            Ok(_) => End::Ran,
            Err(Error::Gone(_)) => End::Canceled,
            Err(error) => End::Failed(error.chain()),
        };
        self.tell(Event::Done { vertex, end, at: SystemTime::now() }).await;
        result
    }

    /// Tells how much of the client's files has come.
    async fn tell_part(&self, vertex: &Digest, what: &str, current: u64, started: SystemTime, is_done: bool) {
        let part = Part {
            vertex: vertex.clone(),
            id: format!("transferring {what}:"),
            name: format!("transferring {what}:"),
            current,
            total: 0,
            started,
            completed: is_done.then(SystemTime::now),
        };
        self.tell(Event::Status(part)).await;
    }

    /// Fills a directory from the client's, and tells how far it is.
    async fn fill(&self, vertex: &Digest, what: &str, ask: &Ask, lease: &Arc<Lease>) -> Result<()> {
        let started = SystemTime::now();
        let (told, bytes) = watch::channel(0);
        let tell = |is_done| {
            let current = *bytes.borrow();
            self.tell_part(vertex, what, current, started, is_done)
        };
        let receiving = filesync::receive(&self.session, ask, lease.open()?, Arc::clone(lease), &told);
        let mut receiving = std::pin::pin!(receiving);
        let mut ticks = tokio::time::interval(TELL_EVERY);
        let received = loop {
            tokio::select! {
                received = &mut receiving => break received,
                _ = ticks.tick() => tell(false).await,
                () = self.session.closed() => break Err(Error::Gone("the client's session has ended".to_owned())),
            }
        };
        tell(true).await;
        received
    }

    /// A directory for this build alone, or the one that is kept of it.
    async fn lease(&self, key: Option<String>) -> Result<Arc<Lease>> {
        let kept = Arc::clone(&self.kept);
        let lease = tokio::task::spawn_blocking(move || kept.lease(key.as_deref())).await;
        let lease = lease.map_err(|_| Error::Gone("the build".to_owned()))?;
        Ok(Arc::new(lease?))
    }

    /// The Dockerfile, and what it ignores.
    pub(crate) async fn documents(&self, options: &Options) -> Result<(Document, Option<Document>)> {
        let (dockerfile, own_ignore) =
            self.shown(&loading_dockerfile(options), self.load_dockerfile(options)).await?;
        // A context from elsewhere has its own, which the engine reads.
        if own_ignore.is_some() || options.request.remote.is_some() {
            return Ok((dockerfile, own_ignore));
        }
        let ignore = self.shown(IGNORE_VERTEX, self.load_ignore(IGNORE_VERTEX, &self.context_dir)).await?;
        Ok((dockerfile, ignore))
    }

    async fn load_dockerfile(&self, options: &Options) -> Result<(Document, Option<Document>)> {
        let name = &options.filename;
        let ignore = format!("{name}.dockerignore");
        let mut follow = vec![name.clone(), ignore.clone()];
        let lower = (name == "Dockerfile").then(|| name.to_lowercase());
        follow.extend(lower.clone());
        let ask = Ask { name: options.dockerfile_dir.clone(), follow, exclude: Vec::new() };
        let vertex = self.vertex(&loading_dockerfile(options));
        let place = self.place(&vertex, "dockerfile", &ask).await?;
        let mut found = read(&place, name).await?;
        if let (None, Some(lower)) = (&found, &lower) {
            found = read(&place, lower).await?;
        }
        let found = found.ok_or_else(|| {
            Error::Invalid(format!("failed to read dockerfile: open {name}: no such file or directory"))
        })?;
        Ok((found, read(&place, &ignore).await?))
    }

    async fn load_ignore(&self, vertex: &str, dir: &str) -> Result<Option<Document>> {
        let name = ".dockerignore";
        let ask = Ask { name: dir.to_owned(), follow: vec![name.to_owned()], exclude: Vec::new() };
        let place = self.place(&self.vertex(vertex), "context", &ask).await?;
        read(&place, name).await
    }

    /// Where some files of a directory of the client can be read: the directory itself, if it was handed over.
    async fn place(&self, vertex: &Digest, what: &str, ask: &Ask) -> Result<Place> {
        if let Some(directory) = self.session.directory(&ask.name) {
            return Ok(Place::Handed(directory));
        }
        let lease = self.lease(None).await?;
        self.fill(vertex, what, ask, &lease).await?;
        Ok(Place::Sent(lease))
    }

    async fn load_context(&self, name: &str, wanted: &Wanted) -> Result<Directory> {
        let dir = if name == build::request::CONTEXT { &self.context_dir } else { name };
        if let Some(directory) = self.session.directory(dir) {
            let fd = directory.try_clone().map_err(Error::io("open", "/"))?;
            self.tell_part(&self.vertex(&loading(name)), "context", 0, SystemTime::now(), true).await;
            return Ok(Directory { fd, holds: Holds::Foreign });
        }
        Ok(Directory { fd: self.load_sent(name, dir, wanted).await?, holds: Holds::Wanted })
    }

    /// Files that are read and not copied. They are in the way of nothing that is kept for the next build.
    async fn load_files(&self, name: &str, wanted: &Wanted) -> Result<Directory> {
        let dir = if name == build::request::CONTEXT { &self.context_dir } else { name };
        if let Some(directory) = self.session.directory(dir) {
            let fd = directory.try_clone().map_err(Error::io("open", "/"))?;
            return Ok(Directory { fd, holds: Holds::Foreign });
        }
        let count = self.held.lock().unwrap_or_else(PoisonError::into_inner).len();
        if count >= CONTEXTS_MAX {
            return Err(Error::Full { what: "directories of the client in this build", count });
        }
        let ask = ask(dir, wanted);
        let lease = self.lease(None).await?;
        let vertex = self.vertex(LOADING_INCLUDED);
        self.shown(LOADING_INCLUDED, self.fill(&vertex, "included files", &ask, &lease)).await?;
        let fd = lease.open()?;
        let held = Held { name: dir.to_owned(), wanted: wanted.clone(), lease };
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(held);
        Ok(Directory { fd, holds: Holds::Wanted })
    }

    async fn load_sent(&self, name: &str, dir: &str, wanted: &Wanted) -> Result<OwnedFd> {
        let (known, count) = {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            let known = held.iter().find(|held| held.name == dir && held.wanted == *wanted);
            (known.map(|held| Arc::clone(&held.lease)), held.len())
        };
        if let Some(lease) = known {
            return lease.open();
        }
        if count >= CONTEXTS_MAX {
            return Err(Error::Full { what: "directories of the client in this build", count });
        }
        let shared = self.session.shared_key();
        let key = (!shared.is_empty()).then(|| format!("{shared}\n{dir}"));
        let ask = ask(dir, wanted);
        let lease = self.lease(key).await?;
        // The vertex is the builder's; what is told of it finds it by its name.
        self.fill(&self.vertex(&loading(name)), "context", &ask, &lease).await?;
        let opened = lease.open()?;
        let held = Held { name: dir.to_owned(), wanted: wanted.clone(), lease };
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(held);
        Ok(opened)
    }

    async fn load_secret(&self, id: &str) -> Result<Option<Vec<u8>>> {
        if !self.session.answers(SECRET_METHOD) {
            return Ok(None);
        }
        let (caller, origin) = self.session.caller();
        let request = GetSecretRequest { id: id.to_owned(), ..GetSecretRequest::default() };
        let mut client = SecretsClient::with_origin(caller, origin);
        match in_time(&format!("the secret {id}"), client.get_secret(request)).await? {
            Ok(answer) => {
                let data = answer.into_inner().data;
                if data.len() > SECRET_BYTES_MAX {
                    return Err(Error::Invalid(format!(
                        "the secret {id} is larger than {SECRET_BYTES_MAX} bytes"
                    )));
                }
                Ok(Some(data))
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(Error::Client { what: format!("the secret {id}"), status: Box::new(status) }),
        }
    }

    async fn load_credentials(&self, host: &str) -> Result<Option<(String, String)>> {
        if !self.session.answers(CREDENTIALS_METHOD) {
            return Ok(None);
        }
        let host = if matches!(host, "docker.io" | "index.docker.io") { HUB } else { host };
        let (caller, origin) = self.session.caller();
        let what = format!("a password for {host}");
        let request = CredentialsRequest { host: host.to_owned() };
        let mut client = AuthClient::with_origin(caller, origin);
        let answer = in_time(&what, client.credentials(request)).await?;
        let refused = |status| Error::Client { what, status: Box::new(status) };
        let answer = answer.map_err(refused)?.into_inner();
        Ok(match (answer.username.is_empty(), answer.secret.is_empty()) {
            (_, true) => None,
            (true, false) => Some((TOKEN_USER.to_owned(), answer.secret)),
            (false, false) => Some((answer.username, answer.secret)),
        })
    }
}

/// What a client is asked for.
fn ask(dir: &str, wanted: &Wanted) -> Ask {
    Ask {
        name: dir.to_owned(),
        follow: wanted.paths.iter().map(|path| path.trim_start_matches('/').to_owned()).collect(),
        exclude: wanted.hidden.clone(),
    }
}

/// What the vertex is called that reads files which the Dockerfile includes.
const LOADING_INCLUDED: &str = "[internal] load included files";

/// What the vertex is called that reads a context.
fn loading(name: &str) -> String {
    match name {
        build::request::CONTEXT => "[internal] load build context".to_owned(),
        name => format!("[context {name}] load from client"),
    }
}

/// The vertex of something that is done for a build, by its name.
pub(crate) fn own_vertex(build: &str, name: &str) -> Digest {
    Digest::from_sha256(Sha256::digest(format!("{build}\n{name}")).into())
}

/// Waits for a client's answer, but not for ever.
pub(crate) async fn in_time<T>(what: &str, answer: impl Future<Output = T>) -> Result<T> {
    let late = |_| Error::Late { what: what.to_owned(), within: ANSWER_MAX };
    tokio::time::timeout(ANSWER_MAX, answer).await.map_err(late)
}

/// What the vertex is called that reads the Dockerfile; warnings are shown as its own.
pub(crate) fn loading_dockerfile(options: &Options) -> String {
    format!("[internal] load build definition from {}", options.filename)
}

/// A directory with files of the client.
enum Place {
    /// The client's own.
    Handed(Arc<OwnedFd>),
    /// One that it has sent files to.
    Sent(Arc<Lease>),
}

impl Place {
    fn open(&self) -> Result<OwnedFd> {
        match self {
            Self::Handed(directory) => directory.try_clone().map_err(Error::io("open", "/")),
            Self::Sent(lease) => lease.open(),
        }
    }
}

/// A text of a directory; nothing if there is none of the name.
async fn read(place: &Place, name: &str) -> Result<Option<Document>> {
    let (dir, path) = (place.open()?, name.to_owned());
    let reading = tokio::task::spawn_blocking(move || {
        match Root::from_fd(dir).read_bounded(&path, DOCUMENT_BYTES_MAX) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    });
    let Some(bytes) = reading.await.map_err(|_| Error::Gone("the build".to_owned()))?? else {
        return Ok(None);
    };
    let text = build::text::decode(name, bytes).map_err(Error::Invalid)?;
    Ok(Some(Document::new(name, text)))
}

impl Sources for SessionSources {
    fn context<'a>(
        &'a self,
        name: &'a str,
        wanted: &'a Wanted,
    ) -> Task<'a, std::result::Result<Directory, SourceError>> {
        Box::pin(async move { self.load_context(name, wanted).await.map_err(|e| SourceError(e.chain())) })
    }

    fn ignore<'a>(&'a self, name: &'a str) -> Task<'a, std::result::Result<Option<String>, SourceError>> {
        let vertex = format!("[context {name}] load .dockerignore");
        Box::pin(async move {
            let found = self.shown(&vertex, self.load_ignore(&vertex, name)).await.map_err(source)?;
            Ok(found.map(|document| document.text))
        })
    }

    fn files<'a>(
        &'a self,
        name: &'a str,
        wanted: &'a Wanted,
    ) -> Task<'a, std::result::Result<Directory, SourceError>> {
        Box::pin(async move { self.load_files(name, wanted).await.map_err(|e| SourceError(e.chain())) })
    }

    fn secret<'a>(&'a self, id: &'a str) -> Task<'a, std::result::Result<Option<Vec<u8>>, SourceError>> {
        Box::pin(async move { self.load_secret(id).await.map_err(|e| SourceError(e.chain())) })
    }

    fn has_agent<'a>(&'a self, id: &'a str) -> Task<'a, std::result::Result<bool, SourceError>> {
        Box::pin(async move { agents::is_there(&self.session, id).await.map_err(|e| SourceError(e.chain())) })
    }

    fn agent<'a>(
        &'a self,
        id: &'a str,
        connection: OwnedFd,
    ) -> Task<'a, std::result::Result<(), SourceError>> {
        Box::pin(async move {
            agents::carry(&self.session, id, connection).await.map_err(|e| SourceError(e.chain()))
        })
    }

    fn credentials<'a>(
        &'a self,
        host: &'a str,
    ) -> Task<'a, std::result::Result<Option<(String, String)>, SourceError>> {
        Box::pin(async move { self.load_credentials(host).await.map_err(|e| SourceError(e.chain())) })
    }

    fn upload<'a>(
        &'a self,
        name: &'a str,
    ) -> Task<'a, std::result::Result<mpsc::Receiver<Piece>, SourceError>> {
        Box::pin(async move { upload::pull(&self.session, name).await.map_err(source) })
    }

    fn client(&self) -> Option<&dyn Client> {
        Some(self)
    }
}

/// An error as sources tell it.
fn source(error: Error) -> SourceError {
    SourceError(error.chain())
}

impl Client for SessionSources {
    fn archive<'a>(
        &'a self,
        output: usize,
        about: BTreeMap<String, String>,
        pieces: mpsc::Receiver<Piece>,
    ) -> Task<'a, std::result::Result<(), SourceError>> {
        Box::pin(
            async move { filesend::archive(&self.session, output, &about, pieces).await.map_err(source) },
        )
    }

    fn files<'a>(
        &'a self,
        output: usize,
        directories: Vec<output::Directory>,
    ) -> Task<'a, std::result::Result<(), SourceError>> {
        Box::pin(async move { filesend::files(&self.session, output, directories).await.map_err(source) })
    }

    fn read_blob<'a>(
        &'a self,
        store: &'a str,
        digest: &'a Digest,
        size: u64,
    ) -> Task<'a, std::result::Result<mpsc::Receiver<Piece>, SourceError>> {
        Box::pin(async move { contents::read(&self.session, store, digest, size).await.map_err(source) })
    }

    fn blob_size<'a>(
        &'a self,
        store: &'a str,
        digest: &'a Digest,
    ) -> Task<'a, std::result::Result<Option<u64>, SourceError>> {
        Box::pin(async move { contents::size(&self.session, store, digest).await.map_err(source) })
    }

    fn write_blob<'a>(
        &'a self,
        store: &'a str,
        digest: &'a Digest,
        size: u64,
        pieces: mpsc::Receiver<Piece>,
    ) -> Task<'a, std::result::Result<(), SourceError>> {
        Box::pin(
            async move { contents::write(&self.session, store, digest, size, pieces).await.map_err(source) },
        )
    }
}
