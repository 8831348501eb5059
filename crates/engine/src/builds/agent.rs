//! `--mount=type=ssh`: a socket in the step, whose connections the client's agent answers.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use build::request::SharedSources;
use sys::fsx;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::error::{Error, Result};

/// Connections at once of one step to one agent: programs have one for each connection of ssh that they begin.
const CONNECTIONS_MAX: usize = 64;

/// A socket that is listened on.
#[derive(Debug)]
pub(super) struct Socket {
    /// Which agent is meant.
    pub id: String,
    listener: StdListener,
}

/// Who answers the connections, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Agents {
    tasks: JoinSet<()>,
}

/// Whose a socket is, and who may use it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// Makes a socket in a directory that nobody else can reach; its path is the second.
pub(super) fn listen(directory: &Path, name: &str, id: &str, access: Access) -> Result<(Socket, PathBuf)> {
    let path = directory.join(name);
    let make = || {
        let listener = sys::socket::listen(directory, name)?;
        let fd = fsx::open_dir(directory)?;
        fsx::chown_at(&fd, std::ffi::OsStr::new(name), access.uid, access.gid)?;
        fsx::chmod_at(&fd, std::ffi::OsStr::new(name), fsx::Mode::from_raw_mode(access.mode))?;
        Ok(StdListener::from(listener))
    };
    let listener = make().map_err(|error| Error::io("listen on", &path, error))?;
    Ok((Socket { id: id.to_owned(), listener }, path))
}

impl Agents {
    /// Answers what comes on a socket.
    pub fn serve(&mut self, socket: Socket, sources: &SharedSources) -> Result<()> {
        let Socket { id, listener } = socket;
        let listener = UnixListener::from_std(listener)
            .map_err(|error| Error::system("cannot listen for a step").with_source(error))?;
        self.tasks.spawn(answer(listener, id, Arc::clone(sources)));
        Ok(())
    }
}

async fn answer(listener: UnixListener, id: String, sources: SharedSources) {
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut carried = JoinSet::new();
    loop {
        // Ended ones are forgotten.
        while carried.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&free).acquire_owned().await else { return };
        let Ok((connection, _)) = listener.accept().await else { return };
        let (id, sources) = (id.clone(), Arc::clone(&sources));
        carried.spawn(async move {
            let connection = connection.into_std().map(OwnedFd::from);
            let result = match connection {
                Ok(connection) => sources.agent(&id, connection).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = result {
                tracing::debug!(id, error, "a connection to a client's ssh agent ended");
            }
            drop(place);
        });
    }
}
