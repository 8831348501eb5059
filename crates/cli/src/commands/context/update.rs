//! `context update`.

use client::context::check_name;

use super::endpoint;
use crate::command::{Arity, Command, Completes};
use crate::error::Result;
use crate::flags::{Group, Parsed, text};
use crate::session::Session;

/// `update`.
pub const COMMAND: Command = Command {
    name: "update",
    usage: "[OPTIONS] CONTEXT",
    about: "Update a context",
    arity: Arity::Exactly(1),
    flags: &[Group {
        title: "",
        flags: &[
            text("description", "What it is"),
            text(
                "docker",
                "The daemon: host=…[,ca=FILE][,cert=FILE][,key=FILE][,skip-tls-verify=…], or from=CONTEXT",
            )
            .value("key=value,...")
            .check(super::check_fields),
            text("default-stack-orchestrator", "").hidden(),
        ],
    }],
    completes: Completes::Contexts,
    ..Command::leaf(|session, parsed| Box::pin(update(session, parsed)))
};

async fn update(session: &Session, parsed: &Parsed) -> Result<()> {
    let name = &parsed.args[0];
    check_name(name)?;
    let mut meta = session.store.load(name)?;
    if let Some(text) = parsed.text("description").filter(|text| !text.is_empty()) {
        meta.set_description(text);
    }
    let mut material = None;
    if let Some(text) = parsed.text("docker") {
        let (docker, files) = endpoint(&session.store, text)?;
        meta.set_docker(&docker);
        material = Some(files);
    }
    session.store.save(&meta, material.as_ref())?;
    session.line(name)?;
    session.note(&format!("Successfully updated context {name:?}"));
    Ok(())
}
