//! `context show`.

use super::current;
use crate::command::Command;
use crate::error::Result;
use crate::session::Session;

/// `show`.
pub const COMMAND: Command = Command {
    name: "show",
    about: "Print the name of the current context",
    ..Command::leaf(|session, _| Box::pin(show(session)))
};

async fn show(session: &Session) -> Result<()> {
    session.line(&current(session)?)
}
