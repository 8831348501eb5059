//! Ships a container's log to its receiver: as long as it runs, and after that until all is shipped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::cursor::{Batch, Cursor};
use super::options::{Driver, waits_for_receiver};
use super::sinks::{Retries, Sink, Target, Who, retries, targets};
use super::tag::Template;
use super::{attributes, subject};
use crate::blocking;
use crate::containers::record::Record;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::logs;

/// How long the shipping of the run before may go on beside a new run.
const LAST_RUN: Duration = Duration::from_secs(10);

/// One container's shipping.
struct Shipper {
    id: String,
    log: PathBuf,
    who: Who,
    target: Target,
    retries: Retries,
    ended: watch::Receiver<bool>,
}

/// Begins to ship a container's log, if its driver does that; goes on where the last one stopped, once `before` is done.
pub(crate) fn start(
    context: &Arc<Context>,
    record: &Record,
    ended: watch::Receiver<bool>,
    before: Option<JoinHandle<()>>,
) -> Option<JoinHandle<()>> {
    let driver = Driver::parse(&record.host.log_config.driver).ok().filter(|driver| driver.ships())?;
    let shipper = match Shipper::new(context, record, driver, ended) {
        Ok(shipper) => shipper,
        Err(error) => {
            tracing::error!(id = %record.id, error = %error.chain(), "cannot ship a container's log");
            return before;
        }
    };
    let closing = context.closing.clone();
    Some(context.tasks.spawn(async move {
        // What it has not got rid of by then, this one goes on with: there is one of them for a container, however often that
        // starts while nobody takes its log.
        if let Some(mut before) = before
            && tokio::time::timeout(LAST_RUN, &mut before).await.is_err()
        {
            before.abort();
            let _ = before.await;
        }
        closing.run_until_cancelled(shipper.run()).await;
    }))
}

/// Whether the receiver is there, for who does not want to start without it.
pub(crate) async fn reach(record: &Record) -> Result<()> {
    let config = &record.host.log_config;
    if !waits_for_receiver(config) {
        return Ok(());
    }
    let Some(Target::Fluentd(options)) = targets(Driver::Fluentd, config)? else { return Ok(()) };
    let address = options.address().to_string();
    Sink::open(&Target::Fluentd(options)).await.map(drop).map_err(|error| {
        let text = "failed to create task for container: failed to initialize logging driver: dial";
        let words = error.to_string();
        let words = words.split(" (os error").next().unwrap_or_default().to_lowercase();
        Error::system(format!("{text} {address}: connect: {words}"))
    })
}

impl Shipper {
    fn new(context: &Context, record: &Record, driver: Driver, ended: watch::Receiver<bool>) -> Result<Self> {
        let config = &record.host.log_config;
        let target = targets(driver, config)?.ok_or_else(|| Error::system("a driver that ships nowhere"))?;
        let subject = subject(record, &context.host.name);
        let tag = Template::parse(config.config.get("tag").map_or("", String::as_str))?.render(&subject);
        Ok(Self {
            id: record.id.clone(),
            log: context.paths(&record.id).log(),
            who: Who {
                tag,
                attributes: attributes(record, &context.host.name)?,
                created: record.created.to_string(),
                subject,
            },
            target,
            retries: retries(config),
            ended,
        })
    }

    async fn run(mut self) {
        let path = self.log.clone();
        let opened = read("open a log to ship it", move || Cursor::open(&path)).await;
        let (mut cursor, gap) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!(id = %self.id, error = %error.chain(), "cannot ship a container's log");
                return;
            }
        };
        if gap {
            tracing::warn!(id = %self.id, "lines of a log were thrown away by rotation before they were shipped");
        }
        let changes = logs::watch_changes(&self.log);
        let (mut sink, mut pause, mut failures) = (None, self.retries.pause, 0_u32);
        loop {
            // Asked before reading: what an ended container wrote is there to be read.
            let over = *self.ended.borrow_and_update() || self.ended.has_changed().is_err();
            let (back, batch) = match step(cursor).await {
                Ok(read) => read,
                Err(error) => {
                    tracing::error!(id = %self.id, error = %error.chain(), "a log is not shipped any more");
                    return;
                }
            };
            cursor = back;
            if batch.entries.is_empty() {
                match (batch.caught_up, over) {
                    (true, true) => return,
                    (true, false) => logs::wait_for_changes(changes.as_ref(), &mut self.ended).await,
                    (false, _) => {}
                }
                continue;
            }
            let done = match self.send(&mut sink, &batch).await {
                Ok(()) => true,
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(id = %self.id, %error, "the receiver of a log does not take it: trying again");
                    }
                    failures += 1;
                    sink = None;
                    let give_up = self.retries.most.is_some_and(|most| failures > most);
                    if give_up {
                        let lines = batch.entries.len();
                        tracing::warn!(id = %self.id, lines, "lines are given up after as many tries as were asked for");
                    }
                    give_up
                }
            };
            if !done {
                cursor = self.within_limit(cursor).await;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(self.retries.pause_max);
                continue;
            }
            (pause, failures) = (self.retries.pause, 0);
            cursor = match acknowledge(cursor).await {
                Ok(cursor) => cursor,
                Err(error) => {
                    tracing::error!(id = %self.id, error = %error.chain(), "a log is not shipped any more");
                    return;
                }
            };
        }
    }

    /// Goes back to what was not taken, but for what may not wait.
    async fn within_limit(&self, mut cursor: Cursor) -> Cursor {
        cursor.go_back();
        let Some(most) = self.retries.waiting else { return cursor };
        let log = self.log.clone();
        let bounded = read("bound what waits of a log", move || {
            let dropped = cursor.keep_last(&log, most);
            Ok((cursor, dropped))
        });
        match bounded.await {
            Ok((cursor, Ok(0))) => cursor,
            Ok((cursor, Ok(lines))) => {
                tracing::warn!(id = %self.id, lines, "lines of a log are given up: more wait than fluentd-buffer-limit says");
                cursor
            }
            Ok((cursor, Err(error))) => {
                tracing::warn!(id = %self.id, %error, "cannot bound what waits of a log");
                cursor
            }
            Err(error) => {
                tracing::error!(id = %self.id, error = %error.chain(), "a log is read from its beginning again");
                Cursor::at_beginning(&self.log)
            }
        }
    }

    async fn send(&self, sink: &mut Option<(Sink, Instant)>, batch: &Batch) -> std::io::Result<()> {
        let old = |since: &Instant| self.retries.renew.is_some_and(|after| since.elapsed() >= after);
        if sink.as_ref().is_none_or(|(_, since)| old(since)) {
            *sink = Some((Sink::open(&self.target).await?, Instant::now()));
        }
        match sink {
            Some((sink, _)) => sink.send(&self.who, &batch.entries).await,
            None => Ok(()),
        }
    }
}

async fn read<T: Send + 'static>(
    what: &'static str,
    call: impl FnOnce() -> std::result::Result<T, logs::Error> + Send + 'static,
) -> Result<T> {
    blocking::run(what, move || {
        call().map_err(|error| {
            let text = error.to_string();
            Error::system(text).with_source(error.source)
        })
    })
    .await
}

async fn step(mut cursor: Cursor) -> Result<(Cursor, Batch)> {
    read("read a log to ship it", move || {
        let batch = cursor.read()?;
        Ok((cursor, batch))
    })
    .await
}

async fn acknowledge(mut cursor: Cursor) -> Result<Cursor> {
    read("note how far a log is shipped", move || {
        // A container that is being removed has no directory any more.
        match cursor.acknowledge() {
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(cursor),
            other => other.map(|()| cursor),
        }
    })
    .await
}
