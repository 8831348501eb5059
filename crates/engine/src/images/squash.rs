//! `POST /corten/images/{name}/squash`: layers of an image made one.

use std::sync::Arc;

use jiff::Timestamp;
use oci::Reference;
use oci::image::{History, ImageConfig};
use storage::{ImageLayer, PlatformManifest, Resource};

use super::{Images, Shared, assemble, find, parse_platform};
use crate::blocking;
use crate::error::{Error, Result};
use crate::events::Subject;

/// Which layer is the lowest that is flattened, where nothing is said: all over the base.
const FROM: usize = 2;

/// What to squash.
#[derive(Debug, Clone, Default)]
pub struct SquashOptions {
    /// The image.
    pub name: String,
    /// The lowest layer that is flattened: its number, counted from 1, or the beginning of a digest.
    pub from: String,
    /// The platform, of an image that has several.
    pub platform: String,
    /// The new image's repository; empty for none.
    pub repo: String,
    /// Its tag.
    pub tag: String,
}

impl Images {
    /// Makes an image of the same files with fewer layers; its id.
    pub async fn squash(&self, options: SquashOptions) -> Result<oci::Digest> {
        let shared = Arc::clone(&self.shared);
        let name = assemble::name(&options.repo, &options.tag)?;
        blocking::run_long("squash an image", move || {
            let made = shared.squash(&options, name.as_ref());
            // What was removed meanwhile.
            if let Err(error) = shared.store.gc() {
                tracing::warn!(%error, "what nobody keeps any more stays for now");
            }
            made
        })
        .await
    }
}

impl Shared {
    fn squash(&self, options: &SquashOptions, name: Option<&Reference>) -> Result<oci::Digest> {
        let store = &self.store;
        let platform = parse_platform(&options.platform)?;
        let image = find::find(store, &options.name)?.image;
        let manifest = find::choose(&image, &options.name, platform.as_ref())?;
        let keep = kept(manifest, &options.from)?;
        let lease = store.passing_lease("squash an image")?;
        // Whoever removes the image meanwhile leaves what the new one is made of.
        store.transaction(|tx| {
            for layer in &manifest.layers {
                tx.hold(&lease, &Resource::Blob(layer.digest.clone()))?;
                tx.hold(&lease, &Resource::Layer(layer.diff_id.clone()))?;
            }
            Ok(())
        })?;
        store.restore_layers(&manifest.layers)?;
        let (below, above) = manifest.layers.split_at(keep);
        let diff_ids = |layers: &[ImageLayer]| -> Vec<oci::Digest> {
            layers.iter().map(|layer| layer.diff_id.clone()).collect()
        };
        let layer = store.squash_layers(&lease, &diff_ids(below), &diff_ids(above))?;
        let config = self.configs.get(store, &manifest.config)?;
        let empty = assemble::is_empty(&layer);
        let config = flattened(&config, keep, above.len(), (!empty).then_some(&layer));
        let mut layers = below.to_vec();
        if !empty {
            layers.push(layer);
        }
        let made = assemble::assemble(store, &lease, &config, layers)?;
        assemble::record(store, &made, name)?;
        drop(lease);
        self.events.emit(Subject::Image, "create", made.id.as_str(), assemble::told(name, &made.id));
        store.flush()?;
        Ok(made.id)
    }
}

/// How many layers stay as they are.
fn kept(manifest: &PlatformManifest, from: &str) -> Result<usize> {
    let count = manifest.layers.len();
    let first = match from {
        "" => FROM,
        number if number.len() <= 4 && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            number.parse().unwrap_or(0)
        }
        digest => {
            let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
            let is = |layer: &ImageLayer| {
                layer.digest.hex().starts_with(digits) || layer.diff_id.hex().starts_with(digits)
            };
            let mut found = manifest.layers.iter().enumerate().filter(|(_, layer)| is(layer));
            match (found.next(), found.next()) {
                (Some((at, _)), None) => at + 1,
                (None, _) => return Err(Error::not_found(format!("No such layer: {from}"))),
                (Some(_), Some(_)) => {
                    return Err(Error::invalid(format!("several layers begin with {from}")));
                }
            }
        }
    };
    if first == 0 || first > count {
        return Err(Error::invalid(format!(
            "nothing to squash from layer {first} on: the image has {count} layer{}",
            if count == 1 { "" } else { "s" }
        )));
    }
    Ok(first - 1)
}

/// The configuration with one layer in place of those from `keep` on. The steps that made them stay in the history.
fn flattened(config: &ImageConfig, keep: usize, count: usize, layer: Option<&ImageLayer>) -> ImageConfig {
    let mut out = config.clone();
    let now = Timestamp::now().to_string();
    out.created = Some(now.clone());
    out.rootfs.diff_ids.truncate(keep);
    out.rootfs.diff_ids.extend(layer.map(|layer| layer.diff_id.clone()));
    let mut seen = 0;
    for step in &mut out.history {
        if !step.empty_layer {
            seen += 1;
            step.empty_layer = seen > keep;
        }
    }
    let comment = format!("{count} layers made one");
    let step = History { created: Some(now), comment, empty_layer: layer.is_none(), ..History::default() };
    out.history.push(step);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(empty_layer: bool) -> History {
        History { empty_layer, ..History::default() }
    }

    #[test]
    fn the_history_keeps_its_steps() {
        let digest = |byte| oci::Digest::from_sha256([byte; 32]);
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids = vec![digest(1), digest(2), digest(3)];
        config.history = vec![step(false), step(true), step(false), step(false)];
        let layer = ImageLayer {
            digest: digest(8),
            size: 1,
            media_type: oci::image::media_type::OCI_LAYER_GZIP.into(),
            diff_id: digest(9),
        };
        let out = flattened(&config, 1, 2, Some(&layer));
        assert_eq!(out.rootfs.diff_ids, [digest(1), digest(9)]);
        let empty: Vec<bool> = out.history.iter().map(|step| step.empty_layer).collect();
        assert_eq!(empty, [false, true, true, true, false]);
        assert_eq!(empty.iter().filter(|empty| !**empty).count(), out.rootfs.diff_ids.len());
    }
}
