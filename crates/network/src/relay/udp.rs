//! Datagrams: for each client of a port a socket of its own, by which the container answers it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::time::Duration;

use rustix::net::SendFlags;
use sys::inet::{self, Place};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::Shared;
use super::outgoing::{self, Target};
use crate::firewall::Protocol;

/// A client that neither says nor hears anything for this long is forgotten: as long as Docker's proxy waits.
const IDLE: Duration = Duration::from_secs(90);
/// How many clients of one port are remembered: with more of them, who has been silent for the longest is forgotten.
const FLOWS_EACH: usize = 1024;
/// So many datagrams, then others' turn comes.
const BURST: usize = 32;
/// Longer than any datagram.
const DATAGRAM_MAX: usize = 1 << 16;
/// Before a failing socket is tried again.
const RECOVERY: Duration = Duration::from_millis(100);

/// Where a datagram is while it is passed on.
#[derive(Debug)]
pub(super) struct Buffer(RefCell<Vec<u8>>);

impl Default for Buffer {
    fn default() -> Self {
        Self(RefCell::new(vec![0; DATAGRAM_MAX]))
    }
}

/// Who speaks, and to which address of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    client: SocketAddr,
    place: Option<Place>,
}

/// What is remembered of a client.
#[derive(Debug)]
struct Flow {
    socket: Rc<UdpSocket>,
    /// When something was last said by either side.
    last: Rc<Cell<Instant>>,
    task: AbortHandle,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn listener(socket: OwnedFd) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::from(socket);
    inet::tell_places(&socket, socket.local_addr()?.is_ipv6())?;
    UdpSocket::from_std(socket)
}

/// Passes on datagrams, for ever.
pub(super) async fn serve(shared: Rc<Shared>, listener: UdpSocket, target: Target) {
    let mut port = Port { shared, listener: Rc::new(listener), target, flows: HashMap::new() };
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            readable = port.listener.readable() => {
                if readable.and_then(|()| port.burst(&mut tasks)).is_err() {
                    sleep(RECOVERY).await;
                }
                tokio::task::yield_now().await;
            }
            Some(ended) = tasks.join_next() => if let Ok(key) = ended {
                port.ended(&key);
            },
        }
    }
}

struct Port {
    shared: Rc<Shared>,
    listener: Rc<UdpSocket>,
    target: Target,
    flows: HashMap<Key, Flow>,
}

impl Port {
    /// Passes on what is there, up to a bound.
    fn burst(&mut self, tasks: &mut JoinSet<Key>) -> io::Result<()> {
        let shared = self.shared.clone();
        let mut buffer = shared.buffer.0.borrow_mut();
        for _ in 0..BURST {
            let received =
                self.listener.try_io(Interest::READABLE, || inet::receive(&*self.listener, &mut buffer));
            let (length, client, place) = match received {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What somebody else answered to one of ours.
                Err(error) if is_word(&error) => continue,
                Err(error) => return Err(error),
            };
            if shared.refuses(&*self.listener, client, place.map_or(0, |place| place.device)) {
                continue;
            }
            let key = Key { client, place };
            if !self.flows.contains_key(&key) && !self.begin(key, tasks) {
                continue;
            }
            if let Some(flow) = self.flows.get(&key) {
                flow.last.set(Instant::now());
                // What cannot go at once is lost, as datagrams may be.
                let _ = rustix::net::send(&*flow.socket, &buffer[..length], SendFlags::NOSIGNAL);
            }
        }
        Ok(())
    }

    /// Begins to remember a client; `false` if there are too many, or the container cannot be spoken to.
    fn begin(&mut self, key: Key, tasks: &mut JoinSet<Key>) -> bool {
        if self.flows.len() >= FLOWS_EACH {
            self.forget_oldest();
        }
        let permit = self.shared.flows.clone().try_acquire_owned().or_else(|error| {
            self.forget_oldest();
            self.shared.flows.clone().try_acquire_owned().map_err(|_| error)
        });
        let Ok(permit) = permit else { return false };
        let socket =
            outgoing::connect(Protocol::Udp, self.shared.target(self.target, key.client), key.client)
                .and_then(|socket| UdpSocket::from_std(socket.into()));
        let Ok(socket) = socket.map(Rc::new) else { return false };
        let last = Rc::new(Cell::new(Instant::now()));
        let answering =
            answer(self.shared.clone(), Rc::downgrade(&self.listener), socket.clone(), last.clone(), key);
        let task = tasks.spawn_local(answering);
        self.flows.insert(key, Flow { socket, last, task, _permit: permit });
        true
    }

    fn forget_oldest(&mut self) {
        let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.last.get()).map(|(key, _)| *key);
        if let Some(key) = oldest {
            self.flows.remove(&key);
        }
    }

    /// A client was silent for long. If it has been forgotten and has come back, it is another's end.
    fn ended(&mut self, key: &Key) {
        if self.flows.get(key).is_some_and(|flow| flow.last.get().elapsed() >= IDLE) {
            self.flows.remove(key);
        }
    }
}

/// Passes on what a container answers to one client, until neither has said anything for long. The port is not kept
/// open for it.
async fn answer(
    shared: Rc<Shared>,
    listener: Weak<UdpSocket>,
    socket: Rc<UdpSocket>,
    last: Rc<Cell<Instant>>,
    key: Key,
) -> Key {
    loop {
        tokio::select! {
            readable = socket.readable() => {
                let (Ok(()), Some(listener)) = (readable, listener.upgrade()) else { return key };
                answer_some(&shared, &listener, &socket, &last, &key);
                drop(listener);
                tokio::task::yield_now().await;
            }
            () = sleep_until(last.get() + IDLE) => if last.get().elapsed() >= IDLE {
                return key;
            },
        }
    }
}

fn answer_some(shared: &Shared, listener: &UdpSocket, socket: &UdpSocket, last: &Cell<Instant>, key: &Key) {
    let mut buffer = shared.buffer.0.borrow_mut();
    for _ in 0..BURST {
        match socket.try_recv(&mut buffer) {
            Ok(length) => {
                last.set(Instant::now());
                let _ = inet::send_from(listener, &buffer[..length], key.client, key.place);
            }
            // That nobody listens there: somebody may, later.
            Err(error) if is_word(&error) => {}
            Err(_) => return,
        }
    }
}

/// Something that was said about what was sent, which has been taken from the socket with this.
fn is_word(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable
    )
}
