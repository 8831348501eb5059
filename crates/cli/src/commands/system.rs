//! `system`.

pub mod check;
pub mod df;
pub mod dial;
pub mod events;
pub mod info;
pub mod prune;
pub mod version;

use crate::autostart;
use crate::command::{Arity, Command};
use crate::error::Error;

/// The group.
pub static GROUP: Command = Command::group(
    "system",
    "Manage the engine",
    &[
        &check::COMMAND,
        &df::COMMAND,
        &dial::COMMAND,
        &events::COMMAND,
        &info::COMMAND,
        &LAUNCH,
        &prune::COMMAND,
    ],
);

/// Becomes the daemon: what the command line starts when nobody listens.
static LAUNCH: Command = Command {
    name: autostart::LAUNCH,
    hidden: true,
    arity: Arity::None,
    ..Command::leaf(|_, _| {
        Box::pin(async {
            Err(Error::File { verb: "starting", path: "the daemon".into(), source: autostart::launch() })
        })
    })
};
