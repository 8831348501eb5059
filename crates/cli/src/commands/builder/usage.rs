//! `builder du`: what earlier builds have left, and what of it nothing else has.

use std::rc::Rc;

use buildkit::client::Timestamp;
use buildkit::client::api::UsageRecord;

use super::{answered, engine};
use crate::command::{Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, list, switch};
use crate::format::{LIST_FORMAT, Listing};
use crate::session::Session;
use crate::template::{Record, Value};
use crate::units::{ago, now, rfc3339, size};

/// `du`.
pub(super) const COMMAND: Command = Command {
    name: "du",
    usage: "[OPTIONS]",
    about: "Show what earlier builds have left",
    flags: &[Group {
        title: "",
        flags: &[
            list(
                "filter",
                "Only those that match (id=…, type=exec.cachemount, description~=…, shared, inuse, until=24h)",
            ),
            LIST_FORMAT,
            switch("verbose", "All that is known of each"),
        ],
    }],
    examples: &[
        Example { about: "All of it", line: "builder du" },
        Example {
            about: "What RUN --mount=type=cache keeps",
            line: "builder du --verbose --filter type=exec.cachemount",
        },
    ],
    ..Command::leaf(|session, parsed| Box::pin(usage(session, parsed)))
};

async fn usage(session: &Session, parsed: &Parsed) -> Result<()> {
    let format = parsed.text("format").unwrap_or_default();
    let verbose = parsed.on("verbose");
    if verbose && !format.is_empty() {
        return Err(Error::say("--verbose has a form of its own: leave --format out"));
    }
    let (filters, unused) = filters(parsed.list("filter"))?;
    let mut records = answered(engine(session).await?.cached(filters, unused).await)?;
    // What was used last comes first.
    records.sort_by_key(|record| std::cmp::Reverse(record.last_used_at.map(|at| (at.seconds, at.nanos))));
    let sums = sums(&records);
    let now = now();
    if verbose {
        records.iter().try_for_each(|record| session.line(&described(record, now)))?;
    } else {
        let listing = Listing {
            format,
            table: "{{.ID}}\t{{.Reclaimable}}\t{{.Size}}\t{{.LastAccessed}}",
            quiet: None,
            titles: &[
                ("ID", "ID"),
                ("Reclaimable", "RECLAIMABLE"),
                ("Size", "SIZE"),
                ("LastAccessed", "LAST ACCESSED"),
                ("Type", "TYPE"),
                ("Description", "DESCRIPTION"),
            ],
        };
        let rows = records.into_iter().map(|record| Rc::new(Row { record, now }) as Rc<dyn Record>);
        session.out(listing.render(rows)?)?;
    }
    if format.is_empty() || format.starts_with("table") { session.out(sums) } else { Ok(()) }
}

/// What the engine is asked for: entries of which all filters hold, and for how many nanoseconds they were not used.
fn filters<'a>(texts: impl Iterator<Item = &'a str>) -> Result<(Vec<String>, i64)> {
    let mut words = Vec::new();
    let mut unused = None;
    for text in texts {
        let Some((name @ ("until" | "unused-for"), value)) = text.split_once('=') else {
            words.push(text);
            continue;
        };
        let wrong = || Error::Message(format!("invalid filter '{text}': use {name}=24h, or a point in time"));
        let now = api::timestamp::now();
        let moment = api::timestamp::parse_query(value, now).ok().flatten().ok_or_else(wrong)?;
        if unused.replace(now.saturating_sub(moment)).is_some() {
            return Err(Error::say("until and unused-for say the same: leave all but one of them out"));
        }
    }
    let words = if words.is_empty() { Vec::new() } else { vec![words.join(",")] };
    Ok((words, unused.unwrap_or(0).max(0)))
}

/// Bytes by who else has them.
fn sums(records: &[UsageRecord]) -> String {
    let sum = |wanted: &dyn Fn(&UsageRecord) -> bool| {
        size(records.iter().filter(|record| wanted(record)).map(|record| record.size).sum())
    };
    let mut text = String::new();
    if records.iter().any(|record| record.shared) {
        text.push_str(&format!("Shared:\t\t{}\n", sum(&|record| record.shared)));
        text.push_str(&format!("Private:\t{}\n", sum(&|record| !record.shared)));
    }
    text.push_str(&format!("Reclaimable:\t{}\n", sum(&|record| !record.in_use)));
    text.push_str(&format!("Total:\t\t{}\n", sum(&|_| true)));
    text
}

fn since(at: Option<&Timestamp>, now: i64) -> String {
    at.map_or_else(String::new, |at| format!("{} ago", ago(at.seconds, now).trim_end_matches(" ago")))
}

/// A record in lines of its own.
fn described(record: &UsageRecord, now: i64) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("ID", record.id.clone()),
        ("Created at", record.created_at.map_or_else(String::new, |at| rfc3339(at.seconds))),
        ("Mutable", record.mutable.to_string()),
        ("Reclaimable", (!record.in_use).to_string()),
        ("Shared", record.shared.to_string()),
        ("Size", size(record.size)),
        // A line of somebody's Dockerfile.
        ("Description", record.description.chars().filter(|letter| !letter.is_control()).collect()),
        ("Usage count", record.usage_count.to_string()),
        ("Last used", since(record.last_used_at.as_ref(), now)),
        ("Type", record.record_type.clone()),
    ] {
        text.push_str(&format!("{:<16}{value}\n", format!("{name}:")));
    }
    text
}

struct Row {
    record: UsageRecord,
    now: i64,
}

impl Record for Row {
    fn type_name(&self) -> &'static str {
        "*commands.diskusageContext"
    }

    fn fields(&self) -> &'static [&'static str] {
        &["Description", "ID", "LastAccessed", "Reclaimable", "Shared", "Size", "Type"]
    }

    fn field(&self, field: &str) -> Option<Value> {
        let record = &self.record;
        Some(match field {
            "ID" => record.id.as_str().into(),
            "Reclaimable" => (!record.in_use).to_string().into(),
            "Shared" => record.shared.to_string().into(),
            "Size" => size(record.size).into(),
            "LastAccessed" => since(record.last_used_at.as_ref(), self.now).into(),
            "Type" => record.record_type.as_str().into(),
            "Description" => record.description.as_str().into(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_of_what_there_is() {
        let record = |size, shared| UsageRecord { size, shared, ..UsageRecord::default() };
        assert_eq!(sums(&[]), "Reclaimable:\t0B\nTotal:\t\t0B\n");
        let all = [record(1000, true), record(500, false)];
        assert_eq!(sums(&all), "Shared:\t\t1kB\nPrivate:\t500B\nReclaimable:\t1.5kB\nTotal:\t\t1.5kB\n");
    }
}
