//! Safe, EINTR-proof, descriptor-based wrappers for the Linux calls that Corten uses; the only crate with `unsafe`.

pub mod fsx;
pub mod lock;
pub mod path;
pub mod xattr;
