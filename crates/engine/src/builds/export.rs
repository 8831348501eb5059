//! Putting out what was built: images into the store and to registries, archives and files to the client, the cache to where others find it.

pub(super) mod archive;
mod attest;
mod documents;
mod files;
pub(super) mod image;
pub(super) mod layers;
mod packages;
mod provenance;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use build::output::{CacheOutput, CachePlace, Export, ImageOutput, Output};
use build::progress::{End, Event, Teller, Vertex};
use oci::Digest;
use oci::image::Descriptor;
use sha2::{Digest as _, Sha256};

use super::remote;
use super::result::Built;
use super::tell::Voice;
use crate::error::{Error, Result};
use documents::Assembled;
pub(super) use documents::typed;

/// What the client is told of what was put out: names that scripts know.
pub type Response = BTreeMap<String, String>;

impl Built {
    /// Puts the result out, everywhere; what the client is told of it. Nothing of a place that fails is undone at those before it.
    pub async fn export(self: &Arc<Self>, export: &Export, teller: Teller) -> Result<Response> {
        // Images in the store keep what they are made of; of everything else something is left.
        let keeps = |output: &Output| matches!(output, Output::Image(image) if image.store);
        let is_kept =
            export.caches.is_empty() && !export.outputs.is_empty() && export.outputs.iter().all(keeps);
        self.remains.whole.store(false, Ordering::Relaxed);
        let mut response = Response::new();
        let several = export.outputs.len() > 1;
        for (number, output) in export.outputs.iter().enumerate() {
            let name = match output {
                Output::Image(_) => "exporting to image",
                Output::Archive(archive) if archive.docker => "exporting to docker image format",
                Output::Archive(_) => "exporting to oci image format",
                Output::Files(files) if files.archive => "exporting to client tarball",
                Output::Files(_) => "exporting to client directory",
            };
            let name = if several { format!("{name} ({})", number + 1) } else { name.to_owned() };
            let voice = self.voice(&name, &teller).await;
            voice.started().await;
            let done = match output {
                Output::Image(image) => image::put(self, image, export, &voice).await,
                Output::Archive(archive) => archive::send(self, number, archive, export, &voice).await,
                Output::Files(files) => files::send(self, number, files, &voice).await,
            };
            match done {
                Ok(told) => {
                    voice.done(End::Ran).await;
                    response.extend(told);
                }
                Err(error) => {
                    voice.done(End::Failed(error.chain())).await;
                    return Err(error);
                }
            }
        }
        for (number, cache) in export.caches.iter().enumerate() {
            let told = self.export_cache(cache, &teller).await?;
            if export.caches.len() > 1
                && let Some(manifest) = told.get(remote::MANIFEST)
            {
                // The name is that of the last; each has its own beside it.
                response.insert(format!("{}.{number}", remote::MANIFEST), manifest.clone());
            }
            response.extend(told);
        }
        self.remains.whole.store(is_kept, Ordering::Relaxed);
        Ok(response)
    }

    /// Writes a cache.
    async fn export_cache(self: &Arc<Self>, cache: &CacheOutput, teller: &Teller) -> Result<Response> {
        let name = match &cache.place {
            CachePlace::Inline => "exporting cache to image",
            CachePlace::Registry(_) => "exporting cache to registry",
            CachePlace::Local { .. } => "exporting cache to client directory",
        };
        let voice = self.voice(name, teller).await;
        voice.started().await;
        match remote::put(self, cache, &voice).await {
            Ok(told) => {
                voice.done(End::Ran).await;
                Ok(told)
            }
            Err(error) => {
                voice.done(End::Failed(error.chain())).await;
                if cache.ignore_error { Ok(Response::new()) } else { Err(error) }
            }
        }
    }

    /// Puts the one image of a build into the store; its id, and the digest of its configuration.
    pub(super) async fn export_image(self: &Arc<Self>, output: ImageOutput) -> Result<(Digest, Digest)> {
        let assembled = image::store(self, output).await?;
        let config = assembled.image.manifests.first().map(|manifest| manifest.config.clone());
        let config = config.ok_or_else(|| Error::system("a bug: an image has no configuration"))?;
        Ok((assembled.image.id, config))
    }

    /// Who tells of a part of the export.
    async fn voice(&self, name: &str, teller: &Teller) -> Voice {
        let digest = Digest::from_sha256(Sha256::digest(format!("{}\n{name}", self.started)).into());
        let vertex = Vertex { digest: digest.clone(), name: name.to_owned(), inputs: Vec::new() };
        // Nobody listens: nobody needs to know.
        let _ = teller.send(Event::Vertex(vertex)).await;
        Voice::new(teller.clone(), digest)
    }

    /// The client as who takes what is made.
    fn client(&self) -> Result<&dyn build::output::Client> {
        let client = self.sources.client();
        client.ok_or_else(|| {
            Error::invalid("the client of this build takes no files: its session has no FileSend")
        })
    }
}

/// Does a part of an export, and tells of it.
async fn part_of<T>(voice: &Voice, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let started = SystemTime::now();
    voice.status(name, name, (0, 0), started, false).await;
    let done = work.await?;
    voice.status(name, name, (0, 0), started, true).await;
    Ok(done)
}

/// Tells that something has been done that takes no time.
async fn noted(voice: &Voice, name: &str) {
    voice.status(name, name, (0, 0), SystemTime::now(), true).await;
}

/// What a client is told of an image.
fn told(assembled: &Assembled, names: &[String]) -> Result<Response> {
    let mut told = Response::from([
        ("containerimage.digest".to_owned(), assembled.top.digest.to_string()),
        ("containerimage.descriptor".to_owned(), STANDARD.encode(encode(&assembled.top)?)),
    ]);
    if let [only] = assembled.image.manifests.as_slice() {
        told.insert("containerimage.config.digest".to_owned(), only.config.to_string());
    }
    if !names.is_empty() {
        told.insert("image.name".to_owned(), names.join(","));
    }
    Ok(told)
}

/// Writes a document.
fn encode<T: serde::Serialize>(what: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(what).map_err(|e| Error::system("cannot write an image's documents").with_source(e))
}

/// A document in the store.
fn put(built: &Built, kind: &str, bytes: &[u8]) -> Result<Descriptor> {
    let digest = built.context.store.put_blob(&built.lease, kind, bytes)?;
    Ok(Descriptor::new(kind, digest, bytes.len() as u64))
}
