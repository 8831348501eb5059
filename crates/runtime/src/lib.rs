//! Turns an OCI bundle into a running, confined process, and signals, execs into, inspects and deletes it.
//!
//! ```text
//! create ─ clones ─> inside (init: cgroup, mounts, root, identity, gate) ─ execve ─> the user's program
//! exec   ─ clones ─> joins the namespaces of init ─────────────────────── execve ─> a further program
//! lifecycle: state, kill, pause, delete, by what `state` recorded        command: the same as a command line
//! ```
//!
//! Nothing of the container is trusted while it is set up: places inside its root are descriptors found by `openat2`, mounts are
//! made detached and attached onto them, `/proc` and `/dev/null` are verified by what they are and not by what they are called.

pub mod capabilities;
pub mod cgroup;
pub mod command;
pub mod config;
mod console;
mod copyup;
mod create;
pub mod dbus;
mod error;
mod exec;
pub mod features;
mod files;
mod hooks;
mod identity;
mod idmap;
pub mod init;
mod inside;
pub mod lifecycle;
mod listener;
mod masks;
mod mounts;
mod namespaces;
mod netdevices;
mod nodes;
mod privilege;
mod program;
mod rdt;
mod scheduling;
pub mod seccomp;
mod serve;
mod start;
pub mod state;
mod sysctl;
mod wire;

pub use create::{Create, Created, Gate, Manner, Stdio, create};
pub use error::Error;
pub use exec::{Exec, exec};
pub use start::start;
