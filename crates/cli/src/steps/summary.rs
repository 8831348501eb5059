//! What is said at the end: what the failing step said, where that stands, and what the Dockerfile should not have.

use std::fmt::Write as _;

use buildkit::client::api::VertexWarning;
use buildkit::client::{Place, Status, places};

use super::clean;
use super::known::Known;

/// Lines of the failing step's output.
const OUTPUT_LINES: usize = 10;
/// Lines before and after the one that is meant.
const AROUND: usize = 2;
/// Warnings that are told.
const WARNINGS_MAX: usize = 50;

/// The text.
pub(super) fn text(known: &Known, failure: Option<&Status>) -> String {
    let mut out = String::new();
    if failure.is_some() {
        let failed = known.steps.iter().find(|step| {
            !step.error.is_empty() && !step.error.ends_with("context canceled") && !step.tail.is_empty()
        });
        if let Some(step) = failed {
            let _ = writeln!(out, "------\n > {}:", step.name);
            for (since, line) in step.tail.iter().skip(step.tail.len().saturating_sub(OUTPUT_LINES)) {
                let _ = writeln!(out, "{since:.3} {line}");
            }
            out.push_str("------\n");
        }
    }
    warnings(&known.warnings, &mut out);
    for place in failure.map(places).unwrap_or_default() {
        excerpt(&place, &mut out);
    }
    out
}

fn warnings(warnings: &[VertexWarning], out: &mut String) {
    if warnings.is_empty() {
        return;
    }
    let noun = if warnings.len() == 1 { "warning" } else { "warnings" };
    let _ = writeln!(out, "\n {} {noun} found:", warnings.len());
    for warning in warnings.iter().take(WARNINGS_MAX) {
        let _ = writeln!(out, " - {}", clean(&String::from_utf8_lossy(&warning.short)));
    }
    if warnings.len() > WARNINGS_MAX {
        let _ = writeln!(out, " - and {} more", warnings.len() - WARNINGS_MAX);
    }
}

/// The lines of a file that are meant, and those around them.
fn excerpt(place: &Place, out: &mut String) {
    let lines: Vec<&str> = place.text.lines().collect();
    let Some(last) = lines.len().checked_sub(1) else { return };
    let first_meant = place.first_line.saturating_sub(1).min(last);
    let last_meant = place.last_line.saturating_sub(1).clamp(first_meant, last);
    let _ = writeln!(out, "{}:{}\n--------------------", clean(&place.name), first_meant + 1);
    let until = (last_meant + AROUND).min(last);
    for (at, line) in lines.iter().enumerate().take(until + 1).skip(first_meant.saturating_sub(AROUND)) {
        let mark = if (first_meant..=last_meant).contains(&at) { ">>>" } else { "   " };
        let _ = writeln!(out, "{:>4} | {mark} {}", at + 1, clean(line));
    }
    out.push_str("--------------------\n");
}

#[cfg(test)]
mod tests {
    use super::super::known::tests::{at, said, vertex, vertexes};
    use super::*;
    use buildkit::client::api::Vertex;

    #[test]
    fn the_place_is_shown_with_what_is_around_it() {
        let place = Place {
            name: "Dockerfile".into(),
            text: "FROM a\n\nRUN x \\\n  y\n\tCMD z\nUSER u\nUSER v\n".into(),
            first_line: 3,
            last_line: 4,
        };
        let mut out = String::new();
        excerpt(&place, &mut out);
        assert_eq!(
            out,
            "Dockerfile:3\n--------------------\n   1 |     FROM a\n   2 |     \n   3 | >>> RUN x \\\n   4 | >>>   y\n   5 |         CMD z\n   6 |     USER u\n--------------------\n"
        );
        let mut out = String::new();
        excerpt(&Place { first_line: 99, last_line: 1, ..place }, &mut out);
        assert!(out.contains(">>> USER v"), "{out}");
    }

    #[test]
    fn a_failing_step_is_told_with_its_last_words() {
        let mut known = Known::default();
        let failed = Vertex {
            started: at(10, 0),
            completed: at(11, 0),
            error: "exit code: 1".into(),
            ..vertex("a", "RUN x")
        };
        known.take(vertexes(vec![vertex("a", "RUN x")]));
        known.take(said("a", &(0..20).map(|n| format!("line {n}\n")).collect::<String>()));
        known.take(vertexes(vec![failed]));
        let warning = VertexWarning { short: b"Rule: word (line 1)".to_vec(), ..VertexWarning::default() };
        known.warnings.push(warning);
        let status = Status::unknown("x");
        let text = text(&known, Some(&status));
        assert!(text.starts_with("------\n > RUN x:\n0.000 line 10\n"), "{text}");
        assert!(
            text.ends_with("0.000 line 19\n------\n\n 1 warning found:\n - Rule: word (line 1)\n"),
            "{text}"
        );
    }
}
