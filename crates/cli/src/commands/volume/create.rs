//! `volume create`.

use api::volume::{CreateRequest, Volume};
use client::query::Query;

use crate::command::{Arity, Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, label, list, pairs, text};
use crate::session::Session;

/// `create`.
pub const COMMAND: Command = Command {
    name: "create",
    usage: "[OPTIONS] [VOLUME]",
    about: "Create a volume",
    arity: Arity::AtMost(1),
    flags: &[Group {
        title: "",
        flags: &[
            text("driver", "Volume driver").short('d').default("\"local\""),
            list("label", "Set a label").check(label),
            pairs("opt", "Option of the driver").short('o'),
            text("name", "").hidden(),
        ],
    }],
    examples: &[Example {
        about: "A volume in memory",
        line: "volume create -o type=tmpfs -o device=tmpfs scratch",
    }],
    ..Command::leaf(|session, parsed| Box::pin(create(session, parsed)))
};

async fn create(session: &Session, parsed: &Parsed) -> Result<()> {
    let name = match (parsed.args.first(), parsed.text("name")) {
        (Some(_), Some(_)) => {
            return Err(Error::say(
                "conflicting options: either specify --name or provide positional arg, not both",
            ));
        }
        (Some(name), None) => name.clone(),
        (None, name) => name.unwrap_or_default().to_owned(),
    };
    let map = |flag| {
        let pairs = parsed.list(flag).map(|text| text.split_once('=').unwrap_or((text, "")));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    };
    let request = CreateRequest {
        driver: parsed.text("driver").unwrap_or("local").to_owned(),
        driver_opts: map("opt"),
        labels: map("label"),
        name,
        ..CreateRequest::default()
    };
    let volume: Volume = session.client()?.exchange("/volumes/create", Query::new(), &request).await?;
    session.line(&volume.name)
}
