//! `image prune`.

use api::image::PruneReport;
use client::query::Query;
use client::{Method, Request};

use super::remove::lines;
use crate::command::Command;
use crate::error::Result;
use crate::flags::{Group, Parsed, filter, switch};
use crate::session::Session;
use crate::units::size;

/// `prune`.
pub const COMMAND: Command = Command {
    name: "prune",
    usage: "[OPTIONS]",
    about: "Remove unused images",
    flags: &[Group {
        title: "",
        flags: &[
            switch("all", "Remove all that no container uses, not only those without a name").short('a'),
            filter("Only those that match (until=24h, label=key=value)"),
            switch("force", "Do not ask").short('f'),
        ],
    }],
    ..Command::leaf(|session, parsed| Box::pin(prune(session, parsed)))
};

async fn prune(session: &Session, parsed: &Parsed) -> Result<()> {
    let all = parsed.on("all");
    let what = if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    };
    let question = format!("WARNING! This will remove {what}.\nAre you sure you want to continue?");
    if !parsed.on("force") && !session.confirm(&question)? {
        return Ok(());
    }
    let (text, reclaimed) = report(session, parsed.filters(), all).await?;
    session.out(&text)?;
    session.line(&format!("Total reclaimed space: {}", size(reclaimed)))
}

/// Prunes; what was removed as text, and the bytes.
pub async fn report(session: &Session, mut filters: api::Filters, all: bool) -> Result<(String, i64)> {
    filters.add("dangling", if all { "false" } else { "true" });
    let query = Query::new().pair("filters", &filters.to_json());
    let request = Request::new(Method::POST, "/images/prune").query(query);
    let report: PruneReport = session.client()?.decoded(&request).await?;
    let mut text = String::new();
    if !report.images_deleted.is_empty() {
        text = format!(
            "Deleted Images:\n{}\n",
            lines(&report.images_deleted).replace("Untagged:", "untagged:").replace("Deleted:", "deleted:")
        );
    }
    Ok((text, i64::try_from(report.space_reclaimed).unwrap_or(i64::MAX)))
}
