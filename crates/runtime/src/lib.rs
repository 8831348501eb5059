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

#[cfg_attr(test, expect(clippy::disallowed_methods, reason = "files of the tests themselves"))]
pub mod capabilities;
#[expect(clippy::disallowed_methods, reason = "the kernel's files about groups, which are the host's")]
pub mod cgroup;
#[expect(clippy::disallowed_methods, reason = "images, the host's programs and /proc")]
pub mod checkpoint;
#[expect(clippy::disallowed_methods, reason = "the caller's paths and our own records")]
pub mod command;
#[expect(clippy::disallowed_methods, reason = "the bundle's configuration, which is the caller's")]
pub mod config;
mod console;
mod copyup;
#[expect(clippy::disallowed_methods, reason = "our own namespaces, in the host's /proc")]
mod create;
#[cfg_attr(test, expect(clippy::disallowed_methods, reason = "files of the tests themselves"))]
pub mod dbus;
mod error;
mod exec;
pub mod features;
#[expect(clippy::disallowed_methods, reason = "where the caller says that the root filesystem is")]
mod files;
#[cfg_attr(test, expect(clippy::disallowed_methods, reason = "files of the tests themselves"))]
mod hooks;
mod identity;
#[expect(clippy::disallowed_methods, reason = "namespaces in the host's /proc")]
mod idmap;
pub mod init;
mod inside;
#[expect(clippy::disallowed_methods, reason = "our own records")]
pub mod lifecycle;
mod listener;
mod masks;
mod mounts;
#[expect(clippy::disallowed_methods, reason = "namespaces that the caller names")]
mod namespaces;
mod netdevices;
mod nodes;
mod privilege;
mod program;
#[expect(clippy::disallowed_methods, reason = "the kernel's files about groups, which are the host's")]
mod rdt;
mod scheduling;
pub mod seccomp;
#[expect(clippy::disallowed_methods, reason = "the host's /proc and programs")]
mod serve;
#[expect(clippy::disallowed_methods, reason = "our own records")]
mod start;
#[expect(clippy::disallowed_methods, reason = "our own records")]
pub mod state;
mod sysctl;
mod wire;

pub use create::{Create, Created, Gate, Manner, Stdio, create};
pub use error::Error;
pub use exec::{Exec, exec};
pub use start::start;
pub use wire::Message;
