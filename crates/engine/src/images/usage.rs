//! How much of the disk images use: from counters, no file is looked at.

use api::image::Summary;
use api::system::Usage;

use super::{Images, ListOptions, show};
use crate::Result;
use crate::blocking;

impl Images {
    /// What `system df` shows of images; with `verbose` each of them. What several share counts once.
    pub async fn disk_usage(&self, verbose: bool) -> Result<Usage<Summary>> {
        let shared = self.shared.clone();
        let repeated = blocking::run("measure images", move || {
            let shares = shared.shares(&shared.all()?)?;
            let more_than_once =
                |(images, bytes): &(usize, u64)| (*images as u64).saturating_sub(1).saturating_mul(*bytes);
            Ok(show::signed(shares.values().map(more_than_once).fold(0, u64::saturating_add)))
        })
        .await?;
        let images = self.list(ListOptions { shared_size: true, ..ListOptions::default() }).await?;
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let used = || images.iter().filter(|image| image.containers > 0);
        let total_size = (images.iter().map(|image| image.size).sum::<i64>() - repeated).max(0);
        // What a used image shares stays too, but Docker's sum is this one.
        let kept: i64 = used().map(|image| image.size - image.shared_size.max(0)).sum();
        Ok(Usage {
            active_count: count(used().count()),
            total_count: count(images.len()),
            reclaimable: (total_size - kept).max(0),
            total_size,
            items: if verbose { images } else { Vec::new() },
        })
    }
}
