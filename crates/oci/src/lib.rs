//! Plain data for the OCI image, runtime and distribution specifications.
//!
//! Nothing here opens a file or a socket. Every parser takes bytes that a stranger may have written, has a named limit,
//! and either gives a value that means one thing only or an [`Error`].

pub mod digest;
mod error;
pub mod image;
mod lenient;
pub mod platform;
pub mod reference;
pub mod runtime;

pub use digest::{Algorithm, Digest};
pub use error::Error;
pub use platform::Platform;
pub use reference::{AnyReference, Reference};
