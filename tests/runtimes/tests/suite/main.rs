//! The runtime suite: each test says what the specification or runc's command line promises, and looks from inside.

#![expect(clippy::unwrap_used, reason = "a test says by its panic what it could not do")]

mod commands;
mod exec;
mod filesystem;
mod hooks;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;
mod refusals;
mod resources;
mod seccomp;
mod terminal;
