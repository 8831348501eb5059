//! Files of a client's directory, over a session: `moby.filesync.v1.FileSync/DiffCopy`.

pub(crate) mod entry;
mod header;
mod tree;

use std::os::fd::OwnedFd;
use std::time::Duration;

use bollard_buildkit_proto::fsutil::types::Packet;
use bollard_buildkit_proto::moby::filesync::v1::file_sync_client::FileSyncClient;
use futures_util::stream;
use tokio::sync::{mpsc, watch};
use tonic::Streaming;

use crate::error::{Error, Result};
use crate::movement::{self, Movement};
use crate::session::Session;
pub(crate) use entry::bits;
pub use entry::{Entry, Kind};
pub use header::Ask;
pub use tree::{Answer, Tree};

/// The method that clients list if they give files.
pub(crate) const METHOD: &str = "/moby.filesync.v1.FileSync/DiffCopy";

/// Packets on their way to the disk. Each carries 32 KiB at most.
const PACKETS_MAX: usize = 32;
/// Answers on their way to the client: as many as there can be, so that the disk never waits for a client that waits for it.
const ANSWERS_MAX: usize = tree::REQUESTS_MAX + 1;
/// How long the client may take to end after all has come. Nothing hangs on it.
const END_MAX: Duration = Duration::from_secs(2);

/// Makes a directory equal to what is asked for of the client's, and tells how many bytes have come. `keep` is held until nothing
/// writes there any more, also if nobody waits for the end.
pub(crate) async fn receive(
    session: &Session,
    ask: &Ask,
    dir: OwnedFd,
    keep: impl Send + 'static,
    told: &watch::Sender<u64>,
) -> Result<()> {
    if !session.answers(METHOD) {
        return Err(Error::Invalid("the client gives no files: its session has no FileSync".to_owned()));
    }
    let _thread = movement::threads(1).await?;
    let (answers, waiting) = mpsc::channel::<Packet>(ANSWERS_MAX);
    let outgoing = stream::unfold(waiting, |mut waiting| async move {
        let packet = waiting.recv().await?;
        Some((packet, waiting))
    });
    let mut request = tonic::Request::new(outgoing);
    ask.write(request.metadata_mut())?;
    let (caller, origin) = session.caller();
    let refused =
        |status| Error::Client { what: format!("its directory {:?}", ask.name), status: Box::new(status) };
    let what = format!("the transfer of the directory {:?}", ask.name);
    let movement = Movement::begin();
    let mut client = FileSyncClient::with_origin(caller, origin);
    let begin = async { client.diff_copy(request).await.map_err(refused) };
    let incoming = movement.during(&what, begin).await?.into_inner();

    let (packets, to_disk) = mpsc::channel(PACKETS_MAX);
    let progress = told.clone();
    let writing = tokio::task::spawn_blocking(move || {
        let _keep = keep;
        write(dir, to_disk, &answers, &progress)
    });
    let moving = movement.clone();
    let reading = async { Ok(read(incoming, packets, &moving).await) };
    // Where it stands still the packets end here, and with them the writing.
    let (read, written) = tokio::join!(movement.during(&what, reading), writing);
    let read = read?;
    let written = written.map_err(|_| Error::Gone("the transfer of files has broken off".to_owned()))?;
    match (written, read) {
        // The disk's word comes first: the stream ends because of it.
        (Ok(true), _) => Ok(()),
        (Ok(false), Err(status)) => Err(refused(status)),
        (Ok(false), Ok(())) => {
            Err(Error::Protocol(format!("the stream of {:?} ends before all was sent", ask.name)))
        }
        (Err(error), _) => Err(error),
    }
}

/// Hands packets to the disk until the stream ends or the disk wants no more.
async fn read(
    mut incoming: Streaming<Packet>,
    packets: mpsc::Sender<Packet>,
    movement: &Movement,
) -> std::result::Result<(), tonic::Status> {
    loop {
        let packet = tokio::select! {
            packet = incoming.message() => packet?,
            () = packets.closed() => break,
        };
        let Some(packet) = packet else { return Ok(()) };
        let is_over = packets.send(packet).await.is_err();
        // Also the disk's slowness is none of the client's.
        movement.goes_on();
        if is_over {
            break;
        }
    }
    // The client is heard to its end: a stream that is dropped tells it that something went wrong.
    let end = async { while let Ok(Some(_)) = incoming.message().await {} };
    let _ = tokio::time::timeout(END_MAX, end).await;
    Ok(())
}

/// Writes what comes, on a thread that may block; tells whether all has come.
fn write(
    dir: OwnedFd,
    mut packets: mpsc::Receiver<Packet>,
    answers: &mpsc::Sender<Packet>,
    progress: &watch::Sender<u64>,
) -> Result<bool> {
    let mut tree = Tree::new(dir)?;
    while let Some(packet) = packets.blocking_recv() {
        for answer in tree.take(packet)? {
            // There is room for all that are ever on their way; who does not take them has gone, and the packets end.
            let _ = answers.try_send(answer.into());
        }
        progress.send_replace(tree.bytes());
        if tree.is_done() {
            return Ok(true);
        }
    }
    Ok(false)
}
