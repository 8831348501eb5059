//! `context rm`.

use client::context::DEFAULT;

use super::current;
use crate::command::{Arity, Command, Completes};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, switch};
use crate::session::Session;

/// `rm`.
pub const COMMAND: Command = Command {
    name: "rm",
    aliases: &["remove"],
    also: &["context rm", "context remove"],
    usage: "CONTEXT [CONTEXT...]",
    about: "Remove one or more contexts",
    arity: Arity::AtLeast(1),
    flags: &[Group { title: "", flags: &[switch("force", "Even if it is in use").short('f')] }],
    completes: Completes::Contexts,
    ..Command::leaf(|session, parsed| Box::pin(remove(session, parsed)))
};

async fn remove(session: &Session, parsed: &Parsed) -> Result<()> {
    let force = parsed.on("force");
    let now = current(session)?;
    let mut failed = Vec::new();
    for name in &parsed.args {
        match one(session, name, force, &now) {
            Ok(()) => session.line(name)?,
            Err(err) => failed.push(err.to_string()),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Error::Message(failed.join("\n"))) }
}

fn one(session: &Session, name: &str, force: bool, now: &str) -> Result<()> {
    if name == DEFAULT {
        return Err(Error::say("context \"default\" cannot be removed"));
    }
    if !session.store.exists(name) {
        if force {
            return Ok(());
        }
        return Err(Error::Message(format!("context {name:?} does not exist")));
    }
    if name == now {
        if !force {
            return Err(Error::Message(format!("context {name:?} is in use, set -f flag to force remove")));
        }
        let mut config = session.config.clone();
        if config.text("currentContext") == Some(name) {
            config.set("currentContext", None);
            config.save()?;
        }
    }
    Ok(session.store.remove(name)?)
}
