//! Exposes the engine: the Docker Engine API over unix and TCP sockets, and the daemon's configuration.

mod attach;
mod builder;
mod call;
mod failure;
mod query;
mod relay;
mod reply;
mod router;
mod routes;
mod versions;
mod websocket;

pub mod connection;
pub mod daemon;
pub mod registry;
pub mod tls;
