//! A client that takes what is made: archives, and directories.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bollard_buildkit_proto::fsutil::types::Packet;
use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::moby::filesync::packet::file_send_server::FileSend as FilesSend;
use bollard_buildkit_proto::moby::filesync::v1::BytesMessage;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::FileSend as BytesSend;
use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

/// How results are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    #[default]
    Honest,
    /// Nothing is ever read or said.
    Silent,
    /// What is not there is asked for.
    AsksWrong,
    /// It is said that it cannot be taken.
    Refuses,
}

/// What has come: contents by name. An archive is called by its output and by what was told of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taken(Arc<Mutex<BTreeMap<String, String>>>, Manner);

impl Taken {
    pub(crate) fn new(manner: Manner) -> Self {
        Self(Arc::default(), manner)
    }

    fn put(&self, name: String, content: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, content);
    }

    pub(crate) fn all(&self) -> BTreeMap<String, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[tonic::async_trait]
impl BytesSend for Taken {
    type DiffCopyStream = BoxStream<'static, Result<BytesMessage, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let header = |name: &str| {
            let value = request.metadata().get(name).expect("the client works");
            value.to_str().expect("the client works").to_owned()
        };
        let name = format!("{} {}", header("buildkit-attachable-exporter-id"), header("exporter-md-a"));
        let mut pieces = request.into_inner();
        if self.1 == Manner::Silent {
            std::future::pending::<()>().await;
        }
        let mut all = Vec::new();
        while let Some(piece) = pieces.message().await? {
            all.extend(piece.data);
        }
        self.put(name, String::from_utf8(all).expect("the client works"));
        Ok(Response::new(Box::pin(stream::empty())))
    }
}

#[tonic::async_trait]
impl FilesSend for Taken {
    type DiffCopyStream = BoxStream<'static, Result<Packet, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let (sender, receiver) = mpsc::channel(4);
        let packet = |kind: PacketType, id, data: &[u8]| Packet {
            r#type: kind.into(),
            id,
            data: data.to_vec(),
            ..Packet::default()
        };
        let said = match self.1 {
            Manner::Honest => None,
            Manner::Silent => Some(None),
            Manner::AsksWrong => Some(Some(packet(PacketType::PacketReq, 77, b""))),
            Manner::Refuses => Some(Some(packet(PacketType::PacketErr, 0, b"no room"))),
        };
        match said {
            None => drop(tokio::spawn(take(self.clone(), request.into_inner(), sender))),
            Some(said) => {
                let packets = request.into_inner();
                tokio::spawn(async move {
                    if let Some(said) = said {
                        let _ = sender.send(said).await;
                    }
                    // Neither read nor given up.
                    let _held = (packets, sender);
                    std::future::pending::<()>().await;
                });
            }
        }
        let outgoing = stream::unfold(receiver, async |mut receiver| {
            let packet = receiver.recv().await?;
            Some((Ok(packet), receiver))
        });
        Ok(Response::new(Box::pin(outgoing)))
    }
}

/// Asks for every file, and ends when all of them are there.
async fn take(taken: Taken, mut packets: Streaming<Packet>, sender: mpsc::Sender<Packet>) {
    let packet = |kind: PacketType, id| Packet { r#type: kind.into(), id, ..Packet::default() };
    let mut stats = Vec::new();
    let mut contents: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let (mut open, mut told) = (0, false);
    while let Ok(Some(one)) = packets.message().await {
        match PacketType::try_from(one.r#type).expect("the client works") {
            PacketType::PacketStat => match one.stat {
                None => told = true,
                Some(stat) => {
                    let id = u32::try_from(stats.len()).expect("the client works");
                    if stat.mode >> 18 == 0 && stat.linkname.is_empty() {
                        open += 1;
                        let _ = sender.send(packet(PacketType::PacketReq, id)).await;
                    }
                    stats.push(stat);
                }
            },
            PacketType::PacketData if one.data.is_empty() => open -= 1,
            PacketType::PacketData => contents.entry(one.id).or_default().extend(one.data),
            PacketType::PacketFin => break,
            other => panic!("{other:?}"),
        }
        if told && open == 0 {
            told = false;
            let _ = sender.send(packet(PacketType::PacketFin, 0)).await;
        }
    }
    for (id, stat) in stats.into_iter().enumerate() {
        let content = contents.remove(&u32::try_from(id).expect("the client works")).unwrap_or_default();
        let content = if content.len() > 1000 {
            format!("{} bytes", content.len())
        } else {
            String::from_utf8(content).expect("the client works")
        };
        taken.put(format!("{:o} {}", stat.mode & 0o7777, stat.path), format!("{content}{}", stat.linkname));
    }
}
