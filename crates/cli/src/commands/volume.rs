//! `volume`.

pub mod create;
pub mod list;
pub mod prune;
pub mod remove;

use crate::command::Command;

/// The group.
pub static GROUP: Command = Command::group(
    "volume",
    "Manage volumes",
    &[&create::COMMAND, &super::inspect::VOLUME, &list::COMMAND, &prune::COMMAND, &remove::COMMAND],
);
