//! A real shim with a stand-in for the container runtime: what it promises to daemons, clients and programs.

mod attach;
mod basics;
mod bench;
mod exec;
mod host;
mod logs;
