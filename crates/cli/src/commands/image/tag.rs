//! `tag`.

use client::query::{Query, segment};
use oci::Reference;

use crate::command::{Arity, Command, Completes};
use crate::error::{Error, Result};
use crate::flags::Parsed;
use crate::session::Session;

/// `tag`.
pub const COMMAND: Command = Command {
    name: "tag",
    also: &["image tag", "tag"],
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    arity: Arity::Exactly(2),
    completes: Completes::Images,
    ..Command::leaf(|session, parsed| Box::pin(tag(session, parsed)))
};

async fn tag(session: &Session, parsed: &Parsed) -> Result<()> {
    let source = &parsed.args[0];
    super::pull::named(source).map_err(|_| {
        Error::Message(format!(
            "Error parsing reference: {source:?} is not a valid repository/tag: invalid reference format"
        ))
    })?;
    let target = Reference::parse_named(&parsed.args[1]).map_err(|err| {
        Error::Message(format!(
            "Error parsing reference: {:?} is not a valid repository/tag: {err}",
            parsed.args[1]
        ))
    })?;
    if target.digest().is_some() {
        return Err(Error::say("refusing to create a tag with a digest reference"));
    }
    let target = target.or_latest();
    let query = Query::new().pair("repo", &target.familiar_name()).maybe("tag", target.tag());
    Ok(session.client()?.post(&format!("/images/{}/tag", segment(source)), query).await?)
}
