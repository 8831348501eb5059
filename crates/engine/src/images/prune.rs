//! `POST /images/prune`.

use std::collections::BTreeMap;

use api::Filters;
use api::image::PruneReport;

use super::list::Wanted;
use super::remove::{Plan, apply};
use super::{Images, Shared, find};
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
        let uses = (self.uses)();
        let mut report = PruneReport::default();
        for image in self.all()? {
            if uses.iter().any(|user| user.image == image.id().as_str()) {
                continue;
            }
            let config = match find::shown(&image) {
                Some(manifest) => Some(self.configs.get(&self.store, &manifest.config)?),
                None => None,
            };
            if !wanted.takes(&image, self.created(&image)?, config.as_deref()) {
                continue;
            }
            let plan = Plan { untag: image.names.clone(), delete: true };
            self.store.durable_transaction(|tx| apply(tx, &plan, image.id()))?;
            report.images_deleted.extend(self.announce(&plan, image.id()));
        }
        report.space_reclaimed = self.store.gc()?.bytes;
        let attributes = BTreeMap::from([("reclaimed".to_owned(), report.space_reclaimed.to_string())]);
        self.events.emit(Subject::Image, "prune", "", attributes);
        Ok(report)
    }
}
