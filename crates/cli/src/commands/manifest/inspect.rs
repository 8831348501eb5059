//! `manifest inspect`.

use serde_json::Value;

use super::lists::{Entry, Lists, index, missing, pretty};
use super::reference;
use super::remote::{Found, Registries};
use crate::command::{Arity, Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, switch};
use crate::session::Session;

/// `manifest inspect`.
pub const COMMAND: Command = Command {
    name: "inspect",
    usage: "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    about: "Display an image manifest, or manifest list",
    arity: Arity::Between(1, 2),
    flags: &[Group {
        title: "",
        flags: &[
            switch("insecure", "Allow communication with an insecure registry"),
            switch("verbose", "Output additional info including layers and platform").short('v'),
        ],
    }],
    examples: &[Example {
        about: "For which platforms an image is to be had",
        line: "manifest inspect --verbose debian:12",
    }],
    ..Command::leaf(|session, parsed| Box::pin(run(session, parsed)))
};

async fn run(session: &Session, parsed: &Parsed) -> Result<()> {
    let (lists, verbose) = (Lists::of(&session.config), parsed.on("verbose"));
    if let [list, image] = parsed.args.as_slice() {
        let (list, image) = (reference(list)?, reference(image)?);
        let entry = lists.entry(&list, &image)?.ok_or_else(|| missing(&image))?;
        return session.out(shown(&entry, verbose)?);
    }
    let named = reference(&parsed.args[0])?;
    let entries = match lists.all(&named)? {
        Some(entries) => entries,
        None => match Registries::new(session, &named, parsed.on("insecure"))?.find(&named, true).await? {
            Found::One(entry) => return session.out(shown(&entry, verbose)?),
            Found::Several(entries) => entries,
        },
    };
    let mut text = if verbose { pretty(&entries, "\t")? } else { index(&entries)?.1 };
    text.push(b'\n');
    session.out(text)
}

fn shown(entry: &Entry, verbose: bool) -> Result<Vec<u8>> {
    let mut text = if verbose {
        pretty(entry, "\t")?
    } else {
        let document: Value = serde_json::from_slice(&entry.bytes()?).map_err(|err| {
            Error::Message(format!("cannot read the manifest of {}: {err}", entry.reference))
        })?;
        pretty(&document, "\t")?
    };
    text.push(b'\n');
    Ok(text)
}
