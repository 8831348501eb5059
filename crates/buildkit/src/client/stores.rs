//! Stores of blobs in directories of ours, in the form of OCI layouts: `containerd.services.content.v1.Content`, each by its name in a header.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use oci::{Algorithm, Digest};
use sha2::{Digest as _, Sha256};
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, ServerStreamingService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::contents::{
    ACTION_COMMIT, INFO, Info, InfoRequest, InfoResponse, READ, ReadRequest, ReadResponse, STORE, WRITE,
    WriteRequest, WriteResponse,
};

/// The methods that are answered.
pub(super) const METHODS: [&str; 3] = [INFO, READ, WRITE];
/// Bytes of a blob in one answer.
const PIECE_BYTES: usize = 512 << 10;

/// Directories by the names of their stores.
pub type Stores = BTreeMap<String, PathBuf>;

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Keeper(Arc<Stores>);

impl Keeper {
    pub(super) fn new(stores: Stores) -> Self {
        Self(Arc::new(stores))
    }

    /// Where a blob of the store is that a call is about.
    fn place(&self, headers: &MetadataMap, digest: &str) -> Result<PathBuf, Status> {
        let store = headers.get(STORE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let folder = self.0.get(store).ok_or_else(|| Status::not_found(format!("unknown store {store}")))?;
        let digest = Digest::parse(digest).map_err(|error| Status::invalid_argument(error.to_string()))?;
        if digest.algorithm() != Algorithm::Sha256 {
            return Err(Status::invalid_argument(format!("{digest}: only sha256 is kept")));
        }
        Ok(folder.join("blobs/sha256").join(digest.hex()))
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Status {
    let path = path.display().to_string();
    move |error| match error.kind() {
        io::ErrorKind::NotFound => Status::not_found(format!("{path}: not found")),
        _ => Status::unknown(format!("{path}: {error}")),
    }
}

impl tonic::server::NamedService for Keeper {
    const NAME: &'static str = "containerd.services.content.v1.Content";
}

impl tower_service::Service<hyper::Request<tonic::body::Body>> for Keeper {
    type Response = hyper::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: hyper::Request<tonic::body::Body>) -> Self::Future {
        let own = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                INFO => {
                    let codec = ProstCodec::<InfoResponse, InfoRequest>::default();
                    Grpc::new(codec).unary(own, request).await
                }
                READ => {
                    let codec = ProstCodec::<ReadResponse, ReadRequest>::default();
                    Grpc::new(codec).server_streaming(own, request).await
                }
                WRITE => {
                    let codec = ProstCodec::<WriteResponse, WriteRequest>::default();
                    Grpc::new(codec).streaming(own, request).await
                }
                other => Status::unimplemented(format!("{other} is not answered")).into_http(),
            })
        })
    }
}

impl UnaryService<InfoRequest> for Keeper {
    type Response = InfoResponse;
    type Future = BoxFuture<'static, Result<Response<InfoResponse>, Status>>;

    fn call(&mut self, request: Request<InfoRequest>) -> Self::Future {
        let place = self.place(request.metadata(), &request.get_ref().digest);
        Box::pin(async move {
            let place = place?;
            let size = fs::metadata(&place).map_err(failed(&place))?.len();
            let info =
                Info { digest: request.into_inner().digest, size: i64::try_from(size).unwrap_or(i64::MAX) };
            Ok(Response::new(InfoResponse { info: Some(info) }))
        })
    }
}

impl ServerStreamingService<ReadRequest> for Keeper {
    type Response = ReadResponse;
    type ResponseStream = BoxStream<'static, Result<ReadResponse, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<ReadRequest>) -> Self::Future {
        let asked = request.get_ref().clone();
        let place = self.place(request.metadata(), &asked.digest);
        Box::pin(async move {
            let place = place?;
            if asked.offset != 0 || asked.size != 0 {
                return Err(Status::unimplemented("a part of a blob is not given: ask for all of it"));
            }
            let file = File::open(&place).map_err(failed(&place))?;
            let pieces = stream::unfold(Some((file, 0_i64)), move |state| {
                let place = place.clone();
                async move {
                    let (mut file, offset) = state?;
                    let read = tokio::task::spawn_blocking(move || {
                        let mut data = vec![0; PIECE_BYTES];
                        let length = file.read(&mut data)?;
                        data.truncate(length);
                        Ok((data, file))
                    });
                    let read = match read.await {
                        Ok(read) => read.map_err(failed(&place)),
                        Err(error) => Err(Status::internal(error.to_string())),
                    };
                    match read {
                        Ok((data, _)) if data.is_empty() => None,
                        Ok((data, file)) => {
                            let next = offset + i64::try_from(data.len()).unwrap_or(i64::MAX);
                            Some((Ok(ReadResponse { offset, data }), Some((file, next))))
                        }
                        Err(status) => Some((Err(status), None)),
                    }
                }
            });
            Ok(Response::new(Box::pin(pieces) as Self::ResponseStream))
        })
    }
}

/// A blob that is coming.
struct Coming {
    place: PathBuf,
    unfinished: PathBuf,
    file: Option<File>,
    hasher: Sha256,
    bytes: u64,
}

impl Drop for Coming {
    fn drop(&mut self) {
        // Where it is whole it has another name.
        let _ = fs::remove_file(&self.unfinished);
    }
}

impl Coming {
    fn new(place: PathBuf) -> Result<Self, Status> {
        if place.exists() {
            return Err(Status::already_exists(format!("{}: already exists", place.display())));
        }
        let folder = place.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let unfinished = place.with_extension(format!("{}.part", super::name()));
        let file = File::create_new(&unfinished).map_err(failed(&unfinished))?;
        Ok(Self { place, unfinished, file: Some(file), hasher: Sha256::new(), bytes: 0 })
    }

    /// Takes a piece, and makes a blob of all of them at the last.
    fn take(&mut self, request: &WriteRequest) -> Result<WriteResponse, Status> {
        let Some(file) = &mut self.file else {
            return Err(Status::failed_precondition("it is whole already"));
        };
        if u64::try_from(request.offset).ok() != Some(self.bytes) {
            return Err(Status::out_of_range(format!(
                "write @{} must occur at current offset {}",
                request.offset, self.bytes
            )));
        }
        file.write_all(&request.data).map_err(failed(&self.unfinished))?;
        self.hasher.update(&request.data);
        self.bytes += request.data.len() as u64;
        let mut digest = String::new();
        if request.action == ACTION_COMMIT {
            let actual = Digest::from_sha256(self.hasher.clone().finalize().into());
            if self.place.file_name().and_then(|name| name.to_str()) != Some(actual.hex()) {
                return Err(Status::failed_precondition(format!("unexpected commit digest {actual}")));
            }
            file.sync_data().map_err(failed(&self.unfinished))?;
            fs::rename(&self.unfinished, &self.place).map_err(failed(&self.place))?;
            self.file = None;
            digest = actual.to_string();
        }
        Ok(WriteResponse { offset: i64::try_from(self.bytes).unwrap_or(i64::MAX), digest })
    }
}

impl StreamingService<WriteRequest> for Keeper {
    type Response = WriteResponse;
    type ResponseStream = BoxStream<'static, Result<WriteResponse, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<WriteRequest>>) -> Self::Future {
        let (own, headers) = (self.clone(), request.metadata().clone());
        Box::pin(async move {
            let mut requests = request.into_inner();
            let Some(first) = requests.message().await? else {
                return Err(Status::invalid_argument("nothing is written"));
            };
            let coming = Coming::new(own.place(&headers, &first.expected)?)?;
            let state = Some((requests, coming, Some(first)));
            let answers = stream::unfold(state, |state| async move {
                let (mut requests, mut coming, first) = state?;
                let request = match first {
                    Some(first) => first,
                    None => match requests.message().await {
                        Ok(next) => next?,
                        Err(status) => return Some((Err(status), None)),
                    },
                };
                let taken = tokio::task::spawn_blocking(move || (coming.take(&request), coming)).await;
                match taken {
                    Ok((Ok(answer), coming)) => Some((Ok(answer), Some((requests, coming, None)))),
                    Ok((Err(status), _)) => Some((Err(status), None)),
                    Err(error) => Some((Err(Status::internal(error.to_string())), None)),
                }
            });
            Ok(Response::new(Box::pin(answers) as Self::ResponseStream))
        })
    }
}
