//! `context create`.

use client::context::{DEFAULT, DockerEndpoint, Material, Meta, check_name};

use super::{default_address, endpoint};
use crate::command::{Arity, Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, text};
use crate::session::Session;

/// `create`.
pub const COMMAND: Command = Command {
    name: "create",
    usage: "[OPTIONS] CONTEXT",
    about: "Create a context",
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
            text("from", "Copy another context"),
            text("default-stack-orchestrator", "").hidden(),
        ],
    }],
    examples: &[
        Example {
            about: "A daemon behind ssh",
            line: "context create build --docker host=ssh://me@build.example",
        },
        Example {
            about: "A daemon with TLS",
            line: "context create far --docker host=tcp://far:2376,ca=ca.pem,cert=cert.pem,key=key.pem",
        },
    ],
    ..Command::leaf(|session, parsed| Box::pin(create(session, parsed)))
};

async fn create(session: &Session, parsed: &Parsed) -> Result<()> {
    let name = &parsed.args[0];
    check_name(name)?;
    if session.store.exists(name) {
        return Err(Error::Message(format!("context {name:?} already exists")));
    }
    let (docker, material) = match (parsed.text("docker"), parsed.text("from")) {
        (Some(_), Some(_)) => return Err(Error::say("cannot use --docker flag when --from is set")),
        (Some(text), None) => endpoint(&session.store, text)?,
        (None, Some(DEFAULT)) | (None, None) if parsed.text("from").is_some() => {
            (DockerEndpoint { host: default_address(session), skip_tls_verify: false }, Material::new())
        }
        (None, Some(from)) => endpoint(&session.store, &format!("from={from}"))?,
        (None, None) => return Err(Error::say("docker endpoint configuration is required")),
    };
    let copied = parsed
        .text("from")
        .filter(|from| *from != DEFAULT)
        .map(|from| session.store.load(from))
        .transpose()?;
    let description = match (parsed.text("description"), &copied) {
        (Some(text), _) => text.to_owned(),
        (None, Some(meta)) => meta.description().to_owned(),
        (None, None) => String::new(),
    };
    let meta = Meta::new(name, &description, Some(&docker));
    session.store.save(&meta, Some(&material))?;
    session.line(name)?;
    session.note(&format!("Successfully created context {name:?}"));
    Ok(())
}
