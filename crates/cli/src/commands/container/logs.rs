//! `logs`.

use api::container::Inspect;
use api::stream::{MULTIPLEXED, RAW};
use bytes::BytesMut;
use client::query::Query;
use client::{Method, Request};

use super::path;
use crate::command::{Arity, Command, Completes, Example};
use crate::commands::moment;
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, switch, text};
use crate::session::Session;
use crate::stream::Frames;

/// `logs`.
pub const COMMAND: Command = Command {
    name: "logs",
    also: &["container logs", "logs"],
    usage: "[OPTIONS] CONTAINER",
    about: "Fetch the logs of a container",
    arity: Arity::Exactly(1),
    flags: &[Group {
        title: "",
        flags: &[
            switch("details", "Show the labels and variables that were asked to be logged"),
            switch("follow", "Go on with what is still to come").short('f'),
            text("since", "From this time on: RFC 3339, seconds since 1970, or how long ago (42m)"),
            text("tail", "Number of lines from the end").short('n').default("\"all\""),
            switch("timestamps", "Show the time of each line").short('t'),
            text("until", "Up to this time"),
        ],
    }],
    completes: Completes::Containers,
    examples: &[
        Example { about: "The last ten lines, and what follows", line: "logs -f -n 10 web" },
        Example { about: "The last quarter of an hour, with times", line: "logs -t --since 15m web" },
    ],
    ..Command::leaf(|session, parsed| Box::pin(logs(session, parsed)))
};

async fn logs(session: &Session, parsed: &Parsed) -> Result<()> {
    let time = |flag: &str| {
        moment(parsed.text(flag).unwrap_or_default())
            .map_err(|why| Error::Message(format!("invalid value for {flag:?}: {why}")))
    };
    let query = Query::new()
        .flag("stdout", true)
        .flag("stderr", true)
        .flag("follow", parsed.on("follow"))
        .flag("timestamps", parsed.on("timestamps"))
        .flag("details", parsed.on("details"))
        .maybe("since", Some(&time("since")?))
        .maybe("until", Some(&time("until")?))
        .maybe("tail", Some(parsed.text("tail").unwrap_or("all")));
    let client = session.client()?;
    let name = &parsed.args[0];
    let response = client.send(&Request::new(Method::GET, path(name, "/logs")).query(query)).await?;
    let kind = response.headers.get("content-type").and_then(|kind| kind.to_str().ok());
    let framed = match kind {
        Some(MULTIPLEXED) => true,
        // Daemons before API 1.42 call both kinds raw; the container tells which it is.
        Some(RAW) if client.spoken() >= SAYS_KIND => false,
        _ => {
            let container: Inspect = client.get(&path(name, "/json"), Query::new()).await?;
            !container.config.tty
        }
    };
    let mut body = response.body;
    let mut frames = Frames::default();
    let mut buffer = BytesMut::new();
    while let Some(chunk) = body.chunk().await? {
        if framed {
            buffer.extend_from_slice(&chunk);
            frames.write(&mut buffer).await?;
        } else {
            session.out(&chunk)?;
        }
    }
    Ok(())
}

/// The first version of the API that says whether a stream has frames.
const SAYS_KIND: client::Version = client::Version { major: 1, minor: 42 };
