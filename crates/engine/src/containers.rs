//! The containers' service: one file for each thing that is more than a message to the container's actor.

pub(crate) mod actor;
pub mod attachment;
pub mod commit;
pub mod copy;
pub mod create;
pub mod export;
pub(crate) mod files;
pub mod identity;
pub(crate) mod index;
mod inside;
pub(crate) mod joins;
pub mod layered;
pub(crate) mod lender;
pub(crate) mod linked;
pub mod list;
pub mod logs;
pub mod next;
pub mod options;
pub mod prune;
pub mod record;
pub(crate) mod runtimes;
pub mod show;
pub(crate) mod start;
pub mod state;
pub mod stats;
pub mod top;
pub mod update;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::container::{
    Changed, CreateRequest, CreateResponse, Inspect, Top, UpdateRequest, UpdateResponse, WaitResponse,
};
use api::network::EndpointSettings;
use shim::wire::{Streams, Target};
use tokio::sync::oneshot;

pub use attachment::Attachment;
pub use commit::CommitOptions;
pub use copy::{ExtractOptions, Stat};
pub use logs::LogStream;
pub use options::{AttachOptions, ListOptions, LogOptions, RemoveOptions, StopOptions, WaitCondition};
pub use record::{Identity, ImageRef, MountKind, MountRecord, Owners, Paths, Record};

use crate::containers::actor::{Command, Reply};
use crate::containers::attachment::Leaving;
use crate::containers::index::Handle;
use crate::containers::state::{Phase, SIGKILL};
use crate::context::Context;
use crate::{Error, Result, blocking, names, signals};

/// Seconds a container may take to stop where it does not say.
const STOP_PATIENCE_S: i64 = 10;
/// What is said where what changes is what a process has only from its beginning.
const AT_NEXT_START: &str = "The container runs: its environment and its mounts change when it starts next";
/// What is said where ports are published of a container that is on internal networks alone.
const NO_WAY_IN: &str =
    "Published ports are discarded: all networks of the container are internal (--internal)";

/// The containers.
#[derive(Debug)]
pub struct Containers {
    context: Arc<Context>,
}

/// A registered wait: it was in place before this was returned, so nothing that happens after is missed.
#[derive(Debug)]
pub struct Waiting {
    done: oneshot::Receiver<WaitResponse>,
}

impl Waiting {
    /// Waits.
    pub async fn done(self) -> WaitResponse {
        self.done.await.unwrap_or_else(|_| WaitResponse {
            status_code: -1,
            error: Some(api::container::WaitError { message: "the daemon is ending".to_owned() }),
        })
    }
}

fn gone(name: &str) -> Error {
    Error::not_found(format!("No such container: {name}"))
}

impl Containers {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    fn find(&self, name: &str) -> Result<Arc<Handle>> {
        self.context.index.find(name)
    }

    /// Sends a command and waits for its answer. The command is carried out whether or not the caller stays.
    async fn ask(&self, name: &str, command: impl FnOnce(Reply) -> Command) -> Result<()> {
        let handle = self.find(name)?;
        let (reply, answer) = oneshot::channel();
        handle.mailbox.send(command(reply)).await.map_err(|_| gone(name))?;
        answer.await.map_err(|_| gone(name))?
    }

    /// Makes a container; without a name one is made up.
    pub async fn create(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        body: CreateRequest,
    ) -> Result<CreateResponse> {
        let name = name.map(str::to_owned).filter(|name| !name.is_empty());
        let platform = platform.map(str::to_owned).filter(|platform| !platform.is_empty());
        let context = Arc::clone(&self.context);
        // A client that goes away does not stop half-way what it has begun.
        let made = self.context.tasks.spawn(create::run(context, name, platform, body));
        made.await.map_err(|e| Error::system("a bug: create panicked").with_source(e))?
    }

    /// Starts it. Already running is `NotModified`.
    pub async fn start(&self, name: &str) -> Result<()> {
        self.ask(name, Command::Start).await
    }

    /// Stops it. Not running is `NotModified`.
    pub async fn stop(&self, name: &str, options: StopOptions) -> Result<()> {
        let (signal, patience) = stop_how(&self.find(name)?.record(), &options)?;
        self.ask(name, |reply| Command::Stop { signal, patience, reply }).await
    }

    /// Stops it if it runs, and starts it.
    pub async fn restart(&self, name: &str, options: StopOptions) -> Result<()> {
        let (signal, patience) = stop_how(&self.find(name)?.record(), &options)?;
        self.ask(name, |reply| Command::Restart { signal, patience, reply }).await
    }

    /// Sends its init a signal, by name or number; `None` is SIGKILL.
    pub async fn kill(&self, name: &str, signal: Option<&str>) -> Result<()> {
        let signal = match signal {
            None | Some("") => SIGKILL,
            Some(text) => signals::parse(text)?,
        };
        let record = self.find(name)?.record();
        let ends = signal == SIGKILL || signals::stop_signal(&record.config.stop_signal)? == signal;
        let waiting = match signal {
            // As Docker's, it is over when this returns: what comes next may count on that.
            SIGKILL => Some(self.wait(name, WaitCondition::NotRunning).await?),
            _ => None,
        };
        let result = self.ask(name, |reply| Command::Kill { signal, ends, reply }).await;
        if let (Ok(()), Some(waiting)) = (&result, waiting) {
            let _ = tokio::time::timeout(state::KILL_PATIENCE, waiting.done()).await;
        }
        result.map_err(|error| match error.kind() {
            crate::Kind::Conflict => Error::conflict(format!("cannot kill container: {name}: {error}")),
            _ => error,
        })
    }

    /// Freezes it.
    pub async fn pause(&self, name: &str) -> Result<()> {
        self.ask(name, Command::Pause).await
    }

    /// Lets it go on.
    pub async fn unpause(&self, name: &str) -> Result<()> {
        self.ask(name, Command::Unpause).await
    }

    /// Registers a wait; send the response's headers when this returns, the body when `done` does.
    pub async fn wait(&self, name: &str, condition: WaitCondition) -> Result<Waiting> {
        let handle = self.find(name)?;
        let (done, waiting) = oneshot::channel();
        // The mailbox is in order: what is asked of the container after this, it does after having registered.
        handle.mailbox.send(Command::Wait { condition, done }).await.map_err(|_| gone(name))?;
        Ok(Waiting { done: waiting })
    }

    /// Attaches to its streams.
    pub async fn attach(&self, name: &str, options: AttachOptions) -> Result<Attachment> {
        let handle = self.find(name)?;
        let record = handle.record();
        match record.life.phase {
            Phase::Paused { .. } => {
                return Err(Error::conflict(format!(
                    "container {name} is paused, unpause the container before attach"
                )));
            }
            Phase::Restarting => {
                return Err(Error::conflict(format!(
                    "container {name} is restarting, wait until the container is running"
                )));
            }
            _ => {}
        }
        let logs = if options.logs {
            let all = LogOptions { stdout: options.stdout, stderr: options.stderr, ..LogOptions::default() };
            Some(logs::open(&self.context, &handle, all).await?)
        } else {
            None
        };
        let streams = Streams {
            stdin: options.stdin && record.config.open_stdin,
            stdout: options.stdout,
            stderr: options.stderr,
        };
        let stream = if options.stream { Some(connect(&handle, name, streams).await?) } else { None };
        self.context.tell(&record, "attach", BTreeMap::new());
        let leaving = Leaving {
            context: Arc::clone(&self.context),
            record: Arc::clone(&record),
            action: "detach".to_owned(),
            more: BTreeMap::new(),
        };
        Ok(Attachment::new(record.config.tty, logs, stream).leaving(leaving))
    }

    /// Reads its log.
    pub async fn logs(&self, name: &str, options: LogOptions) -> Result<LogStream> {
        let handle = self.find(name)?;
        logs::open(&self.context, &handle, options).await
    }

    /// Sets the size of its terminal.
    pub async fn resize(&self, name: &str, height: u32, width: u32) -> Result<()> {
        let handle = self.find(name)?;
        let size = crate::execs::size(height, width)?;
        let record = handle.record();
        let not_running = || Error::conflict(format!("container {} is not running", record.id));
        let shim = handle.shim().ok_or_else(not_running)?;
        shim.resize(Target::Init, size).await.map_err(Error::supervisor)?;
        let more = BTreeMap::from([
            ("height".to_owned(), height.to_string()),
            ("width".to_owned(), width.to_string()),
        ]);
        self.context.tell(&record, "resize", more);
        Ok(())
    }

    /// Gives it another name.
    pub async fn rename(&self, name: &str, new: &str) -> Result<()> {
        let handle = self.find(name)?;
        if new.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let new = names::check(new)?;
        if handle.record().name == new {
            return Err(Error::invalid("Renaming a container with the same name as its current name"));
        }
        let name = create::Name::take(&self.context.index, new.to_owned(), &handle.id)?;
        // A client that goes away does not stop half-way what it has begun.
        let renamed = self.context.tasks.spawn(rename(handle, name));
        renamed.await.map_err(|e| Error::system("a bug: rename panicked").with_source(e))?
    }

    /// Connects it with one more network.
    pub async fn connect(&self, name: &str, network: &str, settings: &EndpointSettings) -> Result<()> {
        let attachment = Box::new(self.context.networks.attachment(network, settings)?);
        self.ask(name, |reply| Command::Connect { attachment, reply }).await
    }

    /// Disconnects it from a network.
    pub async fn disconnect(&self, name: &str, network: &str) -> Result<()> {
        let network = self.context.networks.id_of(network)?;
        self.ask(name, |reply| Command::Disconnect { network, reply }).await
    }

    /// Its processes, in the columns that `ps` with these arguments has.
    pub async fn top(&self, name: &str, ps_args: &str) -> Result<Top> {
        let handle = self.find(name)?;
        let record = handle.record();
        if record.life.pid().is_none() {
            return Err(Error::conflict(format!("container {} is not running", record.id)));
        }
        let (cgroup, args) = (self.context.cgroup(&record), ps_args.to_owned());
        let top = blocking::run("list a container's processes", move || {
            let group = runtime::cgroup::Cgroup::open(&cgroup).map_err(Error::runtime)?;
            top::top(&group.pids().map_err(Error::runtime)?, &args)
        })
        .await?;
        self.context.tell(&record, "top", BTreeMap::new());
        Ok(top)
    }

    /// Removes it.
    pub async fn remove(&self, name: &str, options: RemoveOptions) -> Result<()> {
        if options.link {
            return Err(linked::not_removed(&self.context.index, name));
        }
        let RemoveOptions { force, volumes, .. } = options;
        self.ask(name, |reply| Command::Remove { force, volumes, reply }).await
    }

    /// All about one.
    pub async fn inspect(&self, name: &str, size: bool) -> Result<Inspect> {
        let handle = self.find(name)?;
        let record = handle.record();
        let sizes = if size { Some(list::sizes(&self.context, &record).await?) } else { None };
        let exec_ids = self.context.execs.ids(&record.id);
        let mut shown = show::inspect(&record, &self.context.paths(&record.id), exec_ids, sizes);
        shown.host_config.links = linked::shown(&self.context.index, &record);
        if lender::named(&record.host.network_mode).is_some() {
            let own = self.context.paths(&record.id);
            let files = lender::files_of(&self.context.index, &record, own, |id| self.context.paths(id));
            show::names_of(&mut shown, &files);
        }
        shown.app_armor_profile = crate::apparmor::shown(&record.host, &self.context.host)?;
        Ok(shown)
    }

    /// Changes its limits and its restart policy.
    pub async fn update(&self, name: &str, body: UpdateRequest) -> Result<UpdateResponse> {
        update::refuse(&body.resources)?;
        let asked = body.corten.is_some();
        let publishes = body.corten.as_ref().is_some_and(|changes| !changes.publish_add.is_empty());
        let later = body.corten.as_ref().is_some_and(next::concerns);
        let body = Box::new(body);
        self.ask(name, |reply| Command::Update { body, reply }).await?;
        let mut answer = UpdateResponse::default();
        if asked {
            let record = self.find(name)?.record();
            if publishes && !self.context.networks.can_publish(&record.attachments) {
                answer.warnings.push(NO_WAY_IN.to_owned());
            }
            if later && record.next.is_some() {
                answer.warnings.push(AT_NEXT_START.to_owned());
            }
            let ports = crate::networks::ports::map(&record.config, &record.places.published);
            answer.corten = Some(Changed { ports });
        }
        Ok(answer)
    }
}

/// Gives a container a name that was taken for it. One that is removed at this moment does not keep the name.
async fn rename(handle: Arc<Handle>, name: create::Name) -> Result<()> {
    let (reply, answer) = oneshot::channel();
    let command = Command::Rename { name: name.text().to_owned(), reply };
    handle.mailbox.send(command).await.map_err(|_| gone(&handle.id))?;
    answer.await.map_err(|_| gone(&handle.id))??;
    name.keep();
    Ok(())
}

/// A stream to the container's init: of this run, or of the next.
async fn connect(handle: &Handle, name: &str, streams: Streams) -> Result<tokio::net::UnixStream> {
    if let Some(shim) = handle.shim()
        && let Ok(stream) = shim.attach(Target::Init, streams).await
    {
        return Ok(stream);
    }
    let (reply, answer) = oneshot::channel();
    handle.mailbox.send(Command::Attach { streams, reply }).await.map_err(|_| gone(name))?;
    answer.await.map_err(|_| gone(name))?
}

/// The signal to stop a container with, and how long to wait for it.
fn stop_how(record: &Record, options: &StopOptions) -> Result<(i32, Option<Duration>)> {
    let signal = match options.signal.as_deref() {
        None | Some("") => signals::stop_signal(&record.config.stop_signal)?,
        Some(text) => signals::parse(text)?,
    };
    let seconds = options.timeout_s.or(record.config.stop_timeout).unwrap_or(STOP_PATIENCE_S);
    // A negative time is for ever.
    Ok((signal, u64::try_from(seconds).ok().map(Duration::from_secs)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::index::Index;
    use tokio::sync::mpsc;

    fn container(index: &Index) -> (Arc<Handle>, mpsc::Receiver<Command>) {
        let (mailbox, commands) = mpsc::channel(1);
        let handle = Arc::new(Handle::new(Arc::new(record::tests::record()), mailbox));
        index.insert(Arc::clone(&handle));
        (handle, commands)
    }

    #[tokio::test]
    async fn a_name_is_free_again_when_its_container_is_removed_before_it_bears_it() {
        let index = Arc::new(Index::default());
        let (handle, commands) = container(&index);
        drop(commands);
        let name = create::Name::take(&index, "new".into(), &handle.id).unwrap();
        index.remove(&handle.id);
        let late = create::Name::take(&index, "late".into(), &handle.id).unwrap();
        for name in [name, late] {
            assert_eq!(rename(Arc::clone(&handle), name).await.unwrap_err().kind(), crate::Kind::NotFound);
        }
        for name in ["new", "late"] {
            index.take_name(name, "another").unwrap();
        }
    }

    #[tokio::test]
    async fn a_name_that_was_given_is_kept() {
        let index = Arc::new(Index::default());
        let (handle, mut commands) = container(&index);
        let name = create::Name::take(&index, "new".into(), &handle.id).unwrap();
        let renamed = tokio::spawn(rename(handle, name));
        let Some(Command::Rename { reply, .. }) = commands.recv().await else { panic!("no command") };
        reply.send(Ok(())).unwrap();
        renamed.await.unwrap().unwrap();
        assert!(index.take_name("new", "another").is_err());
    }
}
