//! `stop`, `restart`, `kill`, `pause`, `unpause`: one request for each container.

use client::query::Query;

use super::path;
use crate::command::{Arity, Command, Completes, Example};
use crate::error::{Error, Result, told};
use crate::flags::{Flag, Group, Parsed, int, text};
use crate::session::Session;

const SIGNAL: Flag = text("signal", "Signal to send").short('s');
const STOP_FLAGS: &[Group] = &[Group {
    title: "",
    flags: &[
        SIGNAL,
        int("timeout", "Seconds to wait before killing; -1 for as long as it takes").short('t'),
        int("time", "").same_as("timeout"),
    ],
}];

/// What these commands share.
const SEVERAL: Command = Command {
    usage: "CONTAINER [CONTAINER...]",
    arity: Arity::AtLeast(1),
    completes: Completes::Running,
    ..Command::leaf(|session, parsed| Box::pin(pause(session, parsed)))
};

/// `stop`.
pub const STOP: Command = Command {
    name: "stop",
    also: &["container stop", "stop"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Stop one or more running containers",
    flags: STOP_FLAGS,
    examples: &[Example { about: "Give it a minute to end by itself", line: "stop -t 60 web" }],
    action: crate::command::Action::Run(|session, parsed| Box::pin(with_timeout(session, parsed, "/stop"))),
    ..SEVERAL
};

/// `restart`.
pub const RESTART: Command = Command {
    name: "restart",
    also: &["container restart", "restart"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Restart one or more containers",
    flags: STOP_FLAGS,
    completes: Completes::Containers,
    action: crate::command::Action::Run(|session, parsed| {
        Box::pin(with_timeout(session, parsed, "/restart"))
    }),
    ..SEVERAL
};

/// `kill`.
pub const KILL: Command = Command {
    name: "kill",
    also: &["container kill", "kill"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Kill one or more running containers",
    flags: &[Group { title: "", flags: &[SIGNAL] }],
    action: crate::command::Action::Run(|session, parsed| Box::pin(kill(session, parsed))),
    ..SEVERAL
};

/// `pause`.
pub const PAUSE: Command = Command {
    name: "pause",
    also: &["container pause", "pause"],
    about: "Pause all processes within one or more containers",
    ..SEVERAL
};

/// `unpause`.
pub const UNPAUSE: Command = Command {
    name: "unpause",
    also: &["container unpause", "unpause"],
    about: "Unpause all processes within one or more containers",
    action: crate::command::Action::Run(|session, parsed| Box::pin(unpause(session, parsed))),
    ..SEVERAL
};

/// Sends a request for each container, several at a time; tells the results in the order of the names.
async fn all(session: &Session, names: &[String], verb: &str, query: Query) -> Result<()> {
    /// Docker stops this many at a time too.
    const PARALLEL_MAX: usize = 50;
    let client = session.client()?;
    let mut failed = false;
    for some in names.chunks(PARALLEL_MAX) {
        let calls = some.iter().map(|name| {
            let query = query.clone();
            async move { (name, client.post(&path(name, verb), query).await) }
        });
        for (name, done) in futures_util::future::join_all(calls).await {
            match done {
                Ok(()) => session.line(name)?,
                Err(err) if err.is_unreachable() => return Err(err.into()),
                Err(err) => {
                    session.note(&told(&err));
                    failed = true;
                }
            }
        }
    }
    if failed { Err(Error::Exit(1)) } else { Ok(()) }
}

async fn with_timeout(session: &Session, parsed: &Parsed, verb: &str) -> Result<()> {
    let query = Query::new().maybe("signal", parsed.text("signal")).maybe("t", parsed.text("timeout"));
    all(session, &parsed.args, verb, query).await
}

async fn kill(session: &Session, parsed: &Parsed) -> Result<()> {
    all(session, &parsed.args, "/kill", Query::new().maybe("signal", parsed.text("signal"))).await
}

async fn pause(session: &Session, parsed: &Parsed) -> Result<()> {
    all(session, &parsed.args, "/pause", Query::new()).await
}

async fn unpause(session: &Session, parsed: &Parsed) -> Result<()> {
    all(session, &parsed.args, "/unpause", Query::new()).await
}
