//! Streams, passed on within the kernel: from one socket into a pipe, and from there into the other.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{Shutdown, sockopt};
use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::outgoing::{self, Target};
use crate::firewall::Protocol;

/// How many connections wait to be accepted, as far as `net.core.somaxconn` goes.
const BACKLOG: i32 = 4096;
/// A container that does not answer for this long is not there.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// How much is on its way within a pipe.
const PIPE_BYTES: usize = 256 << 10;
/// How much goes into a pipe at once: all it holds.
const PIECE: usize = PIPE_BYTES;
/// So many pieces, then others' turn comes.
const PIECES: usize = 16;
/// How many pipes are kept for those who need them next.
const PIPES_KEPT: usize = 64;
/// Before a failing listener is tried again.
const RECOVERY: Duration = Duration::from_millis(100);
/// A client that has gone without a word is found out after some two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_COUNT: u32 = 4;

/// Both ends of a pipe, empty.
#[derive(Debug)]
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

/// Pipes that nobody uses. A connection on which nothing is being said has none.
#[derive(Debug, Default)]
pub(super) struct Pipes(RefCell<Vec<Pipe>>);

impl Pipes {
    fn take(&self) -> io::Result<Pipe> {
        if let Some(pipe) = self.0.borrow_mut().pop() {
            return Ok(pipe);
        }
        let (out, into) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A smaller one does as well.
        let _ = rustix::pipe::fcntl_setpipe_size(&into, PIPE_BYTES);
        Ok(Pipe { out, into })
    }

    fn put(&self, pipe: Pipe) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < PIPES_KEPT {
            kept.push(pipe);
        }
    }
}

pub(super) fn listener(socket: OwnedFd) -> io::Result<TcpListener> {
    // What only held a port had no room for more than one.
    rustix::net::listen(&socket, BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts connections, for ever; those that are there end with it.
pub(super) async fn serve(shared: Rc<Shared>, listener: TcpListener, target: Target) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < shared.connections_each => match accepted {
                Ok((stream, client)) if shared.refuses(&stream, client, 0) => reset(&stream),
                Ok((stream, client)) => {
                    // Whoever comes when there are too many waits.
                    let Ok(permit) = shared.connections.clone().acquire_owned().await else { return };
                    let target = shared.target(target, client);
                    let shared = shared.clone();
                    connections.spawn_local(async move {
                        attend(&shared, stream, client, target).await;
                        drop(permit);
                    });
                }
                Err(_) => sleep(RECOVERY).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, to its end.
async fn attend(shared: &Shared, client: TcpStream, address: SocketAddr, target: Target) {
    let Ok(Ok(server)) = timeout(CONNECT_WAIT, connect(target, address)).await else {
        // As if it had been refused by the container itself.
        return reset(&client);
    };
    let _ = prepare(&client).and_then(|()| prepare(&server));
    let both = async {
        tokio::try_join!(pass(&shared.pipes, &client, &server), pass(&shared.pipes, &server, &client))
    };
    // Also while one waits for the other: who has broken it off says so where nobody reads.
    let broken = async {
        tokio::select! {
            _ = client.ready(Interest::ERROR) => {}
            _ = server.ready(Interest::ERROR) => {}
        }
    };
    let ended = tokio::select! {
        ended = both => ended.is_ok(),
        () = broken => false,
    };
    if !ended {
        // What one of them has broken off ends in the same way for the other.
        reset(&client);
        reset(&server);
    }
}

async fn connect(target: Target, client: SocketAddr) -> io::Result<TcpStream> {
    let socket = outgoing::connect(Protocol::Tcp, target, client)?;
    let stream = TcpStream::from_std(socket.into())?;
    stream.writable().await?;
    stream.take_error()?.map_or(Ok(stream), Err)
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_COUNT)?;
    Ok(sockopt::set_socket_keepalive(stream, true)?)
}

/// It ends without the words of a good end.
fn reset(stream: &TcpStream) {
    let _ = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

/// Passes on what one says, until it has said all.
async fn pass(pipes: &Pipes, from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    loop {
        from.readable().await?;
        let pipe = pipes.take()?;
        let more = pass_some(&pipe, from, to).await?;
        pipes.put(pipe);
        if !more {
            // That was all: the other may still have something to say.
            return match rustix::net::shutdown(to, Shutdown::Write) {
                Err(error) if error != Errno::NOTCONN => Err(error.into()),
                _ => Ok(()),
            };
        }
        tokio::task::yield_now().await;
    }
}

/// Passes on what is there, up to a bound; `false` if nothing more will come. The pipe is empty then.
async fn pass_some(pipe: &Pipe, from: &TcpStream, to: &TcpStream) -> io::Result<bool> {
    for _ in 0..PIECES {
        let mut left = match from.try_io(Interest::READABLE, || splice(from, &pipe.into, PIECE)) {
            Ok(0) => return Ok(false),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        while left > 0 {
            let written = to.async_io(Interest::WRITABLE, || splice(&pipe.out, to, left)).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            left -= written;
        }
    }
    Ok(true)
}

fn splice(from: impl AsFd, into: impl AsFd, length: usize) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(rustix::io::retry_on_intr(|| {
        rustix::pipe::splice(from.as_fd(), None, into.as_fd(), None, length, flags)
    })?)
}
