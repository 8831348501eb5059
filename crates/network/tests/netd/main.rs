//! netd as a real process, containers as network namespaces, and servers outside of every kind.

#![expect(clippy::unwrap_used, reason = "a test fails where something does not go well")]

mod adoption;
mod bench;
mod host;
mod names;
mod outside;
mod ports;
