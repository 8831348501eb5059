//! Telling how a step goes. Whoever listens may be slow, which the build waits for, or gone, which it does not mind.

use std::time::SystemTime;

use build::progress::{End, Event, Status, Stream, Teller};
use oci::Digest;

/// Who tells of one step.
#[derive(Debug, Clone)]
pub(super) struct Voice {
    teller: Teller,
    vertex: Digest,
}

impl Voice {
    pub fn new(teller: Teller, vertex: Digest) -> Self {
        Self { teller, vertex }
    }

    async fn tell(&self, event: Event) {
        // Nobody listens: the build goes on, or is given up by whoever waits for it.
        let _ = self.teller.send(event).await;
    }

    /// It begins.
    pub async fn started(&self) {
        self.tell(Event::Started { vertex: self.vertex.clone(), at: SystemTime::now() }).await;
    }

    /// It has said something.
    pub async fn log(&self, stream: Stream, bytes: Vec<u8>) {
        self.tell(Event::Log { vertex: self.vertex.clone(), stream, bytes, at: SystemTime::now() }).await;
    }

    /// A part of it has gone on.
    pub async fn status(
        &self,
        id: &str,
        name: &str,
        (current, total): (u64, u64),
        started: SystemTime,
        done: bool,
    ) {
        self.tell(Event::Status(Status {
            vertex: self.vertex.clone(),
            id: id.to_owned(),
            name: name.to_owned(),
            current,
            total,
            started,
            completed: done.then(SystemTime::now),
        }))
        .await;
    }

    /// It has ended.
    pub async fn done(&self, end: End) {
        self.tell(Event::Done { vertex: self.vertex.clone(), end, at: SystemTime::now() }).await;
    }
}
