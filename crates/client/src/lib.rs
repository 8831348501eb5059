//! Calls a Docker Engine API over any transport.
//!
//! ```text
//!  Settings (flags, environment) + ConfigFile + context Store
//!          |  Target::resolve
//!          v
//!       Target { endpoint, tls, origin }          where the daemon is, and who said so
//!          |  Client::new
//!          v
//!       Client --- request ---> one HTTP/1.1 exchange over a pooled connection
//!              --- stream  ---> a body read as it comes: lines, JSON values, frames
//!              --- hijack  ---> the raw connection, with half-close
//! ```
//!
//! Nothing here knows which engine answers. The version of the API is negotiated without a round
//! trip of its own: the first request speaks the newest version this crate knows, and only when
//! the daemon answers that it is too new is the request repeated in the daemon's version.

mod body;
mod calls;
pub mod config;
pub mod context;
pub mod credentials;
mod error;
mod http;
mod negotiate;
pub mod query;
mod target;
mod transport;
mod upload;

pub use body::{Json, Streaming};
pub use error::{Error, Result};
pub use http::{Body, Client, Hijacked, Options, Request, Response};
pub use hyper::Method;
pub use hyper::header::HeaderMap;
pub use negotiate::{NEWEST_API, OLDEST_API, Version};
pub use target::{
    Endpoint, Origin, Settings, SshDestination, Target, TlsFiles, TlsMode, context_name, parse_address,
};
pub use upload::Upload;
