//! `network`: what there is to see. Making networks needs a daemon that has them.

pub mod list;

use crate::command::Command;

/// The group.
pub static GROUP: Command =
    Command::group("network", "Manage networks", &[&super::inspect::NETWORK, &list::COMMAND]);
