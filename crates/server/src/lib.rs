//! Exposes the engine: the Docker Engine API over unix and TCP sockets, and the daemon's configuration.
