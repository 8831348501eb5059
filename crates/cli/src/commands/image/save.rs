//! `save`.

use client::query::Query;
use client::{Method, Request};

use crate::archive::Output;
use crate::command::{Arity, Command, Completes, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, list, text};
use crate::session::Session;

/// `save`.
pub const COMMAND: Command = Command {
    name: "save",
    also: &["image save", "save"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Save one or more images to a tar archive (streamed to STDOUT by default)",
    arity: Arity::AtLeast(1),
    completes: Completes::Images,
    flags: &[Group {
        title: "",
        flags: &[
            text("compress", "Compress the archive (gzip, zstd)"),
            text("format", "Only one of the two forms that an archive has otherwise (docker, oci)"),
            text("output", "Write to a file, instead of STDOUT").short('o'),
            list("platform", "Save only the given platform(s). Formatted as os[/arch[/variant]]"),
        ],
    }],
    examples: &[
        Example { about: "Two images, compressed", line: "save --compress zstd -o both.tar.zst web db" },
        Example { about: "For one platform", line: "save --platform linux/arm64 -o web.tar web" },
    ],
    ..Command::leaf(|session, parsed| Box::pin(save(session, parsed)))
};

/// The header by which a daemon says that it has done what Docker's API does not have.
const DONE: &str = "corten-archive";

async fn save(session: &Session, parsed: &Parsed) -> Result<()> {
    let output = Output::parse(parsed.text("output"), "failed to save image")?;
    let client = session.client()?;
    let mut query = Query::new();
    for name in &parsed.args {
        query = query.pair("names", name);
    }
    for platform in parsed.list("platform") {
        query = query.pair("platform", &super::load::platform(platform)?);
    }
    let extras = parsed.text("compress").is_some() || parsed.text("format").is_some();
    let query =
        query.maybe("corten-compress", parsed.text("compress")).maybe("corten-format", parsed.text("format"));
    let response = client.send(&Request::new(Method::GET, "/images/get").query(query)).await?;
    if extras && !response.headers.contains_key(DONE) {
        return Err(Error::say("this daemon is no Corten: it does not know --compress and --format"));
    }
    output.write(response.body).await
}
