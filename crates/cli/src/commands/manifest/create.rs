//! `manifest create`.

use super::lists::Lists;
use super::remote::Registries;
use super::{reference, reference_for};
use crate::command::{Arity, Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, switch};
use crate::session::Session;

/// `manifest create`.
pub const COMMAND: Command = Command {
    name: "create",
    usage: "MANIFEST_LIST MANIFEST [MANIFEST...]",
    about: "Create a local manifest list for annotating and pushing to a registry",
    arity: Arity::AtLeast(2),
    flags: &[Group {
        title: "",
        flags: &[
            switch("amend", "Amend an existing manifest list").short('a'),
            switch("insecure", "Allow communication with an insecure registry"),
        ],
    }],
    examples: &[Example {
        about: "One name for the images of two processors",
        line: "manifest create r.example/app:1 r.example/app:1-amd64 r.example/app:1-arm64",
    }],
    ..Command::leaf(|session, parsed| Box::pin(run(session, parsed)))
};

async fn run(session: &Session, parsed: &Parsed) -> Result<()> {
    let list = reference_for("error parsing name for manifest list", &parsed.args[0])?;
    let lists = Lists::of(&session.config);
    if lists.all(&list)?.is_some() && !parsed.on("amend") {
        return Err(Error::say("refusing to amend an existing manifest list with no --amend flag"));
    }
    for name in &parsed.args[1..] {
        let named = reference(name)?;
        let entry = match lists.entry(&list, &named)? {
            Some(entry) => entry,
            None => Registries::new(session, &named, parsed.on("insecure"))?.one(&named).await?,
        };
        lists.save(&list, &named, &entry)?;
    }
    session.line(&format!("Created manifest list {list}"))
}
