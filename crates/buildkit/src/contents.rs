//! Stores of blobs that a client has: `containerd.services.content.v1.Content` over a session, each store by its name in a header.

use std::collections::HashMap;
use std::time::Duration;

use build::output::{PIECES_MAX, Piece};
use build::request::SourceError;
use futures_util::stream;
use hyper::http::uri::PathAndQuery;
use oci::Digest;
use tokio::sync::{mpsc, oneshot};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::movement::Movement;
use crate::session::Session;

pub(crate) const INFO: &str = "/containerd.services.content.v1.Content/Info";
pub(crate) const READ: &str = "/containerd.services.content.v1.Content/Read";
pub(crate) const WRITE: &str = "/containerd.services.content.v1.Content/Write";
/// The header that says which store it is.
pub(crate) const STORE: &str = "buildkit-attachable-store-id";
/// How long a client may take to say something of a blob.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// What a write does.
const ACTION_WRITE: i32 = 1;
pub(crate) const ACTION_COMMIT: i32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct InfoRequest {
    #[prost(string, tag = "1")]
    pub(crate) digest: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Info {
    #[prost(string, tag = "1")]
    pub(crate) digest: String,
    #[prost(int64, tag = "2")]
    pub(crate) size: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct InfoResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) info: Option<Info>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReadRequest {
    #[prost(string, tag = "1")]
    pub(crate) digest: String,
    #[prost(int64, tag = "2")]
    pub(crate) offset: i64,
    #[prost(int64, tag = "3")]
    pub(crate) size: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReadResponse {
    #[prost(int64, tag = "1")]
    pub(crate) offset: i64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) data: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WriteRequest {
    #[prost(int32, tag = "1")]
    pub(crate) action: i32,
    #[prost(string, tag = "2")]
    pub(crate) r#ref: String,
    #[prost(int64, tag = "3")]
    pub(crate) total: i64,
    #[prost(string, tag = "4")]
    pub(crate) expected: String,
    #[prost(int64, tag = "5")]
    pub(crate) offset: i64,
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) data: Vec<u8>,
    #[prost(map = "string, string", tag = "7")]
    pub(crate) labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WriteResponse {
    #[prost(int64, tag = "4")]
    pub(crate) offset: i64,
    #[prost(string, tag = "6")]
    pub(crate) digest: String,
}

fn grpc(session: &Session, method: &str) -> Result<tonic::client::Grpc<Caller>> {
    if !session.answers(method) {
        return Err(Error::Invalid(
            "the client has no store of blobs: its session has no Content".to_owned(),
        ));
    }
    let (caller, origin) = session.caller();
    Ok(tonic::client::Grpc::with_origin(caller, origin))
}

fn head(headers: &mut MetadataMap, store: &str) -> Result<()> {
    let value = store.parse();
    let value = value.map_err(|_| {
        Error::Invalid(format!(
            "the client's store {store:?} cannot be asked for: its name is not plain ASCII"
        ))
    })?;
    headers.insert(STORE, value);
    Ok(())
}

async fn ready(grpc: &mut tonic::client::Grpc<Caller>) -> Result<()> {
    grpc.ready().await.map_err(|_| Error::Gone("the client's session".to_owned()))
}

fn refused(what: &str) -> impl Fn(Status) -> Error {
    move |status| Error::Client { what: what.to_owned(), status: Box::new(status) }
}

/// The size of a blob; nothing if it is not there.
pub(crate) async fn size(session: &Session, store: &str, digest: &Digest) -> Result<Option<u64>> {
    let mut grpc = grpc(session, INFO)?;
    let mut request = Request::new(InfoRequest { digest: digest.to_string() });
    head(request.metadata_mut(), store)?;
    ready(&mut grpc).await?;
    let codec = ProstCodec::<InfoRequest, InfoResponse>::default();
    let asking = grpc.unary(request, PathAndQuery::from_static(INFO), codec);
    let late = |_| Error::Late { what: format!("an answer about {digest}"), within: ANSWER_MAX };
    match tokio::time::timeout(ANSWER_MAX, asking).await.map_err(late)? {
        Ok(answer) => {
            Ok(answer.into_inner().info.map(|info: Info| u64::try_from(info.size).unwrap_or(u64::MAX)))
        }
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(refused(digest.as_str())(status)),
    }
}

/// The bytes of a blob, which have to be so many.
pub(crate) async fn read(
    session: &Session,
    store: &str,
    digest: &Digest,
    size: u64,
) -> Result<mpsc::Receiver<Piece>> {
    let mut grpc = grpc(session, READ)?;
    let mut request = Request::new(ReadRequest { digest: digest.to_string(), offset: 0, size: 0 });
    head(request.metadata_mut(), store)?;
    ready(&mut grpc).await?;
    let codec = ProstCodec::<ReadRequest, ReadResponse>::default();
    let what = digest.to_string();
    let answers = grpc.server_streaming(request, PathAndQuery::from_static(READ), codec).await;
    let mut answers = answers.map_err(refused(&what))?.into_inner();
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    tokio::spawn(async move {
        let mut left = size;
        let movement = Movement::begin();
        loop {
            let message = tokio::select! {
                message = movement.during(&what, async { Ok(answers.message().await) }) => message,
                // Nobody wants it any more.
                () = sender.closed() => return,
            };
            let message = match message {
                Ok(message) => message,
                Err(error) => {
                    let _ = sender.send(Err(SourceError(error.to_string()))).await;
                    return;
                }
            };
            let told = match message {
                // What is empty brings nothing, and could go on for ever.
                Ok(Some(ReadResponse { data, .. })) if data.is_empty() => continue,
                Ok(Some(ReadResponse { data, .. })) if data.len() as u64 <= left => {
                    movement.goes_on();
                    left -= data.len() as u64;
                    Ok(data)
                }
                Ok(None) if left == 0 => return,
                Ok(_) => Err(SourceError(format!("{what} has not the {size} bytes that it should"))),
                Err(status) => Err(SourceError(refused(&what)(status).to_string())),
            };
            let is_end = told.is_err();
            if sender.send(told).await.is_err() || is_end {
                return;
            }
        }
    });
    Ok(pieces)
}

/// Where a write is.
struct Writing {
    pieces: mpsc::Receiver<Piece>,
    head: WriteRequest,
    broken: Option<oneshot::Sender<SourceError>>,
    is_done: bool,
    movement: Movement,
}

impl Writing {
    async fn next(mut self) -> Option<(WriteRequest, Self)> {
        if self.is_done {
            return None;
        }
        let mut request = self.head.clone();
        let piece = self.pieces.recv().await;
        self.movement.goes_on();
        match piece {
            Some(Ok(data)) => {
                self.head.offset += i64::try_from(data.len()).unwrap_or(i64::MAX);
                request.data = data;
            }
            Some(Err(error)) => {
                if let Some(broken) = self.broken.take() {
                    let _ = broken.send(error);
                }
                return std::future::pending().await;
            }
            None => {
                request.action = ACTION_COMMIT;
                self.is_done = true;
            }
        }
        Some((request, self))
    }
}

/// Writes a blob.
pub(crate) async fn write(
    session: &Session,
    store: &str,
    digest: &Digest,
    size: u64,
    pieces: mpsc::Receiver<Piece>,
) -> Result<()> {
    let mut grpc = grpc(session, WRITE)?;
    let (broken, breaks) = oneshot::channel();
    let start = WriteRequest {
        action: ACTION_WRITE,
        r#ref: format!("corten-{digest}"),
        total: i64::try_from(size).unwrap_or(i64::MAX),
        expected: digest.to_string(),
        ..WriteRequest::default()
    };
    let movement = Movement::begin();
    let writing =
        Writing { pieces, head: start, broken: Some(broken), is_done: false, movement: movement.clone() };
    let mut request = Request::new(stream::unfold(writing, Writing::next));
    head(request.metadata_mut(), store)?;
    ready(&mut grpc).await?;
    let codec = ProstCodec::<WriteRequest, WriteResponse>::default();
    let what = digest.to_string();
    let sending = async {
        let talk = async {
            let answers = grpc.streaming(request, PathAndQuery::from_static(WRITE), codec).await?;
            let mut answers = answers.into_inner();
            while let Some(WriteResponse { .. }) = answers.message().await? {}
            Ok(())
        };
        movement.during(&what, async { Ok(talk.await) }).await
    };
    let breaking = async {
        match breaks.await {
            Ok(error) => error,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        sent = sending => match sent {
            // Somebody was faster.
            Ok(Err(status)) if Status::code(&status) == Code::AlreadyExists => Ok(()),
            sent => sent?.map_err(refused(&what)),
        },
        error = breaking => Err(Error::Build(error.0)),
        () = session.closed() => Err(Error::Gone("the client's session has ended".to_owned())),
    }
}
