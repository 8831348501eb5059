//! What clients call: the services on one connection, and what they share.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bollard_buildkit_proto::health::health_server::HealthServer;
use bollard_buildkit_proto::moby::buildkit::v1::control_server::ControlServer;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_server::LlbBridgeServer;
use bollard_buildkit_proto::moby::buildkit::v1::types::{BuildkitVersion, WorkerRecord};
use bollard_buildkit_proto::{pb, provenance};
use build::output::{CachePlace, Export};
use build::progress;
use build::request::{Document, Network};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::Routes;

use crate::builder::{Builder, Cached, Failure, Prune, SharedBuilt, Told};
use crate::cache;
use crate::cached::Selection;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::health::Serving;
use crate::history::History;
use crate::jobs::{Job, Jobs};
use crate::kept::Kept;
use crate::options::Options;
use crate::place::Place;
use crate::question::Metadata;
use crate::session::Sessions;
use crate::sources::{SessionSources, loading_dockerfile};
use crate::status::{self, Translator};

/// Bytes of one message, as BuildKit has it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Calls at once on one connection: a build has some for itself, and clients build several things by one.
const CALLS_MAX: u32 = 256;
/// How much may be on its way: sessions that travel inside a call bring files.
const WINDOW_BYTES: u32 = 1 << 20;
/// How long it is waited for what an ended build still tells.
const LAST_WORDS_MAX: Duration = Duration::from_secs(5);
/// What a worker's label is called that says what `host-gateway` is.
const HOST_GATEWAY_LABEL: &str = "org.mobyproject.buildkit.worker.moby.host-gateway-ip";
/// By this one clients know that indexes, archives, caches and pushes are there.
const SNAPSHOTTER_LABEL: &str = "org.mobyproject.buildkit.worker.snapshotter";
const HOSTNAME_LABEL: &str = "org.mobyproject.buildkit.worker.hostname";

/// BuildKit's API over one engine.
pub struct Service {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) jobs: Jobs,
    pub(crate) history: Arc<History>,
    pub(crate) shutdown: CancellationToken,
    kept: Arc<Kept>,
    builder: Arc<dyn Builder>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("sessions", &self.sessions)
            .field("jobs", &self.jobs)
            .finish_non_exhaustive()
    }
}

/// What has come of a solve.
#[derive(Debug)]
pub(crate) enum Solved {
    /// An image, by the name that it has in its build.
    Image(String),
    /// An answer.
    Answer(Metadata),
}

/// What was made for it.
enum Made {
    Image(SharedBuilt),
    Answer(Metadata),
}

impl Service {
    /// The API over who builds. What it does ends at `shutdown`.
    pub fn new(builder: Arc<dyn Builder>, kept: Arc<Kept>, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            sessions: Arc::default(),
            jobs: Jobs::default(),
            history: Arc::default(),
            shutdown,
            kept,
            builder,
        })
    }

    /// The sessions that builds find their files by.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Does a build that a client asks for, or answers its question.
    pub(crate) async fn build(
        &self,
        job: &Arc<Job>,
        frontend: &str,
        options: &HashMap<String, String>,
        cache_from: &[CachePlace],
    ) -> Result<Solved> {
        self.history.describe(&job.name, frontend, options);
        let mut options = Options::read(frontend, options)?;
        let named = cache::merged([&job.cache_from, cache_from]);
        options.request.cache_from = cache::merged([&options.request.cache_from, &named]);
        if options.request.network == Network::Host && !job.may_use_host_network {
            return Err(Error::Invalid(
                "the build asks for the host's network and may not have it: allow it with --allow network.host"
                    .to_owned(),
            ));
        }
        options.request.may_use_host_network = job.may_use_host_network;
        options.request.may_be_insecure = job.may_be_insecure;
        let session = self.sessions.get(&job.session).await?;
        let (teller, listener) = progress::channel();
        let sources = SessionSources::new(
            Arc::clone(&session),
            Arc::clone(&self.kept),
            teller.downgrade(),
            &job.session,
            &options,
        );
        let document = Arc::new(OnceLock::new());
        let reader = sources.vertex(&loading_dockerfile(&options)).to_string();
        let translator = Translator::new(&job.session, reader, Arc::clone(&document));
        let telling = tokio::spawn(status::pump(listener, translator, Arc::clone(&job.backlog)));
        let work = async {
            let mut request = options.request.clone();
            if request.remote.as_ref().is_some_and(|remote| remote.has_dockerfile) {
                request.dockerfile.name.clone_from(&options.filename);
            } else {
                (request.dockerfile, request.ignore) = sources.documents(&options).await?;
                request.beside = Some(options.dockerfile_dir.clone());
            }
            let gathered = self.builder.gather(request, Arc::new(sources), teller.clone()).await;
            let (request, sources) = gathered.map_err(|failure| failed(failure, None))?;
            let document = document.get_or_init(|| request.dockerfile.clone());
            if let Some(question) = options.question {
                return question.answer(document, &request).map(Made::Answer);
            }
            let built = self.builder.build(request, sources, teller).await;
            built.map(Made::Image).map_err(|failure| failed(failure, Some(document)))
        };
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = session.closed() => Err(Error::Gone("the client has ended".to_owned())),
            () = job.ends.cancelled() => Err(Error::Gone("the build has ended".to_owned())),
            () = self.shutdown.cancelled() => Err(Error::Gone("the engine ends".to_owned())),
        };
        // Whoever hears the result has heard what led to it.
        let _ = tokio::time::timeout(LAST_WORDS_MAX, telling).await;
        let outcome = match outcome {
            // What has broken because the client went is told as that.
            Err(_) if session.is_closed() => Err(Error::Gone("the client has ended".to_owned())),
            outcome => outcome,
        };
        match outcome? {
            Made::Image(outcome) => job.keep(outcome).map(Solved::Image),
            Made::Answer(metadata) => {
                job.has_answered.store(true, Ordering::Relaxed);
                Ok(Solved::Answer(metadata))
            }
        }
    }

    /// Puts out what was built.
    pub(crate) async fn export(&self, job: &Arc<Job>, built: &SharedBuilt, export: &Export) -> Result<Told> {
        let (teller, listener) = progress::channel();
        let translator = Translator::new(&job.session, String::new(), Arc::default());
        let telling = tokio::spawn(status::pump(listener, translator, Arc::clone(&job.backlog)));
        let told = tokio::select! {
            told = built.export(export, teller) => told.map_err(|failure| Error::Build(failure.message)),
            () = job.ends.cancelled() => Err(Error::Gone("the build has ended".to_owned())),
            () = self.shutdown.cancelled() => Err(Error::Gone("the engine ends".to_owned())),
        };
        let _ = tokio::time::timeout(LAST_WORDS_MAX, telling).await;
        told
    }

    /// What the client asked for by its name.
    pub(crate) fn result(job: &Job, names: &[String]) -> Result<Option<SharedBuilt>> {
        match names {
            [] => Ok(None),
            [name] => job.result(name).map(Some),
            _ => Err(Error::Absent("an image of several results".to_owned())),
        }
    }

    /// The directories that clients have sent and that are kept for their next build.
    pub fn kept(&self) -> &Arc<Kept> {
        &self.kept
    }

    /// What earlier builds have left.
    pub(crate) async fn cached(&self) -> Result<Vec<Cached>> {
        self.builder.cached().await.map_err(|failure| Error::Build(failure.message))
    }

    /// Removes of it what is meant.
    pub(crate) async fn prune(&self, mut prune: Prune, selection: &Selection) -> Result<Vec<Cached>> {
        if !selection.is_all() {
            let all = self.cached().await?.into_iter();
            prune.only = Some(all.filter(|one| selection.takes(one)).map(|one| one.id).collect());
        }
        self.builder.prune(prune).await.map_err(|failure| Error::Build(failure.message))
    }

    /// Who builds, as clients are told.
    pub(crate) async fn worker(&self) -> std::result::Result<WorkerRecord, Status> {
        let worker = self.builder.worker().await.map_err(|failure| Status::unknown(failure.message))?;
        let mut labels = HashMap::from([
            (HOSTNAME_LABEL.to_owned(), worker.hostname),
            (SNAPSHOTTER_LABEL.to_owned(), "overlayfs".to_owned()),
        ]);
        if let Some(address) = worker.host_gateway {
            labels.insert(HOST_GATEWAY_LABEL.to_owned(), address.to_string());
        }
        let platform = |platform: oci::Platform| pb::Platform {
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant.unwrap_or_default(),
            os_version: platform.os_version.unwrap_or_default(),
            os_features: platform.os_features,
        };
        Ok(WorkerRecord {
            id: worker.id,
            labels,
            platforms: worker.platforms.into_iter().map(platform).collect(),
            buildkit_version: Some(version()),
            ..WorkerRecord::default()
        })
    }
}

/// Why a build has failed, with its place in the Dockerfile.
fn failed(failure: Failure, document: Option<&Document>) -> Error {
    match (failure.place, document) {
        (Some(span), Some(document)) => {
            Error::At { message: failure.message, place: Box::new(Place::of(document, span)) }
        }
        _ => Error::Build(failure.message),
    }
}

/// Which version of BuildKit's API this is.
pub(crate) fn version() -> BuildkitVersion {
    BuildkitVersion {
        package: concat!("corten/", env!("CARGO_PKG_VERSION")).to_owned(),
        version: provenance::BUILDKIT_VERSION.to_owned(),
        revision: String::new(),
    }
}

/// Serves a client that calls us, until it leaves or `shutdown`.
///
/// # Errors
/// What comes is no HTTP/2.
pub async fn serve<S>(stream: S, service: Arc<Service>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let control = ControlServer::new(Control::new(Arc::clone(&service)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let gateway = LlbBridgeServer::new(Gateway::new(Arc::clone(&service)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let routes = Routes::new(control).add_service(gateway).add_service(HealthServer::new(Serving)).prepare();
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(CALLS_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let gone = |error: hyper::Error| Error::Gone(format!("the client has ended: {error}"));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = &mut connection => return ended.map_err(gone),
        () = service.shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(gone)
}
