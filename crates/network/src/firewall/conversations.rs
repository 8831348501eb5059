//! Conversations that the kernel remembers (nfnetlink's conntrack): where the first packet of one was sent, all others are.

use std::io;
use std::net::IpAddr;

use sys::netlink::{ACK, DUMP, Message, NESTED, Socket, attributes};

use super::{HEAD_BYTES, Port, Protocol};

/// What messages about conversations have in their kind.
const SUBSYSTEM: u16 = 1;
const NEW: u16 = 0;
const GET: u16 = 1;
const DELETE: u16 = 2;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_SRC: [u16; 2] = [1, 3];
const CTA_IP_DST: [u16; 2] = [2, 4];
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;

/// In a conversation's status: its packets are sent elsewhere than they were meant to.
const TO_ELSEWHERE: u32 = 1 << 5;

/// What is forgotten with one message; more are sent with the next. The answers to all of them must have room with this end at once.
const AT_ONCE: usize = 32;

/// How the packets of one direction are addressed.
#[derive(Debug, Default, Clone, Copy)]
struct Way {
    from: Option<IpAddr>,
    to: Option<IpAddr>,
    protocol: u8,
    port: u16,
}

/// A conversation.
#[derive(Debug)]
struct Conversation {
    there: Way,
    back: Way,
    status: u32,
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
    }
}

fn way(tuple: &[u8]) -> Way {
    let mut way = Way::default();
    for (part, value) in attributes(tuple) {
        for (kind, value) in attributes(value) {
            match part {
                CTA_TUPLE_IP if CTA_IP_SRC.contains(&kind) => way.from = ip(value),
                CTA_TUPLE_IP if CTA_IP_DST.contains(&kind) => way.to = ip(value),
                CTA_TUPLE_PROTO if kind == CTA_PROTO_NUM => {
                    way.protocol = value.first().copied().unwrap_or_default();
                }
                CTA_TUPLE_PROTO if kind == CTA_PROTO_DST_PORT => {
                    way.port = value.first_chunk().map_or(0, |port| u16::from_be_bytes(*port));
                }
                _ => {}
            }
        }
    }
    way
}

fn message(kind: u16, flags: u16, family: u8) -> Message {
    Message::new((SUBSYSTEM << 8) | kind, flags, &[family, 0, 0, 0])
}

/// Forgets those that are about a container's address, whoever began them.
pub fn forget_container(socket: &Socket, address: IpAddr) -> io::Result<()> {
    forget(socket, address.is_ipv4(), |one| {
        [one.there.from, one.there.to, one.back.from].contains(&Some(address))
    })
}

/// Forgets those of datagrams to ports of the host's that were begun before the ports led to containers, and would go on as they did.
pub fn forget_undirected(socket: &Socket, ports: &[Port]) -> io::Result<()> {
    for v4 in [true, false] {
        let of_version = |port: &&Port| port.protocol == Protocol::Udp && port.container.is_ipv4() == v4;
        let hosts: Vec<_> =
            ports.iter().filter(of_version).filter_map(|port| Some((port.host?, port.count))).collect();
        if hosts.is_empty() {
            continue;
        }
        forget(socket, v4, |one| {
            let to = one.there;
            to.protocol == Protocol::Udp as u8
                && one.status & TO_ELSEWHERE == 0
                && hosts.iter().any(|(host, count)| {
                    to.port >= host.first
                        && to.port - host.first < *count
                        && (host.address.is_unspecified() || to.to == Some(host.address))
                })
        })?;
    }
    Ok(())
}

fn forget(socket: &Socket, v4: bool, mut wanted: impl FnMut(&Conversation) -> bool) -> io::Result<()> {
    let family = if v4 { AF_INET } else { AF_INET6 };
    let mut found = Vec::new();
    socket.ask(message(GET, DUMP, family), |kind, body| {
        if kind != (SUBSYSTEM << 8) | NEW {
            return Ok(());
        }
        let body = body.get(HEAD_BYTES..).unwrap_or_default();
        let find = |wanted| attributes(body).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        let Some(there) = find(CTA_TUPLE_ORIG) else { return Ok(()) };
        let conversation = Conversation {
            there: way(there),
            back: find(CTA_TUPLE_REPLY).map(way).unwrap_or_default(),
            status: find(CTA_STATUS).and_then(super::number).unwrap_or_default(),
        };
        if wanted(&conversation) {
            let mut message = message(DELETE, ACK, family).with(CTA_TUPLE_ORIG | NESTED, there);
            // The number keeps another that has the same addresses since then.
            for kind in [CTA_ID, CTA_ZONE] {
                if let Some(value) = find(kind) {
                    message.put(kind, value);
                }
            }
            found.push(message);
        }
        Ok(())
    })?;
    while !found.is_empty() {
        let some = found.split_off(found.len().saturating_sub(AT_ONCE));
        match socket.tell_all(some) {
            // One that has ended by itself.
            Err(refusal) if refusal.errno() == Some(super::ENOENT) => {}
            other => other?,
        }
    }
    Ok(())
}
