//! What is behind the API: who builds.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use build::Span;
use build::output::Export;
use build::progress::Teller;
use build::request::{Request, SharedSources, Task};
use oci::Platform;
use sys::path::Root;

/// Why there is no image; one line for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The line.
    pub message: String,
    /// The instruction of the Dockerfile that it is about, where the line does not show it itself.
    pub place: Option<Span>,
}

/// What clients are told of who builds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worker {
    /// The engine's id.
    pub id: String,
    /// What the host is called.
    pub hostname: String,
    /// What can be built for, the host's own first.
    pub platforms: Vec<Platform>,
    /// What `host-gateway` means in `--add-host`, if it is known.
    pub host_gateway: Option<IpAddr>,
}

/// What earlier builds have left, one by one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cached {
    /// What it is, as BuildKit calls it: `regular`, `exec.cachemount`.
    pub kind: &'static str,
    /// Its name.
    pub id: String,
    /// What made it.
    pub description: String,
    /// What it occupies.
    pub bytes: u64,
    /// Whether an image has it as well.
    pub shared: bool,
    /// Whether somebody is at work in it.
    pub in_use: bool,
    /// When it was made.
    pub created: Option<SystemTime>,
    /// When it was last used.
    pub used: Option<SystemTime>,
    /// How often.
    pub uses: u64,
}

/// What is to be removed of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prune {
    /// Also what images have.
    pub all: bool,
    /// Bytes that may stay; 0 for none.
    pub keep_bytes: u64,
    /// What was used within this time stays.
    pub keep_for: Duration,
    /// What has one of these names alone, if they are said.
    pub only: Option<HashSet<String>>,
}

/// What the client is told of what was put out: names that scripts know.
pub type Told = BTreeMap<String, String>;

/// What looks at files, and keeps to itself what it has seen. It blocks.
pub type Look = Box<dyn FnOnce(&Root) + Send>;

/// What a build has come to. It is kept until it is dropped; what was not put out goes then.
pub trait Built: Send + Sync + 'static {
    /// Puts it out.
    fn export<'a>(&'a self, export: &'a Export, teller: Teller) -> Task<'a, Result<Told, Failure>>;

    /// Shows its files, which are those of one platform.
    fn look(&self, look: Look) -> Task<'_, Result<(), Failure>>;
}

/// A result as its job holds it.
pub type SharedBuilt = Arc<dyn Built>;

/// Who builds. A future that is dropped ends its build.
pub trait Builder: Send + Sync + 'static {
    /// Finds what is read before a build begins: the Dockerfile, wherever it is, and all that it includes.
    fn gather(
        &self,
        request: Request,
        sources: SharedSources,
        teller: Teller,
    ) -> Task<'_, Result<(Request, SharedSources), Failure>>;

    /// Does all that a build does but for putting out what comes of it. It is given what [`Self::gather`] has found.
    fn build(
        &self,
        request: Request,
        sources: SharedSources,
        teller: Teller,
    ) -> Task<'_, Result<SharedBuilt, Failure>>;

    /// What earlier builds have left.
    fn cached(&self) -> Task<'_, Result<Vec<Cached>, Failure>>;

    /// Removes of it; what is gone.
    fn prune(&self, prune: Prune) -> Task<'_, Result<Vec<Cached>, Failure>>;

    /// Who builds.
    fn worker(&self) -> Task<'_, Result<Worker, Failure>>;
}
