//! One task per container, which alone changes the container's state.
//!
//! It waits in one place (`run`), lets [`Machine::step`] decide, and does what the effects say (`effects`). Whatever takes a
//! supervisor or a disk to do is done in line: two things asked of one container happen one after the other.

mod destroy;
mod effects;
mod health;
pub(crate) mod launch;
mod networks;
mod next;
mod publish;
mod volumes;

pub(crate) use launch::overlay_options;

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use api::container::{UpdateRequest, WaitResponse};
use jiff::Timestamp;
use shim::launch::MAX_ATTACH;
use shim::wire::Target;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant};

use crate::containers::index::Handle;
use crate::containers::options::WaitCondition;
use crate::containers::record::{Paths, Record};
use crate::containers::state::{EXIT_UNKNOWN, Exit, Happened, Input, Machine, Phase, Timer, Token};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::health::{Monitor, Watched};
use crate::networks::Attachment;
use crate::supervisor::{Event as ShimEvent, Events as ShimEvents, Shim, Status, Streams};

/// How many requests may wait for one container; more senders wait outside.
pub(crate) const MAILBOX: usize = 64;

/// Where an answer goes.
pub(crate) type Reply = oneshot::Sender<Result<()>>;

/// What is asked of a container.
#[derive(Debug)]
pub(crate) enum Command {
    /// Start it.
    Start(Reply),
    /// Stop it.
    Stop { signal: i32, patience: Option<Duration>, reply: Reply },
    /// Stop it and start it.
    Restart { signal: i32, patience: Option<Duration>, reply: Reply },
    /// Send it a signal.
    Kill { signal: i32, ends: bool, reply: Reply },
    /// Freeze it.
    Pause(Reply),
    /// Let it go on.
    Unpause(Reply),
    /// Remove it.
    Remove { force: bool, volumes: bool, reply: Reply },
    /// Tell when this has come.
    Wait { condition: WaitCondition, done: oneshot::Sender<WaitResponse> },
    /// Connect to its streams: the ones of this run, or of the next.
    Attach { streams: Streams, reply: oneshot::Sender<Result<UnixStream>> },
    /// Give it a name that has been taken for it.
    Rename { name: String, reply: Reply },
    /// Connect it with one more network.
    Connect { attachment: Box<Attachment>, reply: Reply },
    /// Disconnect it from the network with this id.
    Disconnect { network: String, reply: Reply },
    /// Change its limits and its restart policy.
    Update { body: Box<UpdateRequest>, reply: Reply },
    /// A probe has told something.
    Probed(Box<Watched>),
    /// The daemon has started and listens: told when that has been taken in.
    DaemonStarted(oneshot::Sender<()>),
}

/// What was found of a container when the daemon started.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nobody has looked yet: the actor does, and says when it has.
    NotYet(oneshot::Sender<()>),
    /// Nothing that runs.
    Nothing,
    /// Its supervisor, which answers.
    Alive { shim: Shim, events: ShimEvents, status: Box<Status>, paused: bool },
    /// How it ended.
    Ended(Exit),
}

pub(crate) struct Actor {
    context: Arc<Context>,
    handle: Arc<Handle>,
    record: Record,
    paths: Paths,
    machine: Machine,
    shim: Option<Shim>,
    events: Option<ShimEvents>,
    tokens: HashMap<Token, Reply>,
    next_token: Token,
    waiters: Vec<(WaitCondition, oneshot::Sender<WaitResponse>)>,
    attachers: VecDeque<(Streams, OwnedFd)>,
    timers: HashMap<Timer, Instant>,
    sweep: Option<JoinHandle<()>>,
    /// What ships its log.
    shipping: Option<JoinHandle<()>>,
    /// The record as it is could not be written.
    unwritten: bool,
    /// What a run left is still there, because its end could not be written.
    unswept: bool,
    oom: bool,
    gone: bool,
    monitor: Option<Monitor>,
    runs: u64,
}

enum Woken {
    Command(Command),
    Shim(Option<ShimEvent>),
    Timer(Timer),
    Closing,
}

impl Actor {
    /// Starts the task of a container whose name is taken, and adds the container to the index.
    pub fn spawn(context: &Arc<Context>, record: Record, found: Found) -> Arc<Handle> {
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let handle = Arc::new(Handle::new(Arc::new(record.clone()), sender));
        context.index.insert(Arc::clone(&handle));
        let actor = Self {
            context: Arc::clone(context),
            handle: Arc::clone(&handle),
            paths: context.paths(&record.id),
            machine: Machine::new(record.life.clone(), record.rules()),
            record,
            shim: None,
            events: None,
            tokens: HashMap::new(),
            next_token: 0,
            waiters: Vec::new(),
            attachers: VecDeque::new(),
            timers: HashMap::new(),
            sweep: None,
            shipping: None,
            unwritten: false,
            unswept: false,
            oom: false,
            gone: false,
            monitor: None,
            runs: 0,
        };
        context.tasks.spawn(actor.run(mailbox, found));
        handle
    }

    async fn run(mut self, mut mailbox: mpsc::Receiver<Command>, found: Found) {
        self.begin(found).await;
        while !self.gone {
            match self.wait(&mut mailbox).await {
                Woken::Command(command) => self.command(command).await,
                Woken::Shim(event) => self.shim_event(event).await,
                Woken::Timer(timer) => {
                    self.timers.remove(&timer);
                    self.drive(match timer {
                        Timer::Stop => Input::StopDeadline,
                        Timer::Kill => Input::KillDeadline,
                        Timer::Restart => Input::RestartDue,
                    })
                    .await;
                }
                Woken::Closing => return,
            }
        }
        // Who asked while it was being removed is told how it ended, and not that the daemon does.
        mailbox.close();
        while let Some(command) = mailbox.recv().await {
            if let Command::Wait { done, .. } = command {
                let _ = done.send(self.wait_response());
            }
        }
    }

    /// The one place where the task waits.
    async fn wait(&mut self, mailbox: &mut mpsc::Receiver<Command>) -> Woken {
        let timer = self.timers.iter().min_by_key(|(_, at)| **at).map(|(timer, at)| (*timer, *at));
        let events = &mut self.events;
        tokio::select! {
            biased;
            () = self.context.closing.cancelled() => Woken::Closing,
            event = async {
                match events {
                    Some(events) => events.next().await,
                    None => pending().await,
                }
            } => Woken::Shim(event),
            // The handle holds a sender, so there is always another one.
            Some(command) = mailbox.recv() => Woken::Command(command),
            timer = async {
                match timer {
                    Some((timer, at)) => {
                        tokio::time::sleep_until(at).await;
                        timer
                    }
                    None => pending().await,
                }
            } => Woken::Timer(timer),
        }
    }

    async fn begin(&mut self, found: Found) {
        if matches!(found, Found::Ended(_)) {
            self.release_rates().await;
        }
        match found {
            Found::NotYet(told) => {
                let context = Arc::clone(&self.context);
                let look = crate::converge::look(&context, &self.record);
                if let Some(found) = context.closing.run_until_cancelled(look).await {
                    Box::pin(self.begin(found)).await;
                }
                let _ = told.send(());
            }
            // What it said last may not be shipped yet.
            Found::Nothing => self.ship(),
            Found::Alive { shim, events, status, paused } => {
                self.handle.set_shim(Some(shim.clone()));
                self.shim = Some(shim);
                self.events = Some(events);
                self.ship();
                self.oom = status.oom;
                let at = Timestamp::from_nanosecond(i128::from(status.started_ns)).unwrap_or_default();
                let pid = i32::try_from(status.pid).unwrap_or_default();
                self.adopt_places();
                self.disconnect_unattached(pid).await;
                self.limit_rates_again().await;
                self.drive(Input::Adopted { pid, paused, at }).await;
            }
            // Written down already; the daemon ended before it had cleared up.
            Found::Ended(exit) if self.machine.life.pid().is_none() && self.knows(&exit) => {
                self.begin_sweep();
            }
            Found::Ended(exit) => {
                self.ship();
                self.forget_health();
                self.tell_unmounts();
                if self.machine.life.pid().is_none() {
                    // Started by a daemon that was gone before it could write it down.
                    self.drive(Input::Adopted { pid: 0, paused: false, at: exit.at }).await;
                }
                self.drive(Input::Exited(exit)).await;
                // What is to run again is started when the daemon serves, after those that it needs.
                self.timers.remove(&Timer::Restart);
            }
        }
    }

    /// Whether the record says already how this run ended.
    fn knows(&self, exit: &Exit) -> bool {
        self.machine.life.finished_at == Some(exit.at)
    }

    fn token(&mut self, reply: Reply) -> Token {
        self.next_token += 1;
        self.tokens.insert(self.next_token, reply);
        self.next_token
    }

    async fn command(&mut self, command: Command) {
        let input = match command {
            Command::Start(reply) => Input::Start(self.token(reply)),
            Command::Stop { signal, patience, reply } => {
                Input::Stop { token: self.token(reply), signal, patience }
            }
            Command::Restart { signal, patience, reply } => {
                Input::Restart { token: self.token(reply), signal, patience }
            }
            Command::Kill { signal, ends, reply } => Input::Kill { token: self.token(reply), signal, ends },
            Command::Pause(reply) => Input::Pause(self.token(reply)),
            Command::Unpause(reply) => Input::Unpause(self.token(reply)),
            Command::Remove { force, volumes, reply } => {
                Input::Remove { token: self.token(reply), force, volumes }
            }
            Command::DaemonStarted(done) => {
                if let Some(pid) = self.machine.life.pid().filter(|pid| *pid > 0) {
                    self.adopt_names(pid);
                    self.check_lender(pid);
                }
                self.drive(Input::DaemonStarted).await;
                // Whoever waited has gone where the daemon ends.
                let _ = done.send(());
                return;
            }
            Command::Probed(watched) => return self.probed(*watched).await,
            Command::Wait { condition, done } => return self.register(condition, done),
            Command::Attach { streams, reply } => {
                let _ = reply.send(self.attach(streams).await);
                return;
            }
            Command::Rename { name, reply } => {
                let result = self.rename(name).await;
                let _ = reply.send(result);
                return;
            }
            Command::Connect { attachment, reply } => {
                let result = self.connect(*attachment).await;
                let _ = reply.send(result);
                return;
            }
            Command::Disconnect { network, reply } => {
                let result = self.disconnect(&network).await;
                let _ = reply.send(result);
                return;
            }
            Command::Update { body, reply } => {
                let result = self.update(&body).await;
                let _ = reply.send(result);
                return;
            }
        };
        self.drive(input).await;
    }

    fn register(&mut self, condition: WaitCondition, done: oneshot::Sender<WaitResponse>) {
        let life = &self.machine.life;
        let running = life.pid().is_some() || life.phase == Phase::Restarting;
        if condition == WaitCondition::NotRunning && !running {
            let _ = done.send(self.wait_response());
        } else {
            // Those that went away meanwhile make room.
            self.waiters.retain(|(_, done)| !done.is_closed());
            self.waiters.push((condition, done));
        }
    }

    fn wait_response(&self) -> WaitResponse {
        WaitResponse { status_code: i64::from(self.machine.life.exit_code), error: None }
    }

    async fn attach(&mut self, streams: Streams) -> Result<UnixStream> {
        if let Some(shim) = &self.shim {
            return shim.attach(Target::Init, streams).await.map_err(Error::supervisor);
        }
        // The far end travels with the launch, so that not a byte of the run is missed.
        let broken = |e| Error::system("cannot make a pair of sockets").with_source(e);
        let (ours, theirs) = UnixStream::pair().map_err(broken)?;
        if self.attachers.len() == MAX_ATTACH {
            self.attachers.pop_front();
        }
        self.attachers.push_back((streams, theirs.into_std().map_err(broken)?.into()));
        Ok(ours)
    }

    async fn shim_event(&mut self, event: Option<ShimEvent>) {
        match event {
            Some(ShimEvent::Oom) => {
                // The run goes on if it was not the init that was killed.
                self.oom = true;
                self.emit(Happened::Oom);
            }
            Some(ShimEvent::ExecExited { id, exit }) => {
                if let Some(exec) = self.context.execs.exited(&id, exit.code) {
                    self.context.tell_exec_end(&self.record, &exec, exit.code);
                }
            }
            Some(ShimEvent::Exited(exit)) => {
                let at = Timestamp::from_nanosecond(i128::from(exit.finished_ns))
                    .unwrap_or_else(|_| Timestamp::now());
                self.ended(Exit { code: exit.code, oom: exit.oom || self.oom, at, unknown: false }).await;
            }
            Some(ShimEvent::Gone) | None => self.supervisor_gone().await,
        }
    }

    /// The supervisor's connection ended without a word: it has told how the run ended in a file, or it was killed. The mount
    /// namespace went with it; the processes may not have.
    async fn supervisor_gone(&mut self) {
        let (paths, cgroup) = (self.paths.clone(), self.context.cgroup(&self.record));
        let exit = crate::blocking::run("find out how a container ended", move || {
            crate::converge::exit_of(&paths, &cgroup)
        })
        .await;
        let exit = exit.unwrap_or_else(|error| {
            tracing::error!(id = %self.record.id, error = %error.chain(), "cannot clear up after a supervisor");
            crate::converge::unknown_exit()
        });
        self.ended(exit).await;
    }

    async fn ended(&mut self, exit: Exit) {
        self.shim = None;
        self.events = None;
        self.oom = false;
        self.handle.set_shim(None);
        self.disconnected().await;
        self.forget_health();
        self.tell_unmounts();
        for exec in self.context.execs.container_ended(&self.record, EXIT_UNKNOWN) {
            self.context.tell_exec_end(&self.record, &exec, EXIT_UNKNOWN);
        }
        self.drive(Input::Exited(exit)).await;
    }
}
