//! Readiness of many descriptors in one thread (`epoll(7)`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::Timespec;
use rustix::event::epoll;
pub use rustix::event::epoll::{Event, EventData, EventFlags};

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

/// Room for the events of one wait: enough for a busy turn of the loop, small enough for the stack.
pub const EVENTS: usize = 32;

/// A buffer for [`Epoll::wait`].
pub type Events = [Event; EVENTS];

impl Epoll {
    /// Makes an epoll instance that is closed on exec.
    pub fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Starts watching `source`, reporting `token` with its events.
    pub fn add(&self, source: impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.0, source, EventData::new_u64(token), flags)?)
    }

    /// Changes what is watched for on `source`.
    pub fn modify(&self, source: impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.0, source, EventData::new_u64(token), flags)?)
    }

    /// Stops watching `source`.
    pub fn remove(&self, source: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, source)?)
    }

    /// An empty buffer for [`Epoll::wait`].
    pub fn events() -> Events {
        [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS]
    }

    /// Waits until something is ready or `timeout_ms` have passed (`None`: for ever), and returns how many
    /// entries of `events` were filled. An interruption by a signal counts as none.
    pub fn wait(&self, events: &mut Events, timeout_ms: Option<u64>) -> io::Result<usize> {
        let timeout = timeout_ms.map(|ms| Timespec {
            tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(ms % 1000).unwrap_or(0) * 1_000_000,
        });
        match epoll::wait(&self.0, events.as_mut_slice(), timeout.as_ref()) {
            Ok(n) => Ok(n),
            Err(rustix::io::Errno::INTR) => Ok(0),
            Err(e) => Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_the_token_of_what_is_ready() {
        let (read, write) = rustix::pipe::pipe().expect("pipe");
        let epoll = Epoll::new().expect("epoll");
        epoll.add(&read, 7, EventFlags::IN).expect("add");
        let mut events = Epoll::events();
        assert_eq!(epoll.wait(&mut events, Some(0)).expect("wait"), 0);
        rustix::io::write(&write, b"x").expect("write");
        assert_eq!(epoll.wait(&mut events, None).expect("wait"), 1);
        let data = events[0].data;
        assert_eq!(data.u64(), 7);
    }
}
