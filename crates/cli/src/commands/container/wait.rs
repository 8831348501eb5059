//! `wait`.

use api::container::WaitResponse;
use client::{Method, Request};

use super::path;
use crate::command::{Arity, Command, Completes};
use crate::error::{Error, Result};
use crate::flags::Parsed;
use crate::session::Session;

/// `wait`.
pub const COMMAND: Command = Command {
    name: "wait",
    also: &["container wait", "wait"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Block until one or more containers stop, then print their exit codes",
    arity: Arity::AtLeast(1),
    completes: Completes::Containers,
    ..Command::leaf(|session, parsed| Box::pin(wait(session, parsed)))
};

async fn wait(session: &Session, parsed: &Parsed) -> Result<()> {
    let client = session.client()?;
    crate::commands::each(session, &parsed.args, |name| async move {
        let answer: WaitResponse = client.decoded(&Request::new(Method::POST, path(&name, "/wait"))).await?;
        match answer.error {
            Some(error) if !error.message.is_empty() => Err(Error::Message(error.message)),
            _ => Ok(Some(answer.status_code.to_string())),
        }
    })
    .await
}
