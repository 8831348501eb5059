//! `start`.

use api::container::Inspect;
use client::query::Query;

use super::path;
use super::run::{Foreground, check_terminal, detach_keys};
use crate::command::{Arity, Command, Completes, Example};
use crate::error::{Error, Result, told};
use crate::flags::{Group, Parsed, switch, text};
use crate::session::Session;
use crate::signals;
use crate::stream::Streams;

/// `start`.
pub const COMMAND: Command = Command {
    name: "start",
    also: &["container start", "start"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Start one or more stopped containers",
    arity: Arity::AtLeast(1),
    flags: &[Group {
        title: "",
        flags: &[
            switch("attach", "Show the output and hand signals on").short('a'),
            text("checkpoint", "").hidden(),
            text("checkpoint-dir", "").hidden(),
            text("detach-keys", "Keys that leave the container running").default("\"ctrl-p,ctrl-q\""),
            switch("interactive", "Attach stdin").short('i'),
        ],
    }],
    completes: Completes::Containers,
    examples: &[Example { about: "Start it and stay with it", line: "start -ai job" }],
    ..Command::leaf(|session, parsed| Box::pin(start(session, parsed)))
};

async fn start(session: &Session, parsed: &Parsed) -> Result<()> {
    for flag in ["checkpoint", "checkpoint-dir"] {
        if parsed.given(flag) {
            return Err(Error::Message(format!("--{flag} is not supported yet by this version of corten")));
        }
    }
    if parsed.on("attach") || parsed.on("interactive") {
        if parsed.args.len() > 1 {
            return Err(Error::say("you cannot start and attach multiple containers at once"));
        }
        return attached(session, parsed, &parsed.args[0]).await;
    }
    let client = session.client()?;
    let mut failed = Vec::new();
    for name in &parsed.args {
        match client.post(&path(name, "/start"), Query::new()).await {
            Ok(()) => session.line(name)?,
            Err(err) if err.is_unreachable() => return Err(err.into()),
            Err(err) => {
                session.note(&told(&err));
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::Message(format!("Error: failed to start containers: {}", failed.join(", "))))
}

async fn attached(session: &Session, parsed: &Parsed, name: &str) -> Result<()> {
    let client = session.client()?;
    let container: Inspect = client.get(&path(name, "/json"), Query::new()).await?;
    let stdin = parsed.on("interactive") && container.config.open_stdin;
    check_terminal(stdin, container.config.tty)?;
    let keys = detach_keys(session, parsed);
    let foreground = Foreground {
        id: &container.id,
        streams: Streams { stdin, output: true, tty: container.config.tty, detach_keys: keys.clone() },
        attach: Query::new()
            .flag("stream", true)
            .flag("stdin", stdin)
            .flag("stdout", true)
            .flag("stderr", true)
            .maybe("detachKeys", Some(&keys)),
        removed: container.host_config.auto_remove,
        start: true,
    };
    let caught = (!container.config.tty).then(signals::catch);
    foreground.go(client, caught).await.map_err(|err| match err {
        // `start` has Docker's plain error and code 1, unlike `run`.
        Error::Start { message, .. } => Error::Message(message),
        other => other,
    })
}
