//! What a build gives out to its client, over a session: `moby.filesync.v1.FileSend/DiffCopy`.
//!
//! The same method takes an archive, as bytes, and a directory, as the packets by which contexts come, with the parts exchanged: we tell
//! of each entry, the client asks for the files that it wants.

mod walk;

use std::collections::BTreeMap;
use std::time::Duration;

use bollard_buildkit_proto::fsutil::types::Packet;
use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::moby::filesync::packet::file_send_client::FileSendClient as PacketClient;
use bollard_buildkit_proto::moby::filesync::v1::BytesMessage;
use bollard_buildkit_proto::moby::filesync::v1::file_send_client::FileSendClient as BytesClient;
use build::output::{Directory, Piece};
use futures_util::stream;
use tokio::sync::{mpsc, oneshot};
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};

use crate::error::{Error, Result};
use crate::movement::{self, Movement};
use crate::session::Session;
use walk::Walk;
pub(crate) use walk::mode;

/// The method that clients list if they take what is made.
pub(crate) const METHOD: &str = "/moby.filesync.v1.FileSend/DiffCopy";
/// The header that says which output it is.
pub(crate) const OUTPUT: &str = "buildkit-attachable-exporter-id";
/// What headers begin with that tell something of an archive.
const ABOUT: &str = "exporter-md-";
/// Packets on their way to the client, each of 32 KiB at most.
const PACKETS_MAX: usize = 32;
/// Files that the client has asked for and that were not sent yet; then it is not heard for a while.
const ASKED_MAX: usize = 128;
/// How long a client may take to end after all was sent: it writes to its disk.
const END_MAX: Duration = movement::STILL_MAX;

fn check(session: &Session) -> Result<()> {
    if session.answers(METHOD) {
        return Ok(());
    }
    Err(Error::Invalid("the client takes no files: its session has no FileSend".to_owned()))
}

fn head(headers: &mut MetadataMap, output: usize, about: &BTreeMap<String, String>) -> Result<()> {
    headers.insert(OUTPUT, MetadataValue::from(output));
    for (key, value) in about {
        let refuse = |_| Error::Invalid(format!("{key}={value:?} cannot be told to the client"));
        let name = MetadataKey::<Ascii>::from_bytes(format!("{ABOUT}{key}").as_bytes())
            .map_err(|_| Error::Invalid(format!("{key:?} cannot be told to the client")))?;
        headers.insert(name, value.parse().map_err(refuse)?);
    }
    Ok(())
}

fn refused(status: tonic::Status) -> Error {
    Error::Client { what: "a place for the result".to_owned(), status: Box::new(status) }
}

/// Sends an archive. Where it breaks off the client hears no end of it.
pub(crate) async fn archive(
    session: &Session,
    output: usize,
    about: &BTreeMap<String, String>,
    pieces: mpsc::Receiver<Piece>,
) -> Result<()> {
    check(session)?;
    let (broken, breaks) = oneshot::channel();
    let movement = Movement::begin();
    let state = (pieces, Some(broken), movement.clone());
    let outgoing = stream::unfold(state, |(mut pieces, mut broken, movement)| async move {
        let piece = pieces.recv().await;
        movement.goes_on();
        match piece? {
            Ok(data) => Some((BytesMessage { data }, (pieces, broken, movement))),
            Err(error) => {
                if let Some(broken) = broken.take() {
                    let _ = broken.send(error);
                }
                // An end would say that it is whole.
                std::future::pending().await
            }
        }
    });
    let mut request = tonic::Request::new(outgoing);
    head(request.metadata_mut(), output, about)?;
    let (caller, origin) = session.caller();
    let sending = async {
        let mut client = BytesClient::with_origin(caller, origin);
        let mut answers = client.diff_copy(request).await.map_err(refused)?.into_inner();
        while answers.message().await.map_err(refused)?.is_some() {}
        Ok(())
    };
    // The sender goes with the stream: that is no failure.
    let breaking = async {
        match breaks.await {
            Ok(error) => error,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        sent = movement.during("the result", sending) => sent,
        error = breaking => Err(Error::Build(error.0)),
        () = session.closed() => Err(Error::Gone("the client's session has ended".to_owned())),
    }
}

/// Sends directories: each under its name, or one at the top.
pub(crate) async fn files(session: &Session, output: usize, directories: Vec<Directory>) -> Result<()> {
    check(session)?;
    let _threads = movement::threads(2).await?;
    let (packets, waiting) = mpsc::channel::<Packet>(PACKETS_MAX);
    let movement = Movement::begin();
    let outgoing = stream::unfold((waiting, movement.clone()), |(mut waiting, movement)| async move {
        let packet = waiting.recv().await?;
        movement.goes_on();
        Some((packet, (waiting, movement)))
    });
    let mut request = tonic::Request::new(outgoing);
    head(request.metadata_mut(), output, &BTreeMap::new())?;
    let (caller, origin) = session.caller();
    let (asked, wanted) = mpsc::channel::<u32>(ASKED_MAX);
    let walk = Walk::new(directories);
    // Who reads here and fails ends the talk: the client need not notice.
    let (failed, mut failures) = mpsc::channel::<()>(1);
    let fails = move |_: &Error| {
        let _ = failed.try_send(());
    };
    let telling = {
        let (walk, packets, fails) = (walk.clone(), packets.clone(), fails.clone());
        tokio::task::spawn_blocking(move || walk.tell(&packets).inspect_err(fails))
    };
    let sending = {
        let (walk, packets) = (walk, packets.clone());
        tokio::task::spawn_blocking(move || walk.send(wanted, &packets).inspect_err(fails))
    };
    let talking = async {
        let mut client = PacketClient::with_origin(caller, origin);
        let mut answers = client.diff_copy(request).await.map_err(refused)?.into_inner();
        while let Some(packet) = answers.message().await.map_err(refused)? {
            movement.goes_on();
            match PacketType::try_from(packet.r#type) {
                // Who sends has ended with an error of its own, which is told below.
                Ok(PacketType::PacketReq) => {
                    if asked.send(packet.id).await.is_err() {
                        break;
                    }
                }
                Ok(PacketType::PacketFin) => {
                    let end = Packet { r#type: PacketType::PacketFin.into(), ..Packet::default() };
                    let _ = packets.send(end).await;
                    drop(packets);
                    // It is heard to its end: a stream that is dropped tells it that something went wrong.
                    let end = async { while let Ok(Some(_)) = answers.message().await {} };
                    let _ = tokio::time::timeout(END_MAX, end).await;
                    drop(asked);
                    return Ok(true);
                }
                Ok(PacketType::PacketErr) => {
                    let text = String::from_utf8_lossy(&packet.data).into_owned();
                    return Err(Error::Build(format!("the client cannot take the files: {text}")));
                }
                _ => return Err(Error::Protocol("a packet that only who sends files may send".to_owned())),
            }
        }
        Ok(false)
    };
    let failing = async {
        if failures.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    };
    let talked = tokio::select! {
        talked = movement.during("the result", talking) => talked,
        () = session.closed() => Err(Error::Gone("the client's session has ended".to_owned())),
        () = failing => Ok(false),
    };
    let gone = |_| Error::Gone("the sending of files has broken off".to_owned());
    let (told, sent) = tokio::join!(telling, sending);
    match (told.map_err(gone)?.and(sent.map_err(gone)?), talked) {
        // That nobody takes it any more is because of what the client has said.
        (Ok(()) | Err(Error::Gone(_)), Err(error)) => Err(error),
        (Err(error), _) => Err(error),
        (Ok(()), Ok(true)) => Ok(()),
        (Ok(()), Ok(false)) => Err(Error::Protocol("the client ends before it has all files".to_owned())),
    }
}
