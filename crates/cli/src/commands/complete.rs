//! `completion`, and the hidden command that its scripts ask.

use crate::command::{Arity, Command, Example};
use crate::completion;
use crate::error::Result;
use crate::flags::{Group, Parsed, switch};
use crate::session::Session;

/// `completion`.
pub const SCRIPT: Command = Command {
    name: "completion",
    usage: "SHELL",
    about: "Print the completion script of a shell: bash, zsh or fish",
    arity: Arity::Exactly(1),
    flags: &[Group { title: "", flags: &[switch("no-descriptions", "").hidden()] }],
    examples: &[Example { about: "Load completion in this bash", line: "completion bash" }],
    ..Command::leaf(|session, parsed| Box::pin(script(session, parsed)))
};

/// `__complete`.
pub const ASK: Command = Command {
    name: "__complete",
    usage: "WORD...",
    hidden: true,
    arity: Arity::Any,
    verbatim: true,
    ..Command::leaf(|session, _| Box::pin(ask(session)))
};

async fn script(session: &Session, parsed: &Parsed) -> Result<()> {
    session.out(completion::script(&parsed.args[0], &session.program)?)
}

async fn ask(session: &Session) -> Result<()> {
    let text = completion::complete(session, &session.raw).await;
    session.line(&text)
}
