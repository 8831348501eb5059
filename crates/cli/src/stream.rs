//! The conversation with a process: its output to ours, our input to its.
//!
//! ```text
//!   stdin --thread--> channel --detach keys--> socket      ends: half-close
//!   socket --frames--> stdout, stderr                      ends: the process is done
//! ```

use api::detach::Detector;
use api::stream::{HEADER, Header, Stream};
use bytes::{Buf, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Read;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::session::output_failed;
use crate::terminal::Raw;

/// One read from the daemon or from standard input.
const CHUNK_BYTES: usize = 64 << 10;
/// What a pipe takes without blocking once it says that it is writable (PIPE_BUF).
const PIPE_BYTES: usize = 4096;
/// A daemon that does not end the stream at the detach keys is left after this long.
const DETACH_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);
/// Chunks of input that wait for the daemon; more stay in the kernel.
const INPUT_CHUNKS_MAX: usize = 4;

/// How a conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The output has ended.
    Output,
    /// The user typed the detach keys.
    Detached,
}

/// What is connected.
#[derive(Debug, Clone, Default)]
pub struct Streams {
    /// Our input goes to the process.
    pub stdin: bool,
    /// Its output comes to ours.
    pub output: bool,
    /// It has a terminal: no frames, and ours is raw while input goes there.
    pub tty: bool,
    /// The keys that leave it; empty for the usual ones.
    pub detach_keys: String,
}

/// Which of ours an output goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sink {
    Stdout,
    Stderr,
}

impl Sink {
    fn fd(self) -> BorrowedFd<'static> {
        match self {
            Self::Stdout => rustix::stdio::stdout(),
            Self::Stderr => rustix::stdio::stderr(),
        }
    }

    /// Writes without holding up the event loop: a reader that is slow must not keep signals from the process.
    async fn write(self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if !writable(self.fd(), Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
                let waited = tokio::task::spawn_blocking(move || writable(self.fd(), None)).await;
                if waited.is_err() {
                    return Err(Error::say("waiting for standard output failed"));
                }
            }
            let piece = &bytes[..bytes.len().min(PIPE_BYTES)];
            let written = match self {
                Self::Stdout => {
                    rustix::io::retry_on_intr(|| rustix::io::write(rustix::stdio::stdout(), piece))
                }
                Self::Stderr => {
                    rustix::io::retry_on_intr(|| rustix::io::write(rustix::stdio::stderr(), piece))
                }
            };
            match written {
                Ok(count) => bytes = &bytes[count..],
                Err(rustix::io::Errno::AGAIN) => {}
                Err(errno) => return Err(output_failed(errno.into())),
            }
        }
        Ok(())
    }
}

fn writable(fd: BorrowedFd<'_>, timeout: Option<&Timespec>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    matches!(poll(&mut fds, timeout), Ok(ready) if ready > 0)
}

/// Talks until the output has ended or the user leaves.
pub async fn converse<S: AsyncRead + AsyncWrite + Unpin>(stream: S, streams: &Streams) -> Result<Ended> {
    let (mut read, write) = tokio::io::split(stream);
    let raw = (streams.tty && streams.stdin && crate::terminal::stdin_is_terminal())
        .then(Raw::enter)
        .transpose()?;
    let input = async { if streams.stdin { send_input(write, streams).await } else { hold(write).await } };
    let output = async {
        if !streams.output {
            // Nothing is to be shown, but the end of the stream is still the end of the conversation.
            return drain(&mut read).await;
        }
        if streams.tty { copy_raw(&mut read).await } else { copy_frames(&mut read).await }
    };
    tokio::pin!(input, output);
    let ended = tokio::select! {
        // What has been printed comes before a detach that was typed at the same time.
        biased;
        done = &mut output => done.map(|()| Ended::Output),
        _detach = &mut input => {
            // The daemon has the keys too and ends the stream behind what was typed before them. Closing it from
            // this side, with output unread, could take that input with it.
            let _ = tokio::time::timeout(DETACH_TIMEOUT, &mut output).await;
            Ok(Ended::Detached)
        }
    };
    drop(raw);
    ended
}

/// The input ended by detach keys; an input that ends otherwise waits for the output.
struct Detach;

/// Keeps the writing half open and does nothing with it.
async fn hold<W>(write: W) -> Detach {
    std::future::pending::<()>().await;
    drop(write);
    Detach
}

async fn send_input<W: AsyncWrite + Unpin>(mut write: W, streams: &Streams) -> Detach {
    let mut chunks = read_stdin();
    let keys = api::detach::parse(&streams.detach_keys).ok().filter(|keys| !keys.is_empty());
    let keys = keys.unwrap_or_else(|| api::detach::DEFAULT.to_vec());
    let mut detector = streams.tty.then(|| Detector::new(keys.clone()));
    let mut typed = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        let bytes = match &mut detector {
            None => &chunk,
            Some(detector) => {
                typed.clear();
                let detached = detector.push(&chunk, &mut typed);
                if detached {
                    typed.extend_from_slice(&keys);
                    let _ = write.write_all(&typed).await;
                    let _ = write.flush().await;
                    return Detach;
                }
                &typed
            }
        };
        // The process has closed its input, or is gone: what follows is its output's to tell.
        if write.write_all(bytes).await.is_err() || write.flush().await.is_err() {
            break;
        }
    }
    if let Some(detector) = &detector {
        let _ = write.write_all(detector.held()).await;
    }
    let _ = write.shutdown().await;
    hold(write).await
}

/// Standard input, read on a thread: it may be a file, a pipe or a terminal, and only a thread can wait for all
/// of them without changing the file's flags for the programs that share it.
fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(INPUT_CHUNKS_MAX);
    std::thread::spawn(move || {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            match std::io::stdin().lock().read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                        return;
                    }
                }
                Err(err) if err.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    receiver
}

fn broken(err: std::io::Error) -> Error {
    Error::Message(format!("the connection to the daemon broke: {err}"))
}

async fn drain<R: AsyncRead + Unpin>(read: &mut R) -> Result<()> {
    let mut buffer = vec![0; PIPE_BYTES];
    while read.read(&mut buffer).await.map_err(broken)? > 0 {}
    Ok(())
}

/// Copies an output without frames.
pub async fn copy_raw<R: AsyncRead + Unpin>(read: &mut R) -> Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = read.read(&mut buffer).await.map_err(broken)?;
        if count == 0 {
            return Ok(());
        }
        Sink::Stdout.write(&buffer[..count]).await?;
    }
}

/// Copies an output in frames.
pub async fn copy_frames<R: AsyncRead + Unpin>(read: &mut R) -> Result<()> {
    let mut frames = Frames::default();
    let mut buffer = BytesMut::with_capacity(CHUNK_BYTES);
    loop {
        buffer.reserve(CHUNK_BYTES);
        if read.read_buf(&mut buffer).await.map_err(broken)? == 0 {
            return frames.end(&buffer);
        }
        frames.write(&mut buffer).await?;
    }
}

/// Takes frames apart as they come.
#[derive(Debug, Default)]
pub struct Frames {
    left: usize,
    stream: Option<Stream>,
    system: Vec<u8>,
    /// What is to be written next. Lines of a log are frames of their own, and too short for a system call each.
    gathered: Vec<u8>,
}

impl Frames {
    /// Writes all that is whole, and takes it from the buffer.
    pub async fn write(&mut self, buffer: &mut BytesMut) -> Result<()> {
        let mut at = 0;
        let mut sink = Sink::Stdout;
        loop {
            let piece = self.piece(buffer, &mut at);
            let next = match &piece {
                Ok(Some((Stream::Stderr, _))) => Sink::Stderr,
                Ok(Some((Stream::Stdin | Stream::Stdout, _))) => Sink::Stdout,
                _ => sink,
            };
            // What came before an error of the daemon, or before the end of what is there, is shown first.
            let more = matches!(piece, Ok(Some((Stream::Stdin | Stream::Stdout | Stream::Stderr, _))));
            if (next != sink || !more) && !self.gathered.is_empty() {
                sink.write(&self.gathered).await?;
                self.gathered.clear();
            }
            sink = next;
            match piece? {
                None => break,
                Some((Stream::System, piece)) => self.complain(&buffer[piece])?,
                Some((_, piece)) => self.gathered.extend_from_slice(&buffer[piece]),
            }
        }
        buffer.advance(at);
        Ok(())
    }

    /// Takes in a piece of the daemon's own words.
    fn complain(&mut self, piece: &[u8]) -> Result<()> {
        /// A daemon's own error is a line.
        const SYSTEM_BYTES_MAX: usize = 64 << 10;
        if self.system.len() + piece.len() > SYSTEM_BYTES_MAX {
            return Err(Error::say("the daemon's error in the stream is too long"));
        }
        self.system.extend_from_slice(piece);
        if self.left > 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&self.system).trim().to_owned();
        Err(Error::Message(format!("error from daemon in stream: {text}")))
    }

    /// The next piece of a frame's payload in `bytes`, from `at` on.
    fn piece(&mut self, bytes: &[u8], at: &mut usize) -> Result<Option<(Stream, Range<usize>)>> {
        while self.left == 0 {
            let Some(header) = bytes[*at..].first_chunk::<HEADER>() else { return Ok(None) };
            let header = Header::decode(*header).map_err(|err| Error::Message(err.to_string()))?;
            *at += HEADER;
            self.left = header.length as usize;
            self.stream = Some(header.stream);
        }
        let Some(stream) = self.stream.filter(|_| *at < bytes.len()) else { return Ok(None) };
        let piece = *at..*at + self.left.min(bytes.len() - *at);
        self.left -= piece.len();
        *at = piece.end;
        Ok(Some((stream, piece)))
    }

    fn end(&self, rest: &[u8]) -> Result<()> {
        if self.left > 0 || !rest.is_empty() {
            return Err(Error::say("unexpected EOF"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_may_be_cut_anywhere() {
        let mut whole = Vec::new();
        api::stream::frame(&mut whole, Stream::Stdout, b"hello");
        api::stream::frame(&mut whole, Stream::Stderr, b"");
        api::stream::frame(&mut whole, Stream::Stderr, b"oh");
        for step in 1..whole.len() {
            let mut frames = Frames::default();
            let mut buffer = BytesMut::new();
            let (mut out, mut err) = (Vec::new(), Vec::new());
            for part in whole.chunks(step) {
                buffer.extend_from_slice(part);
                let mut at = 0;
                while let Some((stream, piece)) = frames.piece(&buffer, &mut at).unwrap() {
                    let to = if stream == Stream::Stdout { &mut out } else { &mut err };
                    to.extend_from_slice(&buffer[piece]);
                }
                buffer.advance(at);
            }
            frames.end(&buffer).unwrap();
            assert_eq!((out.as_slice(), err.as_slice()), (&b"hello"[..], &b"oh"[..]), "{step}");
        }
    }

    #[test]
    fn a_stream_cut_in_a_frame_is_an_error() {
        let mut frames = Frames::default();
        let bytes = [1u8, 0, 0, 0, 0, 0, 0, 9, b'x'];
        let mut at = 0;
        while frames.piece(&bytes, &mut at).unwrap().is_some() {}
        assert!(frames.end(&bytes[at..]).is_err());
    }
}
