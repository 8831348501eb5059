//! Builds begun and followed: `moby.buildkit.v1.Control`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bollard_buildkit_proto::moby::buildkit::v1::control_server;
use bollard_buildkit_proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryRequest, BytesMessage, DiskUsageRequest, DiskUsageResponse, InfoRequest,
    InfoResponse, ListWorkersRequest, ListWorkersResponse, PruneRequest, SolveRequest, SolveResponse,
    StatusRequest, StatusResponse, UpdateBuildHistoryRequest, UpdateBuildHistoryResponse, UsageRecord,
};
use build::output::Export;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::cache;
use crate::cached;
use crate::error::Error;
use crate::exporter;
use crate::history::{Recording, Told};
use crate::jobs::Beginning;
use crate::service::{Service, Solved, version};
use crate::session::Introduction;

/// The permission to use the host's network, and that to do what containers may not.
const NETWORK_HOST: &str = "network.host";
const SECURITY_INSECURE: &str = "security.insecure";
/// The header that says when a history was told.
const NOW: &str = "buildkit-current-timestamp";
/// Bytes of a session that travels inside a call, on their way.
const TUNNEL_BYTES: usize = 64 << 10;

/// The service.
#[derive(Debug)]
pub(crate) struct Control {
    service: Arc<Service>,
}

impl Control {
    pub(crate) fn new(service: Arc<Service>) -> Self {
        Self { service }
    }

    /// Does a build to its end; what the client is told of it.
    async fn solved(
        &self,
        request: SolveRequest,
        told: Option<Arc<Told>>,
    ) -> Result<HashMap<String, String>, Status> {
        let is_exported = !request.exporters.is_empty() || !request.exporter_deprecated.is_empty();
        let export = check(&request).and_then(|()| exports(&request));
        let imports = cache::imports(request.cache.as_ref());
        // Also a build that is refused begins, and ends at once: the client asks about it by other calls, which would wait for it.
        let beginning = Beginning {
            session: request.session.clone(),
            cache_from: imports.as_ref().map(Clone::clone).unwrap_or_default(),
            may_use_host_network: request.entitlements.iter().any(|one| one == NETWORK_HOST),
            may_be_insecure: request.entitlements.iter().any(|one| one == SECURITY_INSECURE),
            told,
        };
        let (running, returned) = self.service.jobs.begin(&request.r#ref, beginning)?;
        let export = export?;
        imports?;
        let job = Arc::clone(&running.0);
        let names = if request.frontend.is_empty() {
            // The client leads the build through the gateway, and says there what has come of it.
            let returned = tokio::select! {
                returned = returned => returned.map_err(|_| Error::Gone("the build".to_owned()))?,
                () = self.service.shutdown.cancelled() => return Err(Error::Gone("the engine ends".to_owned()).into()),
            };
            returned.map_err(|status| {
                // Details and all: where it went wrong is among them.
                let details = prost::Message::encode_to_vec(&status);
                Status::with_details(Code::from(status.code), status.message, details.into())
            })?
        } else {
            match self.service.build(&job, &request.frontend, &request.frontend_attrs, &[]).await? {
                Solved::Image(name) => vec![name],
                Solved::Answer(metadata) => {
                    drop(running);
                    let text = |(key, value): (String, Vec<u8>)| {
                        (format!("frontend.{key}"), String::from_utf8_lossy(&value).into_owned())
                    };
                    return Ok(metadata.into_iter().map(text).collect());
                }
            }
        };
        let exporter_response = match Service::result(&job, &names)? {
            Some(built) => exporter::response(self.service.export(&job, &built, &export).await?),
            None if is_exported && !job.has_answered.load(Ordering::Relaxed) => {
                return Err(Error::Invalid("there is no result to put out".to_owned()).into());
            }
            None => HashMap::new(),
        };
        drop(running);
        Ok(exporter_response)
    }
}

/// Refuses what is not there, by its name.
fn check(request: &SolveRequest) -> Result<(), Error> {
    if request.definition.as_ref().is_some_and(|definition| !definition.def.is_empty()) {
        return Err(Error::Absent("a build from LLB".to_owned()));
    }
    if let Some(name) = request.frontend_inputs.keys().next() {
        return Err(Error::Absent(format!("the frontend's input {name}")));
    }
    if request.source_policy.is_some() || !request.source_policy_session.is_empty() {
        return Err(Error::Absent("a source policy".to_owned()));
    }
    if request.enable_session_exporter {
        return Err(Error::Absent("an exporter of the session".to_owned()));
    }
    let known = [NETWORK_HOST, SECURITY_INSECURE];
    if let Some(other) = request.entitlements.iter().find(|one| !known.contains(&one.as_str())) {
        return Err(Error::Absent(format!("the entitlement {other}")));
    }
    Ok(())
}

/// What is to be done with the result.
fn exports(request: &SolveRequest) -> Result<Export, Error> {
    Ok(Export { outputs: exporter::outputs(request)?, caches: cache::exports(request.cache.as_ref())? })
}

#[tonic::async_trait]
impl control_server::Control for Control {
    async fn solve(&self, request: Request<SolveRequest>) -> Result<Response<SolveResponse>, Status> {
        let request = request.into_inner();
        let recording = self.service.history.begin(&request);
        let told = recording.as_ref().map(Recording::told);
        let outcome = self.solved(request, told).await;
        // Who is told that it has ended finds it among what has.
        if let Some(recording) = recording {
            recording.end(outcome.as_ref());
        }
        outcome.map(|exporter_response| Response::new(SolveResponse { exporter_response }))
    }

    type StatusStream = BoxStream<'static, Result<StatusResponse, Status>>;

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<Self::StatusStream>, Status> {
        let name = request.into_inner().r#ref;
        if let Some(follower) = self.service.history.follow(&name, self.service.jobs.is_heard(&name)) {
            let told = stream::unfold(follower, |mut follower| async move {
                let next = follower.next().await?;
                Some((Ok(next), follower))
            });
            return Ok(Response::new(Box::pin(told)));
        }
        let job = self.service.jobs.get(&name).await?;
        let reader = Arc::clone(&job.backlog).reader();
        let told = stream::unfold(reader, |reader| async move {
            let next = reader.next().await?;
            Some((Ok(next), reader))
        });
        Ok(Response::new(Box::pin(told)))
    }

    type SessionStream = BoxStream<'static, Result<BytesMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let introduction = Introduction::read(&request.metadata().clone().into_headers())?;
        let mut incoming = request.into_inner();
        let (near, far) = tokio::io::duplex(TUNNEL_BYTES);
        let (from_session, mut to_session) = tokio::io::split(near);
        let service = Arc::clone(&self.service);
        tokio::spawn(async move {
            let bring = async {
                while let Ok(Some(message)) = incoming.message().await {
                    if to_session.write_all(&message.data).await.is_err() {
                        break;
                    }
                }
                // The session ends when its client does.
                let _ = to_session.shutdown().await;
            };
            let keep = service.sessions.serve(far, introduction, &service.shutdown);
            let (kept, ()) = tokio::join!(keep, bring);
            if let Err(error) = kept {
                tracing::debug!(error = %error.chain(), "a session ended");
            }
        });
        let take =
            stream::unfold((from_session, vec![0; TUNNEL_BYTES]), |(mut from, mut buffer)| async move {
                let length = from.read(&mut buffer).await.ok().filter(|length| *length > 0)?;
                let data = buffer.get(..length)?.to_vec();
                Some((Ok(BytesMessage { data }), (from, buffer)))
            });
        Ok(Response::new(Box::pin(take)))
    }

    async fn list_workers(
        &self,
        request: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        if !request.into_inner().filter.is_empty() {
            return Err(Error::Absent("a filter of workers".to_owned()).into());
        }
        let record = vec![self.service.worker().await?];
        Ok(Response::new(ListWorkersResponse { record }))
    }

    async fn info(&self, _request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Ok(Response::new(InfoResponse { buildkit_version: Some(version()) }))
    }

    async fn disk_usage(
        &self,
        request: Request<DiskUsageRequest>,
    ) -> Result<Response<DiskUsageResponse>, Status> {
        let DiskUsageRequest { filter, age_limit } = request.into_inner();
        let all = self.service.cached().await?;
        Ok(Response::new(DiskUsageResponse { record: cached::chosen(all, &filter, age_limit)? }))
    }

    type PruneStream = BoxStream<'static, Result<UsageRecord, Status>>;

    async fn prune(&self, request: Request<PruneRequest>) -> Result<Response<Self::PruneStream>, Status> {
        let (prune, selection) = cached::prune(&request.into_inner())?;
        let gone = self.service.prune(prune, &selection).await?;
        let gone = gone.into_iter().map(|entry| Ok(cached::record(entry)));
        Ok(Response::new(Box::pin(stream::iter(gone))))
    }

    type ListenBuildHistoryStream = BoxStream<'static, Result<BuildHistoryEvent, Status>>;

    async fn listen_build_history(
        &self,
        request: Request<BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        let request = request.into_inner();
        let (known, listening) = self.service.history.listen(&request)?;
        let known = stream::iter(known.into_iter().map(Ok));
        let coming = stream::unfold(listening, |mut listening| async move {
            let next = listening.next().await?;
            Some((Ok(next), listening))
        });
        let shutdown = self.service.shutdown.clone();
        let coming = coming.take_until(async move { shutdown.cancelled().await });
        let told: Self::ListenBuildHistoryStream =
            if request.early_exit { Box::pin(known) } else { Box::pin(known.chain(coming)) };
        let mut response = Response::new(told);
        // Who shows how long a build goes on already counts from here, not from a clock of its own.
        if let Ok(now) = jiff::Timestamp::now().to_string().parse() {
            response.metadata_mut().insert(NOW, now);
        }
        Ok(response)
    }

    async fn update_build_history(
        &self,
        request: Request<UpdateBuildHistoryRequest>,
    ) -> Result<Response<UpdateBuildHistoryResponse>, Status> {
        self.service.history.update(&request.into_inner())?;
        Ok(Response::new(UpdateBuildHistoryResponse {}))
    }
}
