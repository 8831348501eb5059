//! All containers in memory, by id and by name.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::containers::actor::Command;
use crate::containers::record::Record;
use crate::error::{Error, Result};
use crate::supervisor::Shim;

/// A container as others see it: where to send what is asked of it, and its record as it last was.
#[derive(Debug)]
pub(crate) struct Handle {
    /// Its id.
    pub id: String,
    /// Its actor.
    pub mailbox: mpsc::Sender<Command>,
    /// Whose commit it stands still for: one at a time, or the first that ends lets it go on under the others.
    pub committing: Mutex<()>,
    view: RwLock<Arc<Record>>,
    shim: RwLock<Option<Shim>>,
    ended: watch::Sender<bool>,
    writers: std::sync::Mutex<Writers>,
}

/// Those who write to a container's files while it does not run.
#[derive(Debug, Default)]
struct Writers {
    /// Tells them to end.
    end: CancellationToken,
    /// Nobody may begin: it is being started.
    closed: bool,
}

/// As long as this lives the container is being started, and nobody else writes to its files.
#[derive(Debug)]
pub(crate) struct Starting(Arc<Handle>);

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.writers.lock().unwrap_or_else(PoisonError::into_inner).closed = false;
    }
}

impl Handle {
    /// A handle for a record.
    pub fn new(record: Arc<Record>, mailbox: mpsc::Sender<Command>) -> Self {
        Self {
            id: record.id.clone(),
            mailbox,
            committing: Mutex::default(),
            view: RwLock::new(record),
            shim: RwLock::new(None),
            ended: watch::Sender::new(true),
            writers: std::sync::Mutex::default(),
        }
    }

    /// It is being started: ends those who write to its files, and keeps others from it.
    pub fn starting(self: &Arc<Self>) -> Starting {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        writers.closed = true;
        std::mem::take(&mut writers.end).cancel();
        Starting(Arc::clone(self))
    }

    /// For who is about to write to its files while it does not run: tells when to end it. `None` while it is being started.
    pub fn write(&self) -> Option<CancellationToken> {
        let writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        (!writers.closed).then(|| writers.end.clone())
    }

    /// The record as it last was.
    pub fn record(&self) -> Arc<Record> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Its supervisor, while it runs.
    pub fn shim(&self) -> Option<Shim> {
        self.shim.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether its log is complete, because it does not run.
    pub fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    /// Sets or takes away its supervisor.
    pub fn set_shim(&self, shim: Option<Shim>) {
        self.ended.send_replace(shim.is_none());
        *self.shim.write().unwrap_or_else(PoisonError::into_inner) = shim;
    }

    /// Shows another record.
    pub fn show(&self, record: Arc<Record>) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = record;
    }
}

/// The containers by id and name.
#[derive(Debug, Default)]
pub(crate) struct Index {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_id: BTreeMap<String, Arc<Handle>>,
    /// Names, also those of containers that are being made.
    names: HashMap<String, String>,
}

impl Index {
    /// Finds the container that a person means: by id, by name, or by an id's beginning that fits one alone.
    pub fn find(&self, text: &str) -> Result<Arc<Handle>> {
        let missing = || Error::not_found(format!("No such container: {text}"));
        let bare = text.strip_prefix('/').unwrap_or(text);
        if bare.is_empty() {
            return Err(Error::invalid("No container name or ID supplied"));
        }
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = inner.by_id.get(bare) {
            return Ok(Arc::clone(handle));
        }
        if let Some(id) = inner.names.get(bare) {
            return inner.by_id.get(id).map(Arc::clone).ok_or_else(missing);
        }
        let mut beginning = inner
            .by_id
            .range::<str, _>((Bound::Included(bare), Bound::Unbounded))
            .take_while(|(id, _)| id.starts_with(bare));
        match (beginning.next(), beginning.next()) {
            (Some((_, handle)), None) => Ok(Arc::clone(handle)),
            (Some(_), Some(_)) => {
                Err(Error::invalid(format!("multiple IDs found with provided prefix: {bare}")))
            }
            (None, _) => Err(missing()),
        }
    }

    /// Takes a name for the container `id`, or says who has it.
    pub fn take_name(&self, name: &str, id: &str) -> Result<()> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        match inner.names.get(name) {
            Some(holder) => Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or rename) that container to be able to reuse that name."
            ))),
            None => {
                inner.names.insert(name.to_owned(), id.to_owned());
                Ok(())
            }
        }
    }

    /// Gives a name back, if the container has it.
    pub fn free_name(&self, name: &str, id: &str) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.names.get(name).is_some_and(|holder| holder == id) {
            inner.names.remove(name);
        }
    }

    /// Adds a container whose name is taken.
    pub fn insert(&self, handle: Arc<Handle>) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.by_id.insert(handle.id.clone(), handle);
    }

    /// Forgets a container and its name.
    pub fn remove(&self, id: &str) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.by_id.remove(id);
        inner.names.retain(|_, holder| holder != id);
    }

    /// All containers.
    pub fn all(&self) -> Vec<Arc<Handle>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.by_id.values().map(Arc::clone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::containers::record::tests::record;

    fn index(ids: &[(&str, &str)]) -> Index {
        let index = Index::default();
        for (id, name) in ids {
            let mut record = record();
            record.id = (*id).to_owned();
            record.name = (*name).to_owned();
            index.take_name(name, id).unwrap();
            index.insert(Arc::new(Handle::new(Arc::new(record), mpsc::channel(1).0)));
        }
        index
    }

    #[test]
    fn a_container_is_found_by_id_name_and_beginning() {
        let index = index(&[("abc1", "web"), ("abc2", "abc"), ("def0", "db")]);
        let find = |text: &str| index.find(text).map(|h| h.id.clone()).map_err(|e| (e.kind(), e.to_string()));
        assert_eq!(find("abc1").unwrap(), "abc1");
        assert_eq!(find("/web").unwrap(), "abc1");
        // A name wins over a beginning.
        assert_eq!(find("abc").unwrap(), "abc2");
        assert_eq!(find("d").unwrap(), "def0");
        assert_eq!(
            find("ab").unwrap_err(),
            (Kind::InvalidParameter, "multiple IDs found with provided prefix: ab".to_owned())
        );
        assert_eq!(find("x").unwrap_err(), (Kind::NotFound, "No such container: x".to_owned()));
        assert_eq!(find("").unwrap_err().0, Kind::InvalidParameter);
    }

    #[test]
    fn a_name_is_had_once() {
        let index = index(&[("abc1", "web")]);
        let error = index.take_name("web", "abc2").unwrap_err();
        assert_eq!(
            error.to_string(),
            "Conflict. The container name \"/web\" is already in use by container \"abc1\". You have to remove (or rename) that container to be able to reuse that name."
        );
        index.free_name("web", "other");
        assert!(index.take_name("web", "abc2").is_err());
        index.remove("abc1");
        assert!(index.take_name("web", "abc2").is_ok());
        assert!(index.find("abc1").is_err());
    }
}
