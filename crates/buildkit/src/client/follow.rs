//! Which files are meant by paths that a build follows: wildcards stand for what is there, and a link for itself and what it leads to.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::path::Path;

use build::ignore::Glob;
use sys::fsx::{self, FileType};
use sys::path::Root;

/// Links that are followed in one directory: more lead in circles.
const LINKS_MAX: usize = 4096;

/// What is sent of a directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// All of it.
    All,
    /// These paths and what is below them.
    Some(BTreeSet<String>),
}

impl Meant {
    /// Whether a path is sent.
    pub(super) fn has(&self, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(paths) => {
                paths.contains(path)
                    || path.match_indices('/').any(|(slash, _)| paths.contains(&path[..slash]))
            }
        }
    }

    /// Whether something below a path may be sent.
    pub(super) fn leads(&self, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(paths) => {
                let below = format!("{path}/");
                paths.range(below.clone()..).next().is_some_and(|next| next.starts_with(&below))
            }
        }
    }
}

/// What paths mean in a directory.
///
/// # Errors
/// The directory cannot be read, or a wildcard is none.
pub(super) fn follow(root: &Root, patterns: &[String]) -> io::Result<Meant> {
    if patterns.is_empty() {
        return Ok(Meant::All);
    }
    let mut meant = BTreeSet::new();
    let mut left = LINKS_MAX;
    let mut waiting: VecDeque<(String, Vec<String>)> =
        patterns.iter().map(|pattern| (String::new(), parts(pattern))).collect();
    while let Some((reached, rest)) = waiting.pop_front() {
        let Some((first, rest)) = rest.split_first() else {
            if reached.is_empty() {
                return Ok(Meant::All);
            }
            meant.insert(reached);
            continue;
        };
        for name in named(root, &reached, first)? {
            let path = if reached.is_empty() { name.clone() } else { format!("{reached}/{name}") };
            let is_link = root.lstat(&path).is_ok_and(|stat| fsx::kind(&stat) == FileType::Symlink);
            if is_link {
                left = left.checked_sub(1).ok_or_else(|| io::Error::other("links lead in circles"))?;
                let target = root.read_link(&path)?;
                let base = if target.is_absolute() { "" } else { reached.as_str() };
                let mut whole = vec![Glob::escape(base), Glob::escape(&target.to_string_lossy())];
                whole.extend(rest.iter().cloned());
                waiting.push_back((String::new(), parts(&whole.join("/"))));
                meant.insert(path);
            } else {
                waiting.push_back((path, rest.to_vec()));
            }
        }
    }
    Ok(Meant::Some(meant))
}

/// The names of a path, without `.` and with `..` taken back; above the root is the root.
fn parts(path: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part.to_owned()),
        }
    }
    parts
}

/// The entries of a directory that a name or wildcard stands for.
fn named(root: &Root, directory: &str, name: &str) -> io::Result<Vec<String>> {
    if !Glob::is_pattern(name) {
        let name = Glob::unescape(name);
        let there = root.lstat(Path::new(directory).join(&name)).is_ok();
        return Ok(if there { vec![name] } else { Vec::new() });
    }
    let glob = Glob::parse(name).map_err(|error| io::Error::other(error.to_string()))?;
    let Ok(fd) = root.open_dir(directory) else { return Ok(Vec::new()) };
    let names = fsx::list(&fd)?.into_iter().map(|entry| entry.name);
    let names = names.filter_map(|name| name.to_str().map(str::to_owned));
    let mut names: Vec<String> = names.filter(|name| glob.matches(name)).collect();
    names.sort_unstable_by(|one, other| OsStr::new(one).cmp(OsStr::new(other)));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(patterns: &[&str]) -> Meant {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        std::fs::create_dir_all(at.join("src/deep")).unwrap();
        std::fs::create_dir_all(at.join("other")).unwrap();
        for name in ["src/a.c", "src/b.c", "src/deep/c.c", "other/x", "st*r"] {
            std::fs::write(at.join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("src", at.join("link")).unwrap();
        std::os::unix::fs::symlink("../other/x", at.join("src/out")).unwrap();
        std::os::unix::fs::symlink("../../../etc", at.join("src/etc")).unwrap();
        std::os::unix::fs::symlink("round", at.join("round")).unwrap();
        let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
        follow(&Root::open(at).unwrap(), &patterns).unwrap()
    }

    fn some(paths: &[&str]) -> Meant {
        Meant::Some(paths.iter().map(|path| (*path).to_owned()).collect())
    }

    #[test]
    fn paths_wildcards_and_links() {
        assert_eq!(meant(&[]), Meant::All);
        assert_eq!(meant(&["."]), Meant::All);
        assert_eq!(meant(&["src/*.c", "none"]), some(&["src/a.c", "src/b.c"]));
        assert_eq!(meant(&["link/a.c"]), some(&["link", "src/a.c"]));
        assert_eq!(meant(&["link"]), some(&["link", "src"]));
        assert_eq!(meant(&["src/out"]), some(&["src/out", "other/x"]));
        assert_eq!(meant(&["src/etc/passwd"]), some(&["src/etc"]));
        assert_eq!(meant(&["st\\*r"]), some(&["st*r"]));
        assert_eq!(meant(&["../../src/a.c"]), some(&["src/a.c"]));
    }

    #[test]
    fn circles_end() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("round", dir.path().join("round")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let error = follow(&root, &["round".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("circles"));
    }

    #[test]
    fn what_is_above_and_below() {
        let some = some(&["a/b", "a/b-c", "d"]);
        assert!(
            some.has("a/b") && some.has("a/b/x/y") && some.has("d/e") && !some.has("a") && !some.has("a/c")
        );
        assert!(some.leads("a") && !some.leads("a/b") && !some.leads("b"));
    }
}
