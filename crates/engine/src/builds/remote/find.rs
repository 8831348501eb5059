//! Caches that are read: their documents when a build begins, their layers when a step wants one.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use build::output::{CachePlace, Client, Piece};
use build::progress::Teller;
use build::request::SharedSources;
use oci::Digest;
use oci::image::{Descriptor, Document, Index, Manifest};
use registry::Credentials;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use storage::{Expected, LayerWriter, Lease};
use tokio::sync::mpsc;

use super::super::cache::{Made, hold};
use super::super::tell::Voice;
use super::super::vertex;
use super::{
    CACHES_MAX, CONFIG, CONFIG_BYTES_MAX, Far, INLINE, Imports, Layer, Place, RECORDS_MAX, Read, Record, far,
    known, made, read, shown,
};
use crate::blocking;
use crate::context::Context;
use crate::error::{Error, Kind, Result};

/// Images of one index that are looked into for caches of their own.
const IMAGES_MAX: usize = 16;
/// Bytes of a document that says where a cache's parts are.
const MANIFEST_BYTES_MAX: u64 = oci::image::MAX_MANIFEST_BYTES;

/// Reads the caches that a build is to look into. One that cannot be read has nothing: the build goes on without, and says so.
pub(in crate::builds) async fn load(
    context: &Arc<Context>,
    sources: &SharedSources,
    places: &[CachePlace],
    teller: &Teller,
) -> Result<Imports> {
    if places.len() > CACHES_MAX {
        return Err(Error::invalid(format!("a build looks into {CACHES_MAX} caches at most")));
    }
    let mut imports = Imports::default();
    for place in places {
        let name = format!("importing cache manifest from {}", shown(place));
        let voice = Voice::new(teller.clone(), vertex(&name, teller).await);
        voice.started().await;
        let end = match one(context, sources, place).await {
            Ok(found) => {
                imports.0.extend(found);
                build::progress::End::Ran
            }
            Err(error) => build::progress::End::Failed(error.chain()),
        };
        voice.done(end).await;
    }
    Ok(imports)
}

async fn one(context: &Arc<Context>, sources: &SharedSources, place: &CachePlace) -> Result<Vec<Read>> {
    match place {
        CachePlace::Inline => Err(Error::invalid("a cache in an image is read from its registry")),
        CachePlace::Registry(name) => match here(context, name).await? {
            Some(read) => Ok(vec![read]),
            None => registry(context, sources, name).await,
        },
        CachePlace::Local { store, digest, .. } => {
            let client = client(sources)?;
            let digest = digest.as_deref().ok_or_else(|| {
                Error::invalid(format!("{store}: there is no cache of this tag in its index.json"))
            })?;
            let digest = Digest::parse(digest).map_err(|error| Error::invalid(error.to_string()))?;
            local(client, store, &digest).await.map(|read| vec![read])
        }
    }
}

fn client(sources: &SharedSources) -> Result<&dyn Client> {
    sources.client().ok_or_else(|| Error::invalid("the client has no directory for a cache"))
}

/// What a document leads to.
enum Leads {
    /// To a cache, with the layers that are there.
    Cache { config: Box<Descriptor>, layers: HashMap<Digest, Descriptor> },
    /// To an image, which may have a cache of its own.
    Image(Box<Manifest>),
    /// To several things.
    Index(Box<Index>),
}

fn leads(document: Document) -> Leads {
    let by_digest = |list: Vec<Descriptor>| list.into_iter().map(|one| (one.digest.clone(), one)).collect();
    match document {
        Document::Manifest(manifest) if manifest.config.media_type == CONFIG => {
            Leads::Cache { config: Box::new(manifest.config), layers: by_digest(manifest.layers) }
        }
        Document::Manifest(manifest) => Leads::Image(manifest),
        Document::Index(index) => match index.manifests.iter().find(|one| one.media_type == CONFIG) {
            Some(config) => {
                Leads::Cache { config: Box::new(config.clone()), layers: by_digest(index.manifests) }
            }
            None => Leads::Index(index),
        },
    }
}

/// The cache that an image has of itself, where the image is here.
async fn here(context: &Arc<Context>, name: &str) -> Result<Option<Read>> {
    let image = match context.images.resolve(name, None).await {
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        other => other?,
    };
    let store = context.store.clone();
    blocking::run("look for a cache in an image", move || {
        let manifest = image.manifest;
        let bytes = store.read_blob(&manifest.config, manifest.config_size)?;
        let layers: Vec<_> = manifest
            .layers
            .iter()
            .map(|layer| Descriptor::new(&layer.media_type, layer.digest.clone(), layer.size))
            .collect();
        Ok(inlined(&bytes, &layers)?.map(|records| Read { place: Place::Here, records }))
    })
    .await
}

async fn registry(context: &Arc<Context>, sources: &SharedSources, name: &str) -> Result<Vec<Read>> {
    let reference = crate::images::parse_reference(name, "")?.or_latest();
    let given = sources.credentials(reference.domain()).await;
    let given = given.map_err(|error| Error::invalid(format!("cannot ask for credentials: {error}")))?;
    let credentials = given
        .map_or(Credentials::Anonymous, |(username, password)| Credentials::Basic { username, password });
    let repository = context.images.client().repository(&reference, credentials.clone()).await?;
    let resolved = repository.resolve(reference.target()).await?;
    let place = Place::Registry { reference: Box::new(reference), credentials };
    let images = match leads(resolved.document) {
        Leads::Cache { config, layers } => {
            let bytes = repository.small_blob(&config).await?;
            return read(&bytes, place, |layer| far(layer, &layers)).map(|read| vec![read]);
        }
        Leads::Image(manifest) => vec![*manifest],
        Leads::Index(index) => {
            let mut images = Vec::new();
            for entry in index.manifests.iter().filter(|entry| entry.is_image_or_index()).take(IMAGES_MAX) {
                if let Document::Manifest(manifest) = repository.manifest(entry).await?.document {
                    images.push(*manifest);
                }
            }
            images
        }
    };
    let mut found = Vec::new();
    for manifest in images {
        let bytes = repository.small_blob(&manifest.config).await?;
        if let Some(records) = inlined(&bytes, &manifest.layers)? {
            found.push(Read { place: place.clone(), records });
        }
    }
    Ok(found)
}

/// What an image's configuration has of a cache.
#[derive(Deserialize)]
struct Own {
    #[serde(rename = "moby.buildkit.cache.v0")]
    cache: Option<String>,
    rootfs: oci::image::RootFs,
}

/// What is known by a key: the layer, if there is one, and when it was made.
type Known = HashMap<Digest, (Option<Far>, String)>;

/// The cache that an image has of itself.
fn inlined(config: &[u8], layers: &[Descriptor]) -> Result<Option<Known>> {
    let wrong = |what: String| Error::invalid(format!("{INLINE} of the image is no build cache: {what}"));
    let own: Own = serde_json::from_slice(config).map_err(|error| wrong(error.to_string()))?;
    let Some(cache) = own.cache else { return Ok(None) };
    let bytes = STANDARD.decode(cache).map_err(|error| wrong(error.to_string()))?;
    let records: Vec<Record> = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    if records.len() > RECORDS_MAX {
        return Err(wrong(format!("it has more than {RECORDS_MAX} records")));
    }
    let layers: Vec<Option<Far>> = layers
        .iter()
        .zip(own.rootfs.diff_ids)
        .map(|(descriptor, diff_id)| Some(Far { descriptor: descriptor.clone(), diff_id }))
        .collect();
    Ok(Some(known(records, &layers)))
}

/// A cache in a directory of the client.
async fn local(client: &dyn Client, store: &str, digest: &Digest) -> Result<Read> {
    let bytes = small(client, store, digest, MANIFEST_BYTES_MAX).await?;
    let document = Document::parse(&bytes, None).map_err(|error| Error::invalid(error.to_string()))?;
    let Leads::Cache { config, layers } = leads(document) else {
        return Err(Error::invalid(format!("{store}: {digest} is no build cache")));
    };
    let bytes = small(client, store, &config.digest, CONFIG_BYTES_MAX).await?;
    read(&bytes, Place::Client(store.to_owned()), |layer: &Layer| far(layer, &layers))
}

/// A small blob of the client's, verified.
async fn small(client: &dyn Client, store: &str, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>> {
    let failed = |error: build::request::SourceError| Error::invalid(error.0);
    let size = client.blob_size(store, digest).await.map_err(failed)?;
    let size = size.ok_or_else(|| Error::not_found(format!("{store}: {digest}: not found")))?;
    if size > bytes_max {
        return Err(Error::invalid(format!("{store}: {digest} is larger than {bytes_max} bytes")));
    }
    let mut pieces = client.read_blob(store, digest, size).await.map_err(failed)?;
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.recv().await {
        bytes.extend(piece.map_err(failed)?);
    }
    if Digest::from_sha256(Sha256::digest(&bytes).into()) != *digest {
        return Err(Error::invalid(format!("{store}: {digest} is not what it is called by")));
    }
    Ok(bytes)
}

impl Imports {
    /// Whether there is nothing in any of them.
    pub(in crate::builds) fn is_empty(&self) -> bool {
        self.0.iter().all(|cache| cache.records.is_empty())
    }

    /// What a step has made elsewhere, brought here. What cannot be brought is not there, and the step is made anew.
    pub(in crate::builds) async fn find(
        &self,
        context: &Arc<Context>,
        sources: &SharedSources,
        lease: &Arc<Lease>,
        key: &Digest,
    ) -> Option<Made> {
        for cache in &self.0 {
            let Some((layer, created)) = cache.records.get(key) else { continue };
            let brought = match layer {
                None => Ok(()),
                Some(far) => bring(context, sources, lease, &cache.place, far).await,
            };
            match brought {
                Ok(()) => return Some(made(layer.as_ref(), created)),
                Err(error) => tracing::warn!(error = error.chain(), %key, "a cached layer cannot be had"),
            }
        }
        None
    }
}

/// Brings a layer.
async fn bring(
    context: &Arc<Context>,
    sources: &SharedSources,
    lease: &Arc<Lease>,
    place: &Place,
    far: &Far,
) -> Result<()> {
    match place {
        Place::Registry { reference, credentials } => {
            let (descriptor, diff_id) = (&far.descriptor, &far.diff_id);
            context.images.fetch_layer(reference, credentials.clone(), lease, descriptor, diff_id).await
        }
        Place::Client(store) => from_client(context, client(sources)?, lease, store, far).await,
        Place::Here => {
            let (own, keep) = (context.store.clone(), Arc::clone(lease));
            let Some(layer) = made(Some(far), "").layer else { return Ok(()) };
            blocking::run("keep a cached layer", move || {
                own.restore_layers(std::slice::from_ref(&layer))?;
                Ok(own.transaction(|tx| hold(tx, &keep, &layer))?)
            })
            .await
        }
    }
}

async fn from_client(
    context: &Arc<Context>,
    client: &dyn Client,
    lease: &Arc<Lease>,
    store: &str,
    far: &Far,
) -> Result<()> {
    let (own, keep, wanted) = (context.store.clone(), Arc::clone(lease), far.clone());
    let begun = blocking::run("begin a cached layer", move || begin(&own, &keep, &wanted)).await?;
    let Some(mut writer) = begun else { return Ok(()) };
    if writer.offset() > 0 {
        // What is there of an earlier try is not worth asking for the rest.
        let keep = Arc::clone(lease);
        writer = blocking::run("begin a cached layer", move || Ok(writer.restart(&keep)?)).await?;
    }
    let failed = |error: build::request::SourceError| Error::invalid(error.0);
    let pieces =
        client.read_blob(store, &far.descriptor.digest, far.descriptor.size).await.map_err(failed)?;
    let diff_id = far.diff_id.clone();
    blocking::run_paced("take a cached layer", move || take(writer, pieces, &diff_id)).await
}

/// Begins to take a layer; nothing if it is here.
fn begin(store: &storage::Store, lease: &Lease, far: &Far) -> Result<Option<LayerWriter>> {
    let descriptor = &far.descriptor;
    let expected = Expected {
        digest: descriptor.digest.clone(),
        size: descriptor.size,
        media_type: descriptor.media_type.clone(),
    };
    match store.write_layer(lease, expected) {
        Ok(writer) => Ok(Some(writer)),
        Err(storage::Error::Exists { .. }) => {
            store.unpack_blob(lease, &descriptor.digest, Some(&far.diff_id))?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn take(mut writer: LayerWriter, mut pieces: mpsc::Receiver<Piece>, diff_id: &Digest) -> Result<()> {
    while let Some(piece) = pieces.blocking_recv() {
        writer.write(&piece.map_err(|error| Error::invalid(error.0))?)?;
    }
    writer.commit(Some(diff_id))?;
    Ok(())
}
