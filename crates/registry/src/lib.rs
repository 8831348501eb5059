//! Speaks the OCI distribution protocol.
//!
//! [`client`] asks one registry; `pull` turns a reference into an image in the store.

pub mod client;
mod error;

pub use client::{Client, Credentials, Limits, Options};
pub use error::{Error, Result};
