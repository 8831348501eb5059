//! Asking the servers outside: all of them, in turn, for as long as the asker is likely to wait.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::cache::Cache;
use super::message::{self, Query, Reply};

/// A server that says nothing for this long is not waited for alone: the next is asked as well, and the first answer counts.
const STEP: Duration = Duration::from_millis(1000);
/// How often each server is asked: datagrams get lost.
const ROUNDS: usize = 2;
/// Programs ask again after five seconds, with another query.
const DEADLINE: Duration = Duration::from_secs(5);
/// A server that was silent is asked after the others for this long.
const SHUNNED: Duration = Duration::from_secs(30);
/// How many such servers are remembered: there are a few on a host, and those that users name for a container.
const SHUNNED_MAX: usize = 1024;
/// The longest datagram.
pub(super) const DATAGRAM_BUFFER: usize = 1 << 16;
/// How many queries are out for all containers together: each has a socket.
const OUT_MAX: usize = 1024;
/// How many are out for one container.
const OUT_EACH: usize = 128;
/// As many a container may always have out, whatever the others do.
const OUT_OWN: usize = 4;

/// What all containers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) cache: RefCell<Cache>,
    /// Where datagrams arrive before anything waits again.
    pub(super) buffer: RefCell<Box<[u8]>>,
    random: RefCell<Random>,
    silent: RefCell<HashMap<SocketAddr, Instant>>,
    asking: RefCell<HashMap<Vec<u8>, watch::Receiver<Option<Said>>>>,
    out: Rc<Cell<usize>>,
}

/// What became of asking: whatever was said last, if anything was.
pub(super) type Said = Option<Rc<[u8]>>;

impl Default for Shared {
    fn default() -> Self {
        Self {
            cache: RefCell::default(),
            buffer: RefCell::new(vec![0; DATAGRAM_BUFFER].into()),
            random: RefCell::default(),
            silent: RefCell::default(),
            asking: RefCell::default(),
            out: Rc::default(),
        }
    }
}

impl Shared {
    /// Leave to ask outside for a container that has so many queries out.
    pub(super) fn admit(&self, own: &Rc<Cell<usize>>) -> Option<Permit> {
        let may = own.get() < OUT_OWN || own.get() < OUT_EACH && self.out.get() < OUT_MAX;
        may.then(|| Permit::new([own.clone(), self.out.clone()]))
    }

    /// A number below `end`, unlike the last.
    pub(super) fn below(&self, end: usize) -> usize {
        let random = u64::from(u32::from_ne_bytes(self.random.borrow_mut().take()));
        // So much longer than any list that the first are not noticeably ahead.
        usize::try_from((random * end as u64) >> 32).unwrap_or_default()
    }

    fn order(&self, servers: &[SocketAddr]) -> Vec<SocketAddr> {
        let (silent, now) = (self.silent.borrow(), Instant::now());
        let is_silent = |server: &SocketAddr| silent.get(server).is_some_and(|until| *until > now);
        let (last, first): (Vec<_>, Vec<_>) = servers.iter().copied().partition(is_silent);
        [first, last].concat()
    }

    fn was_silent(&self, server: SocketAddr) {
        let mut silent = self.silent.borrow_mut();
        if silent.len() >= SHUNNED_MAX {
            silent.clear();
        }
        silent.insert(server, Instant::now() + SHUNNED);
    }

    fn has_answered(&self, server: SocketAddr) {
        self.silent.borrow_mut().remove(&server);
    }
}

/// Some of what there is a bounded number of; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit([Rc<Cell<usize>>; 2]);

impl Permit {
    fn new(counts: [Rc<Cell<usize>>; 2]) -> Self {
        for count in &counts {
            count.set(count.get() + 1);
        }
        Self(counts)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for count in &self.0 {
            count.set(count.get().saturating_sub(1));
        }
    }
}

/// The kernel's random bytes, taken many at a time: a number that can be guessed is one that others can answer.
#[derive(Debug)]
struct Random {
    bytes: [u8; 256],
    left: usize,
}

impl Default for Random {
    fn default() -> Self {
        Self { bytes: [0; 256], left: 0 }
    }
}

impl Random {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        if self.left < N {
            // As much as this is never interrupted, nor cut short, once the host has started.
            let _ = rustix::rand::getrandom(&mut self.bytes[..], rustix::rand::GetRandomFlags::empty());
            self.left = self.bytes.len();
        }
        self.left -= N;
        let mut taken = [0; N];
        taken.copy_from_slice(&self.bytes[self.left..self.left + N]);
        // What was used is not there any more.
        self.bytes[self.left..self.left + N].fill(0);
        taken
    }
}

/// That something is being asked: it is not any more when this is dropped.
struct Asking<'s> {
    shared: &'s Shared,
    what: &'s [u8],
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.shared.asking.borrow_mut().remove(self.what);
    }
}

/// Asks for `what` unless it is being asked already, and waits for what is said. Who asks the same many times at once would wait no less,
/// and each time is one more that a stranger's answer may be taken for the right one. The number in the answer is whoever's was first.
pub(super) async fn once(shared: &Shared, what: &[u8], ask: impl Future<Output = Said>) -> Said {
    loop {
        let asked = shared.asking.borrow().get(what).cloned();
        let Some(mut asked) = asked else { break };
        if let Ok(said) = asked.wait_for(Option::is_some).await {
            return said.clone().flatten();
        }
        // Who asked is no more.
    }
    let (sender, receiver) = watch::channel(None);
    shared.asking.borrow_mut().insert(what.to_vec(), receiver);
    let asking = Asking { shared, what };
    let said = ask.await;
    drop(asking);
    let _ = sender.send(Some(said.clone()));
    said
}

/// What one server has said.
enum Word {
    /// What was asked for, or that it is not there.
    Answer(Vec<u8>),
    /// That it cannot say: another may.
    Failure(Vec<u8>),
}

/// Asks `servers` what stands in `message`, and returns the first answer, or else the last failure that was one. `stream` to ask by
/// streams at once.
pub(super) async fn ask(
    shared: &Rc<Shared>,
    servers: &[SocketAddr],
    message: &Rc<[u8]>,
    stream: bool,
) -> Said {
    let order = shared.order(servers);
    let mut queue: VecDeque<SocketAddr> = std::iter::repeat_n(order, ROUNDS).flatten().collect();
    let mut tries = JoinSet::new();
    let mut failure = None;
    let (mut next, deadline) = (Instant::now(), Instant::now() + DEADLINE);
    let mut last: Option<SocketAddr> = None;
    while !(queue.is_empty() && tries.is_empty()) {
        tokio::select! {
            biased;
            Some(done) = tries.join_next() => {
                let Ok((server, said)) = done else { continue };
                match said {
                    Ok(Word::Answer(answer)) => {
                        shared.has_answered(server);
                        return Some(answer.into());
                    }
                    Ok(Word::Failure(answer)) => failure = Some(answer.into()),
                    Err(_) => shared.was_silent(server),
                }
                // It would say the same again.
                queue.retain(|other| *other != server);
                if last == Some(server) {
                    (next, last) = (Instant::now(), None);
                }
            }
            () = sleep_until(next), if !queue.is_empty() => {
                if let Some(silent) = last {
                    shared.was_silent(silent);
                }
                last = queue.pop_front();
                next = Instant::now() + STEP;
                if let Some(server) = last {
                    tries.spawn_local(attempt(shared.clone(), server, message.clone(), stream));
                }
            }
            () = sleep_until(deadline) => break,
        }
    }
    failure
}

async fn attempt(
    shared: Rc<Shared>,
    server: SocketAddr,
    message: Rc<[u8]>,
    stream: bool,
) -> (SocketAddr, io::Result<Word>) {
    let said = async {
        let query = Query::read(&message).map_err(|_| io::ErrorKind::InvalidInput)?;
        if stream {
            return by_stream(&shared, server, &query).await;
        }
        let (said, cut) = by_datagram(&shared, server, &query).await?;
        if cut && let Ok(whole) = by_stream(&shared, server, &query).await {
            return Ok(whole);
        }
        Ok(said)
    };
    let said = said.await;
    (server, said)
}

/// Reads an answer to `query` that was asked as `id`, and gives it back its number.
fn understand(answer: &[u8], id: [u8; 2], query: &Query<'_>) -> Option<(Word, bool)> {
    let reply = Reply::read(answer, id, query.question())?;
    let mut own = answer.to_vec();
    message::renumber(&mut own, [query.message()[0], query.message()[1]]);
    let said = if reply.is_final() { Word::Answer(own) } else { Word::Failure(own) };
    Some((said, reply.is_cut()))
}

/// From a port and with a number that nobody knows, so that nobody else can answer.
async fn by_datagram(shared: &Shared, server: SocketAddr, query: &Query<'_>) -> io::Result<(Word, bool)> {
    let own: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(own).await?;
    socket.connect(server).await?;
    let id = shared.random.borrow_mut().take();
    let mut message = query.message().to_vec();
    message::renumber(&mut message, id);
    socket.send(&message).await?;
    loop {
        if socket.ready(Interest::READABLE | Interest::ERROR).await?.is_error() {
            // Nobody listens there: a datagram says so, but as no content.
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            let _ =
                socket.try_io(Interest::ERROR, || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into()));
        }
        let understood = {
            let mut buffer = shared.buffer.borrow_mut();
            match socket.try_recv(&mut buffer) {
                Ok(length) => understand(&buffer[..length], id, query),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
        };
        match understood {
            Some(understood) => return Ok(understood),
            // Whoever floods this with lies keeps nobody else waiting.
            None => tokio::task::yield_now().await,
        }
    }
}

async fn by_stream(shared: &Shared, server: SocketAddr, query: &Query<'_>) -> io::Result<Word> {
    let mut stream = TcpStream::connect(server).await?;
    let id = shared.random.borrow_mut().take();
    let length = u16::try_from(query.message().len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut message = length.to_be_bytes().to_vec();
    message.extend_from_slice(query.message());
    message::renumber(&mut message[2..], id);
    stream.write_all(&message).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    let (said, _) = understand(&answer, id, query).ok_or(io::ErrorKind::InvalidData)?;
    Ok(said)
}
