//! Networks: `none` and `host`, which every engine has.

use api::Filters;
use api::network::{Inspect, Network};

use crate::{Error, Result};

/// The networks.
#[derive(Debug)]
pub struct Networks {}

impl Networks {
    /// Lists them.
    pub async fn list(&self, _filters: &Filters) -> Result<Vec<Network>> {
        Err(Error::not_implemented("network list is not available yet"))
    }

    /// All about one, by name or id.
    pub async fn inspect(&self, _name: &str) -> Result<Inspect> {
        Err(Error::not_implemented("network inspect is not available yet"))
    }
}
