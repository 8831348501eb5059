//! Handing the listener of a seccomp filter to whoever answers for it (`SCMP_ACT_NOTIFY`).
//!
//! A process that has installed such a filter may wait for an answer at its next system call, so it cannot hand over the listener
//! itself. It writes the descriptor's number, a call that may not be listened to, and another process takes a copy.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
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
    /// Sends the descriptor `number` of the process behind `pidfd`, with the specification's `ContainerProcessState`.
    pub(crate) fn hand_over(
        &self,
        pid: i32,
        pidfd: impl AsFd,
        number: i32,
        container: &Value,
    ) -> Result<(), Error> {
        let path = &self.path;
        let listener = process::descriptor_of(pidfd, number).on("take", "the seccomp listener")?;
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

fn split(path: &Path) -> Result<(&Path, &str), Error> {
    let name = path.file_name().and_then(|name| name.to_str());
    match (path.parent(), name) {
        (Some(parent), Some(name)) if path.is_absolute() => Ok((parent, name)),
        _ => Err(io::Error::from(io::ErrorKind::InvalidInput)).on("use linux.seccomp.listenerPath", path),
    }
}
