//! Images as registries store them: descriptors, manifests, indexes and configurations, of OCI and of Docker schema 2.
//!
//! The bytes are kept as they came and named by their digest; these types are a reading of them. Fields that are not
//! known are passed over, `null` is the same as absent, as with Docker. A document that could be read in two ways is
//! refused: one digest must not have two meanings.

pub mod config;
pub mod media_type;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use config::{ContainerConfig, Healthcheck, History, ImageConfig, RootFs};

use crate::lenient::null_as_default;
use crate::{Digest, Error, Platform};

/// The largest manifest or index that is read, as in containerd and in registries: an honest one of 500 layers has a
/// fiftieth of it.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// The largest image configuration that is read; containerd's limit.
pub const MAX_CONFIG_BYTES: u64 = 8 << 20;
/// The most layers an image may have: the kernel's overlay stacks no more than 500 (`OVL_MAX_STACK`).
pub const MAX_LAYERS: usize = 500;

/// Names some content: what it is, its digest and its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default, deserialize_with = "null_as_default")]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where else it may be had.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Remarks.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What the artifact is, if it is none of an image's parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// For an index's entries: where the image runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// One image for one platform: its configuration and its layers, the lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What the artifact is, if it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers.
    #[serde(default, deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Remarks.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// One image for several platforms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What the artifact is, if it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests.
    #[serde(default, deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Remarks.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What an image's name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One platform.
    Manifest(Box<Manifest>),
    /// Several platforms.
    Index(Box<Index>),
}

/// The fields by which a document's kind is told; what they hold does not matter here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u32>,
    media_type: Option<String>,
    #[serde(default)]
    config: Presence,
    #[serde(default)]
    layers: Presence,
    #[serde(default)]
    manifests: Presence,
    #[serde(default)]
    fs_layers: Presence,
}

/// Whether a field is there; `null` counts, for another reader may take it as meant.
#[derive(Default)]
struct Presence(bool);

impl<'de> Deserialize<'de> for Presence {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer)?;
        Ok(Self(true))
    }
}

impl Document {
    /// Reads a manifest or an index. `media_type` is what the sender, or the descriptor that led here, calls it.
    ///
    /// What the document is called, what it calls itself and what it holds must agree (CVE-2021-41190).
    pub fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Self, Error> {
        let what = "manifest";
        let size = bytes.len() as u64;
        if size > MAX_MANIFEST_BYTES {
            return Err(Error::TooLarge { what, size, limit: MAX_MANIFEST_BYTES });
        }
        let json = |source| Error::Json { what, source };
        let shape: Shape = serde_json::from_slice(bytes).map_err(json)?;
        let given = media_type.map(media_type::essence).filter(|given| media_type::is_specific(given));
        if shape.schema_version == Some(1)
            || shape.fs_layers.0
            || given.is_some_and(media_type::is_schema_one)
        {
            return Err(Error::SchemaOne);
        }
        let is_index = shape.is_index()?;
        for claim in [shape.media_type.as_deref().filter(|own| !own.is_empty()), given].into_iter().flatten()
        {
            let claims_index = media_type::is_index(claim);
            if !claims_index && !media_type::is_manifest(claim) {
                return Err(Error::UnsupportedMediaType { media_type: claim.to_owned() });
            }
            if claims_index != is_index {
                let held = if is_index { "an index" } else { "a manifest" };
                let reason = format!("called {claim}, but it holds {held}");
                return Err(Error::Ambiguous { reason });
            }
        }
        if let (Some(own), Some(given)) = (shape.media_type.as_deref().filter(|own| !own.is_empty()), given)
            && own != given
        {
            return Err(Error::Ambiguous { reason: format!("sent as {given}, but it calls itself {own}") });
        }
        if is_index {
            return Ok(Self::Index(Box::new(serde_json::from_slice(bytes).map_err(json)?)));
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(json)?;
        if manifest.layers.len() > MAX_LAYERS {
            return Err(Error::TooManyLayers { layers: manifest.layers.len(), limit: MAX_LAYERS });
        }
        Ok(Self::Manifest(Box::new(manifest)))
    }

    /// The media type: its own, or else the OCI one of its kind.
    pub fn media_type(&self) -> &str {
        let (own, default) = match self {
            Self::Manifest(manifest) => (&manifest.media_type, media_type::OCI_MANIFEST),
            Self::Index(index) => (&index.media_type, media_type::OCI_INDEX),
        };
        own.as_deref().filter(|own| !own.is_empty()).unwrap_or(default)
    }
}

impl Shape {
    fn is_index(&self) -> Result<bool, Error> {
        let ambiguous = |reason: &str| Error::Ambiguous { reason: reason.to_owned() };
        match (self.manifests.0, self.config.0 || self.layers.0) {
            (true, true) => Err(ambiguous("it has the fields of an index and of a manifest")),
            (true, false) => Ok(true),
            (false, true) => Ok(false),
            (false, false) => Err(ambiguous("it has the fields of neither an index nor a manifest")),
        }
    }
}

impl Manifest {
    /// Reads a manifest, and refuses an index.
    pub fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Self, Error> {
        match Document::parse(bytes, media_type)? {
            Document::Manifest(manifest) => Ok(*manifest),
            Document::Index(_) => {
                Err(Error::Ambiguous { reason: "an index where a manifest was expected".to_owned() })
            }
        }
    }
}

impl Index {
    /// The entry whose image runs best on `platform`. Attestations and other things that are no images are passed over;
    /// an entry without a platform is taken only if no other suits.
    pub fn select(&self, platform: &Platform) -> Result<&Descriptor, Error> {
        let images = || self.manifests.iter().filter(|entry| entry.is_image_or_index());
        let ranked = images().filter_map(|entry| {
            let rank = platform.rank(entry.platform.as_ref().filter(|platform| !platform.os.is_empty())?)?;
            Some((rank, entry))
        });
        // `min_by_key` gives the first of several that are equally good, as Docker does.
        ranked
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, entry)| entry)
            .or_else(|| images().find(|entry| entry.platform.is_none()))
            .ok_or_else(|| Error::NoMatchingPlatform { platform: platform.to_string() })
    }
}

impl Descriptor {
    /// A descriptor of these parts, with nothing more to say.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            artifact_type: None,
            platform: None,
        }
    }

    /// Whether it may lead to an image: a manifest or an index, and no attestation about another entry.
    pub fn is_image_or_index(&self) -> bool {
        let attests = self.annotations.contains_key("vnd.docker.reference.type");
        let nowhere = self
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "unknown" && platform.architecture == "unknown");
        let known = media_type::is_manifest(&self.media_type) || media_type::is_index(&self.media_type);
        known && !attests && !nowhere
    }
}

#[cfg(test)]
mod tests;
