//! `diff`.

use api::container::FileChange;
use client::query::Query;

use super::path;
use crate::command::{Arity, Command, Completes, Example};
use crate::error::{Error, Result};
use crate::flags::Parsed;
use crate::session::Session;

/// `diff`.
pub const COMMAND: Command = Command {
    name: "diff",
    also: &["container diff", "diff"],
    usage: "CONTAINER",
    about: "Inspect changes to files or directories on a container's filesystem",
    arity: Arity::Exactly(1),
    completes: Completes::Containers,
    examples: &[Example {
        about: "What a container has made (A), changed (C) and deleted (D)",
        line: "diff web",
    }],
    ..Command::leaf(|session, parsed| Box::pin(diff(session, parsed)))
};

async fn diff(session: &Session, parsed: &Parsed) -> Result<()> {
    let name = &parsed.args[0];
    if name.is_empty() {
        return Err(Error::say("Container name cannot be empty"));
    }
    // Where nothing was changed, the answer is `null`.
    let changes: Option<Vec<FileChange>> =
        session.client()?.get(&path(name, "/changes"), Query::new()).await?;
    let mut out = String::new();
    for change in changes.unwrap_or_default() {
        let kind = match change.kind {
            0 => 'C',
            1 => 'A',
            _ => 'D',
        };
        out.push_str(&format!("{kind} {}\n", change.path));
    }
    session.out(out)
}
