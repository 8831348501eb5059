//! Builds led by their client: `moby.buildkit.v1.frontend.LLBBridge`.
//!
//! Each call names its build in the header `buildkit-controlapi-buildid`.

use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::apicaps::ApiCap;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_server::LlbBridge;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    EvaluateRequest, EvaluateResponse, ExecMessage, InputsRequest, InputsResponse, NewContainerRequest,
    NewContainerResponse, PingRequest, PongResponse, ReadDirRequest, ReadDirResponse, ReadFileRequest,
    ReadFileResponse, Ref, ReleaseContainerRequest, ReleaseContainerResponse, ResolveImageConfigRequest,
    ResolveImageConfigResponse, ResolveSourceMetaRequest, ResolveSourceMetaResponse, Result as Solved,
    ReturnRequest, ReturnResponse, SolveRequest, SolveResponse, StatFileRequest, StatFileResponse,
    WarnRequest, WarnResponse, result,
};
use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, VertexWarning};
use futures_util::stream::BoxStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::builder::SharedBuilt;
use crate::cache;
use crate::error::Error;
use crate::jobs::{Job, Returned};
use crate::reading;
use crate::service::{self, Service};

/// The header that names the build.
const BUILD: &str = "buildkit-controlapi-buildid";
/// What of the gateway is there.
const GATEWAY_CAPABILITIES: [&str; 11] = [
    "readfile",
    "readdir",
    "statfile",
    "solve.base",
    "return",
    "returnmap",
    "proto.refarray",
    "frontend.caps",
    "gateway.solve.metadata",
    "gateway.solve.evaluate",
    "gateway.warnings",
];

/// What of outputs is there, which is counted among what LLB can do.
const EXPORT_CAPABILITIES: [&str; 4] = [
    "exporter.image.annotations",
    "exporter.image.attestations",
    "exporter.multiple",
    "exporter.sourcedateepoch",
];

/// The service.
#[derive(Debug)]
pub(crate) struct Gateway {
    service: Arc<Service>,
}

impl Gateway {
    pub(crate) fn new(service: Arc<Service>) -> Self {
        Self { service }
    }

    /// The build that a call is about.
    async fn job(&self, headers: &MetadataMap) -> Result<Arc<Job>, Error> {
        let name = headers.get(BUILD).and_then(|value| value.to_str().ok());
        let name =
            name.ok_or_else(|| Error::Invalid(format!("a call of the gateway needs the header {BUILD}")))?;
        let job = self.service.jobs.get(name).await?;
        if job.ends.is_cancelled() {
            return Err(Error::Gone(format!("the build {name} has ended")));
        }
        Ok(job)
    }
}

impl Gateway {
    /// The result of a build that is read.
    async fn result(&self, headers: &MetadataMap, name: &str, mount: i32) -> Result<SharedBuilt, Error> {
        if mount != 0 {
            return Err(Error::Absent("a mount of a container by the gateway".to_owned()));
        }
        self.job(headers).await?.result(name)
    }
}

fn absent<T>(what: &str) -> Result<Response<T>, Status> {
    Err(Error::Absent(format!("{what} by the gateway")).into())
}

/// The names of results that a client gives back.
fn names(solved: Solved) -> Result<Vec<String>, Error> {
    if solved.attestations.values().any(|list| !list.attestation.is_empty()) {
        return Err(Error::Absent("an attestation of the client's".to_owned()));
    }
    let names = match solved.result {
        None => Vec::new(),
        Some(result::Result::RefDeprecated(name)) => vec![name],
        Some(result::Result::RefsDeprecated(map)) => map.refs.into_values().collect(),
        Some(result::Result::Ref(one)) => vec![one.id],
        Some(result::Result::Refs(map)) => map.refs.into_values().map(|one| one.id).collect(),
    };
    Ok(names.into_iter().filter(|name| !name.is_empty()).collect())
}

#[tonic::async_trait]
impl LlbBridge for Gateway {
    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PongResponse>, Status> {
        self.job(request.metadata()).await?;
        let capability = |name: &&str| ApiCap { id: (*name).to_owned(), enabled: true, ..ApiCap::default() };
        Ok(Response::new(PongResponse {
            frontend_api_caps: GATEWAY_CAPABILITIES.iter().map(capability).collect(),
            // There is no LLB: nothing of it can be done. What results are put out as is told here as well.
            llb_caps: EXPORT_CAPABILITIES.iter().map(capability).collect(),
            workers: vec![self.service.worker().await?],
        }))
    }

    async fn solve(&self, request: Request<SolveRequest>) -> Result<Response<SolveResponse>, Status> {
        let job = self.job(request.metadata()).await?;
        let request = request.into_inner();
        if request.definition.is_some_and(|definition| !definition.def.is_empty()) {
            return absent("a build from LLB");
        }
        if let Some(name) = request.frontend_inputs.keys().next() {
            return absent(&format!("the frontend's input {name}"));
        }
        let imports = request.cache_imports.iter().map(|one| (one.r#type.as_str(), &one.attrs));
        let cache_from = cache::places(imports)?;
        if !request.source_policies.is_empty() {
            return absent("a source policy");
        }
        let name =
            match self.service.build(&job, &request.frontend, &request.frontend_opt, &cache_from).await? {
                service::Solved::Image(name) => name,
                service::Solved::Answer(metadata) => {
                    let result = Some(Solved { metadata, ..Solved::default() });
                    return Ok(Response::new(SolveResponse { r#ref: String::new(), result }));
                }
            };
        if !request.allow_result_return {
            return Ok(Response::new(SolveResponse { r#ref: name, result: None }));
        }
        let solved = if request.allow_result_array_ref {
            result::Result::Ref(Ref { id: name, def: None })
        } else {
            result::Result::RefDeprecated(name)
        };
        let result = Some(Solved { result: Some(solved), ..Solved::default() });
        Ok(Response::new(SolveResponse { r#ref: String::new(), result }))
    }

    async fn r#return(&self, request: Request<ReturnRequest>) -> Result<Response<ReturnResponse>, Status> {
        let job = self.job(request.metadata()).await?;
        let request = request.into_inner();
        let returned: Returned = match (request.error, request.result) {
            (Some(error), _) if error.code != 0 => Err(error),
            (_, Some(solved)) => Ok(names(solved)?),
            (_, None) => Ok(Vec::new()),
        };
        job.give_back(returned)?;
        Ok(Response::new(ReturnResponse {}))
    }

    async fn evaluate(
        &self,
        request: Request<EvaluateRequest>,
    ) -> Result<Response<EvaluateResponse>, Status> {
        let job = self.job(request.metadata()).await?;
        // What has a name was built.
        job.result(&request.into_inner().r#ref)?;
        Ok(Response::new(EvaluateResponse {}))
    }

    async fn warn(&self, request: Request<WarnRequest>) -> Result<Response<WarnResponse>, Status> {
        let job = self.job(request.metadata()).await?;
        let request = request.into_inner();
        let warning = VertexWarning {
            vertex: request.digest,
            level: request.level,
            short: request.short,
            detail: request.detail,
            url: request.url,
            info: request.info,
            ranges: request.ranges,
        };
        job.backlog.push(StatusResponse { warnings: vec![warning], ..StatusResponse::default() }).await;
        Ok(Response::new(WarnResponse {}))
    }

    async fn inputs(&self, _request: Request<InputsRequest>) -> Result<Response<InputsResponse>, Status> {
        absent("inputs of a frontend")
    }

    async fn resolve_image_config(
        &self,
        _request: Request<ResolveImageConfigRequest>,
    ) -> Result<Response<ResolveImageConfigResponse>, Status> {
        absent("looking up an image")
    }

    async fn resolve_source_meta(
        &self,
        _request: Request<ResolveSourceMetaRequest>,
    ) -> Result<Response<ResolveSourceMetaResponse>, Status> {
        absent("looking up a source")
    }

    async fn read_file(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Result<Response<ReadFileResponse>, Status> {
        let built =
            self.result(request.metadata(), &request.get_ref().r#ref, request.get_ref().mount_index).await?;
        let request = request.into_inner();
        let data = reading::content(&built, &request.file_path, request.range).await?;
        Ok(Response::new(ReadFileResponse { data }))
    }

    async fn read_dir(&self, request: Request<ReadDirRequest>) -> Result<Response<ReadDirResponse>, Status> {
        let built =
            self.result(request.metadata(), &request.get_ref().r#ref, request.get_ref().mount_index).await?;
        let request = request.into_inner();
        let entries = reading::entries(&built, &request.dir_path, &request.include_pattern).await?;
        Ok(Response::new(ReadDirResponse { entries }))
    }

    async fn stat_file(
        &self,
        request: Request<StatFileRequest>,
    ) -> Result<Response<StatFileResponse>, Status> {
        let built =
            self.result(request.metadata(), &request.get_ref().r#ref, request.get_ref().mount_index).await?;
        let stat = reading::about(&built, &request.get_ref().path).await?;
        Ok(Response::new(StatFileResponse { stat: Some(stat) }))
    }

    async fn new_container(
        &self,
        _request: Request<NewContainerRequest>,
    ) -> Result<Response<NewContainerResponse>, Status> {
        absent("a container")
    }

    async fn release_container(
        &self,
        _request: Request<ReleaseContainerRequest>,
    ) -> Result<Response<ReleaseContainerResponse>, Status> {
        absent("a container")
    }

    type ExecProcessStream = BoxStream<'static, Result<ExecMessage, Status>>;

    async fn exec_process(
        &self,
        _request: Request<Streaming<ExecMessage>>,
    ) -> Result<Response<Self::ExecProcessStream>, Status> {
        absent("a process in a container")
    }

    async fn read_file_container(
        &self,
        _request: Request<ReadFileRequest>,
    ) -> Result<Response<ReadFileResponse>, Status> {
        absent("a container")
    }

    async fn read_dir_container(
        &self,
        _request: Request<ReadDirRequest>,
    ) -> Result<Response<ReadDirResponse>, Status> {
        absent("a container")
    }

    async fn stat_file_container(
        &self,
        _request: Request<StatFileRequest>,
    ) -> Result<Response<StatFileResponse>, Status> {
        absent("a container")
    }
}
