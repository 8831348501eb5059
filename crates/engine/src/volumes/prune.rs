//! Removal of all volumes that no container uses.

use std::collections::BTreeMap;

use api::Filters;
use api::volume::PruneReport;

use super::{Record, Volumes, local, users};
use crate::error::{Error, Result};
use crate::events::Subject;

/// What prune can be filtered by.
const FILTERS: &[&str] = &["all", "label", "label!"];

/// What is to go.
pub struct Wanted {
    filters: Filters,
    named_too: bool,
}

impl Wanted {
    /// Reads the filters.
    pub fn parse(filters: Filters) -> Result<Self> {
        filters.validate(FILTERS).map_err(|e| Error::invalid(e.to_string()))?;
        let named_too = filters.flag("all").map_err(|e| Error::invalid(e.to_string()))?.unwrap_or(false);
        Ok(Self { filters, named_too })
    }

    fn includes(&self, record: &Record) -> bool {
        let has = |wanted: &str| match wanted.split_once('=') {
            None => record.labels.contains_key(wanted),
            Some((key, value)) => record.labels.get(key).is_some_and(|found| found == value),
        };
        (self.named_too || record.is_anonymous())
            && self.filters.matches_pairs("label", &record.labels)
            && !self.filters.get("label!").any(has)
    }
}

/// Removes them.
pub fn run(volumes: &Volumes, wanted: &Wanted) -> Result<PruneReport> {
    let used = volumes.store.transaction(users)?;
    let mut report = PruneReport::default();
    for (name, record) in volumes.all()? {
        if used.contains_key(&name) || !wanted.includes(&record) {
            continue;
        }
        let size = local::size(&volumes.data(&name)).unwrap_or(0);
        match volumes.remove_blocking(&name, false) {
            Ok(()) => {
                report.volumes_deleted.push(name);
                report.space_reclaimed += size;
            }
            // Taken or removed by somebody since.
            Err(Error::Conflict(_) | Error::NotFound(_)) => {}
            // The others are removed all the same, and told of.
            Err(error) => tracing::warn!(volume = name, error = %error.chain(), "cannot remove a volume"),
        }
    }
    let reclaimed = BTreeMap::from([("reclaimed".to_owned(), report.space_reclaimed.to_string())]);
    volumes.events.emit(Subject::Volume, "prune", "", reclaimed);
    Ok(report)
}
