//! What others do to packet filters.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use sys::netlink::{Family, Socket};

use super::nft::batch::{self, NFPROTO_INET};
use super::{attribute, number, table, text};

/// `NFNLGRP_NFTABLES`
const GROUP: i32 = 7;
const NFTA_GEN_PROC_PID: u16 = 2;
const NFTA_GEN_PROC_NAME: u16 = 3;

const ENOBUFS: i32 = 105;

/// A change of packet filters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Somebody else changed our table, or so much was changed at once that nobody can tell: [`super::Firewall::apply`] puts it right.
    pub ours: bool,
    /// By a process of this name.
    pub process: String,
    /// The number of its thread.
    pub thread: u32,
}

/// Hears of each change of packet filters in a network namespace.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
    own: u32,
}

impl Watch {
    /// Begins to listen. What is done from the conversation `own` is our own doing.
    pub(super) fn open(own: u32) -> io::Result<Self> {
        let socket = Socket::open(Family::Netfilter)?;
        socket.join(GROUP)?;
        Ok(Self { socket, own })
    }

    /// Waits for the next change that is not our own.
    pub fn next(&self) -> io::Result<Change> {
        let mut change = Change::default();
        loop {
            let (mut end, mut foreign) = (false, false);
            let heard = self.socket.hear(|port, kind, message| {
                let Some(kind) = batch::kind_of(kind) else { return };
                if kind == batch::NEWGEN {
                    end = true;
                    foreign |= port != self.own;
                    let find = |wanted| attribute(message, wanted);
                    change.process = find(NFTA_GEN_PROC_NAME).map(text).unwrap_or_default();
                    change.thread = find(NFTA_GEN_PROC_PID).and_then(number).unwrap_or_default();
                    return;
                }
                // A table's name has the same kind in messages about all that can be in one.
                let name = attribute(message, batch::NFTA_TABLE_NAME);
                change.ours |= port != self.own
                    && message.first() == Some(&NFPROTO_INET)
                    && name.is_some_and(|name| name.strip_suffix(&[0]) == Some(table::TABLE.as_bytes()));
            });
            match heard {
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => {
                    return Ok(Change { ours: true, ..change });
                }
                other => other?,
            }
            match (end, foreign || change.ours) {
                (true, true) => return Ok(change),
                (true, false) => change = Change::default(),
                (false, _) => {}
            }
        }
    }
}

impl AsFd for Watch {
    /// Readable when [`Watch::next`] has something to read.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
