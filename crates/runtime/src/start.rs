//! Starting a container that was made: the word to its init, and the hooks that follow.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use sys::socket;

use crate::error::{Context as _, Error};
use crate::hooks;
use crate::lifecycle::{self, Container};
use crate::state::{self, Init, Record};
use crate::wire::{self, Message};

/// Lets the init that waits at the socket in `state_dir` execute its program, and returns when it has. The hooks that are to run then are run.
pub fn start(state_dir: &Path) -> Result<(), Error> {
    let path = state_dir.join(state::START);
    let socket = match socket::connect(state_dir, state::START) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            let id = Record::load(state_dir)?.id;
            let state = Container::open(&id, state_dir)?.status.word();
            return Err(Error::State { id, verb: "start", state });
        }
        other => other.on("connect to", &path)?,
    };
    // From here on it is started, whatever becomes of us.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).on("remove", path),
        _ => {}
    }
    wire::send(&socket, wire::GO)?;
    let answer = wire::receive_all(&socket)?;
    match answer {
        Message::Failure { code, text } => Err(wire::failure(code, text)),
        _ => started(state_dir),
    }
}

/// Lets the init at the other end of `gate` execute its program, and returns when it has.
pub(crate) fn open_gate(gate: &OwnedFd) -> Result<(), Error> {
    wire::send(gate, wire::GO)?;
    match wire::receive(gate)? {
        Message::Failure { code, text } => Err(wire::failure(code, text)),
        _ => Ok(()),
    }
}

/// Runs the hooks for a container that has been started. If one fails the container is stopped (runtime-spec, "Lifecycle", step 9).
pub(crate) fn started(state_dir: &Path) -> Result<(), Error> {
    let record = Record::load(state_dir)?;
    if record.poststart.is_empty() {
        return Ok(());
    }
    let init = Init::load(state_dir)?;
    let annotations = record.annotations.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let state = hooks::state_json(&record.id, "running", init.pid, &record.bundle, Some(&annotations));
    let ran = hooks::run(&record.poststart, "poststart", &state);
    if ran.is_err() {
        // The hook's failure is what explains; what is left is found again by whoever deletes.
        let _ = record.cgroup(init).and_then(|cgroup| lifecycle::stop(&cgroup, init));
    }
    ran
}
