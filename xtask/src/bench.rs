//! `cargo xtask bench`.

use crate::run::Result;

/// placeholder
pub fn bench(_names: &[String]) -> Result {
    Err("later".into())
}
