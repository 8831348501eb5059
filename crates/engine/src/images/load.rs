//! `POST /images/load`: images from an archive, in one pass.
//!
//! ```text
//!  client -> (gzip, zstd) -> tar -> documents          kept until the end
//!                               \-> layers             each to the store as it comes: blob and directory at once
//!                                        then: index.json or manifest.json says what they are
//! ```
//! Nothing of an archive is believed: names are looked up and never opened, content is called by its own digest, what the documents say is
//! compared with what came. Until an image is recorded everything is kept by a lease alone; where that ends, nothing stays.

mod archive;
mod docker;
pub mod documents;
mod intake;
mod layout;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::stream::{Progress, ProgressDetail};
use oci::{Digest, Platform, Reference};
use storage::{Class, NewImage, Store};

use super::{Images, Shared, assemble, show};
use crate::error::{Error, Result};
use crate::events::Subject;
use crate::pipe::Inlet;
use crate::progress::{Lines, Telling};
pub(super) use intake::refused;

/// How to load.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Whether only the result is told.
    pub quiet: bool,
    /// Only these platforms; all that are there if there are none.
    pub platforms: Vec<Platform>,
}

/// What an archive turned out to hold.
pub(super) struct Loaded {
    image: NewImage,
    names: BTreeSet<String>,
}

impl Images {
    /// Loads the images of an archive. Dropping what is returned does not undo what was loaded; a client that goes ends the archive.
    pub fn load(&self, options: LoadOptions, archive: Inlet) -> Telling {
        let shared = Arc::clone(&self.shared);
        Telling::start(&self.tasks, "load images", move |lines| {
            let outcome = shared.load(&options, archive, &lines);
            if outcome.is_err() {
                // What has come and nobody else has.
                shared.store.gc()?;
            }
            outcome
        })
    }
}

impl Shared {
    fn load(&self, options: &LoadOptions, archive: Inlet, lines: &Lines) -> Result<()> {
        let store = &self.store;
        let lease = store.passing_lease("load images")?;
        let tell = |id: &str, current: u64, total: u64| {
            if !options.quiet {
                lines.count(counted(id, current, total));
            }
        };
        let intake = intake::Intake::take(&intake::Keep { store, lease: &lease, tell: &tell }, archive)?;
        let mut loaded = if intake.has_layout() {
            layout::images(store, &lease, &intake)?
        } else {
            docker::images(store, &lease, &intake)?
        };
        choose(&mut loaded, &options.platforms)?;
        record(store, &loaded)?;
        drop(lease);
        for Loaded { image, names } in &loaded {
            for name in names {
                let shown =
                    Reference::parse_named(name).map_or_else(|_| name.clone(), |name| name.familiar());
                lines.line(Progress { stream: format!("Loaded image: {shown}\n"), ..Default::default() });
            }
            if names.is_empty() {
                lines.line(Progress {
                    stream: format!("Loaded image ID: {}\n", image.id),
                    ..Default::default()
                });
            }
            self.events.emit(Subject::Image, "load", image.id.as_str(), assemble::told(None, &image.id));
        }
        Ok(store.flush()?)
    }
}

fn counted(id: &str, current: u64, total: u64) -> Progress {
    Progress {
        id: id.to_owned(),
        status: "Loading layer".to_owned(),
        progress_detail: Some(ProgressDetail {
            current: show::signed(current),
            total: show::signed(total),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Keeps the platforms that were asked for.
fn choose(loaded: &mut [Loaded], platforms: &[Platform]) -> Result<()> {
    if platforms.is_empty() {
        return Ok(());
    }
    for Loaded { image, .. } in loaded.iter_mut() {
        let here: Vec<Option<Platform>> =
            image.manifests.iter().map(|manifest| Platform::parse(&manifest.platform).ok()).collect();
        let mut kept = BTreeSet::new();
        for wanted in platforms {
            let rank = |at: &usize| here[*at].as_ref().and_then(|have| wanted.rank(have));
            let best = (0..here.len()).filter(|at| rank(at).is_some()).min_by_key(|at| rank(at));
            let best = best.ok_or_else(|| {
                let provides: Vec<&str> =
                    image.manifests.iter().map(|manifest| manifest.platform.as_str()).collect();
                Error::not_found(format!(
                    "requested platform ({wanted}) not found: image has {}",
                    provides.join(", ")
                ))
            })?;
            kept.insert(best);
        }
        let mut at = 0;
        image.manifests.retain(|_| {
            at += 1;
            kept.contains(&(at - 1))
        });
        // What stands beside the platforms speaks of all of them.
        image.other_blobs.clear();
    }
    Ok(())
}

/// Makes all images visible, or none.
fn record(store: &Store, loaded: &[Loaded]) -> Result<()> {
    store.durable_transaction(|tx| {
        let mut names: BTreeMap<&str, &Digest> = BTreeMap::new();
        for Loaded { image, names: own } in loaded {
            tx.classify(&image.id, Class::of(&image.media_type))?;
            for manifest in &image.manifests {
                tx.classify(&manifest.digest, Class::of(&manifest.media_type))?;
                tx.classify(&manifest.config, Class::Config)?;
                for layer in &manifest.layers {
                    tx.classify(&layer.digest, Class::Layer)?;
                }
            }
            tx.put_image(image)?;
            names.extend(own.iter().map(|name| (name.as_str(), &image.id)));
        }
        names.into_iter().try_for_each(|(name, id)| tx.tag_image(name, id).map(drop))
    })?;
    Ok(())
}
