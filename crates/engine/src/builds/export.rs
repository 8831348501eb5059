//! The image: its configuration with the layers that were made, put into the store under its names.
//!
//! Times are those of the layers, not of the build: what the cache has all of is the same image again.

use std::sync::Arc;

use build::request::Outcome;
use jiff::Timestamp;
use oci::image::{History, ImageConfig};
use oci::{Digest, Reference};
use storage::ImageLayer;

use super::Failed;
use super::solve::Solver;
use crate::blocking;
use crate::error::{Error, Result};
use crate::events::Subject;
use crate::images::assemble;

/// When an image was made that has no layer and no base.
const NO_TIME: &str = "1970-01-01T00:00:00Z";
/// The argument that says which time images have.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Makes the image.
pub(super) async fn image(solver: &Solver, names: &[Reference]) -> Result<Outcome, Failed> {
    let graph = &solver.graph;
    let result = solver.made(graph.result).ok_or_else(|| Error::system("a bug: the result is not made"))?;
    let layers = result.layers().to_vec();
    let mut config = graph.config.clone();
    let times = times(solver, &mut config)?;
    config.created = Some(times);
    let base = graph.base.clone().and_then(|manifest| {
        solver
            .images
            .iter()
            .find(|image| image.image.manifest.digest == manifest)
            .map(|image| image.image.clone())
    });
    let below = base.as_ref().map_or(0, |base| base.manifest.layers.len());
    let squash = solver.request.squash && layers.len() > below + 1;
    let (context, lease, names) = (Arc::clone(&solver.context), Arc::clone(&solver.lease), names.to_vec());
    let parent = base.map(|base| base.id);
    let made = blocking::run_long("put an image together", move || {
        let layers =
            if squash { squashed(&context.store, &lease, &mut config, layers, below)? } else { layers };
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let mut image = assemble::assemble(&context.store, &lease, &config, layers)?;
        image.parent = parent;
        record(&context, &image, &names)?;
        let digest = image.manifests.first().map(|manifest| manifest.config.clone());
        Ok((image.id, digest))
    });
    let (id, config) = made.await?;
    let config = config.ok_or_else(|| Error::system("a bug: an image has no configuration"))?;
    Ok(Outcome { image: id, config, names: solver.request.tags.clone() })
}

/// Makes it visible, under all of its names at once.
fn record(context: &crate::context::Context, image: &storage::NewImage, names: &[Reference]) -> Result<()> {
    context.store.durable_transaction(|tx| {
        tx.put_image(image)?;
        names.iter().try_for_each(|name| tx.tag_image(&name.to_string(), &image.id).map(drop))
    })?;
    let id: &Digest = &image.id;
    context.events.emit(Subject::Image, "create", id.as_str(), assemble::told(names.first(), id));
    for name in names {
        context.events.emit(Subject::Image, "tag", id.as_str(), assemble::told(Some(name), id));
    }
    Ok(())
}

/// Fills in when each entry of the history was made, and which of them have layers; the time of the last.
fn times(solver: &Solver, config: &mut ImageConfig) -> Result<String, Failed> {
    let epoch = match solver.request.arguments.get(EPOCH) {
        None => None,
        Some(text) => {
            let parsed = text.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
            let wrong = || Error::invalid(format!("invalid {EPOCH}: {text}"));
            Some(parsed.ok_or_else(wrong)?.to_string())
        }
    };
    let own = solver.graph.history.len();
    let inherited = config.history.len().saturating_sub(own);
    let before = config.history[..inherited].last().and_then(|entry| entry.created.clone());
    let base = solver.graph.base.as_ref().and_then(|_| {
        let found = solver
            .images
            .iter()
            .find(|image| Some(&image.image.manifest.digest) == solver.graph.base.as_ref());
        found.and_then(|image| image.image.config.created.clone())
    });
    let mut last = base.or(before).unwrap_or_else(|| NO_TIME.to_owned());
    for (entry, step) in config.history[inherited..].iter_mut().zip(&solver.graph.history) {
        let made = step.and_then(|step| match solver.made(step) {
            Some(super::solve::Output::Layers { made, .. }) => made.clone(),
            _ => None,
        });
        if let Some(made) = &made {
            last.clone_from(&made.created);
        }
        entry.empty_layer = made.is_none_or(|made| made.layer.is_none());
        entry.created = Some(epoch.clone().unwrap_or_else(|| last.clone()));
    }
    Ok(epoch.unwrap_or(last))
}

/// Makes one layer of those that the build has added.
fn squashed(
    store: &storage::Store,
    lease: &storage::Lease,
    config: &mut ImageConfig,
    layers: Vec<ImageLayer>,
    below: usize,
) -> Result<Vec<ImageLayer>> {
    let ids = |layers: &[ImageLayer]| layers.iter().map(|layer| layer.diff_id.clone()).collect::<Vec<_>>();
    let (keep, flatten) = layers.split_at(below);
    let one = store.squash_layers(lease, &ids(keep), &ids(flatten))?;
    let mut seen = 0;
    for entry in &mut config.history {
        if !entry.empty_layer {
            seen += 1;
            entry.empty_layer = seen > below;
        }
    }
    config.history.push(History {
        created: config.created.clone(),
        comment: format!("merge of {} layers", flatten.len()),
        ..History::default()
    });
    Ok(keep.iter().cloned().chain([one]).collect())
}
