//! Attaching over a websocket: what the container writes as messages, without frames; what the client sends as input.

use crate::call::Call;
use crate::failure::Failure;
use crate::reply::Answer;
use api::detach::Detector;
use api::stream::{HEADER, Header};
use axum::extract::FromRequestParts;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use bytes::{Buf, Bytes, BytesMut};
use engine::containers::Attachment;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::{StatusCode, header};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;

/// What is read at once, and with that the largest message sent.
const BUFFER: usize = 32 << 10;
/// The largest message taken: what is typed or pasted is far smaller.
const MESSAGE_MAX: usize = 1 << 20;

/// Refuses what is no websocket.
pub(crate) fn check(call: &Call) -> Result<(), Failure> {
    if call.header(header::UPGRADE.as_str()).eq_ignore_ascii_case("websocket") {
        Ok(())
    } else {
        Err(Failure::invalid("bad request: the request is not a websocket handshake"))
    }
}

/// Upgrades the connection and relays.
pub(crate) async fn attach(mut call: Call, attachment: Attachment, stdin: bool, keys: Vec<u8>) -> Answer {
    let upgrade = WebSocketUpgrade::from_request_parts(&mut call.parts, &()).await.map_err(|refusal| {
        Failure::new(StatusCode::BAD_REQUEST, format!("bad websocket handshake: {}", refusal.body_text()))
    })?;
    let (sender, receiver) = oneshot::channel();
    // Before 1.28 messages were sent as text.
    let binary = call.version.from(28);
    let shutdown = call.shutdown.clone();
    call.tasks.spawn(async move {
        if let Ok(socket) = receiver.await {
            tokio::select! {
                () = relay(socket, attachment, Terms { stdin, keys, binary }) => {}
                () = shutdown.cancelled() => {}
            }
        }
    });
    Ok(upgrade.max_message_size(MESSAGE_MAX).on_upgrade(|socket| async move { drop(sender.send(socket)) }))
}

/// How the client is attached.
struct Terms {
    stdin: bool,
    keys: Vec<u8>,
    binary: bool,
}

async fn relay(socket: WebSocket, mut attachment: Attachment, terms: Terms) {
    let tty = attachment.tty;
    let (mut to_client, mut from_client) = socket.split();
    let mut plain = Plain::new(tty);
    if let Some(mut logs) = attachment.logs.take() {
        while let Some(Ok(part)) = logs.next().await {
            if send(&mut to_client, plain.push(&part), terms.binary).await.is_err() {
                return;
            }
        }
    }
    if let Some(container) = attachment.stream().await {
        let (mut from_container, to_container) = container.into_split();
        let detector = tty.then(|| Detector::new(terms.keys.clone()));
        let output = async {
            let mut buffer = vec![0; BUFFER];
            while let Ok(length @ 1..) = from_container.read(&mut buffer).await {
                if send(&mut to_client, plain.push(&buffer[..length]), terms.binary).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = output => {}
            () = feed(&mut from_client, to_container, terms.stdin, detector) => {}
        }
    }
    let _ = to_client.send(Message::Close(None)).await;
}

/// Sends output as one message.
async fn send(to: &mut SplitSink<WebSocket, Message>, bytes: Bytes, binary: bool) -> Result<(), axum::Error> {
    if bytes.is_empty() {
        return Ok(());
    }
    let message = if binary {
        Message::Binary(bytes)
    } else {
        Message::Text(String::from_utf8_lossy(&bytes).as_ref().into())
    };
    to.send(message).await
}

/// Passes messages on as input. Returns when the client has gone or detached.
async fn feed(
    from: &mut SplitStream<WebSocket>,
    to: impl AsyncWrite + Unpin,
    wanted: bool,
    mut detector: Option<Detector>,
) {
    let mut sink = wanted.then_some(to);
    let mut passed = Vec::new();
    while let Some(Ok(message)) = from.next().await {
        let typed = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        let (sent, detached) = match &mut detector {
            None => (&typed[..], false),
            Some(detector) => {
                passed.clear();
                let detached = detector.push(&typed, &mut passed);
                (&passed[..], detached)
            }
        };
        if let Some(to) = &mut sink
            && to.write_all(sent).await.is_err()
        {
            sink = None;
        }
        if detached {
            return;
        }
    }
}

/// Takes the frames off multiplexed output.
struct Plain {
    framed: bool,
    header: BytesMut,
    left: usize,
}

impl Plain {
    fn new(tty: bool) -> Self {
        Self { framed: !tty, header: BytesMut::with_capacity(HEADER), left: 0 }
    }

    /// The payload in what comes next.
    fn push(&mut self, mut bytes: &[u8]) -> Bytes {
        if !self.framed {
            return Bytes::copy_from_slice(bytes);
        }
        let mut out = BytesMut::with_capacity(bytes.len());
        while !bytes.is_empty() {
            if self.left > 0 {
                let length = self.left.min(bytes.len());
                out.extend_from_slice(&bytes[..length]);
                bytes.advance(length);
                self.left -= length;
                continue;
            }
            let length = (HEADER - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(&bytes[..length]);
            bytes.advance(length);
            if let Ok(header) = <[u8; HEADER]>::try_from(&self.header[..]) {
                self.header.clear();
                match Header::decode(header) {
                    Ok(header) => self.left = header.length as usize,
                    // What has no frames is passed on as it is.
                    Err(_) => self.framed = false,
                }
            }
        }
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::stream::{Stream, frame};

    #[test]
    fn frames_are_taken_off_wherever_they_are_cut() {
        let mut framed = Vec::new();
        frame(&mut framed, Stream::Stdout, b"hello ");
        frame(&mut framed, Stream::Stderr, b"wide ");
        frame(&mut framed, Stream::Stdout, b"world");
        for cut in 1..framed.len() {
            let mut plain = Plain::new(false);
            let mut out = Vec::new();
            for part in framed.chunks(cut) {
                out.extend_from_slice(&plain.push(part));
            }
            assert_eq!(out, b"hello wide world", "cut at {cut}");
        }
        assert_eq!(&Plain::new(true).push(b"raw")[..], b"raw");
    }
}
