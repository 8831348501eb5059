//! Names for containers: the server at 127.0.0.11 in each of them.
//!
//! A container asks at an address of its own loopback, where sockets that were opened in its namespace take the queries to whoever holds
//! them. Names of its networks are answered from tables; all else goes to the servers outside as it is, and comes back as it is.

mod cache;
pub mod message;
mod names;
mod server;
mod upstream;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

pub use names::{Name, Network};
pub use server::{Server, answer_alone};

/// Where a container asks.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// For how many seconds a container's address holds; as long as Docker says.
pub const TTL: u32 = 600;

/// What is to be known about a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// The ids of its networks: of those that know a name the first answers.
    pub networks: Vec<String>,
    /// Names that it alone knows (its links), before those of its networks.
    #[serde(default)]
    pub own: Vec<Name>,
    /// Whether it may ask for names that are not of its networks: not if all of these are internal.
    pub outside: bool,
    /// Who is asked for them.
    pub upstreams: Vec<SocketAddr>,
}

/// The sockets that a container's queries arrive at: one for datagrams, and one that listens for streams.
#[derive(Debug)]
pub struct Sockets {
    datagrams: UdpSocket,
    streams: TcpListener,
}

impl Sockets {
    /// Opens them in the network namespace of the calling thread, where the loopback device must be on, at any free ports of
    /// [`ADDRESS`].
    pub fn open() -> io::Result<Self> {
        Ok(Self { datagrams: UdpSocket::bind((ADDRESS, 0))?, streams: TcpListener::bind((ADDRESS, 0))? })
    }

    /// From descriptors of them.
    pub fn new(datagrams: OwnedFd, streams: OwnedFd) -> Self {
        Self { datagrams: datagrams.into(), streams: streams.into() }
    }

    /// Their ports, for datagrams and for streams.
    pub fn ports(&self) -> io::Result<[u16; 2]> {
        Ok([self.datagrams.local_addr()?.port(), self.streams.local_addr()?.port()])
    }

    /// Their descriptors, for datagrams and for streams.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.datagrams.as_fd(), self.streams.as_fd()]
    }

    fn into_parts(self) -> (UdpSocket, TcpListener) {
        (self.datagrams, self.streams)
    }
}
