//! `builder history`: the builds that the engine knows since it runs.

use std::rc::Rc;

use buildkit::client::api::BuildHistoryRecord;
use buildkit::client::{Engine, Timestamp};
use serde_json::{Map, Value as Json, json};
use tokio::sync::mpsc;

use super::{answered, engine};
use crate::command::{Arity, Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Flag, Group, Parsed, list, switch, text};
use crate::format::{LIST_FORMAT, Listing, detail};
use crate::session::Session;
use crate::steps::{self, Mode};
use crate::template::{Record, Value};
use crate::units::{ago, ellipsis, now};

/// The group.
pub(super) const GROUP: Command =
    Command::group("history", "Look at builds that there were", &[&INSPECT, &LOGS, &LS, &RM]);

/// What was told and is not shown yet.
const TOLD_MAX: usize = 64;
/// Letters of a name that is not shown whole.
const NAME_LETTERS: usize = 40;

const FILTER: Flag = list("filter", "Only those that match (status=error, ref=…, startedAt>24h)");

const LS: Command = Command {
    name: "ls",
    usage: "[OPTIONS]",
    about: "List builds, the newest first",
    flags: &[Group {
        title: "",
        flags: &[FILTER, LIST_FORMAT, switch("no-trunc", "Do not cut anything short"), QUIET],
    }],
    examples: &[Example { about: "Those that failed", line: "builder history ls --filter status=error" }],
    ..Command::leaf(|session, parsed| Box::pin(ls(session, parsed)))
};

const QUIET: Flag = switch("quiet", "Only show ids").short('q');

const LOGS: Command = Command {
    name: "logs",
    usage: "[OPTIONS] [BUILD]",
    about: "Show what a build has told, the last one if none is named",
    arity: Arity::AtMost(1),
    flags: &[Group {
        title: "",
        flags: &[text("progress", "How progress is shown (tty, plain, rawjson)").default("plain")],
    }],
    examples: &[Example { about: "The one before the last", line: "builder history logs ^1" }],
    ..Command::leaf(|session, parsed| Box::pin(logs(session, parsed)))
};

const INSPECT: Command = Command {
    name: "inspect",
    usage: "[OPTIONS] [BUILD]",
    about: "Show how a build went, the last one if none is named",
    arity: Arity::AtMost(1),
    flags: &[Group {
        title: "",
        flags: &[text("format", "Format the output by a template, or json").short('f')],
    }],
    examples: &[Example { about: "Why it failed", line: "builder history inspect -f '{{.Error}}' 3xk2" }],
    ..Command::leaf(|session, parsed| Box::pin(inspect(session, parsed)))
};

const RM: Command = Command {
    name: "rm",
    usage: "[OPTIONS] [BUILD...]",
    about: "Make the engine forget builds; what they have made stays",
    arity: Arity::Any,
    flags: &[Group { title: "", flags: &[switch("all", "All that have ended").short('a')] }],
    examples: &[Example { about: "All of them", line: "builder history rm --all" }],
    ..Command::leaf(|session, parsed| Box::pin(rm(session, parsed)))
};

/// A filter as BuildKit reads it: names need not be whole.
fn filter(text: &str) -> String {
    match text.split_once('=') {
        Some((key, _)) if key.ends_with(['!', '<', '>', '~']) => text.to_owned(),
        Some((_, value)) if value.starts_with('=') => text.to_owned(),
        Some(("status", value)) => format!("status=={value}"),
        Some((key, value)) => format!("{key}~={value}"),
        None => text.to_owned(),
    }
}

/// The build that is meant: by its name or the beginning of it, by how many there were after it, or the last one.
async fn found(history: &mut Engine, name: Option<&String>) -> Result<BuildHistoryRecord> {
    let mut all = answered(history.builds(Vec::new()).await)?;
    let absent = |name: &str| Error::Message(format!("no build {name:?} found: see `builder history ls`"));
    let Some(name) = name else {
        return all
            .into_iter()
            .next()
            .ok_or_else(|| Error::say("no builds found: the engine knows those since it runs"));
    };
    if let Some(number) = name.strip_prefix('^') {
        let number: usize = number.parse().map_err(|_| Error::Message(format!("invalid offset {name:?}")))?;
        return all.into_iter().nth(number).ok_or_else(|| absent(name));
    }
    // Clients of BuildKit put the builder and its node before it.
    let short = name.rsplit('/').next().unwrap_or(name);
    if let Some(at) = all.iter().position(|record| record.r#ref == short) {
        return Ok(all.swap_remove(at));
    }
    all.retain(|record| !short.is_empty() && record.r#ref.starts_with(short));
    match all.len() {
        0 => Err(absent(name)),
        1 => Ok(all.remove(0)),
        several => {
            Err(Error::Message(format!("{name:?} begins the names of {several} builds: write more of it")))
        }
    }
}

async fn ls(session: &Session, parsed: &Parsed) -> Result<()> {
    let filters: Vec<String> = parsed.list("filter").map(filter).collect();
    // All of them are to hold, which is one of BuildKit's filters.
    let filters = if filters.is_empty() { Vec::new() } else { vec![filters.join(",")] };
    let records = answered(engine(session).await?.builds(filters).await)?;
    let listing = Listing {
        format: parsed.text("format").unwrap_or_default(),
        table: "{{.Ref}}\t{{.Name}}\t{{.Status}}\t{{.CreatedAt}}\t{{.Duration}}",
        quiet: parsed.on("quiet").then_some("{{.Ref}}"),
        titles: &[
            ("Ref", "BUILD ID"),
            ("Name", "NAME"),
            ("Status", "STATUS"),
            ("CreatedAt", "CREATED AT"),
            ("Duration", "DURATION"),
        ],
    };
    let (now, full) = (now(), parsed.on("no-trunc"));
    let rows = records.into_iter().map(|record| Rc::new(Row { record, now, full }) as Rc<dyn Record>);
    session.out(listing.render(rows)?)
}

async fn logs(session: &Session, parsed: &Parsed) -> Result<()> {
    let mode = Mode::of(Some(parsed.text("progress").unwrap_or("plain")), false)?;
    let mut history = engine(session).await?;
    let record = found(&mut history, parsed.args.first()).await?;
    let (told, heard) = mpsc::channel(TOLD_MAX);
    let (followed, _) = tokio::join!(history.follow(&record.r#ref, told), steps::show(mode, heard));
    answered(followed)?;
    if let Some(error) = found(&mut history, Some(&record.r#ref)).await?.error {
        session.note(&format!("failed to solve: {}", error.message));
    }
    Ok(())
}

async fn inspect(session: &Session, parsed: &Parsed) -> Result<()> {
    let record = found(&mut engine(session).await?, parsed.args.first()).await?;
    let shown = described(&record, now());
    match parsed.text("format") {
        None => session.line(&format!("{shown:#}")),
        Some(format) => session.line(&detail("inspect", format, &Value::from_json("", &shown))?),
    }
}

async fn rm(session: &Session, parsed: &Parsed) -> Result<()> {
    let mut history = engine(session).await?;
    let names: Vec<String> = match (parsed.on("all"), parsed.args.as_slice()) {
        (true, []) => {
            let all = answered(history.builds(Vec::new()).await)?;
            all.into_iter()
                .filter(|record| record.completed_at.is_some())
                .map(|record| record.r#ref)
                .collect()
        }
        (true, _) => return Err(Error::say("--all is all builds: leave their names out")),
        (false, []) => return Err(Error::say("no build is named: name some, or use --all")),
        (false, named) => {
            let mut names = Vec::new();
            for name in named {
                names.push(found(&mut history, Some(name)).await?.r#ref);
            }
            names
        }
    };
    for name in names {
        answered(history.forget(&name).await)?;
        session.line(&name)?;
    }
    Ok(())
}

/// How a build stands.
fn status(record: &BuildHistoryRecord) -> &'static str {
    match (&record.completed_at, &record.error) {
        (None, _) => "Running",
        (Some(_), None) => "Completed",
        (Some(_), Some(error)) if error.message.contains("context canceled") => "Canceled",
        (Some(_), Some(_)) => "Error",
    }
}

/// What is built: its names, or else what it is built from.
fn name(record: &BuildHistoryRecord) -> String {
    let attribute = |name: &str| record.frontend_attrs.get(name).filter(|value| !value.is_empty()).cloned();
    let names = record.exporters.iter().find_map(|exporter| exporter.attrs.get("name"));
    let from =
        names.cloned().or_else(|| attribute("context")).or_else(|| attribute("filename")).unwrap_or_default();
    match attribute("target") {
        Some(target) => format!("{from} ({target})"),
        None => from,
    }
}

/// Seconds from the beginning to the end, or until now.
fn seconds(record: &BuildHistoryRecord, now: i64) -> f64 {
    let Some(from) = &record.created_at else { return 0.0 };
    let to = record.completed_at.unwrap_or(Timestamp { seconds: now, nanos: 0 });
    let milliseconds = (to.seconds - from.seconds) * 1000 + i64::from((to.nanos - from.nanos) / 1_000_000);
    f64::from(i32::try_from(milliseconds.max(0)).unwrap_or(i32::MAX)) / 1000.0
}

fn time(at: Option<&Timestamp>) -> Json {
    let at = at.and_then(|at| jiff::Timestamp::new(at.seconds, at.nanos).ok());
    at.map_or(Json::Null, |at| at.to_string().into())
}

/// All that is known of it.
fn described(record: &BuildHistoryRecord, now: i64) -> Json {
    let exporters: Vec<Json> =
        record.exporters.iter().map(|one| json!({"Type": one.r#type, "Attrs": one.attrs})).collect();
    let mut all = Map::new();
    for (key, value) in [
        ("Ref", json!(record.r#ref)),
        ("Name", json!(name(record))),
        ("Status", json!(status(record))),
        ("Error", json!(record.error.as_ref().map(|error| error.message.as_str()).unwrap_or_default())),
        ("CreatedAt", time(record.created_at.as_ref())),
        ("CompletedAt", time(record.completed_at.as_ref())),
        ("Seconds", json!(seconds(record, now))),
        ("NumTotalSteps", json!(record.num_total_steps)),
        ("NumCompletedSteps", json!(record.num_completed_steps)),
        ("NumCachedSteps", json!(record.num_cached_steps)),
        ("NumWarnings", json!(record.num_warnings)),
        ("Frontend", json!(record.frontend)),
        ("FrontendAttrs", json!(record.frontend_attrs)),
        ("Exporters", exporters.into()),
        ("ExporterResponse", json!(record.exporter_response)),
    ] {
        all.insert(key.to_owned(), value);
    }
    all.into()
}

struct Row {
    record: BuildHistoryRecord,
    now: i64,
    full: bool,
}

impl Record for Row {
    fn type_name(&self) -> &'static str {
        "*history.lsContext"
    }

    fn fields(&self) -> &'static [&'static str] {
        &["CreatedAt", "Duration", "Name", "Ref", "Status"]
    }

    fn field(&self, field: &str) -> Option<Value> {
        let record = &self.record;
        Some(match field {
            "Ref" => record.r#ref.as_str().into(),
            "Name" if self.full => name(record).into(),
            "Name" => ellipsis(&name(record), NAME_LETTERS).into(),
            "Status" => status(record).into(),
            "CreatedAt" => {
                let seconds = record.created_at.as_ref().map_or(self.now, |at| at.seconds);
                format!("{} ago", ago(seconds, self.now).trim_end_matches(" ago")).into()
            }
            "Duration" => format!("{:.1}s", seconds(record, self.now)).into(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_buildkits() {
        for (given, meant) in [
            ("status=error", "status==error"),
            ("status!=error", "status!=error"),
            ("ref=abc", "ref~=abc"),
            ("ref==abc", "ref==abc"),
            ("ref~=abc", "ref~=abc"),
            ("startedAt>=24h", "startedAt>=24h"),
            ("startedAt>24h", "startedAt>24h"),
        ] {
            assert_eq!(filter(given), meant);
        }
    }
}
