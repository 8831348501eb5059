//! A picture of all steps on a terminal, drawn anew in its place.

use std::fmt::Write as _;
use std::time::Instant;

use jiff::Timestamp as Time;

use super::known::{Known, Nanoseconds, Step, seconds};
use crate::terminal;

/// Lines of the output of a step that goes on.
const OUTPUT_LINES: usize = 6;
/// Columns where the terminal does not say.
const COLUMNS: usize = 80;
/// Rows where the terminal does not say.
const ROWS: usize = 24;

/// What is on the terminal.
#[derive(Debug)]
pub(super) struct Screen {
    began: Instant,
    /// Lines that the next picture is drawn over.
    lines: usize,
    size: Option<(usize, usize)>,
    colour: bool,
}

impl Default for Screen {
    fn default() -> Self {
        Self { began: Instant::now(), lines: 0, size: None, colour: terminal::error_colour() }
    }
}

/// One line: what it says, how long that took, and its colour.
struct Line {
    text: String,
    seconds: Option<f64>,
    colour: &'static str,
}

const BLUE: &str = "34";
const RED: &str = "31";
const DIM: &str = "2";
const PLAIN: &str = "";

impl Screen {
    /// What draws the picture over the last one.
    pub(super) fn draw(&mut self, known: &Known, is_end: bool) -> String {
        let (rows, columns) = self.size.unwrap_or_else(size);
        let now = Time::now().as_nanosecond();
        let mut out = String::new();
        if self.lines > 0 {
            let _ = write!(out, "\x1b[{}A", self.lines);
        }
        let mut lines = vec![heading(known, self.began.elapsed().as_secs_f64(), is_end)];
        // At the end all is told; before, what fits without moving the terminal's lines.
        let room = if is_end { usize::MAX } else { rows.saturating_sub(2) };
        lines.extend(body(known, now, room));
        for line in &lines {
            let _ = write!(out, "\x1b[2K\r{}\n", self.paint(line, columns));
        }
        // Lines of the last picture that this one does not have.
        if self.lines > lines.len() {
            out.push_str("\x1b[J");
        }
        self.lines = lines.len();
        out
    }

    fn paint(&self, line: &Line, columns: usize) -> String {
        let time = line.seconds.map(|seconds| format!(" {seconds:.1}s")).unwrap_or_default();
        // The last column stays free: some terminals go on in the next line when it is written.
        let room = columns.saturating_sub(time.len() + 1);
        let mut text: String = line.text.chars().take(room).collect();
        if !time.is_empty() {
            let _ = write!(text, "{}{time}", " ".repeat(room - text.chars().count()));
        }
        if self.colour && !line.colour.is_empty() {
            return format!("\x1b[{}m{text}\x1b[0m", line.colour);
        }
        text
    }
}

fn size() -> (usize, usize) {
    let (rows, columns) = terminal::error_size().unwrap_or_default();
    let or = |number: u16, other| if number == 0 { other } else { usize::from(number) };
    (or(rows, ROWS), or(columns, COLUMNS))
}

fn heading(known: &Known, seconds: f64, is_end: bool) -> Line {
    let begun = known.steps.iter().filter(|step| step.started.is_some() || step.completed.is_some());
    let done = known.steps.iter().filter(|step| step.completed.is_some()).count();
    let has_failed = known.steps.iter().any(|step| !step.error.is_empty());
    let end = if is_end && !has_failed { " FINISHED" } else { "" };
    let text = format!("[+] Building {seconds:.1}s ({done}/{}){end}", begun.count().max(known.steps.len()));
    Line { text, seconds: None, colour: if is_end && !has_failed { BLUE } else { PLAIN } }
}

/// The steps that fit: what goes on first, then what has ended last.
fn body(known: &Known, now: Nanoseconds, room: usize) -> Vec<Line> {
    let begun: Vec<&Step> = known.steps.iter().filter(|step| step.started.is_some()).collect();
    let mut blocks: Vec<Vec<Line>> = begun.iter().map(|step| block(step, now)).collect();
    let mut total: usize = blocks.iter().map(Vec::len).sum();
    for (at, step) in begun.iter().enumerate() {
        if total <= room {
            break;
        }
        if step.completed.is_some() && step.error.is_empty() {
            total -= blocks[at].len();
            blocks[at].clear();
        }
    }
    let mut lines: Vec<Line> = blocks.into_iter().flatten().collect();
    lines.truncate(room);
    lines
}

fn block(step: &Step, now: Nanoseconds) -> Vec<Line> {
    let is_canceled = step.error.ends_with("context canceled");
    let (word, colour) = match step {
        _ if is_canceled => ("CANCELED ", DIM),
        Step { error, .. } if !error.is_empty() => ("ERROR ", RED),
        Step { is_cached: true, .. } => ("CACHED ", BLUE),
        Step { completed: Some(_), .. } => ("", BLUE),
        _ => ("", PLAIN),
    };
    let mut lines =
        vec![Line { text: format!(" => {word}{}", step.name), seconds: Some(step.seconds(now)), colour }];
    for part in &step.parts {
        let took = part.started.map_or(0.0, |from| seconds(from, part.completed.unwrap_or(now)));
        lines.push(Line { text: format!(" => => {}", part.text()), seconds: Some(took), colour });
    }
    if step.completed.is_none() {
        let from = step.tail.len().saturating_sub(OUTPUT_LINES);
        let said = step.tail.iter().skip(from);
        lines.extend(said.map(|(_, line)| Line {
            text: format!(" => => # {line}"),
            seconds: None,
            colour: DIM,
        }));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::known::tests::{at, said, vertex, vertexes};
    use super::*;
    use buildkit::client::api::Vertex;

    fn screen(size: (usize, usize)) -> Screen {
        Screen { size: Some(size), colour: false, ..Screen::default() }
    }

    fn rows(drawn: &str) -> Vec<String> {
        drawn.lines().map(|line| line.rsplit('\r').next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn a_picture_is_drawn_over_the_last_one() {
        let mut known = Known::default();
        let mut screen = screen((24, 40));
        let begun = Vertex { started: at(10, 0), ..vertex("a", "[1/2] RUN a-command-that-is-rather-long") };
        known.take(vertexes(vec![begun.clone(), vertex("b", "[2/2] COPY")]));
        known.take(said("a", "working\n"));
        let first = rows(&screen.draw(&known, false));
        assert_eq!(first[0], "[+] Building 0.0s (0/2)");
        assert!(
            first[1].starts_with(" => [1/2] RUN a-command") && first[1].chars().count() == 39,
            "{first:?}"
        );
        assert_eq!(first[2], " => => # working");
        let done = Vertex { completed: at(13, 0), ..begun };
        known.take(vertexes(vec![done]));
        let next = screen.draw(&known, true);
        assert!(next.starts_with("\x1b[3A") && next.ends_with("\x1b[J"), "{next:?}");
        let next = rows(&next);
        assert!(next[0].ends_with("FINISHED"));
        assert!(next[1].ends_with(" 3.0s"), "{next:?}");
    }

    #[test]
    fn what_goes_on_is_seen_where_not_all_fits() {
        let mut known = Known::default();
        for number in 0..50 {
            let name = format!("step {number}");
            let completed = if number == 7 { None } else { at(11, 0) };
            known.take(vertexes(vec![Vertex { started: at(10, 0), completed, ..vertex(&name, &name) }]));
        }
        let drawn = rows(&screen((10, 80)).draw(&known, false));
        assert!(drawn.len() <= 10, "{}", drawn.len());
        assert!(drawn.iter().any(|line| line.contains("step 7 ")), "{drawn:?}");
        assert!(drawn.iter().any(|line| line.contains("step 49 ")), "{drawn:?}");
    }
}
