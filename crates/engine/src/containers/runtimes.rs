//! `--runtime`: the engine's own, or another that the daemon was told of.

use std::path::Path;

use crate::config::Config;
use crate::error::{Error, Result};

/// The engine's own.
pub(crate) const OWN: &str = "corten";
/// The file in a container's runtime directory by which its supervisor knows of another.
const NAME: &str = "runtime";

/// The one of a container that names none.
pub(crate) fn default(config: &Config) -> &str {
    if config.default_runtime.is_empty() { OWN } else { &config.default_runtime }
}

/// Refuses names that nobody has said what they mean.
pub(crate) fn check(config: &Config, name: &str) -> Result<()> {
    if name.is_empty() || name == OWN || config.runtimes.contains_key(name) {
        return Ok(());
    }
    Err(Error::invalid(format!("unknown or invalid runtime name: {name}")))
}

/// Tells the supervisor of a container which one is meant, where it is not the engine's own.
pub(crate) fn note(config: &Config, name: &str, run: &Path) -> Result<()> {
    if name.is_empty() || name == OWN {
        return Ok(());
    }
    check(config, name)?;
    let Some(runtime) = config.runtimes.get(name) else { return Ok(()) };
    let mut words = vec![runtime.path.display().to_string()];
    words.extend(runtime.arguments.iter().cloned());
    let path = run.join(NAME);
    let json = serde_json::to_vec(&words)
        .map_err(|e| Error::system("cannot write the runtime's name").with_source(e))?;
    std::fs::write(&path, json).map_err(|e| Error::io("write", &path, e))
}
