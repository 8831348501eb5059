//! `GET /corten/images/{name}/layers`: what each layer brings, and what of it the layers above hide.

use std::sync::Arc;

use api::image::LayerReport;
use storage::pack::LayerShare;

use super::{Images, Shared, find, parse_platform, show};
use crate::blocking;
use crate::error::Result;

impl Images {
    /// The layers of an image, the lowest first.
    pub async fn layers(&self, name: &str, platform: &str) -> Result<Vec<LayerReport>> {
        let (shared, name) = (Arc::clone(&self.shared), name.to_owned());
        let platform = parse_platform(platform)?;
        blocking::run_long("look into layers", move || shared.layers(&name, platform.as_ref())).await
    }
}

impl Shared {
    fn layers(&self, name: &str, platform: Option<&oci::Platform>) -> Result<Vec<LayerReport>> {
        let image = find::find(&self.store, name)?.image;
        let manifest = find::choose(&image, name, platform)?;
        let config = self.configs.get(&self.store, &manifest.config)?;
        let lease = self.store.passing_lease("look into layers")?;
        self.store.restore_layers(&manifest.layers)?;
        let shares = self.store.layer_shares(&lease, &manifest.diff_ids())?;
        let mut steps = config.history.iter().filter(|step| !step.empty_layer);
        let reports = manifest.layers.iter().zip(shares).map(|(layer, share)| {
            let LayerShare { bytes, added, changed, removed, wasted } = share;
            LayerReport {
                digest: layer.digest.to_string(),
                diff_id: layer.diff_id.to_string(),
                size: show::signed(layer.size),
                unpacked_size: show::signed(bytes),
                added: show::signed(added),
                changed: show::signed(changed),
                removed: show::signed(removed),
                wasted: show::signed(wasted),
                created_by: steps
                    .next()
                    .map(|step| if step.created_by.is_empty() { &step.comment } else { &step.created_by })
                    .cloned()
                    .unwrap_or_default(),
            }
        });
        Ok(reports.collect())
    }
}
