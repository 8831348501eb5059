//! `load`.

use api::stream::Progress;
use client::query::Query;
use client::{Body, Method, Request};
use oci::Platform;

use crate::archive;
use crate::command::{Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, list, switch, text};
use crate::progress::{self, To};
use crate::session::Session;
use crate::terminal;

/// `load`.
pub const COMMAND: Command = Command {
    name: "load",
    also: &["image load", "load"],
    usage: "[OPTIONS]",
    about: "Load an image from a tar archive or STDIN",
    flags: &[Group {
        title: "",
        flags: &[
            text("input", "Read from tar archive file, instead of STDIN").short('i'),
            list("platform", "Load only the given platform(s). Formatted as os[/arch[/variant]]"),
            switch("quiet", "Suppress the load output").short('q'),
        ],
    }],
    examples: &[Example {
        about: "What save, podman or skopeo have written: plain, or compressed by gzip, zstd, xz or bzip2",
        line: "load -i web.tar.zst",
    }],
    ..Command::leaf(|session, parsed| Box::pin(load(session, parsed)))
};

/// A platform as the API wants it.
pub(super) fn platform(text: &str) -> Result<String> {
    let platform = Platform::parse(text).map_err(|err| Error::Message(format!("invalid platform: {err}")))?;
    serde_json::to_string(&platform).map_err(|err| Error::Message(format!("invalid platform: {err}")))
}

async fn load(session: &Session, parsed: &Parsed) -> Result<()> {
    let input = parsed.text("input").filter(|input| !input.is_empty());
    if input.is_none() && terminal::stdin_is_terminal() {
        return Err(Error::say("requested load from stdin, but stdin is empty"));
    }
    let upload = archive::input(input)?;
    let client = session.client()?;
    // It cannot be sent twice, so the version is settled first.
    client.version().await?;
    let quiet = parsed.on("quiet") || !terminal::stdout_is_terminal();
    let mut query = Query::new().pair("quiet", if quiet { "1" } else { "0" });
    for text in parsed.list("platform") {
        query = query.pair("platform", &platform(text)?);
    }
    let request = Request::new(Method::POST, "/images/load").query(query).body(Body::Archive(upload));
    let response = client.send(&request).await?;
    progress::show(response.body.json::<Progress>(), To::Stdout).await
}
