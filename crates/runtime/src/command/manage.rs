//! `kill`, `delete`, `pause` and `resume`.

use super::arguments::{Arguments, Flag};
use super::directory::Directory;
use super::run::delete_held;
use super::{Global, signals};
use crate::error::Error;
use crate::lifecycle::{self, Container};

pub(super) fn kill(global: &Global, arguments: Vec<String>) -> Result<i32, Error> {
    // The signal comes behind the id, and `--all` perhaps behind that.
    let (switches, operands): (Vec<String>, Vec<String>) =
        arguments.into_iter().partition(|a| a == "--all" || a == "-a");
    let all = !switches.is_empty();
    let operands = Arguments::parse(operands, &[])?.rest();
    let (id, signal) = match operands.as_slice() {
        [id] => (id, "TERM"),
        [id, signal] => (id, signal.as_str()),
        _ => return Err(Error::Invalid("a container id and at most one signal are needed".into())),
    };
    let signal = signals::number(signal)?;
    Container::open(id, &global.state_dir(id)?)?.kill(signal, all)?;
    Ok(0)
}

pub(super) fn delete(global: &Global, arguments: Vec<String>) -> Result<i32, Error> {
    let mut options = Arguments::parse(arguments, &[Flag::switch("force").short('f')])?;
    let force = options.take("force");
    let id = options.only("container id")?;
    let Some(directory) = Directory::of(global, &id)? else {
        return if force { Ok(0) } else { Err(Error::NotFound(id)) };
    };
    if !force {
        // Of one that is not complete nobody needs to wait for the end.
        Container::open(&id, directory.path())?;
    }
    let held = if force { directory.seize()? } else { directory.hold()? };
    let Some(held) = held else {
        return if force { Ok(0) } else { Err(Error::NotFound(id)) };
    };
    match Container::open(&id, held.path()) {
        Ok(container) => delete_held(global, &container, force, held),
        // Of one whose making was interrupted there may be a directory and no record, or what is left of one.
        Err(Error::NotFound(_) | Error::Json { .. } | Error::Invalid(_)) if force => {
            lifecycle::delete_remains(held.path())
        }
        Err(error) => Err(error),
    }
    .map(|()| 0)
}

pub(super) fn pause(global: &Global, arguments: Vec<String>) -> Result<i32, Error> {
    let id = Arguments::parse(arguments, &[])?.only("container id")?;
    Container::open(&id, &global.state_dir(&id)?)?.pause().map(|()| 0)
}

pub(super) fn resume(global: &Global, arguments: Vec<String>) -> Result<i32, Error> {
    let id = Arguments::parse(arguments, &[])?.only("container id")?;
    Container::open(&id, &global.state_dir(&id)?)?.resume().map(|()| 0)
}
