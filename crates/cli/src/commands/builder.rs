//! `builder`.

mod history;
mod usage;

use buildkit::client::{Answer, Engine};
use client::query::Query;
use client::{Method, Request};
use serde::Deserialize;

use crate::command::{Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, bytes, filter, switch};
use crate::session::Session;
use crate::units::size;

/// The group.
pub static GROUP: Command = Command::group(
    "builder",
    "Manage builds",
    &[&super::image::build::COMMAND, &usage::COMMAND, &history::GROUP, &PRUNE],
);

/// `prune`.
const PRUNE: Command = Command {
    name: "prune",
    usage: "[OPTIONS]",
    about: "Remove what earlier builds have left",
    flags: &[Group {
        title: "",
        flags: &[
            switch("all", "Also what images have as well").short('a'),
            filter("Only those that match (until=24h, id=…, type=exec.cachemount, shared=true, …)"),
            switch("force", "Do not ask").short('f'),
            bytes("keep-storage", "Bytes that may stay"),
        ],
    }],
    examples: &[Example { about: "What was not used for a day", line: "builder prune --filter until=24h" }],
    ..Command::leaf(|session, parsed| Box::pin(prune(session, parsed)))
};

/// A connection to the engine's side of BuildKit's API.
async fn engine(session: &Session) -> Result<Engine> {
    let stream = super::image::build::open(session.client()?, "/grpc", Vec::new()).await?;
    Engine::on(stream).await.map_err(|error| Error::Message(error.chain()))
}

fn answered<T>(answer: Answer<T>) -> Result<T> {
    answer.map_err(|status| Error::Message(status.message().to_owned()))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Report {
    caches_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

async fn prune(session: &Session, parsed: &Parsed) -> Result<()> {
    let what = if parsed.on("all") { "all build cache" } else { "all build cache that no image has" };
    let question = format!("WARNING! This will remove {what}. Are you sure you want to continue?");
    if !parsed.on("force") && !session.confirm(&question)? {
        return Ok(());
    }
    let keep = parsed.bytes("keep-storage").map(|bytes| bytes.to_string());
    let query = Query::new()
        .flag("all", parsed.on("all"))
        .maybe("keep-storage", keep.as_deref())
        .pair("filters", &parsed.filters().to_json());
    let request = Request::new(Method::POST, "/build/prune").query(query);
    let report: Report = session.client()?.decoded(&request).await?;
    let gone = report.caches_deleted.unwrap_or_default();
    if !gone.is_empty() {
        session.line(&format!("Deleted build cache objects:\n{}\n", gone.join("\n")))?;
    }
    let reclaimed = i64::try_from(report.space_reclaimed).unwrap_or(i64::MAX);
    session.line(&format!("Total reclaimed space: {}", size(reclaimed)))
}
