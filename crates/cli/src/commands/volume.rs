//! `volume`.

pub mod create;
pub mod list;
pub mod made;
pub mod prune;
pub mod remove;

use crate::command::Command;

/// The group.
pub static GROUP: Command = Command::group(
    "volume",
    "Manage volumes",
    &[
        &made::CLONE,
        &create::COMMAND,
        &made::EXPORT,
        &made::IMPORT,
        &super::inspect::VOLUME,
        &list::COMMAND,
        &prune::COMMAND,
        &remove::COMMAND,
        &made::RENAME,
        &made::SNAPSHOT,
    ],
);
