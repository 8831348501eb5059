//! The store as its users see it: on a directory, with real archives, also when it is killed or the disk is full.

#![expect(clippy::unwrap_used, reason = "a failed test is to stop where it fails")]

mod again;
mod changes;
mod crash;
mod disk;
mod gnu;
mod model;
mod power;
mod pull;
mod repositories;
mod world;
