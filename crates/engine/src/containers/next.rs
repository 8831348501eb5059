//! What a container has from its next start on: its environment and its mounts, where they were changed while it runs.

use std::collections::BTreeMap;

use api::container::{Changes, Mount, Unit};
use api::secret::SecretMount;
use serde::{Deserialize, Serialize};

use crate::containers::create::mounts::{self, Wanted};
use crate::containers::create::{merge, refuse};
use crate::containers::record::{MountKind, MountRecord, Record};
use crate::error::{Error, Result};

/// What takes the place of the same fields of the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Next {
    env: Vec<String>,
    /// What is mounted; the volumes among them are in use already.
    pub mounts: Vec<MountRecord>,
    binds: Vec<String>,
    asked: Vec<Mount>,
    tmpfs: BTreeMap<String, String>,
    volumes: BTreeMap<String, Unit>,
}

/// Whether any of this is asked for.
pub(crate) fn concerns(changes: &Changes) -> bool {
    !(changes.env_add.is_empty()
        && changes.env_remove.is_empty()
        && changes.mount_add.is_empty()
        && changes.mount_remove.is_empty())
}

impl Next {
    /// What it has by the record.
    fn of(record: &Record) -> Self {
        record.next.clone().unwrap_or_else(|| Self {
            env: record.config.env.clone(),
            mounts: record.mounts.clone(),
            binds: record.host.binds.clone(),
            asked: record.host.mounts.clone(),
            tmpfs: record.host.tmpfs.clone(),
            volumes: record.config.volumes.clone(),
        })
    }

    /// What it will have after these changes, with what is to be mounted besides.
    pub(crate) fn plan(record: &Record, changes: &Changes) -> Result<(Self, Vec<Wanted>)> {
        let mut next = Self::of(record);
        next.change_env(changes)?;
        for target in &changes.mount_remove {
            next.unmount(target)?;
        }
        let mut wanted = Vec::new();
        for mount in &changes.mount_add {
            let new = mounts::one(mount)?;
            let target = &new.record.point.destination;
            let taken = next.mounts.iter().chain(wanted.iter().map(|wanted: &Wanted| &wanted.record));
            if taken.into_iter().any(|known| known.point.destination == *target) {
                return Err(Error::invalid(format!("Duplicate mount point: {target}")));
            }
            if matches!(new.record.kind, MountKind::Volume { anonymous: true, .. }) {
                return Err(Error::invalid(format!("a volume that is added needs a name: {target}")));
            }
            if matches!(new.record.kind, MountKind::Image { .. }) {
                return Err(Error::not_implemented(format!(
                    "mounts of images cannot be added to a container that is there: {target}"
                )));
            }
            wanted.push(new);
            next.asked.push(mount.clone());
        }
        Ok((next, wanted))
    }

    /// The mounts of what was wanted, once its volumes are there.
    pub(crate) fn mount(&mut self, made: Vec<MountRecord>, secrets: &[SecretMount]) -> Result<()> {
        self.mounts.extend(made);
        mounts::few(self.mounts.len())?;
        crate::secrets::check_place(secrets, &self.mounts)?;
        self.mounts.sort_by_key(|mount| mount.point.destination.split('/').count());
        Ok(())
    }

    fn change_env(&mut self, changes: &Changes) -> Result<()> {
        let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
        for gone in &changes.env_remove {
            if gone.is_empty() || gone.contains('=') {
                return Err(Error::invalid(format!("invalid environment variable: {gone}")));
            }
            self.env.retain(|entry| name(entry) != *gone);
        }
        if let Some(wrong) = changes.env_add.iter().find(|entry| name(entry).is_empty()) {
            return Err(Error::invalid(format!("invalid environment variable: {wrong}")));
        }
        self.env = merge::environment(&self.env, &changes.env_add);
        let config = api::container::Config { env: self.env.clone(), ..Default::default() };
        refuse::strings(&config)
    }

    fn unmount(&mut self, target: &str) -> Result<()> {
        let at = mounts::destination(target)?;
        let before = self.mounts.len();
        self.mounts.retain(|mount| mount.point.destination != at);
        if self.mounts.len() == before {
            return Err(Error::invalid(format!("nothing is mounted at {at}")));
        }
        let other = |path: &str| mounts::destination(path).is_ok_and(|path| path != at);
        self.asked.retain(|mount| other(&mount.target));
        self.tmpfs.retain(|path, _| other(path));
        self.volumes.retain(|path, _| other(path));
        self.binds.retain(|bind| {
            let mut parts = bind.split(':');
            let first = parts.next().unwrap_or_default();
            other(parts.next().unwrap_or(first))
        });
        Ok(())
    }
}

impl Record {
    /// It starts: what was to be so from then on is so.
    pub(crate) fn begin_next(&mut self) {
        let Some(next) = self.next.take() else { return };
        (self.config.env, self.config.volumes) = (next.env, next.volumes);
        (self.host.binds, self.host.mounts, self.host.tmpfs) = (next.binds, next.asked, next.tmpfs);
        self.mounts = next.mounts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::record::tests::record;

    fn changes(change: impl FnOnce(&mut Changes)) -> Changes {
        let mut changes = Changes::default();
        change(&mut changes);
        changes
    }

    #[test]
    fn variables_are_added_replaced_and_taken_away() {
        let mut record = record();
        record.config.env = vec!["A=1".into(), "B=2".into()];
        let asked = changes(|c| {
            c.env_add = vec!["B=3".into(), "C=4".into()];
            c.env_remove = vec!["A".into()];
        });
        record.next = Some(Next::plan(&record, &asked).unwrap().0);
        // What was changed before stays changed.
        let again = changes(|c| c.env_remove = vec!["C".into()]);
        record.next = Some(Next::plan(&record, &again).unwrap().0);
        assert_eq!(record.config.env, ["A=1", "B=2"]);
        record.begin_next();
        assert_eq!(record.config.env, ["B=3"]);
        let wrong = |change: fn(&mut Changes)| Next::plan(&record, &changes(change)).unwrap_err().to_string();
        assert!(wrong(|c| c.env_add = vec!["=x".into()]).contains("invalid environment variable"));
        assert!(wrong(|c| c.env_remove = vec!["a=b".into()]).contains("invalid environment variable"));
        assert!(wrong(|c| c.env_add = vec!["a=\0".into()]).contains("NUL"));
    }

    #[test]
    fn mounts_go_from_wherever_they_were_asked_for() {
        let mut record = record();
        record.host.binds = vec!["/x:/a:ro".into(), "/y:/b".into()];
        let host = record.host.clone();
        record.mounts =
            mounts::all(&record.config, &host).unwrap().into_iter().map(|wanted| wanted.record).collect();
        let asked = changes(|c| c.mount_remove = vec!["/a/".into()]);
        let (next, wanted) = Next::plan(&record, &asked).unwrap();
        assert!(wanted.is_empty());
        assert_eq!((next.binds.as_slice(), next.mounts.len()), (&["/y:/b".to_owned()][..], 1));
        let text = |change: fn(&mut Changes)| Next::plan(&record, &changes(change)).unwrap_err().to_string();
        assert_eq!(text(|c| c.mount_remove = vec!["/c".into()]), "nothing is mounted at /c");
        let mount = Mount { kind: "volume".into(), target: "/a".into(), ..Mount::default() };
        let twice = changes(|c| c.mount_add = vec![Mount { source: "data".into(), ..mount.clone() }]);
        assert_eq!(Next::plan(&record, &twice).unwrap_err().to_string(), "Duplicate mount point: /a");
        let nameless = changes(|c| c.mount_add = vec![Mount { target: "/n".into(), ..mount.clone() }]);
        assert!(Next::plan(&record, &nameless).unwrap_err().to_string().contains("needs a name"));
    }
}
