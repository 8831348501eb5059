//! Relays bytes between a client and a container's (or an exec's) streams. Output is framed by its writer already and
//! passed on as it is; input is looked at for the keys that detach, where there is a terminal.

use crate::connection::hijack::Client;
use api::detach::Detector;
use engine::containers::{Attachment, LogStream};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// What is read at once: a pipe's capacity.
const BUFFER: usize = 64 << 10;
/// How long a client may go on sending when the output has ended. What it sent and nobody read would cut off the output
/// that it has not read yet.
const LINGER: Duration = Duration::from_secs(5);

/// How a client is attached.
pub(crate) struct Terms {
    /// Whether what it sends is standard input.
    pub stdin: bool,
    /// The keys that detach it, where there is a terminal.
    pub detach_keys: Option<Vec<u8>>,
    /// Tells that the daemon ends.
    pub shutdown: CancellationToken,
}

/// Why the input ended.
#[derive(Debug, PartialEq, Eq)]
enum InputEnd {
    /// The client has no more.
    End,
    /// The client typed the keys.
    Detached,
}

/// Attaches a client until the output ends, the client leaves or detaches, or the daemon ends.
pub(crate) async fn attach(client: Client, attachment: Attachment, terms: Terms) {
    let (hangup, shutdown) = (client.hangup.clone(), terms.shutdown.clone());
    tokio::select! {
        done = run(client, attachment, terms) => {
            if let Err(error) = done {
                tracing::debug!(%error, "the client left");
            }
        }
        () = hangup.wait() => {}
        () = shutdown.cancelled() => {}
    }
}

async fn run(mut client: Client, mut attachment: Attachment, terms: Terms) -> io::Result<()> {
    if let Some(logs) = attachment.logs.take() {
        replay(&mut client, logs).await?;
    }
    let Some(container) = attachment.stream().await else { return client.shutdown().await };
    let (mut from_container, to_container) = container.into_split();
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let output = pump(&mut from_container, &mut to_client);
    let input = feed(&mut from_client, to_container, terms.stdin, terms.detach_keys.map(Detector::new));
    tokio::pin!(output, input);
    let mut input_ended = false;
    loop {
        tokio::select! {
            done = &mut output => { done?; break; }
            end = &mut input, if !input_ended => match end? {
                InputEnd::Detached => {
                    attachment.detached();
                    return to_client_end(output).await;
                }
                InputEnd::End => input_ended = true,
            },
        }
    }
    if !input_ended {
        // The input's own end of the container's stream has gone with it; what still comes is thrown away.
        let _ = tokio::time::timeout(LINGER, input).await;
    }
    Ok(())
}

/// Sends what is already on its way to a client that detached, without waiting for more.
async fn to_client_end(output: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::pin!(output);
    futures_util::future::poll_immediate(output).await.unwrap_or(Ok(()))
}

/// Sends a log.
async fn replay(client: &mut Client, mut logs: LogStream) -> io::Result<()> {
    while let Some(part) = logs.next().await {
        match part {
            Ok(part) => client.write_all(&part).await?,
            Err(error) => {
                tracing::warn!(error = error.chain(), "cannot replay the log");
                break;
            }
        }
    }
    Ok(())
}

/// Copies output, and ends it.
async fn pump(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer).await {
            // A stream whose input nobody read any more ends with a reset, an end like another.
            Ok(0) | Err(_) => break,
            Ok(length) => to.write_all(&buffer[..length]).await?,
        }
        to.flush().await?;
    }
    to.shutdown().await
}

/// Copies input, and ends it.
async fn feed(
    from: &mut (impl AsyncRead + Unpin),
    to: impl AsyncWrite + Unpin,
    wanted: bool,
    mut detector: Option<Detector>,
) -> io::Result<InputEnd> {
    let mut buffer = vec![0; BUFFER];
    let mut passed = Vec::new();
    // Without standard input the container's stream is never written and never ended.
    let mut sink = wanted.then_some(to);
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        let typed = &buffer[..length];
        let (send, detached) = match &mut detector {
            None => (typed, false),
            Some(detector) => {
                passed.clear();
                let detached = detector.push(typed, &mut passed);
                (&passed[..], detached)
            }
        };
        if let Some(to) = &mut sink
            && to.write_all(send).await.is_err()
        {
            // The program has closed its input; its output goes on.
            sink = None;
        }
        if detached {
            return Ok(InputEnd::Detached);
        }
    }
    if let Some(mut to) = sink {
        if let Some(detector) = &detector {
            let _ = to.write_all(detector.held()).await;
        }
        let _ = to.shutdown().await;
    }
    Ok(InputEnd::End)
}
