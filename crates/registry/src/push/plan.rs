//! What a push consists of: which documents, which blobs, in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use oci::image::{Descriptor, Document, Manifest, media_type};
use oci::{Digest, Platform};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use storage::{Lease, NewImage, PlatformManifest, Resource, Store};

use super::send::Sent;
use crate::error::{Error, Result};

/// An index may lead to an index, but not for ever.
const DEPTH_MAX: usize = 4;

/// A document that is to be put.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) descriptor: Descriptor,
    pub(super) bytes: Vec<u8>,
}

/// A layer, and what it unpacks to where it is one of a root filesystem.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) media_type: String,
    /// Where it is to be had instead of at a registry.
    pub(super) foreign: bool,
    pub(super) diff_id: Option<Digest>,
}

/// What a push consists of.
#[derive(Debug)]
pub(super) struct Plan {
    /// What the name is to lead to.
    pub(super) top: Descriptor,
    /// The documents, each behind those it names.
    pub(super) documents: Vec<Item>,
    pub(super) configs: Vec<Part>,
    pub(super) layers: Vec<Part>,
    /// Manifests of the index that are not here.
    pub(super) absent: Vec<Digest>,
    pub(super) instead_of: Option<Descriptor>,
}

/// A walk down from a document.
struct Walk<'a> {
    store: &'a Store,
    lease: &'a Lease,
    plan: Plan,
    seen: BTreeSet<Digest>,
    /// What was not here the last time that something was not.
    lost: Option<Digest>,
}

/// All of an image, or one manifest of it.
pub(super) fn whole(
    store: &Store,
    lease: &Arc<Lease>,
    image: &NewImage,
    manifest: Option<&Digest>,
) -> Result<Plan> {
    let top = match manifest {
        Some(digest) => image
            .manifests
            .iter()
            .find(|manifest| manifest.digest == *digest)
            .map(entry)
            .ok_or_else(|| Error::Missing { digest: digest.clone(), of_index: true })?,
        None => Descriptor::new(&image.media_type, image.id.clone(), image.size),
    };
    let diff_ids: BTreeMap<Digest, Digest> = image
        .manifests
        .iter()
        .flat_map(|manifest| &manifest.layers)
        .map(|layer| (layer.digest.clone(), layer.diff_id.clone()))
        .collect();
    let plan = Plan {
        top: top.clone(),
        documents: Vec::new(),
        configs: Vec::new(),
        layers: Vec::new(),
        absent: Vec::new(),
        instead_of: None,
    };
    let mut walk = Walk { store, lease, plan, seen: BTreeSet::new(), lost: None };
    if !walk.visit(&top, DEPTH_MAX)? {
        return Err(Error::Missing { digest: walk.lost.unwrap_or(top.digest), of_index: false });
    }
    for layer in &mut walk.plan.layers {
        layer.diff_id = diff_ids.get(&layer.digest).cloned();
    }
    Ok(walk.plan)
}

/// The one manifest that stands for an image of which not all is here: the only one, or this machine's; none if
/// nothing is here.
pub(super) fn only(store: &Store, lease: &Arc<Lease>, image: &NewImage) -> Result<Option<Plan>> {
    let chosen = match image.manifests.as_slice() {
        [] => return Ok(None),
        [one] => one,
        several => {
            let host = Platform::host();
            let rank = |manifest: &PlatformManifest| {
                Platform::parse(&manifest.platform).ok().and_then(|have| host.rank(&have))
            };
            let ranked = several.iter().filter_map(|manifest| Some((rank(manifest)?, manifest)));
            ranked.min_by_key(|(rank, _)| *rank).map(|(_, manifest)| manifest).ok_or_else(|| {
                Error::Unsupported {
                    what:
                        "multiple matching manifests found but no specific platform requested: a push of them"
                            .into(),
                }
            })?
        }
    };
    whole(store, lease, image, Some(&chosen.digest)).map(Some)
}

fn entry(manifest: &PlatformManifest) -> Descriptor {
    Descriptor::new(&manifest.media_type, manifest.digest.clone(), manifest.size)
}

fn add(list: &mut Vec<Part>, part: &Descriptor, foreign: bool) {
    if list.iter().all(|known| known.digest != part.digest) {
        list.push(Part {
            digest: part.digest.clone(),
            size: part.size,
            media_type: part.media_type.clone(),
            foreign,
            diff_id: None,
        });
    }
}

impl Walk<'_> {
    /// Adds a document and what it names; false if not all of it is here.
    fn visit(&mut self, descriptor: &Descriptor, depth: usize) -> Result<bool> {
        if depth == 0 {
            return Err(Error::Unsupported { what: format!("an index {DEPTH_MAX} levels deep") });
        }
        if !self.seen.insert(descriptor.digest.clone()) {
            return Ok(true);
        }
        if !self.hold(&descriptor.digest)? {
            return Ok(false);
        }
        let bytes = self.store.read_blob(&descriptor.digest, oci::image::MAX_MANIFEST_BYTES)?;
        let kind = Some(descriptor.media_type.as_str()).filter(|kind| !kind.is_empty());
        let document = Document::parse(&bytes, kind)?;
        match &document {
            Document::Manifest(manifest) => {
                if !self.manifest(manifest)? {
                    return Ok(false);
                }
            }
            Document::Index(index) => {
                for entry in &index.manifests {
                    let kind = media_type::essence(&entry.media_type);
                    let is_document =
                        kind.is_empty() || media_type::is_manifest(kind) || media_type::is_index(kind);
                    // Build caches are indexes of layers, and of what tells of them.
                    let is_here = if is_document { self.visit(entry, depth - 1)? } else { self.blob(entry)? };
                    if !is_here {
                        self.plan.absent.push(entry.digest.clone());
                    }
                }
            }
        }
        let descriptor =
            Descriptor::new(document.media_type(), descriptor.digest.clone(), bytes.len() as u64);
        if descriptor.digest == self.plan.top.digest {
            self.plan.top = descriptor.clone();
        }
        self.plan.documents.push(Item { descriptor, bytes });
        Ok(true)
    }

    fn manifest(&mut self, manifest: &Manifest) -> Result<bool> {
        let foreign = |layer: &Descriptor| {
            !layer.urls.is_empty()
                && (layer.media_type.contains("nondistributable") || layer.media_type.contains("foreign"))
        };
        let parts: Vec<&Descriptor> = std::iter::once(&manifest.config).chain(&manifest.layers).collect();
        for part in &parts {
            if !foreign(part) && !self.hold(&part.digest)? {
                return Ok(false);
            }
        }
        for (at, part) in parts.into_iter().enumerate() {
            let list = if at == 0 { &mut self.plan.configs } else { &mut self.plan.layers };
            add(list, part, foreign(part));
        }
        Ok(true)
    }

    /// Adds a blob that an index names by itself; false if it is not here.
    fn blob(&mut self, entry: &Descriptor) -> Result<bool> {
        let is_here = self.hold(&entry.digest)?;
        if is_here {
            add(&mut self.plan.layers, entry, false);
        }
        Ok(is_here)
    }

    /// Keeps a blob until the push is over; false if it is not here.
    fn hold(&mut self, digest: &Digest) -> Result<bool> {
        let here = self.store.transaction(|tx| {
            let here = tx.blob_info(digest)?.is_some();
            if here {
                tx.hold(self.lease, &Resource::Blob(digest.clone()))?;
            }
            Ok(here)
        })?;
        if !here {
            self.lost = Some(digest.clone());
        }
        Ok(here)
    }
}

/// The documents as they are to be put: as they are, or with the layers that were compressed otherwise.
pub(super) fn rewritten(plan: &Plan, sent: &Sent) -> Result<Vec<(Descriptor, Vec<u8>)>> {
    let mut changed: BTreeMap<String, Descriptor> = BTreeMap::new();
    let mut documents = Vec::new();
    for Item { descriptor, bytes } in &plan.documents {
        if sent.layers.is_empty() {
            documents.push((descriptor.clone(), bytes.clone()));
            continue;
        }
        let json = |source| Error::from(oci::Error::Json { what: "manifest", source });
        let mut document: Value = serde_json::from_slice(bytes).map_err(json)?;
        let mut other = false;
        for entry in entries(&mut document, "layers") {
            other |= replace(entry, &sent.layers, true);
        }
        if other && sent.oci {
            set_type(&mut document, media_type::OCI_MANIFEST);
            if let Some(config) = document.get_mut("config") {
                set_type(config, media_type::OCI_CONFIG);
            }
        }
        for entry in entries(&mut document, "manifests") {
            other |= replace(entry, &changed, false);
        }
        if !other {
            documents.push((descriptor.clone(), bytes.clone()));
            continue;
        }
        if sent.oci && document.get("manifests").is_some() {
            set_type(&mut document, media_type::OCI_INDEX);
        }
        let bytes = serde_json::to_vec(&document).map_err(json)?;
        let kind = Document::parse(&bytes, None)?.media_type().to_owned();
        let digest = Digest::from_sha256(Sha256::digest(&bytes).into());
        let new = Descriptor::new(&kind, digest, bytes.len() as u64);
        changed.insert(descriptor.digest.to_string(), new.clone());
        documents.push((new, bytes));
    }
    Ok(documents)
}

/// The entries of a list that a document may have.
fn entries<'a>(document: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    document.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

fn set_type(document: &mut Value, kind: &str) {
    if let Some(own) = document.get_mut("mediaType") {
        *own = kind.into();
    }
}

/// Puts another descriptor in an entry's place; whether there is one.
fn replace(entry: &mut Value, others: &BTreeMap<String, Descriptor>, drop_remarks: bool) -> bool {
    // What is said about another entry is said by its digest.
    let mut about = false;
    if let Some(subject) = entry.pointer_mut("/annotations/vnd.docker.reference.digest")
        && let Some(other) = subject.as_str().and_then(|digest| others.get(digest))
    {
        *subject = other.digest.to_string().into();
        about = true;
    }
    let Some(other) = entry["digest"].as_str().and_then(|digest| others.get(digest)) else { return about };
    entry["digest"] = other.digest.to_string().into();
    entry["size"] = other.size.into();
    entry["mediaType"] = other.media_type.clone().into();
    if drop_remarks && let Some(entry) = entry.as_object_mut() {
        // They are about the bytes that were.
        entry.remove("annotations");
    }
    true
}
