//! Builds: a Dockerfile becomes an image.
//!
//! ```text
//! text ─ parse ─> stages ─ images looked up ─> graph (crate `build`) ─ solve, with the cache ─> layers ─ export ─> image
//! ```

mod agent;
mod ahead;
mod bound;
mod cache;
mod command;
mod content;
pub mod context;
mod copying;
mod digests;
mod elsewhere;
mod emulation;
mod export;
mod fetch;
mod foresee;
mod git;
mod include;
mod lasting;
mod mounts;
mod place;
mod remote;
mod result;
mod select;
mod solve;
mod tell;
mod view;
mod warnings;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use build::diagnostic::Diagnostic;
use build::graph::Graph;
use build::ignore::Ignore;
use build::lower::{self, Base};
use build::output::{self, ImageOutput};
use build::progress::{End, Event, Teller, Vertex};
use build::request::{Outcome, Request, SharedSources};
use build::stages::{self, Stages};
use build::{Dockerfile, Span};
use jiff::Timestamp;
use oci::{Digest, Platform, Reference};
use registry::Credentials;
use sha2::{Digest as _, Sha256};
use storage::{Lease, Resource};

pub use cache::{CacheEntry, EntryKind, PruneOptions};
pub use context::Archived;
pub use emulation::platforms;
pub use export::Response;
pub use result::Built;

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::images::{self, PullOptions};
use crate::{blocking, signals};
use cache::Cache;
use lasting::Lasting;
use remote::Imports;
use result::Part;
use solve::{Common, Parts, Solver};
use tell::Voice;

/// Why a build came to nothing.
#[derive(Debug, Clone)]
pub struct Failed {
    /// What went wrong.
    pub error: Error,
    /// How the command ended that failed, if one did.
    pub code: Option<i32>,
    /// That command.
    pub command: Option<Box<str>>,
    /// The instruction that it is about, where the error does not show it itself.
    pub place: Option<Span>,
}

impl Failed {
    /// The same at an instruction, unless it has its place already.
    fn at(mut self, span: Span) -> Self {
        self.place = self.place.or(Some(span));
        self
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, code: None, command: None, place: None }
    }
}

/// An image that was looked up for a build.
#[derive(Debug, Clone)]
struct Resolved {
    name: String,
    platform: Option<Platform>,
    image: images::Resolved,
}

/// Builds.
#[derive(Debug)]
pub struct Builds {
    context: Arc<Context>,
    cache: Arc<Cache>,
}

/// What is to be done for one platform.
struct Prepared {
    request: Request,
    platform: Platform,
    images: Vec<Resolved>,
    graph: Arc<Graph>,
    ignore: Arc<(Ignore, String)>,
}

/// What is the same for all platforms of a build.
#[derive(Clone, Copy)]
struct Shared<'a> {
    sources: &'a SharedSources,
    teller: &'a Teller,
    lease: &'a Arc<Lease>,
    imports: &'a Arc<Imports>,
    common: &'a Arc<Common>,
}

/// A request for each of its platforms, and whether there are several.
fn for_each_platform(request: &Request) -> Vec<(Request, bool)> {
    match request.platforms.as_slice() {
        [] | [_] => vec![(request.clone(), false)],
        several => several
            .iter()
            .map(|platform| (Request { platforms: vec![platform.clone()], ..request.clone() }, true))
            .collect(),
    }
}

/// A text that was understood.
struct Read {
    file: Dockerfile,
    stages: Stages,
    asked: stages::Request,
}

/// What a build leaves that came to nothing: removed when nobody keeps it any more.
#[derive(Debug)]
struct Remains {
    context: Arc<Context>,
    whole: AtomicBool,
    _bounded: Bounded,
}

/// Keeps the cache within its bounds when a build has ended, however it has: also what has failed has left its steps.
#[derive(Debug)]
struct Bounded {
    context: Arc<Context>,
    cache: Arc<Cache>,
}

impl Drop for Bounded {
    fn drop(&mut self) {
        bound(&self.context, &self.cache);
    }
}

/// Keeps the cache within its bounds, in the background.
fn bound(context: &Arc<Context>, cache: &Arc<Cache>) {
    let (config, digests) = (context.config.build_cache, Arc::clone(&cache.digests));
    let (cache, root) = (Arc::clone(cache), context.config.data_root.clone());
    context.tasks.spawn(async move {
        let bounded = blocking::run_long("bound the build cache", move || {
            if !config.is_bounded {
                return Ok(());
            }
            let bytes_max = config.bytes_max.map_or_else(|| cache::bytes_max(&root), Ok)?;
            bound::keep_within(&cache, &Lasting::new(&root), bytes_max)
        });
        if let Err(error) = bounded.await {
            tracing::warn!(error = error.chain(), "the build cache may grow beyond its bounds");
        }
        let saved = blocking::run("keep what is known of files", move || digests.save());
        if let Err(error) = saved.await {
            tracing::warn!(error = error.chain(), "files of contexts will be read again");
        }
    });
    context.flush_later();
}

impl Drop for Remains {
    fn drop(&mut self) {
        if self.whole.load(Ordering::Relaxed) {
            return;
        }
        let store = self.context.store.clone();
        self.context.tasks.spawn(async move {
            let collected = blocking::run("clear up after a build", move || Ok(store.gc()?));
            if let Err(error) = collected.await {
                tracing::warn!(error = error.chain(), "something is left of a build");
            }
        });
    }
}

/// Makes a layer of a snapshot, which is given up in any case.
fn adopt(context: &Context, lease: &Lease, id: &str) -> Result<storage::ImageLayer> {
    match context.store.adopt_snapshot(lease, id) {
        Ok(layer) => Ok(layer),
        Err(error) => {
            // What went wrong first is what is told.
            if let Err(left) = forget(context, lease, id) {
                tracing::warn!(error = left.chain(), id, "something is left of a step of a build");
            }
            Err(error.into())
        }
    }
}

/// Gives up a snapshot.
fn forget(context: &Context, lease: &Lease, id: &str) -> Result<()> {
    context.store.empty_snapshot(id)?;
    Ok(context.store.transaction(|tx| {
        tx.let_go(lease, &Resource::Snapshot(id.to_owned()))?;
        tx.remove_snapshot(id)
    })?)
}

impl Builds {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        context::clear(&context.config.data_root);
        let cache = Arc::new(Cache::new(context.store.clone(), &context.config.data_root));
        // The bound may have become another.
        bound(&context, &cache);
        Self { context, cache }
    }

    /// Builds an image, puts it into the store and names it as the request says. Dropping the future gives it up.
    pub async fn build(
        &self,
        request: Request,
        sources: SharedSources,
        teller: Teller,
    ) -> Result<Outcome, Failed> {
        let (names, tags) = (named(&request.tags)?, request.tags.clone());
        let (request, sources) = self.gather(request, sources, &teller).await?;
        let built = self.solve(request, sources, teller.clone()).await?;
        let image = ImageOutput { names, store: true, ..ImageOutput::default() };
        let (image, config) = built.export_image(image).await?;
        // The image keeps what it is made of.
        built.remains.whole.store(true, Ordering::Relaxed);
        Ok(Outcome { image, config, names: tags })
    }

    /// Finds what is read before a build begins: the Dockerfile, wherever it is, and all that it includes. [`Self::solve`] is asked for
    /// what comes of it.
    pub async fn gather(
        &self,
        request: Request,
        sources: SharedSources,
        teller: &Teller,
    ) -> Result<(Request, SharedSources), Failed> {
        self.entitled(&request)?;
        // What cannot be named is not built.
        named(&request.tags)?;
        let (mut request, sources) = elsewhere::place(&self.context, request, sources, teller).await?;
        include::assemble(&mut request, &sources).await?;
        Ok((request, sources))
    }

    /// Does all that a build does but for putting out what comes of it. Dropping the future gives it up: what runs for it is ended, and
    /// what it has made so far stays in the cache.
    pub async fn solve(
        &self,
        request: Request,
        sources: SharedSources,
        teller: Teller,
    ) -> Result<Arc<Built>, Failed> {
        let started = Timestamp::now();
        let digests = Arc::clone(&self.cache.digests);
        blocking::run("read what is known of files", move || {
            digests.begin();
            Ok(())
        })
        .await?;
        // Before the lease: it goes after it.
        let remains = Remains {
            context: Arc::clone(&self.context),
            whole: AtomicBool::new(false),
            _bounded: Bounded { context: Arc::clone(&self.context), cache: Arc::clone(&self.cache) },
        };
        let lease = Arc::new(self.context.store.passing_lease("build an image").map_err(Error::from)?);
        let imports = remote::load(&self.context, &sources, &request.cache_from, &teller).await?;
        let imports = Arc::new(imports);
        // All that can be known of all platforms before anything is run for one of them.
        let mut prepared = Vec::new();
        for own in for_each_platform(&request) {
            let warns = prepared.is_empty();
            prepared.push(self.prepare(own, &sources, &teller, warns).await?);
        }
        let common = Arc::new(Common::new(&self.context));
        let mut told = BTreeSet::new();
        // Before anything begins: each vertex is known before one that is built upon it.
        for one in &prepared {
            tell(&one.graph, &teller, &mut told).await;
        }
        let shared =
            Shared { sources: &sources, teller: &teller, lease: &lease, imports: &imports, common: &common };
        let solving = prepared.into_iter().map(|one| self.solve_for(one, shared));
        let parts = futures_util::future::try_join_all(solving).await?;
        Ok(Arc::new(Built {
            context: Arc::clone(&self.context),
            request: Arc::new(request),
            sources,
            parts,
            started,
            ended: Timestamp::now(),
            lease,
            remains,
        }))
    }

    /// Finds out what is to be done for one platform. What could be better is told once.
    async fn prepare(
        &self,
        (request, is_one_of_several): (Request, bool),
        sources: &SharedSources,
        teller: &Teller,
        warns: bool,
    ) -> Result<Prepared, Failed> {
        let read = read(&request)?;
        result::epoch(&request)?;
        if warns {
            warnings::of_text(&request, &read, teller).await?;
        }
        let platform = read.asked.target_platform.clone();
        let images = self.images(&request, &read, sources, teller).await?;
        if warns {
            warnings::of_bases(&request, &read, &images, teller).await?;
        }
        let mut graph = lowered(&request, &read, &images)?;
        emulation::check(&graph, &images)?;
        if is_one_of_several {
            for vertex in &mut graph.vertices {
                let own = vertex
                    .name
                    .strip_prefix('[')
                    .filter(|rest| !rest.starts_with("internal]") && !rest.starts_with("context "));
                if let Some(rest) = own {
                    vertex.name = format!("[{platform} {rest}");
                }
            }
        }
        let ignore = Arc::new(ignore(&request)?);
        Ok(Prepared { request, platform, images, graph: Arc::new(graph), ignore })
    }

    /// Does it for one platform.
    async fn solve_for(&self, prepared: Prepared, shared: Shared<'_>) -> Result<Part, Failed> {
        let Prepared { request, platform, images, graph, ignore } = prepared;
        let solver = Solver::new(Parts {
            context: Arc::clone(&self.context),
            cache: Arc::clone(&self.cache),
            request: Arc::new(request),
            graph: Arc::clone(&graph),
            sources: Arc::clone(shared.sources),
            images,
            lease: Arc::clone(shared.lease),
            imports: Arc::clone(shared.imports),
            teller: shared.teller.clone(),
            ignore,
            common: Arc::clone(shared.common),
        });
        let solved = solver.solve().await;
        let used = solver.used();
        let cache = Arc::clone(&self.cache);
        blocking::run("note what of the build cache was used", move || cache.touch(&used)).await?;
        solved?;
        result::part(&solver, platform).await
    }

    /// Refuses what this engine allows no build, whoever asks for it.
    fn entitled(&self, request: &Request) -> Result<()> {
        let allowed = self.context.config.entitlements;
        let host = request.may_use_host_network || request.network == build::request::Network::Host;
        for (asked, allowed, name, key) in [
            (host, allowed.network_host, "network.host", "network-host"),
            (request.may_be_insecure, allowed.security_insecure, "security.insecure", "security-insecure"),
        ] {
            if asked && !allowed {
                return Err(Error::forbidden(format!(
                    "granting entitlement {name} is not allowed by build daemon configuration: set builder.entitlements.{key} in daemon.json"
                )));
            }
        }
        Ok(())
    }

    /// What earlier builds have left.
    pub async fn cache(&self) -> Result<Vec<CacheEntry>> {
        let cache = Arc::clone(&self.cache);
        let lasting = Lasting::new(&self.context.config.data_root);
        blocking::run_long("list the build cache", move || {
            let mut all = cache.list()?;
            all.extend(lasting.list()?);
            Ok(all)
        })
        .await
    }

    /// Removes of it; the keys that are gone, and the bytes.
    pub async fn prune(&self, options: PruneOptions) -> Result<(Vec<String>, u64)> {
        let cache = Arc::clone(&self.cache);
        let lasting = Lasting::new(&self.context.config.data_root);
        let removed = blocking::run_long("prune the build cache", move || {
            let (mut gone, bytes) = cache.prune(&options)?;
            // What steps have made may fill what is to stay; directories get what is left of it.
            let left = match options.keep_bytes {
                0 => 0,
                keep => keep.saturating_sub(cache.bytes()?).max(1),
            };
            let (directories, more) = lasting.prune(&options, left)?;
            gone.extend(directories);
            Ok((gone, bytes + more))
        });
        let removed = removed.await?;
        self.context.events.emit(
            crate::events::Subject::Builder,
            "prune",
            "",
            BTreeMap::from([("reclaimed".to_owned(), removed.1.to_string())]),
        );
        Ok(removed)
    }

    /// Looks up all images that are needed; those that are not here are pulled.
    async fn images(
        &self,
        request: &Request,
        read: &Read,
        sources: &SharedSources,
        teller: &Teller,
    ) -> Result<Vec<Resolved>, Failed> {
        let find = |wanted: Vec<lower::Wanted>| {
            futures_util::future::try_join_all(wanted.into_iter().map(|(name, platform)| async move {
                let asked = platform.clone().or_else(|| request.platforms.first().cloned());
                let image = self.resolve(&name, asked.as_ref(), request.pull, sources, teller).await;
                let image = image.map_err(|error| hinted(error, read, &name))?;
                Ok::<_, Failed>(Resolved { name, platform, image })
            }))
        };
        let mut found = find(lower::images(&read.stages, request)).await?;
        let further = lower::images_of_triggers(&read.stages, request, &bases(&found));
        found.extend(find(further).await?);
        Ok(found)
    }

    async fn resolve(
        &self,
        name: &str,
        platform: Option<&Platform>,
        pull: bool,
        sources: &SharedSources,
        teller: &Teller,
    ) -> Result<images::Resolved> {
        let text = platform.map(ToString::to_string);
        let vertex = self.lookup(name, teller).await;
        let voice = Voice::new(teller.clone(), vertex);
        voice.started().await;
        let here = self.context.images.resolve(name, text.as_deref()).await;
        let is_digest = Digest::parse(name).is_ok();
        let resolved = match here {
            Ok(found) if !pull || is_digest => Ok(found),
            Err(error) if error.kind() != Kind::NotFound => Err(error),
            _ => {
                let pulled = self.pull(name, platform, sources, &voice).await;
                match pulled {
                    Ok(()) => self.context.images.resolve(name, text.as_deref()).await,
                    Err(error) => Err(error),
                }
            }
        };
        voice
            .done(match &resolved {
                Ok(_) => End::Ran,
                Err(error) => End::Failed(error.chain()),
            })
            .await;
        resolved
    }

    /// The step of looking up an image.
    async fn lookup(&self, name: &str, teller: &Teller) -> Digest {
        let shown = Reference::parse_familiar(name).map_or_else(|_| name.to_owned(), |name| name.to_string());
        vertex(&format!("[internal] load metadata for {shown}"), teller).await
    }

    async fn pull(
        &self,
        name: &str,
        platform: Option<&Platform>,
        sources: &SharedSources,
        voice: &Voice,
    ) -> Result<()> {
        let reference = images::parse_reference(name, "")?.or_latest();
        let given = sources.credentials(reference.domain()).await;
        let given = given.map_err(|error| Error::invalid(format!("cannot ask for credentials: {error}")))?;
        let credentials = given
            .map_or(Credentials::Anonymous, |(username, password)| Credentials::Basic { username, password });
        let mut pulling =
            self.context.images.pull(PullOptions { reference, platform: platform.cloned(), credentials });
        let started = SystemTime::now();
        while let Some(line) = pulling.next().await {
            let line = line?;
            if let Some(detail) = &line.progress_detail {
                let size = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
                let counts = (size(detail.current), size(detail.total));
                let done = counts.0 == counts.1 && counts.1 > 0;
                voice.status(&line.id, &line.status, counts, started, done).await;
            }
        }
        Ok(())
    }
}

/// Tells of a step that a build does for itself.
async fn vertex(name: &str, teller: &Teller) -> Digest {
    let digest = Digest::from_sha256(Sha256::digest(name).into());
    let vertex = Vertex { digest: digest.clone(), name: name.to_owned(), inputs: Vec::new() };
    // Nobody listens: nobody needs to know.
    let _ = teller.send(Event::Vertex(vertex)).await;
    digest
}

/// Why an image cannot be had, where it is asked for: it may have been meant for a stage.
fn hinted(error: Error, read: &Read, name: &str) -> Failed {
    let asked = read.stages.asks_for(&read.file, name);
    let hint = match (read.stages.meant(name), asked) {
        (Some(stage), _) => Some(format!("did you mean the stage {stage}?")),
        (None, Some((_, true))) if !name.contains(['/', ':', '@', '.']) => {
            Some(format!("no stage is called {name}, so it is the name of an image"))
        }
        _ => None,
    };
    let hint = hint.or_else(|| error.hint().map(str::to_owned));
    // Whoever could not reach a registry says only that.
    let error = if error.chain().contains(name) {
        error
    } else {
        let full = Reference::parse_familiar(name).map_or_else(|_| name.to_owned(), |name| name.to_string());
        let text = format!("{name}: failed to resolve source metadata for {full}");
        Error::new(error.kind(), text).with_source(error)
    };
    let error = match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    };
    Failed { place: asked.map(|(place, _)| place), ..error.into() }
}

/// The names that an image is to have.
fn named(names: &[String]) -> Result<Vec<Reference>> {
    names.iter().map(|tag| output::image_name(tag).map_err(Error::invalid)).collect()
}

/// Why a text cannot be built, as it is told: one line, and the place with a caret below it.
fn refused(request: &Request, diagnostic: &Diagnostic, parsing: bool) -> Failed {
    Error::invalid(told(request, diagnostic, parsing)).into()
}

fn told(request: &Request, diagnostic: &Diagnostic, parsing: bool) -> String {
    let source = request.dockerfile.source();
    let line = if parsing { diagnostic.line(&source) } else { diagnostic.message.clone() };
    let shown = diagnostic.render(&source, &request.dockerfile.name);
    format!("{line}\n{}", shown.trim_end())
}

/// Understands the text.
fn read(request: &Request) -> Result<Read, Failed> {
    let parsed = build::parse_document(&request.dockerfile);
    if let Some(other) = parsed.dockerfile.directives.foreign() {
        return Err(Error::not_implemented(told(request, &other, false)).into());
    }
    if let Some(error) = parsed.error() {
        return Err(refused(request, error, true));
    }
    let asked = stages::Request {
        arguments: request.arguments.clone(),
        target_platform: request.platforms.first().cloned().unwrap_or_else(Platform::host),
        build_platform: Platform::host(),
        target: request.target.clone().filter(|target| !target.is_empty()),
        contexts: request.contexts.keys().cloned().collect(),
    };
    let file = parsed.dockerfile;
    let (stages, diagnostics) = stages::resolve(&file, &asked);
    if let Some(error) = diagnostics.iter().find(|found| found.severity == build::Severity::Error) {
        return Err(refused(request, error, true));
    }
    Ok(Read { file, stages, asked })
}

/// Images as the graph is made with them.
fn bases(images: &[Resolved]) -> BTreeMap<lower::Wanted, Base> {
    images
        .iter()
        .map(|found| {
            let name = Reference::parse_familiar(&found.name)
                .map_or_else(|_| found.name.clone(), |name| name.or_latest().to_string());
            let base = Base {
                manifest: found.image.manifest.digest.clone(),
                name: if name.contains('@') { name } else { format!("{name}@{}", found.image.id) },
                config: found.image.config.as_ref().clone(),
            };
            ((found.name.clone(), found.platform.clone()), base)
        })
        .collect()
}

fn lowered(request: &Request, read: &Read, images: &[Resolved]) -> Result<Graph, Failed> {
    let bases = bases(images);
    let now = Timestamp::now().to_string();
    let input = lower::Input {
        file: &read.file,
        stages: &read.stages,
        request,
        asked: &read.asked,
        images: &bases,
        now: &now,
    };
    let graph = lower::lower(&input).map_err(|diagnostic| refused(request, &diagnostic, false))?;
    let signal = &graph.config.config.stop_signal;
    if !signal.is_empty() {
        signals::parse(signal)?;
    }
    Ok(graph)
}

/// What `.dockerignore` hides.
fn ignore(request: &Request) -> Result<(Ignore, String), Failed> {
    let Some(document) = &request.ignore else { return Ok((Ignore::default(), String::new())) };
    let parsed = Ignore::parse(&document.text)
        .map_err(|error| Failed::from(Error::invalid(format!("{}: {error}", document.name))))?;
    Ok((parsed, document.name.clone()))
}

/// Tells what is going to be done, but for what was told already.
async fn tell(graph: &Graph, teller: &Teller, known: &mut BTreeSet<Digest>) {
    // Nobody listens: nobody needs to know.
    let _ = teller.send(Event::Plan(graph.lines.clone())).await;
    let needed = graph.needed();
    for (vertex, _) in graph.vertices.iter().zip(needed).filter(|(_, needed)| *needed) {
        if !known.insert(vertex.digest.clone()) {
            continue;
        }
        let inputs = vertex.inputs.iter().map(|input| graph.vertices[*input].digest.clone()).collect();
        let told = Vertex { digest: vertex.digest.clone(), name: vertex.name.clone(), inputs };
        let _ = teller.send(Event::Vertex(told)).await;
    }
}
