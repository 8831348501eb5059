//! What a build gives to us: archives into files, and files into directories, by `moby.filesync.v1.FileSend/DiffCopy`.
//!
//! One method carries both; which of them comes is decided by the output that it says it is of.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bollard_buildkit_proto::fsutil::types::Packet;
use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::moby::filesync::packet::file_send_server::{
    FileSend as FilesSend, FileSendServer as FilesServer,
};
use bollard_buildkit_proto::moby::filesync::v1::BytesMessage;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::{
    FileSend as BytesSend, FileSendServer as BytesServer,
};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::filesend::{METHOD as SEND_METHOD, OUTPUT};
use crate::filesync::Tree;

pub(super) const METHOD: &str = SEND_METHOD;

/// Packets on their way to the disk, and answers on their way back.
const PACKETS_MAX: usize = 32;

/// Where an output goes.
#[derive(Debug)]
pub enum Taker {
    /// An archive, into a file or what is one.
    Archive(File),
    /// Files, into a directory. What is there of the same name is replaced, what is there besides stays.
    Directory(OwnedFd),
}

/// Where outputs go, by their numbers; each is taken once.
pub type Takers = BTreeMap<usize, Taker>;

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Sink {
    takers: Arc<Mutex<Takers>>,
    archives: BytesServer<Taking>,
    files: FilesServer<Taking>,
}

/// One output being taken.
#[derive(Debug, Clone)]
struct Taking(Arc<Mutex<Takers>>);

/// Which output a call is of.
fn output(value: Option<&str>) -> usize {
    // Servers of old have one, and do not say which.
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

impl Sink {
    pub(super) fn new(takers: Takers) -> Self {
        let takers = Arc::new(Mutex::new(takers));
        Self {
            archives: BytesServer::new(Taking(Arc::clone(&takers))),
            files: FilesServer::new(Taking(Arc::clone(&takers))),
            takers,
        }
    }
}

impl tonic::server::NamedService for Sink {
    const NAME: &'static str = <BytesServer<Taking> as tonic::server::NamedService>::NAME;
}

impl tower_service::Service<hyper::Request<tonic::body::Body>> for Sink {
    type Response = hyper::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: hyper::Request<tonic::body::Body>) -> Self::Future {
        let number = output(request.headers().get(OUTPUT).and_then(|value| value.to_str().ok()));
        let takers = self.takers.lock().unwrap_or_else(PoisonError::into_inner);
        let is_files = matches!(takers.get(&number), Some(Taker::Directory(_)));
        drop(takers);
        if is_files { Box::pin(self.files.call(request)) } else { Box::pin(self.archives.call(request)) }
    }
}

impl Taking {
    fn take(&self, headers: &MetadataMap) -> Result<Taker, Status> {
        let number = output(headers.get(OUTPUT).and_then(|value| value.to_str().ok()));
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        taken.ok_or_else(|| Status::not_found(format!("exporter {number} not found")))
    }
}

fn failed(error: std::io::Error) -> Status {
    Status::unknown(format!("cannot write the result: {error}"))
}

#[tonic::async_trait]
impl BytesSend for Taking {
    type DiffCopyStream = BoxStream<'static, Result<BytesMessage, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let Taker::Archive(mut file) = self.take(request.metadata())? else {
            return Err(Status::internal("a bug: a directory is no archive"));
        };
        let mut pieces = request.into_inner();
        while let Some(BytesMessage { data }) = pieces.message().await? {
            let written = tokio::task::spawn_blocking(move || file.write_all(&data).map(|()| file)).await;
            file = written.map_err(|error| Status::internal(error.to_string()))?.map_err(failed)?;
        }
        Ok(Response::new(Box::pin(stream::empty())))
    }
}

#[tonic::async_trait]
impl FilesSend for Taking {
    type DiffCopyStream = BoxStream<'static, Result<Packet, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let Taker::Directory(dir) = self.take(request.metadata())? else {
            return Err(Status::internal("a bug: an archive is no directory"));
        };
        let mut incoming = request.into_inner();
        let (packets, to_disk) = mpsc::channel::<Packet>(PACKETS_MAX);
        let (answers, out) = mpsc::channel::<Packet>(PACKETS_MAX);
        tokio::spawn(async move {
            while let Ok(Some(packet)) = incoming.message().await {
                if packets.send(packet).await.is_err() {
                    return;
                }
            }
        });
        tokio::task::spawn_blocking(move || {
            if let Err(error) = write(dir, to_disk, &answers) {
                let told = Packet {
                    r#type: PacketType::PacketErr.into(),
                    data: error.chain().into_bytes(),
                    ..Packet::default()
                };
                // Who has gone wants to hear nothing.
                let _ = answers.blocking_send(told);
            }
        });
        let out = stream::unfold(out, |mut out| async move {
            let packet = out.recv().await?;
            Some((Ok(packet), out))
        });
        Ok(Response::new(Box::pin(out)))
    }
}

fn write(
    dir: OwnedFd,
    mut packets: mpsc::Receiver<Packet>,
    answers: &mpsc::Sender<Packet>,
) -> crate::error::Result<()> {
    let mut tree = Tree::beside(dir)?;
    while let Some(packet) = packets.blocking_recv() {
        for answer in tree.take(packet)? {
            if answers.blocking_send(answer.into()).is_err() {
                return Ok(());
            }
        }
        if tree.is_done() {
            break;
        }
    }
    Ok(())
}
