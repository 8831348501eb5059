//! The store as its users see it: on a directory, with real archives, also when it is killed or the disk is full.

mod crash;
mod disk;
mod gnu;
mod pull;
mod world;
