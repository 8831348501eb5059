//! Who uses a volume that has to be mounted: the containers that run. It is mounted for the first of them and taken away
//! after the last.
//!
//! ```text
//!   start of a container       note(volume, container)  ->  mount, or ask the plugin to
//!   end of its run             unmount after the last   ->  forget the note
//!   start of the daemon        every note of a container that does not run any more is settled like an end;
//!                              with a plugin afterwards, unless the container has begun to run again
//! ```
//! The note is written before anything is mounted and forgotten after it is gone, so that a daemon that is killed in between
//! leaves nothing mounted that the next one does not know of.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use storage::NewRecord;
use tokio::sync::OwnedMutexGuard;

use super::{DOOMED, Record, Volumes, none, options, turns};
use crate::error::{Error, Result};
use crate::names;

/// The kind of a note that a container uses a volume.
const HOLD: &str = "volume-hold";

/// The note's identifier. No volume's name has a slash.
fn key(volume: &str, holder: &str) -> String {
    format!("{volume}/{holder}")
}

/// A volume that the engine itself uses: mounted for as long as this is held.
pub struct Hold {
    volumes: Arc<Volumes>,
    name: String,
    holder: String,
    path: PathBuf,
}

impl Hold {
    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.volumes.let_go_blocking([self.name.as_str()], &self.holder);
    }
}

/// How long the start of a container waits for others that make the same volume ready: gigabytes may be copied into it.
const START_PATIENCE: Duration = Duration::from_secs(600);

impl Volumes {
    /// Waits until nobody else makes one of these volumes ready for a container. Not where calls block: of those places there are few, and
    /// a mount that does not come back is to take one of them and no more. In the order of the names, so that two do not wait for each other.
    pub async fn turns_to_start(&self, names: BTreeSet<String>) -> Result<Vec<OwnedMutexGuard<()>>> {
        let mut turns = Vec::with_capacity(names.len());
        for name in names {
            let turn = tokio::time::timeout(START_PATIENCE, self.starts.of(&name).lock_owned()).await;
            turns.push(turn.map_err(|_| {
                Error::system(format!(
                    "volume {name} is not ready: another start has been mounting or filling it for {} minutes",
                    START_PATIENCE.as_secs() / 60
                ))
            })?);
        }
        Ok(turns)
    }

    /// Makes a volume ready for the engine itself.
    pub fn hold(self: &Arc<Self>, name: &str) -> Result<Hold> {
        let holder = names::new_id()?;
        let path = self.hold_blocking(name, &holder)?;
        Ok(Hold { volumes: Arc::clone(self), name: name.to_owned(), holder, path })
    }

    /// Makes a volume ready for a container that is about to run, and gives its directory.
    pub fn hold_blocking(&self, name: &str, holder: &str) -> Result<PathBuf> {
        if !self.find(name)?.ok_or_else(|| none(name))?.is_mounted() {
            return Ok(self.data(name));
        }
        let turn = self.turns.of(name);
        let _turn = turns::lock(&turn);
        // It may have been removed while others had their turns.
        let record = self.find(name)?.ok_or_else(|| none(name))?;
        let id = key(name, holder);
        // What an earlier daemon left of it was not settled yet.
        let unsettled = turns::lock(&self.unsettled).remove(&id);
        if unsettled {
            self.let_go_in_turn(name, holder)?;
        }
        self.store
            .transaction(|tx| tx.put_record(&NewRecord { kind: HOLD, id: &id, name: None, json: b"{}" }))?;
        let mounted = self.mount(name, &record, holder);
        if mounted.is_err() {
            // A plugin that was too slow to say so may have mounted it all the same.
            if let Ok(Some(plugin)) = self.plugin_of(&record) {
                let _ = plugin.unmount(name, holder);
            }
            self.forget(name, holder)?;
        }
        mounted
    }

    fn mount(&self, name: &str, record: &Record, holder: &str) -> Result<PathBuf> {
        match self.plugin_of(record)? {
            Some(plugin) => plugin.mount(name, holder),
            None => {
                let data = self.data(name);
                options::mount(&data, &record.options)?;
                Ok(data)
            }
        }
    }

    /// A container that used volumes does not run any more.
    pub fn let_go_blocking<'a>(&self, names: impl IntoIterator<Item = &'a str>, holder: &str) {
        for name in names {
            if let Err(error) = self.let_go(name, holder) {
                tracing::warn!(volume = name, error = %error.chain(), "a volume stays mounted");
            }
        }
    }

    fn let_go(&self, name: &str, holder: &str) -> Result<()> {
        // Nearly every volume is only a directory, and nobody has noted anything.
        if !self.is_held(name, holder)? {
            return Ok(());
        }
        let turn = self.turns.of(name);
        let _turn = turns::lock(&turn);
        self.let_go_in_turn(name, holder)
    }

    fn is_held(&self, name: &str, holder: &str) -> Result<bool> {
        Ok(self.store.transaction(|tx| tx.record(HOLD, &key(name, holder)))?.is_some())
    }

    /// The same for who has the volume's turn.
    fn let_go_in_turn(&self, name: &str, holder: &str) -> Result<()> {
        // Who was here before has let it go: the end of a run, and the start of the daemon that finds it ended.
        if !self.is_held(name, holder)? {
            return Ok(());
        }
        match self.find(name)? {
            Some(record) => match self.plugin_of(&record)? {
                Some(plugin) => plugin.unmount(name, holder)?,
                None if self.holders(name)?.iter().all(|other| other == holder) => {
                    options::unmount(&self.data(name))?;
                }
                None => {}
            },
            None => options::unmount(&self.data(name))?,
        }
        self.forget(name, holder)
    }

    /// Lets everybody go: the volume is about to be removed.
    pub(super) fn let_all_go(&self, name: &str, record: Option<&Record>) -> Result<()> {
        for holder in self.holders(name)? {
            let plugin = record.map(|record| self.plugin_of(record)).transpose()?.flatten();
            if let Some(Err(error)) = plugin.map(|plugin| plugin.unmount(name, &holder)) {
                tracing::warn!(volume = name, error = %error.chain(), "a plugin does not unmount a volume that is removed");
            }
            self.forget(name, &holder)?;
        }
        Ok(())
    }

    /// Settles what containers hold that do not run, after a daemon ended without getting to it; what a plugin is asked for is left to
    /// [`Volumes::settle_plugins`].
    pub fn settle_holds(&self, runs: &dyn Fn(&str) -> bool) -> Result<()> {
        for note in self.store.transaction(|tx| tx.records(HOLD))? {
            let Some((volume, holder)) = note.id.split_once('/').filter(|(_, holder)| !runs(holder)) else {
                continue;
            };
            match self.find(volume)? {
                Some(record) if !record.is_local() => {
                    turns::lock(&self.unsettled).insert(note.id);
                }
                // What is being removed lets everybody go by itself.
                None if self.store.transaction(|tx| tx.record(DOOMED, volume))?.is_some() => {}
                _ => self.let_go_blocking([volume], holder),
            }
        }
        Ok(())
    }

    /// The rest of what an earlier daemon left: plugins are asked to unmount what nobody has begun to use again, and to remove what was
    /// being removed. Each may take as long as a plugin may, so nobody waits for this.
    pub fn settle_plugins(&self) -> Result<()> {
        let unsettled = turns::lock(&self.unsettled).clone();
        for id in unsettled {
            let Some((name, holder)) = id.split_once('/') else { continue };
            let turn = self.turns.of(name);
            let _turn = turns::lock(&turn);
            if turns::lock(&self.unsettled).remove(&id)
                && let Err(error) = self.let_go_in_turn(name, holder)
            {
                tracing::warn!(volume = name, error = %error.chain(), "a volume stays mounted");
            }
        }
        self.finish_removals(true)
    }

    /// The containers that have noted that they use a volume.
    fn holders(&self, name: &str) -> Result<BTreeSet<String>> {
        let notes = self.store.transaction(|tx| tx.records(HOLD))?;
        let of_this =
            |id: &str| id.split_once('/').filter(|(volume, _)| *volume == name).map(|(_, h)| h.to_owned());
        Ok(notes.iter().filter_map(|note| of_this(&note.id)).collect())
    }

    fn forget(&self, name: &str, holder: &str) -> Result<()> {
        self.store.transaction(|tx| tx.delete_record(HOLD, &key(name, holder)))?;
        Ok(())
    }
}
