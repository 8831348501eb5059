//! Outlives the daemon beside one container: stdio, logs, exit status, exec and terminal, and the wire format to talk to it.

pub mod launch;
pub mod log;
pub mod wire;
