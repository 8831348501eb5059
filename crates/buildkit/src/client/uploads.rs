//! Archives that we give by a name, as what is built: `moby.upload.v1.Upload/Pull`.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Mutex, PoisonError};

use bollard_buildkit_proto::moby::upload::v1::BytesMessage;
use bollard_buildkit_proto::moby::upload::v1::upload_server::Upload as Service;
use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use crate::upload::PATH;

pub(super) use crate::upload::METHOD;

/// Bytes read at once, and pieces on their way.
const PIECE_BYTES: usize = 256 << 10;
const PIECES_MAX: usize = 4;

/// Where an archive is read from.
pub type Upload = Box<dyn Read + Send>;

/// Archives by their names; each is given once.
pub type Uploads = BTreeMap<String, Upload>;

/// The service.
pub(super) struct Giver(Mutex<Uploads>);

impl Giver {
    pub(super) fn new(uploads: Uploads) -> Self {
        Self(Mutex::new(uploads))
    }
}

#[tonic::async_trait]
impl Service for Giver {
    type PullStream = BoxStream<'static, Result<BytesMessage, Status>>;

    async fn pull(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let path = request.metadata().get(PATH).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        let upload = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let upload =
            upload.ok_or_else(|| Status::not_found(format!("no http response from session for {name}")))?;
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        // What it reads may never end, and then this thread does not either: it is nobody's to wait for.
        let reading = std::thread::Builder::new().name("upload".into()).spawn(move || read(upload, &sender));
        reading.map_err(|error| Status::internal(format!("cannot read what is built: {error}")))?;
        let pieces = stream::unfold(pieces, |mut pieces| async move {
            let piece = pieces.recv().await?;
            Some((piece, pieces))
        });
        Ok(Response::new(Box::pin(pieces)))
    }
}

fn read(mut upload: Upload, sender: &mpsc::Sender<Result<BytesMessage, Status>>) {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let piece = match upload.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => Ok(BytesMessage { data: buffer[..length].to_vec() }),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(Status::unknown(format!("cannot read what is built: {error}"))),
        };
        let is_end = piece.is_err();
        if sender.blocking_send(piece).is_err() || is_end {
            return;
        }
    }
}
