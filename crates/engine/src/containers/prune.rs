//! Removing the containers that do not run.

use api::Filters;
use api::container::PruneReport;
use api::timestamp;

use super::{Containers, RemoveOptions};
use crate::containers::state::Phase;
use crate::{Error, Kind, Result};

const FILTERS: &[&str] = &["label", "label!", "until"];

impl Containers {
    /// Removes those that do not run.
    pub async fn prune(&self, filters: &Filters) -> Result<PruneReport> {
        let invalid = |e: api::Error| Error::invalid(e.to_string());
        filters.validate(FILTERS).map_err(invalid)?;
        let mut until = None;
        for text in filters.get("until") {
            until = timestamp::parse_query(text, timestamp::now()).map_err(invalid)?;
        }
        let mut report = PruneReport::default();
        for handle in self.context.index.all() {
            let record = handle.record();
            let labels = &record.config.labels;
            let unwanted = filters.get("label!").any(|text| match text.split_once('=') {
                Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
                None => labels.contains_key(text),
            });
            let idle = matches!(record.life.phase, Phase::Created | Phase::Exited | Phase::Dead);
            let old = until.is_none_or(|at| super::show::nanoseconds(Some(record.created)) < at);
            if !idle || !old || unwanted || !filters.matches_pairs("label", labels) {
                continue;
            }
            let size = super::list::sizes(&self.context, &record).await.map_or(0, |sizes| sizes.rw);
            match self.remove(&record.id, RemoveOptions::default()).await {
                Ok(()) => {
                    report.containers_deleted.push(record.id.clone());
                    report.space_reclaimed += u64::try_from(size).unwrap_or(0);
                }
                // Started or removed by somebody else meanwhile.
                Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let reclaimed = report.space_reclaimed.to_string();
        let more = std::collections::BTreeMap::from([("reclaimed".to_owned(), reclaimed)]);
        self.context.events.emit(crate::events::Subject::Container, "prune", "", more);
        Ok(report)
    }
}
