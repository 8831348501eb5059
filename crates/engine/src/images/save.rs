//! `GET /images/get`: images as one archive, that is an OCI layout and Docker's archive at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::sync::Arc;

use oci::image::{Descriptor, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, media_type};
use oci::{Digest, Platform, Reference};
use serde::Serialize;
use serde_json::json;
use storage::pack::{Compression, Compressor, Writer};
use storage::{Image, Lease, NewImage, PlatformManifest, Resource, Store};

use super::{Images, assemble, find};
use crate::blocking;
use crate::error::{Error, Result};
use crate::events::{Events, Subject};
use crate::pipe::{Flow, Outlet, written};

/// Images of one archive: their names are in documents that are written at once.
const IMAGES_MAX: usize = 10_000;
/// Bytes read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Which documents an archive has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Those of Docker and those of OCI.
    #[default]
    Both,
    /// Docker's alone.
    Docker,
    /// OCI's alone.
    Oci,
}

/// What to save.
#[derive(Debug, Clone, Default)]
pub struct SaveOptions {
    /// Names, or ids.
    pub names: Vec<String>,
    /// Only these platforms; all that are here if there are none.
    pub platforms: Vec<Platform>,
    /// The form.
    pub format: Format,
    /// How it is compressed.
    pub compression: Compression,
}

/// One image of Docker's archive.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// All that goes into an archive.
#[derive(Debug, Default)]
struct Plan {
    index: Vec<Descriptor>,
    docker: Vec<(Digest, DockerEntry)>,
    repositories: BTreeMap<String, BTreeMap<String, String>>,
    documents: BTreeMap<Digest, u64>,
    layers: BTreeMap<Digest, u64>,
    saved: BTreeSet<Digest>,
}

impl Images {
    /// Images as an archive.
    pub async fn save(&self, options: SaveOptions) -> Result<Flow> {
        let (store, events) = (self.shared.store.clone(), self.shared.events.clone());
        let (format, compression) = (options.format, options.compression);
        // What is not there is told by the status.
        let (plan, lease) = blocking::run("look for images to save", move || plan(&store, &options)).await?;
        let store = self.shared.store.clone();
        Ok(Flow::start(&self.tasks, "save images", move |outlet| {
            let done = plan.write(&store, format, compression, outlet);
            drop(lease);
            done.map(|()| plan.tell(&events))
        }))
    }
}

impl Images {
    /// An image that was made here and is not visible as an archive, under these names. The lease keeps what it is made of.
    pub(crate) async fn archive(
        &self,
        image: &NewImage,
        names: &[Reference],
        remarks: BTreeMap<String, String>,
        options: &SaveOptions,
        lease: Arc<Lease>,
    ) -> Result<Flow> {
        let store = self.shared.store.clone();
        let image = Image {
            image: image.clone(),
            names: Vec::new(),
            created_ns: 0,
            updated_ns: 0,
            content_bytes: 0,
            unpacked_bytes: 0,
        };
        let (format, compression) = (options.format, options.compression);
        let named: Vec<Option<Reference>> =
            if names.is_empty() { vec![None] } else { names.iter().cloned().map(Some).collect() };
        let plan = blocking::run("look at an image that is to be sent", move || {
            let mut plan = Plan::default();
            for name in &named {
                plan.add(&store, &image, name.as_ref(), image.id().as_str(), &[])?;
            }
            for root in &mut plan.index {
                root.annotations.extend(remarks.clone());
            }
            Ok(plan)
        })
        .await?;
        let store = self.shared.store.clone();
        Ok(Flow::start(&self.tasks, "send an image", move |outlet| {
            let done = plan.write(&store, format, compression, outlet);
            drop(lease);
            done
        }))
    }
}

fn plan(store: &Store, options: &SaveOptions) -> Result<(Plan, Lease)> {
    let lease = store.passing_lease("save images")?;
    let mut plan = Plan::default();
    for name in &options.names {
        for (image, reference) in named(store, name)? {
            plan.add(store, &image, reference.as_ref(), name, &options.platforms)?;
            if plan.index.len() > IMAGES_MAX {
                return Err(Error::invalid(format!("an archive holds at most {IMAGES_MAX} images")));
            }
        }
    }
    if plan.index.is_empty() {
        return Err(Error::invalid("no image names given to save"));
    }
    for digest in plan.documents.keys().chain(plan.layers.keys()) {
        lease.hold(&Resource::Blob(digest.clone()))?;
    }
    for (digest, size) in plan.documents.iter().chain(&plan.layers) {
        present(store, digest, *size)?;
    }
    Ok((plan, lease))
}

/// Whether a blob is there to be sent: in the middle of an archive nobody can be told any more.
fn present(store: &Store, digest: &Digest, size: u64) -> Result<()> {
    let hint = "not all of the image is here: pull or load it again";
    let file = match store.open_blob(digest) {
        Err(storage::Error::NotFound { .. }) => {
            let words = format!("missing content: content digest {digest}: not found");
            return Err(Error::not_found(words).with_hint(hint));
        }
        opened => opened?,
    };
    let metadata = file.metadata();
    let length = metadata
        .map_err(|error| Error::system(format!("cannot look at the store's {digest}")).with_source(error))?;
    if length.len() == size {
        return Ok(());
    }
    let words = format!("the store's {digest} has {} bytes, not {size}", length.len());
    Err(Error::system(words).with_hint("corten system check --repair forgets what is damaged"))
}

/// The images that a name means; a repository alone means all its tags.
fn named(store: &Store, name: &str) -> Result<Vec<(Image, Option<Reference>)>> {
    if let Ok(reference) = Reference::parse_named(name)
        && reference.is_name_only()
    {
        let repository = reference.repository();
        let images = store.transaction(|tx| {
            let all = tx.images()?;
            Ok(all)
        })?;
        let tags = images.iter().flat_map(|image| {
            let names = image.names.iter().filter_map(|name| Reference::parse_named(name).ok());
            let own = names.filter(|name| name.digest().is_none() && name.repository() == repository);
            own.map(|name| (image.clone(), Some(name)))
        });
        let mut found: Vec<_> = tags.collect();
        if !found.is_empty() {
            found.sort_by_key(|(_, name)| name.as_ref().map(ToString::to_string));
            return Ok(found);
        }
    }
    let found = find::find(store, name)?;
    let reference = match found.by {
        find::By::Name(reference) if reference.digest().is_none() => Some(reference),
        _ => None,
    };
    Ok(vec![(found.image, reference)])
}

fn blob(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

impl Plan {
    fn add(
        &mut self,
        store: &Store,
        image: &Image,
        name: Option<&Reference>,
        text: &str,
        platforms: &[Platform],
    ) -> Result<()> {
        let chosen: Vec<&PlatformManifest> = if platforms.is_empty() {
            image.image.manifests.iter().collect()
        } else {
            let chosen = platforms.iter().map(|platform| find::choose(image, text, Some(platform)));
            chosen.collect::<Result<_>>()?
        };
        let shown = match chosen.as_slice() {
            [only] => *only,
            _ => find::choose(image, text, None)?,
        };
        // One platform that was asked for needs no index.
        let root = match (platforms.len(), chosen.as_slice()) {
            (1, [only]) => Descriptor::new(&only.media_type, only.digest.clone(), only.size),
            _ => {
                self.documents.insert(image.id().clone(), image.image.size);
                if platforms.is_empty() {
                    self.add_others(store, image)?;
                }
                Descriptor::new(&image.image.media_type, image.id().clone(), image.image.size)
            }
        };
        for manifest in chosen {
            self.documents.insert(manifest.digest.clone(), manifest.size);
            self.documents.insert(manifest.config.clone(), manifest.config_size);
            self.layers.extend(manifest.layers.iter().map(|layer| (layer.digest.clone(), layer.size)));
        }
        self.saved.insert(image.id().clone());
        self.add_root(root, name);
        self.add_docker(shown, name);
        Ok(())
    }

    /// Attestations and the like.
    fn add_others(&mut self, store: &Store, image: &Image) -> Result<()> {
        for digest in &image.image.other_blobs {
            if let Some(info) = store.blob_info(digest)? {
                self.layers.insert(digest.clone(), info.size);
            }
        }
        Ok(())
    }

    fn add_root(&mut self, mut root: Descriptor, name: Option<&Reference>) {
        if let Some(name) = name {
            let full = ("io.containerd.image.name".to_owned(), name.to_string());
            let tag = name.tag().unwrap_or_default().to_owned();
            root.annotations = BTreeMap::from([full, ("org.opencontainers.image.ref.name".to_owned(), tag)]);
        }
        if !self.index.contains(&root) {
            self.index.push(root);
        }
    }

    fn add_docker(&mut self, manifest: &PlatformManifest, name: Option<&Reference>) {
        let at = match self.docker.iter().position(|(digest, _)| *digest == manifest.digest) {
            Some(at) => at,
            None => {
                let entry = DockerEntry {
                    config: blob(&manifest.config),
                    repo_tags: None,
                    layers: manifest.layers.iter().map(|layer| blob(&layer.digest)).collect(),
                };
                self.docker.push((manifest.digest.clone(), entry));
                self.docker.len() - 1
            }
        };
        let Some(name) = name else { return };
        let tags = self.docker[at].1.repo_tags.get_or_insert_default();
        if !tags.contains(&name.familiar()) {
            tags.push(name.familiar());
        }
        if let Some(top) = manifest.layers.last() {
            let own = self.repositories.entry(name.familiar_name()).or_default();
            own.insert(name.tag().unwrap_or_default().to_owned(), top.digest.hex().to_owned());
        }
    }

    fn write(&self, store: &Store, format: Format, compression: Compression, outlet: Outlet) -> Result<()> {
        let compressor = Compressor::new(compression, outlet).map_err(written)?;
        let mut out = Writer::new(compressor);
        self.write_head(&mut out, format)?;
        out.directory("blobs/", 0o755).map_err(written)?;
        let kinds: BTreeSet<&str> = self
            .documents
            .keys()
            .chain(self.layers.keys())
            .map(|digest| digest.algorithm().as_str())
            .collect();
        for kind in kinds {
            out.directory(&format!("blobs/{kind}/"), 0o755).map_err(written)?;
        }
        for (digest, size) in &self.documents {
            let limit = MAX_CONFIG_BYTES.max(MAX_MANIFEST_BYTES);
            let content = store.read_blob(digest, limit)?;
            if content.len() as u64 != *size {
                return Err(Error::system(format!("the store's {digest} has another size than it should")));
            }
            out.file(&blob(digest), 0o644, &content).map_err(written)?;
        }
        for (digest, size) in self.layers.iter().filter(|(digest, _)| !self.documents.contains_key(digest)) {
            write_blob(&mut out, store, digest, *size)?;
        }
        out.finish().and_then(Compressor::finish).and_then(|mut outlet| outlet.flush()).map_err(written)
    }

    /// The documents that say what there is: first, so that a reader can go on without looking back.
    fn write_head<W: Write>(&self, out: &mut Writer<W>, format: Format) -> Result<()> {
        let mut put = |name: &str, content: &serde_json::Value| {
            out.file(name, 0o644, content.to_string().as_bytes()).map_err(written)
        };
        if format != Format::Docker {
            put("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))?;
            let index =
                json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": self.index});
            put("index.json", &index)?;
        }
        if format != Format::Oci {
            let entries: Vec<&DockerEntry> = self.docker.iter().map(|(_, entry)| entry).collect();
            put("manifest.json", &json!(entries))?;
            if !self.repositories.is_empty() {
                put("repositories", &json!(self.repositories))?;
            }
        }
        Ok(())
    }

    fn tell(&self, events: &Events) {
        for id in &self.saved {
            events.emit(Subject::Image, "save", id.as_str(), assemble::told(None, id));
        }
    }
}

fn write_blob<W: Write>(out: &mut Writer<W>, store: &Store, digest: &Digest, size: u64) -> Result<()> {
    let unreadable =
        |error: std::io::Error| Error::system(format!("cannot read the store's {digest}")).with_source(error);
    let mut file = store.open_blob(digest)?;
    out.head(&blob(digest), 0o644, size).map_err(written)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => out.content(&buffer[..length]).map_err(written)?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
}
