//! Starting a container that was made: the word to its init, and the hooks that follow.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use sys::socket;

use crate::error::{Context as _, Error};
use crate::hooks;
use crate::lifecycle::{self, Container};
use crate::state;
use crate::wire::{self, Message};

/// Lets the init that waits in `state_dir` execute the program of the container `id`, and returns when it has. The hooks that are
/// to run then are run.
pub fn start(id: &str, state_dir: &Path) -> Result<(), Error> {
    // All that is needed of it before it runs: it may be gone at any time from then on.
    let container = Container::open(id, state_dir)?;
    let path = state_dir.join(state::START);
    let socket = match socket::connect(state_dir, state::START) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            let state = Container::open(id, state_dir)?.status.word();
            return Err(Error::State { id: id.to_owned(), verb: "start", state });
        }
        other => other.on("connect to", &path)?,
    };
    // From here on it is started, whatever becomes of us.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).on("remove", path),
        _ => {}
    }
    wire::send_go(&socket)?;
    match wire::receive_all(&socket)? {
        Message::Failure { code, text } => Err(wire::failure(code, text)),
        _ => started(&container),
    }
}

/// Lets the init at the other end of `gate` execute its program, and returns when it has.
pub(crate) fn open_gate(gate: &OwnedFd) -> Result<(), Error> {
    wire::send_go(gate)?;
    match wire::receive(gate)? {
        Message::Failure { code, text } => Err(wire::failure(code, text)),
        _ => Ok(()),
    }
}

/// Runs the hooks for a container that has been started. If one fails the container is stopped (runtime-spec, "Lifecycle", step 9).
pub(crate) fn started(Container { record, init, .. }: &Container) -> Result<(), Error> {
    if record.poststart.is_empty() {
        return Ok(());
    }
    let annotations = record.annotations.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let state = hooks::state_json(&record.id, "running", init.pid, &record.bundle, Some(&annotations));
    let ran = hooks::run(&record.poststart, "poststart", &state);
    if ran.is_err() {
        // The hook's failure is what explains; what is left is found again by whoever deletes.
        let _ = record.cgroup(*init).and_then(|cgroup| lifecycle::stop(&cgroup, *init));
    }
    ran
}
