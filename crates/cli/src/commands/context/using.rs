//! `context use`.

use client::context::DEFAULT;

use super::overridden;
use crate::command::{Arity, Command, Completes, Example};
use crate::error::Result;
use crate::flags::Parsed;
use crate::session::Session;

/// `use`.
pub const COMMAND: Command = Command {
    name: "use",
    usage: "CONTEXT",
    about: "Set the default context",
    arity: Arity::Exactly(1),
    completes: Completes::Contexts,
    examples: &[Example { about: "Back to the local daemon", line: "context use default" }],
    ..Command::leaf(|session, parsed| Box::pin(using(session, parsed)))
};

async fn using(session: &Session, parsed: &Parsed) -> Result<()> {
    let name = &parsed.args[0];
    if name != DEFAULT {
        session.store.load(name)?;
    }
    let mut config = session.config.clone();
    if config.text("currentContext").unwrap_or(DEFAULT) != name {
        config.set("currentContext", Some(name.as_str()).filter(|name| *name != DEFAULT));
        config.save()?;
    }
    session.line(name)?;
    session.note(&format!("Current context is now {name:?}"));
    if let Some(variable) = overridden().filter(|variable| *variable == "DOCKER_HOST" && name != DEFAULT) {
        session.note(&format!(
            "Warning: {variable} environment variable overrides the active context. To use {name:?}, either set the \
             global --context flag, or unset {variable} environment variable."
        ));
    }
    Ok(())
}
