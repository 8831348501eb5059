//! Gives a tree of files another label, by descriptors: what is swapped for a link meanwhile is labelled as a link.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::FileType;
use sys::{fsx, xattr};

use crate::error::{Error, Result};

/// Where the kernel keeps a file's label.
pub(super) const ATTRIBUTE: &str = "security.selinux";

/// With another label on these the host would not work any more.
const HOST: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/log",
];

/// Deeper trees are not made by honest programs, and each level costs a descriptor.
const DEPTH_MAX: usize = 256;

/// Labels `path` and all that is below it. Filesystems that know no labels are left as they are.
pub(super) fn tree(path: &Path, attribute: &str, label: &str) -> Result<()> {
    let real = path.canonicalize().map_err(|e| Error::io("find", path, e))?;
    if HOST.iter().any(|host| real == Path::new(host)) {
        return Err(Error::invalid(format!("SELinux relabeling of {} is not allowed", real.display())));
    }
    let failed = |e| Error::io("relabel", path, e);
    let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else { return Ok(()) };
    let parent = fsx::open_dir(parent).map_err(failed)?;
    match walk(&parent, name, attribute, label.as_bytes()) {
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => Ok(()),
        other => other.map_err(failed),
    }
}

fn walk(parent: &OwnedFd, name: &OsStr, attribute: &str, label: &[u8]) -> io::Result<()> {
    set(parent, name, attribute, label)?;
    let Some(top) = directory(parent, name)? else { return Ok(()) };
    let mut open = vec![(fsx::list(&top)?, top)];
    while let Some((entries, dir)) = open.last_mut() {
        let Some(entry) = entries.pop() else {
            open.pop();
            continue;
        };
        match set(dir, &entry.name, attribute, label) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        }
        if !matches!(entry.kind, FileType::Directory | FileType::Unknown) {
            continue;
        }
        let Some(below) = directory(dir, &entry.name)? else { continue };
        if open.len() == DEPTH_MAX {
            return Err(io::Error::other(format!("more than {DEPTH_MAX} directories within each other")));
        }
        open.push((fsx::list(&below)?, below));
    }
    Ok(())
}

/// The directory of this name; `None` if it is something else, or gone.
fn directory(parent: &OwnedFd, name: &OsStr) -> io::Result<Option<OwnedFd>> {
    match fsx::open_dir_at(parent, name) {
        Ok(dir) => Ok(Some(dir)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Sets the label of what may be anything, itself, unless it is already so.
fn set(dir: &OwnedFd, name: &OsStr, attribute: &str, label: &[u8]) -> io::Result<()> {
    // The kernel ends labels with a NUL byte, or does not.
    let now = xattr::get_at(dir, name, attribute)?;
    if now.is_some_and(|now| now.strip_suffix(b"\0").unwrap_or(&now) == label) {
        return Ok(());
    }
    xattr::set_at(dir, name, attribute, label)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Root may set it on files of all kinds, which it may not with `user.` on links.
    const TEST: &str = "trusted.corten-test";

    fn label_of(path: &Path) -> Option<String> {
        let (parent, name) = (path.parent().unwrap(), path.file_name().unwrap());
        let value = xattr::get_at(fsx::open_dir(parent).unwrap(), name, TEST).unwrap();
        value.map(|value| String::from_utf8(value).unwrap())
    }

    #[test]
    fn a_tree_is_labelled_and_nothing_beside_it() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let (tree_dir, beside) = (directory.path().join("tree"), directory.path().join("beside"));
        fs::create_dir_all(tree_dir.join("a/b")).unwrap();
        fs::create_dir(&beside).unwrap();
        fs::write(tree_dir.join("a/b/file"), "").unwrap();
        fs::write(beside.join("file"), "").unwrap();
        symlink(&beside, tree_dir.join("a/out")).unwrap();
        // By a link to it, too: what is meant is what it leads to.
        let link = directory.path().join("link");
        symlink(&tree_dir, &link).unwrap();
        tree(&link, TEST, "one").unwrap();
        for path in ["", "a", "a/b", "a/b/file", "a/out"] {
            assert_eq!(label_of(&tree_dir.join(path)).as_deref(), Some("one"), "{path}");
        }
        tree(&tree_dir.join("a/b/file"), TEST, "two").unwrap();
        assert_eq!(label_of(&tree_dir.join("a/b/file")).as_deref(), Some("two"));
        assert_eq!(label_of(&tree_dir.join("a/b")).as_deref(), Some("one"));
        assert_eq!((label_of(&beside), label_of(&beside.join("file")), label_of(&link)), (None, None, None));
    }

    #[test]
    fn the_hosts_own_directories_are_left_alone() {
        for path in ["/", "/etc", "/usr/", "/tmp/../etc"] {
            let error = tree(Path::new(path), TEST, "x").unwrap_err().to_string();
            assert!(error.starts_with("SELinux relabeling of /"), "{error}");
        }
    }

    #[test]
    fn what_is_nested_too_deeply_is_refused() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let deep: std::path::PathBuf = std::iter::repeat_n("d", DEPTH_MAX + 1).collect();
        fs::create_dir_all(directory.path().join(deep)).unwrap();
        let error = tree(directory.path(), TEST, "x").unwrap_err();
        assert!(error.chain().contains("within each other"), "{}", error.chain());
    }
}
