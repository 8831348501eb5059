//! Rules of routing, for `firewall=respect`: what containers answer to netd, which speaks to them by its clients' addresses, is for this
//! host although the addresses are not.
//!
//! The packet filters mark such answers ([`MARK`]), and marked packets are looked up in a table of routing that delivers everything
//! here. All is about the network namespace that the caller is in.

use std::io;

use sys::netlink::{ACK, CREATE, DUMP, EXCLUSIVE, Family, Message, Refusal, Socket, attributes, u32_at};

/// What is marked so is delivered here ("CN" and two bits that nobody else is known to use).
pub const MARK: u32 = 0x434e_0000;
/// The table of routing that delivers it.
const TABLE: u32 = 0x434e;
/// Before any rule of those who lead all packets through a tunnel, and behind that for the host's own addresses.
const FIRST: u32 = 40;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;

const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
/// Look up in the table.
const TO_TABLE: u8 = 1;
const RTA_OIF: u16 = 4;
const RTA_TABLE: u16 = 15;
const TABLE_MAIN: u32 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_LOCAL: u8 = 2;
const SCOPE_HOST: u8 = 254;
const LOOPBACK: u32 = 1;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// How many bytes stand before the attributes, of rules and of routes.
const HEAD_BYTES: usize = 12;

/// The groups that hear of changes of routes and rules (`RTNLGRP_IPV4_ROUTE` and so on).
const GROUPS: [i32; 4] = [7, 8, 11, 19];

const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EEXIST: i32 = 17;
const EAFNOSUPPORT: i32 = 97;
const EOPNOTSUPP: i32 = 95;
const ENOBUFS: i32 = 105;

/// Makes what is not there, for both versions.
pub fn deliver() -> io::Result<()> {
    change(&[EEXIST], |family| {
        [rule(RTM_NEWRULE, family, true), rule(RTM_NEWRULE, family, false), route(RTM_NEWROUTE, family)]
    })
}

/// Removes what is there.
pub fn deliver_no_more() -> io::Result<()> {
    let socket = Socket::open(Family::Route)?;
    // The kernel says what is not there by the one or the other number.
    if rules(&socket)? == 0 {
        return Ok(());
    }
    change(&[ENOENT, ESRCH], |family| {
        [rule(RTM_DELRULE, family, true), rule(RTM_DELRULE, family, false), route(RTM_DELROUTE, family)]
    })
}

/// How many rules of ours there are.
fn rules(socket: &Socket) -> io::Result<usize> {
    let mut found = 0;
    socket.ask(Message::new(RTM_GETRULE, DUMP, &[0; HEAD_BYTES]), |kind, body| {
        found += usize::from(kind == RTM_NEWRULE && is_ours(kind, body));
        Ok(())
    })?;
    Ok(found)
}

fn change(fine: &[i32], messages: impl Fn(u8) -> [Message; 3]) -> io::Result<()> {
    let socket = Socket::open(Family::Route)?;
    for family in [AF_INET, AF_INET6] {
        for message in messages(family) {
            match socket.tell(message) {
                Err(refusal) if is_fine(&refusal, fine, family) => {}
                other => other?,
            }
        }
    }
    Ok(())
}

fn is_fine(refusal: &Refusal, fine: &[i32], family: u8) -> bool {
    // A kernel without version 6 has none of its packets.
    let without = family == AF_INET6 && matches!(refusal.errno(), Some(EAFNOSUPPORT | EOPNOTSUPP));
    without || refusal.errno().is_some_and(|number| fine.contains(&number))
}

/// A rule. The first is for what the kernel looks up on the host's own behalf: whether a packet came by the device that answers would
/// leave by, if marks count there (`src_valid_mark`), is seen by the routes that there are without us.
fn rule(kind: u16, family: u8, own: bool) -> Message {
    let flags = if kind == RTM_NEWRULE { ACK | CREATE | EXCLUSIVE } else { ACK };
    // family, dst_len, src_len, tos, table, two reserved, action, flags
    let head = [family, 0, 0, 0, 0, 0, 0, TO_TABLE, 0, 0, 0, 0];
    let mut message = Message::new(kind, flags, &head);
    let table = if own { TABLE_MAIN } else { TABLE };
    let numbers = [
        (FRA_PRIORITY, FIRST + u32::from(!own)),
        (FRA_FWMARK, MARK),
        (FRA_FWMASK, u32::MAX),
        (FRA_TABLE, table),
    ];
    for (kind, number) in numbers {
        message.put(kind, &number.to_ne_bytes());
    }
    if own {
        message.put_text(FRA_IIFNAME, "lo");
    }
    message
}

/// The route: everything is here.
fn route(kind: u16, family: u8) -> Message {
    let flags = if kind == RTM_NEWROUTE { ACK | CREATE | EXCLUSIVE } else { ACK };
    // family, dst_len, src_len, tos, table, protocol, scope, type, flags
    let head = [family, 0, 0, 0, 0, RTPROT_STATIC, SCOPE_HOST, RTN_LOCAL, 0, 0, 0, 0];
    let table = TABLE.to_ne_bytes();
    Message::new(kind, flags, &head).with(RTA_TABLE, &table).with(RTA_OIF, &LOOPBACK.to_ne_bytes())
}

/// Whether a message is about a rule or a route of ours.
fn is_ours(kind: u16, body: &[u8]) -> bool {
    let number = |wanted| {
        let mut all = attributes(body.get(HEAD_BYTES..).unwrap_or_default());
        all.find(|(kind, _)| *kind == wanted).and_then(|(_, value)| u32_at(value, 0))
    };
    match kind {
        RTM_NEWRULE | RTM_DELRULE => number(FRA_FWMARK) == Some(MARK),
        RTM_NEWROUTE | RTM_DELROUTE => number(RTA_TABLE) == Some(TABLE),
        _ => false,
    }
}

/// Hears of it when somebody takes away what [`deliver`] has made.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
}

impl Watch {
    /// Begins to listen.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::open(Family::Route)?;
        GROUPS.iter().try_for_each(|group| socket.join(*group))?;
        Ok(Self { socket })
    }

    /// Waits until something of it was taken away, by whomever, or so much was changed at once that nobody can tell.
    pub fn next(&self) -> io::Result<()> {
        loop {
            let mut gone = false;
            let heard = self.socket.hear(|_, kind, body| {
                gone |= matches!(kind, RTM_DELRULE | RTM_DELROUTE) && is_ours(kind, body);
            });
            match heard {
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => return Ok(()),
                other => other?,
            }
            if gone {
                return Ok(());
            }
        }
    }
}
