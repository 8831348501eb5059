//! Networks, addresses, names and published ports for a given network namespace.
//!
//! Nothing here is remembered beyond a call: the engine gives records and keeps those that come back. What is made in the kernel can be
//! made again from them, and is: see `docs/design/network.md`. What must be held while the daemon is not there is held by [`netd`].

pub mod bridge;
pub mod dns;
pub mod firewall;
pub mod further;
pub mod ipam;
pub mod link;
pub mod namespace;
pub mod netd;
pub mod policy;
pub mod ports;
pub mod relay;
pub mod traffic;
