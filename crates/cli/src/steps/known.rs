//! What is known of a build's steps.

use std::collections::{HashMap, VecDeque};

use buildkit::client::Timestamp;
use buildkit::client::api::{StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning};

/// Lines of a step's output that are kept for the end.
pub(super) const TAIL_MAX: usize = 30;
/// Bytes of one of them.
const LINE_BYTES_MAX: usize = 4096;

/// Nanoseconds since 1970.
pub(super) type Nanoseconds = i128;

/// One step.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Its number: steps are counted as they are told of.
    pub(super) number: usize,
    pub(super) name: String,
    pub(super) started: Option<Nanoseconds>,
    pub(super) completed: Option<Nanoseconds>,
    pub(super) is_cached: bool,
    pub(super) error: String,
    /// What it is at, by name, in the order it was told of.
    pub(super) parts: Vec<Part>,
    /// The last lines of its output, with their seconds since it started.
    pub(super) tail: VecDeque<(f64, String)>,
    /// A line that is not ended yet.
    open: String,
}

/// Something that a step is at.
#[derive(Debug, Default)]
pub(super) struct Part {
    id: String,
    pub(super) name: String,
    pub(super) current: i64,
    pub(super) total: i64,
    pub(super) started: Option<Nanoseconds>,
    pub(super) completed: Option<Nanoseconds>,
}

/// What has come of a message.
#[derive(Debug, PartialEq)]
pub(super) enum News {
    /// A step has begun.
    Begun(usize),
    /// A part of a step is complete.
    Part(usize, usize),
    /// A step has said lines.
    Said(usize, Vec<(f64, String)>),
    /// A step has ended.
    Ended(usize),
}

/// All steps.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) steps: Vec<Step>,
    by_digest: HashMap<String, usize>,
    pub(super) warnings: Vec<VertexWarning>,
}

/// Nanoseconds of a time.
pub(super) fn nanoseconds(at: &Timestamp) -> Nanoseconds {
    i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos)
}

/// Seconds between two times.
pub(super) fn seconds(from: Nanoseconds, to: Nanoseconds) -> f64 {
    (to - from).max(0) as f64 / 1e9
}

impl Known {
    /// Takes a message, and tells what is new.
    pub(super) fn take(&mut self, message: StatusResponse) -> Vec<News> {
        let mut news = Vec::new();
        let mut ended = Vec::new();
        for vertex in message.vertexes {
            self.vertex(vertex, &mut news, &mut ended);
        }
        for status in message.statuses {
            self.status(&status, &mut news);
        }
        for log in message.logs {
            self.log(&log, &mut news);
        }
        self.warnings.extend(message.warnings);
        // Its last words come before its end.
        for at in ended {
            let step = &mut self.steps[at];
            if !step.open.is_empty() {
                let line =
                    (step.tail.back().map_or(0.0, |(seconds, _)| *seconds), std::mem::take(&mut step.open));
                step.keep(line.clone());
                news.push(News::Said(at, vec![line]));
            }
            news.push(News::Ended(at));
        }
        news
    }

    fn vertex(&mut self, vertex: Vertex, news: &mut Vec<News>, ended: &mut Vec<usize>) {
        let count = self.steps.len();
        let at = *self.by_digest.entry(vertex.digest).or_insert(count);
        if at == count {
            self.steps.push(Step { number: count + 1, ..Step::default() });
        }
        let step = &mut self.steps[at];
        step.name = super::clean(&vertex.name);
        if let (Some(started), None) = (&vertex.started, step.started) {
            step.started = Some(nanoseconds(started));
            news.push(News::Begun(at));
        }
        step.is_cached |= vertex.cached;
        if let (Some(completed), None) = (&vertex.completed, step.completed) {
            step.completed = Some(nanoseconds(completed));
            step.error = super::clean(&vertex.error);
            ended.push(at);
        }
    }

    fn status(&mut self, status: &VertexStatus, news: &mut Vec<News>) {
        let Some(at) = self.by_digest.get(&status.vertex).copied() else { return };
        let parts = &mut self.steps[at].parts;
        let which = parts.iter().position(|part| part.id == status.id).unwrap_or_else(|| {
            parts.push(Part { id: status.id.clone(), ..Part::default() });
            parts.len() - 1
        });
        let part = &mut parts[which];
        let name = if status.name.is_empty() { &status.id } else { &status.name };
        part.name = super::clean(name);
        (part.current, part.total) = (status.current, status.total);
        part.started = status.started.as_ref().map(nanoseconds).or(part.started);
        if let (Some(completed), None) = (&status.completed, part.completed) {
            part.completed = Some(nanoseconds(completed));
            news.push(News::Part(at, which));
        }
    }

    fn log(&mut self, log: &VertexLog, news: &mut Vec<News>) {
        let Some(at) = self.by_digest.get(&log.vertex).copied() else { return };
        let step = &mut self.steps[at];
        let now = log.timestamp.as_ref().map(nanoseconds).or(step.started).unwrap_or_default();
        let since = seconds(step.started.unwrap_or(now), now);
        let mut lines = Vec::new();
        let text = String::from_utf8_lossy(&log.msg);
        for piece in text.split_inclusive('\n') {
            let line = piece.trim_end_matches(['\n', '\r']);
            // What a carriage return writes over is not seen.
            let line = line.rsplit('\r').next().unwrap_or_default();
            if step.open.len() < LINE_BYTES_MAX {
                step.open.push_str(&super::clean(line));
            }
            if piece.ends_with('\n') || step.open.len() >= LINE_BYTES_MAX {
                lines.push((since, std::mem::take(&mut step.open)));
            }
        }
        for line in &lines {
            step.keep(line.clone());
        }
        if !lines.is_empty() {
            news.push(News::Said(at, lines));
        }
    }
}

impl Step {
    fn keep(&mut self, line: (f64, String)) {
        if self.tail.len() == TAIL_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// Seconds that it has taken, until now if it goes on.
    pub(super) fn seconds(&self, now: Nanoseconds) -> f64 {
        self.started.map_or(0.0, |started| seconds(started, self.completed.unwrap_or(now)))
    }
}

impl Part {
    /// What it is at, in words: `transferring context: 1.2kB`.
    pub(super) fn text(&self) -> String {
        let sizes = match (self.current, self.total) {
            (0, 0) => String::new(),
            (current, 0) => format!(" {}", crate::units::size(current)),
            (current, total) => format!(" {} / {}", crate::units::size(current), crate::units::size(total)),
        };
        format!("{}{sizes}", self.name)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::steps) fn at(seconds: i64, nanos: i32) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos })
    }

    pub(in crate::steps) fn vertex(digest: &str, name: &str) -> Vertex {
        Vertex { digest: digest.into(), name: name.into(), ..Vertex::default() }
    }

    pub(in crate::steps) fn vertexes(vertexes: Vec<Vertex>) -> StatusResponse {
        StatusResponse { vertexes, ..StatusResponse::default() }
    }

    pub(in crate::steps) fn said(digest: &str, text: &str) -> StatusResponse {
        let log = VertexLog {
            vertex: digest.into(),
            timestamp: at(10, 250_000_000),
            msg: text.as_bytes().to_vec(),
            ..VertexLog::default()
        };
        StatusResponse { logs: vec![log], ..StatusResponse::default() }
    }

    #[test]
    fn lines_are_whole_and_do_not_move_the_cursor() {
        let mut known = Known::default();
        known.take(vertexes(vec![Vertex { started: at(10, 0), ..vertex("a", "RUN x") }]));
        assert_eq!(known.take(said("a", "one\ntw")), [News::Said(0, vec![(0.25, "one".into())])]);
        assert_eq!(
            known.take(said("a", "o\x1b[2J\r\n50%\r100%\n")),
            [News::Said(0, vec![(0.25, "two[2J".into()), (0.25, "100%".into())])]
        );
        assert_eq!(known.take(said("a", "rest")), []);
        let end = Vertex { started: at(10, 0), completed: at(11, 0), ..vertex("a", "RUN x") };
        assert_eq!(
            known.take(vertexes(vec![end])),
            [News::Said(0, vec![(0.25, "rest".into())]), News::Ended(0)]
        );
        assert_eq!(known.take(said("nobody", "x\n")), []);
    }

    #[test]
    fn long_lines_and_outputs_are_bounded() {
        let mut known = Known::default();
        known.take(vertexes(vec![vertex("a", "RUN x")]));
        for _ in 0..100 {
            known.take(said("a", &"x".repeat(LINE_BYTES_MAX)));
        }
        assert_eq!(known.steps[0].tail.len(), TAIL_MAX);
        assert!(known.steps[0].tail.iter().all(|(_, line)| line.len() <= 2 * LINE_BYTES_MAX));
    }
}
