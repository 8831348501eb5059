//! A way to a receiver: a connection, or datagrams.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};
use tokio_rustls::TlsConnector;

use crate::logging::address::Address;
use crate::logging::{names, tls};

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
    tokio::time::timeout(patience, what).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {} seconds", patience.as_secs())))
    })
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
            Address::Unix(path) => Self::Stream(Box::new(UnixStream::connect(path).await?)),
            Address::Unixgram(path) => Self::Unixgram(unixgram(path)?),
        })
    }

    /// Sends messages. On a connection they follow each other; else each is a datagram.
    pub async fn send(&mut self, messages: &[Vec<u8>], patience: Duration) -> io::Result<()> {
        match self {
            Self::Stream(stream) => {
                within(patience, async {
                    // One that has hung up takes a first write all the same.
                    let mut nothing = [0; 1];
                    let ended = futures_util::FutureExt::now_or_never(stream.read(&mut nothing));
                    if matches!(ended, Some(Ok(0) | Err(_))) {
                        return Err(io::Error::new(
                            io::ErrorKind::ConnectionReset,
                            "the receiver has hung up",
                        ));
                    }
                    for message in messages {
                        stream.write_all(message).await?;
                    }
                    stream.flush().await
                })
                .await
            }
            Self::Udp(socket) => {
                for message in messages {
                    match within(patience, socket.send(message)).await {
                        // What somebody said of an earlier datagram: nobody listens at the moment.
                        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
                        other => drop(other?),
                    }
                }
                Ok(())
            }
            Self::Unixgram(socket) => {
                for message in messages {
                    within(patience, socket.send(message)).await?;
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
            Ok(stream) => return Ok(stream),
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
