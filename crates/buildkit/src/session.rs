//! Sessions: connections on which the client has come to us, and we are the one who calls.
//!
//! The client says at the beginning which methods it answers: files of its directories, secrets, passwords. Nothing else is asked of
//! it, and nothing of it by a build of another session.

pub mod handover;
pub(crate) mod introduction;

use std::collections::HashMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::http::Uri;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::caller::{Caller, gone};
use crate::error::{Error, Result};
pub use introduction::Introduction;

/// Sessions at once: each is a connection of its own, and a client has one for each build.
const SESSIONS_MAX: usize = 256;
/// How long a build waits for its session: the client opens both at once, and either may be first.
const ARRIVAL_MAX: Duration = Duration::from_secs(5);
/// A client that answers calls.
pub(crate) struct Session {
    introduction: Introduction,
    caller: Caller,
    closed: CancellationToken,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("introduction", &self.introduction).finish_non_exhaustive()
    }
}

impl Session {
    /// What sorts the directories that are kept of this client; empty if it wants none kept.
    pub(crate) fn shared_key(&self) -> &str {
        &self.introduction.shared_key
    }

    /// Whether the client answers a method: `/moby.filesync.v1.FileSync/DiffCopy`.
    pub(crate) fn answers(&self, method: &str) -> bool {
        self.introduction.methods.iter().any(|one| one.eq_ignore_ascii_case(method))
    }

    /// A directory that the client has handed over.
    pub(crate) fn directory(&self, name: &str) -> Option<Arc<OwnedFd>> {
        self.introduction.directories.get(name).cloned()
    }

    /// What calls the client.
    pub(crate) fn caller(&self) -> (Caller, Uri) {
        (self.caller.clone(), Caller::origin())
    }

    /// Whether the client has gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Ends when the client has gone.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }
}

/// The sessions that there are.
#[derive(Debug)]
pub struct Sessions {
    table: Mutex<HashMap<String, Arc<Session>>>,
    changed: watch::Sender<()>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { table: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl Sessions {
    /// Keeps a session on a connection until the client ends it or `shutdown`.
    ///
    /// # Errors
    /// There is one of this name, there are too many, or what comes is no HTTP/2.
    pub async fn serve<S>(
        &self,
        stream: S,
        introduction: Introduction,
        shutdown: &CancellationToken,
    ) -> Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (caller, connection) = Caller::on(stream).await?;
        let id = introduction.id.clone();
        let closed = CancellationToken::new();
        let session = Session { introduction, caller, closed: closed.clone() };
        let _place = self.enter(&id, session)?;
        // The connection ends by itself only when nobody holds a sender any more, and the table does: it is the client that ends it.
        let _ends = closed.drop_guard();
        tokio::select! {
            ended = connection => ended.map_err(gone),
            () = shutdown.cancelled() => Ok(()),
        }
    }

    /// Makes a session known.
    fn enter(&self, id: &str, session: Session) -> Result<Place<'_>> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.contains_key(id) {
            return Err(Error::Invalid(format!("session {id} is there already")));
        }
        if table.len() >= SESSIONS_MAX {
            return Err(Error::Full { what: "sessions", count: SESSIONS_MAX });
        }
        table.insert(id.to_owned(), Arc::new(session));
        drop(table);
        self.changed.send_replace(());
        Ok(Place { sessions: self, id: id.to_owned() })
    }

    /// A session by its id; one that is on its way is waited for.
    pub(crate) async fn get(&self, id: &str) -> Result<Arc<Session>> {
        let mut changed = self.changed.subscribe();
        let arrival = async {
            loop {
                let found = self.table.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
                if let Some(session) = found {
                    return session;
                }
                // The sender lives as long as the table does.
                let _ = changed.changed().await;
            }
        };
        tokio::time::timeout(ARRIVAL_MAX, arrival)
            .await
            .map_err(|_| Error::Late { what: format!("the session {id:?}"), within: ARRIVAL_MAX })
    }
}

/// A session's place in the table.
struct Place<'a> {
    sessions: &'a Sessions,
    id: String,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.sessions.table.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
