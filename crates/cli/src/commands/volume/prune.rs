//! `volume prune`.

use api::volume::PruneReport;
use client::query::Query;
use client::{Method, Request, Version};

use crate::command::Command;
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, filter, switch};
use crate::session::Session;
use crate::units::size;

/// `prune`.
pub const COMMAND: Command = Command {
    name: "prune",
    usage: "[OPTIONS]",
    about: "Remove unused local volumes",
    flags: &[Group {
        title: "",
        flags: &[
            switch("all", "Remove all that no container uses, not only anonymous ones").short('a'),
            filter("Only those that match (label=…)"),
            switch("force", "Do not ask").short('f'),
        ],
    }],
    ..Command::leaf(|session, parsed| Box::pin(prune(session, parsed)))
};

const TELLS_ANONYMOUS: Version = Version { major: 1, minor: 42 };

async fn prune(session: &Session, parsed: &Parsed) -> Result<()> {
    let all = parsed.on("all");
    let mut filters = parsed.filters();
    if all && filters.contains("all") {
        return Err(Error::say("conflicting options: cannot specify both --all and --filter all=1"));
    }
    if all {
        session.client()?.require("all", TELLS_ANONYMOUS).await?;
        filters.add("all", "true");
    }
    // Before this version the daemon did not tell named volumes from anonymous ones.
    let tells = all || session.client()?.version().await? >= TELLS_ANONYMOUS;
    let what = if all || !tells { "all local volumes" } else { "anonymous local volumes" };
    let question = format!(
        "WARNING! This will remove {what} not used by at least one container.\nAre you sure you want to continue?"
    );
    if !parsed.on("force") && !session.confirm(&question)? {
        return Ok(());
    }
    let (text, reclaimed) = report(session, &filters).await?;
    session.out(&text)?;
    session.line(&format!("Total reclaimed space: {}", size(reclaimed)))
}

/// Prunes; what was removed as text, and the bytes.
pub async fn report(session: &Session, filters: &api::Filters) -> Result<(String, i64)> {
    let query = Query::new().pair("filters", &filters.to_json());
    let request = Request::new(Method::POST, "/volumes/prune").query(query);
    let report: PruneReport = session.client()?.decoded(&request).await?;
    let mut text = String::new();
    if !report.volumes_deleted.is_empty() {
        text = format!("Deleted Volumes:\n{}\n\n", report.volumes_deleted.join("\n"));
    }
    Ok((text, i64::try_from(report.space_reclaimed).unwrap_or(i64::MAX)))
}
