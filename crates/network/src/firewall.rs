//! Who can reach whom: one table of packet filters, `inet corten`, in the network namespace that the caller is in.
//!
//! [`Firewall::apply`] makes the whole of it anew from a [`Model`], in one step that no packet sees half done. What begins and ends with
//! a container or a network changes elements of sets and no rules. Of tables of others nothing is changed; what is dropped by them is
//! dropped ([`Firewall::foreign`] finds them). See `docs/guide/firewall.md`.
//!
//! What the table relies on is in [`host`]: that the kernel passes packets on, and takes those from 127.0.0.1 to a bridge of ours.

mod conversations;
mod elements;
mod foreign;
pub mod host;
pub mod names;
mod nft;
mod table;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sys::netlink::{Family, Message, Refusal, Socket, attributes, be32_at};

pub use foreign::{Fate, Foreign, ForeignChain, Packet};
pub use watch::{Change, Watch};

use elements::Changes;
use nft::batch::{self, Batch};
use table::Form;

/// All that the table is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// The networks with a bridge.
    pub networks: Vec<Network>,
    /// The published ports of all containers on them.
    pub ports: Vec<Port>,
    /// Packets that neither come from our networks nor go into them are not passed on: for a host that passed on none before we had it do
    /// so.
    pub closed: bool,
    /// What comes from outside for a published port is not led to its container, but left to the host's own rules for what comes in and
    /// to whoever listens there: see [`crate::relay`], and [`crate::policy`] for what has to be there besides.
    pub respect: bool,
}

/// A network with a bridge on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// What the bridge is called.
    pub bridge: String,
    /// Its subnets, of any version.
    pub subnets: Vec<Subnet>,
    /// Nothing gets in or out.
    pub internal: bool,
    /// Its containers may speak to each other. Where bridged packets do not meet packet filters (`net.bridge.bridge-nf-call-iptables`)
    /// the bridge's ports have to be told not to pass on anything to each other, too.
    pub icc: bool,
}

/// A subnet of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// Its addresses.
    pub net: IpNet,
    /// Who gets in.
    pub inward: Inward,
    /// By what address its containers are known outside.
    pub outward: Outward,
}

/// Who gets in from outside, to containers of a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inward {
    /// Whoever speaks to a port of the host that is published (`nat`).
    Published,
    /// Those, and whoever can route to the containers' addresses (`nat-unprotected`).
    Unprotected,
    /// Whoever can route to the containers' addresses, at ports that are open (`routed`).
    Routed,
}

/// By what address containers of a subnet are known outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outward {
    /// Their own.
    Own,
    /// The host's, on the device that packets leave by.
    Masquerade,
    /// This one of the host's.
    As(IpAddr),
}

/// Ports of a container that can be reached from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Of which protocol.
    pub protocol: Protocol,
    /// The host's, that lead to them; without, they are open at the container's own address, which is for [`Inward::Routed`].
    pub host: Option<HostPort>,
    /// The container's address. Its version is the host's: what leads from one version to the other is not done by packet filters.
    pub container: IpAddr,
    /// The first of its ports.
    pub first: u16,
    /// How many, one behind the other.
    pub count: u16,
}

/// Where on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort {
    /// At which of its addresses; an unspecified one is all of that version.
    pub address: IpAddr,
    /// The first port.
    pub first: u16,
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// By number, as the others.
    Tcp = 6,
    /// Without conversations.
    Udp = 17,
    /// With several streams.
    Sctp = 132,
}

/// Why the table is not as it was to be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The table is gone, or somebody took from it what was to be changed: [`Firewall::apply`] brings it back.
    #[error("the packet filters were changed by someone else")]
    Changed,
    /// Another container has one of these ports.
    #[error("a port is published already")]
    Taken,
    /// The host's address and the container's have not the same version.
    #[error("publish {host} for {container}: an address of each version")]
    Versions {
        /// The host's.
        host: IpAddr,
        /// The container's.
        container: IpAddr,
    },
    /// More ports than there are.
    #[error("publish {count} ports from {first}: there are 65535")]
    Range {
        /// The first.
        first: u16,
        /// How many.
        count: u16,
    },
    /// There is no way to speak to the kernel.
    #[error("open the packet filters")]
    Socket(#[source] io::Error),
    /// The kernel does not want it so.
    #[error("change packet filters")]
    Refused(#[source] Refusal),
}

/// The table, by way of a conversation with the kernel. It is about the network namespace that the caller was in when it began.
#[derive(Debug)]
pub struct Firewall {
    socket: Mutex<Socket>,
    port: u32,
}

const ENOENT: i32 = 2;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
/// Of a piece of an interval (`ENOTEMPTY`).
const OVERLAPS: i32 = 39;

impl Firewall {
    /// Begins.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::open(Family::Netfilter)?;
        let port = socket.port()?;
        Ok(Self { socket: Mutex::new(socket), port })
    }

    /// Makes the whole table anew, in one step.
    pub fn apply(&self, model: &Model) -> Result<(), Error> {
        let mut batch = Batch::new(table::TABLE);
        table::layout(&mut batch, Form { closed: model.closed, respect: model.respect });
        let mut changes = Changes::default();
        for network in &model.networks {
            changes.network(network);
        }
        for port in &model.ports {
            changes.port(port)?;
        }
        changes.add(&mut batch);
        self.transact(batch)
    }

    /// Lets a network in.
    pub fn add_network(&self, network: &Network) -> Result<(), Error> {
        let mut changes = Changes::default();
        changes.network(network);
        self.change(|batch| changes.add(batch))
    }

    /// Forgets a network. What is not there is no error.
    pub fn remove_network(&self, network: &Network) -> Result<(), Error> {
        let mut changes = Changes::default();
        changes.network(network);
        self.change(|batch| changes.remove(batch))
    }

    /// Opens ports, all or none. For what is under way see [`Firewall::redirect`].
    pub fn publish(&self, ports: &[Port]) -> Result<(), Error> {
        let changes = Changes::of_ports(ports)?;
        self.change(|batch| changes.add(batch))
    }

    /// Forgets the conversations of a container that is no more, so that whoever still sends to it finds the next one: datagrams follow
    /// the first of their kind for as long as they come.
    pub fn forget(&self, container: IpAddr) -> io::Result<()> {
        conversations::forget_container(&self.socket(), container)
    }

    /// Has datagrams that came before their port was published go to its container, as those of a client that begins now.
    pub fn redirect(&self, ports: &[Port]) -> io::Result<()> {
        conversations::forget_undirected(&self.socket(), ports)
    }

    /// Closes ports, all or none. What is not there is no error. Conversations that are under way go on, but see [`Firewall::forget`].
    pub fn withdraw(&self, ports: &[Port]) -> Result<(), Error> {
        let changes = Changes::of_ports(ports)?;
        self.change(|batch| changes.remove(batch))
    }

    /// Whether the table is there with all its chains and rules. Elements of sets are not looked at; [`Watch`] tells when somebody else
    /// changes those.
    pub fn is_intact(&self) -> io::Result<bool> {
        let Some(comment) = self.comment()? else { return Ok(false) };
        let socket = self.socket();
        let Some(form) = Form::all().find(|form| comment == batch::userdata(&table::comment(*form))) else {
            return Ok(false);
        };
        let mut uses = BTreeMap::new();
        socket.ask(chains(), |_, message| {
            let Some(chain) = foreign::read_chain(message) else { return Ok(()) };
            if chain.family == batch::NFPROTO_INET && chain.table == table::TABLE {
                uses.insert(chain.name, chain.uses);
            }
            Ok(())
        })?;
        let expected = table::uses(form);
        Ok(uses.len() == expected.len()
            && expected.iter().all(|(name, expected)| uses.get(*name) == Some(expected)))
    }

    /// Whether there is a table of ours, in whatever state: an earlier daemon's.
    pub fn is_there(&self) -> io::Result<bool> {
        Ok(self.comment()?.is_some())
    }

    /// The table's comment; `None` if there is no table.
    fn comment(&self) -> io::Result<Option<Vec<u8>>> {
        let mut question = batch::message(batch::GETTABLE, sys::netlink::ACK, batch::NFPROTO_INET);
        question.put_text(batch::NFTA_TABLE_NAME, table::TABLE);
        let mut comment = Vec::new();
        let asked = self.socket().ask(question, |_, message| {
            let found = attribute(message, batch::NFTA_TABLE_USERDATA);
            comment = found.unwrap_or_default().to_vec();
            Ok(())
        });
        match asked {
            Err(error) if error.raw_os_error() == Some(ENOENT) => Ok(None),
            other => other.map(|()| Some(comment)),
        }
    }

    /// The chains of others that what is sent into our networks and out of them comes by: an `accept` of ours does not overrule them.
    pub fn foreign(&self) -> io::Result<Foreign> {
        Foreign::read(&self.socket())
    }

    /// Listens to what others do to packet filters from now on.
    pub fn watch(&self) -> io::Result<Watch> {
        Watch::open(self.port)
    }

    fn socket(&self) -> std::sync::MutexGuard<'_, Socket> {
        // A conversation that was broken off leaves nothing that the next would take for its own.
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, fill: impl FnOnce(&mut Batch)) -> Result<(), Error> {
        let mut batch = Batch::new(table::TABLE);
        fill(&mut batch);
        if batch.is_empty() { Ok(()) } else { self.transact(batch) }
    }

    fn transact(&self, batch: Batch) -> Result<(), Error> {
        self.socket().transact(batch.finish()).map_err(|refusal| match refusal.errno() {
            Some(ENOENT) => Error::Changed,
            Some(EEXIST | EBUSY | OVERLAPS) => Error::Taken,
            _ => Error::Refused(refusal),
        })
    }
}

/// Asks for the chains of all tables.
fn chains() -> Message {
    batch::message(batch::GETCHAIN, sys::netlink::DUMP, 0)
}

/// What stands before the attributes: the family and two more.
const HEAD_BYTES: usize = 4;

fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(message.get(HEAD_BYTES..)?).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

fn number(value: &[u8]) -> Option<u32> {
    be32_at(value, 0)
}
