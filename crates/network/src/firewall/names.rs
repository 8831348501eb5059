//! In a container's own network namespace: what it asks 127.0.0.11 at port 53 is led to the sockets that answer there. They have ports of
//! their own, so that a container can have a name server at port 53 of all its addresses.

use sys::netlink::{Family, Socket};

use super::Error;
use super::nft::batch::{Base, Batch};
use super::nft::rule::{IP_DADDR, Ip, L4PROTO, TH_DPORT, rule};
use super::nft::{Element, Set, Type, Value};
use super::table::{DSTNAT, OUTPUT};
use crate::dns::ADDRESS;

const TABLE: &str = "corten_names";
const CHAIN: &str = "asking";
const COMMENT: &str = "corten's own: names of containers";
/// Where name servers are.
const PORT: u16 = 53;

static SERVERS: Set = Set {
    name: "servers",
    key: &[Type::Ip4, Type::Protocol, Type::Port],
    data: &[Type::Ip4, Type::Port],
    interval: false,
};

/// Leads queries to `ports`, for UDP and for TCP, in the network namespace that the caller is in.
pub fn lead_names(ports: [u16; 2]) -> Result<(), Error> {
    let mut batch = Batch::new(TABLE);
    batch.table(COMMENT);
    batch.set(&SERVERS);
    batch.chain(CHAIN, Some(Base { kind: "nat", hook: OUTPUT, priority: DSTNAT }));
    batch.rule(CHAIN, &rule().dnat(Ip::V4, &[IP_DADDR, L4PROTO, TH_DPORT], &SERVERS));
    let address = Value::Address(ADDRESS.into());
    let protocols = [super::Protocol::Udp, super::Protocol::Tcp];
    for (protocol, port) in protocols.into_iter().zip(ports) {
        let key = [address, Value::Protocol(protocol as u8), Value::Port(PORT)];
        batch.add(&SERVERS, &Element::new(&SERVERS, &key, &[address, Value::Port(port)]));
    }
    let socket = Socket::open(Family::Netfilter).map_err(Error::Socket)?;
    socket.transact(batch.finish()).map_err(Error::Refused)
}
