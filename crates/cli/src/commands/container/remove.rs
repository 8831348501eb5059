//! `rm`.

use client::query::Query;

use super::path;
use crate::command::{Arity, Command, Completes, Example};
use crate::error::{Error, Result, told};
use crate::flags::{Group, Parsed, switch};
use crate::session::Session;

/// `rm`.
pub const COMMAND: Command = Command {
    name: "rm",
    aliases: &["remove"],
    also: &["container rm", "container remove", "rm"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Remove one or more containers",
    arity: Arity::AtLeast(1),
    flags: &[Group {
        title: "",
        flags: &[
            switch("force", "Kill it first if it runs").short('f'),
            switch("link", "Remove the link, not the container").short('l'),
            switch("volumes", "Remove its anonymous volumes too").short('v'),
        ],
    }],
    completes: Completes::Containers,
    examples: &[Example { about: "Whatever state it is in, with its anonymous volumes", line: "rm -fv job" }],
    ..Command::leaf(|session, parsed| Box::pin(remove(session, parsed)))
};

async fn remove(session: &Session, parsed: &Parsed) -> Result<()> {
    /// Docker removes this many at a time too.
    const PARALLEL_MAX: usize = 50;
    let client = session.client()?;
    let force = parsed.on("force");
    let query =
        Query::new().flag("v", parsed.on("volumes")).flag("link", parsed.on("link")).flag("force", force);
    let mut failed = false;
    for some in parsed.args.chunks(PARALLEL_MAX) {
        let calls = some.iter().map(|name| {
            let query = query.clone();
            async move {
                let name = name.trim_matches('/');
                if name.is_empty() {
                    return (name, Err(client::Error::Address("container name cannot be empty".into())));
                }
                (name, client.delete(&path(name, ""), query).await)
            }
        });
        for (name, done) in futures_util::future::join_all(calls).await {
            match done {
                Ok(()) => session.line(name)?,
                Err(err) if err.is_unreachable() => return Err(err.into()),
                Err(err) => {
                    session.note(&told(&err));
                    // What is to be gone and is not there is as it should be.
                    failed |= !(force && err.is_not_found());
                }
            }
        }
    }
    if failed { Err(Error::Exit(1)) } else { Ok(()) }
}
