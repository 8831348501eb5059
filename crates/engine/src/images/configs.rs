//! Configurations that were read, remembered: lists ask for all of them again and again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use api::timestamp::{self, Nanoseconds};
use oci::Digest;
use oci::image::{ImageConfig, MAX_CONFIG_BYTES};
use storage::Store;

use crate::error::{Error, Result};

/// How many are remembered: a few kilobytes each.
const REMEMBERED: usize = 512;

/// Of how many the facts are remembered: a few hundred bytes each, and a list asks for all.
const FACTS_REMEMBERED: usize = 16 * 1024;

/// What lists and filters ask of a configuration.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// When the image was made, by its own account; 1970 where it does not say.
    pub(super) created: Nanoseconds,
    /// Its labels.
    pub(super) labels: BTreeMap<String, String>,
}

/// Configurations by digest.
#[derive(Debug, Default)]
pub(super) struct Configs {
    known: Mutex<HashMap<Digest, Arc<ImageConfig>>>,
    facts: Mutex<HashMap<Digest, Arc<Facts>>>,
}

impl Configs {
    /// What lists and filters ask. A configuration that cannot be read says nothing: one damaged image must not hide the others.
    pub(super) fn facts(&self, store: &Store, digest: &Digest) -> Arc<Facts> {
        let known = || self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(facts) = known().get(digest) {
            return facts.clone();
        }
        let config = match read(store, digest) {
            Ok(config) => config,
            Err(error) => {
                tracing::warn!(error = error.chain(), "an image is listed without its configuration");
                return Arc::default();
            }
        };
        let created = config.created.as_deref().and_then(|text| timestamp::parse(text).ok()).unwrap_or(0);
        let facts = Arc::new(Facts { created, labels: config.config.labels });
        let mut known = known();
        if known.len() >= FACTS_REMEMBERED {
            known.clear();
        }
        known.insert(digest.clone(), facts.clone());
        facts
    }

    /// The configuration with this digest.
    pub(super) fn get(&self, store: &Store, digest: &Digest) -> Result<Arc<ImageConfig>> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = known().get(digest) {
            return Ok(config.clone());
        }
        let config = Arc::new(read(store, digest)?);
        let mut known = known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(digest.clone(), config.clone());
        Ok(config)
    }
}

fn read(store: &Store, digest: &Digest) -> Result<ImageConfig> {
    let bytes = store.read_blob(digest, MAX_CONFIG_BYTES)?;
    ImageConfig::parse(&bytes)
        .map_err(|e| Error::system(format!("cannot read the configuration {digest}")).with_source(e))
}
