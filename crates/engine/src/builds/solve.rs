//! Solving: steps are made when what they are made of is there, those that do not need each other side by side, and each once.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use build::dockerfile::mount::{Kind, Mount};
use build::graph::{self, Copy, Graph, Op, Vertex};
use build::ignore::Ignore;
use build::progress::{End, Teller};
use build::request::{self, CONTEXT, Request, SharedSources, Task, Wanted};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use oci::Digest;
use sha2::{Digest as _, Sha256};
use storage::{ImageLayer, Lease};
use tokio::sync::Semaphore;

use super::cache::{Cache, Made, Use, hold};
use super::command::{self, Held};
use super::context::IGNORE;
use super::copying::{self, Copying, Source};
use super::fetch;
use super::foresee::{Foreseen, by_making, known_of};
use super::git::Commit;
use super::mounts::{self, Files};
use super::remote::Imports;
use super::result::epoch;
use super::select::Sieve;
use super::tell::Voice;
use super::work::Work;
use super::{Failed, Resolved};
use crate::blocking;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::images::assemble;

/// Steps of one build that run at once, for each processor: commands wait for disks and nets as well.
const STEPS_A_PROCESSOR: usize = 2;
/// And at least so many.
const STEPS_LEAST: usize = 4;

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
        /// What it is by how it was made, whatever came of that: nothing where files were changed meanwhile.
        known: Option<Digest>,
    },
    /// A directory of a context, and what is hidden in it with the name of the file that says so.
    Directory(Arc<request::Directory>, Hidden),
}

impl Output {
    /// What it is by how it was made.
    fn known(&self) -> Option<&Digest> {
        match self {
            Self::Layers { known, .. } => known.as_ref(),
            Self::Directory(..) => None,
        }
    }

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
    pub(super) foreseen: OnceLock<Foreseen>,
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

pub(super) fn key(parts: &[&str]) -> Digest {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    Digest::from_sha256(hasher.finalize().into())
}

/// What layers are, whatever made them.
pub(super) fn identity(layers: &[ImageLayer]) -> Digest {
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
            foreseen: OnceLock::new(),
            used: Mutex::default(),
            noted: Mutex::default(),
            common,
        }
    }

    /// Notes what the cache knows of a step.
    fn note(&self, at: usize, keys: [Option<&Digest>; 3], made: &Made) {
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
        let foreseen = self.foresee().await?;
        let mut missing = vec![0; vertices.len()];
        let mut waiting = vec![Vec::new(); vertices.len()];
        let mut running = FuturesUnordered::new();
        for at in (0..vertices.len()).filter(|at| foreseen.needed[*at]) {
            let inputs = foreseen.inputs(&self.graph, at);
            inputs.iter().for_each(|input| waiting[*input].push(at));
            missing[at] = inputs.len();
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

    pub(super) async fn make(&self, at: usize, inputs: Vec<Output>) -> Result<Output, Failed> {
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
            Op::Scratch => {
                let known = Some(known_of(&[]));
                Ok((Output::Layers { layers: Vec::new(), made: None, known }, true))
            }
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

    /// The layers of an image that was looked up.
    pub(super) fn layers_of(&self, manifest: &Digest) -> Result<Vec<ImageLayer>> {
        let found = self.images.iter().find(|image| image.image.manifest.digest == *manifest);
        let found = found.ok_or_else(|| Error::system("a bug: an image was not looked up"))?;
        Ok(found.image.manifest.layers.clone())
    }

    async fn image(&self, manifest: &Digest) -> Result<Output, Failed> {
        let layers = self.layers_of(manifest)?;
        let (context, lease, kept) = (Arc::clone(&self.context), Arc::clone(&self.lease), layers.clone());
        blocking::run("keep an image for a build", move || {
            context.store.restore_layers(&kept)?;
            Ok(context.store.transaction(|tx| kept.iter().try_for_each(|layer| hold(tx, &lease, layer)))?)
        })
        .await?;
        let known = Some(known_of(&layers));
        Ok(Output::Layers { layers, made: None, known })
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
        if let Some((known, made)) = self.foreseen.get().and_then(|foreseen| foreseen.found.get(&at)) {
            self.note(at, [Some(known), None, None], made);
            return Ok((stacked(below, made.clone(), Some(known.clone())), true));
        }
        let mut work = self.work(&vertex.op, &below, &inputs[1.min(inputs.len())..]).await?;
        let base = match &vertex.op {
            // What is linked does not depend on what is below, but for the numbers of names.
            Op::Copy(copy) if copy.link && copy.owner.is_none() => key(&[]),
            _ => identity(&below),
        };
        let options = self.options(&vertex.op)?;
        let first = work.first_key(&own, &base, &options);
        let alone = match &first {
            Some(first) => Some(self.cache.gate(first).lock_owned().await),
            None => None,
        };
        let known = |content: Option<&Digest>| {
            let mut others =
                inputs[1.min(inputs.len())..].iter().filter(|one| matches!(one, Output::Layers { .. }));
            let others = others.try_fold(Vec::new(), |mut all, one| {
                all.push(one.known()?.clone());
                Some(all)
            })?;
            Some(by_making(&vertex.op, (&own, &options), inputs.first()?.known()?, &others, content))
        };
        if let Some(made) = self.cached(at, first.as_ref()).await? {
            let known = known(None);
            self.note(at, [first.as_ref(), None, known.as_ref()], &made);
            return Ok((stacked(below, made, known), true));
        }
        let (content, surveys) = work.look(&self.cache.digests).await?;
        // What is known before any file was looked at does not depend on what they hold.
        let content_alone = content.clone().filter(|_| first.is_none());
        let second =
            content.map(|content| key(&[own.as_str(), base.as_str(), content.as_str(), &options, "content"]));
        let known = known(content_alone.as_ref());
        // Who looks at other files is not held up: what is the same is known by now.
        let alone = match alone {
            Some(alone) => alone,
            None => self.cache.gate(second.as_ref().unwrap_or(&own)).lock_owned().await,
        };
        if let Some(made) = self.cached(at, second.as_ref()).await? {
            if let Some(first) = &first {
                self.remember(&[first], &made, &vertex.name).await?;
            }
            self.note(at, [first.as_ref(), second.as_ref(), known.as_ref()], &made);
            return Ok((stacked(below, made, known), true));
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
        let certain = |key: Option<Digest>| key.filter(|_| is_certain);
        let (first, second, known) = (certain(first), certain(second), certain(known));
        self.note(at, [first.as_ref(), second.as_ref(), known.as_ref()], &made);
        Ok((stacked(below, made, known), false))
    }

    /// What of the request decides what comes of a step.
    pub(super) fn options(&self, op: &Op) -> Result<String> {
        Ok(match op {
            Op::Exec(_) => {
                let Request { hosts, shm_size, ulimits, .. } = &*self.request;
                format!("{hosts:?}{shm_size:?}{ulimits:?}{}", command::hostname(&self.request))
            }
            // Their times are those that were said, if any were.
            Op::Copy(copy) if !copy.inline.is_empty() || !copy.urls.is_empty() => {
                epoch(&self.request)?.map(|epoch| format!("epoch {}", epoch.as_second())).unwrap_or_default()
            }
            _ => String::new(),
        })
    }

    pub(super) async fn cached(&self, at: usize, key: Option<&Digest>) -> Result<Option<Made>, Failed> {
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
    pub(super) async fn work(
        &self,
        op: &Op,
        below: &[ImageLayer],
        inputs: &[Output],
    ) -> Result<Work, Failed> {
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

fn stacked(mut layers: Vec<ImageLayer>, made: Made, known: Option<Digest>) -> Output {
    layers.extend(made.layer.clone());
    Output::Layers { layers, made: Some(made), known }
}

fn unloaded(error: &request::SourceError) -> Error {
    Error::invalid(format!("failed to load the build context: {error}"))
}
