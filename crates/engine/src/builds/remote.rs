//! Steps that were made elsewhere: caches that lie at registries, in images and in directories of clients.
//!
//! The form is BuildKit's (`application/vnd.buildkit.cacheconfig.v0`): layers, and records that name them by what they are made of. The
//! keys in it are our own, so that a cache of another builder is read, and has nothing for us. What is there is believed as far as the
//! one who named it wants: a layer has to be what it is called by, what made it cannot be known.

mod find;
mod write;

use std::collections::HashMap;

use build::output::CachePlace;
use oci::image::{Descriptor, media_type};
use oci::{Digest, Reference};
use registry::Credentials;
use serde::{Deserialize, Serialize};

use super::cache::Made;
use crate::error::{Error, Result};

pub(super) use find::load;
pub(super) use write::{MANIFEST, inline, put};

/// What a cache's own document is.
const CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
/// The field of an image's configuration that has its own cache.
const INLINE: &str = "moby.buildkit.cache.v0";
/// Bytes of a cache's document: some hundred for each of so many records.
const CONFIG_BYTES_MAX: u64 = 8 << 20;
/// Records of one cache, and layers: a build of a thousand steps has two records for each.
const RECORDS_MAX: usize = 50_000;
const LAYERS_MAX: usize = 10_000;
/// Caches that one build looks into.
const CACHES_MAX: usize = 32;

/// A cache, as it is written.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Config {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Layer>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    records: Vec<Record>,
}

/// A layer. What others lay it upon is not said: a record's key says it.
#[derive(Debug, Serialize, Deserialize)]
struct Layer {
    blob: Digest,
    #[serde(default)]
    parent: i64,
    #[serde(default)]
    annotations: Option<Annotations>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Annotations {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    #[serde(rename = "diffID", default)]
    diff_id: Option<Digest>,
    #[serde(default)]
    size: u64,
    #[serde(rename = "createdAt", default)]
    created: String,
}

/// What a step made.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    digest: Digest,
    #[serde(rename = "layers", default, skip_serializing_if = "Vec::is_empty")]
    results: Vec<Placed>,
    /// When it made nothing, which others cannot say: the step changed no file.
    #[serde(rename = "corten.empty", default, skip_serializing_if = "Option::is_none")]
    empty: Option<String>,
}

/// One result: the number of its layer.
#[derive(Debug, Serialize, Deserialize)]
struct Placed {
    layer: usize,
    #[serde(rename = "createdAt", default)]
    created: String,
}

/// A layer that is elsewhere.
#[derive(Debug, Clone)]
struct Far {
    descriptor: Descriptor,
    diff_id: Digest,
}

/// Where a cache's blobs are.
#[derive(Debug, Clone)]
enum Place {
    Registry {
        reference: Box<Reference>,
        credentials: Credentials,
    },
    Client(String),
    /// In the store: of an image that is here.
    Here,
}

/// A cache that was read.
#[derive(Debug)]
struct Read {
    place: Place,
    /// What each key's step made: a layer, or nothing; and when.
    records: HashMap<Digest, (Option<Far>, String)>,
}

/// All caches that a build looks into.
#[derive(Debug, Default)]
pub(super) struct Imports(Vec<Read>);

/// What a cache's place is called.
fn shown(place: &CachePlace) -> String {
    match place {
        CachePlace::Inline => "the image".to_owned(),
        CachePlace::Registry(name) => name.clone(),
        CachePlace::Local { store, .. } => store.clone(),
    }
}

/// Reads a cache's document with the layers that go with it.
fn read(bytes: &[u8], place: Place, layer_at: impl Fn(&Layer) -> Option<Far>) -> Result<Read> {
    let wrong = |error: serde_json::Error| Error::invalid("it is no build cache").with_source(error);
    let config: Config = serde_json::from_slice(bytes).map_err(wrong)?;
    if config.records.len() > RECORDS_MAX || config.layers.len() > LAYERS_MAX {
        return Err(Error::invalid(format!("it has more than {RECORDS_MAX} records or {LAYERS_MAX} layers")));
    }
    let layers: Vec<Option<Far>> = config.layers.iter().map(layer_at).collect();
    Ok(Read { place, records: known(config.records, &layers) })
}

/// What records mean; those that mean nothing are passed over.
fn known(records: Vec<Record>, layers: &[Option<Far>]) -> HashMap<Digest, (Option<Far>, String)> {
    let one = |record: Record| {
        let made = match (record.results.first(), record.empty) {
            (Some(result), None) => {
                let far = layers.get(result.layer)?.clone()?;
                (Some(far), result.created.clone())
            }
            (None, Some(created)) => (None, created),
            _ => return None,
        };
        // A time that is none would be in images.
        made.1.parse::<jiff::Timestamp>().ok()?;
        Some((record.digest, made))
    };
    records.into_iter().filter_map(one).collect()
}

/// A layer as a descriptor tells of it, and its annotations.
fn far(layer: &Layer, descriptors: &HashMap<Digest, Descriptor>) -> Option<Far> {
    let mut descriptor = descriptors.get(&layer.blob)?.clone();
    media_type::layer_compression(media_type::essence(&descriptor.media_type))?;
    let own = layer.annotations.as_ref().and_then(|own| own.diff_id.clone());
    let told = descriptor.annotations.remove("containerd.io/uncompressed");
    let diff_id = own.or_else(|| Digest::parse(&told?).ok())?;
    Some(Far { descriptor, diff_id })
}

/// What has been made, as the cache here knows it.
fn made(far: Option<&Far>, created: &str) -> Made {
    let layer = far.map(|far| storage::ImageLayer {
        digest: far.descriptor.digest.clone(),
        size: far.descriptor.size,
        media_type: far.descriptor.media_type.clone(),
        diff_id: far.diff_id.clone(),
    });
    Made { layer, created: created.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(number: u8) -> Digest {
        Digest::from_sha256([number; 32])
    }

    fn place() -> Place {
        Place::Client("local:x".to_owned())
    }

    fn descriptors() -> HashMap<Digest, Descriptor> {
        let mut one = Descriptor::new(media_type::OCI_LAYER_GZIP, digest(1), 10);
        one.annotations.insert("containerd.io/uncompressed".to_owned(), digest(2).to_string());
        HashMap::from([(digest(1), one)])
    }

    #[test]
    fn what_means_nothing_is_passed_over() {
        let text = format!(
            r#"{{"layers":[{{"blob":"{one}","parent":-1}},{{"blob":"{other}"}}],"records":[
              {{"digest":"{one}","layers":[{{"layer":0,"createdAt":"2026-01-01T00:00:00Z"}}]}},
              {{"digest":"{other}","layers":[{{"layer":1,"createdAt":"2026-01-01T00:00:00Z"}}]}},
              {{"digest":"{three}","layers":[{{"layer":99,"createdAt":"2026-01-01T00:00:00Z"}}]}},
              {{"digest":"{four}","layers":[{{"layer":0,"createdAt":"yesterday"}}]}},
              {{"digest":"{five}","corten.empty":"2026-01-01T00:00:00Z"}},
              {{"digest":"{six}","inputs":[[{{"link":0}}]],"unknown":1}}]}}"#,
            one = digest(1),
            other = digest(9),
            three = digest(3),
            four = digest(4),
            five = digest(5),
            six = digest(6),
        );
        let descriptors = descriptors();
        let read = read(text.as_bytes(), place(), |layer| far(layer, &descriptors)).unwrap();
        assert_eq!(read.records.len(), 2, "{read:?}");
        assert_eq!(read.records[&digest(1)].0.as_ref().unwrap().diff_id, digest(2));
        assert!(read.records[&digest(5)].0.is_none());
    }

    #[test]
    fn what_is_too_much_or_none_is_refused() {
        let record = format!(r#"{{"digest":"{}"}}"#, digest(1));
        let many = vec![record.as_str(); RECORDS_MAX + 1].join(",");
        for text in ["", "[]x", "{\"layers\":5}", &format!("{{\"records\":[{many}]}}")] {
            assert!(read(text.as_bytes(), place(), |_| None).is_err(), "{}", &text[..text.len().min(40)]);
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[{}\\[\\]\":,a-z0-9]{0,200}") {
            let _ = read(text.as_bytes(), place(), |_| None);
        }
    }
}
