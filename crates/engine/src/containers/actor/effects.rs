//! Doing what a step of the life asks for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use api::container::{HostConfig, UpdateRequest};
use tokio::time::Instant;

use shim::wire::Target;

use super::Actor;
use crate::blocking;
use crate::containers::create::refuse;
use crate::containers::options::WaitCondition;
use crate::containers::record::Record;
use crate::containers::state::{Effect, Happened, Input, Refusal, Timer, Token, Wake};
use crate::containers::update;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::events::Subject;
use crate::execs::table::{self, Exec};
use crate::restart::Policy;

impl Actor {
    /// Lets the machine take a step, and all those that follow from what came of it.
    pub(super) async fn drive(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.machine.step(input) {
                match self.apply(effect).await {
                    Ok(None) => {}
                    Ok(Some(next)) => inputs.push_back(next),
                    Err(()) => break,
                }
            }
        }
        self.settle_health();
    }

    /// `Err` where the effect failed and has told so, and those after it make no sense.
    async fn apply(&mut self, effect: Effect) -> Result<Option<Input>, ()> {
        match effect {
            Effect::Persist => {
                let written = self.persist().await;
                self.unwritten = written.is_err();
                if let Err(error) = written {
                    // What happened has happened: the next daemon finds it out from the runtime directory, which stays.
                    tracing::error!(id = %self.record.id, error = %error.chain(), "cannot write the record");
                }
            }
            Effect::Show => drop(self.show()),
            Effect::Launch => return Ok(Some(self.launch().await)),
            Effect::Signal(signal, token) => return self.signal(signal, token).await,
            Effect::Freeze(token) => return self.freeze(token, true).await,
            Effect::Thaw(Some(token)) => return self.freeze(token, false).await,
            Effect::Thaw(None) => {
                if let Err(error) = self.set_frozen(false).await {
                    tracing::error!(id = %self.record.id, error = %error.chain(), "cannot thaw");
                }
            }
            Effect::Emit(happened) => self.emit(happened),
            Effect::Reply(token, outcome) => self.reply(token, outcome),
            Effect::Wake(wake) => self.wake(wake),
            Effect::Arm(timer, after) => self.arm(timer, after),
            Effect::Disarm(timer) => drop(self.timers.remove(&timer)),
            Effect::Sweep => self.begin_sweep(),
            Effect::Destroy { volumes } => return Ok(Some(self.destroy(volumes).await)),
        }
        Ok(None)
    }

    fn arm(&mut self, timer: Timer, after: std::time::Duration) {
        let at = Instant::now() + after;
        let armed = self.timers.entry(timer).or_insert(at);
        *armed = (*armed).min(at);
    }

    /// Writes the record, and shows it.
    pub(super) async fn persist(&mut self) -> Result<()> {
        let record = self.show();
        let context = Arc::clone(&self.context);
        blocking::run("write a container's record", move || context.put_record(&record)).await
    }

    /// Lets others see the record as it is now.
    pub(super) fn show(&mut self) -> Arc<Record> {
        self.record.life = self.machine.life.clone();
        let record = Arc::new(self.record.clone());
        self.handle.show(Arc::clone(&record));
        record
    }

    async fn signal(&mut self, signal: i32, token: Option<Token>) -> Result<Option<Input>, ()> {
        let Some(shim) = &self.shim else { return Ok(None) };
        let number = u32::try_from(signal).unwrap_or_default();
        match shim.signal(Target::Init, number).await {
            Ok(()) => Ok(None),
            Err(error) => {
                let error = Error::supervisor(error);
                // The process is gone, and its end is on its way here.
                tracing::debug!(id = %self.record.id, signal, error = %error.chain(), "signal not delivered");
                match token {
                    Some(token) if error.kind() != crate::Kind::Conflict => {
                        self.reply(token, Err(Refusal::Failed(error)));
                        Err(())
                    }
                    _ => Ok(None),
                }
            }
        }
    }

    async fn freeze(&mut self, token: Token, frozen: bool) -> Result<Option<Input>, ()> {
        match self.set_frozen(frozen).await {
            Ok(()) => Ok(Some(if frozen { Input::Frozen(token) } else { Input::Thawed(token) })),
            Err(error) => {
                self.reply(token, Err(Refusal::Failed(error)));
                Err(())
            }
        }
    }

    async fn set_frozen(&mut self, frozen: bool) -> Result<()> {
        let path = self.context.cgroup(&self.record);
        let id = self.record.id.clone();
        blocking::run("freeze or thaw", move || {
            let cgroup = runtime::cgroup::Cgroup::open(&path).map_err(Error::runtime)?;
            let result = if frozen { cgroup.pause() } else { cgroup.resume() };
            result.map_err(|e| {
                let verb = if frozen { "pause" } else { "unpause" };
                Error::system(format!("cannot {verb} container {id}")).with_source(e)
            })
        })
        .await
    }

    /// Tells the world.
    pub(super) fn emit(&self, happened: Happened) {
        let mut more = BTreeMap::new();
        let mut add = |key: &str, value: String| {
            more.insert(key.to_owned(), value);
        };
        let action = match happened {
            Happened::Start => "start",
            Happened::Die { code, ran } => {
                add("exitCode", code.to_string());
                add("execDuration", ran.as_secs().to_string());
                "die"
            }
            Happened::Oom => "oom",
            Happened::Kill { signal } => {
                add("signal", signal.to_string());
                "kill"
            }
            Happened::Stop => "stop",
            Happened::Restart => "restart",
            Happened::Pause => "pause",
            Happened::Unpause => "unpause",
            Happened::Destroy => "destroy",
        };
        self.context.tell(&self.record, action, more);
    }

    fn reply(&mut self, token: Token, outcome: Result<(), Refusal>) {
        if let Some(reply) = self.tokens.remove(&token) {
            let _ = reply.send(outcome.map_err(|refusal| render(&self.record, refusal)));
        }
    }

    fn wake(&mut self, wake: Wake) {
        let response = self.wait_response();
        let (now, later): (Vec<_>, Vec<_>) = self
            .waiters
            .drain(..)
            .partition(|(condition, _)| wake == Wake::Removed || *condition != WaitCondition::Removed);
        self.waiters = later;
        for (_, done) in now {
            let _ = done.send(response.clone());
        }
    }

    pub(super) async fn rename(&mut self, name: String) -> Result<()> {
        let old = std::mem::replace(&mut self.record.name, name);
        if let Err(error) = self.persist().await {
            self.context.index.free_name(&self.record.name, &self.record.id);
            self.record.name = old;
            self.handle.show(Arc::new(self.record.clone()));
            return Err(error);
        }
        self.context.index.free_name(&old, &self.record.id);
        let more = BTreeMap::from([("oldName".to_owned(), format!("/{old}"))]);
        for endpoint in self.record.places.endpoints.clone() {
            self.names_changed(endpoint.network).await;
        }
        self.context.tell(&self.record, "rename", more);
        Ok(())
    }

    /// Sets the limits on the processes, if there are any.
    async fn limit(&self, host: &HostConfig) -> Result<()> {
        if self.machine.life.pid().is_none() {
            return Ok(());
        }
        let (cgroup, wanted) = (self.context.cgroup(&self.record), host.clone());
        let context = Arc::clone(&self.context);
        blocking::run("change limits", move || {
            update::apply(&cgroup, &crate::plan::limits(&wanted, &context.host)?)
        })
        .await
    }

    pub(super) async fn update(&mut self, body: &UpdateRequest) -> Result<()> {
        let mut host = self.record.host.clone();
        if !body.restart_policy.name.is_empty() {
            let policy = Policy::parse(&body.restart_policy.name, body.restart_policy.maximum_retry_count)
                .map_err(Error::invalid)?;
            if host.auto_remove && policy != Policy::No {
                return Err(Error::invalid(
                    "Restart policy cannot be updated because AutoRemove is enabled for the container",
                ));
            }
            host.restart_policy = body.restart_policy.clone();
        }
        update::check(&host.resources, &body.resources, self.record.swap_given)?;
        update::merge(&mut host.resources, &body.resources);
        refuse::limits(&host.resources, self.context.host.cpus)?;
        let changes = body.corten.clone().unwrap_or_default();
        let attachments = self.plan_rates(&changes)?;
        let limits = attachments.is_some();
        let ports = self.reserve_ports(&mut host, &changes).await?;
        if let Err(error) = self.limit(&host).await {
            self.give_up_ports(ports).await;
            return Err(error);
        }
        let old = self.record.clone();
        self.record.host = host;
        self.record.swap_given |= body.resources.memory_swap != 0;
        self.record.attachments = attachments.unwrap_or_else(|| old.attachments.clone());
        let changed = match self.change_next(&changes).await {
            Ok(made) => self.persist_changes(made).await,
            Err(error) => Err(error),
        };
        if let Err(error) = changed {
            self.take_back(old);
            self.give_up_ports(ports).await;
            return Err(error);
        }
        let mut done = if limits { self.limit_rates().await } else { Ok(()) };
        match done {
            Ok(()) => done = self.switch_ports(ports).await,
            Err(_) => self.give_up_ports(ports).await,
        }
        if let Err(error) = done {
            self.take_back(old);
            // What went wrong before explains more.
            let _ = self.persist().await;
            if limits {
                self.limit_rates_again().await;
            }
            return Err(error);
        }
        // With the places that it has now.
        self.show();
        self.machine.rules = self.record.rules();
        self.context.tell(&self.record, "update", BTreeMap::new());
        Ok(())
    }
}

/// Why not, in Docker's words.
fn render(record: &Record, refusal: Refusal) -> Error {
    let (id, name) = (&record.id, &record.name);
    match refusal {
        Refusal::NotModified => Error::not_modified(format!("container {id} is already so")),
        Refusal::StartPaused => Error::conflict("cannot start a paused container, try unpause instead"),
        Refusal::MarkedForRemoval => Error::conflict("container is marked for removal and cannot be started"),
        Refusal::NotRunning => Error::conflict(format!("container {id} is not running")),
        Refusal::AlreadyPaused => Error::conflict(format!("Container {id} is already paused")),
        Refusal::NotPaused => Error::conflict(format!("Container {id} is not paused")),
        Refusal::IsRestarting => {
            Error::conflict(format!("Container {id} is restarting, wait until the container is running"))
        }
        Refusal::RemoveAlive("paused") => Error::conflict(format!(
            "cannot remove container \"/{name}\": container is paused and must be unpaused first"
        )),
        Refusal::RemoveAlive(how) => Error::conflict(format!(
            "cannot remove container \"/{name}\": container is {how}: stop the container before removing or force remove"
        )),
        Refusal::RemovalInProgress => {
            Error::conflict(format!("removal of container {name} is already in progress"))
        }
        Refusal::WouldNotDie => Error::system(format!(
            "tried to kill container, but did not receive an exit event: container {id} is stuck in the kernel"
        )),
        Refusal::Busy => Error::conflict(format!("container {id} is busy: try again")),
        Refusal::Failed(error) => error,
    }
}

impl Context {
    /// Tells the world that something happened to a container.
    pub(crate) fn tell(&self, record: &Record, action: &str, more: BTreeMap<String, String>) {
        let mut attributes = record.config.labels.clone();
        attributes.insert("image".to_owned(), record.image.name.clone());
        attributes.insert("name".to_owned(), record.name.clone());
        attributes.extend(more);
        self.events.emit(Subject::Container, action, &record.id, attributes);
    }
}

impl Context {
    /// Tells the world that a command in a container has ended.
    pub(crate) fn tell_exec_end(&self, record: &Record, exec: &Exec, code: i32) {
        self.tell(record, "exec_die", table::attributes(exec, Some(code)));
    }
}
