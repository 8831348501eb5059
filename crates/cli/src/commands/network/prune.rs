//! `network prune`.

use api::network::PruneReport;
use client::query::Query;
use client::{Method, Request};

use crate::command::Command;
use crate::error::Result;
use crate::flags::{Group, Parsed, filter, switch};
use crate::session::Session;

/// `prune`.
pub const COMMAND: Command = Command {
    name: "prune",
    usage: "[OPTIONS]",
    about: "Remove all networks that no container uses",
    flags: &[Group {
        title: "",
        flags: &[
            filter("Only those that match (label=…, until=…)"),
            switch("force", "Do not ask").short('f'),
        ],
    }],
    ..Command::leaf(|session, parsed| Box::pin(prune(session, parsed)))
};

async fn prune(session: &Session, parsed: &Parsed) -> Result<()> {
    let question = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?";
    if !parsed.on("force") && !session.confirm(question)? {
        return Ok(());
    }
    let query = Query::new().pair("filters", &parsed.filters().to_json());
    let request = Request::new(Method::POST, "/networks/prune").query(query);
    let report: PruneReport = session.client()?.decoded(&request).await?;
    if report.networks_deleted.is_empty() {
        return Ok(());
    }
    session.out(format!("Deleted Networks:\n{}\n\n", report.networks_deleted.join("\n")))
}
