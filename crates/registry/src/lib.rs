//! Speaks the OCI distribution protocol.
//!
//! [`client`] asks one registry; [`pull`] takes an image from there into the store.

pub mod client;
mod error;
pub mod pull;

pub use client::{Client, Credentials, Limits, Options};
pub use error::{Error, Result};
pub use pull::{Puller, Request};
