//! One layer on its way in. Whoever wants it holds the flight; when nobody does, it ends.
//!
//! ```text
//!  task                                  thread
//!  wait for a turn
//!                 <---- offset --------  store.write_layer
//!  GET, from offset
//!  chunks -------- bounded channel --->  writer.write: file, digest, decompression, untar in one pass
//!  end ------------------------------->  writer.commit
//! ```
//! The channel closing without an end means that the flight was given up: what is there stays for the next.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use oci::Digest;
use oci::image::Descriptor;
use storage::{LayerWriter, Lease, Store};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::{Inner, Step, expected};
use crate::client::Repository;
use crate::error::{Error, Result};

/// Chunks between the network and the store: reads of a socket are some 16 kB, so this is less than a megabyte a layer.
const CHUNKS: usize = 32;
/// How long an earlier flight of the same layer may take to put away its things.
const SETTLE_TIME: Duration = Duration::from_secs(60);

/// How far a flight is.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    Pending,
    Waiting,
    Downloading(u64),
    Verifying,
    Done(Result<()>),
}

impl Phase {
    fn rank(&self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Waiting => 1,
            Self::Downloading(_) => 2,
            Self::Verifying => 3,
            Self::Done(_) => 4,
        }
    }

    /// What to tell when a flight that was here last time is now at `next`.
    pub(super) fn steps_to(&self, next: &Self, total: u64) -> Vec<Step> {
        match next {
            Self::Waiting if self.rank() < next.rank() => vec![Step::Waiting],
            Self::Downloading(current) => vec![Step::Downloading { current: *current, total }],
            Self::Verifying if self.rank() < next.rank() => {
                vec![Step::Downloading { current: total, total }, Step::Verifying]
            }
            _ => Vec::new(),
        }
    }

    /// What is left to tell when it has arrived.
    pub(super) fn rest(&self, total: u64) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.rank() < 3 {
            steps.extend([Step::Downloading { current: total, total }, Step::Verifying]);
        }
        steps.extend([Step::Downloaded, Step::Extracting { current: total, total }, Step::Complete]);
        steps
    }
}

/// One layer on its way in.
pub(super) struct Flight {
    phase: watch::Receiver<Phase>,
    task: JoinHandle<()>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Flight {
    /// Joins the flight of this layer, or starts it; whether it was started here.
    pub(super) fn join(
        inner: &Arc<Inner>,
        repository: &Arc<Repository>,
        lease: &Arc<Lease>,
        descriptor: &Descriptor,
        diff_id: &Digest,
    ) -> (Arc<Self>, bool) {
        let mut flights = match inner.flights.lock() {
            Ok(flights) => flights,
            Err(poisoned) => poisoned.into_inner(),
        };
        flights.retain(|_, flight| flight.strong_count() > 0);
        let known = flights.get(&descriptor.digest).and_then(Weak::upgrade);
        if let Some(flight) = known
            && !matches!(*flight.phase.borrow(), Phase::Done(_))
        {
            return (flight, false);
        }
        let (sender, phase) = watch::channel(Phase::Pending);
        let journey = Journey {
            inner: inner.clone(),
            repository: repository.clone(),
            lease: lease.clone(),
            descriptor: descriptor.clone(),
            diff_id: diff_id.clone(),
            phase: sender,
        };
        let task = tokio::spawn(async move {
            let outcome = journey.travel().await;
            journey.phase.send_replace(Phase::Done(outcome));
        });
        let flight = Arc::new(Self { phase, task });
        flights.insert(descriptor.digest.clone(), Arc::downgrade(&flight));
        (flight, true)
    }

    pub(super) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }
}

/// What a flight's task knows.
struct Journey {
    inner: Arc<Inner>,
    repository: Arc<Repository>,
    lease: Arc<Lease>,
    descriptor: Descriptor,
    diff_id: Digest,
    phase: watch::Sender<Phase>,
}

/// What the thread is sent.
enum Cargo {
    Bytes(Bytes),
    End,
}

/// What the thread found when it opened the layer.
enum Opened {
    /// Bytes that are there already.
    At(u64),
    /// All of it is there.
    Exists,
}

impl Journey {
    async fn travel(&self) -> Result<()> {
        let (resumed, error) = match self.fetch().await {
            Ok(()) => return Ok(()),
            Err((resumed, error)) => (resumed, error),
        };
        // What an earlier try left may have been damaged with the machine's power; it is gone by now, so once more.
        let damaged = match &error {
            Error::Layer(cause) => {
                matches!(**cause, storage::Error::DigestMismatch { .. } | storage::Error::InvalidLayer { .. })
            }
            _ => false,
        };
        if resumed && damaged {
            tracing::warn!(layer = %self.descriptor.digest, "a half-finished download was damaged; beginning anew");
            return self.fetch().await.map_err(|(_, error)| error);
        }
        Err(error)
    }

    /// Downloads and unpacks; with an error comes whether something of an earlier try was used.
    async fn fetch(&self) -> std::result::Result<(), (bool, Error)> {
        let fresh = |error| (false, error);
        if self.inner.downloads.available_permits() == 0 {
            self.phase.send_replace(Phase::Waiting);
        }
        let _turn = self.inner.downloads.acquire().await.map_err(|_| fresh(Error::Cancelled))?;
        let (cargo, received) = mpsc::channel(CHUNKS);
        let (report, opened) = oneshot::channel();
        let (store, lease) = (self.inner.store.clone(), self.lease.clone());
        let (descriptor, diff_id) = (self.descriptor.clone(), self.diff_id.clone());
        let thread = tokio::task::spawn_blocking(move || {
            land(&store, &lease, &descriptor, &diff_id, report, received)
        });
        let offset = match opened.await {
            Ok(Opened::At(offset)) => offset,
            Ok(Opened::Exists) => {
                self.phase.send_replace(Phase::Verifying);
                return finished(thread).await.map_err(fresh);
            }
            Err(_) => {
                let error = finished(thread).await.err().unwrap_or(Error::Cancelled);
                return Err(fresh(error));
            }
        };
        let resumed = offset > 0;
        let downloaded = self.download(offset, &cargo).await;
        match downloaded {
            Ok(true) => {
                self.phase.send_replace(Phase::Verifying);
                let _ = cargo.send(Cargo::End).await;
                drop(cargo);
                finished(thread).await.map_err(|error| (resumed, error))
            }
            // The thread has given up: it knows why.
            Ok(false) => {
                drop(cargo);
                let error = finished(thread).await.err().unwrap_or(Error::Cancelled);
                Err((resumed, error))
            }
            Err(error) => {
                drop(cargo);
                // Its files are closed when this returns, so that the next try finds them.
                let _ = finished(thread).await;
                Err((resumed, error))
            }
        }
    }

    /// Sends all bytes from `offset` on to the thread; false if it does not want them.
    async fn download(&self, offset: u64, cargo: &mpsc::Sender<Cargo>) -> Result<bool> {
        let mut blob = self.repository.blob(&self.descriptor, offset)?;
        self.phase.send_replace(Phase::Downloading(offset));
        while let Some(bytes) = blob.chunk().await? {
            if cargo.send(Cargo::Bytes(bytes)).await.is_err() {
                return Ok(false);
            }
            self.phase.send_replace(Phase::Downloading(blob.offset()));
        }
        Ok(true)
    }
}

async fn finished(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread.await.unwrap_or(Err(Error::Cancelled))
}

fn layer_error(error: storage::Error) -> Error {
    Error::Layer(Arc::new(error))
}

/// The thread's work: takes what comes into the store.
fn land(
    store: &Store,
    lease: &Lease,
    descriptor: &Descriptor,
    diff_id: &Digest,
    report: oneshot::Sender<Opened>,
    mut cargo: mpsc::Receiver<Cargo>,
) -> Result<()> {
    let Some(mut writer) = open(store, lease, descriptor)? else {
        let _ = report.send(Opened::Exists);
        store.unpack_blob(lease, &descriptor.digest, Some(diff_id)).map_err(layer_error)?;
        return Ok(());
    };
    if report.send(Opened::At(writer.offset())).is_err() {
        return Err(Error::Cancelled);
    }
    while let Some(next) = cargo.blocking_recv() {
        match next {
            Cargo::Bytes(bytes) => writer.write(&bytes).map_err(layer_error)?,
            Cargo::End => {
                writer.commit(Some(diff_id)).map_err(layer_error)?;
                return Ok(());
            }
        }
    }
    Err(Error::Cancelled)
}

/// A writer of the layer; none if its bytes are all here.
fn open(store: &Store, lease: &Lease, descriptor: &Descriptor) -> Result<Option<LayerWriter>> {
    loop {
        match store.write_layer(lease, expected(descriptor)) {
            Ok(writer) => return Ok(Some(writer)),
            Err(storage::Error::Exists { .. }) => return Ok(None),
            Err(error @ storage::Error::Busy { .. }) => {
                if !store.wait_until_idle(&descriptor.digest, SETTLE_TIME) {
                    return Err(layer_error(error));
                }
            }
            Err(error) => return Err(layer_error(error)),
        }
    }
}
