//! `import`.

use api::stream::Progress;
use client::query::Query;
use client::{Body, Method, Request};

use crate::archive::{self, STANDARD};
use crate::command::{Arity, Command, Example};
use crate::error::Result;
use crate::flags::{Group, Parsed, list, text};
use crate::progress::{self, To};
use crate::session::Session;

/// `import`.
pub const COMMAND: Command = Command {
    name: "import",
    also: &["image import", "import"],
    usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    about: "Import the contents from a tarball to create a filesystem image",
    arity: Arity::Between(1, 2),
    flags: &[Group {
        title: "",
        flags: &[
            list("change", "Apply a Dockerfile instruction to the created image").short('c'),
            text("message", "Set commit message for imported image").short('m'),
            text("platform", "Platform of the image (os[/arch[/variant]])"),
        ],
    }],
    examples: &[Example {
        about: "A root filesystem: plain, or compressed by gzip, zstd, xz or bzip2",
        line: "import --change CMD=sh rootfs.tar.gz team/base:1",
    }],
    ..Command::leaf(|session, parsed| Box::pin(import(session, parsed)))
};

async fn import(session: &Session, parsed: &Parsed) -> Result<()> {
    let source = parsed.args[0].as_str();
    let (repository, tag) = match parsed.args.get(1) {
        Some(name) => super::parts(name)?,
        None => (String::new(), String::new()),
    };
    // As in Docker, what is no URL is a file.
    let remote = source.starts_with("http://") || source.starts_with("https://");
    let client = session.client()?;
    let body = if remote {
        Body::Empty
    } else {
        client.version().await?;
        Body::Archive(archive::input(Some(source))?)
    };
    let mut query = Query::new()
        .pair("fromSrc", if remote { source } else { STANDARD })
        .maybe("repo", Some(repository.as_str()))
        .maybe("tag", Some(tag.as_str()))
        .maybe("message", parsed.text("message"))
        .maybe("platform", parsed.text("platform"));
    for change in parsed.list("change") {
        query = query.pair("changes", change);
    }
    let response = client.send(&Request::new(Method::POST, "/images/create").query(query).body(body)).await?;
    progress::show(response.body.json::<Progress>(), To::Stdout).await
}
