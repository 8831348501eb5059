//! The runtime on the kernel of this machine: containers that work, and containers that attack.

#![expect(clippy::disallowed_methods, reason = "bundles and what is in them are the tests' own")]
#![expect(clippy::unwrap_used, reason = "a test says by its panic what it could not do")]

mod apparmor;
mod attacks;
mod bundle;
mod cgroups;
mod checkpoint;
mod concurrency;
mod containers;
mod delegated;
mod faults;
mod given;
mod hooks;
mod limits;
mod listener;
mod robustness;
mod rootless;
mod subgroups;
mod systemd;
