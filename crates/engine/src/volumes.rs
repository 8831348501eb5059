//! Volumes: directories that outlive containers, `<data-root>/volumes/<name>/_data`.
//!
//! A volume is a record in the store and a directory. The record comes last when a volume is made and goes first when it is
//! removed, so that a record always has its directory; a note in its place says that the directory has still to go. Which containers use a volume is read from their records in
//! the same transaction that removes it: a container is either seen or does not find the volume.

mod copy;
mod local;
mod options;
mod prune;
mod turns;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::Filters;
use api::volume::{CreateRequest, List, PruneReport, UsageData, Volume};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use storage::{NewRecord, Store, Tx};

use crate::blocking;
use crate::containers::record::{MountKind, MountRecord};
use crate::context::CONTAINER;
use crate::error::{Error, Result};
use crate::events::{Events, Subject};
use crate::names;

/// The kind of a volume's record in the store.
const VOLUME: &str = "volume";
/// The kind of the note that is left of a volume's record until its directory is removed, too.
const DOOMED: &str = "doomed-volume";
/// The one driver there is.
const LOCAL: &str = "local";
/// The label that Docker puts on volumes that nobody named; `prune` goes by it.
const ANONYMOUS: &str = "com.docker.volume.anonymous";
/// What lists can be filtered by.
const LIST_FILTERS: &[&str] = &["dangling", "driver", "label", "name"];

/// The volumes.
#[derive(Debug)]
pub struct Volumes {
    store: Store,
    events: Arc<Events>,
    /// `<data-root>/volumes`.
    directory: PathBuf,
    /// One at a time copies an image's files into a volume, or mounts and unmounts it.
    turns: turns::Turns,
}

/// A volume as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    created: Timestamp,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
}

impl Record {
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
}

/// A volume that nobody named, made for a container: its record is to come with the container's, so that a daemon that is
/// killed in between leaves neither. Its empty directory is cleared away at the next start.
#[derive(Debug)]
pub(crate) struct Unrecorded {
    /// Its name.
    pub name: String,
    /// Its directory on the host.
    pub mountpoint: String,
    json: Vec<u8>,
}

/// What of a container's record concerns volumes.
#[derive(Deserialize)]
struct Uses {
    #[serde(default)]
    mounts: Vec<MountRecord>,
}

impl Volumes {
    /// Opens the volumes of a store, and clears away what an interrupted process left.
    pub fn open(store: Store, events: Arc<Events>) -> Result<Self> {
        let directory = store.root().join("volumes");
        local::open(&directory)?;
        let volumes = Self { store, events, directory, turns: turns::Turns::default() };
        volumes.finish_removals()?;
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
        if !matches!(request.driver.as_str(), "" | LOCAL) {
            let driver = &request.driver;
            return Err(fail(Error::not_found(format!(
                "error looking up volume plugin {driver}: plugin \"{driver}\" not found"
            ))));
        }
        if request.cluster_volume_spec.is_some() {
            return Err(fail(Error::not_implemented("cluster volumes are not supported")));
        }
        let made =
            self.ensure_blocking(&request.name, request.labels.clone(), request.driver_opts.clone())?;
        self.inspect_blocking(&made.name)
    }

    /// Makes sure that a volume called `name` is there; with an empty name a new one. A volume that is there stays as it is.
    pub fn ensure_blocking(
        &self,
        name: &str,
        labels: BTreeMap<String, String>,
        options: BTreeMap<String, String>,
    ) -> Result<Ensured> {
        if name.is_empty() {
            let made = self.make_anonymous(labels, options)?;
            // One that nobody named is of no use after a loss of power, when its container has ended.
            self.store.transaction(|tx| record(tx, &made))?;
            self.made(&made.name);
            return Ok(Ensured { name: made.name, mountpoint: made.mountpoint, new: true });
        }
        local::check_name(name)?;
        let there = self.find(name)?.is_some();
        if there {
            options::check(&options).map_err(|error| creating(name, error))?;
            let mountpoint = self.mountpoint(name);
            return Ok(Ensured { name: name.to_owned(), mountpoint, new: false });
        }
        let made = self.make(name.to_owned(), labels, options)?;
        // Somebody may have made it in the meantime.
        let new = self.store.durable_transaction(|tx| match tx.record(VOLUME, name)? {
            Some(_) => Ok(false),
            None => record(tx, &made).map(|()| true),
        })?;
        if new {
            self.made(name);
        }
        Ok(Ensured { name: made.name, mountpoint: made.mountpoint, new })
    }

    /// Makes a volume that nobody named, but for its record: see [`record`], and then tell [`Volumes::made`].
    pub(crate) fn make_anonymous(
        &self,
        mut labels: BTreeMap<String, String>,
        options: BTreeMap<String, String>,
    ) -> Result<Unrecorded> {
        labels.insert(ANONYMOUS.to_owned(), String::new());
        self.make(names::new_id()?, labels, options)
    }

    fn make(
        &self,
        name: String,
        labels: BTreeMap<String, String>,
        options: BTreeMap<String, String>,
    ) -> Result<Unrecorded> {
        options::check(&options).map_err(|error| creating(&name, error))?;
        local::make(&self.directory, &name)?;
        let record = Record { created: Timestamp::now(), labels, options };
        let json = serde_json::to_vec(&record)
            .map_err(|e| Error::system(format!("cannot write the record of volume {name}")).with_source(e))?;
        Ok(Unrecorded { mountpoint: self.mountpoint(&name), name, json })
    }

    /// Tells that a volume has come to be.
    pub(crate) fn made(&self, name: &str) {
        self.emit("create", name);
    }

    /// Removes a volume that was not recorded after all.
    pub(crate) fn give_up(&self, volume: &Unrecorded) -> Result<()> {
        local::remove(&self.directory, &volume.name)
    }

    /// All volumes that the filters let through, sorted by name.
    pub async fn list(self: &Arc<Self>, filters: Filters) -> Result<List> {
        filters.validate(LIST_FILTERS).map_err(|e| Error::invalid(e.to_string()))?;
        let dangling = filters.flag("dangling").map_err(|e| Error::invalid(e.to_string()))?;
        let this = Arc::clone(self);
        blocking::run("list volumes", move || {
            let used = match dangling {
                Some(_) => this.store.transaction(users)?,
                None => BTreeMap::new(),
            };
            let volumes = this.all()?.into_iter().filter(|(name, record)| {
                dangling.is_none_or(|wanted| wanted != used.contains_key(name))
                    && filters.matches("driver", LOCAL)
                    && filters.matches_pairs("label", &record.labels)
                    && (!filters.contains("name") || filters.get("name").any(|part| name.contains(part)))
            });
            let volumes = volumes.map(|(name, record)| this.show(name, record)).collect();
            Ok(List { volumes, warnings: Vec::new() })
        })
        .await
    }

    /// One volume.
    pub async fn inspect(self: &Arc<Self>, name: &str) -> Result<Volume> {
        let (this, name) = (Arc::clone(self), name.to_owned());
        blocking::run("inspect a volume", move || this.inspect_blocking(&name)).await
    }

    fn inspect_blocking(&self, name: &str) -> Result<Volume> {
        let record = self.find(name)?.ok_or_else(|| none(name))?;
        Ok(self.show(name.to_owned(), record))
    }

    /// Removes a volume that no container uses. With `force`, one that is not there is no error.
    pub async fn remove(self: &Arc<Self>, name: &str, force: bool) -> Result<()> {
        let (this, name) = (Arc::clone(self), name.to_owned());
        let removed = blocking::run("remove a volume", move || this.remove_blocking(&name)).await;
        match removed {
            Err(Error::NotFound(_)) if force => Ok(()),
            other => other,
        }
    }

    /// As [`Volumes::remove`], where it may block.
    pub fn remove_blocking(&self, name: &str) -> Result<()> {
        let users = self.store.durable_transaction(|tx| {
            if tx.record(VOLUME, name)?.is_none() {
                return Ok(tx.record(DOOMED, name)?.map(|_| Vec::new()));
            }
            let users = users(tx)?.remove(name).unwrap_or_default();
            if users.is_empty() {
                doom(tx, name)?;
            }
            Ok(Some(users))
        })?;
        let users = users.ok_or_else(|| none(name))?;
        if !users.is_empty() {
            let users = users.join(", ");
            return Err(Error::conflict(format!("remove {name}: volume is in use - [{users}]")));
        }
        self.finish_removal(name)?;
        self.emit("destroy", name);
        Ok(())
    }

    /// Removes what is left of a volume whose record is gone.
    fn finish_removal(&self, name: &str) -> Result<()> {
        self.unmount(name)?;
        local::remove(&self.directory, name)?;
        self.store.transaction(|tx| tx.delete_record(DOOMED, name))?;
        Ok(())
    }

    /// Finishes the removals that a daemon did not get to the end of before it was killed.
    fn finish_removals(&self) -> Result<()> {
        for note in self.store.transaction(|tx| tx.records(DOOMED))? {
            if let Err(error) = self.finish_removal(&note.id) {
                tracing::warn!(volume = %note.id, error = %error.chain(), "cannot remove a volume");
            }
        }
        Ok(())
    }

    /// A container that used a volume is gone. With `remove` the volume goes too, unless others use it.
    pub async fn released(self: &Arc<Self>, name: &str, remove: bool) -> Result<()> {
        let (this, name) = (Arc::clone(self), name.to_owned());
        blocking::run("release a volume", move || {
            if remove {
                return match this.remove_blocking(&name) {
                    Err(Error::Conflict(_) | Error::NotFound(_)) => Ok(()),
                    other => other,
                };
            }
            let mounted = this.find(&name)?.is_some_and(|record| !record.options.is_empty());
            if mounted && !this.store.transaction(users)?.contains_key(&name) {
                this.unmount(&name)?;
            }
            Ok(())
        })
        .await
    }

    /// Makes a volume ready for use, and gives its directory: mounts what its options say.
    pub fn acquire_blocking(&self, name: &str) -> Result<PathBuf> {
        Ok(self.ready(name)?.data)
    }

    fn ready(&self, name: &str) -> Result<copy::Place> {
        let record = self.find(name)?.ok_or_else(|| none(name))?;
        let data = self.data(name);
        if record.options.is_empty() {
            return Ok(copy::Place { data, stage: self.directory.join(name) });
        }
        if !options::is_mounted(&data)? {
            let turn = self.turns.of(name);
            let _turn = turns::lock(&turn);
            options::mount(&data, &record.options)?;
        }
        Ok(copy::Place { stage: data.clone(), data })
    }

    fn unmount(&self, name: &str) -> Result<()> {
        let turn = self.turns.of(name);
        let _turn = turns::lock(&turn);
        options::unmount(&self.data(name))
    }

    /// Copies what the image has at `destination` into the volume, if that is empty. `image` is what to mount to see the
    /// image's files.
    pub fn copy_up_blocking(&self, name: &str, image: &storage::Mounts, destination: &str) -> Result<()> {
        let place = self.ready(name)?;
        // Nearly always there is nothing to do, and then nobody is waited for.
        if !copy::may_be_due(&place)? {
            return Ok(());
        }
        let turn = self.turns.of(name);
        let _turn = turns::lock(&turn);
        copy::copy_up(&place, image, destination, &self.directory)
    }

    /// All volumes with how much they hold and how many containers use them. Looks at every file.
    pub async fn disk_usage(self: &Arc<Self>) -> Result<Vec<Volume>> {
        let this = Arc::clone(self);
        blocking::run("measure volumes", move || {
            let used = this.store.transaction(users)?;
            let mut volumes = Vec::new();
            for (name, record) in this.all()? {
                let ref_count = used.get(&name).map_or(0, Vec::len);
                let size = local::size(&this.data(&name));
                let mut volume = this.show(name, record);
                volume.usage_data = Some(UsageData {
                    ref_count: i64::try_from(ref_count).unwrap_or(i64::MAX),
                    size: size.map_or(-1, |size| i64::try_from(size).unwrap_or(i64::MAX)),
                });
                volumes.push(volume);
            }
            Ok(volumes)
        })
        .await
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

    fn show(&self, name: String, record: Record) -> Volume {
        Volume {
            created_at: record.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            driver: LOCAL.to_owned(),
            labels: record.labels,
            mountpoint: self.mountpoint(&name),
            name,
            options: record.options,
            scope: LOCAL.to_owned(),
            ..Volume::default()
        }
    }

    fn emit(&self, action: &str, name: &str) {
        self.events.emit(
            Subject::Volume,
            action,
            name,
            BTreeMap::from([("driver".to_owned(), LOCAL.to_owned())]),
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
    tx.delete_record(VOLUME, name)?;
    tx.put_record(&NewRecord { kind: DOOMED, id: name, name: None, json: b"{}" })
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
            users.entry(volume).or_default().push(record.id.clone());
        }
    }
    Ok(users)
}

/// The volumes that a container uses. A record that cannot be read is left alone until a person or a newer version looks at
/// it; until then every volume that is named anywhere in it counts as used, since one that is removed does not come back.
fn used_by(tx: &Tx<'_>, container: &storage::Record) -> storage::Result<Vec<String>> {
    let error = match serde_json::from_slice::<Uses>(&container.json) {
        Ok(uses) => {
            let volumes = uses.mounts.into_iter().filter(|mount| mount.point.kind == "volume");
            return Ok(volumes.map(|mount| mount.point.name).collect());
        }
        Err(error) => error,
    };
    tracing::warn!(id = %container.id, %error, "cannot read which volumes a container uses: those it names are kept");
    let text = String::from_utf8_lossy(&container.json);
    let names = tx.records(VOLUME)?.into_iter().map(|volume| volume.id);
    Ok(names.filter(|name| text.contains(name.as_str())).collect())
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
