//! `network rm`.

use client::query::{Query, segment};

use crate::command::{Arity, Command, Completes};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, switch};
use crate::session::Session;

/// `rm`.
pub const COMMAND: Command = Command {
    name: "rm",
    aliases: &["remove"],
    also: &["network rm", "network remove"],
    usage: "NETWORK [NETWORK...]",
    about: "Remove one or more networks",
    arity: Arity::AtLeast(1),
    flags: &[Group { title: "", flags: &[switch("force", "Do not fail when there is none").short('f')] }],
    completes: Completes::Networks,
    ..Command::leaf(|session, parsed| Box::pin(remove(session, parsed)))
};

async fn remove(session: &Session, parsed: &Parsed) -> Result<()> {
    let client = session.client()?;
    let force = parsed.on("force");
    crate::commands::each(session, &parsed.args, |name| async move {
        let path = format!("/networks/{}", segment(&name));
        match client.delete(&path, Query::new()).await {
            Err(error) if force && error.is_not_found() => Ok(None),
            other => other.map(|()| Some(name)).map_err(Error::from),
        }
    })
    .await
}
