//! Configurations that were read, remembered: lists ask for all of them again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use oci::Digest;
use oci::image::{ImageConfig, MAX_CONFIG_BYTES};
use storage::Store;

use crate::error::{Error, Result};

/// How many are remembered: a few kilobytes each.
const REMEMBERED: usize = 512;

/// Configurations by digest.
#[derive(Debug, Default)]
pub(super) struct Configs {
    known: Mutex<HashMap<Digest, Arc<ImageConfig>>>,
}

impl Configs {
    /// The configuration with this digest.
    pub(super) fn get(&self, store: &Store, digest: &Digest) -> Result<Arc<ImageConfig>> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = known().get(digest) {
            return Ok(config.clone());
        }
        let bytes = store.read_blob(digest, MAX_CONFIG_BYTES)?;
        let config = ImageConfig::parse(&bytes)
            .map_err(|e| Error::system(format!("cannot read the configuration {digest}")).with_source(e))?;
        let config = Arc::new(config);
        let mut known = known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(digest.clone(), config.clone());
        Ok(config)
    }
}
