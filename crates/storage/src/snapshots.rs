//! Snapshots: what a container writes, on top of layers.
//!
//! A snapshot is a directory `snapshots/<id>` with `fs` (overlay's upper directory) and `work`. Its life:
//!
//! 1. [`Store::prepare_snapshot`] makes the directories. Nobody else sees it; dropped, it is gone again.
//! 2. [`Tx::add_snapshot`] makes it last, in the same transaction as the record of the container that owns it
//!    (which keeps it alive through [`Resource::Snapshot`](crate::Resource)).
//! 3. [`Store::mounts`] says what to mount, as often as the container starts. The mount is made by whoever wants it,
//!    in a mount namespace of its own.
//! 4. [`Tx::remove_snapshot`] takes it away: renamed at once, removed from the disk in the background. While somebody else
//!    keeps it, who packs it, say, it stays, and garbage collection takes it after them.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use oci::Digest;
use rusqlite::{OptionalExtension, params};
use sys::fsx::{self, Mode, Time, Usage};

use crate::error::{At, Error, Result};
use crate::fix;
use crate::layers::{IMAGE_LAYERS_MAX, Layer};
use crate::leases::Lease;
use crate::quota;
use crate::store::{Claim, Store, now_ns};
use crate::transaction::{Resource, Tx};

/// The directories of a snapshot.
pub(crate) const UPPER: &str = "fs";
const WORK: &str = "work";

/// Longest identifier: that of a container has 64 digits, a build's may say more.
const ID_BYTES_MAX: usize = 128;

/// How long what was prepared is kept if the process dies over it: the next one begins anew.
const PREPARE_TIME_MAX: Duration = Duration::from_secs(60 * 60);

/// What to mount for a snapshot, with overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounts {
    /// The directory that the names in `lower` are in.
    pub lower_base: PathBuf,
    /// The lower directories, topmost first, as short names in `lower_base`: with it as working directory, 500
    /// of them fit into the one page that `mount(2)` takes on kernels that cannot be given them one by one.
    pub lower: Vec<String>,
    /// The upper directory; `None` for a view, which cannot be written to.
    pub upper: Option<PathBuf>,
    /// Overlay's work directory, on the same filesystem as `upper`.
    pub work: Option<PathBuf>,
}

impl Mounts {
    /// The lower directories as absolute paths, topmost first.
    pub fn lower_paths(&self) -> Vec<PathBuf> {
        self.lower.iter().map(|name| self.lower_base.join(name)).collect()
    }
}

/// A snapshot whose directories are there, but that is in no transaction yet.
#[derive(Debug)]
pub struct PreparedSnapshot {
    store: Store,
    id: String,
    layers: Vec<i64>,
    /// Keeps the layer of directories, to which nothing else refers yet.
    lease: Option<i64>,
    kept: bool,
    /// Says to whoever checks the store that these directories are to have no row yet.
    _claim: Claim,
}

/// What a snapshot that is being prepared is claimed as.
pub(crate) fn claim_of(id: &str) -> String {
    format!("snapshot {id}")
}

impl PreparedSnapshot {
    /// Its identifier.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The upper directory.
    pub fn upper(&self) -> PathBuf {
        self.store.upper_path(&self.id)
    }

    /// Lets what will be written occupy `bytes` and no more; [`Error::NoQuota`] where the filesystem cannot hold anybody to that.
    pub fn limit(&self, bytes: u64) -> Result<()> {
        let path = self.store.snapshot_path(&self.id);
        match quota::confine(&[&path.join(UPPER), &path.join(WORK)], bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => Err(Error::NoQuota),
            other => other.at("limit", path),
        }
    }

    /// The directories have their row.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for PreparedSnapshot {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // This may be in a transaction that has failed, where no other can be begun: the next collection ends the lease.
        self.store.ended_leases().extend(self.lease);
        if let Err(error) = self.store.discard(&self.store.snapshot_path(&self.id)) {
            tracing::warn!(%error, "left behind");
        }
    }
}

impl Store {
    pub(crate) fn snapshot_path(&self, id: &str) -> PathBuf {
        self.path("snapshots").join(id)
    }

    fn upper_path(&self, id: &str) -> PathBuf {
        self.snapshot_path(id).join(UPPER)
    }

    /// Makes the directories of a snapshot on top of these layers, the lowest first.
    pub fn prepare_snapshot(&self, id: &str, diff_ids: &[Digest]) -> Result<PreparedSnapshot> {
        check_id(id)?;
        let layers = self.layer_stack(diff_ids)?;
        let path = self.snapshot_path(id);
        let exists = || Error::Exists { what: "snapshot", id: id.to_owned(), holder: None };
        let claim = self.claim(&claim_of(id)).ok_or_else(exists)?;
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700);
        match builder.create(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(exists());
            }
            other => other.at("make", &path)?,
        }
        let mut prepared = PreparedSnapshot {
            store: self.clone(),
            id: id.to_owned(),
            layers: layers.iter().map(|layer| layer.id).collect(),
            lease: None,
            kept: false,
            _claim: claim,
        };
        for name in [UPPER, WORK] {
            builder.create(path.join(name)).at("make", path.join(name))?;
        }
        self.copy_root_attributes(&layers, &prepared.upper())?;
        if fix::may_need_fix(&layers) {
            let lease = self.transaction(|tx| tx.begin_lease("prepare a snapshot", PREPARE_TIME_MAX))?;
            prepared.lease = Some(lease);
            prepared.layers.extend(self.directory_fix(&layers, &lease.to_string())?);
        }
        Ok(prepared)
    }

    /// The layers with these diff ids, the lowest first, as they are.
    pub(crate) fn layer_stack(&self, diff_ids: &[Digest]) -> Result<Vec<Layer>> {
        if diff_ids.len() > IMAGE_LAYERS_MAX {
            return Err(Error::Limit {
                what: "number of layers of an image",
                limit: IMAGE_LAYERS_MAX as u64,
            });
        }
        self.transaction(|tx| {
            diff_ids
                .iter()
                .map(|diff_id| tx.layer(diff_id)?.ok_or_else(|| Error::not_found("layer", diff_id.as_str())))
                .collect()
        })
    }

    /// The merged root directory has the attributes of the upper one: they are to be those of the topmost layer that
    /// says something about its root.
    fn copy_root_attributes(&self, layers: &[Layer], upper: &std::path::Path) -> Result<()> {
        let upper_fd = fsx::open_dir(upper).at("open", upper)?;
        let Some(layer) =
            layers.iter().rev().find(|layer| !layer.implied.iter().any(|path| path.as_os_str().is_empty()))
        else {
            return fsx::chmod(&upper_fd, Mode::from_raw_mode(0o755)).at("set the permissions of", upper);
        };
        let path = self.layer_path(layer.id);
        let stat = fsx::open_dir(&path).and_then(fsx::stat).at("open", &path)?;
        copy_attributes(&stat, &upper_fd).at("set the attributes of", upper)
    }

    /// What to mount for a snapshot. Layers that a loss of power may have damaged are made again first;
    /// [`Error::LayerLost`] where there is nothing to make one of.
    pub fn mounts(&self, id: &str) -> Result<Mounts> {
        let mut lower = self.whole_layers_under(id)?;
        lower.reverse();
        let path = self.snapshot_path(id);
        Ok(Mounts { upper: Some(path.join(UPPER)), work: Some(path.join(WORK)), ..self.lower(&lower) })
    }

    /// What to mount to look at an image: its layers, the lowest first, without anything to write to. The layers have to be
    /// kept alive by something else meanwhile, the lease or the image; what is made for the view the lease keeps.
    pub fn view(&self, lease: &Lease, diff_ids: &[Digest]) -> Result<Mounts> {
        let stack = self.layer_stack(diff_ids)?;
        let fix = self.directory_fix(&stack, &lease.owner())?;
        let layers: Vec<i64> = fix.into_iter().chain(stack.iter().rev().map(|layer| layer.id)).collect();
        Ok(self.lower(&layers))
    }

    /// `layers`: topmost first.
    fn lower(&self, layers: &[i64]) -> Mounts {
        Mounts {
            lower_base: self.path("layers"),
            lower: layers.iter().map(ToString::to_string).collect(),
            upper: None,
            work: None,
        }
    }

    /// What a snapshot's own files occupy, the layers not counted. This walks over them.
    pub fn snapshot_usage(&self, id: &str) -> Result<Usage> {
        let upper = self.upper_path(id);
        let usage = fsx::open_dir(&upper).and_then(fsx::usage);
        match usage {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::not_found("snapshot", id))
            }
            // The directory itself is not what the container wrote.
            other => other
                .at("measure", &upper)
                .map(|usage| Usage { inodes: usage.inodes.saturating_sub(1), ..usage }),
        }
    }

    /// Prepares a snapshot and adds it at once. For one that belongs to a record, do both yourself, in its transaction.
    pub fn create_snapshot(&self, id: &str, diff_ids: &[Digest], keeper: &Lease) -> Result<()> {
        let prepared = self.prepare_snapshot(id, diff_ids)?;
        self.transaction(|tx| {
            tx.hold(keeper, &Resource::Snapshot(id.to_owned()))?;
            tx.add_snapshot(prepared)
        })
    }

    /// Removes the files of a snapshot that is about to be given up, at once: where the disk is full, no record can be written before
    /// there is room.
    pub fn empty_snapshot(&self, id: &str) -> Result<()> {
        check_id(id)?;
        let path = self.snapshot_path(id);
        let directory = match fsx::open_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.at("open", &path)?,
        };
        fsx::remove_tree(&directory, UPPER)
            .and_then(|()| fsx::remove_tree(&directory, WORK))
            .at("empty", &path)
    }

    /// Removes a snapshot that nobody keeps, see [`Tx::remove_snapshot`].
    pub fn remove_snapshot(&self, id: &str) -> Result<()> {
        self.transaction(|tx| tx.remove_snapshot(id))
    }
}

impl Tx<'_> {
    /// Makes a prepared snapshot last. Something has to refer to it, or garbage collection takes it.
    pub fn add_snapshot(&self, prepared: PreparedSnapshot) -> Result<()> {
        self.sql
            .prepare_cached("INSERT INTO snapshots (id, created_ns) VALUES (?, ?)")?
            .execute(params![prepared.id, now_ns()])?;
        let mut insert = self
            .sql
            .prepare_cached("INSERT INTO snapshot_layers (snapshot, position, layer) VALUES (?, ?, ?)")?;
        for (position, layer) in prepared.layers.iter().enumerate() {
            // Between preparation and now a collection may have taken a layer that nobody kept.
            let known: Option<i64> = self
                .sql
                .prepare_cached("SELECT id FROM layers WHERE id = ?")?
                .query_row([layer], |row| row.get(0))
                .optional()?;
            known.ok_or_else(|| Error::not_found("layer", layer.to_string()))?;
            insert.execute(params![prepared.id, i64::try_from(position).unwrap_or(i64::MAX), layer])?;
        }
        // The rows keep them from here on.
        prepared.lease.map_or(Ok(()), |lease| self.end_lease(lease))?;
        self.keep_after(prepared);
        Ok(())
    }

    /// Removes a snapshot: out of the way when the transaction is committed, off the disk soon after. One that is not
    /// there is no error. One that somebody keeps, who reads it for an image, stays until a collection after they have let it go.
    pub fn remove_snapshot(&self, id: &str) -> Result<()> {
        check_id(id)?;
        let kept: bool = self
            .sql
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM refs WHERE kind = 'snapshot' AND target = ?)")?
            .query_row([id], |row| row.get(0))?;
        if kept {
            return Ok(());
        }
        self.sql.prepare_cached("DELETE FROM snapshots WHERE id = ?")?.execute([id])?;
        self.discard_after(self.store.snapshot_path(id));
        Ok(())
    }
}

/// Mode, owner and times of a directory.
pub(crate) fn copy_attributes(from: &fsx::Stat, to: impl std::os::fd::AsFd) -> std::io::Result<()> {
    let time = |seconds, nanoseconds| Time { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or(0) };
    fsx::chown(&to, from.st_uid, from.st_gid)?;
    fsx::chmod(&to, Mode::from_raw_mode(from.st_mode & 0o7777))?;
    #[expect(clippy::unnecessary_cast, reason = "the width of these fields differs between architectures")]
    let times = (
        time(from.st_atime as i64, from.st_atime_nsec as u64),
        time(from.st_mtime as i64, from.st_mtime_nsec as u64),
    );
    fsx::set_times(&to, times.0, times.1)
}

/// An identifier becomes the name of a directory.
fn check_id(id: &str) -> Result<()> {
    let fits = !id.is_empty()
        && id.len() <= ID_BYTES_MAX
        && id.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    if fits { Ok(()) } else { Err(Error::not_found("snapshot", id)) }
}
