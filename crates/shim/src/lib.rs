//! Outlives the daemon beside one container: stdio, logs, exit status, exec and terminal, and the wire format to talk to it.
//!
//! One thread, one epoll, no allocation while output flows, buffers given back when it is quiet: what a running
//! container costs is this. Everything that needs more happens in forked children that end ([`creator`]).

mod attach;
mod connection;
pub mod creator;
pub mod exit;
pub mod launch;
pub mod log;
mod oom;
mod process;
pub mod rootfs;
mod run;
mod source;
pub mod wire;

pub use run::main;

/// The socket in a container's directory on which its shim listens.
pub const SOCKET: &str = "shim.sock";
