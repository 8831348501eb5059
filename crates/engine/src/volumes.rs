//! Volumes: directories that outlive containers, `<data-root>/volumes/<name>/_data`.
//!
//! A volume is a record in the store and a directory. The record comes last when a volume is made and goes first when it is
//! removed, so that a record always has its directory; a note in its place says that the directory has still to go. Which containers use a volume is read from their records in
//! the same transaction that removes it: a container is either seen or does not find the volume.

mod copy;
mod holds;
mod image;
mod local;
mod made;
mod options;
pub mod plugin;
mod prune;
mod told;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use api::Filters;
use api::volume::{CreateRequest, PruneReport, Volume};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use storage::{NewRecord, Store, Tx};

use crate::blocking;
use crate::containers::next::Next;
use crate::containers::record::{MountKind, MountRecord};
use crate::context::CONTAINER;
use crate::error::{Error, Result};
use crate::events::{Events, Subject};
use crate::names;

pub use holds::Hold;
pub use image::tree as image_tree;
pub use image::writable_tree;
pub use plugin::Places as PluginPlaces;

/// The kind of a volume's record in the store.
const VOLUME: &str = "volume";
/// The kind of the note that is left of a volume's record until its directory is removed, too.
const DOOMED: &str = "doomed-volume";
/// The engine's own driver.
const LOCAL: &str = "local";
/// The label that Docker puts on volumes that nobody named; `prune` goes by it.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// The volumes.
#[derive(Debug)]
pub struct Volumes {
    store: Store,
    events: Arc<Events>,
    /// `<data-root>/volumes`.
    directory: PathBuf,
    /// One at a time copies an image's files into a volume, or mounts and unmounts it.
    turns: turns::Turns,
    /// One at a time makes a volume ready for a container that starts.
    starts: turns::Turns<tokio::sync::Mutex<()>>,
    /// What an earlier daemon's containers hold of plugins' volumes, until it is settled or in use again: notes' identifiers.
    unsettled: Mutex<BTreeSet<String>>,
    /// Where drivers that are programs of their own are found.
    plugins: plugin::Places,
}

/// How a volume that is not there is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct New {
    /// Its driver; empty for the engine's own.
    pub driver: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its driver's options.
    pub options: BTreeMap<String, String>,
}

/// A volume as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    created: Timestamp,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
    /// Empty for the engine's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    driver: String,
    /// Whether it is a snapshot, which nobody writes to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    frozen: bool,
}

impl Record {
    fn is_local(&self) -> bool {
        matches!(self.driver.as_str(), "" | LOCAL)
    }

    fn driver(&self) -> &str {
        if self.is_local() { LOCAL } else { &self.driver }
    }

    /// Whether it has to be mounted before it is used.
    fn is_mounted(&self) -> bool {
        !self.is_local() || options::mounts(&self.options)
    }

    fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS)
    }
}

/// A volume that is certainly there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensured {
    /// Its name.
    pub name: String,
    /// Its directory on the host.
    pub mountpoint: String,
    /// Whether it was made just now.
    pub new: bool,
    /// Its driver.
    pub driver: String,
    /// Whether nobody may write to it.
    pub frozen: bool,
}

/// A volume that nobody named, made for a container: its record is to come with the container's, so that a daemon that is
/// killed in between leaves neither. Its empty directory is cleared away at the next start.
#[derive(Debug)]
pub(crate) struct Unrecorded {
    /// Its name.
    pub name: String,
    /// Its directory on the host.
    pub mountpoint: String,
    /// Its driver.
    pub driver: String,
    json: Vec<u8>,
}

/// What of a container's record concerns volumes.
#[derive(Deserialize)]
struct Uses {
    #[serde(default)]
    mounts: Vec<MountRecord>,
    /// From its next start on.
    next: Option<Next>,
}

impl Volumes {
    /// Opens the volumes of a store, and clears away what an interrupted process left.
    pub fn open(store: Store, events: Arc<Events>, plugins: plugin::Places) -> Result<Self> {
        let directory = store.root().join("volumes");
        local::open(&directory)?;
        let (turns, starts, unsettled) = (turns::Turns::default(), turns::Turns::default(), Mutex::default());
        let volumes = Self { store, events, directory, turns, starts, unsettled, plugins };
        volumes.finish_places()?;
        volumes.finish_removals(false)?;
        let known = volumes.all()?;
        local::sweep(&volumes.directory, |name| known.contains_key(name))?;
        Ok(volumes)
    }

    /// Makes a volume, or gives the one that has the name already.
    pub async fn create(self: &Arc<Self>, request: CreateRequest) -> Result<Volume> {
        let this = Arc::clone(self);
        blocking::run("create a volume", move || this.create_blocking(request)).await
    }

    fn create_blocking(&self, request: CreateRequest) -> Result<Volume> {
        let fail = |error: Error| creating(&request.name, error);
        if request.cluster_volume_spec.is_some() {
            return Err(fail(Error::not_implemented("cluster volumes are not supported")));
        }
        let new = New {
            driver: request.driver.clone(),
            labels: request.labels.clone(),
            options: request.driver_opts.clone(),
        };
        let made = self.ensure_blocking(&request.name, new)?;
        self.inspect_blocking(&made.name)
    }

    /// Makes sure that a volume called `name` is there; with an empty name a new one. A volume that is there stays as it is.
    pub fn ensure_blocking(&self, name: &str, new: New) -> Result<Ensured> {
        if name.is_empty() {
            let made = self.make_anonymous(new)?;
            // One that nobody named is of no use after a loss of power, when its container has ended.
            self.store.transaction(|tx| record(tx, &made))?;
            self.made(&made);
            return Ok(Ensured {
                name: made.name,
                mountpoint: made.mountpoint,
                new: true,
                driver: made.driver,
                frozen: false,
            });
        }
        local::check_name(name)?;
        if let Some(known) = self.find(name)? {
            if !new.driver.is_empty() && new.driver != known.driver() {
                return Err(creating(name, Error::conflict("volume name must be unique")));
            }
            if known.is_local() {
                options::check(&new.options).map_err(|error| creating(name, error))?;
            }
            let mountpoint = self.mountpoint_of(name, &known);
            let driver = known.driver().to_owned();
            return Ok(Ensured {
                name: name.to_owned(),
                mountpoint,
                new: false,
                driver,
                frozen: known.frozen,
            });
        }
        let turn = self.turns.of(name);
        let _turn = turns::lock(&turn);
        // One of the name that is being removed is not made to live on.
        self.finish_removal_in_turn(name)?;
        let made = self.make(name.to_owned(), new)?;
        // Somebody may have made it in the meantime.
        let new = self.store.durable_transaction(|tx| match tx.record(VOLUME, name)? {
            Some(_) => Ok(false),
            None => record(tx, &made).map(|()| true),
        })?;
        if new {
            self.made(&made);
        }
        Ok(Ensured { name: made.name, mountpoint: made.mountpoint, new, driver: made.driver, frozen: false })
    }

    /// Makes a volume that nobody named, but for its record: see [`record`], and then tell [`Volumes::made`].
    pub(crate) fn make_anonymous(&self, mut new: New) -> Result<Unrecorded> {
        new.labels.insert(ANONYMOUS.to_owned(), String::new());
        self.make(names::new_id()?, new)
    }

    fn make(&self, name: String, new: New) -> Result<Unrecorded> {
        let New { driver, labels, options } = new;
        let driver = if driver == LOCAL { String::new() } else { driver };
        let record = Record { created: Timestamp::now(), labels, options, driver, frozen: false };
        match self.plugin_of(&record).map_err(|error| creating(&name, error))? {
            Some(plugin) => {
                plugin.create(&name, &record.options).map_err(|error| creating(&name, error))?;
            }
            None => {
                options::check(&record.options).map_err(|error| creating(&name, error))?;
                let size = options::size(&record.options)?;
                local::make(&self.directory, &name)?;
                if let Some(bytes) = size
                    && let Err(error) = local::limit(&self.directory, &name, bytes)
                {
                    local::remove(&self.directory, &name)?;
                    return Err(creating(&name, error));
                }
            }
        }
        let json = encode(&name, &record)?;
        let mountpoint = self.mountpoint_of(&name, &record);
        Ok(Unrecorded { mountpoint, driver: record.driver().to_owned(), name, json })
    }

    /// The driver of a volume, where it is a program of its own.
    fn plugin_of(&self, record: &Record) -> Result<Option<plugin::Plugin>> {
        if record.is_local() { Ok(None) } else { self.plugins.find(&record.driver).map(Some) }
    }

    /// Where a volume is, as far as that is known while nobody uses it.
    fn mountpoint_of(&self, name: &str, record: &Record) -> String {
        match self.plugin_of(record) {
            Ok(None) => self.mountpoint(name),
            Ok(Some(plugin)) => {
                plugin.get(name).ok().flatten().map(|told| told.mountpoint).unwrap_or_default()
            }
            Err(_) => String::new(),
        }
    }

    /// Tells that a volume has come to be.
    pub(crate) fn made(&self, volume: &Unrecorded) {
        self.emit("create", &volume.name, &volume.driver);
    }

    /// Removes a volume that was not recorded after all.
    pub(crate) fn give_up(&self, volume: &Unrecorded) -> Result<()> {
        if volume.driver != LOCAL {
            return self.plugins.find(&volume.driver)?.remove(&volume.name);
        }
        local::remove(&self.directory, &volume.name)
    }

    /// Removes a volume that no container uses. With `force`, one that is not there is no error.
    pub async fn remove(self: &Arc<Self>, name: &str, force: bool) -> Result<()> {
        let (this, name) = (Arc::clone(self), name.to_owned());
        let removed = blocking::run("remove a volume", move || this.remove_blocking(&name, force)).await;
        match removed {
            Err(Error::NotFound(_)) if force => Ok(()),
            other => other,
        }
    }

    /// As [`Volumes::remove`], where it may block. With `force`, one whose driver is not there is forgotten.
    pub fn remove_blocking(&self, name: &str, force: bool) -> Result<()> {
        let record = self.find(name)?;
        let driver = record.as_ref().map_or(LOCAL, Record::driver).to_owned();
        // Without its driver it cannot be removed: it stays as it is.
        let forgotten = match record.as_ref().map(|record| self.plugin_of(record)) {
            Some(Err(error)) if !force => {
                return Err(Error::system(format!("remove {name}: {error}")));
            }
            Some(Err(_)) => true,
            Some(Ok(_)) | None => false,
        };
        self.store.make_way();
        let users = self.store.durable_transaction(|tx| {
            if tx.record(VOLUME, name)?.is_none() {
                return Ok(tx.record(DOOMED, name)?.map(|_| Vec::new()));
            }
            let users = users(tx)?.remove(name).unwrap_or_default();
            if users.is_empty() && forgotten {
                tx.delete_record(VOLUME, name)?;
            } else if users.is_empty() {
                doom(tx, name)?;
            }
            Ok(Some(users))
        })?;
        let users = users.ok_or_else(|| none(name))?;
        if !users.is_empty() {
            let users = users.join(", ");
            return Err(Error::conflict(format!("remove {name}: volume is in use - [{users}]")));
        }
        if forgotten {
            tracing::warn!(volume = name, driver, "a volume is forgotten whose driver is not there");
            self.let_all_go(name, None)?;
        } else if !self.finish_removal(name)? && self.find(name)?.is_some() {
            return Err(Error::conflict(format!(
                "remove {name}: it was not removed, or made again meanwhile"
            )));
        }
        self.emit("destroy", name, &driver);
        Ok(())
    }

    /// Removes what is left of a volume whose record is gone; whether there was anything to do.
    fn finish_removal(&self, name: &str) -> Result<bool> {
        let turn = self.turns.of(name);
        let _turn = turns::lock(&turn);
        self.finish_removal_in_turn(name)
    }

    /// The same for who has the volume's turn: until the end nobody mounts it, or makes one of the name.
    fn finish_removal_in_turn(&self, name: &str) -> Result<bool> {
        let Some(note) = self.store.transaction(|tx| tx.record(DOOMED, name))? else { return Ok(false) };
        // A note of an earlier version says nothing more.
        let record = decode(name, &note.json).ok();
        self.let_all_go(name, record.as_ref())?;
        match record.as_ref().map(|record| self.plugin_of(record)).transpose()?.flatten() {
            Some(plugin) => self.remove_from(&plugin, name)?,
            None => {
                options::unmount(&self.data(name))?;
                local::remove(&self.directory, name)?;
            }
        }
        self.store.transaction(|tx| tx.delete_record(DOOMED, name))?;
        Ok(true)
    }

    /// Finishes the removals that a daemon did not get to the end of before it was killed: those that a plugin is asked for, or the others.
    fn finish_removals(&self, by_plugin: bool) -> Result<()> {
        for note in self.store.transaction(|tx| tx.records(DOOMED))? {
            // A note of an earlier version says nothing more, and is of a directory.
            let asks = decode(&note.id, &note.json).is_ok_and(|record| !record.is_local());
            if asks == by_plugin
                && let Err(error) = self.finish_removal(&note.id)
            {
                tracing::warn!(volume = %note.id, error = %error.chain(), "cannot remove a volume");
            }
        }
        Ok(())
    }

    /// A volume that the plugin refuses to remove is still there, and known.
    fn remove_from(&self, plugin: &plugin::Plugin, name: &str) -> Result<()> {
        let Err(error) = plugin.remove(name) else { return Ok(()) };
        self.store.durable_transaction(|tx| match tx.record(DOOMED, name)? {
            Some(note) => {
                tx.delete_record(DOOMED, name)?;
                tx.put_record(&NewRecord { kind: VOLUME, id: name, name: None, json: &note.json })
            }
            None => Ok(()),
        })?;
        Err(Error::new(error.kind(), format!("remove {name}: {error}")))
    }

    /// A container that used a volume is gone. With `remove` the volume goes too, unless others use it.
    pub async fn released(self: &Arc<Self>, name: &str, remove: bool) -> Result<()> {
        if !remove {
            return Ok(());
        }
        let (this, name) = (Arc::clone(self), name.to_owned());
        blocking::run("release a volume", move || match this.remove_blocking(&name, false) {
            Err(Error::Conflict(_) | Error::NotFound(_)) => Ok(()),
            other => other,
        })
        .await
    }

    /// Where the files of a volume are that somebody holds, or that is only a directory.
    fn place(&self, name: &str) -> Result<copy::Place> {
        let record = self.find(name)?.ok_or_else(|| none(name))?;
        let data = match self.plugin_of(&record)? {
            Some(plugin) => plugin.get(name)?.map(|told| PathBuf::from(told.mountpoint)).unwrap_or_default(),
            None => self.data(name),
        };
        if record.is_mounted() {
            return Ok(copy::Place { stage: data.clone(), data });
        }
        Ok(copy::Place { data, stage: self.directory.join(name) })
    }

    /// A directory of the engine's own that something may be mounted on where nobody else sees it.
    pub fn scratch(&self) -> PathBuf {
        self.directory.join(image::SCRATCH)
    }

    /// Copies what the image has at `destination` into the volume, if that is empty. `image` is what to mount to see the
    /// image's files.
    pub fn copy_up_blocking(&self, name: &str, image: &storage::Mounts, destination: &str) -> Result<()> {
        if self.find(name)?.is_some_and(|record| record.frozen) {
            // A snapshot of nothing stays empty.
            return Ok(());
        }
        let place = self.place(name)?;
        // Nearly always there is nothing to do, and then nobody is waited for.
        if !copy::may_be_due(&place)? {
            return Ok(());
        }
        let turn = self.turns.of(name);
        let _turn = turns::lock(&turn);
        copy::copy_up(&place, image, destination, &self.directory)
    }

    /// Removes what no container uses: volumes that nobody named, or with the filter `all` every one.
    pub async fn prune(self: &Arc<Self>, filters: Filters) -> Result<PruneReport> {
        let wanted = prune::Wanted::parse(filters)?;
        let this = Arc::clone(self);
        blocking::run("prune volumes", move || prune::run(&this, &wanted)).await
    }

    fn mountpoint(&self, name: &str) -> String {
        self.data(name).to_string_lossy().into_owned()
    }

    fn data(&self, name: &str) -> PathBuf {
        self.directory.join(name).join(local::DATA)
    }

    fn find(&self, name: &str) -> Result<Option<Record>> {
        let record = self.store.transaction(|tx| tx.record(VOLUME, name))?;
        record.map(|record| decode(name, &record.json)).transpose()
    }

    fn all(&self) -> Result<BTreeMap<String, Record>> {
        let records = self.store.transaction(|tx| tx.records(VOLUME))?;
        records
            .into_iter()
            .map(|record| {
                let decoded = decode(&record.id, &record.json)?;
                Ok((record.id, decoded))
            })
            .collect()
    }

    fn emit(&self, action: &str, name: &str, driver: &str) {
        self.events.emit(
            Subject::Volume,
            action,
            name,
            BTreeMap::from([("driver".to_owned(), driver.to_owned())]),
        );
    }
}

/// Records a volume that was made: for the transaction that records its container.
pub(crate) fn record(tx: &Tx<'_>, volume: &Unrecorded) -> storage::Result<()> {
    // One of the same name that was being removed is not removed any more.
    tx.delete_record(DOOMED, &volume.name)?;
    tx.insert_record(&NewRecord { kind: VOLUME, id: &volume.name, name: None, json: &volume.json })
}

/// Dooms the anonymous volumes of these mounts that nobody else uses: for the transaction that removes their container, after
/// its record is deleted. From then on they are gone for everybody; [`Volumes::released`] removes their files, or the
/// next start of the daemon does.
pub fn doom_anonymous(tx: &Tx<'_>, mounts: &[MountRecord]) -> storage::Result<()> {
    let anonymous = |mount: &&MountRecord| matches!(mount.kind, MountKind::Volume { anonymous: true, .. });
    let mut mine = mounts.iter().filter(anonymous).peekable();
    if mine.peek().is_none() {
        return Ok(());
    }
    let used = users(tx)?;
    for mount in mine.filter(|mount| !used.contains_key(&mount.point.name)) {
        if tx.record(VOLUME, &mount.point.name)?.is_some() {
            doom(tx, &mount.point.name)?;
        }
    }
    Ok(())
}

fn doom(tx: &Tx<'_>, name: &str) -> storage::Result<()> {
    // Who makes and removes it is needed to the end.
    let record = tx.record(VOLUME, name)?;
    let json = record.as_ref().map_or(&b"{}"[..], |record| &record.json);
    tx.delete_record(VOLUME, name)?;
    tx.put_record(&NewRecord { kind: DOOMED, id: name, name: None, json })
}

/// Fails where a volume of these mounts is not there: for the transaction that records a container, so that
/// nobody removes a volume between its being made and its being used.
pub(crate) fn check_mounts(tx: &Tx<'_>, mounts: &[MountRecord]) -> storage::Result<()> {
    for mount in mounts.iter().filter(|mount| mount.point.kind == "volume") {
        if tx.record(VOLUME, &mount.point.name)?.is_none() {
            return Err(storage::Error::NotFound { what: VOLUME, id: mount.point.name.clone() });
        }
    }
    Ok(())
}

/// The containers that use each volume.
fn users(tx: &Tx<'_>) -> storage::Result<BTreeMap<String, Vec<String>>> {
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in tx.records(CONTAINER)? {
        for volume in used_by(tx, &record)? {
            let of = users.entry(volume).or_default();
            // One that mounts it twice, or will have it from its next start on, uses it once.
            if of.last() != Some(&record.id) {
                of.push(record.id.clone());
            }
        }
    }
    Ok(users)
}

/// The volumes that a container uses. A record that cannot be read is left alone until a person or a newer version looks at
/// it; until then every volume that is named anywhere in it counts as used, since one that is removed does not come back.
fn used_by(tx: &Tx<'_>, container: &storage::Record) -> storage::Result<Vec<String>> {
    let error = match serde_json::from_slice::<Uses>(&container.json) {
        Ok(uses) => {
            let next = uses.next.into_iter().flat_map(|next| next.mounts);
            let volumes = uses.mounts.into_iter().chain(next).filter(|mount| mount.point.kind == "volume");
            return Ok(volumes.map(|mount| mount.point.name).collect());
        }
        Err(error) => error,
    };
    tracing::warn!(id = %container.id, %error, "cannot read which volumes a container uses: those it names are kept");
    let text = String::from_utf8_lossy(&container.json);
    let names = tx.records(VOLUME)?.into_iter().map(|volume| volume.id);
    Ok(names.filter(|name| text.contains(name.as_str())).collect())
}

fn encode(name: &str, record: &Record) -> Result<Vec<u8>> {
    serde_json::to_vec(record)
        .map_err(|e| Error::system(format!("cannot write the record of volume {name}")).with_source(e))
}

fn decode(name: &str, json: &[u8]) -> Result<Record> {
    serde_json::from_slice(json)
        .map_err(|e| Error::system(format!("cannot read the record of volume {name}")).with_source(e))
}

fn none(name: &str) -> Error {
    Error::not_found(format!("get {name}: no such volume"))
}

/// As Docker puts it.
fn creating(name: &str, error: Error) -> Error {
    Error::new(error.kind(), format!("create {name}: {error}"))
}

/// What is below a directory of the host that we ourselves chose.
fn open_root(path: &Path) -> Result<sys::path::Root> {
    sys::path::Root::open(path).map_err(|e| Error::io("open", path, e))
}

#[cfg(test)]
mod tests;
