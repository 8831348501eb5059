//! `manifest`: lists of images for several platforms, put together here and given to a registry.
//!
//! No daemon takes part: lists lie beside the user's configuration, where Docker's own command keeps them, and
//! registries are asked from here.

pub mod annotate;
pub mod create;
pub mod inspect;
pub mod push;
pub mod rm;

mod lists;
mod remote;

use oci::Reference;

use crate::command::Command;
use crate::error::{Error, Result};

/// The group.
pub static GROUP: Command = Command::group(
    "manifest",
    "Manage Docker image manifests and manifest lists",
    &[&annotate::COMMAND, &create::COMMAND, &inspect::COMMAND, &push::COMMAND, &rm::COMMAND],
);

/// The reference that a word means.
fn reference(text: &str) -> Result<Reference> {
    Reference::parse_named(text).map(Reference::or_latest).map_err(|err| Error::Message(err.to_string()))
}

/// The same, with what it was for.
fn reference_for(what: &str, text: &str) -> Result<Reference> {
    reference(text).map_err(|err| Error::Message(format!("{what} {text}: {err}")))
}
