//! Answering: for each container one task with its two sockets, all in one thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::message::{self, Answer, Code, HEADER, QUERY_MAX, Query, Reply, TEXT_MAX, Unfit, kind};
use super::names::{Table, View};
use super::upstream::{self, Shared};
use super::{Container, Network, Sockets, TTL};

/// So many datagrams of one container are answered before another's turn comes.
const BURST: usize = 32;
/// How many connections a container may have: programs close them after one answer.
const CONNECTIONS_EACH: usize = 32;
/// A connection without a query is closed after this time, and one that does not take its answers (RFC 7766, 6.2.3).
const IDLE: Duration = Duration::from_secs(10);
/// Before a failing socket is tried again.
const RECOVERY: Duration = Duration::from_millis(100);
/// The longest message on a stream.
const STREAM_MAX: usize = u16::MAX as usize;

/// Names for any number of containers. Everything happens in the thread that it is made in, within a
/// [`LocalSet`](tokio::task::LocalSet).
#[derive(Debug, Default)]
pub struct Server {
    shared: Rc<Shared>,
    networks: HashMap<String, Rc<Table>>,
    containers: HashMap<String, Served>,
}

#[derive(Debug)]
struct Served {
    container: Container,
    seat: Rc<Seat>,
    ports: [u16; 2],
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is known about one container.
#[derive(Debug, Default)]
struct Seat {
    sees: RefCell<Rc<Sees>>,
    /// How many of its queries are out.
    out: Rc<Cell<usize>>,
}

/// What a container sees, and whom it may ask beyond.
#[derive(Debug, Default)]
struct Sees {
    view: View,
    outside: bool,
    upstreams: Vec<SocketAddr>,
    /// Stands for the servers in the cache: what one has said is not another's word.
    servers: Vec<u8>,
}

impl Server {
    /// Serves a container, or has it served in another way. Without sockets those that it has stay.
    pub fn serve(&mut self, container: Container, sockets: Option<Sockets>) -> io::Result<()> {
        let sees = Rc::new(self.sees(&container));
        if let Some(sockets) = sockets {
            let seat = Rc::new(Seat { sees: RefCell::new(sees), out: Rc::default() });
            let (datagrams, streams) = sockets.into_parts();
            datagrams.set_nonblocking(true)?;
            streams.set_nonblocking(true)?;
            let ports = [datagrams.local_addr()?.port(), streams.local_addr()?.port()];
            let (datagrams, streams) = (UdpSocket::from_std(datagrams)?, TcpListener::from_std(streams)?);
            let task =
                tokio::task::spawn_local(attend(self.shared.clone(), seat.clone(), datagrams, streams));
            self.containers.insert(container.id.clone(), Served { container, seat, ports, task });
            return Ok(());
        }
        let id = &container.id;
        let served = self.containers.get_mut(id).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("container {id} has no sockets here yet"))
        })?;
        served.seat.sees.replace(sees);
        served.container = container;
        Ok(())
    }

    /// Serves a container no longer, and closes its sockets; `false` if it was not served.
    pub fn forget(&mut self, id: &str) -> bool {
        self.containers.remove(id).is_some()
    }

    /// Gives a network its names: these and no others.
    pub fn set_names(&mut self, network: &Network) {
        let table = Rc::new(Table::new(&network.domain, &network.names));
        self.networks.insert(network.id.clone(), table);
        self.look_again(&network.id);
    }

    /// Forgets a network's names; `false` if it had none.
    pub fn forget_network(&mut self, id: &str) -> bool {
        let known = self.networks.remove(id).is_some();
        self.look_again(id);
        known
    }

    /// Whether a container is served.
    pub fn serves(&self, id: &str) -> bool {
        self.containers.contains_key(id)
    }

    /// The containers that are served, with the ports of their sockets for datagrams and for streams.
    pub fn containers(&self) -> impl ExactSizeIterator<Item = (&str, [u16; 2])> {
        self.containers.iter().map(|(id, served)| (id.as_str(), served.ports))
    }

    /// The networks that have names.
    pub fn networks(&self) -> impl ExactSizeIterator<Item = &str> {
        self.networks.keys().map(String::as_str)
    }

    fn look_again(&mut self, network: &str) {
        for served in self.containers.values() {
            if served.container.networks.iter().any(|id| id == network) {
                served.seat.sees.replace(Rc::new(self.sees(&served.container)));
            }
        }
    }

    fn sees(&self, container: &Container) -> Sees {
        let mut tables = Vec::with_capacity(container.networks.len() + 1);
        if !container.own.is_empty() {
            tables.push(Rc::new(Table::new("", &container.own)));
        }
        tables.extend(container.networks.iter().filter_map(|id| self.networks.get(id).cloned()));
        let mut servers = Vec::new();
        for server in &container.upstreams {
            match server.ip() {
                IpAddr::V4(v4) => servers.extend_from_slice(&v4.octets()),
                IpAddr::V6(v6) => servers.extend_from_slice(&v6.octets()),
            }
            servers.extend_from_slice(&server.port().to_be_bytes());
            if let SocketAddr::V6(v6) = server {
                servers.extend_from_slice(&v6.scope_id().to_be_bytes());
            }
        }
        Sees {
            view: View { tables },
            outside: container.outside,
            upstreams: container.upstreams.clone(),
            servers,
        }
    }
}

/// What is to be done with a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Nothing.
    Silent,
    /// The answer is there.
    Answered,
    /// Servers outside are asked.
    Outside,
}

/// Answers at once what needs nobody else.
fn answer(shared: &Shared, sees: &Sees, message: &[u8], stream: bool, out: &mut Vec<u8>) -> Outcome {
    let query = match Query::read(message) {
        Ok(query) => query,
        Err(Unfit::Silent) => return Outcome::Silent,
        Err(Unfit::Told(code)) => {
            message::refuse(message, code, out);
            return Outcome::Answered;
        }
    };
    let limit = if stream { STREAM_MAX } else { query.datagram_max() };
    let mut text = [0; TEXT_MAX];
    let text = query.text(&mut text);
    let code = if query.extended.is_some_and(|extended| extended.version > 0) {
        Code::Fine
    } else if !query.is_internet() {
        Code::NotDone
    } else if matches!(query.kind, kind::AXFR | kind::IXFR) {
        Code::Refused
    } else if text.is_some_and(|text| look_up(shared, &sees.view, &query, text, limit, out)) {
        return Outcome::Answered;
    } else if !sees.outside {
        // Names without dots and addresses can only be of a network that is not this container's. Of others nothing is known, and
        // nothing must be claimed.
        let ours = text.is_some_and(|text| !text.contains('.') || message::reverse(text).is_some());
        if ours { Code::NoName } else { Code::Failure }
    } else if sees.upstreams.is_empty() {
        Code::Failure
    } else {
        let kept =
            key(sees, &query).is_some_and(|key| shared.cache.borrow_mut().get(&key, Instant::now(), out));
        if !kept {
            return Outcome::Outside;
        }
        fit(&query, limit, out);
        return Outcome::Answered;
    };
    Answer::new(&query, code, limit, out).end();
    Outcome::Answered
}

/// What a container that asks by a datagram is told without anybody else being asked: by the names of its networks and by what it may do.
/// `None` if servers outside would be asked, or nothing is said at all.
pub fn answer_alone(container: &Container, networks: &[Network], message: &[u8]) -> Option<Vec<u8>> {
    let mut server = Server::default();
    networks.iter().for_each(|network| server.set_names(network));
    let (sees, mut out) = (server.sees(container), Vec::new());
    (answer(&server.shared, &sees, message, false, &mut out) == Outcome::Answered).then_some(out)
}

/// Answers from the names of containers; `false` if this is none. Whatever is asked about a name of ours, nobody outside is.
fn look_up(
    shared: &Shared,
    view: &View,
    query: &Query<'_>,
    text: &str,
    limit: usize,
    out: &mut Vec<u8>,
) -> bool {
    if matches!(query.kind, kind::PTR | kind::ANY)
        && let Some(name) = message::reverse(text).and_then(|address| view.name(address))
    {
        let mut answer = Answer::new(query, Code::Fine, limit, out);
        answer.name(name, TTL);
        answer.end();
        return true;
    }
    let wanted = |address: &IpAddr| match query.kind {
        kind::A => address.is_ipv4(),
        kind::AAAA => address.is_ipv6(),
        kind::ANY => true,
        _ => false,
    };
    let Some((addresses, count)) = view.addresses(text, wanted) else { return false };
    let mut answer = Answer::new(query, Code::Fine, limit, out);
    let fitting = addresses.iter().copied().filter(wanted);
    if count < 2 {
        fitting.for_each(|address| {
            answer.address(address, TTL);
        });
    } else {
        let mut shuffled: Vec<IpAddr> = fitting.collect();
        for place in (1..shuffled.len()).rev() {
            shuffled.swap(place, shared.below(place + 1));
        }
        // What does not fit is left to a stream.
        let _ = shuffled.into_iter().all(|address| answer.address(address, TTL));
    }
    answer.end();
    true
}

/// What an answer is kept under: all that it may depend on. `None` if that is more than can be said.
fn key(sees: &Sees, query: &Query<'_>) -> Option<Vec<u8>> {
    if query.more || query.extended.is_some_and(|extended| extended.options) {
        return None;
    }
    let signatures = query.extended.is_some_and(|extended| extended.signatures);
    let flags = [query.extended.is_some(), signatures, query.unchecked(), query.message()[2] & 1 != 0];
    let mut key = query.question().to_ascii_lowercase();
    key.extend(flags.map(u8::from));
    key.extend_from_slice(&sees.servers);
    Some(key)
}

/// Makes an answer from outside one to this query: with its number, its spelling, its length.
fn fit(query: &Query<'_>, limit: usize, out: &mut Vec<u8>) {
    message::renumber(out, [query.message()[0], query.message()[1]]);
    let question = query.question();
    if let Some(place) = out.get_mut(HEADER..HEADER + question.len()) {
        place.copy_from_slice(question);
    }
    if out.len() > limit {
        let whole = std::mem::take(out);
        message::shorten(&whole, query, out);
    }
}

/// Asks outside, and keeps what comes back.
async fn outside(shared: &Rc<Shared>, sees: &Sees, message: Rc<[u8]>, stream: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let Ok(query) = Query::read(&message) else { return out };
    let key = key(sees, &query);
    let ask = async {
        let said = upstream::ask(shared, &sees.upstreams, &message, stream).await;
        let reply = said.as_deref().and_then(|said| read(said, &query));
        if let (Some(said), Some(reply), Some(key)) = (&said, reply, &key)
            && let Some(seconds) = reply.lifetime()
        {
            shared.cache.borrow_mut().put(key.clone(), said, seconds, Instant::now());
        }
        said
    };
    let said = match &key {
        Some(key) => upstream::once(shared, &[key, &[u8::from(stream)][..]].concat(), ask).await,
        None => ask.await,
    };
    let limit = if stream { STREAM_MAX } else { query.datagram_max() };
    match said.filter(|said| read(said, &query).is_some()) {
        Some(said) => {
            out.extend_from_slice(&said);
            fit(&query, limit, &mut out);
        }
        None => Answer::new(&query, Code::Failure, limit, &mut out).end(),
    }
    out
}

/// An answer that repeats the question, as what goes to a container does.
fn read<'a>(said: &'a [u8], query: &Query<'_>) -> Option<Reply<'a>> {
    let id = *said.first_chunk()?;
    Reply::read(said, id, query.question()).filter(Reply::has_question)
}

/// That this container asks for too much at once.
fn too_much(message: &[u8], out: &mut Vec<u8>) {
    if let Ok(query) = Query::read(message) {
        Answer::new(&query, Code::Failure, STREAM_MAX, out).end();
    }
}

/// Answers one container, for ever.
async fn attend(shared: Rc<Shared>, seat: Rc<Seat>, datagrams: UdpSocket, streams: TcpListener) {
    let datagrams = Rc::new(datagrams);
    let connections = Rc::new(());
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            readable = datagrams.readable() => {
                let went = readable.and_then(|()| burst(&shared, &seat, &datagrams, &mut tasks));
                if went.is_err() {
                    sleep(RECOVERY).await;
                }
                tokio::task::yield_now().await;
            }
            accepted = streams.accept() => match accepted {
                Ok((stream, _)) if Rc::strong_count(&connections) <= CONNECTIONS_EACH => {
                    let (shared, seat, held) = (shared.clone(), seat.clone(), connections.clone());
                    tasks.spawn_local(async move {
                        let _ = converse(&shared, &seat, stream).await;
                        drop(held);
                    });
                }
                Ok(_) => {}
                Err(_) => sleep(RECOVERY).await,
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Answers what is there, up to a bound.
fn burst(
    shared: &Rc<Shared>,
    seat: &Rc<Seat>,
    socket: &Rc<UdpSocket>,
    tasks: &mut JoinSet<()>,
) -> io::Result<()> {
    let sees = seat.sees.borrow().clone();
    let mut buffer = shared.buffer.borrow_mut();
    let mut out = Vec::with_capacity(message::PLAIN_MAX);
    for _ in 0..BURST {
        let (length, peer) = match socket.try_recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        };
        let message = &buffer[..length];
        match answer(shared, &sees, message, false, &mut out) {
            Outcome::Silent => continue,
            Outcome::Answered => {}
            Outcome::Outside => match shared.admit(&seat.out) {
                Some(permit) => {
                    let (shared, sees, socket) = (shared.clone(), sees.clone(), socket.clone());
                    let message: Rc<[u8]> = message.into();
                    tasks.spawn_local(async move {
                        let answer = outside(&shared, &sees, message, false).await;
                        drop(permit);
                        let _ = socket.try_send_to(&answer, peer);
                    });
                    continue;
                }
                None => too_much(message, &mut out),
            },
        }
        // Who does not take its answers does not get them: datagrams may get lost.
        let _ = socket.try_send_to(&out, peer);
    }
    Ok(())
}

/// Answers the queries of one connection, one after the other.
async fn converse(shared: &Rc<Shared>, seat: &Seat, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = Vec::new();
    loop {
        let length = usize::from(timeout(IDLE, stream.read_u16()).await??);
        if !(HEADER..=QUERY_MAX).contains(&length) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut message = vec![0; length];
        timeout(IDLE, stream.read_exact(&mut message)).await??;
        let sees = seat.sees.borrow().clone();
        match answer(shared, &sees, &message, true, &mut out) {
            Outcome::Silent => return Err(io::ErrorKind::InvalidData.into()),
            Outcome::Answered => {}
            Outcome::Outside => match shared.admit(&seat.out) {
                Some(permit) => {
                    out = outside(shared, &sees, message.into(), true).await;
                    drop(permit);
                }
                None => too_much(&message, &mut out),
            },
        }
        let length = u16::try_from(out.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        out.splice(..0, length.to_be_bytes());
        timeout(IDLE, stream.write_all(&out)).await??;
    }
}

#[cfg(test)]
mod tests;
