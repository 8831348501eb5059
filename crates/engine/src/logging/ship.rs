//! Ships a container's log to its receiver: as long as it runs, and after that until all is shipped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::cursor::{Batch, Cursor, ENTRIES};
use super::options::{Driver, waits_for_receiver};
use super::sinks::{Receiver, Retries, Sink, Stopped, Target, Who, retries, targets};
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
    /// The target, once its files were read.
    receiver: Option<Receiver>,
    retries: Retries,
    ended: watch::Receiver<bool>,
}

/// How it goes with a receiver.
#[derive(Debug)]
struct Course {
    retries: Retries,
    /// The next pause.
    pause: Duration,
    /// Failures in a row without anything taken in between.
    failures: u32,
    /// Whether the daemon's log says that it goes badly.
    told: bool,
    /// How many entries are sent at once. What a connection that breaks had taken nobody knows, so all of it is sent again: one
    /// that breaks each time gets less and less, until it has got past what breaks it.
    entries: usize,
}

impl Course {
    fn new(retries: Retries) -> Self {
        Self { retries, pause: retries.pause, failures: 0, told: false, entries: ENTRIES }
    }

    /// All was taken.
    fn went_well(&mut self) {
        (self.pause, self.failures, self.told) = (self.retries.pause, 0, false);
        self.entries = (self.entries * 2).min(ENTRIES);
    }

    /// Only so many were taken, over a connection or for want of one; whether the others are given up.
    fn went_wrong(&mut self, taken: usize, connected: bool) -> bool {
        self.told = true;
        if taken > 0 {
            (self.pause, self.failures) = (self.retries.pause, 0);
        } else if connected {
            self.entries = (self.entries / 2).max(1);
        }
        self.failures += 1;
        let give_up = self.retries.most.is_some_and(|most| self.failures > most);
        if give_up {
            (self.pause, self.failures) = (self.retries.pause, 0);
        }
        give_up
    }

    /// The next pause; those after it are longer.
    fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(self.retries.pause_max);
        pause
    }
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
    let receiver = files_of(&Target::Fluentd(options)).await?;
    Sink::open(&receiver).await.map(drop).map_err(|error| {
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
            receiver: None,
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
        let (mut sink, mut course) = (None, Course::new(self.retries));
        loop {
            // Asked before reading: what an ended container wrote is there to be read.
            let over = *self.ended.borrow_and_update() || self.ended.has_changed().is_err();
            let (back, batch) = match step(cursor, course.entries).await {
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
            let all = batch.entries.len();
            let taken = match self.send(&mut sink, &batch).await {
                Ok(()) => {
                    course.went_well();
                    all
                }
                Err(Stopped { taken, source }) => self.stopped(&mut course, &mut sink, (taken, all), &source),
            };
            cursor = match acknowledge(cursor, taken).await {
                Ok(cursor) => cursor,
                Err(error) => {
                    tracing::error!(id = %self.id, error = %error.chain(), "a log is not shipped any more");
                    return;
                }
            };
            if taken < all {
                cursor = self.within_limit(cursor).await;
                tokio::time::sleep(course.pause()).await;
            }
        }
    }

    /// What of a batch is done with, where only `taken` of `all` were taken.
    fn stopped(
        &self,
        course: &mut Course,
        sink: &mut Option<(Sink, Instant)>,
        (taken, all): (usize, usize),
        error: &std::io::Error,
    ) -> usize {
        if !course.told {
            tracing::warn!(id = %self.id, %error, "the receiver of a log does not take it: trying again");
        }
        if !course.went_wrong(taken, sink.take().is_some()) {
            return taken;
        }
        let lines = all - taken;
        tracing::warn!(id = %self.id, lines, "lines are given up after as many tries as were asked for");
        all
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

    async fn open(&mut self) -> std::io::Result<Sink> {
        let receiver = match self.receiver.take() {
            Some(receiver) => receiver,
            None => files_of(&self.target).await.map_err(|e| std::io::Error::other(e.chain()))?,
        };
        Sink::open(self.receiver.insert(receiver)).await
    }

    async fn send(
        &mut self,
        sink: &mut Option<(Sink, Instant)>,
        batch: &Batch,
    ) -> std::result::Result<(), Stopped> {
        let renew = self.retries.renew;
        let old = |since: &Instant| renew.is_some_and(|after| since.elapsed() >= after);
        if sink.as_ref().is_none_or(|(_, since)| old(since)) {
            *sink = None;
            let opened = self.open().await;
            *sink = Some((opened.map_err(Stopped::after(0))?, Instant::now()));
        }
        match sink {
            Some((sink, _)) => sink.send(&self.who, &batch.entries).await,
            None => Ok(()),
        }
    }
}

async fn files_of(target: &Target) -> Result<Receiver> {
    let target = target.clone();
    blocking::run("read the files of a log's receiver", move || Receiver::read(target)).await
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

async fn step(mut cursor: Cursor, entries: usize) -> Result<(Cursor, Batch)> {
    read("read a log to ship it", move || {
        let batch = cursor.read_most(entries)?;
        Ok((cursor, batch))
    })
    .await
}

async fn acknowledge(mut cursor: Cursor, taken: usize) -> Result<Cursor> {
    read("note how far a log is shipped", move || {
        // A container that is being removed has no directory any more.
        match cursor.acknowledge_first(taken) {
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(cursor),
            other => other.map(|()| cursor),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream};

    use api::container::LogConfig;

    /// Reads one message of the forward protocol: what was said last in its record, and what is to be acknowledged.
    fn message(stream: &mut UnixStream) -> Option<(String, Vec<u8>)> {
        let mut bytes = Vec::new();
        let mut byte = [0; 1];
        // Ids have 24 digits: a message ends with `chunk` and one.
        let chunk = b"\x81\xa5chunk\xb8";
        while bytes.len() < chunk.len() + 24
            || bytes[bytes.len() - 24 - chunk.len()..][..chunk.len()] != chunk[..]
        {
            stream.read_exact(&mut byte).ok()?;
            bytes.push(byte[0]);
        }
        let id = bytes.split_off(bytes.len() - 24);
        let text = String::from_utf8_lossy(&bytes[..bytes.len() - chunk.len()]).into_owned();
        Some((text[text.len() - 6..].to_owned(), id))
    }

    fn shipper(log: &std::path::Path, pairs: &[(&str, &str)]) -> Shipper {
        let pairs: BTreeMap<_, _> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let config = LogConfig { driver: "fluentd".to_owned(), config: pairs };
        let (_, ended) = watch::channel(true);
        Shipper {
            id: "x".to_owned(),
            log: log.to_owned(),
            who: Who::default(),
            target: targets(Driver::Fluentd, &config).unwrap().unwrap(),
            receiver: None,
            retries: retries(&config),
            ended,
        }
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_not_sent_again() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("json.log");
        let line = |n: u32| {
            format!("{{\"log\":\"line{n:02}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}}\n")
        };
        std::fs::write(&log, (0..10).map(line).collect::<String>()).unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let receiver = std::thread::spawn(move || {
            let mut all = Vec::new();
            // The first connection ends after the fourth message, of which nothing is acknowledged.
            for most in [3, usize::MAX] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut acknowledged = 0;
                while let Some((text, id)) = message(&mut stream) {
                    all.push(text);
                    if acknowledged == most {
                        break;
                    }
                    stream.write_all(&[b"\x81\xa3ack\xb8", id.as_slice()].concat()).unwrap();
                    acknowledged += 1;
                }
            }
            all
        });
        let address = format!("unix://{}", socket.display());
        let shipper = shipper(&log, &[("fluentd-address", &address), ("fluentd-request-ack", "true")]);
        tokio::time::timeout(Duration::from_secs(20), shipper.run()).await.unwrap();
        let wanted: Vec<String> = [0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9].map(|n| format!("line{n:02}")).into();
        assert_eq!(receiver.join().unwrap(), wanted);
    }

    #[test]
    fn a_receiver_that_breaks_each_time_gets_less_and_gets_on() {
        let config = LogConfig::default();
        let mut course = Course::new(Retries { most: None, ..retries(&config) });
        for _ in 0..20 {
            // One that is away is not one that breaks.
            assert!(!course.went_wrong(0, false));
        }
        assert_eq!(course.entries, ENTRIES);
        for _ in 0..20 {
            assert!(!course.went_wrong(0, true));
        }
        assert_eq!(course.entries, 1);
        course.went_well();
        assert_eq!((course.entries, course.failures), (2, 0));
        let mut course = Course::new(Retries { most: Some(2), ..retries(&config) });
        let given_up: Vec<bool> = (0..6).map(|_| course.went_wrong(0, false)).collect();
        assert_eq!(given_up, [false, false, true, false, false, true]);
        assert!((0..9).all(|_| !course.went_wrong(1, true)));
    }
}
