//! What a build is asked for, and where it gets what is not in the request.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;

use oci::{Digest, Platform};

use crate::expand::Environment;
use tokio::sync::mpsc;

use crate::output::{Attestations, CachePlace, Client, Piece};
use crate::remote::Remote;
use crate::text::{Origins, Source};

/// The name of the context that is not named: what `COPY` copies from without `--from`.
pub const CONTEXT: &str = "context";

/// A text with its name, as messages tell it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// Where it came from: `Dockerfile`, `build/web.Dockerfile`.
    pub name: String,
    /// What it says, with what it includes in its place.
    pub text: String,
    /// What it was put together of.
    pub origins: Origins,
}

impl Document {
    /// A text that is as it was written.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), origins: Origins::default() }
    }

    /// Its lines, and those of what it includes.
    pub fn source(&self) -> Source<'_> {
        Source::of(&self.text, &self.origins)
    }

    /// Its files with their names: first itself as it was written, then what it includes, as often as it does.
    pub fn files(&self) -> Vec<(&str, &str)> {
        if self.origins.files.is_empty() {
            return vec![(&self.name, &self.text)];
        }
        self.origins.files.iter().map(|file| (file.name.as_str(), file.text.as_str())).collect()
    }
}

/// Which steps are run though the cache has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NoCache {
    /// None.
    #[default]
    No,
    /// All: `--no-cache`.
    All,
    /// Those of these stages: `--no-cache-filter`.
    Stages(Vec<String>),
}

/// The network of steps that say nothing of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Network {
    /// As containers have it.
    #[default]
    Default,
    /// None.
    None,
    /// The host's.
    Host,
    /// One of the engine's, by its name, as the classic builder has it.
    Named(String),
}

/// A limit of a step's processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// `nofile`, `nproc` …
    pub name: String,
    /// What processes get.
    pub soft: i64,
    /// What they may raise it to.
    pub hard: i64,
}

/// A context that was given by name: `--build-context`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// Files that [`Sources::context`] is asked for by this name.
    Local(String),
    /// An image.
    Image(String),
    /// A repository, or an archive on the net.
    Remote(Remote),
}

/// A build's own context, where it is not the client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteContext {
    /// Where it is.
    pub address: Remote,
    /// Whether the Dockerfile of the request's name, and what hides files, are there; they are in the request if not.
    pub has_dockerfile: bool,
}

/// Limits of steps, as `docker build` of old has them; 0 and nothing are no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: i64,
    /// Bytes of memory and swap together, -1 for as much as there is.
    pub memory_swap: i64,
    /// Share of processor time, against others.
    pub cpu_shares: i64,
    /// Microseconds of a period.
    pub cpu_period: i64,
    /// Microseconds in a period.
    pub cpu_quota: i64,
    /// Processors that may be used.
    pub cpuset_cpus: String,
    /// Nodes of memory that may be used.
    pub cpuset_mems: String,
    /// The control group above those of the steps.
    pub cgroup_parent: String,
}

/// What a build is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The Dockerfile.
    pub dockerfile: Document,
    /// The context that the Dockerfile is read of, where it may be another than [`CONTEXT`]: what it includes may lie beside it.
    pub beside: Option<String>,
    /// What hides files of the context, if there is such a file: `<name>.dockerignore` before `.dockerignore`.
    pub ignore: Option<Document>,
    /// `--target`: a name or a number; the last stage if nothing is said.
    pub target: Option<String>,
    /// `--build-arg`.
    pub arguments: Environment,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--platform`: the engine's own if there is none.
    pub platforms: Vec<Platform>,
    /// Whether the result is an index though it is for one platform.
    pub multi_platform: bool,
    /// `--no-cache`.
    pub no_cache: NoCache,
    /// `--pull`: images are asked for at their registries though they are here.
    pub pull: bool,
    /// `--network`.
    pub network: Network,
    /// `--allow network.host`: whether steps may have the host's network though the build as a whole has another.
    pub may_use_host_network: bool,
    /// `--allow security.insecure`: whether steps may do what containers may not, where they ask for it.
    pub may_be_insecure: bool,
    /// `--add-host`: names and addresses.
    pub hosts: Vec<(String, String)>,
    /// `--shm-size`, in bytes.
    pub shm_size: Option<u64>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// Limits of steps.
    pub limits: Limits,
    /// The context, where it is elsewhere.
    pub remote: Option<RemoteContext>,
    /// `--build-context`.
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--tag`: names of the image.
    pub tags: Vec<String>,
    /// `--squash`: what the Dockerfile adds becomes one layer.
    pub squash: bool,
    /// `--cache-from`: where steps may have been made already.
    pub cache_from: Vec<CachePlace>,
    /// `--attest`: what is stated of the result.
    pub attestations: Attestations,
}

/// Which files of a context are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Patterns of paths, of which links are followed; all files if there is none.
    pub paths: Vec<String>,
    /// Lines of `.dockerignore`.
    pub hidden: Vec<String>,
}

/// What a directory holds that a source gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// What is wanted, and nothing that is hidden.
    Wanted,
    /// Everything: also what is hidden.
    Everything,
    /// Everything, and it is its owner's, who may change it meanwhile. Nothing may be written to it.
    Foreign,
}

/// A directory with files of a context.
#[derive(Debug)]
pub struct Directory {
    /// The directory.
    pub fd: OwnedFd,
    /// What it holds.
    pub holds: Holds,
}

/// Why something could not be had; one line for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// What an asynchronous method of a trait returns.
pub type Task<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where a build gets what is not in the request. Ours, the classic tar and a BuildKit session are three of them.
pub trait Sources: Send + Sync + 'static {
    /// A directory that holds at least the files that are wanted of a context; [`CONTEXT`] is the one without a name.
    /// Unless it is [`Holds::Foreign`], what it holds does not change while the build lasts.
    fn context<'a>(&'a self, name: &'a str, wanted: &'a Wanted) -> Task<'a, Result<Directory, SourceError>>;

    /// The `.dockerignore` of a context with a name; nothing if it has none, or if what it says does not count.
    fn ignore<'a>(&'a self, _name: &'a str) -> Task<'a, Result<Option<String>, SourceError>> {
        Box::pin(async { Ok(None) })
    }

    /// Files of a context that are read and not copied: those alone, of which nothing is kept for the next build.
    fn files<'a>(&'a self, name: &'a str, wanted: &'a Wanted) -> Task<'a, Result<Directory, SourceError>> {
        self.context(name, wanted)
    }

    /// A secret; nothing if there is none of this name.
    fn secret<'a>(&'a self, id: &'a str) -> Task<'a, Result<Option<Vec<u8>>, SourceError>>;

    /// Whether there is an agent for ssh keys of this name.
    fn has_agent<'a>(&'a self, _id: &'a str) -> Task<'a, Result<bool, SourceError>> {
        Box::pin(async { Ok(false) })
    }

    /// Carries a connection to that agent, until one of them ends it.
    fn agent<'a>(&'a self, id: &'a str, _connection: OwnedFd) -> Task<'a, Result<(), SourceError>> {
        Box::pin(async move { Err(SourceError(format!("no SSH key {id:?} forwarded from the client"))) })
    }

    /// Name and password for a registry; nothing if the client has none.
    fn credentials<'a>(&'a self, host: &'a str) -> Task<'a, Result<Option<(String, String)>, SourceError>>;

    /// An archive that the client gives by a name, as what is built.
    fn upload<'a>(&'a self, name: &'a str) -> Task<'a, Result<mpsc::Receiver<Piece>, SourceError>> {
        Box::pin(async move { Err(SourceError(format!("no upload {name:?} of the client: it sends none"))) })
    }

    /// The client as who takes what is made, where it is one that does.
    fn client(&self) -> Option<&dyn Client> {
        None
    }
}

/// Sources as a build holds them.
pub type SharedSources = Arc<dyn Sources>;

impl fmt::Debug for dyn Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

/// What has come of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The image's id: the digest of its manifest.
    pub image: Digest,
    /// The digest of its configuration.
    pub config: Digest,
    /// Names that it has now, in full.
    pub names: Vec<String>,
}
