//! `POST /images/prune`.

use std::collections::BTreeMap;

use api::Filters;
use api::image::PruneReport;

use super::list::{Users, Wanted};
use super::remove::{Plan, apply};
use super::{Images, Shared};
use crate::blocking;
use crate::error::Result;
use crate::events::Subject;

/// The filters of the prune.
const FILTERS: &[&str] = &["dangling", "label", "label!", "until"];

impl Images {
    /// Removes images that nobody uses: those without a name, or with `dangling=false` all.
    pub async fn prune(&self, filters: Filters) -> Result<PruneReport> {
        let shared = self.shared.clone();
        blocking::run("prune images", move || shared.prune(&filters)).await
    }
}

impl Shared {
    fn prune(&self, filters: &Filters) -> Result<PruneReport> {
        let mut wanted = Wanted::read(self, filters, FILTERS)?;
        // `dangling=false` means "not only those", which is other than in a list.
        wanted.dangling = match wanted.dangling {
            Some(false) => None,
            _ => Some(true),
        };
        let users = Users::new((self.uses)());
        let mut plans = Vec::new();
        for image in self.candidates(&wanted)? {
            if users.of(image.id().as_str()).is_empty() && wanted.takes(&image, &self.facts(&image)) {
                plans.push((image.image.id, Plan { untag: image.names, delete: true }));
            }
        }
        // All at once: each commit waits for the disk.
        self.store.durable_transaction(|tx| {
            // A name given meanwhile keeps its image.
            plans.retain(|(id, plan)| {
                tx.image(id).is_ok_and(|image| image.is_some_and(|image| image.names == plan.untag))
            });
            plans.iter().try_for_each(|(id, plan)| apply(tx, plan, id))
        })?;
        let mut report = PruneReport::default();
        for (id, plan) in &plans {
            report.images_deleted.extend(self.announce(plan, id));
        }
        report.space_reclaimed = self.store.gc()?.bytes + self.store.prune_ingests()?;
        let attributes = BTreeMap::from([("reclaimed".to_owned(), report.space_reclaimed.to_string())]);
        self.events.emit(Subject::Image, "prune", "", attributes);
        Ok(report)
    }
}
