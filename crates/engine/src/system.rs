//! The engine itself: what it is, what it runs on, what it uses.

use api::system::{DiskUsage, Info, Version};

use crate::{Error, Result};

/// The engine itself.
#[derive(Debug)]
pub struct System {}

impl System {
    /// What `info` shows.
    pub async fn info(&self) -> Result<Info> {
        Err(Error::not_implemented("info is not available yet"))
    }

    /// What `version` shows.
    pub async fn version(&self) -> Result<Version> {
        Err(Error::not_implemented("version is not available yet"))
    }

    /// What `system df` shows; with `verbose`, each thing too.
    pub async fn disk_usage(&self, _verbose: bool) -> Result<DiskUsage> {
        Err(Error::not_implemented("system df is not available yet"))
    }
}
