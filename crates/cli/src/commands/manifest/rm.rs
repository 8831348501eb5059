//! `manifest rm`.

use super::lists::Lists;
use super::reference;
use crate::command::{Arity, Command};
use crate::error::Result;
use crate::flags::Parsed;
use crate::session::Session;

/// `manifest rm`.
pub const COMMAND: Command = Command {
    name: "rm",
    usage: "MANIFEST_LIST [MANIFEST_LIST...]",
    about: "Delete one or more manifest lists from local storage",
    arity: Arity::AtLeast(1),
    ..Command::leaf(|session, parsed| Box::pin(run(session, parsed)))
};

async fn run(session: &Session, parsed: &Parsed) -> Result<()> {
    let lists = Lists::of(&session.config);
    let remove = |name: String| {
        let removed = reference(&name).and_then(|list| lists.remove(&list));
        async move { removed.map(|()| None) }
    };
    crate::commands::each(session, &parsed.args, remove).await
}
