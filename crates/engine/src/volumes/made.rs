//! Volumes that are made of others or of archives, and volumes that get another name.
//!
//! What is made is gathered in a directory that the sweep at the daemon's start removes. When it is complete, one
//! transaction records the volume and notes where its directory still is; then that is renamed. A daemon that is killed
//! before leaves nothing, and after it the next one renames.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use storage::archive::{Entry, Kind};
use storage::pack::{Form, Part, Tree, Writer};
use storage::{Limits, NewRecord, Tx};
use sys::fsx::{self, Time};
use sys::path::Root;
use tokio_util::task::TaskTracker;

use super::{Record, VOLUME, Volume, Volumes, copy, encode, local, none, open_root, options, turns, users};
use crate::blocking;
use crate::error::{Error, Result};
use crate::pipe::{Flow, Inlet};

/// The kind of a note that a volume's directory has still to get its place.
const PLACING: &str = "volume-placing";
/// Of which volume one is a snapshot.
const SNAPSHOT_OF: &str = "corten.snapshot.of";
/// When it was made.
const SNAPSHOT_AT: &str = "corten.snapshot.at";
/// What an archive of a volume may be: as a layer, but one's own backup need not be kept from growing.
const LIMITS: Limits = Limits {
    entries_max: 100_000_000,
    bytes_max: u64::MAX,
    ratio_max: u64::MAX,
    ratio_from: u64::MAX,
    depth_max: 512,
};

/// Where a volume's directory is that has not got its place.
#[derive(Debug, Serialize, Deserialize)]
struct Placing {
    from: String,
}

/// A directory that goes again unless it becomes a volume's.
struct Stage<'a> {
    volumes: &'a Volumes,
    name: String,
    data: Root,
    kept: bool,
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = local::discard(&self.volumes.directory, &self.name)
        {
            tracing::warn!(error = %error.chain(), "a directory stays until the daemon starts again");
        }
    }
}

impl Volumes {
    /// A volume with the same files, driver and options: where the filesystem can, they share what they hold.
    pub async fn clone_to(self: &Arc<Self>, from: &str, to: &str) -> Result<Volume> {
        let (this, from, to) = (Arc::clone(self), from.to_owned(), to.to_owned());
        blocking::run_long("clone a volume", move || this.clone_blocking(&from, &to, false)).await
    }

    /// A volume that keeps what another holds now, and that nobody can write to.
    pub async fn snapshot(self: &Arc<Self>, from: &str, to: &str) -> Result<Volume> {
        let (this, from) = (Arc::clone(self), from.to_owned());
        let to = match to {
            "" => format!("{from}-{}", Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ")),
            to => to.to_owned(),
        };
        blocking::run_long("take a snapshot of a volume", move || this.clone_blocking(&from, &to, true)).await
    }

    fn clone_blocking(self: &Arc<Self>, from: &str, to: &str, frozen: bool) -> Result<Volume> {
        let known = self.find(from)?.ok_or_else(|| none(from))?;
        self.check_new(to)?;
        if !known.is_local() {
            let driver = known.driver();
            return Err(Error::not_implemented(format!(
                "cloning volumes of the driver {driver} is not supported"
            )));
        }
        let mut record = Record { created: Timestamp::now(), frozen, ..known.clone() };
        // What is mounted somewhere else is there for everybody: the copy is a directory of its own, and keeps its bound.
        let bound = options::size(&record.options)?;
        record.options.retain(|key, _| bound.is_some() && key == options::SIZE);
        record.labels.remove(super::ANONYMOUS);
        if frozen {
            record.labels.insert(SNAPSHOT_OF.to_owned(), from.to_owned());
            record.labels.insert(SNAPSHOT_AT.to_owned(), record.created.to_string());
        }
        let source = self.hold(from)?;
        let stage = self.stage()?;
        if let Some(bytes) = bound {
            local::limit(&self.directory, &stage.name, bytes)?;
        }
        copy::copy_all(open_root(source.path())?.as_fd(), stage.data.as_fd())
            .map_err(|e| Error::system(format!("cannot copy volume {from}")).with_source(e))?;
        drop(source);
        self.keep(stage, to, &record)
    }

    /// Gives a volume that no container uses another name.
    pub async fn rename(self: &Arc<Self>, from: &str, to: &str) -> Result<()> {
        let (this, from, to) = (Arc::clone(self), from.to_owned(), to.to_owned());
        blocking::run("rename a volume", move || this.rename_blocking(&from, &to)).await
    }

    fn rename_blocking(&self, from: &str, to: &str) -> Result<()> {
        let mut record = self.find(from)?.ok_or_else(|| none(from))?;
        self.check_new(to)?;
        if !record.is_local() {
            let driver = record.driver();
            return Err(Error::not_implemented(format!(
                "renaming volumes of the driver {driver} is not supported"
            )));
        }
        record.labels.remove(super::ANONYMOUS);
        // Always in the same order, so that two that swap names do not wait for each other.
        let (first, second) = (self.turns.of(from.min(to)), self.turns.of(from.max(to)));
        let _first = turns::lock(&first);
        let _second = (from != to).then(|| turns::lock(&second));
        self.finish_removal_in_turn(to)?;
        self.make_room(to)?;
        let json = encode(to, &record)?;
        let outcome = self.store.durable_transaction(|tx| {
            let Some(_) = tx.record(VOLUME, from)? else { return Ok(Err(none(from))) };
            if let Some(users) = users(tx)?.remove(from) {
                let users = users.join(", ");
                return Ok(Err(Error::conflict(format!("rename {from}: volume is in use - [{users}]"))));
            }
            if tx.record(VOLUME, to)?.is_some() {
                return Ok(Err(taken(to)));
            }
            tx.delete_record(VOLUME, from)?;
            tx.insert_record(&NewRecord { kind: VOLUME, id: to, name: None, json: &json })?;
            place(tx, to, from).map(Ok)
        })?;
        outcome?;
        self.finish_place(to, from)?;
        self.emit("rename", to, record.driver());
        Ok(())
    }

    /// All files of a volume, as an archive.
    pub async fn export(self: &Arc<Self>, name: &str, tasks: &TaskTracker) -> Result<Flow> {
        let (this, owned) = (Arc::clone(self), name.to_owned());
        // What is not there is told by the status.
        blocking::run("look for a volume", move || this.find(&owned)?.ok_or_else(|| none(&owned))).await?;
        let (this, name) = (Arc::clone(self), name.to_owned());
        Ok(Flow::start(tasks, "export a volume", move |outlet| {
            let held = this.hold(&name)?;
            let failed = |e: io::Error| Error::system(format!("cannot read volume {name}")).with_source(e);
            let data = fsx::open_dir(held.path()).map_err(failed)?;
            let stat = fsx::stat(&data).map_err(failed)?;
            let mut archive = Writer::new(outlet);
            archive.entry(&root_entry(&stat)).map_err(failed)?;
            Tree { parts: vec![Part::new(data, None)], base: Vec::new(), form: Form::Plain }.pack(archive)?;
            Ok(())
        }))
    }

    /// A new volume of what an archive holds, plain or compressed.
    pub async fn import(self: &Arc<Self>, name: &str, inlet: Inlet) -> Result<Volume> {
        let (this, name) = (Arc::clone(self), name.to_owned());
        blocking::run_paced("import a volume", move || this.import_blocking(&name, inlet)).await
    }

    fn import_blocking(&self, name: &str, inlet: impl Read + Send) -> Result<Volume> {
        self.check_new(name)?;
        let stage = self.stage()?;
        let archive = storage::archive::open(inlet, &LIMITS)?;
        storage::apply::unpack(archive, &stage.data, &LIMITS)
            .map_err(|e| Error::invalid(format!("cannot import volume {name}: {e}")).with_source(e))?;
        let record = Record { created: Timestamp::now(), ..Record::empty() };
        self.keep(stage, name, &record)
    }

    fn check_new(&self, name: &str) -> Result<()> {
        if name.is_empty() {
            return Err(Error::invalid("the new volume needs a name"));
        }
        local::check_name(name)?;
        if self.find(name)?.is_some() { Err(taken(name)) } else { Ok(()) }
    }

    /// An empty directory of which the next start of the daemon knows that nobody needs it.
    fn stage(&self) -> Result<Stage<'_>> {
        let name = local::stage(&self.directory)?;
        let data = open_root(&self.directory.join(&name).join(local::DATA))?;
        Ok(Stage { volumes: self, name, data, kept: false })
    }

    /// What was gathered is a volume now.
    fn keep(&self, mut stage: Stage<'_>, name: &str, record: &Record) -> Result<Volume> {
        fsx::sync_filesystem(&stage.data)
            .map_err(|e| Error::io("write", &self.directory.join(&stage.name), e))?;
        let turn = self.turns.of(name);
        let _turn = turns::lock(&turn);
        let json = encode(name, record)?;
        self.finish_removal_in_turn(name)?;
        self.make_room(name)?;
        let new = self.store.durable_transaction(|tx| {
            if tx.record(VOLUME, name)?.is_some() {
                return Ok(false);
            }
            tx.insert_record(&NewRecord { kind: VOLUME, id: name, name: None, json: &json })?;
            place(tx, name, &stage.name).map(|()| true)
        })?;
        if !new {
            return Err(taken(name));
        }
        stage.kept = true;
        self.finish_place(name, &stage.name)?;
        self.emit("create", name, record.driver());
        Ok(self.show(name.to_owned(), record.clone()))
    }

    /// Sees to it that nothing is where a volume is to be; for who has its turn.
    fn make_room(&self, name: &str) -> Result<()> {
        // What an interrupted creation left is empty.
        if self.find(name)?.is_some() || local::clear_away(&self.directory, name)? {
            return Ok(());
        }
        Err(Error::conflict(format!(
            "there are files in {} that belong to no volume: remove them first",
            self.directory.join(name).display()
        )))
    }

    fn finish_place(&self, name: &str, from: &str) -> Result<()> {
        // Somebody may have looked into it, or something is left mounted.
        options::unmount(&self.data(from))?;
        let root = open_root(&self.directory)?;
        match fsx::rename_new_at(&root, from, &root, name) {
            // It has its place already.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(|e| Error::io("rename", &self.directory.join(from), e))?,
        }
        self.store.transaction(|tx| tx.delete_record(PLACING, name))?;
        Ok(())
    }

    /// Gives their places to directories that a daemon did not get to before it was killed.
    pub(super) fn finish_places(&self) -> Result<()> {
        for note in self.store.transaction(|tx| tx.records(PLACING))? {
            match serde_json::from_slice::<Placing>(&note.json) {
                Ok(placing) => {
                    if let Err(error) = self.finish_place(&note.id, &placing.from) {
                        tracing::warn!(volume = %note.id, error = %error.chain(), "a volume's files are not in their place");
                    }
                }
                Err(error) => tracing::warn!(volume = %note.id, %error, "cannot read where a volume is"),
            }
        }
        Ok(())
    }
}

fn place(tx: &Tx<'_>, name: &str, from: &str) -> storage::Result<()> {
    // Names have no character that JSON writes otherwise.
    let json = format!("{{\"from\":\"{from}\"}}");
    tx.put_record(&NewRecord { kind: PLACING, id: name, name: None, json: json.as_bytes() })
}

fn taken(name: &str) -> Error {
    Error::conflict(format!("there is a volume {name} already"))
}

/// The directory itself: whose it is matters to who runs in the container.
fn root_entry(stat: &fsx::Stat) -> Entry {
    Entry {
        path: b"./".to_vec(),
        kind: Kind::Directory,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: 0,
        mtime: Time { seconds: stat.st_mtime, nanoseconds: 0 },
        atime: None,
        link: Vec::new(),
        device: (0, 0),
        xattrs: Vec::new(),
        sparse: None,
    }
}

impl Record {
    fn empty() -> Self {
        Self {
            created: Timestamp::UNIX_EPOCH,
            labels: Default::default(),
            options: Default::default(),
            driver: String::new(),
            frozen: false,
        }
    }
}
