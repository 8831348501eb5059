//! `container`.

pub mod attach;
pub mod commit;
pub mod copy;
pub mod create;
pub mod diff;
pub mod exec;
pub mod export;
pub mod list;
pub mod logs;
pub mod port;
pub mod prune;
pub mod remove;
pub mod rename;
pub mod run;
pub mod start;
pub mod stats;
pub mod stop;
pub mod top;
pub mod update;
pub mod wait;

use crate::command::Command;
use client::query::segment;

/// The group.
pub static GROUP: Command = Command::group(
    "container",
    "Manage containers",
    &[
        &attach::COMMAND,
        &commit::COMMAND,
        &copy::COMMAND,
        &create::COMMAND,
        &diff::COMMAND,
        &exec::COMMAND,
        &export::COMMAND,
        &super::inspect::CONTAINER,
        &stop::KILL,
        &logs::COMMAND,
        &list::COMMAND,
        &stop::PAUSE,
        &port::COMMAND,
        &prune::COMMAND,
        &rename::COMMAND,
        &stop::RESTART,
        &remove::COMMAND,
        &run::COMMAND,
        &start::COMMAND,
        &stats::COMMAND,
        &stop::STOP,
        &top::COMMAND,
        &stop::UNPAUSE,
        &update::COMMAND,
        &wait::COMMAND,
    ],
);

/// The path of a container's resource.
pub(crate) fn path(name: &str, rest: &str) -> String {
    format!("/containers/{}{rest}", segment(name))
}
