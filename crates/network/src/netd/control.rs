//! netd's side of the conversation with a daemon.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::wire::{
    self, CONTAINERS_MAX, DESCRIPTORS_MAX, NETWORKS_MAX, PORTS_MAX, Relayed, Reply, Request, Served, Serving,
    VERSION,
};
use crate::dns::{Server, Sockets};
use crate::relay::Relays;

/// How long netd stays when it has nothing to do: a daemon that is restarted comes back within this.
const GRACE: Duration = Duration::from_secs(10);
/// A daemon that does not take its answer for this long is not there.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Before a failing listener is tried again.
const RECOVERY: Duration = Duration::from_millis(100);
/// How much is read at once.
const PIECE: usize = 1 << 16;
/// How many ends of processes wait to be seen to; more wait in their tasks.
const ENDS_WAITING: usize = 64;

/// A daemon's connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    greeted: bool,
}

impl Connection {
    pub(super) fn new(stream: OwnedFd) -> io::Result<Self> {
        let stream = std::os::unix::net::UnixStream::from(stream);
        stream.set_nonblocking(true)?;
        Ok(Self::over(UnixStream::from_std(stream)?))
    }

    fn over(stream: UnixStream) -> Self {
        Self { stream, input: Vec::new(), descriptors: Vec::new(), greeted: false }
    }

    /// Waits for the next request; the inner error is one that can be answered. Nothing is lost if it is not waited for to the end.
    async fn next(&mut self) -> io::Result<Result<Request, String>> {
        loop {
            match wire::take(&mut self.input) {
                Ok(Some(request)) => return Ok(Ok(request)),
                Ok(None) => {}
                Err(error @ wire::Malformed::Value(_)) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    return Ok(Err(format!("{error}: {}", source.unwrap_or_default())));
                }
                Err(error @ wire::Malformed::Length(_)) => return Err(io::Error::other(error)),
            }
            self.stream.readable().await?;
            let (start, descriptors) = (self.input.len(), &mut self.descriptors);
            self.input.resize(start + PIECE, 0);
            let (stream, piece) = (&self.stream, &mut self.input[start..]);
            let got = stream.try_io(Interest::READABLE, || sys::socket::recv_fds(stream, piece, descriptors));
            self.input.truncate(start + got.as_ref().map_or(0, |length| *length));
            match got {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) if self.descriptors.len() > DESCRIPTORS_MAX => {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn say(&mut self, reply: &Reply) -> io::Result<()> {
        let frame = wire::encode(reply).map_err(io::Error::other)?;
        timeout(ANSWER_WAIT, self.stream.write_all(&frame)).await?
    }
}

/// Tells a daemon that it is refused, before there is anything else to be told.
pub(super) fn refuse(stream: &OwnedFd, why: String) {
    if let Ok(frame) = wire::encode(&Reply::Refused { why }) {
        let _ = sys::socket::send(stream, &frame);
    }
}

/// netd: what it serves, and for whom.
#[derive(Debug)]
pub(super) struct Control {
    dns: Server,
    relays: Relays,
    /// The processes whose end ends the serving of a container.
    lives: HashMap<String, Life>,
    number: u64,
    ends: mpsc::Sender<(String, u64)>,
    ended: mpsc::Receiver<(String, u64)>,
}

/// A process that is watched. Numbered: of one that has just been replaced the end may be on its way.
#[derive(Debug)]
struct Life {
    number: u64,
    task: JoinHandle<()>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Control {
    pub(super) fn new() -> Self {
        let (ends, ended) = mpsc::channel(ENDS_WAITING);
        Self {
            dns: Server::default(),
            relays: Relays::default(),
            lives: HashMap::new(),
            number: 0,
            ends,
            ended,
        }
    }

    /// Serves until it is told to stop, or nobody is there and nothing is to do. Who told it hears the end when what is returned is
    /// dropped.
    pub(super) async fn run(
        mut self,
        listener: UnixListener,
        mut daemon: Option<Connection>,
    ) -> Option<Connection> {
        loop {
            let idle = daemon.is_none() && self.dns.containers().len() == 0 && self.relays.is_empty();
            tokio::select! {
                // A daemon that has gone is gone before the next is welcomed.
                biased;
                request = next(&mut daemon) => {
                    let Some(connection) = &mut daemon else { continue };
                    match self.converse(connection, request).await {
                        Ok(true) => {}
                        Ok(false) => return daemon,
                        Err(_) => daemon = None,
                    }
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => welcome(stream, &mut daemon).await,
                    Err(_) => sleep(RECOVERY).await,
                },
                Some((id, number)) = self.ended.recv() => {
                    if self.lives.get(&id).is_some_and(|life| life.number == number) {
                        self.forget(&id);
                        self.relays.closed().await;
                    }
                }
                () = sleep(GRACE), if idle => return None,
            }
        }
    }

    /// Does what is asked and answers; `false` if that was to stop.
    async fn converse(
        &mut self,
        connection: &mut Connection,
        request: io::Result<Result<Request, String>>,
    ) -> io::Result<bool> {
        let reply = match request? {
            Err(why) => {
                // Whatever came with it is not another's.
                connection.descriptors.clear();
                Reply::Refused { why }
            }
            Ok(request) => {
                let stop = request == Request::Stop;
                let count = request.descriptors();
                if connection.descriptors.len() < count {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let descriptors = connection.descriptors.drain(..count).collect();
                let reply = self.answer(&mut connection.greeted, request, descriptors);
                // What is said to be closed can be opened by whoever hears it.
                self.relays.closed().await;
                if stop {
                    // Whether or not it is heard.
                    let _ = connection.say(&reply).await;
                    return Ok(false);
                }
                reply
            }
        };
        connection.say(&reply).await?;
        Ok(true)
    }

    fn answer(&mut self, greeted: &mut bool, request: Request, descriptors: Vec<OwnedFd>) -> Reply {
        if let Request::Hello { version } = request {
            *greeted = version == VERSION;
            return Reply::Hello { version: VERSION };
        }
        if !*greeted && request != Request::Stop {
            return Reply::Refused { why: format!("only version {VERSION} of the protocol is understood") };
        }
        let done = request
            .check()
            .map_err(|what| io::Error::new(io::ErrorKind::InvalidInput, what))
            .and_then(|()| self.act(request, descriptors));
        done.unwrap_or_else(|error| Reply::Refused { why: error.to_string() })
    }

    fn act(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> io::Result<Reply> {
        let mut descriptors = descriptors.into_iter();
        match request {
            Request::Serve { container, .. } => {
                let sockets = match (descriptors.next(), descriptors.next()) {
                    (Some(datagrams), Some(streams)) => Some(Sockets::new(datagrams, streams)),
                    _ => None,
                };
                if self.dns.containers().len() >= CONTAINERS_MAX {
                    return Err(io::Error::other("too many containers are served"));
                }
                if sockets.is_some() {
                    // It has been started again: it lives on when the process of before ends.
                    self.lives.remove(&container.id);
                }
                self.dns.serve(container, sockets)?;
            }
            Request::Until { id } => {
                if !self.dns.serves(&id) && !self.relays.has(&id) {
                    return Err(io::Error::other(format!("container {id} is not served")));
                }
                if let Some(process) = descriptors.next() {
                    self.watch(id, process)?;
                }
            }
            Request::Ports { id, ports, anew } => {
                if self.relays.count() + ports.len() > PORTS_MAX {
                    return Err(io::Error::other("too many ports are published"));
                }
                if anew {
                    self.lives.remove(&id);
                }
                self.relays.open(&id, anew, ports.into_iter().zip(descriptors).collect())?;
            }
            Request::ChangePorts { id, ports } => self.relays.change(&id, ports)?,
            Request::Refuse { subnets, devices, own } => self.relays.refuse(subnets, devices, own),
            Request::ClosePorts { id, ports } => self.relays.close(&id, &ports),
            Request::Forget { id } => self.forget(&id),
            Request::Names(network) => {
                if self.dns.networks().len() >= NETWORKS_MAX {
                    return Err(io::Error::other("too many networks have names"));
                }
                self.dns.set_names(&network);
            }
            Request::ForgetNetwork { id } => {
                self.dns.forget_network(&id);
            }
            Request::List => return Ok(Reply::Serving(self.list())),
            Request::Hello { .. } | Request::Stop => {}
        }
        Ok(Reply::Done)
    }

    fn forget(&mut self, id: &str) {
        self.lives.remove(id);
        self.dns.forget(id);
        self.relays.forget(id);
    }

    fn list(&self) -> Serving {
        let served =
            |(id, [datagrams, streams]): (&str, [u16; 2])| Served { id: id.to_owned(), datagrams, streams };
        let mut containers: Vec<Served> = self.dns.containers().map(served).collect();
        containers.sort_unstable();
        let mut networks: Vec<String> = self.dns.networks().map(str::to_owned).collect();
        networks.sort_unstable();
        let relayed = self.relays.containers();
        let mut ports: Vec<Relayed> = relayed
            .map(|(id, ports)| Relayed { id: id.to_owned(), ports: ports.cloned().collect() })
            .collect();
        ports.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        Serving { containers, networks, ports }
    }

    #[expect(
        deprecated,
        reason = "the new name is unsafe for types whose descriptor may change; an owned one does not"
    )]
    fn watch(&mut self, id: String, process: OwnedFd) -> io::Result<()> {
        let process = AsyncFd::with_interest(process, Interest::READABLE)?;
        self.number += 1;
        let (number, ends, name) = (self.number, self.ends.clone(), id.clone());
        let task = tokio::task::spawn_local(async move {
            if process.readable().await.is_ok() {
                let _ = ends.send((name, number)).await;
            }
        });
        self.lives.insert(id, Life { number, task });
        Ok(())
    }
}

/// The next request of the daemon that is there; never, if none is.
async fn next(daemon: &mut Option<Connection>) -> io::Result<Result<Request, String>> {
    match daemon {
        Some(connection) => connection.next().await,
        None => std::future::pending().await,
    }
}

/// Takes a connection, if it is a daemon of the same user and there is no other.
async fn welcome(stream: UnixStream, daemon: &mut Option<Connection>) {
    let same = sys::socket::peer_uid(&stream).is_ok_and(|uid| uid == sys::process::effective_user());
    if !same {
        return;
    }
    // Who has connected and said nothing is no daemon.
    if daemon.as_ref().is_some_and(|daemon| daemon.greeted) {
        let _ = Connection::over(stream).say(&Reply::Busy).await;
        return;
    }
    *daemon = Some(Connection::over(stream));
}
