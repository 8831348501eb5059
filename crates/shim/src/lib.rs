//! Outlives the daemon beside one container: stdio, logs, exit status, exec and terminal, and the wire format to talk to it.
