//! Contexts that are not the client's: repositories, archives on the net, or a Dockerfile there.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use build::output::{Client, Piece};
use build::progress::{End, Event, Teller, Vertex, WeakTeller};
use build::remote::{Git, Remote, shown, upload};
use build::request::{
    CONTEXT, Directory, Document, Holds, NamedContext, Request, SharedSources, SourceError, Sources, Task,
    Wanted,
};
use oci::Digest;
use sha2::{Digest as _, Sha256};
use sys::path::Root;
use tokio::sync::{OnceCell, mpsc};

use super::context::{self, Scratch};
use super::git::{Caller, Tree};
use super::tell::Voice;
use super::{Failed, copying, fetch};
use crate::blocking;
use crate::context::Context;
use crate::error::{Error, Result};

/// What makes `.git` stay in a build's context, as in BuildKit.
const KEEP: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// What lies at an address.
#[derive(Debug)]
struct Brought {
    fd: OwnedFd,
    /// A Dockerfile, where there is nothing else.
    dockerfile: Option<String>,
    _kept: Kept,
}

/// What keeps files where they are.
#[derive(Debug)]
#[expect(dead_code, reason = "what it holds goes with it")]
enum Kept {
    Repository(Tree),
    Archive(Scratch),
}

/// A context that is fetched when it is asked for, once.
#[derive(Debug)]
struct Elsewhere {
    address: Remote,
    brought: OnceCell<std::result::Result<Brought, Error>>,
}

/// The sources of a build of which some contexts are elsewhere.
struct Spread {
    context: Arc<Context>,
    inner: SharedSources,
    /// Of the build, as long as it tells anything: a result holds its sources longer.
    teller: WeakTeller,
    keeps_git: bool,
    contexts: BTreeMap<String, Elsewhere>,
}

/// Puts contexts from elsewhere in the place of the client's: what is asked for, with its Dockerfile, and where its files come from.
pub(super) async fn place(
    context: &Arc<Context>,
    mut request: Request,
    sources: SharedSources,
    teller: &Teller,
) -> Result<(Request, SharedSources), Failed> {
    let mut contexts = BTreeMap::new();
    let mut add = |name: &str, address: &Remote| {
        contexts.insert(name.to_owned(), Elsewhere { address: address.clone(), brought: OnceCell::new() });
    };
    if let Some(remote) = &request.remote {
        add(CONTEXT, &remote.address);
    }
    for (name, given) in &mut request.contexts {
        if let NamedContext::Remote(address) = given {
            // A colon is in no name of the client's own.
            let own = format!("remote:{name}");
            add(&own, address);
            *given = NamedContext::Local(own);
        }
    }
    if contexts.is_empty() {
        return Ok((request, sources));
    }
    let keeps_git = request.arguments.get(KEEP).is_some_and(|value| matches!(value, "1" | "true"));
    let spread = Spread {
        context: Arc::clone(context),
        inner: sources,
        teller: teller.downgrade(),
        keeps_git,
        contexts,
    };
    let Some(has_dockerfile) = request.remote.as_ref().map(|remote| remote.has_dockerfile) else {
        return Ok((request, Arc::new(spread)));
    };
    if has_dockerfile || request.ignore.is_none() {
        let brought = spread.bring(&spread.contexts[CONTEXT]).await?;
        let root = brought.fd.try_clone().map(Root::from_fd);
        let root = root.map_err(|e| Error::system("cannot open the context").with_source(e))?;
        let name = request.dockerfile.name.clone();
        match &brought.dockerfile {
            Some(text) if has_dockerfile => request.dockerfile = Document::new(name, text.as_str()),
            Some(_) => {}
            None if has_dockerfile => {
                let read = blocking::run("read a Dockerfile", move || context::documents(&root, &name));
                (request.dockerfile, request.ignore) = read.await?;
            }
            None => {
                let read = blocking::run("read what hides files", move || context::ignored(&root));
                request.ignore = read.await?;
            }
        }
    }
    Ok((request, Arc::new(spread)))
}

impl Spread {
    /// What lies at an address; fetched the first time.
    async fn bring<'a>(&'a self, elsewhere: &'a Elsewhere) -> Result<&'a Brought> {
        let brought = elsewhere.brought.get_or_init(|| async {
            let name = match &elsewhere.address {
                Remote::Git(git) => format!("[internal] load git source {}", shown(&git.url)),
                // Its name is another one each time, and tells nobody anything.
                Remote::Http(url) if upload(url).is_some() => {
                    "[internal] load remote build context".to_owned()
                }
                Remote::Http(url) => format!("[internal] load remote build context {}", shown(url)),
            };
            let digest = Digest::from_sha256(Sha256::digest(&name).into());
            let vertex = Vertex { digest: digest.clone(), name, inputs: Vec::new() };
            let voice = self.teller.upgrade().map(|teller| Voice::new(teller, digest));
            if let (Some(teller), Some(voice)) = (self.teller.upgrade(), &voice) {
                // Nobody listens: nobody needs to know.
                let _ = teller.send(Event::Vertex(vertex)).await;
                voice.started().await;
            }
            let brought = match &elsewhere.address {
                Remote::Git(git) => self.repository(git).await,
                Remote::Http(url) => self.file(url).await,
            };
            let end = match &brought {
                Ok(_) => End::Ran,
                Err(error) => End::Failed(error.chain()),
            };
            if let Some(voice) = voice {
                voice.done(end).await;
            }
            brought
        });
        brought.await.as_ref().map_err(Clone::clone)
    }

    async fn repository(&self, git: &Git) -> Result<Brought> {
        let caller = Caller::new(&self.context, git, &self.inner).await?;
        let commit = caller.resolve().await?;
        if let Some(checksum) = &git.checksum {
            commit.check(checksum)?;
        }
        let tree = caller.check_out(&commit, git.keep_git_dir.unwrap_or(self.keeps_git)).await?;
        let fd = tree.fd.try_clone().map_err(|e| Error::system("cannot open a repository").with_source(e))?;
        Ok(Brought { fd, dockerfile: None, _kept: Kept::Repository(tree) })
    }

    async fn file(&self, url: &str) -> Result<Brought> {
        let (fetched, told) = match upload(url) {
            Some(name) => {
                (fetch::upload(&self.context, &self.inner, name).await?, "what the client sends".to_owned())
            }
            None => (fetch::one(&self.context, url).await?, shown(url)),
        };
        let context = Arc::clone(&self.context);
        blocking::run_long("unpack a context", move || {
            let (store, scratch) = (&context.store, Scratch::new(&context)?);
            let open = || {
                let root = scratch.root.try_clone();
                root.map(OwnedFd::from).map_err(|e| Error::system("cannot open the context").with_source(e))
            };
            let mut file = fetched.file;
            if copying::is_archive(&file, store.limits())? {
                let unpacked = storage::archive::open(&file, store.limits())
                    .and_then(|archive| storage::apply::unpack(archive, &scratch.root, store.limits()));
                unpacked.map_err(|e| Error::invalid(format!("cannot unpack {told}")).with_source(e))?;
                return Ok(Brought { fd: open()?, dockerfile: None, _kept: Kept::Archive(scratch) });
            }
            let most = build::dockerfile::TEXT_BYTES_MAX as u64;
            let mut text = Vec::new();
            let read =
                file.seek(SeekFrom::Start(0)).and_then(|_| (&mut file).take(most + 1).read_to_end(&mut text));
            read.map_err(|e| Error::system("cannot read a Dockerfile").with_source(e))?;
            let text = Some(text).filter(|text| text.len() as u64 <= most);
            let text = text.and_then(|text| build::text::decode("Dockerfile", text).ok());
            let text = text.ok_or_else(|| {
                Error::invalid(format!(
                    "{told} is neither an archive nor a Dockerfile of at most {most} bytes"
                ))
            })?;
            Ok(Brought { fd: open()?, dockerfile: Some(text), _kept: Kept::Archive(scratch) })
        })
        .await
    }
}

impl Sources for Spread {
    fn context<'a>(&'a self, name: &'a str, wanted: &'a Wanted) -> Task<'a, Result<Directory, SourceError>> {
        Box::pin(async move {
            let Some(elsewhere) = self.contexts.get(name) else {
                return self.inner.context(name, wanted).await;
            };
            let brought = self.bring(elsewhere).await.map_err(|error| SourceError(error.chain()))?;
            let fd =
                brought.fd.try_clone().map_err(|error| SourceError(format!("cannot open it: {error}")))?;
            Ok(Directory { fd, holds: Holds::Everything })
        })
    }

    /// Of what is elsewhere it does not count, as in BuildKit.
    fn ignore<'a>(&'a self, name: &'a str) -> Task<'a, Result<Option<String>, SourceError>> {
        if self.contexts.contains_key(name) {
            return Box::pin(async { Ok(None) });
        }
        self.inner.ignore(name)
    }

    fn files<'a>(&'a self, name: &'a str, wanted: &'a Wanted) -> Task<'a, Result<Directory, SourceError>> {
        match self.contexts.contains_key(name) {
            true => self.context(name, wanted),
            false => self.inner.files(name, wanted),
        }
    }

    fn secret<'a>(&'a self, id: &'a str) -> Task<'a, Result<Option<Vec<u8>>, SourceError>> {
        self.inner.secret(id)
    }

    fn has_agent<'a>(&'a self, id: &'a str) -> Task<'a, Result<bool, SourceError>> {
        self.inner.has_agent(id)
    }

    fn agent<'a>(&'a self, id: &'a str, connection: OwnedFd) -> Task<'a, Result<(), SourceError>> {
        self.inner.agent(id, connection)
    }

    fn credentials<'a>(&'a self, host: &'a str) -> Task<'a, Result<Option<(String, String)>, SourceError>> {
        self.inner.credentials(host)
    }

    fn upload<'a>(&'a self, name: &'a str) -> Task<'a, Result<mpsc::Receiver<Piece>, SourceError>> {
        self.inner.upload(name)
    }

    fn client(&self) -> Option<&dyn Client> {
        self.inner.client()
    }
}
