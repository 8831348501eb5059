//! `stats`.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use api::container::Summary;
use api::event::Message;
use client::query::Query;
use client::{Client, Json};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use serde_json::Value as Sample;
use tokio::time::{Instant, interval};

use super::path;
use crate::command::{Arity, Command, Completes, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, switch};
use crate::format::{LIST_FORMAT, Listing};
use crate::session::Session;
use crate::template::{Record, Value};
use crate::units::{memory, short_id, size_with};

/// `stats`.
pub const COMMAND: Command = Command {
    name: "stats",
    also: &["container stats", "stats"],
    usage: "[OPTIONS] [CONTAINER...]",
    about: "Display a live stream of container(s) resource usage statistics",
    arity: Arity::Any,
    completes: Completes::Running,
    flags: &[Group {
        title: "",
        flags: &[
            switch("all", "Show all containers (default shows just running)").short('a'),
            LIST_FORMAT,
            switch("no-stream", "Disable streaming stats and only pull the first result"),
            switch("no-trunc", "Do not truncate output"),
        ],
    }],
    examples: &[
        Example { about: "Once, all that run", line: "stats --no-stream" },
        Example { about: "Memory alone", line: "stats --format '{{.Name}}\\t{{.MemUsage}}' web" },
    ],
    ..Command::leaf(|session, parsed| Box::pin(stats(session, parsed)))
};

const TABLE: &str =
    "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";
const TITLES: &[(&str, &str)] = &[
    ("Container", "CONTAINER"),
    ("Name", "NAME"),
    ("ID", "CONTAINER ID"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];
/// How often the screen is drawn.
const DRAW: Duration = Duration::from_millis(500);
/// After so long without a sample nothing is known.
const STALE: Duration = Duration::from_secs(2);
/// How long a container's first sample is waited for.
const FIRST: Duration = Duration::from_secs(5);
/// Clears the screen and goes to its beginning.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// A container that is watched, and what it used last.
#[derive(Debug, Clone)]
struct Row {
    container: String,
    sample: Option<Rc<Sample>>,
    seen: Option<Instant>,
    full: bool,
}

struct Screen<'a> {
    session: &'a Session,
    listing: Listing<'a>,
    rows: Vec<Row>,
    full: bool,
}

async fn stats(session: &Session, parsed: &Parsed) -> Result<()> {
    let client = session.client()?;
    let format = match parsed.text("format") {
        Some(format) if !format.is_empty() => format,
        _ => session.config.text("statsFormat").unwrap_or_default(),
    };
    let listing = Listing { format, table: TABLE, quiet: None, titles: TITLES };
    let full = parsed.on("no-trunc");
    let screen = Screen { session, listing, rows: Vec::new(), full };
    let (named, all) = (!parsed.args.is_empty(), parsed.on("all"));
    let mut names = parsed.args.clone();
    // Before the list, so that nothing that starts in between is missed.
    let mut filters = api::Filters::new();
    filters.add("type", "container");
    let mut events = if named || parsed.on("no-stream") {
        None
    } else {
        let query = Query::new().pair("filters", &filters.to_json());
        Some(client.stream("/events", query).await?.json::<Message>())
    };
    if !named {
        let listed: Vec<Summary> = client.get("/containers/json", Query::new().flag("all", all)).await?;
        names = listed.into_iter().map(|container| container.id).collect();
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    if parsed.on("no-stream") {
        return screen.once(client, &names, named).await;
    }
    screen.watch(client, names, named, all, events.as_mut()).await
}

/// One sample of a container, or the next of its stream.
async fn first(
    client: &Client,
    name: String,
    stream: bool,
) -> (String, Result<(Sample, Option<Json<Sample>>)>) {
    let query = Query::new().pair("stream", if stream { "1" } else { "0" });
    let taken = async {
        let mut samples = client.stream(&path(&name, "/stats"), query).await?.json::<Sample>();
        let sample = samples.next().await?.unwrap_or_default();
        Ok((sample, stream.then_some(samples)))
    };
    let taken = taken.await;
    (name, taken)
}

async fn further(
    name: String,
    mut samples: Json<Sample>,
) -> (String, Result<(Sample, Option<Json<Sample>>)>) {
    match samples.next().await {
        Ok(Some(sample)) => (name, Ok((sample, Some(samples)))),
        Ok(None) => (name, Ok((Sample::Null, None))),
        Err(error) => (name, Err(error.into())),
    }
}

impl Screen<'_> {
    fn add(&mut self, container: &str) -> bool {
        if self.rows.iter().any(|row| row.container == container) {
            return false;
        }
        let row = Row { container: container.to_owned(), sample: None, seen: None, full: self.full };
        self.rows.push(row);
        true
    }

    fn take(&mut self, container: &str, sample: Sample) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.container == container) {
            (row.sample, row.seen) = (Some(Rc::new(sample)), Some(Instant::now()));
        }
    }

    fn draw(&self, clear: bool) -> Result<()> {
        let rows = self.rows.iter().map(|row| Rc::new(row.clone()) as Rc<dyn Record>);
        let text = self.listing.render(rows)?;
        self.session.out(format!("{}{text}", if clear { CLEAR } else { "" }))
    }

    async fn once(mut self, client: &Client, names: &[String], named: bool) -> Result<()> {
        let mut waiting = FuturesUnordered::new();
        for name in names {
            self.add(name);
            waiting.push(first(client, name.clone(), false));
        }
        let mut failed = BTreeMap::new();
        while let Some((name, taken)) = waiting.next().await {
            match taken {
                Ok((sample, _)) => self.take(&name, sample),
                Err(error) if named => drop(failed.insert(name, crate::error::told(&error))),
                // It has gone since it was listed.
                Err(_) => self.rows.retain(|row| row.container != name),
            }
        }
        fail(failed)?;
        self.draw(false)
    }

    async fn watch(
        mut self,
        client: &Client,
        names: Vec<String>,
        named: bool,
        all: bool,
        mut events: Option<&mut Json<Message>>,
    ) -> Result<()> {
        let mut waiting = FuturesUnordered::new();
        let boxed = |name: String| -> Pending<'_> { Box::pin(first(client, name, true)) };
        for name in names {
            self.add(&name);
            waiting.push(boxed(name));
        }
        let mut failed = BTreeMap::new();
        let mut left = self.rows.len();
        let deadline = Instant::now() + FIRST;
        let mut ticks = interval(DRAW);
        loop {
            tokio::select! {
                Some((name, taken)) = waiting.next(), if !waiting.is_empty() => {
                    left = left.saturating_sub(1);
                    match taken {
                        Ok((Sample::Null, _)) => self.rows.retain(|row| row.container != name),
                        Ok((sample, rest)) => {
                            self.take(&name, sample);
                            if let Some(rest) = rest {
                                waiting.push(Box::pin(further(name, rest)));
                            }
                        }
                        Err(error) if named && left > 0 => drop(failed.insert(name, crate::error::told(&error))),
                        Err(error) if named => {
                            failed.insert(name, crate::error::told(&error));
                            return fail(failed);
                        }
                        Err(_) => self.rows.retain(|row| row.container != name),
                    }
                }
                event = next_event(&mut events) => {
                    let Some(event) = event? else { return Ok(()) };
                    let id = event.actor.id;
                    match event.action.as_str() {
                        "start" if self.add(&id) => waiting.push(boxed(id)),
                        "create" if all && self.add(&id) => waiting.push(boxed(id)),
                        "die" if !all => self.rows.retain(|row| row.container != id),
                        "destroy" => self.rows.retain(|row| row.container != id),
                        _ => {}
                    }
                }
                _ = ticks.tick() => {
                    if left > 0 && Instant::now() < deadline {
                        continue;
                    }
                    fail(std::mem::take(&mut failed))?;
                    self.draw(true)?;
                    if named && self.rows.is_empty() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

type Pending<'a> =
    std::pin::Pin<Box<dyn Future<Output = (String, Result<(Sample, Option<Json<Sample>>)>)> + 'a>>;

fn fail(failed: BTreeMap<String, String>) -> Result<()> {
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::Message(failed.into_values().collect::<Vec<_>>().join("\n")))
}

/// The next event; nothing for ever where none are listened to.
async fn next_event(events: &mut Option<&mut Json<Message>>) -> Result<Option<Message>> {
    match events {
        Some(events) => Ok(events.next().await?),
        None => std::future::pending().await,
    }
}

fn number(sample: &Sample, path: &str) -> f64 {
    sample.pointer(path).and_then(Sample::as_f64).unwrap_or(0.0)
}

/// The part of a second that was used, of all processors together, in percent of one.
fn cpu(sample: &Sample) -> f64 {
    let change = |path: &str| {
        number(sample, &format!("/cpu_stats{path}")) - number(sample, &format!("/precpu_stats{path}"))
    };
    let (own, all) = (change("/cpu_usage/total_usage"), change("/system_cpu_usage"));
    if own <= 0.0 || all <= 0.0 { 0.0 } else { own / all * number(sample, "/cpu_stats/online_cpus") * 100.0 }
}

/// Memory without what the kernel would give back at once.
fn used(sample: &Sample) -> f64 {
    let usage = number(sample, "/memory_stats/usage");
    let inactive = ["total_inactive_file", "inactive_file"]
        .iter()
        .find_map(|name| sample.pointer(&format!("/memory_stats/stats/{name}"))?.as_f64())
        .unwrap_or(0.0);
    if inactive < usage { usage - inactive } else { usage }
}

impl Row {
    fn known(&self) -> Option<&Sample> {
        let fresh = self.seen.is_some_and(|seen| seen.elapsed() < STALE + DRAW);
        self.sample.as_deref().filter(|_| fresh)
    }

    fn network(sample: &Sample) -> (f64, f64) {
        let devices = sample.get("networks").and_then(Sample::as_object).into_iter().flatten();
        devices.fold((0.0, 0.0), |(rx, tx), (_, device)| {
            (rx + number(device, "/rx_bytes"), tx + number(device, "/tx_bytes"))
        })
    }

    fn blocks(sample: &Sample) -> (f64, f64) {
        let entries = sample.pointer("/blkio_stats/io_service_bytes_recursive").and_then(Sample::as_array);
        entries.into_iter().flatten().fold((0.0, 0.0), |(read, written), entry| {
            let value = number(entry, "/value");
            match entry["op"].as_str().and_then(|op| op.chars().next()) {
                Some('r' | 'R') => (read + value, written),
                Some('w' | 'W') => (read, written + value),
                _ => (read, written),
            }
        })
    }
}

fn pair((one, other): (f64, f64)) -> String {
    format!("{} / {}", size_with(one as i64, 3), size_with(other as i64, 3))
}

impl Record for Row {
    fn type_name(&self) -> &'static str {
        "*container.statsContext"
    }

    fn fields(&self) -> &'static [&'static str] {
        &["BlockIO", "CPUPerc", "Container", "ID", "MemPerc", "MemUsage", "Name", "NetIO", "PIDs"]
    }

    fn field(&self, name: &str) -> Option<Value> {
        let text = |of: &dyn Fn(&Sample) -> String, unknown: &str| {
            self.known().map_or_else(|| unknown.to_owned(), of)
        };
        let known = |key: &str| {
            let sample = self.sample.as_ref()?;
            Some(sample.get(key)?.as_str()?.to_owned())
        };
        Some(Value::from(match name {
            "Container" => self.container.clone(),
            "Name" => known("name")
                .map(|name| name.trim_start_matches('/').to_owned())
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "--".to_owned()),
            "ID" => {
                let id = known("id").unwrap_or_default();
                if self.full { id } else { short_id(&id).to_owned() }
            }
            "CPUPerc" => text(&|sample| format!("{:.2}%", cpu(sample)), "--"),
            "MemUsage" => text(
                &|sample| {
                    let limit = number(sample, "/memory_stats/limit");
                    format!("{} / {}", memory(used(sample) as i64), memory(limit as i64))
                },
                "-- / --",
            ),
            "MemPerc" => text(
                &|sample| {
                    let limit = number(sample, "/memory_stats/limit");
                    let percent = if limit > 0.0 { used(sample) / limit * 100.0 } else { 0.0 };
                    format!("{percent:.2}%")
                },
                "--",
            ),
            "NetIO" => text(&|sample| pair(Self::network(sample)), "--"),
            "BlockIO" => text(&|sample| pair(Self::blocks(sample)), "--"),
            "PIDs" => text(&|sample| format!("{}", number(sample, "/pids_stats/current")), "--"),
            _ => return None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_dockers_words() {
        let sample = serde_json::json!({
            "id": "0123456789abcdef", "name": "/web",
            "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 200}, "system_cpu_usage": 1000},
            "memory_stats": {"usage": 3 << 20, "limit": 1 << 30, "stats": {"total_inactive_file": 1 << 20}},
            "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 2000}, "eth1": {"rx_bytes": 1, "tx_bytes": 0}},
            "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 4096}, {"op": "Total", "value": 4096}]},
            "pids_stats": {"current": 2},
        });
        let row = |sample: Option<Sample>| Row {
            container: "web".into(),
            seen: sample.as_ref().map(|_| Instant::now()),
            sample: sample.map(Rc::new),
            full: false,
        };
        let listing = Listing { format: "", table: TABLE, quiet: None, titles: TITLES };
        let rows: [Rc<dyn Record>; 2] = [Rc::new(row(Some(sample))), Rc::new(row(None))];
        let shown = listing.render(rows).unwrap();
        let lines: Vec<Vec<&str>> = shown
            .lines()
            .map(|line| line.split("   ").map(str::trim).filter(|c| !c.is_empty()).collect())
            .collect();
        assert_eq!(
            lines[0],
            ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"]
        );
        assert_eq!(
            lines[1],
            ["0123456789ab", "web", "20.00%", "2MiB / 1GiB", "0.20%", "1kB / 2kB", "4.1kB / 0B", "2"]
        );
        assert_eq!(lines[2], ["--", "--", "-- / --", "--", "--", "--", "--"]);
    }
}
