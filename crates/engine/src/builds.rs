//! Builds: a Dockerfile becomes an image.
//!
//! ```text
//! text ─ parse ─> stages ─ images looked up ─> graph (crate `build`) ─ solve, with the cache ─> layers ─ export ─> image
//! ```

mod agent;
mod cache;
mod command;
mod content;
pub mod context;
mod copying;
mod digests;
mod elsewhere;
mod export;
mod fetch;
mod git;
mod mounts;
mod place;
mod select;
mod solve;
mod tell;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use build::diagnostic::Diagnostic;
use build::graph::Graph;
use build::ignore::Ignore;
use build::lower::{self, Base};
use build::progress::{End, Event, Teller, Vertex};
use build::request::{Outcome, Request, SharedSources};
use build::stages::{self, Origin, Stages};
use build::text::Source;
use build::{Dockerfile, Span, check};
use jiff::Timestamp;
use oci::{Digest, Platform, Reference};
use registry::Credentials;
use sha2::{Digest as _, Sha256};
use storage::{Lease, Resource};

pub use cache::{CacheEntry, PruneOptions};
pub use context::Archived;

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::images::{self, PullOptions};
use crate::{blocking, signals};
use cache::Cache;
use solve::{Parts, Solver};
use tell::Voice;

/// Why a build came to nothing.
#[derive(Debug, Clone)]
pub struct Failed {
    /// What went wrong.
    pub error: Error,
    /// How the command ended that failed, if one did.
    pub code: Option<i32>,
    /// That command.
    pub command: Option<String>,
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

/// A text that was understood.
struct Read {
    file: Dockerfile,
    stages: Stages,
    asked: stages::Request,
}

/// What a build leaves that came to nothing: removed when nobody keeps it any more.
struct Remains {
    context: Arc<Context>,
    whole: bool,
}

impl Drop for Remains {
    fn drop(&mut self) {
        if self.whole {
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
        Self { context, cache }
    }

    /// Builds an image. Dropping the future gives it up: what runs for it is ended, and what it has made so far stays in the cache.
    pub async fn build(
        &self,
        request: Request,
        sources: SharedSources,
        teller: Teller,
    ) -> Result<Outcome, Failed> {
        self.entitled(&request)?;
        let names = names(&request)?;
        let (request, sources) = elsewhere::place(&self.context, request, sources, &teller).await?;
        let read = read(&request)?;
        let digests = Arc::clone(&self.cache.digests);
        blocking::run("read what is known of files", move || {
            digests.begin();
            Ok(())
        })
        .await?;
        warn(&request, &read, &teller).await?;
        // Before the lease: it goes after it.
        let mut remains = Remains { context: Arc::clone(&self.context), whole: false };
        let lease = Arc::new(self.context.store.passing_lease("build an image").map_err(Error::from)?);
        let images = self.images(&request, &read, &sources, &teller).await?;
        let graph = Arc::new(lowered(&request, &read, &images)?);
        tell(&graph, &teller).await;
        let ignore = Arc::new(ignore(&request)?);
        let solver = Solver::new(Parts {
            context: Arc::clone(&self.context),
            cache: Arc::clone(&self.cache),
            request: Arc::new(request),
            graph: Arc::clone(&graph),
            sources,
            images,
            lease,
            teller: teller.clone(),
            ignore,
        });
        let solved = solver.solve().await;
        let used = solver.used();
        let cache = Arc::clone(&self.cache);
        blocking::run("note what of the build cache was used", move || cache.touch(&used)).await?;
        solved?;
        let outcome = export::image(&solver, &names).await?;
        drop(solver);
        remains.whole = true;
        self.bound();
        Ok(outcome)
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

    /// Keeps the cache within its bounds, in the background.
    fn bound(&self) {
        let (cache, root) = (Arc::clone(&self.cache), self.context.config.data_root.clone());
        let digests = Arc::clone(&self.cache.digests);
        self.context.tasks.spawn(async move {
            let bounded =
                blocking::run_long("bound the build cache", move || cache.shrink(cache::bytes_max(&root)?));
            if let Err(error) = bounded.await {
                tracing::warn!(error = error.chain(), "the build cache may grow beyond its bounds");
            }
            let saved = blocking::run("keep what is known of files", move || digests.save());
            if let Err(error) = saved.await {
                tracing::warn!(error = error.chain(), "files of contexts will be read again");
            }
        });
        self.context.flush_later();
    }

    /// What earlier builds have left.
    pub async fn cache(&self) -> Result<Vec<CacheEntry>> {
        let cache = Arc::clone(&self.cache);
        blocking::run("list the build cache", move || cache.list()).await
    }

    /// Removes of it; the keys that are gone, and the bytes.
    pub async fn prune(&self, options: PruneOptions) -> Result<(Vec<String>, u64)> {
        let cache = Arc::clone(&self.cache);
        let removed = blocking::run_long("prune the build cache", move || cache.prune(&options)).await?;
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
        let mut found = find(lower::images(&read.file, &read.stages, request)).await?;
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
        let name = format!("[internal] load metadata for {shown}");
        let digest = Digest::from_sha256(Sha256::digest(&name).into());
        let vertex = Vertex { digest: digest.clone(), name, inputs: Vec::new() };
        // Nobody listens: nobody needs to know.
        let _ = teller.send(Event::Vertex(vertex)).await;
        digest
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

/// An image that is not there may have been meant for a stage.
fn hinted(error: Error, read: &Read, name: &str) -> Failed {
    let error = match read.stages.meant(name) {
        Some(stage) => error.with_hint(format!("did you mean the stage {stage}?")),
        None => error,
    };
    let of_stage =
        read.stages.list.iter().find(|stage| matches!(&stage.base, Origin::Image(base) if base == name));
    let place = of_stage.map(|stage| read.file.instructions[stage.from].span);
    Failed { place, ..error.into() }
}

/// The names that the image is to have.
fn names(request: &Request) -> Result<Vec<Reference>> {
    request
        .tags
        .iter()
        .map(|tag| {
            let lower = tag.to_lowercase();
            let parsed = Reference::parse_named(tag).map_err(|error| {
                let hint = if lower != *tag && Reference::parse_named(&lower).is_ok() {
                    format!(": names of repositories are in small letters: {lower}")
                } else {
                    String::new()
                };
                Error::invalid(format!("invalid tag {tag:?}: {error}{hint}"))
            })?;
            if parsed.digest().is_some() {
                return Err(Error::invalid("refusing to create a tag with a digest reference"));
            }
            Ok(parsed.or_latest())
        })
        .collect()
}

/// Why a text cannot be built, as it is told: one line, and the place with a caret below it.
fn refused(request: &Request, diagnostic: &Diagnostic, parsing: bool) -> Failed {
    let source = Source::new(&request.dockerfile.text);
    let line = if parsing { diagnostic.line(&source) } else { diagnostic.message.clone() };
    let shown = diagnostic.render(&source, &request.dockerfile.name);
    Error::invalid(format!("{line}\n{}", shown.trim_end())).into()
}

/// Understands the text.
fn read(request: &Request) -> Result<Read, Failed> {
    let parsed = build::parse(&request.dockerfile.text);
    if let Some(syntax) = &parsed.dockerfile.directives.syntax
        && !parsed.dockerfile.directives.is_known_syntax()
    {
        let text = &syntax.text;
        return Err(Error::not_implemented(format!(
            "syntax={text}: this engine reads Dockerfiles itself, and no other language: use docker/dockerfile"
        ))
        .into());
    }
    if let Some(error) = parsed.error() {
        return Err(refused(request, error, true));
    }
    if request.platforms.len() > 1 {
        return Err(Error::not_implemented(
            "building for several platforms at once is not available yet: build for one after the other",
        )
        .into());
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

/// Tells what could be better.
async fn warn(request: &Request, read: &Read, teller: &Teller) -> Result<(), Failed> {
    let options = check::Options::of(&read.file, &request.arguments);
    let options = options.map_err(|error| Failed::from(Error::invalid(error)))?;
    let report = check::check(
        &check::Input {
            file: &read.file,
            stages: &read.stages,
            request: &read.asked,
            ignore: None,
            image: &|_| None,
        },
        &options,
    );
    for diagnostic in report.warnings {
        let rule = diagnostic.rule.and_then(check::Rule::named);
        let url = rule.map(check::Rule::url).unwrap_or_default();
        let _ = teller.send(Event::Warning { diagnostic, url }).await;
    }
    let unconsumed = read.stages.unconsumed(&read.file, &request.arguments);
    if !unconsumed.is_empty() {
        let message = format!("One or more build-args [{}] were not consumed", unconsumed.join(" "));
        let diagnostic = Diagnostic::warning(Span::default(), message);
        let _ = teller.send(Event::Warning { diagnostic, url: String::new() }).await;
    }
    match report.failure {
        Some(failure) => Err(Error::invalid(failure).into()),
        None => Ok(()),
    }
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

/// Tells what is going to be done.
async fn tell(graph: &Graph, teller: &Teller) {
    // Nobody listens: nobody needs to know.
    let _ = teller.send(Event::Plan(graph.lines.clone())).await;
    let needed = graph.needed();
    for (vertex, _) in graph.vertices.iter().zip(needed).filter(|(_, needed)| *needed) {
        let inputs = vertex.inputs.iter().map(|input| graph.vertices[*input].digest.clone()).collect();
        let told = Vertex { digest: vertex.digest.clone(), name: vertex.name.clone(), inputs };
        let _ = teller.send(Event::Vertex(told)).await;
    }
}
