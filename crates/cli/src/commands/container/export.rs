//! `export`.

use client::query::Query;

use super::path;
use crate::archive::Output;
use crate::command::{Arity, Command, Completes, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, text};
use crate::session::Session;

/// `export`.
pub const COMMAND: Command = Command {
    name: "export",
    also: &["container export", "export"],
    usage: "[OPTIONS] CONTAINER",
    about: "Export a container's filesystem as a tar archive",
    arity: Arity::Exactly(1),
    completes: Completes::Containers,
    flags: &[Group { title: "", flags: &[text("output", "Write to a file, instead of STDOUT").short('o')] }],
    examples: &[Example { about: "All files of a container", line: "export -o web.tar web" }],
    ..Command::leaf(|session, parsed| Box::pin(export(session, parsed)))
};

async fn export(session: &Session, parsed: &Parsed) -> Result<()> {
    let name = &parsed.args[0];
    if name.is_empty() {
        return Err(Error::say("Container name cannot be empty"));
    }
    let output = Output::parse(parsed.text("output"), "failed to export container")?;
    let body = session.client()?.stream(&path(name, "/export"), Query::new()).await?;
    output.write(body).await
}
