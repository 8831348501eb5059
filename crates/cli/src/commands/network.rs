//! `network`.

pub mod connect;
pub mod create;
pub mod list;
pub mod ports;
pub mod prune;
pub mod remove;

use crate::command::Command;

/// The group.
pub static GROUP: Command = Command::group(
    "network",
    "Manage networks",
    &[
        &connect::CONNECT,
        &create::COMMAND,
        &connect::DISCONNECT,
        &super::inspect::NETWORK,
        &list::COMMAND,
        &ports::COMMAND,
        &prune::COMMAND,
        &remove::COMMAND,
    ],
);
