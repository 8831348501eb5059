//! The task that probes one run of a container.

use std::sync::Arc;
use std::time::Duration;

use api::exec::CreateRequest;
use jiff::Timestamp;
use shim::wire::Target;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::network::Network;
use super::{Health, OUTPUT_BYTES_MAX, Outcome, Plan, Test};
use crate::blocking;
use crate::containers::actor::Command;
use crate::containers::record::Record;
use crate::containers::start;
use crate::context::Context;
use crate::error::Result;
use crate::supervisor::Shim;

/// The code of a probe that has not come to an end of its own.
const NO_ANSWER: i32 = -1;
/// How long a probe may take beyond its own time until its supervisor is no longer waited for: to be made, to be killed, and for its
/// output to end.
const GRACE: Duration = Duration::from_secs(30);
/// What is told of a container whose supervisor cannot probe.
const UNABLE: &str =
    "the container's supervisor is of an earlier version: restart the container to have it probed";

/// A run that is watched, as long as this lives.
#[derive(Debug)]
pub(crate) struct Monitor {
    run: u64,
    _stop: DropGuard,
}

/// What the monitor of a run has learnt.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Of which run.
    pub run: u64,
    /// What is known now.
    pub health: Health,
    /// Whether that is news.
    pub changed: bool,
}

impl Monitor {
    /// Starts to watch.
    pub fn start(
        context: &Arc<Context>,
        record: Arc<Record>,
        shim: Shim,
        plan: Plan,
        health: Health,
        (run, told): (u64, mpsc::Sender<Command>),
    ) -> Self {
        let stop = context.closing.child_token();
        let watch = Watch {
            context: Arc::clone(context),
            started: record.life.started_at.unwrap_or_else(Timestamp::now),
            record,
            shim,
            plan,
            health,
            name: format!("health-{run}"),
            spec: None,
            network: None,
        };
        context.tasks.spawn(watch.run(run, told, stop.clone()));
        Self { run, _stop: stop.drop_guard() }
    }

    /// Whether this is of the run that is watched.
    pub fn is_of(&self, watched: &Watched) -> bool {
        self.run == watched.run
    }
}

struct Watch {
    context: Arc<Context>,
    record: Arc<Record>,
    shim: Shim,
    plan: Plan,
    health: Health,
    /// What its supervisor calls its probes: there is one at a time, and one that the monitor before left may still be ending.
    name: String,
    started: Timestamp,
    /// The OCI `process` object, made once: the user is looked up when the container starts to be watched.
    spec: Option<Vec<u8>>,
    network: Option<Network>,
}

impl Watch {
    async fn run(mut self, run: u64, told: mpsc::Sender<Command>, stop: CancellationToken) {
        let watching = async {
            loop {
                let up = Timestamp::now().duration_since(self.started);
                let up = Duration::try_from(up).unwrap_or_default();
                tokio::time::sleep(self.plan.wait(self.health.status, up)).await;
                let outcome = self.probe().await;
                let changed = self.health.take(outcome, &self.plan, self.started);
                let watched = Box::new(Watched { run, health: self.health.clone(), changed });
                if told.send(Command::Probed(watched)).await.is_err() {
                    return;
                }
            }
        };
        let ended = stop.run_until_cancelled(watching).await;
        if ended.is_none() && matches!(self.plan.test, Test::Command(_)) {
            // Nobody else would end one that goes on: of a container that is paused, say.
            let _ = self.shim.signal(Target::Exec(self.name.clone()), 9).await;
        }
    }

    async fn probe(&mut self) -> Outcome {
        let start = Timestamp::now();
        let (code, output) = match self.try_probe().await {
            Ok(result) => result,
            Err(error) => (NO_ANSWER, error.chain()),
        };
        Outcome { start, end: Timestamp::now(), code, output: cut(output) }
    }

    async fn try_probe(&mut self) -> Result<(i32, String)> {
        let timeout = self.plan.timeout;
        match self.plan.test.clone() {
            Test::Command(words) => self.command(words).await,
            Test::Http(address) => {
                let network = self.network().await?;
                let asked = tokio::time::timeout(timeout, network.http(&address)).await;
                Ok(asked.unwrap_or_else(|_| (NO_ANSWER, exceeded(timeout, ""))))
            }
            Test::Tcp(address) => {
                let network = self.network().await?;
                let connected = tokio::time::timeout(timeout, network.tcp(&address)).await;
                Ok(connected.unwrap_or_else(|_| (NO_ANSWER, exceeded(timeout, ""))))
            }
        }
    }

    async fn network(&mut self) -> Result<Network> {
        if let Some(network) = &self.network {
            return Ok(network.clone());
        }
        let pid = self.record.life.pid().unwrap_or_default();
        let network = blocking::run("open a network namespace", move || Network::open(pid)).await?;
        // The number was its own, as long as its supervisor has not buried it.
        if !self.shim.is_running(pid).await {
            return Err(crate::Error::conflict("the container is not running"));
        }
        Ok(self.network.insert(network).clone())
    }

    async fn spec(&mut self, words: Vec<String>) -> Result<Vec<u8>> {
        if let Some(spec) = &self.spec {
            return Ok(spec.clone());
        }
        let (context, record) = (Arc::clone(&self.context), Arc::clone(&self.record));
        let request = CreateRequest {
            cmd: Some(words),
            attach_stdout: true,
            attach_stderr: true,
            ..CreateRequest::default()
        };
        let spec = blocking::run("prepare a probe", move || start::exec_process(&context, &record, &request))
            .await?;
        Ok(self.spec.insert(spec).clone())
    }

    async fn command(&mut self, words: Vec<String>) -> Result<(i32, String)> {
        if !self.shim.probes() {
            return Ok((NO_ANSWER, UNABLE.to_owned()));
        }
        let (timeout, spec) = (self.plan.timeout, self.spec(words).await?);
        let limit = u32::try_from(OUTPUT_BYTES_MAX).unwrap_or(u32::MAX);
        let probing = self.shim.probe(&self.name, limit, spec, timeout + GRACE);
        tokio::pin!(probing);
        let mut late = false;
        let probed = tokio::select! {
            probed = &mut probing => probed,
            () = tokio::time::sleep(timeout) => {
                late = true;
                // What has just ended is told of all the same.
                let _ = self.shim.signal(Target::Exec(self.name.clone()), 9).await;
                probing.await
            }
        };
        match probed {
            Ok((_, output)) if late => Ok((NO_ANSWER, exceeded(timeout, &output))),
            Ok((code, output)) => Ok((code, output)),
            Err(crate::supervisor::Error::Failed(failure)) => {
                // The next one looks the user up again.
                self.spec = None;
                Ok((
                    NO_ANSWER,
                    format!(
                        "OCI runtime exec failed: exec failed: unable to start container process: {}: unknown",
                        failure.text
                    ),
                ))
            }
            Err(error) => Err(crate::Error::supervisor(error)),
        }
    }
}

/// What is said of a probe that took too long.
fn exceeded(timeout: Duration, output: &str) -> String {
    let text = format!("Health check exceeded timeout ({})", api::duration::format(timeout));
    if output.is_empty() { text } else { format!("{text}: {output}") }
}

/// What is kept of an output, with a mark where there was more.
fn cut(mut output: String) -> String {
    // What the supervisor has cut bears the mark already.
    let limit = OUTPUT_BYTES_MAX + 64;
    if output.len() > limit {
        let end = (0..=OUTPUT_BYTES_MAX).rev().find(|at| output.is_char_boundary(*at)).unwrap_or(0);
        output.truncate(end);
        output.push_str("...");
    }
    output
}
