//! One control connection: requests out, answers to those who asked, events to the one who listens.

use std::collections::HashMap;
use std::path::PathBuf;

use bytes::{Buf, BytesMut};
use shim::wire::{EVENT, Exit, Frame, Malformed, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::{REQUESTS, Request, Shim};

/// The number of the first request of a connection; 0 is for events.
pub(super) const FIRST: u32 = 1;

/// Events that wait for their listener: one for every exec that a supervisor allows, and some. When more wait, the
/// supervisor does.
const EVENTS: usize = 2048;

/// What happens to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The container has ended; its log is complete.
    Exited(Exit),
    /// An exec has ended.
    ExecExited {
        /// Which.
        id: String,
        /// How.
        exit: Exit,
    },
    /// The kernel killed something in the container for want of memory.
    Oom,
    /// The supervisor does not answer any more. Without an [`Event::Exited`] before, it was killed.
    Gone,
}

/// The events of one container, in order.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Event>);

impl Events {
    /// The next event; [`Event::Gone`] is the last, and after it there is `None`.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

/// Takes over a connection on which the hellos are exchanged. `asked` is a request that is already on its way.
pub(super) fn begin(
    dir: PathBuf,
    version: u16,
    stream: UnixStream,
    asked: Option<u32>,
) -> (Shim, Events, oneshot::Receiver<Message>) {
    let (requests, incoming) = mpsc::channel(REQUESTS);
    let (events, listener) = mpsc::channel(EVENTS);
    let (answer, receiver) = oneshot::channel();
    let waiting = asked.map(|id| (id, answer)).into_iter().collect();
    let conversation = Conversation { stream, waiting, next: FIRST + 1, events };
    tokio::spawn(conversation.run(incoming));
    (Shim { dir, version, requests }, Events(listener), receiver)
}

struct Conversation {
    stream: UnixStream,
    waiting: HashMap<u32, oneshot::Sender<Message>>,
    next: u32,
    events: mpsc::Sender<Event>,
}

impl Conversation {
    async fn run(mut self, mut incoming: mpsc::Receiver<Request>) {
        let mut input = BytesMut::new();
        let mut open = true;
        loop {
            tokio::select! {
                request = incoming.recv(), if open => match request {
                    Some(request) => if self.ask(request).await.is_err() { break },
                    // Nobody asks any more; events may still be listened to.
                    None => open = false,
                },
                () = self.events.closed(), if !open => return,
                read = self.stream.read_buf(&mut input) => {
                    if !matches!(read, Ok(n) if n > 0) {
                        break;
                    }
                    if let Err(malformed) = self.take(&mut input).await {
                        tracing::error!(error = %malformed, "a supervisor sent what is not understood");
                        break;
                    }
                }
            }
        }
        let _ = self.events.send(Event::Gone).await;
    }

    async fn ask(&mut self, request: Request) -> Result<(), std::io::Error> {
        let id = self.next;
        self.next = self.next.checked_add(1).unwrap_or(FIRST);
        let mut bytes = Vec::new();
        match (Frame { id, message: request.message }).encode(&mut bytes) {
            Ok(()) => {
                self.waiting.retain(|_, answer| !answer.is_closed());
                self.waiting.insert(id, request.answer);
                self.stream.write_all(&bytes).await
            }
            Err(malformed) => {
                let failure = shim::wire::Failure {
                    stage: shim::wire::Stage::Request,
                    errno: 0,
                    code: 125,
                    text: malformed.to_string(),
                };
                let _ = request.answer.send(Message::Failed(failure));
                Ok(())
            }
        }
    }

    /// Understands all whole frames of the input.
    async fn take(&mut self, input: &mut BytesMut) -> Result<(), Malformed> {
        while let Some(length) = Frame::length(input)?.filter(|length| input.len() >= *length) {
            let frame = Frame::decode(&input[..length])?;
            input.advance(length);
            match frame.message {
                message if frame.id != EVENT => {
                    if let Some(answer) = self.waiting.remove(&frame.id) {
                        let _ = answer.send(message);
                    }
                }
                Message::Exited(exit) => self.tell(Event::Exited(exit)).await,
                Message::ExecExited { id, exit } => self.tell(Event::ExecExited { id, exit }).await,
                Message::Oom => self.tell(Event::Oom).await,
                other => return Err(Malformed::Unknown(other.tag())),
            }
        }
        Ok(())
    }

    async fn tell(&self, event: Event) {
        // Nobody listens: nobody needs to know.
        let _ = self.events.send(event).await;
    }
}
