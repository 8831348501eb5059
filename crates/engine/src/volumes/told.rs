//! Volumes as they are told of: what is recorded, and what plugins say.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Filters;
use api::volume::{List, UsageData, Volume};

use super::{LOCAL, Record, Volumes, local, none, plugin, users};
use crate::blocking;
use crate::error::{Error, Result};

/// What lists can be filtered by.
const LIST_FILTERS: &[&str] = &["dangling", "driver", "label", "name"];

impl Volumes {
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
            let (volumes, warnings) = this.shown()?;
            let volumes = volumes.into_iter().filter(|volume| {
                let name = &volume.name;
                dangling.is_none_or(|wanted| wanted != used.contains_key(name))
                    && filters.matches("driver", &volume.driver)
                    && filters.matches_pairs("label", &volume.labels)
                    && (!filters.contains("name") || filters.get("name").any(|part| name.contains(part)))
            });
            Ok(List { volumes: volumes.collect(), warnings })
        })
        .await
    }

    /// One volume.
    pub async fn inspect(self: &Arc<Self>, name: &str) -> Result<Volume> {
        let (this, name) = (Arc::clone(self), name.to_owned());
        blocking::run("inspect a volume", move || this.inspect_blocking(&name)).await
    }

    pub(super) fn inspect_blocking(&self, name: &str) -> Result<Volume> {
        let Some(record) = self.find(name)? else {
            return self.foreign(name).ok_or_else(|| none(name));
        };
        let plugin = self.plugin_of(&record);
        let mut volume = self.show(name.to_owned(), record);
        if let Ok(Some(plugin)) = plugin {
            volume.scope = plugin.scope();
            if let Some(told) = plugin.get(name)? {
                volume.mountpoint = told.mountpoint;
                volume.status = told.status;
            }
        }
        Ok(volume)
    }

    /// All volumes with how much they hold and how many containers use them. Looks at every file.
    pub async fn disk_usage(self: &Arc<Self>) -> Result<Vec<Volume>> {
        let this = Arc::clone(self);
        blocking::run("measure volumes", move || {
            let used = this.store.transaction(users)?;
            let mut volumes = Vec::new();
            for (name, record) in this.all()? {
                let ref_count = used.get(&name).map_or(0, Vec::len);
                // What a plugin keeps is not ours to count.
                let size = if record.is_local() { local::size(&this.data(&name)) } else { None };
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

    pub(super) fn show(&self, name: String, record: Record) -> Volume {
        Volume {
            created_at: record.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            driver: record.driver().to_owned(),
            mountpoint: if record.is_local() { self.mountpoint(&name) } else { String::new() },
            labels: record.labels,
            name,
            options: record.options,
            scope: LOCAL.to_owned(),
            ..Volume::default()
        }
    }

    /// All volumes: those that are recorded, and what plugins have besides.
    fn shown(&self) -> Result<(Vec<Volume>, Vec<String>)> {
        let (mut volumes, mut warnings) = (BTreeMap::new(), Vec::new());
        for (name, record) in self.all()? {
            volumes.insert(name.clone(), self.show(name, record));
        }
        for driver in self.plugins.names() {
            match self.plugins.find_for_list(&driver).and_then(|plugin| plugin.list()) {
                Ok(told) => {
                    for told in told {
                        let known =
                            volumes.entry(told.name.clone()).or_insert_with(|| of_plugin(&driver, &told));
                        if known.driver == driver {
                            known.mountpoint = told.mountpoint;
                        }
                    }
                }
                // One that is no driver of volumes says so.
                Err(Error::NotFound(_)) => {}
                Err(error) => warnings.push(error.to_string()),
            }
        }
        Ok((volumes.into_values().collect(), warnings))
    }

    /// A volume that only a plugin knows of.
    fn foreign(&self, name: &str) -> Option<Volume> {
        self.plugins.names().iter().find_map(|driver| {
            let told = self.plugins.find_for_list(driver).and_then(|plugin| plugin.get(name)).ok()??;
            (told.name == name).then(|| of_plugin(driver, &told))
        })
    }
}

fn of_plugin(driver: &str, told: &plugin::Told) -> Volume {
    Volume {
        created_at: told.created_at.clone(),
        driver: driver.to_owned(),
        mountpoint: told.mountpoint.clone(),
        name: told.name.clone(),
        scope: LOCAL.to_owned(),
        status: told.status.clone(),
        ..Volume::default()
    }
}
