//! Packages from npm that tests drive the engine with, installed once into the tests' cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::pypi::INSTALL;
use crate::{Cmd, Host, fixtures, skip};

/// The first version of Node that the packages which tests use run with.
const OLDEST: u32 = 20;

/// A folder whose `node_modules` has this package (`name@version`) with what it needs; `None` where it cannot be had.
///
/// # Panics
/// The tests' cache cannot be written.
#[must_use]
pub fn environment(package: &str) -> Option<PathBuf> {
    let folder = fixtures::cache().join(format!("npm-{}", package.replace('@', "-")));
    let lock = File::create(folder.with_extension("lock")).expect("make a lock file");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("lock the cache");
    // Written when all of it is there.
    let complete = folder.join("complete");
    if complete.exists() {
        return Some(folder);
    }
    println!("installing {package} from npm into {}", folder.display());
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("make a folder in the cache");
    // Without the scripts of packages: what they build is for transports that no test uses.
    let quiet = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", "--prefix"];
    let installed = Cmd::new("npm").args(quiet).args([folder.as_os_str(), package.as_ref()]);
    if installed.limit(INSTALL).run().code != 0 {
        return None;
    }
    fs::write(&complete, "").expect("write into the cache");
    Some(folder)
}

/// Runs a script that uses this package on a host's engine, in the host's network; what it said, or `None`, with a word, where
/// there is no Node or no such package.
///
/// # Panics
/// The script fails.
#[must_use]
pub fn script(host: &Host, package: &str, path: &Path, environment: &[(&str, &str)]) -> Option<String> {
    let programs = std::env::var_os("PATH").unwrap_or_default();
    let there = |name| std::env::split_paths(&programs).any(|folder| folder.join(name).is_file());
    if !there("node") || !there("npm") {
        skip("node", "no Node with its npm");
        return None;
    }
    let version = Cmd::new("node").args(["--version"]).ok();
    let major = version.trim_start_matches('v').split('.').next().and_then(|text| text.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST) {
        skip("node", &format!("the packages need Node {OLDEST}, and this is {version}"));
        return None;
    }
    let Some(folder) = self::environment(package) else {
        skip(package, "it cannot be installed from npm");
        return None;
    };
    let mut run = host.program("node", [path]).env("NODE_PATH", folder.join("node_modules"));
    for (name, value) in host.environment() {
        run = run.env(name, value);
    }
    for (name, value) in environment {
        run = run.env(name, value);
    }
    Some(run.limit(INSTALL).ok())
}
