//! `image`.

pub mod history;
pub mod list;
pub mod prune;
pub mod pull;
pub mod push;
pub mod remove;
pub mod tag;
mod tree;

use crate::command::Command;

/// The group.
pub static GROUP: Command = Command::group(
    "image",
    "Manage images",
    &[
        &history::COMMAND,
        &super::inspect::IMAGE,
        &list::COMMAND,
        &prune::COMMAND,
        &pull::COMMAND,
        &push::COMMAND,
        &remove::COMMAND,
        &tag::COMMAND,
    ],
);
