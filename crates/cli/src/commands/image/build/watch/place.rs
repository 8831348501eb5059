//! What is watched: directories with what hides files of them, and files by name.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use build::ignore::{Above, Ignore};

/// What hides files of a context.
const IGNORE: &str = ".dockerignore";

/// A directory that is watched with all that is in it.
#[derive(Debug)]
pub(super) struct Place {
    /// Where it is.
    pub path: PathBuf,
    /// Whether `.dockerignore` counts in it.
    pub is_context: bool,
}

impl Place {
    pub(super) fn context(path: &Path) -> Self {
        Self { path: path.to_owned(), is_context: true }
    }

    pub(super) fn named(path: &Path) -> Self {
        Self { path: path.to_owned(), is_context: false }
    }
}

/// Files that are watched whatever hides them, and the rules of the context.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// Their paths, and those that they lead to as links.
    pub files: BTreeSet<PathBuf>,
    /// What `.dockerignore` hides. Rules that cannot be read hide nothing: the build tells what is wrong with them.
    pub ignore: Ignore,
}

impl Own {
    /// The Dockerfile of a context, and its rules.
    pub(super) fn new(context: &Path, dockerfile: &Path) -> Self {
        let mut own = Self::default();
        own.add(dockerfile);
        let mut named = dockerfile.as_os_str().to_owned();
        named.push(IGNORE);
        let ignores = [PathBuf::from(named), context.join(IGNORE)];
        let text = ignores.iter().find_map(|path| fs::read_to_string(path).ok());
        own.ignore = text.and_then(|text| Ignore::parse(&text).ok()).unwrap_or_default();
        for path in ignores {
            own.add(&path);
        }
        own
    }

    /// Adds a file by its path, and by that of what it leads to.
    pub(super) fn add(&mut self, path: &Path) {
        self.files.extend(whole(path));
        self.files.extend(fs::canonicalize(path).ok());
    }

    /// Whether something of the context is hidden with all that is below it.
    pub(super) fn hides(&self, path: &str, above: &Above) -> (bool, Above) {
        let (rule, matched) = self.ignore.hides_below(path, above);
        (rule.is_some(), matched)
    }
}

/// A path with the links above its last step followed: how the kernel's names are compared with those that were given.
pub(super) fn whole(path: &Path) -> Option<PathBuf> {
    let absolute = || -> io::Result<PathBuf> {
        if path.file_name().is_none() || fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
            return fs::canonicalize(path);
        }
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default();
        // What is not there yet may be made.
        Ok(fs::canonicalize(above).or_else(|_| std::path::absolute(above))?.join(name))
    };
    absolute().ok()
}
