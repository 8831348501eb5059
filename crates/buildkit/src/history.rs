//! The builds that there are and that there were, as `Control.ListenBuildHistory` tells of them.
//!
//! They are kept in memory, and are forgotten with the engine's end: the images, the cache and the client's own files outlive it. Each is
//! bounded, and so are all of them; the oldest goes first, one that somebody has pinned last.

mod filter;
mod told;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryEventType as Kind, BuildHistoryRecord, BuildHistoryRequest, Exporter,
    SolveRequest, UpdateBuildHistoryRequest,
};
use prost::Message as _;
use tokio::sync::broadcast;
use tonic::{Code, Status};

use crate::error::{Error, Result};
use crate::status::timestamp;
use filter::Filters;
pub(crate) use told::{Follower, Told};

/// Builds that are known, as many as BuildKit keeps; and those of them that may be pinned, so that there is room for others.
const RECORDS_MAX: usize = 50;
const PINNED_MAX: usize = 25;
/// Events that somebody who listens may not have heard yet; who is further behind misses some.
const EVENTS_MAX: usize = 256;
/// Bytes of one thing that a record says, and of all that it says of its kind: options of builds may have megabytes.
const VALUE_BYTES_MAX: usize = 4 << 10;
const VALUES_BYTES_MAX: usize = 32 << 10;
/// Bytes of why a build failed, with the Dockerfile.
const ERROR_BYTES_MAX: usize = 32 << 10;

/// A build.
#[derive(Debug)]
struct Entry {
    record: BuildHistoryRecord,
    told: Arc<Told>,
}

impl Entry {
    fn is_over(&self) -> bool {
        self.record.completed_at.is_some()
    }

    /// The record with its numbers.
    fn counted(&self) -> BuildHistoryRecord {
        let counts = self.told.counts();
        BuildHistoryRecord {
            num_total_steps: counts.total,
            num_completed_steps: counts.completed,
            num_cached_steps: counts.cached,
            num_warnings: counts.warnings,
            ..self.record.clone()
        }
    }

    fn event(&self) -> BuildHistoryEvent {
        let kind = if self.is_over() { Kind::Complete } else { Kind::Started };
        BuildHistoryEvent { r#type: kind.into(), record: Some(self.counted()) }
    }
}

/// What is known of builds; the oldest first.
#[derive(Debug)]
pub(crate) struct History {
    entries: Mutex<VecDeque<Entry>>,
    events: broadcast::Sender<BuildHistoryEvent>,
}

impl Default for History {
    fn default() -> Self {
        Self { entries: Mutex::default(), events: broadcast::Sender::new(EVENTS_MAX) }
    }
}

/// Pairs that fit; what is longer than it may be is left out.
fn bounded(pairs: &HashMap<String, String>) -> HashMap<String, String> {
    let mut bytes = 0;
    let mut all: Vec<_> =
        pairs.iter().filter(|(key, value)| key.len() + value.len() <= VALUE_BYTES_MAX).collect();
    // In their order, so that the same are left out of the same.
    all.sort();
    all.into_iter()
        .take_while(|(key, value)| {
            bytes += key.len() + value.len();
            bytes <= VALUES_BYTES_MAX
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Why a build failed, with as much of the details as may be kept.
fn failure(status: &Status) -> rpc::Status {
    let has_details = (1..=ERROR_BYTES_MAX).contains(&status.details().len());
    let told = has_details.then(|| rpc::Status::decode(status.details()).ok()).flatten();
    told.unwrap_or_else(|| rpc::Status {
        code: status.code().into(),
        message: status.message().chars().take(VALUE_BYTES_MAX).collect(),
        details: Vec::new(),
    })
}

impl History {
    fn entries(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: BuildHistoryEvent) {
        // Nobody listens: nobody needs to know.
        let _ = self.events.send(event);
    }

    /// Begins to record a build; one that the client calls its own affair is not.
    pub(crate) fn begin(self: &Arc<Self>, request: &SolveRequest) -> Option<Recording> {
        if request.internal {
            return None;
        }
        let exporter = |one: &Exporter| Exporter { r#type: one.r#type.clone(), attrs: bounded(&one.attrs) };
        let record = BuildHistoryRecord {
            r#ref: request.r#ref.clone(),
            frontend: request.frontend.clone(),
            frontend_attrs: bounded(&request.frontend_attrs),
            exporters: request.exporters.iter().map(exporter).collect(),
            created_at: Some(timestamp(SystemTime::now())),
            ..BuildHistoryRecord::default()
        };
        let told = Arc::new(Told::default());
        let entry = Entry { record, told: Arc::clone(&told) };
        let event = entry.event();
        let mut entries = self.entries();
        entries.retain(|entry| entry.record.r#ref != request.r#ref);
        while entries.len() >= RECORDS_MAX {
            let oldest = entries.iter().position(|entry| entry.is_over() && !entry.record.pinned);
            // Where all go on, the first of them is not shown any more.
            if entries.remove(oldest.unwrap_or(0)).is_none() {
                break;
            }
        }
        entries.push_back(entry);
        drop(entries);
        self.tell(event);
        Some(Recording { history: Arc::clone(self), name: request.r#ref.clone(), told, is_over: false })
    }

    /// What a client that leads its build itself asks the frontend for.
    pub(crate) fn describe(&self, name: &str, frontend: &str, options: &HashMap<String, String>) {
        let mut entries = self.entries();
        let found = entries.iter_mut().find(|entry| entry.record.r#ref == name);
        if let Some(entry) = found.filter(|entry| entry.record.frontend.is_empty() && !entry.is_over()) {
            frontend.clone_into(&mut entry.record.frontend);
            entry.record.frontend_attrs = bounded(options);
        }
    }

    fn end(&self, name: &str, outcome: std::result::Result<&HashMap<String, String>, &Status>) {
        let mut entries = self.entries();
        let found = entries.iter_mut().find(|entry| entry.record.r#ref == name && !entry.is_over());
        let event = found.map(|entry| {
            entry.record.completed_at = Some(timestamp(SystemTime::now()));
            match outcome {
                Ok(response) => entry.record.exporter_response = bounded(response),
                Err(status) => entry.record.error = Some(failure(status)),
            }
            entry.event()
        });
        drop(entries);
        if let Some(event) = event {
            self.tell(event);
        }
    }

    /// Follows what a build tells, from its beginning. One that goes on is followed by its client first: `is_heard` says whether it was.
    pub(crate) fn follow(&self, name: &str, is_heard: Option<bool>) -> Option<Follower> {
        let entries = self.entries();
        let entry = entries.iter().find(|entry| entry.record.r#ref == name)?;
        let is_left = is_heard.unwrap_or_else(|| entry.is_over());
        is_left.then(|| Arc::clone(&entry.told).follow())
    }

    /// What there is, and what comes.
    ///
    /// # Errors
    /// A filter or the limit is wrong.
    pub(crate) fn listen(
        &self,
        request: &BuildHistoryRequest,
    ) -> Result<(Vec<BuildHistoryEvent>, Listening)> {
        let filters = Filters::read(&request.filter)?;
        let limit = match usize::try_from(request.limit) {
            Err(_) => return Err(Error::Invalid(format!("invalid limit {}", request.limit))),
            Ok(0) => usize::MAX,
            Ok(limit) => limit,
        };
        let coming = self.events.subscribe();
        let listening =
            Listening { coming, name: request.r#ref.clone(), active_only: request.active_only, filters };
        let mut known: Vec<BuildHistoryEvent> =
            self.entries().iter().map(Entry::event).filter(|event| listening.hears(event)).collect();
        if request.active_only {
            known.retain(|event| event.r#type == i32::from(Kind::Started));
        }
        // The newest, in their order.
        known.drain(..known.len().saturating_sub(limit));
        Ok((known, listening))
    }

    /// Pins, or forgets.
    ///
    /// # Errors
    /// There is no such build, it goes on, or too many are pinned.
    pub(crate) fn update(&self, request: &UpdateBuildHistoryRequest) -> Result<()> {
        let name = &request.r#ref;
        let mut entries = self.entries();
        let pinned = entries.iter().filter(|entry| entry.record.pinned).count();
        let at = entries.iter().position(|entry| entry.record.r#ref == *name);
        let at = at.ok_or_else(|| Error::Unknown(format!("no such build record {name}: not found")))?;
        if request.delete {
            if !entries[at].is_over() {
                return Err(Error::Invalid(format!("the build {name} goes on: end it first")));
            }
            entries.remove(at);
            drop(entries);
            let record = Some(BuildHistoryRecord { r#ref: name.clone(), ..BuildHistoryRecord::default() });
            self.tell(BuildHistoryEvent { r#type: Kind::Deleted.into(), record });
            return Ok(());
        }
        // What is known of a build is all there when it ends.
        if request.finalize {
            return Ok(());
        }
        if request.pinned && !entries[at].record.pinned && pinned >= PINNED_MAX {
            return Err(Error::Full { what: "pinned builds", count: PINNED_MAX });
        }
        entries[at].record.pinned = request.pinned;
        entries[at].record.generation += 1;
        Ok(())
    }
}

/// Who hears what comes.
#[derive(Debug)]
pub(crate) struct Listening {
    coming: broadcast::Receiver<BuildHistoryEvent>,
    name: String,
    active_only: bool,
    filters: Filters,
}

impl Listening {
    fn hears(&self, event: &BuildHistoryEvent) -> bool {
        let Some(record) = &event.record else { return false };
        let is_meant = self.name.is_empty() || self.name == record.r#ref;
        // Of what is gone nothing is left that a filter could look at.
        is_meant && (event.r#type == i32::from(Kind::Deleted) || self.filters.take(record))
    }

    /// The next; nothing where there will be none.
    pub(crate) async fn next(&mut self) -> Option<BuildHistoryEvent> {
        loop {
            match self.coming.recv().await {
                Ok(event) if self.active_only && event.r#type == i32::from(Kind::Deleted) => {}
                Ok(event) if self.hears(&event) => return Some(event),
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// A build that is being recorded. One that nobody ends has been given up.
#[derive(Debug)]
pub(crate) struct Recording {
    history: Arc<History>,
    name: String,
    told: Arc<Told>,
    is_over: bool,
}

impl Recording {
    /// Where what it tells is kept.
    pub(crate) fn told(&self) -> Arc<Told> {
        Arc::clone(&self.told)
    }

    /// It has ended so.
    pub(crate) fn end(mut self, outcome: std::result::Result<&HashMap<String, String>, &Status>) {
        self.is_over = true;
        self.told.close();
        self.history.end(&self.name, outcome);
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if !self.is_over {
            self.told.close();
            let gone = Status::new(Code::Cancelled, "the client has ended: context canceled");
            self.history.end(&self.name, Err(&gone));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str) -> SolveRequest {
        let attrs = HashMap::from([
            ("target".to_owned(), "x".to_owned()),
            ("long".to_owned(), "y".repeat(VALUE_BYTES_MAX)),
        ]);
        SolveRequest { r#ref: name.to_owned(), frontend_attrs: attrs, ..SolveRequest::default() }
    }

    fn listed(history: &History, request: &BuildHistoryRequest) -> Vec<(i32, String)> {
        let (known, _) = history.listen(request).unwrap();
        known.into_iter().map(|event| (event.r#type, event.record.unwrap().r#ref)).collect()
    }

    #[test]
    fn the_last_are_known_and_what_is_pinned_stays() {
        let history = Arc::new(History::default());
        for number in 0..RECORDS_MAX + 10 {
            let recording = history.begin(&request(&format!("b{number}"))).unwrap();
            if number == 1 {
                drop(recording);
                let pin =
                    UpdateBuildHistoryRequest { r#ref: "b1".into(), pinned: true, ..Default::default() };
                history.update(&pin).unwrap();
            } else {
                recording.end(Ok(&HashMap::from([("k".to_owned(), "v".to_owned())])));
            }
        }
        let all = listed(&history, &BuildHistoryRequest::default());
        assert_eq!((all.len(), all[0].1.as_str(), all[1].1.as_str()), (RECORDS_MAX, "b1", "b11"));
        let newest = listed(&history, &BuildHistoryRequest { limit: 2, ..Default::default() });
        assert_eq!(newest.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["b58", "b59"]);
        let (known, _) =
            history.listen(&BuildHistoryRequest { r#ref: "b1".into(), ..Default::default() }).unwrap();
        let record = known[0].record.clone().unwrap();
        assert!(record.error.unwrap().message.contains("context canceled") && record.pinned);
        assert_eq!(record.frontend_attrs.len(), 1, "what is too long is left out");
        let delete = UpdateBuildHistoryRequest { r#ref: "b1".into(), delete: true, ..Default::default() };
        history.update(&delete).unwrap();
        assert!(history.update(&delete).is_err());
        assert!(history.listen(&BuildHistoryRequest { limit: -1, ..Default::default() }).is_err());
    }

    #[tokio::test]
    async fn what_comes_is_heard() {
        let history = Arc::new(History::default());
        let (known, mut listening) = history.listen(&BuildHistoryRequest::default()).unwrap();
        assert!(known.is_empty());
        let recording = history.begin(&request("one")).unwrap();
        assert!(history.begin(&SolveRequest { internal: true, ..request("none") }).is_none());
        let delete = UpdateBuildHistoryRequest { r#ref: "one".into(), delete: true, ..Default::default() };
        assert!(history.update(&delete).is_err(), "it goes on");
        let active = BuildHistoryRequest { active_only: true, ..Default::default() };
        assert_eq!(listed(&history, &active), [(Kind::Started.into(), "one".to_owned())]);
        recording.end(Err(&Status::unknown("why")));
        assert!(listed(&history, &active).is_empty());
        history.update(&delete).unwrap();
        for kind in [Kind::Started, Kind::Complete, Kind::Deleted] {
            let event = listening.next().await.unwrap();
            assert_eq!((event.r#type, event.record.unwrap().r#ref.as_str()), (kind.into(), "one"));
        }
    }
}
