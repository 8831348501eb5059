//! A way to a receiver: a connection, or datagrams.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};
use tokio_rustls::TlsConnector;

use super::Stopped;
use crate::logging::address::Address;
use crate::logging::{names, tls};

/// What is written at once: a record of TLS. Who takes so much within its patience is slow, not away.
const PIECE_BYTES: usize = 16 << 10;
/// What may wait in the kernel, which takes twice that for its own needs.
const SEND_BYTES: usize = 64 << 10;

/// A connection of any kind.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug> Stream for T {}

/// A way to a receiver.
#[derive(Debug)]
pub enum Connection {
    /// A connection.
    Stream(Box<dyn Stream>),
    /// Datagrams over the network.
    Udp(UdpSocket),
    /// Datagrams on this machine.
    Unixgram(UnixDatagram),
}

/// Fails what takes too long.
pub async fn within<T>(patience: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(patience, what).await.unwrap_or_else(|_| Err(late(patience)))
}

fn late(patience: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {} seconds", patience.as_secs()))
}

/// Whether the other side has ended a connection: it takes a first write all the same.
fn hung_up(stream: &mut Box<dyn Stream>) -> bool {
    let mut nothing = [0; 1];
    let ended = futures_util::FutureExt::now_or_never(stream.read(&mut nothing));
    matches!(ended, Some(Ok(0) | Err(_)))
}

async fn write_piece(stream: &mut Box<dyn Stream>, piece: &[u8]) -> io::Result<usize> {
    let written = stream.write(piece).await?;
    // What encrypts keeps what it could not write yet.
    stream.flush().await?;
    if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
}

async fn write_all(
    stream: &mut Box<dyn Stream>,
    messages: &[Vec<u8>],
    patience: Duration,
) -> Result<(), Stopped> {
    if hung_up(stream) {
        let gone = io::Error::new(io::ErrorKind::ConnectionReset, "the receiver has hung up");
        return Err(Stopped { taken: 0, source: gone });
    }
    for (whole, message) in messages.iter().enumerate() {
        let mut left = message.as_slice();
        while !left.is_empty() {
            let piece = &left[..left.len().min(PIECE_BYTES)];
            match tokio::time::timeout(patience, write_piece(stream, piece)).await {
                Ok(Ok(written)) => left = &left[written..],
                // How much of what was on its way it had read nobody knows.
                Ok(Err(source)) => return Err(Stopped { taken: 0, source }),
                // What is written comes to it when it goes on. Something unread would keep it from that when we close.
                Err(_) => {
                    hung_up(stream);
                    return Err(Stopped { taken: whole, source: late(patience) });
                }
            }
        }
    }
    Ok(())
}

/// Lets little wait in the kernel. Of a full buffer it says that there is room again only when a good part of it is free: of
/// a large one that takes a slow receiver longer than any patience, and what waits there is lost with a receiver that dies.
fn bound(stream: &impl AsFd) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_send_buffer_size(stream, SEND_BYTES)?)
}

impl Connection {
    /// Connects.
    pub async fn open(
        address: &Address,
        tls: Option<Arc<ClientConfig>>,
        patience: Duration,
    ) -> io::Result<Self> {
        within(patience, Self::connect(address, tls)).await
    }

    async fn connect(address: &Address, tls: Option<Arc<ClientConfig>>) -> io::Result<Self> {
        Ok(match address {
            Address::Udp(host, port) => {
                let to = names::resolve(host, *port).await?;
                let to = to.first().ok_or_else(|| io::Error::other(format!("lookup {host}: no address")))?;
                let own = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(own).await?;
                socket.connect(to).await?;
                Self::Udp(socket)
            }
            Address::Tcp(host, port) => Self::Stream(Box::new(tcp(host, *port).await?)),
            Address::Tls(host, port) => {
                let config = tls.ok_or_else(|| io::Error::other("no configuration of TLS"))?;
                let stream = tcp(host, *port).await?;
                Self::Stream(Box::new(TlsConnector::from(config).connect(tls::name(host)?, stream).await?))
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await?;
                bound(&stream)?;
                Self::Stream(Box::new(stream))
            }
            Address::Unixgram(path) => Self::Unixgram(unixgram(path)?),
        })
    }

    /// Sends messages. On a connection they follow each other; else each is a datagram. Whoever takes anything within `patience`
    /// is waited for: a slow receiver is not one that is away.
    pub async fn send(&mut self, messages: &[Vec<u8>], patience: Duration) -> Result<(), Stopped> {
        match self {
            Self::Stream(stream) => write_all(stream, messages, patience).await,
            Self::Udp(socket) => {
                for (taken, message) in messages.iter().enumerate() {
                    match within(patience, socket.send(message)).await {
                        // What somebody said of an earlier datagram: nobody listens at the moment.
                        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
                        other => drop(other.map_err(Stopped::after(taken))?),
                    }
                }
                Ok(())
            }
            Self::Unixgram(socket) => {
                for (taken, message) in messages.iter().enumerate() {
                    within(patience, socket.send(message)).await.map_err(Stopped::after(taken))?;
                }
                Ok(())
            }
        }
    }

    /// Whether each message is a datagram.
    pub fn is_datagrams(&self) -> bool {
        !matches!(self, Self::Stream(_))
    }

    /// Reads what the receiver answers.
    pub async fn read(&mut self, buffer: &mut [u8], patience: Duration) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => within(patience, stream.read(buffer)).await,
            _ => Ok(0),
        }
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::other(format!("lookup {host}: no address"));
    for address in names::resolve(host, port).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                bound(&stream)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn unixgram(path: &PathBuf) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::sinks::PATIENCE;

    fn lines(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|number| format!("{number:039}\n").into_bytes()).collect()
    }

    #[tokio::test]
    async fn a_slow_receiver_gets_everything_once_however_long_that_takes() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut connection = Connection::Stream(Box::new(near));
        let patience = Duration::from_millis(400);
        let reading = tokio::spawn(async move {
            let (mut all, mut block) = (Vec::new(), [0; 64]);
            loop {
                // A rate, not a wait for something.
                tokio::time::sleep(Duration::from_millis(20)).await;
                match far.read(&mut block).await.unwrap() {
                    0 => return all,
                    got => all.extend_from_slice(&block[..got]),
                }
            }
        });
        let begun = std::time::Instant::now();
        connection.send(&lines(60), patience).await.unwrap();
        assert!(begun.elapsed() > patience);
        drop(connection);
        assert_eq!(reading.await.unwrap(), lines(60).concat());
    }

    #[tokio::test]
    async fn of_what_a_receiver_that_stops_has_been_sent_nothing_is_sent_again() {
        let (near, mut far) = tokio::io::duplex(100);
        let mut connection = Connection::Stream(Box::new(near));
        let stopped = connection.send(&lines(60), Duration::from_millis(50)).await.unwrap_err();
        assert_eq!((stopped.taken, stopped.source.kind()), (2, io::ErrorKind::TimedOut));
        drop(connection);
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert!(all.starts_with(&lines(2).concat()));
        // Of one that broke nobody knows.
        let (near, far) = tokio::io::duplex(100);
        drop(far);
        let stopped = Connection::Stream(Box::new(near)).send(&lines(1), PATIENCE).await.unwrap_err();
        assert_eq!(stopped.taken, 0);
    }
}
