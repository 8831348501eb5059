//! Speaks the OCI distribution protocol.
//!
//! [`client`] asks one registry; [`pull`] takes an image from there into the store, [`push`] gives one to it; [`server`] is a registry itself.

pub mod client;
mod error;
pub mod keys;
pub mod policy;
pub mod pull;
pub mod push;
pub mod server;

pub use client::{Client, Credentials, Limits, Options};
pub use error::{Error, Result};
pub use pull::{Puller, Request};
pub use push::Pusher;
pub use server::Server;
