//! `image squash`.

use api::image::Squashed;
use client::query::{Query, segment};
use client::{Method, Request};

use crate::command::{Arity, Command, Completes, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, text};
use crate::session::Session;

/// `squash`.
pub const COMMAND: Command = Command {
    name: "squash",
    usage: "[OPTIONS] IMAGE",
    about: "Make one layer of several: the base is kept, the rest becomes smaller",
    arity: Arity::Exactly(1),
    completes: Completes::Images,
    flags: &[Group {
        title: "",
        flags: &[
            text("from", "The lowest layer that is flattened: its number in `image layers`, or its digest")
                .default("2"),
            text("platform", "Platform of the image (os[/arch[/variant]])"),
            text("tag", "Name of the new image, name[:tag]").short('t'),
        ],
    }],
    examples: &[
        Example { about: "All layers over the lowest", line: "image squash -t web:small web" },
        Example { about: "All layers into one", line: "image squash --from 1 -t web:flat web" },
    ],
    ..Command::leaf(|session, parsed| Box::pin(squash(session, parsed)))
};

async fn squash(session: &Session, parsed: &Parsed) -> Result<()> {
    let (repository, tag) = match parsed.text("tag").filter(|name| !name.is_empty()) {
        Some(name) => super::parts(name)?,
        None => (String::new(), String::new()),
    };
    let query = Query::new()
        .maybe("from", parsed.text("from"))
        .maybe("platform", parsed.text("platform"))
        .maybe("repo", Some(repository.as_str()))
        .maybe("tag", Some(tag.as_str()));
    let path = format!("/corten/images/{}/squash", segment(&parsed.args[0]));
    let made: Squashed =
        session.client()?.decoded(&Request::new(Method::POST, path).query(query)).await.map_err(foreign)?;
    session.line(&made.id)
}

/// A daemon that does not know the path is another's.
pub(super) fn foreign(err: client::Error) -> Error {
    match err.status() {
        Some(404) if err.to_string().contains("page not found") => {
            Error::say("this daemon is no Corten: it does not look into layers")
        }
        _ => err.into(),
    }
}
