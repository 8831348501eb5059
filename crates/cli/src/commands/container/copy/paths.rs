//! What the paths of `cp` mean: with and without a slash at the end, and `/.`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What is where something is copied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct There {
    /// The path, with links followed.
    pub path: PathBuf,
    /// Whether something is there.
    pub exists: bool,
    /// Whether that is a directory.
    pub is_directory: bool,
}

/// Where an archive is unpacked, and what its first name becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The directory.
    pub directory: PathBuf,
    /// The new name, if there is one.
    pub name: Option<String>,
}

/// A path whose links were followed, and what it is to be called where that has changed its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Led {
    /// The path.
    pub path: String,
    /// The name that was asked for.
    pub name: Option<String>,
}

/// Container and path; what begins with a slash or a dot is a path of this machine.
pub fn split(argument: &str) -> (Option<&str>, &str) {
    if argument.starts_with('/') {
        return (None, argument);
    }
    match argument.split_once(':') {
        Some((container, path)) if !container.starts_with('.') && !container.is_empty() => {
            (Some(container), path)
        }
        _ => (None, argument),
    }
}

/// Without `.`, `..` and doubled slashes, as Go's `filepath.Clean`.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

fn means_contents(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

fn ends_in_slash(path: &str) -> bool {
    path.len() > 1 && path.ends_with('/')
}

/// The path with what the other one ends in.
fn ending_like(path: String, other: &str) -> String {
    let path = if means_contents(other) && !means_contents(&path) {
        format!("{}/.", path.trim_end_matches('/'))
    } else {
        path
    };
    if other.ends_with('/') && !path.ends_with('/') { format!("{path}/") } else { path }
}

/// A path of this machine, from the root on.
pub fn absolute(path: &str) -> Result<String> {
    let here = std::env::current_dir().map_err(|source| Error::File {
        verb: "find",
        path: "the working directory".into(),
        source,
    })?;
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", here.display()) };
    Ok(ending_like(clean(&whole), path))
}

/// The directory of a path, and its last part: `.` where its contents are meant.
pub fn parts(path: &str) -> (String, String) {
    let cleaned = if means_contents(path) { format!("{}/.", clean(path)) } else { clean(path) };
    match cleaned.rsplit_once('/') {
        Some(("", "")) => ("/".to_owned(), "/".to_owned()),
        Some((directory, last)) => {
            (if directory.is_empty() { "/".to_owned() } else { directory.to_owned() }, last.to_owned())
        }
        None => (".".to_owned(), cleaned),
    }
}

/// The last part of a path.
pub fn base(path: &str) -> String {
    parts(path).1
}

/// Where a link at `path` leads that says `target`.
pub fn beside(path: &str, target: &str) -> String {
    if target.starts_with('/') { target.to_owned() } else { clean(&format!("{}/{target}", parts(path).0)) }
}

/// A path whose links were followed, with what the original one ends in.
pub fn rebased(path: &str, led: &str) -> Led {
    let led = ending_like(led.to_owned(), path);
    let last = |path: &str| if means_contents(path) { ".".to_owned() } else { base(path) };
    let name = (last(path) != last(&led)).then(|| last(path));
    Led { path: led, name }
}

/// Where something is unpacked so that it is called as `there` says.
pub fn place(shown: Option<&str>, is_directory: bool, there: &There) -> Result<Placed> {
    let path = there.path.to_string_lossy().into_owned();
    if there.exists && there.is_directory {
        return Ok(Placed { directory: there.path.clone(), name: shown.map(str::to_owned) });
    }
    if there.exists && is_directory {
        return Err(Error::say("cannot copy directory"));
    }
    if !there.exists && !is_directory && (ends_in_slash(&path) || means_contents(&path)) {
        return Err(Error::say("no such directory"));
    }
    let (directory, name) = parts(&path);
    Ok(Placed { directory: directory.into(), name: Some(name) })
}

/// Refuses what nothing can be written to.
pub fn check_output(target: &str) -> Result<()> {
    let cleaned = clean(target);
    let directory = Path::new(&cleaned).parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(directory) = directory
        && fs::metadata(directory).is_err_and(|error| error.kind() == ErrorKind::NotFound)
    {
        return Err(Error::Message(format!(
            "invalid output path: directory {:?} does not exist",
            directory.display().to_string()
        )));
    }
    match fs::metadata(target) {
        Ok(there) if !there.is_dir() && !there.is_file() => Err(Error::Message(format!(
            "invalid output path: {target:?} must be a directory or a regular file"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_from_paths() {
        assert_eq!(split("web:/a"), (Some("web"), "/a"));
        assert_eq!(split("web:a:b"), (Some("web"), "a:b"));
        for path in ["/a:b", "./a:b", "../a:b", "a", "-"] {
            assert_eq!(split(path), (None, path), "{path}");
        }
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (given, want) in [
            ("/a/./b//../c/", "/a/c"),
            ("/../..", "/"),
            ("a/..", "."),
            ("../a", "../a"),
            ("../../a/..", "../.."),
            ("", "."),
        ] {
            assert_eq!(clean(given), want, "{given}");
        }
        assert_eq!(absolute("/a/b/.").unwrap(), "/a/b/.");
        assert_eq!(absolute("/a/b/").unwrap(), "/a/b/");
        assert_eq!(absolute("/.").unwrap(), "/.");
        let split = |path: &str| parts(path);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(split("/a/b"), pair("/a", "b"));
        assert_eq!(split("/a/b/."), pair("/a/b", "."));
        assert_eq!(split("/a"), pair("/", "a"));
        assert_eq!(split("/"), pair("/", "/"));
    }

    #[test]
    fn names_follow_what_is_there() {
        let there = |path: &str, exists, is_directory| There { path: path.into(), exists, is_directory };
        let placed = |directory: &str, name: Option<&str>| Placed {
            directory: directory.into(),
            name: name.map(str::to_owned),
        };
        let place = |is_directory, there: &There| place(None, is_directory, there);
        assert_eq!(place(true, &there("/d", true, true)).unwrap(), placed("/d", None));
        assert_eq!(place(true, &there("/d/n", false, false)).unwrap(), placed("/d", Some("n")));
        assert_eq!(place(false, &there("/d/n", false, false)).unwrap(), placed("/d", Some("n")));
        assert_eq!(place(false, &there("/d/f", true, false)).unwrap(), placed("/d", Some("f")));
        assert_eq!(
            place(true, &there("/d/f", true, false)).unwrap_err().to_string(),
            "cannot copy directory"
        );
        assert_eq!(place(false, &there("/d/n/", false, false)).unwrap_err().to_string(), "no such directory");
    }

    #[test]
    fn followed_links_keep_the_name_that_was_asked_for() {
        let led = |path: &str, to: &str| rebased(path, &beside(path, to));
        assert_eq!(led("/a/l", "/x/y"), Led { path: "/x/y".into(), name: Some("l".into()) });
        assert_eq!(led("/a/l", "../y"), Led { path: "/y".into(), name: Some("l".into()) });
        assert_eq!(led("/a/l/.", "/x/y"), Led { path: "/x/y/.".into(), name: None });
        assert_eq!(led("/a/y", "/x/y"), Led { path: "/x/y".into(), name: None });
    }
}
