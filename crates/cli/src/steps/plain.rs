//! Lines, as they come: each begins with the number of its step.

use std::fmt::Write as _;

use buildkit::client::api::StatusResponse;

use super::known::{Known, News, seconds};

/// What was written last.
#[derive(Debug, Default)]
pub(super) struct Plain {
    /// The step that the last line was about.
    current: Option<usize>,
    /// Whether anything was written.
    has_begun: bool,
}

impl Plain {
    /// The lines that a message is.
    pub(super) fn show(&mut self, known: &mut Known, message: StatusResponse) -> String {
        let mut out = String::new();
        for news in known.take(message) {
            let at = match &news {
                News::Begun(at) | News::Part(at, _) | News::Said(at, _) | News::Ended(at) => *at,
            };
            let step = &known.steps[at];
            let number = step.number;
            let is_busy = |current: usize| known.steps[current].completed.is_none();
            // That a step begins is not worth a turn while another is told of: its first word is.
            if matches!(news, News::Begun(_)) && self.current.is_some_and(is_busy) {
                continue;
            }
            self.turn(at, number, &step.name, &mut out);
            match news {
                News::Begun(_) => {}
                News::Part(_, which) => {
                    let part = &step.parts[which];
                    let took = match (part.started, part.completed) {
                        (Some(from), Some(to)) if seconds(from, to) >= 0.05 => {
                            format!(" {:.1}s", seconds(from, to))
                        }
                        _ => String::new(),
                    };
                    let _ = writeln!(out, "#{number} {}{took} done", part.text());
                }
                News::Said(_, lines) => {
                    for (since, line) in lines {
                        let _ = writeln!(out, "#{number} {since:.3} {line}");
                    }
                }
                News::Ended(_) if !step.error.is_empty() && step.error.ends_with("context canceled") => {
                    let _ = writeln!(out, "#{number} CANCELED");
                }
                News::Ended(_) if !step.error.is_empty() => {
                    let _ = writeln!(out, "#{number} ERROR: {}", step.error);
                }
                News::Ended(_) if step.is_cached => {
                    let _ = writeln!(out, "#{number} CACHED");
                }
                News::Ended(_) => {
                    let _ = writeln!(out, "#{number} DONE {:.1}s", step.seconds(0));
                }
            }
        }
        out
    }

    /// Says which step the next line is about, if it is another.
    fn turn(&mut self, at: usize, number: usize, name: &str, out: &mut String) {
        if self.current == Some(at) {
            return;
        }
        if self.has_begun {
            out.push('\n');
        }
        let _ = writeln!(out, "#{number} {name}");
        (self.current, self.has_begun) = (Some(at), true);
    }
}

#[cfg(test)]
mod tests {
    use super::super::known::tests::{at, said, vertex, vertexes};
    use super::*;
    use buildkit::client::api::{Vertex, VertexStatus};

    #[test]
    fn steps_take_turns() {
        let mut known = Known::default();
        let mut plain = Plain::default();
        let mut text = String::new();
        let begun = |digest: &str, name: &str| Vertex { started: at(10, 0), ..vertex(digest, name) };
        let mut show = |message| text.push_str(&plain.show(&mut known, message));
        show(vertexes(vec![
            begun("a", "[internal] load build context"),
            vertex("c", "[2/2] COPY . ."),
            begun("b", "[1/2] RUN make"),
        ]));
        let status = VertexStatus {
            id: "transferring context:".into(),
            vertex: "a".into(),
            current: 1200,
            started: at(10, 0),
            completed: at(10, 300_000_000),
            ..VertexStatus::default()
        };
        show(StatusResponse { statuses: vec![status], ..StatusResponse::default() });
        show(said("b", "hello\n"));
        show(vertexes(vec![Vertex {
            completed: at(10, 0),
            cached: true,
            ..begun("a", "[internal] load build context")
        }]));
        show(vertexes(vec![Vertex {
            completed: at(12, 0),
            error: "exit code: 1".into(),
            ..begun("b", "[1/2] RUN make")
        }]));
        show(vertexes(vec![Vertex { completed: at(11, 500_000_000), ..begun("c", "[2/2] COPY . .") }]));
        assert_eq!(
            text,
            "#1 [internal] load build context\n\
             #1 transferring context: 1.2kB 0.3s done\n\n#3 [1/2] RUN make\n#3 0.250 hello\n\n\
             #1 [internal] load build context\n#1 CACHED\n\n#3 [1/2] RUN make\n#3 ERROR: exit code: 1\n\n\
             #2 [2/2] COPY . .\n#2 DONE 1.5s\n"
        );
    }
}
