//! Containers.

mod lifecycle;
mod lists;
mod stats;
mod streams;

pub(crate) use lifecycle::{
    create, kill, pause, remove, rename, resize, restart, start, stop, unpause, update, wait,
};
pub(crate) use lists::{inspect, list, prune, top};
pub(crate) use stats::stats;
pub(crate) use streams::{attach, attach_websocket, logs};
