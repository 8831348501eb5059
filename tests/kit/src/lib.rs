//! The test harness: a hermetic host with a real engine on it, fixture images, a faulty registry.
//!
//! A test makes a [`Host`], which starts a daemon with roots, socket and parent cgroup of its own, drives it with our
//! command line or the real `docker`, and drops it: then everything is stopped, and the test fails if a process, mount
//! or cgroup is left on the machine.

mod command;
pub mod compose;
pub mod depot;
pub mod disk;
pub mod dockerd;
pub mod embedded;
pub mod faulty;
pub mod fixtures;
mod host;
pub mod http;
pub mod npm;
pub mod programs;
pub mod pypi;
pub mod raw;
pub mod registry;
pub mod repository;
pub mod served;
mod terminal;
pub mod tokens;

pub use command::{Cmd, Output, Running, patience, wait_for};
pub use host::{CLIS, Cli, Clis, Host, Neighbour, binary, skip};
pub use terminal::Terminal;
