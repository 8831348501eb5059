//! Bodies that are sent as they are read: archives.

use std::fmt;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::error::{Error, Result};

/// Bytes read at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks on their way.
const CHUNKS: usize = 4;

/// What is sent with a request.
pub(crate) type Outgoing = UnsyncBoxBody<Bytes, io::Error>;

/// What is read in a thread of its own while it is sent. It can be sent once.
#[derive(Clone)]
pub struct Upload(Arc<Mutex<Option<mpsc::Receiver<io::Result<Bytes>>>>>);

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upload").finish()
    }
}

impl Upload {
    /// Reads `source` to its end. The thread waits for input that may never come, and ends with the process.
    pub fn new(mut source: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(CHUNKS);
        std::thread::Builder::new().name("upload".into()).spawn(move || {
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let piece = match source.read(&mut chunk) {
                    Ok(0) => return,
                    Ok(length) => {
                        chunk.truncate(length);
                        Ok(chunk.into())
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let failed = piece.is_err();
                if sender.blocking_send(piece).is_err() || failed {
                    return;
                }
            }
        })?;
        Ok(Self(Arc::new(Mutex::new(Some(receiver)))))
    }

    pub(crate) fn body(&self) -> Result<Outgoing> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let receiver = taken.ok_or_else(|| Error::Protocol("what was read cannot be sent again".into()))?;
        let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
            let piece = receiver.recv().await?;
            Some((piece.map(Frame::data), receiver))
        });
        Ok(StreamBody::new(frames).boxed_unsync())
    }
}

/// A body that is all there.
pub(crate) fn whole(bytes: Bytes) -> Outgoing {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
