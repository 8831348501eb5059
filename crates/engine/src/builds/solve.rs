//! Solving: steps are made when what they are made of is there, those that do not need each other side by side, and each once.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use build::dockerfile::mount::{Kind, Mount, Sharing};
use build::graph::{self, Copy, Exec, Graph, Op, Vertex};
use build::ignore::Ignore;
use build::progress::{End, Teller};
use build::request::{self, CONTEXT, Request, SharedSources, Task, Wanted};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use oci::Digest;
use sha2::{Digest as _, Sha256};
use storage::{ImageLayer, Lease};
use tokio::sync::{OwnedMutexGuard, Semaphore};

use super::cache::{Cache, Made, Use, hold};
use super::command::{self, Command, Held};
use super::content::Survey;
use super::context::IGNORE;
use super::copying::{self, Copying, Source};
use super::digests::Digests;
use super::fetch;
use super::git::Commit;
use super::mounts::{self, Files};
use super::remote::Imports;
use super::result::epoch;
use super::select::Sieve;
use super::tell::Voice;
use super::{Failed, Resolved};
use crate::blocking;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::images::assemble;

/// Steps of one build that run at once, for each processor: commands wait for disks and nets as well.
const STEPS_A_PROCESSOR: usize = 2;
/// And at least so many.
const STEPS_LEAST: usize = 4;

/// Caches of one name that steps have for themselves at once: each is a directory that lasts.
const INSTANCES_MAX: u32 = 256;
/// The agent that is meant where no other is named.
const DEFAULT_AGENT: &str = "default";

/// What a step has made.
#[derive(Debug, Clone)]
pub(super) enum Output {
    /// Layers, the lowest first; and, of the step itself, what it made.
    Layers {
        /// All of them.
        layers: Vec<ImageLayer>,
        /// What the step has added, and when.
        made: Option<Made>,
    },
    /// A directory of a context, and what is hidden in it with the name of the file that says so.
    Directory(Arc<request::Directory>, Hidden),
}

impl Output {
    /// Its layers, if it has any.
    pub fn layers(&self) -> &[ImageLayer] {
        match self {
            Self::Layers { layers, .. } => layers,
            Self::Directory(..) => &[],
        }
    }
}

/// What an ignore file hides, and its name.
pub(super) type Hidden = Arc<(Ignore, String)>;

/// What the cache knows of a step.
#[derive(Debug, Clone)]
pub(super) struct Noted {
    /// The step's number.
    pub at: usize,
    /// What the cache knows it by.
    pub keys: Vec<Digest>,
    /// What it made.
    pub made: Made,
    /// Whether its files are in the result: it is one of those that the result is stacked of.
    pub in_result: bool,
}

/// One build that is being solved.
pub(super) struct Solver {
    pub context: Arc<Context>,
    pub cache: Arc<Cache>,
    pub request: Arc<Request>,
    pub graph: Arc<Graph>,
    pub sources: SharedSources,
    pub images: Vec<Resolved>,
    pub lease: Arc<Lease>,
    pub teller: Teller,
    pub ignore: Hidden,
    pub imports: Arc<Imports>,
    cells: Vec<OnceLock<Output>>,
    /// What of the cache was of use.
    used: Mutex<Vec<Use>>,
    noted: Mutex<Vec<Noted>>,
    common: Arc<Common>,
}

/// What a step has come to, and what the cache knows of it.
#[derive(Debug, Clone)]
struct Come {
    output: Output,
    noted: Option<Noted>,
}

type Cell = tokio::sync::OnceCell<Come>;

/// What solvers have in common that do one build for several platforms: a step that two of them have is made, and told of, once.
#[derive(Debug)]
pub(super) struct Common {
    cells: Mutex<HashMap<(Digest, bool), Arc<Cell>>>,
    slots: Semaphore,
}

impl Common {
    pub fn new(context: &Context) -> Self {
        let at_once = (context.host.cpus.max(1) as usize * STEPS_A_PROCESSOR).max(STEPS_LEAST);
        Self { cells: Mutex::default(), slots: Semaphore::new(at_once) }
    }

    fn cell(&self, vertex: &Vertex) -> Arc<Cell> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cells.entry((vertex.digest.clone(), vertex.no_cache)).or_default())
    }
}

/// What a solver is made of.
pub(super) struct Parts {
    pub context: Arc<Context>,
    pub cache: Arc<Cache>,
    pub request: Arc<Request>,
    pub graph: Arc<Graph>,
    pub sources: SharedSources,
    pub images: Vec<Resolved>,
    pub lease: Arc<Lease>,
    pub teller: Teller,
    pub ignore: Hidden,
    pub imports: Arc<Imports>,
    pub common: Arc<Common>,
}

fn key(parts: &[&str]) -> Digest {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    Digest::from_sha256(hasher.finalize().into())
}

/// What layers are, whatever made them.
fn identity(layers: &[ImageLayer]) -> Digest {
    let parts: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    key(&parts)
}

impl Solver {
    pub fn new(parts: Parts) -> Self {
        let Parts { context, cache, request, graph, sources, images, lease, teller, ignore, imports, common } =
            parts;
        let cells = graph.vertices.iter().map(|_| OnceLock::new()).collect();
        Self {
            context,
            cache,
            request,
            graph,
            sources,
            images,
            lease,
            teller,
            ignore,
            imports,
            cells,
            used: Mutex::default(),
            noted: Mutex::default(),
            common,
        }
    }

    /// Notes what the cache knows of a step.
    fn note(&self, at: usize, keys: [Option<&Digest>; 2], made: &Made) {
        let keys = keys.into_iter().flatten().cloned().collect();
        let noted = Noted { at, keys, made: made.clone(), in_result: false };
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).push(noted);
    }

    /// What the cache knows of the steps, in their order.
    pub fn noted(&self) -> Vec<Noted> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut stacked = BTreeSet::new();
        let mut next = Some(self.graph.result);
        while let Some(at) = next {
            stacked.insert(at);
            next = self.graph.vertices[at].inputs.first().copied();
        }
        noted.iter_mut().for_each(|one| one.in_result = stacked.contains(&one.at));
        noted.sort_by_key(|one| one.at);
        noted
    }

    /// Makes the result, and before it what it is made of; each step as soon as all that it needs is there. What is still being made
    /// when one has failed is given up.
    pub async fn solve(&self) -> Result<(), Failed> {
        let vertices = &self.graph.vertices;
        let needed = self.graph.needed();
        let mut missing: Vec<usize> = vertices.iter().map(|vertex| vertex.inputs.len()).collect();
        let mut waiting = vec![Vec::new(); vertices.len()];
        let mut running = FuturesUnordered::new();
        for at in (0..vertices.len()).filter(|at| needed[*at]) {
            vertices[at].inputs.iter().for_each(|input| waiting[*input].push(at));
            if missing[at] == 0 {
                running.push(self.made_of(at));
            }
        }
        while let Some((at, made)) = running.next().await {
            // Each is made once.
            let _ = self.cells[at].set(made?);
            for next in &waiting[at] {
                missing[*next] -= 1;
                if missing[*next] == 0 {
                    running.push(self.made_of(*next));
                }
            }
        }
        Ok(())
    }

    /// Makes a step whose inputs are there.
    fn made_of(&self, at: usize) -> Task<'_, (usize, Result<Output, Failed>)> {
        Box::pin(async move {
            let inputs = self.graph.vertices[at].inputs.iter().filter_map(|input| self.made(*input).cloned());
            let made = self.make(at, inputs.collect()).await;
            (at, made)
        })
    }

    /// What a step has made, once it has.
    pub fn made(&self, at: usize) -> Option<&Output> {
        self.cells[at].get()
    }

    /// What of the cache was of use, in the order of the steps' ends.
    pub fn used(&self) -> Vec<Use> {
        std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn use_of(&self, key: &Digest, was_there: bool) {
        let used = Use { key: key.clone(), was_there };
        self.used.lock().unwrap_or_else(PoisonError::into_inner).push(used);
    }

    async fn make(&self, at: usize, inputs: Vec<Output>) -> Result<Output, Failed> {
        let cell = self.common.cell(&self.graph.vertices[at]);
        let mut is_own = false;
        let making = async {
            is_own = true;
            let output = self.make_alone(at, inputs).await?;
            let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            Ok::<_, Failed>(Come { output, noted: noted.iter().find(|one| one.at == at).cloned() })
        };
        let come = cell.get_or_try_init(|| making).await?.clone();
        if let Some(noted) = come.noted.filter(|_| !is_own) {
            self.noted.lock().unwrap_or_else(PoisonError::into_inner).push(Noted { at, ..noted });
        }
        Ok(come.output)
    }

    async fn make_alone(&self, at: usize, inputs: Vec<Output>) -> Result<Output, Failed> {
        let vertex = &self.graph.vertices[at];
        let voice = Voice::new(self.teller.clone(), vertex.digest.clone());
        voice.started().await;
        let outcome = match &vertex.op {
            Op::Scratch => Ok((Output::Layers { layers: Vec::new(), made: None }, true)),
            Op::Image { manifest, .. } => self.image(manifest).await.map(|output| (output, true)),
            Op::Local { name, wanted } => self.local(name, wanted).await.map(|output| (output, false)),
            Op::Exec(_) | Op::Copy(_) | Op::Directory(_) => self.step(at, inputs, &voice).await,
        };
        match &outcome {
            Ok((_, true)) => voice.done(End::Cached).await,
            Ok((_, false)) => voice.done(End::Ran).await,
            Err(failed) => voice.done(End::Failed(failed.error.chain())).await,
        }
        outcome.map(|(output, _)| output).map_err(|failed| failed.at(vertex.span))
    }

    async fn image(&self, manifest: &Digest) -> Result<Output, Failed> {
        let found = self.images.iter().find(|image| image.image.manifest.digest == *manifest);
        let found = found.ok_or_else(|| Error::system("a bug: an image was not looked up"))?;
        let layers = found.image.manifest.layers.clone();
        let (context, lease, kept) = (Arc::clone(&self.context), Arc::clone(&self.lease), layers.clone());
        blocking::run("keep an image for a build", move || {
            context.store.restore_layers(&kept)?;
            Ok(context.store.transaction(|tx| kept.iter().try_for_each(|layer| hold(tx, &lease, layer)))?)
        })
        .await?;
        Ok(Output::Layers { layers, made: None })
    }

    async fn local(&self, name: &str, wanted: &[String]) -> Result<Output, Failed> {
        let hides = if name == CONTEXT { Arc::clone(&self.ignore) } else { self.hidden_of(name).await? };
        let wanted = Wanted { paths: wanted.to_vec(), hidden: hides.0.patterns() };
        let found = self.sources.context(name, &wanted).await.map_err(|error| unloaded(&error))?;
        Ok(Output::Directory(Arc::new(found), hides))
    }

    /// What the `.dockerignore` of a named context hides.
    async fn hidden_of(&self, name: &str) -> Result<Hidden, Failed> {
        let text = self.sources.ignore(name).await.map_err(|error| unloaded(&error))?.unwrap_or_default();
        let ignore = Ignore::parse(&text)
            .map_err(|error| Error::invalid(format!("{IGNORE} of the context {name}: {error}")))?;
        Ok(Arc::new((ignore, IGNORE.to_owned())))
    }

    /// A step that the cache may have.
    async fn step(&self, at: usize, inputs: Vec<Output>, voice: &Voice) -> Result<(Output, bool), Failed> {
        let vertex = &self.graph.vertices[at];
        let below = inputs.first().map(|input| input.layers().to_vec()).unwrap_or_default();
        let own = graph::of(&vertex.op);
        let mut work = self.work(&vertex.op, &below, &inputs[1.min(inputs.len())..]).await?;
        let base = match &vertex.op {
            // What is linked does not depend on what is below, but for the numbers of names.
            Op::Copy(copy) if copy.link && copy.owner.is_none() => key(&[]),
            _ => identity(&below),
        };
        let options = match &vertex.op {
            Op::Exec(_) => {
                let Request { hosts, shm_size, ulimits, .. } = &*self.request;
                format!("{hosts:?}{shm_size:?}{ulimits:?}{}", command::hostname(&self.request))
            }
            // Their times are those that were said, if any were.
            Op::Copy(copy) if !copy.inline.is_empty() || !copy.urls.is_empty() => {
                epoch(&self.request)?.map(|epoch| format!("epoch {}", epoch.as_second())).unwrap_or_default()
            }
            _ => String::new(),
        };
        let first = work.first_key(&own, &base, &options);
        let alone = match &first {
            Some(first) => Some(self.cache.gate(first).lock_owned().await),
            None => None,
        };
        if let Some(made) = self.cached(at, first.as_ref()).await? {
            self.note(at, [first.as_ref(), None], &made);
            return Ok((stacked(below, made), true));
        }
        let (content, surveys) = work.look(&self.cache.digests).await?;
        let second =
            content.map(|content| key(&[own.as_str(), base.as_str(), content.as_str(), &options, "content"]));
        // Who looks at other files is not held up: what is the same is known by now.
        let alone = match alone {
            Some(alone) => alone,
            None => self.cache.gate(second.as_ref().unwrap_or(&own)).lock_owned().await,
        };
        if let Some(made) = self.cached(at, second.as_ref()).await? {
            if let Some(first) = first {
                self.remember(&[&first], &made, &vertex.name).await?;
                self.note(at, [Some(&first), second.as_ref()], &made);
            } else {
                self.note(at, [None, second.as_ref()], &made);
            }
            return Ok((stacked(below, made), true));
        }
        let mut gates = work.occupy(&self.cache).await?;
        gates.push(alone);
        let held = Arc::new(Held::new(gates));
        let slot = self.common.slots.acquire().await;
        let (layer, is_certain) = work.run(self, voice, surveys, &held).await?;
        drop(slot);
        let made = Made {
            layer: Some(layer).filter(|layer| !assemble::is_empty(layer)),
            created: Timestamp::now().to_string(),
        };
        // Files that were changed while they were copied: what came of it is this build's alone.
        let keys: Vec<&Digest> = first.iter().chain(&second).filter(|_| is_certain).collect();
        self.remember(&keys, &made, &vertex.name).await?;
        let certain = |key: &Option<Digest>| key.clone().filter(|_| is_certain);
        self.note(at, [certain(&first).as_ref(), certain(&second).as_ref()], &made);
        Ok((stacked(below, made), false))
    }

    async fn cached(&self, at: usize, key: Option<&Digest>) -> Result<Option<Made>, Failed> {
        let vertex = &self.graph.vertices[at];
        let Some(key) = key.filter(|_| !vertex.no_cache) else { return Ok(None) };
        let (cache, lease, wanted) = (Arc::clone(&self.cache), Arc::clone(&self.lease), key.clone());
        let found = blocking::run("look into the build cache", move || cache.find(&lease, &wanted)).await?;
        if found.is_some() {
            self.use_of(key, true);
            return Ok(found);
        }
        let brought = self.imports.find(&self.context, &self.sources, &self.lease, key).await;
        if let Some(made) = &brought {
            self.remember(&[key], made, &vertex.name).await?;
        }
        Ok(brought)
    }

    async fn remember(&self, keys: &[&Digest], made: &Made, description: &str) -> Result<(), Failed> {
        let keys: Vec<Digest> = keys.iter().map(|key| (*key).clone()).collect();
        let made_by = keys.clone();
        let (cache, made, description) = (Arc::clone(&self.cache), made.clone(), description.to_owned());
        blocking::run("remember what a step made", move || {
            cache.put(&keys.iter().collect::<Vec<_>>(), &made, &description)
        })
        .await?;
        made_by.iter().for_each(|key| self.use_of(key, false));
        Ok(())
    }

    /// What a step needs, gathered.
    async fn work(&self, op: &Op, below: &[ImageLayer], inputs: &[Output]) -> Result<Work, Failed> {
        match op {
            Op::Exec(exec) => {
                let mut wanted = Vec::new();
                for mounted in &exec.mounts {
                    let mut sieve = Sieve::default();
                    let input = mounted.input.and_then(|input| inputs.get(input.checked_sub(1)?));
                    let files = match input {
                        Some(Output::Directory(directory, hides)) => {
                            (sieve.ignore, sieve.ignore_name) = (hides.0.clone(), hides.1.clone());
                            Files::Directory(Arc::clone(directory))
                        }
                        Some(Output::Layers { layers, .. }) => Files::Layers(layers.clone()),
                        None => self.given(&mounted.mount).await?,
                    };
                    wanted.push(mounts::Wanted { mount: mounted.mount.clone(), files, sieve, instance: 0 });
                }
                Ok(Work::Exec { exec: exec.clone(), mounts: wanted, layers: below.to_vec() })
            }
            Op::Copy(copy) => {
                let fetched = fetch::all(&self.context, copy).await?;
                let commits = fetch::commits(&self.context, copy, &self.sources).await?;
                let source = match inputs.first() {
                    None => Source::Nowhere,
                    Some(Output::Directory(directory, hides)) => {
                        Source::Directory(Arc::clone(directory), Arc::clone(hides))
                    }
                    Some(Output::Layers { layers, .. }) => Source::Layers(layers.clone()),
                };
                Ok(Work::Copy(Arc::new(self.copying(copy, below, source, (fetched, commits)))))
            }
            Op::Directory(directory) => {
                Ok(Work::Directory { directory: directory.clone(), layers: below.to_vec() })
            }
            _ => Err(Error::system("a bug: this step makes no layer").into()),
        }
    }

    fn copying(
        &self,
        copy: &Copy,
        below: &[ImageLayer],
        source: Source,
        (fetched, commits): (Vec<copying::Fetched>, Vec<Commit>),
    ) -> Copying {
        // One that is wrong was refused before anything was done.
        let epoch = epoch(&self.request).ok().flatten().map(Timestamp::as_second);
        Copying {
            context: Arc::clone(&self.context),
            lease: Arc::clone(&self.lease),
            copy: copy.clone(),
            layers: below.to_vec(),
            source,
            fetched,
            commits,
            digests: Arc::clone(&self.cache.digests),
            now: epoch.unwrap_or_else(|| Timestamp::now().as_second()),
        }
    }

    /// What the client gives for a mount.
    async fn given(&self, mount: &Mount) -> Result<Files, Failed> {
        match mount.kind {
            Kind::Secret => self.secret(mount).await,
            Kind::Ssh => self.agent(mount).await,
            _ => Ok(Files::Nothing),
        }
    }

    async fn agent(&self, mount: &Mount) -> Result<Files, Failed> {
        let id = if mount.id.is_empty() { DEFAULT_AGENT } else { &mount.id };
        let found = self.sources.has_agent(id).await;
        let found =
            found.map_err(|error| Error::invalid(format!("cannot ask for ssh agent {id}: {error}")))?;
        if found {
            return Ok(Files::Agent(id.to_owned()));
        }
        if mount.required {
            let message = format!("no SSH key {id:?} forwarded from the client (give it with --ssh {id})");
            return Err(Error::invalid(message).into());
        }
        Ok(Files::Nothing)
    }

    async fn secret(&self, mount: &Mount) -> Result<Files, Failed> {
        let id = mounts::secret_id(mount);
        let found = self.sources.secret(&id).await;
        let found = found.map_err(|error| Error::invalid(format!("cannot read secret {id}: {error}")))?;
        match found {
            Some(content) => Ok(Files::Secret(content)),
            None if mount.required => {
                Err(Error::invalid(format!("secret {id}: not found (give it with --secret id={id},…)"))
                    .into())
            }
            None => Ok(Files::Nothing),
        }
    }
}

fn stacked(mut layers: Vec<ImageLayer>, made: Made) -> Output {
    layers.extend(made.layer.clone());
    Output::Layers { layers, made: Some(made) }
}

/// What a step does, with all that it needs.
enum Work {
    Exec { exec: Box<Exec>, mounts: Vec<mounts::Wanted>, layers: Vec<ImageLayer> },
    Copy(Arc<Copying>),
    Directory { directory: graph::Directory, layers: Vec<ImageLayer> },
}

impl Work {
    /// What the cache knows it by before any file was looked at; nothing where files of a context decide.
    fn first_key(&self, own: &Digest, base: &Digest, options: &str) -> Option<Digest> {
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
    async fn look(&self, digests: &Arc<Digests>) -> Result<(Option<Digest>, Vec<Survey>), Failed> {
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
    async fn occupy(&mut self, cache: &Cache) -> Result<Vec<OwnedMutexGuard<()>>, Failed> {
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
    async fn run(
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

fn unloaded(error: &request::SourceError) -> Error {
    Error::invalid(format!("failed to load the build context: {error}"))
}

/// Whether files that somebody may change are as they were seen before, and were so all the time.
fn certain(seen: &[Survey], again: impl FnOnce() -> Result<Vec<Survey>>) -> Result<bool> {
    if seen.is_empty() {
        return Ok(true);
    }
    let again = again()?;
    Ok(again.len() == seen.len() && again.iter().zip(seen).all(|(again, seen)| again.confirms(seen)))
}
