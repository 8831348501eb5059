//! The stream of the classic builder: `Step 1/3 : FROM …`, what each says, ` ---> ` and what came of it, in the order of the text however
//! the steps are made.

use api::stream::{Progress, ProgressDetail};
use build::progress::{End, Event, Line, Status};
use build::request::Outcome;
use oci::{Digest, Reference};
use std::collections::{BTreeMap, HashSet};

/// Bytes of output of steps whose turn has not come: a step that says more loses what is too much.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// What is drawn.
#[derive(Debug, Default)]
pub(super) struct Screen {
    quiet: bool,
    lines: Vec<Line>,
    /// Which line's turn it is, and whether it was told.
    at: usize,
    told: bool,
    waiting: BTreeMap<Digest, Vec<u8>>,
    waiting_bytes: usize,
    ended: BTreeMap<Digest, End>,
    lookups: HashSet<Digest>,
}

fn text(text: impl Into<String>) -> Progress {
    Progress { stream: text.into(), ..Progress::default() }
}

impl Screen {
    pub fn new(quiet: bool) -> Self {
        Self { quiet, ..Self::default() }
    }

    /// Something that is said beside the steps, unless nothing is to be said.
    pub fn say(&self, what: impl Into<String>) -> Option<Progress> {
        (!self.quiet).then(|| text(what))
    }

    /// What an event shows.
    pub fn show(&mut self, event: Event) -> Vec<Progress> {
        if self.quiet {
            return Vec::new();
        }
        match event {
            Event::Plan(lines) => {
                self.lines = lines;
                self.go_on()
            }
            Event::Log { vertex, bytes, .. } => {
                if self.is_turn(&vertex) {
                    return vec![text(String::from_utf8_lossy(&bytes))];
                }
                if self.waiting_bytes + bytes.len() <= WAITING_BYTES_MAX {
                    self.waiting_bytes += bytes.len();
                    self.waiting.entry(vertex).or_default().extend(bytes);
                }
                Vec::new()
            }
            Event::Done { vertex, end, .. } => {
                self.ended.insert(vertex, end);
                self.go_on()
            }
            Event::Status(status) if self.lookups.contains(&status.vertex) => vec![progress(status)],
            Event::Vertex(vertex) => {
                if vertex.name.starts_with("[internal] load metadata") {
                    self.lookups.insert(vertex.digest);
                }
                Vec::new()
            }
            // Of checks the classic builder has none.
            Event::Warning { diagnostic, .. } if diagnostic.rule.is_none() => {
                vec![text(format!("[Warning] {}\n", diagnostic.message))]
            }
            Event::Warning { .. } | Event::Started { .. } | Event::Status(_) => Vec::new(),
        }
    }

    fn is_turn(&self, vertex: &Digest) -> bool {
        self.told && self.lines.get(self.at).is_some_and(|line| line.vertex.as_ref() == Some(vertex))
    }

    /// Shows what there is, up to the first step that has not ended.
    fn go_on(&mut self) -> Vec<Progress> {
        let mut out = Vec::new();
        while let Some(line) = self.lines.get(self.at) {
            if !self.told {
                out.push(text(format!("Step {}/{} : {}\n", self.at + 1, self.lines.len(), line.text)));
                self.told = true;
            }
            if let Some(vertex) = &line.vertex {
                if let Some(bytes) = self.waiting.remove(vertex) {
                    self.waiting_bytes -= bytes.len();
                    out.push(text(String::from_utf8_lossy(&bytes)));
                }
                match self.ended.get(vertex) {
                    Some(End::Cached) if line.from.is_none() => out.push(text(" ---> Using cache\n")),
                    Some(End::Cached | End::Ran) => {}
                    Some(End::Failed(_) | End::Canceled) | None => break,
                }
                out.push(text(format!(" ---> {}\n", vertex.short())));
            }
            self.at += 1;
            self.told = false;
        }
        out
    }

    /// What is still to be shown of a build that failed.
    pub fn failed(&mut self) -> Vec<Progress> {
        let failed = self.ended.iter().find(|(_, end)| matches!(end, End::Failed(_)));
        let Some((vertex, _)) = failed else { return Vec::new() };
        let Some(at) = self.lines.iter().position(|line| line.vertex.as_ref() == Some(vertex)) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        if at != self.at {
            out.push(text(format!("Step {}/{} : {}\n", at + 1, self.lines.len(), self.lines[at].text)));
        }
        let said = self.waiting.get(vertex).map(|bytes| text(String::from_utf8_lossy(bytes)));
        out.extend(said);
        out
    }

    /// How it ends well.
    pub fn succeeded(&mut self, outcome: &Outcome) -> Vec<Progress> {
        let aux = serde_json::json!({"ID": outcome.image.as_str()});
        let aux = Progress { aux: Some(aux), ..Progress::default() };
        if self.quiet {
            return vec![aux, text(format!("{}\n", outcome.image))];
        }
        let mut out = vec![aux, text(format!("Successfully built {}\n", outcome.image.short()))];
        for name in &outcome.names {
            let shown = Reference::parse_named(name)
                .map_or_else(|_| name.clone(), |name| name.or_latest().familiar());
            out.push(text(format!("Successfully tagged {shown}\n")));
        }
        out
    }
}

fn progress(status: Status) -> Progress {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    Progress {
        status: status.name,
        id: status.id,
        progress_detail: Some(ProgressDetail {
            current: signed(status.current),
            total: signed(status.total),
            ..ProgressDetail::default()
        }),
        ..Progress::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use build::progress::Stream;
    use std::time::SystemTime;

    fn digest(number: u8) -> Digest {
        Digest::from_sha256([number; 32])
    }

    fn line(text: &str, vertex: Option<u8>, from: Option<usize>) -> Line {
        Line { text: text.to_owned(), vertex: vertex.map(digest), from }
    }

    fn shown(screen: &mut Screen, event: Event) -> String {
        screen.show(event).into_iter().map(|line| line.stream).collect()
    }

    fn done(number: u8, end: End) -> Event {
        Event::Done { vertex: digest(number), end, at: SystemTime::UNIX_EPOCH }
    }

    fn log(number: u8, text: &str) -> Event {
        let bytes = text.as_bytes().to_vec();
        Event::Log { vertex: digest(number), stream: Stream::Stdout, bytes, at: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn steps_are_told_in_the_order_of_the_text() {
        let mut screen = Screen::new(false);
        let plan = vec![
            line("FROM a", Some(1), Some(0)),
            line("ENV a=b", None, None),
            line("RUN one", Some(2), None),
            line("RUN two", Some(3), None),
        ];
        assert_eq!(shown(&mut screen, Event::Plan(plan)), "Step 1/4 : FROM a\n");
        assert_eq!(shown(&mut screen, log(3, "two says\n")), "");
        assert_eq!(
            shown(&mut screen, done(1, End::Cached)),
            " ---> 010101010101\nStep 2/4 : ENV a=b\nStep 3/4 : RUN one\n"
        );
        assert_eq!(shown(&mut screen, log(2, "one says\n")), "one says\n");
        assert_eq!(shown(&mut screen, done(3, End::Failed("why".into()))), "");
        assert_eq!(
            shown(&mut screen, done(2, End::Cached)),
            " ---> Using cache\n ---> 020202020202\nStep 4/4 : RUN two\ntwo says\n"
        );
        assert_eq!(screen.failed().len(), 0);
    }
}
