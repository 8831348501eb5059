//! The store: a data root, opened by one process at a time.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use oci::{Algorithm, Digest};
use rusqlite::Connection;
use sys::lock::Lock;
use sys::path::Root;

use crate::apply::Limits;
use crate::error::{At, Error, Result};
use crate::reaper::Reaper;
use crate::schema;

/// Nothing of the store is for others: layers hold set-user-id programs of foreign systems.
const PRIVATE: u32 = 0o700;

/// How long a lock may outlive its owner: a child that was being started when the owner was killed has a copy of the
/// descriptor until it executes its program.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);

/// A content-addressed store in a directory. Cheap to clone; all clones are the same store. Calls block: on the
/// disk, and on each other for the length of a transaction.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    limits: Limits,
    boot: String,
    database: Mutex<Connection>,
    writing: Mutex<HashSet<String>>,
    written: Condvar,
    counter: AtomicU64,
    /// Leases that ended while the metadata could not be written, or was being.
    ended_leases: Mutex<Vec<i64>>,
    /// The last lease that an earlier process has begun.
    last_foreign_lease: i64,
    /// Layers are restored by one at a time.
    restoring: Mutex<()>,
    reaper: Reaper,
    // Last, so that it is released last.
    _lock: Lock,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("root", &self.inner.root).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in `root`, making it if need be, and clears what an interrupted process has left.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, Limits::default())
    }

    /// As [`Store::open`], with other limits for layers.
    pub fn open_with(root: &Path, limits: Limits) -> Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(root).at("make", root)?;
        let root = fs::canonicalize(root).at("find", root)?;
        let lock_path = root.join("lock");
        let lock = lock(&lock_path)?.ok_or_else(|| Error::Locked { path: root.clone() })?;
        let blobs = Path::new("content/blobs");
        let mut directories: Vec<PathBuf> =
            ["content", "content/ingest", "content/new", "content/uploads", "layers", "snapshots", "trash"]
                .map(PathBuf::from)
                .into();
        directories.push(blobs.to_owned());
        directories.extend(
            [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512].map(|a| blobs.join(a.as_str())),
        );
        directories.sort();
        for directory in directories {
            private_directory(&root.join(directory))?;
        }
        let database = schema::open(&root.join(schema::FILE))?;
        let last_foreign_lease =
            database.query_row("SELECT coalesce(max(id), 0) FROM leases", [], |row| row.get(0))?;
        let store = Self {
            inner: Arc::new(Inner {
                last_foreign_lease,
                reaper: Reaper::start(root.join("trash"))?,
                limits,
                boot: boot_id()?,
                database: Mutex::new(database),
                writing: Mutex::default(),
                written: Condvar::new(),
                counter: AtomicU64::new(0),
                ended_leases: Mutex::default(),
                restoring: Mutex::default(),
                root,
                _lock: lock,
            }),
        };
        store.recover()?;
        store.keep_back();
        Ok(store)
    }

    /// The data root, without symbolic links.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The data root as a directory.
    pub fn root_dir(&self) -> Result<Root> {
        Root::open(&self.inner.root).at("open", &self.inner.root)
    }

    /// What layers may be.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    pub(crate) fn boot(&self) -> &str {
        &self.inner.boot
    }

    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.inner.root.join(below)
    }

    /// A name that nothing has had since the process began.
    pub(crate) fn unique(&self) -> String {
        let count = self.inner.counter.fetch_add(1, Ordering::Relaxed);
        format!("{}-{}-{count}", now_ns(), std::process::id())
    }

    pub(crate) fn ended_leases(&self) -> MutexGuard<'_, Vec<i64>> {
        self.inner.ended_leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn last_foreign_lease(&self) -> i64 {
        self.inner.last_foreign_lease
    }

    /// The right to restore layers. Not to be asked for in a transaction.
    pub(crate) fn restoring(&self) -> MutexGuard<'_, ()> {
        self.inner.restoring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic in the middle of a transaction rolls it back: the connection is as good as before.
        self.inner.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves a file or directory out of the way at once; its removal happens in the background. What is not there is
    /// no error.
    pub(crate) fn discard(&self, path: &Path) -> Result<()> {
        let grave = self.path("trash").join(self.unique());
        match fs::rename(path, &grave) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            // Even a name may need a block that a full disk does not have: then it is removed here and now.
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return remove_now(path),
            other => other.at("remove", path)?,
        }
        self.inner.reaper.wake();
        Ok(())
    }

    /// Waits until everything thrown away so far is gone from the disk.
    pub fn wait_for_removals(&self) {
        self.inner.reaper.wait();
    }

    /// Marks `key` as being written; `None` if it is.
    pub(crate) fn claim(&self, key: &str) -> Option<Claim> {
        let mut writing = self.inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        writing.insert(key.to_owned()).then(|| Claim { store: self.clone(), key: key.to_owned() })
    }

    /// All that is being written.
    pub(crate) fn claimed(&self) -> BTreeSet<String> {
        self.inner.writing.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(crate) fn is_claimed(&self, key: &str) -> bool {
        self.inner.writing.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// Waits until nobody writes the content called `digest`, at most `limit` long; whether that is so now.
    /// After [`Error::Busy`]: then look whether the content is there.
    pub fn wait_until_idle(&self, digest: &Digest, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut writing = self.inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        while writing.contains(digest.as_str()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            writing =
                self.inner.written.wait_timeout(writing, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// The exclusive right to write something, until dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    store: Store,
    key: String,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let inner = &self.store.inner;
        inner.writing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        inner.written.notify_all();
    }
}

fn remove_now(path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let directory = sys::fsx::open_dir(parent).at("open", parent)?;
    sys::fsx::remove_tree(directory, name).at("remove", path)
}

fn private_directory(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(PRIVATE).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let metadata = fs::symlink_metadata(path).at("look at", path)?;
            if !metadata.is_dir() {
                return Err(Error::io("open", path, std::io::ErrorKind::NotADirectory.into()));
            }
            if metadata.permissions().mode() & 0o777 != PRIVATE {
                fs::set_permissions(path, Permissions::from_mode(PRIVATE)).at("protect", path)?;
            }
            Ok(())
        }
        other => other.at("make", path),
    }
}

/// Takes the lock on the data root; `None` if somebody has it.
pub(crate) fn lock(path: &Path) -> Result<Option<Lock>> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let lock = Lock::try_exclusive(path).at("open", path)?;
        if lock.is_some() || Instant::now() > deadline {
            return Ok(lock);
        }
        std::thread::sleep(LOCK_PATIENCE / 20);
    }
}

/// Which run of the kernel this is: what was not written to the disk in an earlier one may be lost.
pub(crate) fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(path).at("read", path)?.trim().to_owned())
}

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
