//! `container prune`.

use api::container::PruneReport;
use client::query::Query;
use client::{Method, Request};

use crate::command::{Command, Example};
use crate::error::Result;
use crate::flags::{Group, Parsed, filter, switch};
use crate::session::Session;
use crate::units::size;

/// `prune`.
pub const COMMAND: Command = Command {
    name: "prune",
    usage: "[OPTIONS]",
    about: "Remove all stopped containers",
    flags: &[Group {
        title: "",
        flags: &[
            filter("Only those that match (until=24h, label=key=value)"),
            switch("force", "Do not ask").short('f'),
        ],
    }],
    examples: &[Example {
        about: "Those that ended more than a day ago",
        line: "container prune --filter until=24h",
    }],
    ..Command::leaf(|session, parsed| Box::pin(prune(session, parsed)))
};

async fn prune(session: &Session, parsed: &Parsed) -> Result<()> {
    let warning = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?";
    if !parsed.on("force") && !session.confirm(warning)? {
        return Ok(());
    }
    let (text, reclaimed) = report(session, &parsed.filters()).await?;
    session.out(&text)?;
    session.line(&format!("Total reclaimed space: {}", size(reclaimed)))
}

/// Prunes; what was removed as text, and the bytes.
pub async fn report(session: &Session, filters: &api::Filters) -> Result<(String, i64)> {
    let query = Query::new().pair("filters", &filters.to_json());
    let request = Request::new(Method::POST, "/containers/prune").query(query);
    let report: PruneReport = session.client()?.decoded(&request).await?;
    let mut text = String::new();
    if !report.containers_deleted.is_empty() {
        text = format!("Deleted Containers:\n{}\n\n", report.containers_deleted.join("\n"));
    }
    Ok((text, i64::try_from(report.space_reclaimed).unwrap_or(i64::MAX)))
}
