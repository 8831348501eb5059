//! The metadata's tables, and their history.
//!
//! ```text
//! blobs            what is in content/blobs            digest -> size, what it is, when
//! layers           what is in layers/<id>              diff id -> id, sizes, implied directories
//! snapshots        what is in snapshots/<id>           a container's upper directory
//!   snapshot_layers                                    the layers under it, the lowest at position 0
//! images           what was pulled or built            id = digest of index or manifest
//!   names                                              canonical reference -> image
//! records          the engine's own documents          (kind, id) -> name, json
//! leases           work in progress                    until when
//! refs             what keeps what alive               (image | record | lease) -> (blob | layer | snapshot)
//! parts            which image a manifest or a configuration belongs to
//! totals           counters of all these, and of what images have
//! loose            what may be garbage: what came, or lost one that kept it, since the last collection
//! repositories     what the registry serves            name -> when
//!   repository_blobs                                   (repository, digest) -> when a client last made sure of it
//!   repository_manifests                               (repository, digest) -> what it is, and about what
//!   repository_contents                                (repository, manifest) -> what the manifest needs
//!   repository_tags                                    (repository, tag) -> manifest
//!   repository_uploads                                 what is in content/uploads/<id>
//! ```
//! `refs` has the repositories among its owners. Garbage is what no row of `refs` leads to: see [`crate::gc`]. Counters, `parts` and `loose` are
//! kept by triggers, whoever writes: so they are right in every transaction, and nobody can forget them.

use std::fs::Permissions;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use crate::error::{At, Error, Result};

/// The database's file in the data root.
pub const FILE: &str = "meta.db";

/// How long a statement waits for another process that reads the file (a backup, a curious administrator).
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// Pages that the log may grow by before they are moved into the database: a megabyte.
const WAL_PAGES: i64 = 256;

/// Statements that are kept prepared: more than there are.
const STATEMENTS: usize = 256;

/// Every step of the schema. A step that was released is never changed; a new one is added.
const STEPS: &[&str] = &[
    "
    CREATE TABLE blobs (
        digest TEXT PRIMARY KEY, size INTEGER NOT NULL, class TEXT NOT NULL,
        diff_id TEXT, created_ns INTEGER NOT NULL, unsynced_boot TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE layers (
        id INTEGER PRIMARY KEY AUTOINCREMENT, diff_id TEXT NOT NULL UNIQUE,
        entries INTEGER NOT NULL, bytes INTEGER NOT NULL, disk_bytes INTEGER NOT NULL,
        implied BLOB NOT NULL, created_ns INTEGER NOT NULL, unsynced_boot TEXT
    ) STRICT;
    CREATE TABLE snapshots (id TEXT PRIMARY KEY, created_ns INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE snapshot_layers (
        snapshot TEXT NOT NULL REFERENCES snapshots (id) ON DELETE CASCADE,
        position INTEGER NOT NULL, layer INTEGER NOT NULL, PRIMARY KEY (snapshot, position)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX snapshot_layers_layer ON snapshot_layers (layer);
    CREATE TABLE images (
        id TEXT PRIMARY KEY, json TEXT NOT NULL, created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE names (
        name TEXT PRIMARY KEY, image TEXT NOT NULL REFERENCES images (id), updated_ns INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX names_image ON names (image);
    CREATE TABLE records (
        kind TEXT NOT NULL, id TEXT NOT NULL, name TEXT, json BLOB NOT NULL,
        created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL, PRIMARY KEY (kind, id)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX records_name ON records (kind, name) WHERE name IS NOT NULL;
    CREATE TABLE leases (
        id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL, expires_ns INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE refs (
        owner_kind TEXT NOT NULL, owner TEXT NOT NULL, kind TEXT NOT NULL, target TEXT NOT NULL,
        PRIMARY KEY (owner_kind, owner, kind, target)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX refs_target ON refs (kind, target);
",
    include_str!("schema/counters.sql"),
    include_str!("schema/repositories.sql"),
];

/// Opens the database and brings it up to date.
pub fn open(path: &Path) -> Result<Connection> {
    let corrupt = |error: Error| match error {
        Error::CorruptMetadata { source, .. } => Error::CorruptMetadata { path: path.to_owned(), source },
        Error::ReadOnly { verb, .. } => Error::ReadOnly { verb, path: path.to_owned() },
        other => other,
    };
    open_and_migrate(path).map_err(corrupt)
}

/// Whether the database is of this version of the schema: one of another can be opened by a daemon alone.
pub fn check_version(connection: &Connection, path: &Path) -> Result<()> {
    let known = STEPS.len() as i64;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found == known {
        return Ok(());
    }
    Err(Error::NewerMetadata { path: path.to_owned(), found, known })
}

/// Gives the log's room back to a full disk.
pub fn shrink(connection: &Connection) {
    let shrunk = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    if let Err(error) = shrunk {
        tracing::debug!(%error, "the log of the metadata stays as long as it is");
    }
}

fn open_and_migrate(path: &Path) -> Result<Connection> {
    // The log and its index get the permissions that the database has when they are made.
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    file.and_then(|file| file.set_permissions(Permissions::from_mode(0o600))).at("open", path)?;
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
    let known = STEPS.len() as i64;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(Error::NewerMetadata { path: path.to_owned(), found, known });
    }
    if found < known {
        let transaction = connection.transaction()?;
        for step in &STEPS[usize::try_from(found).unwrap_or(0)..] {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", known)?;
        transaction.commit()?;
    }
    // Reads the pages of the schema and the small tables; a thorough check of a large file would delay every start.
    let _: Option<String> =
        connection.query_row("SELECT name FROM sqlite_schema LIMIT 1", [], |row| row.get(0)).optional()?;
    Ok(connection)
}
