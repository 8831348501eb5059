//! `system prune`.

use client::query::Query;
use client::{Method, Request};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::command::Command;
use crate::commands::{container, image, volume};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, filter, switch};
use crate::session::Session;
use crate::units::size;

/// `prune`.
pub const COMMAND: Command = Command {
    name: "prune",
    usage: "[OPTIONS]",
    about: "Remove unused data",
    flags: &[Group {
        title: "",
        flags: &[
            switch("all", "Remove all images that no container uses, not only those without a name")
                .short('a'),
            filter("Only what matches (label=key=value, until=24h)"),
            switch("force", "Do not ask").short('f'),
            switch("volumes", "Remove anonymous volumes too"),
        ],
    }],
    ..Command::leaf(|session, parsed| Box::pin(prune(session, parsed)))
};

async fn prune(session: &Session, parsed: &Parsed) -> Result<()> {
    let (all, volumes) = (parsed.on("all"), parsed.on("volumes"));
    let filters = parsed.filters();
    if volumes && filters.contains("until") {
        return Err(Error::say("ERROR: The \"until\" filter is not supported with \"--volumes\""));
    }
    let mut what = vec!["  - all stopped containers", "  - all networks not used by at least one container"];
    if volumes {
        what.push("  - all anonymous volumes not used by at least one container");
    }
    what.push(if all {
        "  - all images without at least one container associated to them"
    } else {
        "  - all dangling images"
    });
    what.push(if all { "  - all build cache" } else { "  - unused build cache" });
    let mut filtered = String::new();
    for key in filters.names() {
        for value in filters.get(key) {
            filtered.push_str(&format!("  - {key}={value}\n"));
        }
    }
    if !filtered.is_empty() {
        filtered = format!("  Items to be pruned will be filtered with:\n{filtered}\n");
    }
    let question = format!(
        "WARNING! This will remove:\n{}\n\n{filtered}Are you sure you want to continue?",
        what.join("\n")
    );
    if !parsed.on("force") && !session.confirm(&question)? {
        return Ok(());
    }
    let mut reclaimed = 0i64;
    let (text, bytes) = container::prune::report(session, &filters).await?;
    session.out(&text)?;
    reclaimed = reclaimed.saturating_add(bytes);
    session.out(networks(session, &filters).await?)?;
    if volumes {
        let (text, bytes) = volume::prune::report(session, &filters).await?;
        session.out(&text)?;
        reclaimed = reclaimed.saturating_add(bytes);
    }
    let (text, bytes) = image::prune::report(session, filters.clone(), all).await?;
    session.out(&text)?;
    reclaimed = reclaimed.saturating_add(bytes);
    let (text, bytes) = build_cache(session, &filters, all).await?;
    session.out(&text)?;
    reclaimed = reclaimed.saturating_add(bytes);
    session.line(&format!("Total reclaimed space: {}", size(reclaimed)))
}

/// Prunes what not every daemon has: one without it has nothing to prune.
async fn optional<T: DeserializeOwned + Default>(session: &Session, path: &str, query: Query) -> Result<T> {
    match session.client()?.decoded(&Request::new(Method::POST, path).query(query)).await {
        Err(client::Error::Status { status: 404 | 501, .. }) => Ok(T::default()),
        other => Ok(other?),
    }
}

async fn networks(session: &Session, filters: &api::Filters) -> Result<String> {
    let query = Query::new().pair("filters", &filters.to_json());
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Report {
        networks_deleted: Option<Vec<String>>,
    }
    let report: Report = optional(session, "/networks/prune", query).await?;
    let names = report.networks_deleted.unwrap_or_default();
    Ok(if names.is_empty() { String::new() } else { format!("Deleted Networks:\n{}\n\n", names.join("\n")) })
}

async fn build_cache(session: &Session, filters: &api::Filters, all: bool) -> Result<(String, i64)> {
    let query = Query::new().flag("all", all).pair("filters", &filters.to_json());
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Report {
        caches_deleted: Option<Vec<String>>,
        space_reclaimed: i64,
    }
    let report: Report = optional(session, "/build/prune", query).await?;
    let names = report.caches_deleted.unwrap_or_default();
    let text = if names.is_empty() {
        String::new()
    } else {
        format!("Deleted build cache objects:\n{}\n\n", names.join("\n"))
    };
    Ok((text, report.space_reclaimed))
}
