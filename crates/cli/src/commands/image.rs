//! `image`.

pub mod build;
pub mod history;
pub mod import;
pub mod layers;
pub mod list;
pub mod load;
pub mod prune;
pub mod pull;
pub mod push;
pub mod remove;
pub mod save;
pub mod squash;
pub mod tag;
mod tree;

use oci::Reference;

use crate::command::Command;
use crate::error::{Error, Result};

/// The group.
pub static GROUP: Command = Command::group(
    "image",
    "Manage images",
    &[
        &build::COMMAND,
        &history::COMMAND,
        &import::COMMAND,
        &super::inspect::IMAGE,
        &layers::COMMAND,
        &list::COMMAND,
        &load::COMMAND,
        &prune::COMMAND,
        &pull::COMMAND,
        &push::COMMAND,
        &remove::COMMAND,
        &save::COMMAND,
        &squash::COMMAND,
        &tag::COMMAND,
    ],
);

/// Repository and tag that an image is to be called, as the API wants them.
pub(crate) fn parts(name: &str) -> Result<(String, String)> {
    let reference = Reference::parse_named(name).map_err(|err| Error::Message(err.to_string()))?;
    if reference.digest().is_some() {
        return Err(Error::say("cannot use a digest reference for an image that is made"));
    }
    let tag = reference.tag().unwrap_or_default().to_owned();
    Ok((reference.familiar_name(), tag))
}
