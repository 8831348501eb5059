//! What a step does: what the cache knows it by, and the doing.

use std::collections::BTreeSet;
use std::sync::Arc;

use build::dockerfile::mount::Sharing;
use build::graph::{self, Exec};
use oci::Digest;
use storage::ImageLayer;
use tokio::sync::OwnedMutexGuard;

use super::Failed;
use super::cache::Cache;
use super::command::{Command, Held};
use super::content::Survey;
use super::copying::{self, Copying, Source};
use super::digests::Digests;
use super::fetch;
use super::mounts::{self, Files};
use super::solve::{Solver, identity, key};
use super::tell::Voice;
use crate::blocking;
use crate::error::{Error, Result};

/// Caches of one name that steps have for themselves at once: each is a directory that lasts.
const INSTANCES_MAX: u32 = 256;

/// What a step does, with all that it needs.
pub(super) enum Work {
    Exec { exec: Box<Exec>, mounts: Vec<mounts::Wanted>, layers: Vec<ImageLayer> },
    Copy(Arc<Copying>),
    Directory { directory: graph::Directory, layers: Vec<ImageLayer> },
}

impl Work {
    /// What the cache knows it by before any file was looked at; nothing where files of a context decide.
    pub(super) fn first_key(&self, own: &Digest, base: &Digest, options: &str) -> Option<Digest> {
        let mut parts = vec![own.as_str().to_owned(), base.as_str().to_owned(), options.to_owned()];
        match self {
            Self::Directory { .. } => {}
            Self::Exec { mounts, .. } => {
                for mount in mounts {
                    match &mount.files {
                        Files::Layers(layers) => parts.push(identity(layers).to_string()),
                        Files::Directory(_) => return None,
                        // Secrets do not decide what comes of a step.
                        Files::Nothing | Files::Secret(_) | Files::Agent(_) => {}
                    }
                }
            }
            Self::Copy(copying) if !copying.fetched.is_empty() || !copying.commits.is_empty() => return None,
            Self::Copy(copying) => match &copying.source {
                Source::Nowhere => {}
                Source::Layers(layers) => parts.push(identity(layers).to_string()),
                Source::Directory(..) => return None,
            },
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Some(key(&parts))
    }

    /// What the cache knows it by once its files were looked at; and what was seen of those that somebody may change.
    pub(super) async fn look(&self, digests: &Arc<Digests>) -> Result<(Option<Digest>, Vec<Survey>), Failed> {
        const WHAT: &str = "look at the files of a step";
        let looked = match self {
            Self::Directory { .. } => (None, Vec::new()),
            Self::Copy(copying) => {
                let copying = Arc::clone(copying);
                blocking::run_long(WHAT, move || {
                    let survey = copying.survey()?;
                    let files = match &survey {
                        Some(survey) => Some(survey.key.clone()),
                        None => copying.key()?,
                    };
                    let fetched = fetch::key(&copying.fetched, &copying.commits);
                    let both: Vec<&str> = files.iter().chain(&fetched).map(Digest::as_str).collect();
                    let content = if both.is_empty() { None } else { Some(key(&both)) };
                    Ok((content, survey.into_iter().collect()))
                })
                .await?
            }
            Self::Exec { mounts, .. } => {
                let all = mounts.clone();
                if !all.iter().any(|mount| matches!(mount.files, Files::Directory(_))) {
                    return Ok((None, Vec::new()));
                }
                let digests = Arc::clone(digests);
                blocking::run_long(WHAT, move || {
                    let surveys = mounts::surveys(&all, &digests)?;
                    Ok((mounts::key(&all, &surveys)?, surveys))
                })
                .await?
            }
        };
        Ok(looked)
    }

    /// Takes the caches for itself that are not shared; in one order, so that no two wait for each other.
    pub(super) async fn occupy(&mut self, cache: &Cache) -> Result<Vec<OwnedMutexGuard<()>>, Failed> {
        let Self::Exec { mounts, .. } = self else { return Ok(Vec::new()) };
        let mut taken = Vec::new();
        for wanted in mounts.iter_mut().filter(|wanted| wanted.mount.sharing == Some(Sharing::Private)) {
            let name = mounts::cache_name(&wanted.mount);
            // The first that nobody has.
            let free = (0..INSTANCES_MAX).find_map(|instance| {
                let gate = cache.gate(&key(&["private cache mount", &name, &instance.to_string()]));
                Some((instance, gate.try_lock_owned().ok()?))
            });
            let (instance, guard) = free.ok_or_else(|| {
                Error::system(format!("the cache {name} is used by {INSTANCES_MAX} steps at once"))
            })?;
            wanted.instance = instance;
            taken.push(guard);
        }
        let locked = mounts.iter().filter(|wanted| wanted.mount.sharing == Some(Sharing::Locked));
        let keys: BTreeSet<Digest> =
            locked.map(|wanted| key(&["cache mount", &mounts::cache_name(&wanted.mount)])).collect();
        for key in &keys {
            taken.push(cache.gate(key).lock_owned().await);
        }
        Ok(taken)
    }

    /// Does it. Also tells whether the files were certainly those that were seen.
    pub(super) async fn run(
        self,
        solver: &Solver,
        voice: &Voice,
        seen: Vec<Survey>,
        held: &Arc<Held>,
    ) -> Result<(ImageLayer, bool), Failed> {
        match self {
            Self::Exec { exec, mut mounts, layers } => {
                let (context, digests) = (Arc::clone(&solver.context), Arc::clone(&solver.cache.digests));
                let gathered = blocking::run_long("gather the files of mounts", move || {
                    let before = mounts.clone();
                    let scratch = mounts.iter_mut().map(|mount| mount.gather(&context));
                    let scratch = scratch.collect::<Result<Vec<_>>>()?;
                    let is_certain = certain(&seen, || mounts::surveys(&before, &digests))?;
                    Ok((mounts, scratch, is_certain))
                });
                let (mounts, scratch, is_certain) = gathered.await?;
                let command = Command {
                    context: &solver.context,
                    request: &solver.request,
                    exec: &exec,
                    layers: &layers,
                    lease: &solver.lease,
                    mounts,
                    sources: &solver.sources,
                    voice,
                    held: Arc::clone(held),
                };
                let layer = command.run().await?;
                drop(scratch);
                Ok((layer, is_certain))
            }
            Self::Copy(copying) => {
                let Copying { copy, commits, .. } = copying.as_ref();
                let trees = fetch::trees(&solver.context, copy, commits, &solver.sources).await?;
                let copied = blocking::run_long("copy files", move || {
                    let layer = copying.run(&trees)?;
                    let again = || Ok(copying.survey()?.into_iter().collect());
                    Ok((layer, certain(&seen, again)?))
                });
                Ok(copied.await?)
            }
            Self::Directory { directory, layers } => {
                let (context, lease) = (Arc::clone(&solver.context), Arc::clone(&solver.lease));
                let made = blocking::run("make a directory", move || {
                    copying::directory(&context, &lease, &layers, &directory)
                });
                Ok((made.await?, true))
            }
        }
    }
}

/// Whether files that somebody may change are as they were seen before, and were so all the time.
fn certain(seen: &[Survey], again: impl FnOnce() -> Result<Vec<Survey>>) -> Result<bool> {
    if seen.is_empty() {
        return Ok(true);
    }
    let again = again()?;
    Ok(again.len() == seen.len() && again.iter().zip(seen).all(|(again, seen)| again.confirms(seen)))
}
