//! What a build tells, as BuildKit's clients draw it: vertexes, their parts, their output, warnings.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{
    StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning,
};
use bollard_buildkit_proto::pb::{Position, Range, SourceInfo};
use build::Diagnostic;
use build::progress::{End, Event, Listener, Stream};
use build::request::Document;
use prost::Message as _;
use tokio::sync::Notify;

use crate::history::Told;
use crate::sources::own_vertex;

/// Bytes that wait for a client that does not read; a build that it asked for waits then.
const BACKLOG_BYTES_MAX: usize = 4 << 20;
/// Bytes of one message to the client: below what any client takes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// How long a build waits for a client that is there and does not read. Then the oldest is lost, and the build goes on: it waits again
/// only for a client that has read all there was.
const SLOW_MAX: Duration = Duration::from_secs(30);
/// How warnings are counted: the only level that clients show by default.
const WARNING_LEVEL: i64 = 1;

/// What waits for the client.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    state: Mutex<State>,
    news: Notify,
    room: Notify,
    /// Where it is kept for whoever asks later.
    told: Option<Arc<Told>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(usize, StatusResponse)>,
    bytes: usize,
    readers: usize,
    /// Whether it was waited in vain, and nobody has read everything since.
    is_given_up: bool,
    was_read: bool,
    is_closed: bool,
}

impl Backlog {
    /// One of which all is kept as well.
    pub(crate) fn kept_by(told: Option<Arc<Told>>) -> Self {
        Self { told, ..Self::default() }
    }

    /// Whether nobody has read it yet: what is in it is for the first who does.
    pub(crate) fn is_unread(&self) -> bool {
        !self.state.lock().unwrap_or_else(PoisonError::into_inner).was_read
    }

    /// Adds something. Waits for a reader that is slow; where there is none, the oldest goes.
    pub(crate) async fn push(&self, response: StatusResponse) {
        if let Some(told) = &self.told {
            told.note(&response);
        }
        let length = response.encoded_len();
        let full = async {
            loop {
                let room = self.room.notified();
                let has_room = {
                    let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                    let waits = state.readers > 0 && !state.is_given_up;
                    state.bytes + length <= BACKLOG_BYTES_MAX || !waits
                };
                if has_room {
                    return;
                }
                room.await;
            }
        };
        let waited = tokio::time::timeout(SLOW_MAX, full).await;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if waited.is_err() && !std::mem::replace(&mut state.is_given_up, true) {
            tracing::debug!("a client does not read what its build tells");
            // Nor does anybody else wait for it.
            self.room.notify_waiters();
        }
        while state.bytes + length > BACKLOG_BYTES_MAX
            && let Some((old, _)) = state.waiting.pop_front()
        {
            state.bytes -= old;
        }
        state.bytes += length;
        state.waiting.push_back((length, response));
        drop(state);
        self.news.notify_waiters();
    }

    /// No more is coming.
    pub(crate) fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        // Whoever reads is to know.
        self.news.notify_waiters();
    }

    /// Somebody reads from now on.
    pub(crate) fn reader(self: Arc<Self>) -> Reader {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.readers += 1;
        state.was_read = true;
        drop(state);
        Reader(self)
    }
}

/// Who reads a backlog.
#[derive(Debug)]
pub(crate) struct Reader(Arc<Backlog>);

impl Reader {
    /// What has come since; nothing when no more will.
    pub(crate) async fn next(&self) -> Option<StatusResponse> {
        loop {
            let news = self.0.news.notified();
            if let Some(taken) = self.take() {
                return taken;
            }
            news.await;
        }
    }

    /// Takes what is there; `None` if that is nothing yet, `Some(None)` if nothing will be.
    fn take(&self) -> Option<Option<StatusResponse>> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = StatusResponse::default();
        let mut bytes = 0;
        while bytes < MESSAGE_BYTES_MAX
            && let Some((length, one)) = state.waiting.pop_front()
        {
            state.bytes -= length;
            bytes += length;
            all.vertexes.extend(one.vertexes);
            all.statuses.extend(one.statuses);
            all.logs.extend(one.logs);
            all.warnings.extend(one.warnings);
        }
        if state.waiting.is_empty() {
            state.is_given_up = false;
        }
        if bytes > 0 {
            self.0.room.notify_waiters();
            return Some(Some(all));
        }
        state.is_closed.then_some(None)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).readers -= 1;
        self.0.room.notify_waiters();
    }
}

/// Makes BuildKit's messages of a build's events. Each message of a vertex holds all that is known of it, as clients expect.
#[derive(Debug, Default)]
pub(crate) struct Translator {
    vertexes: HashMap<String, Vertex>,
    /// What the build is called in the names of what is done for it, and the vertexes of the builder that go by those names.
    build: String,
    others: HashMap<String, String>,
    /// The vertex that has read the Dockerfile: what warnings are about.
    reader: String,
    /// The Dockerfile, once it is here.
    document: Arc<OnceLock<Document>>,
}

impl Translator {
    /// Begins, for a build and a Dockerfile that a vertex reads.
    pub(crate) fn new(build: &str, reader: String, document: Arc<OnceLock<Document>>) -> Self {
        Self { build: build.to_owned(), reader, document, ..Self::default() }
    }

    /// The message of an event, if clients are to be told of it.
    pub(crate) fn translate(&mut self, event: Event) -> Option<StatusResponse> {
        let mut told = StatusResponse::default();
        match event {
            Event::Plan(_) => return None,
            Event::Vertex(vertex) => {
                let digest = vertex.digest.to_string();
                let vertex = Vertex {
                    digest: digest.clone(),
                    inputs: vertex.inputs.iter().map(ToString::to_string).collect(),
                    name: vertex.name,
                    ..Vertex::default()
                };
                let own = own_vertex(&self.build, &vertex.name).to_string();
                self.others.insert(own, digest.clone());
                self.vertexes.insert(digest, vertex.clone());
                told.vertexes.push(vertex);
            }
            Event::Started { vertex, at } => {
                let vertex = self.vertexes.get_mut(vertex.as_str())?;
                vertex.started = Some(timestamp(at));
                told.vertexes.push(vertex.clone());
            }
            Event::Log { vertex, stream, bytes, at } => told.logs.push(VertexLog {
                vertex: vertex.to_string(),
                timestamp: Some(timestamp(at)),
                stream: match stream {
                    Stream::Stdout => 1,
                    Stream::Stderr => 2,
                },
                msg: bytes,
            }),
            Event::Status(status) => told.statuses.push(VertexStatus {
                id: status.id,
                vertex: match self.others.get(status.vertex.as_str()) {
                    Some(vertex) => vertex.clone(),
                    None => status.vertex.to_string(),
                },
                name: status.name,
                current: i64::try_from(status.current).unwrap_or(i64::MAX),
                total: i64::try_from(status.total).unwrap_or(i64::MAX),
                timestamp: Some(timestamp(SystemTime::now())),
                started: Some(timestamp(status.started)),
                completed: status.completed.map(timestamp),
            }),
            Event::Done { vertex, end, at } => {
                let vertex = self.vertexes.get_mut(vertex.as_str())?;
                let at = timestamp(at);
                vertex.started.get_or_insert(at);
                vertex.completed = Some(at);
                match end {
                    End::Ran => {}
                    End::Cached => vertex.cached = true,
                    End::Failed(why) => vertex.error = why,
                    End::Canceled => "context canceled".clone_into(&mut vertex.error),
                }
                told.vertexes.push(vertex.clone());
            }
            Event::Warning { diagnostic, url } => told.warnings.push(self.warning(&diagnostic, url)),
        }
        Some(told)
    }

    fn warning(&self, diagnostic: &Diagnostic, url: String) -> VertexWarning {
        let none = Document::default();
        let document = self.document.get().unwrap_or(&none);
        let place = document.source().place(diagnostic.instruction.unwrap_or(diagnostic.span));
        let files = document.files();
        let (name, text) = files.get(place.file).copied().unwrap_or_default();
        let position = |position: build::Position| {
            // BuildKit's clients mark lines.
            Some(Position { line: i32::try_from(position.line).unwrap_or(i32::MAX), character: 0 })
        };
        let line = place.start.line;
        let range = Range { start: position(place.start), end: position(place.end) };
        let rule = diagnostic.rule.map(|rule| format!("{rule}: ")).unwrap_or_default();
        let of = if place.file > 0 { format!(" of {name}") } else { String::new() };
        let short = format!("{rule}{} (line {line}{of})", diagnostic.message);
        VertexWarning {
            vertex: self.reader.clone(),
            level: WARNING_LEVEL,
            short: short.into_bytes(),
            detail: diagnostic.expected.iter().map(|what| format!("expected {what}").into_bytes()).collect(),
            url,
            info: Some(SourceInfo {
                filename: name.to_owned(),
                data: text.as_bytes().to_vec(),
                definition: None,
                language: "Dockerfile".to_owned(),
            }),
            ranges: vec![range],
        }
    }
}

/// Hands what a build tells to its client, until the build and all that belongs to it have ended.
pub(crate) async fn pump(mut events: Listener, mut translator: Translator, backlog: Arc<Backlog>) {
    while let Some(event) = events.recv().await {
        if let Some(told) = translator.translate(event) {
            backlog.push(told).await;
        }
    }
}

/// A time in protobuf's form.
pub(crate) fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use build::Span;
    use oci::Digest;

    fn log(text: &str) -> StatusResponse {
        let log = VertexLog { msg: text.as_bytes().to_vec(), ..VertexLog::default() };
        StatusResponse { logs: vec![log], ..StatusResponse::default() }
    }

    #[tokio::test]
    async fn what_was_told_before_the_client_came_is_there() {
        let backlog = Arc::new(Backlog::default());
        backlog.push(log("a")).await;
        backlog.push(log("b")).await;
        let reader = Arc::clone(&backlog).reader();
        assert_eq!(reader.next().await.unwrap().logs.len(), 2);
        let waiting = tokio::spawn(async move { reader.next().await });
        backlog.close();
        assert_eq!(waiting.await.unwrap(), None);
    }

    #[tokio::test]
    async fn all_who_read_hear_the_end() {
        let backlog = Arc::new(Backlog::default());
        let readers = [Arc::clone(&backlog).reader(), Arc::clone(&backlog).reader()];
        let waiting = readers.map(|reader| tokio::spawn(async move { reader.next().await }));
        tokio::task::yield_now().await;
        backlog.close();
        for one in waiting {
            assert_eq!(one.await.unwrap(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_build_waits_for_a_slow_reader_but_not_for_ever() {
        let backlog = Arc::new(Backlog::default());
        let big = "x".repeat(BACKLOG_BYTES_MAX / 2);
        backlog.push(log(&big)).await;
        backlog.push(log(&big)).await;
        // Without a reader the oldest goes.
        let before = tokio::time::Instant::now();
        backlog.push(log("c")).await;
        let waited = || before.elapsed().as_secs() / SLOW_MAX.as_secs();
        assert_eq!(waited(), 0);
        backlog.push(log(&big)).await;
        let reader = Arc::clone(&backlog).reader();
        // It is waited for once.
        for _ in 0..5 {
            backlog.push(log(&big)).await;
        }
        assert_eq!(waited(), 1);
        // Who has read all is waited for again.
        while reader.take().is_some() {}
        backlog.push(log(&big)).await;
        assert_eq!(waited(), 1);
        backlog.push(log(&big)).await;
        assert_eq!(waited(), 2);
        while reader.take().is_some() {}
        backlog.push(log(&big)).await;
        let pushing = Arc::clone(&backlog);
        let pushers: Vec<_> = [log(&big), log(&big)]
            .into_iter()
            .map(|one| {
                let backlog = Arc::clone(&pushing);
                tokio::spawn(async move { backlog.push(one).await })
            })
            .collect();
        // Several that wait give up together.
        for pusher in pushers {
            pusher.await.unwrap();
        }
        assert_eq!(waited(), 3);
        drop(reader);
        backlog.push(log(&big)).await;
        backlog.push(log(&big)).await;
        assert_eq!(waited(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_reads_hears_of_more_and_of_the_end() {
        let backlog = Arc::new(Backlog::default());
        let waiting = || {
            let reader = Arc::clone(&backlog).reader();
            tokio::spawn(async move {
                let mut told = 0;
                while let Some(response) = reader.next().await {
                    told += response.logs.len();
                }
                told
            })
        };
        let readers = [waiting(), waiting(), waiting()];
        tokio::task::yield_now().await;
        backlog.push(log("a")).await;
        tokio::task::yield_now().await;
        backlog.close();
        let mut told = 0;
        for reader in readers {
            told += tokio::time::timeout(SLOW_MAX, reader).await.unwrap().unwrap();
        }
        assert_eq!(told, 1);
    }

    #[test]
    fn each_message_of_a_vertex_holds_all_of_it() {
        let text = "FROM a AS b\n".to_owned();
        let mut translator =
            Translator::new("b", "sha256:0".to_owned(), Arc::new(Document::new("Dockerfile", text).into()));
        let digest = Digest::from_sha256([1; 32]);
        let vertex =
            build::progress::Vertex { digest: digest.clone(), name: "RUN x".to_owned(), inputs: vec![] };
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1500);
        assert!(translator.translate(Event::Plan(vec![])).is_none());
        let known = translator.translate(Event::Vertex(vertex)).unwrap().vertexes.remove(0);
        assert!(known.started.is_none());
        let done = Event::Done { vertex: digest.clone(), end: End::Cached, at };
        let done = translator.translate(done).unwrap().vertexes.remove(0);
        assert_eq!((done.name.as_str(), done.cached), ("RUN x", true));
        assert_eq!(done.started, Some(Timestamp { seconds: 1, nanos: 500_000_000 }));
        let unknown = Event::Started { vertex: Digest::from_sha256([2; 32]), at };
        assert!(translator.translate(unknown).is_none());
        let diagnostic = Diagnostic { rule: Some("Casing"), ..Diagnostic::warning(Span::new(7, 9), "wrong") };
        let warning = Event::Warning { diagnostic, url: String::new() };
        let warning = translator.translate(warning).unwrap().warnings.remove(0);
        assert_eq!(warning.short, b"Casing: wrong (line 1)");
    }
}
