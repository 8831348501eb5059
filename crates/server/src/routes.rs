//! What answers the API's paths, by resource.

pub(crate) mod absent;
pub(crate) mod archives;
pub(crate) mod build;
pub(crate) mod buildkit;
pub(crate) mod check;
pub(crate) mod containers;
pub(crate) mod copy;
pub(crate) mod exec;
pub(crate) mod images;
pub(crate) mod networks;
pub(crate) mod secrets;
pub(crate) mod system;
pub(crate) mod volumes;
