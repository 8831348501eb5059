//! How much of the disk images use: from counters, no file is looked at, and no image that no container uses.

use api::image::Summary;
use api::system::Usage;
use oci::Digest;

use super::list::Users;
use super::{Images, ListOptions, Shared, show};
use crate::Result;
use crate::blocking;

impl Images {
    /// What `system df` shows of images; with `verbose` each of them. What several share counts once, and what is reclaimable is what
    /// would be free if all went that no container uses.
    pub async fn disk_usage(&self, verbose: bool) -> Result<Usage<Summary>> {
        let shared = self.shared.clone();
        blocking::run("measure images", move || {
            let mut usage = shared.disk_usage()?;
            if verbose {
                usage.items = shared.list(&ListOptions { shared_size: true, ..ListOptions::default() })?;
            }
            Ok(usage)
        })
        .await
    }
}

impl Shared {
    fn disk_usage(&self) -> Result<Usage<Summary>> {
        let users = Users::new((self.uses)());
        let totals = self.store.totals()?;
        let (active, kept) = self.store.transaction(|tx| {
            let mut active = Vec::new();
            for id in users.images().filter_map(|id| Digest::parse(id).ok()) {
                // An image may be gone while its containers are not.
                if tx.image(&id)?.is_some() {
                    active.push(id);
                }
            }
            Ok((active.len(), tx.bytes_of_images(&active)?))
        })?;
        Ok(Usage {
            active_count: i64::try_from(active).unwrap_or(i64::MAX),
            total_count: show::signed(totals.images),
            reclaimable: show::signed(totals.image_bytes.saturating_sub(kept)),
            total_size: show::signed(totals.image_bytes),
            items: Vec::new(),
        })
    }
}
