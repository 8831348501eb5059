//! What comes over the net on its way to the disk: written by a thread that may block, into a file without a name.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bytes::Bytes;
use oci::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::blocking;
use crate::error::{Error, Result};

/// Pieces on their way: while one is written the next ones come.
const PIECES_MAX: usize = 16;

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Spool {
    what: String,
    pieces: mpsc::Sender<Bytes>,
    written: JoinHandle<Result<(File, Digest)>>,
    bytes: u64,
    bytes_max: u64,
}

impl Spool {
    /// Begins one on the disk of a directory, for `what` is to be told as.
    pub fn new(directory: &Path, what: &str, bytes_max: u64) -> Self {
        let (pieces, coming) = mpsc::channel(PIECES_MAX);
        let (directory, told) = (directory.to_owned(), what.to_owned());
        let written = tokio::spawn(blocking::run_paced("keep what is fetched", move || {
            write(&directory, coming).map_err(|e| Error::system(format!("cannot keep {told}")).with_source(e))
        }));
        Self { what: what.to_owned(), pieces, written, bytes: 0, bytes_max }
    }

    /// Takes a piece, when there is room for it.
    pub async fn take(&mut self, piece: Bytes) -> Result<()> {
        self.bytes += piece.len() as u64;
        if self.bytes > self.bytes_max {
            return Err(Error::invalid(format!("{} has more than {} bytes", self.what, self.bytes_max)));
        }
        if self.pieces.send(piece).await.is_ok() {
            return Ok(());
        }
        // Who writes has gone: its end says why.
        match (&mut self.written).await {
            Ok(Err(error)) => Err(error),
            _ => Err(Error::system(format!("a bug: nobody keeps {}", self.what))),
        }
    }

    /// All of it, and its digest.
    pub async fn finish(self) -> Result<(File, Digest)> {
        drop(self.pieces);
        let panicked = |e| Error::system("a bug: keeping what is fetched panicked").with_source(e);
        self.written.await.map_err(panicked)?
    }
}

fn write(directory: &Path, mut coming: mpsc::Receiver<Bytes>) -> std::io::Result<(File, Digest)> {
    // It goes with its last descriptor.
    let flags = rustix::fs::OFlags::TMPFILE.bits().cast_signed();
    let mut file = File::options().read(true).write(true).mode(0o600).custom_flags(flags).open(directory)?;
    // While it comes: nobody reads gigabytes a second time to know them.
    let mut hasher = Sha256::new();
    while let Some(piece) = coming.blocking_recv() {
        hasher.update(&piece);
        file.write_all(&piece)?;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok((file, Digest::from_sha256(hasher.finalize().into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[tokio::test]
    async fn what_comes_is_written_and_known() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(dir.path(), "it", 100);
        for _ in 0..50 {
            spool.take(Bytes::from_static(b"ab")).await.unwrap();
        }
        let (mut file, digest) = spool.finish().await.unwrap();
        let mut text = Vec::new();
        file.read_to_end(&mut text).unwrap();
        assert_eq!(text, b"ab".repeat(50));
        assert_eq!(digest, Digest::from_sha256(Sha256::digest(&text).into()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut spool = Spool::new(dir.path(), "it", 3);
        spool.take(Bytes::from_static(b"ab")).await.unwrap();
        let error = spool.take(Bytes::from_static(b"ab")).await.unwrap_err();
        assert_eq!(error.to_string(), "it has more than 3 bytes");
        // A disk that does not take it is told of soon, and nobody waits for ever.
        let mut spool = Spool::new(&dir.path().join("nowhere"), "it", 1 << 20);
        let error = loop {
            if let Err(error) = spool.take(Bytes::from_static(b"ab")).await {
                break error;
            }
        };
        assert_eq!(error.to_string(), "cannot keep it");
    }
}
