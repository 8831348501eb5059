//! Handing the listener of a seccomp filter to whoever answers for it (`SCMP_ACT_NOTIFY`).
//!
//! A process that has installed such a filter may wait for an answer at its next system call, so it cannot hand over the listener
//! itself. It writes the descriptor's number, a call that may not be listened to, and another process takes a copy.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sys::seccomp::{self, Answer};
use sys::{process, socket};

use crate::error::{Context as _, Error};
use crate::state::OCI_VERSION;

/// Who answers, and what it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listener {
    pub(crate) path: PathBuf,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) metadata: String,
}

impl Listener {
    /// Sends the listener of the process `pid`, with the specification's `ContainerProcessState`.
    pub(crate) fn hand_over(&self, pid: i32, listener: &OwnedFd, container: &Value) -> Result<(), Error> {
        let path = &self.path;
        let (parent, name) = split(path)?;
        let socket = socket::connect(parent, name).on("connect to linux.seccomp.listenerPath", path)?;
        let message = json!({
            "ociVersion": OCI_VERSION,
            "fds": ["seccompFd"],
            "pid": pid,
            "metadata": self.metadata,
            "state": container,
        })
        .to_string();
        let sent = socket::send_fds(&socket, message.as_bytes(), &[listener.as_fd()])
            .on("send to linux.seccomp.listenerPath", path)?;
        if sent < message.len() {
            let rest = process::write_all(&socket, &message.as_bytes()[sent..]);
            rest.on("send to linux.seccomp.listenerPath", path)?;
        }
        Ok(())
    }
}

/// A copy of the listener that the process behind `pidfd` has at `number`.
pub(crate) fn take(pidfd: impl AsFd, number: i32) -> Result<OwnedFd, Error> {
    process::descriptor_of(pidfd, number).on("take", "the seccomp listener")
}

/// Lets a call be made that the filter asks about: one of our own, before there is anything of the container's in the process.
pub(crate) fn let_pass(listener: &OwnedFd) -> Result<(), Error> {
    const ENOENT: i32 = 2;
    let asked = seccomp::asked(listener);
    match asked.and_then(|asked| seccomp::answer(listener, asked.id, Answer::Continue)) {
        // A signal took the caller out of it: it asks again, or has ended.
        Err(error) if error.raw_os_error() == Some(ENOENT) => Ok(()),
        other => other.on("answer at", "the seccomp listener"),
    }
}

fn split(path: &Path) -> Result<(&Path, &str), Error> {
    let name = path.file_name().and_then(|name| name.to_str());
    match (path.parent(), name) {
        (Some(parent), Some(name)) if path.is_absolute() => Ok((parent, name)),
        _ => Err(io::Error::from(io::ErrorKind::InvalidInput)).on("use linux.seccomp.listenerPath", path),
    }
}
