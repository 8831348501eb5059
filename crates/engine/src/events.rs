//! What happens in the engine, told to all who listen.
//!
//! A bounded ring remembers the latest events for `since`; a broadcast carries new ones. A listener that is too slow loses
//! the oldest and is told how many: nobody who emits ever waits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::Filters;
use api::event::{Actor, Message};
use jiff::Timestamp;
use tokio::sync::broadcast;

/// How many events are remembered for `since`: some hundred bytes each, so well under a megabyte.
const REMEMBERED: usize = 1024;
/// How many events a listener may be behind before it loses the oldest.
const BACKLOG: usize = 1024;

/// What sort of thing an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A network.
    Network,
    /// The daemon itself.
    Daemon,
    /// What builds keep.
    Builder,
}

impl Subject {
    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Network => "network",
            Self::Daemon => "daemon",
            Self::Builder => "builder",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What sort of thing it is about.
    pub subject: Subject,
    /// What happened to it.
    pub action: String,
    /// The thing's id (an image's or volume's name where it has no id).
    pub id: String,
    /// What else is to be known: name, image, labels, exit code …
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub at: Timestamp,
}

/// Which events a listener wants.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Remembered ones from this time on, before the new ones.
    pub since: Option<Timestamp>,
    /// None later than this; the stream ends there.
    pub until: Option<Timestamp>,
    /// Docker's filters.
    pub filters: Filters,
}

/// The filter keys that are understood.
pub const FILTER_KEYS: &[&str] =
    &["container", "daemon", "event", "image", "label", "network", "scope", "type", "volume"];

/// All events of one engine.
#[derive(Debug)]
pub struct Events {
    ring: Mutex<VecDeque<Arc<Event>>>,
    live: broadcast::Sender<Arc<Event>>,
}

/// What a listener hears.
#[derive(Debug, Clone)]
pub enum Heard {
    /// An event.
    Event(Arc<Event>),
    /// So many events were lost because the listener was too slow.
    Lagged(u64),
}

/// A listener's ear.
#[derive(Debug)]
pub struct Listener {
    replay: VecDeque<Arc<Event>>,
    live: broadcast::Receiver<Arc<Event>>,
    query: Query,
}

impl Default for Events {
    fn default() -> Self {
        Self { ring: Mutex::new(VecDeque::new()), live: broadcast::channel(BACKLOG).0 }
    }
}

impl Events {
    /// Tells everybody.
    pub fn emit(&self, subject: Subject, action: &str, id: &str, attributes: BTreeMap<String, String>) {
        let event = Arc::new(Event {
            subject,
            action: action.to_owned(),
            id: id.to_owned(),
            attributes,
            at: Timestamp::now(),
        });
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == REMEMBERED {
            ring.pop_front();
        }
        ring.push_back(Arc::clone(&event));
        // Sent under the lock, so that a new listener hears each event once: replayed or live. No listener is no error.
        let _ = self.live.send(event);
    }

    /// Listens, from now on and, with `since`, to what is remembered.
    pub fn listen(&self, query: Query) -> Listener {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live.subscribe();
        let replay = match (query.since, query.until) {
            (Some(since), _) => {
                ring.iter().filter(|e| e.at >= since && query.wants(e)).map(Arc::clone).collect()
            }
            (None, _) => VecDeque::new(),
        };
        Listener { replay, live, query }
    }

    /// How many are listening.
    pub fn listeners(&self) -> usize {
        self.live.receiver_count()
    }
}

impl Listener {
    /// The next event, or `None` when `until` has come (or the engine has gone).
    pub async fn next(&mut self) -> Option<Heard> {
        if let Some(event) = self.replay.pop_front() {
            return Some(Heard::Event(event));
        }
        loop {
            let received = match self.query.until {
                None => self.live.recv().await,
                Some(until) => {
                    let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
                    tokio::time::timeout(left, self.live.recv()).await.ok()?
                }
            };
            match received {
                Ok(event) if self.query.until.is_some_and(|until| event.at > until) => return None,
                Ok(event) if self.query.wants(&event) => return Some(Heard::Event(event)),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(lost)) => return Some(Heard::Lagged(lost)),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Query {
    fn wants(&self, event: &Event) -> bool {
        self.until.is_none_or(|until| event.at <= until)
            && self.filters.names().all(|key| event.matches(key, &self.filters))
    }
}

impl Event {
    /// As the API tells it.
    pub fn message(&self) -> Message {
        Message {
            kind: self.subject.as_str().to_owned(),
            action: self.action.clone(),
            actor: Actor { id: self.id.clone(), attributes: self.attributes.clone() },
            scope: "local".to_owned(),
            time: self.at.as_second(),
            time_nano: i64::try_from(self.at.as_nanosecond()).unwrap_or(i64::MAX),
        }
    }

    fn matches(&self, key: &str, filters: &Filters) -> bool {
        let name = self.attributes.get("name").map_or("", String::as_str);
        let mut values = filters.get(key);
        if filters.get(key).next().is_none() {
            return true;
        }
        let named = |subject: Subject| {
            self.subject == subject && filters.get(key).any(|v| self.id.starts_with(v) || name.starts_with(v))
        };
        match key {
            "type" => values.any(|v| v == self.subject.as_str()),
            "event" => values.any(|v| {
                // "exec_create: ls -l" is found by "exec_create".
                v == self.action || self.action.split_once(':').is_some_and(|(verb, _)| verb == v)
            }),
            "container" => named(Subject::Container),
            "volume" => named(Subject::Volume),
            "network" => named(Subject::Network),
            "daemon" => named(Subject::Daemon),
            "scope" => values.any(|v| v == "local"),
            "image" => match self.subject {
                Subject::Image => values.any(|v| same_image(&self.id, v) || same_image(name, v)),
                Subject::Container => {
                    let image = self.attributes.get("image").map_or("", String::as_str);
                    values.any(|v| same_image(image, v))
                }
                _ => false,
            },
            "label" => filters.matches_pairs("label", &self.attributes),
            _ => false,
        }
    }
}

/// `busybox` stands for all its tags.
fn same_image(have: &str, wanted: &str) -> bool {
    have == wanted || have.strip_prefix(wanted).is_some_and(|rest| rest.starts_with([':', '@']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn filters(key: &str, value: &str) -> Filters {
        let mut filters = Filters::new();
        filters.add(key, value);
        filters
    }

    #[tokio::test]
    async fn a_listener_hears_the_past_once_and_then_the_present() {
        let events = Events::default();
        events.emit(Subject::Container, "create", "abc", attributes(&[("name", "web")]));
        let mut all = events.listen(Query { since: Some(Timestamp::UNIX_EPOCH), ..Query::default() });
        let mut new = events.listen(Query::default());
        events.emit(Subject::Container, "start", "abc", attributes(&[("name", "web")]));
        let mut heard = Vec::new();
        for _ in 0..2 {
            if let Some(Heard::Event(e)) = all.next().await {
                heard.push(e.action.clone());
            }
        }
        assert_eq!(heard, ["create", "start"]);
        assert!(matches!(new.next().await, Some(Heard::Event(e)) if e.action == "start"));
    }

    #[tokio::test]
    async fn a_slow_listener_is_told_what_it_lost_and_until_ends_the_stream() {
        let events = Events::default();
        let mut slow = events.listen(Query::default());
        for n in 0..BACKLOG + 10 {
            events.emit(Subject::Daemon, "reload", &n.to_string(), BTreeMap::new());
        }
        assert!(matches!(slow.next().await, Some(Heard::Lagged(10))));
        let past =
            Query { since: Some(Timestamp::UNIX_EPOCH), until: Some(Timestamp::now()), ..Query::default() };
        let mut ended = events.listen(past);
        let mut count = 0;
        while ended.next().await.is_some() {
            count += 1;
        }
        assert_eq!(count, REMEMBERED);
    }

    #[test]
    fn filters_choose_by_name_prefix_image_and_label() {
        let event = Event {
            subject: Subject::Container,
            action: "exec_create: ls -l".into(),
            id: "abcdef".into(),
            attributes: attributes(&[("name", "web"), ("image", "busybox:1"), ("tier", "front")]),
            at: Timestamp::UNIX_EPOCH,
        };
        let wants = |k, v| Query { filters: filters(k, v), ..Query::default() }.wants(&event);
        assert!(wants("container", "abc") && wants("container", "web") && !wants("container", "x"));
        assert!(wants("event", "exec_create") && !wants("event", "exec_start"));
        assert!(wants("image", "busybox") && wants("image", "busybox:1") && !wants("image", "busy"));
        assert!(wants("label", "tier") && wants("label", "tier=front") && !wants("label", "tier=back"));
        assert!(wants("type", "container") && !wants("type", "image"));
        assert!(!wants("volume", "abc"));
    }
}
