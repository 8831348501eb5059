//! What a build has come to: layers and a configuration for each platform, kept until it is put out.
//!
//! Times are those of the layers, not of the build: what the cache has all of is the same image again.

use std::sync::Arc;

use build::request::{Request, SharedSources};
use jiff::Timestamp;
use oci::image::{History, ImageConfig};
use oci::{Digest, Platform};
use storage::{ImageLayer, Lease};
use sys::path::Root;

use super::context::Scratch;
use super::solve::{Noted, Output, Solver};
use super::{Failed, Remains, view};
use crate::blocking;
use crate::context::Context;
use crate::error::{Error, Result};

/// When an image was made that has no layer and no base.
const NO_TIME: &str = "1970-01-01T00:00:00Z";
/// The argument that says which time images have.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// An image that something was built on, or copied from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Material {
    /// Its name in full, with the digest that the name led to.
    pub name: String,
    /// That digest.
    pub digest: Digest,
    /// The platform that was taken of it.
    pub platform: String,
}

/// What has come of one platform.
#[derive(Debug)]
pub(super) struct Part {
    pub platform: Platform,
    /// The layers, the lowest first.
    pub layers: Vec<ImageLayer>,
    /// How many of them are the base image's.
    pub below: usize,
    /// The configuration, with the layers' digests.
    pub config: ImageConfig,
    /// The image that it is built on.
    pub parent: Option<Digest>,
    /// What was used.
    pub materials: Vec<Material>,
    /// What the cache knows of the steps.
    pub noted: Vec<Noted>,
    /// The steps, as a provenance shows them.
    pub steps: Vec<Step>,
}

/// A step, as a provenance shows it.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub name: String,
    pub digest: Digest,
    pub inputs: Vec<Digest>,
}

/// What a build has come to. What nobody has put into the store goes with it.
#[derive(Debug)]
pub struct Built {
    pub(super) context: Arc<Context>,
    pub(super) request: Arc<Request>,
    pub(super) sources: SharedSources,
    pub(super) parts: Vec<Part>,
    pub(super) started: Timestamp,
    pub(super) ended: Timestamp,
    pub(super) lease: Arc<Lease>,
    /// Last: what is left is cleared up when nothing keeps it any more.
    pub(super) remains: Remains,
}

impl Built {
    /// Shows the files of the result, mounted in a namespace of its own, to what looks at them.
    pub async fn look(self: &Arc<Self>, look: Box<dyn FnOnce(&Root) + Send>) -> Result<()> {
        let own = Arc::clone(self);
        blocking::run_long("look at the files of a result", move || {
            let [part] = own.parts.as_slice() else {
                return Err(Error::not_implemented("reading the files of several platforms"));
            };
            let (context, store) = (&own.context, &own.context.store);
            store.restore_layers(&part.layers)?;
            let ids: Vec<Digest> = part.layers.iter().map(|layer| layer.diff_id.clone()).collect();
            if ids.is_empty() {
                look(&Scratch::new(context)?.root);
                return Ok(());
            }
            let mounts = store.view(&own.lease, &ids)?;
            view::seen(&mounts, &context.config.exec_root, |root| {
                look(root);
                Ok(())
            })
        })
        .await
    }
}

/// The time that images are to have, if it was said.
pub(super) fn epoch(request: &Request) -> Result<Option<Timestamp>> {
    // An empty one is as good as none.
    let Some(text) = request.arguments.get(EPOCH).filter(|text| !text.is_empty()) else { return Ok(None) };
    let parsed = text.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    parsed.map(Some).ok_or_else(|| Error::invalid(format!("invalid {EPOCH}: {text}")))
}

/// What a solver has come to.
pub(super) async fn part(solver: &Solver, platform: Platform) -> Result<Part, Failed> {
    let graph = &solver.graph;
    let result = solver.made(graph.result).ok_or_else(|| Error::system("a bug: the result is not made"))?;
    let layers = result.layers().to_vec();
    let mut config = graph.config.clone();
    config.created = Some(times(solver, &mut config)?);
    let base = graph.base.clone().and_then(|manifest| {
        solver.images.iter().find(|image| image.image.manifest.digest == manifest).map(|image| &image.image)
    });
    let below = base.map_or(0, |base| base.manifest.layers.len());
    let parent = base.map(|base| base.id.clone());
    let squash = solver.request.squash && layers.len() > below + 1;
    let (store, lease) = (solver.context.store.clone(), Arc::clone(&solver.lease));
    let (layers, config) = blocking::run_long("put an image together", move || {
        let layers = if squash { squashed(&store, &lease, &mut config, layers, below)? } else { layers };
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        Ok((layers, config))
    })
    .await?;
    let needed = graph.needed();
    let steps = graph.vertices.iter().zip(needed).filter(|(_, needed)| *needed).map(|(vertex, _)| Step {
        name: vertex.name.clone(),
        digest: vertex.digest.clone(),
        inputs: vertex.inputs.iter().map(|input| graph.vertices[*input].digest.clone()).collect(),
    });
    let mut materials: Vec<Material> = solver
        .images
        .iter()
        .map(|image| Material {
            name: image.name.clone(),
            digest: image.image.id.clone(),
            platform: image.image.manifest.platform.clone(),
        })
        .collect();
    materials.sort();
    materials.dedup();
    Ok(Part {
        platform,
        layers,
        below,
        config,
        parent,
        materials,
        noted: solver.noted(),
        steps: steps.collect(),
    })
}

/// Fills in when each entry of the history was made, and which of them have layers; the time of the last.
fn times(solver: &Solver, config: &mut ImageConfig) -> Result<String, Failed> {
    let epoch = epoch(&solver.request)?.map(|time| time.to_string());
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
            Some(Output::Layers { made, .. }) => made.clone(),
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
    lease: &Lease,
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
