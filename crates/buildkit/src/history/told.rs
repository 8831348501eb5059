//! What one build has told, from its beginning, for whoever asks later.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex};
use prost::Message as _;
use tokio::sync::watch;

/// Bytes of what was told that are kept, the oldest going first; and bytes of vertexes, of which the last state is kept.
const TOLD_BYTES_MAX: usize = 192 << 10;
const VERTEX_BYTES_MAX: usize = 64 << 10;

/// How many steps there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) total: i32,
    pub(super) completed: i32,
    pub(super) cached: i32,
    pub(super) warnings: i32,
}

/// What was told.
#[derive(Debug)]
pub(crate) struct Told {
    state: Mutex<State>,
    /// How many messages there were; tells who follows that there are more.
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// As they go over the wire.
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    /// How many have gone.
    gone: u64,
    /// In the order of their names: it does not matter to who draws them.
    vertexes: BTreeMap<String, Vertex>,
    vertex_bytes: usize,
    warnings: usize,
    is_closed: bool,
}

impl Default for Told {
    fn default() -> Self {
        Self { state: Mutex::default(), news: watch::Sender::new(0) }
    }
}

impl Told {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a message.
    pub(crate) fn note(&self, message: &StatusResponse) {
        let encoded = message.encode_to_vec();
        let mut state = self.state();
        for vertex in &message.vertexes {
            let length = vertex.encoded_len();
            if !state.vertexes.contains_key(&vertex.digest) {
                if state.vertex_bytes + length > VERTEX_BYTES_MAX {
                    continue;
                }
                state.vertex_bytes += length;
            }
            state.vertexes.insert(vertex.digest.clone(), vertex.clone());
        }
        state.warnings += message.warnings.len();
        state.bytes += encoded.len();
        state.messages.push_back(encoded);
        while state.bytes > TOLD_BYTES_MAX
            && let Some(old) = state.messages.pop_front()
        {
            state.bytes -= old.len();
            state.gone += 1;
        }
        drop(state);
        self.news.send_modify(|count| *count += 1);
    }

    /// No more is coming.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.news.send_modify(|count| *count += 1);
    }

    pub(super) fn counts(&self) -> Counts {
        let state = self.state();
        let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        let number =
            |is: fn(&Vertex) -> bool| count(state.vertexes.values().filter(|vertex| is(vertex)).count());
        Counts {
            total: count(state.vertexes.len()),
            completed: number(|vertex| vertex.completed.is_some()),
            cached: number(|vertex| vertex.cached),
            warnings: count(state.warnings),
        }
    }

    /// Follows it from the beginning, as far as that is known.
    pub(super) fn follow(self: Arc<Self>) -> Follower {
        let news = self.news.subscribe();
        Follower { told: self, news, next: 0, is_over: false }
    }
}

/// Who follows what a build tells.
#[derive(Debug)]
pub(crate) struct Follower {
    told: Arc<Told>,
    news: watch::Receiver<u64>,
    next: u64,
    is_over: bool,
}

impl Follower {
    /// The next that was told; nothing where no more will be.
    pub(crate) async fn next(&mut self) -> Option<StatusResponse> {
        loop {
            self.news.mark_unchanged();
            if let Some(taken) = self.take() {
                return taken;
            }
            // The sender is held by what is followed.
            let _ = self.news.changed().await;
        }
    }

    /// What is there; `None` if that is nothing yet, `Some(None)` if nothing will be.
    fn take(&mut self) -> Option<Option<StatusResponse>> {
        let state = self.told.state();
        self.next = self.next.max(state.gone);
        let at = usize::try_from(self.next - state.gone).unwrap_or(usize::MAX);
        if let Some(message) = state.messages.get(at) {
            self.next += 1;
            // What was encoded here can be decoded.
            return Some(Some(StatusResponse::decode(message.as_slice()).unwrap_or_default()));
        }
        if !state.is_closed {
            return None;
        }
        if std::mem::replace(&mut self.is_over, true) {
            return Some(None);
        }
        if state.gone == 0 {
            return Some(None);
        }
        // Steps whose end was told among what has gone end here.
        Some(Some(StatusResponse {
            vertexes: state.vertexes.values().cloned().collect(),
            ..StatusResponse::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard_buildkit_proto::google::protobuf::Timestamp;
    use bollard_buildkit_proto::moby::buildkit::v1::VertexLog;

    fn vertex(name: &str, is_over: bool) -> StatusResponse {
        let completed = is_over.then(Timestamp::default);
        let vertex = Vertex { digest: name.to_owned(), cached: is_over, completed, ..Vertex::default() };
        StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() }
    }

    fn log(bytes: usize) -> StatusResponse {
        let log = VertexLog { msg: vec![b'x'; bytes], ..VertexLog::default() };
        StatusResponse { logs: vec![log], ..StatusResponse::default() }
    }

    #[tokio::test]
    async fn who_comes_late_hears_all_and_how_it_ended() {
        let told = Arc::new(Told::default());
        told.note(&vertex("a", false));
        told.note(&vertex("b", false));
        told.note(&vertex("a", true));
        assert_eq!(told.counts(), Counts { total: 2, completed: 1, cached: 1, warnings: 0 });
        let mut early = Arc::clone(&told).follow();
        for _ in 0..3 {
            assert_eq!(early.next().await.unwrap().vertexes.len(), 1);
        }
        let waiting = tokio::spawn(async move { (early.next().await, early) });
        told.note(&log(1));
        let (heard, mut early) = waiting.await.unwrap();
        assert_eq!(heard.unwrap().logs.len(), 1);
        told.close();
        assert_eq!(early.next().await, None);
    }

    #[tokio::test]
    async fn only_so_much_is_kept() {
        let told = Arc::new(Told::default());
        for number in 0..100_000 {
            told.note(&vertex(&format!("{number}"), true));
        }
        for _ in 0..10 {
            told.note(&log(TOLD_BYTES_MAX / 4));
        }
        told.close();
        let kept = {
            let state = told.state();
            (state.bytes, state.vertex_bytes)
        };
        assert!(kept.0 <= TOLD_BYTES_MAX && kept.1 <= VERTEX_BYTES_MAX);
        let mut late = told.follow();
        let (mut logs, mut last) = (0, StatusResponse::default());
        while let Some(heard) = late.next().await {
            logs += heard.logs.len();
            last = heard;
        }
        assert_eq!(logs, 3);
        // How the first steps ended, which was told long before.
        assert!(last.vertexes.len() > 100 && last.vertexes.iter().all(|vertex| vertex.completed.is_some()));
    }
}
