//! `volume clone`, `snapshot`, `rename`, `export`, `import`: what Docker does not have.

use api::volume::Volume;
use client::query::{Query, segment};
use client::{Body, Method, Request};

use crate::archive::{self, Output};
use crate::command::{Arity, Command, Completes, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, text};
use crate::session::Session;
use crate::terminal;

/// `clone`.
pub const CLONE: Command = Command {
    name: "clone",
    usage: "VOLUME NEW_VOLUME",
    about: "Make a volume with the same files; they share the disk where the filesystem can (Btrfs, XFS)",
    arity: Arity::Exactly(2),
    completes: Completes::Volumes,
    examples: &[
        Example { about: "A copy to try an upgrade on", line: "volume clone pgdata pgdata-test" },
        Example { about: "Back to what a snapshot kept", line: "volume clone before-16 pgdata-again" },
    ],
    ..Command::leaf(|session, parsed| Box::pin(copy(session, parsed, "clone")))
};

/// `snapshot`.
pub const SNAPSHOT: Command = Command {
    name: "snapshot",
    usage: "VOLUME [NEW_VOLUME]",
    about: "Keep what a volume holds now as a volume that nobody can write to",
    arity: Arity::Between(1, 2),
    completes: Completes::Volumes,
    examples: &[Example { about: "Before an upgrade", line: "volume snapshot pgdata before-16" }],
    ..Command::leaf(|session, parsed| Box::pin(copy(session, parsed, "snapshot")))
};

/// `rename`.
pub const RENAME: Command = Command {
    name: "rename",
    usage: "VOLUME NEW_NAME",
    about: "Rename a volume that no container uses",
    arity: Arity::Exactly(2),
    completes: Completes::Volumes,
    examples: &[Example { about: "A better name", line: "volume rename data pgdata" }],
    ..Command::leaf(|session, parsed| Box::pin(rename(session, parsed)))
};

/// `export`.
pub const EXPORT: Command = Command {
    name: "export",
    usage: "[OPTIONS] VOLUME",
    about: "Export a volume's files as a tar archive",
    arity: Arity::Exactly(1),
    completes: Completes::Volumes,
    flags: &[Group { title: "", flags: &[text("output", "Write to a file, instead of STDOUT").short('o')] }],
    examples: &[Example { about: "A backup", line: "volume export -o pgdata.tar pgdata" }],
    ..Command::leaf(|session, parsed| Box::pin(export(session, parsed)))
};

/// `import`.
pub const IMPORT: Command = Command {
    name: "import",
    usage: "[OPTIONS] NEW_VOLUME [FILE|-]",
    about: "Make a volume of the files in a tar archive, plain or compressed by gzip or zstd",
    arity: Arity::Between(1, 2),
    examples: &[Example { about: "A backup, back again", line: "volume import pgdata pgdata.tar" }],
    ..Command::leaf(|session, parsed| Box::pin(import(session, parsed)))
};

fn path(name: &str, what: &str) -> String {
    format!("/corten/volumes/{}/{what}", segment(name))
}

async fn copy(session: &Session, parsed: &Parsed, what: &str) -> Result<()> {
    let to = parsed.args.get(1).map_or("", String::as_str);
    let request =
        Request::new(Method::POST, path(&parsed.args[0], what)).query(Query::new().pair("name", to));
    let volume: Volume = session.client()?.decoded(&request).await?;
    session.line(&volume.name)
}

async fn rename(session: &Session, parsed: &Parsed) -> Result<()> {
    let query = Query::new().pair("name", &parsed.args[1]);
    Ok(session.client()?.post(&path(&parsed.args[0], "rename"), query).await?)
}

async fn export(session: &Session, parsed: &Parsed) -> Result<()> {
    let output = Output::parse(parsed.text("output"), "failed to export volume")?;
    let body = session.client()?.stream(&path(&parsed.args[0], "export"), Query::new()).await?;
    output.write(body).await
}

async fn import(session: &Session, parsed: &Parsed) -> Result<()> {
    let input = parsed.args.get(1).map(String::as_str);
    if input.is_none_or(|input| input == archive::STANDARD) && terminal::stdin_is_terminal() {
        return Err(Error::say("requested import from stdin, but stdin is a terminal"));
    }
    let upload = archive::input(input)?;
    let client = session.client()?;
    // It cannot be sent twice, so the version is settled first.
    client.version().await?;
    let request = Request::new(Method::POST, path(&parsed.args[0], "import")).body(Body::Archive(upload));
    let volume: Volume = client.decoded(&request).await?;
    session.line(&volume.name)
}
