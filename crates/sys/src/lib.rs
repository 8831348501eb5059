//! Safe, EINTR-proof, descriptor-based wrappers for the Linux calls that Corten uses; the only crate with `unsafe`.

pub mod activation;
pub mod bpf;
pub mod caps;
pub mod epoll;
pub mod fsx;
pub mod inotify;
pub mod keyring;
pub mod lock;
pub mod memfd;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod net;
pub mod path;
pub mod proc;
pub mod process;
pub mod pty;
pub mod rlimit;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod terminal;
pub mod timer;
pub mod trial;
pub mod xattr;
