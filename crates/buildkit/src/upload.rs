//! Archives that a client gives by a name, over a session: `moby.upload.v1.Upload/Pull`.

use bollard_buildkit_proto::moby::upload::v1::BytesMessage;
use bollard_buildkit_proto::moby::upload::v1::upload_client::UploadClient;
use build::output::{PIECES_MAX, Piece};
use build::request::SourceError;
use futures_util::stream;
use tokio::sync::mpsc;
use tonic::Request;

use crate::error::{Error, Result};
use crate::service::MESSAGE_BYTES_MAX;
use crate::session::Session;

/// The method that clients list if they give archives.
pub(crate) const METHOD: &str = "/moby.upload.v1.Upload/Pull";
/// The headers that say which archive it is: an address without its beginning, in two parts.
pub(crate) const PATH: &str = "urlpath";
const HOST: &str = "urlhost";
/// Whose archives they are, as addresses have it.
const SESSION: &str = "buildkit-session";

/// Asks for an archive.
pub(crate) async fn pull(session: &Session, name: &str) -> Result<mpsc::Receiver<Piece>> {
    if !session.answers(METHOD) {
        return Err(Error::Invalid("the client sends no archives: its session has no Upload".to_owned()));
    }
    // We have nothing to say to it; it goes on speaking until it has sent all.
    let mut request = Request::new(stream::pending::<BytesMessage>());
    let path = format!("/{name}").parse();
    let path = path.map_err(|_| Error::Invalid(format!("invalid name of an upload: {name:?}")))?;
    request.metadata_mut().insert(PATH, path);
    request.metadata_mut().insert(HOST, tonic::metadata::MetadataValue::from_static(SESSION));
    let (caller, origin) = session.caller();
    let mut client = UploadClient::with_origin(caller, origin).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let refused = |status| Error::Client { what: "the build context".to_owned(), status: Box::new(status) };
    let mut answers = client.pull(request).await.map_err(refused)?.into_inner();
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    tokio::spawn(async move {
        loop {
            let piece = tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(BytesMessage { data })) => Ok(data),
                    Ok(None) => return,
                    Err(status) => Err(SourceError(refused(status).chain())),
                },
                // Who wants no more of it does not wait for its next piece.
                () = sender.closed() => return,
            };
            let is_end = piece.is_err();
            if sender.send(piece).await.is_err() || is_end {
                return;
            }
        }
    });
    Ok(pieces)
}
