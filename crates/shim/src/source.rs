//! A descriptor in the event loop, and what it is watched for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::epoll::{Epoll, EventFlags};

/// What a token of the event loop stands for; the number is a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Signals,
    Listener,
    Oom,
    Connection(usize),
    Client(usize),
    Output(usize),
    Errors(usize),
    Input(usize),
    Terminal(usize),
    Report(usize),
    Gate(usize),
    Console(usize),
    Log,
}

impl Token {
    pub(crate) fn encode(self) -> u64 {
        let (kind, slot) = match self {
            Self::Signals => (0, 0),
            Self::Listener => (1, 0),
            Self::Oom => (2, 0),
            Self::Connection(slot) => (3, slot),
            Self::Client(slot) => (4, slot),
            Self::Output(slot) => (5, slot),
            Self::Errors(slot) => (6, slot),
            Self::Input(slot) => (7, slot),
            Self::Terminal(slot) => (8, slot),
            Self::Report(slot) => (9, slot),
            Self::Gate(slot) => (10, slot),
            Self::Console(slot) => (11, slot),
            Self::Log => (12, 0),
        };
        kind << 32 | slot as u64
    }

    pub(crate) fn decode(token: u64) -> Option<Self> {
        let slot = usize::try_from(token & 0xffff_ffff).ok()?;
        Some(match token >> 32 {
            0 => Self::Signals,
            1 => Self::Listener,
            2 => Self::Oom,
            3 => Self::Connection(slot),
            4 => Self::Client(slot),
            5 => Self::Output(slot),
            6 => Self::Errors(slot),
            7 => Self::Input(slot),
            8 => Self::Terminal(slot),
            9 => Self::Report(slot),
            10 => Self::Gate(slot),
            11 => Self::Console(slot),
            12 => Self::Log,
            _ => return None,
        })
    }
}

/// A descriptor that may be watched.
#[derive(Debug)]
pub(crate) struct Source {
    fd: OwnedFd,
    token: u64,
    watched: Option<EventFlags>,
}

impl Source {
    pub(crate) fn new(fd: OwnedFd, token: Token) -> Self {
        Self { fd, token: token.encode(), watched: None }
    }

    /// Watches for `wanted`; `None` takes the descriptor out, so that not even its hang-up is reported.
    pub(crate) fn watch(&mut self, epoll: &Epoll, wanted: Option<EventFlags>) -> io::Result<()> {
        match (self.watched, wanted) {
            (now, wanted) if now == wanted => return Ok(()),
            (None, Some(flags)) => epoll.add(&self.fd, self.token, flags)?,
            (Some(_), Some(flags)) => epoll.modify(&self.fd, self.token, flags)?,
            (_, None) => epoll.remove(&self.fd)?,
        }
        self.watched = wanted;
        Ok(())
    }

    /// The descriptor, out of the loop.
    pub(crate) fn into_fd(mut self, epoll: &Epoll) -> io::Result<OwnedFd> {
        self.watch(epoll, None)?;
        Ok(self.fd)
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Things with numbers that are used again.
#[derive(Debug)]
pub(crate) struct Slots<T>(Vec<Option<T>>);

impl<T> Slots<T> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// The number that the next [`Slots::insert`] uses.
    pub(crate) fn next(&self) -> usize {
        self.0.iter().position(Option::is_none).unwrap_or(self.0.len())
    }

    pub(crate) fn insert(&mut self, value: T) -> usize {
        let slot = self.next();
        match self.0.get_mut(slot) {
            Some(free) => *free = Some(value),
            None => self.0.push(Some(value)),
        }
        slot
    }

    pub(crate) fn get(&self, slot: usize) -> Option<&T> {
        self.0.get(slot)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.0.get_mut(slot)?.as_mut()
    }

    pub(crate) fn remove(&mut self, slot: usize) -> Option<T> {
        let value = self.0.get_mut(slot)?.take();
        while matches!(self.0.last(), Some(None)) {
            self.0.pop();
        }
        value
    }

    /// One more than the highest number in use.
    pub(crate) fn end(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.0.iter().enumerate().filter_map(|(slot, value)| Some((slot, value.as_ref()?)))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().flatten().count()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive() {
        for token in [Token::Signals, Token::Oom, Token::Client(7), Token::Console(70_000)] {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
        assert_eq!(Token::decode(99 << 32), None);
    }

    #[test]
    fn slots_are_used_again_and_do_not_grow() {
        let mut slots = Slots::new();
        assert_eq!((slots.insert('a'), slots.insert('b'), slots.insert('c')), (0, 1, 2));
        assert_eq!(slots.remove(1), Some('b'));
        assert_eq!(slots.next(), 1);
        assert_eq!(slots.insert('d'), 1);
        slots.remove(2);
        slots.remove(1);
        assert_eq!(slots.end(), 1);
        assert_eq!(slots.iter().map(|(_, v)| *v).collect::<String>(), "a");
    }
}
