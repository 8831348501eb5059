//! Builds under way, by the name that the client gave them.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard_buildkit_proto::google::rpc;
use build::output::CachePlace;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::builder::SharedBuilt;
use crate::error::{Error, Result};
use crate::history::Told;
use crate::status::Backlog;

/// Builds at once.
const JOBS_MAX: usize = 256;
/// Images that one build gives: one for each solve that its client asks for.
const RESULTS_MAX: usize = 64;
/// How long calls wait for the build that they name: clients begin it and ask about it at once.
const BEGIN_MAX: Duration = Duration::from_secs(6);
/// How long a build that has ended can still be asked about.
const LATE: Duration = Duration::from_secs(10);
/// Letters of a build's name.
const NAME_BYTES_MAX: usize = 256;

/// What the client has made of a build: the names of its results, or why there are none.
pub(crate) type Returned = std::result::Result<Vec<String>, rpc::Status>;

/// A build.
pub(crate) struct Job {
    /// What the client calls it.
    pub(crate) name: String,
    /// The session that gives it its files.
    pub(crate) session: String,
    /// Caches that its steps are looked for in.
    pub(crate) cache_from: Vec<CachePlace>,
    /// Whether steps may use the host's network.
    pub(crate) may_use_host_network: bool,
    /// Whether steps may do what containers may not.
    pub(crate) may_be_insecure: bool,
    /// What it tells.
    pub(crate) backlog: Arc<Backlog>,
    /// Ends with it.
    pub(crate) ends: CancellationToken,
    /// Whether a question was answered: then there need not be an image.
    pub(crate) has_answered: AtomicBool,
    results: Mutex<HashMap<String, SharedBuilt>>,
    returned: Mutex<Option<oneshot::Sender<Returned>>>,
    ended: Mutex<Option<Instant>>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Job {
    /// Keeps a result, and gives its name.
    pub(crate) fn keep(&self, built: SharedBuilt) -> Result<String> {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        if results.len() >= RESULTS_MAX {
            return Err(Error::Full { what: "results of this build", count: RESULTS_MAX });
        }
        let name = format!("result-{}", results.len());
        results.insert(name.clone(), built);
        Ok(name)
    }

    /// A result by its name.
    pub(crate) fn result(&self, name: &str) -> Result<SharedBuilt> {
        let found = self.results.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        found.ok_or_else(|| Error::Unknown(format!("this build has no result {name:?}")))
    }

    /// Tells the build what the client has made of it.
    pub(crate) fn give_back(&self, returned: Returned) -> Result<()> {
        let waiting = self.returned.lock().unwrap_or_else(PoisonError::into_inner).take();
        let waiting =
            waiting.ok_or_else(|| Error::Invalid("this build has its result already".to_owned()))?;
        waiting.send(returned).map_err(|_| Error::Gone("the build".to_owned()))
    }
}

/// What a job is begun with.
#[derive(Debug, Default)]
pub(crate) struct Beginning {
    pub(crate) session: String,
    pub(crate) cache_from: Vec<CachePlace>,
    pub(crate) may_use_host_network: bool,
    pub(crate) may_be_insecure: bool,
    /// Where what it tells is kept.
    pub(crate) told: Option<Arc<Told>>,
}

/// The builds that there are.
#[derive(Debug)]
pub(crate) struct Jobs {
    table: Mutex<HashMap<String, Arc<Job>>>,
    changed: watch::Sender<()>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { table: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl Jobs {
    /// Begins a build. It ends with what is given back; the other is where its client's result comes.
    pub(crate) fn begin(
        &self,
        name: &str,
        beginning: Beginning,
    ) -> Result<(Running, oneshot::Receiver<Returned>)> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(Error::Invalid(format!("a build needs a name of 1 to {NAME_BYTES_MAX} bytes")));
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, job| {
            job.ended.lock().unwrap_or_else(PoisonError::into_inner).is_none_or(|at| at.elapsed() < LATE)
        });
        if table.contains_key(name) {
            return Err(Error::Invalid(format!("a build {name} is there already")));
        }
        if table.len() >= JOBS_MAX {
            return Err(Error::Full { what: "builds", count: JOBS_MAX });
        }
        let (sender, returned) = oneshot::channel();
        let job = Arc::new(Job {
            name: name.to_owned(),
            session: beginning.session,
            cache_from: beginning.cache_from,
            may_use_host_network: beginning.may_use_host_network,
            may_be_insecure: beginning.may_be_insecure,
            backlog: Arc::new(Backlog::kept_by(beginning.told)),
            ends: CancellationToken::new(),
            has_answered: AtomicBool::new(false),
            results: Mutex::default(),
            returned: Mutex::new(Some(sender)),
            ended: Mutex::default(),
        });
        table.insert(name.to_owned(), Arc::clone(&job));
        drop(table);
        self.changed.send_replace(());
        Ok((Running(job), returned))
    }

    /// Whether somebody has heard of a build of this name already; nothing where there is none.
    pub(crate) fn is_heard(&self, name: &str) -> Option<bool> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.get(name).map(|job| !job.backlog.is_unread())
    }

    /// A build by its name; one that is about to begin is waited for.
    pub(crate) async fn get(&self, name: &str) -> Result<Arc<Job>> {
        let mut changed = self.changed.subscribe();
        let beginning = async {
            loop {
                let found = self.table.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
                if let Some(job) = found {
                    return job;
                }
                // The sender lives as long as the table does.
                let _ = changed.changed().await;
            }
        };
        tokio::time::timeout(BEGIN_MAX, beginning)
            .await
            .map_err(|_| Error::Unknown(format!("no such job {name}")))
    }
}

/// A build that goes on as long as this is held.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Arc<Job>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.ends.cancel();
        self.0.backlog.close();
        // What was not put out goes, though the build can still be asked about.
        self.0.results.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.0.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}
