//! What a path of a container leads to.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use sys::fsx::{self, FileType, OFlags};
use sys::path::{Mode, Root, normalize};

/// Symbolic links that are followed to tell where one leads: the kernel's own limit.
const LINKS_MAX: usize = 40;

/// What is known of a file in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The last part of the path that was asked for.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Kind and permissions, as Go's `os.FileMode` counts them.
    pub mode: u32,
    /// When it was last changed, in nanoseconds since 1970.
    pub modified: i64,
    /// Where a symbolic link leads in the end.
    pub link_target: String,
}

/// What a path leads to.
pub(super) struct Found {
    /// A handle (`O_PATH`) of it: of a link itself.
    pub handle: OwnedFd,
    /// The directory that it is in.
    pub parent: Option<OwnedFd>,
    /// For what is no directory, the directory that it is in and its name there.
    pub within: Option<(OwnedFd, Vec<u8>)>,
    /// What is known of it.
    pub stat: Stat,
}

/// The path from the root on, as Docker makes it: cleaned, but with the slash or `/.` that it ends in.
pub(super) fn absolute(path: &str) -> String {
    let clean = format!("/{}", normalize(Path::new(path)).display());
    if path.ends_with("/.") || path == "." {
        return format!("{}/.", clean.trim_end_matches('/'));
    }
    if path.ends_with('/') && clean != "/" { format!("{clean}/") } else { clean }
}

/// Whether a path can only lead to a directory, also through a link.
fn means_directory(path: &str) -> bool {
    path.ends_with('/') || path.ends_with("/.") || path == "."
}

/// Looks for what `path` leads to: its last part is not followed, unless a slash comes after it.
pub(super) fn find(root: &Root, path: &str) -> io::Result<Found> {
    let clean = PathBuf::from(absolute(path));
    let named = |default: &str| match clean.components().next_back() {
        _ if path.ends_with("/.") || path == "." => ".".to_owned(),
        Some(Component::Normal(name)) => name.to_string_lossy().into_owned(),
        _ => default.to_owned(),
    };
    let name = named("/");
    let inside = normalize(&clean);
    let (Some(last), false) = (inside.file_name(), means_directory(path)) else {
        let handle = root.open_at(&inside, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        let above = inside.parent().map(|above| root.open_path(above)).transpose()?;
        let stat = describe(root, &handle, name, &inside)?;
        return Ok(Found { handle, parent: above, within: None, stat });
    };
    let parent = root.open_at(
        inside.parent().unwrap_or(Path::new("")),
        OFlags::PATH | OFlags::DIRECTORY,
        Mode::empty(),
    )?;
    let handle = fsx::open_at(&parent, last, OFlags::PATH, Mode::empty())?;
    let stat = describe(root, &handle, name, &inside)?;
    let is_directory = fsx::kind(&fsx::stat(&handle)?) == FileType::Directory;
    let within = if is_directory { None } else { Some((parent.try_clone()?, last.as_bytes().to_vec())) };
    Ok(Found { handle, parent: Some(parent), within, stat })
}

fn describe(root: &Root, handle: &OwnedFd, name: String, path: &Path) -> io::Result<Stat> {
    let stat = fsx::stat(handle)?;
    let is_link = fsx::kind(&stat) == FileType::Symlink;
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Ok(Stat {
        name,
        size: stat.st_size,
        mode: go_mode(stat.st_mode),
        modified: stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(nanoseconds),
        link_target: if is_link { leads_to(root, path) } else { String::new() },
    })
}

/// Where a path leads when all links are followed, as far as that can be told.
fn leads_to(root: &Root, path: &Path) -> String {
    let parts = |path: &Path| -> Vec<OsString> {
        path.components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_owned()),
                Component::ParentDir => Some("..".into()),
                _ => None,
            })
            .collect()
    };
    let mut todo: VecDeque<OsString> = parts(path).into();
    let mut done: Vec<OsString> = Vec::new();
    let mut links = 0;
    while let Some(part) = todo.pop_front() {
        if part == ".." {
            done.pop();
            continue;
        }
        done.push(part);
        let here: PathBuf = done.iter().collect();
        let Ok(target) = root.read_link(&here) else { continue };
        links += 1;
        if links > LINKS_MAX {
            break;
        }
        done.pop();
        if target.is_absolute() {
            done.clear();
        }
        for part in parts(&target).into_iter().rev() {
            todo.push_front(part);
        }
    }
    let text: Vec<&[u8]> = done.iter().map(|part| part.as_bytes()).collect();
    let text = [b"/", &text.join(&b'/')[..]].concat();
    OsString::from_vec(text).to_string_lossy().into_owned()
}

/// The kernel's mode as Go's `os.FileMode`.
fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        _ => 0,
    };
    let bits = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special: u32 = bits.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, go)| go).sum();
    kind | special | mode & 0o777
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_keep_what_they_end_in() {
        for (given, want) in [
            ("a", "/a"),
            ("/a/../b/", "/b/"),
            ("/a/.", "/a/."),
            ("", "/"),
            ("/", "/"),
            (".", "/."),
            ("/../../etc/passwd", "/etc/passwd"),
        ] {
            assert_eq!(absolute(given), want, "{given}");
        }
    }

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o100_644), 0o644);
        assert_eq!(go_mode(0o040_755), 0x8000_0000 | 0o755);
        assert_eq!(go_mode(0o120_777), 0x0800_0000 | 0o777);
        assert_eq!(go_mode(0o041_777), 0x8010_0000 | 0o777);
        assert_eq!(go_mode(0o104_755), 0x0080_0000 | 0o755);
        assert_eq!(go_mode(0o020_666), 0x0420_0000 | 0o666);
    }

    #[test]
    fn links_are_told_and_not_left() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        std::fs::create_dir_all(dir.path().join("d/e")).unwrap();
        std::fs::write(dir.path().join("d/e/f"), "abc").unwrap();
        let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, dir.path().join(at)).unwrap();
        link("../../../../d/e", "l");
        link("l", "m");
        link("/no/where", "n");
        link("o", "o");
        let stat = |path: &str| find(&root, path).map(|found| found.stat);
        assert_eq!(stat("m").unwrap().link_target, "/d/e");
        assert_eq!(stat("n").unwrap().link_target, "/no/where");
        assert!(stat("o").is_ok());
        assert_eq!(stat("m/f").unwrap().size, 3);
        let (inside, itself) = (find(&root, "m/").unwrap(), find(&root, "m").unwrap());
        assert!(inside.within.is_none() && itself.within.is_some());
        assert_eq!(inside.stat.name, "m");
        assert_eq!(stat("/d/.").unwrap().name, ".");
        assert_eq!(stat("/").unwrap().name, "/");
        assert_eq!(stat("d/e/f/").unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(stat("d/g").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
