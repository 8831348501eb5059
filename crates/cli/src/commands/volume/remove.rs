//! `volume rm`.

use client::query::{Query, segment};

use crate::command::{Arity, Command, Completes};
use crate::error::Result;
use crate::flags::{Group, Parsed, switch};
use crate::session::Session;

/// `rm`.
pub const COMMAND: Command = Command {
    name: "rm",
    aliases: &["remove"],
    also: &["volume rm", "volume remove"],
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Remove one or more volumes",
    arity: Arity::AtLeast(1),
    flags: &[Group { title: "", flags: &[switch("force", "Do not fail when there is none").short('f')] }],
    completes: Completes::Volumes,
    ..Command::leaf(|session, parsed| Box::pin(remove(session, parsed)))
};

async fn remove(session: &Session, parsed: &Parsed) -> Result<()> {
    let client = session.client()?;
    let force = parsed.on("force");
    crate::commands::each(session, &parsed.args, |name| async move {
        let path = format!("/volumes/{}", segment(&name));
        client.delete(&path, Query::new().flag("force", force)).await?;
        Ok(Some(name))
    })
    .await
}
