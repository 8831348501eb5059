//! `rename`.

use client::query::Query;

use super::path;
use crate::command::{Arity, Command, Completes};
use crate::error::{Error, Result, told};
use crate::flags::Parsed;
use crate::session::Session;

/// `rename`.
pub const COMMAND: Command = Command {
    name: "rename",
    also: &["container rename", "rename"],
    usage: "CONTAINER NEW_NAME",
    about: "Rename a container",
    arity: Arity::Exactly(2),
    completes: Completes::Containers,
    ..Command::leaf(|session, parsed| Box::pin(rename(session, parsed)))
};

async fn rename(session: &Session, parsed: &Parsed) -> Result<()> {
    let (old, new) = (parsed.args[0].trim(), parsed.args[1].trim());
    if old.is_empty() || new.is_empty() {
        return Err(Error::say("Error: Neither old nor new names may be empty"));
    }
    let renamed = session.client()?.post(&path(old, "/rename"), Query::new().pair("name", new)).await;
    renamed.map_err(|err| {
        session.note(&told(&err));
        Error::Message(format!("Error: failed to rename container named {old}"))
    })
}
