//! A directory that a build may have files of.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// A directory that a build may have files of.
#[derive(Debug, Clone)]
pub enum Directory {
    /// One on the disk.
    Disk(PathBuf),
    /// Texts that are in no directory, by their names: a Dockerfile from standard input.
    Texts(BTreeMap<String, Vec<u8>>),
}
