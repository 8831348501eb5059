//! `system check`: our own.

use std::io::Write as _;

use api::check::{Line, Problem, Report};
use client::query::Query;
use client::{Method, Request};

use crate::command::{Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, switch, text};
use crate::session::Session;
use crate::terminal;
use crate::units::size;

/// `check`.
pub const COMMAND: Command = Command {
    name: "check",
    usage: "[OPTIONS]",
    about: "Prove that the engine's store is whole",
    flags: &[Group {
        title: "",
        flags: &[
            text("format", "Print as \"json\""),
            switch("quick", "Take contents on trust: look at references, sizes and directories alone")
                .short('q'),
            switch(
                "repair",
                "Mend what can be mended: count anew, throw orphans away, forget damaged blobs so that the next pull brings them",
            ),
        ],
    }],
    examples: &[
        Example { about: "Hash everything again", line: "system check" },
        Example { about: "References and files alone, which takes a moment", line: "system check --quick" },
    ],
    ..Command::leaf(|session, parsed| Box::pin(check(session, parsed)))
};

async fn check(session: &Session, parsed: &Parsed) -> Result<()> {
    let json = match parsed.text("format").unwrap_or_default() {
        "" => false,
        "json" => true,
        other => return Err(Error::Message(format!("unknown format {other:?}: it is json or nothing"))),
    };
    let query = Query::new().flag("quick", parsed.on("quick")).flag("repair", parsed.on("repair"));
    let request = Request::new(Method::POST, "/corten/check").query(query);
    let response = session.client()?.send(&request).await.map_err(|err| match err.status() {
        Some(404) => Error::say("this daemon is no Corten: it does not check its store"),
        _ => err.into(),
    })?;
    let mut lines = response.body.json::<Line>();
    let mut shown = Shown::default();
    while let Some(line) = lines.next().await? {
        if let Some(progress) = line.progress {
            shown.tell(progress.bytes, progress.total);
        }
        if !line.error.is_empty() {
            shown.clear();
            return Err(Error::Message(line.error));
        }
        if let Some(report) = line.report {
            shown.clear();
            if json {
                let text = serde_json::to_string(&report).map_err(|err| Error::Message(err.to_string()))?;
                session.line(&text)?;
            } else {
                session.out(told(&report))?;
            }
            return if report.clean { Ok(()) } else { Err(Error::Exit(1)) };
        }
    }
    Err(Error::say("the daemon ended before the check did"))
}

/// What was found, for people.
fn told(report: &Report) -> String {
    let mut text = String::new();
    let mut list = |problems: &[Problem]| {
        for Problem { fault, what, detail } in problems {
            text.push_str(&format!("{fault}: {what}: {detail}\n"));
        }
    };
    list(&report.problems);
    let found = report.problems.len() as u64 + report.untold;
    if let Some(left) = &report.left {
        if found > 0 {
            // What was forgotten may be missing elsewhere now: that is another problem.
            let kept = left.iter().filter(|problem| report.problems.contains(problem)).count();
            text.push_str(&format!("Mended {} of {found}.\n", found.saturating_sub(kept as u64)));
        }
        for Problem { fault, what, detail } in left {
            text.push_str(&format!("left: {fault}: {what}: {detail}\n"));
        }
    }
    if report.untold > 0 {
        text.push_str(&format!("… and {} more.\n", report.untold));
    }
    let (wrong, word) = match &report.left {
        Some(left) => (left.len() as u64, " left"),
        None => (found, ""),
    };
    let verdict = match wrong {
        _ if found == 0 => "nothing is wrong".to_owned(),
        // What the next start clears away is no harm.
        _ if report.clean && report.left.is_some() => "nothing is wrong any more".to_owned(),
        1 => format!("1 problem{word}"),
        many => format!("{many} problems{word}"),
    };
    let read =
        if report.bytes > 0 { format!(", {} read", size(report.bytes.cast_signed())) } else { String::new() };
    text.push_str(&format!(
        "Images: {}, blobs: {}, layers: {}, snapshots: {}{read}: {verdict}\n",
        report.images, report.blobs, report.layers, report.snapshots
    ));
    text
}

/// The line that says how far it is, on a terminal.
#[derive(Default)]
struct Shown {
    percent: Option<u64>,
}

impl Shown {
    fn tell(&mut self, bytes: u64, total: u64) {
        let percent = bytes.saturating_mul(100) / total.max(1);
        if terminal::stderr_is_terminal() && self.percent != Some(percent) {
            self.percent = Some(percent);
            let line = format!("\r{percent}% of {}\x1b[K", size(total.cast_signed()));
            // Nobody waits for it.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn clear(&mut self) {
        if self.percent.take().is_some() {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }
}
