//! Making a container.

pub mod merge;
pub mod mounts;
pub mod refuse;
