//! `POST /build`, as the classic builder answers it, and what builds keep.

mod classic;
mod options;

use crate::call::Call;
use crate::failure::Failure;
use crate::reply::{Answer, Reply};
use crate::routes::archives::Sender;
use api::filter::Filters;
use api::stream::{ErrorDetail, Progress};
use build::diagnostic::Diagnostic;
use build::progress::{self, Event, Listener};
use build::request::{Document, Outcome};
use build::text::Source;
use buildkit::Selection;
use bytes::Bytes;
use classic::Screen;
use engine::builds::{Archived, Failed, PruneOptions};
use futures_util::StreamExt;
use serde_json::json;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

/// A build that goes on.
type Running = Pin<Box<dyn Future<Output = Result<Outcome, Failed>> + Send>>;

/// A build, and what is told of it.
struct Building {
    running: Option<Running>,
    listener: Listener,
    screen: Screen,
    lines: VecDeque<Progress>,
    failed: Option<Failed>,
    /// What is built, where it is known here.
    document: Document,
    /// Whether anything was told: what is wrong before that is told by the status alone.
    has_told: bool,
    /// Why it came to nothing, for an answer that has not begun.
    refusal: Option<engine::Error>,
}

impl Building {
    /// The next line.
    async fn next(&mut self) -> Option<Progress> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                self.has_told = true;
                return Some(line);
            }
            let Some(running) = &mut self.running else { return self.failed.take().map(failure) };
            tokio::select! {
                biased;
                event = self.listener.recv() => {
                    if let Some(event) = event {
                        self.show(event);
                    }
                }
                outcome = running => {
                    self.running = None;
                    while let Ok(event) = self.listener.try_recv() {
                        self.show(event);
                    }
                    match outcome {
                        Ok(outcome) => self.lines.extend(self.screen.succeeded(&outcome)),
                        Err(failed) => {
                            self.lines.extend(self.screen.failed());
                            let has_told = self.has_told || !self.lines.is_empty();
                            let excerpt = excerpt(&failed, &self.document).filter(|_| has_told);
                            self.lines.extend(excerpt.and_then(|excerpt| self.screen.say(excerpt)));
                            self.refusal = Some(failed.error.clone()).filter(|_| failed.code.is_none());
                            self.failed = Some(failed);
                        }
                    }
                }
            }
        }
    }

    fn show(&mut self, event: Event) {
        self.lines.extend(self.screen.show(event));
    }
}

/// The instruction that a build has failed at, as what the steps say: the line that tells why is what scripts know it by.
fn excerpt(failed: &Failed, document: &Document) -> Option<String> {
    let span = failed.place.filter(|_| !document.text.is_empty())?;
    let why = match failed.code {
        Some(code) => format!("the command returned a non-zero code: {code}"),
        None => failed.error.to_string(),
    };
    Some(Diagnostic::error(span, why).render(&Source::new(&document.text), &document.name))
}

/// How the last line tells why.
fn failure(failed: Failed) -> Progress {
    let Failed { error, code, command, .. } = failed;
    let message = match (&command, code) {
        (Some(command), Some(code)) => {
            format!("The command '{command}' returned a non-zero code: {code}")
        }
        _ => error.chain_with_hint(),
    };
    Progress {
        error_detail: Some(ErrorDetail { code: code.map_or(0, i64::from), message: message.clone() }),
        error: message,
        ..Progress::default()
    }
}

pub(crate) async fn build(call: Call) -> Answer {
    let asked = match options::read(&call) {
        Ok(asked) => asked,
        Err(failure) => {
            Sender::refuse(&call.tasks, call.body).await;
            return Err(failure);
        }
    };
    let options::Asked { mut request, dockerfile, quiet, credentials } = asked;
    let engine = Arc::clone(&call.engine);
    let sources = if request.remote.is_some() {
        // Nothing is in the body, whatever was sent.
        Sender::refuse(&call.tasks, call.body).await;
        request.dockerfile.name = if dockerfile.is_empty() { "Dockerfile".to_owned() } else { dockerfile };
        Archived::empty(engine.builds(), credentials).await?
    } else {
        let (sender, inlet) = Sender::new(&call.tasks, call.body);
        let unpacked = engine.builds().unpack(inlet, credentials).await;
        sender.done().await;
        let sources = unpacked?;
        (request.dockerfile, request.ignore) = sources.documents(&dockerfile).await?;
        sources
    };
    let (teller, listener) = progress::channel();
    let document = request.dockerfile.clone();
    let running = async move { engine.builds().build(request, Arc::new(sources), teller).await };
    let mut building = Building {
        running: Some(Box::pin(running)),
        listener,
        screen: Screen::new(quiet),
        lines: VecDeque::new(),
        failed: None,
        document,
        has_told: false,
        refusal: None,
    };
    // What is wrong before anything was done is told by the status.
    let first = building.next().await;
    if let Some(failed) = first.as_ref().filter(|first| first.error_detail.is_some()) {
        return Err(match building.refusal.take() {
            Some(error) => error.into(),
            None => Failure::invalid(failed.error.clone()),
        });
    }
    let rest = futures_util::stream::unfold(building, |mut building| async move {
        let line = building.next().await?;
        Some((line, building))
    });
    let all = futures_util::stream::iter(first).chain(rest);
    Reply::stream("application/json", all.map(|line| Ok(Bytes::from(Reply::encode(&line)))))
}

/// What entries of the build cache are chosen by.
const FIELDS: [&str; 7] = ["id", "parent", "type", "description", "inuse", "shared", "private"];

/// For how long they have not been used, in seconds, where that is asked for.
fn unused(filters: &Filters) -> Result<Option<i64>, Failure> {
    let values = ["until", "unused-for"].map(|name| filters.get(name).collect::<Vec<_>>());
    match values.each_ref().map(Vec::as_slice) {
        [[], []] => Ok(None),
        [[value], []] | [[], [value]] => options::age(value).map(Some),
        [[_, ..], [_, ..]] => Err(Failure::invalid("conflicting filters: \"until\" and \"unused-for\"")),
        _ => Err(Failure::invalid("filters expect only one value")),
    }
}

pub(crate) async fn prune(call: Call) -> Answer {
    let filters = call.query.filters()?;
    let mut options = PruneOptions { all: call.query.flag("all"), ..PruneOptions::default() };
    options.keep_bytes = match call.query.number::<u64>("keep-storage")? {
        Some(bytes) => bytes,
        None => call.query.number("reserved-space")?.unwrap_or(0),
    };
    for name in ["max-used-space", "min-free-space"] {
        if call.query.number::<u64>(name)?.is_some_and(|bytes| bytes > 0) {
            return Err(Failure::absent(&format!("{name} of build prune")));
        }
    }
    let known = FIELDS.iter().chain(&["until", "unused-for", "label", "label!"]);
    filters.validate(&known.copied().collect::<Vec<_>>())?;
    if filters.contains("parent") {
        return Err(Failure::absent("the filter parent: no entry of the build cache has one"));
    }
    // Nothing in the cache has a label: of those that are wanted nothing is left, of those that are not everything.
    if filters.contains("label") {
        return Reply::json(&json!({"CachesDeleted": null, "SpaceReclaimed": 0}));
    }
    options.unused_s = unused(&filters)?;
    let fields: Vec<_> = FIELDS
        .iter()
        .filter(|name| filters.contains(name))
        .map(|name| (*name, filters.get(name).collect::<Vec<_>>()))
        .collect();
    let selection = match fields.as_slice() {
        [] => Selection::default(),
        fields => Selection::of(fields).map_err(|error| Failure::invalid(error.chain()))?,
    };
    if !selection.is_all() {
        let all = call.engine.builds().cache().await?.into_iter().map(crate::builder::cached);
        options.only = Some(all.filter(|one| selection.takes(one)).map(|one| one.id).collect());
    }
    // Files of clients are sent again where they are wanted.
    let age = (options.keep_bytes == 0).then(|| options.unused_s.unwrap_or(0));
    let (mut gone, mut bytes) = call.engine.builds().prune(options).await?;
    if let Some(age) = age {
        let kept = Arc::clone(call.buildkit.kept());
        let before = jiff::Timestamp::now().as_second().saturating_sub(age);
        let pruned = engine::blocking::run("remove files that clients have sent", move || {
            Ok(kept.prune(before, &selection))
        });
        for one in pruned.await? {
            bytes += one.bytes;
            gone.push(one.name);
        }
    }
    // As Docker's, nothing is no empty list.
    let gone = Some(gone).filter(|gone| !gone.is_empty());
    Reply::json(&json!({"CachesDeleted": gone, "SpaceReclaimed": bytes}))
}
